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

/* Drops all registered files and buffers of a ring; no lock needed, it has ended. */
void fu_resources_free(struct fu_ctx *ctx);

#endif
