/*
 * The program's signal handlers, held back while the engine holds a lock; see
 * handlers.c. Active from the first ring on.
 */
#ifndef FU_HANDLERS_H
#define FU_HANDLERS_H

#include "seccomp/trap.h"

/* Tells the engine and the dispatcher whom to call. Once, by the start. */
void fu_handlers_init(void);

/* The first ring is about to be made: takes over the handlers that the program has by now. */
void fu_handlers_take_over(void);

/* In a forked child, once the engine's locks are free. */
void fu_handlers_fork_child(void);

/* True once handlers go through this file: sigaction is then fu_handlers_action. */
bool fu_handlers_active(void);

/*
 * rt_sigaction on what the program believes its actions to be, SIGSYS included.
 * Both pointers are good memory or NULL. Returns 0 or -errno.
 */
long fu_handlers_action(int sig, const struct fu_ksigaction *act, struct fu_ksigaction *old);

#endif
