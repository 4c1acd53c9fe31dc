/*
 * Descriptors that come and go: OPENAT, OPENAT2, CLOSE, FIXED_FD_INSTALL, PIPE.
 *
 * An open is tried at once as far as the name is in the kernel's cache
 * (RESOLVE_CACHED); what creates or truncates, or is not cached, goes to a worker.
 * The attempt is made with O_NONBLOCK, so that a FIFO or a device cannot hold it
 * up, and the flag taken off again.
 *
 * A direct descriptor is opened under an ordinary number for a moment, put into
 * the table, and the number closed again.
 */
#include "engine/openclose.h"

#include <errno.h>
#include <fcntl.h>

#include "engine/entry.h"
#include "engine/fileinfo.h"
#include "engine/host.h"
#include "engine/path.h"
#include "engine/register.h"
#include "engine/registry.h"
#include "engine/thread.h"
#include "rings/fds.h"
#include "rings/keep.h"
#include "rings/sys.h"
#include "rings/user.h"

#ifndef O_NOTIFICATION_PIPE
#define O_NOTIFICATION_PIPE O_EXCL
#endif

#define FASYNC_FLAG    020000U
#define LARGEFILE_FLAG 0100000U /* O_LARGEFILE: 0 in libc's headers */
#define TMPFILE_FLAG   020000000U
#define OPEN_FLAGS                                                                              \
	((u32)(O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK |      \
	       O_SYNC | O_DSYNC | O_DIRECT | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | \
	       O_PATH) |                                                                        \
	 FASYNC_FLAG | LARGEFILE_FLAG | TMPFILE_FLAG)
#define OPEN_PATH_FLAGS ((u64)(O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC))
#define SETFL_FLAGS     ((u64)(O_APPEND | O_DIRECT | O_NOATIME))
#define PIPE_FLAGS      ((u32)(O_CLOEXEC | O_NONBLOCK | O_DIRECT | O_NOTIFICATION_PIPE))

struct open {
	struct fu_path path; /* copied when it has to last */
	struct open_how how;
	s32 dfd;
	u32 slot; /* direct descriptor: its index + 1, or IORING_FILE_INDEX_ALLOC */
	bool has_how;
};

struct close {
	u32 slot;
	s32 fd;
};

struct install {
	u32 flags;
};

struct pipe {
	u64 fds;
	u32 flags;
	u32 slot;
};

/* ---- the table of direct descriptors, from any thread ---- */

static long install(struct fu_req *req, int fd, u32 slot, u32 issue_flags)
{
	long ret;

	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_lock(req->ctx);
	ret = fu_fixed_install(req->ctx, fd, slot);
	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_unlock(req->ctx);
	return ret;
}

static long uninstall(struct fu_req *req, u32 index, u32 issue_flags)
{
	long ret;

	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_lock(req->ctx);
	ret = fu_fixed_remove(req->ctx, index);
	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_unlock(req->ctx);
	return ret;
}

/* ---- OPENAT, OPENAT2 ---- */

static int open_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct open *open = fu_cmd(req, struct open);
	int ret;

	if (sqe->buf_index)
		return -EINVAL;
	if (req->flags & FU_REQ_FIXED_FILE)
		return -EBADF;
	open->dfd = sqe->fd;
	open->path.name = sqe->addr;
	open->slot = sqe->file_index;
	req->flags |= FU_REQ_CLEANUP;
	if (!open->slot || !(open->how.flags & O_CLOEXEC))
		return 0;
	ret = fu_openat_stable(req);
	return ret ? ret : -EINVAL;
}

int fu_openat_stable(struct fu_req *req)
{
	struct open *open = fu_cmd(req, struct open);

	return fu_path_keep(&open->path, false);
}

/* What open(2) makes of its arguments: unknown bits are ignored, and a mode that is not needed. */
int fu_openat_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct open *open = fu_cmd(req, struct open);
	u64 flags = sqe->op_flags & OPEN_FLAGS;

	__builtin_memset(open, 0, sizeof(*open));
	if (flags & O_PATH)
		flags &= OPEN_PATH_FLAGS;
	open->how.flags = flags;
	if (flags & (O_CREAT | TMPFILE_FLAG))
		open->how.mode = sqe->len & 07777;
	return open_prep(req, sqe);
}

/* A structure of the program's size: what we do not know must be zero. */
static int get_how(struct open_how *how, u64 user, u32 bytes)
{
	u8 rest[256];

	if (bytes < sizeof(*how))
		return -EINVAL;
	if (fu_copy_from_user(how, fu_ptr(user), sizeof(*how)))
		return -EFAULT;
	for (u32 at = sizeof(*how); at < bytes;) {
		u32 step = bytes - at < sizeof(rest) ? bytes - at : (u32)sizeof(rest);

		if (fu_copy_from_user(rest, fu_ptr(user + at), step))
			return -EFAULT;
		for (u32 i = 0; i < step; i++) {
			if (rest[i])
				return -E2BIG;
		}
		at += step;
	}
	return 0;
}

int fu_openat2_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct open *open = fu_cmd(req, struct open);
	int ret;

	__builtin_memset(open, 0, sizeof(*open));
	open->has_how = true;
	if (fu_host_lacks(IORING_OP_OPENAT2))
		return -EINVAL;
	ret = get_how(&open->how, sqe->addr2, sqe->len);
	return ret ? ret : open_prep(req, sqe);
}

void fu_openat_cleanup(struct fu_req *req)
{
	fu_path_put(&fu_cmd(req, struct open)->path);
}

/* Opens a cached name, or -EAGAIN when only a worker can tell. */
static long open_cached(const struct open *open)
{
	struct open_how how = open->how;
	bool added = !(how.flags & (O_NONBLOCK | O_PATH));
	long ret;

	if (how.flags & (O_CREAT | O_TRUNC | TMPFILE_FLAG))
		return -EAGAIN;
	how.resolve |= RESOLVE_CACHED;
	if (added)
		how.flags |= O_NONBLOCK;
	if (open->slot)
		how.flags |= O_CLOEXEC;
	ret = fu_sys(SYS_openat2, open->dfd, fu_path_text(&open->path), &how, sizeof(how));
	/* These may mean that the kernel or a sandbox does not know the call or the flag. */
	if (ret == -EINVAL || fu_host_denied(SYS_openat2, ret) || ret == -EPERM)
		return -EAGAIN;
	if (ret >= 0 && added)
		fu_sys(SYS_fcntl, ret, F_SETFL, how.flags & SETFL_FLAGS);
	return ret;
}

static long open_blocking(void *arg, u64 old_limit)
{
	struct fu_req *req = arg;
	const struct open *open = fu_cmd(req, struct open);
	struct open_how how = open->how;

	(void)old_limit;
	if (open->slot)
		how.flags |= O_CLOEXEC;
	if (open->has_how)
		return fu_sys_block(&req->cancelled, SYS_openat2, open->dfd, (long)open->path.s,
		                    (long)&how, sizeof(how), 0, 0);
	return fu_sys_block(&req->cancelled, SYS_openat, open->dfd, (long)open->path.s,
	                    (long)how.flags, (long)how.mode, 0, 0);
}

int fu_openat_issue(struct fu_req *req, u32 issue_flags)
{
	const struct open *open = fu_cmd(req, struct open);
	long fd, ret;

	if (fu_dirfd_check(open->dfd))
		return -EBADF;
	/* On a worker -EAGAIN is the result: the program itself asked not to wait. */
	fd = issue_flags & FU_ISSUE_WORKER ? open_blocking(req, 0) : open_cached(open);
	/* Direct descriptors do not count among the process's. */
	if (fd == -EMFILE && open->slot) {
		if (!(issue_flags & FU_ISSUE_WORKER))
			return -EAGAIN;
		fd = fu_fds_lifted(open_blocking, req);
	}
	if (fd < 0)
		return fd == -EINTR ? -ERESTARTSYS : (int)fd;
	fu_file_forget((int)fd);
	if (!open->slot)
		return fu_sys_result(req, fd);
	ret = install(req, (int)fd, open->slot, issue_flags);
	fu_fd_close_moment((int)fd);
	return fu_sys_result(req, ret);
}

/* ---- CLOSE ---- */

int fu_close_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct close *close = fu_cmd(req, struct close);

	if (sqe->off || sqe->addr || sqe->len || sqe->op_flags || sqe->buf_index)
		return -EINVAL;
	if (req->flags & FU_REQ_FIXED_FILE)
		return -EBADF;
	*close = (struct close){ .slot = sqe->file_index, .fd = sqe->fd };
	return close->slot && close->fd ? -EINVAL : 0;
}

int fu_close_issue(struct fu_req *req, u32 issue_flags)
{
	const struct close *close = fu_cmd(req, struct close);
	long ret;

	if (close->slot)
		return fu_sys_result(req, uninstall(req, close->slot - 1, issue_flags));
	/* A ring cannot be closed by a request. */
	if (fu_fd_is_engine(close->fd) || fu_fd_names_ring(close->fd))
		return -EBADF;
	fu_fd_closing();
	ret = fu_sys(SYS_close, close->fd);
	if (ret != -EBADF)
		fu_fd_closed(close->fd);
	return fu_sys_result(req, ret);
}

/* ---- FIXED_FD_INSTALL ---- */

int fu_fixed_fd_install_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct install *in = fu_cmd(req, struct install);

	if (sqe->off || sqe->addr || sqe->len || sqe->buf_index || sqe->splice_fd_in || sqe->addr3)
		return -EINVAL;
	if (!(req->flags & FU_REQ_FIXED_FILE))
		return -EBADF;
	in->flags = sqe->op_flags;
	if (in->flags & ~IORING_FIXED_FD_NO_CLOEXEC)
		return -EINVAL;
	/* The descriptor becomes the submitter's: with its own credentials only. */
	return req->creds ? -EPERM : 0;
}

int fu_fixed_fd_install_issue(struct fu_req *req, u32 issue_flags)
{
	const struct install *in = fu_cmd(req, struct install);
	long ret = fu_sys(SYS_fcntl, req->fd,
	                  in->flags & IORING_FIXED_FD_NO_CLOEXEC ? F_DUPFD : F_DUPFD_CLOEXEC, 0);

	(void)issue_flags;
	/* With a limit of 0 already the number to begin at is wrong. */
	if (ret == -EINVAL)
		ret = -EMFILE;
	if (ret >= 0)
		fu_file_forget((int)ret);
	return fu_sys_result(req, ret);
}

/* ---- PIPE ---- */

int fu_pipe_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct pipe *pipe = fu_cmd(req, struct pipe);

	if (sqe->fd || sqe->off || sqe->addr3)
		return -EINVAL;
	*pipe = (struct pipe){ .fds = sqe->addr, .flags = sqe->op_flags, .slot = sqe->file_index };
	return pipe->flags & ~PIPE_FLAGS ? -EINVAL : 0;
}

/* Both ends into the table; the program gets the indices. */
static long install_pipe(struct fu_req *req, const struct pipe *pipe, const s32 fds[2],
                         u32 issue_flags)
{
	bool alloc = pipe->slot == IORING_FILE_INDEX_ALLOC;
	s32 index[2] = { -1, -1 };
	long ret = 0;

	for (int i = 0; i < 2; i++) {
		ret = install(req, fds[i], alloc ? pipe->slot : pipe->slot + (u32)i, issue_flags);
		if (ret < 0)
			break;
		index[i] = (s32)(alloc ? ret : (long)pipe->slot - 1 + i);
	}
	if (ret >= 0)
		ret = fu_copy_to_user(fu_ptr(pipe->fds), index, sizeof(index));
	for (int i = 0; ret < 0 && i < 2; i++) {
		if (index[i] >= 0)
			uninstall(req, (u32)index[i], issue_flags);
	}
	return ret;
}

struct new_pipe {
	u32 flags;
	s32 fds[2];
};

static long make_pipe(void *arg, u64 old_limit)
{
	struct new_pipe *np = arg;

	(void)old_limit;
	return fu_sys(SYS_pipe2, np->fds, np->flags);
}

int fu_pipe_issue(struct fu_req *req, u32 issue_flags)
{
	const struct pipe *pipe = fu_cmd(req, struct pipe);
	struct new_pipe np = { .flags = pipe->flags | O_CLOEXEC };
	long ret;

	if (!pipe->slot)
		return fu_sys_result(req, fu_sys(SYS_pipe2, pipe->fds, pipe->flags));
	/* A direct descriptor is not inherited anyway. */
	if (pipe->flags & O_CLOEXEC)
		return -EINVAL;
	ret = make_pipe(&np, 0);
	if (ret == -EMFILE)
		ret = fu_fds_lifted(make_pipe, &np);
	if (ret < 0)
		return (int)ret;
	ret = install_pipe(req, pipe, np.fds, issue_flags);
	fu_sys(SYS_close, np.fds[0]);
	fu_sys(SYS_close, np.fds[1]);
	return fu_sys_result(req, ret);
}
