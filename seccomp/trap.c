/*
 * The SIGSYS handler. The kernel has stopped a thread at a `syscall` instruction,
 * rolled rax back to the number, and built a frame on the thread's stack, below
 * its red zone. The handler does the call and writes the result to rax of the
 * frame; returning resumes the program after the instruction, with every other
 * register, the vector state included, as it was.
 *
 * The handler is installed with SA_NODEFER and an empty mask: inside it the
 * program's signals run as they would during the system call, a nested trap from
 * one of their handlers is served, and a handler that leaves with siglongjmp
 * leaves nothing behind. It does not use the alternate stack, since a handler of
 * the program that runs on it may itself have called us. All calls here are raw:
 * errno is not touched, and none of them issues from an address that is trapped.
 *
 * SIGSYS that is not ours (another filter's trap, kill, tgkill) goes to the
 * handler that the program installed, or does what the default would have done.
 * One that was sent may have to wait first: sent.c.
 */
#include <linux/audit.h>
#include <signal.h>
#include <ucontext.h>
#include "engine/counters.h"
#include "engine/entry.h"
#include "engine/thread.h"
#include "rings/lock.h"
#include "rings/sys.h"
#include "seccomp/dispatch.h"
#include "seccomp/filter.h"
#include "seccomp/sent.h"
#include "seccomp/trap.h"

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1
#endif
#define KERNEL_SA_RESTORER 0x04000000UL
#define KERNEL_SIGSET_SIZE 8

__thread bool fu_sigsys_blocked __attribute__((tls_model("initial-exec")));
void (*fu_trap_hook)(long nr, u64 ip);
long (*fu_trap_call)(long nr, const long args[6], u64 *mask);

static bool owned;
/* SA_ONSTACK, or 0. */
static u64 signal_stack;

/* The process that has the handler: a vfork child is another one. */
static u32 owner;

/*
 * The program's action: two copies, `version` & 1 says which one counts. Written
 * with all signals blocked and `writer` held, so that a handler on the same
 * thread never waits for it; read without a lock, again if the version moved.
 */
static struct {
	u32 writer;
	u32 version;
	struct fu_ksigaction copy[2];
} program;

__asm__(".text\n"
        ".hidden fu_sigsys_restorer\n"
        ".globl fu_sigsys_restorer\n"
        ".type fu_sigsys_restorer, @function\n"
        /* Unwinders and gdb know a signal frame by exactly these two instructions. */
        "nop\n"
        "fu_sigsys_restorer:\n"
        "	movq $15, %rax\n"
        "	syscall\n"
        ".size fu_sigsys_restorer, .-fu_sigsys_restorer\n");

static void read_program_action(struct fu_ksigaction *act)
{
	u32 version;

	do {
		const u64 *from;

		version = fu_load_acquire(&program.version);
		from = (const u64 *)&program.copy[version & 1];
		act->handler = fu_load_relaxed(&from[0]);
		act->flags = fu_load_relaxed(&from[1]);
		act->restorer = fu_load_relaxed(&from[2]);
		act->mask = fu_load_relaxed(&from[3]);
		fu_fence();
	} while (version != fu_load_relaxed(&program.version));
}

static void write_program_action(const struct fu_ksigaction *act, struct fu_ksigaction *old)
{
	u64 all = ~0ULL, saved;
	u64 *to;

	fu_sys(SYS_rt_sigprocmask, SIG_SETMASK, &all, &saved, KERNEL_SIGSET_SIZE);
	while (__atomic_exchange_n(&program.writer, 1, __ATOMIC_ACQUIRE)) {
		fu_sys(SYS_sched_yield);
	}
	if (old) {
		*old = program.copy[program.version & 1];
	}
	to = (u64 *)&program.copy[(program.version + 1) & 1];
	fu_store_relaxed(&to[0], act->handler);
	fu_store_relaxed(&to[1], act->flags);
	fu_store_relaxed(&to[2], act->restorer);
	fu_store_relaxed(&to[3], act->mask);
	fu_store_release(&program.version, program.version + 1);
	fu_store_release(&program.writer, 0);
	fu_sys(SYS_rt_sigprocmask, SIG_SETMASK, &saved, NULL, KERNEL_SIGSET_SIZE);
}

void fu_sigsys_program_action(const struct fu_ksigaction *act, struct fu_ksigaction *old)
{
	struct fu_ksigaction copy;

	u32 gen = fu_load_relaxed(&fu_wipe->gen);

	/* A vfork child has its parent's memory, and nothing to say about its parent's handlers. */
	if (act && (gen ? gen : owner) != (u32)fu_sys(SYS_getpid)) {
		act = NULL;
	}
	if (act) {
		copy = *act; /* act and old may be the same object */
		write_program_action(&copy, old);
	} else if (old) {
		read_program_action(old);
	}
}

/* Ends the process as SIGSYS by default does. */
static void die(siginfo_t *si)
{
	struct fu_ksigaction dfl = { 0 };
	u64 sigsys = FU_SIGSYS_BIT;
	long pid = fu_sys(SYS_getpid), tid = fu_sys(SYS_gettid);

	fu_sys(SYS_rt_sigaction, SIGSYS, &dfl, NULL, KERNEL_SIGSET_SIZE);
	fu_sys(SYS_rt_sigprocmask, SIG_UNBLOCK, &sigsys, NULL, KERNEL_SIGSET_SIZE);
	if (fu_is_err(fu_sys(SYS_rt_tgsigqueueinfo, pid, tid, SIGSYS, si))) {
		fu_sys(SYS_tgkill, pid, tid, SIGSYS);
	}
}

/* A SIGSYS that has nothing to do with us, as the program would have received it. */
static void deliver_foreign(siginfo_t *si, void *context)
{
	struct fu_ksigaction act, dfl = { 0 };
	bool forced = si->si_code == SYS_SECCOMP;
	u64 *frame = (u64 *)(void *)&((ucontext_t *)context)->uc_sigmask;
	u64 mask;
	bool away, within, ends_wait;

	read_program_action(&act);
	if (act.handler == (u64)(uintptr_t)SIG_IGN && !forced) {
		return;
	}
	if (act.handler <= (u64)(uintptr_t)SIG_IGN) {
		die(si);
		return;
	}
	if (act.flags & (u32)SA_RESETHAND) {
		write_program_action(&dfl, NULL);
	}
	mask = act.mask & ~FU_SIGSYS_BIT;
	fu_sys(SYS_rt_sigprocmask, SIG_BLOCK, &mask, NULL, KERNEL_SIGSET_SIZE);
	ends_wait = fu_sigsys_ends_wait(context);
	fu_sigsys_in_frame(frame, act.flags & SA_NODEFER ? act.mask : FU_SIGSYS_BIT, ends_wait);
	within = fu_stay_interrupted((uintptr_t)__builtin_frame_address(0));
	away = !fu_self.critical && fu_handler_begins();
	if (act.flags & SA_SIGINFO) {
		((void (*)(int, siginfo_t *, void *))(uintptr_t)act.handler)(SIGSYS, si, context);
	} else {
		((void (*)(int))(uintptr_t)act.handler)(SIGSYS);
	}
	if (away) {
		fu_handler_ends();
	}
	if (within) {
		fu_stay_resumed();
	}
	fu_sigsys_from_frame(frame);
	/* The mask goes back with the frame, together with what the handler did to it. */
}

/* The trapped call: the engine's answer, or the kernel's to the call issued from here. */
static void serve(ucontext_t *uc)
{
	greg_t *r = uc->uc_mcontext.gregs;
	long nr = (long)r[REG_RAX];
	const long args[6] = { (long)r[REG_RDI], (long)r[REG_RSI], (long)r[REG_RDX],
		               (long)r[REG_R10], (long)r[REG_R8],  (long)r[REG_R9] };
	long ret;

	FU_COUNT(traps, 1);
	if (fu_trap_hook) {
		fu_trap_hook(nr, (u64)r[REG_RIP]);
	}
	if (fu_trap_call) {
		ret = fu_trap_call(nr, args, (u64 *)(void *)&uc->uc_sigmask);
	} else if (!fu_dispatch(nr, args, &ret)) {
		ret = fu_sys(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
	}
	r[REG_RAX] = ret;
}

static bool is_ours(const siginfo_t *si)
{
	if (si->si_code != SYS_SECCOMP || si->si_arch != AUDIT_ARCH_X86_64) {
		return false;
	}
	/* A sandbox may answer the three calls with a trap of its own: served as well. */
	return si->si_errno == FU_FILTER_TAG ||
	       (si->si_syscall >= FU_NR_SETUP && si->si_syscall <= FU_NR_REGISTER &&
	        fu_shim_enabled);
}

static void on_sigsys(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	if (is_ours(si)) {
		serve(context);
		if (fu_unlikely(fu_sigsys_waits())) {
			fu_sigsys_release(false);
		}
	} else if (si->si_code == SI_TKILL && fu_thread_is_engine()) {
		fu_thread_interrupted(context);
	} else if (si->si_code > 0 || !fu_sigsys_sent(si, context)) {
		deliver_foreign(si, context);
	}
}

void fu_sigsys_fork_child(void)
{
	fu_store_relaxed(&program.writer, 0);
	fu_store_relaxed(&owner, (u32)fu_sys(SYS_getpid));
	fu_sent_fork_child();
}

bool fu_sigsys_is_owned(void)
{
	return fu_load_acquire(&owned);
}

/* Puts the handler in place, and says what was there. */
static void install(struct fu_ksigaction *old)
{
	struct fu_ksigaction act = {
		.handler = (u64)(uintptr_t)on_sigsys,
		.restorer = (u64)(uintptr_t)fu_sigsys_restorer,
	};
	u64 where = __atomic_load_n(&signal_stack, __ATOMIC_SEQ_CST);

	act.flags = SA_SIGINFO | SA_NODEFER | KERNEL_SA_RESTORER | where;
	fu_sys(SYS_rt_sigaction, SIGSYS, &act, old, KERNEL_SIGSET_SIZE);
	/* Another thread may have installed the newer one meanwhile. */
	if (__atomic_load_n(&signal_stack, __ATOMIC_SEQ_CST) != where) {
		act.flags |= SA_ONSTACK;
		fu_sys(SYS_rt_sigaction, SIGSYS, &act, NULL, KERNEL_SIGSET_SIZE);
	}
}

void fu_sigsys_on_signal_stack(void)
{
	struct fu_ksigaction old;

	if (__atomic_exchange_n(&signal_stack, SA_ONSTACK, __ATOMIC_SEQ_CST) == 0 &&
	    fu_sigsys_is_owned()) {
		install(&old);
	}
}

void fu_sigsys_own(void)
{
	struct fu_ksigaction old;
	u64 sigsys = FU_SIGSYS_BIT, mask = 0;

	if (fu_sigsys_is_owned()) {
		return;
	}
	fu_store_relaxed(&owner, (u32)fu_sys(SYS_getpid));
	install(&old);
	/* Of two threads that race, the second finds our own handler, which nobody else knows. */
	if (old.handler != (u64)(uintptr_t)on_sigsys) {
		write_program_action(&old, NULL);
	}
	fu_store_release(&owned, true);
	fu_sys(SYS_rt_sigprocmask, SIG_UNBLOCK, &sigsys, &mask, KERNEL_SIGSET_SIZE);
	if (mask & FU_SIGSYS_BIT) {
		fu_sigsys_blocked = true;
	}
}
