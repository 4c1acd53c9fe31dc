/*
 * RECV and RECVMSG: into the program's own buffers or provided ones, once, as a
 * bundle of buffers, or multishot.
 *
 * An attempt is one recvfrom or recvmsg with MSG_DONTWAIT; "would block" gives the
 * selected buffer back and arms the poller. A plain RECVMSG hands the program's own
 * msghdr to the system call and copies it only if the request outlives its
 * submission. Whoever needs a provided buffer holds submit_lock from its selection
 * to the end of the attempt, a worker too.
 *
 * IORING_CQE_F_SOCK_NONEMPTY needs to know what is left in the socket. A stream that
 * gave less than there was room for is empty, so only a full buffer costs the
 * question. After each CQE of a multishot request the socket is simply tried again.
 */
#include "engine/net_recv.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "engine/host.h"
#include "engine/iov.h"
#include "engine/kbuf.h"
#include "engine/net.h"
#include "engine/registry.h"
#include "engine/thread.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

#define PREP_FLAGS   (IORING_RECVSEND_POLL_FIRST | IORING_RECV_MULTISHOT | IORING_RECVSEND_BUNDLE)
#define MAX_SEGMENTS 1024U
/* A flag of the kernel's own, for 32-bit programs, that system calls refuse. */
#define CMSG_COMPAT 0x80000000U
/* CQEs that a multishot request posts before others get their turn. */
#define MAX_LOOPS 32U

/* recv.state */
#define RETRY     1U  /* a bundle goes on: more was there than its buffers held */
#define CUT       2U  /* its last buffer was cut short */
#define CAPPED    4U  /* this round has had sqe->len bytes */
#define LIMITED   8U  /* ends after mshot_left bytes */
#define EXHAUSTED 16U /* ... and has had them */
#define NO_BUFS   32U /* took the group's last buffer */
#define PART      64U /* MSG_WAITALL has part of its buffer, or a worker all of it: kept in hand */

/* CQE flags that say how things stand, not what was in a bundle's first part. */
#define ROUND_FLAGS (IORING_CQE_F_SOCK_NONEMPTY | IORING_CQE_F_MORE | IORING_CQE_F_BUF_MORE)

#define AGAIN 2 /* of a round: go on at once */
#define LATER 3 /* ... or when the others have had their turn */

struct recv {
	u64 addr; /* buffer, or msghdr */
	u64 buf;  /* where the rest of a part goes */
	u64 controllen;
	u32 len;
	u32 msg_flags;
	u32 namelen;
	u32 mshot_len;  /* most for one round, 0: no limit */
	u32 mshot_left; /* most in all */
	s32 done;       /* bytes that earlier attempts have got */
	s32 inq;        /* bytes left in the socket, -1: not known */
	u32 saved;      /* a bundle's CQE flags from its first part */
	u32 nr;         /* segments of the attempt */
	u16 loops;
	u16 vec_nr; /* most segments that a bundle has had */
	u8 flags;   /* IORING_RECV* */
	u8 state;
	u8 msg; /* RECVMSG */
};

/* req->async of RECVMSG; a bundle has only its segments there. */
struct copy {
	struct msghdr msg;
	struct iovec *iov; /* what is left of segs */
	u32 nr;
	u32 max;
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
	c->max = segs;
	return c;
}

/* What __copy_msghdr asks of a header. */
static int check_header(struct msghdr *msg)
{
	if (!msg->msg_name)
		msg->msg_namelen = 0;
	if ((s32)msg->msg_namelen < 0)
		return -EINVAL;
	if (msg->msg_namelen > sizeof(struct sockaddr_storage))
		msg->msg_namelen = sizeof(struct sockaddr_storage);
	return msg->msg_iovlen > MAX_SEGMENTS ? -EMSGSIZE : 0;
}

int fu_recvmsg_stable(struct fu_req *req)
{
	struct recv *rv = fu_cmd(req, struct recv);
	struct msghdr msg;
	struct copy *c = req->async;
	int ret;

	if (c)
		return 0;
	if (fu_copy_from_user(&msg, fu_ptr(rv->addr), sizeof(msg)))
		return -EFAULT;
	ret = check_header(&msg);
	if (ret)
		return ret;
	c = copy_alloc(req, (u32)msg.msg_iovlen);
	if (!c)
		return -ENOMEM;
	c->msg = msg;
	c->nr = (u32)msg.msg_iovlen;
	ret = fu_iov_copy(c->segs, msg.msg_iov, c->nr, &c->left);
	if (ret)
		return ret;
	req->flags |= FU_REQ_STABLE;
	return 0;
}

/* RECVMSG with buffer select: of the segments only a length counts. */
static int prep_select_msg(struct fu_req *req, struct recv *rv)
{
	struct iovec iov = { 0 };
	struct msghdr msg;
	struct copy *c;
	int ret;

	if (fu_copy_from_user(&msg, fu_ptr(rv->addr), sizeof(msg)))
		return -EFAULT;
	rv->namelen = msg.msg_namelen;
	rv->controllen = msg.msg_controllen;
	if (msg.msg_iovlen > 1)
		return -EINVAL;
	if (msg.msg_iovlen && fu_copy_from_user(&iov, msg.msg_iov, sizeof(iov)))
		return -EFAULT;
	rv->len = iov.iov_len > INT32_MAX ? INT32_MAX : (u32)iov.iov_len;
	ret = check_header(&msg);
	if (ret)
		return ret;
	if (rv->flags & IORING_RECV_MULTISHOT) {
		if ((s32)rv->namelen < 0 ||
		    rv->controllen > INT32_MAX - sizeof(struct fu_recvmsg_out) - rv->namelen)
			return -EOVERFLOW;
	}
	c = copy_alloc(req, 1);
	if (!c)
		return -ENOMEM;
	c->msg = msg;
	req->flags |= FU_REQ_STABLE;
	return 0;
}

static int prep_multishot(struct fu_req *req, struct recv *rv, const struct fu_sqe *sqe)
{
	if (!(req->flags & FU_REQ_BUFFER_SELECT) || (rv->msg_flags & MSG_WAITALL))
		return -EINVAL;
	if (rv->msg && sqe->optlen)
		return -EINVAL;
	if (!rv->msg) {
		rv->mshot_len = rv->len;
		rv->mshot_left = sqe->optlen;
		if (rv->mshot_left)
			rv->state |= LIMITED;
	}
	req->flags |= FU_REQ_MULTISHOT;
	return 0;
}

int fu_recv_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct recv *rv = fu_cmd(req, struct recv);
	int ret = 0;

	if (sqe->off || (s32)sqe->len < 0)
		return -EINVAL;
	__builtin_memset(rv, 0, sizeof(*rv));
	rv->msg = req->opcode == IORING_OP_RECVMSG;
	rv->addr = sqe->addr;
	rv->len = sqe->len;
	rv->msg_flags = sqe->op_flags & ~CMSG_COMPAT;
	if (sqe->ioprio & ~PREP_FLAGS)
		return -EINVAL;
	rv->flags = (u8)sqe->ioprio;
	if (rv->msg_flags & MSG_DONTWAIT)
		req->flags |= FU_REQ_NOWAIT;
	if (rv->msg_flags & MSG_ERRQUEUE)
		req->poll_events = EPOLLPRI | EPOLLERR;
	if (rv->flags & IORING_RECV_MULTISHOT)
		ret = prep_multishot(req, rv, sqe);
	else if (sqe->optlen)
		ret = -EINVAL;
	if (ret)
		return ret;
	if (rv->flags & IORING_RECVSEND_BUNDLE) {
		if (rv->msg)
			return -EINVAL;
		if ((req->flags & FU_REQ_BUFFER_SELECT) && !copy_alloc(req, FU_KBUF_BUNDLE_MAX))
			return -ENOMEM;
	}
	if (req->flags & FU_REQ_BUFFER_SELECT)
		return rv->msg ? prep_select_msg(req, rv) : 0;
	return rv->msg || fu_user_range_ok(rv->addr, rv->len) ? 0 : -EFAULT;
}

void fu_recv_fail(struct fu_req *req)
{
	struct recv *rv = fu_cmd(req, struct recv);

	if (rv->done)
		req->res = rv->done;
}

/* ---- one attempt ---- */

static long call(struct fu_req *req, long nr, const void *a, u64 len, u32 flags)
{
	if (flags & MSG_DONTWAIT)
		return fu_sys(nr, req->fd, a, len, flags, 0, 0);
	return fu_sys_block(&req->cancelled, nr, req->fd, (long)a, (long)len, flags, 0, 0);
}

static long call_msg(struct fu_req *req, struct msghdr *msg, u32 flags)
{
	return call(req, SYS_recvmsg, msg, flags, flags);
}

/* Tells the program's msghdr what ours says. */
static int write_back(struct recv *rv, const struct msghdr *msg)
{
	const size_t from = offsetof(struct msghdr, msg_controllen);
	const size_t name = offsetof(struct msghdr, msg_namelen);
	char *user = fu_ptr(rv->addr);

	if (msg->msg_name &&
	    fu_copy_to_user(user + name, &msg->msg_namelen, sizeof(msg->msg_namelen)))
		return -EFAULT;
	return fu_copy_to_user(user + from, (const char *)msg + from,
	                       offsetof(struct msghdr, msg_flags) + sizeof(msg->msg_flags) - from);
}

/* Receives into the segments of the copy; *out_flags: what recvmsg said. */
static long recv_segments(struct fu_req *req, struct copy *c, u32 flags, u32 *out_flags)
{
	struct msghdr msg = { .msg_iov = c->iov, .msg_iovlen = c->nr };
	long ret = call_msg(req, &msg, flags);

	*out_flags = ret < 0 ? 0 : (u32)msg.msg_flags;
	return ret;
}

/* RECVMSG through our copy of the header. */
static long recv_copy(struct fu_req *req, struct copy *c, u32 flags, u32 *out_flags)
{
	struct recv *rv = fu_cmd(req, struct recv);
	struct msghdr msg = c->msg;
	long ret;

	msg.msg_iov = c->iov;
	msg.msg_iovlen = c->nr;
	msg.msg_flags = 0;
	ret = call_msg(req, &msg, flags);
	if (ret < 0)
		return ret;
	*out_flags = (u32)msg.msg_flags;
	return write_back(rv, &msg) ? -EFAULT : ret;
}

/* Steps over what has arrived. */
static void copy_advance(struct copy *c, u64 n)
{
	c->left -= n;
	fu_iov_advance(&c->iov, &c->nr, n);
}

/*
 * A message of multishot RECVMSG: header, name, control data and payload in one
 * buffer, the room for each as the program's msghdr said.
 */
static long recv_multishot_msg(struct fu_req *req, u64 addr, u64 len, u32 flags)
{
	struct recv *rv = fu_cmd(req, struct recv);
	u64 fixed = sizeof(struct fu_recvmsg_out) + rv->namelen + rv->controllen;
	struct fu_recvmsg_out out;
	struct msghdr msg = { 0 };
	struct iovec iov;
	long ret;

	if (len < fixed)
		return -EFAULT;
	iov = (struct iovec){ fu_ptr(addr + fixed), len - fixed };
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	if (rv->namelen) {
		msg.msg_name = fu_ptr(addr + sizeof(out));
		msg.msg_namelen = rv->namelen;
	}
	if (rv->controllen) {
		msg.msg_control = fu_ptr(addr + sizeof(out) + rv->namelen);
		msg.msg_controllen = rv->controllen;
	}
	ret = call_msg(req, &msg, flags);
	if (ret < 0)
		return ret;
	out = (struct fu_recvmsg_out){ .namelen = msg.msg_namelen,
		                       .controllen = (u32)msg.msg_controllen,
		                       .payloadlen = (u32)ret,
		                       .flags = (u32)msg.msg_flags };
	if (fu_copy_to_user(fu_ptr(addr), &out, sizeof(out)))
		return -EFAULT;
	/* An empty message still came with a header; the end of a stream does not. */
	if (!ret)
		rv->state |= EXHAUSTED;
	return (long)fixed + ((u64)ret < iov.iov_len ? ret : (long)iov.iov_len);
}

/* Local sockets hand out-of-band data over without a look at the rest. */
static bool counts_rest(const struct fu_req *req, u32 msg_flags)
{
	return !(msg_flags & MSG_OOB) || fu_sock_option(req->fd, SO_DOMAIN) != AF_UNIX;
}

/* How much is left in a socket that may hold more; -1 if it is not a stream's to tell. */
static s32 ask_inq(struct fu_req *req)
{
	s32 type = 0, left = 0;
	u32 len = sizeof(type);

	if (fu_sys(SYS_ioctl, req->fd, FIONREAD, &left) < 0)
		return -1;
	if (left && (fu_sys(SYS_getsockopt, req->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
	             type != SOCK_STREAM))
		return -1;
	return left;
}

/* TCP counts the end of the stream as something that is left, if it is the peer's doing. */
static bool ends_tcp(struct fu_req *req)
{
	s32 protocol = 0;
	u32 len = sizeof(protocol), state_len = 1;
	u8 state = 0; /* the first byte of struct tcp_info */

	if (fu_sys(SYS_getsockopt, req->fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0 ||
	    protocol != IPPROTO_TCP ||
	    fu_sys(SYS_getsockopt, req->fd, IPPROTO_TCP, TCP_INFO, &state, &state_len) < 0)
		return false;
	return state != TCP_ESTABLISHED && state != TCP_FIN_WAIT1 && state != TCP_FIN_WAIT2;
}

/* Whether a socket that filled all there was room for holds more. */
static bool has_rest(struct fu_req *req)
{
	struct pollfd pfd = { .fd = req->fd, .events = POLLIN | POLLRDHUP };

	if (fu_poll_now(&pfd) <= 0 || !(pfd.revents & POLLIN))
		return false;
	return ask_inq(req) > 0 || ((pfd.revents & POLLRDHUP) && ends_tcp(req));
}

/* ---- requests with their own buffers ---- */

/* Ends a request with `ret`, which may be an error; parts that came before count. */
static int end(struct fu_req *req, struct recv *rv, long ret, bool failed, u32 cflags)
{
	if (rv->done)
		ret = ret > 0 ? ret + rv->done : rv->done;
	if (ret < 0)
		return (int)ret;
	if (failed)
		fu_req_set_fail(req);
	fu_req_result(req, (s32)ret, cflags);
	return FU_DONE;
}

static int recv_waitall(struct fu_req *req, struct recv *rv, u32 flags)
{
	struct copy *c;
	u32 out_flags = 0;
	u64 asked;
	long ret;

	/* Parts need segments of our own to step over. */
	if (rv->msg) {
		ret = fu_recvmsg_stable(req);
		if (ret)
			return (int)ret;
		c = req->async;
		asked = c->left;
		ret = recv_copy(req, c, flags, &out_flags);
	} else {
		struct copy one = { .nr = 1, .left = rv->len - (u32)rv->done };
		struct iovec iov = { fu_ptr(rv->addr + (u64)rv->done), one.left };

		one.iov = &iov;
		c = NULL;
		asked = one.left;
		ret = recv_segments(req, &one, flags, &out_flags);
	}
	if (ret == -EAGAIN && (flags & MSG_DONTWAIT) && !(req->flags & FU_REQ_NOWAIT))
		return -EAGAIN;
	/* With control data, what came is a message of its own. */
	if (c && c->msg.msg_controllen)
		asked = 0;
	if (ret > 0 && (u64)ret < asked && fu_sock_continues(req->fd)) {
		rv->done += (s32)ret;
		if (c)
			copy_advance(c, (u64)ret);
		return -EAGAIN;
	}
	return end(
	        req, rv, ret, ret < 0 || (u64)ret < asked || (out_flags & (MSG_TRUNC | MSG_CTRUNC)),
	        ret > 0 && counts_rest(req, flags) && ask_inq(req) > 0 ? IORING_CQE_F_SOCK_NONEMPTY
	                                                               : 0);
}

static int recv_own(struct fu_req *req, struct recv *rv, u32 flags)
{
	bool may_have_more = true, rest, peek = flags & MSG_PEEK;
	u32 out_flags;
	long ret;

	if (flags & MSG_WAITALL)
		return recv_waitall(req, rv, flags);
	if (!rv->msg) {
		ret = call(req, SYS_recvfrom, fu_ptr(rv->addr), rv->len, flags);
		may_have_more = peek || ret == (long)rv->len;
	} else if (req->async) {
		ret = recv_copy(req, req->async, flags, &out_flags);
		may_have_more = peek || ret == (long)((struct copy *)req->async)->left;
	} else {
		ret = call_msg(req, fu_ptr(rv->addr), flags);
	}
	if (ret < 0)
		return (int)ret;
	rest = (!ret || may_have_more) && counts_rest(req, flags) && has_rest(req);
	fu_req_result(req, (s32)ret, rest ? IORING_CQE_F_SOCK_NONEMPTY : 0);
	return FU_DONE;
}

/* ---- requests with provided buffers ---- */

/* Selects what the attempt receives into: segments in the copy. */
static int select_bundle(struct fu_req *req, struct recv *rv, struct copy *c)
{
	struct fu_kbuf_bundle b = { .iov = c->segs, .max_len = rv->len };
	int ret;

	if (!b.max_len && rv->inq > 1)
		b.max_len = (u64)rv->inq;
	if ((rv->state & LIMITED) && (!b.max_len || b.max_len > rv->mshot_left))
		b.max_len = rv->mshot_left;
	/* Without a length there is nothing to say how many: as many as there once were. */
	b.nr_max = b.max_len ? c->max : rv->vec_nr ? rv->vec_nr : 1;
	ret = fu_kbuf_peek(req, &b, false);
	if (ret)
		return ret;
	if (b.truncated)
		rv->state |= CUT;
	if (b.empty)
		rv->state |= NO_BUFS;
	if (b.nr > 1 && b.nr > rv->vec_nr)
		rv->vec_nr = (u16)b.nr;
	c->nr = b.nr;
	c->left = b.out_len;
	c->iov = c->segs;
	return 0;
}

/* The rest of MSG_WAITALL into the buffer in hand, or into a fresh one: a single segment. */
static long recv_one(struct fu_req *req, struct recv *rv, struct iovec *one, u32 flags,
                     bool *failed)
{
	struct copy local, *c = rv->msg ? req->async : &local;
	u32 more, out_flags = 0;
	long ret;

	if (rv->msg && (rv->flags & IORING_RECV_MULTISHOT))
		return recv_multishot_msg(req, (u64)(uintptr_t)one->iov_base, one->iov_len, flags);
	if (!rv->msg && !(flags & MSG_WAITALL))
		return call(req, SYS_recvfrom, one->iov_base, one->iov_len, flags);
	c->iov = one;
	c->nr = 1;
	ret = rv->msg ? recv_copy(req, c, flags, &out_flags)
	              : recv_segments(req, c, flags, &out_flags);
	if (!(flags & MSG_WAITALL) || ret == -EAGAIN)
		return ret;
	*failed = out_flags & (MSG_TRUNC | MSG_CTRUNC);
	if (ret >= (long)one->iov_len || (rv->msg && c->msg.msg_controllen))
		return ret;
	*failed = true;
	if (ret <= 0 || !fu_sock_continues(req->fd))
		return ret;
	/* From now on the buffer stays in hand. */
	rv->buf = (u64)(uintptr_t)one->iov_base + (u64)ret;
	rv->len = (u32)(one->iov_len - (u64)ret);
	rv->done += (s32)ret;
	rv->state |= PART;
	/* Of what it leaves of the buffer now the kernel does not tell in the end. */
	more = req->flags & FU_REQ_BUF_MORE;
	fu_kbuf_commit(req, ret, 1);
	req->flags = (req->flags & ~FU_REQ_BUF_MORE) | more;
	return -EAGAIN;
}

/* One attempt into provided buffers; *asked: how much would have fitted. */
static long recv_selected(struct fu_req *req, struct recv *rv, u32 flags, u64 *asked, bool *failed)
{
	struct copy *c = req->async;
	struct iovec one;
	u32 out_flags, len = rv->len;
	u64 addr = rv->buf;
	long ret;

	if (fu_kbuf_wanted(req) && (rv->flags & IORING_RECVSEND_BUNDLE)) {
		ret = select_bundle(req, rv, c);
		if (ret)
			return ret;
		*asked = c->left;
		if (c->nr == 1 && (flags & MSG_WAITALL)) {
			one = c->segs[0];
			rv->nr = 1;
			return recv_one(req, rv, &one, flags, failed);
		}
		ret = recv_segments(req, c, flags, &out_flags);
		rv->nr = ret > 0 ? fu_kbuf_touched(c->segs, c->nr, (u64)ret) : 0;
		return ret;
	}
	if (fu_kbuf_wanted(req)) {
		ret = fu_kbuf_select(req, &addr, &len, false);
		if (ret)
			return ret;
	}
	one = (struct iovec){ fu_ptr(addr), len };
	*asked = len;
	rv->nr = 1;
	return recv_one(req, rv, &one, flags, failed);
}

/* Whether a bundle that filled all its buffers appends more of them. */
static bool bundle_goes_on(struct fu_req *req, struct recv *rv, s32 total, bool full, u32 *cflags)
{
	s32 this = total - rv->done;

	*cflags |= fu_kbuf_put(req, this, rv->nr);
	if (rv->state & RETRY)
		*cflags = rv->saved | (*cflags & ROUND_FLAGS);
	if (rv->mshot_len && total >= (s32)rv->mshot_len)
		rv->state |= CAPPED;
	if ((rv->state & (RETRY | CUT | CAPPED | EXHAUSTED | NO_BUFS)) || rv->inq <= 1 ||
	    this <= 0 || !full)
		return false;
	rv->saved = *cflags & ~ROUND_FLAGS;
	rv->len = (u32)rv->inq;
	rv->done += this;
	rv->state |= RETRY;
	return true;
}

/* What becomes of an attempt. Returns FU_DONE, AGAIN or LATER. */
static int round_ends(struct fu_req *req, struct recv *rv, s32 total, bool finished, bool full)
{
	u32 cflags = rv->inq > 0 ? IORING_CQE_F_SOCK_NONEMPTY : 0;
	bool capped;

	if (total > 0 && (rv->state & LIMITED)) {
		rv->mshot_left -= (u32)total < rv->mshot_left ? (u32)total : rv->mshot_left;
		if (!rv->mshot_left)
			rv->state |= EXHAUSTED;
	}
	if (rv->flags & IORING_RECVSEND_BUNDLE) {
		if (bundle_goes_on(req, rv, total, full, &cflags))
			return AGAIN;
		finished |= !!(rv->state & NO_BUFS);
	} else {
		cflags |= fu_kbuf_put(req, total, 1);
	}
	finished |= !!(rv->state & EXHAUSTED);
	if (!(req->flags & FU_REQ_MULTISHOT) || finished ||
	    !fu_post_more(req, total, cflags | IORING_CQE_F_MORE)) {
		fu_req_result(req, total, cflags);
		return FU_DONE;
	}
	capped = rv->state & CAPPED;
	rv->state &= LIMITED;
	rv->done = 0;
	rv->len = rv->mshot_len;
	if (!capped && ++rv->loops < MAX_LOOPS)
		return AGAIN;
	rv->loops = 0;
	return LATER;
}

/* Whether it is a stream of which the last attempt, which has filled its buffers or not, has left
 * nothing. */
static bool is_emptied(struct fu_req *req, const struct recv *rv, bool full)
{
	return (!full || !rv->inq) && fu_sock_option(req->fd, SO_TYPE) == SOCK_STREAM;
}

/* Attempts until there is nothing more to be had at once. submit_lock held. */
static int recv_rounds(struct fu_req *req, struct recv *rv, u32 flags)
{
	bool full = true, first = true;
	int end;

	do {
		bool failed = false;
		u64 asked = 0;
		long ret = recv_selected(req, rv, flags, &asked, &failed);

		/* What has just been emptied is not asked for more before there is some. */
		if ((ret == -ENOBUFS || ret == -EFAULT) && !first && is_emptied(req, rv, full))
			ret = -EAGAIN;
		if (ret == -EAGAIN && !(req->flags & FU_REQ_NOWAIT)) {
			if (!(rv->state & PART))
				fu_kbuf_recycle(req);
			return -EAGAIN;
		}
		full = ret > 0 && (u64)ret >= asked;
		rv->inq = full && counts_rest(req, flags) ? ask_inq(req) : -1;
		/* Of a message of nothing there is the header. */
		if ((!ret || (rv->msg && (rv->state & EXHAUSTED))) && ends_tcp(req))
			rv->inq = 1;
		if (ret <= 0 && !rv->done) {
			fu_kbuf_recycle(req);
			if (ret < 0)
				return (int)ret;
		}
		if (failed || ret < 0)
			fu_req_set_fail(req);
		first = false;
		end = round_ends(req, rv, (s32)(ret > 0 ? ret : 0) + rv->done, ret <= 0, full);
	} while (end == AGAIN);
	return end;
}

/* Task work of a request that had to let others go first. */
static void resume(struct fu_req *req)
{
	if (fu_load_relaxed(&req->ctx->ring.ctrl->ended))
		fu_req_fail(req, -ECANCELED);
	else
		fu_req_issue(req, FU_ISSUE_NONBLOCK | FU_ISSUE_RETRY);
}

/* To the end of the queue. submit_lock held. */
static int requeue(struct fu_req *req)
{
	int ret = fu_req_hold_file(req);

	if (ret)
		return ret;
	fu_req_task_work(req, resume);
	return FU_TAKEN;
}

/* A worker consumes the buffer before it tries. submit_lock held. */
static int take_buffer(struct fu_req *req, struct recv *rv)
{
	u64 addr;
	u32 len = rv->len;
	int ret;

	if ((req->flags & FU_REQ_MULTISHOT) || (rv->flags & IORING_RECVSEND_BUNDLE) ||
	    !fu_kbuf_wanted(req))
		return 0;
	ret = fu_kbuf_select(req, &addr, &len, true);
	if (ret || !(req->flags & FU_REQ_BUFFER_RING)) {
		fu_kbuf_recycle(req);
		return ret;
	}
	rv->buf = addr;
	rv->len = len;
	rv->state |= PART;
	return 0;
}

/*
 * The attempts hold submit_lock, so they never block; a worker that has to wait,
 * because the poller could not, does so between them.
 */
static int recv_provided(struct fu_req *req, struct recv *rv, u32 issue_flags)
{
	struct pollfd pfd = { .fd = req->fd, .events = POLLIN };
	int ret;

	for (;;) {
		ret = 0;
		if (issue_flags & FU_ISSUE_WORKER)
			fu_submit_lock(req->ctx);
		if ((issue_flags & FU_ISSUE_WORKER) || (req->flags & FU_REQ_SLOW))
			ret = take_buffer(req, rv);
		if (!ret)
			ret = recv_rounds(req, rv, rv->msg_flags | MSG_DONTWAIT);
		if (ret == LATER && !(issue_flags & FU_ISSUE_WORKER))
			return requeue(req);
		if (issue_flags & FU_ISSUE_WORKER)
			fu_submit_unlock(req->ctx);
		if (ret == LATER)
			continue;
		if (ret != -EAGAIN || (issue_flags & FU_ISSUE_NONBLOCK) ||
		    (req->flags & FU_REQ_NOWAIT))
			return ret;
		ret = (int)fu_poll_block(&req->cancelled, &pfd);
		if (ret < 0)
			return ret;
	}
}

static bool is_socket(const struct fu_req *req)
{
	return fu_sock_option(req->fd, SO_TYPE) != -ENOTSOCK;
}

/* What is no socket is that first of all; unless RECV is to poll it first, and cannot. */
static int of_other_file(struct fu_req *req, const struct recv *rv, int ret)
{
	if (ret == -ENOBUFS && !is_socket(req))
		ret = -ENOTSOCK;
	if (ret == -ENOTSOCK && !rv->msg && (rv->flags & IORING_RECVSEND_POLL_FIRST) &&
	    (req->flags & FU_REQ_NO_ARM))
		ret = -EAGAIN;
	return ret;
}

int fu_recv_issue(struct fu_req *req, u32 issue_flags)
{
	struct recv *rv = fu_cmd(req, struct recv);
	u32 flags = rv->msg_flags;
	int ret;

	/* The program's end of a ring is a socket only here. */
	if (fu_unlikely(fu_fd_names_ring(req->fd)))
		return -ENOTSOCK;
	if (issue_flags & FU_ISSUE_NONBLOCK) {
		flags |= MSG_DONTWAIT;
		if ((rv->flags & IORING_RECVSEND_POLL_FIRST) && !(issue_flags & FU_ISSUE_RETRY))
			return rv->msg && !is_socket(req) ? -ENOTSOCK
			                                  : fu_sock_poll_first(req, issue_flags);
		/* A worker is not the place for a request that goes on for ever. */
		if ((req->flags & FU_REQ_MULTISHOT) && (issue_flags & FU_ISSUE_WORKER))
			return -EAGAIN;
	}
	if (req->flags & FU_REQ_BUFFER_SELECT)
		ret = recv_provided(req, rv, issue_flags);
	else
		ret = recv_own(req, rv, flags);
	if (fu_unlikely(ret == -ENOBUFS || ret == -ENOTSOCK))
		ret = of_other_file(req, rv, ret);
	return ret;
}
