/*
 * io_uring_register, by family. All functions are called with submit_lock held and
 * return what the system call returns.
 */
#ifndef FU_REGISTER_H
#define FU_REGISTER_H

#include "engine/engine.h"

/* reg_files.c */
long fu_reg_files(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_unreg_files(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_reg_files_update(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_reg_file_alloc_range(struct fu_ctx *ctx, void *arg, u32 nr);

/* reg_bufs.c; cloning takes the other ring's lock too, and lets go of this one's meanwhile. */
long fu_reg_buffers(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_unreg_buffers(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_reg_clone_buffers(struct fu_ctx *ctx, void *arg, u32 nr);

/* reg_rsrc.c: `size` is the argument's. */
long fu_reg_files2(struct fu_ctx *ctx, void *arg, u32 size);
long fu_reg_files_update2(struct fu_ctx *ctx, void *arg, u32 size);
long fu_reg_buffers2(struct fu_ctx *ctx, void *arg, u32 size);
long fu_reg_buffers_update(struct fu_ctx *ctx, void *arg, u32 size);

/* reg_eventfd.c */
long fu_reg_eventfd(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_reg_eventfd_async(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_unreg_eventfd(struct fu_ctx *ctx, void *arg, u32 nr);

/* reg_wq.c: the workers' processors and number. */
long fu_reg_iowq_aff(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_unreg_iowq_aff(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_reg_iowq_max_workers(struct fu_ctx *ctx, void *arg, u32 nr);
/*
 * This thread submits to the ring, and has not been the last to do so: what is registered there
 * holds for its workers from now on, and at once if this is its first ring. Takes the tasks' lock
 * and those of the pool the first time.
 */
void fu_wq_join(struct fu_ctx *ctx);
/* The ring's SQPOLL thread is about to start, and has ended. */
void fu_wq_join_sqpoll(struct fu_ctx *ctx);
void fu_wq_leave_sqpoll(struct fu_ctx *ctx);
/* This thread exits. */
void fu_wq_leave(void);
/* In a forked child: forgets the parent's threads. */
void fu_wq_reset(void);

/* reg_probe.c: what there is. QUERY needs no ring: ctx may be NULL, and no lock. */
long fu_reg_probe(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_reg_query(struct fu_ctx *ctx, void *arg, u32 nr);

/* resize.c */
long fu_reg_resize_rings(struct fu_ctx *ctx, void *arg, u32 nr);

/* reg_net.c */
long fu_reg_napi(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_unreg_napi(struct fu_ctx *ctx, void *arg, u32 nr);
void fu_napi_free(struct fu_ctx *ctx);
long fu_reg_zcrx(struct fu_ctx *ctx, void *arg, u32 nr);

/*
 * Tables from arrays in the program's memory, 0 for an absent array: all slots empty, all
 * tags 0. The errors of io_uring_register(2); nothing stays registered after one.
 */
long fu_files_register(struct fu_ctx *ctx, u64 fds, u32 nr, u64 tags);
long fu_bufs_register(struct fu_ctx *ctx, u64 iovs, u32 nr, u64 tags);
/* Replaces slots from `offset` on. How many were, or the error of the first. */
long fu_files_update(struct fu_ctx *ctx, u32 offset, u32 nr, u64 fds, u64 tags);
long fu_bufs_update(struct fu_ctx *ctx, u32 offset, u32 nr, u64 iovs, u64 tags);
/* Empties and frees the tables. */
void fu_files_drop(struct fu_ctx *ctx);
void fu_bufs_drop(struct fu_ctx *ctx);

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

/* Whether there is such an operation, on a ring or without one. */
bool fu_register_known(u32 opcode);

#endif
