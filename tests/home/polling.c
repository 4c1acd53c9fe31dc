/*
 * Waiting for a ring's descriptor in programs that do it with system calls of their own,
 * pass nonsense, or then have nothing to do.
 */
#include "tests/home/home.h"

#include <dirent.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>

TR_ONE_RING(8);

static long libc_call(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret = syscall(nr, a, b, c, d, e, f);

	return ret < 0 ? -errno : ret;
}

#define CALL(nr, ...) CALL_(nr, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL_(nr, a, b, c, d, e, f, ...)                                                  \
	(tr_entry == TR_INLINE ? raw6 : libc_call)((nr), (long)(a), (long)(b), (long)(c), \
	                                           (long)(d), (long)(e), (long)(f))

#define LIBC(nr, ...) LIBC_(nr, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define LIBC_(nr, a, b, c, d, e, f, ...) \
	libc_call((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static void complete_one(void)
{
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	assert_int_equal(tr_submit(&ring), 1);
}

static void test_raw_poll(void **state)
{
	struct pollfd pfd = { .fd = ring.fd, .events = POLLIN };
	struct timespec now = { 0, 0 };

	(void)state;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(CALL(SYS_poll, &pfd, 1, 0), 0);
		assert_int_equal(CALL(SYS_ppoll, &pfd, 1, &now, NULL, 8), 0);
		complete_one();
		assert_int_equal(CALL(SYS_poll, &pfd, 1, 5000), 1);
		assert_int_equal(pfd.revents, POLLIN);
		assert_int_equal(CALL(SYS_ppoll, &pfd, 1, &now, NULL, 8), 1);
		tr_seen(&ring);
	}
}

static void test_raw_select(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		struct timeval now = { 0, 0 };
		struct timespec later = { 5, 0 };
		fd_set in;

		FD_ZERO(&in);
		FD_SET(ring.fd, &in);
		assert_int_equal(CALL(SYS_select, ring.fd + 1, &in, NULL, NULL, &now), 0);
		complete_one();
		FD_SET(ring.fd, &in);
		assert_int_equal(CALL(SYS_pselect6, ring.fd + 1, &in, NULL, NULL, &later, NULL), 1);
		assert_true(FD_ISSET(ring.fd, &in));
		tr_seen(&ring);
	}
}

static void test_raw_epoll(void **state)
{
	static const unsigned kinds[] = { EPOLLIN, EPOLLIN | EPOLLET, EPOLLIN | EPOLLONESHOT };
	struct epoll_event ev, got;

	(void)state;
	for (unsigned k = 0; k < 3; k++) {
		/* Nested, so that both have to know. */
		int ep = (int)CALL(SYS_epoll_create1, 0), outer = epoll_create1(0);

		ev = (struct epoll_event){ .events = kinds[k], .data.u32 = 5 };
		assert_int_equal(CALL(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, ring.fd, &ev), 0);
		ev.events = EPOLLIN;
		assert_int_equal(CALL(SYS_epoll_ctl, outer, EPOLL_CTL_ADD, ep, &ev), 0);
		for (int i = 0; i < 10; i++) {
			assert_int_equal(CALL(SYS_epoll_wait, ep, &got, 1, 0), 0);
			complete_one();
			assert_int_equal(CALL(SYS_epoll_wait, outer, &got, 1, 5000), 1);
			assert_int_equal(CALL(SYS_epoll_wait, ep, &got, 1, 5000), 1);
			assert_int_equal(CALL(SYS_epoll_pwait, ep, &got, 1, 0, NULL, 8),
			                 kinds[k] == EPOLLIN ? 1 : 0);
			tr_seen(&ring);
			ev.events = kinds[k];
			if (kinds[k] & EPOLLONESHOT)
				assert_int_equal(
				        CALL(SYS_epoll_ctl, ep, EPOLL_CTL_MOD, ring.fd, &ev), 0);
		}
		close(ep);
		close(outer);
	}
}

/* Pointers that point nowhere. */
static void test_bad_pointers(void **state)
{
	struct epoll_event ev = { .events = EPOLLIN };
	long *volatile nowhere = (long *)8;
	long *bad = nowhere;
	int ep = epoll_create1(0);

	(void)state;
	assert_int_equal(LIBC(SYS_poll, (long)bad, 2, 0, 0, 0, 0), -EFAULT);
	assert_int_equal(LIBC(SYS_ppoll, (long)bad, 2, 0, 0, 8, 0), -EFAULT);
	assert_int_equal(LIBC(SYS_select, 64, (long)bad, 0, 0, 0, 0), -EFAULT);
	assert_int_equal(LIBC(SYS_pselect6, 64, 0, (long)bad, 0, 0, 0), -EFAULT);
	assert_int_equal(LIBC(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, ring.fd, (long)bad, 0), -EFAULT);
	assert_int_equal(LIBC(SYS_rt_sigprocmask, SIG_BLOCK, (long)bad, 0, 8, 0, 0), -EFAULT);
	assert_int_equal(LIBC(SYS_rt_sigaction, SIGUSR2, (long)bad, 0, 8, 0, 0), -EFAULT);
	assert_int_equal(LIBC(SYS_rt_sigaction, SIGUSR2, 0, (long)bad, 8, 0, 0), -EFAULT);
	assert_int_equal(LIBC(SYS_poll, 0, 0x7fffffff, 0, 0, 0, 0), -EINVAL);
	errno = 0;
	assert_int_equal(poll((struct pollfd *)bad, 2, 0), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(ppoll((struct pollfd *)bad, 2, NULL, NULL), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(select(64, (fd_set *)bad, NULL, NULL, NULL), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, ring.fd, (struct epoll_event *)bad), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, ring.fd, &ev), 0);
	close(ep);
}

/* How often the threads of this process have gone to sleep. */
static long switches(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *e;
	long sum = 0;

	while (dir && (e = readdir(dir))) {
		char path[300], line[200];
		FILE *f;

		if (e->d_name[0] == '.' || atoi(e->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		f = fopen(path, "r");
		while (f && fgets(line, sizeof(line), f)) {
			long n;

			if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
				sum += n;
		}
		if (f)
			fclose(f);
	}
	if (dir)
		closedir(dir);
	return sum;
}

static void test_idle(void **state)
{
	struct pollfd pfd = { .fd = ring.fd, .events = POLLIN };
	struct __kernel_timespec ts = { .tv_nsec = 1000000 };
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int p[2], ep = epoll_create1(0);
	struct io_uring_cqe cqe;
	char c;
	long before;

	(void)state;
	/* All that there is has been in use, and a read and a poll stay pending. */
	assert_int_equal(pipe(p), 0);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1)->flags = IOSQE_ASYNC;
	tr_prep(&ring, IORING_OP_TIMEOUT, -1, &ts, 1, 0, 2);
	assert_int_equal(tr_submit(&ring), 2);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	tr_prep(&ring, IORING_OP_READ, p[0], &c, 1, 0, 3);
	tr_prep(&ring, IORING_OP_POLL_ADD, p[0], NULL, 0, 0, 4)->poll32_events = POLLIN;
	assert_int_equal(tr_submit(&ring), 2);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, ring.fd, &ev), 0);
	assert_int_equal(poll(&pfd, 1, 0), 0);
	tr_sleep_ms(100);
	before = switches();
	tr_sleep_ms(1500);
	/* Nobody wakes for nothing; a worker may look at the clock once. */
	assert_true(switches() - before <= 4);
	close(p[0]);
	close(p[1]);
	close(ep);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_raw_poll), ON_RING(test_raw_select),   ON_RING(test_raw_epoll),
	ON_RING(test_idle),     ON_RING(test_bad_pointers),
};

TR_MAIN("home polling", tests)
