/*
 * The table of registered buffers. What the kernel pins, this only remembers: the
 * ranges are checked to be there and writable, and used where they are.
 */
#include <errno.h>
#include <sys/uio.h>

#include "engine/register.h"
#include "engine/ringfds.h"
#include "engine/usermem.h"
#include "rings/user.h"

#define MAX_BUFFER_BYTES (1ULL << 30)

/* A node for what the program describes; *node stays as it is for an empty slot. 0 or -errno. */
static int make_node(const struct iovec *iov, u64 tag, struct fu_buf_node **node)
{
	u64 addr = (u64)(uintptr_t)iov->iov_base;
	int ret;

	if (!addr)
		return iov->iov_len ? -EFAULT : tag ? -EINVAL : 0;
	if (!iov->iov_len || iov->iov_len > MAX_BUFFER_BYTES)
		return -EFAULT;
	if (addr + iov->iov_len < addr)
		return -EOVERFLOW;
	ret = fu_check_pinnable(addr, iov->iov_len);
	if (ret)
		return ret;
	*node = fu_buf_node_make(addr, iov->iov_len, tag);
	return *node ? 0 : -ENOMEM;
}

/* The node that entry `at` of the program's arrays describes; either array may be absent. */
static int node_from_user(u64 iovs, u64 tags, u32 at, struct fu_buf_node **node)
{
	struct iovec iov = { NULL, 0 };
	u64 tag = 0;

	*node = NULL;
	if (iovs && fu_copy_from_user(&iov, fu_ptr(iovs + at * sizeof(iov)), sizeof(iov)))
		return -EFAULT;
	if ((s64)iov.iov_len < 0)
		return -EINVAL;
	if (tags && fu_copy_from_user(&tag, fu_ptr(tags + at * sizeof(tag)), sizeof(tag)))
		return -EFAULT;
	return make_node(&iov, tag, node);
}

/* Gives a table's reference back and reports the tag once nobody uses the buffer. */
static void put_node(struct fu_ctx *ctx, struct fu_buf_node *node)
{
	u64 tag = node ? fu_buf_node_put(node) : 0;

	if (tag)
		fu_post_aux(ctx, tag, 0, 0);
}

static void drop_table(struct fu_ctx *ctx, struct fu_table *table)
{
	/* From the end: the order in which the kernel reports the tags. */
	for (u32 i = table->nr; i-- > 0;)
		put_node(ctx, table->slots[i]);
	fu_table_free(table);
}

void fu_bufs_drop(struct fu_ctx *ctx)
{
	drop_table(ctx, &ctx->bufs);
}

long fu_bufs_register(struct fu_ctx *ctx, u64 iovs, u32 nr, u64 tags)
{
	struct fu_buf_node *node;
	int ret;

	if (ctx->bufs.nr)
		return -EBUSY;
	if (!nr || nr > IORING_MAX_REG_BUFFERS)
		return -EINVAL;
	ret = fu_table_init(&ctx->bufs, nr);
	for (u32 i = 0; i < nr && !ret; i++) {
		ret = node_from_user(iovs, tags, i, &node);
		ctx->bufs.slots[i] = node;
	}
	if (ret) {
		/* What is not registered reports no tags. */
		for (u32 i = 0; i < ctx->bufs.nr; i++) {
			if (ctx->bufs.slots[i])
				((struct fu_buf_node *)ctx->bufs.slots[i])->tag = 0;
		}
		fu_bufs_drop(ctx);
	}
	return ret;
}

long fu_reg_buffers(struct fu_ctx *ctx, void *arg, u32 nr)
{
	return arg ? fu_bufs_register(ctx, (u64)(uintptr_t)arg, nr, 0) : -EFAULT;
}

long fu_unreg_buffers(struct fu_ctx *ctx, void *arg, u32 nr)
{
	if (arg || nr)
		return -EINVAL;
	if (!ctx->bufs.nr)
		return -ENXIO;
	fu_bufs_drop(ctx);
	return 0;
}

long fu_bufs_update(struct fu_ctx *ctx, u32 offset, u32 nr, u64 iovs, u64 tags)
{
	u32 end, done = 0;
	int ret = 0;

	if (__builtin_add_overflow(offset, nr, &end))
		return -EOVERFLOW;
	if (!ctx->bufs.nr)
		return -ENXIO;
	if (end > ctx->bufs.nr)
		return -EINVAL;
	for (; done < nr; done++) {
		struct fu_buf_node *node, *old = ctx->bufs.slots[offset + done];

		ret = iovs ? node_from_user(iovs, tags, done, &node) : -EFAULT;
		if (ret)
			break;
		ctx->bufs.slots[offset + done] = node;
		put_node(ctx, old);
	}
	return done ? (long)done : ret;
}

/* ---- clones ---- */

/* Checks the ranges and tells where the cloned ones end in the destination. */
static int check_clone(const struct fu_ctx *dst, const struct fu_ctx *src,
                       struct fu_clone_buffers *c, u32 *dst_end)
{
	u32 src_end;

	if (!c->nr && (c->dst_off || c->src_off))
		return -EINVAL;
	if (dst->bufs.nr && !(c->flags & IORING_REGISTER_DST_REPLACE))
		return -EBUSY;
	if (!src->bufs.nr)
		return -ENXIO;
	if (!c->nr)
		c->nr = src->bufs.nr;
	else if (c->nr > src->bufs.nr || c->nr > IORING_MAX_REG_BUFFERS)
		return -EINVAL;
	if (__builtin_add_overflow(c->nr, c->src_off, &src_end) || src_end > src->bufs.nr)
		return -EOVERFLOW;
	if (__builtin_add_overflow(c->nr, c->dst_off, dst_end))
		return -EOVERFLOW;
	return *dst_end > IORING_MAX_REG_BUFFERS ? -EINVAL : 0;
}

/* Both rings' submit_lock held. */
static long clone_table(struct fu_ctx *dst, const struct fu_ctx *src, struct fu_clone_buffers *c)
{
	struct fu_table table = { NULL, 0 }, old = dst->bufs;
	u32 dst_end;
	int ret = check_clone(dst, src, c, &dst_end);

	if (!ret)
		ret = fu_table_init(&table, dst_end > old.nr ? dst_end : old.nr);
	if (ret)
		return ret;
	for (u32 i = 0; i < c->nr; i++) {
		const struct fu_buf_node *from = src->bufs.slots[c->src_off + i];

		if (!from)
			continue;
		table.slots[c->dst_off + i] = fu_buf_node_make(from->addr, from->len, 0);
		if (!table.slots[c->dst_off + i]) {
			drop_table(dst, &table);
			return -ENOMEM;
		}
	}
	/* Those around the cloned range stay. */
	for (u32 i = 0; i < old.nr; i++) {
		if (i >= c->dst_off && i < dst_end)
			continue;
		table.slots[i] = old.slots[i];
		old.slots[i] = NULL;
	}
	dst->bufs = table;
	drop_table(dst, &old);
	return 0;
}

/* Takes both locks, in the order of the addresses. */
static void lock_both(struct fu_ctx *a, struct fu_ctx *b)
{
	fu_submit_lock(a < b ? a : b);
	fu_submit_lock(a < b ? b : a);
}

long fu_reg_clone_buffers(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_clone_buffers c;
	struct fu_ctx *src;
	int err;
	long ret;

	if (!arg || nr != 1)
		return -EINVAL;
	if (fu_copy_from_user(&c, arg, sizeof(c)))
		return -EFAULT;
	if (c.flags & ~(IORING_REGISTER_SRC_REGISTERED | IORING_REGISTER_DST_REPLACE))
		return -EINVAL;
	if (!(c.flags & IORING_REGISTER_DST_REPLACE) && ctx->bufs.nr)
		return -EBUSY;
	if (c.pad[0] || c.pad[1] || c.pad[2])
		return -EINVAL;
	src = c.flags & IORING_REGISTER_SRC_REGISTERED ? fu_ringfd_registered(c.src_fd, &err)
	                                               : fu_ctx_get(c.src_fd, &err);
	if (!src)
		return err;
	if (src != ctx) {
		fu_submit_unlock(ctx);
		lock_both(ctx, src);
	}
	if (src != ctx && (src->ring.setup_flags & IORING_SETUP_SINGLE_ISSUER) &&
	    src->ring.ctrl->submitter && src->ring.ctrl->submitter != fu_tid())
		ret = -EEXIST;
	else
		ret = clone_table(ctx, src, &c);
	if (src != ctx)
		fu_submit_unlock(src);
	fu_ctx_put(src);
	return ret;
}
