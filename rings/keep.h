/*
 * Closing a descriptor of a file takes from the process all record locks (fcntl F_SETLK) that it
 * has on that file: closing a duplicate, too, of which only the engine knows. So a duplicate of a
 * file that is locked is not closed but kept, and serves whatever needs one of that file, until the
 * program closes its own.
 */
#ifndef FU_KEEP_H
#define FU_KEEP_H

#include "rings/types.h"

/* A duplicate of the program's descriptor `fd`, as fu_fd_dup_high; may be used by others as well.
 */
int fu_fd_hold(int fd);
/*
 * Lets go of what fu_fd_hold or fu_fd_dup_high has returned. `name`: the number under which the
 * program had the file, -1 if that is not known.
 */
void fu_fd_release(int fd, int name);
/* Closes a descriptor that was opened for a moment, under a number among the program's. */
void fu_fd_close_moment(int fd);

/* How many are kept; atomic. */
extern u32 fu_kept;
void fu_kept_closed(u32 first, u32 last);
/* The program has closed what it had under these numbers. */
static inline void fu_keep_closed(u32 first, u32 last)
{
	if (fu_unlikely(fu_load_relaxed(&fu_kept)))
		fu_kept_closed(first, last);
}

/* In a forked child. What is kept for its parent is closed, unless they share their descriptors. */
void fu_keep_reset(void);

#endif
