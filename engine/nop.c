/*
 * NOP, with its fault injection: the result, a file lookup, a buffer lookup, task
 * work and a big CQE on request.
 */
#include "engine/nop.h"

#include <errno.h>
#include <fcntl.h>

#include "rings/sys.h"

#define NOP_FLAGS                                                             \
	(IORING_NOP_INJECT_RESULT | IORING_NOP_FILE | IORING_NOP_FIXED_FILE | \
	 IORING_NOP_FIXED_BUFFER | IORING_NOP_TW | IORING_NOP_CQE32)

struct nop {
	u32 flags;
	s32 result;
	s32 fd;
	u64 extra[2];
};

int fu_nop_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct nop *nop = fu_cmd(req, struct nop);

	nop->flags = sqe->op_flags;
	if (fu_likely(!nop->flags))
		return 0;
	if (nop->flags & ~NOP_FLAGS)
		return -EINVAL;
	nop->result = nop->flags & IORING_NOP_INJECT_RESULT ? (s32)sqe->len : 0;
	nop->fd = nop->flags & IORING_NOP_FILE ? sqe->fd : -1;
	if (nop->flags & IORING_NOP_FIXED_BUFFER)
		req->buf_index = sqe->buf_index;
	if (nop->flags & IORING_NOP_CQE32) {
		if (!(req->ctx->ring.setup_flags & (IORING_SETUP_CQE32 | IORING_SETUP_CQE_MIXED)))
			return -EINVAL;
		nop->extra[0] = sqe->off;
		nop->extra[1] = sqe->addr;
	}
	return 0;
}

static int lookups(struct fu_req *req, const struct nop *nop)
{
	if (nop->flags & IORING_NOP_FILE) {
		if (nop->flags & IORING_NOP_FIXED_FILE) {
			if (!fu_table_get(&req->ctx->files, (u32)nop->fd))
				return -EBADF;
		} else if (fu_sys(SYS_fcntl, nop->fd, F_GETFD) < 0) {
			return -EBADF;
		}
	}
	if ((nop->flags & IORING_NOP_FIXED_BUFFER) &&
	    !fu_table_get(&req->ctx->bufs, req->buf_index))
		return -EFAULT;
	return 0;
}

int fu_nop_issue(struct fu_req *req, u32 issue_flags)
{
	struct nop *nop = fu_cmd(req, struct nop);
	int ret;

	if (fu_likely(!nop->flags)) {
		fu_req_result(req, 0, 0);
		return FU_DONE;
	}
	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_lock(req->ctx);
	ret = lookups(req, nop);
	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_unlock(req->ctx);
	if (!ret)
		ret = nop->result;
	if (ret < 0)
		fu_req_set_fail(req);
	fu_req_result(req, ret, 0);
	if (nop->flags & IORING_NOP_CQE32) {
		req->flags |= FU_REQ_BIG_CQE;
		req->big[0] = nop->extra[0];
		req->big[1] = nop->extra[1];
		if (req->ctx->ring.setup_flags & IORING_SETUP_CQE_MIXED)
			req->cflags |= IORING_CQE_F_32;
	}
	if (nop->flags & IORING_NOP_TW) {
		fu_req_task_work(req, fu_req_tw_done);
		return FU_TAKEN;
	}
	return FU_DONE;
}
