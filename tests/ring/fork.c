/*
 * Rings and fork: a child makes its own at once, uses the one that its parent
 * made, and dies in the middle of it.
 */
#include "tests/ring_util.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void child_own_ring(void)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;
	char c = 0;
	int p[2];

	TR_CHILD_CHECK(pipe(p) == 0);
	TR_CHILD_CHECK(tr_init(&r, 8, 0) == 0);
	tr_prep(&r, IORING_OP_READ, p[0], &c, 1, 0, 7);
	TR_CHILD_CHECK(tr_submit(&r) == 1);
	TR_CHILD_CHECK(write(p[1], "x", 1) == 1);
	TR_CHILD_CHECK(tr_wait(&r, &cqe) == 0);
	TR_CHILD_CHECK(cqe.user_data == 7 && cqe.res == 1 && c == 'x');
	tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 8)->flags = IOSQE_ASYNC;
	TR_CHILD_CHECK(tr_submit_wait(&r, 1) == 1);
	TR_CHILD_CHECK(tr_peek(&r)->user_data == 8);
	tr_exit(&r);
}

static void test_child_makes_ring(void **state)
{
	struct tr_ring r;

	(void)state;
	/* With and without a ring in the parent. */
	for (int round = 0; round < 2; round++) {
		pid_t pid;

		if (round)
			assert_int_equal(tr_init(&r, 8, 0), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			child_own_ring();
			_exit(0);
		}
		assert_int_equal(tr_wait_child(pid), 0);
	}
	/* The parent's is as it was. */
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	tr_exit(&r);
}

static void test_raw_fork(void **state)
{
	struct tr_ring r;
	pid_t pid;

	(void)state;
	/* No atfork handler runs here. */
	assert_int_equal(tr_init(&r, 8, 0), 0);
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	assert_true(pid >= 0);
	if (pid == 0) {
		child_own_ring();
		_exit(0);
	}
	assert_int_equal(tr_wait_child(pid), 0);
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	tr_exit(&r);
}

static void test_child_uses_parents_ring(void **state)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;
	int fd = tr_temp_file(1000);
	int p[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_init(&r, 8, 0), 0);
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char buf[100];

		/* Inline, from a worker, and armed: all with the child's memory and files. */
		close(p[1]);
		memset(buf, 0, sizeof(buf));
		tr_prep(&r, IORING_OP_READ, fd, buf, 100, 10, 1);
		tr_prep(&r, IORING_OP_READ, fd, buf, 100, 10, 2)->flags = IOSQE_ASYNC;
		TR_CHILD_CHECK(tr_submit_wait(&r, 2) == 2);
		for (int i = 0; i < 2; i++) {
			TR_CHILD_CHECK(tr_wait(&r, &cqe) == 0);
			TR_CHILD_CHECK(cqe.res == 100);
		}
		for (size_t i = 0; i < 100; i++)
			TR_CHILD_CHECK((unsigned char)buf[i] == tr_pattern(10 + i));
		tr_prep(&r, IORING_OP_READ, p[0], buf, 5, 0, 3);
		TR_CHILD_CHECK(tr_submit(&r) == 1);
		TR_CHILD_CHECK(tr_wait(&r, &cqe) == 0);
		TR_CHILD_CHECK(cqe.user_data == 3 && cqe.res == 5);
		TR_CHILD_CHECK(memcmp(buf, "hello", 5) == 0);
		_exit(0);
	}
	tr_sleep_ms(50);
	assert_int_equal(write(p[1], "hello", 5), 5);
	assert_int_equal(tr_wait_child(pid), 0);
	/* Indices are shared; the parent's view of the SQ tail has to catch up. */
	r.sqe_tail = *r.sq_tail;
	assert_int_equal(*r.sq_head, 4);
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	tr_exit(&r);
	close(p[0]);
	close(p[1]);
	close(fd);
}

static void test_child_submits_parent_waits(void **state)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;
	pid_t pid;

	(void)state;
	/* Who waits gets the completion, wherever it was submitted. */
	assert_int_equal(tr_init(&r, 8, 0), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		tr_sleep_ms(50);
		tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 99);
		TR_CHILD_CHECK(tr_submit(&r) == 1);
		_exit(0);
	}
	assert_int_equal(tr_wait(&r, &cqe), 0);
	assert_int_equal(cqe.user_data, 99);
	assert_int_equal(tr_wait_child(pid), 0);
	tr_exit(&r);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/*
 * The parent has something armed and sleeps in its wait when a child first uses the ring. That it
 * is told at once, most times, and not when it next looks, is what "late" counts.
 */
static void test_child_begins_while_parent_waits(void **state)
{
	enum { ROUNDS = 20, LATE_MS = 400 };
	int late = 0, p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	for (int i = 0; i < ROUNDS; i++) {
		struct tr_ring r;
		struct io_uring_cqe cqe;
		int64_t began;
		pid_t pid;
		char c;

		assert_int_equal(tr_init(&r, 8, 0), 0);
		tr_prep(&r, IORING_OP_READ, p[0], &c, 1, 0, 5);
		assert_int_equal(tr_submit(&r), 1);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			tr_sleep_ms(20);
			tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 99);
			TR_CHILD_CHECK(tr_submit(&r) == 1);
			_exit(0);
		}
		began = now_ms();
		assert_int_equal(tr_wait_ms(&r, &cqe, 20000), 0);
		late += now_ms() - began > LATE_MS;
		assert_int_equal(cqe.user_data, 99);
		assert_int_equal(tr_wait_child(pid), 0);
		tr_exit(&r);
	}
	assert_true(late < ROUNDS / 2);
	close(p[0]);
	close(p[1]);
}

static void test_parent_waits_while_child_polls(void **state)
{
	struct tr_ring r;
	int p[2];
	pid_t pid;
	char c;

	(void)state;
	/* A request of the parent completes in the ring that the child looks at. */
	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_init(&r, 8, 0), 0);
	tr_prep(&r, IORING_OP_READ, p[0], &c, 1, 0, 5);
	assert_int_equal(tr_submit(&r), 1);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		for (int i = 0; i < 2000 && !tr_peek(&r); i++)
			tr_sleep_ms(5);
		TR_CHILD_CHECK(tr_peek(&r) && tr_peek(&r)->user_data == 5);
		_exit(0);
	}
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(tr_sys_enter(r.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0), 0);
	assert_int_equal(tr_wait_child(pid), 0);
	tr_exit(&r);
	close(p[0]);
	close(p[1]);
}

static void test_child_killed(void **state)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;
	int fd = tr_temp_file(4096);

	(void)state;
	/* Children that die in the middle of using the ring leave it usable. */
	assert_int_equal(tr_init(&r, 64, 0), 0);
	for (int round = 0; round < 20; round++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			static char buf[64][64];

			for (;;) {
				for (unsigned i = 0; i < 16; i++) {
					struct io_uring_sqe *sqe = tr_sqe(&r);

					if (!sqe)
						break;
					sqe->opcode = IORING_OP_READ;
					sqe->fd = fd;
					sqe->addr = (uint64_t)(uintptr_t)buf[i];
					sqe->len = 64;
				}
				tr_submit(&r);
				while (tr_peek(&r))
					tr_seen(&r);
			}
		}
		tr_sleep_ms(5);
		kill(pid, SIGKILL);
		assert_int_equal(tr_wait_child(pid), 128 + SIGKILL);
		r.sqe_tail = *r.sq_tail;
		while (tr_submit(&r) > 0)
			;
		/* What the child left behind comes first, or even last; ours comes too. */
		while (tr_peek(&r))
			tr_seen(&r);
		tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
		assert_int_equal(tr_submit(&r), 1);
		do
			assert_int_equal(tr_wait_ms(&r, &cqe, 10000), 0);
		while (cqe.user_data != 1);
	}
	tr_exit(&r);
	close(fd);
}

static void test_many_children_at_once(void **state)
{
	pid_t pids[8];

	(void)state;
	for (int i = 0; i < 8; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0) {
			for (int k = 0; k < 20; k++)
				child_own_ring();
			_exit(0);
		}
	}
	for (int i = 0; i < 8; i++)
		assert_int_equal(tr_wait_child(pids[i]), 0);
}

static void test_shared_ring_of_servers(void **state)
{
	struct tr_ring r[4];
	pid_t pids[4];
	int fd = tr_temp_file(65536);

	(void)state;
	/* All rings made in one parent, each used by one child only. */
	for (int i = 0; i < 4; i++)
		assert_int_equal(tr_init(&r[i], 16, 0), 0);
	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0) {
			unsigned char buf[256];

			for (int k = 0; k < 500; k++) {
				size_t off = (size_t)((k * 977 + i * 131) % 65000);
				struct io_uring_sqe *sqe = tr_sqe(&r[i]);
				struct io_uring_cqe cqe;

				sqe->opcode = IORING_OP_READ;
				sqe->fd = fd;
				sqe->addr = (uint64_t)(uintptr_t)buf;
				sqe->len = 256;
				sqe->off = off;
				sqe->user_data = (unsigned)k;
				sqe->flags = (uint8_t)(k % 7 == 0 ? IOSQE_ASYNC : 0);
				TR_CHILD_CHECK(tr_submit_wait(&r[i], 1) == 1);
				TR_CHILD_CHECK(tr_wait(&r[i], &cqe) == 0);
				TR_CHILD_CHECK(cqe.user_data == (unsigned)k && cqe.res == 256);
				TR_CHILD_CHECK(buf[0] == tr_pattern(off));
				TR_CHILD_CHECK(buf[255] == tr_pattern(off + 255));
			}
			_exit(0);
		}
	}
	for (int i = 0; i < 4; i++) {
		assert_int_equal(tr_wait_child(pids[i]), 0);
		tr_exit(&r[i]);
	}
	close(fd);
}

static void restrict_and_enable(int fd)
{
	struct io_uring_restriction only[2] = { 0 };

	only[0].opcode = IORING_RESTRICTION_SQE_OP;
	only[0].sqe_op = IORING_OP_NOP;
	only[1].opcode = IORING_RESTRICTION_REGISTER_OP;
	only[1].register_op = IORING_REGISTER_PROBE;
	TR_CHILD_CHECK(tr_sys_register(fd, IORING_REGISTER_RESTRICTIONS, only, 2) == 0);
	TR_CHILD_CHECK(tr_sys_register(fd, IORING_REGISTER_RESTRICTIONS, only, 2) == -EBUSY);
	TR_CHILD_CHECK(tr_sys_register(fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) == 0);
}

/* What a ring allows it allows to all who have it, whoever has said so. */
static void test_child_restricts(void **state)
{
	struct tr_ring r;
	pid_t pid;

	(void)state;
	assert_int_equal(tr_init(&r, 8, IORING_SETUP_R_DISABLED), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		restrict_and_enable(r.fd);
		_exit(0);
	}
	assert_int_equal(tr_wait_child(pid), 0);
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_int_equal(tr_do(&r, IORING_OP_CLOSE, 1000, NULL, 0, 0), -EACCES);
	assert_int_equal(tr_sys_register(r.fd, IORING_UNREGISTER_FILES, NULL, 0), -EACCES);
	tr_exit(&r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_child_makes_ring),
	cmocka_unit_test(test_raw_fork),
	cmocka_unit_test(test_child_uses_parents_ring),
	cmocka_unit_test(test_child_submits_parent_waits),
	cmocka_unit_test(test_child_begins_while_parent_waits),
	cmocka_unit_test(test_parent_waits_while_child_polls),
	cmocka_unit_test(test_child_killed),
	cmocka_unit_test(test_many_children_at_once),
	cmocka_unit_test(test_shared_ring_of_servers),
	cmocka_unit_test(test_child_restricts),
};

TR_MAIN("fork", tests)
