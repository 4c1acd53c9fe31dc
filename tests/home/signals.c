/*
 * Signals in a program that has other things in mind than rings: every way to block all of
 * them, masks and handlers as the program set them, storms, and jumps out of handlers.
 */
#include "tests/home/home.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

static struct tr_ring ring;
static volatile sig_atomic_t handled;

static int setup(void **state)
{
	(void)state;
	handled = 0;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return tr_init(&ring, 64, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	return 0;
}

static long own_mask(int how, const uint64_t *set, uint64_t *old)
{
	if (tr_entry == TR_INLINE)
		return RAW(SYS_rt_sigprocmask, how, set, old, 8);
	return syscall(SYS_rt_sigprocmask, how, set, old, 8L);
}

static const uint64_t all = ~0ULL, all_but_kill = ~(1ULL << (SIGKILL - 1) | 1ULL << (SIGSTOP - 1));
/* What sigfillset makes: without libc's own. */
static const uint64_t all_of_libc = ~(1ULL << (SIGKILL - 1) | 1ULL << (SIGSTOP - 1) | 3ULL << 31);

/* Uses the ring, another one, and descriptors in the ways that may end in the trap. */
static void use_rings(void)
{
	struct io_uring_cqe cqe;
	struct tr_ring own;
	char c = 0;
	int p[2];

	if (tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0) != 0 || tr_init(&own, 4, 0) < 0 ||
	    pipe(p) < 0)
		abort();
	tr_prep(&own, IORING_OP_READ, p[0], &c, 1, 0, 1);
	if (tr_submit(&own) != 1 || write(p[1], "x", 1) != 1 || tr_wait(&own, &cqe) || cqe.res != 1)
		abort();
	tr_exit(&own);
	tr_sys_close(p[0]);
	tr_sys_close(p[1]);
}

static void test_raw_mask(void **state)
{
	uint64_t before, now;

	(void)state;
	assert_int_equal(own_mask(SIG_SETMASK, &all, &before), 0);
	use_rings();
	assert_int_equal(own_mask(SIG_BLOCK, NULL, &now), 0);
	assert_true(now == all_but_kill);
	assert_int_equal(own_mask(SIG_SETMASK, &before, &now), 0);
	assert_true(now == all_but_kill);
	assert_int_equal(own_mask(SIG_BLOCK, &all, NULL), 0);
	use_rings();
	assert_int_equal(own_mask(SIG_UNBLOCK, &all, &now), 0);
	assert_true(now == all_but_kill);
	assert_int_equal(own_mask(SIG_SETMASK, &before, &now), 0);
	assert_true(now == 0);
	/* What it answers to nonsense. */
	if (tr_entry == TR_INLINE) {
		assert_int_equal(own_mask(77, &all, &now), -EINVAL);
		assert_int_equal(own_mask(SIG_BLOCK, (void *)8, &now), -EFAULT);
		assert_int_equal(own_mask(SIG_BLOCK, &before, (void *)8), -EFAULT);
		assert_int_equal(RAW(SYS_rt_sigprocmask, SIG_BLOCK, &before, NULL, 4), -EINVAL);
	}
}

static void *born_blocked(void *arg)
{
	sigset_t now;

	use_rings();
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	*(int *)arg = sigismember(&now, SIGSYS);
	return NULL;
}

static void test_thread_of_raw_mask(void **state)
{
	uint64_t before;
	pthread_t t;
	int blocked = -1;

	(void)state;
	assert_int_equal(own_mask(SIG_SETMASK, &all, &before), 0);
	assert_int_equal(pthread_create(&t, NULL, born_blocked, &blocked), 0);
	pthread_join(t, NULL);
	assert_int_equal(blocked, 1);
	assert_int_equal(own_mask(SIG_SETMASK, &before, NULL), 0);
}

static uint64_t mask_in_handler, mask_of_context;

static void ring_handler(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)si;
	own_mask(SIG_BLOCK, NULL, &mask_in_handler);
	mask_of_context = *(uint64_t *)(void *)&((ucontext_t *)context)->uc_sigmask;
	use_rings();
	handled++;
}

static void on_info(int sig, void (*handler)(int, siginfo_t *, void *), bool full, int flags)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };

	if (full)
		sigfillset(&sa.sa_mask);
	assert_int_equal(sigaction(sig, &sa, NULL), 0);
}

static void test_sa_mask(void **state)
{
	struct sigaction old;
	uint64_t now;

	(void)state;
	on_info(SIGUSR1, ring_handler, true, 0);
	assert_int_equal(sigaction(SIGUSR1, NULL, &old), 0);
	assert_int_equal(sigismember(&old.sa_mask, SIGSYS), 1);
	assert_ptr_equal(old.sa_sigaction, ring_handler);
	raise(SIGUSR1);
	assert_int_equal(handled, 1);
	assert_true(mask_in_handler & 1ULL << (SIGSYS - 1));
	own_mask(SIG_BLOCK, NULL, &now);
	assert_true(now == 0);
	signal(SIGUSR1, SIG_DFL);
}

/* Calls that put another mask in place for as long as they wait. */
static void test_masks_of_waits(void **state)
{
	static const uint64_t usr1 = 1ULL << (SIGUSR1 - 1);
	const uint64_t but_usr1 = all & ~usr1;
	sigset_t but_usr1_set;
	struct {
		const uint64_t *mask;
		size_t bytes;
	} arg6 = { &but_usr1, 8 };
	struct epoll_event ev;
	int ep = epoll_create1(0);

	(void)state;
	sigfillset(&but_usr1_set);
	sigdelset(&but_usr1_set, SIGUSR1);
	on_info(SIGUSR1, ring_handler, false, 0);
	assert_int_equal(own_mask(SIG_BLOCK, &usr1, NULL), 0);
	for (int i = 0; i < 5; i++) {
		bool raw = tr_entry == TR_INLINE;
		long ret = 0;

		raise(SIGUSR1);
		errno = EINTR;
		switch (i) {
		case 0:
			ret = raw ? RAW(SYS_rt_sigsuspend, &but_usr1, 8)
			          : sigsuspend(&but_usr1_set);
			break;
		case 1:
			ret = raw ? RAW(SYS_ppoll, NULL, 0, NULL, &but_usr1, 8)
			          : ppoll(NULL, 0, NULL, &but_usr1_set);
			break;
		case 2:
			ret = raw ? RAW(SYS_pselect6, 0, NULL, NULL, NULL, NULL, &arg6)
			          : pselect(0, NULL, NULL, NULL, NULL, &but_usr1_set);
			break;
		case 3:
			ret = raw ? RAW(SYS_epoll_pwait, ep, &ev, 1, -1, &but_usr1, 8)
			          : epoll_pwait(ep, &ev, 1, -1, &but_usr1_set);
			break;
		default:
			ret = tr_sys_enter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS, &but_usr1, 8);
			raw = true;
			break;
		}
		assert_int_equal(raw ? ret : -errno, -EINTR);
		assert_int_equal(handled, i + 1);
	}
	assert_int_equal(own_mask(SIG_UNBLOCK, &usr1, NULL), 0);
	signal(SIGUSR1, SIG_DFL);
	close(ep);
}

/* A handler that changes the mask that it returns to. */
static void block_all_on_return(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)si;
	sigfillset(&((ucontext_t *)context)->uc_sigmask);
	handled++;
}

static void test_mask_by_return(void **state)
{
	uint64_t now;

	(void)state;
	on_info(SIGUSR1, block_all_on_return, false, 0);
	raise(SIGUSR1);
	assert_int_equal(handled, 1);
	use_rings();
	own_mask(SIG_BLOCK, NULL, &now);
	assert_true(now == all_of_libc);
	now = 0;
	own_mask(SIG_SETMASK, &now, NULL);
	signal(SIGUSR1, SIG_DFL);
}

/* ---- coroutines, each with a mask of its own ---- */

static ucontext_t main_context, other_context;
static uint64_t other_mask;

static void other(void)
{
	for (;;) {
		use_rings();
		own_mask(SIG_BLOCK, NULL, &other_mask);
		handled++;
		swapcontext(&other_context, &main_context);
	}
}

static void test_swapcontext(void **state)
{
	size_t bytes = 65536;
	char *stack = malloc(bytes);
	uint64_t now;

	(void)state;
	assert_non_null(stack);
	assert_int_equal(getcontext(&other_context), 0);
	other_context.uc_stack.ss_sp = stack;
	other_context.uc_stack.ss_size = bytes;
	other_context.uc_link = NULL;
	sigfillset(&other_context.uc_sigmask);
	makecontext(&other_context, other, 0);
	for (int i = 1; i <= 3; i++) {
		other_mask = 0;
		assert_int_equal(swapcontext(&main_context, &other_context), 0);
		assert_int_equal(handled, i);
		assert_true(other_mask == all_of_libc);
		own_mask(SIG_BLOCK, NULL, &now);
		assert_true(now == 0);
		use_rings();
	}
	free(stack);
}

static void test_setcontext(void **state)
{
	volatile int round = 0;
	ucontext_t here;
	uint64_t now, none = 0;

	(void)state;
	/* Taken with everything blocked, gone back to with nothing blocked. */
	assert_int_equal(own_mask(SIG_SETMASK, &all, NULL), 0);
	assert_int_equal(getcontext(&here), 0);
	assert_int_equal(sigismember(&here.uc_sigmask, SIGTERM), 1);
	own_mask(SIG_BLOCK, NULL, &now);
	assert_true(now == all_but_kill);
	use_rings();
	assert_int_equal(own_mask(SIG_SETMASK, &none, NULL), 0);
	use_rings();
	if (round++ < 3)
		setcontext(&here);
	assert_int_equal(round, 4);
	own_mask(SIG_BLOCK, NULL, &now);
	assert_true(now == 0);
}

/* ---- jumps out of handlers ---- */

static sigjmp_buf back;

static void jump(int sig)
{
	handled++;
	siglongjmp(back, sig);
}

static ucontext_t back_context;

static void jump_by_context(int sig)
{
	(void)sig;
	handled++;
	setcontext(&back_context);
}

static void test_jump_out_of_wait(void **state)
{
	struct itimerval it = { .it_value = { 0, 300 } };
	int p[2];
	char c;

	(void)state;
	signal(SIGALRM, jump);
	assert_int_equal(pipe(p), 0);
	for (volatile int i = 0; i < 200; i++) {
		volatile int k = i;

		if (i && i % 10 == 0) {
			/* A ring that was jumped out of can be closed. */
			tr_exit(&ring);
			assert_int_equal(tr_init(&ring, 64, 0), 0);
		}
		if (!sigsetjmp(back, 1)) {
			tr_prep(&ring, IORING_OP_READ, p[0], &c, 1, 0, (unsigned)k);
			/* The signal may come before the call has. */
			tr_publish(&ring);
			assert_int_equal(setitimer(ITIMER_REAL, &it, NULL), 0);
			while (tr_submit_wait(&ring, 1) > -4000)
				;
			fail();
		}
		/* Whether the SQE had been taken is the program's to find out. */
		ring.sqe_tail = *ring.sq_tail;
		while (*ring.sq_head != *ring.sq_tail)
			assert_true(tr_sys_enter(ring.fd, 1, 0, 0, NULL, 0) >= 0);
		assert_int_equal(write(p[1], "x", 1), 1);
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait_ms(&ring, &cqe, 10000), 0);
		assert_int_equal(cqe.user_data, k);
		assert_int_equal(cqe.res, 1);
		assert_int_equal(tr_ready(&ring), 0);
	}
	assert_int_equal(handled, 200);
	signal(SIGALRM, SIG_DFL);
	close(p[0]);
	close(p[1]);
}

static void *waits_elsewhere(void *arg)
{
	struct io_uring_cqe cqe;

	while (tr_wait(arg, &cqe) == -EINTR)
		;
	return NULL;
}

static long pages_mapped(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long pages = 0;

	if (!f || fscanf(f, "%ld", &pages) != 1)
		abort();
	fclose(f);
	return pages;
}

/* Waits for nothing on a ring of its own until a handler jumps away, and closes the ring. */
static void leave_by_jump(int fd, bool nested)
{
	static struct tr_ring r;
	static char c;
	struct itimerval it = { .it_value = { 0, 200 } };
	volatile bool left = false;

	assert_int_equal(tr_init(&r, 8, 0), 0);
	assert_int_equal(getcontext(&back_context), 0);
	if (!left && !sigsetjmp(back, 1)) {
		left = true;
		tr_prep(&r, IORING_OP_READ, fd, &c, 1, 0, 1);
		assert_int_equal(setitimer(ITIMER_REAL, &it, NULL), 0);
		while (tr_submit_wait(&r, 1) > -4000)
			;
		fail();
	}
	tr_exit(&r);
	if (nested)
		assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
}

/* What a wait has held is given back when it is left, also where other threads wait. */
static void test_jumps_leave_nothing(void **state)
{
	static char c;
	struct tr_ring others;
	int p[2];
	pthread_t t;

	(void)state;
	signal(SIGALRM, jump);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_init(&others, 8, 0), 0);
	tr_prep(&others, IORING_OP_READ, p[0], &c, 1, 0, 1);
	assert_int_equal(tr_submit(&others), 1);
	for (int pass = 0; pass < 2; pass++) {
		long before = 0;

		if (pass) {
			sigset_t alarm;

			sigemptyset(&alarm);
			sigaddset(&alarm, SIGALRM);
			pthread_sigmask(SIG_BLOCK, &alarm, NULL);
			assert_int_equal(pthread_create(&t, NULL, waits_elsewhere, &others), 0);
			pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
		}
		for (int i = 0; i < 600; i++) {
			/* A sanitizer is not told of the second way. */
			signal(SIGALRM, i % 4 < 2 || SANITIZED ? jump : jump_by_context);
			leave_by_jump(p[0], i % 2);
			if (i == 100)
				before = pages_mapped();
		}
		assert_true(pages_mapped() < before + 256);
	}
	signal(SIGALRM, SIG_DFL);
	assert_int_equal(write(p[1], "x", 1), 1);
	pthread_join(t, NULL);
	tr_exit(&others);
	close(p[0]);
	close(p[1]);
}

/*
 * A handler that goes on with another stack, close above, and comes back to the wait later, as
 * coroutines do that take turns by a timer.
 */
enum { STACK = 256 * 1024, TURNS = 60, WAITS = 8 };

static sigjmp_buf in_wait, in_turn;
static ucontext_t outside, waiting, turning;
static int turns_pipe[2];
static long turns_grew;

static void switch_stacks(int sig)
{
	(void)sig;
	handled++;
	if (!sigsetjmp(in_wait, 1))
		siglongjmp(in_turn, 1);
}

/* With the signal blocked, or it might be handled on this stack. */
static void take_turns(void)
{
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm, NULL);
	if (!sigsetjmp(in_turn, 1))
		swapcontext(&turning, &outside);
	siglongjmp(in_wait, 1);
}

static void wait_in_turns(void)
{
	static const struct itimerval on = { { 0, 500 }, { 0, 200 } }, off;
	static struct tr_ring r;
	static char c;
	long before = 0;

	for (volatile int i = 0; i < TURNS; i++) {
		assert_int_equal(tr_init(&r, 8, 0), 0);
		tr_prep(&r, IORING_OP_READ, turns_pipe[0], &c, 1, 0, 1);
		assert_int_equal(tr_submit(&r), 1);
		assert_int_equal(setitimer(ITIMER_REAL, &on, NULL), 0);
		for (volatile int k = 0; k < WAITS; k++)
			assert_int_equal(tr_sys_enter(r.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0),
			                 -EINTR);
		assert_int_equal(setitimer(ITIMER_REAL, &off, NULL), 0);
		assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
		tr_exit(&r);
		if (i == TURNS / 4)
			before = pages_mapped();
	}
	turns_grew = pages_mapped() - before;
}

static void test_stacks_in_turns(void **state)
{
	char *stacks =
	        mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	if (SANITIZED)
		skip();
	assert_true(stacks != MAP_FAILED);
	assert_int_equal(pipe(turns_pipe), 0);
	getcontext(&turning);
	turning.uc_stack = (stack_t){ .ss_sp = stacks + STACK, .ss_size = STACK };
	makecontext(&turning, take_turns, 0);
	assert_int_equal(swapcontext(&outside, &turning), 0);
	signal(SIGALRM, switch_stacks);
	getcontext(&waiting);
	waiting.uc_stack = (stack_t){ .ss_sp = stacks, .ss_size = STACK };
	waiting.uc_link = &outside;
	makecontext(&waiting, wait_in_turns, 0);
	assert_int_equal(swapcontext(&outside, &waiting), 0);
	signal(SIGALRM, SIG_DFL);
	assert_true(handled >= TURNS * WAITS);
	assert_true(turns_grew < 256);
	close(turns_pipe[0]);
	close(turns_pipe[1]);
	munmap(stacks, 2 * STACK);
}

/* ---- storms ---- */

enum { STORM = 5000 };

static volatile int next_value, disorder;

static void in_order(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)context;
	if (si->si_value.sival_int != next_value)
		disorder = 1;
	next_value++;
}

struct sender {
	pthread_t to;
	int stop;
	bool process;
};

static void *send_storm(void *arg)
{
	struct sender *s = arg;
	struct timespec pause = { 0, 40000 };

	for (int i = 0; i < STORM;) {
		union sigval v = { .sival_int = i };
		int ret = s->process ? sigqueue(getpid(), SIGRTMIN + 3, v)
		                     : -pthread_sigqueue(s->to, SIGRTMIN + 3, v);

		if (ret == 0)
			i++;
		if (i % 4 == 0)
			nanosleep(&pause, NULL);
	}
	__atomic_store_n(&s->stop, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Reads and writes through a pipe, a file and a worker while signals come in. */
static void storm(bool process, unsigned flags)
{
	struct sender s = { .to = pthread_self(), .process = process };
	unsigned char buf[512], got[64] = { 0 };
	int fd = tr_temp_file(65536), p[2];
	unsigned done = 0, submitted = 0, n = 0;
	struct tr_ring r;
	sigset_t rt;
	pthread_t t;

	next_value = disorder = 0;
	on_info(SIGRTMIN + 3, in_order, false, SA_RESTART);
	assert_int_equal(tr_init(&r, 16, flags), 0);
	assert_int_equal(pipe(p), 0);
	/* The sender itself takes none. */
	sigemptyset(&rt);
	sigaddset(&rt, SIGRTMIN + 3);
	pthread_sigmask(SIG_BLOCK, &rt, NULL);
	assert_int_equal(pthread_create(&t, NULL, send_storm, &s), 0);
	pthread_sigmask(SIG_UNBLOCK, &rt, NULL);
	while (!__atomic_load_n(&s.stop, __ATOMIC_ACQUIRE) || next_value < STORM) {
		unsigned want = 3, seen = 0;
		int rc;

		tr_prep(&r, IORING_OP_READ, p[0], got, 1, 0, 1);
		tr_prep(&r, IORING_OP_WRITE, p[1], &"y", 1, 0, 2);
		tr_prep(&r, IORING_OP_READ, fd, buf, 512, n % 60000, 4)->flags =
		        n % 16 == 0 ? IOSQE_ASYNC : 0;
		n += 977;
		submitted += want;
		tr_publish(&r);
		while (done < submitted) {
			struct io_uring_cqe *cqe;

			rc = tr_sys_enter(r.fd, *r.sq_tail - *r.sq_head, 1, IORING_ENTER_GETEVENTS,
			                  NULL, 0);
			assert_true(rc >= 0 || rc == -EINTR);
			while ((cqe = tr_peek(&r))) {
				assert_int_equal(cqe->res, cqe->user_data == 4 ? 512 : 1);
				seen += (unsigned)cqe->user_data;
				done++;
				tr_seen(&r);
			}
		}
		assert_int_equal(seen, 7);
		assert_int_equal(buf[0], tr_pattern((n - 977) % 60000));
	}
	pthread_join(t, NULL);
	assert_int_equal(next_value, STORM);
	/* Aimed at a thread, one that comes at a bad moment has to queue again: see FEATURES.md. */
	if (process || !tr_under_shim())
		assert_int_equal(disorder, 0);
	tr_exit(&r);
	close(fd);
	close(p[0]);
	close(p[1]);
}

static void test_storm_at_process(void **state)
{
	(void)state;
	storm(true, 0);
}

static void test_storm_at_thread(void **state)
{
	(void)state;
	storm(false, 0);
}

static void test_storm_deferred(void **state)
{
	(void)state;
	storm(false, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
}

static volatile int ticks;

static void tick(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)context;
	ticks += 1 + si->si_overrun;
}

/* A timer at 10 kHz on a thread that does nothing but submit. */
static void test_timer(void **state)
{
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 4 };
	struct itimerspec it = { { 0, 100000 }, { 0, 100000 } };
	timer_t timer;

	(void)state;
	ticks = 0;
	on_info(SIGRTMIN + 4, tick, false, SA_RESTART);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &ev, &timer), 0);
	assert_int_equal(timer_settime(timer, 0, &it, NULL), 0);
	for (int i = 0; ticks < 3000; i++) {
		int rc;

		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, (unsigned)i);
		assert_int_equal(tr_submit(&ring), 1);
		struct io_uring_cqe cqe;

		do
			rc = tr_wait(&ring, &cqe);
		while (rc == -EINTR);
		assert_int_equal(rc, 0);
		assert_int_equal(cqe.user_data, i);
	}
	assert_int_equal(timer_delete(timer), 0);
	signal(SIGRTMIN + 4, SIG_IGN);
}

/* ---- SIGSYS of the program's own ---- */

static volatile int sigsys_value;

static void on_sigsys(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)context;
	sigsys_value = si->si_value.sival_int;
	use_rings();
	handled++;
}

static void test_own_sigsys(void **state)
{
	union sigval v = { .sival_int = 1234 };
	struct sigaction old;

	(void)state;
	on_info(SIGSYS, on_sigsys, true, (int)SA_RESETHAND);
	assert_int_equal(sigqueue(getpid(), SIGSYS, v), 0);
	assert_int_equal(handled, 1);
	assert_int_equal(sigsys_value, 1234);
	assert_int_equal(sigaction(SIGSYS, NULL, &old), 0);
	assert_ptr_equal(old.sa_handler, SIG_DFL);
	use_rings();
}

/* ---- signals that are raised by instructions as a rule, sent by others ---- */

enum { POKES = 3000 };

/* The first two have their handlers before any ring; the last is also what a filter's trap sends.
 */
static const int fault_signals[] = { SIGABRT, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS };
enum { FAULTS = sizeof(fault_signals) / sizeof(fault_signals[0]) };
static struct tr_ring handlers_own;
static int poke_pipe[2];
static volatile int poked, poke_errors;

/* Uses rings and descriptors; what it interrupts may be anywhere. */
static void on_poke(int sig, siginfo_t *si, void *context)
{
	struct tr_ring r;
	char c = 0;

	(void)sig;
	(void)si;
	(void)context;
	poke_errors += write(poke_pipe[1], "x", 1) != 1;
	poke_errors += tr_do(&handlers_own, IORING_OP_NOP, -1, NULL, 0, 0) != 0;
	poke_errors += read(poke_pipe[0], &c, 1) != 1;
	if (poked % 16 == 0 && tr_init(&r, 4, 0) == 0)
		tr_exit(&r);
	poked++;
}

/* Two of the handlers are there before any ring. */
__attribute__((constructor)) static void handle_early(void)
{
	struct sigaction act = { .sa_sigaction = on_poke, .sa_flags = SA_SIGINFO | SA_RESTART };

	sigfillset(&act.sa_mask);
	sigaction(SIGABRT, &act, NULL);
	sigaction(SIGTRAP, &act, NULL);
}

static void test_poked(void **state)
{
	struct timespec pause = { 0, 20000 };
	struct sigaction old[FAULTS];
	struct tr_ring r;
	int p[2];
	char got;
	pid_t pid;

	(void)state;
	poked = poke_errors = 0;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(pipe(poke_pipe), 0);
	assert_int_equal(tr_init(&r, 16, 0), 0);
	assert_int_equal(tr_init(&handlers_own, 4, 0), 0);
	tr_prep(&r, IORING_OP_POLL_ADD, poke_pipe[0], NULL, IORING_POLL_ADD_MULTI, 0, 9)
	        ->poll32_events = POLLIN;
	assert_int_equal(tr_submit(&r), 1);
	for (int i = 2; i < FAULTS; i++) {
		struct sigaction act = { .sa_sigaction = on_poke, .sa_flags = SA_SIGINFO };

		sigfillset(&act.sa_mask);
		assert_int_equal(sigaction(fault_signals[i], &act, &old[i]), 0);
	}
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < POKES; i++) {
			kill(getppid(), fault_signals[i % FAULTS]);
			nanosleep(&pause, NULL);
		}
		_exit(0);
	}
	for (int done = 0; !done || poked < 10;) {
		unsigned seen = 0;

		tr_prep(&r, IORING_OP_READ, p[0], &got, 1, 0, 1);
		tr_prep(&r, IORING_OP_WRITE, p[1], &"y", 1, 0, 2);
		tr_publish(&r);
		while (seen < 2) {
			struct io_uring_cqe *cqe;
			int rc = tr_sys_enter(r.fd, *r.sq_tail - *r.sq_head, 1,
			                      IORING_ENTER_GETEVENTS, NULL, 0);

			assert_true(rc >= 0 || rc == -EINTR);
			while ((cqe = tr_peek(&r))) {
				seen += cqe->user_data != 9;
				tr_seen(&r);
			}
		}
		done = waitpid(pid, NULL, WNOHANG) == pid;
	}
	assert_int_equal(poke_errors, 0);
	for (int i = 2; i < FAULTS; i++)
		sigaction(fault_signals[i], &old[i], NULL);
	tr_exit(&r);
	tr_exit(&handlers_own);
	for (int i = 0; i < 2; i++) {
		close(p[i]);
		close(poke_pipe[i]);
	}
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_raw_mask),
	ON_RING(test_thread_of_raw_mask),
	ON_RING(test_sa_mask),
	ON_RING(test_masks_of_waits),
	ON_RING(test_mask_by_return),
	ON_RING(test_swapcontext),
	ON_RING(test_setcontext),
	ON_RING(test_jump_out_of_wait),
	ON_RING(test_jumps_leave_nothing),
	ON_RING(test_stacks_in_turns),
	ON_RING(test_storm_at_process),
	ON_RING(test_storm_at_thread),
	ON_RING(test_storm_deferred),
	ON_RING(test_timer),
	ON_RING(test_own_sigsys),
	ON_RING(test_poked),
};

TR_MAIN("home signals", tests)
