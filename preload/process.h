/*
 * The beginnings and ends of processes: fork, exec, exit.
 */
#ifndef FU_PROCESS_H
#define FU_PROCESS_H

/* Registers the fork handlers. Called once by the start. */
void fu_process_init(void);

/*
 * A ring is about to be made: registers one more, which runs before those of allocators that were
 * there already.
 */
void fu_process_before_ring(void);

/* The program unshares `flags`: those that the call is to be made with. */
int fu_process_unshares(int flags);

#endif
