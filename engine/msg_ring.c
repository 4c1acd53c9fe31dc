/*
 * MSG_RING: posts a CQE into another ring, or puts a file of this ring's table into
 * the other's.
 *
 * Never are two submit_locks held: two rings that send to each other would wait for
 * each other. Data needs only the target's CQ. A file goes into the target's table
 * after this thread has let go of its own ring (fu_ctx_outside). A DEFER_TASKRUN target
 * gets its CQE as task work, when its thread enters.
 */
#include "engine/msg_ring.h"

#include <errno.h>

#include "engine/register.h"
#include "engine/registry.h"
#include "rings/mem.h"
#include "rings/user.h"

#define MSG_RING_FLAGS (IORING_MSG_RING_CQE_SKIP | IORING_MSG_RING_FLAGS_PASS)

struct msg {
	u64 user_data;
	u32 src_fd; /* SEND_FD: index in this ring's table */
	u32 cmd;
	u32 len; /* the CQE's res */
	u32 dst; /* SEND_FD: slot + 1; DATA: the CQE's flags */
	u32 flags;
	struct fu_ctx *target; /* held once issued */
	struct fu_file_node *node;
};

static int prep(struct msg *msg, const struct fu_sqe *sqe)
{
	if (sqe->buf_index || sqe->personality)
		return -EINVAL;
	*msg = (struct msg){ .user_data = sqe->off,
		             .src_fd = (u32)sqe->addr3,
		             .cmd = (u32)sqe->addr,
		             .len = sqe->len,
		             .dst = sqe->file_index,
		             .flags = sqe->op_flags };
	return msg->flags & ~MSG_RING_FLAGS ? -EINVAL : 0;
}

int fu_msg_ring_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct msg *msg = fu_cmd(req, struct msg);
	int ret = prep(msg, sqe);

	if (!ret)
		req->flags |= FU_REQ_CLEANUP;
	return ret;
}

void fu_msg_ring_cleanup(struct fu_req *req)
{
	struct msg *msg = fu_cmd(req, struct msg);
	u64 tag;

	if (msg->node && (tag = fu_file_node_put(msg->node)))
		fu_post_aux(req->ctx, tag, 0, 0);
	if (msg->target)
		fu_ctx_put(msg->target);
}

/* ---- the CQE ---- */

static void post_deferred(struct fu_req *note)
{
	fu_post_aux(note->ctx, note->user_data, note->res, note->cflags);
	fu_free(note, sizeof(*note));
}

/* A CQE for a DEFER_TASKRUN ring: task work of nobody's request. */
static int post_remote(struct fu_ctx *target, u64 user_data, s32 res, u32 cflags)
{
	struct fu_req *note = fu_zalloc(sizeof(*note));

	if (!note)
		return -ENOMEM;
	note->ctx = target;
	note->user_data = user_data;
	fu_req_result(note, res, cflags);
	fu_req_task_work(note, post_deferred);
	return 0;
}

static void end_counted(struct fu_req *note)
{
	fu_timeouts_counted(note->ctx);
	fu_ctx_put(note->ctx);
	fu_free(note, sizeof(*note));
}

/* Timeouts of the target that counted the CQE end under its lock: not while `ctx` is locked. */
static void counted_later(struct fu_ctx *ctx, struct fu_ctx *target)
{
	struct fu_req *note = fu_zalloc(sizeof(*note));

	if (!note)
		return;
	fu_ctx_hold(target);
	note->ctx = target;
	fu_ctx_outside(ctx, note, end_counted);
}

/* `ctx`: the ring whose submit_lock is held, or NULL. */
static int send_data(struct fu_ctx *ctx, struct fu_ctx *target, const struct msg *msg)
{
	u32 cflags = 0;

	if (msg->src_fd || msg->flags & ~IORING_MSG_RING_FLAGS_PASS)
		return -EINVAL;
	if (!(msg->flags & IORING_MSG_RING_FLAGS_PASS) && msg->dst)
		return -EINVAL;
	if (fu_load_acquire(&target->ring.ctrl->disabled))
		return -EBADFD;
	if (msg->flags & IORING_MSG_RING_FLAGS_PASS)
		cflags = msg->dst;
	if (target->deferred)
		return post_remote(target, msg->user_data, (s32)msg->len, cflags);
	if (!ctx || ctx == target) {
		fu_post_aux(target, msg->user_data, (s32)msg->len, cflags);
		return 0;
	}
	fu_post_other(target, msg->user_data, (s32)msg->len, cflags);
	if (fu_load_relaxed(&target->nr_counted))
		counted_later(ctx, target);
	return 0;
}

/* ---- the file ---- */

static long install(struct msg *msg)
{
	struct fu_ctx *target = msg->target;
	bool notify = !(msg->flags & IORING_MSG_RING_CQE_SKIP);
	long ret;

	fu_submit_lock(target);
	ret = fu_fixed_install(target, msg->node->fd, msg->dst);
	if (ret >= 0 && notify && !target->deferred)
		fu_post_aux(target, msg->user_data, (s32)ret, 0);
	fu_submit_unlock(target);
	if (ret >= 0 && notify && target->deferred &&
	    post_remote(target, msg->user_data, (s32)ret, 0))
		return -EOVERFLOW;
	return ret;
}

/* No submit_lock held. */
static void install_outside(struct fu_req *req)
{
	fu_req_end(req, install(fu_cmd(req, struct msg)));
}

/* submit_lock held. */
static int send_fd(struct fu_req *req, struct msg *msg)
{
	if (msg->len)
		return -EINVAL;
	if (msg->target == req->ctx)
		return -EINVAL;
	if (fu_load_acquire(&msg->target->ring.ctrl->disabled))
		return -EBADFD;
	msg->node = fu_table_get(&req->ctx->files, msg->src_fd);
	if (!msg->node)
		return -EBADF;
	fu_file_node_hold(msg->node);
	fu_ctx_outside(req->ctx, req, install_outside);
	return FU_TAKEN;
}

/* ---- the request ---- */

static int send(struct fu_req *req, struct msg *msg)
{
	int ret;

	switch (msg->cmd) {
	case IORING_MSG_DATA:
		ret = send_data(req->ctx, msg->target, msg);
		if (!ret)
			fu_req_result(req, 0, 0);
		return ret;
	case IORING_MSG_SEND_FD:
		return send_fd(req, msg);
	default:
		return -EINVAL;
	}
}

int fu_msg_ring_issue(struct fu_req *req, u32 issue_flags)
{
	struct msg *msg = fu_cmd(req, struct msg);
	int ret;

	msg->target = fu_ctx_get_file(req->fd, &ret);
	if (!msg->target)
		return ret == -EBADF ? -EBADF : -EBADFD;
	if (!(issue_flags & FU_ISSUE_WORKER))
		return send(req, msg);
	/* Whoever holds no lock needs one: what comes after it is the same. */
	fu_lock(&req->ctx->lock);
	fu_untrack(req);
	fu_unlock(&req->ctx->lock);
	fu_submit_lock(req->ctx);
	ret = send(req, msg);
	if (ret < 0)
		fu_req_fail(req, ret);
	else if (ret == FU_DONE)
		fu_req_done(req);
	fu_submit_unlock(req->ctx);
	return FU_TAKEN;
}

long fu_msg_ring_send(const void *user_sqe, u32 nr)
{
	struct fu_sqe sqe;
	struct fu_ctx *target;
	struct msg msg;
	int ret;

	if (!user_sqe || nr != 1)
		return -EINVAL;
	if (fu_copy_from_user(&sqe, user_sqe, sizeof(sqe)))
		return -EFAULT;
	if (sqe.flags || sqe.opcode != IORING_OP_MSG_RING)
		return -EINVAL;
	ret = prep(&msg, &sqe);
	if (ret)
		return ret;
	if (msg.cmd != IORING_MSG_DATA)
		return -EINVAL;
	target = sqe.fd < 0 ? NULL : fu_ctx_get((u32)sqe.fd, &ret);
	if (!target)
		return sqe.fd < 0 || ret == -EBADF ? -EBADF : -EBADFD;
	ret = send_data(NULL, target, &msg);
	fu_ctx_put(target);
	return ret;
}
