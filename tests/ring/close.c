/*
 * The end of a ring: its last descriptor goes, in whatever process and however
 * it got there. A poll of a pipe in flight tells whether the ring still lives:
 * the kernel drops its reference to the pipe's reading end with the ring, and
 * only then a writer gets EPIPE.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct alive {
	struct tr_ring r;
	int writer; /* EPIPE as soon as the ring has let go of the reading end */
	char c;
};

static void make_alive(struct alive *a)
{
	int p[2];

	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_init(&a->r, 4, 0), 0);
	tr_prep(&a->r, IORING_OP_READ, p[0], &a->c, 1, 0, 1);
	assert_int_equal(tr_submit(&a->r), 1);
	/* The request holds the file, not the descriptor. */
	assert_int_equal(close(p[0]), 0);
	a->writer = p[1];
	assert_int_equal(fcntl(a->writer, F_SETFL, O_NONBLOCK), 0);
}

/* POLLERR on a pipe's writing end: nobody reads any more. */
static bool is_alive(const struct alive *a, int ms)
{
	struct pollfd p = { .fd = a->writer, .events = 0 };

	return poll(&p, 1, ms) == 0;
}

static void end_alive(struct alive *a)
{
	/* A mapping is a reference too. */
	tr_unmap(&a->r);
	/* Ending a ring is asynchronous; ten seconds is never. */
	assert_false(is_alive(a, 10000));
	close(a->writer);
}

static void test_close(void **state)
{
	struct alive a;

	(void)state;
	make_alive(&a);
	assert_true(is_alive(&a, 20));
	assert_int_equal(tr_sys_close(a.r.fd), 0);
	end_alive(&a);
}

static void test_dup(void **state)
{
	struct alive a;
	int other;

	(void)state;
	make_alive(&a);
	other = dup(a.r.fd);
	assert_true(other >= 0);
	assert_int_equal(tr_sys_close(a.r.fd), 0);
	assert_true(is_alive(&a, 50));
	/* The copy is the ring. */
	a.r.fd = other;
	assert_int_equal(write(a.writer, "x", 1), 1);
	assert_int_equal(tr_sys_enter(other, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0), 0);
	assert_int_equal(tr_peek(&a.r)->res, 1);
	assert_int_equal(tr_sys_close(other), 0);
	end_alive(&a);
}

static void test_dup_over(void **state)
{
	struct alive a;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	make_alive(&a);
	assert_int_equal(dup2(null, a.r.fd), a.r.fd);
	end_alive(&a);
	assert_int_equal(tr_sys_enter(a.r.fd, 0, 0, 0, NULL, 0), -EOPNOTSUPP);
	close(a.r.fd);

	make_alive(&a);
	assert_int_equal(dup3(null, a.r.fd, O_CLOEXEC), a.r.fd);
	end_alive(&a);
	close(a.r.fd);
	close(null);
}

static void test_fcntl_dup(void **state)
{
	struct alive a;
	int other;

	(void)state;
	make_alive(&a);
	other = fcntl(a.r.fd, F_DUPFD_CLOEXEC, 100);
	assert_true(other >= 100);
	assert_int_equal(tr_sys_close(a.r.fd), 0);
	assert_true(is_alive(&a, 50));
	/* A second one, over one that lives on. */
	assert_int_equal(dup2(other, 150), 150);
	assert_int_equal(tr_sys_close(other), 0);
	assert_true(is_alive(&a, 50));
	assert_int_equal(tr_sys_close(150), 0);
	end_alive(&a);
}

static void test_close_range(void **state)
{
	struct alive a;
	int high;

	(void)state;
	/* Of nothing: whether there is the call. */
	if (syscall(SYS_close_range, UINT_MAX - 1, UINT_MAX, 0) && errno == ENOSYS)
		skip();
	make_alive(&a);
	high = fcntl(a.r.fd, F_DUPFD_CLOEXEC, 500);
	assert_true(high >= 500);
	assert_int_equal(tr_sys_close(a.r.fd), 0);
	assert_int_equal(syscall(SYS_close_range, 500, 600, 0), 0);
	end_alive(&a);

	make_alive(&a);
	high = fcntl(a.r.fd, F_DUPFD_CLOEXEC, 500);
	assert_int_equal(tr_sys_close(a.r.fd), 0);
	assert_int_equal(close_range(500, 600, 0), 0);
	end_alive(&a);
}

static void test_number_reused(void **state)
{
	struct alive a;
	struct tr_ring r;
	int null;

	(void)state;
	/* The same number is a file of another kind now, then another ring. */
	make_alive(&a);
	assert_int_equal(tr_sys_close(a.r.fd), 0);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null != a.r.fd) {
		assert_int_equal(dup2(null, a.r.fd), a.r.fd);
		close(null);
		null = a.r.fd;
	}
	assert_int_equal(tr_sys_enter(null, 0, 0, 0, NULL, 0), -EOPNOTSUPP);
	assert_int_equal(tr_sys_register(null, IORING_REGISTER_PROBE, NULL, 0), -EOPNOTSUPP);
	close(null);
	end_alive(&a);
	assert_int_equal(tr_sys_enter(a.r.fd, 0, 0, 0, NULL, 0), -EBADF);
	assert_int_equal(tr_init(&r, 4, 0), 0);
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	tr_exit(&r);
}

static void test_forked_copy(void **state)
{
	struct alive a;
	int go[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(go), 0);
	make_alive(&a);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char c;

		close(go[1]);
		_exit(read(go[0], &c, 1) == 0 ? 0 : 1);
	}
	close(go[0]);
	assert_int_equal(tr_sys_close(a.r.fd), 0);
	/* The child has it still. */
	assert_true(is_alive(&a, 100));
	close(go[1]);
	assert_int_equal(tr_wait_child(pid), 0);
	end_alive(&a);
}

static void test_child_closes(void **state)
{
	struct alive a;
	pid_t pid;

	(void)state;
	make_alive(&a);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		tr_sys_close(a.r.fd);
		tr_unmap(&a.r);
		_exit(0);
	}
	assert_int_equal(tr_wait_child(pid), 0);
	/* The child's close and exit are nothing to the parent's ring. */
	assert_true(is_alive(&a, 50));
	assert_int_equal(write(a.writer, "x", 1), 1);
	assert_int_equal(tr_sys_enter(a.r.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0), 0);
	assert_int_equal(tr_peek(&a.r)->res, 1);
	assert_int_equal(tr_sys_close(a.r.fd), 0);
	end_alive(&a);
}

/* Returns 0 or -errno. */
static int send_fd(int sock, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = { .buf = { 0 } };
	struct iovec iov = { "f", 1 };
	struct msghdr m = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = u.buf,
		            .msg_controllen = sizeof(u.buf) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(sock, &m, 0) == 1 ? 0 : -errno;
}

static int receive_fd(int sock)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = u.buf,
		            .msg_controllen = sizeof(u.buf) };
	const struct cmsghdr *c;
	int fd;

	assert_int_equal(recvmsg(sock, &m, 0), 1);
	c = CMSG_FIRSTHDR(&m);
	assert_non_null(c);
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static void test_exit_ends(void **state)
{
	int sock[2];
	pid_t pid;
	int writer;
	struct pollfd p = { .events = 0 };

	(void)state;
	/* A process that is killed with a ring in use: its requests let go of their files. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct alive a;

		make_alive(&a);
		TR_CHILD_CHECK(send_fd(sock[1], a.writer) == 0);
		raise(SIGKILL);
	}
	writer = receive_fd(sock[0]);
	assert_int_equal(tr_wait_child(pid), 128 + SIGKILL);
	p.fd = writer;
	assert_int_equal(poll(&p, 1, 10000), 1);
	close(writer);
	close(sock[0]);
	close(sock[1]);
}

/* The kernel refuses to pass rings around, alone or among others. */
static void test_passed_over_socket(void **state)
{
	struct alive a;
	int sock[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	make_alive(&a);
	assert_int_equal(send_fd(sock[0], a.r.fd), -EINVAL);
	assert_int_equal(send_fd(sock[0], a.writer), 0);
	assert_int_equal(tr_sys_close(receive_fd(sock[1])), 0);
	assert_true(is_alive(&a, 50));
	assert_int_equal(tr_sys_close(a.r.fd), 0);
	end_alive(&a);
	close(sock[0]);
	close(sock[1]);
}

/* Of several messages, those before the one with a ring go out. */
static void test_passed_in_many(void **state)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = { .buf = { 0 } };
	struct iovec iov = { "f", 1 };
	struct mmsghdr m[3] = { 0 };
	struct tr_ring r;
	int sock[2];
	char got[4];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	assert_int_equal(tr_init(&r, 4, 0), 0);
	for (int i = 0; i < 3; i++)
		m[i].msg_hdr = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
	m[1].msg_hdr.msg_control = u.buf;
	m[1].msg_hdr.msg_controllen = sizeof(u.buf);
	u.align = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&u.align), &r.fd, sizeof(r.fd));
	assert_int_equal(sendmmsg(sock[0], m, 3, 0), 1);
	assert_int_equal(sendmmsg(sock[0], m + 1, 2, 0), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(recv(sock[1], got, sizeof(got), MSG_DONTWAIT), 1);
	tr_exit(&r);
	close(sock[0]);
	close(sock[1]);
}

static pid_t waiter;

static void *waits_inside(void *arg)
{
	struct tr_ring *r = arg;

	__atomic_store_n(&waiter, gettid(), __ATOMIC_RELEASE);
	return (void *)(intptr_t)tr_sys_enter(r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
}

/* Until the thread that is about to wait sleeps, which on a busy machine takes as long as it takes.
 */
static void await_waiter(void)
{
	char path[64], state = 0;
	pid_t tid;

	for (int i = 0; i < 10000 && state != 'S'; i++) {
		FILE *f;

		tr_sleep_ms(1);
		tid = __atomic_load_n(&waiter, __ATOMIC_ACQUIRE);
		if (!tid)
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
		f = fopen(path, "r");
		assert_non_null(f);
		if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 0;
		fclose(f);
	}
	assert_int_equal(state, 'S');
}

/* The thread's call holds the ring: what it waits for comes. */
static void test_closed_under_a_wait(void **state)
{
	int p[2], fds = tr_count_dir("fd");
	struct tr_ring r;
	pthread_t t;
	void *ret;
	char c;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pipe(p), 0);
		assert_int_equal(tr_init(&r, 8, 0), 0);
		tr_prep(&r, IORING_OP_READ, p[0], &c, 1, (__u64)-1, 1);
		assert_int_equal(tr_submit(&r), 1);
		__atomic_store_n(&waiter, 0, __ATOMIC_RELEASE);
		assert_int_equal(pthread_create(&t, NULL, waits_inside, &r), 0);
		await_waiter();
		assert_int_equal(tr_sys_close(r.fd), 0);
		tr_sleep_ms(50);
		assert_int_equal(write(p[1], "x", 1), 1);
		pthread_join(t, &ret);
		assert_int_equal((intptr_t)ret, 0);
		assert_int_equal(tr_ready(&r), 1);
		assert_int_equal(tr_peek(&r)->res, 1);
		tr_unmap(&r);
		close(p[0]);
		close(p[1]);
	}
	/* And it is gone after that. */
	for (int i = 0; i < 2000 && tr_count_dir("fd") > fds; i++)
		tr_sleep_ms(1);
	assert_true(tr_count_dir("fd") <= fds);
}

struct sleeper {
	struct tr_ring r;
	int p[2];
	char c;
	pthread_barrier_t armed, closed;
};

static void *sleeps(void *arg)
{
	struct sleeper *s = arg;

	if (tr_init(&s->r, 8, 0))
		abort();
	tr_prep(&s->r, IORING_OP_RECV, s->p[0], &s->c, 1, 0, 1);
	if (tr_submit(&s->r) != 1)
		abort();
	pthread_barrier_wait(&s->armed);
	pthread_barrier_wait(&s->closed);
	return NULL;
}

/* What has happened before the ring is closed is done, not cancelled. */
static void test_closed_behind_an_event(void **state)
{
	struct tr_ring other;
	struct sleeper s;
	pthread_t t;

	(void)state;
	assert_int_equal(tr_init(&other, 4, 0), 0);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s.p), 0);
		pthread_barrier_init(&s.armed, NULL, 2);
		pthread_barrier_init(&s.closed, NULL, 2);
		assert_int_equal(pthread_create(&t, NULL, sleeps, &s), 0);
		pthread_barrier_wait(&s.armed);
		assert_int_equal(tr_do(&other, IORING_OP_SEND, s.p[1], "x", 1, 0), 1);
		assert_int_equal(tr_sys_close(s.r.fd), 0);
		pthread_barrier_wait(&s.closed);
		pthread_join(t, NULL);
		assert_int_equal(tr_ready(&s.r), 1);
		assert_int_equal(tr_peek(&s.r)->res, 1);
		tr_unmap(&s.r);
		pthread_barrier_destroy(&s.armed);
		pthread_barrier_destroy(&s.closed);
		close(s.p[0]);
		close(s.p[1]);
	}
	tr_exit(&other);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_close),
	cmocka_unit_test(test_dup),
	cmocka_unit_test(test_dup_over),
	cmocka_unit_test(test_fcntl_dup),
	cmocka_unit_test(test_close_range),
	cmocka_unit_test(test_number_reused),
	cmocka_unit_test(test_forked_copy),
	cmocka_unit_test(test_child_closes),
	cmocka_unit_test(test_exit_ends),
	cmocka_unit_test(test_passed_over_socket),
	cmocka_unit_test(test_passed_in_many),
	cmocka_unit_test(test_closed_under_a_wait),
	cmocka_unit_test(test_closed_behind_an_event),
};

TR_MAIN("close", tests)
