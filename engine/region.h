/*
 * Memory that program and engine share beside the rings (IORING_REGISTER_MEM_REGION):
 * the program's own pages, or pages of the engine's that the program maps. It holds
 * the arguments of registered waits.
 */
#ifndef FU_REGION_H
#define FU_REGION_H

#include "engine/engine.h"

/* Checks a description as the kernel does: 0, -EINVAL, -EFAULT, -E2BIG or -EOVERFLOW. */
int fu_region_check(const struct fu_region_desc *rd);
/* IORING_REGISTER_MEM_REGION; submit_lock held. */
long fu_reg_mem_region(struct fu_ctx *ctx, void *arg, u32 nr);
/* mmap of the ring's descriptor at IORING_OFF_REGION. The address, -ENOMEM or -EFAULT. */
long fu_region_map(struct fu_ctx *ctx, size_t len, int prot, int flags);
void fu_region_free(struct fu_ctx *ctx);

#endif
