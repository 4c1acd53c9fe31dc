/*
 * URING_CMD on sockets: how much is queued, socket options, and the stream of
 * transmit timestamps. And RECV_ZC, as on a machine without the hardware.
 *
 * TX_TIMESTAMP empties the socket's error queue whenever something comes into it and
 * posts a 32-byte CQE for each timestamp, until it is cancelled. Only the kernel can
 * leave other messages in that queue; here what is no timestamp is lost.
 */
#include <time.h>

#include <errno.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "engine/net.h"
#include "engine/path.h"
#include "engine/uring_cmd.h"
#include "rings/mem.h"
#include "rings/sys.h"

/* What a transmit timestamp's CQE tells. */
struct stamp {
	bool found;
	u32 key;
	u32 type; /* SCM_TSTAMP_* */
	bool hardware;
	u64 time[2]; /* seconds, nanoseconds */
};

static int queued(struct fu_req *req, unsigned long what)
{
	long domain = fu_sock_option(req->fd, SO_DOMAIN), ret;
	s32 bytes = 0;

	/* Of other families the kernel's protocols do not answer here. */
	if (domain != AF_INET && domain != AF_INET6)
		return -EOPNOTSUPP;
	ret = fu_sys(SYS_ioctl, req->fd, what, &bytes);
	return fu_sys_result(req, ret ? ret : bytes);
}

static int get_option(struct fu_req *req, const struct fu_uring_cmd *cmd)
{
	u32 bytes = cmd->file_index;
	long ret;

	if (cmd->level != SOL_SOCKET)
		return -EOPNOTSUPP;
	ret = fu_sys(SYS_getsockopt, req->fd, SOL_SOCKET, cmd->optname, cmd->addr3, &bytes);
	return fu_sys_result(req, ret ? ret : (long)bytes);
}

static int set_option(struct fu_req *req, const struct fu_uring_cmd *cmd)
{
	return fu_sys_result(req, fu_sys(SYS_setsockopt, req->fd, cmd->level, cmd->optname,
	                                 cmd->addr3, cmd->file_index));
}

/* ---- TX_TIMESTAMP ---- */

static void read_control(struct msghdr *msg, struct stamp *stamp)
{
	const struct timespec *ts = NULL;
	const struct sock_extended_err *err = NULL;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		const void *data = CMSG_DATA(c);

		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING)
			ts = data;
		else if ((c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) ||
		         (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR))
			err = data;
	}
	if (!ts || !err || err->ee_origin != SO_EE_ORIGIN_TIMESTAMPING)
		return;
	/* The third is the hardware's. */
	stamp->hardware = ts[2].tv_sec || ts[2].tv_nsec;
	ts += stamp->hardware ? 2 : 0;
	stamp->time[0] = (u64)ts->tv_sec;
	stamp->time[1] = (u64)ts->tv_nsec;
	stamp->key = err->ee_data;
	stamp->type = err->ee_info;
	stamp->found = true;
}

/* Takes one message from the error queue: 0 or -errno. */
static long next_stamp(struct fu_req *req, struct stamp *stamp)
{
	_Alignas(struct cmsghdr) u8 control[512];
	struct msghdr msg = { .msg_control = control, .msg_controllen = sizeof(control) };
	long ret = fu_sys(SYS_recvmsg, req->fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT);

	stamp->found = false;
	if (ret < 0)
		return ret;
	read_control(&msg, stamp);
	return 0;
}

static int arm_errors(struct fu_req *req)
{
	int ret = fu_req_hold_file(req);

	if (ret)
		return ret;
	fu_lock(&req->ctx->lock);
	ret = fu_req_arm(req, EPOLLERR, FU_NO_NAME);
	fu_unlock(&req->ctx->lock);
	return ret;
}

static int timestamps(struct fu_req *req)
{
	u32 setup = req->ctx->ring.setup_flags;
	u32 big = setup & IORING_SETUP_CQE_MIXED ? IORING_CQE_F_32 : 0;
	int ret;

	if (!(setup & (IORING_SETUP_CQE32 | IORING_SETUP_CQE_MIXED)))
		return -EINVAL;
	do {
		struct stamp st;

		while (next_stamp(req, &st) == 0) {
			u32 cflags = IORING_CQE_F_MORE | big |
			             st.type << IORING_TIMESTAMP_TYPE_SHIFT |
			             (st.hardware ? IORING_CQE_F_TSTAMP_HW : 0);

			if (st.found && !fu_post_more_big(req, (s32)st.key, cflags, st.time))
				break;
		}
		ret = arm_errors(req);
	} while (ret > 0);
	return ret ? ret : FU_TAKEN;
}

int fu_socket_cmd(struct fu_req *req, u32 issue_flags)
{
	const struct fu_uring_cmd *cmd = fu_cmd(req, struct fu_uring_cmd);
	int ret;

	switch (cmd->op) {
	case SOCKET_URING_OP_SIOCINQ:
		return queued(req, SIOCINQ);
	case SOCKET_URING_OP_SIOCOUTQ:
		return queued(req, SIOCOUTQ);
	case SOCKET_URING_OP_GETSOCKOPT:
		return get_option(req, cmd);
	case SOCKET_URING_OP_SETSOCKOPT:
		return set_option(req, cmd);
	case SOCKET_URING_OP_TX_TIMESTAMP:
		if (issue_flags & FU_ISSUE_WORKER)
			fu_submit_lock(req->ctx);
		ret = timestamps(req);
		if (issue_flags & FU_ISSUE_WORKER)
			fu_submit_unlock(req->ctx);
		return ret;
	default:
		return -EOPNOTSUPP;
	}
}

/* ---- RECV_ZC ---- */

/* Needs an interface queue that was registered, and none can be. */
int fu_recv_zc_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	(void)req;
	(void)sqe;
	return -EINVAL;
}

int fu_recv_zc_issue(struct fu_req *req, u32 issue_flags)
{
	(void)req;
	(void)issue_flags;
	return -EINVAL;
}
