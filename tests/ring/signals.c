/*
 * Waiting and signals: EINTR, the signal mask that holds for the wait only,
 * timeouts, rings used inside a handler and on a small alternate stack, and the
 * program's own handler for SIGSYS.
 */
#include "tests/ring_util.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t handled;
static struct tr_ring ring;

static int setup(void **state)
{
	(void)state;
	handled = 0;
	return tr_init(&ring, 8, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	return 0;
}

static void count(int sig)
{
	(void)sig;
	handled++;
}

static void on(int sig, void (*handler)(int), int flags)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = flags };

	sigemptyset(&sa.sa_mask);
	assert_int_equal(sigaction(sig, &sa, NULL), 0);
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

struct killer {
	pthread_t target;
	int stop; /* atomic */
};

static void *keep_killing(void *arg)
{
	struct killer *k = arg;

	/* Until it is told to stop: one signal alone may come before the wait. But one there is,
	 * also if the thread comes to run after that. */
	do {
		tr_sleep_ms(10);
		pthread_kill(k->target, SIGUSR1);
	} while (!__atomic_load_n(&k->stop, __ATOMIC_ACQUIRE));
	return NULL;
}

static int wait_killed(unsigned flags, const void *arg, size_t argsz)
{
	struct killer k = { .target = pthread_self() };
	pthread_t t;
	int rc;

	assert_int_equal(pthread_create(&t, NULL, keep_killing, &k), 0);
	rc = tr_sys_enter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS | flags, arg, argsz);
	__atomic_store_n(&k.stop, 1, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	return rc;
}

static void test_eintr(void **state)
{
	struct __kernel_timespec ts = { .tv_sec = 30 };
	struct io_uring_getevents_arg arg = { .ts = (uint64_t)(uintptr_t)&ts };

	(void)state;
	on(SIGUSR1, count, 0);
	assert_int_equal(wait_killed(0, NULL, 0), -EINTR);
	assert_true(handled > 0);
	/* SA_RESTART does not restart it. */
	on(SIGUSR1, count, SA_RESTART);
	assert_int_equal(wait_killed(0, NULL, 0), -EINTR);
	assert_int_equal(wait_killed(IORING_ENTER_EXT_ARG, &arg, sizeof(arg)), -EINTR);
	on(SIGUSR1, SIG_DFL, 0);
}

static void test_ignored_signal(void **state)
{
	struct __kernel_timespec ts = { .tv_nsec = 200000000 };
	struct io_uring_getevents_arg arg = { .ts = (uint64_t)(uintptr_t)&ts };

	(void)state;
	on(SIGUSR1, SIG_IGN, 0);
	assert_int_equal(wait_killed(IORING_ENTER_EXT_ARG, &arg, sizeof(arg)), -ETIME);
	on(SIGUSR1, SIG_DFL, 0);
}

static void test_mask_holds_for_the_wait(void **state)
{
	struct __kernel_timespec ts = { .tv_nsec = 200000000 };
	struct io_uring_getevents_arg arg = { .ts = (uint64_t)(uintptr_t)&ts };
	sigset_t usr1, old, now;

	(void)state;
	on(SIGUSR1, count, 0);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	/* Blocked for the wait: it times out, and the handler runs after it. */
	arg.sigmask = (uint64_t)(uintptr_t)&usr1;
	arg.sigmask_sz = 8;
	assert_int_equal(wait_killed(IORING_ENTER_EXT_ARG, &arg, sizeof(arg)), -ETIME);
	assert_true(handled > 0);

	/* Blocked outside, open for the wait: pending signals get in at once. */
	assert_int_equal(sigprocmask(SIG_BLOCK, &usr1, &old), 0);
	handled = 0;
	raise(SIGUSR1);
	assert_int_equal(handled, 0);
	ts.tv_sec = 30;
	arg.sigmask = (uint64_t)(uintptr_t)&old;
	assert_int_equal(tr_sys_enter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
	                              &arg, sizeof(arg)),
	                 -EINTR);
	assert_int_equal(handled, 1);
	/* The same with the older form of the argument. */
	raise(SIGUSR1);
	assert_int_equal(tr_sys_enter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS, &old, 8), -EINTR);
	assert_int_equal(handled, 2);
	assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &now), 0);
	assert_int_equal(sigismember(&now, SIGUSR1), 1);
	assert_int_equal(sigprocmask(SIG_SETMASK, &old, NULL), 0);
	on(SIGUSR1, SIG_DFL, 0);
}

static void test_event_beats_signal(void **state)
{
	sigset_t usr1, old;

	(void)state;
	/* What is there already is returned, pending signal or not. */
	on(SIGUSR1, count, 0);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	assert_int_equal(sigprocmask(SIG_BLOCK, &usr1, &old), 0);
	raise(SIGUSR1);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	assert_int_equal(tr_submit_wait(&ring, 1), 1);
	assert_int_equal(sigprocmask(SIG_SETMASK, &old, NULL), 0);
	assert_int_equal(handled, 1);
	on(SIGUSR1, SIG_DFL, 0);
}

static void test_timeout(void **state)
{
	struct __kernel_timespec ts = { .tv_nsec = 50000000 };
	struct io_uring_getevents_arg arg = { .ts = (uint64_t)(uintptr_t)&ts };
	const unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
	uint64_t start = now_ms();

	(void)state;
	assert_int_equal(tr_sys_enter(ring.fd, 0, 1, flags, &arg, sizeof(arg)), -ETIME);
	assert_true(now_ms() - start >= 49);
	/* Submitting counts for more than the wait that ran out of time. */
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	tr_publish(&ring);
	assert_int_equal(tr_sys_enter(ring.fd, 1, 2, flags, &arg, sizeof(arg)), 1);
	assert_int_equal(tr_ready(&ring), 1);
}

static void use_ring(int sig)
{
	struct tr_ring r;

	(void)sig;
	if (tr_init(&r, 8, 0) < 0)
		abort();
	tr_sqe(&r)->user_data = 8;
	if (tr_submit_wait(&r, 1) != 1 || tr_peek(&r)->user_data != 8)
		abort();
	tr_exit(&r);
	handled++;
}

static void test_inside_handler(void **state)
{
	(void)state;
	/* With every signal blocked, as sa_mask can ask for. */
	struct sigaction sa = { .sa_handler = use_ring };

	sigfillset(&sa.sa_mask);
	assert_int_equal(sigaction(SIGUSR1, &sa, NULL), 0);
	for (int i = 0; i < 10; i++)
		raise(SIGUSR1);
	assert_int_equal(handled, 10);
	/* Signals in the middle of the ring's own calls. */
	struct itimerval it = { .it_interval = { 0, 500 }, .it_value = { 0, 500 } };

	sa.sa_flags = SA_RESTART;
	sa.sa_handler = use_ring;
	assert_int_equal(sigaction(SIGALRM, &sa, NULL), 0);
	handled = 0;
	assert_int_equal(setitimer(ITIMER_REAL, &it, NULL), 0);
	while (handled < 100) {
		int rc;

		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1);
		rc = tr_submit_wait(&ring, 1);
		assert_int_equal(rc, 1);
		while (!tr_peek(&ring))
			;
		tr_seen(&ring);
	}
	it = (struct itimerval){ .it_value = { 0, 0 } };
	assert_int_equal(setitimer(ITIMER_REAL, &it, NULL), 0);
	on(SIGALRM, SIG_DFL, 0);
	on(SIGUSR1, SIG_DFL, 0);
}

static ucontext_t main_ctx, coroutine_ctx;

static void coroutine(void)
{
	use_ring(0);
	swapcontext(&coroutine_ctx, &main_ctx);
}

static void test_small_stack(void **state)
{
	(void)state;
	/* A coroutine's 16 KiB, of which the trap's signal frame takes its part. */
	size_t bytes = 16384;
	char *stack = aligned_alloc(4096, bytes);

	assert_non_null(stack);
	assert_int_equal(getcontext(&coroutine_ctx), 0);
	coroutine_ctx.uc_stack.ss_sp = stack;
	coroutine_ctx.uc_stack.ss_size = bytes;
	coroutine_ctx.uc_link = NULL;
	makecontext(&coroutine_ctx, coroutine, 0);
	assert_int_equal(swapcontext(&main_ctx, &coroutine_ctx), 0);
	assert_int_equal(handled, 1);
	free(stack);
}

static void test_own_sigsys_handler(void **state)
{
	struct sigaction sa = { .sa_handler = count }, old;

	(void)state;
	sigemptyset(&sa.sa_mask);
	/* A SIGSYS that is not ours goes to the handler that the program has set... */
	assert_int_equal(sigaction(SIGSYS, &sa, &old), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_int_equal(handled, 0);
	raise(SIGSYS);
	assert_int_equal(handled, 1);
	assert_int_equal(kill(getpid(), SIGSYS), 0);
	assert_int_equal(handled, 2);
	/* ...which is also the one that it finds again. */
	assert_int_equal(sigaction(SIGSYS, &old, &sa), 0);
	assert_ptr_equal(sa.sa_handler, count);
	assert_ptr_equal(signal(SIGSYS, count), old.sa_handler);
	assert_ptr_equal(signal(SIGSYS, SIG_IGN), count);
	raise(SIGSYS);
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_int_equal(handled, 2);
	assert_int_equal(sigaction(SIGSYS, &old, NULL), 0);
}

static void test_ring_fd_in_signal_free_wait(void **state)
{
	struct io_uring_cqe cqe;
	int p[2];
	char c;

	(void)state;
	/* A signal storm loses no completion. */
	on(SIGUSR1, count, SA_RESTART);
	assert_int_equal(pipe(p), 0);
	for (int i = 0; i < 20; i++) {
		struct killer k = { .target = pthread_self() };
		pthread_t t;
		int rc;

		tr_prep(&ring, IORING_OP_READ, p[0], &c, 1, 0, (uint64_t)i);
		assert_int_equal(tr_submit(&ring), 1);
		assert_int_equal(pthread_create(&t, NULL, keep_killing, &k), 0);
		assert_int_equal(write(p[1], "x", 1), 1);
		do
			rc = tr_wait(&ring, &cqe);
		while (rc == -EINTR);
		__atomic_store_n(&k.stop, 1, __ATOMIC_RELEASE);
		pthread_join(t, NULL);
		assert_int_equal(rc, 0);
		assert_int_equal(cqe.user_data, i);
		assert_int_equal(cqe.res, 1);
	}
	close(p[0]);
	close(p[1]);
	on(SIGUSR1, SIG_DFL, 0);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_eintr),
	ON_RING(test_ignored_signal),
	ON_RING(test_mask_holds_for_the_wait),
	ON_RING(test_event_beats_signal),
	ON_RING(test_timeout),
	ON_RING(test_inside_handler),
	ON_RING(test_small_stack),
	ON_RING(test_own_sigsys_handler),
	ON_RING(test_ring_fd_in_signal_free_wait),
};

TR_MAIN("signals", tests)
