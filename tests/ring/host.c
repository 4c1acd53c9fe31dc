/*
 * What depends on the kernel below: operations that stand on system calls which old kernels do not
 * have are there exactly where the calls are, in the probe and in fact.
 */
#include "tests/ring_util.h"
#include "tests/newer_ops.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR_FUTEX_WAITV 449

TR_ONE_RING(8);

/* Whether the kernel knows the call; the arguments are none that it could accept. */
static bool has_call(long nr)
{
	return syscall(nr, -1, NULL, 0, 0, NULL, 0) >= 0 || errno != ENOSYS;
}

static void test_statx(void **state)
{
	int fd = tr_temp_file(12345);
	struct statx sx = { 0 };
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(tr_has_op(&ring, IORING_OP_STATX), has_call(SYS_statx));
	tr_prep(&ring, IORING_OP_STATX, AT_FDCWD, path, STATX_SIZE, (uint64_t)(uintptr_t)&sx, 1);
	if (has_call(SYS_statx)) {
		assert_int_equal(tr_run(&ring, 1), 0);
		assert_int_equal(sx.stx_size, 12345);
	} else {
		assert_int_equal(tr_run(&ring, 1), -EINVAL);
	}
	close(fd);
}

static void test_openat2(void **state)
{
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC };
	int res;

	(void)state;
	assert_int_equal(tr_has_op(&ring, IORING_OP_OPENAT2), has_call(SYS_openat2));
	res = tr_do(&ring, IORING_OP_OPENAT2, AT_FDCWD, ".", sizeof(how),
	            (uint64_t)(uintptr_t)&how);
	if (!has_call(SYS_openat2)) {
		assert_int_equal(res, -EINVAL);
		return;
	}
	assert_true(res >= 0);
	close(res);
}

static void test_futex_vector(void **state)
{
	(void)state;
	assert_int_equal(tr_has_op(&ring, OP_FUTEX_WAITV), has_call(NR_FUTEX_WAITV));
	assert_int_equal(tr_do(&ring, OP_FUTEX_WAITV, 0, NULL, 1, 0),
	                 has_call(NR_FUTEX_WAITV) ? -EFAULT : -EINVAL);
}

/* What every kernel has, by whatever call. */
static void test_always(void **state)
{
	static const int ops[] = { IORING_OP_READ,   IORING_OP_WRITE,    IORING_OP_OPENAT,
		                   IORING_OP_CLOSE,  IORING_OP_RENAMEAT, IORING_OP_SYMLINKAT,
		                   IORING_OP_SPLICE, IORING_OP_SEND_ZC,  IORING_OP_TIMEOUT };
	struct stat st;
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		assert_true(tr_has_op(&ring, ops[i]));
	tr_prep(&ring, IORING_OP_OPENAT, AT_FDCWD, ".", 0600, 0, 1)->open_flags =
	        O_TMPFILE | O_RDWR;
	fd = tr_run(&ring, 1);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, fd, "new bytes", 9, 100), 9);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 109);
	assert_int_equal(tr_do(&ring, IORING_OP_CLOSE, fd, NULL, 0, 0), 0);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_statx),
	ON_RING(test_openat2),
	ON_RING(test_futex_vector),
	ON_RING(test_always),
};

TR_MAIN("host", tests)
