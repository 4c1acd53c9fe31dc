/*
 * io_uring_register: who may, and which function. Each operation has a row; the
 * functions live with what they register.
 */
#include "engine/register.h"

#include <errno.h>

#include "engine/entry.h"
#include "engine/msg_ring.h"
#include "engine/restrict.h"
#include "engine/ringfds.h"
#include "engine/stats.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

#define PROBE_MAX 256U
#define NO_RING   (~0U)

static long reg_probe(struct fu_ctx *ctx, void *arg, u32 nr)
{
	size_t bytes = sizeof(struct fu_probe) + nr * sizeof(struct fu_probe_op);
	struct fu_probe *probe;
	long ret = 0;

	(void)ctx;
	if (!arg || nr > PROBE_MAX)
		return -EINVAL;
	probe = fu_alloc(bytes);
	if (!probe)
		return -ENOMEM;
	if (fu_copy_from_user(probe, arg, bytes))
		ret = -EFAULT;
	for (size_t i = 0; i < bytes && !ret; i++) {
		if (((u8 *)probe)[i])
			ret = -EINVAL;
	}
	if (!ret) {
		if (nr > IORING_OP_LAST)
			nr = IORING_OP_LAST;
		for (u32 op = 0; op < nr; op++) {
			probe->ops[op].op = (u8)op;
			if (fu_ops[op].issue)
				probe->ops[op].flags = IO_URING_OP_SUPPORTED;
		}
		probe->last_op = IORING_OP_LAST - 1;
		probe->ops_len = (u8)nr;
		if (fu_copy_to_user(arg, probe, bytes))
			ret = -EFAULT;
	}
	fu_free(probe, bytes);
	return ret;
}

static long reg_enable_rings(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;

	if (arg || nr)
		return -EINVAL;
	if (!ctrl->disabled)
		return -EBADFD;
	if ((ctx->ring.setup_flags & IORING_SETUP_SINGLE_ISSUER) && !ctrl->submitter)
		ctrl->submitter = fu_tid();
	ctx->restricted = ctx->restrictions != NULL;
	fu_store_release(&ctrl->disabled, 0);
	if (ctx->sqpoll)
		fu_sqpoll_wake(ctx);
	return 0;
}

static long reg_restrictions(struct fu_ctx *ctx, void *arg, u32 nr)
{
	return fu_restrictions_register(ctx, arg, nr);
}

static long reg_max_workers(struct fu_ctx *ctx, void *arg, u32 nr)
{
	u32 limits[2];

	(void)ctx;
	if (!arg || nr != 2)
		return -EINVAL;
	if (fu_copy_from_user(limits, arg, sizeof(limits)))
		return -EFAULT;
	if (limits[0] > INT32_MAX || limits[1] > INT32_MAX)
		return -EINVAL;
	fu_pool_limits(limits);
	return fu_copy_to_user(arg, limits, sizeof(limits)) ? -EFAULT : 0;
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
	[IORING_REGISTER_PROBE] = reg_probe,
	[IORING_REGISTER_RESTRICTIONS] = reg_restrictions,
	[IORING_REGISTER_ENABLE_RINGS] = reg_enable_rings,
	[IORING_REGISTER_IOWQ_MAX_WORKERS] = reg_max_workers,
};

static long register_locked(struct fu_ctx *ctx, u32 opcode, void *arg, u32 nr)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;

	if ((ctx->ring.setup_flags & IORING_SETUP_SINGLE_ISSUER) && ctrl->submitter &&
	    ctrl->submitter != fu_tid())
		return -EEXIST;
	if (ctx->restricted && !fu_restriction_allows_register(ctx, opcode))
		return -EACCES;
	if (!operations[opcode])
		return -EINVAL;
	return operations[opcode](ctx, arg, nr);
}

/* The few operations that need no ring. */
static long register_blind(u32 opcode, void *arg, u32 nr)
{
	return opcode == IORING_REGISTER_SEND_MSG_RING ? fu_msg_ring_send(arg, nr) : -EINVAL;
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
