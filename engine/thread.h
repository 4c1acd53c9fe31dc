/* Starting and interrupting the engine's threads. */
#ifndef FU_THREAD_H
#define FU_THREAD_H

#include <pthread.h>
#include <sched.h>

#include "rings/types.h"

/* What creates a thread: libc's pthread_create, which the preload layer may have to find first. */
extern int (*fu_pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

/*
 * Calls fn(arg) and leaves the vector and x87 registers as they are: for what libc does, which
 * may use them. The engine itself does not, since a patched call site has not saved them.
 */
void fu_call_keeping_vectors(void (*fn)(void *), void *arg);

/* The number of processors in the first `bytes` of a set. */
u32 fu_cpu_count(const cpu_set_t *cpus, size_t bytes);

/*
 * The calling thread is about to fork: until fu_threads_quiet_over none of the engine's threads is
 * in libc, on its way in or out. Waits for those that are, but not forever. May be called twice.
 */
void fu_threads_quiet(void);
/* Nothing unless fu_threads_quiet was called before. */
void fu_threads_quiet_over(void);
/*
 * Whether the program has no thread any more: the process is to end, which it does when the
 * engine's have left too. Whoever sleeps without an end asks after FU_ALONE_NS, and then less and
 * less often, since it is for nothing nearly always.
 */
bool fu_threads_alone(void);
#define FU_ALONE_NS 2000000000LL

/* How long to sleep after having asked, having slept `ns` before. */
static inline s64 fu_alone_next(s64 ns)
{
	return ns < 32 * FU_ALONE_NS ? ns * 2 : ns;
}
/* In a forked child. */
void fu_threads_reset(void);

/* Names the calling thread `prefix` and the process id, as the kernel names its own. */
void fu_thread_name(const char *prefix);

/* Makes sure that SIGSYS has a handler, so that fu_thread_interrupt only interrupts. */
void fu_thread_interrupts_init(void);
/*
 * Ends the blocking call (fu_sys_block) that the engine thread `tid` is in, or is about to
 * enter: the caller has set that call's cancel flag before.
 */
void fu_thread_interrupt(u32 tid);
/* For the SIGSYS handler on an engine thread: closes the gap between flag check and call. */
void fu_thread_interrupted(void *ucontext);

/*
 * A system call that may block for long, on a worker: returns -EINTR if *cancel is or
 * becomes set. There is no moment at which an interrupt is lost.
 */
long fu_sys_block(const u8 *cancel, long nr, long a, long b, long c, long d, long e, long f);
/* What the kernel's own workers return then; it reaches the program where it is not looked for. */
#define ERESTARTSYS 512

#endif
