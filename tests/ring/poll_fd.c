/*
 * Waiting for a ring with poll, select and epoll: readable means that the CQ is
 * not empty, and the program empties it without telling anyone.
 */
#include "tests/ring_util.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <unistd.h>

/* Long enough that only a lost wake-up takes it; such a test fails by its result. */
#define LONG_MS 10000

/* In so many two threads meet in the middle of something. */
#define ROUNDS  20000
#define TELLERS 8

static short poll_now(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
	int n = poll(&p, 1, ms);

	assert_true(n >= 0);
	return n ? p.revents : 0;
}

static short poll_in(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n = poll(&p, 1, ms);

	assert_true(n >= 0);
	return n ? p.revents : 0;
}

static void nop(struct tr_ring *r)
{
	tr_prep(r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	assert_int_equal(tr_submit(r), 1);
}

struct pipe_ring {
	struct tr_ring r;
	int p[2];
	char c;
};

/* A ring with a read of an empty pipe in flight. */
static void pipe_ring_init(struct pipe_ring *s)
{
	assert_int_equal(pipe(s->p), 0);
	assert_int_equal(tr_init(&s->r, 8, 0), 0);
	tr_prep(&s->r, IORING_OP_READ, s->p[0], &s->c, 1, 0, 1);
	assert_int_equal(tr_submit(&s->r), 1);
}

static void pipe_ring_exit(struct pipe_ring *s)
{
	tr_exit(&s->r);
	close(s->p[0]);
	close(s->p[1]);
}

static void *write_later(void *arg)
{
	struct pipe_ring *s = arg;

	tr_sleep_ms(50);
	if (write(s->p[1], "x", 1) != 1)
		abort();
	return NULL;
}

static void test_poll(void **state)
{
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	assert_int_equal(poll_now(r.fd, 0), POLLOUT);
	assert_int_equal(poll_in(r.fd, 0), 0);
	nop(&r);
	assert_int_equal(poll_now(r.fd, 0), POLLIN | POLLOUT);
	assert_int_equal(poll_in(r.fd, LONG_MS), POLLIN);
	tr_seen(&r);
	assert_int_equal(poll_now(r.fd, 0), POLLOUT);
	assert_int_equal(poll_in(r.fd, 20), 0);
	nop(&r);
	nop(&r);
	tr_seen(&r);
	assert_int_equal(poll_in(r.fd, LONG_MS), POLLIN);
	tr_exit(&r);
}

static void test_poll_wakes(void **state)
{
	struct pipe_ring s;
	pthread_t t;

	(void)state;
	for (int i = 0; i < 3; i++) {
		pipe_ring_init(&s);
		assert_int_equal(poll_in(s.r.fd, 0), 0);
		assert_int_equal(pthread_create(&t, NULL, write_later, &s), 0);
		assert_int_equal(poll_in(s.r.fd, LONG_MS), POLLIN);
		/* Nobody entered: the completion is there all the same. */
		assert_non_null(tr_peek(&s.r));
		assert_int_equal(tr_peek(&s.r)->res, 1);
		tr_seen(&s.r);
		assert_int_equal(poll_in(s.r.fd, 0), 0);
		pthread_join(t, NULL);
		pipe_ring_exit(&s);
	}
}

static void test_poll_first_then_submit(void **state)
{
	struct pipe_ring s;
	pthread_t t;

	(void)state;
	/* Polled from before the first submission on, by a thread that only polls. */
	pipe_ring_init(&s);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(poll_in(s.r.fd, 0), 0);
		nop(&s.r);
		assert_int_equal(poll_in(s.r.fd, LONG_MS), POLLIN);
		tr_seen(&s.r);
	}
	assert_int_equal(pthread_create(&t, NULL, write_later, &s), 0);
	assert_int_equal(poll_in(s.r.fd, LONG_MS), POLLIN);
	pthread_join(t, NULL);
	pipe_ring_exit(&s);
}

static void test_select(void **state)
{
	struct timeval none = { 0, 0 };
	struct timeval tv = { LONG_MS / 1000, 0 };
	struct pipe_ring s;
	pthread_t t;
	fd_set in, out;
	int n;

	(void)state;
	pipe_ring_init(&s);
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(s.r.fd, &in);
	FD_SET(s.r.fd, &out);
	assert_int_equal(select(s.r.fd + 1, &in, &out, NULL, &none), 1);
	assert_false(FD_ISSET(s.r.fd, &in));
	assert_true(FD_ISSET(s.r.fd, &out));
	assert_int_equal(pthread_create(&t, NULL, write_later, &s), 0);
	FD_SET(s.r.fd, &in);
	do
		n = select(s.r.fd + 1, &in, NULL, NULL, &tv);
	while (n < 0 && errno == EINTR);
	assert_int_equal(n, 1);
	assert_true(FD_ISSET(s.r.fd, &in));
	pthread_join(t, NULL);
	tr_seen(&s.r);
	FD_SET(s.r.fd, &in);
	assert_int_equal(pselect(s.r.fd + 1, &in, NULL, NULL, &(struct timespec){ 0, 0 }, NULL), 0);
	pipe_ring_exit(&s);
}

static int epoll_with(int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.u32 = 42 };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	assert_true(ep >= 0);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), 0);
	return ep;
}

static uint32_t epoll_now(int ep, int ms)
{
	struct epoll_event ev = { .events = 0 };
	int n;

	/* The kernel interrupts the waiting submitter to complete its own requests. */
	do
		n = epoll_wait(ep, &ev, 1, ms);
	while (n < 0 && errno == EINTR);
	assert_true(n >= 0);
	if (n == 0)
		return 0;
	assert_int_equal(ev.data.u32, 42);
	return ev.events;
}

/*
 * The first thing that sleeps on the descriptor is a wait with a signal mask. (Runs before all
 * others: what one ring's poller does for it would serve this one too.)
 */
static void test_epoll_after_masked_wait(void **state)
{
	struct __kernel_timespec ts = { 0, 1000000 };
	struct tr_ring r;
	sigset_t none;
	int ep;

	(void)state;
	sigemptyset(&none);
	assert_int_equal(tr_init(&r, 8, 0), 0);
	tr_prep(&r, IORING_OP_TIMEOUT, -1, &ts, 1, 0, 1);
	tr_publish(&r);
	assert_int_equal(tr_sys_enter(r.fd, 1, 1, IORING_ENTER_GETEVENTS, &none, 8), 1);
	tr_seen(&r);
	ep = epoll_with(r.fd, EPOLLIN);
	assert_int_equal(epoll_now(ep, 0), 0);
	nop(&r);
	assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
	tr_seen(&r);
	assert_int_equal(epoll_now(ep, 20), 0);
	close(ep);
	tr_exit(&r);
}

static void test_epoll_level(void **state)
{
	struct pipe_ring s;
	pthread_t t;
	int ep;

	(void)state;
	pipe_ring_init(&s);
	ep = epoll_with(s.r.fd, EPOLLIN);
	assert_int_equal(epoll_now(ep, 0), 0);
	assert_int_equal(pthread_create(&t, NULL, write_later, &s), 0);
	assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
	assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
	pthread_join(t, NULL);
	nop(&s.r);
	tr_seen(&s.r);
	assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
	tr_seen(&s.r);
	assert_int_equal(epoll_now(ep, 20), 0);
	nop(&s.r);
	assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
	close(ep);
	pipe_ring_exit(&s);
}

static void test_epoll_edge(void **state)
{
	struct pipe_ring s;
	pthread_t t;
	int ep;

	(void)state;
	pipe_ring_init(&s);
	ep = epoll_with(s.r.fd, EPOLLIN | EPOLLET);
	assert_int_equal(epoll_now(ep, 0), 0);
	assert_int_equal(pthread_create(&t, NULL, write_later, &s), 0);
	assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
	assert_int_equal(epoll_now(ep, 20), 0);
	pthread_join(t, NULL);
	/* A second completion is a new edge, whether the first one was taken or not. */
	nop(&s.r);
	assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
	assert_int_equal(epoll_now(ep, 0), 0);
	tr_seen(&s.r);
	tr_seen(&s.r);
	assert_int_equal(epoll_now(ep, 0), 0);
	for (int i = 0; i < 10; i++) {
		nop(&s.r);
		assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
		tr_seen(&s.r);
	}
	close(ep);
	pipe_ring_exit(&s);
}

/* A runtime that submits the next request for each completion waits with a CQ that is not empty. */
static void test_epoll_edge_never_empty(void **state)
{
	struct tr_ring r;
	int ep;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	ep = epoll_with(r.fd, EPOLLIN | EPOLLET);
	nop(&r);
	for (int i = 0; i < 2000; i++) {
		assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
		tr_seen(&r);
		nop(&r);
	}
	assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
	assert_int_equal(epoll_now(ep, 0), 0);
	tr_seen(&r);
	assert_int_equal(poll_in(r.fd, 0), 0);
	close(ep);
	tr_exit(&r);
}

static void test_epoll_edge_in_out(void **state)
{
	struct tr_ring r;
	int ep;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	ep = epoll_with(r.fd, EPOLLIN | EPOLLOUT | EPOLLET);
	assert_int_equal(epoll_now(ep, 0), EPOLLOUT);
	assert_int_equal(epoll_now(ep, 0), 0);
	nop(&r);
	assert_int_equal(epoll_now(ep, LONG_MS) & EPOLLIN, EPOLLIN);
	close(ep);
	tr_exit(&r);
}

/*
 * What the CQ had no room for is news once an enter has made it visible: a runtime that
 * sleeps until the next edge, or until its eventfd is signalled, would never hear of it.
 */
static void test_flushed_overflow_is_told(void **state)
{
	struct tr_ring r;
	uint64_t count;
	int ep, efd = eventfd(0, EFD_NONBLOCK);

	(void)state;
	assert_int_equal(tr_init(&r, 2, 0), 0);
	assert_int_equal(tr_sys_register(r.fd, IORING_REGISTER_EVENTFD, &efd, 1), 0);
	ep = epoll_with(r.fd, EPOLLIN | EPOLLET);
	for (int i = 0; i < 7; i++)
		nop(&r);
	assert_int_equal(tr_ready(&r), 4);
	assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
	assert_int_equal(read(efd, &count, sizeof(count)), sizeof(count));
	/* No room yet: nothing has changed. */
	assert_int_equal(tr_sys_enter(r.fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0), 0);
	assert_int_equal(epoll_now(ep, 0), 0);
	assert_int_equal(read(efd, &count, sizeof(count)), -1);
	for (int left = 3; left > 0; left -= 2) {
		while (tr_ready(&r) > 2)
			tr_seen(&r);
		assert_int_equal(epoll_now(ep, 0), 0);
		assert_int_equal(tr_sys_enter(r.fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0), 0);
		assert_int_equal(tr_ready(&r), left > 1 ? 4 : 3);
		assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
		assert_int_equal(epoll_now(ep, 0), 0);
		assert_int_equal(read(efd, &count, sizeof(count)), sizeof(count));
	}
	close(ep);
	close(efd);
	tr_exit(&r);
}

static void test_epoll_oneshot(void **state)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT, .data.u32 = 42 };
	struct tr_ring r;
	int ep;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	ep = epoll_with(r.fd, EPOLLIN | EPOLLONESHOT);
	assert_int_equal(epoll_now(ep, 0), 0);
	nop(&r);
	assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
	nop(&r);
	assert_int_equal(epoll_now(ep, 20), 0);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_MOD, r.fd, &ev), 0);
	assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
	tr_seen(&r);
	tr_seen(&r);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_MOD, r.fd, &ev), 0);
	assert_int_equal(epoll_now(ep, 20), 0);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_DEL, r.fd, NULL), 0);
	close(ep);
	tr_exit(&r);
}

static void test_epoll_ready_when_added(void **state)
{
	struct tr_ring r;
	int ep;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	nop(&r);
	ep = epoll_with(r.fd, EPOLLIN);
	assert_int_equal(epoll_now(ep, LONG_MS), EPOLLIN);
	tr_seen(&r);
	assert_int_equal(epoll_now(ep, 0), 0);
	close(ep);
	tr_exit(&r);
}

static void test_epoll_nested(void **state)
{
	struct pipe_ring s;
	pthread_t t;
	int inner, outer;

	(void)state;
	pipe_ring_init(&s);
	inner = epoll_with(s.r.fd, EPOLLIN);
	outer = epoll_with(inner, EPOLLIN);
	assert_int_equal(epoll_now(outer, 0), 0);
	assert_int_equal(pthread_create(&t, NULL, write_later, &s), 0);
	assert_int_equal(epoll_now(outer, LONG_MS), EPOLLIN);
	assert_int_equal(epoll_now(inner, 0), EPOLLIN);
	assert_int_equal(poll_in(outer, 0), POLLIN);
	pthread_join(t, NULL);
	tr_seen(&s.r);
	assert_int_equal(epoll_now(outer, 0), 0);
	assert_int_equal(epoll_now(inner, 0), 0);
	close(outer);
	close(inner);
	pipe_ring_exit(&s);
}

static void test_ring_polls_ring(void **state)
{
	struct tr_ring a;
	struct pipe_ring b;
	struct io_uring_cqe cqe;

	(void)state;
	assert_int_equal(tr_init(&a, 8, 0), 0);
	pipe_ring_init(&b);
	tr_prep(&a, IORING_OP_POLL_ADD, b.r.fd, NULL, 0, 0, 5)->poll32_events = POLLIN;
	assert_int_equal(tr_submit(&a), 1);
	assert_null(tr_peek(&a));
	assert_int_equal(write(b.p[1], "x", 1), 1);
	assert_int_equal(tr_wait_ms(&a, &cqe, LONG_MS), 0);
	assert_int_equal(cqe.user_data, 5);
	assert_int_equal(cqe.res, POLLIN);
	pipe_ring_exit(&b);
	tr_exit(&a);
}

struct rounds {
	struct tr_ring r;
	unsigned begun, done; /* atomic */
};

static void await_round(const unsigned *at, unsigned round)
{
	for (int i = 0; __atomic_load_n(at, __ATOMIC_ACQUIRE) != round; i++) {
		if (i > 1000)
			sched_yield();
	}
}

static void *submits_rounds(void *arg)
{
	struct rounds *s = arg;

	for (unsigned i = 1; i <= ROUNDS; i++) {
		await_round(&s->begun, i);
		nop(&s->r);
		__atomic_store_n(&s->done, i, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* Who takes the CQE polls at once, perhaps before the submitter has told the descriptor of it. */
static void test_taken_before_told(void **state)
{
	struct rounds s = { .begun = 0 };
	pthread_t t;

	(void)state;
	assert_int_equal(tr_init(&s.r, 8, 0), 0);
	assert_int_equal(poll_in(s.r.fd, 0), 0);
	assert_int_equal(pthread_create(&t, NULL, submits_rounds, &s), 0);
	for (unsigned i = 1; i <= ROUNDS; i++) {
		__atomic_store_n(&s.begun, i, __ATOMIC_RELEASE);
		await_round(s.r.cq_tail, i);
		tr_seen(&s.r);
		poll_in(s.r.fd, 0);
		await_round(&s.done, i);
		assert_int_equal(poll_in(s.r.fd, 0), 0);
	}
	pthread_join(t, NULL);
	tr_exit(&s.r);
}

/* Workers that post side by side, and a program that takes what is there and sleeps in between. */
static void test_told_by_many(void **state)
{
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, TELLERS, 0), 0);
	for (int round = 0; round < ROUNDS; round++) {
		unsigned left = TELLERS;

		for (unsigned i = 0; i < TELLERS; i++)
			tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, i)->flags = IOSQE_ASYNC;
		assert_int_equal(tr_submit(&r), TELLERS);
		while (left) {
			assert_int_equal(poll_in(r.fd, 10000), 1);
			for (; tr_peek(&r); left--)
				tr_seen(&r);
		}
	}
	tr_exit(&r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_epoll_after_masked_wait),
	cmocka_unit_test(test_poll),
	cmocka_unit_test(test_poll_wakes),
	cmocka_unit_test(test_poll_first_then_submit),
	cmocka_unit_test(test_select),
	cmocka_unit_test(test_epoll_level),
	cmocka_unit_test(test_epoll_edge),
	cmocka_unit_test(test_epoll_edge_never_empty),
	cmocka_unit_test(test_epoll_edge_in_out),
	cmocka_unit_test(test_flushed_overflow_is_told),
	cmocka_unit_test(test_epoll_oneshot),
	cmocka_unit_test(test_epoll_ready_when_added),
	cmocka_unit_test(test_epoll_nested),
	cmocka_unit_test(test_ring_polls_ring),
	cmocka_unit_test(test_taken_before_told),
	cmocka_unit_test(test_told_by_many),
};

TR_MAIN("poll_fd", tests)
