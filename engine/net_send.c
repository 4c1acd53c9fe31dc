/*
 * SEND and SENDMSG, and SEND_ZC and SENDMSG_ZC, which copy too: their notification
 * comes as soon as the data has been handed over, and says so to who asks
 * (IORING_NOTIF_USAGE_ZC_COPIED).
 *
 * An attempt is one sendto or sendmsg with MSG_DONTWAIT. It takes the program's own
 * msghdr and address; they are copied only for a request that outlives its
 * submission. Only with MSG_WAITALL is a short send on a stream continued.
 *
 * Provided buffers are consumed when they are selected, so that they leave in the order of
 * the ring whoever sends next. A request that has to wait keeps what it has in hand.
 */
#include "engine/net_send.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "engine/fileinfo.h"
#include "engine/iov.h"
#include "engine/kbuf.h"
#include "engine/net.h"
#include "engine/thread.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

#define SEND_FLAGS (IORING_RECVSEND_POLL_FIRST | IORING_RECVSEND_BUNDLE | IORING_SEND_VECTORIZED)
#define ZC_FLAGS                                                                                \
	(IORING_RECVSEND_POLL_FIRST | IORING_RECVSEND_FIXED_BUF | IORING_SEND_ZC_REPORT_USAGE | \
	 IORING_SEND_VECTORIZED)
#define MAX_SEGMENTS 1024U

struct send {
	u64 addr; /* buffer, segments, or msghdr */
	u64 name; /* destination; 0 for none */
	s64 done; /* bytes that earlier attempts have sent */
	u32 len;
	u32 msg_flags;
	u16 name_len;
	u16 iou;   /* IORING_RECVSEND_*, IORING_SEND_* */
	u8 msg;    /* SENDMSG */
	u8 zc;     /* posts a notification */
	u8 report; /* ... that says what was copied */
	u8 polled; /* has waited for the socket */
	u8 empty;  /* has the last buffer of its group */
	u8 segs;   /* the data is in the segments of req->async */
};

/* req->async, once something had to be copied or there is more than one segment. */
struct copy {
	struct msghdr msg;
	struct sockaddr_storage name;
	struct iovec *iov; /* what is left of segs */
	u32 nr;
	u64 left; /* bytes */
	struct iovec segs[];
};

/* ---- preparation ---- */

static struct copy *copy_alloc(struct fu_req *req, u32 segs)
{
	struct copy *c;

	req->async_bytes = sizeof(*c) + segs * sizeof(struct iovec);
	req->async = c = fu_alloc(req->async_bytes);
	if (!c)
		return NULL;
	fu_memset(c, 0, sizeof(*c));
	c->iov = c->segs;
	return c;
}

static int copy_segments(struct copy *c, const void *user, u32 nr)
{
	c->nr = nr;
	return fu_iov_copy(c->segs, user, nr, &c->left);
}

static int copy_name(struct copy *c, u64 user, u32 len)
{
	int ret = fu_sock_addr_get(&c->name, user, (s32)len);

	c->msg.msg_name = &c->name;
	c->msg.msg_namelen = len;
	return ret;
}

/* Control data stays where it is: it is read when the message is sent. */
static int copy_msghdr(struct fu_req *req, struct send *sd)
{
	struct sockaddr_storage name;
	struct msghdr msg;
	struct copy *c;

	if (fu_copy_from_user(&msg, fu_ptr(sd->addr), sizeof(msg)))
		return -EFAULT;
	if (msg.msg_name && (s32)msg.msg_namelen < 0)
		return -EINVAL;
	if (msg.msg_namelen > sizeof(c->name))
		msg.msg_namelen = sizeof(c->name);
	if (!msg.msg_name)
		msg.msg_namelen = 0;
	if (msg.msg_namelen && fu_copy_from_user(&name, msg.msg_name, msg.msg_namelen))
		return -EFAULT;
	if (msg.msg_iovlen > MAX_SEGMENTS)
		return -EMSGSIZE;
	c = copy_alloc(req, (u32)msg.msg_iovlen);
	if (!c)
		return -ENOMEM;
	sd->segs = 1;
	c->msg.msg_control = msg.msg_control;
	c->msg.msg_controllen = msg.msg_controllen;
	if (msg.msg_namelen) {
		c->name = name;
		c->msg.msg_name = &c->name;
		c->msg.msg_namelen = msg.msg_namelen;
	}
	return copy_segments(c, msg.msg_iov, (u32)msg.msg_iovlen);
}

int fu_send_stable(struct fu_req *req)
{
	struct send *sd = fu_cmd(req, struct send);
	struct copy *c = req->async;

	if (c && (sd->msg || !sd->name || c->msg.msg_name))
		return 0;
	if (sd->msg)
		return copy_msghdr(req, sd);
	if (!sd->name)
		return 0;
	if (!c)
		c = copy_alloc(req, 0);
	return c ? copy_name(c, sd->name, sd->name_len) : -ENOMEM;
}

/* SEND with segments, which are the kernel's to read before the submission returns. */
static int prep_vector(struct fu_req *req, struct send *sd)
{
	struct copy *c;

	if (sd->len > MAX_SEGMENTS)
		return -EINVAL;
	sd->segs = 1;
	c = copy_alloc(req, sd->len);
	return c ? copy_segments(c, fu_ptr(sd->addr), sd->len) : -ENOMEM;
}

/* What SENDMSG and SEND have to themselves. */
static int prep_rest(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct send *sd = fu_cmd(req, struct send);
	bool whole = sd->iou & IORING_RECVSEND_FIXED_BUF || sd->msg_flags & MSG_WAITALL;

	if (sd->msg) {
		if (sqe->addr2 || sqe->file_index)
			return -EINVAL;
		return whole ? fu_send_stable(req) : 0;
	}
	if (sqe->file_index >> 16)
		return -EINVAL;
	sd->name = sqe->addr2;
	sd->name_len = sqe->addr_len;
	if (sd->name && sd->name_len > sizeof(struct sockaddr_storage))
		return -EINVAL;
	/* A bad address costs no buffer. */
	if (req->flags & FU_REQ_BUFFER_SELECT)
		return sd->name ? fu_send_stable(req) : 0;
	if (!(sd->iou & IORING_SEND_VECTORIZED)) {
		if (sd->iou & IORING_RECVSEND_FIXED_BUF || fu_user_range_ok(sd->addr, sd->len))
			return 0;
		return -EFAULT;
	}
	/* Segments of a registered buffer are for SENDMSG_ZC only. */
	return sd->iou & IORING_RECVSEND_FIXED_BUF ? -EINVAL : prep_vector(req, sd);
}

static void prep_common(struct fu_req *req, const struct fu_sqe *sqe, bool msg)
{
	*fu_cmd(req, struct send) = (struct send){ .addr = sqe->addr,
		                                   .len = sqe->len,
		                                   .iou = sqe->ioprio,
		                                   .msg_flags = sqe->op_flags | MSG_NOSIGNAL,
		                                   .msg = msg };
	if (sqe->op_flags & MSG_DONTWAIT)
		req->flags |= FU_REQ_NOWAIT;
}

static int prep(struct fu_req *req, const struct fu_sqe *sqe, bool msg)
{
	struct send *sd = fu_cmd(req, struct send);

	prep_common(req, sqe, msg);
	if ((s32)sd->len < 0 || (sd->iou & ~SEND_FLAGS))
		return -EINVAL;
	if (sd->iou & IORING_RECVSEND_BUNDLE) {
		if (msg)
			return -EINVAL;
		sd->msg_flags |= MSG_WAITALL;
	}
	return prep_rest(req, sqe);
}

int fu_send_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep(req, sqe, false);
}

int fu_sendmsg_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep(req, sqe, true);
}

static int prep_zc(struct fu_req *req, const struct fu_sqe *sqe, bool msg)
{
	struct send *sd = fu_cmd(req, struct send);

	if (sqe->addr3 || sqe->pad2)
		return -EINVAL;
	if (req->flags & FU_REQ_CQE_SKIP)
		return -EINVAL;
	prep_common(req, sqe, msg);
	/* From here on there is a notification, whatever becomes of the request. */
	sd->zc = 1;
	req->flags |= FU_REQ_CLEANUP;
	if (sd->iou & ~ZC_FLAGS)
		return -EINVAL;
	sd->report = !!(sd->iou & IORING_SEND_ZC_REPORT_USAGE);
	req->buf_index = sqe->buf_index;
	return prep_rest(req, sqe);
}

int fu_send_zc_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep_zc(req, sqe, false);
}

int fu_sendmsg_zc_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep_zc(req, sqe, true);
}

void fu_send_zc_cleanup(struct fu_req *req)
{
	const struct send *sd = fu_cmd(req, struct send);

	fu_post_aux(req->ctx, req->user_data, sd->report ? (s32)IORING_NOTIF_USAGE_ZC_COPIED : 0,
	            IORING_CQE_F_NOTIF);
}

void fu_send_fail(struct fu_req *req)
{
	const struct send *sd = fu_cmd(req, struct send);

	if (sd->done)
		req->res = (s32)sd->done;
	if (sd->zc && (req->flags & FU_REQ_CLEANUP))
		req->cflags |= IORING_CQE_F_MORE;
}

/* ---- where the data is ---- */

static bool inside(const struct fu_buf_node *node, u64 addr, u64 len)
{
	return addr >= node->addr && addr + len >= addr && addr + len <= node->addr + node->len;
}

/* The registered buffer has to contain all that is sent. submit_lock held. */
static int import_fixed(struct fu_req *req, const struct send *sd)
{
	struct fu_buf_node *node = fu_table_get(&req->ctx->bufs, req->buf_index);
	const struct copy *c = req->async;

	if (!node || !node->len)
		return -EFAULT;
	if (sd->segs) {
		for (u32 i = 0; i < c->nr; i++) {
			if (!inside(node, (u64)(uintptr_t)c->iov[i].iov_base, c->iov[i].iov_len))
				return -EFAULT;
		}
	} else if (!inside(node, sd->addr, sd->len)) {
		return -EFAULT;
	}
	fu_req_use_buf(req, node);
	return 0;
}

/* A bundle's segments get a copy of their own; the address, if any, goes with them. */
static struct copy *bundle_copy(struct fu_req *req, const struct send *sd)
{
	struct copy *c = req->async, *big;
	size_t bytes = req->async_bytes;

	if (c && bytes >= sizeof(*c) + FU_KBUF_BUNDLE_MAX * sizeof(struct iovec))
		return c;
	big = copy_alloc(req, FU_KBUF_BUNDLE_MAX);
	if (!big) {
		req->async = c;
		req->async_bytes = bytes;
		return NULL;
	}
	if (c && c->msg.msg_name) {
		big->name = c->name;
		big->msg.msg_name = &big->name;
		big->msg.msg_namelen = c->msg.msg_namelen;
	} else if (sd->name) {
		big->msg.msg_name = fu_ptr(sd->name);
		big->msg.msg_namelen = sd->name_len;
	}
	fu_free(c, c ? bytes : 0);
	return big;
}

/* submit_lock held. */
static int select_buffers(struct fu_req *req, struct send *sd)
{
	bool bundle = sd->iou & IORING_RECVSEND_BUNDLE;
	struct iovec one;
	struct fu_kbuf_bundle b = { .iov = &one,
		                    .nr_max = 1,
		                    .max_len = sd->len ? sd->len : INT32_MAX };
	struct copy *c = NULL;
	int ret;

	if (bundle) {
		c = bundle_copy(req, sd);
		if (!c)
			return -ENOMEM;
		b.iov = c->segs;
		b.nr_max = FU_KBUF_BUNDLE_MAX;
	}
	ret = fu_kbuf_peek(req, &b, true);
	if (ret)
		return ret;
	sd->empty = b.empty;
	if (c) {
		sd->segs = 1;
		c->iov = c->segs;
		c->nr = b.nr;
		c->left = b.out_len;
	} else {
		sd->addr = (u64)(uintptr_t)one.iov_base;
		sd->len = (u32)b.out_len;
	}
	return 0;
}

/* Buffers that only the ring can tell. */
static int import(struct fu_req *req, struct send *sd, u32 issue_flags)
{
	bool fixed = (sd->iou & IORING_RECVSEND_FIXED_BUF) && !req->buf_node;
	int ret;

	if (!fixed && !fu_kbuf_wanted(req))
		return 0;
	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_lock(req->ctx);
	ret = fixed ? import_fixed(req, sd) : select_buffers(req, sd);
	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_unlock(req->ctx);
	return ret;
}

/* ---- issuing ---- */

/* One attempt; *asked: the bytes of a full one, if it matters. */
static long transfer(struct fu_req *req, const struct send *sd, u32 issue_flags, u64 *asked)
{
	struct copy *c = req->async;
	long nr, arg[6] = { req->fd };
	u32 flags = sd->msg_flags;

	if (issue_flags & FU_ISSUE_NONBLOCK)
		flags |= MSG_DONTWAIT;
	if (sd->segs) {
		c->msg.msg_iov = c->iov;
		c->msg.msg_iovlen = c->nr;
		*asked = c->left;
		if (sd->name && !c->msg.msg_name) {
			c->msg.msg_name = fu_ptr(sd->name);
			c->msg.msg_namelen = sd->name_len;
		}
		nr = SYS_sendmsg;
		arg[1] = (long)&c->msg;
		arg[2] = flags;
	} else if (sd->msg) {
		*asked = 0;
		nr = SYS_sendmsg;
		arg[1] = (long)sd->addr;
		arg[2] = flags;
	} else {
		*asked = sd->len;
		nr = SYS_sendto;
		arg[1] = (long)sd->addr;
		arg[2] = sd->len;
		arg[3] = flags;
		if (sd->name) {
			arg[4] = c ? (long)c->msg.msg_name : (long)sd->name;
			arg[5] = sd->name_len;
		}
	}
	if (issue_flags & FU_ISSUE_NONBLOCK)
		return fu_sys6(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	return fu_sys_block(&req->cancelled, nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

/* Steps over the first `n` bytes of what is left. */
static void advance(struct fu_req *req, struct send *sd, u64 n)
{
	struct copy *c = req->async;

	sd->done += (s64)n;
	if (!sd->segs) {
		sd->addr += n;
		sd->len -= (u32)n;
		return;
	}
	c->left -= n;
	/* The control data has gone with the first part. */
	c->msg.msg_control = NULL;
	c->msg.msg_controllen = 0;
	fu_iov_advance(&c->iov, &c->nr, n);
}

/*
 * Zero copy is for the protocols that have it; others refuse. That a file's does is
 * remembered: with one that has taken its number since, the data is copied all the same.
 */
static int check_zc(struct fu_req *req)
{
	long domain, protocol;

	if (fu_file_info(req) & FU_FILE_ZEROCOPY)
		return 0;
	domain = fu_sock_option(req->fd, SO_DOMAIN);
	if (domain < 0)
		return (int)domain;
	protocol = fu_sock_option(req->fd, SO_PROTOCOL);
	if ((domain != AF_INET && domain != AF_INET6) ||
	    (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_UDPLITE))
		return -EOPNOTSUPP;
	fu_file_learn(req, FU_FILE_ZEROCOPY);
	return 0;
}

static int begin(struct fu_req *req, struct send *sd, u32 issue_flags)
{
	int ret;

	if (issue_flags & FU_ISSUE_RETRY)
		sd->polled = 1;
	/* The segments of a message are looked at before the socket is. */
	if (sd->zc && sd->msg) {
		ret = import(req, sd, issue_flags);
		if (ret)
			return ret;
	}
	if (fu_sock_is_ring(req))
		return -ENOTSOCK;
	if (sd->zc) {
		ret = check_zc(req);
		if (ret)
			return ret;
	}
	if ((sd->iou & IORING_RECVSEND_POLL_FIRST) && !sd->polled) {
		long type = fu_sock_option(req->fd, SO_TYPE);

		return type < 0 ? (int)type : fu_sock_poll_first(req, issue_flags);
	}
	ret = import(req, sd, issue_flags);
	/* What is no socket is told so even without a buffer. */
	return ret && fu_sock_option(req->fd, SO_TYPE) == -ENOTSOCK ? -ENOTSOCK : ret;
}

int fu_send_issue(struct fu_req *req, u32 issue_flags)
{
	struct send *sd = fu_cmd(req, struct send);
	bool bundle = sd->iou & IORING_RECVSEND_BUNDLE;

	for (;;) {
		u32 cflags;
		u64 asked = 0;
		long ret = begin(req, sd, issue_flags);

		if (ret)
			return (int)ret;
		ret = transfer(req, sd, issue_flags, &asked);
		if (ret == -EAGAIN && (issue_flags & FU_ISSUE_NONBLOCK))
			return -EAGAIN;
		if (ret < 0 || ((sd->msg_flags & MSG_WAITALL) && (u64)ret < asked)) {
			if (ret > 0 && fu_sock_continues(req->fd)) {
				advance(req, sd, (u64)ret);
				if (issue_flags & FU_ISSUE_NONBLOCK)
					return -EAGAIN;
				continue;
			}
			fu_req_set_fail(req);
		}
		if (ret >= 0)
			ret += (long)sd->done;
		else if (sd->done)
			ret = (long)sd->done;
		cflags = sd->zc ? IORING_CQE_F_MORE : fu_kbuf_put(req, ret, 1);
		if (!bundle || ret <= 0 || sd->empty || sd->polled ||
		    !fu_post_more(req, (s32)ret, cflags | IORING_CQE_F_MORE)) {
			fu_req_result(req, (s32)ret, cflags);
			return FU_DONE;
		}
		/* The next round takes as much as there is: of the program's own, nothing. */
		sd->done = 0;
		sd->len = 0;
		if (sd->segs && !(req->flags & FU_REQ_BUFFER_SELECT))
			((struct copy *)req->async)->nr = 0;
	}
}
