/*
 * Waiting on descriptors. A ring's descriptor is readable while its CQ is not
 * empty, but the program empties the CQ by itself, in memory. So before it waits
 * for a ring the engine is told which one (from then on it raises readability)
 * and asked to lower what is no longer true. Without rings: one load, then libc.
 * All of these are cancellation points, and so libc's own do the waiting.
 */
#include <errno.h>
#include "engine/entry.h"
#include "preload/export.h"
#include "preload/init.h"
#include "preload/next.h"
#include "preload/poll.h"
#include "preload/signals.h"
#include "rings/sys.h"
#include "rings/user.h"
#include "seccomp/sent.h"

#define NR_EPOLL_PWAIT2 441
/* Of a poll set larger than this nobody has seen the like; it is read no further. */
#define POLLFDS_MAX (1U << 20)
#define FDSET_MAX   (1 << 20)

void fu_polled_pollfds(const struct pollfd *fds, nfds_t n)
{
	if (!fds || n == 0 || n > POLLFDS_MAX || !fu_user_readable(fds, n * sizeof(*fds))) {
		return;
	}
	for (nfds_t i = 0; i < n; i++) {
		if (fds[i].fd >= 0 && fu_fd_is_ring(fds[i].fd)) {
			fu_fd_polled(fds[i].fd, false);
		}
	}
}

void fu_polled_fdsets(int n, const fd_set *in, const fd_set *out, const fd_set *except)
{
	const u64 *sets[] = { (const u64 *)in, (const u64 *)out, (const u64 *)except };
	size_t bytes = n > 0 && n < FDSET_MAX ? ((size_t)n + 63) / 64 * sizeof(u64) : 0;

	for (size_t i = 0; i < FU_ARRAY_SIZE(sets); i++) {
		if (!bytes || (sets[i] && !fu_user_readable(sets[i], bytes))) {
			return;
		}
	}
	for (int base = 0; base < n; base += 64) {
		u64 word = 0;

		for (size_t i = 0; i < FU_ARRAY_SIZE(sets); i++) {
			word |= sets[i] ? sets[i][base / 64] : 0;
		}
		for (; word; word &= word - 1) {
			int fd = base + __builtin_ctzll(word);

			if (fd < n && fu_fd_is_ring(fd)) {
				fu_fd_polled(fd, false);
			}
		}
	}
}

void fu_polled_epoll(int op, int fd, const struct epoll_event *event)
{
	if ((op == EPOLL_CTL_ADD || op == EPOLL_CTL_MOD) && fu_fd_is_ring(fd) &&
	    fu_user_readable(event, sizeof(*event))) {
		fu_fd_polled(fd, (event->events & EPOLLET) != 0);
	}
}

static inline void before_poll(const struct pollfd *fds, nfds_t n)
{
	fu_init();
	if (fu_unlikely(fu_have_rings())) {
		fu_polled_pollfds(fds, n);
		fu_rings_settle();
	}
}

static inline void before_select(int n, const fd_set *in, const fd_set *out, const fd_set *except)
{
	fu_init();
	if (fu_unlikely(fu_have_rings())) {
		fu_polled_fdsets(n, in, out, except);
		fu_rings_settle();
	}
}

static inline void before_epoll_wait(void)
{
	fu_init();
	if (fu_unlikely(fu_have_rings())) {
		fu_rings_settle();
	}
}

/* glibc declares these arguments write-only; the kernel reads them, and so do we. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

FU_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	before_poll(fds, n);
	return fu_next.poll(fds, n, timeout);
}

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
FU_EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	before_poll(fds, n * sizeof(*fds) <= size ? n : 0);
	return fu_next.__poll_chk(fds, n, timeout, size);
}

FU_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                    const sigset_t *mask)
{
	sigset_t copy;
	int ret, wait;

	before_poll(fds, n);
	mask = fu_wait_mask(mask, &copy, &wait);
	ret = fu_next.ppoll(fds, n, timeout, mask);
	fu_sigsys_wait_end(wait);
	return ret;
}

int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
                size_t size);
FU_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                          const sigset_t *mask, size_t size)
{
	sigset_t copy;
	int ret, wait;

	before_poll(fds, n * sizeof(*fds) <= size ? n : 0);
	mask = fu_wait_mask(mask, &copy, &wait);
	ret = fu_next.__ppoll_chk(fds, n, timeout, mask, size);
	fu_sigsys_wait_end(wait);
	return ret;
}

FU_EXPORT int select(int n, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout)
{
	before_select(n, in, out, except);
	return fu_next.select(n, in, out, except, timeout);
}

FU_EXPORT int pselect(int n, fd_set *in, fd_set *out, fd_set *except,
                      const struct timespec *timeout, const sigset_t *mask)
{
	sigset_t copy;
	int ret, wait;

	before_select(n, in, out, except);
	mask = fu_wait_mask(mask, &copy, &wait);
	ret = fu_next.pselect(n, in, out, except, timeout, mask);
	fu_sigsys_wait_end(wait);
	return ret;
}

FU_EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	int ret;

	fu_init();
	if (fu_unlikely(fu_have_rings()) && fu_fd_is_engine(fd)) {
		errno = EBADF;
		return -1;
	}
	ret = fu_next.epoll_ctl(epfd, op, fd, event);
	if (ret == 0 && fu_unlikely(fu_have_rings())) {
		fu_polled_epoll(op, fd, event);
	}
	return ret;
}

FU_EXPORT int epoll_wait(int epfd, struct epoll_event *events, int n, int timeout)
{
	before_epoll_wait();
	return fu_next.epoll_wait(epfd, events, n, timeout);
}

FU_EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int n, int timeout,
                          const sigset_t *mask)
{
	sigset_t copy;
	int ret, wait;

	before_epoll_wait();
	mask = fu_wait_mask(mask, &copy, &wait);
	ret = fu_next.epoll_pwait(epfd, events, n, timeout, mask);
	fu_sigsys_wait_end(wait);
	return ret;
}

FU_EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int n,
                           const struct timespec *timeout, const sigset_t *mask)
{
	sigset_t copy;
	int ret, wait;

	before_epoll_wait();
	mask = fu_wait_mask(mask, &copy, &wait);
	if (fu_next.epoll_pwait2) {
		ret = fu_next.epoll_pwait2(epfd, events, n, timeout, mask);
	} else {
		ret = (int)fu_to_libc(
		        fu_sys(NR_EPOLL_PWAIT2, epfd, events, n, timeout, mask, sizeof(u64)));
	}
	fu_sigsys_wait_end(wait);
	return ret;
}
