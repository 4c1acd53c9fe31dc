/*
 * Several processes at one ring: they cancel each other's requests, execute another
 * program, and die.
 */
#include "tests/ring_util.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

static struct tr_ring ring;
static int p[2]; /* an empty pipe */

static int setup(void **state)
{
	(void)state;
	return pipe(p) ? -1 : tr_init(&ring, 16, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	close(p[0]);
	close(p[1]);
	return 0;
}

/* What waits in the ring, whoever has submitted it: 1 to 5 on the pipe, timeouts 6 and 7. */
static void submit_waiting(const struct __kernel_timespec *ts)
{
	static char buf[3];

	for (uint64_t i = 1; i <= 2; i++)
		tr_prep(&ring, IORING_OP_POLL_ADD, p[0], NULL, 0, 0, i)->poll32_events = POLLIN;
	for (uint64_t i = 3; i <= 5; i++) {
		struct io_uring_sqe *sqe =
		        tr_prep(&ring, IORING_OP_READ, p[0], &buf[i - 3], 1, 0, i);

		sqe->flags = i == 5 ? IOSQE_ASYNC : 0;
	}
	tr_prep(&ring, IORING_OP_TIMEOUT, -1, ts, 1, 0, 6);
	tr_prep(&ring, IORING_OP_TIMEOUT, -1, ts, 1, 0, 7);
}

/* Takes `n` CQEs, which may come in any order, as res[user_data]. */
static bool take_results(int n, int res[], int max)
{
	struct io_uring_cqe cqe;

	for (int i = 0; i < max; i++)
		res[i] = 1;
	while (n--) {
		if (tr_wait_ms(&ring, &cqe, 5000) || cqe.user_data >= (uint64_t)max)
			return false;
		res[cqe.user_data] = cqe.res;
	}
	return true;
}

static const struct __kernel_timespec an_hour = { .tv_sec = 3600 };

static void cancel_from_child(void)
{
	struct io_uring_sync_cancel_reg sync = { .addr = 3, .timeout = { -1, -1 } };
	int res[20];

	tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)1, 0, 0, 11);
	tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)2, 0, 0, 12);
	tr_prep(&ring, IORING_OP_TIMEOUT_REMOVE, -1, (void *)6, 0, 0, 13);
	tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)99, 0, 0, 14);
	TR_CHILD_CHECK(tr_submit(&ring) == 4);
	TR_CHILD_CHECK(take_results(7, res, 20));
	TR_CHILD_CHECK(res[1] == -ECANCELED && res[2] == -ECANCELED && res[6] == -ECANCELED);
	TR_CHILD_CHECK(res[11] == 0 && res[12] == 0 && res[13] == 0 && res[14] == -ENOENT);
	TR_CHILD_CHECK(tr_sys_register(ring.fd, IORING_REGISTER_SYNC_CANCEL, &sync, 1) == 0);
	TR_CHILD_CHECK(take_results(1, res, 20));
	TR_CHILD_CHECK(res[3] == -ECANCELED);
	tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, NULL, 0, 0, 15)->cancel_flags =
	        IORING_ASYNC_CANCEL_ANY;
	TR_CHILD_CHECK(tr_submit(&ring) == 1);
	TR_CHILD_CHECK(take_results(4, res, 20));
	TR_CHILD_CHECK(res[4] == -ECANCELED && res[5] == -ECANCELED && res[7] == -ECANCELED);
	TR_CHILD_CHECK(res[15] == 3);
}

static void test_child_cancels(void **state)
{
	pid_t pid;

	(void)state;
	submit_waiting(&an_hour);
	assert_int_equal(tr_submit(&ring), 7);
	/* The worker has to find out first that it cannot go on. */
	tr_sleep_ms(50);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		cancel_from_child();
		_exit(0);
	}
	assert_int_equal(tr_wait_child(pid), 0);
}

static void test_parent_cancels(void **state)
{
	int go[2], res[20];
	pid_t pid;
	char c;

	(void)state;
	assert_int_equal(pipe(go), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		submit_waiting(&an_hour);
		TR_CHILD_CHECK(tr_submit(&ring) == 7);
		tr_sleep_ms(50);
		TR_CHILD_CHECK(write(go[1], "x", 1) == 1);
		for (;;)
			pause();
	}
	assert_int_equal(read(go[0], &c, 1), 1);
	ring.sqe_tail = *ring.sq_tail;
	tr_prep(&ring, IORING_OP_ASYNC_CANCEL, p[0], NULL, 0, 0, 11)->cancel_flags =
	        IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL;
	assert_int_equal(tr_submit(&ring), 1);
	assert_true(take_results(6, res, 20));
	assert_int_equal(res[11], 5);
	for (int i = 1; i <= 5; i++)
		assert_int_equal(res[i], -ECANCELED);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(tr_wait_child(pid), 128 + SIGKILL);
	close(go[0]);
	close(go[1]);
}

static void test_exec_cancels(void **state)
{
	int res[20];
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		submit_waiting(&an_hour);
		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 8)->flags = IOSQE_IO_DRAIN;
		TR_CHILD_CHECK(tr_submit(&ring) == 8);
		/* This one fails and ends nothing. */
		TR_CHILD_CHECK(execl("/nonexistent/sleep", "sleep", "1", (char *)NULL) == -1);
		TR_CHILD_CHECK(tr_peek(&ring) == NULL);
		execlp("sleep", "sleep", "30", (char *)NULL);
		_exit(1);
	}
	assert_true(take_results(8, res, 20));
	for (int i = 1; i <= 8; i++)
		assert_int_equal(res[i], -ECANCELED);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(tr_wait_child(pid), 128 + SIGKILL);
}

static void test_dead_ones(void **state)
{
	const struct __kernel_timespec soon = { .tv_nsec = 200000000 };
	int res[20];
	pid_t pid;

	(void)state;
	/* What a process leaves behind ends when its time has come, or its file is ready. */
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		submit_waiting(&soon);
		TR_CHILD_CHECK(tr_submit(&ring) == 7);
		_exit(0);
	}
	assert_int_equal(tr_wait_child(pid), 0);
	assert_int_equal(write(p[1], "12345", 5), 5);
	assert_true(take_results(7, res, 20));
	for (int i = 1; i <= 5; i++)
		assert_int_equal(res[i], -ECANCELED);
	assert_int_equal(res[6], -ETIME);
	assert_int_equal(res[7], -ETIME);
	/* Nothing has been read. */
	assert_int_equal(read(p[0], res, 8), 5);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_child_cancels),
	ON_RING(test_parent_cancels),
	ON_RING(test_exec_cancels),
	ON_RING(test_dead_ones),
};

TR_MAIN("peers", tests)
