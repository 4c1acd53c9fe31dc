/* Restrictions; see restrict.h. */
#include "engine/restrict.h"

#include <errno.h>

#include "rings/user.h"

/* Twice over would be of no use: the kernel takes no more either. */
#define MAX_RESTRICTIONS (IORING_RESTRICTION_LAST + IORING_REGISTER_LAST + IORING_OP_LAST)

bool fu_restriction_allows(const struct fu_ctx *ctx, const struct fu_req *req)
{
	const struct fu_restrictions *r = &ctx->ring.ctrl->restrictions;
	u8 flags = (u8)req->flags;

	return (r->sqe_ops[req->opcode / 64] >> req->opcode % 64 & 1) &&
	       (flags & r->sqe_flags_required) == r->sqe_flags_required &&
	       !(flags & ~(r->sqe_flags_allowed | r->sqe_flags_required));
}

bool fu_restriction_allows_register(const struct fu_ctx *ctx, u32 opcode)
{
	return opcode < 64 && (ctx->ring.ctrl->restrictions.register_ops >> opcode & 1);
}

static int add(struct fu_restrictions *r, const struct fu_restriction *in)
{
	switch (in->opcode) {
	case IORING_RESTRICTION_REGISTER_OP:
		if (in->arg >= IORING_REGISTER_LAST)
			return -EINVAL;
		r->register_ops |= 1ULL << in->arg;
		return 0;
	case IORING_RESTRICTION_SQE_OP:
		if (in->arg >= IORING_OP_LAST)
			return -EINVAL;
		r->sqe_ops[in->arg / 64] |= 1ULL << in->arg % 64;
		return 0;
	case IORING_RESTRICTION_SQE_FLAGS_ALLOWED:
		r->sqe_flags_allowed = in->arg;
		return 0;
	case IORING_RESTRICTION_SQE_FLAGS_REQUIRED:
		r->sqe_flags_required = in->arg;
		return 0;
	default:
		return -EINVAL;
	}
}

/* Reads the whole list before any of it is looked at. */
static int parse(struct fu_restrictions *r, const void *user, u32 nr)
{
	struct fu_restriction list[MAX_RESTRICTIONS];
	int ret = fu_copy_from_user(list, user, nr * sizeof(list[0]));

	for (u32 i = 0; i < nr && !ret; i++)
		ret = add(r, &list[i]);
	return ret;
}

long fu_reg_restrictions(struct fu_ctx *ctx, void *user, u32 nr)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;
	struct fu_restrictions r = { .registered = 1 };
	int ret;

	/* Only before the ring is enabled, and only once. */
	if (!ctrl->disabled)
		return -EBADFD;
	if (ctrl->restrictions.registered)
		return -EBUSY;
	if (!user || nr > MAX_RESTRICTIONS)
		return -EINVAL;
	ret = parse(&r, user, nr);
	if (!ret)
		ctrl->restrictions = r;
	return ret;
}
