/*
 * Requests that block each have a worker, whoever is idle when they come. What blocks is the
 * opening of FIFOs that nobody writes to.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 8

static struct tr_ring ring;
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
	return tr_init(&ring, MOST, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	for (int i = 0; i < MOST; i++)
		unlink(paths[i]);
	return rmdir(dir);
}

static void open_fifo(unsigned i)
{
	struct io_uring_sqe *sqe = tr_prep(&ring, IORING_OP_OPENAT, AT_FDCWD, paths[i], 0, 0, i);

	sqe->open_flags = O_RDONLY;
	sqe->flags = IOSQE_ASYNC;
}

/* Opens the other end of a FIFO, which waits for the reader. */
static void let_go(unsigned i)
{
	struct io_uring_cqe cqe;
	int fd = open(paths[i], O_WRONLY);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 10000), 0);
	assert_int_equal(cqe.user_data, i);
	assert_true(cqe.res >= 0);
	close(cqe.res);
}

/* Each time one more than there are idle workers; the last is let go first. */
static void test_one_each(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= MOST; n++) {
		for (unsigned i = 0; i < n; i++)
			open_fifo(i);
		assert_int_equal(tr_submit(&ring), n);
		for (unsigned i = n; i-- > 0;)
			let_go(i);
		tr_sleep_ms(1);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_setup_teardown(test_one_each, setup, teardown),
};

TR_MAIN("workers", tests)
