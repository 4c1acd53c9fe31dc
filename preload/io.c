/*
 * Reading and writing. In the kernel a poll sees each wake-up of a file when it happens; an
 * epoll set tells only what is still true when somebody asks. So the engine asks before this
 * program takes something out of a file that it polls, and after it has put something into one,
 * as long as there are such polls. It also asks after a thread has put something into a file whose
 * own requests wait for one: what follows is done when the call returns. Otherwise these cost a
 * few loads. stdio's own calls stay within libc, where nobody stands in front of them.
 */
#include <errno.h>
#include <sys/sendfile.h>
#include "engine/entry.h"
#include "preload/export.h"
#include "preload/init.h"
#include "preload/io.h"
#include "preload/next.h"

static inline void reads(int fd)
{
	fu_init();
	fu_fd_reads(fd);
}

ssize_t fu_io_wrote(ssize_t ret)
{
	int saved = errno;

	fu_fd_written();
	errno = saved;
	return ret;
}

FU_EXPORT ssize_t read(int fd, void *buf, size_t bytes)
{
	reads(fd);
	return fu_next.read(fd, buf, bytes);
}

ssize_t __read_chk(int fd, void *buf, size_t bytes, size_t room);
FU_EXPORT ssize_t __read_chk(int fd, void *buf, size_t bytes, size_t room)
{
	reads(fd);
	return fu_next.__read_chk(fd, buf, bytes, room);
}

FU_EXPORT ssize_t readv(int fd, const struct iovec *iov, int n)
{
	reads(fd);
	return fu_next.readv(fd, iov, n);
}

FU_EXPORT ssize_t recv(int fd, void *buf, size_t bytes, int flags)
{
	reads(fd);
	return fu_next.recv(fd, buf, bytes, flags);
}

ssize_t __recv_chk(int fd, void *buf, size_t bytes, size_t room, int flags);
FU_EXPORT ssize_t __recv_chk(int fd, void *buf, size_t bytes, size_t room, int flags)
{
	reads(fd);
	return fu_next.__recv_chk(fd, buf, bytes, room, flags);
}

FU_EXPORT ssize_t recvfrom(int fd, void *buf, size_t bytes, int flags, struct sockaddr *from,
                           socklen_t *len)
{
	reads(fd);
	return fu_next.recvfrom(fd, buf, bytes, flags, from, len);
}

ssize_t __recvfrom_chk(int fd, void *buf, size_t bytes, size_t room, int flags,
                       struct sockaddr *from, socklen_t *len);
FU_EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t bytes, size_t room, int flags,
                                 struct sockaddr *from, socklen_t *len)
{
	reads(fd);
	return fu_next.__recvfrom_chk(fd, buf, bytes, room, flags, from, len);
}

FU_EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	reads(fd);
	return fu_next.recvmsg(fd, msg, flags);
}

FU_EXPORT int recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags,
                       struct timespec *timeout)
{
	reads(fd);
	return fu_next.recvmmsg(fd, msgs, n, flags, timeout);
}

FU_EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	reads(fd);
	return fu_next.accept(fd, addr, len);
}

FU_EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	reads(fd);
	return fu_next.accept4(fd, addr, len, flags);
}

FU_EXPORT int eventfd_read(int fd, eventfd_t *value)
{
	reads(fd);
	return fu_next.eventfd_read(fd, value);
}

FU_EXPORT ssize_t write(int fd, const void *buf, size_t bytes)
{
	fu_init();
	return fu_io_wrote(fu_next.write(fd, buf, bytes));
}

FU_EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
	fu_init();
	return fu_io_wrote(fu_next.writev(fd, iov, n));
}

FU_EXPORT ssize_t send(int fd, const void *buf, size_t bytes, int flags)
{
	fu_init();
	return fu_io_wrote(fu_next.send(fd, buf, bytes, flags));
}

FU_EXPORT ssize_t sendto(int fd, const void *buf, size_t bytes, int flags,
                         const struct sockaddr *to, socklen_t len)
{
	fu_init();
	return fu_io_wrote(fu_next.sendto(fd, buf, bytes, flags, to, len));
}

FU_EXPORT int eventfd_write(int fd, eventfd_t value)
{
	fu_init();
	return (int)fu_io_wrote(fu_next.eventfd_write(fd, value));
}

FU_EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	fu_init();
	return (int)fu_io_wrote(fu_next.connect(fd, addr, len));
}

FU_EXPORT int shutdown(int fd, int how)
{
	fu_init();
	return (int)fu_io_wrote(fu_next.shutdown(fd, how));
}

/* With an offset of -1 these two are for pipes and sockets as well. */
FU_EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	reads(fd);
	if (!fu_next.preadv2) {
		errno = ENOSYS;
		return -1;
	}
	return fu_next.preadv2(fd, iov, n, off, flags);
}

FU_EXPORT ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off_t off, int flags)
        __attribute__((alias("preadv2")));

FU_EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	fu_init();
	if (!fu_next.pwritev2) {
		errno = ENOSYS;
		return -1;
	}
	return fu_io_wrote(fu_next.pwritev2(fd, iov, n, off, flags));
}

FU_EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off_t off, int flags)
        __attribute__((alias("pwritev2")));

FU_EXPORT ssize_t splice(int in, off64_t *off_in, int out, off64_t *off_out, size_t bytes,
                         unsigned flags)
{
	reads(in);
	return fu_io_wrote(fu_next.splice(in, off_in, out, off_out, bytes, flags));
}

FU_EXPORT ssize_t tee(int in, int out, size_t bytes, unsigned flags)
{
	fu_init();
	return fu_io_wrote(fu_next.tee(in, out, bytes, flags));
}

/* Into a pipe or, at its other end, out of it. */
FU_EXPORT ssize_t vmsplice(int fd, const struct iovec *iov, size_t n, unsigned flags)
{
	reads(fd);
	return fu_io_wrote(fu_next.vmsplice(fd, iov, n, flags));
}

FU_EXPORT ssize_t sendfile(int out, int in, off_t *off, size_t bytes)
{
	reads(in);
	return fu_io_wrote(fu_next.sendfile(out, in, off, bytes));
}

FU_EXPORT ssize_t sendfile64(int out, int in, off_t *off, size_t bytes)
        __attribute__((alias("sendfile")));
