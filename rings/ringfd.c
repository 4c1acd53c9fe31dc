/*
 * The ring's descriptor: one end of a socket pair. The program holds that end
 * under whatever number, duplicated, inherited or sent elsewhere; the engine holds
 * the peer. A socket is pollable in both directions, its inode number tells the
 * ring, and the peer sees a hang-up when the last reference anywhere is gone.
 *
 * Readable means "there are CQEs". A byte sent from the peer raises it, and only
 * the program's end can take the byte out again, so lowering needs that number.
 */
#include "rings/ring.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "rings/fds.h"
#include "rings/sys.h"

int fu_ringfd_create(int *prog, int *peer, u64 *ino)
{
	int sv[2];
	struct stat st;
	long ret =
	        fu_sys(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv);

	if (ret < 0)
		return (int)ret;
	ret = fu_sys(SYS_fstat, sv[0], &st);
	if (ret < 0) {
		fu_sys(SYS_close, sv[0]);
		fu_sys(SYS_close, sv[1]);
		return (int)ret;
	}
	*prog = sv[0];
	*peer = fu_fd_high(sv[1]);
	*ino = st.st_ino;
	return 0;
}

bool fu_ringfd_hung_up(int peer)
{
	struct pollfd pfd = { .fd = peer };

	return fu_sys(SYS_poll, &pfd, 1, 0) > 0 && (pfd.revents & (POLLHUP | POLLERR));
}

/* A sandbox without network: then the calls of files have to do. */
static bool is_denied(long ret)
{
	return ret == -EPERM || ret == -ENOSYS || ret == -EACCES;
}

bool fu_ringfd_raise(struct fu_ctrl *ctrl, int peer)
{
	u32 raising = FU_RAISING;
	long ret;

	__atomic_store_n(&ctrl->raised, FU_RAISING, __ATOMIC_SEQ_CST);
	ret = fu_sys(SYS_sendto, peer, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
	/* The other would raise SIGPIPE if the program's end were gone. */
	if (is_denied(ret) && !fu_ringfd_hung_up(peer))
		ret = fu_sys(SYS_write, peer, "", 1);
	/* When it has been lowered meanwhile its byte may have come too late for that: whoever
	 * looks next lowers it again. To raise it is left to those who have something to tell. */
	if (!__atomic_compare_exchange_n(&ctrl->raised, &raising, FU_RAISED, false,
	                                 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) &&
	    !raising)
		__atomic_store_n(&ctrl->late, 1, __ATOMIC_SEQ_CST);
	return ret != -EAGAIN;
}

static void take_bytes(int fd)
{
	char sink[256];
	long got;

	do {
		got = fu_sys(SYS_recvfrom, fd, sink, sizeof(sink), MSG_DONTWAIT, 0, 0);
		if (is_denied(got))
			got = fu_sys(SYS_read, fd, sink, sizeof(sink));
	} while (got == (long)sizeof(sink));
}

void fu_ringfd_lower(struct fu_ctrl *ctrl, int fd)
{
	u32 late = __atomic_exchange_n(&ctrl->late, 0, __ATOMIC_SEQ_CST);

	if (!__atomic_exchange_n(&ctrl->raised, 0, __ATOMIC_SEQ_CST) && !late)
		return;
	/* Who has raised it since may have had his byte taken out with the others: he must not say
	 * that it is raised. */
	do
		take_bytes(fd);
	while (__atomic_exchange_n(&ctrl->raised, 0, __ATOMIC_SEQ_CST));
}
