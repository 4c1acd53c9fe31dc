/* FTRUNCATE: a worker's, since it may free or zero blocks. */
#include "engine/truncate.h"

#include <errno.h>

#include "engine/path.h"
#include "engine/thread.h"
#include "rings/sys.h"

struct truncate {
	u64 len;
};

int fu_ftruncate_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	if (sqe->op_flags || sqe->addr || sqe->len || sqe->buf_index || sqe->splice_fd_in ||
	    sqe->addr3)
		return -EINVAL;
	fu_cmd(req, struct truncate)->len = sqe->off;
	return 0;
}

int fu_ftruncate_issue(struct fu_req *req, u32 issue_flags)
{
	u64 len = fu_cmd(req, struct truncate)->len;

	(void)issue_flags;
	return fu_sys_any_result(
	        req, fu_sys_block(&req->cancelled, SYS_ftruncate, req->fd, (long)len, 0, 0, 0, 0));
}
