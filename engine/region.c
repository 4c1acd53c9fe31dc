/* Registered memory regions; see region.h. */
#include "engine/region.h"

#include <errno.h>

#include "engine/usermem.h"
#include "rings/shared.h"
#include "rings/sys.h"
#include "rings/user.h"

int fu_region_check(const struct fu_region_desc *rd)
{
	u64 end;

	if (rd->resv[0] || rd->resv[1] || rd->resv[2] || rd->resv[3])
		return -EINVAL;
	if (rd->flags & ~(u32)IORING_MEM_REGION_TYPE_USER)
		return -EINVAL;
	if (!(rd->flags & IORING_MEM_REGION_TYPE_USER) != !rd->user_addr)
		return -EFAULT;
	if (!rd->size || rd->mmap_offset || rd->id)
		return -EINVAL;
	if (rd->size / FU_PAGE > INT32_MAX)
		return -E2BIG;
	if ((rd->user_addr | rd->size) & (FU_PAGE - 1))
		return -EINVAL;
	return __builtin_add_overflow(rd->user_addr, rd->size, &end) ? -EOVERFLOW : 0;
}

/* Maps what is described. 0 or -errno. */
static int make(struct fu_region_desc *rd, void **region)
{
	void *mem = fu_shared_map(rd->size);

	if (fu_ptr_is_err(mem))
		return -ENOMEM;
	*region = mem;
	if (!(rd->flags & IORING_MEM_REGION_TYPE_USER)) {
		rd->mmap_offset = IORING_OFF_REGION;
		return 0;
	}
	if (fu_check_pinnable(rd->user_addr, rd->size) ||
	    fu_ring_take_memory(*region, rd->size, rd->user_addr)) {
		fu_shared_unmap(mem, rd->size);
		return -EFAULT;
	}
	return 0;
}

long fu_reg_mem_region(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_mem_region_reg reg;
	struct fu_region_desc rd;
	void *region;
	int ret;

	if (!arg || nr != 1)
		return -EINVAL;
	if (ctx->region)
		return -EBUSY;
	if (fu_copy_from_user(&reg, arg, sizeof(reg)) ||
	    fu_copy_from_user(&rd, fu_ptr(reg.region_uptr), sizeof(rd)))
		return -EFAULT;
	if (reg.resv[0] || reg.resv[1] || reg.flags & ~(u64)IORING_MEM_REGION_REG_WAIT_ARG)
		return -EINVAL;
	/* Waiters read it without a lock: it has to be there before the first of them. */
	if ((reg.flags & IORING_MEM_REGION_REG_WAIT_ARG) && !ctx->ring.ctrl->disabled)
		return -EINVAL;
	ret = fu_region_check(&rd);
	if (!ret)
		ret = make(&rd, &region);
	if (ret)
		return ret;
	if (fu_copy_to_user(fu_ptr(reg.region_uptr), &rd, sizeof(rd))) {
		fu_shared_unmap(region, rd.size);
		return -EFAULT;
	}
	ctx->region = region;
	ctx->region_bytes = rd.size;
	ctx->region_user = rd.flags & IORING_MEM_REGION_TYPE_USER;
	if (reg.flags & IORING_MEM_REGION_REG_WAIT_ARG)
		ctx->wait_arg_bytes = rd.size;
	return 0;
}

long fu_region_map(struct fu_ctx *ctx, size_t len, int prot, int flags)
{
	if (!ctx->region || ctx->region_user)
		return -ENOMEM;
	len = fu_align_up(len, FU_PAGE);
	/* All of it, or nothing. */
	if (len < ctx->region_bytes)
		return -EFAULT;
	return fu_map_alias(ctx->region, ctx->region_bytes, len, NULL, prot, flags);
}

void fu_region_free(struct fu_ctx *ctx)
{
	if (ctx->region)
		fu_shared_unmap(ctx->region, ctx->region_bytes);
	ctx->region = NULL;
	ctx->region_bytes = ctx->wait_arg_bytes = 0;
}
