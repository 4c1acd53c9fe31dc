/*
 * SIGSYS stays ours while the program sees what it set; see signals.c.
 */
#ifndef FU_SIGNALS_H
#define FU_SIGNALS_H

#include <signal.h>
#include "rings/types.h"
#include "seccomp/trap.h"

/* `mask` with SIGSYS open, in *copy if it has to differ; NULL stays NULL. */
const sigset_t *fu_open_sigsys(const sigset_t *mask, sigset_t *copy);

/* The same for a wait, which has to be ended with fu_sigsys_wait_end(*wait). */
const sigset_t *fu_wait_mask(const sigset_t *mask, sigset_t *copy, int *wait);

/* Whether the handler of `sig` was installed, before handlers were ours, with SIGSYS in its mask.
 */
bool fu_sigsys_in_sa_mask(int sig);

/* The system calls of the same names as a program makes them itself: value or -errno. */
long fu_raw_sigaction(int sig, const struct fu_ksigaction *act, struct fu_ksigaction *old,
                      size_t size);
/* With `frame` the mask is the one that a signal handler returns to, ours for a trapped call. */
long fu_raw_sigprocmask(int how, const u64 *set, u64 *old, size_t size, u64 *frame);

/*
 * The mask argument of a wait with SIGSYS open in *copy; as it is if it is NULL or wrong. In *wait
 * what the wait has to be ended with: fu_sigsys_wait_end.
 */
const u64 *fu_raw_open_sigsys(const u64 *mask, size_t size, u64 *copy, int *wait);

/*
 * Around exec, which hands the mask on: gives the thread the mask that the program
 * believes in; afterwards (exec failed) takes SIGSYS out again.
 */
void fu_signals_before_exec(void);
void fu_signals_after_exec(void);

#endif
