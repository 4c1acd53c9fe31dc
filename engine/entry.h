/*
 * The engine's front door: what the trap, the interposed libc symbols and the
 * patched call sites call. Everything behind it returns like a system call,
 * a value or -errno; nothing here touches errno, mallocs, or takes a lock that
 * the program's own code can hold.
 */
#ifndef FU_ENTRY_H
#define FU_ENTRY_H

#include "rings/types.h"

/*
 * The three system calls. Pointers are the program's and may be bad: -EFAULT.
 * May be called from any thread, from a signal handler, and in a forked child.
 */
long fu_io_uring_setup(u32 entries, void *params);
long fu_io_uring_enter(u32 fd, u32 to_submit, u32 min_complete, u32 flags, const void *arg,
                       size_t argsz);
long fu_io_uring_register(u32 fd, u32 opcode, void *arg, u32 nr_args);

/*
 * mmap of a descriptor that may be a ring. Returns true if `fd` is a ring, with
 * the call's result (address or -errno) in *ret; false if the call is not ours
 * and has to go to the kernel unchanged.
 */
bool fu_ring_mmap(void *addr, size_t len, int prot, int flags, int fd, u64 off, long *ret);

/* True if this process has ever made or inherited a ring: a relaxed load, for fast exits. */
bool fu_have_rings(void);

/* True if descriptor `fd` belongs to the engine and the program must not close it. */
bool fu_fd_is_engine(int fd);

/*
 * Around a handler of the program, which may never come back to the wait that it interrupts. Not
 * inside the engine's locks. The second is called if the first has returned true.
 */
bool fu_handler_begins(void);
void fu_handler_ends(void);

/*
 * The thread jumps (longjmp) from the frame at `from` to that at `to`: whatever it has left behind
 * in between is given back. Any thread, any context.
 */
void fu_jumps(uintptr_t from, uintptr_t to);
/*
 * A handler of the program's begins, called from the frame at `frame`. True if it has interrupted
 * the engine: then fu_stay_resumed follows when it returns.
 */
bool fu_stay_interrupted(uintptr_t frame);
void fu_stay_resumed(void);

/*
 * The process watches files (inotify, fanotify): from now on none of its requests goes where the
 * kernel does not report them.
 */
void fu_files_watched(void);

/*
 * Before descriptors of the program's are closed, or come to name other files: a request that is
 * about to wait by such a number (fu_poller_arm) sees that it may be another file's by now.
 */
extern u32 fu_fds_renamed;
static inline void fu_fd_closing(void)
{
	__atomic_fetch_add(&fu_fds_renamed, 1, __ATOMIC_SEQ_CST);
}

/* True if `fd` is known to be a ring descriptor. No system call; may be stale, see fu_fd_closed. */
bool fu_fd_is_ring(int fd);

/*
 * The program has closed `fd` (close, dup2 over it, close_range), after the
 * system call succeeded. Ends the ring if that was its last descriptor.
 */
void fu_fd_closed(int fd);
/* The same for every descriptor in [first, last]. */
void fu_fd_range_closed(u32 first, u32 last);
/* `newfd` now refers to the same open file as `oldfd`. */
void fu_fd_duped(int oldfd, int newfd);
/* The same, told also while there are no rings: who reads from the one reads from the other. */
void fu_fd_aliased(int oldfd, int newfd);

/*
 * The program is about to wait for `fd` with poll or select, or has put it into
 * an epoll set. From then on the engine keeps the descriptor's readability true
 * ("the CQ is not empty"); before each wait on it call fu_ring_settle.
 */
void fu_fd_polled(int fd, bool edge);
/* Lowers the readability of every polled ring whose CQ is empty by now. Cheap when there is none.
 */
void fu_rings_settle(void);

/*
 * The program is about to take data, or connections, from `fd`, or has written something
 * somewhere: events that polls wait for are noted first, and at once.
 */
void fu_fd_reads(int fd);
void fu_fd_written(void);

/*
 * Whether sending the program's msghdr through `sock` would pass a ring on, which the kernel
 * refuses: -EINVAL, else 0. Bad pointers are the call's own business: 0.
 */
int fu_msg_check(int sock, const void *msg);

/*
 * The calling thread is about to have credentials, directories or a umask of its own, apart from
 * those of the other threads: from now on names are looked up by the thread that submits.
 */
void fu_threads_differ(void);

/*
 * fork, around the real call, in this order; the child starts with no engine threads. The first is
 * for the time before others, like allocators, have taken their locks for the fork: from then on
 * the engine starts no threads. fu_fork_prepare does the same, if need be.
 */
void fu_fork_begin(void);
void fu_fork_prepare(void);
void fu_fork_parent(void);
void fu_fork_child(void);

/*
 * Whether there are engine threads, and the program has no other one than the calling thread. Then
 * it cannot mean to part with anybody when it asks for descriptors of its own.
 */
bool fu_threads_are_ours(void);

/*
 * The program is about to execute another one, which will succeed as far as one can tell: its
 * requests in rings that other processes use end, and these see it.
 */
void fu_exec_prepare(void);

/*
 * SIGSYS that the engine sent itself (to interrupt a blocked worker) arrives with
 * si_code SI_TKILL on an engine thread: true if so, and the handler just returns.
 */
bool fu_thread_is_engine(void);
/* True also in one that is about to be, and, while one starts, in others that have done nothing
 * here yet. Never in a process's first thread. */
bool fu_thread_may_be_engine(void);

#endif
