/*
 * READ, WRITE and their vectored and fixed-buffer forms.
 *
 * The first attempt is one preadv2 or pwritev2 with RWF_NOWAIT on the submitter's
 * thread. Where that says "would block", a file that can be polled is armed and a
 * regular one goes to a worker; where the flag itself is refused (overlayfs, tmpfs,
 * ttys, old kernels) the file's kind decides. A regular file that yields a part at
 * once, because only some of its pages were there, gives the rest from a worker, as
 * in the kernel; any other short result is final.
 */
#include "engine/rw.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "engine/aio.h"
#include "engine/fileinfo.h"
#include "engine/host.h"
#include "engine/iov.h"
#include "engine/kbuf.h"
#include "engine/registry.h"
#include "engine/sets.h"
#include "engine/thread.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

/* HIPRI, DSYNC, SYNC, NOWAIT, APPEND: what every file and kernel here understands. */
#define RWF_ALL_OLD 0x1f
/* NOAPPEND, ATOMIC, DONTCACHE and NOSIGNAL too: an unknown flag is refused before a known one. */
#define RWF_KNOWN 0x1ff
#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif
/* Nothing but what lies in a filesystem knows these; and reads know the first not at all. */
#ifndef RWF_ATOMIC
#define RWF_ATOMIC 0x40
#endif
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif

/* What only files with places to write to, and devices to wait for, can be asked to do. */
#define IDLE_FLAGS (RWF_DSYNC | RWF_SYNC | RWF_APPEND | RWF_NOAPPEND)

#define MAX_SEGMENTS 1024U
#define MAX_BYTES    0x7ffff000U
/* CQEs that a multishot read posts before others get their turn. */
#define MAX_LOOPS 32U
/* The kernel describes registered memory in pieces of 16 bytes, in one block of 4 MiB at most. */
#define MAX_PIECES (1U << 18)

struct rw {
	u64 addr;
	u64 pos;
	u32 len; /* bytes, or segments */
	s32 rw_flags;
	u32 nr; /* segments left in `iov` */
	u8 write;
	u8 vectored;
	u8 fixed;
	u8 metadata;
	u8 pollable;       /* READ_MULTISHOT: has been checked */
	u8 no_nowait;      /* RWF_NOWAIT was refused and the file is not regular */
	u64 total;         /* bytes asked for, once the segments are known */
	s64 done;          /* bytes transferred by earlier attempts */
	struct iovec *iov; /* stable segments: `one` or in req->async */
	struct iovec one;
};

/* ---- preparation ---- */

#define ATTR_PI      1U /* IORING_RW_ATTR_FLAG_PI */
#define ADDRESS_SPAN (1ULL << 47)

/* The description of integrity metadata (struct io_uring_attr_pi). */
struct attr_pi {
	u16 flags;
	u16 app_tag;
	u32 len;
	u64 addr;
	u64 seed;
	u64 resv;
};

/* Metadata has to be well described; no file here carries any, which the issue says. */
static int attr_prep(struct rw *rw, const struct fu_sqe *sqe)
{
	struct attr_pi pi;

	if (sqe->attr_type_mask != ATTR_PI)
		return -EINVAL;
	if (fu_copy_from_user(&pi, fu_ptr(sqe->attr_ptr), sizeof(pi)))
		return -EFAULT;
	if (pi.resv)
		return -EINVAL;
	if (pi.addr > ADDRESS_SPAN || pi.addr + pi.len > ADDRESS_SPAN)
		return -EFAULT;
	rw->metadata = 1;
	return 0;
}

static int prep(struct fu_req *req, const struct fu_sqe *sqe, bool write, bool vectored)
{
	struct rw *rw = fu_cmd(req, struct rw);

	__builtin_memset(rw, 0, sizeof(*rw));
	rw->addr = sqe->addr;
	rw->pos = sqe->off;
	rw->len = sqe->len;
	rw->rw_flags = (s32)sqe->op_flags;
	rw->write = write;
	rw->vectored = vectored;
	if (fu_unlikely(sqe->ioprio)) {
		int ret = fu_ioprio_check(sqe->ioprio);

		if (ret)
			return ret;
	}
	if (fu_unlikely(sqe->attr_type_mask)) {
		int ret = attr_prep(rw, sqe);

		if (ret)
			return ret;
	}
	if (rw->rw_flags & RWF_NOWAIT)
		req->flags |= FU_REQ_NOWAIT;
	req->buf_index = sqe->buf_index;
	if (!vectored) {
		rw->one = (struct iovec){ fu_ptr(sqe->addr), sqe->len };
		rw->iov = &rw->one;
		rw->nr = 1;
		rw->total = sqe->len;
	}
	return 0;
}

/* One buffer of the program's own, or a provided one. */
static int prep_plain(struct fu_req *req, const struct fu_sqe *sqe, bool write)
{
	int ret = prep(req, sqe, write, false);

	if (!ret && !(req->flags & FU_REQ_BUFFER_SELECT) && !fu_user_range_ok(sqe->addr, sqe->len))
		ret = -EFAULT;
	return ret;
}

int fu_read_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep_plain(req, sqe, false);
}

int fu_write_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep_plain(req, sqe, true);
}

/* With buffer select, the one segment only says how much is wanted. */
static int prep_select_length(struct rw *rw)
{
	if (rw->len != 1)
		return -EINVAL;
	if (fu_copy_from_user(&rw->one, fu_ptr(rw->addr), sizeof(rw->one)))
		return -EFAULT;
	rw->len = rw->one.iov_len > MAX_BYTES ? MAX_BYTES : (u32)rw->one.iov_len;
	rw->iov = &rw->one;
	return 0;
}

int fu_readv_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	int ret = prep(req, sqe, false, true);

	if (!ret && (req->flags & FU_REQ_BUFFER_SELECT))
		ret = prep_select_length(fu_cmd(req, struct rw));
	return ret;
}

int fu_read_multishot_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	int ret;

	if (!(req->flags & FU_REQ_BUFFER_SELECT))
		return -EINVAL;
	ret = prep(req, sqe, false, false);
	if (ret)
		return ret;
	if (sqe->addr || sqe->len)
		return -EINVAL;
	req->flags |= FU_REQ_MULTISHOT;
	return 0;
}

int fu_writev_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep(req, sqe, true, true);
}

int fu_read_fixed_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	int ret = prep(req, sqe, false, false);

	fu_cmd(req, struct rw)->fixed = 1;
	return ret;
}

int fu_write_fixed_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	int ret = prep(req, sqe, true, false);

	fu_cmd(req, struct rw)->fixed = 1;
	return ret;
}

/* Copies the segments out of the program's memory. Bad ones are so each time it is asked. */
int fu_rwv_stable(struct fu_req *req)
{
	struct rw *rw = fu_cmd(req, struct rw);
	struct iovec *iov;
	int ret;

	if (rw->iov)
		return 0;
	if (rw->len > MAX_SEGMENTS)
		return -EINVAL;
	if (rw->len > 1 && !req->async) {
		req->async_bytes = rw->len * sizeof(struct iovec);
		req->async = fu_alloc(req->async_bytes);
		if (!req->async)
			return -ENOMEM;
	}
	iov = rw->len > 1 ? req->async : &rw->one;
	ret = fu_iov_copy(iov, fu_ptr(rw->addr), rw->len, &rw->total);
	if (ret)
		return ret;
	rw->iov = iov;
	rw->nr = rw->len;
	return 0;
}

static int fixed_vec_prep(struct fu_req *req, const struct fu_sqe *sqe, bool write)
{
	int ret = prep(req, sqe, write, true);

	if (ret)
		return ret;
	fu_cmd(req, struct rw)->fixed = 1;
	return sqe->len > MAX_PIECES ? -ENOMEM : fu_rwv_stable(req);
}

int fu_readv_fixed_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return fixed_vec_prep(req, sqe, false);
}

int fu_writev_fixed_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return fixed_vec_prep(req, sqe, true);
}

static bool inside(const struct fu_buf_node *node, u64 addr, u64 len)
{
	u64 end;

	return !__builtin_add_overflow(addr, len, &end) && addr >= node->addr &&
	       end <= node->addr + node->len;
}

/* The registered buffer has to contain every segment, and no segment may be empty. */
static int check_segments(const struct fu_buf_node *node, const struct rw *rw)
{
	u64 pieces = 0;

	for (u32 i = 0; i < rw->nr; i++) {
		pieces += rw->iov[i].iov_len / FU_PAGE + 2;
		if (pieces > INT32_MAX)
			return -EOVERFLOW;
	}
	if (pieces > MAX_PIECES)
		return -ENOMEM;
	for (u32 i = 0; i < rw->nr; i++) {
		if (!rw->iov[i].iov_len ||
		    !inside(node, (u64)(uintptr_t)rw->iov[i].iov_base, rw->iov[i].iov_len))
			return -EFAULT;
	}
	return 0;
}

/* Looks the registered buffer up and checks the request against it. submit_lock held. */
static int import_fixed(struct fu_req *req, const struct rw *rw)
{
	struct fu_buf_node *node = fu_table_get(&req->ctx->bufs, req->buf_index);
	int ret = 0;

	if (!node || !node->len)
		return -EFAULT;
	if (rw->vectored)
		ret = check_segments(node, rw);
	else if (!inside(node, rw->addr, rw->len))
		ret = -EFAULT;
	if (ret)
		return ret;
	fu_req_use_buf(req, node);
	return 0;
}

/* ---- issuing ---- */

/* Of the files without positions, only sockets refuse one. */
static bool is_socket(int fd)
{
	struct stat st;

	return fu_sys(SYS_fstat, fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* A write of nothing: an empty datagram. */
static long send_empty(struct fu_req *req, bool block)
{
	return block ? fu_sys_block(&req->cancelled, SYS_sendto, req->fd, 0, 0, 0, 0, 0)
	             : fu_sys(SYS_sendto, req->fd, 0, 0, MSG_DONTWAIT, 0, 0);
}

/*
 * preadv2 or pwritev2. Where a sandbox denies them, as before Linux 4.6, there are no flags and no
 * way to ask for no blocking: -EOPNOTSUPP, or what the older calls say.
 */
static long vectors(struct fu_req *req, bool write, const struct iovec *iov, u32 segs, u64 pos,
                    int flags, bool block)
{
	long nr = write ? SYS_pwritev2 : SYS_preadv2;
	long ret;

	for (;;) {
		if (block)
			ret = fu_sys_block(&req->cancelled, nr, req->fd, (long)iov, segs, (long)pos,
			                   0, flags);
		else
			ret = fu_sys(nr, req->fd, iov, segs, pos, 0, flags);
		if (fu_likely(ret >= 0) || (nr != SYS_preadv2 && nr != SYS_pwritev2) ||
		    !fu_host_denied(nr, ret))
			return ret;
		if (flags)
			return -EOPNOTSUPP;
		nr = pos == ~0ULL ? (write ? SYS_writev : SYS_readv)
		                  : (write ? SYS_pwritev : SYS_preadv);
	}
}

static long transfer(struct fu_req *req, struct rw *rw, int flags, bool block)
{
	/* The program's own segments serve as long as the attempt is made before enter returns. */
	const struct iovec *iov = rw->iov ? rw->iov : fu_ptr(rw->addr);
	u32 segs = rw->iov ? rw->nr : rw->len;
	u64 pos = rw->pos;
	long ret;

	if (fu_unlikely(rw->write && !rw->len) && !rw->vectored && (!pos || pos == ~0ULL) &&
	    is_socket(req->fd))
		return send_empty(req, block);
	for (;;) {
		ret = vectors(req, rw->write, iov, segs, rw->pos, flags, block);
		if (ret == -ESPIPE && rw->pos != ~0ULL && !(rw->pos && is_socket(req->fd)))
			/* A file without positions takes any offset for none. */
			rw->pos = ~0ULL;
		else if (ret == -EOPNOTSUPP && flags && !(flags & ~IDLE_FLAGS) &&
		         !(rw->write && fu_file_is_reg(req)))
			/* pwritev2 has none for files that mean nothing by them; io_uring has. */
			flags = 0;
		else
			break;
	}
	return ret;
}

/* Steps over the first `n` bytes of what is left. */
static void advance(struct rw *rw, u64 n)
{
	rw->done += (s64)n;
	if (rw->pos != ~0ULL)
		rw->pos += n;
	fu_iov_advance(&rw->iov, &rw->nr, n);
}

/*
 * Whether the file refuses to be read less than it has to tell. preadv2 does not ask it for
 * nothing.
 */
static bool refuses_nothing(const struct fu_req *req)
{
	static const char *const names[] = { "[eventfd]", "[timerfd]", "[signalfd]" };

	return fu_fd_called(req->fd, names, sizeof(names) / sizeof(names[0])) > 0;
}

static int finish(struct fu_req *req, struct rw *rw, long ret)
{
	if (fu_unlikely(!ret && !rw->write && (rw->vectored || !rw->len)) && !rw->done &&
	    refuses_nothing(req))
		return -EINVAL;
	if (rw->done)
		ret = ret < 0 ? (long)rw->done : ret + (long)rw->done;
	if (ret < 0)
		return (int)ret;
	/* A short transfer breaks a link, and is no success to be silent about. */
	if ((req->flags & (FU_REQ_LINK_FLAGS | FU_REQ_CQE_SKIP)) && (u64)ret != rw->total)
		fu_req_set_fail(req);
	fu_req_result(req, (s32)ret, 0);
	return FU_DONE;
}

/* Whether the file can be written at all. Of nothing it is not told. */
static bool can_write(struct fu_req *req)
{
	struct iovec none = { NULL, 0 };

	return vectors(req, true, &none, 1, ~0ULL, 0, false) != -EINVAL;
}

/* Whether the file may have refused RWF_NOWAIT as such. Before 5.5, for a write: -EINVAL. */
static bool nowait_refused(const struct fu_req *req, const struct rw *rw, long ret)
{
	return ret == -EOPNOTSUPP || (ret == -EINVAL && rw->write && !(req->flags & FU_REQ_NOWAIT));
}

/* Whether the file takes a flag, asked where there is nothing to read. */
static bool takes(struct fu_req *req, int flag)
{
	u8 byte;
	struct iovec one = { &byte, 1 };

	return vectors(req, false, &one, 1, 1UL << 62, flag, false) != -EOPNOTSUPP;
}

/* Whether there is nothing to wait for. */
static bool reads_nothing(struct fu_req *req, const struct rw *rw)
{
	if (rw->write)
		return false;
	if (!rw->iov) {
		if (fu_rwv_stable(req))
			return false;
		req->flags |= FU_REQ_STABLE;
	}
	return !rw->total;
}

/* -EOPNOTSUPP of a write is "would block" if the file does know RWF_NOWAIT for reads. */
static long refused_nowait(struct fu_req *req, struct rw *rw, u32 info)
{
	u32 lesson = rw->write ? FU_FILE_NO_NOWAIT_W : FU_FILE_NO_NOWAIT_R;

	if (req->flags & FU_REQ_NOWAIT) {
		if (rw->write && (info & FU_FILE_REG) && !(rw->rw_flags & RWF_ATOMIC) &&
		    takes(req, RWF_NOWAIT))
			return -EAGAIN;
		return -EOPNOTSUPP;
	}
	if (info & FU_FILE_REG) {
		fu_file_learn(req, lesson);
		req->flags |= FU_REQ_NO_ARM;
	} else if (rw->write && !can_write(req)) {
		return -EINVAL;
	} else if (reads_nothing(req, rw)) {
		return 0;
	} else {
		fu_file_learn(req, lesson);
		rw->no_nowait = 1;
	}
	return -EAGAIN;
}

#define TRY_AGAIN 2 /* beside what issue() returns: part of it is done, and there may be more */

/* What the result of an attempt that did not wait makes of the request. */
static int settle(struct fu_req *req, struct rw *rw, u32 info, long ret)
{
	if (nowait_refused(req, rw, ret))
		ret = refused_nowait(req, rw, info);
	if (ret == -EAGAIN) {
		if ((info & FU_FILE_REG) && fu_file_is_reg(req))
			req->flags |= FU_REQ_NO_ARM;
		/* What cannot wait is over with what it has. */
		if (rw->done && (req->flags & FU_REQ_NOWAIT))
			return finish(req, rw, 0);
		return -EAGAIN;
	}
	if (ret <= 0 || !(info & FU_FILE_REG))
		return finish(req, rw, ret);
	if (!rw->iov) {
		int err = fu_rwv_stable(req);

		if (err)
			return finish(req, rw, ret);
		req->flags |= FU_REQ_STABLE;
	}
	if ((u64)ret + (u64)rw->done >= rw->total)
		return finish(req, rw, ret);
	advance(rw, (u64)ret);
	return TRY_AGAIN;
}

/*
 * A file that cannot be asked not to block, on the submitter's thread, as long as it has not
 * been seen to wait. The position keeps a pipe that has taken the number out: -ESPIPE.
 */
static int attempt_trusted(struct fu_req *req, struct rw *rw)
{
	u64 start = fu_ticks();
	long ret = -EPERM;

	/* A sandbox may know only the calls with vectors, or only those without. */
	if (!rw->vectored && !rw->rw_flags)
		ret = fu_sys(rw->write ? SYS_pwrite64 : SYS_pread64, req->fd, rw->iov->iov_base,
		             rw->iov->iov_len, rw->pos);
	if (ret == -EPERM || ret == -EACCES || ret == -ENOSYS)
		ret = vectors(req, rw->write, rw->iov ? rw->iov : fu_ptr(rw->addr),
		              rw->iov ? rw->nr : rw->len, rw->pos, rw->rw_flags, false);
	if (ret == -ESPIPE)
		return -EAGAIN;
	fu_file_waited(req, rw->write, fu_ticks() - start, 1, ret > 0 ? (u64)ret : 0);
	if (!rw->iov && (req->flags & (FU_REQ_LINK_FLAGS | FU_REQ_CQE_SKIP)) && ret > 0)
		fu_rwv_stable(req);
	return finish(req, rw, ret);
}

/* Whether attempt_trusted is the way. Writes on workers are not to be overtaken. */
static bool is_trusted(struct fu_req *req, const struct rw *rw, u32 issue_flags)
{
	return rw->pos != ~0ULL && !(issue_flags & FU_ISSUE_WORKER) &&
	       !(rw->write && fu_pool_has_key(req)) && fu_file_trust(req, rw->write);
}

/* A file that does not know RWF_NOWAIT, but is one that nobody waits for. */
static long transfer_nonblocking(struct fu_req *req, struct rw *rw, u32 info)
{
	long ret = transfer(req, rw, rw->rw_flags | RWF_NOWAIT, false), fl;

	if (fu_likely(ret != -EOPNOTSUPP) || (info & FU_FILE_REG) || (req->flags & FU_REQ_NOWAIT))
		return ret;
	fl = fu_sys(SYS_fcntl, req->fd, F_GETFL);
	if (fl < 0 || !(fl & O_NONBLOCK))
		return ret;
	return transfer(req, rw, rw->rw_flags & ~RWF_NOWAIT, false);
}

static bool is_ready(const struct fu_req *req, short events)
{
	struct pollfd pfd = { .fd = req->fd, .events = events };

	return fu_poll_now(&pfd) > 0;
}

/*
 * A file that cannot be asked not to block, but can be polled. Where it is ready the submitter
 * waits if somebody else is quicker, as in the kernel; the engine's own threads have no time for
 * that.
 */
static int attempt_polled(struct fu_req *req, struct rw *rw, u32 issue_flags)
{
	if (fu_self.engine) {
		if (issue_flags & (FU_ISSUE_RETRY | FU_ISSUE_WORKER))
			req->flags |= FU_REQ_NO_ARM;
		return -EAGAIN;
	}
	if (!is_ready(req, rw->write ? POLLOUT : POLLIN))
		return -EAGAIN;
	return finish(req, rw, transfer(req, rw, rw->rw_flags, false));
}

static int attempt(struct fu_req *req, struct rw *rw, u32 issue_flags)
{
	u32 info = fu_file_info(req);
	u32 refused = rw->write ? FU_FILE_NO_NOWAIT_W : FU_FILE_NO_NOWAIT_R;
	int ret;

	if (!(req->flags & FU_REQ_NOWAIT)) {
		if ((info & refused) && is_trusted(req, rw, issue_flags)) {
			ret = attempt_trusted(req, rw);
			if (ret != -EAGAIN)
				return ret;
		}
		if ((info & FU_FILE_REG) && (info & (FU_FILE_DIRECT | refused)) &&
		    fu_file_is_reg(req)) {
			req->flags |= FU_REQ_NO_ARM;
			return -EAGAIN;
		}
		if (rw->no_nowait)
			return attempt_polled(req, rw, issue_flags);
		if ((info & refused) && !fu_self.engine) {
			ret = attempt_polled(req, rw, issue_flags);
			if (ret != -EAGAIN)
				return ret;
		}
	}
	do {
		ret = settle(req, rw, info, transfer_nonblocking(req, rw, info));
	} while (ret == TRY_AGAIN);
	if (ret == -EAGAIN && rw->no_nowait)
		return attempt_polled(req, rw, issue_flags);
	return ret;
}

/* ---- as AIO control blocks ---- */

int fu_rw_iocb(struct fu_req *req, struct iocb *iocb)
{
	struct rw *rw = fu_cmd(req, struct rw);
	u32 info = fu_file_info(req);
	u32 refused = info & (rw->write ? FU_FILE_NO_NOWAIT_W : FU_FILE_NO_NOWAIT_R);

	if (!(info & FU_FILE_REG) || (req->flags & FU_REQ_NOWAIT) || rw->metadata ||
	    rw->pos > INT64_MAX || (rw->rw_flags & ~(RWF_ALL_OLD & ~RWF_HIPRI)))
		return FU_IOCB_NONE;
	if ((rw->write && !(info & FU_FILE_DIRECT)) ||
	    ((info & FU_FILE_DIRECT) && refused && !(info & FU_FILE_LOCAL)))
		return FU_IOCB_NONE;
	if (rw->fixed && !req->buf_node && import_fixed(req, rw))
		return FU_IOCB_NONE;
	/* Whether it is short will count when the segments may be gone. */
	if ((req->flags & FU_REQ_CQE_SKIP) && fu_rwv_stable(req))
		return FU_IOCB_NONE;
	iocb->aio_rw_flags = rw->rw_flags | (refused ? 0 : RWF_NOWAIT);
	iocb->aio_reqprio = 0;
	iocb->aio_fildes = (u32)req->fd;
	iocb->aio_offset = (s64)rw->pos;
	if (rw->vectored) {
		iocb->aio_lio_opcode = rw->write ? IOCB_CMD_PWRITEV : IOCB_CMD_PREADV;
		iocb->aio_buf = rw->iov ? (u64)(uintptr_t)rw->iov : rw->addr;
		iocb->aio_nbytes = rw->iov ? rw->nr : rw->len;
	} else {
		iocb->aio_lio_opcode = rw->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
		iocb->aio_buf = rw->addr;
		iocb->aio_nbytes = rw->len;
	}
	if (info & FU_FILE_DIRECT)
		return FU_IOCB_ASYNC;
	return refused ? FU_IOCB_BLOCKING : FU_IOCB_INLINE;
}

int fu_rw_iocb_done(struct fu_req *req, long res)
{
	struct rw *rw = fu_cmd(req, struct rw);
	u32 info = fu_file_info(req);
	int ret;

	if ((info & FU_FILE_DIRECT) && res >= 0)
		return finish(req, rw, res);
	ret = settle(req, rw, info, res);
	return ret == TRY_AGAIN ? attempt(req, rw, FU_ISSUE_NONBLOCK) : ret;
}

/* ---- flags that not every file takes ---- */

/* Whether there is something to be said before the data are looked at. */
static bool is_rare(const struct rw *rw)
{
	return rw->metadata || (rw->rw_flags & ~(RWF_ALL_OLD & ~RWF_HIPRI)) || (s64)rw->pos < -1;
}

/*
 * What the kernel says then, in its order: the direction, flags that there are not, that exclude
 * each other or that the file does not take, metadata, which no file here carries, and positions
 * that there are not. A ring has nothing to read. 0 or -errno.
 */
static int check_rare(struct fu_req *req, const struct rw *rw)
{
	struct iovec none = { NULL, 0 };
	u32 flags = (u32)rw->rw_flags;
	long ret = vectors(req, rw->write, &none, 1, ~0ULL, 0, false);

	if (ret < 0)
		return (int)ret;
	if (flags & ~(u32)RWF_KNOWN)
		return -EOPNOTSUPP;
	if ((flags & RWF_APPEND) && (flags & RWF_NOAPPEND))
		return -EINVAL;
	if ((flags & RWF_NOWAIT) && !takes(req, RWF_NOWAIT))
		return -EOPNOTSUPP;
	if ((flags & RWF_ATOMIC) &&
	    (!rw->write || !rw->len || !(fu_file_info(req) & FU_FILE_DIRECT)))
		return -EOPNOTSUPP;
	if ((flags & RWF_DONTCACHE) && (!fu_file_is_reg(req) || !takes(req, RWF_DONTCACHE)))
		return -EOPNOTSUPP;
	if (rw->metadata || (flags & RWF_HIPRI) || (s64)rw->pos < -1)
		return -EINVAL;
	return fu_fd_names_ring(req->fd) ? -EINVAL : 0;
}

static int issue(struct fu_req *req, u32 issue_flags)
{
	struct rw *rw = fu_cmd(req, struct rw);
	long ret;

	if (rw->fixed && !req->buf_node) {
		if (issue_flags & FU_ISSUE_WORKER)
			fu_submit_lock(req->ctx);
		ret = import_fixed(req, rw);
		if (issue_flags & FU_ISSUE_WORKER)
			fu_submit_unlock(req->ctx);
		if (ret)
			return fu_sys(SYS_fcntl, req->fd, F_GETFL) < 0 ? -EBADF : (int)ret;
	}
	if (req->ctx->iopoll) {
		long fl = fu_sys(SYS_fcntl, req->fd, F_GETFL);

		if (fl < 0 || (fl & O_ACCMODE) == (rw->write ? O_RDONLY : O_WRONLY))
			return -EBADF;
		if (!(fl & O_DIRECT))
			return -EOPNOTSUPP;
	} else if (fu_unlikely(is_rare(rw) || fu_fd_names_ring(req->fd))) {
		ret = check_rare(req, rw);
		if (ret)
			return (int)ret;
	}
	if (issue_flags & FU_ISSUE_NONBLOCK)
		return attempt(req, rw, issue_flags);
	ret = transfer(req, rw, rw->rw_flags, issue_flags & FU_ISSUE_WORKER);
	if (fu_load_relaxed(&req->ctx->direct_away))
		fu_store_relaxed(&req->ctx->direct_away, false);
	return finish(req, rw, ret);
}

/* ---- provided buffers ---- */

static int select_buffer(struct fu_req *req, struct rw *rw, bool commit)
{
	u32 len = rw->len;
	u64 addr;
	int ret = fu_kbuf_select(req, &addr, &len, commit);

	if (ret)
		return ret;
	rw->one = (struct iovec){ fu_ptr(addr), len };
	rw->iov = &rw->one;
	rw->nr = 1;
	rw->total = len;
	return 0;
}

/*
 * A file that can be polled gives a ring's buffer back while it waits. Any other keeps it,
 * consumed from the start, until a worker has filled it; so does whatever a worker runs, and
 * legacy buffers are kept in any case. submit_lock held, unless the buffer is consumed already.
 */
static int issue_selected(struct fu_req *req, u32 issue_flags)
{
	int ret = issue(req, issue_flags);
	bool consumed = !(req->flags & FU_REQ_BUFFERS_COMMIT);

	if (ret == FU_DONE)
		req->cflags |= fu_kbuf_put(req, req->res, 1);
	else if (ret == -EAGAIN && !(req->flags & FU_REQ_NO_ARM) && !consumed)
		fu_kbuf_recycle(req);
	else if (ret < 0 && ret != -EAGAIN && (req->flags & FU_REQ_BUFFERS_COMMIT))
		fu_kbuf_recycle(req);
	return ret;
}

static int rw_select(struct fu_req *req, struct rw *rw, u32 issue_flags)
{
	bool worker = issue_flags & FU_ISSUE_WORKER;
	int ret = 0;

	if (fu_kbuf_wanted(req)) {
		if (worker)
			fu_submit_lock(req->ctx);
		ret = select_buffer(req, rw,
		                    worker || (req->flags & FU_REQ_SLOW) || fu_file_is_reg(req));
		if (worker)
			fu_submit_unlock(req->ctx);
	}
	return ret ? ret : issue_selected(req, issue_flags);
}

int fu_rw_issue(struct fu_req *req, u32 issue_flags)
{
	if (fu_unlikely(req->flags & FU_REQ_BUFFER_SELECT))
		return rw_select(req, fu_cmd(req, struct rw), issue_flags);
	return issue(req, issue_flags);
}

/* ---- READ_MULTISHOT ---- */

/* Where there is no epoll to ask, by what it usually is. */
static bool can_poll(int fd)
{
	struct epoll_event ev = { 0 };
	struct stat st;
	long epfd, ret;

	if (fu_sys(SYS_fstat, fd, &st) < 0)
		return false;
	if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))
		return true;
	epfd = fu_set_fd(SYS_epoll_create1, EPOLL_CLOEXEC, 0);
	if (epfd < 0)
		return !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISBLK(st.st_mode);
	ret = fu_sys(SYS_epoll_ctl, epfd, EPOLL_CTL_ADD, fd, &ev);
	fu_fd_close((int)epfd);
	return !ret;
}

/* One read that does not wait. A file without RWF_NOWAIT is asked whether it is ready. */
static long read_ready(struct fu_req *req, struct rw *rw)
{
	long ret;

	if (!rw->no_nowait) {
		ret = transfer(req, rw, rw->rw_flags | RWF_NOWAIT, false);
		if (ret != -EOPNOTSUPP || (req->flags & FU_REQ_NOWAIT))
			return ret;
		rw->no_nowait = 1;
	}
	if (!is_ready(req, POLLIN))
		return -EAGAIN;
	return transfer(req, rw, rw->rw_flags, false);
}

/* submit_lock held */
static int read_multishot(struct fu_req *req, struct rw *rw)
{
	for (u32 i = 0; i < MAX_LOOPS; i++) {
		u32 cflags;
		long ret = select_buffer(req, rw, false);

		/* Once it has read, it wants a buffer only if there is more. */
		if (ret)
			return ret == -ENOBUFS && i && !is_ready(req, POLLIN) ? -EAGAIN : (int)ret;
		ret = is_rare(rw) ? check_rare(req, rw) : 0;
		if (!ret)
			ret = read_ready(req, rw);
		if (ret <= 0) {
			fu_kbuf_recycle(req);
			fu_req_result(req, 0, 0);
			return (int)ret;
		}
		cflags = fu_kbuf_put(req, ret, 1);
		if (!fu_post_more(req, (s32)ret, cflags | IORING_CQE_F_MORE)) {
			fu_req_result(req, (s32)ret, cflags);
			return FU_DONE;
		}
	}
	return -EAGAIN;
}

int fu_read_multishot_issue(struct fu_req *req, u32 issue_flags)
{
	struct rw *rw = fu_cmd(req, struct rw);
	int ret;

	if (!rw->pollable && !can_poll(req->fd))
		return -EBADFD;
	rw->pollable = 1;
	if (!(issue_flags & FU_ISSUE_WORKER))
		return read_multishot(req, rw);
	/* A worker is not the place for a request that goes on for ever. */
	if (issue_flags & FU_ISSUE_NONBLOCK)
		return -EAGAIN;
	fu_submit_lock(req->ctx);
	ret = read_multishot(req, rw);
	fu_submit_unlock(req->ctx);
	return ret;
}
