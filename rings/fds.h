/*
 * The engine's own descriptors. They live in the program's table, numbered high,
 * close-on-exec, and marked: the program may neither close nor use them.
 */
#ifndef FU_FDS_H
#define FU_FDS_H

#include "rings/types.h"

/*
 * Whether the process may have more than one thread: said by whoever makes one, before it is there.
 * Only a matter of speed.
 */
extern bool fu_threaded;
void fu_fds_threaded(void);

/* Allocates the marks; without it (or without memory) nothing is marked. */
void fu_fds_init(void);

/* A marked, close-on-exec duplicate of `fd` with a high number, or -errno (-EBADF, -EMFILE). */
int fu_fd_dup_high(int fd);
/*
 * Calls fn(arg, soft limit) while the soft limit of descriptors is raised to the hard one: for
 * what needs a number for a moment when the program's are used up. fn's result, or -EMFILE.
 */
long fu_fds_lifted(long (*fn)(void *arg, u64 old_limit), void *arg);
/* Moves `fd` out of the way of the program's numbers and marks it; returns the new number. */
int fu_fd_high(int fd);
/* `fd` is the engine's from now on, at the number that it has. */
void fu_fd_mark(int fd);
/* Closes one of the engine's descriptors. What may be a duplicate of the program's: fu_fd_release.
 */
void fu_fd_close(int fd);

/*
 * In a forked child, after fu_fds_reset: closes one of its parent's engine, unless the two share
 * their descriptors (CLONE_FILES): then the parent goes on with it.
 */
void fu_fd_close_inherited(int fd);

/*
 * Around a fork: no child is to begin with the limit raised. fu_fds_reset is for a child that was
 * made without them: a thread that is not here may have held the lock. may_share: it was not libc's
 * fork that has made it.
 */
void fu_fds_fork_prepare(void);
void fu_fds_fork_done(void);
void fu_fds_reset(bool may_share);

/* Whether both name one open file: 1, 0, or -errno where no call tells, as in many sandboxes. */
int fu_fd_same(int a, int b);

bool fu_fd_is_engine(int fd);
/* The first of the engine's descriptors in [first, last]; ~0U if there is none. */
u32 fu_fd_next_engine(u32 first, u32 last);

#endif
