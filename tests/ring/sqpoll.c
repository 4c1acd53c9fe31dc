/*
 * SQPOLL: the thread takes entries without a call, goes to sleep when idle and
 * says so, is woken, lets a full SQ be waited for; rings that start disabled.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct tr_ring ring;

static int make(struct tr_ring *r, unsigned flags, unsigned idle_ms)
{
	struct io_uring_params p = { .flags = IORING_SETUP_SQPOLL | flags,
		                     .sq_thread_idle = idle_ms };

	return tr_init_params(r, 8, &p, TR_ONE_MMAP);
}

static bool asleep(struct tr_ring *r)
{
	/* An update, not a load: it must not overtake the store of the tail. */
	return (__atomic_fetch_or(r->sq_flags, 0, __ATOMIC_SEQ_CST) & IORING_SQ_NEED_WAKEUP) != 0;
}

/* Publishes what is prepared, wakes the thread if it sleeps, as liburing does. */
static void publish(struct tr_ring *r)
{
	unsigned n = tr_publish(r);

	if (asleep(r))
		assert_int_equal(tr_sys_enter(r->fd, n, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0), n);
}

static bool becomes(bool (*cond)(struct tr_ring *), struct tr_ring *r)
{
	for (int i = 0; i < 10000 && !cond(r); i++)
		tr_sleep_ms(1);
	return cond(r);
}

static bool all_taken(struct tr_ring *r)
{
	return __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE) == r->sqe_tail;
}

static bool has_cqe(struct tr_ring *r)
{
	return tr_peek(r) != NULL;
}

static void test_no_call_needed(void **state)
{
	(void)state;
	assert_int_equal(make(&ring, 0, 2000), 0);
	for (uint64_t i = 0; i < 100; i++) {
		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, i);
		publish(&ring);
		assert_true(becomes(has_cqe, &ring));
		assert_int_equal(tr_peek(&ring)->user_data, i);
		tr_seen(&ring);
	}
	assert_int_equal(*ring.sq_head, 100);
	tr_exit(&ring);
}

static void test_sleeps_and_wakes(void **state)
{
	(void)state;
	assert_int_equal(make(&ring, 0, 20), 0);
	for (uint64_t i = 0, awake = 0; i < 5; i++) {
		assert_true(becomes(asleep, &ring));
		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, i);
		tr_publish(&ring);
		tr_sleep_ms(30);
		if (tr_peek(&ring)) {
			/* It had said so, but looked once more before it slept. */
			assert_true(++awake < 20);
			assert_int_equal(tr_peek(&ring)->user_data, i--);
			tr_seen(&ring);
			continue;
		}
		/* Asleep is asleep: nothing happens until it is woken. */
		assert_int_equal(tr_sys_enter(ring.fd, 1, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0), 1);
		assert_true(becomes(has_cqe, &ring));
		assert_int_equal(tr_peek(&ring)->user_data, i);
		tr_seen(&ring);
	}
	tr_exit(&ring);
}

static void test_enter_reports_what_it_was_told(void **state)
{
	(void)state;
	/* The thread submits; enter answers the number that it was given. */
	assert_int_equal(make(&ring, 0, 1000), 0);
	assert_int_equal(tr_sys_enter(ring.fd, 3, 0, 0, NULL, 0), 3);
	assert_int_equal(tr_sys_enter(ring.fd, 0, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0), 0);
	tr_exit(&ring);
}

static void test_wait_for_completions(void **state)
{
	struct io_uring_cqe cqe;
	int p[2];
	char c = 0;

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(make(&ring, 0, 50), 0);
	tr_prep(&ring, IORING_OP_READ, p[0], &c, 1, 0, 6);
	publish(&ring);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 100), -ETIME);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.user_data, 6);
	assert_int_equal(cqe.res, 1);
	assert_int_equal(c, 'x');
	tr_exit(&ring);
	close(p[0]);
	close(p[1]);
}

static bool full(struct tr_ring *r)
{
	return r->sqe_tail - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE) == r->p.sq_entries;
}

static void test_wait_for_room(void **state)
{
	(void)state;
	assert_int_equal(make(&ring, 0, 20), 0);
	for (unsigned i = 0; i < 200; i++) {
		unsigned n = 0;

		while (tr_sqe(&ring))
			n++;
		publish(&ring);
		/* It may return early for what the kernel calls a signal: it is asked again. */
		for (unsigned tries = 0; tries < 100000 && full(&ring); tries++)
			assert_true(tr_sys_enter(ring.fd, 0, 0,
			                         IORING_ENTER_SQ_WAIT | IORING_ENTER_SQ_WAKEUP,
			                         NULL, 0) >= 0);
		assert_false(full(&ring));
		while (tr_peek(&ring))
			tr_seen(&ring);
	}
	tr_exit(&ring);
}

static void test_overflow(void **state)
{
	unsigned seen = 0;

	(void)state;
	/* 100 completions that nobody takes, and all of them are there in the end. */
	assert_int_equal(make(&ring, 0, 1000), 0);
	for (unsigned sent = 0; sent < 100;) {
		if (tr_sqe(&ring)) {
			sent++;
			publish(&ring);
		} else {
			tr_sleep_ms(1);
		}
	}
	while (seen < 100) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait(&ring, &cqe), 0);
		seen++;
	}
	assert_int_equal(*ring.cq_overflow, 0);
	tr_exit(&ring);
}

static void test_affinity(void **state)
{
	struct io_uring_params p = { .flags = IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF,
		                     .sq_thread_cpu = 0,
		                     .sq_thread_idle = 50 };

	(void)state;
	assert_int_equal(tr_init_params(&ring, 8, &p, TR_ONE_MMAP), 0);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	publish(&ring);
	assert_true(becomes(has_cqe, &ring));
	tr_exit(&ring);
}

static void test_reads_with_data(void **state)
{
	int fd = tr_temp_file(65536);
	unsigned char buf[8][256];
	int fds[1] = { fd };

	(void)state;
	assert_int_equal(make(&ring, 0, 100), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, 1), 0);
	for (unsigned round = 0; round < 100; round++) {
		for (unsigned i = 0; i < 8; i++)
			tr_prep(&ring, IORING_OP_READ, i % 2 ? 0 : fd, buf[i], 256,
			        (round * 501 + i * 7001) % 65000, i)
			        ->flags = (uint8_t)((i % 2 ? IOSQE_FIXED_FILE : 0) |
			                            (i == 5 ? IOSQE_ASYNC : 0));
		publish(&ring);
		for (unsigned i = 0; i < 8; i++) {
			struct io_uring_cqe cqe;

			assert_int_equal(tr_wait(&ring, &cqe), 0);
			assert_int_equal(cqe.res, 256);
		}
		/* Completions may show before the thread says that it has taken the entries. */
		assert_true(becomes(all_taken, &ring));
		for (unsigned i = 0; i < 8; i++)
			assert_int_equal(buf[i][77],
			                 tr_pattern((round * 501 + i * 7001) % 65000 + 77));
	}
	tr_exit(&ring);
	close(fd);
}

static void test_disabled(void **state)
{
	struct io_uring_cqe cqe;

	(void)state;
	assert_int_equal(make(&ring, IORING_SETUP_R_DISABLED, 1000), 0);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 4);
	tr_publish(&ring);
	assert_int_equal(tr_sys_enter(ring.fd, 1, 0, 0, NULL, 0), -EBADFD);
	tr_sleep_ms(20);
	assert_null(tr_peek(&ring));
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0), 0);
	/* It starts with what lies there. */
	publish(&ring);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.user_data, 4);
	tr_exit(&ring);
}

static void test_thread_goes(void **state)
{
	int before;

	(void)state;
	assert_int_equal(make(&ring, 0, 1000), 0);
	tr_exit(&ring);
	tr_sleep_ms(20);
	before = tr_count_dir("task");
	for (int i = 0; i < 50; i++) {
		assert_int_equal(make(&ring, 0, 1000), 0);
		tr_exit(&ring);
	}
	for (int i = 0; i < 10000 && tr_count_dir("task") > before; i++)
		tr_sleep_ms(1);
	assert_true(tr_count_dir("task") <= before);
}

static void test_many(void **state)
{
	struct tr_ring r[8];

	(void)state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(make(&r[i], 0, 100), 0);
	for (unsigned k = 0; k < 20; k++) {
		for (int i = 0; i < 8; i++) {
			tr_prep(&r[i], IORING_OP_NOP, -1, NULL, 0, 0, k);
			publish(&r[i]);
		}
		for (int i = 0; i < 8; i++) {
			struct io_uring_cqe cqe;

			assert_int_equal(tr_wait(&r[i], &cqe), 0);
			assert_int_equal(cqe.user_data, k);
		}
	}
	for (int i = 0; i < 8; i++)
		tr_exit(&r[i]);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_no_call_needed),
	cmocka_unit_test(test_sleeps_and_wakes),
	cmocka_unit_test(test_enter_reports_what_it_was_told),
	cmocka_unit_test(test_wait_for_completions),
	cmocka_unit_test(test_wait_for_room),
	cmocka_unit_test(test_overflow),
	cmocka_unit_test(test_affinity),
	cmocka_unit_test(test_reads_with_data),
	cmocka_unit_test(test_disabled),
	cmocka_unit_test(test_thread_goes),
	cmocka_unit_test(test_many),
};

TR_MAIN("sqpoll", tests)
