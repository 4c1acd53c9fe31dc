/*
 * Operations on names: RENAMEAT, UNLINKAT, MKDIRAT, SYMLINKAT, LINKAT. They change
 * directories and may wait for the disk, so a worker runs them.
 */
#include "engine/fs.h"

#include <errno.h>
#include <fcntl.h>

#include "engine/path.h"
#include "engine/thread.h"
#include "rings/sys.h"

/* One or two names, each relative to a directory. */
struct fs {
	struct fu_path path[2];
	s32 dfd[2];
	u32 flags;
	u32 mode;
};

static struct fs *start(struct fu_req *req)
{
	struct fs *fs = fu_cmd(req, struct fs);

	*fs = (struct fs){ .dfd = { AT_FDCWD, AT_FDCWD } };
	req->flags |= FU_REQ_CLEANUP;
	return fs;
}

void fu_fs_cleanup(struct fu_req *req)
{
	struct fs *fs = fu_cmd(req, struct fs);

	fu_path_put(&fs->path[0]);
	fu_path_put(&fs->path[1]);
}

/* Both names, in the kernel's order. */
static int get_paths(struct fs *fs, const struct fu_sqe *sqe, bool first_may_be_empty)
{
	int ret = fu_path_get(&fs->path[0], sqe->addr, first_may_be_empty);

	return ret ? ret : fu_path_get(&fs->path[1], sqe->addr2, false);
}

static int check(struct fu_req *req, const struct fu_sqe *sqe, u64 must_be_zero)
{
	if (must_be_zero || sqe->buf_index || sqe->splice_fd_in)
		return -EINVAL;
	return req->flags & FU_REQ_FIXED_FILE ? -EBADF : 0;
}

static int run(struct fu_req *req, long nr, long a, long b, long c, long d, long e)
{
	const struct fs *fs = fu_cmd(req, struct fs);

	if (fu_dirfd_check(fs->dfd[0]) || fu_dirfd_check(fs->dfd[1]))
		return fu_sys_any_result(req, -EBADF);
	return fu_sys_any_result(req, fu_sys_block(&req->cancelled, nr, a, b, c, d, e, 0));
}

int fu_renameat_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	int ret = check(req, sqe, 0);
	struct fs *fs;

	if (ret)
		return ret;
	fs = start(req);
	fs->dfd[0] = sqe->fd;
	fs->dfd[1] = (s32)sqe->len;
	fs->flags = sqe->op_flags;
	return get_paths(fs, sqe, false);
}

int fu_renameat_issue(struct fu_req *req, u32 issue_flags)
{
	const struct fs *fs = fu_cmd(req, struct fs);

	(void)issue_flags;
	return run(req, SYS_renameat2, fs->dfd[0], (long)fs->path[0].s, fs->dfd[1],
	           (long)fs->path[1].s, fs->flags);
}

int fu_unlinkat_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	int ret = check(req, sqe, sqe->off || sqe->len);
	struct fs *fs;

	if (ret)
		return ret;
	fs = start(req);
	fs->dfd[0] = sqe->fd;
	fs->flags = sqe->op_flags;
	if (fs->flags & ~(u32)AT_REMOVEDIR)
		return -EINVAL;
	return fu_path_get(&fs->path[0], sqe->addr, false);
}

int fu_unlinkat_issue(struct fu_req *req, u32 issue_flags)
{
	const struct fs *fs = fu_cmd(req, struct fs);

	(void)issue_flags;
	return run(req, SYS_unlinkat, fs->dfd[0], (long)fs->path[0].s, fs->flags, 0, 0);
}

int fu_mkdirat_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	int ret = check(req, sqe, sqe->off || sqe->op_flags);
	struct fs *fs;

	if (ret)
		return ret;
	fs = start(req);
	fs->dfd[0] = sqe->fd;
	fs->mode = sqe->len;
	return fu_path_get(&fs->path[0], sqe->addr, false);
}

int fu_mkdirat_issue(struct fu_req *req, u32 issue_flags)
{
	const struct fs *fs = fu_cmd(req, struct fs);

	(void)issue_flags;
	return run(req, SYS_mkdirat, fs->dfd[0], (long)fs->path[0].s, fs->mode, 0, 0);
}

int fu_symlinkat_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	int ret = check(req, sqe, sqe->len || sqe->op_flags);
	struct fs *fs;

	if (ret)
		return ret;
	fs = start(req);
	fs->dfd[1] = sqe->fd;
	return get_paths(fs, sqe, false);
}

int fu_symlinkat_issue(struct fu_req *req, u32 issue_flags)
{
	const struct fs *fs = fu_cmd(req, struct fs);

	(void)issue_flags;
	return run(req, SYS_symlinkat, (long)fs->path[0].s, fs->dfd[1], (long)fs->path[1].s, 0, 0);
}

int fu_linkat_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	int ret = check(req, sqe, 0);
	struct fs *fs;

	if (ret)
		return ret;
	fs = start(req);
	fs->dfd[0] = sqe->fd;
	fs->dfd[1] = (s32)sqe->len;
	fs->flags = sqe->op_flags;
	return get_paths(fs, sqe, fs->flags & AT_EMPTY_PATH);
}

int fu_linkat_issue(struct fu_req *req, u32 issue_flags)
{
	const struct fs *fs = fu_cmd(req, struct fs);

	(void)issue_flags;
	return run(req, SYS_linkat, fs->dfd[0], (long)fs->path[0].s, fs->dfd[1],
	           (long)fs->path[1].s, fs->flags);
}
