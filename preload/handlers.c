/*
 * A handler of the program may itself use rings, and may leave with siglongjmp.
 * Neither is possible between a lock and an unlock of the engine, and blocking all
 * signals around each of them would cost two system calls. So the kernel gets one
 * handler for all signals, ours. It looks whether its thread is inside the engine's
 * locks (fu_self.critical). Hardly ever; then it calls the program's handler on the
 * spot. Otherwise it sends the signal to its own thread again, siginfo and all, and
 * returns with everything blocked; when the engine drops its last lock it opens
 * the mask again (fu_signals_release) and the kernel delivers.
 *
 * What the program installed is kept in a table. Whether a signal has a handler at
 * all, is ignored, or has its default is not: there the kernel's own state is the
 * truth, because a vfork child that resets its signals shares our memory, but not
 * its actions, with its parent.
 *
 * What the thread's own instruction has raised (SIGSEGV and the like, with a code that says so)
 * cannot be held back: there is nothing to go on with. The engine does not raise any inside its
 * locks: it touches no memory that the program can take away. The same signals sent by somebody
 * are held like all others.
 *
 * A process without rings keeps its handlers as they are; the first ring takes over those that
 * are there by then, however they were installed.
 */
#include <errno.h>
#include <signal.h>
#include <ucontext.h>
#include "engine/entry.h"
#include "preload/handlers.h"
#include "preload/signals.h"
#include "rings/lock.h"
#include "rings/sys.h"
#include "seccomp/sent.h"

#define KERNEL_SIGSET_SIZE 8
#define KERNEL_SA_RESTORER 0x04000000UL
#define N_SIGNALS          64
#define BIT(sig)           (1ULL << ((sig)-1))
/* Raised by what the thread does, there and then, unless they are sent. */
#define FAULTS (BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGILL) | BIT(SIGTRAP))
/* SIGSYS has a handler of its own, and is held there. */
#define NEVER_HELD (BIT(SIGSYS) | BIT(SIGKILL) | BIT(SIGSTOP))
/* Those that only glibc uses. */
#define GLIBC_OWN (BIT(32) | BIT(33))

static bool active;

/*
 * The last handler of each signal. Two copies, version & 1 says which one counts;
 * written with `writer` held and all signals blocked, read without a lock.
 */
static struct entry {
	u32 version;
	struct fu_ksigaction copy[2];
} table[N_SIGNALS + 1];
static u32 writer;

/* The mask that this thread has in truth while it is held. */
static __thread u64 held_mask __attribute__((tls_model("initial-exec")));
static __thread bool holds_mask __attribute__((tls_model("initial-exec")));

static long set_mask(int how, u64 set, u64 *old)
{
	return fu_sys(SYS_rt_sigprocmask, how, &set, old, KERNEL_SIGSET_SIZE);
}

static long kernel_action(int sig, const struct fu_ksigaction *act, struct fu_ksigaction *old)
{
	return fu_sys(SYS_rt_sigaction, sig, act, old, KERNEL_SIGSET_SIZE);
}

static void read_entry(int sig, struct fu_ksigaction *act)
{
	struct entry *e = &table[sig];
	u32 version;

	do {
		const struct fu_ksigaction *from;

		version = fu_load_acquire(&e->version);
		from = &e->copy[version & 1];
		act->handler = fu_load_relaxed(&from->handler);
		act->flags = fu_load_relaxed(&from->flags);
		act->restorer = fu_load_relaxed(&from->restorer);
		act->mask = fu_load_relaxed(&from->mask);
		fu_fence();
	} while (version != fu_load_relaxed(&e->version));
}

static void write_entry(int sig, const struct fu_ksigaction *act)
{
	struct entry *e = &table[sig];
	struct fu_ksigaction *to = &e->copy[(e->version + 1) & 1];

	fu_store_relaxed(&to->handler, act->handler);
	fu_store_relaxed(&to->flags, act->flags);
	fu_store_relaxed(&to->restorer, act->restorer);
	fu_store_relaxed(&to->mask, act->mask);
	fu_store_release(&e->version, e->version + 1);
}

/* Returns with the thread's signals blocked and the table locked; *mask for unlock_table. */
static void lock_table(u64 *mask)
{
	set_mask(SIG_SETMASK, ~0ULL, mask);
	while (__atomic_exchange_n(&writer, 1, __ATOMIC_ACQUIRE)) {
		fu_sys(SYS_sched_yield);
	}
}

static void unlock_table(u64 mask)
{
	fu_store_release(&writer, 0);
	set_mask(SIG_SETMASK, mask, NULL);
}

/* The signal comes back when the engine's locks are free. */
static void hold_back(int sig, siginfo_t *si, ucontext_t *uc)
{
	u64 *mask = (u64 *)(void *)&uc->uc_sigmask;

	set_mask(SIG_SETMASK, ~NEVER_HELD, NULL);
	if (fu_is_err(fu_sys(SYS_rt_tgsigqueueinfo, fu_sys(SYS_getpid), fu_sys(SYS_gettid), sig,
	                     si))) {
		fu_sys(SYS_tgkill, fu_sys(SYS_getpid), fu_sys(SYS_gettid), sig);
	}
	/*
	 * If another one came between this one's arrival and the call above, it is nested
	 * and has returned: the outer frame has the mask to go back to, so it writes last.
	 */
	held_mask = *mask;
	holds_mask = true;
	fu_self.sig_deferred = 1;
	*mask |= ~NEVER_HELD;
}

static void release(void)
{
	fu_self.sig_deferred = 0;
	if (holds_mask) {
		holds_mask = false;
		set_mask(SIG_SETMASK, held_mask & ~FU_SIGSYS_BIT, NULL);
	}
	if (fu_sigsys_waits()) {
		fu_sigsys_release(false);
	}
}

static void on_signal(int sig, siginfo_t *si, void *context)
{
	u64 *mask = (u64 *)(void *)&((ucontext_t *)context)->uc_sigmask;
	struct fu_ksigaction act, dfl = { 0 };
	bool away, within, ends_wait;
	u8 wait;

	if (fu_unlikely(fu_self.critical) && (si->si_code <= 0 || !(BIT(sig) & FAULTS))) {
		hold_back(sig, si, context);
		return;
	}
	read_entry(sig, &act);
	if (act.flags & (u32)SA_RESETHAND) {
		kernel_action(sig, &dfl, NULL);
	}
	/* What the thread is about to wait for is no matter of the handler's. */
	ends_wait = fu_sigsys_ends_wait(context);
	wait = fu_sigsys_wait;
	fu_sigsys_wait = FU_SIGSYS_NOWHERE;
	/* A wait in code that we know nothing of may have put a mask in place that has SIGSYS. */
	set_mask(SIG_UNBLOCK, FU_SIGSYS_BIT, NULL);
	fu_sigsys_in_frame(mask, act.mask, ends_wait);
	within = fu_stay_interrupted((uintptr_t)__builtin_frame_address(0));
	away = !fu_self.critical && fu_handler_begins();
	/* A handler of one argument does not mind the other two, which the kernel passes as well.
	 */
	((void (*)(int, siginfo_t *, void *))(uintptr_t)act.handler)(sig, si, context);
	if (away) {
		fu_handler_ends();
	}
	if (within) {
		fu_stay_resumed();
	}
	fu_sigsys_wait = wait;
	fu_sigsys_from_frame(mask);
}

/* What the kernel gets for the program's `act`. */
static struct fu_ksigaction wrapped(const struct fu_ksigaction *act)
{
	struct fu_ksigaction own = *act;

	own.mask &= ~FU_SIGSYS_BIT;
	if (act->handler > (u64)(uintptr_t)SIG_IGN) {
		own.handler = (u64)(uintptr_t)on_signal;
		own.flags =
		        (act->flags & ~(u64)(u32)SA_RESETHAND) | SA_SIGINFO | KERNEL_SA_RESTORER;
		own.restorer = (u64)(uintptr_t)fu_sigsys_restorer;
	}
	return own;
}

bool fu_handlers_active(void)
{
	return fu_load_relaxed(&active);
}

long fu_handlers_action(int sig, const struct fu_ksigaction *act, struct fu_ksigaction *old)
{
	struct fu_ksigaction own, before = { 0 }, kept = { 0 };
	u64 mask;
	long ret;

	if (sig == SIGSYS && fu_sigsys_is_owned()) {
		fu_sigsys_program_action(act, old);
		return 0;
	}
	if (sig < 1 || sig > N_SIGNALS) {
		return -EINVAL;
	}
	if (act) {
		own = wrapped(act);
	}
	lock_table(&mask);
	read_entry(sig, &kept);
	if (act && act->handler > (u64)(uintptr_t)SIG_IGN) {
		write_entry(sig, act);
	}
	ret = kernel_action(sig, act ? &own : NULL, &before);
	unlock_table(mask);
	if (ret == 0 && old) {
		*old = before.handler == (u64)(uintptr_t)on_signal ? kept : before;
	}
	return ret;
}

/* A ring is about to be made: if it is the first, takes over the handlers that there are. */
void fu_handlers_take_over(void)
{
	u64 mask;

	if (__atomic_exchange_n(&active, true, __ATOMIC_ACQ_REL)) {
		return;
	}
	lock_table(&mask);
	for (int sig = 1; sig <= N_SIGNALS; sig++) {
		struct fu_ksigaction act, own;

		if ((BIT(sig) & (GLIBC_OWN | NEVER_HELD)) || kernel_action(sig, NULL, &act) != 0 ||
		    act.handler <= (u64)(uintptr_t)SIG_IGN ||
		    act.handler == (u64)(uintptr_t)on_signal) {
			continue;
		}
		/* The kernel was not told of it. */
		if (fu_sigsys_in_sa_mask(sig)) {
			act.mask |= FU_SIGSYS_BIT;
		}
		write_entry(sig, &act);
		own = wrapped(&act);
		kernel_action(sig, &own, NULL);
	}
	unlock_table(mask);
}

void fu_handlers_fork_child(void)
{
	/* Whoever held it is not here; and what was pending is the parent's, but the mask is ours.
	 */
	fu_store_relaxed(&writer, 0);
	if (fu_self.sig_deferred) {
		release();
	}
}

void fu_handlers_init(void)
{
	fu_signals_release = release;
}
