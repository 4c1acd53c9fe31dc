/* STATX. It may have to read the inode or ask a server, so a worker runs it. */
#include "engine/statx.h"

#include <errno.h>
#include <fcntl.h>

#include "engine/host.h"
#include "engine/path.h"
#include "engine/thread.h"
#include "rings/sys.h"

struct statx_cmd {
	struct fu_path path;
	u64 buffer;
	s32 dfd;
	u32 mask;
	u32 flags;
};

int fu_statx_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct statx_cmd *sx = fu_cmd(req, struct statx_cmd);

	if (fu_host_lacks(IORING_OP_STATX) || sqe->buf_index || sqe->splice_fd_in)
		return -EINVAL;
	if (req->flags & FU_REQ_FIXED_FILE)
		return -EBADF;
	*sx = (struct statx_cmd){
		.buffer = sqe->addr2, .dfd = sqe->fd, .mask = sqe->len, .flags = sqe->op_flags
	};
	req->flags |= FU_REQ_CLEANUP;
	return fu_path_get(&sx->path, sqe->addr, sx->flags & AT_EMPTY_PATH);
}

int fu_statx_issue(struct fu_req *req, u32 issue_flags)
{
	const struct statx_cmd *sx = fu_cmd(req, struct statx_cmd);

	(void)issue_flags;
	if (fu_dirfd_check(sx->dfd))
		return fu_sys_any_result(req, -EBADF);
	return fu_sys_any_result(req,
	                         fu_sys_block(&req->cancelled, SYS_statx, sx->dfd, (long)sx->path.s,
	                                      sx->flags, sx->mask, (long)sx->buffer, 0));
}

void fu_statx_cleanup(struct fu_req *req)
{
	fu_path_put(&fu_cmd(req, struct statx_cmd)->path);
}
