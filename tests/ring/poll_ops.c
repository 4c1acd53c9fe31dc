/* POLL_ADD and POLL_REMOVE: events, files that cannot be polled, removal, many at once. */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

TR_ONE_RING(64);

static void prep_poll(int fd, unsigned events, uint64_t user_data)
{
	tr_prep(&ring, IORING_OP_POLL_ADD, fd, NULL, 0, 0, user_data)->poll32_events = events;
}

static void expect(uint64_t user_data, int res)
{
	tr_expect(&ring, user_data, res, 0);
}

static void test_ready_at_once(void **state)
{
	int p[2];
	int fd = tr_temp_file(10);

	(void)state;
	assert_int_equal(pipe(p), 0);
	prep_poll(p[1], POLLOUT, 1);
	assert_int_equal(tr_submit(&ring), 1);
	expect(1, POLLOUT);
	assert_int_equal(write(p[1], "x", 1), 1);
	prep_poll(p[0], POLLIN, 2);
	assert_int_equal(tr_submit(&ring), 1);
	expect(2, POLLIN);
	/* A regular file has no poll of its own, and is ready for all. */
	prep_poll(fd, POLLIN | POLLOUT, 3);
	assert_int_equal(tr_submit(&ring), 1);
	expect(3, POLLIN | POLLOUT);
	close(fd);
	close(p[0]);
	close(p[1]);
}

static void test_waits_once(void **state)
{
	struct io_uring_cqe cqe;
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	prep_poll(p[0], POLLIN, 1);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 20), -ETIME);
	assert_int_equal(write(p[1], "x", 1), 1);
	expect(1, POLLIN);
	/* Once is once. */
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 20), -ETIME);
	close(p[0]);
	close(p[1]);
}

static void test_hang_up(void **state)
{
	int p[2], s[2];

	(void)state;
	/* POLLHUP and POLLERR come unasked. */
	assert_int_equal(pipe(p), 0);
	prep_poll(p[0], POLLIN, 1);
	assert_int_equal(tr_submit(&ring), 1);
	close(p[1]);
	expect(1, POLLHUP);
	close(p[0]);
	assert_int_equal(pipe(p), 0);
	close(p[0]);
	prep_poll(p[1], POLLOUT, 2);
	assert_int_equal(tr_submit(&ring), 1);
	expect(2, POLLOUT | POLLERR);
	close(p[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	prep_poll(s[0], POLLIN | POLLRDHUP, 3);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(shutdown(s[1], SHUT_WR), 0);
	expect(3, POLLIN | POLLRDHUP);
	close(s[0]);
	close(s[1]);
}

static void test_remove(void **state)
{
	struct io_uring_cqe cqe;
	int p[2];
	int found = 0;

	(void)state;
	assert_int_equal(pipe(p), 0);
	prep_poll(p[0], POLLIN, 17);
	assert_int_equal(tr_submit(&ring), 1);
	tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)(uintptr_t)17, 0, 0, 18);
	assert_int_equal(tr_submit(&ring), 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		if (cqe.user_data == 17)
			assert_int_equal(cqe.res, -ECANCELED);
		else
			assert_int_equal(cqe.res, 0);
		found += (int)cqe.user_data;
	}
	assert_int_equal(found, 35);
	tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)(uintptr_t)17, 0, 0, 19);
	assert_int_equal(tr_submit(&ring), 1);
	expect(19, -ENOENT);
	/* A read that waits on a pipe is no poll request. */
	char c;

	tr_prep(&ring, IORING_OP_READ, p[0], &c, 1, 0, 20);
	tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)(uintptr_t)20, 0, 0, 21);
	assert_int_equal(tr_submit(&ring), 2);
	expect(21, -ENOENT);
	assert_int_equal(write(p[1], "x", 1), 1);
	expect(20, 1);
	close(p[0]);
	close(p[1]);
}

static void test_same_file_many_times(void **state)
{
	struct io_uring_cqe cqe;
	uint64_t mask = 0;
	int fd = eventfd(0, EFD_CLOEXEC);

	(void)state;
	for (unsigned i = 0; i < 32; i++)
		prep_poll(fd, POLLIN, i);
	assert_int_equal(tr_submit(&ring), 32);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 20), -ETIME);
	assert_int_equal(eventfd_write(fd, 1), 0);
	for (unsigned i = 0; i < 32; i++) {
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.res, POLLIN);
		mask |= 1ull << cqe.user_data;
	}
	assert_int_equal(mask, 0xffffffffull);
	close(fd);
}

static void test_in_and_out_apart(void **state)
{
	int s[2];
	char fill[4096] = { 0 };

	(void)state;
	/* One file, one request for each direction: each has its own time. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
	while (write(s[0], fill, sizeof(fill)) > 0)
		;
	prep_poll(s[0], POLLIN, 1);
	prep_poll(s[0], POLLOUT, 2);
	assert_int_equal(tr_submit(&ring), 2);
	assert_null(tr_peek(&ring));
	assert_int_equal(write(s[1], "x", 1), 1);
	expect(1, POLLIN);
	while (read(s[1], fill, sizeof(fill)) > 0)
		;
	expect(2, POLLOUT);
	close(s[0]);
	close(s[1]);
}

static void test_closed_while_polled(void **state)
{
	int p[2];

	(void)state;
	/* The request holds the file: its data still comes when the number is gone. */
	assert_int_equal(pipe(p), 0);
	prep_poll(p[0], POLLIN, 1);
	assert_int_equal(tr_submit(&ring), 1);
	close(p[0]);
	assert_int_equal(write(p[1], "x", 1), 1);
	expect(1, POLLIN);
	close(p[1]);
}

/* Which flags there are: IORING_POLL_ADD_LEVEL (8) has a number only. */
static void test_flags(void **state)
{
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	for (unsigned flags = 0; flags < 10; flags++) {
		if (flags == IORING_POLL_ADD_MULTI)
			continue;
		tr_prep(&ring, IORING_OP_POLL_ADD, p[0], NULL, flags, 0, flags)->poll32_events =
		        POLLIN;
		assert_int_equal(tr_submit(&ring), 1);
		expect(flags, flags ? -EINVAL : POLLIN);
		tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)77, flags, 0, flags);
		assert_int_equal(tr_submit(&ring), 1);
		expect(flags, flags < 8 ? -ENOENT : -EINVAL);
	}
	close(p[0]);
	close(p[1]);
}

/* New events leave a poll what it was: one-shot or multishot, whatever else the update says. */
static void test_update_keeps_kind(void **state)
{
	uint64_t one = 1;

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		unsigned multi = i & 1 ? IORING_POLL_ADD_MULTI : 0;
		unsigned says = i & 2 ? IORING_POLL_ADD_MULTI : 0;
		bool ready = i & 4;
		int fd = eventfd(0, EFD_NONBLOCK);

		tr_prep(&ring, IORING_OP_POLL_ADD, fd, NULL, multi, 0, 1)->poll32_events = POLLPRI;
		if (ready)
			assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
		tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)1,
		        IORING_POLL_UPDATE_EVENTS | says, 0, 2)
		        ->poll32_events = POLLIN;
		assert_int_equal(tr_submit(&ring), 2);
		expect(2, 0);
		if (!ready)
			assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
		tr_expect(&ring, 1, POLLIN, multi ? IORING_CQE_F_MORE : 0);
		if (multi) {
			assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
			tr_expect(&ring, 1, POLLIN, IORING_CQE_F_MORE);
			tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)1, 0, 0, 2);
			assert_int_equal(tr_submit(&ring), 1);
			expect(2, 0);
			expect(1, -ECANCELED);
		}
		close(fd);
	}
}

/* epoll's flag for once counts for more than IORING_POLL_ADD_MULTI. */
static void test_multishot_once(void **state)
{
	uint64_t one = 1;
	int fd = eventfd(0, EFD_NONBLOCK);

	(void)state;
	tr_prep(&ring, IORING_OP_POLL_ADD, fd, NULL, IORING_POLL_ADD_MULTI, 0, 1)->poll32_events =
	        POLLIN | EPOLLONESHOT;
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
	expect(1, POLLIN);
	close(fd);
}

/* That the other side writes no more is told without being asked for. */
static void test_half_closed(void **state)
{
	int s[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	prep_poll(s[0], POLLIN, 1);
	assert_int_equal(tr_submit(&ring), 1);
	prep_poll(s[0], POLLPRI, 2);
	assert_int_equal(tr_submit(&ring), 1);
	tr_prep(&ring, IORING_OP_POLL_ADD, s[0], NULL, IORING_POLL_ADD_MULTI, 0, 3)->poll32_events =
	        POLLIN;
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(shutdown(s[1], SHUT_WR), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.res, cqe.user_data == 2 ? POLLRDHUP : POLLIN | POLLRDHUP);
		assert_int_equal(cqe.flags, cqe.user_data == 3 ? IORING_CQE_F_MORE : 0);
	}
	/* And at once when it is so already. */
	prep_poll(s[0], POLLOUT, 4);
	assert_int_equal(tr_submit(&ring), 1);
	expect(4, POLLOUT | POLLRDHUP);
	close(s[0]);
	close(s[1]);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_ready_at_once),
	ON_RING(test_waits_once),
	ON_RING(test_hang_up),
	ON_RING(test_remove),
	ON_RING(test_same_file_many_times),
	ON_RING(test_in_and_out_apart),
	ON_RING(test_closed_while_polled),
	ON_RING(test_flags),
	ON_RING(test_half_closed),
	ON_RING(test_update_keeps_kind),
	ON_RING(test_multishot_once),
};

TR_MAIN("poll_ops", tests)
