/* FILES_UPDATE: slots from an offset on, or wherever there is room. */
#include "engine/files_update.h"

#include <errno.h>
#include <fcntl.h>

#include "engine/entry.h"
#include "engine/register.h"
#include "rings/sys.h"
#include "rings/user.h"

struct files_update {
	u64 fds;
	u32 nr;
	u32 offset;
};

int fu_files_update_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct files_update *up = fu_cmd(req, struct files_update);

	if (req->flags & (FU_REQ_FIXED_FILE | FU_REQ_BUFFER_SELECT))
		return -EINVAL;
	if (sqe->op_flags || sqe->splice_fd_in)
		return -EINVAL;
	*up = (struct files_update){ .fds = sqe->addr, .nr = sqe->len, .offset = (u32)sqe->off };
	return up->nr ? 0 : -EINVAL;
}

/* Installs one descriptor in a free slot and tells the program which. */
static int install(struct fu_ctx *ctx, u64 user)
{
	long slot;
	s32 fd;

	if (fu_copy_from_user(&fd, fu_ptr(user), sizeof(fd)))
		return -EFAULT;
	if (fd < 0 || fu_fd_is_engine(fd) || fu_sys(SYS_fcntl, fd, F_GETFD) < 0)
		return -EBADF;
	slot = fu_fixed_install(ctx, fd, IORING_FILE_INDEX_ALLOC);
	if (slot < 0)
		return (int)slot;
	fd = (s32)slot;
	if (!fu_copy_to_user(fu_ptr(user), &fd, sizeof(fd)))
		return 0;
	fu_fixed_remove(ctx, (u32)slot);
	return -EFAULT;
}

static long install_all(struct fu_ctx *ctx, const struct files_update *up)
{
	u32 done = 0;
	int ret = 0;

	if (!ctx->files.nr)
		return -ENXIO;
	while (done < up->nr && !ret) {
		ret = install(ctx, up->fds + done * sizeof(s32));
		done += !ret;
	}
	return done ? (long)done : ret;
}

int fu_files_update_issue(struct fu_req *req, u32 issue_flags)
{
	const struct files_update *up = fu_cmd(req, struct files_update);
	struct fu_ctx *ctx = req->ctx;
	long ret;

	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_lock(ctx);
	if (up->offset == IORING_FILE_INDEX_ALLOC)
		ret = install_all(ctx, up);
	else
		ret = fu_files_update(ctx, up->offset, up->nr, up->fds, 0);
	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_unlock(ctx);
	if (ret < 0)
		fu_req_set_fail(req);
	fu_req_result(req, (s32)ret, 0);
	return FU_DONE;
}
