/*
 * io_uring_register, by family. All functions are called with submit_lock held and
 * return what the system call returns.
 */
#ifndef FU_REGISTER_H
#define FU_REGISTER_H

#include "engine/engine.h"

long fu_reg_files(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_unreg_files(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_reg_files_update(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_reg_buffers(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_unreg_buffers(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_reg_eventfd(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_reg_eventfd_async(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_unreg_eventfd(struct fu_ctx *ctx, void *arg, u32 nr);

/*
 * Puts a duplicate of `fd` into the file table: at slot - 1, replacing what is there, or
 * anywhere if slot is IORING_FILE_INDEX_ALLOC. Returns 0 or the slot that was found;
 * -ENXIO without a table, -EINVAL out of range, -ENFILE when full, -EBADF for a ring.
 * `fd` stays the caller's. submit_lock held.
 */
long fu_fixed_install(struct fu_ctx *ctx, int fd, u32 slot);
/* Empties a slot. 0, -ENXIO, -EINVAL or -EBADF. submit_lock held. */
long fu_fixed_remove(struct fu_ctx *ctx, u32 index);

/* Drops all registered files and buffers of a ring; no lock needed, it has ended. */
void fu_resources_free(struct fu_ctx *ctx);

#endif
