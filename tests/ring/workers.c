/*
 * The workers' limits: what is read back through which ring and by which thread, and that they
 * hold for what the thread submits. What blocks is the opening of FIFOs that nobody writes to.
 */
#include "tests/ring_util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 8

/* The kernel's code for a system call that a signal has ended. */
#define ERESTARTSYS 512

static char dir[64], paths[MOST][96];

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/ring-workers-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	for (int i = 0; i < MOST; i++) {
		snprintf(paths[i], sizeof(paths[i]), "%s/%d", dir, i);
		if (mkfifo(paths[i], 0600))
			return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < MOST; i++)
		unlink(paths[i]);
	return rmdir(dir);
}

/* Sets what is not 0, and gives back what was set before. */
static void exchange(struct tr_ring *r, unsigned v[2])
{
	assert_int_equal(tr_sys_register(r->fd, IORING_REGISTER_IOWQ_MAX_WORKERS, v, 2), 0);
}

/* The same; checks what was set before. */
static void limits(struct tr_ring *r, unsigned bounded, unsigned unbounded, unsigned old_bounded,
                   unsigned old_unbounded)
{
	unsigned v[2] = { bounded, unbounded };

	exchange(r, v);
	assert_int_equal(v[0], old_bounded);
	assert_int_equal(v[1], old_unbounded);
}

/* A thread takes over what the first ring has that it submits to, and has nothing before. */
static void *other_thread(void *arg)
{
	struct tr_ring *r = arg, own;
	unsigned char cpus = 1;

	limits(&r[0], 0, 0, 0, 0);
	assert_int_equal(tr_sys_register(r->fd, IORING_REGISTER_IOWQ_AFF, &cpus, 1), -EINVAL);
	assert_int_equal(tr_sys_register(r->fd, IORING_UNREGISTER_IOWQ_AFF, NULL, 0), -EINVAL);
	assert_int_equal(tr_do(&r[1], IORING_OP_NOP, -1, NULL, 0, 0), 0);
	limits(&r[0], 0, 0, 2, 20);
	limits(&r[1], 3, 0, 2, 20);
	assert_int_equal(tr_init(&own, 1, 0), 0);
	limits(&own, 0, 0, 3, 20);
	tr_exit(&own);
	return arg;
}

static void *fresh_thread(void *arg)
{
	struct tr_ring own;
	unsigned v[2] = { 0, 0 };

	assert_int_equal(tr_init(&own, 1, 0), 0);
	exchange(&own, v);
	assert_int_equal(v[0], 1);
	assert_true(v[1] > 0);
	limits(&own, 5, 0, 1, v[1]);
	limits(&own, 0, 7, 5, v[1]);
	limits(&own, 0, 0, 5, 7);
	tr_exit(&own);
	return arg;
}

/* Each of these threads returns what it was given. */
static void must_end(void *(*fn)(void *), void *arg)
{
	assert_ptr_equal(tr_in_thread(fn, arg), arg);
}

static void *two_rings(void *arg)
{
	struct tr_ring *r = arg;
	unsigned v[2] = { 1, 10 };

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(tr_init(&r[i], 4, 0), 0);
	exchange(&r[0], v);
	limits(&r[1], 2, 20, 1, 10);
	/* Each ring keeps its own, and every call applies them. */
	limits(&r[0], 0, 0, 2, 20);
	limits(&r[0], 0, 0, 1, 10);
	limits(&r[1], 0, 0, 1, 10);
	must_end(other_thread, r);
	/* The other has submitted to the second ring, as this one has: both have its limits. */
	limits(&r[0], 0, 0, 3, 20);
	limits(&r[0], 0, 0, 1, 10);
	for (unsigned i = 0; i < 2; i++)
		tr_exit(&r[i]);
	return arg;
}

static void test_read_back(void **state)
{
	struct tr_ring rings[2];

	(void)state;
	must_end(fresh_thread, rings);
	must_end(two_rings, rings);
}

static void test_sqpoll(void **state)
{
	struct tr_ring r[2];
	unsigned v[2] = { 1, 10 }, before[2] = { 0, 0 };

	(void)state;
	assert_int_equal(tr_init(&r[0], 4, 0), 0);
	assert_int_equal(tr_init(&r[1], 2, IORING_SETUP_SQPOLL), 0);
	exchange(&r[0], before);
	exchange(&r[1], v);
	assert_int_equal(v[0], 2);
	limits(&r[1], 0, 0, 1, 10);
	limits(&r[0], 0, 0, before[0], before[1]);
	tr_exit(&r[1]);
	tr_exit(&r[0]);
}

static void open_fifo(struct tr_ring *r, unsigned i)
{
	struct io_uring_sqe *sqe = tr_prep(r, IORING_OP_OPENAT, AT_FDCWD, paths[i], 0, 0, i);

	sqe->open_flags = O_RDONLY;
	sqe->flags = IOSQE_ASYNC;
}

/* Opens the other end of a FIFO once its reader is there, and expects that to be done. */
static void finish(struct tr_ring *r, unsigned i)
{
	struct io_uring_cqe cqe;
	int fd = open(paths[i], O_WRONLY);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(tr_wait_ms(r, &cqe, 10000), 0);
	assert_int_equal(cqe.user_data, i);
	assert_true(cqe.res >= 0);
	close(cqe.res);
}

/* Without a limit of one, every request has a worker, whoever is idle when they come. */
static void *opens_all(void *arg)
{
	struct tr_ring r;

	assert_int_equal(tr_init(&r, 8, 0), 0);
	for (unsigned n = 1; n <= MOST; n++) {
		for (unsigned i = 0; i < n; i++)
			open_fifo(&r, i);
		assert_int_equal(tr_submit(&r), n);
		for (unsigned i = n; i-- > 0;)
			finish(&r, i);
		tr_sleep_ms(1);
	}
	tr_exit(&r);
	return arg;
}

static void test_no_limit(void **state)
{
	int arg;

	(void)state;
	must_end(opens_all, &arg);
}

static void *opens_elsewhere(void *arg)
{
	struct tr_ring r;

	assert_int_equal(tr_init(&r, 8, 0), 0);
	open_fifo(&r, 2);
	open_fifo(&r, 3);
	assert_int_equal(tr_submit(&r), 2);
	finish(&r, 3);
	finish(&r, 2);
	tr_exit(&r);
	return arg;
}

static void *opens_in_turn(void *arg)
{
	struct tr_ring r;
	unsigned v[2] = { 1, 0 };

	assert_int_equal(tr_init(&r, 8, 0), 0);
	exchange(&r, v);
	open_fifo(&r, 0);
	open_fifo(&r, 1);
	assert_int_equal(tr_submit(&r), 2);
	/* Another thread's go on as if nothing were. */
	must_end(opens_elsewhere, &v);
	tr_sleep_ms(20);
	/* Nobody is at the second one. */
	assert_int_equal(open(paths[1], O_WRONLY | O_NONBLOCK), -1);
	assert_int_equal(errno, ENXIO);
	finish(&r, 0);
	finish(&r, 1);
	/* What is held back can be cancelled, and what is left goes on. */
	for (unsigned i = 0; i < 3; i++)
		open_fifo(&r, i);
	assert_int_equal(tr_submit(&r), 3);
	tr_prep(&r, IORING_OP_ASYNC_CANCEL, -1, (void *)1, 0, 0, 9);
	assert_int_equal(tr_submit(&r), 1);
	for (int i = 0; i < 2; i++) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait(&r, &cqe), 0);
		assert_true(cqe.user_data == 1 || cqe.user_data == 9);
		assert_int_equal(cqe.res, cqe.user_data == 1 ? -ECANCELED : 0);
	}
	finish(&r, 0);
	finish(&r, 2);
	tr_exit(&r);
	return arg;
}

static void test_one_at_a_time(void **state)
{
	int arg;

	(void)state;
	must_end(opens_in_turn, &arg);
}

static void nothing(int sig)
{
	(void)sig;
}

/* What a worker is at is interrupted, which has a code of the kernel's own. */
static void test_interrupted(void **state)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;

	(void)state;
	/* Where the engine is part of this program, cmocka's handler would be what interrupts. */
	signal(SIGSYS, nothing);
	assert_int_equal(tr_init(&r, 8, 0), 0);
	open_fifo(&r, 0);
	assert_int_equal(tr_submit(&r), 1);
	/* Until the reader is there. */
	tr_sleep_ms(20);
	tr_prep(&r, IORING_OP_ASYNC_CANCEL, -1, NULL, 0, 0, 9);
	assert_int_equal(tr_submit(&r), 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(tr_wait_ms(&r, &cqe, 10000), 0);
		if (cqe.user_data == 9)
			assert_true(cqe.res == -EALREADY || cqe.res == 0);
		else
			assert_true(cqe.res == -ERESTARTSYS || cqe.res == -ECANCELED);
	}
	tr_exit(&r);
}

/* What never waits completes in the order of submission, also behind something that waits. */
static void test_in_order(void **state)
{
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	for (int behind = 0; behind < 2; behind++) {
		if (behind)
			open_fifo(&r, 0);
		for (int round = 0; round < 200; round++) {
			for (unsigned i = 1; i < 5; i++)
				tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, i)->flags = IOSQE_ASYNC;
			assert_int_equal(tr_submit_wait(&r, 4), behind && !round ? 5 : 4);
			for (unsigned i = 1; i < 5; i++)
				tr_expect(&r, i, 0, 0);
		}
	}
	finish(&r, 0);
	tr_exit(&r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_read_back),
	cmocka_unit_test(test_sqpoll),
	cmocka_unit_test_setup_teardown(test_no_limit, setup, teardown),
	cmocka_unit_test_setup_teardown(test_one_at_a_time, setup, teardown),
	cmocka_unit_test_setup_teardown(test_interrupted, setup, teardown),
	cmocka_unit_test_setup_teardown(test_in_order, setup, teardown),
};

TR_MAIN("workers", tests)
