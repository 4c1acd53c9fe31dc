/*
 * Many requests of a ring that wait for one file: whom its events reach, in which order, and that
 * none is lost, whatever else becomes of the requests and the file's name.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define MANY     24U
#define MESSAGES 6000U
#define LONG_MS  10000

static char bufs[MANY][8];

TR_RING_AND_ENDS(64, sv, socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));

static void add_recv(int fd, uint64_t user_data)
{
	tr_prep(&ring, IORING_OP_RECV, fd, bufs[user_data], sizeof(bufs[0]), 0, user_data);
}

static void add_poll(int fd, unsigned events, uint64_t user_data)
{
	tr_prep(&ring, IORING_OP_POLL_ADD, fd, NULL, 0, 0, user_data)->poll32_events = events;
}

static void submit(unsigned n)
{
	assert_int_equal(tr_submit(&ring), (int)n);
}

/* user_data of the next completion, which is to have that result. */
static uint64_t next(int res)
{
	struct io_uring_cqe cqe;

	assert_int_equal(tr_wait_ms(&ring, &cqe, LONG_MS), 0);
	assert_int_equal(cqe.res, res);
	return cqe.user_data;
}

static void expect_none(void)
{
	struct io_uring_cqe cqe;

	assert_int_equal(tr_wait_ms(&ring, &cqe, 30), -ETIME);
}

static void cancel(uint64_t user_data)
{
	tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)(uintptr_t)user_data, 0, 0, 100);
	submit(1);
	for (int i = 0; i < 2; i++) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait_ms(&ring, &cqe, LONG_MS), 0);
		assert_true(cqe.user_data == 100 || cqe.user_data == user_data);
		assert_int_equal(cqe.res, cqe.user_data == 100 ? 0 : -ECANCELED);
	}
}

/*
 * The last one that came is the first to be told; those that find nothing wait anew. With deferred
 * task work all of them have done so before anybody can see the completion.
 */
static void test_order(void **state)
{
	static const uint64_t order[] = { 3, 0, 2, 1 };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		add_recv(sv[0], i);
		submit(1);
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(write(sv[1], "x", 1), 1);
		assert_int_equal(next(1), order[i]);
	}
	expect_none();
}

/* One that goes on stays where it is; those that have waited anew come before it then. */
static void test_order_with_multishot(void **state)
{
	static char pool[8][8];
	struct io_uring_sqe *sqe;

	(void)state;
	tr_prep(&ring, IORING_OP_PROVIDE_BUFFERS, 8, pool, 1, 0, 9)->buf_group = 3;
	assert_int_equal(tr_run(&ring, 9), 0);
	add_recv(sv[0], 1);
	add_recv(sv[0], 2);
	sqe = tr_prep(&ring, IORING_OP_RECV, sv[0], NULL, 0, 0, 3);
	sqe->flags = IOSQE_BUFFER_SELECT;
	sqe->buf_group = 3;
	sqe->ioprio = IORING_RECV_MULTISHOT;
	submit(3);
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_int_equal(next(1), 3);
	/* All have had their turn. */
	expect_none();
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_int_equal(next(1), 1);
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_int_equal(next(1), 2);
	expect_none();
}

/* What holds for the requests of one ring holds for those of two. */
static void test_order_of_two_rings(void **state)
{
	static const uint64_t order[] = { 2, 0, 3, 1 };
	struct tr_ring other, *rings[] = { &ring, &other };

	(void)state;
	assert_int_equal(
	        tr_init(&other, 8, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN), 0);
	for (unsigned i = 0; i < 4; i++) {
		tr_prep(rings[i % 2], IORING_OP_RECV, sv[0], bufs[i], 1, 0, i);
		assert_int_equal(tr_submit(rings[i % 2]), 1);
	}
	for (unsigned i = 0; i < 4; i++) {
		uint64_t first = ~0ULL;

		assert_int_equal(write(sv[1], "x", 1), 1);
		for (unsigned r = 0; r < 2; r++) {
			tr_sys_enter(rings[r]->fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0);
			if (tr_peek(rings[r])) {
				first = tr_peek(rings[r])->user_data;
				tr_seen(rings[r]);
			}
		}
		assert_int_equal(first, order[i]);
	}
	tr_exit(&other);
}

static void test_events(void **state)
{
	char c;
	int n = 0;

	(void)state;
	while (send(sv[0], "x", 1, MSG_DONTWAIT) == 1)
		n++;
	add_poll(sv[0], POLLIN, 1);
	add_poll(sv[0], POLLOUT, 2);
	add_poll(sv[0], POLLIN, 3);
	add_poll(sv[0], POLLPRI, 4);
	submit(4);
	expect_none();
	while (n--)
		assert_int_equal(read(sv[1], &c, 1), 1);
	assert_int_equal(next(POLLOUT), 2);
	expect_none();
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_int_equal(next(POLLIN), 3);
	assert_int_equal(next(POLLIN), 1);
	expect_none();
	cancel(4);
}

static void test_all_are_told(void **state)
{
	bool seen[MANY] = { false };

	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		add_poll(sv[0], POLLIN, i);
	submit(MANY);
	assert_int_equal(write(sv[1], "x", 1), 1);
	for (unsigned i = 0; i < MANY; i++)
		seen[next(POLLIN)] = true;
	for (unsigned i = 0; i < MANY; i++)
		assert_true(seen[i]);
}

static void test_cancelled(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++)
		add_recv(sv[0], i);
	submit(4);
	cancel(3);
	cancel(0);
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_int_equal(next(1), 2);
	cancel(1);
	/* Nobody is left: what comes now is for who comes then. */
	assert_int_equal(write(sv[1], "yz", 2), 2);
	expect_none();
	add_recv(sv[0], 5);
	submit(1);
	assert_int_equal(next(2), 5);
	assert_memory_equal(bufs[5], "yz", 2);
}

/* They wait for the file, not for whatever has its number. */
static void test_renamed(void **state)
{
	int other[2], old = dup(sv[0]);

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, other), 0);
	add_recv(old, 0);
	add_recv(old, 1);
	submit(2);
	assert_int_equal(dup2(other[0], old), old);
	add_recv(old, 2);
	add_recv(old, 3);
	submit(2);
	expect_none();
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_int_equal(next(1), 1);
	assert_int_equal(write(other[1], "yz", 2), 2);
	assert_int_equal(next(2), 3);
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_int_equal(next(1), 0);
	assert_int_equal(write(other[1], "yz", 2), 2);
	assert_int_equal(next(2), 2);
	expect_none();
	close(old);
	close(other[0]);
	close(other[1]);
}

/* Closed while they wait, it is open until the last of them ends. */
static void test_closed(void **state)
{
	char c;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		add_recv(sv[0], i);
	submit(3);
	close(sv[0]);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(write(sv[1], "x", 1), 1);
		next(1);
	}
	assert_int_equal(write(sv[1], "x", 1), 1);
	next(1);
	assert_int_equal(send(sv[1], "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_int_equal(recv(sv[1], &c, 1, MSG_DONTWAIT), -1);
	sv[0] = -1;
}

static void test_hangup(void **state)
{
	int st[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, st), 0);
	for (unsigned i = 0; i < 4; i++)
		add_recv(st[0], i);
	add_poll(st[0], POLLIN, 4);
	submit(5);
	close(st[1]);
	for (unsigned i = 0, all = 0; i < 5; i++) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait_ms(&ring, &cqe, LONG_MS), 0);
		assert_int_equal(cqe.res, cqe.user_data == 4 ? POLLIN | POLLHUP | POLLRDHUP : 0);
		all |= 1U << cqe.user_data;
		if (i == 4)
			assert_int_equal(all, 31);
	}
	close(st[0]);
}

/* A pipe says that its writers have gone, and nothing else. */
static void test_writers_gone(void **state)
{
	(void)state;
	for (int messages = 0; messages < 2; messages++) {
		int p[2];

		assert_int_equal(pipe(p), 0);
		for (unsigned i = 0; i < 4; i++)
			tr_prep(&ring, IORING_OP_READ, p[0], bufs[i], 1, 0, i);
		submit(4);
		if (messages) {
			assert_int_equal(write(p[1], "x", 1), 1);
			next(1);
		}
		close(p[1]);
		for (int i = messages; i < 4; i++)
			next(0);
		close(p[0]);
	}
}

static void *send_all(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < MESSAGES; i++) {
		if (write(sv[1], &i, sizeof(i)) != sizeof(i))
			return &ring;
	}
	return NULL;
}

/* Each message comes to one of those that wait, and they keep coming back. */
static void test_messages(void **state)
{
	static unsigned char seen[MESSAGES];
	pthread_t sender;
	void *failed;

	(void)state;
	memset(seen, 0, sizeof(seen));
	for (unsigned i = 0; i < MANY; i++)
		add_recv(sv[0], i);
	submit(MANY);
	assert_int_equal(pthread_create(&sender, NULL, send_all, NULL), 0);
	for (unsigned n = 0; n < MESSAGES; n++) {
		uint64_t i = next(sizeof(unsigned));
		unsigned message;

		memcpy(&message, bufs[i], sizeof(message));
		assert_true(message < MESSAGES);
		seen[message]++;
		add_recv(sv[0], i);
		/* Some at once, some together. */
		if (n % 5 == 0 || !tr_peek(&ring))
			assert_true(tr_submit(&ring) > 0);
	}
	pthread_join(sender, &failed);
	assert_null(failed);
	for (unsigned i = 0; i < MESSAGES; i++)
		assert_int_equal(seen[i], 1);
	expect_none();
}

#define ON_BOTH(test) ON_RING(test), DEFERRED(test)

static const struct CMUnitTest tests[] = {
	DEFERRED(test_order),
	DEFERRED(test_order_with_multishot),
	DEFERRED(test_order_of_two_rings),
	ON_BOTH(test_events),
	ON_BOTH(test_all_are_told),
	ON_BOTH(test_cancelled),
	ON_BOTH(test_renamed),
	ON_BOTH(test_closed),
	ON_BOTH(test_hangup),
	ON_BOTH(test_writers_gone),
	ON_BOTH(test_messages),
};

TR_MAIN("herds", tests)
