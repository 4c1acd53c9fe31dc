/* System calls that the program makes itself, through libc's syscall() or by a trapped instruction.
 */
#ifndef FU_SYSCALL_H
#define FU_SYSCALL_H

#include "rings/types.h"

/*
 * A trapped call: its result, a value or -errno. `mask` is the signal mask of the frame that the
 * trap's handler returns to, which is the thread's.
 */
long fu_syscall_trapped(long nr, const long args[6], u64 *mask);

#endif
