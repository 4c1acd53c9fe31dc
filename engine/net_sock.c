/*
 * The life of a socket: SOCKET, BIND, LISTEN, CONNECT, ACCEPT, SHUTDOWN.
 *
 * accept and connect have no flag that asks them not to wait; only the socket has
 * one, O_NONBLOCK, which belongs to everybody who shares the open file.
 *
 * ACCEPT on a blocking socket is therefore never tried on the submitter's thread
 * while it could wait: the socket is polled, and a worker makes the call. Somebody
 * else, perhaps in another process, may take the connection in between; then the
 * worker waits for the next one, and can be cancelled. Listening sockets are what
 * processes share, so switching O_NONBLOCK on them would show.
 *
 * CONNECT switches it for the moment of the call. A socket that is not connected
 * yet is of use to nobody else.
 */
#include "engine/net.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/stat.h>

#include "engine/entry.h"
#include "engine/fileinfo.h"
#include "engine/host.h"
#include "engine/path.h"
#include "engine/register.h"
#include "engine/registry.h"
#include "engine/thread.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

#define TYPE_MASK  0xf
#define TYPE_FLAGS (SOCK_CLOEXEC | SOCK_NONBLOCK)

/* ---- shared helpers ---- */

long fu_sock_option(int fd, int option)
{
	s32 value = 0;
	u32 bytes = sizeof(value);
	long ret = fu_sys(SYS_getsockopt, fd, SOL_SOCKET, option, &value, &bytes);

	return ret < 0 ? ret : value;
}

bool fu_sock_continues(int fd)
{
	long type = fu_sock_option(fd, SO_TYPE);

	return type == SOCK_STREAM || type == SOCK_SEQPACKET;
}

long fu_sock_ready(int fd, short events)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	long n = fu_poll_now(&pfd);

	return n == -EINTR ? 0 : n;
}

int fu_sock_poll_first(struct fu_req *req, u32 issue_flags)
{
	if (issue_flags & FU_ISSUE_UNPOLLED)
		req->flags |= FU_REQ_NOWAIT;
	return -EAGAIN;
}

/* The hint by number costs nothing; only what it suspects is looked at. */
bool fu_sock_is_ring(const struct fu_req *req)
{
	struct stat st;

	return !(req->flags & FU_REQ_FIXED_FILE) && fu_fd_is_ring((int)req->sqe_fd) &&
	       fu_sys(SYS_fstat, req->fd, &st) == 0 && S_ISSOCK(st.st_mode) &&
	       fu_ino_is_ring(st.st_ino);
}

int fu_sock_addr_get(struct sockaddr_storage *name, u64 addr, s32 len)
{
	if (len < 0 || (size_t)len > sizeof(*name))
		return -EINVAL;
	return fu_copy_from_user(name, fu_ptr(addr), (size_t)len);
}

/* A new descriptor's way to the program: its number, or a place in the table. */
static long deliver(struct fu_req *req, long fd, u32 slot, u32 issue_flags)
{
	long ret;

	if (fd < 0)
		return fd;
	fu_file_forget((int)fd);
	if (!slot)
		return fd;
	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_lock(req->ctx);
	ret = fu_fixed_install(req->ctx, (int)fd, slot);
	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_unlock(req->ctx);
	fu_sys(SYS_close, fd);
	return ret;
}

/* ---- ACCEPT ---- */

struct accept {
	u64 addr;
	u64 addr_len;
	u32 flags;
	u32 slot;  /* direct descriptor: its index + 1, or IORING_FILE_INDEX_ALLOC */
	u16 iou;   /* IORING_ACCEPT_* */
	u8 polled; /* has waited for the socket */
	u8 known;  /* the fields below are */
	u8 listening;
	u8 tells; /* the protocol says whether more connections wait */
};

int fu_accept_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct accept *a = fu_cmd(req, struct accept);

	if (sqe->len || sqe->buf_index)
		return -EINVAL;
	*a = (struct accept){ .addr = sqe->addr,
		              .addr_len = sqe->addr2,
		              .flags = sqe->op_flags,
		              .slot = sqe->file_index,
		              .iou = sqe->ioprio };
	if (a->iou & ~(IORING_ACCEPT_MULTISHOT | IORING_ACCEPT_DONTWAIT | IORING_ACCEPT_POLL_FIRST))
		return -EINVAL;
	if (a->slot) {
		if (a->flags & SOCK_CLOEXEC)
			return -EINVAL;
		if ((a->iou & IORING_ACCEPT_MULTISHOT) && a->slot != IORING_FILE_INDEX_ALLOC)
			return -EINVAL;
	}
	if (a->flags & ~(u32)TYPE_FLAGS)
		return -EINVAL;
	if (a->iou & IORING_ACCEPT_DONTWAIT)
		req->flags |= FU_REQ_NOWAIT;
	if (a->iou & IORING_ACCEPT_MULTISHOT)
		req->flags |= FU_REQ_MULTISHOT;
	return 0;
}

/*
 * One accept4 that does not wait on this thread: the descriptor or -errno. *taken: a worker
 * has got the request instead.
 */
static long accept_one(struct fu_req *req, struct accept *a, u32 issue_flags, bool *taken)
{
	u32 flags = a->flags | (a->slot ? (u32)SOCK_CLOEXEC : 0);
	long fl = fu_sys(SYS_fcntl, req->fd, F_GETFL), ret;

	*taken = false;
	if (fl < 0)
		return fl;
	if (!(fl & O_NONBLOCK) && a->listening) {
		bool may_wait = !(issue_flags & FU_ISSUE_NONBLOCK) && !(req->flags & FU_REQ_NOWAIT);

		ret = fu_sock_ready(req->fd, POLLIN);
		if (ret < 0 || (!ret && !may_wait))
			return ret ? ret : -EAGAIN;
		if (!(issue_flags & FU_ISSUE_WORKER)) {
			*taken = true;
			fu_req_punt(req);
			return 0;
		}
		return fu_sys_block(&req->cancelled, SYS_accept4, req->fd, (long)a->addr,
		                    (long)a->addr_len, flags, 0, 0);
	}
	return fu_sys(SYS_accept4, req->fd, a->addr, a->addr_len, flags);
}

int fu_accept_issue(struct fu_req *req, u32 issue_flags)
{
	struct accept *a = fu_cmd(req, struct accept);
	bool multishot = a->iou & IORING_ACCEPT_MULTISHOT;
	u32 cflags;
	long ret;

	if (issue_flags & FU_ISSUE_RETRY)
		a->polled = 1;
	if ((a->iou & IORING_ACCEPT_POLL_FIRST) && !a->polled)
		return fu_sock_poll_first(req, issue_flags);
	if (!a->known) {
		if (fu_sock_is_ring(req))
			return -ENOTSOCK;
		ret = fu_sock_option(req->fd, SO_ACCEPTCONN);
		/* One that cannot be asked may make the caller wait. */
		a->listening = ret > 0 || fu_host_denied(SYS_getsockopt, ret);
		a->tells = a->listening && fu_sock_option(req->fd, SO_PROTOCOL) == IPPROTO_TCP;
		a->known = 1;
	}
	for (;;) {
		bool taken;

		cflags = 0;
		ret = accept_one(req, a, issue_flags, &taken);
		if (taken)
			return FU_TAKEN;
		if (ret < 0)
			break;
		ret = deliver(req, ret, a->slot, issue_flags);
		if (a->tells && fu_sock_ready(req->fd, POLLIN) > 0)
			cflags = IORING_CQE_F_SOCK_NONEMPTY;
		if (ret < 0 || !multishot ||
		    !fu_post_more(req, (s32)ret, cflags | IORING_CQE_F_MORE))
			break;
		if (a->tells && !cflags) {
			ret = -EAGAIN;
			break;
		}
	}
	if (ret == -EAGAIN)
		return -EAGAIN;
	if (ret < 0)
		fu_req_set_fail(req);
	fu_req_result(req, (s32)ret, cflags);
	return FU_DONE;
}

/* ---- CONNECT ---- */

struct connect {
	u64 addr; /* until it is copied to req->async */
	s32 len;
	u8 in_progress;
	u8 aborted;
};

int fu_connect_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	if (sqe->len || sqe->buf_index || sqe->op_flags || sqe->splice_fd_in)
		return -EINVAL;
	*fu_cmd(req, struct connect) =
	        (struct connect){ .addr = sqe->addr, .len = (s32)sqe->addr2 };
	return 0;
}

/* Room for an address of the request's own, for connect and bind. */
static int copy_addr(struct fu_req *req, u64 addr, s32 len)
{
	req->async_bytes = sizeof(struct sockaddr_storage);
	req->async = fu_alloc(req->async_bytes);
	return req->async ? fu_sock_addr_get(req->async, addr, len) : -ENOMEM;
}

int fu_connect_stable(struct fu_req *req)
{
	struct connect *c = fu_cmd(req, struct connect);

	return req->async ? 0 : copy_addr(req, c->addr, c->len);
}

static long connect_now(struct fu_req *req, const struct connect *c)
{
	u64 addr = req->async ? (u64)(uintptr_t)req->async : c->addr;
	long fl = fu_sys(SYS_fcntl, req->fd, F_GETFL);
	bool add = fl >= 0 && !(fl & O_NONBLOCK);
	long ret;

	/* Of the second call, which only collects the result, nothing is left to wait for. */
	if (c->in_progress)
		add = false;
	if (add && fu_sock_option(req->fd, SO_TYPE) < 0)
		return -ENOTSOCK;
	if (add)
		fu_sys(SYS_fcntl, req->fd, F_SETFL, fl | O_NONBLOCK);
	ret = fu_sys(SYS_connect, req->fd, addr, c->len);
	if (add)
		fu_sys(SYS_fcntl, req->fd, F_SETFL, fl);
	return ret;
}

/* The connection has been decided, one way or the other: what it has become. */
static int connect_end(struct fu_req *req, long ret)
{
	if (fu_cmd(req, struct connect)->in_progress && (ret == -EISCONN || ret == -EBADFD))
		ret = -fu_sock_option(req->fd, SO_ERROR);
	return fu_sys_result(req, ret);
}

int fu_connect_issue(struct fu_req *req, u32 issue_flags)
{
	struct connect *c = fu_cmd(req, struct connect);
	long ret;

	if (fu_sock_is_ring(req))
		return -ENOTSOCK;
	if (!(issue_flags & FU_ISSUE_NONBLOCK))
		return connect_end(req, fu_sys_block(&req->cancelled, SYS_connect, req->fd,
		                                     (long)req->async, c->len, 0, 0, 0));
	if (c->in_progress) {
		struct pollfd pfd = { .fd = req->fd, .events = POLLOUT };

		if (fu_poll_now(&pfd) <= 0)
			return -EAGAIN;
		if (pfd.revents & POLLERR)
			return connect_end(req, -EISCONN);
	}
	ret = connect_now(req, c);
	if (ret == -EINPROGRESS || ret == -EALREADY) {
		if (ret == -EALREADY && !c->in_progress)
			return -EALREADY;
		c->in_progress = 1;
		return -EAGAIN;
	}
	if (ret == -ECONNABORTED && !c->aborted) {
		c->aborted = 1;
		return -EAGAIN;
	}
	if (ret == -EAGAIN) {
		/* A full backlog of a UNIX socket, which no poll tells the end of. */
		if (issue_flags & FU_ISSUE_WORKER)
			return fu_connect_issue(req, FU_ISSUE_WORKER);
		fu_req_punt(req);
		return FU_TAKEN;
	}
	return connect_end(req, ret);
}

/* ---- SHUTDOWN ---- */

int fu_shutdown_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	if (sqe->off || sqe->addr || sqe->op_flags || sqe->buf_index || sqe->splice_fd_in)
		return -EINVAL;
	*fu_cmd(req, u32) = sqe->len;
	return 0;
}

int fu_shutdown_issue(struct fu_req *req, u32 issue_flags)
{
	long ret =
	        fu_sock_is_ring(req) ? -ENOTSOCK : fu_sys(SYS_shutdown, req->fd, *fu_cmd(req, u32));

	(void)issue_flags;
	return ret == -ENOTSOCK ? -ENOTSOCK : fu_sys_any_result(req, ret);
}

/* ---- SOCKET ---- */

struct socket {
	s32 domain;
	u32 type;
	u32 protocol;
	u32 slot;
};

int fu_socket_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct socket *s = fu_cmd(req, struct socket);
	u32 flags;

	if (sqe->addr || sqe->op_flags || sqe->buf_index)
		return -EINVAL;
	*s = (struct socket){ .domain = sqe->fd,
		              .type = (u32)sqe->off,
		              .protocol = sqe->len,
		              .slot = sqe->file_index };
	flags = s->type & ~(u32)TYPE_MASK;
	if (s->slot && (flags & SOCK_CLOEXEC))
		return -EINVAL;
	return flags & ~(u32)TYPE_FLAGS ? -EINVAL : 0;
}

int fu_socket_issue(struct fu_req *req, u32 issue_flags)
{
	const struct socket *s = fu_cmd(req, struct socket);
	long fd = fu_sys(SYS_socket, s->domain, s->type | (s->slot ? (u32)SOCK_CLOEXEC : 0),
	                 s->protocol);

	if (fd < 0)
		return (int)fd;
	/* A socket without a place is a result like any other: it breaks no link. */
	fu_req_result(req, (s32)deliver(req, fd, s->slot, issue_flags), 0);
	return FU_DONE;
}

/* ---- BIND, LISTEN ---- */

int fu_bind_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	if (sqe->len || sqe->buf_index || sqe->op_flags || sqe->splice_fd_in)
		return -EINVAL;
	*fu_cmd(req, s32) = (s32)sqe->addr2;
	return copy_addr(req, sqe->addr, (s32)sqe->addr2);
}

int fu_bind_issue(struct fu_req *req, u32 issue_flags)
{
	(void)issue_flags;
	if (fu_sock_is_ring(req))
		return -ENOTSOCK;
	return fu_sys_result(req, fu_sys(SYS_bind, req->fd, req->async, *fu_cmd(req, s32)));
}

int fu_listen_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	if (sqe->addr || sqe->buf_index || sqe->op_flags || sqe->splice_fd_in || sqe->addr2)
		return -EINVAL;
	*fu_cmd(req, s32) = (s32)sqe->len;
	return 0;
}

int fu_listen_issue(struct fu_req *req, u32 issue_flags)
{
	(void)issue_flags;
	if (fu_sock_is_ring(req))
		return -ENOTSOCK;
	return fu_sys_result(req, fu_sys(SYS_listen, req->fd, *fu_cmd(req, s32)));
}
