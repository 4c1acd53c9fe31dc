/*
 * Who handles events while threads wait for completions, come and go: a waiter that another
 * thread's request has to wake, a program that stops entering while something is armed, one
 * whose signal handler jumps out of its wait, several waiters on several rings, one that
 * sleeps in a call of its own, and one beside a thread that only looks.
 */
#include "tests/ring_util.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE_MS 20000

static struct tr_ring ring;
static int efd = -1;

static int setup(void **state)
{
	(void)state;
	efd = eventfd(0, EFD_NONBLOCK);
	return tr_init(&ring, 32, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	close(efd);
	return 0;
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static void drain_fd(int fd)
{
	uint64_t count;

	assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
}

static void arm(struct tr_ring *r, int fd, uint64_t user_data)
{
	tr_prep(r, IORING_OP_POLL_ADD, fd, NULL, 0, 0, user_data)->poll32_events = POLLIN;
}

struct later {
	int fd;
	unsigned ms;
};

static void *signal_later(void *arg)
{
	const struct later *l = arg;

	tr_sleep_ms(l->ms);
	signal_fd(l->fd);
	return NULL;
}

/* A wait that armed requests end, from another thread: whoever waits then handles events. */
static void wait_for_event(void)
{
	struct later l = { efd, 5 };
	struct io_uring_cqe cqe;
	pthread_t t;

	arm(&ring, efd, 1);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(pthread_create(&t, NULL, signal_later, &l), 0);
	assert_int_equal(tr_wait_ms(&ring, &cqe, PATIENCE_MS), 0);
	assert_int_equal(cqe.user_data, 1);
	pthread_join(t, NULL);
	drain_fd(efd);
}

static void *submit_nop(void *arg)
{
	(void)arg;
	tr_sleep_ms(20);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 7);
	assert_int_equal(tr_submit(&ring), 1);
	return NULL;
}

static void test_woken_by_submitter(void **state)
{
	struct io_uring_cqe cqe;
	pthread_t t;

	(void)state;
	for (int i = 0; i < 5; i++) {
		arm(&ring, efd, 1);
		assert_int_equal(tr_submit(&ring), 1);
		assert_int_equal(pthread_create(&t, NULL, submit_nop, NULL), 0);
		assert_int_equal(tr_wait_ms(&ring, &cqe, PATIENCE_MS), 0);
		assert_int_equal(cqe.user_data, 7);
		pthread_join(t, NULL);
		signal_fd(efd);
		assert_int_equal(tr_wait_ms(&ring, &cqe, PATIENCE_MS), 0);
		assert_int_equal(cqe.user_data, 1);
		drain_fd(efd);
	}
}

/* After a wait the thread does not come back; what is armed completes all the same. */
static void test_nobody_enters(void **state)
{
	(void)state;
	for (int round = 0; round < 5; round++) {
		wait_for_event();
		arm(&ring, efd, 2);
		assert_int_equal(tr_submit(&ring), 1);
		signal_fd(efd);
		for (int i = 0; i < PATIENCE_MS && !tr_ready(&ring); i++)
			tr_sleep_ms(1);
		assert_int_equal(tr_ready(&ring), 1);
		assert_int_equal(tr_peek(&ring)->user_data, 2);
		tr_seen(&ring);
		drain_fd(efd);
	}
}

static void test_sleeps_elsewhere(void **state)
{
	struct pollfd pfd = { ring.fd, POLLIN, 0 };
	struct later l = { efd, 5 };
	pthread_t t;

	(void)state;
#ifdef __SANITIZE_THREAD__
	skip(); /* Without the preload layer poll() is not the shim's. */
#endif
	for (int round = 0; round < 5; round++) {
		wait_for_event();
		arm(&ring, efd, 2);
		assert_int_equal(tr_submit(&ring), 1);
		assert_int_equal(pthread_create(&t, NULL, signal_later, &l), 0);
		assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
		assert_int_equal(tr_ready(&ring), 1);
		tr_seen(&ring);
		pthread_join(t, NULL);
		drain_fd(efd);
	}
}

static void test_timeout_after(void **state)
{
	struct __kernel_timespec ts = { 0, 3000000 };

	(void)state;
	for (int round = 0; round < 5; round++) {
		struct io_uring_cqe cqe;

		wait_for_event();
		tr_prep(&ring, IORING_OP_TIMEOUT, -1, &ts, 1, 0, 9);
		assert_int_equal(tr_submit(&ring), 1);
		assert_int_equal(tr_wait_ms(&ring, &cqe, PATIENCE_MS), 0);
		assert_int_equal(cqe.user_data, 9);
		assert_int_equal(cqe.res, -ETIME);
	}
}

static sigjmp_buf out;

static void jump(int sig)
{
	(void)sig;
	siglongjmp(out, 1);
}

/*
 * The thread is taken out of a wait for an armed request, which completes all the same: while it
 * waits again, or if it never comes back.
 */
static void jump_out(int rounds, bool comes_back)
{
	struct sigaction sa = { .sa_handler = jump }, old;
	struct itimerval soon = { { 0, 0 }, { 0, 5000 } };

	sigaction(SIGALRM, &sa, &old);
	for (volatile int round = 0; round < rounds; round++) {
		struct io_uring_cqe cqe;

		arm(&ring, efd, 3);
		assert_int_equal(tr_submit(&ring), 1);
		if (!sigsetjmp(out, 1)) {
			setitimer(ITIMER_REAL, &soon, NULL);
			tr_wait_ms(&ring, &cqe, PATIENCE_MS);
			fail();
		}
		signal_fd(efd);
		for (int i = 0; !comes_back && i < PATIENCE_MS && !tr_ready(&ring); i++)
			tr_sleep_ms(1);
		assert_true(comes_back || tr_ready(&ring) == 1);
		assert_int_equal(tr_wait_ms(&ring, &cqe, PATIENCE_MS), 0);
		assert_int_equal(cqe.user_data, 3);
		drain_fd(efd);
	}
	sigaction(SIGALRM, &old, NULL);
}

static void test_jump_out(void **state)
{
	(void)state;
	jump_out(30, true);
}

static void test_jump_out_for_good(void **state)
{
	(void)state;
#ifdef __SANITIZE_THREAD__
	/* Without the preload layer nobody tells the engine of handlers: it takes seconds. */
	jump_out(1, false);
#else
	jump_out(30, false);
#endif
}

struct player {
	int mine, other;
	bool begins;
};

/* Hands a ball to and fro: each wait ends by what the other thread has written. */
static void *play(void *arg)
{
	const struct player *p = arg;
	struct io_uring_cqe cqe;
	struct tr_ring r;

	assert_int_equal(tr_init(&r, 8, 0), 0);
	for (int i = 0; i < 200; i++) {
		if (p->begins || i)
			signal_fd(p->other);
		arm(&r, p->mine, 1);
		assert_int_equal(tr_submit(&r), 1);
		assert_int_equal(tr_wait_ms(&r, &cqe, PATIENCE_MS), 0);
		drain_fd(p->mine);
	}
	if (!p->begins)
		signal_fd(p->other);
	tr_exit(&r);
	return NULL;
}

static void test_two_rings(void **state)
{
	int a = eventfd(0, 0), b = eventfd(0, 0);
	struct player one = { a, b, true }, two = { b, a, false };
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, play, &two), 0);
	play(&one);
	pthread_join(t, NULL);
	close(a);
	close(b);
}

static void *wait_one(void *arg)
{
	(void)arg;
	assert_int_equal(tr_sys_enter(ring.fd, 0, 2, IORING_ENTER_GETEVENTS, NULL, 0), 0);
	return NULL;
}

/* Three threads wait on one ring; one event and one request end all their waits. */
static void test_many_waiters(void **state)
{
	pthread_t t[3];

	(void)state;
	for (int round = 0; round < 10; round++) {
		arm(&ring, efd, 1);
		assert_int_equal(tr_submit(&ring), 1);
		for (int i = 0; i < 3; i++)
			assert_int_equal(pthread_create(&t[i], NULL, wait_one, NULL), 0);
		tr_sleep_ms(2);
		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2);
		assert_int_equal(tr_submit(&ring), 1);
		signal_fd(efd);
		for (int i = 0; i < 3; i++)
			pthread_join(t[i], NULL);
		assert_int_equal(tr_ready(&ring), 2);
		tr_seen(&ring);
		tr_seen(&ring);
		drain_fd(efd);
	}
}

struct onlooker {
	int fd;    /* written to once a round */
	int round; /* atomic: negative for the end */
	struct tr_ring ring;
};

/* Ends what the other thread waits for, and looks for events of its own all the time. */
static void *look_on(void *arg)
{
	struct onlooker *o = arg;

	for (int done = 0, now; (now = __atomic_load_n(&o->round, __ATOMIC_ACQUIRE)) >= 0;) {
		if (now != done) {
			done = now;
			assert_int_equal(write(o->fd, "x", 1), 1);
		}
		assert_int_equal(tr_sys_enter(o->ring.fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0),
		                 0);
	}
	return NULL;
}

/* A wait that another thread's completion ends, not an event, while a third fetches events. */
static void test_onlooker(void **state)
{
	struct onlooker o = { .round = 0 };
	struct io_uring_cqe cqe;
	pthread_t t;
	int fds[2];
	char byte;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	o.fd = fds[1];
	assert_int_equal(tr_init(&o.ring, 8, 0), 0);
	arm(&o.ring, efd, 1);
	assert_int_equal(tr_submit(&o.ring), 1);
	assert_int_equal(pthread_create(&t, NULL, look_on, &o), 0);
	for (int round = 1; round <= 500; round++) {
		struct io_uring_sqe *sqe =
		        tr_prep(&ring, IORING_OP_READ, fds[0], &byte, 1, (uint64_t)-1, 5);

		sqe->flags = IOSQE_ASYNC;
		assert_int_equal(tr_submit(&ring), 1);
		__atomic_store_n(&o.round, round, __ATOMIC_RELEASE);
		assert_int_equal(tr_wait_ms(&ring, &cqe, PATIENCE_MS), 0);
		assert_int_equal(cqe.res, 1);
	}
	__atomic_store_n(&o.round, -1, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	tr_exit(&o.ring);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_woken_by_submitter), T(test_nobody_enters), T(test_sleeps_elsewhere),
		T(test_timeout_after),      T(test_jump_out),      T(test_jump_out_for_good),
		T(test_two_rings),          T(test_many_waiters),  T(test_onlooker),
	};

	return tr_run_group("leader", tests, sizeof(tests) / sizeof(tests[0]));
}
