/*
 * The completion queue when it is full, the submission queue when it is wrong:
 * overflow is kept and flushed, dropped entries are counted, and indices that a
 * program has corrupted do no harm.
 */
#include "tests/ring_util.h"

#include <unistd.h>

static void submit_nops(struct tr_ring *r, unsigned n, uint64_t first)
{
	for (unsigned i = 0; i < n; i++)
		tr_prep(r, IORING_OP_NOP, -1, NULL, 0, 0, first + i);
	assert_int_equal(tr_submit(r), n);
}

static unsigned sq_flags(struct tr_ring *r)
{
	return __atomic_load_n(r->sq_flags, __ATOMIC_ACQUIRE);
}

static void test_overflow_kept_in_order(void **state)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	submit_nops(&r, 4, 0);
	submit_nops(&r, 4, 4);
	assert_int_equal(tr_ready(&r), 8);
	assert_int_equal(sq_flags(&r) & IORING_SQ_CQ_OVERFLOW, 0);
	submit_nops(&r, 4, 8);
	/* The ring is full, the rest is kept aside, and that can be seen. */
	assert_int_equal(tr_ready(&r), 8);
	assert_int_equal(sq_flags(&r) & IORING_SQ_CQ_OVERFLOW, IORING_SQ_CQ_OVERFLOW);
	assert_int_equal(*r.cq_overflow, 0);
	for (unsigned i = 0; i < 12; i++) {
		assert_int_equal(tr_wait(&r, &cqe), 0);
		assert_int_equal(cqe.user_data, i);
		assert_int_equal(cqe.res, 0);
	}
	assert_int_equal(sq_flags(&r) & IORING_SQ_CQ_OVERFLOW, 0);
	assert_null(tr_peek(&r));
	tr_exit(&r);
}

static void test_flush_is_partial(void **state)
{
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	for (unsigned i = 0; i < 5; i++)
		submit_nops(&r, 4, i * 4);
	assert_int_equal(tr_ready(&r), 8);
	/* Room for three: an enter that asks for events moves three in, and no more. */
	for (int i = 0; i < 3; i++)
		tr_seen(&r);
	assert_int_equal(tr_ready(&r), 5);
	assert_int_equal(tr_sys_enter(r.fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0), 0);
	assert_int_equal(tr_ready(&r), 8);
	assert_int_equal(sq_flags(&r) & IORING_SQ_CQ_OVERFLOW, IORING_SQ_CQ_OVERFLOW);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(tr_peek(&r)->user_data, 3 + i);
		tr_seen(&r);
	}
	assert_int_equal(tr_sys_enter(r.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0), 0);
	assert_int_equal(tr_ready(&r), 8);
	assert_int_equal(tr_peek(&r)->user_data, 11);
	/* One more is left, and no program ever has to see it: closing frees it. */
	assert_int_equal(sq_flags(&r) & IORING_SQ_CQ_OVERFLOW, IORING_SQ_CQ_OVERFLOW);
	tr_exit(&r);
}

static void test_overflow_then_submit(void **state)
{
	struct tr_ring r;
	unsigned seen = 0;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	for (unsigned i = 0; i < 100; i++)
		submit_nops(&r, 8, i * 8);
	while (seen < 800) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait(&r, &cqe), 0);
		assert_int_equal(cqe.user_data, seen);
		seen++;
	}
	assert_int_equal(*r.cq_overflow, 0);
	tr_exit(&r);
}

static void test_overflow_from_pipe(void **state)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;
	char bytes[12];
	unsigned mask = 0;
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_init(&r, 4, 0), 0);
	/* Completions that nobody's enter posts overflow the same way. */
	for (unsigned i = 0; i < 12; i += 4) {
		for (unsigned k = i; k < i + 4; k++)
			tr_prep(&r, IORING_OP_READ, p[0], &bytes[k], 1, 0, k);
		assert_int_equal(tr_submit(&r), 4);
	}
	assert_int_equal(tr_ready(&r), 0);
	assert_int_equal(write(p[1], "abcdefghijkl", 12), 12);
	for (unsigned i = 0; i < 12; i++) {
		assert_int_equal(tr_wait(&r, &cqe), 0);
		assert_int_equal(cqe.res, 1);
		assert_true(cqe.user_data < 12);
		assert_true(bytes[cqe.user_data] >= 'a' && bytes[cqe.user_data] <= 'l');
		mask |= 1u << cqe.user_data;
	}
	assert_int_equal(mask, 0xfff);
	tr_exit(&r);
	close(p[0]);
	close(p[1]);
}

static void test_bad_index_dropped(void **state)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	for (unsigned i = 0; i < 4; i++)
		tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, i);
	r.sq_array[1] = 4;
	r.sq_array[2] = 0xffffffffu;
	/* It stops at the bad entry, which it takes off the ring. */
	assert_int_equal(tr_submit(&r), 1);
	assert_int_equal(*r.sq_dropped, 1);
	assert_int_equal(*r.sq_head, 2);
	assert_int_equal(tr_submit(&r), 0);
	assert_int_equal(*r.sq_dropped, 2);
	assert_int_equal(*r.sq_head, 3);
	assert_int_equal(tr_submit(&r), 1);
	assert_int_equal(*r.sq_dropped, 2);
	assert_int_equal(tr_wait(&r, &cqe), 0);
	assert_int_equal(cqe.user_data, 0);
	assert_int_equal(tr_wait(&r, &cqe), 0);
	assert_int_equal(cqe.user_data, 3);
	assert_null(tr_peek(&r));
	tr_exit(&r);
}

static void test_corrupt_sq_tail(void **state)
{
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	/* More entries than there are: it takes no more than the ring holds. */
	*r.sq_tail = 1000;
	assert_int_equal(tr_sys_enter(r.fd, 1000, 0, 0, NULL, 0), 4);
	assert_int_equal(*r.sq_head, 4);
	*r.sq_tail = 3;
	assert_int_equal(tr_sys_enter(r.fd, 1, 0, 0, NULL, 0), 1);
	tr_exit(&r);
}

static void test_corrupt_sizes(void **state)
{
	struct tr_ring r;
	unsigned tail;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	/* What the ring tells about its size is for the program to read; it goes by its own. */
	*r.sq_mask = 0xffffffffu;
	*r.sq_entries = 0x40000000u;
	*r.cq_mask = 0xffffffffu;
	*r.cq_entries = 0x40000000u;
	tail = *r.sq_tail;
	for (unsigned i = 0; i < 1000; i++) {
		struct io_uring_sqe *sqe = &r.sqes[(tail + i) & 3];

		memset(sqe, 0, sizeof(*sqe));
		sqe->user_data = i;
		r.sq_array[(tail + i) & 3] = (tail + i) & 3;
		__atomic_store_n(r.sq_tail, tail + i + 1, __ATOMIC_RELEASE);
		assert_int_equal(tr_sys_enter(r.fd, 1, 0, 0, NULL, 0), 1);
		assert_int_equal(tr_ready(&r), 1);
		assert_int_equal(r.cqes[*r.cq_head & 7].user_data, i);
		tr_seen(&r);
	}
	tr_exit(&r);
}

static void test_corrupt_cq_indices(void **state)
{
	static const unsigned values[] = { 0xffffffffu, 0x80000000u, 12345, 1, 7, 8, 9 };
	struct tr_ring r;

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		assert_int_equal(tr_init(&r, 4, 0), 0);
		*r.cq_head = values[i];
		submit_nops(&r, 4, 0);
		*r.cq_tail = values[i] * 3;
		submit_nops(&r, 4, 0);
		assert_true(tr_sys_enter(r.fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0) >= -EBUSY);
		*r.sq_head = values[i];
		tr_sys_enter(r.fd, 4, 0, 0, NULL, 0);
		tr_exit(&r);
	}
	/* And the next ring is as good as any. */
	assert_int_equal(tr_init(&r, 4, 0), 0);
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	tr_exit(&r);
}

static void test_submit_more_than_there_is(void **state)
{
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	assert_int_equal(tr_sys_enter(r.fd, 5, 0, 0, NULL, 0), 0);
	tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 2);
	tr_publish(&r);
	assert_int_equal(tr_sys_enter(r.fd, 1, 0, 0, NULL, 0), 1);
	assert_int_equal(tr_ready(&r), 1);
	assert_int_equal(tr_sys_enter(r.fd, 0xffffffffu, 0, 0, NULL, 0), 1);
	assert_int_equal(tr_ready(&r), 2);
	tr_exit(&r);
}

static void test_sqe_is_copied(void **state)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;
	char c = 0;
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_init(&r, 4, 0), 0);
	tr_prep(&r, IORING_OP_READ, p[0], &c, 1, 0, 7);
	assert_int_equal(tr_submit(&r), 1);
	/* Once submitted the SQE is the program's again. */
	memset(r.sqes, 0xff, r.sqes_bytes);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(tr_wait(&r, &cqe), 0);
	assert_int_equal(cqe.user_data, 7);
	assert_int_equal(cqe.res, 1);
	assert_int_equal(c, 'x');
	tr_exit(&r);
	close(p[0]);
	close(p[1]);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_overflow_kept_in_order),
	cmocka_unit_test(test_flush_is_partial),
	cmocka_unit_test(test_overflow_then_submit),
	cmocka_unit_test(test_overflow_from_pipe),
	cmocka_unit_test(test_bad_index_dropped),
	cmocka_unit_test(test_corrupt_sq_tail),
	cmocka_unit_test(test_corrupt_sizes),
	cmocka_unit_test(test_corrupt_cq_indices),
	cmocka_unit_test(test_submit_more_than_there_is),
	cmocka_unit_test(test_sqe_is_copied),
};

TR_MAIN("cq", tests)
