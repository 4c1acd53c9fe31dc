/*
 * Links, drains and forced asynchrony: the order in which requests of one ring
 * run, and what becomes of the rest of a chain that breaks.
 */
#include "tests/ring_util.h"
#include "tests/newer_ops.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

TR_ONE_RING(32);
static char buf[4096];

static void prep_nop(uint64_t user_data, unsigned flags)
{
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, user_data)->flags = (uint8_t)flags;
}

static void expect(uint64_t user_data, int res)
{
	struct io_uring_cqe cqe;

	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.user_data, user_data);
	assert_int_equal(cqe.res, res);
}

static void test_chain_in_order(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 10; i++)
		prep_nop(i, i < 9 ? IOSQE_IO_LINK : 0);
	assert_int_equal(tr_submit_wait(&ring, 10), 10);
	for (uint64_t i = 0; i < 10; i++)
		expect(i, 0);
}

static void test_write_then_read(void **state)
{
	int fd = tr_temp_file(0);

	(void)state;
	/* The read runs after the write, or it reads nothing. */
	for (unsigned flags = 0; flags <= IOSQE_ASYNC; flags += IOSQE_ASYNC) {
		assert_int_equal(ftruncate(fd, 0), 0);
		memset(buf, 0, sizeof(buf));
		tr_prep(&ring, IORING_OP_WRITE, fd, "data", 4, 0, 1)->flags =
		        (uint8_t)(IOSQE_IO_LINK | flags);
		tr_prep(&ring, IORING_OP_FSYNC, fd, NULL, 0, 0, 2)->flags =
		        (uint8_t)(IOSQE_IO_LINK | flags);
		tr_prep(&ring, IORING_OP_READ, fd, buf, 4, 0, 3)->flags = (uint8_t)flags;
		assert_int_equal(tr_submit_wait(&ring, 3), 3);
		expect(1, 4);
		expect(2, 0);
		expect(3, 4);
		assert_memory_equal(buf, "data", 4);
	}
	close(fd);
}

static void test_error_breaks(void **state)
{
	(void)state;
	prep_nop(1, IOSQE_IO_LINK);
	tr_prep(&ring, IORING_OP_READ, -1, buf, 4, 0, 2)->flags = IOSQE_IO_LINK;
	prep_nop(3, IOSQE_IO_LINK);
	prep_nop(4, 0);
	prep_nop(5, 0);
	assert_int_equal(tr_submit_wait(&ring, 5), 5);
	/* Those outside the chain are not held up; the chain has its own order. */
	unsigned at[6] = { 0 };
	int res[6] = { 0 };

	for (unsigned i = 1; i <= 5; i++) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_in_range(cqe.user_data, 1, 5);
		at[cqe.user_data] = i;
		res[cqe.user_data] = cqe.res;
	}
	assert_int_equal(res[1], 0);
	assert_int_equal(res[2], -EBADF);
	assert_int_equal(res[3], -ECANCELED);
	assert_int_equal(res[4], -ECANCELED);
	assert_int_equal(res[5], 0);
	assert_true(at[1] < at[2] && at[2] < at[3] && at[3] < at[4]);
}

static void test_short_read_breaks(void **state)
{
	int fd = tr_temp_file(100);

	(void)state;
	tr_prep(&ring, IORING_OP_READ, fd, buf, 200, 0, 1)->flags = IOSQE_IO_LINK;
	prep_nop(2, 0);
	assert_int_equal(tr_submit_wait(&ring, 2), 2);
	expect(1, 100);
	expect(2, -ECANCELED);
	/* A hard link does not care. */
	tr_prep(&ring, IORING_OP_READ, fd, buf, 200, 0, 1)->flags = IOSQE_IO_HARDLINK;
	prep_nop(2, 0);
	assert_int_equal(tr_submit_wait(&ring, 2), 2);
	expect(1, 100);
	expect(2, 0);
	tr_prep(&ring, IORING_OP_READ, -1, buf, 200, 0, 1)->flags = IOSQE_IO_HARDLINK;
	prep_nop(2, 0);
	assert_int_equal(tr_submit_wait(&ring, 2), 2);
	expect(1, -EBADF);
	expect(2, 0);
	close(fd);
}

static void test_bad_sqe_in_chain(void **state)
{
	(void)state;
	/* An SQE that is refused takes the whole chain with it, what came before included. */
	prep_nop(1, IOSQE_IO_LINK);
	tr_prep(&ring, 255, -1, NULL, 0, 0, 2)->flags = IOSQE_IO_LINK;
	prep_nop(3, 0);
	assert_int_equal(tr_submit(&ring), 3);
	expect(1, -ECANCELED);
	expect(2, -EINVAL);
	expect(3, -ECANCELED);
}

static void test_link_ends_with_batch(void **state)
{
	(void)state;
	prep_nop(1, IOSQE_IO_LINK);
	assert_int_equal(tr_submit(&ring), 1);
	expect(1, 0);
	prep_nop(2, 0);
	assert_int_equal(tr_submit(&ring), 1);
	expect(2, 0);
}

static void test_link_waits_for_pipe(void **state)
{
	struct io_uring_cqe cqe;
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	tr_prep(&ring, IORING_OP_READ, p[0], buf, 3, 0, 1)->flags = IOSQE_IO_LINK;
	prep_nop(2, IOSQE_IO_LINK);
	prep_nop(3, 0);
	prep_nop(4, 0);
	assert_int_equal(tr_submit(&ring), 4);
	expect(4, 0);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 20), -ETIME);
	assert_int_equal(write(p[1], "abc", 3), 3);
	expect(1, 3);
	expect(2, 0);
	expect(3, 0);
	close(p[0]);
	close(p[1]);
}

static void test_drain(void **state)
{
	struct io_uring_cqe cqe;
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	tr_prep(&ring, IORING_OP_READ, p[0], buf, 3, 0, 1);
	prep_nop(2, 0);
	prep_nop(3, IOSQE_IO_DRAIN);
	prep_nop(4, 0);
	assert_int_equal(tr_submit(&ring), 4);
	expect(2, 0);
	/* The drain waits for all before it, and all after it wait for the drain. */
	assert_int_equal(tr_wait_ms(&ring, &cqe, 20), -ETIME);
	prep_nop(5, 0);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 20), -ETIME);
	assert_int_equal(write(p[1], "abc", 3), 3);
	expect(1, 3);
	expect(3, 0);
	expect(4, 0);
	expect(5, 0);
	/* Once drained, all is as before. */
	tr_prep(&ring, IORING_OP_READ, p[0], buf, 3, 0, 6);
	prep_nop(7, 0);
	assert_int_equal(tr_submit(&ring), 2);
	expect(7, 0);
	assert_int_equal(write(p[1], "abc", 3), 3);
	expect(6, 3);
	close(p[0]);
	close(p[1]);
}

static void test_drain_with_link(void **state)
{
	struct io_uring_cqe cqe;
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	tr_prep(&ring, IORING_OP_READ, p[0], buf, 3, 0, 1);
	prep_nop(2, IOSQE_IO_DRAIN | IOSQE_IO_LINK);
	prep_nop(3, 0);
	assert_int_equal(tr_submit(&ring), 3);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 20), -ETIME);
	assert_int_equal(write(p[1], "abc", 3), 3);
	expect(1, 3);
	expect(2, 0);
	expect(3, 0);
	close(p[0]);
	close(p[1]);
}

static void test_async(void **state)
{
	struct io_uring_cqe cqe;
	unsigned done = 0;
	int fd = tr_temp_file(4096);
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 0)->flags = IOSQE_ASYNC;
	tr_prep(&ring, IORING_OP_READ, fd, buf, 100, 0, 1)->flags = IOSQE_ASYNC;
	tr_prep(&ring, IORING_OP_WRITE, fd, buf, 100, 0, 2)->flags = IOSQE_ASYNC;
	tr_prep(&ring, IORING_OP_FSYNC, fd, NULL, 0, 0, 3)->flags = IOSQE_ASYNC;
	tr_prep(&ring, IORING_OP_READ, p[0], buf + 200, 3, 0, 4)->flags = IOSQE_ASYNC;
	assert_int_equal(tr_submit_wait(&ring, 4), 5);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.res, (cqe.user_data == 1 || cqe.user_data == 2) ? 100 : 0);
		done |= 1u << cqe.user_data;
	}
	assert_int_equal(done, 0xf);
	assert_int_equal(write(p[1], "abc", 3), 3);
	expect(4, 3);
	close(p[0]);
	close(p[1]);
	close(fd);
}

/* What these fail with is a result like any other, unless there is no file at all. */
static void test_sync_breaks_nothing(void **state)
{
	const int ops[] = { IORING_OP_FSYNC, IORING_OP_SYNC_FILE_RANGE, IORING_OP_FALLOCATE };
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	for (unsigned i = 0; i < 6; i++) {
		struct io_uring_cqe cqe;

		tr_prep(&ring, ops[i % 3], i < 3 ? p[0] : 9999, NULL, 0, 0, 1)->flags =
		        IOSQE_IO_LINK;
		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2);
		assert_int_equal(tr_submit(&ring), 2);
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.user_data, 1);
		assert_true(cqe.res < 0);
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.user_data, 2);
		assert_int_equal(cqe.res, i < 3 ? 0 : -ECANCELED);
	}
	close(p[0]);
	close(p[1]);
}

/*
 * Of a failure the kernel makes a result like any other where a request is for names, attributes or
 * the end of a connection: the link goes on, and where success is silent so is this.
 */
static void test_names_break_nothing(void **state)
{
	const int no_dir = 9999, fd = tr_temp_file(8);
	const char none[] = "links.none", also[] = "links.also", attr[] = "user.links";
	int s[2];
	const struct io_uring_sqe cases[] = {
		{ .opcode = IORING_OP_STATX, .fd = AT_FDCWD, .off = (uintptr_t)buf },
		{ .opcode = IORING_OP_RENAMEAT,
		  .fd = AT_FDCWD,
		  .off = (uintptr_t)also,
		  .len = (unsigned)AT_FDCWD },
		{ .opcode = IORING_OP_UNLINKAT, .fd = AT_FDCWD },
		{ .opcode = IORING_OP_UNLINKAT, .fd = no_dir },
		{ .opcode = IORING_OP_MKDIRAT, .fd = no_dir },
		{ .opcode = IORING_OP_SYMLINKAT, .fd = no_dir, .off = (uintptr_t)also },
		{ .opcode = IORING_OP_LINKAT,
		  .fd = AT_FDCWD,
		  .off = (uintptr_t)also,
		  .len = (unsigned)AT_FDCWD },
		{ .opcode = IORING_OP_GETXATTR,
		  .addr = (uintptr_t)attr,
		  .off = (uintptr_t)buf,
		  .len = 8,
		  .addr3 = (uintptr_t)none },
		{ .opcode = IORING_OP_FGETXATTR,
		  .fd = fd,
		  .addr = (uintptr_t)attr,
		  .off = (uintptr_t)buf,
		  .len = 8 },
		{ .opcode = IORING_OP_SHUTDOWN, .len = 7 },
	};

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	for (unsigned i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		bool silent = i & 1;
		struct io_uring_sqe *sqe;
		struct io_uring_cqe cqe;

		if (!tr_has_op(&ring, cases[i / 2].opcode))
			continue;
		sqe = tr_sqe(&ring);
		*sqe = cases[i / 2];
		sqe->flags = IOSQE_IO_LINK | (silent ? IOSQE_CQE_SKIP_SUCCESS : 0);
		sqe->user_data = 1;
		if (!sqe->addr && sqe->opcode != IORING_OP_SHUTDOWN)
			sqe->addr = (uintptr_t)none;
		if (sqe->opcode == IORING_OP_SHUTDOWN)
			sqe->fd = s[0];
		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2);
		assert_int_equal(tr_submit(&ring), 2);
		if (!silent) {
			assert_int_equal(tr_wait(&ring, &cqe), 0);
			assert_int_equal(cqe.user_data, 1);
			assert_true(cqe.res < 0);
		}
		expect(2, 0);
	}
	/* No socket at all is another matter. */
	tr_prep(&ring, IORING_OP_SHUTDOWN, fd, NULL, 2, 0, 1)->flags = IOSQE_IO_LINK;
	prep_nop(2, 0);
	assert_int_equal(tr_submit(&ring), 2);
	expect(1, -ENOTSOCK);
	expect(2, -ECANCELED);
	close(s[0]);
	close(s[1]);
	close(fd);
}

/* In an open link it comes to a worker, which waits for no events. */
static void test_epoll_wait_in_link(void **state)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);

	(void)state;
	if (!tr_has_op(&ring, OP_EPOLL_WAIT))
		skip();
	tr_prep(&ring, OP_EPOLL_WAIT, ep, buf, 1, 0, 1)->flags = IOSQE_IO_LINK;
	assert_int_equal(tr_submit(&ring), 1);
	expect(1, -EAGAIN);
	close(ep);
}

/* A cancellation on a worker that names itself finds itself running. */
static void test_cancels_itself(void **state)
{
	(void)state;
	tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)7, 0, 0, 7);
	assert_int_equal(tr_run(&ring, 7), -ENOENT);
	tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)7, 0, 0, 7)->flags = IOSQE_ASYNC;
	assert_int_equal(tr_run(&ring, 7), -EALREADY);
}

static void test_many_async_on_pipes(void **state)
{
	int p[16][2];
	struct io_uring_cqe cqe;
	unsigned done = 0;

	(void)state;
	/* More requests that block than there are workers: none holds the others up. */
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(pipe(p[i]), 0);
		tr_prep(&ring, IORING_OP_READ, p[i][0], buf + i, 1, 0, i)->flags = IOSQE_ASYNC;
	}
	assert_int_equal(tr_submit(&ring), 16);
	for (unsigned i = 16; i-- > 0;) {
		assert_int_equal(write(p[i][1], "x", 1), 1);
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.user_data, i);
		assert_int_equal(cqe.res, 1);
		done |= 1u << i;
	}
	assert_int_equal(done, 0xffff);
	for (unsigned i = 0; i < 16; i++) {
		close(p[i][0]);
		close(p[i][1]);
	}
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_chain_in_order),      ON_RING(test_write_then_read),
	ON_RING(test_error_breaks),        ON_RING(test_short_read_breaks),
	ON_RING(test_bad_sqe_in_chain),    ON_RING(test_link_ends_with_batch),
	ON_RING(test_link_waits_for_pipe), ON_RING(test_drain),
	ON_RING(test_drain_with_link),     ON_RING(test_async),
	ON_RING(test_cancels_itself),      ON_RING(test_sync_breaks_nothing),
	ON_RING(test_many_async_on_pipes), ON_RING(test_names_break_nothing),
	ON_RING(test_epoll_wait_in_link),
};

TR_MAIN("links", tests)
