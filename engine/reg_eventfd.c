/* The completion eventfd (IORING_REGISTER_EVENTFD and EVENTFD_ASYNC). */
#include "engine/register.h"

#include <errno.h>

#include "engine/entry.h"
#include "engine/fileinfo.h"
#include "rings/fds.h"
#include "rings/sys.h"
#include "rings/user.h"

/* Whether `fd` is an eventfd: 0, -EBADF or -EINVAL. */
static int check_eventfd(int fd)
{
	static const char *const name = "[eventfd]";

	if (fd < 0 || fu_sys(SYS_fcntl, fd, 1 /* F_GETFD */) < 0)
		return -EBADF;
	/* Where there is no telling a write will show. */
	return fu_fd_called(fd, &name, 1) ? 0 : -EINVAL;
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
	fu_fd_aliased(fd, ret);
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
