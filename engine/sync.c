/*
 * Operations that push a file's data towards the disk, FSYNC and SYNC_FILE_RANGE, or
 * make room for it there, FALLOCATE. They wait for the device, so a worker runs them.
 */
#include "engine/sync.h"

#include "engine/path.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "engine/thread.h"
#include "rings/sys.h"

struct sync {
	u64 off;
	u64 len;
	u32 flags; /* FALLOCATE: its mode */
};

int fu_fsync_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct sync *sync = fu_cmd(req, struct sync);

	if (sqe->addr || sqe->buf_index || sqe->splice_fd_in)
		return -EINVAL;
	if (sqe->op_flags & ~IORING_FSYNC_DATASYNC)
		return -EINVAL;
	*sync = (struct sync){ .off = sqe->off, .len = sqe->len, .flags = sqe->op_flags };
	req->flags |= FU_REQ_ASYNC;
	return 0;
}

/* A range is accepted and, as no system call offers it, the whole file synced. */
int fu_fsync_issue(struct fu_req *req, u32 issue_flags)
{
	struct sync *sync = fu_cmd(req, struct sync);
	long nr = sync->flags & IORING_FSYNC_DATASYNC ? SYS_fdatasync : SYS_fsync;
	long ret;

	(void)issue_flags;
	if ((s64)sync->off < 0 || (s64)(sync->off + sync->len) < 0)
		return -EINVAL;
	ret = fu_sys(nr, req->fd);
	return fu_sys_any_result(req, ret);
}

int fu_sync_file_range_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct sync *sync = fu_cmd(req, struct sync);

	if (sqe->addr || sqe->buf_index || sqe->splice_fd_in)
		return -EINVAL;
	*sync = (struct sync){ .off = sqe->off, .len = sqe->len, .flags = sqe->op_flags };
	req->flags |= FU_REQ_ASYNC;
	return 0;
}

int fu_sync_file_range_issue(struct fu_req *req, u32 issue_flags)
{
	struct sync *sync = fu_cmd(req, struct sync);
	long ret = fu_sys(SYS_sync_file_range, req->fd, sync->off, sync->len, sync->flags);

	(void)issue_flags;
	return fu_sys_any_result(req, ret);
}

int fu_fallocate_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	if (sqe->buf_index || sqe->op_flags || sqe->splice_fd_in)
		return -EINVAL;
	*fu_cmd(req, struct sync) =
	        (struct sync){ .off = sqe->off, .len = sqe->addr, .flags = sqe->len };
	return 0;
}

int fu_fallocate_issue(struct fu_req *req, u32 issue_flags)
{
	const struct sync *sync = fu_cmd(req, struct sync);
	long ret = fu_sys_block(&req->cancelled, SYS_fallocate, req->fd, sync->flags,
	                        (long)sync->off, (long)sync->len, 0, 0);

	(void)issue_flags;
	return fu_sys_any_result(req, ret);
}
