/*
 * What the program does to descriptors, told to the engine. These return like
 * system calls and are shared by the libc functions and by syscall().
 */
#ifndef FU_PRELOAD_FDS_H
#define FU_PRELOAD_FDS_H

#include "rings/types.h"

long fu_dup(int fd);
/* `nr` is SYS_dup2 or SYS_dup3. */
long fu_dup_to(long nr, int oldfd, int newfd, int flags);
long fu_fcntl(int fd, int cmd, long arg);
/* Closes, or marks, everything in [first, last] but the engine's own descriptors. */
long fu_close_range(u32 first, u32 last, u32 flags);

#endif
