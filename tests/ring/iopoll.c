/*
 * IOPOLL: only O_DIRECT reads and writes, completions that nobody but enter
 * posts. The kernel refuses it on devices whose driver cannot poll; the shim
 * does it on every device, so that what it does on data runs on the shim alone.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static struct tr_ring ring;
static unsigned char *buf;

static int setup(void **state)
{
	(void)state;
	if (posix_memalign((void **)&buf, 4096, 65536) != 0)
		return -1;
	return tr_init(&ring, 16, IORING_SETUP_IOPOLL);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	free(buf);
	return 0;
}

static int open_direct(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
}

static void test_refused(void **state)
{
	int fd = tr_temp_file(65536);
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	/* Buffered, pipes, and operations that have nothing to poll for. */
	assert_int_equal(tr_do(&ring, IORING_OP_READ, fd, buf, 4096, 0), -EOPNOTSUPP);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, fd, buf, 4096, 0), -EOPNOTSUPP);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, p[0], buf, 4096, 0), -EOPNOTSUPP);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, p[1], buf, 4096, 0), -EBADF);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, p[0], buf, 4096, 0), -EBADF);
	assert_int_equal(tr_do(&ring, IORING_OP_FSYNC, fd, NULL, 0, 0), -EINVAL);
	assert_int_equal(tr_do(&ring, IORING_OP_POLL_ADD, fd, NULL, 0, 0), -EINVAL);
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	close(p[0]);
	close(p[1]);
	close(fd);
}

static void test_data(void **state)
{
	int file = tr_temp_file(65536);
	int fd = open_direct(file);
	struct io_uring_cqe cqe;

	(void)state;
	if (fd < 0 || !tr_under_shim())
		skip();
	for (unsigned i = 0; i < 16; i++)
		tr_prep(&ring, IORING_OP_READ, fd, buf + i * 4096, 4096, i * 4096, i);
	assert_int_equal(tr_submit(&ring), 16);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.res, 4096);
	}
	for (size_t i = 0; i < 65536; i++)
		assert_int_equal(buf[i], tr_pattern(i));
	memset(buf, 'p', 8192);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, fd, buf, 8192, 4096), 8192);
	assert_int_equal(pread(file, buf + 8192, 8192, 4096), 8192);
	assert_memory_equal(buf, buf + 8192, 8192);
	close(fd);
	close(file);
}

static void test_only_enter_posts(void **state)
{
	int file = tr_temp_file(65536);
	int fd = open_direct(file);

	(void)state;
	if (fd < 0 || !tr_under_shim())
		skip();
	tr_prep(&ring, IORING_OP_READ, fd, buf, 65536, 0, 1);
	assert_int_equal(tr_submit(&ring), 1);
	assert_null(tr_peek(&ring));
	tr_sleep_ms(100);
	assert_null(tr_peek(&ring));
	assert_int_equal(tr_sys_enter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0), 0);
	assert_non_null(tr_peek(&ring));
	assert_int_equal(tr_peek(&ring)->res, 65536);
	close(fd);
	close(file);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_refused),
	ON_RING(test_data),
	ON_RING(test_only_enter_posts),
};

TR_MAIN("iopoll", tests)
