/*
 * SIGSYS that was sent to the program. The signal is open in every thread, whatever
 * the program has set, since a trap must never find it blocked. One that comes while
 * the thread's program believes it blocked is therefore put aside here, in the
 * thread or, if it was sent to the process, for all threads; and it is sent again
 * when the program opens the signal.
 *
 * A wait that lets it in for its own time, or takes it, has to end by one that is
 * there already, and by one that comes between its first instruction and its system
 * call. For such a one the thread sends itself a poke, with SIGSYS blocked in truth:
 * then ppoll, sigtimedwait and the others do what they always do. It is never blocked
 * without one pending, and so for no longer than a moment.
 *
 * A poke is a SIGSYS that only says: look at what was put aside. What was sent stays
 * there until somebody takes it, so that a poke may come for nothing, or not at all
 * where the kernel has merged it with a trap's signal: after each trap the thread looks.
 */
#include "seccomp/sent.h"
#include <errno.h>
#include "engine/entry.h"
#include "rings/lock.h"
#include "rings/sys.h"

#define KERNEL_SIGSET_SIZE 8
#define SYSCALL_BYTES      0x050f /* the instruction */

__thread u8 fu_sigsys_wait __attribute__((tls_model("initial-exec")));

/* One at most of a thread's, and one of the process's, as in the kernel. */
static __thread siginfo_t kept __attribute__((tls_model("initial-exec")));
static __thread bool keeps __attribute__((tls_model("initial-exec")));
/* SIGSYS may be blocked in truth. */
static __thread bool shut __attribute__((tls_model("initial-exec")));

/* What was sent to the process: one at most, as in the kernel. */
static struct {
	u32 state;
	siginfo_t si;
} of_process;
enum { SLOT_EMPTY, SLOT_BUSY, SLOT_FULL };

/* Threads in a wait that one sent to the process may end. Beyond these nobody is told. */
static u32 waiters[16];

static bool step(u32 from, u32 to)
{
	return __atomic_compare_exchange_n(&of_process.state, &from, to, false, __ATOMIC_SEQ_CST,
	                                   __ATOMIC_RELAXED);
}

static void fill(const siginfo_t *si)
{
	if (step(SLOT_EMPTY, SLOT_BUSY)) {
		of_process.si = *si;
		__atomic_store_n(&of_process.state, SLOT_FULL, __ATOMIC_SEQ_CST);
	}
}

/* Takes one that was put aside; false if there is none. */
static bool take(siginfo_t *si)
{
	if (keeps) {
		*si = kept;
		keeps = false;
		return true;
	}
	if (!step(SLOT_FULL, SLOT_BUSY)) {
		return false;
	}
	*si = of_process.si;
	fu_store_release(&of_process.state, SLOT_EMPTY);
	return true;
}

bool fu_sigsys_waits(void)
{
	return keeps || __atomic_load_n(&of_process.state, __ATOMIC_SEQ_CST) == SLOT_FULL;
}

static void change_mask(int how)
{
	u64 sigsys = FU_SIGSYS_BIT;

	fu_sys(SYS_rt_sigprocmask, how, &sigsys, NULL, KERNEL_SIGSET_SIZE);
}

/* 0, or -errno if there is no such thread any more. */
static long poke(u32 tid)
{
	long pid = fu_sys(SYS_getpid);
	siginfo_t si = { .si_signo = SIGSYS, .si_code = SI_QUEUE };

	si.si_pid = (pid_t)pid;
	si.si_value.sival_ptr = &of_process;
	return fu_sys(SYS_rt_tgsigqueueinfo, pid, tid, SIGSYS, &si);
}

static bool is_poke(const siginfo_t *si)
{
	return si->si_code == SI_QUEUE && si->si_value.sival_ptr == &of_process &&
	       si->si_pid == (pid_t)fu_sys(SYS_getpid);
}

static void poke_self(void)
{
	poke((u32)fu_sys(SYS_gettid));
}

bool fu_sigsys_taken(siginfo_t *si)
{
	return !is_poke(si) || take(si);
}

static void forget(u32 *waiter, u32 tid)
{
	__atomic_compare_exchange_n(waiter, &tid, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* Something was put aside for the process: tells a thread that waits for it. */
static void tell_waiter(void)
{
	u32 me = (u32)fu_sys(SYS_gettid);

	for (size_t i = 0; i < FU_ARRAY_SIZE(waiters); i++) {
		u32 tid = __atomic_load_n(&waiters[i], __ATOMIC_SEQ_CST);

		if (tid && tid != me && poke(tid) == 0) {
			return;
		}
		/* It is gone, or has left its wait by a jump. */
		if (tid) {
			forget(&waiters[i], tid);
		}
	}
}

static void put_aside(const siginfo_t *si)
{
	if (si->si_code != SI_TKILL && !fu_self.critical) {
		fill(si);
	} else if (!keeps) {
		kept = *si;
		keeps = true;
	}
	if (fu_self.critical) {
		fu_self.sig_deferred = 1;
	}
}

/* The signal is blocked in truth from here on, with one pending. */
static void shut_out(void)
{
	shut = true;
	change_mask(SIG_BLOCK);
	poke_self();
}

void fu_sigsys_release(bool returns)
{
	siginfo_t si;

	if (fu_self.critical) {
		return;
	}
	if (fu_sigsys_wait) {
		shut_out();
	} else if (!fu_sigsys_blocked) {
		if (returns) {
			change_mask(SIG_BLOCK);
		}
		poke_self();
	} else if (keeps && kept.si_code != SI_TKILL) {
		/* Only the locks were in its way here. */
		take(&si);
		fill(&si);
		tell_waiter();
	}
}

/* A system call has been interrupted, which is about to say so: not one that is yet to come. */
static bool interrupted(const ucontext_t *uc)
{
	const greg_t *regs = uc->uc_mcontext.gregs;
	const u8 *next = fu_ptr((u64)regs[REG_RIP]);

	return regs[REG_RAX] == -EINTR && (next[-2] | next[-1] << 8) == SYSCALL_BYTES;
}

bool fu_sigsys_ends_wait(const ucontext_t *uc)
{
	if (fu_likely(fu_sigsys_wait != FU_SIGSYS_LET_IN) || !interrupted(uc)) {
		return false;
	}
	fu_sigsys_wait = FU_SIGSYS_NOWHERE;
	return true;
}

bool fu_sigsys_sent(siginfo_t *si, ucontext_t *uc)
{
	u64 *mask = (u64 *)(void *)&uc->uc_sigmask;

	if (si->si_code != SI_TKILL && fu_thread_may_be_engine()) {
		/* Here the signal is open too, but not for this: the first thread is to have it. */
		fill(si);
		poke((u32)fu_sys(SYS_getpid));
		return true;
	}
	if (!fu_sigsys_taken(si)) {
		return true;
	}
	if (!fu_self.critical &&
	    (!fu_sigsys_blocked || (fu_sigsys_wait == FU_SIGSYS_LET_IN && interrupted(uc)))) {
		return false;
	}
	put_aside(si);
	if (fu_self.critical) {
		return true;
	}
	if (fu_sigsys_wait) {
		shut_out();
		*mask |= FU_SIGSYS_BIT;
	} else if (si->si_code != SI_TKILL) {
		tell_waiter();
	}
	return true;
}

u8 fu_sigsys_wait_begin_slow(u8 what)
{
	u8 before = fu_sigsys_wait;
	u32 tid = (u32)fu_sys(SYS_gettid);

	for (size_t i = 0; !before && i < FU_ARRAY_SIZE(waiters); i++) {
		u32 nobody = 0;

		if (__atomic_compare_exchange_n(&waiters[i], &nobody, tid, false, __ATOMIC_SEQ_CST,
		                                __ATOMIC_RELAXED)) {
			break;
		}
	}
	fu_sigsys_wait = what;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (fu_sigsys_waits()) {
		fu_sigsys_release(false);
	}
	return before;
}

void fu_sigsys_wait_end_slow(u8 before)
{
	u32 tid = (u32)fu_sys(SYS_gettid);

	for (size_t i = 0; !before && i < FU_ARRAY_SIZE(waiters); i++) {
		forget(&waiters[i], tid);
	}
	fu_sigsys_wait = before;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (shut) {
		shut = false;
		change_mask(SIG_UNBLOCK);
	}
}

void fu_sent_fork_child(void)
{
	keeps = false;
	fu_store_relaxed(&of_process.state, SLOT_EMPTY);
	for (size_t i = 0; i < FU_ARRAY_SIZE(waiters); i++) {
		fu_store_relaxed(&waiters[i], 0);
	}
}
