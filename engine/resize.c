/*
 * IORING_REGISTER_RESIZE_RINGS: a ring of one task (DEFER_TASKRUN) gets other sizes
 * while it is in use. Nobody else posts to such a ring or consumes from it, and that
 * task is here; what other threads do to it without its locks is to look at the CQ's
 * indices and to raise IORING_SQ_TASKRUN.
 */
#include "engine/register.h"

#include <errno.h>

#include "rings/user.h"

#define RESIZE_FLAGS (IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP)
#define KEPT_FLAGS                                                            \
	(IORING_SETUP_NO_SQARRAY | IORING_SETUP_SQE128 | IORING_SETUP_CQE32 | \
	 IORING_SETUP_NO_MMAP | IORING_SETUP_CQE_MIXED)

long fu_reg_resize_rings(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_ring *ring = &ctx->ring;
	struct fu_params p;
	int ret;

	if (!arg || nr != 1 || !ctx->deferred)
		return -EINVAL;
	if (fu_copy_from_user(&p, arg, sizeof(p)))
		return -EFAULT;
	if (p.flags & ~RESIZE_FLAGS)
		return -EINVAL;
	p.flags |= ring->setup_flags & KEPT_FLAGS;
	ret = fu_ring_layout(p.sq_entries, &p);
	if (ret)
		return ret;
	if (fu_copy_to_user(arg, &p, sizeof(p)))
		return -EFAULT;
	if (p.sq_entries != ring->sq_entries || p.cq_entries != ring->cq_entries) {
		fu_lock(&ring->ctrl->cq_lock);
		ret = fu_ring_resize(ring, &p);
		fu_unlock(&ring->ctrl->cq_lock);
	}
	/* What was set meanwhile may have gone to the old memory: whoever looks here next enters.
	 */
	if (!ret)
		fu_sq_flags_set(ring, IORING_SQ_TASKRUN | IORING_SQ_NEED_WAKEUP);
	return ret;
}
