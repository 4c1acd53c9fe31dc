/*
 * What several cancellations find, and in which order what they found ends. A request that waited
 * for a file is there until it has ended, and is found again.
 */
#include "tests/newer_ops.h"
#include "tests/ring_util.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static char buf[16];
static uint32_t word = 1;
static struct __kernel_timespec hour = { .tv_sec = 3600 };

TR_RING_AND_ENDS(32, pair, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));

enum { POLL, RECV, TIMEOUT, FUTEX };

static void add(int kind, uint64_t user_data)
{
	struct io_uring_sqe *sqe;

	switch (kind) {
	case POLL:
		tr_prep(&ring, IORING_OP_POLL_ADD, pair[0], NULL, 0, 0, user_data)->poll32_events =
		        POLLIN;
		break;
	case RECV:
		tr_prep(&ring, IORING_OP_RECV, pair[0], buf, sizeof(buf), 0, user_data);
		break;
	case TIMEOUT:
		tr_prep(&ring, IORING_OP_TIMEOUT, -1, &hour, 1, 0, user_data);
		break;
	default:
		sqe = tr_prep(&ring, OP_FUTEX_WAIT, FUTEX2_32BIT, &word, 0, 1, user_data);
		sqe->addr3 = UINT32_MAX;
		break;
	}
}

static void cancel(uint64_t what, unsigned flags, uint64_t user_data)
{
	tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, (void *)(uintptr_t)what, 0, 0, user_data)
	        ->cancel_flags = flags;
}

static void test_twice(void **state)
{
	static const int kinds[] = { POLL, RECV, TIMEOUT };

	(void)state;
	for (int i = 0; i < 3; i++) {
		bool found = kinds[i] != TIMEOUT;

		for (unsigned all = 0; all < 2; all++) {
			add(kinds[i], 1);
			assert_int_equal(tr_submit(&ring), 1);
			cancel(1, all ? IORING_ASYNC_CANCEL_ALL : 0, 2);
			cancel(1, all ? IORING_ASYNC_CANCEL_ALL : 0, 3);
			assert_int_equal(tr_submit(&ring), 2);
			tr_expect(&ring, 2, (int)all, 0);
			tr_expect(&ring, 3, all ? found : found ? 0 : -ENOENT, 0);
			tr_expect(&ring, 1, -ECANCELED, 0);
		}
	}
	/* Of two of the same name it is the same one. */
	add(RECV, 1);
	add(RECV, 1);
	assert_int_equal(tr_submit(&ring), 2);
	for (unsigned i = 2; i < 5; i++)
		cancel(1, 0, i);
	assert_int_equal(tr_submit(&ring), 3);
	for (unsigned i = 2; i < 5; i++)
		tr_expect(&ring, i, 0, 0);
	tr_expect(&ring, 1, -ECANCELED, 0);
	cancel(0, IORING_ASYNC_CANCEL_ANY, 2);
	assert_int_equal(tr_submit(&ring), 1);
	tr_expect(&ring, 2, 1, 0);
	tr_expect(&ring, 1, -ECANCELED, 0);
	assert_null(tr_peek(&ring));
}

static void test_removed_too(void **state)
{
	(void)state;
	add(POLL, 1);
	assert_int_equal(tr_submit(&ring), 1);
	cancel(1, 0, 2);
	tr_prep(&ring, IORING_OP_POLL_REMOVE, -1, (void *)1, 0, 0, 3);
	assert_int_equal(tr_submit(&ring), 2);
	tr_expect(&ring, 2, 0, 0);
	tr_expect(&ring, 3, -EALREADY, 0);
	tr_expect(&ring, 1, -ECANCELED, 0);
	assert_null(tr_peek(&ring));
}

/* Polls, newest first, then futexes, likewise, then timeouts, as they came. */
static void test_order(void **state)
{
	static const struct {
		int kinds[7];
		unsigned ends[7];
	} cases[] = {
		{ { FUTEX, FUTEX, TIMEOUT, TIMEOUT, RECV, RECV, POLL }, { 6, 7, 5, 2, 1, 3, 4 } },
		{ { POLL, TIMEOUT, RECV, TIMEOUT, RECV, FUTEX, TIMEOUT }, { 3, 1, 5, 6, 2, 4, 7 } },
	};

	(void)state;
	if (!tr_has_op(&ring, OP_FUTEX_WAITV))
		skip();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned at = 0; at < 7; at++)
			add(cases[i].kinds[at], at + 1);
		assert_int_equal(tr_submit(&ring), 7);
		cancel(0, IORING_ASYNC_CANCEL_ANY, 8);
		assert_int_equal(tr_submit(&ring), 1);
		tr_expect(&ring, 8, 7, 0);
		for (unsigned at = 0; at < 7; at++)
			tr_expect(&ring, cases[i].ends[at], -ECANCELED, 0);
	}
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_twice),        DEFERRED(test_twice), ON_RING(test_removed_too),
	DEFERRED(test_removed_too), ON_RING(test_order),  DEFERRED(test_order),
};

TR_MAIN("cancel", tests)
