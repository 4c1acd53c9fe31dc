/* Copies of path names; see path.h. */
#include "engine/path.h"

#include <errno.h>

#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/user.h"

#define SHORT_PATH 256U
#define LONGEST    4096U /* PATH_MAX, the NUL included */

int fu_path_get(struct fu_path *path, u64 user, bool empty_ok)
{
	long len = -ENAMETOOLONG;

	for (u32 bytes = SHORT_PATH; len == -ENAMETOOLONG && bytes <= LONGEST;
	     bytes = bytes == SHORT_PATH ? LONGEST : LONGEST + 1) {
		fu_path_put(path);
		path->s = fu_alloc(bytes);
		if (!path->s)
			return -ENOMEM;
		path->bytes = bytes;
		len = fu_strncpy_from_user(path->s, fu_ptr(user), bytes);
	}
	if (!len && !empty_ok)
		len = -ENOENT;
	if (len < 0) {
		fu_path_put(path);
		return (int)len;
	}
	return 0;
}

int fu_path_keep(struct fu_path *path, bool empty_ok)
{
	return path->s ? 0 : fu_path_get(path, path->name, empty_ok);
}

void fu_path_put(struct fu_path *path)
{
	if (path->s)
		fu_free(path->s, path->bytes);
	path->s = NULL;
}

int fu_dirfd_check(int dfd)
{
	return fu_fd_is_engine(dfd) ? -EBADF : 0;
}
