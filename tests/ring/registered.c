/* What is registered with a ring: eventfds, the probe, and what lasts how long. */
#include "tests/ring_util.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

TR_ONE_RING(16);

/* What the eventfd counted since the last time; 0 if nothing. */
static uint64_t counted(int fd)
{
	eventfd_t v;

	return eventfd_read(fd, &v) == 0 ? v : 0;
}

static void test_eventfd(void **state)
{
	int ev = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct pollfd pfd = { .fd = ev, .events = POLLIN };
	int p[2];
	char c;

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_EVENTFD, &ev, 1), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_EVENTFD, &ev, 1), -EBUSY);
	assert_int_equal(counted(ev), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_true(counted(ev) >= 1);
	tr_prep(&ring, IORING_OP_READ, p[0], &c, 1, 0, 1);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(counted(ev), 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(poll(&pfd, 1, 10000), 1);
	assert_non_null(tr_peek(&ring));
	tr_seen(&ring);
	assert_true(counted(ev) >= 1);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_EVENTFD, NULL, 0), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_int_equal(counted(ev), 0);
	/* The ring holds its eventfd: the number may be something else by then. */
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_EVENTFD, &ev, 1), 0);
	int other = dup(ev);

	close(ev);
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_true(counted(other) >= 1);
	close(other);
	close(p[0]);
	close(p[1]);
}

static void test_eventfd_disabled(void **state)
{
	int ev = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	(void)state;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_EVENTFD, &ev, 1), 0);
	*ring.cq_flags = IORING_CQ_EVENTFD_DISABLED;
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_int_equal(counted(ev), 0);
	*ring.cq_flags = 0;
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_true(counted(ev) >= 1);
	close(ev);
}

static void test_eventfd_async(void **state)
{
	int ev = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct pollfd pfd = { .fd = ev, .events = POLLIN };
	int p[2];
	char c;

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_EVENTFD_ASYNC, &ev, 1), 0);
	/* What completes in the submission is known to the submitter. */
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_int_equal(counted(ev), 0);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1)->flags = IOSQE_ASYNC;
	assert_int_equal(tr_run(&ring, 1), 0);
	assert_int_equal(poll(&pfd, 1, 10000), 1);
	assert_true(counted(ev) >= 1);
	close(ev);
	close(p[0]);
	close(p[1]);
	(void)c;
}

static void test_probe(void **state)
{
	static const unsigned char needed[] = {
		IORING_OP_NOP,         IORING_OP_READV,       IORING_OP_WRITEV,
		IORING_OP_READ,        IORING_OP_WRITE,       IORING_OP_READ_FIXED,
		IORING_OP_WRITE_FIXED, IORING_OP_FSYNC,       IORING_OP_SYNC_FILE_RANGE,
		IORING_OP_POLL_ADD,    IORING_OP_POLL_REMOVE,
	};
	const size_t bytes = sizeof(struct io_uring_probe) + 256 * sizeof(struct io_uring_probe_op);
	struct io_uring_probe *probe = calloc(1, bytes);

	(void)state;
	assert_non_null(probe);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_PROBE, probe, 256), 0);
	assert_int_equal(probe->ops_len, probe->last_op + 1);
	for (size_t i = 0; i < sizeof(needed); i++) {
		assert_true(probe->ops_len > needed[i]);
		assert_int_equal(probe->ops[needed[i]].op, needed[i]);
		assert_int_equal(probe->ops[needed[i]].flags & IO_URING_OP_SUPPORTED,
		                 IO_URING_OP_SUPPORTED);
	}
	/* What it says that there is not, is refused; what it says there is, is not. */
	for (unsigned op = 0; op < 256; op++) {
		bool there = op < probe->ops_len && probe->ops[op].flags & IO_URING_OP_SUPPORTED;

		if (!there)
			assert_int_equal(tr_do(&ring, (int)op, -1, NULL, 0, 0), -EINVAL);
	}
	/* It has to come zeroed. */
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_PROBE, probe, 256), -EINVAL);
	memset(probe, 0, bytes);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_PROBE, NULL, 256), -EINVAL);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_PROBE, probe, 257), -EINVAL);
	/* A short one is filled as far as it goes. */
	memset(probe, 0, bytes);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_PROBE, probe, 2), 0);
	assert_int_equal(probe->ops[1].op, 1);
	assert_int_equal(probe->ops[2].flags, 0);
	free(probe);
}

static void test_sparse_files(void **state)
{
	int fds[100];
	struct io_uring_files_update up = { .offset = 10, .fds = (uint64_t)(uintptr_t)(fds + 10) };
	char c = 0;
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	for (int i = 0; i < 100; i++)
		fds[i] = -1;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, 100), 0);
	fds[10] = p[1];
	fds[11] = p[0];
	fds[12] = 9999;
	/* The third one is bad: two were done. */
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 3), 2);
	tr_prep(&ring, IORING_OP_WRITE, 10, "z", 1, 0, 1)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_run(&ring, 1), 1);
	tr_prep(&ring, IORING_OP_READ, 11, &c, 1, 0, 2)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_run(&ring, 2), 1);
	assert_int_equal(c, 'z');
	/* A request in flight on a file that leaves the table keeps it. */
	struct io_uring_cqe cqe;

	tr_prep(&ring, IORING_OP_READ, 11, &c, 1, 0, 3)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_submit(&ring), 1);
	fds[10] = -1;
	fds[11] = -1;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 2), 2);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_FILES, NULL, 0), 0);
	close(p[0]);
	assert_int_equal(write(p[1], "q", 1), 1);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.user_data, 3);
	assert_int_equal(cqe.res, 1);
	assert_int_equal(c, 'q');
	close(p[1]);
}

/* What happens to slots outside of the allocation range does not lead out of it. */
static void test_alloc_range(void **state)
{
	struct io_uring_file_index_range range = { .off = 4, .len = 4 };
	int fds[12], fd = STDERR_FILENO, none = -1;
	struct io_uring_files_update up = { .offset = 2, .fds = (uint64_t)(uintptr_t)&fd };

	(void)state;
	memset(fds, -1, sizeof(fds));
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, 12), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILE_ALLOC_RANGE, &range, 0), 0);
	/* Slot 2 filled and emptied, slot 9 filled. */
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), 1);
	up.fds = (uint64_t)(uintptr_t)&none;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), 1);
	assert_int_equal(tr_do(&ring, IORING_OP_FILES_UPDATE, -1, &fd, 1, IORING_FILE_INDEX_ALLOC),
	                 1);
	assert_int_equal(fd, 4);
	fd = STDERR_FILENO;
	up = (struct io_uring_files_update){ .offset = 9, .fds = (uint64_t)(uintptr_t)&fd };
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), 1);
	assert_int_equal(tr_do(&ring, IORING_OP_FILES_UPDATE, -1, &fd, 1, IORING_FILE_INDEX_ALLOC),
	                 1);
	assert_int_equal(fd, 5);
}

/* A descriptor that is none counts before there being no room. */
static void test_full_table(void **state)
{
	int fds[2] = { STDERR_FILENO, STDERR_FILENO }, fd = 4000;

	(void)state;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, 2), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_FILES_UPDATE, -1, &fd, 1, IORING_FILE_INDEX_ALLOC),
	                 -EBADF);
	fd = STDERR_FILENO;
	assert_int_equal(tr_do(&ring, IORING_OP_FILES_UPDATE, -1, &fd, 1, IORING_FILE_INDEX_ALLOC),
	                 -ENFILE);
}

static void test_many_files(void **state)
{
	enum { COUNT = 5000 };
	int *fds = malloc(COUNT * sizeof(int));
	struct rlimit lim;
	char buf[4];

	(void)state;
	assert_non_null(fds);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	if (lim.rlim_cur < COUNT)
		skip();
	fds[0] = tr_temp_file(4);
	for (int i = 1; i < COUNT; i++)
		fds[i] = fds[0];
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, COUNT), 0);
	tr_prep(&ring, IORING_OP_READ, COUNT - 1, buf, 4, 0, 1)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_run(&ring, 1), 4);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_FILES, NULL, 0), 0);
	close(fds[0]);
	free(fds);
}

static void test_many_buffers(void **state)
{
	enum { COUNT = 1000 };
	static char area[COUNT][16];
	struct iovec *iov = calloc(COUNT, sizeof(*iov));
	int fd = tr_temp_file(16);

	(void)state;
	assert_non_null(iov);
	for (int i = 0; i < COUNT; i++)
		iov[i] = (struct iovec){ area[i], 16 };
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, iov, COUNT), 0);
	free(iov);
	tr_prep(&ring, IORING_OP_READ_FIXED, fd, area[999], 16, 0, 1)->buf_index = 999;
	assert_int_equal(tr_run(&ring, 1), 16);
	assert_int_equal((unsigned char)area[999][15], tr_pattern(15));
	tr_prep(&ring, IORING_OP_READ_FIXED, fd, area[999], 16, 0, 2)->buf_index = 998;
	assert_int_equal(tr_run(&ring, 2), -EFAULT);
	close(fd);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_eventfd),      ON_RING(test_eventfd_disabled), ON_RING(test_eventfd_async),
	ON_RING(test_probe),        ON_RING(test_sparse_files),     ON_RING(test_many_files),
	ON_RING(test_many_buffers), ON_RING(test_alloc_range),      ON_RING(test_full_table),
};

TR_MAIN("registered", tests)
