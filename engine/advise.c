/*
 * FADVISE and MADVISE. Advice that only changes how a file will be read is given at
 * once; what starts I/O or takes pages away is a worker's.
 */
#include "engine/advise.h"

#include <errno.h>
#include <fcntl.h>

#include "engine/path.h"
#include "engine/thread.h"
#include "rings/sys.h"

struct advise {
	u64 at; /* offset or address */
	u64 len;
	u32 advice;
};

int fu_fadvise_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	if (sqe->buf_index || sqe->splice_fd_in)
		return -EINVAL;
	*fu_cmd(req, struct advise) = (struct advise){ .at = sqe->off,
		                                       .len = sqe->addr ? sqe->addr : sqe->len,
		                                       .advice = sqe->op_flags };
	return 0;
}

int fu_fadvise_issue(struct fu_req *req, u32 issue_flags)
{
	const struct advise *a = fu_cmd(req, struct advise);
	bool cheap = a->advice == POSIX_FADV_NORMAL || a->advice == POSIX_FADV_RANDOM ||
	             a->advice == POSIX_FADV_SEQUENTIAL;

	if (!cheap && !(issue_flags & FU_ISSUE_WORKER))
		return -EAGAIN;
	return fu_sys_result(req, fu_sys(SYS_fadvise64, req->fd, a->at, a->len, a->advice));
}

int fu_madvise_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	if (sqe->buf_index || sqe->splice_fd_in)
		return -EINVAL;
	*fu_cmd(req, struct advise) = (struct advise){ .at = sqe->addr,
		                                       .len = sqe->off ? sqe->off : sqe->len,
		                                       .advice = sqe->op_flags };
	return 0;
}

int fu_madvise_issue(struct fu_req *req, u32 issue_flags)
{
	const struct advise *a = fu_cmd(req, struct advise);

	(void)issue_flags;
	return fu_sys_any_result(req, fu_sys_block(&req->cancelled, SYS_madvise, (long)a->at,
	                                           (long)a->len, a->advice, 0, 0, 0));
}
