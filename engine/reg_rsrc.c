/* What registered files and buffers have in common: registration and update with tags. */
#include <errno.h>

#include "engine/register.h"
#include "rings/user.h"

/* Reads and checks the argument of REGISTER_*2. */
static int read_register(struct fu_rsrc_register *r, const void *arg, u32 size)
{
	if (size != sizeof(*r))
		return -EINVAL;
	if (fu_copy_from_user(r, arg, sizeof(*r)))
		return -EFAULT;
	if (!r->nr || r->resv2 || r->flags & ~IORING_RSRC_REGISTER_SPARSE)
		return -EINVAL;
	if ((r->flags & IORING_RSRC_REGISTER_SPARSE) && r->data)
		return -EINVAL;
	return 0;
}

/* Reads and checks the argument of *_UPDATE2 and BUFFERS_UPDATE. */
static int read_update(struct fu_rsrc_update2 *up, const void *arg, u32 size)
{
	if (size != sizeof(*up))
		return -EINVAL;
	if (fu_copy_from_user(up, arg, sizeof(*up)))
		return -EFAULT;
	return !up->nr || up->resv || up->resv2 ? -EINVAL : 0;
}

long fu_reg_files2(struct fu_ctx *ctx, void *arg, u32 size)
{
	struct fu_rsrc_register r;
	int ret = read_register(&r, arg, size);

	return ret ? ret : fu_files_register(ctx, r.data, r.nr, r.tags);
}

long fu_reg_files_update2(struct fu_ctx *ctx, void *arg, u32 size)
{
	struct fu_rsrc_update2 up;
	int ret = read_update(&up, arg, size);

	return ret ? ret : fu_files_update(ctx, up.offset, up.nr, up.data, up.tags);
}

long fu_reg_buffers2(struct fu_ctx *ctx, void *arg, u32 size)
{
	struct fu_rsrc_register r;
	int ret = read_register(&r, arg, size);

	return ret ? ret : fu_bufs_register(ctx, r.data, r.nr, r.tags);
}

long fu_reg_buffers_update(struct fu_ctx *ctx, void *arg, u32 size)
{
	struct fu_rsrc_update2 up;
	int ret = read_update(&up, arg, size);

	return ret ? ret : fu_bufs_update(ctx, up.offset, up.nr, up.data, up.tags);
}

void fu_resources_free(struct fu_ctx *ctx)
{
	/* The ring has no reader any more: tags are lost with it. */
	fu_files_drop(ctx);
	fu_bufs_drop(ctx);
}
