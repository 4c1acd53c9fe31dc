/* The segments of a vectored transfer, in the engine's own memory. */
#ifndef FU_IOV_H
#define FU_IOV_H

#include <sys/uio.h>

#include "rings/types.h"

/*
 * Copies `nr` segments out of the program's memory; *bytes: what they hold together. 0, -EFAULT if
 * they cannot be read or lie where no program's memory is, -EINVAL for a negative length.
 */
int fu_iov_copy(struct iovec *iov, const void *user, u32 nr, u64 *bytes);

/* Steps over the first `n` bytes of the `*nr` segments that are left. */
void fu_iov_advance(struct iovec **iov, u32 *nr, u64 n);

#endif
