/*
 * Sockets: what accept, connect, the sends and the socket commands answer, and what
 * liburing's own suites do not ask of them.
 */
#include "tests/ring_util.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The system's header may be older than these. */
#define ACCEPT_DONTWAIT (1U << 1)
#define SEND_BUNDLE     (1U << 4)
#define SEND_VECTORIZED (1U << 5)
#define ZC_REPORT_USAGE (1U << 3)
#define NOTIF_ZC_COPIED (1U << 31)

enum { CMD_INQ, CMD_OUTQ, CMD_GETSOCKOPT, CMD_SETSOCKOPT, CMD_TX_TIMESTAMP };

static int listener(int flags, struct sockaddr_in *addr)
{
	socklen_t len = sizeof(*addr);
	int fd = socket(AF_INET, SOCK_STREAM | flags, 0);

	memset(addr, 0, sizeof(*addr));
	addr->sin_family = AF_INET;
	addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)addr, len), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &len), 0);
	return fd;
}

static int connected(const struct sockaddr_in *addr)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)addr, sizeof(*addr)), 0);
	return fd;
}

static void tcp_pair(int fds[2])
{
	struct sockaddr_in addr;
	int l = listener(0, &addr);

	fds[0] = connected(&addr);
	fds[1] = accept(l, NULL, NULL);
	assert_true(fds[1] >= 0);
	close(l);
}

/* A ring and a connected pair, for tests that need no more. */
static struct tr_ring ring;
static int pair[2];

static int with_stream(void **state)
{
	(void)state;
	return tr_init(&ring, 8, 0) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
}

static int with_datagrams(void **state)
{
	(void)state;
	return tr_init(&ring, 8, 0) || socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
}

static int with_tcp(void **state)
{
	(void)state;
	tcp_pair(pair);
	return tr_init(&ring, 8, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	close(pair[0]);
	close(pair[1]);
	return 0;
}

#define ON(setup, f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int run_with(struct tr_ring *r, struct io_uring_sqe *sqe, uint64_t user_data)
{
	sqe->user_data = user_data;
	return tr_run(r, user_data);
}

/* A listener that others use too keeps its flags, and accepts without waiting. */
static void test_accept(void **state)
{
	(void)state;
	for (int nonblock = 0; nonblock < 2; nonblock++) {
		struct sockaddr_in addr;
		struct tr_ring r;
		struct io_uring_sqe *sqe;
		struct io_uring_cqe cqe;
		int l = listener(nonblock ? SOCK_NONBLOCK : 0, &addr), fl = fcntl(l, F_GETFL), c[2];

		assert_int_equal(tr_init(&r, 8, 0), 0);
		sqe = tr_prep(&r, IORING_OP_ACCEPT, l, NULL, 0, 0, 1);
		sqe->ioprio = ACCEPT_DONTWAIT;
		assert_int_equal(tr_run(&r, 1), -EAGAIN);
		tr_prep(&r, IORING_OP_ACCEPT, l, NULL, 0, 0, 2);
		assert_int_equal(tr_submit(&r), 1);
		assert_int_equal(tr_wait_ms(&r, &cqe, 20), -ETIME);
		c[0] = connected(&addr);
		assert_int_equal(tr_wait_ms(&r, &cqe, 5000), 0);
		assert_true(cqe.res >= 0);
		assert_int_equal(cqe.flags, 0);
		close(cqe.res);
		close(c[0]);
		/* Two at once: the first tells of the second. */
		c[0] = connected(&addr);
		c[1] = connected(&addr);
		for (int i = 0; i < 2; i++) {
			sqe = tr_prep(&r, IORING_OP_ACCEPT, l, NULL, 0, 0, 3);
			sqe->accept_flags = SOCK_CLOEXEC;
			assert_int_equal(tr_submit(&r), 1);
			assert_int_equal(tr_wait_ms(&r, &cqe, 5000), 0);
			assert_true(cqe.res >= 0);
			assert_int_equal(fcntl(cqe.res, F_GETFD), FD_CLOEXEC);
			assert_int_equal(cqe.flags, i ? 0 : IORING_CQE_F_SOCK_NONEMPTY);
			close(cqe.res);
			close(c[i]);
		}
		assert_int_equal(fcntl(l, F_GETFL), fl);
		/* A socket that does not listen has nothing to wait for. */
		c[0] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(tr_do(&r, IORING_OP_ACCEPT, c[0], NULL, 0, 0), -EINVAL);
		assert_int_equal(tr_do(&r, IORING_OP_ACCEPT, r.fd, NULL, 0, 0), -ENOTSOCK);
		close(c[0]);
		close(l);
		tr_exit(&r);
	}
}

/* An address is free again as soon as the last completion is seen and the socket closed. */
static void test_accept_rebind(void **state)
{
	struct sockaddr_in addr;
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	for (int i = 0; i < 50; i++) {
		struct io_uring_cqe cqe;
		struct io_uring_sqe *sqe;
		int l = listener(0, &addr), again;

		tr_prep(&r, IORING_OP_ACCEPT, l, NULL, 0, 0, 1);
		assert_int_equal(tr_submit(&r), 1);
		sqe = tr_prep(&r, IORING_OP_ASYNC_CANCEL, -1, (void *)1, 0, 0, 2);
		sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
		assert_int_equal(tr_submit(&r), 1);
		assert_int_equal(tr_wait_ms(&r, &cqe, 5000), 0);
		assert_int_equal(cqe.res, -ECANCELED);
		close(l);
		again = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(bind(again, (struct sockaddr *)&addr, sizeof(addr)), 0);
		close(again);
	}
	tr_exit(&r);
}

/* connect waits for room in a UNIX socket's backlog, and leaves the socket's flags alone. */
static void test_connect(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 9);
	struct sockaddr_in in, dead;
	struct tr_ring r;
	struct io_uring_cqe cqe;
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c[3], fd;

	(void)state;
	snprintf(addr.sun_path + 1, 9, "%08x", (unsigned)getpid());
	assert_int_equal(tr_init(&r, 8, 0), 0);
	assert_int_equal(bind(l, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(l, 1), 0);
	for (int i = 0; i < 3; i++)
		c[i] = socket(AF_UNIX, SOCK_STREAM, 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(tr_do(&r, IORING_OP_CONNECT, c[i], &addr, 0, len), 0);
	tr_prep(&r, IORING_OP_CONNECT, c[2], &addr, 0, len, 1);
	assert_int_equal(tr_submit(&r), 1);
	assert_int_equal(tr_wait_ms(&r, &cqe, 20), -ETIME);
	fd = accept(l, NULL, NULL);
	assert_int_equal(tr_wait_ms(&r, &cqe, 5000), 0);
	assert_int_equal(cqe.res, 0);
	assert_int_equal(fcntl(c[2], F_GETFL) & O_NONBLOCK, 0);
	for (int i = 0; i < 3; i++)
		close(c[i]);
	close(fd);
	close(l);

	l = listener(0, &in);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(tr_do(&r, IORING_OP_CONNECT, fd, &in, 0, sizeof(in)), 0);
	assert_int_equal(tr_do(&r, IORING_OP_CONNECT, fd, &in, 0, sizeof(in)), -EISCONN);
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	dead = in;
	dead.sin_port = htons(1);
	assert_int_equal(tr_do(&r, IORING_OP_CONNECT, fd, &dead, 0, sizeof(in)), -ECONNREFUSED);
	assert_int_equal(tr_do(&r, IORING_OP_CONNECT, fd, &dead, 0, 200), -EINVAL);
	assert_int_equal(tr_do(&r, IORING_OP_CONNECT, r.fd, &dead, 0, sizeof(in)), -ENOTSOCK);
	close(fd);
	close(l);
	tr_exit(&r);
}

/* MSG_WAITALL goes on until all is sent; without it a part is the result. */
static void test_send_waitall(void **state)
{
	static char big[4 << 20], sink[1 << 16];
	struct iovec iov[2] = { { big, sizeof(big) / 2 },
		                { big + sizeof(big) / 2, sizeof(big) / 2 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	for (int kind = 0; kind < 3; kind++) {
		struct io_uring_sqe *sqe;
		struct io_uring_cqe cqe;
		size_t got = 0;
		int sv[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
		if (kind == 0) {
			sqe = tr_prep(&r, IORING_OP_SEND, sv[0], big, sizeof(big), 0, 1);
		} else if (kind == 1) {
			sqe = tr_prep(&r, IORING_OP_SENDMSG, sv[0], &msg, 1, 0, 1);
		} else {
			sqe = tr_prep(&r, IORING_OP_SEND, sv[0], iov, 2, 0, 1);
			sqe->ioprio = SEND_VECTORIZED;
		}
		sqe->msg_flags = MSG_WAITALL;
		assert_int_equal(tr_submit(&r), 1);
		while (got < sizeof(big)) {
			ssize_t n = read(sv[1], sink, sizeof(sink));

			assert_true(n > 0);
			got += (size_t)n;
		}
		assert_int_equal(tr_wait_ms(&r, &cqe, 5000), 0);
		assert_int_equal(cqe.res, sizeof(big));
		sqe = tr_prep(&r, IORING_OP_SEND, sv[0], big, sizeof(big), 0, 2);
		sqe->msg_flags = 0;
		int ret = tr_run(&r, 2);
		assert_true(ret > 0 && (size_t)ret < sizeof(big));
		close(sv[1]);
		assert_int_equal(tr_do(&r, IORING_OP_SEND, sv[0], big, 1, 0), -EPIPE);
		close(sv[0]);
	}
	tr_exit(&r);
}

/* The request's CQE first, then the notification, whatever came of the request. */
static void zc(struct tr_ring *r, struct io_uring_sqe *sqe, int res, int notif)
{
	struct io_uring_cqe cqe;

	sqe->user_data = 9;
	assert_int_equal(tr_submit(r), 1);
	assert_int_equal(tr_wait_ms(r, &cqe, 5000), 0);
	assert_int_equal(cqe.res, res);
	assert_int_equal(cqe.flags, IORING_CQE_F_MORE);
	assert_int_equal(tr_wait_ms(r, &cqe, 5000), 0);
	assert_int_equal(cqe.user_data, 9);
	assert_int_equal(cqe.res, notif);
	assert_int_equal(cqe.flags, IORING_CQE_F_NOTIF);
}

static void test_send_zc(void **state)
{
	const int copied = (int)NOTIF_ZC_COPIED;
	char text[] = "zero";
	struct iovec iov = { text, 4 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct io_uring_sqe *sqe;
	struct tr_ring r;
	int t[2], u[2];

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	tcp_pair(t);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, u), 0);
	zc(&r, tr_prep(&r, IORING_OP_SEND_ZC, t[0], text, 4, 0, 0), 4, 0);
	zc(&r, tr_prep(&r, IORING_OP_SEND_ZC, u[0], text, 4, 0, 0), -EOPNOTSUPP, 0);
	zc(&r, tr_prep(&r, IORING_OP_SEND_ZC, r.fd, text, 4, 0, 0), -ENOTSOCK, 0);
	zc(&r, tr_prep(&r, IORING_OP_SEND_ZC, t[0], (void *)8, 4, 0, 0), -EFAULT, 0);
	sqe = tr_prep(&r, IORING_OP_SEND_ZC, t[0], text, 4, 0, 0);
	sqe->ioprio = SEND_BUNDLE;
	zc(&r, sqe, -EINVAL, 0);
	sqe = tr_prep(&r, IORING_OP_SENDMSG_ZC, t[0], &msg, 1, 0, 0);
	sqe->ioprio = ZC_REPORT_USAGE;
	zc(&r, sqe, 4, copied);
	/* The registered buffer has to hold all of it. */
	assert_int_equal(tr_sys_register(r.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	sqe = tr_prep(&r, IORING_OP_SEND_ZC, t[0], text, 4, 0, 0);
	sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
	zc(&r, sqe, 4, 0);
	sqe = tr_prep(&r, IORING_OP_SEND_ZC, t[0], text, 5, 0, 0);
	sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
	zc(&r, sqe, -EFAULT, 0);
	/* Refused before there is a notification. */
	sqe = tr_prep(&r, IORING_OP_SEND_ZC, t[0], text, 4, 0, 0);
	sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
	assert_int_equal(run_with(&r, sqe, 3), -EINVAL);
	for (int i = 0; i < 2; i++) {
		close(t[i]);
		close(u[i]);
	}
	tr_exit(&r);
}

static int command(struct tr_ring *r, int fd, unsigned op, unsigned level, unsigned name, void *val,
                   unsigned len)
{
	struct io_uring_sqe *sqe = tr_prep(r, IORING_OP_URING_CMD, fd, NULL, 0, 0, 0);

	/* cmd_op; level and optname; optval; optlen */
	sqe->off = op;
	sqe->addr = level | (uint64_t)name << 32;
	sqe->addr3 = (uintptr_t)val;
	sqe->file_index = len;
	return run_with(r, sqe, 5);
}

/* A socket has no positions but the first; lengths are not negative. */
static void test_read_and_receive(void **state)
{
	char buf[8];

	(void)state;
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, pair[0], "hello", 5, 1), -ESPIPE);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, pair[0], "hello", 5, 0), 5);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, pair[1], buf, 8, 1), -ESPIPE);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, pair[1], buf, 8, -1ULL), 5);
	assert_int_equal(tr_do(&ring, IORING_OP_RECV, pair[1], buf, 1U << 31, 0), -EINVAL);
}

/* What has only been looked at is left. */
static void test_peek_leaves(void **state)
{
	char buf[8];

	(void)state;
	assert_int_equal(send(pair[0], "hello", 5, 0), 5);
	tr_prep(&ring, IORING_OP_RECV, pair[1], buf, sizeof(buf), 0, 1)->msg_flags = MSG_PEEK;
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 1, 5, IORING_CQE_F_SOCK_NONEMPTY);
	/* Nor does who asks for nothing take anything. */
	tr_prep(&ring, IORING_OP_RECV, pair[1], buf, 0, 0, 1);
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 1, 0, IORING_CQE_F_SOCK_NONEMPTY);
	tr_prep(&ring, IORING_OP_RECV, pair[1], buf, sizeof(buf), 0, 1);
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 1, 5, 0);
}

/* Without a group to take buffers from, a bundle is what has been given, once. */
static void test_bundle_of_segments(void **state)
{
	struct iovec iov[2] = { { (void *)"hel", 3 }, { (void *)"lo", 2 } };
	int left = 0;

	(void)state;
	tr_prep(&ring, IORING_OP_SEND, pair[0], iov, 2, 0, 1)->ioprio =
	        SEND_BUNDLE | SEND_VECTORIZED;
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 1, 5, IORING_CQE_F_MORE);
	tr_expect(&ring, 1, 0, 0);
	assert_int_equal(ioctl(pair[1], FIONREAD, &left), 0);
	assert_int_equal(left, 5);
}

/* A message's registered segments come before what the socket can do. */
static void test_message_of_segments(void **state)
{
	struct iovec iov[2] = { { (void *)"hel", 3 }, { (void *)"lo", 2 } };
	const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	(void)state;
	tr_prep(&ring, IORING_OP_SENDMSG_ZC, pair[0], &msg, 1, 0, 2)->ioprio =
	        IORING_RECVSEND_FIXED_BUF;
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 2, -EFAULT, IORING_CQE_F_MORE);
	tr_expect(&ring, 2, 0, IORING_CQE_F_NOTIF);
}

/* RECVMSG sees at once that there is no socket, RECV when it has waited. */
static void test_poll_first_elsewhere(void **state)
{
	struct msghdr msg = { .msg_iovlen = 0 };
	struct tr_ring r;
	char c;
	int p[2];

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	assert_int_equal(pipe(p), 0);
	tr_prep(&r, IORING_OP_RECV, p[0], &c, 1, 0, 1)->ioprio = IORING_RECVSEND_POLL_FIRST;
	tr_prep(&r, IORING_OP_RECVMSG, p[0], &msg, 1, 0, 2)->ioprio = IORING_RECVSEND_POLL_FIRST;
	assert_int_equal(tr_submit(&r), 2);
	tr_expect(&r, 2, -ENOTSOCK, 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	tr_expect(&r, 1, -ENOTSOCK, 0);
	tr_exit(&r);
	close(p[0]);
	close(p[1]);
}

/* Alone in a link that is not closed, a request does not poll; one that asks for that fails. */
static void test_poll_first_open_link(void **state)
{
	struct io_uring_sqe *sqe;
	char c;

	(void)state;
	assert_int_equal(write(pair[1], "xy", 2), 2);
	for (int i = 0; i < 2; i++) {
		sqe = tr_prep(&ring, i ? IORING_OP_SEND : IORING_OP_RECV, pair[0], &c, 1, 0, 1);
		sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
		sqe->flags = IOSQE_IO_LINK;
		assert_int_equal(tr_submit(&ring), 1);
		tr_expect(&ring, 1, -EAGAIN, 0);
	}
	sqe = tr_prep(&ring, IORING_OP_RECV, pair[0], &c, 1, 0, 1);
	sqe->flags = IOSQE_IO_LINK;
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 1, 1, IORING_CQE_F_SOCK_NONEMPTY);
	/* What waits for others to be drained does poll. */
	sqe = tr_prep(&ring, IORING_OP_RECV, pair[0], &c, 1, 0, 1);
	sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
	sqe->flags = IOSQE_IO_LINK | IOSQE_IO_DRAIN;
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 1, 1, 0);
}

/* Nor does one whose turn in a link comes on a worker. */
static void test_poll_first_after_worker(void **state)
{
	char c;

	(void)state;
	assert_int_equal(write(pair[1], "x", 1), 1);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1)->flags = IOSQE_ASYNC | IOSQE_IO_LINK;
	tr_prep(&ring, IORING_OP_RECV, pair[0], &c, 1, 0, 2)->ioprio = IORING_RECVSEND_POLL_FIRST;
	assert_int_equal(tr_submit(&ring), 2);
	tr_expect(&ring, 1, 0, 0);
	tr_expect(&ring, 2, -EAGAIN, 0);
}

/* Out-of-band data of a local socket tell nothing of what is left. */
static void test_out_of_band(void **state)
{
	char c = 0;

	(void)state;
	if (send(pair[1], "x", 1, MSG_OOB) != 1) {
		skip(); /* Before Linux 5.15. */
	}
	assert_int_equal(send(pair[1], "abc", 3, 0), 3);
	tr_prep(&ring, IORING_OP_RECV, pair[0], &c, 1, 0, 1)->msg_flags = MSG_OOB;
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 1, 1, 0);
	assert_int_equal(c, 'x');
}

/* To write nothing is to send an empty datagram, and nothing to a stream. */
static void test_write_nothing(void **state)
{
	char buf[8];

	(void)state;
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, pair[0], "x", 0, 0), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, pair[0], "x", 1, 0), 1);
	assert_int_equal(tr_do(&ring, IORING_OP_RECV, pair[1], buf, 8, 0), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_RECV, pair[1], buf, 8, 0), 1);
}

static void test_write_nothing_to_stream(void **state)
{
	char buf[8];

	(void)state;
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, pair[0], "x", 0, 0), 0);
	assert_int_equal(recv(pair[1], buf, 8, MSG_DONTWAIT), -1);
}

/* The end of a TCP stream counts as something that is left to receive. */
static void test_end_is_left(void **state)
{
	char buf[8];

	(void)state;
	assert_int_equal(send(pair[0], "hello", 5, 0), 5);
	assert_int_equal(shutdown(pair[0], SHUT_WR), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct pollfd p = { .fd = pair[1], .events = POLLRDHUP };
		struct io_uring_cqe cqe;

		assert_int_equal(poll(&p, 1, 5000), 1);
		tr_prep(&ring, IORING_OP_RECV, pair[1], buf, 5, 0, i);
		assert_int_equal(tr_submit_wait(&ring, 1), 1);
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.res, i ? 0 : 5);
		assert_int_equal(cqe.flags, IORING_CQE_F_SOCK_NONEMPTY);
	}
	/* Not so an end of one's own making. */
	assert_int_equal(shutdown(pair[0], SHUT_RD), 0);
	tr_prep(&ring, IORING_OP_RECV, pair[0], buf, 5, 0, 3);
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 3, 0, 0);
}

static void test_commands(void **state)
{
	struct tr_ring r;
	int t[2], u[2], value = 0;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	tcp_pair(t);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, u), 0);
	assert_int_equal(write(t[0], "abc", 3), 3);
	tr_sleep_ms(5);
	assert_int_equal(command(&r, t[1], CMD_INQ, 0, 0, NULL, 0), 3);
	assert_int_equal(command(&r, t[1], CMD_OUTQ, 0, 0, NULL, 0), 0);
	assert_int_equal(command(&r, u[0], CMD_INQ, 0, 0, NULL, 0), -EOPNOTSUPP);
	assert_int_equal(command(&r, u[0], CMD_GETSOCKOPT, SOL_SOCKET, SO_TYPE, &value, 4), 4);
	assert_int_equal(value, SOCK_STREAM);
	assert_int_equal(command(&r, t[0], CMD_GETSOCKOPT, IPPROTO_TCP, 1, &value, 4), -EOPNOTSUPP);
	assert_int_equal(command(&r, t[0], CMD_SETSOCKOPT, IPPROTO_TCP, 1, &value, 4), 0);
	assert_int_equal(command(&r, t[0], CMD_GETSOCKOPT, SOL_SOCKET, SO_TYPE, (void *)8, 4),
	                 -EFAULT);
	/* Transmit timestamps need room for them in the CQE. */
	assert_int_equal(command(&r, t[0], CMD_TX_TIMESTAMP, 0, 0, NULL, 0), -EINVAL);
	assert_int_equal(command(&r, t[0], 99, 0, 0, NULL, 0), -EOPNOTSUPP);
	for (int i = 0; i < 2; i++) {
		close(t[i]);
		close(u[i]);
	}
	tr_exit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accept),
		cmocka_unit_test(test_accept_rebind),
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_send_waitall),
		cmocka_unit_test(test_send_zc),
		cmocka_unit_test(test_commands),
		ON(with_tcp, test_end_is_left),
		ON(with_tcp, test_peek_leaves),
		ON(with_datagrams, test_write_nothing),
		ON(with_stream, test_write_nothing_to_stream),
		cmocka_unit_test(test_poll_first_elsewhere),
		ON(with_stream, test_poll_first_open_link),
		ON(with_stream, test_poll_first_after_worker),
		ON(with_stream, test_out_of_band),
		ON(with_tcp, test_bundle_of_segments),
		ON(with_stream, test_message_of_segments),
		ON(with_stream, test_read_and_receive),
	};

	return tr_run_group("sockets", tests, sizeof(tests) / sizeof(tests[0]));
}
