/* Requests of a thread that exits: which end with it, which later, and how. */
#include "tests/ring_util.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#define OP_FUTEX_WAIT 51
#define FUTEX2_U32    2

static struct tr_ring ring;
static int fds[2], to[2];
static uint32_t word;
static char buf[16];

static int setup(void **state)
{
	(void)state;
	if (pipe(fds) || pipe(to))
		return -1;
	return tr_init(&ring, 16, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		close(to[i]);
	}
	return 0;
}

static void *submit(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)tr_submit(&ring);
}

/* Submits what has been prepared from a thread that is gone afterwards. */
static void submit_and_leave(int expected)
{
	assert_int_equal((intptr_t)tr_in_thread(submit, NULL), expected);
	/* The kernel lets a thread be joined before its requests have ended. */
	tr_sleep_ms(10);
}

static void expect(uint64_t user_data, int res)
{
	tr_expect(&ring, user_data, res, 0);
}

static struct io_uring_sqe *prep_poll(uint64_t user_data, unsigned flags)
{
	struct io_uring_sqe *sqe =
	        tr_prep(&ring, IORING_OP_POLL_ADD, fds[0], NULL, flags, 0, user_data);

	sqe->poll32_events = POLLIN;
	return sqe;
}

/* What waits for a file is cancelled when that is ready. */
static void test_armed(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		if (i < 2)
			prep_poll(1, i ? IORING_POLL_ADD_MULTI : 0);
		else
			tr_prep(&ring, IORING_OP_READ, fds[0], buf, 1, 0, 1);
		submit_and_leave(1);
		assert_null(tr_peek(&ring));
		assert_int_equal(write(fds[1], "x", 1), 1);
		expect(1, -ECANCELED);
		/* The byte is still there. */
		assert_int_equal(read(fds[0], buf, 1), 1);
	}
}

/* The others that use the ring are not concerned. */
static void test_other_thread(void **state)
{
	(void)state;
	tr_prep(&ring, IORING_OP_READ, fds[0], buf, 1, 0, 2);
	assert_int_equal(tr_submit(&ring), 1);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	submit_and_leave(1);
	expect(1, 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	expect(2, 1);
}

/* What a worker does for the thread ends at once. */
static void test_on_worker(void **state)
{
	struct io_uring_cqe cqe;
	struct io_uring_sqe *sqe = tr_prep(&ring, IORING_OP_SPLICE, to[1], NULL, 4, ~0ull, 1);

	(void)state;
	sqe->splice_fd_in = fds[0];
	sqe->splice_off_in = ~0ull;
	submit_and_leave(1);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_true(cqe.res < 0);
}

static void test_futex(void **state)
{
	struct io_uring_sqe *sqe;

	(void)state;
	if (!tr_has_op(&ring, OP_FUTEX_WAIT))
		skip();
	sqe = tr_prep(&ring, OP_FUTEX_WAIT, FUTEX2_U32, &word, 0, 0, 1);
	sqe->addr3 = (uint32_t)FUTEX_BITSET_MATCH_ANY;
	submit_and_leave(1);
	expect(1, -ECANCELED);
}

/* Links do not go on, whatever the first of them has come to. */
static void test_link(void **state)
{
	struct {
		long long sec, nsec;
	} soon = { 0, 50000000 };

	(void)state;
	prep_poll(1, 0)->flags = IOSQE_IO_HARDLINK;
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2);
	submit_and_leave(2);
	assert_null(tr_peek(&ring));
	assert_int_equal(write(fds[1], "x", 1), 1);
	expect(1, -ECANCELED);
	expect(2, -EFAULT);

	tr_prep(&ring, IORING_OP_TIMEOUT, -1, &soon, 1, 0, 3)->flags = IOSQE_IO_HARDLINK;
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 4);
	submit_and_leave(2);
	expect(3, -ETIME);
	expect(4, -EFAULT);
}

static void test_drained(void **state)
{
	(void)state;
	tr_prep(&ring, IORING_OP_READ, fds[0], buf, 1, 0, 1);
	assert_int_equal(tr_submit(&ring), 1);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2)->flags = IOSQE_IO_DRAIN;
	submit_and_leave(1);
	assert_null(tr_peek(&ring));
	assert_int_equal(write(fds[1], "x", 1), 1);
	expect(1, 1);
	expect(2, -EFAULT);
}

#define ON_PIPE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static const struct CMUnitTest tests[] = {
	ON_PIPE(test_armed), ON_PIPE(test_other_thread), ON_PIPE(test_on_worker),
	ON_PIPE(test_futex), ON_PIPE(test_link),         ON_PIPE(test_drained),
};

TR_MAIN("requests of a thread that exits", tests)
