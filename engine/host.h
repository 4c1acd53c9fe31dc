/* What the kernel below can do. */
#ifndef FU_HOST_H
#define FU_HOST_H

#include "rings/types.h"

/*
 * Whether an operation stands on a system call that this kernel does not have, or that the
 * process's sandbox answers as if there were none. Such an operation is not there: the probe does
 * not list it, and a request for it is as invalid as one for an opcode of the future.
 */
bool fu_host_lacks(u8 opcode);

#endif
