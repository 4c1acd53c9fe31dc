/*
 * Signals. A trap in a thread that has SIGSYS blocked, or in a process that has
 * put another handler there, kills the process; so neither ever comes true. Each
 * function takes SIGSYS out of the masks that go to the kernel and remembers, per
 * thread, whether the program believes it blocked, and per signal, whether its
 * sa_mask held it; what is reported back is what the program set. The masks are
 * cleaned from the start, not from the first ring on: the filter may come with a
 * library that is loaded later, to threads that exist already. Handlers are the
 * kernel's until there is a filter (SIGSYS) or a ring (all others: handlers.c).
 */
#include <errno.h>
#include <pthread.h>
#include "preload/export.h"
#include "preload/handlers.h"
#include "preload/init.h"
#include "preload/next.h"
#include "preload/signals.h"
#include "rings/fds.h"
#include "rings/sys.h"
#include "rings/user.h"
#include "seccomp/dispatch.h"
#include "seccomp/sent.h"

#define KERNEL_SIGSET_SIZE 8
#define KERNEL_SA_RESTORER 0x04000000UL
/* Of glibc's own use: sigaction refuses them. */
#define SIGNAL_CANCEL 32
#define SIGNAL_SETXID 33
#define NEVER_BLOCKED (1ULL << (SIGKILL - 1) | 1ULL << (SIGSTOP - 1))

/* Bit (signal - 1): the program's sa_mask for that signal has SIGSYS in it. */
static u64 sa_mask_has_sigsys;

/* The same: siginterrupt() was called for that signal, so signal() does without SA_RESTART. */
static u64 interrupting;

static bool has_sigsys(const sigset_t *set)
{
	return set->__val[0] & FU_SIGSYS_BIT;
}

static void put_sigsys(sigset_t *set, bool on)
{
	set->__val[0] = on ? set->__val[0] | FU_SIGSYS_BIT : set->__val[0] & ~FU_SIGSYS_BIT;
}

bool fu_sigsys_in_sa_mask(int sig)
{
	return fu_load_relaxed(&sa_mask_has_sigsys) & 1ULL << (sig - 1);
}

const sigset_t *fu_open_sigsys(const sigset_t *mask, sigset_t *copy)
{
	if (!mask || !has_sigsys(mask)) {
		return mask;
	}
	*copy = *mask;
	put_sigsys(copy, false);
	return copy;
}

/*
 * Blocked it is to wait when it is sent, and so our handler has to be there. Not so where the
 * program ignores it, which the next one is to inherit; nor in a vfork child, whose handlers are
 * not those that this memory tells of.
 */
static void own_sigsys(void)
{
	struct fu_ksigaction act = { 0 };

	if (fu_load_relaxed(&fu_shim_enabled) && fu_init_is_home() &&
	    fu_sys(SYS_rt_sigaction, SIGSYS, NULL, &act, KERNEL_SIGSET_SIZE) == 0 &&
	    act.handler != (u64)(uintptr_t)SIG_IGN) {
		fu_sigsys_own();
	}
}

/* What the program's belief becomes by sigprocmask(how) with a set that has, or lacks, SIGSYS. */
static void believe(int how, bool in_set)
{
	if (how == SIG_SETMASK) {
		fu_sigsys_blocked = in_set;
	} else if (in_set) {
		fu_sigsys_blocked = how == SIG_BLOCK;
	}
	if (fu_sigsys_blocked && !fu_sigsys_is_owned()) {
		own_sigsys();
	}
	if (fu_unlikely(fu_sigsys_waits())) {
		fu_sigsys_release(false);
	}
}

static int change_mask(int (*next)(int, const sigset_t *, sigset_t *), int how, const sigset_t *set,
                       sigset_t *old)
{
	bool before = fu_sigsys_blocked;
	bool in_set = set && has_sigsys(set);
	sigset_t copy;
	int ret;

	/* Taking SIGSYS out of the blocked ones is always welcome. */
	ret = next(how, how == SIG_UNBLOCK ? set : fu_open_sigsys(set, &copy), old);
	if (ret == 0) {
		if (set) {
			believe(how, in_set);
		}
		if (old && before) {
			put_sigsys(old, true);
		}
	}
	return ret;
}

FU_EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	fu_init();
	return change_mask(fu_next.sigprocmask, how, set, old);
}

FU_EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	fu_init();
	return change_mask(fu_next.pthread_sigmask, how, set, old);
}

long fu_raw_sigprocmask(int how, const u64 *set, u64 *old, size_t size, u64 *frame)
{
	u64 wanted = 0, before = 0, now;

	if (size != KERNEL_SIGSET_SIZE) {
		return -EINVAL;
	}
	if (set && fu_copy_from_user(&wanted, set, size)) {
		return -EFAULT;
	}
	if (set && how != SIG_BLOCK && how != SIG_UNBLOCK && how != SIG_SETMASK) {
		return -EINVAL;
	}
	if (frame) {
		before = *frame;
	} else {
		fu_sys(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &before, size);
	}
	now = before & ~FU_SIGSYS_BIT;
	before = fu_sigsys_blocked ? before | FU_SIGSYS_BIT : now;
	if (set) {
		now = how == SIG_BLOCK ? now | wanted : how == SIG_UNBLOCK ? now & ~wanted : wanted;
		now &= ~(FU_SIGSYS_BIT | NEVER_BLOCKED);
		believe(how, wanted & FU_SIGSYS_BIT);
		if (frame) {
			*frame = now;
		} else {
			fu_sys(SYS_rt_sigprocmask, SIG_SETMASK, &now, NULL, size);
		}
	}
	return old ? fu_copy_to_user(old, &before, size) : 0;
}

const u64 *fu_raw_open_sigsys(const u64 *mask, size_t size, u64 *copy, int *wait)
{
	*wait = -1;
	if (!mask || size != KERNEL_SIGSET_SIZE || fu_copy_from_user(copy, mask, size)) {
		return mask;
	}
	if (!(*copy & FU_SIGSYS_BIT)) {
		*wait = fu_sigsys_wait_begin(FU_SIGSYS_LET_IN);
	}
	*copy &= ~FU_SIGSYS_BIT;
	return copy;
}

const sigset_t *fu_wait_mask(const sigset_t *mask, sigset_t *copy, int *wait)
{
	*wait = mask && !has_sigsys(mask) ? fu_sigsys_wait_begin(FU_SIGSYS_LET_IN) : -1;
	return fu_open_sigsys(mask, copy);
}

/* From libc's structure to the kernel's and back. */
static struct fu_ksigaction to_kernel(const struct sigaction *act)
{
	return (struct fu_ksigaction){ .handler = (u64)(uintptr_t)act->sa_sigaction,
		                       .flags = (u32)act->sa_flags | KERNEL_SA_RESTORER,
		                       .restorer = (u64)(uintptr_t)fu_sigsys_restorer,
		                       .mask = act->sa_mask.__val[0] };
}

static void from_kernel(struct sigaction *act, const struct fu_ksigaction *k)
{
	*act = (struct sigaction){ .sa_flags = (int)(u32)(k->flags & ~KERNEL_SA_RESTORER) };
	act->sa_sigaction = (void (*)(int, siginfo_t *, void *))(uintptr_t)k->handler;
	act->sa_restorer = (void (*)(void))(uintptr_t)k->restorer;
	act->sa_mask.__val[0] = k->mask;
}

/* sigaction once the handlers are ours to call. */
static int kept_action(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct fu_ksigaction new, before;
	long ret;

	if (sig == SIGNAL_CANCEL || sig == SIGNAL_SETXID) {
		errno = EINVAL;
		return -1;
	}
	if (act) {
		new = to_kernel(act);
	}
	ret = fu_handlers_action(sig, act ? &new : NULL, &before);
	if (ret == 0 && old) {
		from_kernel(old, &before);
	}
	return (int)fu_to_libc(ret);
}

static int change_action(int sig, const struct sigaction *act, struct sigaction *old)
{
	u64 bit = sig >= 1 && sig <= 64 ? 1ULL << (sig - 1) : 0;
	struct sigaction copy;
	bool before, in_mask = false;
	int ret;

	fu_init();
	if (fu_handlers_active() || (sig == SIGSYS && fu_sigsys_is_owned())) {
		return kept_action(sig, act, old);
	}
	before = fu_load_relaxed(&sa_mask_has_sigsys) & bit;
	if (act) {
		copy = *act;
		in_mask = has_sigsys(&copy.sa_mask);
		put_sigsys(&copy.sa_mask, false);
	}
	ret = fu_next.sigaction(sig, act ? &copy : NULL, old);
	if (ret == 0) {
		if (act && in_mask != before) {
			__atomic_fetch_xor(&sa_mask_has_sigsys, bit, __ATOMIC_RELAXED);
		}
		if (old && before) {
			put_sigsys(&old->sa_mask, true);
		}
	}
	return ret;
}

FU_EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return change_action(sig, act, old);
}

long fu_raw_sigaction(int sig, const struct fu_ksigaction *act, struct fu_ksigaction *old,
                      size_t size)
{
	struct fu_ksigaction copy, before;
	long ret;

	if (size != KERNEL_SIGSET_SIZE) {
		return fu_sys(SYS_rt_sigaction, sig, act, old, size);
	}
	if (act && fu_copy_from_user(&copy, act, sizeof(copy))) {
		return -EFAULT;
	}
	if (fu_handlers_active() || (sig == SIGSYS && fu_sigsys_is_owned())) {
		ret = fu_handlers_action(sig, act ? &copy : NULL, &before);
		return ret == 0 && old ? fu_copy_to_user(old, &before, sizeof(before)) : ret;
	}
	copy.mask &= ~FU_SIGSYS_BIT;
	return fu_sys(SYS_rt_sigaction, sig, act ? &copy : NULL, old, size);
}

/* The older functions, in terms of the one above: libc's own would go past it. */
static __sighandler_t set_handler(int sig, __sighandler_t handler, int flags)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = flags }, old;

	return handler == SIG_ERR || change_action(sig, &act, &old) ? SIG_ERR : old.sa_handler;
}

FU_EXPORT __sighandler_t signal(int sig, __sighandler_t handler)
{
	u64 bit = sig >= 1 && sig <= 64 ? 1ULL << (sig - 1) : 0;
	int flags = fu_load_relaxed(&interrupting) & bit ? 0 : SA_RESTART;
	struct sigaction act = { .sa_handler = handler, .sa_flags = flags }, old;

	if (handler == SIG_ERR || !bit) {
		errno = EINVAL;
		return SIG_ERR;
	}
	sigaddset(&act.sa_mask, sig);
	return change_action(sig, &act, &old) ? SIG_ERR : old.sa_handler;
}

FU_EXPORT __sighandler_t bsd_signal(int sig, __sighandler_t handler)
{
	return signal(sig, handler);
}

FU_EXPORT __sighandler_t ssignal(int sig, __sighandler_t handler)
{
	return signal(sig, handler);
}

FU_EXPORT __sighandler_t sysv_signal(int sig, __sighandler_t handler)
{
	return set_handler(sig, handler, (int)(SA_RESETHAND | SA_NODEFER));
}

FU_EXPORT __sighandler_t __sysv_signal(int sig, __sighandler_t handler)
{
	return sysv_signal(sig, handler);
}

/* Blocks or opens one signal; returns whether it was blocked, or -1. */
static int block_one(int how, int sig)
{
	sigset_t set, old;

	fu_init();
	sigemptyset(&set);
	if (sigaddset(&set, sig) || change_mask(fu_next.sigprocmask, how, &set, &old)) {
		return -1;
	}
	return sigismember(&old, sig);
}

FU_EXPORT __sighandler_t sigset(int sig, __sighandler_t handler)
{
	struct sigaction act;
	__sighandler_t old;
	int blocked;

	if (handler == SIG_HOLD) {
		if (change_action(sig, NULL, &act)) {
			return SIG_ERR;
		}
		old = act.sa_handler;
		blocked = block_one(SIG_BLOCK, sig);
	} else {
		old = set_handler(sig, handler, 0);
		blocked = old == SIG_ERR ? -1 : block_one(SIG_UNBLOCK, sig);
	}
	return blocked < 0 ? SIG_ERR : blocked ? SIG_HOLD : old;
}

FU_EXPORT int sighold(int sig)
{
	return block_one(SIG_BLOCK, sig) < 0 ? -1 : 0;
}

FU_EXPORT int sigrelse(int sig)
{
	return block_one(SIG_UNBLOCK, sig) < 0 ? -1 : 0;
}

FU_EXPORT int sigignore(int sig)
{
	return set_handler(sig, SIG_IGN, 0) == SIG_ERR ? -1 : 0;
}

FU_EXPORT int siginterrupt(int sig, int interrupt)
{
	u64 bit = sig >= 1 && sig <= 64 ? 1ULL << (sig - 1) : 0;
	struct sigaction act;

	if (change_action(sig, NULL, &act)) {
		return -1;
	}
	if (interrupt) {
		__atomic_fetch_or(&interrupting, bit, __ATOMIC_RELAXED);
		act.sa_flags &= ~SA_RESTART;
	} else {
		__atomic_fetch_and(&interrupting, ~bit, __ATOMIC_RELAXED);
		act.sa_flags |= SA_RESTART;
	}
	return change_action(sig, &act, NULL);
}

/* The BSD masks: the first 32 signals in an int. */
FU_EXPORT int sigblock(int mask)
{
	sigset_t set = { { (unsigned)mask } }, old = { { 0 } };

	return sigprocmask(SIG_BLOCK, &set, &old) ? -1 : (int)old.__val[0];
}

FU_EXPORT int sigsetmask(int mask)
{
	sigset_t set = { { (unsigned)mask } }, old = { { 0 } };

	return sigprocmask(SIG_SETMASK, &set, &old) ? -1 : (int)old.__val[0];
}

/* A thread that starts under such an attribute really has the mask, so SIGSYS must not be in it. */
FU_EXPORT int pthread_attr_setsigmask_np(pthread_attr_t *attr, const sigset_t *mask)
{
	sigset_t copy;

	fu_init();
	if (!fu_next.pthread_attr_setsigmask_np) {
		return ENOSYS;
	}
	return fu_next.pthread_attr_setsigmask_np(attr, fu_open_sigsys(mask, &copy));
}

/* What a new thread runs. Taken from a pool: the engine starts threads where malloc is out of
 * bounds. */
struct thread_start {
	u32 taken; /* set by the creator, cleared by the new thread once it has read the rest */
	void *(*routine)(void *);
	void *arg;
};

static struct thread_start thread_starts[32];

static struct thread_start *take_start(void)
{
	for (size_t i = 0; i < FU_ARRAY_SIZE(thread_starts); i++) {
		if (!__atomic_exchange_n(&thread_starts[i].taken, 1, __ATOMIC_ACQUIRE)) {
			return &thread_starts[i];
		}
	}
	return NULL;
}

static void *start_blocked(void *p)
{
	struct thread_start *start = p;
	void *(*routine)(void *) = start->routine;
	void *arg = start->arg;

	fu_store_release(&start->taken, 0);
	fu_sigsys_blocked = true;
	return routine(arg);
}

/*
 * A new thread has its creator's mask, and so its creator's belief; if more threads
 * than the pool holds are about to start, one of them will see SIGSYS as it is.
 */
FU_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                             void *(*routine)(void *), void *arg)
{
	struct thread_start *start;
	int ret;

	fu_init();
	fu_fds_threaded();
	__atomic_fetch_add(&fu_init_threads, 1, __ATOMIC_RELAXED);
	start = fu_unlikely(fu_sigsys_blocked) ? take_start() : NULL;
	if (!start) {
		return fu_next.pthread_create(thread, attr, routine, arg);
	}
	start->routine = routine;
	start->arg = arg;
	ret = fu_next.pthread_create(thread, attr, start_blocked, start);
	if (ret) {
		fu_store_release(&start->taken, 0);
	}
	return ret;
}

void fu_signals_before_exec(void)
{
	u64 sigsys = FU_SIGSYS_BIT;

	if (fu_sigsys_blocked) {
		fu_sys(SYS_rt_sigprocmask, SIG_BLOCK, &sigsys, NULL, KERNEL_SIGSET_SIZE);
	}
}

void fu_signals_after_exec(void)
{
	u64 sigsys = FU_SIGSYS_BIT;

	if (fu_sigsys_blocked) {
		fu_sys(SYS_rt_sigprocmask, SIG_UNBLOCK, &sigsys, NULL, KERNEL_SIGSET_SIZE);
	}
}
