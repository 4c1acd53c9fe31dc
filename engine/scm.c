/*
 * Descriptors in a message. The kernel lets no ring travel over a socket, since a ring that
 * holds the socket it lies in would never end; neither do we.
 */
#include <errno.h>
#include <sys/socket.h>

#include "engine/entry.h"
#include "engine/net.h"
#include "engine/registry.h"
#include "rings/sys.h"
#include "rings/user.h"

#define FDS_AT_ONCE 64U
/* More than a message may carry. */
#define MAX_FDS     1024U
#define MAX_HEADERS 64U

/* Whether one of the `nr` descriptors at `user` is a ring. */
static bool has_ring(u64 user, u64 nr)
{
	s32 fds[FDS_AT_ONCE];

	if (nr > MAX_FDS)
		return false;
	while (nr) {
		u32 n = nr < FDS_AT_ONCE ? (u32)nr : FDS_AT_ONCE;

		if (fu_copy_from_user(fds, fu_ptr(user), n * sizeof(fds[0])))
			return false;
		for (u32 i = 0; i < n; i++) {
			if (fu_fd_names_ring(fds[i]))
				return true;
		}
		user += n * sizeof(fds[0]);
		nr -= n;
	}
	return false;
}

int fu_msg_check(int sock, const void *user_msg)
{
	struct msghdr msg;
	u64 at, end;

	if (!fu_have_rings() || fu_copy_from_user(&msg, user_msg, sizeof(msg)))
		return 0;
	at = (u64)(uintptr_t)msg.msg_control;
	end = at + msg.msg_controllen;
	for (u32 i = 0; i < MAX_HEADERS && end - at >= sizeof(struct cmsghdr) && at < end; i++) {
		struct cmsghdr c;

		if (fu_copy_from_user(&c, fu_ptr(at), sizeof(c)) || c.cmsg_len < sizeof(c) ||
		    c.cmsg_len > end - at)
			return 0;
		if (c.cmsg_level == SOL_SOCKET && c.cmsg_type == SCM_RIGHTS &&
		    has_ring(at + sizeof(c), (c.cmsg_len - sizeof(c)) / sizeof(s32)))
			return fu_sock_option(sock, SO_DOMAIN) == AF_UNIX ? -EINVAL : 0;
		at += CMSG_ALIGN(c.cmsg_len);
	}
	return 0;
}
