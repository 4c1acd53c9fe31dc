/*
 * Where TIMEOUT takes its time from: each request's own, read when it is submitted,
 * however many there are side by side in one submission.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/ring_util.h"

#define MANY 40

static struct tr_ring ring;
static struct __kernel_timespec times[MANY];

static int setup(void **state)
{
	(void)state;
	for (int i = 0; i < MANY; i++)
		times[i] = (struct __kernel_timespec){ .tv_sec = 3600 };
	return tr_init(&ring, 64, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	return 0;
}

static void prep(const struct __kernel_timespec *ts, uint64_t user_data)
{
	tr_prep(&ring, IORING_OP_TIMEOUT, -1, ts, 1, 0, user_data);
}

/* Each in its turn, although the later ones were armed first. */
static void test_side_by_side(void **state)
{
	struct io_uring_cqe cqe;

	(void)state;
	for (int i = 0; i < MANY; i++) {
		times[i].tv_sec = 0;
		times[i].tv_nsec = (MANY - i) * 30000000L;
		prep(&times[i], (uint64_t)i);
	}
	assert_int_equal(tr_submit(&ring), MANY);
	for (int i = MANY; i-- > 0;) {
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.user_data, i);
		assert_int_equal(cqe.res, -ETIME);
	}
}

static void test_changed_between_submissions(void **state)
{
	struct io_uring_cqe cqe;

	(void)state;
	for (int i = 0; i < 3; i++)
		prep(&times[i], (uint64_t)i);
	assert_int_equal(tr_submit(&ring), 3);
	assert_int_equal(tr_ready(&ring), 0);
	for (int i = 0; i < MANY; i++)
		times[i].tv_nsec = -1;
	for (uint64_t i = 10; i < 12; i++) {
		prep(&times[i], i);
		assert_int_equal(tr_submit(&ring), 1);
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.user_data, i);
		assert_int_equal(cqe.res, -EINVAL);
	}
}

/* A read of the same submission brings the time of the timeout behind it. */
static void changed_by_read(unsigned link)
{
	struct __kernel_timespec invalid = { .tv_nsec = -1 };
	struct io_uring_cqe cqe;
	int fds[2];

	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	/* Before 6.4 a pipe is not read on the spot. */
	if (!tr_has_rwf(fds[0], RWF_NOWAIT)) {
		close(fds[0]);
		close(fds[1]);
		skip();
	}
	assert_int_equal(write(fds[1], &invalid, sizeof(invalid)), sizeof(invalid));
	prep(&times[0], 1);
	prep(&times[1], 2);
	tr_prep(&ring, IORING_OP_READ, fds[0], &times[3], sizeof(times[3]), 0, 3)->flags =
	        (unsigned char)link;
	if (link)
		prep(&times[2], 4);
	prep(&times[3], 5);
	assert_int_equal(tr_submit(&ring), link ? 5 : 4);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.user_data, 3);
	assert_int_equal(cqe.res, sizeof(invalid));
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.user_data, 5);
	assert_int_equal(cqe.res, -EINVAL);
	close(fds[0]);
	close(fds[1]);
}

static void test_changed_by_read(void **state)
{
	(void)state;
	changed_by_read(0);
}

static void test_changed_by_link(void **state)
{
	(void)state;
	changed_by_read(IOSQE_IO_LINK);
}

/* Times at the end of a page, across two, and where there is nothing. */
static void test_page_ends(void **state)
{
	char *pages =
	        mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct io_uring_cqe cqe;
	int offsets[] = { 4096 - 32, 4096 - 16, 4096 - 8, 4096 + 8, 8192 - 32, 8192 - 16 };

	(void)state;
	assert_ptr_not_equal(pages, MAP_FAILED);
	assert_int_equal(munmap(pages + 8192, 4096), 0);
	for (int i = 0; i < 6; i++) {
		struct __kernel_timespec ts = { .tv_sec = 3600 };

		memcpy(pages + offsets[i], &ts, sizeof(ts));
		/* The third covers the second. */
		if (i != 1)
			prep((void *)(pages + offsets[i]), (uint64_t)i);
	}
	prep((void *)(pages + 8192), 10);
	assert_int_equal(tr_submit(&ring), 6);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.user_data, 10);
	assert_int_equal(cqe.res, -EFAULT);
	assert_int_equal(tr_ready(&ring), 0);
	munmap(pages, 8192);
}

/* Of a link timeout's offset, which has to be zero, the lower half counts. */
static void test_link_offset(void **state)
{
	(void)state;
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1)->flags = IOSQE_IO_LINK;
	tr_prep(&ring, IORING_OP_LINK_TIMEOUT, -1, &times[0], 1, 1ULL << 32, 2);
	assert_int_equal(tr_submit(&ring), 2);
	tr_expect(&ring, 1, 0, 0);
	tr_expect(&ring, 2, -ECANCELED, 0);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1)->flags = IOSQE_IO_LINK;
	tr_prep(&ring, IORING_OP_LINK_TIMEOUT, -1, &times[0], 1, 1, 2);
	assert_int_equal(tr_submit(&ring), 2);
	tr_expect(&ring, 1, -ECANCELED, 0);
	tr_expect(&ring, 2, -EINVAL, 0);
}

/* One that is due at once has been, when its request is done at once. */
static void test_link_due(void **state)
{
	static struct __kernel_timespec none, second = { .tv_sec = 1 };
	const struct {
		struct __kernel_timespec *ts;
		unsigned flags;
		int res;
	} cases[] = {
		{ &none, 0, -ENOENT },
		{ &second, IORING_TIMEOUT_ABS, -ENOENT },
		{ &second, 0, -ECANCELED },
	};

	(void)state;
	for (int i = 0; i < 3; i++) {
		for (int fails = 0; fails < 2; fails++) {
			tr_prep(&ring, fails ? IORING_OP_TIMEOUT_REMOVE : IORING_OP_NOP, -1, NULL,
			        0, 0, 1)
			        ->flags = IOSQE_IO_LINK;
			tr_prep(&ring, IORING_OP_LINK_TIMEOUT, -1, cases[i].ts, 1, 0, 2)
			        ->timeout_flags = cases[i].flags;
			assert_int_equal(tr_submit(&ring), 2);
			tr_expect(&ring, 1, fails ? -ENOENT : 0, 0);
			tr_expect(&ring, 2, cases[i].res, 0);
		}
	}
	/* A request without a file has not begun. */
	tr_prep(&ring, IORING_OP_READ, -1, NULL, 0, 0, 1)->flags = IOSQE_IO_LINK;
	tr_prep(&ring, IORING_OP_LINK_TIMEOUT, -1, &none, 1, 0, 2);
	assert_int_equal(tr_submit(&ring), 2);
	tr_expect(&ring, 1, -EBADF, 0);
	tr_expect(&ring, 2, -ECANCELED, 0);
}

/* Without an update there is no link's timeout meant: the flag says nothing. */
static void test_remove_by_link_flag(void **state)
{
	(void)state;
	prep(&times[0], 1);
	tr_prep(&ring, IORING_OP_TIMEOUT_REMOVE, -1, (void *)1, 0, (uintptr_t)&times[1], 2)
	        ->timeout_flags = IORING_LINK_TIMEOUT_UPDATE;
	assert_int_equal(tr_submit(&ring), 2);
	tr_expect(&ring, 2, 0, 0);
	tr_expect(&ring, 1, -ECANCELED, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_side_by_side, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed_between_submissions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed_by_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed_by_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_page_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_link_offset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_link_due, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_by_link_flag, setup, teardown),
	};

	return tr_run_group("timeouts", tests, sizeof(tests) / sizeof(tests[0]));
}
