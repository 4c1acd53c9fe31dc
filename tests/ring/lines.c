/*
 * Several requests that wait for one listener: a connection is for the one that came first, and no
 * other hears of it, whatever ring it belongs to. One that goes on for ever stays the first.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS     4
#define CONNECTIONS 400
#define LONG_MS     10000

static struct sockaddr_in addr;
static struct tr_ring ring, other;
static int listener;

static int listen_somewhere(int flags)
{
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | flags, 0);

	addr = (struct sockaddr_in){ .sin_family = AF_INET,
		                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	return fd;
}

static int setup_flags(unsigned flags)
{
	listener = listen_somewhere(SOCK_NONBLOCK);
	return tr_init(&ring, 16, flags) || tr_init(&other, 16, flags);
}

TR_BOTH_SETUPS;

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	tr_exit(&other);
	close(listener);
	return 0;
}

static int connected(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void add_accept(struct tr_ring *r, int fd, uint64_t user_data, unsigned flags)
{
	tr_prep(r, IORING_OP_ACCEPT, fd, NULL, 0, 0, user_data)->ioprio = (uint16_t)flags;
}

static void submit_accept(struct tr_ring *r, uint64_t user_data, unsigned flags)
{
	add_accept(r, listener, user_data, flags);
	assert_int_equal(tr_submit(r), 1);
}

/* The next completion is this accept's. */
static void took(struct tr_ring *r, uint64_t user_data, unsigned flags)
{
	struct io_uring_cqe cqe;

	assert_int_equal(tr_wait_ms(r, &cqe, LONG_MS), 0);
	assert_int_equal(cqe.user_data, user_data);
	assert_true(cqe.res >= 0);
	assert_int_equal(cqe.flags & IORING_CQE_F_MORE, flags);
	close(cqe.res);
}

static void test_first_come(void **state)
{
	(void)state;
	for (int blocking = 0; blocking < 2; blocking++) {
		if (blocking)
			assert_int_equal(fcntl(listener, F_SETFL, 0), 0);
		for (unsigned i = 1; i <= 3; i++)
			add_accept(&ring, listener, i, 0);
		assert_int_equal(tr_submit(&ring), 3);
		/* Each that is done is followed by a new one. */
		for (unsigned i = 1; i <= 6; i++) {
			close(connected());
			took(&ring, i, 0);
			if (i <= 3)
				submit_accept(&ring, i + 3, 0);
		}
	}
}

static void test_all_at_once(void **state)
{
	int fds[3];

	(void)state;
	for (unsigned i = 1; i <= 3; i++)
		add_accept(&ring, listener, i, 0);
	assert_int_equal(tr_submit(&ring), 3);
	for (int i = 0; i < 3; i++)
		fds[i] = connected();
	assert_int_equal(tr_sys_enter(ring.fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0), 0);
	assert_int_equal(tr_ready(&ring), 3);
	for (unsigned i = 1; i <= 3; i++)
		took(&ring, i, 0);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

static void test_multishot(void **state)
{
	(void)state;
	add_accept(&ring, listener, 1, 0);
	add_accept(&ring, listener, 2, IORING_ACCEPT_MULTISHOT);
	add_accept(&ring, listener, 3, 0);
	assert_int_equal(tr_submit(&ring), 3);
	for (int i = 0; i < 5; i++) {
		close(connected());
		took(&ring, i ? 2 : 1, i ? IORING_CQE_F_MORE : 0);
	}
	/* Whoever comes next is next. */
	tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)2, 0, 0, 4);
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 4, 0, 0);
	tr_expect(&ring, 2, -ECANCELED, 0);
	close(connected());
	took(&ring, 3, 0);
}

/* Others of the same file wait elsewhere: in a table, by another number. */
static void test_rings(void **state)
{
	int copy = dup(listener);

	(void)state;
	assert_int_equal(tr_sys_register(other.fd, IORING_REGISTER_FILES, &listener, 1), 0);
	submit_accept(&ring, 1, 0);
	tr_prep(&other, IORING_OP_ACCEPT, 0, NULL, 0, 0, 2)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_submit(&other), 1);
	add_accept(&ring, copy, 3, 0);
	assert_int_equal(tr_submit(&ring), 1);
	submit_accept(&other, 4, 0);
	for (unsigned i = 1; i <= 4; i++) {
		close(connected());
		took(i & 1 ? &ring : &other, i, 0);
		assert_null(tr_peek(&ring));
		assert_null(tr_peek(&other));
	}
	close(copy);
}

/* One that is gone is in nobody's way. */
static void test_gone(void **state)
{
	(void)state;
	submit_accept(&ring, 1, 0);
	submit_accept(&ring, 2, 0);
	submit_accept(&other, 3, 0);
	tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)1, 0, 0, 4);
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 4, 0, 0);
	tr_expect(&ring, 1, -ECANCELED, 0);
	close(connected());
	took(&ring, 2, 0);
	submit_accept(&ring, 5, 0);
	close(connected());
	took(&other, 3, 0);
	/* The ring of the first one is closed. */
	submit_accept(&other, 6, 0);
	tr_exit(&ring);
	assert_int_equal(tr_init(&ring, 16, ring.p.flags), 0);
	close(connected());
	took(&other, 6, 0);
}

/* Polls that ask for it are woken likewise. */
static void test_exclusive_polls(void **state)
{
	int fds[2];
	char c = 0;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	for (unsigned i = 1; i <= 2; i++)
		tr_prep(&ring, IORING_OP_POLL_ADD, fds[0], NULL, IORING_POLL_ADD_MULTI, 0, i)
		        ->poll32_events = POLLIN | EPOLLEXCLUSIVE;
	assert_int_equal(tr_submit(&ring), 2);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(write(fds[1], &c, 1), 1);
		tr_expect(&ring, 1, POLLIN, IORING_CQE_F_MORE);
		assert_null(tr_peek(&ring));
		assert_int_equal(read(fds[0], &c, 1), 1);
	}
	close(fds[0]);
	close(fds[1]);
}

/* ---- threads ---- */

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* The first one's thread stays away: what comes after its connection is for another. */
static void *take_one(void *arg)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;

	must(!tr_init(&r, 4, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN));
	tr_prep(&r, IORING_OP_ACCEPT, listener, NULL, 0, 0, 1);
	must(tr_submit(&r) == 1);
	must(write(*(int *)arg, "x", 1) == 1);
	must(tr_wait_ms(&r, &cqe, LONG_MS) == 0 && cqe.res >= 0);
	close(cqe.res);
	tr_exit(&r);
	return NULL;
}

static void test_away(void **state)
{
	int ready[2], fds[2];
	pthread_t thread;
	char c;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	submit_accept(&ring, 1, 0);
	assert_int_equal(pthread_create(&thread, NULL, take_one, &ready[1]), 0);
	assert_int_equal(read(ready[0], &c, 1), 1);
	for (int i = 0; i < 2; i++)
		fds[i] = connected();
	pthread_join(thread, NULL);
	took(&ring, 1, 0);
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		close(ready[i]);
	}
}

/* Each thread keeps two accepts in the line until it is told to leave. */
static unsigned taken;

static void *serve(void *arg)
{
	struct tr_ring r;
	int stop = *(int *)arg;
	char c;

	must(!tr_init(&r, 8, 0));
	for (unsigned i = 1; i <= 2; i++)
		tr_prep(&r, IORING_OP_ACCEPT, listener, NULL, 0, 0, i);
	tr_prep(&r, IORING_OP_READ, stop, &c, 1, (__u64)-1, 3);
	must(tr_submit(&r) == 3);
	for (;;) {
		struct io_uring_cqe cqe;

		must(tr_wait_ms(&r, &cqe, LONG_MS) == 0);
		if (cqe.user_data == 3)
			break;
		must(cqe.res >= 0);
		close(cqe.res);
		__atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED);
		tr_prep(&r, IORING_OP_ACCEPT, listener, NULL, 0, 0, cqe.user_data);
		must(tr_submit(&r) == 1);
	}
	tr_exit(&r);
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[THREADS];
	int stop[2];

	(void)state;
	taken = 0;
	assert_int_equal(pipe(stop), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, serve, &stop[0]), 0);
	for (int i = 0; i < CONNECTIONS; i++) {
		close(connected());
		if (i % 8)
			continue;
		for (int ms = 0; __atomic_load_n(&taken, __ATOMIC_RELAXED) <= (unsigned)i; ms++) {
			assert_in_range(ms, 0, LONG_MS);
			tr_sleep_ms(1);
		}
	}
	for (int ms = 0; __atomic_load_n(&taken, __ATOMIC_RELAXED) < CONNECTIONS; ms++) {
		assert_in_range(ms, 0, LONG_MS);
		tr_sleep_ms(1);
	}
	/* Hung up: all of them read that. */
	close(stop[1]);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	close(stop[0]);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_first_come),   DEFERRED(test_first_come),     ON_RING(test_all_at_once),
	DEFERRED(test_all_at_once), ON_RING(test_multishot),       DEFERRED(test_multishot),
	ON_RING(test_rings),        DEFERRED(test_rings),          ON_RING(test_gone),
	DEFERRED(test_gone),        ON_RING(test_exclusive_polls), DEFERRED(test_exclusive_polls),
	DEFERRED(test_away),        ON_RING(test_threads),
};

TR_MAIN("lines", tests)
