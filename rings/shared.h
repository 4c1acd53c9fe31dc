/*
 * Shared memory that can be mapped more than once: once for the engine, and again wherever the
 * program wants to have it. No locks of the caller's are needed.
 */
#ifndef FU_SHARED_H
#define FU_SHARED_H

#include "rings/types.h"

/* Zeroed whole pages, which children share and which take memory as they are touched. An address,
 * or -errno as a pointer (fu_ptr_is_err). */
void *fu_shared_map(size_t bytes);
/* Ends it, but not what else is mapped of it. */
void fu_shared_unmap(void *mem, size_t bytes);
/*
 * Maps the `bytes` at `src`, inside what fu_shared_map gave, once more in the place of whatever is
 * mapped at `at`. Readable and writable. `at`, or -errno.
 */
long fu_shared_alias(void *src, size_t bytes, void *at);
/* Whether memory is doubled by descriptors, since this is not quite the kernel's own world. */
bool fu_shared_by_file(void);
/* In a forked child: a thread that is not here may have held the lock. */
void fu_shared_reset(void);

#endif
