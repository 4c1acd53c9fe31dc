/*
 * Path names in requests. The kernel copies them while it takes the SQE, so a program may
 * free them as soon as it has submitted; so do we.
 */
#ifndef FU_PATH_H
#define FU_PATH_H

#include <errno.h>
#include <fcntl.h>

#include <linux/openat2.h>

#include "engine/engine.h"
#include "rings/sys.h"

#ifndef RESOLVE_CACHED
#define RESOLVE_CACHED 0x20
#endif

struct fu_path {
	char *s;  /* NULL: nothing held */
	u64 name; /* as the program has it, of one that is copied only when it has to last */
	u32 bytes;
};

/*
 * Copies the path at `user`. 0, -EFAULT, -ENAMETOOLONG, -ENOMEM, or -ENOENT for an empty one
 * unless `empty_ok`.
 */
int fu_path_get(struct fu_path *path, u64 user, bool empty_ok);
/* The same of one that has only a name so far, if that is so. */
int fu_path_keep(struct fu_path *path, bool empty_ok);
void fu_path_put(struct fu_path *path);
/* For a system call: the copy, or what the program has. */
static inline const char *fu_path_text(const struct fu_path *path)
{
	return path->s ? path->s : fu_ptr(path->name);
}

/* -EBADF if a directory descriptor is the engine's own, which does not exist for the program. */
int fu_dirfd_check(int dfd);

/* The end of a request whose system call returned `ret`: the result, or -errno. */
static inline int fu_sys_result(struct fu_req *req, long ret)
{
	if (ret < 0)
		return (int)ret;
	fu_req_result(req, (s32)ret, 0);
	return FU_DONE;
}

/*
 * The same for operations whose failure the kernel takes for a result like any other: it breaks
 * no link, and is passed over in silence where success would be. Only a descriptor that is not
 * there does, and being interrupted.
 */
static inline int fu_sys_any_result(struct fu_req *req, long ret)
{
	bool no_file =
	        ret == -EBADF && req->op->needs_file && fu_sys(SYS_fcntl, req->fd, F_GETFL) < 0;

	if (ret == -EINTR || no_file)
		return (int)ret;
	fu_req_result(req, (s32)ret, 0);
	return FU_DONE;
}

#endif
