/*
 * Requests that wait for a file, one after the other by the same descriptor: what one of them has
 * left behind does not keep the file open, and is neither taken for another file's that has the
 * number now nor for one of another ring, thread or process.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROUNDS 20

static struct tr_ring ring;
static int sv[2]; /* a request waits at the first, and is served through the second */
static char buf[8];

static int setup(void **state)
{
	(void)state;
	return tr_init(&ring, 8, 0) || socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	close(sv[0]);
	close(sv[1]);
	return 0;
}

static void arm(struct tr_ring *r, int fd, unsigned i)
{
	tr_prep(r, IORING_OP_RECV, fd, buf + i, 1, 0, i);
	if (tr_submit(r) != 1)
		abort();
}

static void serve(int fd, char c)
{
	if (syscall(SYS_write, fd, &c, 1) != 1)
		abort();
}

/* A request waits at `fd`, is served, and completes. */
static void round_by(struct tr_ring *r, int fd, int peer)
{
	static char c;
	struct io_uring_cqe cqe;

	arm(r, fd, 1);
	serve(peer, ++c);
	if (tr_wait(r, &cqe) || cqe.user_data != 1 || cqe.res != 1 || buf[1] != c)
		abort();
}

static void test_number_is_anothers(void **state)
{
	int other[2], number = sv[0];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
	round_by(&ring, number, sv[1]);
	/* While the first is waited for, and again when it no longer is. */
	arm(&ring, number, 1);
	sv[0] = dup(number);
	assert_int_equal(dup2(other[0], number), number);
	arm(&ring, number, 2);
	serve(other[1], 'o');
	tr_expect(&ring, 2, 1, 0);
	serve(sv[1], 's');
	tr_expect(&ring, 1, 1, 0);
	assert_int_equal(buf[1], 's');
	assert_int_equal(buf[2], 'o');
	for (int i = 0; i < 3; i++)
		round_by(&ring, number, other[1]);
	/* And back. */
	assert_int_equal(dup2(sv[0], number), number);
	for (int i = 0; i < 3; i++)
		round_by(&ring, number, sv[1]);
	close(number);
	close(other[0]);
	close(other[1]);
}

static void test_slot_is_anothers(void **state)
{
	struct io_uring_files_update up = { .fds = (uint64_t)(uintptr_t)&sv[0] };
	int other[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, sv, 1), 0);
	for (int i = 0; i < ROUNDS; i++) {
		bool swapped = i / 2 % 2;

		up.fds = (uint64_t)(uintptr_t)(swapped ? other : sv);
		assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), 1);
		for (unsigned n = 1; n <= 2; n++)
			tr_prep(&ring, IORING_OP_RECV, 0, buf + n, 1, 0, n)->flags =
			        IOSQE_FIXED_FILE;
		assert_int_equal(tr_submit(&ring), 2);
		serve(swapped ? other[1] : sv[1], 'x');
		tr_expect(&ring, 2, 1, 0);
		serve(swapped ? other[1] : sv[1], 'x');
		tr_expect(&ring, 1, 1, 0);
	}
	close(other[0]);
	close(other[1]);
}

/* The engine's number of a registered file comes back as that of a duplicate of the same file. */
static void test_slot_has_gone(void **state)
{
	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, sv, 1), 0);
		tr_prep(&ring, IORING_OP_RECV, 0, buf, 1, 0, 1)->flags = IOSQE_FIXED_FILE;
		assert_int_equal(tr_submit(&ring), 1);
		serve(sv[1], 'x');
		tr_expect(&ring, 1, 1, 0);
		assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_FILES, NULL, 0), 0);
		for (unsigned n = 2; n <= 3; n++) {
			struct io_uring_sqe *sqe =
			        tr_prep(&ring, IORING_OP_POLL_ADD, sv[0], NULL, 0, 0, n);

			sqe->poll32_events = POLLIN;
			sqe->flags = IOSQE_ASYNC;
		}
		assert_int_equal(tr_submit(&ring), 2);
		tr_sleep_ms(1);
		serve(sv[1], 'x');
		for (unsigned n = 2; n <= 3; n++) {
			struct io_uring_cqe cqe;

			assert_int_equal(tr_wait(&ring, &cqe), 0);
			assert_int_equal(cqe.res, POLLIN);
		}
		assert_int_equal(recv(sv[0], buf, 1, 0), 1);
	}
}

static void cancel_first(void)
{
	struct io_uring_cqe cqe;

	tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)1, 0, 0, 4);
	assert_int_equal(tr_submit(&ring), 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.res, cqe.user_data == 1 ? -ECANCELED : 0);
	}
}

static void test_file_is_not_held(void **state)
{
	struct pollfd pfd = { .events = POLLIN };

	(void)state;
	for (int cancelled = 0; cancelled < 2; cancelled++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		if (cancelled) {
			arm(&ring, pair[0], 1);
			cancel_first();
		} else {
			round_by(&ring, pair[0], pair[1]);
		}
		/* Its peer sees the end. */
		close(pair[0]);
		pfd.fd = pair[1];
		assert_int_equal(poll(&pfd, 1, 1000), 1);
		assert_int_equal(read(pair[1], buf, 1), 0);
		close(pair[1]);
	}
}

/* The last one to wait is served first, whatever has gone before. */
static void test_order(void **state)
{
	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		arm(&ring, sv[0], 1);
		arm(&ring, sv[0], 2);
		cancel_first();
		arm(&ring, sv[0], 3);
		serve(sv[1], 'x');
		tr_expect(&ring, 3, 1, 0);
		serve(sv[1], 'x');
		tr_expect(&ring, 2, 1, 0);
	}
}

static void *alternate(void *arg)
{
	pthread_barrier_t *turns = arg;
	struct tr_ring r;

	if (tr_init(&r, 8, 0))
		abort();
	for (int i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(turns);
		pthread_barrier_wait(turns);
		round_by(&r, sv[0], sv[1]);
	}
	tr_exit(&r);
	return NULL;
}

static void test_threads_in_turn(void **state)
{
	pthread_barrier_t turns;
	pthread_t t;

	(void)state;
	pthread_barrier_init(&turns, NULL, 2);
	assert_int_equal(pthread_create(&t, NULL, alternate, &turns), 0);
	for (int i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&turns);
		round_by(&ring, sv[0], sv[1]);
		pthread_barrier_wait(&turns);
	}
	pthread_join(t, NULL);
	round_by(&ring, sv[0], sv[1]);
	pthread_barrier_destroy(&turns);
}

static void test_rings_in_turn(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		round_by(&ring, sv[0], sv[1]);
		tr_exit(&ring);
		assert_int_equal(tr_init(&ring, 8, 0), 0);
	}
	round_by(&ring, sv[0], sv[1]);
}

static void test_processes_in_turn(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		pid_t pid;

		round_by(&ring, sv[0], sv[1]);
		pid = fork();
		if (pid == 0) {
			struct tr_ring r;

			TR_CHILD_CHECK(tr_init(&r, 8, 0) == 0);
			round_by(&r, sv[0], sv[1]);
			_exit(0);
		}
		assert_int_equal(tr_wait_child(pid), 0);
	}
	round_by(&ring, sv[0], sv[1]);
}

/* Descriptors come and go in one thread while another has requests wait by a number of its own. */
static void *open_and_close(void *arg)
{
	const int *stop = arg;

	while (!__atomic_load_n(stop, __ATOMIC_RELAXED))
		close(open("/dev/null", O_RDONLY | O_CLOEXEC));
	return NULL;
}

static void test_others_close(void **state)
{
	pthread_t t;
	int stop = 0;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, open_and_close, &stop), 0);
	for (int i = 0; i < 50 * ROUNDS; i++)
		round_by(&ring, sv[0], sv[1]);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
}

static void *waits_for_nothing(void *arg)
{
	static char c;
	struct tr_ring r;
	int *fd = arg;

	if (tr_init(&r, 32, 0))
		abort();
	for (unsigned i = 0; i < 32; i++)
		tr_prep(&r, IORING_OP_READ, *fd, &c, 1, 0, i);
	if (tr_submit(&r) != 32)
		abort();
	/* Any number that is not open is the program's to use. */
	for (int number = 32; number < 256; number++) {
		if (fcntl(number, F_GETFD) >= 0)
			continue;
		if (dup2(*fd, number) != number)
			abort();
		close(number);
	}
	tr_exit(&r);
	return NULL;
}

/* By the first thread, and by another one in a child. */
static void test_numbers_are_free(void **state)
{
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		tr_exit(&ring);
		tr_in_thread(waits_for_nothing, &sv[0]);
		_exit(0);
	}
	assert_int_equal(tr_wait_child(pid), 0);
	waits_for_nothing(&sv[0]);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_number_is_anothers),
	ON_RING(test_slot_is_anothers),
	ON_RING(test_slot_has_gone),
	ON_RING(test_file_is_not_held),
	ON_RING(test_order),
	ON_RING(test_threads_in_turn),
	ON_RING(test_rings_in_turn),
	ON_RING(test_processes_in_turn),
	ON_RING(test_others_close),
	ON_RING(test_numbers_are_free),
};

TR_MAIN("names", tests)
