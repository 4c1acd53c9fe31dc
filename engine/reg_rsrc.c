/* Registered files, buffers and the completion eventfd. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "engine/entry.h"
#include "engine/register.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MAX_BUFFER_BYTES (1ULL << 30)

/* ---- files ---- */

/* Takes a slot's file out and reports its tag once nobody uses it. */
static void drop_file(struct fu_ctx *ctx, u32 index)
{
	struct fu_file_node *node = ctx->files.slots[index];
	u64 tag;

	ctx->files.slots[index] = NULL;
	if (node && (tag = fu_file_node_put(node)))
		fu_post_aux(ctx, tag, 0, 0);
}

/* Puts a duplicate of `fd` into an empty slot. */
static int put_file(struct fu_ctx *ctx, u32 index, s32 fd, u64 tag)
{
	int err = 0;

	/* A ring does not hold rings: references would go in circles. */
	if (fd < 0 || fu_fd_is_engine(fd) || fu_fd_is_ring(fd))
		return -EBADF;
	ctx->files.slots[index] = fu_file_node_make(fd, tag, &err);
	return ctx->files.slots[index] ? 0 : err;
}

/* The next free slot of the allocation range, or -ENFILE. */
static long find_free(struct fu_ctx *ctx)
{
	u32 n = ctx->file_alloc_end - ctx->file_alloc_start;

	for (u32 i = 0; i < n; i++) {
		u32 index = ctx->file_alloc_start + (ctx->file_alloc_hint + i) % n;

		if (!ctx->files.slots[index]) {
			ctx->file_alloc_hint = index - ctx->file_alloc_start + 1;
			return index;
		}
	}
	return -ENFILE;
}

long fu_fixed_install(struct fu_ctx *ctx, int fd, u32 slot)
{
	bool alloc = slot == IORING_FILE_INDEX_ALLOC;
	long index = alloc ? find_free(ctx) : (long)slot - 1;
	int ret;

	if (index >= 0 && !ctx->files.nr)
		index = -ENXIO;
	else if (index >= (long)ctx->files.nr)
		index = -EINVAL;
	if (index < 0)
		return index;
	drop_file(ctx, (u32)index);
	ret = put_file(ctx, (u32)index, fd, 0);
	return ret ? ret : alloc ? index : 0;
}

long fu_fixed_remove(struct fu_ctx *ctx, u32 index)
{
	if (!ctx->files.nr)
		return -ENXIO;
	if (index >= ctx->files.nr)
		return -EINVAL;
	if (!ctx->files.slots[index])
		return -EBADF;
	drop_file(ctx, index);
	return 0;
}

static void drop_files(struct fu_ctx *ctx)
{
	for (u32 i = 0; i < ctx->files.nr; i++)
		drop_file(ctx, i);
	fu_table_free(&ctx->files);
}

long fu_reg_files(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct rlimit lim;
	int ret;

	if (!arg)
		return -EFAULT;
	if (ctx->files.nr)
		return -EBUSY;
	if (!nr)
		return -EINVAL;
	if (nr > IORING_MAX_FIXED_FILES)
		return -EMFILE;
	if (fu_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &lim) == 0 && nr > lim.rlim_cur)
		return -EMFILE;
	ret = fu_table_init(&ctx->files, nr);
	for (u32 i = 0; i < nr && !ret; i++) {
		s32 fd;

		if (fu_copy_from_user(&fd, (s32 *)arg + i, sizeof(fd)))
			ret = -EFAULT;
		else if (fd != -1)
			ret = put_file(ctx, i, fd, 0);
	}
	if (ret)
		drop_files(ctx);
	ctx->file_alloc_end = ctx->files.nr;
	return ret;
}

long fu_unreg_files(struct fu_ctx *ctx, void *arg, u32 nr)
{
	if (arg || nr)
		return -EINVAL;
	if (!ctx->files.nr)
		return -ENXIO;
	drop_files(ctx);
	return 0;
}

long fu_reg_files_update(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_files_update up;
	long done = 0;
	int ret = 0;

	if (!nr)
		return -EINVAL;
	if (fu_copy_from_user(&up, arg, sizeof(up)))
		return -EFAULT;
	if (up.resv)
		return -EINVAL;
	if (up.offset + nr < up.offset)
		return -EOVERFLOW;
	if (!ctx->files.nr)
		return -ENXIO;
	if (up.offset + nr > ctx->files.nr)
		return -EINVAL;
	for (; done < nr && !ret; done += !ret) {
		u32 index = up.offset + (u32)done;
		s32 fd;

		if (fu_copy_from_user(&fd, (s32 *)fu_ptr(up.fds) + done, sizeof(fd))) {
			ret = -EFAULT;
		} else if (fd != IORING_REGISTER_FILES_SKIP) {
			drop_file(ctx, index);
			if (fd != -1)
				ret = put_file(ctx, index, fd, 0);
		}
	}
	return done ? done : ret;
}

/* ---- buffers ---- */

/* Whether this kernel can populate pages for writing (Linux 5.14), tried on a page of ours. */
static bool can_populate(void)
{
	static u8 page[2 * FU_PAGE];
	u64 inside = fu_align_up((u64)(uintptr_t)page, FU_PAGE);

	return fu_sys(SYS_madvise, inside, FU_PAGE, MADV_POPULATE_WRITE) == 0;
}

/* The kernel pins the pages for writing; the same ranges must fail here. */
static int check_memory(u64 addr, u64 len)
{
	u64 start = addr & ~(FU_PAGE - 1);
	u64 bytes = fu_align_up(addr + len, FU_PAGE) - start;
	u8 resident[FU_PAGE / 64];
	long ret = fu_sys(SYS_madvise, start, bytes, MADV_POPULATE_WRITE);

	if (ret == 0)
		return 0;
	if (ret != -EINVAL || can_populate())
		return -EFAULT;
	/* An older kernel tells only whether the range is mapped. */
	for (u64 at = start; at < start + bytes; at += sizeof(resident) * FU_PAGE) {
		u64 left = start + bytes - at;

		if (left > sizeof(resident) * FU_PAGE)
			left = sizeof(resident) * FU_PAGE;
		if (fu_sys(SYS_mincore, at, left, resident) == -ENOMEM)
			return -EFAULT;
	}
	return 0;
}

static int put_buffer(struct fu_ctx *ctx, u32 index, const struct iovec *iov, u64 tag)
{
	u64 addr = (u64)(uintptr_t)iov->iov_base;
	int ret;

	if (!addr && !iov->iov_len)
		return tag ? -EINVAL : 0;
	if (!addr || !iov->iov_len || iov->iov_len > MAX_BUFFER_BYTES)
		return -EFAULT;
	if (addr + iov->iov_len < addr)
		return -EOVERFLOW;
	ret = check_memory(addr, iov->iov_len);
	if (ret)
		return ret;
	ctx->bufs.slots[index] = fu_buf_node_make(addr, iov->iov_len, tag);
	return ctx->bufs.slots[index] ? 0 : -ENOMEM;
}

static void drop_buffers(struct fu_ctx *ctx)
{
	for (u32 i = 0; i < ctx->bufs.nr; i++) {
		struct fu_buf_node *node = ctx->bufs.slots[i];
		u64 tag;

		ctx->bufs.slots[i] = NULL;
		if (node && (tag = fu_buf_node_put(node)))
			fu_post_aux(ctx, tag, 0, 0);
	}
	fu_table_free(&ctx->bufs);
}

long fu_reg_buffers(struct fu_ctx *ctx, void *arg, u32 nr)
{
	int ret;

	if (!arg)
		return -EFAULT;
	if (ctx->bufs.nr)
		return -EBUSY;
	if (!nr || nr > IORING_MAX_REG_BUFFERS)
		return -EINVAL;
	ret = fu_table_init(&ctx->bufs, nr);
	for (u32 i = 0; i < nr && !ret; i++) {
		struct iovec iov;

		if (fu_copy_from_user(&iov, (struct iovec *)arg + i, sizeof(iov)))
			ret = -EFAULT;
		else
			ret = put_buffer(ctx, i, &iov, 0);
	}
	if (ret)
		drop_buffers(ctx);
	return ret;
}

long fu_unreg_buffers(struct fu_ctx *ctx, void *arg, u32 nr)
{
	if (arg || nr)
		return -EINVAL;
	if (!ctx->bufs.nr)
		return -ENXIO;
	drop_buffers(ctx);
	return 0;
}

/* ---- eventfd ---- */

/* Whether `fd` is an eventfd: 0, -EBADF or -EINVAL. */
static int check_eventfd(int fd)
{
	static const char expect[] = "anon_inode:[eventfd]";
	char path[32] = "/proc/self/fd/", digits[12], target[64];
	int n = 0, at = 14;
	long len;

	if (fd < 0 || fu_sys(SYS_fcntl, fd, 1 /* F_GETFD */) < 0)
		return -EBADF;
	do {
		digits[n++] = (char)('0' + fd % 10);
		fd /= 10;
	} while (fd);
	while (n)
		path[at++] = digits[--n];
	path[at] = 0;
	len = fu_sys(SYS_readlink, path, target, sizeof(target));
	/* Without /proc there is no telling, and a write will show. */
	if (len < 0)
		return 0;
	if (len != (long)sizeof(expect) - 1)
		return -EINVAL;
	for (long i = 0; i < len; i++) {
		if (target[i] != expect[i])
			return -EINVAL;
	}
	return 0;
}

static long reg_eventfd(struct fu_ctx *ctx, void *arg, u32 nr, bool async)
{
	s32 fd;
	int ret;

	if (nr != 1)
		return -EINVAL;
	if (ctx->evfd >= 0)
		return -EBUSY;
	if (fu_copy_from_user(&fd, arg, sizeof(fd)))
		return -EFAULT;
	ret = check_eventfd(fd);
	if (ret)
		return ret;
	ret = fu_fd_dup_high(fd);
	if (ret < 0)
		return ret;
	fu_store_relaxed(&ctx->evfd_async, async);
	fu_store_release(&ctx->evfd, ret);
	return 0;
}

long fu_reg_eventfd(struct fu_ctx *ctx, void *arg, u32 nr)
{
	return reg_eventfd(ctx, arg, nr, false);
}

long fu_reg_eventfd_async(struct fu_ctx *ctx, void *arg, u32 nr)
{
	return reg_eventfd(ctx, arg, nr, true);
}

long fu_unreg_eventfd(struct fu_ctx *ctx, void *arg, u32 nr)
{
	int fd = ctx->evfd;

	if (arg || nr)
		return -EINVAL;
	if (fd < 0)
		return -ENXIO;
	fu_store_release(&ctx->evfd, -1);
	fu_fd_close(fd);
	return 0;
}

void fu_resources_free(struct fu_ctx *ctx)
{
	/* The ring has no reader any more: tags are lost with it. */
	drop_files(ctx);
	drop_buffers(ctx);
}
