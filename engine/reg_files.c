/*
 * The table of registered files. A slot holds a duplicate of the program's
 * descriptor; a request that uses it holds the node, so the file lives, and its tag
 * waits, until the last such request is done.
 *
 * Allocation of free slots follows the kernel's hint: the slot filled last plus one,
 * or the slot that was emptied last.
 */
#include <errno.h>
#include <sys/resource.h>

#include "engine/entry.h"
#include "engine/register.h"
#include "rings/fds.h"
#include "rings/sys.h"
#include "rings/user.h"

/* Takes a slot's file out and reports its tag once nobody uses it. Returns whether there was one.
 */
static bool drop_file(struct fu_ctx *ctx, u32 index)
{
	struct fu_file_node *node = ctx->files.slots[index];
	u64 tag;

	if (!node)
		return false;
	ctx->files.slots[index] = NULL;
	tag = fu_file_node_put(node);
	if (tag)
		fu_post_aux(ctx, tag, 0, 0);
	return true;
}

static bool empty_slot(struct fu_ctx *ctx, u32 index)
{
	if (!drop_file(ctx, index))
		return false;
	ctx->file_alloc_hint = index;
	return true;
}

/* Puts a duplicate of `fd` into an empty slot. */
static int fill_slot(struct fu_ctx *ctx, u32 index, s32 fd, u64 tag)
{
	int err = 0;

	/* A ring does not hold rings: references would go in circles. */
	if (fd < 0 || fu_fd_is_engine(fd) || fu_fd_is_ring(fd))
		return -EBADF;
	ctx->files.slots[index] = fu_file_node_make(fd, tag, &err);
	if (!ctx->files.slots[index])
		return err;
	ctx->file_alloc_hint = index + 1;
	return 0;
}

/* The next free slot of the allocation range, or -ENFILE. */
static long find_free(struct fu_ctx *ctx)
{
	u32 end = ctx->file_alloc_end;

	if (!ctx->files.nr)
		return -ENFILE;
	/* Slots outside of the range are filled and emptied too. */
	if (ctx->file_alloc_hint < ctx->file_alloc_start || ctx->file_alloc_hint >= end)
		ctx->file_alloc_hint = ctx->file_alloc_start;
	for (;;) {
		for (u32 i = ctx->file_alloc_hint; i < end; i++) {
			if (!ctx->files.slots[i])
				return i;
		}
		if (ctx->file_alloc_hint == ctx->file_alloc_start)
			return -ENFILE;
		end = ctx->file_alloc_hint < end ? ctx->file_alloc_hint : end;
		ctx->file_alloc_hint = ctx->file_alloc_start;
	}
}

long fu_fixed_install(struct fu_ctx *ctx, int fd, u32 slot)
{
	bool alloc = slot == IORING_FILE_INDEX_ALLOC;
	/* Slot 0 is none: it becomes an index that no table has. */
	long index = alloc ? find_free(ctx) : (long)(slot - 1);
	struct fu_file_node *node;
	int err = 0;

	if (index < 0)
		return index;
	if (fu_fd_is_ring(fd))
		return -EBADF;
	if (!ctx->files.nr)
		return -ENXIO;
	if (index >= (long)ctx->files.nr)
		return -EINVAL;
	node = fu_file_node_make(fd, 0, &err);
	if (!node)
		return err;
	if (!drop_file(ctx, (u32)index))
		ctx->file_alloc_hint = (u32)index + 1;
	ctx->files.slots[index] = node;
	return alloc ? index : 0;
}

long fu_fixed_remove(struct fu_ctx *ctx, u32 index)
{
	if (!ctx->files.nr)
		return -ENXIO;
	if (index >= ctx->files.nr)
		return -EINVAL;
	return empty_slot(ctx, index) ? 0 : -EBADF;
}

void fu_files_drop(struct fu_ctx *ctx)
{
	/* From the end: the order in which the kernel reports the tags. */
	for (u32 i = ctx->files.nr; i-- > 0;)
		drop_file(ctx, i);
	fu_table_free(&ctx->files);
}

static void set_alloc_range(struct fu_ctx *ctx, u32 start, u32 len)
{
	ctx->file_alloc_start = ctx->file_alloc_hint = start;
	ctx->file_alloc_end = start + len;
}

/* One file with its tag from the program's arrays; either may be absent. */
static int fill_from_user(struct fu_ctx *ctx, u32 index, u64 fds, u64 tags)
{
	u64 tag = 0;
	s32 fd = -1;

	if (tags && fu_copy_from_user(&tag, fu_ptr(tags + index * sizeof(tag)), sizeof(tag)))
		return -EFAULT;
	if (fds && fu_copy_from_user(&fd, fu_ptr(fds + index * sizeof(fd)), sizeof(fd)))
		return -EFAULT;
	if (fd == -1)
		return tag ? -EINVAL : 0;
	return fill_slot(ctx, index, fd, tag);
}

long fu_files_register(struct fu_ctx *ctx, u64 fds, u32 nr, u64 tags)
{
	struct rlimit lim;
	int ret;

	if (ctx->files.nr)
		return -EBUSY;
	if (!nr)
		return -EINVAL;
	if (nr > IORING_MAX_FIXED_FILES)
		return -EMFILE;
	if (fu_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &lim) == 0 && nr > lim.rlim_cur)
		return -EMFILE;
	ret = fu_table_init(&ctx->files, nr);
	for (u32 i = 0; i < nr && !ret; i++)
		ret = fill_from_user(ctx, i, fds, tags);
	if (ret) {
		/* What is not registered reports no tags. */
		for (u32 i = 0; i < ctx->files.nr; i++) {
			if (ctx->files.slots[i])
				((struct fu_file_node *)ctx->files.slots[i])->tag = 0;
		}
		fu_files_drop(ctx);
	}
	set_alloc_range(ctx, 0, ctx->files.nr);
	return ret;
}

long fu_reg_files(struct fu_ctx *ctx, void *arg, u32 nr)
{
	return arg ? fu_files_register(ctx, (u64)(uintptr_t)arg, nr, 0) : -EFAULT;
}

long fu_unreg_files(struct fu_ctx *ctx, void *arg, u32 nr)
{
	if (arg || nr)
		return -EINVAL;
	if (!ctx->files.nr)
		return -ENXIO;
	fu_files_drop(ctx);
	return 0;
}

static int update_one(struct fu_ctx *ctx, u32 index, u64 fds, u64 tags, u32 at)
{
	u64 tag = 0;
	s32 fd;

	if ((tags && fu_copy_from_user(&tag, fu_ptr(tags + at * sizeof(tag)), sizeof(tag))) ||
	    fu_copy_from_user(&fd, fu_ptr(fds + at * sizeof(fd)), sizeof(fd)))
		return -EFAULT;
	if ((fd == IORING_REGISTER_FILES_SKIP || fd == -1) && tag)
		return -EINVAL;
	if (fd == IORING_REGISTER_FILES_SKIP)
		return 0;
	empty_slot(ctx, index);
	return fd == -1 ? 0 : fill_slot(ctx, index, fd, tag);
}

long fu_files_update(struct fu_ctx *ctx, u32 offset, u32 nr, u64 fds, u64 tags)
{
	u32 end, done = 0;
	int ret = 0;

	if (__builtin_add_overflow(offset, nr, &end))
		return -EOVERFLOW;
	if (!ctx->files.nr)
		return -ENXIO;
	if (end > ctx->files.nr)
		return -EINVAL;
	while (done < nr && !ret) {
		ret = update_one(ctx, offset + done, fds, tags, done);
		done += !ret;
	}
	return done ? (long)done : ret;
}

long fu_reg_files_update(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_files_update up;

	if (!nr)
		return -EINVAL;
	if (fu_copy_from_user(&up, arg, sizeof(up)))
		return -EFAULT;
	if (up.resv)
		return -EINVAL;
	return fu_files_update(ctx, up.offset, nr, up.fds, 0);
}

long fu_reg_file_alloc_range(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_file_index_range range;
	u32 end;

	if (!arg || nr)
		return -EINVAL;
	if (fu_copy_from_user(&range, arg, sizeof(range)))
		return -EFAULT;
	if (__builtin_add_overflow(range.off, range.len, &end))
		return -EOVERFLOW;
	if (range.resv || end > ctx->files.nr)
		return -EINVAL;
	set_alloc_range(ctx, range.off, range.len);
	return 0;
}
