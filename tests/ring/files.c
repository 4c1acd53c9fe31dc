/*
 * Descriptors and names: opening in all its forms, direct descriptors, pipes, splicing
 * and what is done to files by name. What liburing's suite leaves out: FIFOs, flags of
 * the new descriptor, limits, and which errors end a submission.
 */
#include "tests/ring_util.h"
#include "tests/newer_ops.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALLOC (~0U)

static struct tr_ring ring;
static char dir[32];
static char buf[8192];

static int setup(void **state)
{
	static const int none[4] = { -1, -1, -1, -1 };
	int fd, rc;

	(void)state;
	strcpy(dir, "files-test.XXXXXX");
	if (!mkdtemp(dir) || chdir(dir) < 0)
		return -1;
	fd = open("file", O_RDWR | O_CREAT, 0644);
	rc = write(fd, buf, 4096) == 4096 ? 0 : -1;
	close(fd);
	if (rc || mkfifo("fifo", 0600) < 0 || tr_init(&ring, 16, 0) < 0)
		return -1;
	return tr_sys_register(ring.fd, IORING_REGISTER_FILES, none, 4);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	unlink("file");
	unlink("fifo");
	return chdir("..") < 0 ? -1 : rmdir(dir);
}

static int do_open(const char *path, int flags, unsigned slot)
{
	struct io_uring_sqe *sqe = tr_prep(&ring, IORING_OP_OPENAT, AT_FDCWD, path, 0600, 0, 1);

	sqe->open_flags = (unsigned)flags;
	sqe->file_index = slot;
	return tr_run(&ring, 1);
}

static int do_close(int fd, unsigned slot)
{
	tr_prep(&ring, IORING_OP_CLOSE, fd, NULL, 0, 0, 1)->file_index = slot;
	return tr_run(&ring, 1);
}

static void check_opened(const char *path, int flags, int fl, int fdfl)
{
	int fd = do_open(path, flags, 0);

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFL) & ~0100000, fl);
	assert_int_equal(fcntl(fd, F_GETFD), fdfl);
	close(fd);
}

static void test_open_flags(void **state)
{
	(void)state;
	check_opened("file", O_RDONLY, O_RDONLY, 0);
	check_opened("file", O_RDWR | O_APPEND | O_CLOEXEC, O_RDWR | O_APPEND, FD_CLOEXEC);
	check_opened("file", O_RDWR | O_NONBLOCK, O_RDWR | O_NONBLOCK, 0);
	check_opened("file", O_PATH | O_RDWR | O_NONBLOCK, O_PATH, 0);
	check_opened("file", O_RDWR | O_TRUNC | O_CREAT, O_RDWR, 0);
	check_opened(".", O_RDONLY | O_DIRECTORY, O_RDONLY | O_DIRECTORY, 0);
	assert_int_equal(do_open("nosuch", O_RDONLY, 0), -ENOENT);
	assert_int_equal(do_open("file/x", O_RDONLY, 0), -ENOTDIR);
	assert_int_equal(do_open(".", O_RDWR, 0), -EISDIR);
	assert_int_equal(do_open("file", O_CREAT | O_EXCL, 0), -EEXIST);
}

/* An open never waits for the other end of a FIFO. */
static void test_open_fifo(void **state)
{
	(void)state;
	/* What is in the name cache is opened without waiting, where there is a way to ask for
	 * that. */
	if (!tr_has_op(&ring, IORING_OP_OPENAT2))
		skip();
	check_opened("fifo", O_RDONLY, O_RDONLY, 0);
	check_opened("fifo", O_RDWR, O_RDWR, 0);
	assert_int_equal(do_open("fifo", O_WRONLY, 0), -ENXIO);
}

static int do_open2(const char *path, const void *how, unsigned bytes)
{
	tr_prep(&ring, IORING_OP_OPENAT2, AT_FDCWD, path, bytes, (uint64_t)(uintptr_t)how, 1);
	return tr_run(&ring, 1);
}

static void test_openat2(void **state)
{
	struct {
		struct open_how how;
		char more[500];
	} big = { .how = { .flags = O_RDONLY } };
	struct open_how cached = { .flags = O_RDONLY, .resolve = RESOLVE_CACHED };
	int fd;

	(void)state;
	if (!tr_has_op(&ring, IORING_OP_OPENAT2)) {
		assert_int_equal(do_open2("file", &big, sizeof(big)), -EINVAL);
		skip();
	}
	fd = do_open2("file", &big, sizeof(big));
	assert_true(fd >= 0);
	close(fd);
	big.more[300] = 1;
	assert_int_equal(do_open2("file", &big, sizeof(big)), -E2BIG);
	assert_int_equal(do_open2("file", &big, 16), -EINVAL);
	big.how.resolve = RESOLVE_BENEATH;
	assert_int_equal(do_open2("/", &big, sizeof(big.how)), -EXDEV);
	fd = do_open2("file", &cached, sizeof(cached));
	assert_true(fd >= 0);
	close(fd);
	cached.flags = O_RDWR | O_CREAT;
	assert_int_equal(do_open2("file", &cached, sizeof(cached)), -EAGAIN);
}

static void test_direct(void **state)
{
	struct rlimit limit, none;

	(void)state;
	assert_int_equal(do_open("file", O_RDONLY, 2), 0);
	assert_int_equal(do_open("file", O_RDONLY | O_CLOEXEC, 2), -EINVAL);
	assert_int_equal(do_open("file", O_RDONLY, 5), -EINVAL);
	assert_int_equal(do_open("file", O_RDONLY, ALLOC), 2);
	assert_int_equal(do_open("file", O_RDONLY, ALLOC), 3);
	assert_int_equal(do_open("file", O_RDONLY, ALLOC), 0);
	assert_int_equal(do_open("file", O_RDONLY, ALLOC), -ENFILE);
	assert_int_equal(do_close(0, 2), 0);
	assert_int_equal(do_close(0, 2), -EBADF);
	assert_int_equal(do_close(0, 5), -EINVAL);
	assert_int_equal(do_close(1, 1), -EINVAL);

	/* The table is not the process's. */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(do_open("file", O_RDONLY, 0), -EMFILE);
	assert_int_equal(do_open("file", O_RDONLY, 2), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (unsigned slot = 1; slot <= 4; slot++)
		assert_int_equal(do_close(0, slot), 0);
}

static void test_install(void **state)
{
	(void)state;
	assert_int_equal(do_open("file", O_RDWR, 1), 0);
	for (unsigned flags = 0; flags <= FD_INSTALL_NO_CLOEXEC; flags++) {
		struct io_uring_sqe *sqe = tr_prep(&ring, OP_FIXED_FD_INSTALL, 0, NULL, 0, 0, 1);
		int fd;

		sqe->flags = IOSQE_FIXED_FILE;
		sqe->rw_flags = (int)flags;
		fd = tr_run(&ring, 1);
		assert_true(fd >= 0);
		assert_int_equal(fcntl(fd, F_GETFD), flags ? 0 : FD_CLOEXEC);
		close(fd);
	}
	tr_prep(&ring, OP_FIXED_FD_INSTALL, 0, NULL, 0, 0, 1);
	assert_int_equal(tr_run(&ring, 1), -EBADF);
	assert_int_equal(do_close(0, 1), 0);
}

static void test_close(void **state)
{
	int fd = open("file", O_RDONLY);

	(void)state;
	assert_int_equal(do_close(ring.fd, 0), -EBADF);
	assert_int_equal(do_close(fd, 0), 0);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(do_close(fd, 0), -EBADF);
}

static int do_pipe(int *fds, int flags, unsigned slot)
{
	struct io_uring_sqe *sqe = tr_prep(&ring, OP_PIPE, 0, fds, 0, 0, 1);

	sqe->rw_flags = flags;
	sqe->file_index = slot;
	return tr_run(&ring, 1);
}

static void test_pipe(void **state)
{
	int fds[2] = { -1, -1 };

	(void)state;
	assert_int_equal(do_pipe(fds, O_CLOEXEC | O_NONBLOCK, 0), 0);
	assert_int_equal(fcntl(fds[0], F_GETFL), O_RDONLY | O_NONBLOCK);
	assert_int_equal(fcntl(fds[1], F_GETFD), FD_CLOEXEC);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(read(fds[0], buf, 2), 1);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(do_pipe(fds, O_APPEND, 0), -EINVAL);
	assert_int_equal(do_pipe((int *)8, 0, 0), -EFAULT);
	assert_int_equal(do_pipe(fds, O_CLOEXEC, 1), -EINVAL);
	assert_int_equal(do_pipe(fds, 0, 2), 0);
	assert_int_equal(fds[0], 1);
	assert_int_equal(fds[1], 2);
	/* A pipe that finds room for one end only leaves none behind. */
	assert_int_equal(do_pipe(fds, 0, 4), -EINVAL);
	assert_int_equal(do_close(0, 4), -EBADF);
	assert_int_equal(do_pipe(fds, 0, ALLOC), 0);
	assert_int_equal(do_pipe(fds, 0, ALLOC), -ENFILE);
	for (unsigned slot = 1; slot <= 4; slot++)
		assert_int_equal(do_close(0, slot), 0);
}

static void prep_splice(int in, uint64_t off_in, int out, uint64_t off_out, unsigned len,
                        unsigned flags)
{
	struct io_uring_sqe *sqe = tr_prep(&ring, IORING_OP_SPLICE, out, NULL, len, off_out, 1);

	sqe->splice_fd_in = in;
	sqe->splice_off_in = off_in;
	sqe->splice_flags = flags;
}

static void test_splice(void **state)
{
	int file = open("file", O_RDWR), fds[2], other[2];
	struct io_uring_cqe cqe;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(pipe(other), 0);
	assert_int_equal(ftruncate(file, 4096), 0);
	prep_splice(file, 100, fds[1], ~0ULL, 50, 0);
	assert_int_equal(tr_run(&ring, 1), 50);
	assert_int_equal(lseek(file, 0, SEEK_CUR), 0);
	prep_splice(fds[0], ~0ULL, file, ~0ULL, 20, 0);
	assert_int_equal(tr_run(&ring, 1), 20);
	assert_int_equal(lseek(file, 0, SEEK_CUR), 20);
	prep_splice(fds[0], 0, other[1], ~0ULL, 20, 0);
	assert_int_equal(tr_run(&ring, 1), -ESPIPE);
	prep_splice(file, 0, file, 0, 20, 0);
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
	prep_splice(ring.fd, ~0ULL, fds[1], ~0ULL, 20, 0);
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
	prep_splice(1000, ~0ULL, fds[1], ~0ULL, 0, 0);
	assert_int_equal(tr_run(&ring, 1), -EBADF);

	/* Both files stay what they were at submission. */
	assert_int_equal(read(fds[0], buf, 30), 30);
	prep_splice(fds[0], ~0ULL, other[1], ~0ULL, 5, 0);
	assert_int_equal(tr_submit(&ring), 1);
	tr_sleep_ms(50);
	close(fds[0]);
	close(other[1]);
	assert_int_equal(write(fds[1], "hello", 5), 5);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 2000), 0);
	assert_int_equal(cqe.res, 5);
	assert_int_equal(read(other[0], buf, 10), 5);
	close(file);
	close(fds[1]);
	close(other[0]);
}

/* A path is the request's own once it is submitted, and a bad one ends the submission. */
static void test_paths(void **state)
{
	char path[] = "first";
	struct io_uring_cqe cqe;

	(void)state;
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1)->flags = IOSQE_IO_LINK;
	tr_prep(&ring, IORING_OP_MKDIRAT, AT_FDCWD, path, 0700, 0, 2);
	assert_int_equal(tr_submit(&ring), 2);
	strcpy(path, "other");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(tr_wait_ms(&ring, &cqe, 2000), 0);
		assert_int_equal(cqe.res, 0);
	}
	assert_int_equal(rmdir("first"), 0);

	tr_prep(&ring, IORING_OP_UNLINKAT, AT_FDCWD, (void *)8, 0, 0, 1);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.res, -EFAULT);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.user_data, 2);
}

static void test_registered_vector(void **state)
{
	struct iovec whole = { buf, sizeof(buf) };
	struct iovec parts[3] = { { buf + 4096, 10 }, { buf, 10 }, { buf + 100, 10 } };
	int fd = open("file", O_RDWR);

	(void)state;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, &whole, 1), 0);
	memset(buf, 'a', 10);
	memset(buf + 100, 'b', 10);
	memset(buf + 4096, 'c', 10);
	assert_int_equal(tr_do(&ring, OP_WRITEV_FIXED, fd, parts, 3, 0), 30);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(tr_do(&ring, OP_READV_FIXED, fd, parts, 3, 0), 30);
	assert_int_equal(buf[4096], 'c');
	assert_int_equal(buf[9], 'a');
	assert_int_equal(buf[109], 'b');
	parts[1].iov_len = 0;
	assert_int_equal(tr_do(&ring, OP_READV_FIXED, fd, parts, 3, 0), -EFAULT);
	parts[1].iov_len = sizeof(buf) + 1;
	assert_int_equal(tr_do(&ring, OP_READV_FIXED, fd, parts, 3, 0), -EFAULT);
	assert_int_equal(tr_do(&ring, OP_READV_FIXED, fd, parts, 1025, 0), -EINVAL);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	close(fd);
}

/* A name that cannot be read, or is none, ends the submission; one that is not there does not. And
 * once it is submitted it is the request's own. */
static void test_open_names(void **state)
{
	static const struct {
		const char *name;
		int res;
		bool ends;
	} cases[] = { { "nothing", -ENOENT, false },
		      { "", -ENOENT, true },
		      { NULL, -EFAULT, true },
		      { (char *)8, -EFAULT, true },
		      { "file/x", -ENOTDIR, false } };
	static const unsigned char flags[] = { 0, IOSQE_ASYNC, IOSQE_IO_DRAIN, IOSQE_IO_LINK };
	struct io_uring_cqe cqe;
	char name[8];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		tr_prep(&ring, IORING_OP_OPENAT, AT_FDCWD, cases[i].name, 0, 0, 1);
		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2);
		assert_int_equal(tr_submit(&ring), cases[i].ends ? 1 : 2);
		if (cases[i].ends)
			assert_int_equal(tr_submit(&ring), 1);
		for (int n = 0; n < 2; n++) {
			assert_int_equal(tr_wait(&ring, &cqe), 0);
			assert_int_equal(cqe.res, cqe.user_data == 1 ? cases[i].res : 0);
		}
	}
	tr_prep(&ring, IORING_OP_OPENAT, AT_FDCWD, NULL, 0, 0, 1)->file_index = 1;
	ring.sqes[(ring.sqe_tail - 1) & *ring.sq_mask].open_flags = O_CLOEXEC;
	assert_int_equal(tr_run(&ring, 1), -EFAULT);
	for (size_t i = 0; i < 2 * sizeof(flags); i++) {
		struct io_uring_sqe *sqe =
		        tr_prep(&ring, IORING_OP_OPENAT, AT_FDCWD, name, 0600, 0, 1);

		memcpy(name, "file", 5);
		sqe->open_flags = i % 2 ? O_CREAT | O_RDWR : O_RDONLY;
		sqe->flags = flags[i / 2];
		assert_int_equal(tr_submit(&ring), 1);
		memcpy(name, "nothere", 8);
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_true(cqe.res >= 0);
		close(cqe.res);
	}
}

/* A socket for which there is no place is a result like any other: no link breaks, and where
 * success would be passed over in silence, so is this. */
static void test_socket_without_place(void **state)
{
	struct io_uring_sqe *sqe;

	(void)state;
	for (unsigned silent = 0; silent < 2; silent++) {
		sqe = tr_prep(&ring, IORING_OP_SOCKET, AF_UNIX, NULL, 0, SOCK_STREAM, 1);
		sqe->file_index = 100;
		sqe->flags = (unsigned char)(IOSQE_IO_LINK | (silent ? IOSQE_CQE_SKIP_SUCCESS : 0));
		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2);
		assert_int_equal(tr_submit_wait(&ring, silent ? 1 : 2), 2);
		if (!silent)
			tr_expect(&ring, 1, -EINVAL, 0);
		tr_expect(&ring, 2, 0, 0);
	}
	/* No socket at all breaks it. */
	tr_prep(&ring, IORING_OP_SOCKET, 1000, NULL, 0, SOCK_STREAM, 1)->flags = IOSQE_IO_LINK;
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2);
	assert_int_equal(tr_submit_wait(&ring, 2), 2);
	tr_expect(&ring, 1, -EAFNOSUPPORT, 0);
	tr_expect(&ring, 2, -ECANCELED, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_open_flags, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_fifo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_openat2, setup, teardown),
		cmocka_unit_test_setup_teardown(test_direct, setup, teardown),
		cmocka_unit_test_setup_teardown(test_install, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pipe, setup, teardown),
		cmocka_unit_test_setup_teardown(test_socket_without_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_splice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_registered_vector, setup, teardown),
	};

	return tr_run_group("files", tests, sizeof(tests) / sizeof(tests[0]));
}
