/*
 * URING_CMD: block devices discard, sockets have commands in net_cmd.c, /dev/null
 * takes anything. No other file has a command that an ordinary system call could
 * give, so those answer as a file without commands.
 */
#include "engine/uring_cmd.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "engine/path.h"
#include "engine/registry.h"
#include "engine/thread.h"
#include "rings/sys.h"

#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)

int fu_uring_cmd_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct fu_uring_cmd *cmd = fu_cmd(req, struct fu_uring_cmd);
	bool select = req->flags & FU_REQ_BUFFER_SELECT;

	if (sqe->off >> 32)
		return -EINVAL;
	*cmd = (struct fu_uring_cmd){ .op = sqe->cmd_op,
		                      .flags = sqe->op_flags,
		                      .addr = sqe->addr,
		                      .addr3 = sqe->addr3,
		                      .len = sqe->len,
		                      .file_index = sqe->file_index,
		                      .ioprio = sqe->ioprio };
	if (cmd->flags & ~(IORING_URING_CMD_FIXED | IORING_URING_CMD_MULTISHOT))
		return -EINVAL;
	if (cmd->flags & IORING_URING_CMD_FIXED) {
		if (select)
			return -EINVAL;
		req->buf_index = sqe->buf_index;
	}
	return select != !!(cmd->flags & IORING_URING_CMD_MULTISHOT) ? -EINVAL : 0;
}

static int block_cmd(struct fu_req *req, const struct fu_uring_cmd *cmd, u32 issue_flags)
{
	u64 range[2] = { cmd->addr, cmd->addr3 };

	if (cmd->ioprio || cmd->len || cmd->flags || cmd->file_index)
		return -EINVAL;
	if (cmd->op != BLOCK_URING_CMD_DISCARD)
		return -EINVAL;
	if (!(issue_flags & FU_ISSUE_WORKER))
		return -EAGAIN;
	return fu_sys_result(req, fu_sys_block(&req->cancelled, SYS_ioctl, req->fd, BLKDISCARD,
	                                       (long)range, 0, 0, 0));
}

int fu_uring_cmd_issue(struct fu_req *req, u32 issue_flags)
{
	const struct fu_uring_cmd *cmd = fu_cmd(req, struct fu_uring_cmd);
	struct stat st;
	long ret = fu_sys(SYS_fstat, req->fd, &st);

	if (ret < 0)
		return (int)ret;
	if (S_ISSOCK(st.st_mode) && !fu_ino_is_ring(st.st_ino))
		return req->ctx->iopoll ? -EOPNOTSUPP : fu_socket_cmd(req, issue_flags);
	if (S_ISBLK(st.st_mode) && !req->ctx->iopoll)
		return block_cmd(req, cmd, issue_flags);
	if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3) && !req->ctx->iopoll)
		return fu_sys_result(req, 0);
	return -EOPNOTSUPP;
}
