/*
 * Pending signals, as a program looks for them and takes them by system calls of its own.
 */
#ifndef FU_SIGWAIT_H
#define FU_SIGWAIT_H

#include "rings/types.h"

/* rt_sigpending and rt_sigtimedwait: value or -errno. */
long fu_raw_sigpending(u64 *set, size_t size);
long fu_raw_sigtimedwait(const long args[6]);

#endif
