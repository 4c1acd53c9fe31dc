/*
 * The library's start. The constructor does it, but other objects' constructors
 * may call an interposed function earlier, so each of those makes sure first.
 */
#ifndef FU_INIT_H
#define FU_INIT_H

#include "rings/types.h"

extern u32 fu_init_state;
enum { FU_INIT_NOT, FU_INIT_RUNNING, FU_INIT_DONE };

void fu_init_slow(char *const *env);

/* Makes fu_next and everything else usable. One load once done. */
static inline void fu_init(void)
{
	if (fu_unlikely(fu_load_acquire(&fu_init_state) != FU_INIT_DONE)) {
		fu_init_slow(NULL);
	}
}

/* The program's threads that have been started so far. */
extern u32 fu_init_threads;

/*
 * Around the loading of objects. The second looks at the new ones, traps those that need
 * it and patches their call sites; if no thread was started in between, no other thread is
 * in their code yet.
 */
void fu_init_before_load(void);
void fu_init_rescan(void);

/* Whether this is the process that the library was started in, or that libc has forked: not a
 * child that shares its memory. */
bool fu_init_is_home(void);

/* A lock of ours that another thread held across fork is free in the child. */
void fu_init_fork_child(void);

/* Sets errno and returns -1 if `ret` is -errno, else `ret`. */
long fu_to_libc(long ret);

#endif
