/*
 * SIGSYS that was sent: what becomes of one that comes while the program has the signal blocked,
 * or while the thread is inside the engine's locks.
 */
#ifndef FU_SENT_H
#define FU_SENT_H

#include <signal.h>
#include <ucontext.h>
#include "rings/types.h"
#include "seccomp/trap.h"

/* What a thread that has SIGSYS blocked is at. */
enum {
	FU_SIGSYS_NOWHERE,
	FU_SIGSYS_LET_IN, /* a wait with another mask, which opens it */
	FU_SIGSYS_TAKEN,  /* sigtimedwait and its like */
};
extern __thread u8 fu_sigsys_wait __attribute__((tls_model("initial-exec")));

u8 fu_sigsys_wait_begin_slow(u8 what);
void fu_sigsys_wait_end_slow(u8 before);

/*
 * Around a wait for which SIGSYS is open, or that takes it. Returns what to give to the second,
 * which leaves errno alone. Nothing but two loads unless the program has the signal blocked.
 */
static inline int fu_sigsys_wait_begin(u8 what)
{
	if (fu_likely(!fu_sigsys_blocked) || !fu_sigsys_is_owned()) {
		return -1;
	}
	return fu_sigsys_wait_begin_slow(what);
}

static inline void fu_sigsys_wait_end(int before)
{
	if (fu_unlikely(before >= 0)) {
		fu_sigsys_wait_end_slow((u8)before);
	}
}

/* True in a handler that has ended such a wait; it is over then. */
bool fu_sigsys_ends_wait(const ucontext_t *uc);

/* One that has arrived: true if it has been put aside, or passed on to another thread. Else it is
 * to be delivered now. */
bool fu_sigsys_sent(siginfo_t *si, ucontext_t *uc);

/*
 * One that was taken without a handler: what was put aside in its place, if it only says that
 * there is something. False if somebody else has had that.
 */
bool fu_sigsys_taken(siginfo_t *si);

/* In a forked child, which has nothing pending. */
void fu_sent_fork_child(void);

#endif
