/*
 * SIGSYS: the handler that turns a trapped system call into a call of the
 * engine, and the program's own idea of the signal, which is kept aside.
 */
#ifndef FU_TRAP_H
#define FU_TRAP_H

#include "rings/types.h"

/* Bit of SIGSYS in the first word of a signal set. */
#define FU_SIGSYS_BIT (1ULL << 30)

/* The kernel's struct sigaction on x86-64. */
struct fu_ksigaction {
	u64 handler; /* SIG_DFL is 0, SIG_IGN 1 */
	u64 flags;
	u64 restorer;
	u64 mask;
};

/* What a handler returns to; the kernel insists on one. Not a function to call. */
void fu_sigsys_restorer(void);

/*
 * This thread's program believes that SIGSYS is blocked; in truth it never is,
 * since a trap with SIGSYS blocked kills the process. Inherited by new threads.
 */
extern __thread bool fu_sigsys_blocked __attribute__((tls_model("initial-exec")));

/* Whether a SIGSYS that was sent waits for this thread or any (sent.c). */
bool fu_sigsys_waits(void);
/*
 * There is one, and what it waits for may be over: sends it again. With `returns` it comes when
 * the signal handler that calls this has returned, else at once.
 */
void fu_sigsys_release(bool returns);

/*
 * Around a handler of the program's: shows it the mask that it returns to as the program set it,
 * and takes SIGSYS, now or before, out of what the kernel will restore. `ends_wait`: the handler
 * runs under the mask of a wait that has SIGSYS open.
 */
static inline void fu_sigsys_in_frame(u64 *mask, u64 sa_mask, bool ends_wait)
{
	if (fu_sigsys_blocked) {
		*mask |= FU_SIGSYS_BIT;
	} else {
		*mask &= ~FU_SIGSYS_BIT;
	}
	fu_sigsys_blocked = (fu_sigsys_blocked && !ends_wait) || (sa_mask & FU_SIGSYS_BIT);
}

static inline void fu_sigsys_from_frame(u64 *mask)
{
	fu_sigsys_blocked = *mask & FU_SIGSYS_BIT;
	*mask &= ~FU_SIGSYS_BIT;
	if (fu_sigsys_waits()) {
		fu_sigsys_release(true);
	}
}

/*
 * Puts our handler in place and keeps the program's aside; opens SIGSYS in the
 * calling thread's mask. Idempotent, any thread, any context; one load once done.
 */
void fu_sigsys_own(void);

/*
 * From now on the handler runs on the signal stack of threads that have one, as for code whose own
 * stacks have no room for it, and whose runtime sees to it that the other has.
 */
void fu_sigsys_on_signal_stack(void);

/* True from the first fu_sigsys_own() on: sigaction(SIGSYS) is ours to answer. */
bool fu_sigsys_is_owned(void);

/* The program's sigaction(SIGSYS): sets it to *act and reports it in *old; either may be NULL. */
void fu_sigsys_program_action(const struct fu_ksigaction *act, struct fu_ksigaction *old);

/*
 * Called on each trapped call before it is done, with its number and the address
 * behind its `syscall`; may be NULL. It may change the code there.
 */
extern void (*fu_trap_hook)(long nr, u64 ip);

/*
 * Does a trapped call, of whatever number; NULL: fu_dispatch does. `mask` is the thread's signal
 * mask as it will be behind the call. Returns its result, a value or -errno.
 */
extern long (*fu_trap_call)(long nr, const long args[6], u64 *mask);

/* In a forked child: a lock that another thread held is free. */
void fu_sigsys_fork_child(void);

#endif
