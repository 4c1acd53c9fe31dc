/*
 * sendmsg and sendmmsg: a message that would pass a ring on is refused, as the kernel does.
 * Everything else is the kernel's.
 */
#include <errno.h>
#include <sys/socket.h>
#include "engine/entry.h"
#include "preload/export.h"
#include "preload/init.h"
#include "preload/io.h"
#include "preload/messages.h"
#include "preload/next.h"
#include "rings/sys.h"

u32 fu_messages_allowed(int fd, const struct mmsghdr *msgs, u32 n)
{
	u32 i = 0;

	while (i < n && fu_msg_check(fd, &msgs[i].msg_hdr) == 0) {
		i++;
	}
	return i;
}

FU_EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	fu_init();
	if (fu_have_rings() && fu_msg_check(fd, msg)) {
		errno = EINVAL;
		return -1;
	}
	return fu_io_wrote(fu_next.sendmsg(fd, msg, flags));
}

FU_EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	fu_init();
	if (fu_have_rings() && n) {
		n = fu_messages_allowed(fd, msgs, n);
		if (!n) {
			errno = EINVAL;
			return -1;
		}
	}
	return (int)fu_io_wrote(fu_next.sendmmsg(fd, msgs, n, flags));
}
