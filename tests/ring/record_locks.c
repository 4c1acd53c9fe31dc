/*
 * Record locks (fcntl F_SETLK) of the process outlive every request on the file that it has locked:
 * they go when the program unlocks it or closes a descriptor of it, and what else the file is held
 * by goes then as well.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define BYTES  65536
#define ROUNDS 100

static struct tr_ring ring;
static char path[] = "locks.XXXXXX", buf[4096];
static int fd = -1;    /* what is locked, and used */
static int probe = -1; /* asks about it; open all the while, since closing it would unlock */

static int setup(void **state)
{
	(void)state;
	memcpy(path, "locks.XXXXXX", sizeof(path));
	fd = mkostemp(path, O_CLOEXEC);
	probe = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 || probe < 0 || ftruncate(fd, BYTES) || tr_init(&ring, 8, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	close(fd);
	close(probe);
	return unlink(path);
}

static void set_lock(int at, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET };

	if (fcntl(at, F_SETLK, &lock))
		abort();
}

/* Whether this process has locked it. */
static bool is_locked(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(probe, F_OFD_GETLK, &lock))
		abort();
	return lock.l_type != F_UNLCK && lock.l_pid == getpid();
}

static void on_file(int op, unsigned sqe_flags, unsigned len, uint64_t off, int res)
{
	struct io_uring_sqe *sqe = tr_prep(&ring, op, fd, len ? buf : NULL, len, off, 1);

	if (op == IORING_OP_POLL_ADD)
		sqe->poll32_events = POLLIN;
	sqe->flags = (unsigned char)sqe_flags;
	assert_int_equal(tr_run(&ring, 1), res);
	assert_true(is_locked());
}

static void each_operation(void)
{
	on_file(IORING_OP_READ, 0, sizeof(buf), 0, sizeof(buf));
	on_file(IORING_OP_READ, IOSQE_ASYNC, sizeof(buf), 0, sizeof(buf));
	on_file(IORING_OP_READ, IOSQE_ASYNC, 100, (uint64_t)-1, 100);
	on_file(IORING_OP_WRITE, 0, sizeof(buf), 0, sizeof(buf));
	on_file(IORING_OP_WRITE, IOSQE_ASYNC, sizeof(buf), 0, sizeof(buf));
	on_file(IORING_OP_FSYNC, 0, 0, 0, 0);
	on_file(IORING_OP_FALLOCATE, IOSQE_IO_DRAIN, 0, 0, -EINVAL);
	on_file(IORING_OP_POLL_ADD, 0, 0, 0, POLLIN);
	on_file(IORING_OP_POLL_ADD, IOSQE_ASYNC, 0, 0, POLLIN);
	on_file(IORING_OP_RECV, IOSQE_ASYNC, sizeof(buf), 0, -ENOTSOCK);
}

static void test_requests(void **state)
{
	(void)state;
	set_lock(fd, F_WRLCK);
	each_operation();
	/* A lock that comes from elsewhere is the process's as well. */
	set_lock(fd, F_UNLCK);
	set_lock(probe, F_RDLCK);
	each_operation();
	set_lock(probe, F_UNLCK);
	assert_false(is_locked());
}

static void test_many(void **state)
{
	int before;

	(void)state;
	set_lock(fd, F_WRLCK);
	on_file(IORING_OP_FSYNC, 0, 0, 0, 0);
	before = tr_count_dir("fd");
	for (int i = 0; i < ROUNDS; i++)
		on_file(IORING_OP_READ, IOSQE_ASYNC, sizeof(buf), 0, sizeof(buf));
	assert_int_equal(lseek(fd, 1000, SEEK_SET), 1000);
	on_file(IORING_OP_READ, IOSQE_ASYNC, 100, (uint64_t)-1, 100);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 1100);
	assert_true(tr_count_dir("fd") <= before + 2);
}

static void test_splice(void **state)
{
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	set_lock(fd, F_WRLCK);
	for (int i = 0; i < 3; i++) {
		struct io_uring_sqe *sqe =
		        tr_prep(&ring, IORING_OP_SPLICE, p[1], NULL, 100, (uint64_t)-1, 1);

		sqe->splice_fd_in = fd;
		sqe->splice_off_in = 0;
		assert_int_equal(tr_run(&ring, 1), 100);
		assert_true(is_locked());
	}
	close(p[0]);
	close(p[1]);
}

static void test_registered(void **state)
{
	int none = -1;
	struct io_uring_files_update up = { .fds = (uint64_t)(uintptr_t)&none };

	(void)state;
	set_lock(fd, F_WRLCK);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, &fd, 1), 0);
	tr_prep(&ring, IORING_OP_READ, 0, buf, 100, 0, 1)->flags = IOSQE_FIXED_FILE | IOSQE_ASYNC;
	assert_int_equal(tr_run(&ring, 1), 100);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), 1);
	assert_true(is_locked());
	up.fds = (uint64_t)(uintptr_t)&fd;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), 1);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_FILES, NULL, 0), 0);
	tr_sleep_ms(20);
	assert_true(is_locked());
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, &fd, 1), 0);
	tr_exit(&ring);
	tr_sleep_ms(20);
	assert_true(is_locked());
	assert_int_equal(tr_init(&ring, 8, 0), 0);
}

static void test_direct(void **state)
{
	int none = -1;

	(void)state;
	set_lock(fd, F_WRLCK);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, &none, 1), 0);
	for (int i = 0; i < 3; i++) {
		struct io_uring_sqe *sqe =
		        tr_prep(&ring, IORING_OP_OPENAT, AT_FDCWD, path, 0, 0, 1);

		sqe->file_index = 1;
		sqe->open_flags = O_RDWR;
		assert_int_equal(tr_run(&ring, 1), 0);
		assert_true(is_locked());
		tr_prep(&ring, IORING_OP_CLOSE, 0, NULL, 0, 0, 1)->file_index = 1;
		assert_int_equal(tr_run(&ring, 1), 0);
		tr_sleep_ms(5);
		assert_true(is_locked());
	}
}

/* The last descriptor of the program's is the last of all. */
static void test_closed(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(flock(fd, LOCK_EX), 0);
		set_lock(fd, F_WRLCK);
		on_file(IORING_OP_FSYNC, 0, 0, 0, 0);
		on_file(IORING_OP_READ, IOSQE_ASYNC, 100, 0, 100);
		if (i == 2) {
			/* A request outlives it. */
			tr_prep(&ring, IORING_OP_WRITE, fd, buf, 100, 0, 1);
			assert_int_equal(tr_submit(&ring), 1);
		}
		if (i == 1)
			assert_int_equal(dup2(probe, fd), fd);
		else
			assert_int_equal(close(fd), 0);
		if (i == 2)
			tr_expect(&ring, 1, 100, 0);
		assert_false(is_locked());
		assert_int_equal(flock(probe, LOCK_EX | LOCK_NB), 0);
		assert_int_equal(flock(probe, LOCK_UN), 0);
		if (i == 1)
			close(fd);
		fd = open(path, O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0);
	}
}

/* A forked child has no such locks, and takes none away. */
static void test_forked(void **state)
{
	pid_t pid;

	(void)state;
	set_lock(fd, F_WRLCK);
	on_file(IORING_OP_FSYNC, 0, 0, 0, 0);
	pid = fork();
	if (!pid) {
		struct tr_ring r;
		struct io_uring_cqe cqe;

		TR_CHILD_CHECK(tr_init(&r, 8, 0) == 0);
		tr_prep(&r, IORING_OP_FSYNC, fd, NULL, 0, 0, 1);
		TR_CHILD_CHECK(tr_submit(&r) == 1 && tr_wait(&r, &cqe) == 0 && cqe.res == 0);
		_exit(0);
	}
	assert_int_equal(tr_wait_child(pid), 0);
	assert_true(is_locked());
	on_file(IORING_OP_FSYNC, 0, 0, 0, 0);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_requests),   ON_RING(test_many),   ON_RING(test_splice),
	ON_RING(test_registered), ON_RING(test_direct), ON_RING(test_closed),
	ON_RING(test_forked),
};

TR_MAIN("record_locks", tests)
