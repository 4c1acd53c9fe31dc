/*
 * The io_uring ABI of Linux 6.18, as laid out in memory shared with programs:
 * structures of the three system calls and their constants. Names of constants
 * are the kernel's; structures carry this project's prefix so that a file may
 * see both this header and the system's.
 */
#ifndef FU_ABI_H
#define FU_ABI_H

#include "rings/types.h"

/* ---- submission queue entry: 64 bytes, or 128 with IORING_SETUP_SQE128 ---- */
struct fu_sqe {
	u8 opcode;
	u8 flags;
	u16 ioprio;
	s32 fd;
	union {
		u64 off;
		u64 addr2;
		u32 cmd_op;
	};
	union {
		u64 addr;
		u64 splice_off_in;
		struct {
			u32 level;
			u32 optname;
		};
	};
	u32 len;
	u32 op_flags; /* rw_flags, fsync_flags, msg_flags, timeout_flags, ... */
	u64 user_data;
	u16 buf_index; /* buffer index, or buffer group with IOSQE_BUFFER_SELECT */
	u16 personality;
	union {
		s32 splice_fd_in;
		u32 file_index;
		u32 optlen;
		u16 addr_len;
	};
	union {
		u64 addr3;
		u64 optval;
		u64 attr_ptr;
	};
	union {
		u64 pad2;
		u64 attr_type_mask;
	};
};
_Static_assert(sizeof(struct fu_sqe) == 64, "an SQE is 64 bytes");

#define IOSQE_FIXED_FILE       (1U << 0)
#define IOSQE_IO_DRAIN         (1U << 1)
#define IOSQE_IO_LINK          (1U << 2)
#define IOSQE_IO_HARDLINK      (1U << 3)
#define IOSQE_ASYNC            (1U << 4)
#define IOSQE_BUFFER_SELECT    (1U << 5)
#define IOSQE_CQE_SKIP_SUCCESS (1U << 6)

#define FU_SQE_FLAGS 0x7fU /* all of them */

/* ---- completion queue entry: 16 bytes, or 32 with CQE32 / CQE_F_32 ---- */
struct fu_cqe {
	u64 user_data;
	s32 res;
	u32 flags;
};
_Static_assert(sizeof(struct fu_cqe) == 16, "a CQE is 16 bytes");

#define IORING_CQE_F_BUFFER         (1U << 0)
#define IORING_CQE_F_MORE           (1U << 1)
#define IORING_CQE_F_SOCK_NONEMPTY  (1U << 2)
#define IORING_CQE_F_NOTIF          (1U << 3)
#define IORING_CQE_F_BUF_MORE       (1U << 4)
#define IORING_CQE_F_SKIP           (1U << 5)
#define IORING_CQE_F_32             (1U << 15)
#define IORING_CQE_BUFFER_SHIFT     16
#define IORING_CQE_F_TSTAMP_HW      (1U << 16)
#define IORING_TIMESTAMP_TYPE_SHIFT 17

/* ---- io_uring_setup ---- */
struct fu_sqring_offsets {
	u32 head, tail, ring_mask, ring_entries, flags, dropped, array, resv1;
	u64 user_addr;
};

struct fu_cqring_offsets {
	u32 head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1;
	u64 user_addr;
};

struct fu_params {
	u32 sq_entries;
	u32 cq_entries;
	u32 flags;
	u32 sq_thread_cpu;
	u32 sq_thread_idle;
	u32 features;
	u32 wq_fd;
	u32 resv[3];
	struct fu_sqring_offsets sq_off;
	struct fu_cqring_offsets cq_off;
};
_Static_assert(sizeof(struct fu_params) == 120, "io_uring_params is 120 bytes");

#define IORING_SETUP_IOPOLL             (1U << 0)
#define IORING_SETUP_SQPOLL             (1U << 1)
#define IORING_SETUP_SQ_AFF             (1U << 2)
#define IORING_SETUP_CQSIZE             (1U << 3)
#define IORING_SETUP_CLAMP              (1U << 4)
#define IORING_SETUP_ATTACH_WQ          (1U << 5)
#define IORING_SETUP_R_DISABLED         (1U << 6)
#define IORING_SETUP_SUBMIT_ALL         (1U << 7)
#define IORING_SETUP_COOP_TASKRUN       (1U << 8)
#define IORING_SETUP_TASKRUN_FLAG       (1U << 9)
#define IORING_SETUP_SQE128             (1U << 10)
#define IORING_SETUP_CQE32              (1U << 11)
#define IORING_SETUP_SINGLE_ISSUER      (1U << 12)
#define IORING_SETUP_DEFER_TASKRUN      (1U << 13)
#define IORING_SETUP_NO_MMAP            (1U << 14)
#define IORING_SETUP_REGISTERED_FD_ONLY (1U << 15)
#define IORING_SETUP_NO_SQARRAY         (1U << 16)
#define IORING_SETUP_HYBRID_IOPOLL      (1U << 17)
#define IORING_SETUP_CQE_MIXED          (1U << 18)

#define FU_SETUP_FLAGS ((1U << 19) - 1) /* all of them */

#define IORING_FEAT_SINGLE_MMAP     (1U << 0)
#define IORING_FEAT_NODROP          (1U << 1)
#define IORING_FEAT_SUBMIT_STABLE   (1U << 2)
#define IORING_FEAT_RW_CUR_POS      (1U << 3)
#define IORING_FEAT_CUR_PERSONALITY (1U << 4)
#define IORING_FEAT_FAST_POLL       (1U << 5)
#define IORING_FEAT_POLL_32BITS     (1U << 6)
#define IORING_FEAT_SQPOLL_NONFIXED (1U << 7)
#define IORING_FEAT_EXT_ARG         (1U << 8)
#define IORING_FEAT_NATIVE_WORKERS  (1U << 9)
#define IORING_FEAT_RSRC_TAGS       (1U << 10)
#define IORING_FEAT_CQE_SKIP        (1U << 11)
#define IORING_FEAT_LINKED_FILE     (1U << 12)
#define IORING_FEAT_REG_REG_RING    (1U << 13)
#define IORING_FEAT_RECVSEND_BUNDLE (1U << 14)
#define IORING_FEAT_MIN_TIMEOUT     (1U << 15)
#define IORING_FEAT_RW_ATTR         (1U << 16)
#define IORING_FEAT_NO_IOWAIT       (1U << 17)

#define IORING_OFF_SQ_RING    0ULL
#define IORING_OFF_CQ_RING    0x8000000ULL
#define IORING_OFF_SQES       0x10000000ULL
#define IORING_OFF_REGION     0x20000000ULL
#define IORING_OFF_PBUF_RING  0x80000000ULL
#define IORING_OFF_PBUF_SHIFT 16
#define IORING_OFF_MMAP_MASK  0xf8000000ULL

#define IORING_SQ_NEED_WAKEUP (1U << 0)
#define IORING_SQ_CQ_OVERFLOW (1U << 1)
#define IORING_SQ_TASKRUN     (1U << 2)

#define IORING_CQ_EVENTFD_DISABLED (1U << 0)

/* ---- io_uring_enter ---- */
#define IORING_ENTER_GETEVENTS       (1U << 0)
#define IORING_ENTER_SQ_WAKEUP       (1U << 1)
#define IORING_ENTER_SQ_WAIT         (1U << 2)
#define IORING_ENTER_EXT_ARG         (1U << 3)
#define IORING_ENTER_REGISTERED_RING (1U << 4)
#define IORING_ENTER_ABS_TIMER       (1U << 5)
#define IORING_ENTER_EXT_ARG_REG     (1U << 6)
#define IORING_ENTER_NO_IOWAIT       (1U << 7)
#define FU_ENTER_FLAGS               0xffU /* all of them */

struct fu_timespec {
	s64 tv_sec;
	s64 tv_nsec;
};

struct fu_getevents_arg {
	u64 sigmask;
	u32 sigmask_sz;
	u32 min_wait_usec;
	u64 ts;
};

#define IORING_REG_WAIT_TS (1U << 0)

struct fu_reg_wait {
	struct fu_timespec ts;
	u32 min_wait_usec;
	u32 flags;
	u64 sigmask;
	u32 sigmask_sz;
	u32 pad[3];
	u64 pad2[2];
};

/* ---- opcodes ---- */
enum {
	IORING_OP_NOP,
	IORING_OP_READV,
	IORING_OP_WRITEV,
	IORING_OP_FSYNC,
	IORING_OP_READ_FIXED,
	IORING_OP_WRITE_FIXED,
	IORING_OP_POLL_ADD,
	IORING_OP_POLL_REMOVE,
	IORING_OP_SYNC_FILE_RANGE,
	IORING_OP_SENDMSG,
	IORING_OP_RECVMSG,
	IORING_OP_TIMEOUT,
	IORING_OP_TIMEOUT_REMOVE,
	IORING_OP_ACCEPT,
	IORING_OP_ASYNC_CANCEL,
	IORING_OP_LINK_TIMEOUT,
	IORING_OP_CONNECT,
	IORING_OP_FALLOCATE,
	IORING_OP_OPENAT,
	IORING_OP_CLOSE,
	IORING_OP_FILES_UPDATE,
	IORING_OP_STATX,
	IORING_OP_READ,
	IORING_OP_WRITE,
	IORING_OP_FADVISE,
	IORING_OP_MADVISE,
	IORING_OP_SEND,
	IORING_OP_RECV,
	IORING_OP_OPENAT2,
	IORING_OP_EPOLL_CTL,
	IORING_OP_SPLICE,
	IORING_OP_PROVIDE_BUFFERS,
	IORING_OP_REMOVE_BUFFERS,
	IORING_OP_TEE,
	IORING_OP_SHUTDOWN,
	IORING_OP_RENAMEAT,
	IORING_OP_UNLINKAT,
	IORING_OP_MKDIRAT,
	IORING_OP_SYMLINKAT,
	IORING_OP_LINKAT,
	IORING_OP_MSG_RING,
	IORING_OP_FSETXATTR,
	IORING_OP_SETXATTR,
	IORING_OP_FGETXATTR,
	IORING_OP_GETXATTR,
	IORING_OP_SOCKET,
	IORING_OP_URING_CMD,
	IORING_OP_SEND_ZC,
	IORING_OP_SENDMSG_ZC,
	IORING_OP_READ_MULTISHOT,
	IORING_OP_WAITID,
	IORING_OP_FUTEX_WAIT,
	IORING_OP_FUTEX_WAKE,
	IORING_OP_FUTEX_WAITV,
	IORING_OP_FIXED_FD_INSTALL,
	IORING_OP_FTRUNCATE,
	IORING_OP_BIND,
	IORING_OP_LISTEN,
	IORING_OP_RECV_ZC,
	IORING_OP_EPOLL_WAIT,
	IORING_OP_READV_FIXED,
	IORING_OP_WRITEV_FIXED,
	IORING_OP_PIPE,
	IORING_OP_LAST,
};

#define IORING_FILE_INDEX_ALLOC (~0U)

#define IORING_FSYNC_DATASYNC (1U << 0)

#define IORING_URING_CMD_FIXED (1U << 0)

#define IORING_TIMEOUT_ABS           (1U << 0)
#define IORING_TIMEOUT_UPDATE        (1U << 1)
#define IORING_TIMEOUT_BOOTTIME      (1U << 2)
#define IORING_TIMEOUT_REALTIME      (1U << 3)
#define IORING_LINK_TIMEOUT_UPDATE   (1U << 4)
#define IORING_TIMEOUT_ETIME_SUCCESS (1U << 5)
#define IORING_TIMEOUT_MULTISHOT     (1U << 6)
#define IORING_TIMEOUT_CLOCK_MASK    (IORING_TIMEOUT_BOOTTIME | IORING_TIMEOUT_REALTIME)
#define IORING_TIMEOUT_UPDATE_MASK   (IORING_TIMEOUT_UPDATE | IORING_LINK_TIMEOUT_UPDATE)

#ifndef SPLICE_F_FD_IN_FIXED
#define SPLICE_F_FD_IN_FIXED (1U << 31)
#endif

#define IORING_POLL_ADD_MULTI        (1U << 0)
#define IORING_POLL_UPDATE_EVENTS    (1U << 1)
#define IORING_POLL_UPDATE_USER_DATA (1U << 2)
#define IORING_POLL_ADD_LEVEL        (1U << 3)

#define IORING_ASYNC_CANCEL_ALL      (1U << 0)
#define IORING_ASYNC_CANCEL_FD       (1U << 1)
#define IORING_ASYNC_CANCEL_ANY      (1U << 2)
#define IORING_ASYNC_CANCEL_FD_FIXED (1U << 3)
#define IORING_ASYNC_CANCEL_USERDATA (1U << 4)
#define IORING_ASYNC_CANCEL_OP       (1U << 5)

#define IORING_RECVSEND_POLL_FIRST  (1U << 0)
#define IORING_RECV_MULTISHOT       (1U << 1)
#define IORING_RECVSEND_FIXED_BUF   (1U << 2)
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#define IORING_RECVSEND_BUNDLE      (1U << 4)
#define IORING_SEND_VECTORIZED      (1U << 5)

#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)

#define IORING_ACCEPT_MULTISHOT  (1U << 0)
#define IORING_ACCEPT_DONTWAIT   (1U << 1)
#define IORING_ACCEPT_POLL_FIRST (1U << 2)

enum { IORING_MSG_DATA, IORING_MSG_SEND_FD };
#define IORING_MSG_RING_CQE_SKIP   (1U << 0)
#define IORING_MSG_RING_FLAGS_PASS (1U << 1)

#define IORING_FIXED_FD_NO_CLOEXEC (1U << 0)

#define IORING_NOP_INJECT_RESULT (1U << 0)
#define IORING_NOP_FILE          (1U << 1)
#define IORING_NOP_FIXED_FILE    (1U << 2)
#define IORING_NOP_FIXED_BUFFER  (1U << 3)
#define IORING_NOP_TW            (1U << 4)
#define IORING_NOP_CQE32         (1U << 5)

enum {
	SOCKET_URING_OP_SIOCINQ,
	SOCKET_URING_OP_SIOCOUTQ,
	SOCKET_URING_OP_GETSOCKOPT,
	SOCKET_URING_OP_SETSOCKOPT,
	SOCKET_URING_OP_TX_TIMESTAMP,
};

/* ---- io_uring_register ---- */
enum {
	IORING_REGISTER_BUFFERS,
	IORING_UNREGISTER_BUFFERS,
	IORING_REGISTER_FILES,
	IORING_UNREGISTER_FILES,
	IORING_REGISTER_EVENTFD,
	IORING_UNREGISTER_EVENTFD,
	IORING_REGISTER_FILES_UPDATE,
	IORING_REGISTER_EVENTFD_ASYNC,
	IORING_REGISTER_PROBE,
	IORING_REGISTER_PERSONALITY,
	IORING_UNREGISTER_PERSONALITY,
	IORING_REGISTER_RESTRICTIONS,
	IORING_REGISTER_ENABLE_RINGS,
	IORING_REGISTER_FILES2,
	IORING_REGISTER_FILES_UPDATE2,
	IORING_REGISTER_BUFFERS2,
	IORING_REGISTER_BUFFERS_UPDATE,
	IORING_REGISTER_IOWQ_AFF,
	IORING_UNREGISTER_IOWQ_AFF,
	IORING_REGISTER_IOWQ_MAX_WORKERS,
	IORING_REGISTER_RING_FDS,
	IORING_UNREGISTER_RING_FDS,
	IORING_REGISTER_PBUF_RING,
	IORING_UNREGISTER_PBUF_RING,
	IORING_REGISTER_SYNC_CANCEL,
	IORING_REGISTER_FILE_ALLOC_RANGE,
	IORING_REGISTER_PBUF_STATUS,
	IORING_REGISTER_NAPI,
	IORING_UNREGISTER_NAPI,
	IORING_REGISTER_CLOCK,
	IORING_REGISTER_CLONE_BUFFERS,
	IORING_REGISTER_SEND_MSG_RING,
	IORING_REGISTER_ZCRX_IFQ,
	IORING_REGISTER_RESIZE_RINGS,
	IORING_REGISTER_MEM_REGION,
	IORING_REGISTER_QUERY,
	IORING_REGISTER_LAST,
};
#define IORING_REGISTER_USE_REGISTERED_RING (1U << 31)

#define IORING_REGISTER_FILES_SKIP  (-2)
#define IORING_RSRC_REGISTER_SPARSE (1U << 0)

enum { IO_WQ_BOUND, IO_WQ_UNBOUND };

struct fu_files_update {
	u32 offset;
	u32 resv;
	u64 fds;
};

struct fu_rsrc_update {
	u32 offset;
	u32 resv;
	u64 data;
};

struct fu_rsrc_register {
	u32 nr;
	u32 flags;
	u64 resv2;
	u64 data;
	u64 tags;
};

struct fu_rsrc_update2 {
	u32 offset;
	u32 resv;
	u64 data;
	u64 tags;
	u32 nr;
	u32 resv2;
};

#define IO_URING_OP_SUPPORTED (1U << 0)

struct fu_probe_op {
	u8 op;
	u8 resv;
	u16 flags;
	u32 resv2;
};

struct fu_probe {
	u8 last_op;
	u8 ops_len;
	u16 resv;
	u32 resv2[3];
	struct fu_probe_op ops[];
};

enum {
	IORING_RESTRICTION_REGISTER_OP,
	IORING_RESTRICTION_SQE_OP,
	IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
	IORING_RESTRICTION_SQE_FLAGS_REQUIRED,
	IORING_RESTRICTION_LAST,
};

struct fu_restriction {
	u16 opcode;
	u8 arg; /* register opcode, SQE opcode or SQE flags */
	u8 resv;
	u32 resv2[3];
};

struct fu_clock_register {
	u32 clockid;
	u32 resv[3];
};

#define IORING_REGISTER_SRC_REGISTERED (1U << 0)
#define IORING_REGISTER_DST_REPLACE    (1U << 1)

struct fu_clone_buffers {
	u32 src_fd;
	u32 flags;
	u32 src_off;
	u32 dst_off;
	u32 nr;
	u32 pad[3];
};

struct fu_buf {
	u64 addr;
	u32 len;
	u16 bid;
	u16 resv; /* the ring's tail in the first entry */
};

#define IOU_PBUF_RING_MMAP 1
#define IOU_PBUF_RING_INC  2

struct fu_buf_reg {
	u64 ring_addr;
	u32 ring_entries;
	u16 bgid;
	u16 flags;
	u32 min_left;
	u32 resv[5];
};

struct fu_buf_status {
	u32 buf_group;
	u32 head;
	u32 resv[8];
};

struct fu_napi {
	u32 busy_poll_to;
	u8 prefer_busy_poll;
	u8 opcode;
	u8 pad[2];
	u32 op_param;
	u32 resv;
};

struct fu_sync_cancel_reg {
	u64 addr;
	s32 fd;
	u32 flags;
	struct fu_timespec timeout;
	u8 opcode;
	u8 pad[7];
	u64 pad2[3];
};

struct fu_file_index_range {
	u32 off;
	u32 len;
	u64 resv;
};

struct fu_recvmsg_out {
	u32 namelen;
	u32 controllen;
	u32 payloadlen;
	u32 flags;
};

enum { IO_URING_QUERY_OPCODES, IO_URING_QUERY_LAST };

struct fu_query_hdr {
	u64 next_entry;
	u64 query_data;
	u32 query_op;
	u32 size;
	s32 result;
	u32 resv[3];
};

struct fu_query_opcode {
	u32 nr_request_opcodes;
	u32 nr_register_opcodes;
	u64 feature_flags;
	u64 ring_setup_flags;
	u64 enter_flags;
	u64 sqe_flags;
	u32 nr_query_opcodes;
	u32 pad;
};

enum { IO_URING_NAPI_REGISTER_OP, IO_URING_NAPI_STATIC_ADD_ID, IO_URING_NAPI_STATIC_DEL_ID };
enum {
	IO_URING_NAPI_TRACKING_DYNAMIC,
	IO_URING_NAPI_TRACKING_STATIC,
	IO_URING_NAPI_TRACKING_INACTIVE = 255,
};

struct fu_zcrx_area_reg {
	u64 addr;
	u64 len;
	u64 rq_area_token;
	u32 flags;
	u32 dmabuf_fd;
	u64 resv2[2];
};

struct fu_zcrx_ifq_reg {
	u32 if_idx;
	u32 if_rxq;
	u32 rq_entries;
	u32 flags;
	u64 area_ptr;
	u64 region_ptr;
	u64 offsets[4];
	u32 zcrx_id;
	u32 resv2;
	u64 resv[3];
};

#define IORING_MEM_REGION_TYPE_USER    1
#define IORING_MEM_REGION_REG_WAIT_ARG 1

struct fu_region_desc {
	u64 user_addr;
	u64 size;
	u32 flags;
	u32 id;
	u64 mmap_offset;
	u64 resv[4];
};

struct fu_mem_region_reg {
	u64 region_uptr;
	u64 flags;
	u64 resv[2];
};

/* Limits of the kernel's rings. */
#define IORING_MAX_ENTRIES     32768U
#define IORING_MAX_CQ_ENTRIES  (2U * IORING_MAX_ENTRIES)
#define IORING_MAX_FIXED_FILES (1U << 20)
#define IORING_MAX_REG_BUFFERS (1U << 14)
#define IO_RINGFD_REG_MAX      16

#endif
