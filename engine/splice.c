/*
 * SPLICE and TEE. Both may wait for either end and so run on a worker. The file that
 * is read from is the request's second one: it is looked up when the request is
 * issued, and held like the first.
 */
#include "engine/splice.h"

#include <errno.h>
#include <fcntl.h>

#include "engine/path.h"
#include "engine/registry.h"
#include "engine/thread.h"
#include "rings/fds.h"
#include "rings/keep.h"
#include "rings/sys.h"

#define SPLICE_KNOWN ((u32)(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT))

struct splice {
	s64 off_in;
	s64 off_out;
	u32 len;
	u32 flags;
	s32 fd_in; /* of the SQE */
	s32 in;    /* the file that is held, or -1 */
	struct fu_file_node *node;
};

static int prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct splice *sp = fu_cmd(req, struct splice);

	*sp = (struct splice){ .off_in = -1,
		               .off_out = -1,
		               .len = sqe->len,
		               .flags = sqe->op_flags,
		               .fd_in = sqe->splice_fd_in,
		               .in = -1 };
	if (sp->flags & ~(SPLICE_KNOWN | SPLICE_F_FD_IN_FIXED))
		return -EINVAL;
	req->flags |= FU_REQ_CLEANUP;
	return 0;
}

int fu_tee_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	if (sqe->splice_off_in || sqe->off)
		return -EINVAL;
	return prep(req, sqe);
}

int fu_splice_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct splice *sp = fu_cmd(req, struct splice);
	int ret = prep(req, sqe);

	sp->off_in = (s64)sqe->splice_off_in;
	sp->off_out = (s64)sqe->off;
	return ret;
}

void fu_splice_cleanup(struct fu_req *req)
{
	struct splice *sp = fu_cmd(req, struct splice);
	u64 tag;

	if (sp->node) {
		tag = fu_file_node_put(sp->node);
		if (tag)
			fu_post_aux(req->ctx, tag, 0, 0);
	} else if (sp->in >= 0) {
		fu_fd_release(sp->in, sp->fd_in);
	}
}

/* Looks the second file up and holds it. submit_lock held. */
static int hold_in(struct fu_req *req, struct splice *sp)
{
	if (sp->flags & SPLICE_F_FD_IN_FIXED) {
		sp->node = fu_table_get(&req->ctx->files, (u32)sp->fd_in);
		if (!sp->node)
			return -EBADF;
		fu_file_node_hold(sp->node);
		sp->in = sp->node->fd;
		return 0;
	}
	if (sp->fd_in < 0 || fu_fd_is_engine(sp->fd_in))
		return -EBADF;
	sp->in = fu_fd_hold(sp->fd_in);
	return sp->in < 0 ? sp->in : 0;
}

/* 0 once the request may run; -EAGAIN sends it to a worker. */
static int ready(struct fu_req *req, struct splice *sp, u32 issue_flags)
{
	bool worker = issue_flags & FU_ISSUE_WORKER;
	int ret = 0;

	if (sp->in < 0) {
		if (worker)
			fu_submit_lock(req->ctx);
		ret = hold_in(req, sp);
		if (worker)
			fu_submit_unlock(req->ctx);
	}
	return ret ? ret : worker ? 0 : -EAGAIN;
}

/* A ring has nothing to splice. */
static bool with_ring(const struct fu_req *req, const struct splice *sp)
{
	return (!(req->flags & FU_REQ_FIXED_FILE) && fu_fd_names_ring((int)req->sqe_fd)) ||
	       (!(sp->flags & SPLICE_F_FD_IN_FIXED) && fu_fd_names_ring(sp->fd_in));
}

/* Whether a file is open for reading, or writing (`mode`). */
static bool is_open_for(int fd, int mode)
{
	long fl = fu_sys(SYS_fcntl, fd, F_GETFL);

	return fl >= 0 && ((fl & O_ACCMODE) == mode || (fl & O_ACCMODE) == O_RDWR);
}

/* Anything but all of it breaks a link. A wait that is interrupted ends with the kernel's own
 * code for that. */
static int result(struct fu_req *req, const struct splice *sp, long ret)
{
	if (ret == -EINTR)
		ret = -ERESTARTSYS;
	/* Of several things that are wrong the system call looks at the offsets first. */
	if (ret == -ESPIPE && !(is_open_for(sp->in, O_RDONLY) && is_open_for(req->fd, O_WRONLY)))
		ret = -EBADF;
	if (ret >= 0 && ret != (long)sp->len)
		fu_req_set_fail(req);
	return fu_sys_result(req, ret);
}

int fu_splice_issue(struct fu_req *req, u32 issue_flags)
{
	struct splice *sp = fu_cmd(req, struct splice);
	s64 off_in = sp->off_in, off_out = sp->off_out;
	long ret = ready(req, sp, issue_flags);

	if (ret)
		return (int)ret;
	if (sp->len && with_ring(req, sp))
		return -EINVAL;
	if (sp->len)
		ret = fu_sys_block(&req->cancelled, SYS_splice, sp->in,
		                   off_in == -1 ? 0 : (long)&off_in, req->fd,
		                   off_out == -1 ? 0 : (long)&off_out, sp->len,
		                   sp->flags & SPLICE_KNOWN);
	return result(req, sp, ret);
}

int fu_tee_issue(struct fu_req *req, u32 issue_flags)
{
	struct splice *sp = fu_cmd(req, struct splice);
	long ret = ready(req, sp, issue_flags);

	if (ret)
		return (int)ret;
	if (sp->len && with_ring(req, sp))
		return -EINVAL;
	if (sp->len)
		ret = fu_sys_block(&req->cancelled, SYS_tee, sp->in, req->fd, sp->len,
		                   sp->flags & SPLICE_KNOWN, 0, 0);
	return result(req, sp, ret);
}
