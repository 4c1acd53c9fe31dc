/*
 * Ring descriptors registered by a thread (IORING_REGISTER_RING_FDS): sixteen slots
 * for each thread. A registered ring stays open, whatever happens to the program's
 * descriptor, until it is unregistered or the thread exits; a forked child has none.
 */
#ifndef FU_RINGFDS_H
#define FU_RINGFDS_H

#include "engine/engine.h"

/* The ring registered by this thread as `index`, with a reference; NULL and *err as the kernel's.
 */
struct fu_ctx *fu_ringfd_registered(u32 index, int *err);
/* The same as fu_ctx_enter has it. */
struct fu_ctx *fu_ringfd_enter(u32 index, int *err);
/* A descriptor of that ring, the engine's own; -1 if there is none. */
int fu_ringfd_number(u32 index);

/* IORING_REGISTER_RING_FDS and its opposite, which lets go of submit_lock meanwhile. */
long fu_reg_ring_fds(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_unreg_ring_fds(struct fu_ctx *ctx, void *arg, u32 nr);

/*
 * Registers the ring behind `fd`, whose number the engine takes over, in the first free
 * slot. The index, or -EBUSY, -ENOMEM; then `fd` is still the caller's.
 */
long fu_ringfd_adopt(struct fu_ctx *ctx, int fd);

/* The calling thread exits: what it has registered goes. */
void fu_ringfds_leave(void);
/* In a forked child: closes what the parent's threads had registered. */
void fu_ringfds_reset(void);

#endif
