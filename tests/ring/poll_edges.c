/*
 * What polls see of events that have come and gone: data that is read away at once, several
 * events before anybody looks, and events that the ring's own completions raise.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static struct tr_ring ring;
static int fds[2];

static int setup(void **state)
{
	(void)state;
	if (pipe(fds))
		return -1;
	return tr_init(&ring, 64, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	close(fds[0]);
	close(fds[1]);
	return 0;
}

static void poll_fd(int fd, bool multishot)
{
	tr_prep(&ring, IORING_OP_POLL_ADD, fd, NULL, multishot ? IORING_POLL_ADD_MULTI : 0, 0, 1)
	        ->poll32_events = POLLIN;
	assert_int_equal(tr_submit(&ring), 1);
}

static void expect(int res, unsigned flags)
{
	struct io_uring_cqe *cqe = tr_peek(&ring);

	assert_non_null(cqe);
	assert_int_equal(cqe->user_data, 1);
	assert_int_equal(cqe->res, res);
	assert_int_equal(cqe->flags, flags);
	tr_seen(&ring);
}

static void get_events(void)
{
	assert_int_equal(tr_sys_enter(ring.fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0), 0);
}

/* Each event is there when the call that raised it returns, also if the data is gone. */
static void test_read_away(void **state)
{
	char c;

	(void)state;
	poll_fd(fds[0], true);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(write(fds[1], "x", 1), 1);
		assert_int_equal(read(fds[0], &c, 1), 1);
	}
	for (int i = 0; i < 5; i++)
		expect(POLLIN, IORING_CQE_F_MORE);
	assert_null(tr_peek(&ring));
}

static void test_written_twice(void **state)
{
	struct iovec iov = { "ab", 2 };

	(void)state;
	poll_fd(fds[0], true);
	for (int i = 0; i < 2; i++)
		assert_int_equal(writev(fds[1], &iov, 1), 2);
	expect(POLLIN, IORING_CQE_F_MORE);
	expect(POLLIN, IORING_CQE_F_MORE);
	assert_null(tr_peek(&ring));
}

/* Sockets, by all the calls that there are for them. */
static void test_messages(void **state)
{
	struct msghdr in = { 0 }, out;
	struct iovec iov;
	int sv[2];
	char c;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv), 0);
	poll_fd(sv[0], true);
	iov = (struct iovec){ &c, 1 };
	in.msg_iov = &iov;
	in.msg_iovlen = 1;
	out = in;
	assert_int_equal(send(sv[1], "x", 1, 0), 1);
	assert_int_equal(recv(sv[0], &c, 1, 0), 1);
	assert_int_equal(sendto(sv[1], "x", 1, 0, NULL, 0), 1);
	assert_int_equal(recvfrom(sv[0], &c, 1, 0, NULL, NULL), 1);
	assert_int_equal(sendmsg(sv[1], &out, 0), 1);
	assert_int_equal(recvmsg(sv[0], &in, 0), 1);
	for (int i = 0; i < 3; i++)
		expect(POLLIN, IORING_CQE_F_MORE);
	assert_null(tr_peek(&ring));
	close(sv[0]);
	close(sv[1]);
}

static void test_several_messages(void **state)
{
	struct iovec iov[2];
	struct mmsghdr msgs[2] = { 0 };
	char c[2];
	int sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv), 0);
	poll_fd(sv[0], true);
	for (int i = 0; i < 2; i++) {
		iov[i] = (struct iovec){ &c[i], 1 };
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(sendmmsg(sv[1], msgs, 1, 0), 1);
		expect(POLLIN, IORING_CQE_F_MORE);
	}
	assert_int_equal(recvmmsg(sv[0], msgs, 2, MSG_DONTWAIT, NULL), 2);
	/* Behind the shim's back, so that only the read can tell. */
	assert_int_equal(syscall(SYS_sendto, sv[1], "x", 1, 0, NULL, 0), 1);
	assert_int_equal(recvmmsg(sv[0], msgs, 1, MSG_DONTWAIT, NULL), 1);
	get_events();
	expect(POLLIN, IORING_CQE_F_MORE);
	assert_null(tr_peek(&ring));
	close(sv[0]);
	close(sv[1]);
}

/* Pipes, by the calls that need no buffer of the program's. */
static void test_moved(void **state)
{
	struct iovec iov = { "ab", 2 };
	int from[2], to[2], file;
	char c[8];

	(void)state;
	assert_int_equal(pipe(from), 0);
	assert_int_equal(pipe(to), 0);
	poll_fd(to[0], true);
	assert_int_equal(write(from[1], "abcd", 4), 4);
	assert_int_equal(tee(from[0], to[1], 1, 0), 1);
	expect(POLLIN, IORING_CQE_F_MORE);
	assert_int_equal(splice(from[0], NULL, to[1], NULL, 1, 0), 1);
	expect(POLLIN, IORING_CQE_F_MORE);
	assert_int_equal(vmsplice(to[1], &iov, 1, 0), 2);
	expect(POLLIN, IORING_CQE_F_MORE);
	assert_int_equal(pwritev2(to[1], &iov, 1, -1, 0), 2);
	expect(POLLIN, IORING_CQE_F_MORE);
	assert_int_equal(read(to[0], c, sizeof(c)), 6);
	assert_null(tr_peek(&ring));
	for (int i = 0; i < 2; i++) {
		iov.iov_base = c;
		assert_int_equal(syscall(SYS_write, to[1], "ab", 2), 2);
		assert_int_equal(i ? preadv2(to[0], &iov, 1, -1, 0)
		                   : splice(to[0], NULL, from[1], NULL, 2, 0),
		                 2);
		get_events();
		expect(POLLIN, IORING_CQE_F_MORE);
		assert_null(tr_peek(&ring));
	}
	file = memfd_create("data", 0);
	assert_int_equal(pwrite(file, "ab", 2, 0), 2);
	for (int i = 0; i < 2; i++) {
		off_t start = 0;

		assert_int_equal(sendfile(to[1], file, &start, 2), 2);
		expect(POLLIN, IORING_CQE_F_MORE);
	}
	close(file);
	for (int i = 0; i < 2; i++) {
		close(from[i]);
		close(to[i]);
	}
}

/* A socket that listens tells of each one who comes. */
static void test_connections(void **state)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(name.sun_family);
	int server = socket(AF_UNIX, SOCK_STREAM, 0), client;

	(void)state;
	assert_int_equal(bind(server, (struct sockaddr *)&name, len), 0);
	len = sizeof(name);
	assert_int_equal(getsockname(server, (struct sockaddr *)&name, &len), 0);
	assert_int_equal(listen(server, 2), 0);
	poll_fd(server, true);
	for (int i = 0; i < 2; i++) {
		client = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_int_equal(connect(client, (struct sockaddr *)&name, len), 0);
		expect(POLLIN, IORING_CQE_F_MORE);
		close(client);
	}
	close(server);
}

static void test_one_shot(void **state)
{
	char c;

	(void)state;
	poll_fd(fds[0], false);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(read(fds[0], &c, 1), 1);
	get_events();
	expect(POLLIN, 0);
}

/* A read through the ring takes the data that the poll has been woken for. */
static void test_read_by_ring(void **state)
{
	struct io_uring_cqe *cqe;
	char c;

	(void)state;
	if (!tr_has_pipe_nowait())
		skip();
	poll_fd(fds[0], true);
	assert_int_equal(write(fds[1], "x", 1), 1);
	tr_prep(&ring, IORING_OP_READ, fds[0], &c, 1, 0, 2);
	assert_int_equal(tr_submit(&ring), 1);
	get_events();
	expect(POLLIN, IORING_CQE_F_MORE);
	cqe = tr_peek(&ring);
	assert_non_null(cqe);
	assert_int_equal(cqe->user_data, 2);
	assert_int_equal(cqe->res, 1);
}

/* Takes n CQEs; how many are the poll's, which has this result and flags. */
static unsigned told(unsigned n, unsigned flags)
{
	unsigned polled = 0;

	get_events();
	assert_int_equal(tr_ready(&ring), n);
	for (; n; n--) {
		const struct io_uring_cqe *cqe = tr_peek(&ring);

		if (cqe->user_data == 1) {
			assert_int_equal(cqe->res, POLLIN);
			assert_int_equal(cqe->flags, flags);
			polled++;
		} else {
			assert_int_equal(cqe->res, 8);
		}
		tr_seen(&ring);
	}
	return polled;
}

static void put_and_take(int in, int out, unsigned flags, unsigned times)
{
	static uint64_t value = 1, read_to;

	for (unsigned i = 0; i < times; i++) {
		tr_prep(&ring, IORING_OP_WRITE, out, &value, 8, 0, 2)->flags = (uint8_t)flags;
		tr_prep(&ring, IORING_OP_READ, in, &read_to, 8, 0, 3);
	}
	assert_int_equal(tr_submit(&ring), 2 * times);
}

/* What comes and goes within one submission has come. A poll that goes on is told of once only, and
 * of several events only if there is something left of them. */
static void test_within_one(void **state)
{
	int sv[2], event = eventfd(0, EFD_NONBLOCK);
	int pairs[3][2] = { { fds[0], fds[1] }, { 0 }, { event, event } };

	(void)state;
	if (!tr_has_pipe_nowait())
		skip();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	pairs[1][0] = sv[0];
	pairs[1][1] = sv[1];
	for (int i = 0; i < 3; i++) {
		int in = pairs[i][0], out = pairs[i][1];

		for (unsigned link = 0; link < 2; link++) {
			poll_fd(in, false);
			put_and_take(in, out, link ? IOSQE_IO_LINK : 0, 1);
			assert_int_equal(told(3, 0), 1);
		}
		poll_fd(in, true);
		put_and_take(in, out, 0, 1);
		assert_int_equal(told(3, IORING_CQE_F_MORE), 1);
		put_and_take(in, out, 0, 2);
		assert_int_equal(told(4, 0), 0);
		put_and_take(in, out, 0, 1);
		assert_int_equal(told(3, IORING_CQE_F_MORE), 1);
		tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)1, 0, 0, 2);
		assert_int_equal(tr_submit(&ring), 1);
		tr_expect(&ring, 2, 0, 0);
		tr_expect(&ring, 1, -ECANCELED, 0);
	}
	close(sv[0]);
	close(sv[1]);
	close(event);
}

/* The same of other rings' polls. */
static void test_within_another(void **state)
{
	struct tr_ring polling[2];
	struct io_uring_cqe *cqe;

	(void)state;
	if (!tr_has_pipe_nowait())
		skip();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(tr_init(&polling[i], 4, 0), 0);
		tr_prep(&polling[i], IORING_OP_POLL_ADD, fds[0], NULL, 0, 0, 1)->poll32_events =
		        POLLIN;
		assert_int_equal(tr_submit(&polling[i]), 1);
	}
	put_and_take(fds[0], fds[1], 0, 1);
	assert_int_equal(told(2, 0), 0);
	for (int i = 0; i < 2; i++) {
		cqe = tr_peek(&polling[i]);
		assert_non_null(cqe);
		assert_int_equal(cqe->res, POLLIN);
		tr_exit(&polling[i]);
	}
}

/* It has its first event before it can be removed. */
static void test_removed_at_once(void **state)
{
	int event = eventfd(1, EFD_NONBLOCK);

	(void)state;
	tr_prep(&ring, IORING_OP_POLL_ADD, event, NULL, IORING_POLL_ADD_MULTI, 0, 1)
	        ->poll32_events = POLLIN;
	tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)1, 0, 0, 2);
	assert_int_equal(tr_submit(&ring), 2);
	tr_expect(&ring, 2, -EALREADY, 0);
	tr_expect(&ring, 1, POLLIN, IORING_CQE_F_MORE);
	tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)1, 0, 0, 2);
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 2, 0, 0);
	tr_expect(&ring, 1, -ECANCELED, 0);
	close(event);
}

/* By numbers of system calls. */
static void test_by_syscall(void **state)
{
	char c;

	(void)state;
	for (int multi = 0; multi < 2; multi++) {
		poll_fd(fds[0], multi);
		assert_int_equal(syscall(SYS_write, fds[1], "x", 1), 1);
		assert_int_equal(syscall(SYS_read, fds[0], &c, 1), 1);
		get_events();
		expect(POLLIN, multi ? IORING_CQE_F_MORE : 0);
		assert_null(tr_peek(&ring));
	}
}

/* The eventfd that tells of this ring's completions, polled by the same ring. */
static void test_own_eventfd(void **state)
{
	int evfd = eventfd(0, EFD_NONBLOCK);

	(void)state;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_EVENTFD, &evfd, 1), 0);
	poll_fd(evfd, true);
	assert_int_equal(eventfd_write(evfd, 1), 0);
	get_events();
	expect(POLLIN, IORING_CQE_F_MORE);
	expect(POLLIN, 0);
	tr_sleep_ms(5);
	assert_null(tr_peek(&ring));
	close(evfd);
}

/* More polls of a registered file than are looked at together; the program reads by its own number.
 */
static void test_registered(void **state)
{
	struct tr_ring other;
	char c;

	(void)state;
	assert_int_equal(tr_init(&other, 64, 0), 0);
	assert_int_equal(tr_sys_register(other.fd, IORING_REGISTER_FILES, fds, 2), 0);
	for (int i = 0; i < 40; i++) {
		struct io_uring_sqe *sqe = tr_prep(&other, IORING_OP_POLL_ADD, 0, NULL, 0, 0, 1);

		sqe->poll32_events = POLLIN;
		sqe->flags = IOSQE_FIXED_FILE;
	}
	assert_int_equal(tr_submit(&other), 40);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(read(fds[0], &c, 1), 1);
	for (int i = 0; i < 40; i++)
		tr_expect(&other, 1, POLLIN, 0);
	tr_exit(&other);
}

/* A duplicate, by each of the calls that make one; `old` is where it comes from. */
static int duplicate(int how, int old)
{
	int fd;

	switch (how) {
	case 0:
		return dup(old);
	case 1:
		fd = dup(fds[1]);
		return dup2(old, fd);
	case 2:
		fd = dup(fds[1]);
		return dup3(old, fd, O_CLOEXEC);
	default:
		return fcntl(old, F_DUPFD, 100);
	}
}

static void *write_and_read(void *arg)
{
	const int *fd = arg;
	char c;

	return write(fds[1], "x", 1) == 1 && read(*fd, &c, 1) == 1 ? arg : NULL;
}

/*
 * Polls of one number, more than are looked at together; a thread that has none reads by the
 * number of a duplicate.
 */
static void read_by_duplicate(int polled, int other)
{
	for (int i = 0; i < 40; i++) {
		tr_prep(&ring, IORING_OP_POLL_ADD, polled, NULL, 0, 0, 1)->poll32_events = POLLIN;
		assert_int_equal(tr_submit(&ring), 1);
	}
	assert_non_null(tr_in_thread(write_and_read, &other));
	for (int i = 0; i < 40; i++)
		tr_expect(&ring, 1, POLLIN, 0);
}

static void test_duplicates(void **state)
{
	(void)state;
	for (int how = 0; how < 4; how++) {
		int copy = duplicate(how, fds[0]);
		int second = duplicate(how, copy);

		assert_true(copy >= 0 && second >= 0);
		read_by_duplicate(fds[0], copy);
		read_by_duplicate(copy, fds[0]);
		read_by_duplicate(second, fds[0]);
		read_by_duplicate(fds[0], second);
		close(copy);
		read_by_duplicate(second, fds[0]);
		read_by_duplicate(fds[0], second);
		close(second);
	}
}

static void test_polled_ring(void **state)
{
	struct tr_ring other;

	(void)state;
	assert_int_equal(tr_init(&other, 4, 0), 0);
	poll_fd(other.fd, true);
	for (int i = 0; i < 2; i++) {
		tr_prep(&other, IORING_OP_NOP, -1, NULL, 0, 0, 0);
		assert_int_equal(tr_submit(&other), 1);
	}
	get_events();
	expect(POLLIN, 0);
	assert_null(tr_peek(&ring));
	tr_exit(&other);
}

#define ON_PIPE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static const struct CMUnitTest tests[] = {
	ON_PIPE(test_read_away),       ON_PIPE(test_written_twice),    ON_PIPE(test_messages),
	ON_PIPE(test_one_shot),        ON_PIPE(test_read_by_ring),     ON_PIPE(test_own_eventfd),
	ON_PIPE(test_polled_ring),     ON_PIPE(test_several_messages), ON_PIPE(test_moved),
	ON_PIPE(test_connections),     ON_PIPE(test_registered),       ON_PIPE(test_duplicates),
	ON_PIPE(test_within_one),      ON_PIPE(test_within_another),   ON_PIPE(test_by_syscall),
	ON_PIPE(test_removed_at_once),
};

TR_MAIN("poll edges", tests)
