/*
 * io_uring_register: who may, and which function. Each operation has a row; the
 * functions live with what they register.
 */
#include "engine/register.h"

#include <errno.h>
#include <time.h>

#include "engine/cancel.h"
#include "engine/entry.h"
#include "engine/kbuf.h"
#include "engine/msg_ring.h"
#include "engine/personality.h"
#include "engine/region.h"
#include "engine/restrict.h"
#include "engine/ringfds.h"
#include "engine/stats.h"
#include "rings/user.h"

#define NO_RING (~0U)

static long reg_enable_rings(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;

	if (arg || nr)
		return -EINVAL;
	if (!ctrl->disabled)
		return -EBADFD;
	if ((ctx->ring.setup_flags & IORING_SETUP_SINGLE_ISSUER) && !ctrl->submitter)
		ctrl->submitter = fu_tid();
	ctrl->restricted = ctrl->restrictions.registered;
	fu_store_release(&ctrl->disabled, 0);
	if (ctx->sqpoll)
		fu_sqpoll_wake(ctx);
	return 0;
}

static long reg_clock(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_clock_register clock;

	if (!arg || nr)
		return -EINVAL;
	if (fu_copy_from_user(&clock, arg, sizeof(clock)))
		return -EFAULT;
	if (clock.resv[0] || clock.resv[1] || clock.resv[2])
		return -EINVAL;
	if (clock.clockid != CLOCK_MONOTONIC && clock.clockid != CLOCK_BOOTTIME)
		return -EINVAL;
	fu_store_relaxed(&ctx->ring.ctrl->clock_id, clock.clockid);
	return 0;
}

static long (*const operations[IORING_REGISTER_LAST])(struct fu_ctx *, void *, u32) = {
	[IORING_REGISTER_BUFFERS] = fu_reg_buffers,
	[IORING_UNREGISTER_BUFFERS] = fu_unreg_buffers,
	[IORING_REGISTER_FILES] = fu_reg_files,
	[IORING_UNREGISTER_FILES] = fu_unreg_files,
	[IORING_REGISTER_EVENTFD] = fu_reg_eventfd,
	[IORING_UNREGISTER_EVENTFD] = fu_unreg_eventfd,
	[IORING_REGISTER_FILES_UPDATE] = fu_reg_files_update,
	[IORING_REGISTER_EVENTFD_ASYNC] = fu_reg_eventfd_async,
	[IORING_REGISTER_PROBE] = fu_reg_probe,
	[IORING_REGISTER_PERSONALITY] = fu_personality_register,
	[IORING_UNREGISTER_PERSONALITY] = fu_personality_unregister,
	[IORING_REGISTER_RESTRICTIONS] = fu_reg_restrictions,
	[IORING_REGISTER_ENABLE_RINGS] = reg_enable_rings,
	[IORING_REGISTER_FILES2] = fu_reg_files2,
	[IORING_REGISTER_FILES_UPDATE2] = fu_reg_files_update2,
	[IORING_REGISTER_BUFFERS2] = fu_reg_buffers2,
	[IORING_REGISTER_BUFFERS_UPDATE] = fu_reg_buffers_update,
	[IORING_REGISTER_IOWQ_AFF] = fu_reg_iowq_aff,
	[IORING_UNREGISTER_IOWQ_AFF] = fu_unreg_iowq_aff,
	[IORING_REGISTER_IOWQ_MAX_WORKERS] = fu_reg_iowq_max_workers,
	[IORING_REGISTER_RING_FDS] = fu_reg_ring_fds,
	[IORING_UNREGISTER_RING_FDS] = fu_unreg_ring_fds,
	[IORING_REGISTER_PBUF_RING] = fu_reg_pbuf_ring,
	[IORING_UNREGISTER_PBUF_RING] = fu_unreg_pbuf_ring,
	[IORING_REGISTER_SYNC_CANCEL] = fu_reg_sync_cancel,
	[IORING_REGISTER_FILE_ALLOC_RANGE] = fu_reg_file_alloc_range,
	[IORING_REGISTER_PBUF_STATUS] = fu_reg_pbuf_status,
	[IORING_REGISTER_NAPI] = fu_reg_napi,
	[IORING_UNREGISTER_NAPI] = fu_unreg_napi,
	[IORING_REGISTER_CLOCK] = reg_clock,
	[IORING_REGISTER_CLONE_BUFFERS] = fu_reg_clone_buffers,
	[IORING_REGISTER_ZCRX_IFQ] = fu_reg_zcrx,
	[IORING_REGISTER_RESIZE_RINGS] = fu_reg_resize_rings,
	[IORING_REGISTER_MEM_REGION] = fu_reg_mem_region,
	[IORING_REGISTER_QUERY] = fu_reg_query,
};

static long register_locked(struct fu_ctx *ctx, u32 opcode, void *arg, u32 nr)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;

	if ((ctx->ring.setup_flags & IORING_SETUP_SINGLE_ISSUER) && ctrl->submitter &&
	    ctrl->submitter != fu_tid())
		return -EEXIST;
	if (ctrl->restricted && !fu_restriction_allows_register(ctx, opcode))
		return -EACCES;
	if (!operations[opcode])
		return -EINVAL;
	return operations[opcode](ctx, arg, nr);
}

/* What can be asked for without a ring. */
static long register_blind(u32 opcode, void *arg, u32 nr)
{
	switch (opcode) {
	case IORING_REGISTER_SEND_MSG_RING:
		return fu_msg_ring_send(arg, nr);
	case IORING_REGISTER_QUERY:
		return fu_reg_query(NULL, arg, nr);
	default:
		return -EINVAL;
	}
}

bool fu_register_known(u32 opcode)
{
	return opcode < IORING_REGISTER_LAST &&
	       (operations[opcode] || opcode == IORING_REGISTER_SEND_MSG_RING);
}

long fu_io_uring_register(u32 fd, u32 opcode, void *arg, u32 nr_args)
{
	bool registered = opcode & IORING_REGISTER_USE_REGISTERED_RING;
	struct fu_ctx *ctx;
	long ret;
	int err;

	fu_process_enter();
	opcode &= ~IORING_REGISTER_USE_REGISTERED_RING;
	if (opcode >= IORING_REGISTER_LAST)
		return -EINVAL;
	if (fd == NO_RING)
		return register_blind(opcode, arg, nr_args);
	ctx = registered ? fu_ringfd_registered(fd, &err) : fu_ctx_get(fd, &err);
	if (!ctx)
		return err;
	fu_submit_lock(ctx);
	ret = register_locked(ctx, opcode, arg, nr_args);
	fu_submit_unlock(ctx);
	fu_ctx_put(ctx);
	fu_stats_touch();
	return ret;
}
