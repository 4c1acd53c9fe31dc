/* Restrictions and personalities; see restrict.h. */
#include "engine/restrict.h"

#include <errno.h>

#include "rings/mem.h"
#include "rings/user.h"

#define MAX_RESTRICTIONS 256U

struct fu_restrictions {
	u64 register_ops; /* bit n: IORING_REGISTER_n is allowed */
	u64 sqe_ops[4];
	u8 sqe_flags_allowed, sqe_flags_required;
};

bool fu_restriction_allows(const struct fu_ctx *ctx, const struct fu_req *req)
{
	const struct fu_restrictions *r = ctx->restrictions;
	u8 flags = (u8)req->flags;

	return (r->sqe_ops[req->opcode / 64] >> req->opcode % 64 & 1) &&
	       (flags & r->sqe_flags_required) == r->sqe_flags_required &&
	       !(flags & ~(r->sqe_flags_allowed | r->sqe_flags_required));
}

bool fu_restriction_allows_register(const struct fu_ctx *ctx, u32 opcode)
{
	return opcode < 64 && (ctx->restrictions->register_ops >> opcode & 1);
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

long fu_restrictions_register(struct fu_ctx *ctx, const void *user, u32 nr)
{
	struct fu_restrictions *r;
	int ret = 0;

	/* Only before the ring is enabled, and only once. */
	if (!ctx->ring.ctrl->disabled)
		return -EBADFD;
	if (ctx->restrictions)
		return -EBUSY;
	if (!user || nr > MAX_RESTRICTIONS)
		return -EINVAL;
	r = fu_zalloc(sizeof(*r));
	if (!r)
		return -ENOMEM;
	for (u32 i = 0; i < nr && !ret; i++) {
		struct fu_restriction in;

		ret = fu_copy_from_user(&in, (const struct fu_restriction *)user + i, sizeof(in));
		if (!ret)
			ret = add(r, &in);
	}
	if (ret) {
		fu_free(r, sizeof(*r));
		return ret;
	}
	ctx->restrictions = r;
	return 0;
}

void fu_restrictions_free(struct fu_ctx *ctx)
{
	fu_free(ctx->restrictions, sizeof(*ctx->restrictions));
	ctx->restrictions = NULL;
}

void fu_personalities_free(struct fu_ctx *ctx)
{
	(void)ctx;
}

int fu_personality_get(struct fu_ctx *ctx, struct fu_req *req, u16 id)
{
	(void)ctx;
	(void)req;
	(void)id;
	return -EINVAL;
}

int fu_issue_as(struct fu_req *req, u32 issue_flags)
{
	return req->op->issue(req, issue_flags);
}
