/*
 * Locks and the identity of threads.
 *
 * A lock is one futex word that holds the owner's thread id. It works in shared
 * memory between processes, and it survives the death of its holder: a waiter
 * that finds the owner gone takes the lock over. What a lock guards must
 * therefore make sense after any prefix of a critical section.
 *
 * While a thread holds a lock its fu_self.critical is above zero. The preload
 * layer uses that to hold back the program's signal handlers: none of them ever
 * runs between a lock and its unlock.
 *
 * Lock order, outermost first:
 * ctrl.submit_lock -> ctx.lock -> poller -> registry -> tasks -> pool, timers -> ctrl.cq_lock ->
 * pipe -> limit of descriptors -> allocator.
 */
#ifndef FU_LOCK_H
#define FU_LOCK_H

#include "rings/types.h"

struct fu_lock {
	u32 word; /* 0, or the owner's tid, with FU_LOCK_WAITERS if somebody sleeps */
	u32 kind; /* FU_LOCK_*; constant */
};

/* Locks that have something to be put right behind an owner that died with them. */
enum { FU_LOCK_PLAIN, FU_LOCK_SUBMIT, FU_LOCK_CQ };

struct fu_thread {
	u32 gen;         /* the process generation in which `tid` was read */
	u32 tid;         /* fu_tid; valid while gen matches fu_wipe->gen */
	u32 critical;    /* locks held by this thread */
	u8 engine;       /* one of the engine's own threads */
	u8 sig_deferred; /* the preload layer has signals to deliver when critical drops to 0 */
	u8 in_worker;    /* runs requests of a worker pool (for EVENTFD_ASYNC) */
	u8 leaves;       /* libc tells of its end */
	u8 follows; /* set + 1 where it is counted as one that waits while others handle events */
	u8 leads;   /* set + 1 where it has handled events itself, if not since stood up */
	u8 passes;  /* waits in a row that were over at once (leader.c) */
	u8 forking; /* holds what is held during a fork */
	u8 quiet;   /* ... and keeps the engine from starting threads (thread.c) */
	u8 owns;    /* has had requests that wait (leaving.c) */
	u8 inside;  /* is in io_uring_enter, as far as is known */
	u64 sets;   /* the poller's sets where it has armed requests, a bit for each */
	u16 task;   /* its place among those whose workers have limits of their own (reg_wq.c) */
};

extern __thread struct fu_thread fu_self __attribute__((tls_model("initial-exec")));

/*
 * A page that the kernel zeroes in every forked child, however the child was
 * made. gen is the process's pid once the engine has set itself up in it, so 0
 * means: this is a new process, nothing of the parent's threads is here.
 */
struct fu_wipe {
	u32 gen;
};
extern struct fu_wipe *fu_wipe;
/* Whether the kernel does so (Linux 4.14); if not, gen may be the parent's in a child that libc has
 * not forked. */
extern bool fu_wipe_works;

/* Sets up the page; called once, before any other thread can be in the engine. */
void fu_wipe_init(void);

/* Called when critical drops to 0 with sig_deferred set; installed by the preload layer. */
extern void (*fu_signals_release)(void);

u32 fu_tid_slow(void);

/*
 * A ring may be shared by processes in several pid namespaces, where the same number is somebody
 * else. So ids, of threads and of processes, tell the namespace as well, unless it is that of the
 * process that brought the engine up. Kernel and program know them without.
 */
#define FU_TID_BITS   22U /* more than the kernel gives out */
#define FU_SPACE_BITS 8U
#define FU_TID_MASK   ((1U << FU_TID_BITS) - 1)

/* An id without its namespace. */
static inline u32 fu_tid_number(u32 id)
{
	return id & FU_TID_MASK;
}
/* The id of a process or thread of the caller's own namespace. */
u32 fu_tid_of(u32 number);
/* In a process that has begun anew, its only thread: finds out what its namespace is. */
void fu_tid_reset(void);

/* The calling thread's id, without a system call after the first time. */
static inline u32 fu_tid(void)
{
	if (fu_likely(fu_self.gen && fu_self.gen == fu_load_relaxed(&fu_wipe->gen)))
		return fu_self.tid;
	return fu_tid_slow();
}

void fu_lock_slow(struct fu_lock *lock, u32 me);
void fu_unlock_slow(struct fu_lock *lock);
/* The caller has taken over a lock that is not plain. Implemented in record.c. */
void fu_lock_inherited(struct fu_lock *lock);

static inline void fu_critical_enter(void)
{
	fu_self.critical++;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void fu_critical_leave(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (--fu_self.critical == 0 && fu_unlikely(fu_self.sig_deferred))
		fu_signals_release();
}

/* Takes the lock; never fails. Not recursive. */
static inline void fu_lock(struct fu_lock *lock)
{
	u32 me = fu_tid(), free_word = 0;

	fu_critical_enter();
	if (fu_unlikely(!__atomic_compare_exchange_n(&lock->word, &free_word, me, false,
	                                             __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
		fu_lock_slow(lock, me);
}

/* Takes the lock if it is free. Returns whether it did. */
static inline bool fu_trylock(struct fu_lock *lock)
{
	u32 me = fu_tid(), free_word = 0;

	fu_critical_enter();
	if (__atomic_compare_exchange_n(&lock->word, &free_word, me, false, __ATOMIC_ACQUIRE,
	                                __ATOMIC_RELAXED))
		return true;
	fu_critical_leave();
	return false;
}

static inline void fu_unlock(struct fu_lock *lock)
{
	u32 me = fu_self.tid;

	if (fu_unlikely(!__atomic_compare_exchange_n(&lock->word, &me, 0, false, __ATOMIC_RELEASE,
	                                             __ATOMIC_RELAXED)))
		fu_unlock_slow(lock);
	fu_critical_leave();
}

/* True if the calling thread holds the lock. */
static inline bool fu_lock_is_mine(const struct fu_lock *lock)
{
	return (fu_load_relaxed(&lock->word) & 0x7fffffffU) == fu_tid();
}

/*
 * True if there is no such thread any more, though its parent may have to wait for it still.
 * Of one in another pid namespace nobody can tell: false. Several system calls.
 */
bool fu_tid_is_dead(u32 id);
/*
 * The same for a process as a whole, by its own id or that of a thread which ends with it. Its
 * first thread may end before the others.
 */
bool fu_process_is_dead(u32 id);

/* How many threads the calling process has besides its first one, if that has ended; else 0. */
u32 fu_threads_left(void);

/*
 * futex on a word that may be shared between processes. The wait returns 0 when
 * woken, -EAGAIN when the word is not `val`, -ETIMEDOUT, or -EINTR after any
 * signal handler, SA_RESTART or not (a futex wait with a timeout never restarts).
 * timeout_ns: relative, negative for none.
 */
long fu_futex_wait(u32 *word, u32 val, s64 timeout_ns);
long fu_futex_wake(u32 *word, int count);

#endif
