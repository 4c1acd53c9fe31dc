/* ASYNC_CANCEL and what synchronous cancellation shares with it. */
#ifndef FU_CANCEL_H
#define FU_CANCEL_H

#include "engine/engine.h"

int fu_async_cancel_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_async_cancel_issue(struct fu_req *req, u32 issue_flags);
/* 0, or -EBADF if cd names a file that is not there. submit_lock held for a fixed one. */
int fu_cancel_check_fd(const struct fu_cancel *cd);

/*
 * The thread `tid` exits: its requests have `left` for their owner from now on, and those that
 * are not to outlive it end. No lock held.
 */
void fu_cancel_left(struct fu_ctx *ctx, u32 tid, u32 left);

/* IORING_REGISTER_SYNC_CANCEL; submit_lock held, let go of while it waits. */
long fu_reg_sync_cancel(struct fu_ctx *ctx, void *arg, u32 nr);

#endif
