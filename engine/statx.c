/*
 * STATX. Where the name is in the kernel's cache and the file on a file system that knows
 * about it without asking anybody (devices.c), it is done at once; else it may have to read the
 * inode or to ask a server, and a worker runs it.
 *
 * The file is found without reading it (O_PATH), then its device asked for, with nothing else,
 * which no file system has to ask anybody for that can do without. Only on a local device does what
 * follows write to the program's buffer.
 */
#include "engine/statx.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "engine/devices.h"
#include "engine/host.h"
#include "engine/path.h"
#include "engine/thread.h"
#include "rings/sys.h"

/* What is done at once has only these: everything else may take time, or is not known here. */
#define PLAIN_FLAGS \
	((u32)(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_DONT_SYNC))
#define MNT_ID        0x1000U
#define MNT_ID_UNIQUE 0x4000U
#define SUBVOL        0x8000U
#define PLAIN_MASK    (STATX_BASIC_STATS | STATX_BTIME | MNT_ID | MNT_ID_UNIQUE | SUBVOL)

#define BACKOFF_MAX 6U

struct statx_cmd {
	struct fu_path path; /* copied when it has to last, or may be empty */
	u64 buffer;
	s32 dfd;
	u32 mask;
	u32 flags;
	bool learn; /* its device is not known yet */
};

/* After files that are not local ones comes a number of requests that are not tried. Relaxed. */
static u32 to_skip, backoff;
static bool refused; /* the kernel cannot look up in its cache only; relaxed */

int fu_statx_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct statx_cmd *sx = fu_cmd(req, struct statx_cmd);

	if (fu_host_lacks(IORING_OP_STATX) || sqe->buf_index || sqe->splice_fd_in)
		return -EINVAL;
	if (req->flags & FU_REQ_FIXED_FILE)
		return -EBADF;
	*sx = (struct statx_cmd){ .path.name = sqe->addr,
		                  .buffer = sqe->addr2,
		                  .dfd = sqe->fd,
		                  .mask = sqe->len,
		                  .flags = sqe->op_flags };
	req->flags |= FU_REQ_CLEANUP;
	return sx->flags & AT_EMPTY_PATH ? fu_statx_stable(req) : 0;
}

int fu_statx_stable(struct fu_req *req)
{
	struct statx_cmd *sx = fu_cmd(req, struct statx_cmd);

	return fu_path_keep(&sx->path, sx->flags & AT_EMPTY_PATH);
}

static u64 open_flags(const struct statx_cmd *sx)
{
	return O_PATH | O_CLOEXEC | (sx->flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0);
}

static bool is_skipped(void)
{
	u32 left = fu_load_relaxed(&to_skip);

	if (left)
		fu_store_relaxed(&to_skip, left - 1);
	return left;
}

static void found(bool is_local)
{
	u32 b = fu_load_relaxed(&backoff);

	if (is_local && b) {
		fu_store_relaxed(&backoff, 0);
	} else if (!is_local) {
		fu_store_relaxed(&to_skip, 1U << b);
		if (b < BACKOFF_MAX)
			fu_store_relaxed(&backoff, b + 1);
	}
}

/* The answer for the file of `fd` if it comes without waiting, else -EAGAIN. */
static long ask(struct statx_cmd *sx, int fd)
{
	struct statx st;
	enum fu_device kind;

	if (fu_sys(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) < 0)
		return -EAGAIN;
	kind = fu_device_kind(st.stx_dev_major, st.stx_dev_minor);
	sx->learn = kind == FU_DEVICE_UNKNOWN;
	if (!sx->learn)
		found(kind == FU_DEVICE_LOCAL);
	if (kind != FU_DEVICE_LOCAL)
		return -EAGAIN;
	return fu_sys(SYS_statx, fd, "", (sx->flags & ~(u32)AT_SYMLINK_NOFOLLOW) | AT_EMPTY_PATH,
	              sx->mask, sx->buffer);
}

/* What a lookup in the cache says as any other would. */
static bool is_final(long ret)
{
	return ret == -ENOENT || ret == -ENOTDIR || ret == -ELOOP || ret == -ENAMETOOLONG ||
	       ret == -EBADF || (ret == -EACCES && !fu_host_denied(SYS_openat2, ret));
}

static long statx_now(struct statx_cmd *sx)
{
	struct open_how how = { .flags = open_flags(sx), .resolve = RESOLVE_CACHED };
	long fd, ret;

	if ((sx->flags & ~PLAIN_FLAGS) || (sx->mask & ~PLAIN_MASK) || fu_load_relaxed(&refused) ||
	    fu_host_lacks(IORING_OP_OPENAT2) || is_skipped())
		return -EAGAIN;
	if (sx->path.s && !sx->path.s[0])
		return ask(sx, sx->dfd);
	fd = fu_sys(SYS_openat2, sx->dfd, fu_path_text(&sx->path), &how, sizeof(how));
	if (fd < 0) {
		if (fd == -EINVAL)
			fu_store_relaxed(&refused, true);
		return is_final(fd) ? fd : -EAGAIN;
	}
	ret = ask(sx, (int)fd);
	fu_sys(SYS_close, fd);
	return ret;
}

/* On a worker: what the next one will want to know of the device. */
static void learn(const struct fu_req *req, const struct statx_cmd *sx)
{
	const char *name = sx->path.s[0] ? sx->path.s : ".";
	long fd;

	if (!sx->path.s[0] && sx->dfd != AT_FDCWD) {
		fu_device_learn(sx->dfd);
		return;
	}
	fd = fu_sys_block(&req->cancelled, SYS_openat, sx->dfd, (long)name, (long)open_flags(sx), 0,
	                  0, 0);
	if (fd < 0)
		return;
	fu_device_learn((int)fd);
	fu_sys(SYS_close, fd);
}

int fu_statx_issue(struct fu_req *req, u32 issue_flags)
{
	struct statx_cmd *sx = fu_cmd(req, struct statx_cmd);
	long ret;

	if (fu_dirfd_check(sx->dfd))
		return fu_sys_any_result(req, -EBADF);
	if (!(issue_flags & FU_ISSUE_WORKER)) {
		ret = statx_now(sx);
		return ret == -EAGAIN ? -EAGAIN : fu_sys_any_result(req, ret);
	}
	ret = fu_sys_block(&req->cancelled, SYS_statx, sx->dfd, (long)sx->path.s, sx->flags,
	                   sx->mask, (long)sx->buffer, 0);
	if (sx->learn && !ret)
		learn(req, sx);
	return fu_sys_any_result(req, ret);
}

void fu_statx_cleanup(struct fu_req *req)
{
	fu_path_put(&fu_cmd(req, struct statx_cmd)->path);
}
