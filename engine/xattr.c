/*
 * Extended attributes: FSETXATTR, SETXATTR, FGETXATTR, GETXATTR. Names and the values
 * to set are copied with the SQE; a worker does the rest.
 */
#include "engine/xattr.h"

#include <errno.h>
#include <sys/xattr.h>

#include "engine/path.h"
#include "engine/thread.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

#define NAME_BYTES     256U   /* XATTR_NAME_MAX and the NUL */
#define VALUE_MAX      65536U /* XATTR_SIZE_MAX */
#define SETXATTR_FLAGS (XATTR_CREATE | XATTR_REPLACE)

struct xattr {
	struct fu_path path;
	char *name;  /* NAME_BYTES of it */
	void *value; /* SETXATTR: our copy, else the program's buffer */
	u32 size;
	u32 flags;
	bool own_value;
};

void fu_xattr_cleanup(struct fu_req *req)
{
	struct xattr *x = fu_cmd(req, struct xattr);

	fu_path_put(&x->path);
	if (x->name)
		fu_free(x->name, NAME_BYTES);
	if (x->own_value)
		fu_free(x->value, x->size);
}

static struct xattr *start(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct xattr *x = fu_cmd(req, struct xattr);

	*x = (struct xattr){ .value = fu_ptr(sqe->addr2),
		             .size = sqe->len,
		             .flags = sqe->op_flags };
	req->flags |= FU_REQ_CLEANUP;
	return x;
}

/* An attribute's name: -ERANGE for one that is empty or too long. */
static int get_name(struct xattr *x, u64 user)
{
	long len;

	x->name = fu_alloc(NAME_BYTES);
	if (!x->name)
		return -ENOMEM;
	len = fu_strncpy_from_user(x->name, fu_ptr(user), NAME_BYTES);
	if (len == 0 || len == -ENAMETOOLONG)
		return -ERANGE;
	return len < 0 ? (int)len : 0;
}

static int prep_get(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct xattr *x = start(req, sqe);

	if (x->flags)
		return -EINVAL;
	return get_name(x, sqe->addr);
}

static int prep_set(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct xattr *x = start(req, sqe);
	void *copy;
	int ret;

	if (x->flags & ~(u32)SETXATTR_FLAGS)
		return -EINVAL;
	ret = get_name(x, sqe->addr);
	if (ret || !x->size)
		return ret;
	if (x->size > VALUE_MAX)
		return -E2BIG;
	copy = fu_alloc(x->size);
	if (!copy)
		return -ENOMEM;
	x->own_value = true;
	ret = fu_copy_from_user(copy, x->value, x->size);
	x->value = copy;
	return ret;
}

/* The path comes last, and from addr3. */
static int prep_path(struct fu_req *req, const struct fu_sqe *sqe,
                     int (*prep)(struct fu_req *, const struct fu_sqe *))
{
	int ret;

	if (req->flags & FU_REQ_FIXED_FILE)
		return -EBADF;
	ret = prep(req, sqe);
	return ret ? ret : fu_path_get(&fu_cmd(req, struct xattr)->path, sqe->addr3, false);
}

int fu_fgetxattr_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep_get(req, sqe);
}

int fu_getxattr_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep_path(req, sqe, prep_get);
}

int fu_fsetxattr_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep_set(req, sqe);
}

int fu_setxattr_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep_path(req, sqe, prep_set);
}

static int run(struct fu_req *req, long nr, long object)
{
	const struct xattr *x = fu_cmd(req, struct xattr);

	return fu_sys_any_result(req, fu_sys_block(&req->cancelled, nr, object, (long)x->name,
	                                           (long)x->value, x->size, x->flags, 0));
}

int fu_fgetxattr_issue(struct fu_req *req, u32 issue_flags)
{
	(void)issue_flags;
	return run(req, SYS_fgetxattr, req->fd);
}

int fu_getxattr_issue(struct fu_req *req, u32 issue_flags)
{
	(void)issue_flags;
	return run(req, SYS_getxattr, (long)fu_cmd(req, struct xattr)->path.s);
}

int fu_fsetxattr_issue(struct fu_req *req, u32 issue_flags)
{
	(void)issue_flags;
	return run(req, SYS_fsetxattr, req->fd);
}

int fu_setxattr_issue(struct fu_req *req, u32 issue_flags)
{
	(void)issue_flags;
	return run(req, SYS_setxattr, (long)fu_cmd(req, struct xattr)->path.s);
}
