/*
 * When a program's call has made a file ready for a request of the same thread, that request has
 * completed when the call returns. With DEFER_TASKRUN nothing completes before the next wait, but
 * the request has its event by then, and POLL_REMOVE comes too late.
 */
#include "tests/newer_ops.h"
#include "tests/ring_util.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROUNDS 200
#define BYTES  16
#define GROUP  3

static char buf[BYTES];

TR_RING_AND_ENDS(16, fds, pipe(fds));

/* Takes a CQE that has to be there. */
static int take_flags(uint64_t user_data, unsigned *flags)
{
	struct io_uring_cqe *cqe = tr_peek(&ring);
	int res;

	assert_non_null(cqe);
	assert_int_equal(cqe->user_data, user_data);
	res = cqe->res;
	*flags = cqe->flags;
	tr_seen(&ring);
	return res;
}

static int take(uint64_t user_data)
{
	unsigned flags;

	return take_flags(user_data, &flags);
}

static void test_read(void **state)
{
	(void)state;
	if (!tr_has_pipe_nowait())
		skip();
	for (int i = 0; i < ROUNDS; i++) {
		tr_prep(&ring, IORING_OP_READ, fds[0], buf, 4, 0, 1);
		assert_int_equal(tr_submit(&ring), 1);
		assert_null(tr_peek(&ring));
		assert_int_equal(write(fds[1], "abcd", 4), 4);
		assert_int_equal(take(1), 4);
	}
}

static void test_poll(void **state)
{
	uint64_t one = 1;
	int fd = eventfd(0, 0);

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		tr_prep(&ring, IORING_OP_POLL_ADD, fd, NULL, 0, 0, 1)->poll32_events = POLLIN;
		assert_int_equal(tr_submit(&ring), 1);
		assert_null(tr_peek(&ring));
		assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
		assert_int_equal(take(1), POLLIN);
		assert_int_equal(read(fd, &one, sizeof(one)), sizeof(one));
	}
	close(fd);
}

/* Buffers are given one by one. */
static void provide(void)
{
	tr_prep(&ring, IORING_OP_PROVIDE_BUFFERS, 1, buf, BYTES, 0, 9)->buf_group = GROUP;
	assert_int_equal(tr_run(&ring, 9), 0);
}

static void multishot(int op, int in, int out, unsigned flags)
{
	struct io_uring_sqe *sqe;
	unsigned cflags;

	provide();
	sqe = tr_prep(&ring, op, in, NULL, 0, 0, 1);
	sqe->ioprio = (uint16_t)flags;
	sqe->flags = IOSQE_BUFFER_SELECT;
	sqe->buf_group = GROUP;
	assert_int_equal(tr_submit(&ring), 1);
	for (int i = 0; i < ROUNDS; i++) {
		assert_null(tr_peek(&ring));
		assert_int_equal(write(out, "xyz", 3), 3);
		assert_int_equal(take_flags(1, &cflags), 3);
		assert_true(cflags & IORING_CQE_F_MORE);
		provide();
	}
}

static void test_multishot(void **state)
{
	int sv[2];

	(void)state;
	multishot(OP_READ_MULTISHOT, fds[0], fds[1], 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	multishot(IORING_OP_RECV, sv[0], sv[1], IORING_RECV_MULTISHOT);
	close(sv[0]);
	close(sv[1]);
}

/* What ends a stream is an event, too. */
static void test_ends(void **state)
{
	int sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	tr_prep(&ring, IORING_OP_RECV, sv[0], buf, BYTES, 0, 1);
	tr_prep(&ring, IORING_OP_READ, fds[0], buf, BYTES, 0, 2);
	assert_int_equal(tr_submit(&ring), 2);
	assert_null(tr_peek(&ring));
	assert_int_equal(shutdown(sv[1], SHUT_WR), 0);
	assert_int_equal(take(1), 0);
	assert_int_equal(close(fds[1]), 0);
	fds[1] = -1;
	if (tr_has_pipe_nowait())
		assert_int_equal(take(2), 0);
	else
		tr_expect(&ring, 2, 0, 0);
	close(sv[0]);
	close(sv[1]);
}

/* Others' requests are others' business, but these calls may be made anywhere. */
static void *write_there(void *arg)
{
	(void)arg;
	assert_int_equal(write(fds[1], "abcd", 4), 4);
	return NULL;
}

static void test_other_thread(void **state)
{
	pthread_t thread;

	(void)state;
	tr_prep(&ring, IORING_OP_READ, fds[0], buf, 4, 0, 1);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(pthread_create(&thread, NULL, write_there, NULL), 0);
	tr_expect(&ring, 1, 4, 0);
	pthread_join(thread, NULL);
}

/* The event came first, even if nobody could see the write. Somebody may be at it already. */
static void test_removed_late(void **state)
{
	struct io_uring_cqe cqe;

	(void)state;
	for (int update = 0; update < 2; update++) {
		tr_prep(&ring, IORING_OP_POLL_ADD, fds[0], NULL, 0, 0, 1)->poll32_events = POLLIN;
		assert_int_equal(tr_submit(&ring), 1);
		assert_int_equal(syscall(SYS_write, fds[1], "x", 1), 1);
		tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)1,
		        update ? IORING_POLL_UPDATE_EVENTS : 0, 0, 2)
		        ->poll32_events = update ? POLLPRI : 0;
		assert_int_equal(tr_submit(&ring), 1);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(tr_wait(&ring, &cqe), 0);
			if (cqe.user_data == 1)
				assert_int_equal(cqe.res, POLLIN);
			else
				assert_true(cqe.res == -ENOENT || cqe.res == -EALREADY);
		}
		assert_int_equal(read(fds[0], buf, 1), 1);
	}
}

/* Of several requests the last one is served first; those that got nothing wait anew, in turn. */
static void test_order(void **state)
{
	static const unsigned order[] = { 3, 1, 2 };
	int sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	for (int socket = !tr_has_pipe_nowait(); socket < 2; socket++) {
		for (unsigned i = 1; i <= 3; i++)
			tr_prep(&ring, socket ? IORING_OP_RECV : IORING_OP_READ,
			        socket ? sv[0] : fds[0], buf + i, 1, 0, i);
		assert_int_equal(tr_submit(&ring), 3);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(write(socket ? sv[1] : fds[1], "x", 1), 1);
			tr_expect(&ring, order[i], 1, 0);
		}
	}
	close(sv[0]);
	close(sv[1]);
}

/* ---- DEFER_TASKRUN ---- */

/* Arms a poll of an eventfd, has it become ready, and submits what comes too late for that. */
static int late(int op, unsigned multi, unsigned flags)
{
	uint64_t one = 1;
	int fd = eventfd(0, EFD_NONBLOCK);

	tr_prep(&ring, IORING_OP_POLL_ADD, fd, NULL, multi, 0, 1)->poll32_events = POLLIN;
	assert_int_equal(tr_submit(&ring), 1);
	if (tr_entry == TR_LIBC)
		assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
	else
		assert_int_equal(syscall(SYS_write, fd, &one, sizeof(one)), sizeof(one));
	tr_prep(&ring, op, -1, (void *)1, flags, 0, 2)->poll32_events =
	        flags & IORING_POLL_UPDATE_EVENTS ? POLLOUT : 0;
	assert_int_equal(tr_submit(&ring), 1);
	return fd;
}

static void test_remove_late(void **state)
{
	static const unsigned flags[] = { 0, IORING_POLL_UPDATE_EVENTS };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		close(late(IORING_OP_POLL_REMOVE, 0, flags[i]));
		tr_expect(&ring, 2, -EALREADY, 0);
		tr_expect(&ring, 1, POLLIN, 0);
	}
}

static void test_remove_late_multishot(void **state)
{
	int fd;

	(void)state;
	fd = late(IORING_OP_POLL_REMOVE, IORING_POLL_ADD_MULTI, 0);
	tr_expect(&ring, 2, -EALREADY, 0);
	tr_expect(&ring, 1, POLLIN, IORING_CQE_F_MORE);
	/* It goes on. */
	tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)1, 0, 0, 2);
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 2, 0, 0);
	tr_expect(&ring, 1, -ECANCELED, 0);
	close(fd);
}

/* ASYNC_CANCEL is another matter: what has not been told yet is cancelled. */
static void test_cancel_late(void **state)
{
	(void)state;
	close(late(IORING_OP_ASYNC_CANCEL, 0, 0));
	tr_expect(&ring, 2, 0, 0);
	tr_expect(&ring, 1, -ECANCELED, 0);
	close(late(IORING_OP_ASYNC_CANCEL, IORING_POLL_ADD_MULTI, 0));
	tr_expect(&ring, 2, 0, 0);
	tr_expect(&ring, 1, -ECANCELED, 0);
}

/* Nothing is told; the poll goes on, until there is something to read again. */
static void expect_gone(unsigned flags)
{
	assert_int_equal(tr_sys_enter(ring.fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0), 0);
	assert_int_equal(tr_ready(&ring), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	tr_expect(&ring, 1, POLLIN, flags);
	assert_int_equal(read(fds[0], buf, 1), 1);
}

/* An event that somebody wanted to remove is told only if it is still true. */
static void test_remove_gone(void **state)
{
	static const unsigned flags[] = { 0, IORING_POLL_UPDATE_EVENTS };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		unsigned multi = i & 1 ? IORING_POLL_ADD_MULTI : 0;

		tr_prep(&ring, IORING_OP_POLL_ADD, fds[0], NULL, multi, 0, 1)->poll32_events =
		        POLLIN;
		assert_int_equal(tr_submit(&ring), 1);
		assert_int_equal(write(fds[1], "x", 1), 1);
		assert_int_equal(read(fds[0], buf, 1), 1);
		tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)1, flags[i / 2], 0, 2)
		        ->poll32_events = i / 2 ? POLLOUT : 0;
		assert_int_equal(tr_submit(&ring), 1);
		tr_expect(&ring, 2, -EALREADY, 0);
		expect_gone(multi ? IORING_CQE_F_MORE : 0);
		if (!multi)
			continue;
		tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)1, 0, 0, 2);
		assert_int_equal(tr_submit(&ring), 1);
		tr_expect(&ring, 2, 0, 0);
		tr_expect(&ring, 1, -ECANCELED, 0);
	}
}

/* Of one event the poll tells in any case, of several what is left of them. */
static void test_several_gone(void **state)
{
	(void)state;
	tr_prep(&ring, IORING_OP_POLL_ADD, fds[0], NULL, IORING_POLL_ADD_MULTI, 0, 1)
	        ->poll32_events = POLLIN;
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(read(fds[0], buf, 1), 1);
	tr_expect(&ring, 1, POLLIN, IORING_CQE_F_MORE);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(write(fds[1], "x", 1), 1);
		assert_int_equal(read(fds[0], buf, 1), 1);
	}
	expect_gone(IORING_CQE_F_MORE);
}

static void test_cancel_read_late(void **state)
{
	char c;

	(void)state;
	tr_prep(&ring, IORING_OP_READ, fds[0], buf, 4, 0, 1);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(write(fds[1], "x", 1), 1);
	tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)1, 0, 0, 2);
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 2, 0, 0);
	tr_expect(&ring, 1, -ECANCELED, 0);
	assert_int_equal(read(fds[0], &c, 1), 1);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_read),         ON_RING(test_poll),
	ON_RING(test_multishot),    ON_RING(test_ends),
	ON_RING(test_other_thread), ON_RING(test_removed_late),
	DEFERRED(test_remove_late), DEFERRED(test_remove_late_multishot),
	DEFERRED(test_cancel_late), DEFERRED(test_cancel_read_late),
	DEFERRED(test_remove_gone), DEFERRED(test_several_gone),
	ON_RING(test_order),        DEFERRED(test_order),
};

TR_MAIN("armed", tests)
