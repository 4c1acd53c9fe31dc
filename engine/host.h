/* What the kernel below can do. */
#ifndef FU_HOST_H
#define FU_HOST_H

#include <poll.h>

#include "rings/types.h"

/*
 * Whether an operation stands on a system call that this kernel does not have, or that the
 * process's sandbox answers as if there were none. Such an operation is not there: the probe does
 * not list it, and a request for it is as invalid as one for an opcode of the future.
 */
bool fu_host_lacks(u8 opcode);

/*
 * Whether `ret` of system call `nr` is the answer of a kernel without the call or of a sandbox that
 * denies it, and not about what was asked for. The call has to refuse a first argument of -1 and
 * zeros by something else.
 */
bool fu_host_denied(long nr, long ret);

/* poll without waiting for one file, where a sandbox knows only ppoll as well. As poll, or -errno.
 */
long fu_poll_now(struct pollfd *pfd);
/* The same, on a worker, until there is something or `cancel` is set: as fu_sys_block(). */
long fu_poll_block(const u8 *cancel, struct pollfd *pfd);

#endif
