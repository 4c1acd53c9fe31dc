/*
 * EPOLL_CTL, and EPOLL_WAIT, which collects the events of an epoll set as soon as
 * there are any. A set can itself be polled, so a wait is armed like a read.
 */
#include "engine/epoll.h"

#include <errno.h>
#include <sys/epoll.h>

#include "engine/entry.h"
#include "engine/path.h"
#include "rings/fds.h"
#include "rings/sys.h"
#include "rings/user.h"

struct epoll_ctl {
	s32 epfd;
	s32 fd;
	u32 op;
	struct epoll_event event;
};

struct epoll_wait {
	u64 events;
	s32 maxevents;
};

int fu_epoll_ctl_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct epoll_ctl *ctl = fu_cmd(req, struct epoll_ctl);

	if (sqe->buf_index || sqe->splice_fd_in)
		return -EINVAL;
	*ctl = (struct epoll_ctl){ .epfd = sqe->fd, .op = sqe->len, .fd = (s32)sqe->off };
	if (ctl->op == EPOLL_CTL_DEL)
		return 0;
	return fu_copy_from_user(&ctl->event, fu_ptr(sqe->addr), sizeof(ctl->event));
}

int fu_epoll_ctl_issue(struct fu_req *req, u32 issue_flags)
{
	struct epoll_ctl *ctl = fu_cmd(req, struct epoll_ctl);

	(void)issue_flags;
	if (fu_fd_is_engine(ctl->epfd) || fu_fd_is_engine(ctl->fd))
		return -EBADF;
	/* A ring's readability is kept true once somebody polls it. */
	if (ctl->op != EPOLL_CTL_DEL)
		fu_fd_polled(ctl->fd, ctl->event.events & EPOLLET);
	return fu_sys_result(req, fu_sys(SYS_epoll_ctl, ctl->epfd, ctl->op, ctl->fd, &ctl->event));
}

int fu_epoll_wait_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	if (sqe->off || sqe->op_flags || sqe->buf_index || sqe->splice_fd_in)
		return -EINVAL;
	*fu_cmd(req, struct epoll_wait) =
	        (struct epoll_wait){ .events = sqe->addr, .maxevents = (s32)sqe->len };
	return 0;
}

int fu_epoll_wait_issue(struct fu_req *req, u32 issue_flags)
{
	const struct epoll_wait *w = fu_cmd(req, struct epoll_wait);
	long ret;

	(void)issue_flags;
	fu_rings_settle();
	ret = fu_sys(SYS_epoll_wait, req->fd, w->events, w->maxevents, 0);
	/* On a worker, to which a drain or an open link would have brought it, it does not wait. */
	if (!ret && (req->flags & (FU_REQ_SLOW | FU_REQ_ASYNC)) == FU_REQ_SLOW)
		req->flags |= FU_REQ_NOWAIT;
	return ret ? fu_sys_result(req, ret) : -EAGAIN;
}
