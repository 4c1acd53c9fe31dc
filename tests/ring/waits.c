/*
 * FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAITV and WAITID: that a wait is in the queue when its
 * submission returns, in which order waits end, whom a plain system call wakes, and how
 * they are cancelled.
 */
#include "tests/ring_util.h"
#include "tests/newer_ops.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANY 0xffffffffULL

static struct tr_ring ring;
static uint32_t words[130];

static int setup(void **state)
{
	(void)state;
	memset(words, 0, sizeof(words));
	return tr_init(&ring, 64, 0);
}

static int setup_deferred(void **state)
{
	(void)state;
	memset(words, 0, sizeof(words));
	return tr_init(&ring, 64, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	return 0;
}

static struct io_uring_sqe *prep_wait(uint32_t *word, uint32_t val, uint64_t mask, int flags,
                                      uint64_t user_data)
{
	struct io_uring_sqe *sqe = tr_prep(&ring, OP_FUTEX_WAIT, flags, word, 0, val, user_data);

	sqe->addr3 = mask;
	return sqe;
}

static void prep_wake(uint32_t *word, uint32_t nr, uint64_t mask, int flags, uint64_t user_data)
{
	tr_prep(&ring, OP_FUTEX_WAKE, flags, word, 0, nr, user_data)->addr3 = mask;
}

static long wake(uint32_t *word, int nr, int flags)
{
	return syscall(SYS_futex, word, FUTEX_WAKE | (flags & FUTEX_PRIVATE_FLAG), nr, NULL, NULL,
	               0);
}

/* The CQEs of the next `nr` user_data values, in whatever order they come. */
static void collect(int *res, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait_ms(&ring, &cqe, 2000), 0);
		assert_true(cqe.user_data < 16);
		res[cqe.user_data] = cqe.res;
	}
	assert_null(tr_peek(&ring));
}

/* A wake right after the submission finds the waits; rarely one of them is being queued anew. */
static void test_queued_at_once(void **state)
{
	static const int kinds[] = { FUTEX2_32BIT, FUTEX2_32BIT_PRIVATE };
	int found = 0;

	(void)state;
	for (int round = 0; round < 100; round++) {
		int kind = kinds[round % 2], res[16];

		words[0] = 0;
		prep_wait(words, 0, ANY, kind, 1);
		prep_wait(words, 0, ANY, kind, 2);
		assert_int_equal(tr_submit(&ring), 2);
		words[0] = 1;
		found += wake(words, 1, kind) == 1;
		wake(words, 5, kind);
		collect(res, 2);
		assert_int_equal(res[1], 0);
		assert_int_equal(res[2], 0);
		assert_int_equal(wake(words, 5, kind), 0);
	}
	assert_true(found >= 90);
}

static void test_values(void **state)
{
	(void)state;
	prep_wait(words, 1, ANY, FUTEX2_32BIT, 1);
	assert_int_equal(tr_run(&ring, 1), -EAGAIN);
	prep_wait((uint32_t *)8, 0, ANY, FUTEX2_32BIT, 1);
	assert_int_equal(tr_run(&ring, 1), -EFAULT);
	prep_wait((uint32_t *)(void *)((char *)words + 2), 0, ANY, FUTEX2_32BIT, 1);
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
	prep_wait(words, 0, 0, FUTEX2_32BIT, 1);
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
	prep_wait(words, 0, ANY, 3, 1); /* 64 bits wide */
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
	prep_wake(words, 0, ANY, FUTEX2_32BIT, 1);
	assert_int_equal(tr_run(&ring, 1), 0);
}

static void test_masks(void **state)
{
	int res[16];

	(void)state;
	prep_wait(words, 0, 1, FUTEX2_32BIT_PRIVATE, 1);
	prep_wait(words, 0, 2, FUTEX2_32BIT_PRIVATE, 2);
	prep_wait(words, 0, 4, FUTEX2_32BIT_PRIVATE, 3);
	assert_int_equal(tr_submit(&ring), 3);
	prep_wake(words, 10, 6, FUTEX2_32BIT_PRIVATE, 4);
	assert_int_equal(tr_submit(&ring), 1);
	collect(res, 3);
	assert_int_equal(res[4], 2);
	assert_int_equal(res[2], 0);
	assert_int_equal(res[3], 0);
	assert_int_equal(wake(words, 10, FUTEX2_32BIT_PRIVATE), 1);
	collect(res, 1);
}

/* The wake's CQE comes before that of the wait it ended. */
static void test_order(void **state)
{
	struct io_uring_cqe cqe[2];

	(void)state;
	for (int round = 0; round < 100; round++) {
		words[0] = 0;
		prep_wait(words, 0, ANY, FUTEX2_32BIT, 1);
		assert_int_equal(tr_submit(&ring), 1);
		words[0] = 1;
		prep_wake(words, 1, ANY, FUTEX2_32BIT, 2);
		assert_int_equal(tr_submit(&ring), 1);
		for (int i = 0; i < 2; i++)
			assert_int_equal(tr_wait_ms(&ring, &cqe[i], 2000), 0);
		if (cqe[0].user_data == 2 && cqe[0].res == 1)
			assert_int_equal(cqe[1].user_data, 1);
		else
			assert_int_equal(cqe[1].res, 0);
	}
}

static void prep_vector(struct futex_waitv *v, unsigned nr, int flags, uint64_t user_data)
{
	for (unsigned i = 0; i < nr; i++)
		v[i] = (struct futex_waitv){ .uaddr = (uint64_t)(uintptr_t)&words[i],
			                     .flags = (uint32_t)flags };
	tr_prep(&ring, OP_FUTEX_WAITV, 0, v, nr, 0, user_data);
}

static void test_vector(void **state)
{
	static const unsigned sizes[] = { 1, 2, 64, 127 };
	struct futex_waitv v[130];

	(void)state;
	if (!tr_has_op(&ring, OP_FUTEX_WAITV)) {
		prep_vector(v, 1, FUTEX2_32BIT, 1);
		assert_int_equal(tr_run(&ring, 1), -EINVAL);
		skip();
	}
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int res[16];

		prep_vector(v, sizes[i], FUTEX2_32BIT, 1);
		assert_int_equal(tr_submit(&ring), 1);
		memset(v, 0, sizeof(v));
		assert_int_equal(wake(&words[sizes[i] - 1], 1, FUTEX2_32BIT), 1);
		collect(res, 1);
		assert_int_equal(res[1], sizes[i] - 1);
	}
	prep_vector(v, 3, FUTEX2_32BIT, 1);
	v[1].val = 1;
	assert_int_equal(tr_run(&ring, 1), -EAGAIN);
	prep_vector(v, 129, FUTEX2_32BIT, 1);
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
}

static void test_cancel(void **state)
{
	struct futex_waitv v[4];
	int res[16];
	bool vector = tr_has_op(&ring, OP_FUTEX_WAITV);

	(void)state;
	for (int round = 0; round < 20; round++) {
		prep_wait(words, 0, ANY, FUTEX2_32BIT, 1);
		prep_wait(words, 0, ANY, FUTEX2_32BIT, 2);
		if (vector)
			prep_vector(v, 4, FUTEX2_32BIT, 3);
		else
			prep_wait(words, 0, ANY, FUTEX2_32BIT, 3);
		assert_int_equal(tr_submit(&ring), 3);
		for (uint64_t i = 1; i <= 3; i += 2)
			tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)(uintptr_t)i, 0, 0,
			        10 + i);
		assert_int_equal(tr_submit(&ring), 2);
		/* What was cancelled is not woken any more. */
		assert_int_equal(wake(words, 10, FUTEX2_32BIT), 1);
		collect(res, 5);
		assert_int_equal(res[1], -ECANCELED);
		assert_int_equal(res[2], 0);
		assert_int_equal(res[3], -ECANCELED);
		assert_int_equal(res[11], 1);
		assert_int_equal(res[13], 1);
	}
}

static void test_other_process(void **state)
{
	uint32_t *shared =
	        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int res[16];
	pid_t pid;

	(void)state;
	assert_ptr_not_equal(shared, MAP_FAILED);
	prep_wait(shared, 0, ANY, FUTEX2_32BIT, 1);
	assert_int_equal(tr_submit(&ring), 1);
	pid = fork();
	if (!pid)
		_exit((int)wake(shared, 1, FUTEX2_32BIT));
	assert_int_equal(tr_wait_child(pid), 1);
	collect(res, 1);
	assert_int_equal(res[1], 0);
	munmap(shared, 4096);
}

static void test_deferred(void **state)
{
	struct io_uring_cqe cqe;

	(void)state;
	prep_wait(words, 0, ANY, FUTEX2_32BIT, 1);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(wake(words, 1, FUTEX2_32BIT), 1);
	tr_sleep_ms(50);
	assert_null(tr_peek(&ring));
	assert_int_equal(tr_wait_ms(&ring, &cqe, 2000), 0);
	assert_int_equal(cqe.res, 0);
}

/* ---- WAITID ---- */

static pid_t child(unsigned ms, int status)
{
	pid_t pid = fork();

	if (!pid) {
		tr_sleep_ms(ms);
		_exit(status);
	}
	return pid;
}

static void prep_waitid(int which, int id, unsigned options, siginfo_t *si, uint64_t user_data)
{
	tr_prep(&ring, OP_WAITID, id, NULL, (unsigned)which, (uint64_t)(uintptr_t)si, user_data)
	        ->file_index = options;
}

static void test_waitid(void **state)
{
	siginfo_t si;
	pid_t pid;
	int res[16], status;

	(void)state;
	prep_waitid(P_ALL, 0, WEXITED, &si, 1);
	assert_int_equal(tr_run(&ring, 1), -ECHILD);
	prep_waitid(P_ALL, 0, 0, &si, 1);
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
	for (int which = 0; which < 2; which++) {
		memset(&si, 0x5a, sizeof(si));
		pid = child(50, 7);
		prep_waitid(which ? P_PID : P_ALL, which ? pid : 0, WEXITED, &si, 1);
		assert_int_equal(tr_run(&ring, 1), 0);
		assert_int_equal(si.si_pid, pid);
		assert_int_equal(si.si_signo, SIGCHLD);
		assert_int_equal(si.si_code, CLD_EXITED);
		assert_int_equal(si.si_status, 7);
	}
	pid = child(5000, 0);
	prep_waitid(P_PID, pid, WEXITED | WNOHANG, &si, 1);
	assert_int_equal(tr_run(&ring, 1), 0);
	assert_int_equal(si.si_pid, 0);
	prep_waitid(P_PID, pid, WSTOPPED, &si, 1);
	assert_int_equal(tr_submit(&ring), 1);
	kill(pid, SIGSTOP);
	collect(res, 1);
	assert_int_equal(si.si_code, CLD_STOPPED);
	prep_waitid(P_PID, pid, WEXITED, &si, 1);
	prep_waitid(P_ALL, 0, WEXITED, &si, 2);
	assert_int_equal(tr_submit(&ring), 2);
	tr_sleep_ms(20);
	for (uint64_t i = 1; i <= 2; i++)
		tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)(uintptr_t)i, 0, 0, 10 + i);
	assert_int_equal(tr_submit(&ring), 2);
	collect(res, 4);
	assert_int_equal(res[1], -ECANCELED);
	assert_int_equal(res[2], -ECANCELED);
	assert_int_equal(res[11], 1);
	assert_int_equal(res[12], 1);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* To cancel a wait for a futex breaks no link, and is told as a success, or not. */
static void test_cancelled_in_link(void **state)
{
	(void)state;
	for (int silent = 0; silent < 2; silent++) {
		prep_wait(&words[0], 0, ANY, FUTEX2_32BIT, 1)->flags =
		        (uint8_t)(IOSQE_IO_LINK | (silent ? IOSQE_CQE_SKIP_SUCCESS : 0));
		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2);
		assert_int_equal(tr_submit(&ring), 2);
		tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)1, 0, 0, 3);
		assert_int_equal(tr_submit(&ring), 1);
		tr_expect(&ring, 3, 1, 0);
		if (!silent)
			tr_expect(&ring, 1, -ECANCELED, 0);
		tr_expect(&ring, 2, 0, 0);
	}
}

/* When the last ring has gone nothing is left of what has waited for it. */
static void test_threads_go(void **state)
{
	int res[16];

	(void)state;
	words[0] = 0;
	for (uint64_t i = 0; i < 4; i++)
		prep_wait(words, 0, ANY, FUTEX2_32BIT, i);
	assert_int_equal(tr_submit(&ring), 4);
	assert_int_equal(wake(words, 4, FUTEX2_32BIT), 4);
	collect(res, 4);
	tr_exit(&ring);
	for (int i = 0; i < 4000 && tr_count_dir("task") > 1; i++)
		tr_sleep_ms(1);
	assert_int_equal(tr_count_dir("task"), 1);
	assert_int_equal(tr_init(&ring, 32, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_queued_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_masks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vector, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_process, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deferred, setup_deferred, teardown),
		cmocka_unit_test_setup_teardown(test_waitid, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancelled_in_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads_go, setup, teardown),
	};

	return tr_run_group("waits", tests, sizeof(tests) / sizeof(tests[0]));
}
