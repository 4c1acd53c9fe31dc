/* URING_CMD on sockets. */
#include <errno.h>

#include "engine/uring_cmd.h"

int fu_socket_cmd(struct fu_req *req, u32 issue_flags)
{
	(void)req;
	(void)issue_flags;
	return -EOPNOTSUPP;
}
