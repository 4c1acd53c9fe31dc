/*
 * From a system call's number and arguments to the engine. The one place that
 * knows which calls are the shim's, whichever way they arrived: SIGSYS, user
 * notification, libc's syscall(), a patched call site.
 */
#ifndef FU_DISPATCH_H
#define FU_DISPATCH_H

#include "rings/types.h"

/*
 * False when the trap that was asked for cannot be installed: the program then
 * runs as if the library were not there. Written once, by the constructor.
 */
extern bool fu_shim_enabled;

/* Called before each ring is made, for what the layer above has to prepare; may be NULL. */
extern void (*fu_before_ring)(void);

/*
 * Serves one system call. Returns true if it was the shim's, with its result
 * (a value or -errno) in *ret; false if it has to go to the kernel unchanged.
 */
bool fu_dispatch(long nr, const long args[6], long *ret);

/* io_uring_enter: value or -errno. */
long fu_dispatch_enter(u32 fd, u32 to_submit, u32 min_complete, u32 flags, const void *arg,
                       size_t argsz);

/* close(2) of a descriptor that may be a ring or the engine's own. Returns 0 or -errno. */
long fu_dispatch_close(int fd);

#endif
