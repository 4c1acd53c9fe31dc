/*
 * SIGSYS that is sent to a program which has it blocked: it can be seen and taken, and a wait
 * whose mask lets it in ends by it, also in a process without a ring.
 */
#include "tests/home/home.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>

static const uint64_t sigsys = 1ULL << (SIGSYS - 1);
static volatile sig_atomic_t handled, value, code, outer;
static struct tr_ring ring;
static sigset_t only, none;

static void on_sigsys(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	value = si->si_value.sival_int;
	code = si->si_code;
	outer = sigismember(&((ucontext_t *)context)->uc_sigmask, SIGSYS);
	handled++;
}

static int setup(void **state)
{
	(void)state;
	handled = value = code = outer = 0;
	sigemptyset(&none);
	sigemptyset(&only);
	sigaddset(&only, SIGSYS);
	sigprocmask(SIG_SETMASK, &only, NULL);
	return tr_init(&ring, 8, 0);
}

static int teardown(void **state)
{
	(void)state;
	sigprocmask(SIG_SETMASK, &none, NULL);
	tr_exit(&ring);
	return 0;
}

/* cmocka has the signal until a test begins. */
static void handle(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };

	sigaction(SIGSYS, &sa, NULL);
}

static void send(int n)
{
	assert_int_equal(sigqueue(getpid(), SIGSYS, (union sigval){ .sival_int = n }), 0);
}

static int pending(void)
{
	sigset_t set;

	assert_int_equal(sigpending(&set), 0);
	return sigismember(&set, SIGSYS);
}

static bool blocked(void)
{
	sigset_t set;

	sigprocmask(SIG_BLOCK, NULL, &set);
	return sigismember(&set, SIGSYS);
}

/* ---- taken without a handler ---- */

static void test_taken(void **state)
{
	static const struct timespec now = { 0, 0 };
	siginfo_t si;
	int sig = 0;

	(void)state;
	handle();
	assert_int_equal(pending(), 0);
	assert_int_equal(sigtimedwait(&only, &si, &now), -1);
	assert_int_equal(errno, EAGAIN);
	send(5);
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_int_equal(pending(), 1);
	assert_int_equal(sigtimedwait(&only, &si, &now), SIGSYS);
	assert_int_equal(si.si_code, SI_QUEUE);
	assert_int_equal(si.si_value.sival_int, 5);
	assert_int_equal(pending(), 0);
	raise(SIGSYS);
	assert_int_equal(sigwaitinfo(&only, NULL), SIGSYS);
	assert_int_equal(sigtimedwait(&only, NULL, &now), -1);
	raise(SIGSYS);
	assert_int_equal(sigwait(&only, &sig), 0);
	assert_int_equal(sig, SIGSYS);
	assert_int_equal(pending(), 0);
	assert_int_equal(handled, 0);
	assert_true(blocked());
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
}

/* ---- let in by a wait ---- */

enum { SIGSUSPEND, PPOLL, PSELECT, EPOLL_PWAIT, EPOLL_PWAIT2, ENTER, WAITS };

static int waited_epoll = -1;

static long own(long ret)
{
	return ret < 0 ? -errno : ret;
}

static long wait_with(int how, uint64_t mask, int fd)
{
	struct io_uring_cqe cqe;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct epoll_event ev;
	struct {
		const uint64_t *mask;
		size_t bytes;
	} arg6 = { &mask, 8 };
	bool raw = tr_entry == TR_INLINE;
	fd_set set;
	sigset_t m;
	long ret;

	sigemptyset(&m);
	if (mask & sigsys)
		sigaddset(&m, SIGSYS);
	FD_ZERO(&set);
	if (fd >= 0)
		FD_SET(fd, &set);
	switch (how) {
	case SIGSUSPEND:
		return raw ? RAW(SYS_rt_sigsuspend, &mask, 8) : own(sigsuspend(&m));
	case PPOLL:
		return raw ? RAW(SYS_ppoll, &pfd, 1, NULL, &mask, 8)
		           : own(ppoll(&pfd, 1, NULL, &m));
	case PSELECT:
		return raw ? RAW(SYS_pselect6, fd + 1, &set, NULL, NULL, NULL, &arg6)
		           : own(pselect(fd + 1, &set, NULL, NULL, NULL, &m));
	case EPOLL_PWAIT:
		return raw ? RAW(SYS_epoll_pwait, waited_epoll, &ev, 1, -1, &mask, 8)
		           : own(epoll_pwait(waited_epoll, &ev, 1, -1, &m));
	case EPOLL_PWAIT2:
		ret = raw ? RAW(SYS_epoll_pwait2, waited_epoll, &ev, 1, NULL, &mask, 8)
		          : own(epoll_pwait2(waited_epoll, &ev, 1, NULL, &m));
		return ret == -ENOSYS ? wait_with(EPOLL_PWAIT, mask, fd) : ret;
	default:
		tr_prep(&ring, IORING_OP_POLL_ADD, fd, NULL, 0, 0, 7)->poll32_events = POLLIN;
		ret = tr_submit(&ring);
		if (ret == 1)
			ret = tr_sys_enter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS, &mask, 8);
		if (ret == 0)
			return tr_wait(&ring, &cqe) == 0 ? 1 : -1;
		tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)7, 0, 0, 8);
		tr_submit_wait(&ring, 2);
		while (tr_peek(&ring))
			tr_seen(&ring);
		return ret;
	}
}

static void make_pipe(int p[2])
{
	struct epoll_event ev = { .events = EPOLLIN };

	assert_int_equal(pipe(p), 0);
	waited_epoll = epoll_create1(0);
	assert_int_equal(epoll_ctl(waited_epoll, EPOLL_CTL_ADD, p[0], &ev), 0);
}

static void drop_pipe(int p[2])
{
	close(p[0]);
	close(p[1]);
	close(waited_epoll);
}

static void test_let_in(void **state)
{
	int p[2];

	(void)state;
	handle();
	make_pipe(p);
	for (int how = 0; how < WAITS; how++) {
		handled = 0;
		send(20 + how);
		assert_int_equal(handled, 0);
		assert_int_equal(wait_with(how, 0, p[0]), -EINTR);
		assert_int_equal(handled, 1);
		assert_int_equal(value, 20 + how);
		assert_int_equal(code, SI_QUEUE);
		assert_int_equal(outer, 1);
		assert_int_equal(pending(), 0);
		assert_true(blocked());
	}
	drop_pipe(p);
}

/* What is ready goes first, and the signal stays. */
static void test_ready_first(void **state)
{
	siginfo_t si;
	int p[2];

	(void)state;
	handle();
	make_pipe(p);
	assert_int_equal(write(p[1], "x", 1), 1);
	send(31);
	for (int how = PPOLL; how < ENTER; how++) {
		assert_int_equal(wait_with(how, 0, p[0]), 1);
		assert_int_equal(handled, 0);
		assert_int_equal(pending(), 1);
	}
	assert_int_equal(sigwaitinfo(&only, &si), SIGSYS);
	assert_int_equal(si.si_value.sival_int, 31);
	drop_pipe(p);
}

static volatile sig_atomic_t in_handler;

static void look_around(int sig)
{
	(void)sig;
	in_handler = 1 + blocked();
}

/* The mask of the wait holds in a handler too, where the next wait may let it in again. */
static void test_other_handler(void **state)
{
	struct sigaction sa = { .sa_handler = look_around };
	int p[2];

	(void)state;
	handle();
	make_pipe(p);
	sigaction(SIGUSR1, &sa, NULL);
	for (int how = 0; how < WAITS; how++) {
		sigaddset(&only, SIGUSR1);
		sigprocmask(SIG_SETMASK, &only, NULL);
		sigdelset(&only, SIGUSR1);
		handled = in_handler = 0;
		raise(SIGUSR1);
		assert_int_equal(wait_with(how, 0, p[0]), -EINTR);
		assert_int_equal(in_handler, 1);
		assert_true(blocked());
		/* Both at once. */
		raise(SIGUSR1);
		send(1);
		assert_int_equal(wait_with(how, 0, p[0]), -EINTR);
		assert_int_equal(handled, 1);
		assert_int_equal(pending(), 0);
	}
	sigprocmask(SIG_SETMASK, &only, NULL);
	signal(SIGUSR1, SIG_DFL);
	drop_pipe(p);
}

/* ---- sent while somebody waits, or is about to ---- */

enum { ROUNDS = 300 };

/* Another process sends one as soon as the last has been seen. */
static void ping_pong(int how)
{
	int seen[2], p[2];
	pid_t pid, parent = getpid();
	siginfo_t si;
	char c;

	assert_int_equal(pipe(seen), 0);
	make_pipe(p);
	handled = 0;
	pid = fork();
	if (pid == 0) {
		alarm(40);
		close(seen[1]);
		for (int i = 0; i < ROUNDS; i++)
			if (kill(parent, SIGSYS) || read(seen[0], &c, 1) != 1)
				_exit(1);
		_exit(0);
	}
	for (int i = 1; i <= ROUNDS; i++) {
		if (i % 4 == 0)
			tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0);
		if (how == WAITS) {
			assert_int_equal(sigwaitinfo(&only, &si), SIGSYS);
			assert_int_equal(si.si_code, SI_USER);
			assert_int_equal(si.si_pid, pid);
		} else {
			assert_int_equal(wait_with(how, 0, p[0]), -EINTR);
			assert_int_equal(handled, i);
		}
		assert_int_equal(write(seen[1], "x", 1), 1);
	}
	assert_int_equal(tr_wait_child(pid), 0);
	close(seen[0]);
	close(seen[1]);
	drop_pipe(p);
}

static void test_sent_meanwhile(void **state)
{
	(void)state;
	handle();
	for (int how = 0; how <= WAITS; how++)
		ping_pong(how);
}

static void *take_all(void *arg)
{
	siginfo_t si;
	int n = 0;

	(void)arg;
	while (sigwaitinfo(&only, &si) == SIGSYS && si.si_value.sival_int != 99)
		n++;
	return (void *)(intptr_t)n;
}

/* All threads have it blocked, one is there to take it. */
static void test_thread_that_takes(void **state)
{
	pthread_t t;
	void *n;

	(void)state;
	handle();
	assert_int_equal(pthread_create(&t, NULL, take_all, NULL), 0);
	for (int i = 0; i < 50; i++) {
		send(i);
		while (pending())
			sched_yield();
		tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0);
	}
	send(99);
	pthread_join(t, &n);
	assert_int_equal((intptr_t)n, 50);
	assert_int_equal(handled, 0);
}

static void *wait_long(void *arg)
{
	(void)arg;
	if (tr_entry == TR_LIBC)
		ppoll(NULL, 0, NULL, &none);
	else
		sigwaitinfo(&only, NULL);
	return NULL;
}

static void use_ring(void *arg)
{
	struct tr_ring own_ring;

	(void)arg;
	if (tr_init(&own_ring, 4, 0) || tr_do(&own_ring, IORING_OP_NOP, -1, NULL, 0, 0))
		abort();
	tr_exit(&own_ring);
}

static void *wait_and_clean_up(void *arg)
{
	pthread_cleanup_push(use_ring, NULL);
	wait_long(arg);
	pthread_cleanup_pop(0);
	return NULL;
}

/* A thread that is cancelled while it waits goes on using rings. */
static void test_cancelled(void **state)
{
	pthread_t t;
	void *ret;

	(void)state;
	handle();
	for (int i = 0; i < 20; i++) {
		assert_int_equal(pthread_create(&t, NULL, wait_and_clean_up, NULL), 0);
		if (i % 2)
			tr_sleep_ms(2);
		pthread_cancel(t);
		pthread_join(t, &ret);
		assert_ptr_equal(ret, PTHREAD_CANCELED);
	}
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_taken),         ON_RING(test_let_in),         ON_RING(test_ready_first),
	ON_RING(test_other_handler), ON_RING(test_sent_meanwhile), ON_RING(test_thread_that_takes),
	ON_RING(test_cancelled),
};

/* Before the first ring. */
static void without_ring(void)
{
	static const struct timespec now = { 0, 0 };

	sigemptyset(&only);
	sigaddset(&only, SIGSYS);
	sigprocmask(SIG_BLOCK, &only, NULL);
	raise(SIGSYS);
	TR_CHILD_CHECK(pending() == 1);
	TR_CHILD_CHECK(sigtimedwait(&only, NULL, &now) == SIGSYS);
	TR_CHILD_CHECK(pending() == 0);
}

int main(void)
{
	if (in_child(without_ring, 10)) {
		fprintf(stderr, "failed without a ring\n");
		return 1;
	}
	return tr_run_group("home blocked", tests, sizeof(tests) / sizeof(tests[0]));
}
