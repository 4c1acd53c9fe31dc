/*
 * Bad input: every call, flag, opcode, reserved field, pointer, length and
 * state that the kernel refuses, with its errno, from the call or in the CQE as
 * the kernel does. Nothing here may crash, and the ring works afterwards.
 */
#include "tests/ring_util.h"
#include "tests/newer_ops.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define BAD_PTR ((void *)(uintptr_t)0x10)

static struct tr_ring ring;
static char buf[8192];

static int setup(void **state)
{
	(void)state;
	return tr_init(&ring, 16, 0);
}

static int teardown(void **state)
{
	(void)state;
	/* Whatever came before, it still works. */
	while (tr_peek(&ring))
		tr_seen(&ring);
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	tr_exit(&ring);
	return 0;
}

static void test_fds(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int path = open("/", O_PATH | O_CLOEXEC);

	(void)state;
	assert_int_equal(tr_sys_enter(-1, 0, 0, 0, NULL, 0), -EBADF);
	assert_int_equal(tr_sys_enter(9999, 1, 0, 0, NULL, 0), -EBADF);
	assert_int_equal(tr_sys_enter(INT_MAX, 1, 0, 0, NULL, 0), -EBADF);
	assert_int_equal(tr_sys_enter(null, 1, 0, 0, NULL, 0), -EOPNOTSUPP);
	assert_int_equal(tr_sys_enter(path, 1, 0, 0, NULL, 0), -EBADF);
	assert_int_equal(tr_sys_register(-1, IORING_REGISTER_BUFFERS, NULL, 0), -EINVAL);
	assert_int_equal(tr_sys_register(9999, IORING_REGISTER_BUFFERS, NULL, 0), -EBADF);
	assert_int_equal(tr_sys_register(null, IORING_REGISTER_BUFFERS, NULL, 0), -EOPNOTSUPP);
	close(null);
	close(path);
}

static void test_enter_flags(void **state)
{
	(void)state;
	for (unsigned bit = 8; bit < 32; bit++)
		assert_int_equal(tr_sys_enter(ring.fd, 0, 0, 1u << bit, NULL, 0), -EINVAL);
	/* The flags come before the descriptor. */
	assert_int_equal(tr_sys_enter(9999, 0, 0, 1u << 31, NULL, 0), -EINVAL);
	assert_int_equal(tr_sys_enter(ring.fd, 0, 0, IORING_ENTER_REGISTERED_RING, NULL, 0),
	                 ring.fd < 16 ? -EBADF : -EINVAL);
	assert_int_equal(tr_sys_enter(0xffff, 0, 0, IORING_ENTER_REGISTERED_RING, NULL, 0),
	                 -EINVAL);
	/* Without SQPOLL these are just not needed. */
	assert_int_equal(tr_sys_enter(ring.fd, 0, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0), 0);
	assert_int_equal(tr_sys_enter(ring.fd, 0, 0, IORING_ENTER_SQ_WAIT, NULL, 0), 0);
}

static int wait_arg(const void *arg, size_t argsz, unsigned flags)
{
	return tr_sys_enter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS | flags, arg, argsz);
}

static void test_enter_argument(void **state)
{
	const unsigned ext = IORING_ENTER_EXT_ARG;
	struct __kernel_timespec ts = { .tv_nsec = 1 };
	struct io_uring_getevents_arg arg = { .ts = (uint64_t)(uintptr_t)&ts };
	sigset_t set;

	(void)state;
	sigemptyset(&set);
	assert_int_equal(wait_arg(&arg, sizeof(arg), ext), -ETIME);
	assert_int_equal(wait_arg(&arg, sizeof(arg) - 1, ext), -EINVAL);
	assert_int_equal(wait_arg(&arg, sizeof(arg) + 1, ext), -EINVAL);
	assert_int_equal(wait_arg(&arg, 0, ext), -EINVAL);
	assert_int_equal(wait_arg(NULL, sizeof(arg), ext), -EFAULT);
	assert_int_equal(wait_arg(BAD_PTR, sizeof(arg), ext), -EFAULT);
	arg.ts = (uint64_t)(uintptr_t)BAD_PTR;
	assert_int_equal(wait_arg(&arg, sizeof(arg), ext), -EFAULT);
	arg.ts = (uint64_t)(uintptr_t)&ts;
	arg.sigmask = (uint64_t)(uintptr_t)BAD_PTR;
	arg.sigmask_sz = 8;
	assert_int_equal(wait_arg(&arg, sizeof(arg), ext), -EFAULT);
	arg.sigmask = (uint64_t)(uintptr_t)&set;
	arg.sigmask_sz = 7;
	assert_int_equal(wait_arg(&arg, sizeof(arg), ext), -EINVAL);
	arg.sigmask_sz = 8;
	assert_int_equal(wait_arg(&arg, sizeof(arg), ext), -ETIME);
	/* A plain argument is a signal mask. */
	assert_int_equal(wait_arg(&set, 16, 0), -EINVAL);
	assert_int_equal(wait_arg(BAD_PTR, 8, 0), -EFAULT);
	/* Nothing waits here, and so the argument is not looked at. */
	assert_int_equal(tr_sys_enter(ring.fd, 0, 0, 0, BAD_PTR, 77), 0);
	assert_int_equal(tr_sys_enter(ring.fd, 0, 0, ext, BAD_PTR, 77), 0);
}

static void test_null_argument_any_size(void **state)
{
	(void)state;
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	tr_publish(&ring);
	assert_int_equal(tr_sys_enter(ring.fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0), 1);
	assert_int_equal(wait_arg(NULL, 8, 0), 0);
	assert_int_equal(wait_arg(NULL, 128, 0), 0);
	tr_seen(&ring);
}

static void test_timespec_values(void **state)
{
	struct __kernel_timespec ts = { .tv_sec = -1 };
	struct io_uring_getevents_arg arg = { .ts = (uint64_t)(uintptr_t)&ts };
	struct io_uring_cqe *cqe;

	(void)state;
	/* Negative is over at once; so is zero. */
	assert_int_equal(wait_arg(&arg, sizeof(arg), IORING_ENTER_EXT_ARG), -ETIME);
	ts.tv_sec = 0;
	assert_int_equal(wait_arg(&arg, sizeof(arg), IORING_ENTER_EXT_ARG), -ETIME);
	/* With an event there it does not matter. */
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 9);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(wait_arg(&arg, sizeof(arg), IORING_ENTER_EXT_ARG), 0);
	cqe = tr_peek(&ring);
	assert_non_null(cqe);
	assert_int_equal(cqe->user_data, 9);
}

static void test_opcodes(void **state)
{
	static const unsigned char ops[] = { 100, 200, 255 };

	(void)state;
	for (size_t i = 0; i < sizeof(ops); i++) {
		tr_prep(&ring, ops[i], -1, NULL, 0, 0, 33);
		assert_int_equal(tr_submit(&ring), 1);
		assert_int_equal(tr_peek(&ring)->user_data, 33);
		assert_int_equal(tr_peek(&ring)->res, -EINVAL);
		tr_seen(&ring);
	}
}

static void test_sqe_flags(void **state)
{
	(void)state;
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1)->flags = 1u << 7;
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
	/* No buffers to select from for this operation. */
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2)->flags = IOSQE_BUFFER_SELECT;
	assert_int_equal(tr_run(&ring, 2), -EOPNOTSUPP);
	tr_prep(&ring, IORING_OP_FSYNC, 0, NULL, 0, 0, 3)->flags = IOSQE_BUFFER_SELECT;
	assert_int_equal(tr_run(&ring, 3), -EOPNOTSUPP);
	/* No such credentials. */
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 4)->personality = 77;
	assert_int_equal(tr_run(&ring, 4), -EINVAL);
	/* An ioprio where the operation has none. */
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 5)->ioprio = 1;
	assert_int_equal(tr_run(&ring, 5), -EINVAL);
	tr_prep(&ring, IORING_OP_FSYNC, 0, NULL, 0, 0, 6)->ioprio = 1;
	assert_int_equal(tr_run(&ring, 6), -EINVAL);
	tr_prep(&ring, IORING_OP_POLL_ADD, 0, NULL, 0, 0, 7)->ioprio = 1;
	assert_int_equal(tr_run(&ring, 7), -EINVAL);
}

static void test_request_fds(void **state)
{
	static const int ops[] = { IORING_OP_READ,    IORING_OP_WRITE, IORING_OP_READV,
		                   IORING_OP_WRITEV,  IORING_OP_FSYNC, IORING_OP_SYNC_FILE_RANGE,
		                   IORING_OP_POLL_ADD };
	struct iovec iov = { buf, 16 };
	int path = open("/", O_PATH | O_CLOEXEC);

	(void)state;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		bool vectored = ops[i] == IORING_OP_READV || ops[i] == IORING_OP_WRITEV;
		bool plain = ops[i] == IORING_OP_READ || ops[i] == IORING_OP_WRITE;
		const void *addr = vectored ? (void *)&iov : plain ? buf : NULL;
		unsigned len = vectored ? 1 : plain ? 16 : 0;

		assert_int_equal(tr_do(&ring, ops[i], -1, addr, len, 0), -EBADF);
		assert_int_equal(tr_do(&ring, ops[i], 9999, addr, len, 0), -EBADF);
		assert_int_equal(tr_do(&ring, ops[i], INT_MIN, addr, len, 0), -EBADF);
		assert_int_equal(tr_do(&ring, ops[i], path, addr, len, 0), -EBADF);
		/* A fixed file without a table. */
		tr_prep(&ring, ops[i], 0, addr, len, 0, 50 + i)->flags = IOSQE_FIXED_FILE;
		assert_int_equal(tr_run(&ring, 50 + i), -EBADF);
	}
	close(path);
}

static void test_rw_pointers(void **state)
{
	int fd = tr_temp_file(8192);
	struct iovec iov[2] = { { BAD_PTR, 16 }, { buf, 16 } };

	(void)state;
	assert_int_equal(tr_do(&ring, IORING_OP_READ, fd, BAD_PTR, 16, 0), -EFAULT);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, fd, BAD_PTR, 16, 0), -EFAULT);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, fd, NULL, 16, 0), -EFAULT);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, fd, (void *)(uintptr_t)-4096L, 16, 0),
	                 -EFAULT);
	assert_int_equal(tr_do(&ring, IORING_OP_READV, fd, BAD_PTR, 1, 0), -EFAULT);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITEV, fd, BAD_PTR, 1, 0), -EFAULT);
	assert_int_equal(tr_do(&ring, IORING_OP_READV, fd, NULL, 1, 0), -EFAULT);
	assert_int_equal(tr_do(&ring, IORING_OP_READV, fd, iov, 2, 0), -EFAULT);
	assert_int_equal(tr_do(&ring, IORING_OP_READV, fd, iov, 0, 0), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_READV, fd, iov, 1025, 0), -EINVAL);
	assert_int_equal(tr_do(&ring, IORING_OP_READV, fd, iov, 0xffffffffu, 0), -EINVAL);
	iov[0] = (struct iovec){ buf, (size_t)-1 };
	assert_int_equal(tr_do(&ring, IORING_OP_READV, fd, iov, 1, 0), -EINVAL);
	/* The first part is read before the second one turns out bad. */
	iov[0] = (struct iovec){ buf, 16 };
	iov[1] = (struct iovec){ BAD_PTR, 16 };
	assert_int_equal(tr_do(&ring, IORING_OP_READV, fd, iov, 2, 0), 16);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, fd, buf, 0, 0), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, fd, BAD_PTR, 0, 0), 0);
	close(fd);
}

/* A refused request says so, whatever requests before it were about. */
static void test_refused_after_others(void **state)
{
	static const uint8_t ops[] = { IORING_OP_RECV,    IORING_OP_RECVMSG,
		                       IORING_OP_SEND,    IORING_OP_SENDMSG,
		                       IORING_OP_SEND_ZC, IORING_OP_SENDMSG_ZC,
		                       OP_WAITID,         IORING_OP_READ_FIXED,
		                       IORING_OP_POLL_ADD };
	int fd = tr_temp_file(8192);
	struct iovec iov = { buf, 16 };

	(void)state;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		for (int with = 0; with < 2; with++) {
			struct io_uring_sqe *sqe;

			assert_int_equal(tr_do(&ring, IORING_OP_READ, fd, buf, 16, 4096), 16);
			assert_int_equal(tr_do(&ring, IORING_OP_WRITEV, fd, &iov, 1, 4096), 16);
			assert_int_equal(tr_do(&ring, IORING_OP_READV, fd, &iov, 1, 4096), 16);
			/* By a field that has to be zero, and by a flag that there is not. */
			sqe = tr_prep(&ring, ops[i], fd, buf, 16, with ? 0 : 77, 9);
			sqe->addr3 = with ? 0 : 77;
			sqe->splice_fd_in = with ? 0 : 0x10000;
			sqe->flags = with ? 0x80 : 0;
			if (ops[i] == IORING_OP_READ_FIXED && !with)
				sqe->flags = IOSQE_BUFFER_SELECT;
			assert_true(tr_run(&ring, 9) < 0);
		}
	}
	close(fd);
}

static void test_rw_modes(void **state)
{
	int fd = tr_temp_file(4096);
	char path[64];
	int ro, wo, dir, p[2];

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	wo = open(path, O_WRONLY | O_CLOEXEC);
	dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, ro, buf, 16, 0), -EBADF);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, wo, buf, 16, 0), -EBADF);
	/* An end that cannot be read is waited for in vain where a flag is refused before that
	 * shows. */
	if (tr_has_rwf(p[0], RWF_NOWAIT))
		assert_int_equal(tr_do(&ring, IORING_OP_READ, p[1], buf, 16, 0), -EBADF);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, dir, buf, 16, 0), -EISDIR);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, fd, buf, 16, (uint64_t)-2), -EINVAL);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, fd, buf, 16, 1ull << 63), -EINVAL);
	/* A pipe has no position: off does not matter. */
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, p[1], buf, 16, 12345), 16);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, p[0], buf, 16, 777), 16);
	close(p[0]);
	close(p[1]);
	close(ro);
	close(wo);
	close(dir);
	close(fd);
}

static void test_rw_flags(void **state)
{
	int fd = tr_temp_file(4096);
	struct io_uring_sqe *sqe;

	(void)state;
	tr_prep(&ring, IORING_OP_READ, fd, buf, 16, 0, 1)->rw_flags = 1 << 30;
	assert_int_equal(tr_run(&ring, 1), -EOPNOTSUPP);
	tr_prep(&ring, IORING_OP_WRITE, fd, buf, 16, 0, 2)->rw_flags = -1;
	assert_int_equal(tr_run(&ring, 2), -EOPNOTSUPP);
	/* An I/O priority of a class that there is not. */
	tr_prep(&ring, IORING_OP_READ, fd, buf, 16, 0, 3)->ioprio = 7 << 13;
	assert_int_equal(tr_run(&ring, 3), -EINVAL);
	/* Best effort, level 4. */
	tr_prep(&ring, IORING_OP_READ, fd, buf, 16, 0, 4)->ioprio = (2 << 13) | 4;
	assert_int_equal(tr_run(&ring, 4), 16);
	/* Polled I/O is a property of the ring. */
	tr_prep(&ring, IORING_OP_READ, fd, buf, 16, 0, 5)->rw_flags = RWF_HIPRI;
	assert_int_equal(tr_run(&ring, 5), -EINVAL);
	/* addr3 is for attributes that only newer requests have. */
	sqe = tr_prep(&ring, IORING_OP_READ, fd, buf, 16, 0, 6);
	sqe->__pad2[0] = 1;
	assert_true(tr_run(&ring, 6) < 0);
	close(fd);
}

/* Which of several flags is refused, and how. */
static void test_rw_flags_together(void **state)
{
	enum { HIPRI = 1, SYNC = 4, NOWAIT = 8, APPEND = 16, NOAPPEND = 32, ATOMIC = 64 };
	const struct {
		int flags, res;
	} cases[] = {
		{ HIPRI | ATOMIC, -EOPNOTSUPP },
		{ HIPRI | 1 << 30, -EOPNOTSUPP },
		{ APPEND | NOAPPEND | ATOMIC, -EINVAL },
		{ APPEND | NOAPPEND | 1 << 30, -EOPNOTSUPP },
		{ SYNC | ATOMIC, -EOPNOTSUPP },
	};
	int fd = tr_temp_file(4096), p[2];
	const bool nowait = tr_has_rwf(fd, NOWAIT);

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		tr_prep(&ring, IORING_OP_READ, fd, buf, 16, 0, 1)->rw_flags = cases[i].flags;
		assert_int_equal(tr_run(&ring, 1), cases[i].res);
		tr_prep(&ring, IORING_OP_WRITE, fd, buf, 16, 0, 2)->rw_flags = cases[i].flags;
		assert_int_equal(tr_run(&ring, 2), cases[i].res);
	}
	if (nowait) {
		tr_prep(&ring, IORING_OP_READ, fd, buf, 16, 0, 3)->rw_flags = NOWAIT | HIPRI;
		assert_int_equal(tr_run(&ring, 3), -EINVAL);
	}
	/* Flags and positions are looked at before there is anything to read. */
	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, p[0], buf, 16, 1ULL << 63), -EBADF);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, p[1], buf, 16, 1ULL << 63), -EINVAL);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, p[0], buf, 16, -2ULL), -EINVAL);
	tr_prep(&ring, IORING_OP_READ, p[0], buf, 16, 0, 4)->rw_flags = ATOMIC;
	assert_int_equal(tr_run(&ring, 4), -EOPNOTSUPP);
	close(p[0]);
	close(p[1]);
	close(fd);
}

/* Integrity metadata: the description is checked, the file cannot carry any. */
static void test_rw_attributes(void **state)
{
	struct {
		uint16_t flags, app_tag;
		uint32_t len;
		uint64_t addr, seed, rsvd;
	} pi = { .len = 64, .addr = (uintptr_t)buf };
	const struct {
		const void *attr;
		uint64_t mask, rsvd;
		int res;
	} cases[] = {
		{ &pi, 1, 0, -EINVAL },
		{ &pi, 1, 1, -EINVAL },
		{ &pi, 2, 0, -EINVAL },
		{ (void *)8, 1, 0, -EFAULT },
	};
	int fd = tr_temp_file(100);

	(void)state;
	assert_true(ring.p.features & (1U << 16));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct io_uring_sqe *sqe = tr_prep(&ring, IORING_OP_READ, fd, buf, 16, 0, i);

		pi.rsvd = cases[i].rsvd;
		/* attr_ptr and attr_type_mask, where older headers have addr3. */
		sqe->addr3 = (uintptr_t)cases[i].attr;
		sqe->__pad2[0] = cases[i].mask;
		assert_int_equal(tr_run(&ring, i), cases[i].res);
	}
	close(fd);
}

static void test_fixed_buffers(void **state)
{
	int fd = tr_temp_file(4096);
	struct iovec iov = { buf, 4096 };
	struct io_uring_sqe *sqe;

	(void)state;
	/* None registered. */
	assert_int_equal(tr_do(&ring, IORING_OP_READ_FIXED, fd, buf, 16, 0), -EFAULT);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_READ_FIXED, fd, buf, 16, 0), 16);
	assert_int_equal(tr_do(&ring, IORING_OP_READ_FIXED, fd, buf + 4096, 16, 0), -EFAULT);
	assert_int_equal(tr_do(&ring, IORING_OP_READ_FIXED, fd, buf + 4090, 16, 0), -EFAULT);
	assert_int_equal(
	        tr_do(&ring, IORING_OP_READ_FIXED, fd, (void *)((uintptr_t)buf - 1), 16, 0),
	        -EFAULT);
	assert_int_equal(tr_do(&ring, IORING_OP_READ_FIXED, fd, (void *)(uintptr_t)-16L, 32, 0),
	                 -EFAULT);
	sqe = tr_prep(&ring, IORING_OP_WRITE_FIXED, fd, buf, 16, 0, 1);
	sqe->buf_index = 1;
	assert_int_equal(tr_run(&ring, 1), -EFAULT);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	close(fd);
}

static void test_sync(void **state)
{
	int fd = tr_temp_file(4096);
	struct io_uring_sqe *sqe;
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_FSYNC, fd, NULL, 0, 0), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_FSYNC, fd, buf, 0, 0), -EINVAL);
	assert_int_equal(tr_do(&ring, IORING_OP_FSYNC, p[0], NULL, 0, 0), -EINVAL);
	tr_prep(&ring, IORING_OP_FSYNC, fd, NULL, 0, 0, 1)->fsync_flags = 2;
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
	tr_prep(&ring, IORING_OP_FSYNC, fd, NULL, 0, 0, 2)->fsync_flags = IORING_FSYNC_DATASYNC;
	assert_int_equal(tr_run(&ring, 2), 0);
	tr_prep(&ring, IORING_OP_FSYNC, fd, NULL, 0, 0, 3)->buf_index = 1;
	assert_int_equal(tr_run(&ring, 3), -EINVAL);
	sqe = tr_prep(&ring, IORING_OP_FSYNC, fd, NULL, 0, 0, 4);
	sqe->splice_fd_in = 1;
	assert_int_equal(tr_run(&ring, 4), -EINVAL);
	assert_int_equal(tr_do(&ring, IORING_OP_FSYNC, fd, NULL, 0, 1ull << 63), -EINVAL);

	assert_int_equal(tr_do(&ring, IORING_OP_SYNC_FILE_RANGE, fd, NULL, 4096, 0), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_SYNC_FILE_RANGE, fd, buf, 4096, 0), -EINVAL);
	assert_int_equal(tr_do(&ring, IORING_OP_SYNC_FILE_RANGE, p[0], NULL, 4096, 0), -ESPIPE);
	assert_int_equal(tr_do(&ring, IORING_OP_SYNC_FILE_RANGE, fd, NULL, 4096, 1ull << 63),
	                 -EINVAL);
	tr_prep(&ring, IORING_OP_SYNC_FILE_RANGE, fd, NULL, 4096, 0, 5)->sync_range_flags = 8;
	assert_int_equal(tr_run(&ring, 5), -EINVAL);
	tr_prep(&ring, IORING_OP_SYNC_FILE_RANGE, fd, NULL, 4096, 0, 6)->sync_range_flags =
	        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
	assert_int_equal(tr_run(&ring, 6), 0);
	close(p[0]);
	close(p[1]);
	close(fd);
}

static void test_poll_fields(void **state)
{
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_POLL_ADD, p[0], buf, 0, 0), -EINVAL);
	assert_int_equal(tr_do(&ring, IORING_OP_POLL_ADD, p[0], NULL, 0, 1), -EINVAL);
	assert_int_equal(tr_do(&ring, IORING_OP_POLL_ADD, p[0], NULL, 1u << 31, 0), -EINVAL);
	tr_prep(&ring, IORING_OP_POLL_ADD, p[0], NULL, 0, 0, 1)->buf_index = 1;
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
	assert_int_equal(tr_do(&ring, IORING_OP_POLL_REMOVE, -1, NULL, 0, 0), -ENOENT);
	assert_int_equal(tr_do(&ring, IORING_OP_POLL_REMOVE, -1, NULL, 1u << 31, 0), -EINVAL);
	tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, NULL, 0, 0, 2)->splice_fd_in = 1;
	assert_int_equal(tr_run(&ring, 2), -EINVAL);
	tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, NULL, 0, 0, 3)->buf_index = 1;
	assert_int_equal(tr_run(&ring, 3), -EINVAL);
	close(p[0]);
	close(p[1]);
}

static void test_register_calls(void **state)
{
	struct iovec iov = { buf, 4096 };
	int fds[2] = { 0, 9999 };
	int ev = 9999;

	(void)state;
	assert_int_equal(tr_sys_register(ring.fd, 250, NULL, 0), -EINVAL);
	assert_int_equal(tr_sys_register(ring.fd, 0x7fffffff, NULL, 0), -EINVAL);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, NULL, 1), -EFAULT);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, BAD_PTR, 1), -EFAULT);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 0), -EINVAL);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 16385), -EINVAL);
	iov = (struct iovec){ BAD_PTR, 4096 };
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), -EFAULT);
	iov = (struct iovec){ NULL, 4096 };
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), -EFAULT);
	iov = (struct iovec){ buf, 0 };
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), -EFAULT);
	iov = (struct iovec){ buf, (1ull << 30) + 1 };
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), -EFAULT);
	iov = (struct iovec){ buf, 4096 };
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), -EBUSY);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_BUFFERS, &iov, 0), -EINVAL);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 1), -EINVAL);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), -ENXIO);

	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, NULL, 1), -EFAULT);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, 0), -EINVAL);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, 2), -EBADF);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, 1u << 30), -EMFILE);
	fds[1] = ring.fd;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, 2), -EBADF);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_FILES, NULL, 0), -ENXIO);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, 1), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, 1), -EBUSY);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_FILES, fds, 0), -EINVAL);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_FILES, NULL, 0), 0);

	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_EVENTFD, &ev, 1), -EBADF);
	ev = 0;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_EVENTFD, NULL, 1), -EFAULT);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_EVENTFD, &ev, 0), -EINVAL);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_EVENTFD, &ev, 2), -EINVAL);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_EVENTFD, NULL, 0), -ENXIO);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0), -EBADFD);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_ENABLE_RINGS, NULL, 1), -EINVAL);
}

static void test_files_update_args(void **state)
{
	int fds[4] = { -1, -1, -1, -1 };
	int one = 0;
	struct io_uring_files_update up = { .offset = 0, .fds = (uint64_t)(uintptr_t)&one };

	(void)state;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), -ENXIO);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, 4), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 0), -EINVAL);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, NULL, 1), -EFAULT);
	up.resv = 1;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), -EINVAL);
	up.resv = 0;
	up.offset = 4;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), -EINVAL);
	up.offset = 0xffffffffu;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1),
	                 -EOVERFLOW);
	up.offset = 0;
	one = 9999;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), -EBADF);
	up.fds = (uint64_t)(uintptr_t)BAD_PTR;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), -EFAULT);
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
}

static void test_buffer_unmapped_later(void **state)
{
	char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int p[2];
	struct io_uring_cqe cqe;

	(void)state;
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(pipe(p), 0);
	/* Good when submitted, gone when the data comes. */
	tr_prep(&ring, IORING_OP_READ, p[0], map, 16, 0, 3);
	assert_int_equal(tr_submit(&ring), 1);
	munmap(map, 8192);
	assert_int_equal(write(p[1], buf, 16), 16);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.user_data, 3);
	assert_int_equal(cqe.res, -EFAULT);
	close(p[0]);
	close(p[1]);
}

static void test_partial_submission(void **state)
{
	struct io_uring_cqe cqe;

	(void)state;
	/* A bad SQE ends the batch, itself included; what follows it stays in the ring. */
	for (uint64_t i = 0; i < 4; i++)
		tr_prep(&ring, i == 1 ? 255 : IORING_OP_NOP, -1, NULL, 0, 0, i);
	assert_int_equal(tr_submit(&ring), 2);
	assert_int_equal(tr_ready(&ring), 2);
	assert_int_equal(tr_submit(&ring), 2);
	for (uint64_t i = 0; i < 4; i++) {
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.user_data, i);
		assert_int_equal(cqe.res, i == 1 ? -EINVAL : 0);
	}
	/* A bad descriptor is an error of the operation, not of the SQE. */
	for (uint64_t i = 0; i < 4; i++)
		tr_prep(&ring, i == 1 ? IORING_OP_READ : IORING_OP_NOP, -1, buf, 1, 0, i);
	assert_int_equal(tr_submit(&ring), 4);
	/* With less submitted than asked, it does not wait for what cannot come. */
	tr_prep(&ring, 255, -1, NULL, 0, 0, 1);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	assert_int_equal(tr_submit_wait(&ring, 2), 1);
	assert_int_equal(tr_submit(&ring), 1);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_fds),
	ON_RING(test_enter_flags),
	ON_RING(test_enter_argument),
	ON_RING(test_null_argument_any_size),
	ON_RING(test_timespec_values),
	ON_RING(test_opcodes),
	ON_RING(test_sqe_flags),
	ON_RING(test_request_fds),
	ON_RING(test_rw_pointers),
	ON_RING(test_refused_after_others),
	ON_RING(test_rw_modes),
	ON_RING(test_rw_flags),
	ON_RING(test_rw_flags_together),
	ON_RING(test_fixed_buffers),
	ON_RING(test_rw_attributes),
	ON_RING(test_sync),
	ON_RING(test_poll_fields),
	ON_RING(test_register_calls),
	ON_RING(test_files_update_args),
	ON_RING(test_buffer_unmapped_later),
	ON_RING(test_partial_submission),
};

TR_MAIN("bad_input", tests)
