/*
 * Reads and writes, as compared with what the same system calls do: positions,
 * RWF_ flags, vectors, fixed files and buffers, short reads, ends of files,
 * pipes and sockets, and a descriptor that is closed with a request in flight.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#define FILE_BYTES 100000

static struct tr_ring ring;
static int file = -1;
static unsigned char buf[FILE_BYTES * 2];

static int setup(void **state)
{
	(void)state;
	file = tr_temp_file(FILE_BYTES);
	memset(buf, 0, sizeof(buf));
	return tr_init(&ring, 32, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	close(file);
	return 0;
}

static void assert_pattern(const unsigned char *at, size_t from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		assert_int_equal(at[i], tr_pattern(from + i));
}

static void test_read_positions(void **state)
{
	static const struct {
		uint64_t off;
		unsigned len;
		int res;
	} reads[] = { { 0, 1, 1 },
		      { 0, 4096, 4096 },
		      { 4095, 2, 2 },
		      { 1, 65536, 65536 },
		      { 0, FILE_BYTES * 2, FILE_BYTES },
		      { FILE_BYTES - 1, 100, 1 },
		      { FILE_BYTES, 100, 0 },
		      { FILE_BYTES + 1, 100, 0 },
		      { 1ull << 40, 100, 0 },
		      { 5, 0, 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof(reads) / sizeof(reads[0]); i++) {
		memset(buf, 0, sizeof(buf));
		assert_int_equal(
		        tr_do(&ring, IORING_OP_READ, file, buf, reads[i].len, reads[i].off),
		        reads[i].res);
		assert_pattern(buf, reads[i].off, (size_t)reads[i].res);
		assert_int_equal(buf[reads[i].res], 0);
	}
}

/* Writes to one file, submitted one after the other, are done in that order. */
static void test_appends_in_order(void **state)
{
	static const char *const words[] = { "one", "two", "six" };

	(void)state;
	for (int i = 0; i < 200; i++) {
		int log = tr_temp_file(0);

		assert_return_code(fcntl(log, F_SETFL, O_APPEND), errno);
		for (uint64_t w = 0; w < 3; w++) {
			tr_prep(&ring, IORING_OP_WRITE, log, words[w], 3, 0, w);
			assert_int_equal(tr_submit(&ring), 1);
		}
		for (int w = 0; w < 3; w++) {
			struct io_uring_cqe cqe;

			assert_int_equal(tr_wait(&ring, &cqe), 0);
			assert_int_equal(cqe.res, 3);
		}
		assert_int_equal(pread(log, buf, 10, 0), 9);
		assert_memory_equal(buf, "onetwosix", 9);
		close(log);
	}
}

/* Flags that nobody knows are refused at once, also where a read would have to wait. */
static void test_unknown_flags(void **state)
{
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	for (int i = 0; i < 3; i++) {
		tr_prep(&ring, IORING_OP_READ, i ? p[0] : file, buf, 10, 0, 1)->rw_flags = 0x10000;
		assert_int_equal(tr_run(&ring, 1), -EOPNOTSUPP);
		tr_prep(&ring, IORING_OP_WRITE, i ? p[1] : file, buf, 10, 0, 1)->rw_flags = 0x10000;
		assert_int_equal(tr_run(&ring, 1), -EOPNOTSUPP);
	}
	/* Flags that only files in a filesystem know, and one that comes after the file's mode. */
	tr_prep(&ring, IORING_OP_READ, p[0], buf, 10, 0, 1)->rw_flags = 0x40;
	assert_int_equal(tr_run(&ring, 1), -EOPNOTSUPP);
	tr_prep(&ring, IORING_OP_READV, file, NULL, 0, 0, 1)->rw_flags = 0x40;
	assert_int_equal(tr_run(&ring, 1), -EOPNOTSUPP);
	tr_prep(&ring, IORING_OP_WRITE, p[0], buf, 10, 0, 1)->rw_flags = RWF_HIPRI;
	assert_int_equal(tr_run(&ring, 1), -EBADF);
	/* The file has taught nothing wrong by that. */
	assert_int_equal(tr_do(&ring, IORING_OP_READ, file, buf, 10, 0), 10);
	close(p[0]);
	close(p[1]);
}

static void test_current_position(void **state)
{
	(void)state;
	assert_int_equal(lseek(file, 1000, SEEK_SET), 1000);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, file, buf, 500, (uint64_t)-1), 500);
	assert_pattern(buf, 1000, 500);
	assert_int_equal(lseek(file, 0, SEEK_CUR), 1500);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, file, buf, 500, 0), 500);
	assert_pattern(buf, 0, 500);
	assert_int_equal(lseek(file, 0, SEEK_CUR), 1500);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, file, "hello", 5, (uint64_t)-1), 5);
	assert_int_equal(lseek(file, 0, SEEK_CUR), 1505);
	assert_int_equal(pread(file, buf, 5, 1500), 5);
	assert_memory_equal(buf, "hello", 5);
	/* Off the ring's workers the position moves too. */
	tr_prep(&ring, IORING_OP_READ, file, buf, 100, (uint64_t)-1, 1)->flags = IOSQE_ASYNC;
	assert_int_equal(tr_run(&ring, 1), 100);
	assert_int_equal(lseek(file, 0, SEEK_CUR), 1605);
}

static void test_write(void **state)
{
	struct stat st;

	(void)state;
	memset(buf, 'w', 10000);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, file, buf, 10000, 50), 10000);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, file, buf, 10, FILE_BYTES + 100), 10);
	assert_int_equal(fstat(file, &st), 0);
	assert_int_equal(st.st_size, FILE_BYTES + 110);
	assert_int_equal(pread(file, buf, 10100, 0), 10100);
	assert_pattern(buf, 0, 50);
	for (size_t i = 50; i < 10050; i++)
		assert_int_equal(buf[i], 'w');
	assert_pattern(buf + 10050, 10050, 50);
	assert_int_equal(pread(file, buf, 100, FILE_BYTES), 100);
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(buf[i], 0);
}

static void test_append(void **state)
{
	struct stat st;

	(void)state;
	/* RWF_APPEND goes to the end, whatever the offset says. */
	tr_prep(&ring, IORING_OP_WRITE, file, "tail", 4, 10, 1)->rw_flags = RWF_APPEND;
	if (!tr_has_rwf(file, RWF_APPEND)) {
		assert_int_equal(tr_run(&ring, 1), -EOPNOTSUPP);
		return;
	}
	assert_int_equal(tr_run(&ring, 1), 4);
	assert_int_equal(fstat(file, &st), 0);
	assert_int_equal(st.st_size, FILE_BYTES + 4);
	assert_int_equal(pread(file, buf, 20, 0), 20);
	assert_pattern(buf, 0, 20);
	assert_int_equal(fcntl(file, F_SETFL, O_APPEND), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, file, "more", 4, 10), 4);
	assert_int_equal(pread(file, buf, 8, FILE_BYTES), 8);
	assert_memory_equal(buf, "tailmore", 8);
}

static void test_vectors(void **state)
{
	struct iovec iov[5];
	struct io_uring_cqe cqe;
	size_t at = 0;

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		iov[i] = (struct iovec){ buf + at, i * 1000 };
		at += i * 1000;
	}
	assert_int_equal(tr_do(&ring, IORING_OP_READV, file, iov, 5, 3), 10000);
	assert_pattern(buf, 3, 10000);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITEV, file, iov, 5, 50000), 10000);
	assert_int_equal(pread(file, buf + 20000, 10000, 50000), 10000);
	assert_memory_equal(buf, buf + 20000, 10000);
	/* The vector is the program's again as soon as it is submitted. */
	tr_prep(&ring, IORING_OP_READV, file, iov, 5, 3, 1)->flags = IOSQE_ASYNC;
	assert_int_equal(tr_submit(&ring), 1);
	memset(iov, 0xff, sizeof(iov));
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.res, 10000);
	assert_pattern(buf, 3, 10000);
}

static void test_many_vectors(void **state)
{
	struct iovec *iov = calloc(1024, sizeof(*iov));

	(void)state;
	assert_non_null(iov);
	for (size_t i = 0; i < 1024; i++)
		iov[i] = (struct iovec){ buf + i * 64, 64 };
	assert_int_equal(tr_do(&ring, IORING_OP_READV, file, iov, 1024, 7), 65536);
	assert_pattern(buf, 7, 65536);
	/* The end of the file is inside the vector. */
	assert_int_equal(tr_do(&ring, IORING_OP_READV, file, iov, 1024, FILE_BYTES - 1000), 1000);
	assert_pattern(buf, FILE_BYTES - 1000, 1000);
	free(iov);
}

static void test_fixed_buffers(void **state)
{
	struct iovec iov[2] = { { buf, 5000 }, { buf + 10000, 5000 } };
	struct io_uring_sqe *sqe;

	(void)state;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, iov, 2), 0);
	sqe = tr_prep(&ring, IORING_OP_READ_FIXED, file, buf + 10100, 4900, 11, 1);
	sqe->buf_index = 1;
	assert_int_equal(tr_run(&ring, 1), 4900);
	assert_pattern(buf + 10100, 11, 4900);
	assert_int_equal(buf[10099], 0);
	sqe = tr_prep(&ring, IORING_OP_WRITE_FIXED, file, buf + 10100, 100, 0, 2);
	sqe->buf_index = 1;
	assert_int_equal(tr_run(&ring, 2), 100);
	assert_int_equal(pread(file, buf, 100, 0), 100);
	assert_pattern(buf, 11, 100);
	sqe = tr_prep(&ring, IORING_OP_READ_FIXED, file, buf, 5000, FILE_BYTES - 10, 3);
	assert_int_equal(tr_run(&ring, 3), 10);
	sqe = tr_prep(&ring, IORING_OP_READ_FIXED, file, buf + 4999, 2, 0, 4);
	assert_int_equal(tr_run(&ring, 4), -EFAULT);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	sqe = tr_prep(&ring, IORING_OP_READ_FIXED, file, buf, 10, 0, 5);
	assert_int_equal(tr_run(&ring, 5), -EFAULT);
	assert_non_null(sqe);
}

static void test_fixed_files(void **state)
{
	int fds[4] = { -1, file, -1, -1 };
	int other = tr_temp_file(10);
	struct io_uring_files_update up = { .offset = 2, .fds = (uint64_t)(uintptr_t)&other };

	(void)state;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, fds, 4), 0);
	tr_prep(&ring, IORING_OP_READ, 1, buf, 100, 9, 1)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_run(&ring, 1), 100);
	assert_pattern(buf, 9, 100);
	tr_prep(&ring, IORING_OP_READ, 2, buf, 100, 0, 2)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_run(&ring, 2), -EBADF);
	tr_prep(&ring, IORING_OP_READ, 4, buf, 100, 0, 3)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_run(&ring, 3), -EBADF);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), 1);
	/* The table holds the file; the descriptor may go. */
	close(other);
	tr_prep(&ring, IORING_OP_READ, 2, buf, 100, 0, 4)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_run(&ring, 4), 10);
	assert_pattern(buf, 0, 10);
	other = -1;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), 1);
	tr_prep(&ring, IORING_OP_READ, 2, buf, 100, 0, 5)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_run(&ring, 5), -EBADF);
	other = -2; /* IORING_REGISTER_FILES_SKIP */
	up.offset = 1;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1), 1);
	tr_prep(&ring, IORING_OP_READ, 1, buf, 100, 9, 6)->flags = IOSQE_FIXED_FILE | IOSQE_ASYNC;
	assert_int_equal(tr_run(&ring, 6), 100);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_FILES, NULL, 0), 0);
	tr_prep(&ring, IORING_OP_READ, 1, buf, 100, 9, 7)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_run(&ring, 7), -EBADF);
}

static void test_fixed_pipe_closed(void **state)
{
	int p[2];
	char c = 0;

	(void)state;
	/* A pipe that only the table holds: its writer sees the reader go with the table. */
	assert_int_equal(pipe2(p, O_NONBLOCK), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, p, 1), 0);
	close(p[0]);
	assert_int_equal(write(p[1], "x", 1), 1);
	tr_prep(&ring, IORING_OP_READ, 0, &c, 1, 0, 1)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_run(&ring, 1), 1);
	assert_int_equal(c, 'x');
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_FILES, NULL, 0), 0);
	for (int i = 0; i < 1000 && write(p[1], "x", 1) == 1; i++)
		tr_sleep_ms(5);
	assert_int_equal(write(p[1], "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	close(p[1]);
}

static void test_pipe(void **state)
{
	struct io_uring_cqe cqe;
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	/* Nothing there yet: it waits. */
	tr_prep(&ring, IORING_OP_READ, p[0], buf, 100, 0, 1);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 20), -ETIME);
	assert_int_equal(write(p[1], "abc", 3), 3);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.res, 3);
	/* The end of a pipe. */
	tr_prep(&ring, IORING_OP_READ, p[0], buf, 100, 0, 2);
	assert_int_equal(tr_submit(&ring), 1);
	close(p[1]);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.res, 0);
	close(p[0]);
	/* A full one: the writer waits, and gets through as it drains. */
	assert_int_equal(pipe(p), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, p[1], buf, 65536, 0), 65536);
	tr_prep(&ring, IORING_OP_WRITE, p[1], buf, 4096, 0, 3);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 20), -ETIME);
	assert_int_equal(read(p[0], buf, 65536), 65536);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.res, 4096);
	/* No reader: an error, and no SIGPIPE in the middle of nowhere. */
	close(p[0]);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, p[1], buf, 1, 0), -EPIPE);
	close(p[1]);
}

static void test_nonblocking(void **state)
{
	struct io_uring_cqe cqe;
	int p[2];

	(void)state;
	/* O_NONBLOCK is not for a ring, where waiting blocks nobody. RWF_NOWAIT is. */
	assert_int_equal(pipe2(p, O_NONBLOCK), 0);
	tr_prep(&ring, IORING_OP_READ, p[0], buf, 1, 0, 1)->rw_flags = RWF_NOWAIT;
	assert_int_equal(tr_run(&ring, 1), tr_has_rwf(p[0], RWF_NOWAIT) ? -EAGAIN : -EOPNOTSUPP);
	tr_prep(&ring, IORING_OP_READ, p[0], buf, 1, 0, 2);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 20), -ETIME);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.res, 1);
	close(p[0]);
	close(p[1]);
}

/* A file that cannot be asked not to block, at its first request and later, blocking and not. */
static void test_terminal(void **state)
{
	struct io_uring_cqe cqe;
	struct iovec iov = { buf, 1 };
	struct termios raw;
	int m = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), s, error;

	(void)state;
	assert_true(m >= 0 && grantpt(m) == 0 && unlockpt(m) == 0);
	s = open(ptsname(m), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_int_equal(tcgetattr(s, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(s, TCSANOW, &raw), 0);
	for (int round = 0; round < 4; round++) {
		if (round == 2)
			assert_int_equal(fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK) |
			                         fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK),
			                 0);
		tr_prep(&ring, IORING_OP_READ, s, buf, 10, 0, 1);
		assert_int_equal(tr_submit(&ring), 1);
		assert_int_equal(tr_wait_ms(&ring, &cqe, 20), -ETIME);
		tr_prep(&ring, IORING_OP_WRITE, m, "abcde", 5, 0, 2);
		assert_int_equal(tr_submit(&ring), 1);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(tr_wait(&ring, &cqe), 0);
			assert_int_equal(cqe.res, 5);
		}
		assert_memory_equal(buf, "abcde", 5);
		tr_prep(&ring, IORING_OP_READ, s, buf, 1, 0, 3)->rw_flags = RWF_NOWAIT;
		assert_int_equal(tr_run(&ring, 3), -EOPNOTSUPP);
		/* Before Linux 5.5 that is -EINVAL for a write. */
		assert_int_equal(pwritev2(m, &iov, 1, -1, RWF_NOWAIT), -1);
		error = errno;
		tr_prep(&ring, IORING_OP_WRITE, m, buf, 1, 0, 4)->rw_flags = RWF_NOWAIT;
		assert_int_equal(tr_run(&ring, 4), -error);
	}
	close(s);
	close(m);
}

static void test_sockets(void **state)
{
	struct io_uring_cqe cqe;
	struct iovec iov[2] = { { buf, 3 }, { buf + 100, 3 } };
	int seen = 0;
	int s[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	tr_prep(&ring, IORING_OP_READV, s[0], iov, 2, 0, 1);
	assert_int_equal(tr_submit(&ring), 1);
	tr_prep(&ring, IORING_OP_WRITE, s[1], "abcde", 5, 0, 2);
	assert_int_equal(tr_submit(&ring), 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.res, 5);
		seen += (int)cqe.user_data;
	}
	assert_int_equal(seen, 3);
	assert_memory_equal(buf, "abc", 3);
	assert_memory_equal(buf + 100, "de", 2);
	close(s[1]);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, s[0], buf, 10, 0), 0);
	close(s[0]);
}

static void test_closed_in_flight(void **state)
{
	struct io_uring_cqe cqe;
	int p[2];
	int other = tr_temp_file(100);

	(void)state;
	/* The number is another file by the time that the data comes. */
	assert_int_equal(pipe(p), 0);
	tr_prep(&ring, IORING_OP_READ, p[0], buf, 100, 0, 1);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(dup2(other, p[0]), p[0]);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 20), -ETIME);
	assert_int_equal(write(p[1], "from the pipe", 13), 13);
	assert_int_equal(tr_wait(&ring, &cqe), 0);
	assert_int_equal(cqe.res, 13);
	assert_memory_equal(buf, "from the pipe", 13);
	close(p[0]);
	close(p[1]);
	close(other);
}

static void test_closed_after_submit(void **state)
{
	struct io_uring_cqe cqe;

	(void)state;
	/* Each on a descriptor that is gone when submit returns. */
	for (unsigned round = 0; round < 50; round++) {
		int fd = tr_temp_file(64);

		for (unsigned i = 0; i < 8; i++)
			tr_prep(&ring, IORING_OP_READ, fd, buf + i * 64, 64, 0, i);
		assert_int_equal(tr_submit(&ring), 8);
		close(fd);
		for (unsigned i = 0; i < 8; i++) {
			assert_int_equal(tr_wait(&ring, &cqe), 0);
			assert_int_equal(cqe.res, 64);
			assert_pattern(buf + cqe.user_data * 64, 0, 64);
		}
		memset(buf, 0, 512);
	}
}

static void test_direct(void **state)
{
	char path[64];
	unsigned char *aligned = NULL;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0) /* Not on this file system. */
		skip();
	assert_int_equal(posix_memalign((void **)&aligned, 4096, 65536), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, fd, aligned, 65536, 4096), 65536);
	assert_pattern(aligned, 4096, 65536);
	/* To the end and past it. */
	assert_int_equal(tr_do(&ring, IORING_OP_READ, fd, aligned, 65536, 65536),
	                 FILE_BYTES - 65536);
	assert_pattern(aligned, 65536, FILE_BYTES - 65536);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, fd, aligned, 8192, 0), 8192);
	assert_int_equal(pread(file, buf, 8192, 0), 8192);
	assert_pattern(buf, 65536, 8192);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, fd, aligned + 1, 4096, 0), -EINVAL);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, fd, aligned, 100, 0), -EINVAL);
	free(aligned);
	close(fd);
}

static void test_batch(void **state)
{
	struct io_uring_cqe cqe;
	unsigned done = 0;

	(void)state;
	/* A deep batch of both, over and over: each gets its own data. */
	for (unsigned round = 0; round < 40; round++) {
		for (unsigned i = 0; i < 32; i++)
			tr_prep(&ring, IORING_OP_READ, file, buf + i * 512, 512,
			        (round * 977 + i * 3011) % (FILE_BYTES - 512), i);
		assert_int_equal(tr_submit_wait(&ring, 32), 32);
		for (unsigned i = 0; i < 32; i++) {
			assert_int_equal(tr_wait(&ring, &cqe), 0);
			assert_int_equal(cqe.res, 512);
			done |= 1u << cqe.user_data;
		}
		assert_int_equal(done, 0xffffffffu);
		done = 0;
		for (unsigned i = 0; i < 32; i++)
			assert_pattern(buf + i * 512, (round * 977 + i * 3011) % (FILE_BYTES - 512),
			               512);
	}
}

static void test_file_limit(void **state)
{
	(void)state;
	/* /dev/null, /dev/zero and /dev/full are files too. */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	int full = open("/dev/full", O_RDWR | O_CLOEXEC);
	int other;

	memset(buf, 1, 100);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, null, buf, 100, 0), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, null, buf, 100, 0), 100);
	assert_int_equal(tr_do(&ring, IORING_OP_READ, zero, buf, 100, 0), 100);
	assert_int_equal(buf[99], 0);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, full, buf, 100, 0), -ENOSPC);
	/* Flags that mean nothing there do no harm. */
	tr_prep(&ring, IORING_OP_WRITE, full, buf, 100, 0, 1)->rw_flags = RWF_DSYNC;
	assert_int_equal(tr_run(&ring, 1), -ENOSPC);
	other = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	tr_prep(&ring, IORING_OP_READ, other, buf, 8, 0, 1)->rw_flags = RWF_SYNC;
	assert_int_equal(tr_run(&ring, 1), 8);
	close(other);
	/* What cannot be written to at all does not wait until it can. */
	other = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	assert_int_equal(tr_do(&ring, IORING_OP_WRITE, other, buf, 8, 0), -EINVAL);
	close(other);
	close(null);
	close(zero);
	close(full);
}

#define ON_FILE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* Files that tell of so many bytes or nothing refuse to be asked for nothing. */
static void test_read_nothing(void **state)
{
	sigset_t none;
	int files[4];

	(void)state;
	sigemptyset(&none);
	files[0] = eventfd(0, EFD_CLOEXEC);
	files[1] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	files[2] = signalfd(-1, &none, SFD_CLOEXEC);
	files[3] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < 4; i++) {
		struct iovec iov = { buf, 0 };
		int res = i < 3 ? -EINVAL : 0;

		assert_int_equal(tr_do(&ring, IORING_OP_READ, files[i], buf, 0, 0), res);
		assert_int_equal(tr_do(&ring, IORING_OP_READV, files[i], &iov, 1, 0), res);
		assert_int_equal(tr_do(&ring, IORING_OP_WRITE, files[i], buf, 0, 0),
		                 i == 1 || i == 2 ? -EINVAL
		                 : i == 3         ? -EBADF
		                                  : 0);
		close(files[i]);
	}
}

static const struct CMUnitTest tests[] = {
	ON_FILE(test_read_nothing),
	ON_FILE(test_read_positions),
	ON_FILE(test_appends_in_order),
	ON_FILE(test_current_position),
	ON_FILE(test_unknown_flags),
	ON_FILE(test_write),
	ON_FILE(test_append),
	ON_FILE(test_vectors),
	ON_FILE(test_many_vectors),
	ON_FILE(test_fixed_buffers),
	ON_FILE(test_fixed_files),
	ON_FILE(test_fixed_pipe_closed),
	ON_FILE(test_pipe),
	ON_FILE(test_nonblocking),
	ON_FILE(test_terminal),
	ON_FILE(test_sockets),
	ON_FILE(test_closed_in_flight),
	ON_FILE(test_closed_after_submit),
	ON_FILE(test_direct),
	ON_FILE(test_batch),
	ON_FILE(test_file_limit),
};

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	return tr_run_group("rw", tests, sizeof(tests) / sizeof(tests[0]));
}
