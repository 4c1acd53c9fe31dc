/*
 * WAITID. Asked once at once. Waiting for the end of one process is waiting until its
 * pidfd is readable, so that is armed; any other wait (a group, any child, stops and
 * continuations) blocks a worker.
 */
#include "engine/waitid.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "engine/leaving.h"
#include "engine/thread.h"
#include "rings/fds.h"
#include "rings/sys.h"
#include "rings/user.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define NR_PIDFD_OPEN 434

/* The part of siginfo_t that waitid fills in, with the hole that it leaves alone. */
struct child_info {
	s32 signo, err, code;
	s32 hole;
	s32 pid, uid, status;
};

struct waitid {
	u64 infop;
	u32 which;
	s32 id;
	u32 options;
	bool waiting; /* has been issued and found nothing yet */
};

int fu_waitid_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	if (sqe->addr || sqe->buf_index || sqe->addr3 || sqe->op_flags)
		return -EINVAL;
	*fu_cmd(req, struct waitid) = (struct waitid){
		.infop = sqe->addr2, .which = sqe->len, .id = sqe->fd, .options = sqe->file_index
	};
	req->fd = -1;
	return 0;
}

static int give_info(const struct waitid *w, const siginfo_t *si)
{
	struct child_info info = { .signo = si->si_signo,
		                   .err = si->si_errno,
		                   .code = si->si_code,
		                   .pid = si->si_pid,
		                   .uid = (s32)si->si_uid,
		                   .status = si->si_status };

	if (!w->infop)
		return 0;
	if (fu_copy_to_user(fu_ptr(w->infop), &info, offsetof(struct child_info, hole)))
		return -EFAULT;
	return fu_copy_to_user(fu_ptr(w->infop + offsetof(struct child_info, pid)), &info.pid,
	                       sizeof(info) - offsetof(struct child_info, pid));
}

/* A descriptor for the awaited process, readable when it has ended, or -errno. */
static int end_of_process(const struct waitid *w)
{
	long fd;

	if (w->which == P_PIDFD)
		return fu_fd_dup_high(w->id);
	if (w->which != P_PID || (w->options & (WSTOPPED | WCONTINUED)))
		return -EINVAL;
	fd = fu_sys(NR_PIDFD_OPEN, w->id, 0);
	return fd < 0 ? (int)fd : fu_fd_high((int)fd);
}

/* Chooses how to wait. */
static int wait_later(struct fu_req *req, const struct waitid *w)
{
	int fd;

	if (req->flags & (FU_REQ_OWN_FD | FU_REQ_NO_ARM))
		return -EAGAIN;
	fd = end_of_process(w);
	if (fd >= 0) {
		req->fd = fd;
		req->flags |= FU_REQ_OWN_FD;
	}
	if (fd < 0 || (w->options & (WSTOPPED | WCONTINUED)))
		req->flags |= FU_REQ_NO_ARM;
	return -EAGAIN;
}

/* A wait that was cancelled has an answer too: nothing. */
void fu_waitid_fail(struct fu_req *req)
{
	const struct waitid *w = fu_cmd(req, struct waitid);
	siginfo_t none;

	if (!w->waiting || req->res != -ECANCELED)
		return;
	if (fu_req_left_behind(req)) {
		req->res = -EFAULT;
		return;
	}
	__builtin_memset(&none, 0, sizeof(none));
	if (give_info(w, &none))
		req->res = -EFAULT;
}

int fu_waitid_issue(struct fu_req *req, u32 issue_flags)
{
	struct waitid *w = fu_cmd(req, struct waitid);
	s32 id = w->id;
	siginfo_t si;
	long ret;

	if (w->which == P_PIDFD && (req->flags & FU_REQ_OWN_FD))
		id = req->fd;
	else if (w->which == P_PIDFD && fu_fd_is_engine(id))
		return -EBADF;
	__builtin_memset(&si, 0, sizeof(si));
	if (issue_flags & FU_ISSUE_NONBLOCK)
		ret = fu_sys(SYS_waitid, w->which, id, &si, w->options | WNOHANG, 0);
	else
		ret = fu_sys_block(&req->cancelled, SYS_waitid, (long)w->which, id, (long)&si,
		                   (long)w->options, 0, 0);
	if (ret == 0 && !si.si_pid && !(w->options & WNOHANG)) {
		w->waiting = true;
		return wait_later(req, w);
	}
	/* Arguments that are wrong in themselves leave the program's memory alone. */
	if (ret != -EINVAL && ret != -EBADF && give_info(w, &si))
		ret = -EFAULT;
	if (ret == -EINTR && fu_load_acquire(&req->cancelled))
		ret = -ECANCELED;
	if (ret < 0)
		return (int)ret;
	fu_req_result(req, 0, 0);
	return FU_DONE;
}
