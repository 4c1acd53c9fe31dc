/*
 * Many reads and writes in one submission: what each of them returns must not depend on the
 * company it is in. Errors in the middle of a batch, ends of files, pages that are not
 * there yet, O_DIRECT, registered files and buffers, several files at once, and a file that
 * is closed while the requests are on their way.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define BLOCK  4096
#define BLOCKS 256
#define N      128

static struct tr_ring ring;
static int file = -1;
static unsigned char *buf;

static int setup(void **state)
{
	(void)state;
	file = tr_temp_file(BLOCK * BLOCKS);
	buf = mmap(NULL, (size_t)BLOCK * BLOCKS, PROT_READ | PROT_WRITE,
	           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return tr_init(&ring, N, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	munmap(buf, (size_t)BLOCK * BLOCKS);
	close(file);
	return 0;
}

static void assert_pattern(const unsigned char *at, size_t from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		assert_int_equal(at[i], tr_pattern(from + i));
}

/* Submits what is prepared and stores each result by its user_data. */
static void run(unsigned n, int *res)
{
	for (unsigned i = 0; i < n; i++)
		res[i] = -9999;
	assert_int_equal(tr_submit_wait(&ring, n), n);
	for (unsigned i = 0; i < n; i++) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_true(cqe.user_data < n);
		assert_int_equal(res[cqe.user_data], -9999);
		assert_int_equal(cqe.flags, 0);
		res[cqe.user_data] = cqe.res;
	}
}

static void read_all_blocks(int fd)
{
	int res[N];

	memset(buf, 0, (size_t)BLOCK * BLOCKS);
	for (unsigned i = 0; i < N; i++)
		tr_prep(&ring, IORING_OP_READ, fd, buf + i * BLOCK, BLOCK, i * BLOCK, i);
	run(N, res);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(res[i], BLOCK);
	assert_pattern(buf, 0, N * BLOCK);
}

static void test_cached(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		read_all_blocks(file);
}

/* Inline work completes in the order in which it was submitted. */
static void test_order(void **state)
{
	struct io_uring_cqe cqe;

	(void)state;
	for (unsigned i = 0; i < 90; i++) {
		if (i % 3 == 1)
			tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, i);
		else
			tr_prep(&ring, IORING_OP_READ, file, buf, 100, i, i);
	}
	assert_int_equal(tr_submit_wait(&ring, 90), 90);
	for (unsigned i = 0; i < 90; i++) {
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.user_data, i);
	}
}

/* Reads that go on where the one before has ended, up to and over the end of the file. */
static void test_run_over_the_end(void **state)
{
	unsigned at = BLOCK * (BLOCKS - 6) - 500, asked[20];
	int res[20], total = 0;

	(void)state;
	memset(buf, 0, (size_t)BLOCK * BLOCKS);
	for (unsigned i = 0; i < 20; i++) {
		asked[i] = i % 5 == 4 ? 0 : BLOCK / 2 + i;
		tr_prep(&ring, IORING_OP_READ, file, buf + total, asked[i], at + (unsigned)total,
		        i);
		total += (int)asked[i];
	}
	run(20, res);
	total = 0;
	for (unsigned i = 0; i < 20; i++) {
		int left = BLOCK * BLOCKS - (int)at - total;

		assert_int_equal(res[i], left < 0               ? 0
		                         : left < (int)asked[i] ? left
		                                                : (int)asked[i]);
		total += (int)asked[i];
	}
	assert_true(total > BLOCK * BLOCKS - (int)at);
	assert_pattern(buf, at, BLOCK * BLOCKS - at);
}

/* Such reads of which one has a bad buffer, one another file, one another direction. */
static void test_broken_run(void **state)
{
	int other = tr_temp_file(BLOCK * BLOCKS), res[32];
	void *hole = mmap(NULL, BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_int_equal(ftruncate(other, 12 * 100 + 50), 0);
	for (int bad = 0; bad < 32; bad += 31) {
		memset(buf, 0, (size_t)BLOCK);
		for (unsigned i = 0; i < 32; i++) {
			void *to = i == 7 || (int)i == bad ? hole : buf + (size_t)i * 100;
			int op = i == 20 ? IORING_OP_WRITE : IORING_OP_READ;

			tr_prep(&ring, op, i == 12 ? other : file, to, 100, i * 100, i);
		}
		run(32, res);
		for (int i = 0; i < 32; i++) {
			if (i == 7 || i == bad)
				assert_int_equal(res[i], -EFAULT);
			else
				assert_int_equal(res[i], i == 12 ? 50 : 100);
			if (res[i] > 0 && i != 20)
				assert_pattern(buf + (size_t)i * 100, (size_t)i * 100,
				               (size_t)res[i]);
		}
		/* What was written in the middle of it is what was there: zeros of buf. */
		assert_int_equal(pread(file, buf, 100, 2000), 100);
		for (int i = 0; i < 100; i++)
			assert_int_equal(buf[i], 0);
	}
	munmap(hole, BLOCK);
	close(other);
}

/* Segments that cannot be read end the submission, also where success would be silent. */
static void test_silent_bad_segments(void **state)
{
	struct io_uring_cqe cqe;

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		tr_prep(&ring, IORING_OP_READ, file, buf, 100, i, 1);
	tr_prep(&ring, IORING_OP_READV, file, (void *)8, 2, 0, 2)->flags = IOSQE_CQE_SKIP_SUCCESS;
	for (unsigned i = 0; i < 4; i++)
		tr_prep(&ring, IORING_OP_READ, file, buf, 100, i, 3);
	assert_int_equal(tr_submit(&ring), 17);
	for (unsigned i = 0; i < 17; i++) {
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.user_data, i < 16 ? 1 : 2);
		assert_int_equal(cqe.res, i < 16 ? 100 : -EFAULT);
	}
	assert_int_equal(tr_submit(&ring), 4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.user_data, 3);
	}
}

static void test_errors_between(void **state)
{
	int pipes[2], dir = open(".", O_RDONLY | O_DIRECTORY);
	int writer = open("/dev/null", O_WRONLY), gone = dup(file), res[16];
	struct iovec iov[2] = { { buf, 10 }, { buf + 10, 20 } };
	struct iovec bad = { (void *)8, 10 };

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(write(pipes[1], "abc", 3), 3);
	close(gone);
	tr_prep(&ring, IORING_OP_READ, file, buf + BLOCK, 100, 0, 0);
	tr_prep(&ring, IORING_OP_READ, gone, buf, 100, 0, 1);
	tr_prep(&ring, IORING_OP_READ, file, (void *)16, 100, 0, 2);
	tr_prep(&ring, IORING_OP_READ, dir, buf, 100, 0, 3);
	tr_prep(&ring, IORING_OP_READ, writer, buf, 100, 0, 4);
	tr_prep(&ring, IORING_OP_READ, file, buf, 100, BLOCK * BLOCKS - 1, 5);
	tr_prep(&ring, IORING_OP_READ, file, buf, 100, BLOCK * BLOCKS, 6);
	tr_prep(&ring, IORING_OP_READ, pipes[0], buf + 2 * BLOCK, 100, 0, 7);
	tr_prep(&ring, IORING_OP_READV, file, iov, 2, 500, 8);
	tr_prep(&ring, IORING_OP_READV, file, &bad, 1, 500, 9);
	tr_prep(&ring, IORING_OP_READV, file, iov, 1, 500, 10);
	tr_prep(&ring, IORING_OP_READ, file, buf, 100, (uint64_t)-5, 11);
	tr_prep(&ring, IORING_OP_READ, file, buf, 0, 0, 12);
	tr_prep(&ring, IORING_OP_READ, file, buf, 100, 0, 13)->rw_flags = 0x10000;
	tr_prep(&ring, IORING_OP_READV, file, iov, 0, 500, 14);
	tr_prep(&ring, IORING_OP_READ, file, buf + 3 * BLOCK, 100, 77, 15);
	run(16, res);
	assert_int_equal(res[0], 100);
	assert_pattern(buf + BLOCK, 0, 100);
	assert_int_equal(res[1], -EBADF);
	assert_int_equal(res[2], -EFAULT);
	assert_int_equal(res[3], -EISDIR);
	assert_int_equal(res[4], -EBADF);
	assert_int_equal(res[5], 1);
	assert_int_equal(res[6], 0);
	assert_int_equal(res[7], 3);
	assert_memory_equal(buf + 2 * BLOCK, "abc", 3);
	assert_int_equal(res[8], 30);
	assert_int_equal(res[9], -EFAULT);
	assert_int_equal(res[10], 10);
	assert_int_equal(res[11], -EINVAL);
	assert_int_equal(res[12], 0);
	assert_int_equal(res[13], -EOPNOTSUPP);
	assert_int_equal(res[14], 0);
	assert_int_equal(res[15], 100);
	assert_pattern(buf + 3 * BLOCK, 77, 100);
	close(pipes[0]);
	close(pipes[1]);
	close(dir);
	close(writer);
}

/* Pages that are not there: a read that finds the first of its pages only still ends whole. */
static void test_cold(void **state)
{
	int res[N];

	(void)state;
	assert_int_equal(fsync(file), 0);
	for (int round = 0; round < 4; round++) {
		assert_int_equal(posix_fadvise(file, BLOCK * 2, 0, POSIX_FADV_DONTNEED), 0);
		memset(buf, 0, (size_t)BLOCK * BLOCKS);
		for (unsigned i = 0; i < 16; i++)
			tr_prep(&ring, IORING_OP_READ, file, buf + i * 16 * BLOCK, 16 * BLOCK,
			        i * 16 * BLOCK, i);
		run(16, res);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(res[i], 16 * BLOCK);
		assert_pattern(buf, 0, (size_t)BLOCK * BLOCKS);
	}
}

static int reopen(int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	return open(path, flags);
}

static void test_direct(void **state)
{
	int fd = reopen(O_RDWR | O_DIRECT), res[N];

	(void)state;
	if (fd < 0)
		skip();
	for (int i = 0; i < 3; i++)
		read_all_blocks(fd);
	/* Not aligned, beyond the end, and across it. */
	tr_prep(&ring, IORING_OP_READ, fd, buf + 1, BLOCK, 0, 0);
	tr_prep(&ring, IORING_OP_READ, fd, buf, BLOCK, BLOCK * BLOCKS, 1);
	tr_prep(&ring, IORING_OP_READ, fd, buf, 4 * BLOCK, BLOCK * (BLOCKS - 1), 2);
	run(3, res);
	assert_int_equal(res[0], pread(fd, buf + 1, BLOCK, 0) < 0 ? -errno : BLOCK);
	assert_int_equal(res[1], 0);
	assert_int_equal(res[2], BLOCK);
	/* Writes, the last ones beyond the end. */
	for (unsigned i = 0; i < N; i++) {
		memset(buf + i * BLOCK, (int)i + 1, BLOCK);
		tr_prep(&ring, IORING_OP_WRITE, fd, buf + i * BLOCK, BLOCK,
		        (BLOCKS - N + 8 + i) * BLOCK, i);
	}
	run(N, res);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(res[i], BLOCK);
	assert_int_equal(lseek(fd, 0, SEEK_END), (BLOCKS + 8) * BLOCK);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(pread(fd, buf, BLOCK, (BLOCKS - N + 8 + i) * BLOCK), BLOCK);
		assert_int_equal(buf[0], (i + 1) & 255);
		assert_int_equal(buf[BLOCK - 1], (i + 1) & 255);
	}
	close(fd);
}

/* The file goes, by its number, while its requests are on their way. */
static void test_close_behind(void **state)
{
	(void)state;
	for (int direct = 0; direct < 2; direct++) {
		int fd = reopen(O_RDONLY | (direct ? O_DIRECT : 0)), other;

		if (fd < 0)
			continue;
		memset(buf, 0, (size_t)BLOCK * BLOCKS);
		for (unsigned i = 0; i < N; i++)
			tr_prep(&ring, IORING_OP_READ, fd, buf + i * BLOCK, BLOCK, i * BLOCK, i);
		assert_int_equal(tr_submit(&ring), N);
		other = open("/dev/zero", O_RDONLY);
		dup2(other, fd);
		for (unsigned i = 0; i < N; i++) {
			struct io_uring_cqe cqe;

			assert_int_equal(tr_wait(&ring, &cqe), 0);
			assert_int_equal(cqe.res, BLOCK);
		}
		assert_pattern(buf, 0, N * BLOCK);
		close(fd);
		close(other);
	}
}

static void test_writes(void **state)
{
	int other = tr_temp_file(0), res[N];

	(void)state;
	for (int round = 0; round < 4; round++) {
		for (unsigned i = 0; i < N; i++) {
			memset(buf + i * BLOCK, (int)i + round, BLOCK);
			tr_prep(&ring, IORING_OP_WRITE, i % 2 ? file : other, buf + i * BLOCK,
			        BLOCK, i * BLOCK, i);
		}
		run(N, res);
		for (unsigned i = 0; i < N; i++) {
			unsigned char c;

			assert_int_equal(res[i], BLOCK);
			assert_int_equal(pread(i % 2 ? file : other, &c, 1, i * BLOCK + 5), 1);
			assert_int_equal(c, (i + (unsigned)round) & 255);
		}
	}
	close(other);
}

static void test_registered(void **state)
{
	struct iovec iov = { buf, (size_t)BLOCK * BLOCKS };
	int res[N];

	(void)state;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, &file, 1), 0);
	memset(buf, 0, iov.iov_len);
	for (unsigned i = 0; i < N; i++) {
		struct io_uring_sqe *sqe = tr_prep(&ring, IORING_OP_READ_FIXED, 0, buf + i * BLOCK,
		                                   BLOCK, i * BLOCK, i);

		sqe->flags = IOSQE_FIXED_FILE;
		if (i == 50)
			sqe->addr = (uintptr_t)buf + iov.iov_len - 1;
		if (i == 60)
			sqe->fd = 1;
		if (i == 70)
			sqe->buf_index = 1;
	}
	run(N, res);
	for (unsigned i = 0; i < N; i++) {
		if (i == 50 || i == 70)
			assert_int_equal(res[i], -EFAULT);
		else if (i == 60)
			assert_int_equal(res[i], -EBADF);
		else
			assert_int_equal(res[i], BLOCK);
		if (res[i] == BLOCK)
			assert_pattern(buf + i * BLOCK, i * BLOCK, BLOCK);
	}
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_FILES, NULL, 0), 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
}

/* The ring ends with direct reads in flight; after that nothing touches the buffers. */
static void test_ring_ends(void **state)
{
	int fd = reopen(O_RDONLY | O_DIRECT);

	(void)state;
#ifdef __SANITIZE_THREAD__
	/* A worker is interrupted by a signal, which cmocka takes for a crash. */
	skip();
#endif
	if (fd < 0)
		skip();
	for (int round = 0; round < 20; round++) {
		for (unsigned i = 0; i < N; i++)
			tr_prep(&ring, IORING_OP_READ, fd, buf + i * BLOCK, BLOCK, i * BLOCK, i);
		assert_int_equal(tr_submit(&ring), N);
		tr_exit(&ring);
		assert_int_equal(tr_init(&ring, N, 0), 0);
	}
	read_all_blocks(fd);
	close(fd);
}

static void test_deferred(void **state)
{
	int direct = reopen(O_RDONLY | O_DIRECT), fd = fcntl(direct, F_DUPFD, 300);
	struct io_uring_cqe cqe;

	(void)state;
	if (fd < 0)
		skip();
	tr_exit(&ring);
	assert_int_equal(tr_init(&ring, N, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN),
	                 0);
	memset(buf, 0, (size_t)BLOCK * BLOCKS);
	for (unsigned i = 0; i < N; i++)
		tr_prep(&ring, IORING_OP_READ, fd, buf + i * BLOCK, BLOCK, i * BLOCK, i);
	assert_int_equal(tr_submit(&ring), N);
	tr_sleep_ms(50);
	/* Nobody has entered since. */
	assert_int_equal(tr_ready(&ring), 0);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_int_equal(cqe.res, BLOCK);
	}
	assert_pattern(buf, 0, N * BLOCK);
	close(fd);
	close(direct);
}

/* A child's exit status where the kernel has no inotify. */
#define NO_INOTIFY 2

/* What an inotify descriptor has to say, as one mask. */
static uint32_t events_of(int ino)
{
	char got[4096] __attribute__((aligned(8)));
	ssize_t n = read(ino, got, sizeof(got));
	uint32_t mask = 0;

	for (ssize_t at = 0; at < n;) {
		struct inotify_event *ev = (void *)(got + at);

		mask |= ev->mask;
		at += (ssize_t)(sizeof(*ev) + ev->len);
	}
	return mask;
}

static void write_blocks(int fd)
{
	int res[16];

	for (unsigned i = 0; i < 16; i++)
		tr_prep(&ring, IORING_OP_WRITE, fd, buf, BLOCK, i * BLOCK, i);
	run(16, res);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(res[i], BLOCK);
}

/* Another process follows a file that grows by batches of writes. */
static void test_watched_by_others(void **state)
{
	int ready[2], path_fd = file, status;
	char path[64], c;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), path_fd);
	pid = fork();
	if (pid == 0) {
		int ino = inotify_init1(0);

		close(ready[0]);
		if (ino < 0)
			_exit(NO_INOTIFY);
		TR_CHILD_CHECK(inotify_add_watch(ino, path, IN_MODIFY) >= 0);
		TR_CHILD_CHECK(write(ready[1], "x", 1) == 1);
		alarm(30);
		_exit(events_of(ino) & IN_MODIFY ? 0 : 1);
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) == 1)
		write_blocks(file);
	status = tr_wait_child(pid);
	close(ready[0]);
	if (status == NO_INOTIFY)
		skip();
	assert_int_equal(status, 0);
}

/* The process watches its own file, which it reads and writes directly. */
static void test_watched(void **state)
{
	int ino = inotify_init1(IN_NONBLOCK), fd = reopen(O_RDWR | O_DIRECT);
	char path[64];

	(void)state;
#ifdef __SANITIZE_THREAD__
	skip(); /* Without the preload layer the engine does not hear of inotify. */
#endif
	if (fd < 0 || ino < 0)
		skip();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	assert_true(inotify_add_watch(ino, path, IN_MODIFY | IN_ACCESS) >= 0);
	read_all_blocks(file);
	assert_int_equal(events_of(ino), IN_ACCESS);
	read_all_blocks(fd);
	assert_int_equal(events_of(ino), IN_ACCESS);
	write_blocks(fd);
	assert_int_equal(events_of(ino), IN_MODIFY);
	close(ino);
	close(fd);
}

/* The process's AIO contexts, which make its end slow: each has memory of the kernel's. */
static int aio_contexts(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	int n = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		n += strstr(line, "/[aio]") != NULL;
	fclose(maps);
	return n;
}

/* A process that reads many at once, or O_DIRECT one by one, but little altogether, is to end as
 * fast as any other. */
static void test_a_little(void **state)
{
	int fd = reopen(O_RDWR | O_DIRECT), before = aio_contexts(), res[32];

	(void)state;
	for (unsigned i = 0; i < 32; i++)
		tr_prep(&ring, IORING_OP_READ, file, buf + i * BLOCK, BLOCK, i * 2 * BLOCK, i);
	run(32, res);
	for (int i = 0; i < 32; i++)
		assert_int_equal(res[i], BLOCK);
	assert_int_equal(aio_contexts(), before);
	for (int round = 0; round < 12; round++) {
		size_t at = (size_t)(round % 4) * BLOCK;

		tr_prep(&ring, round / 4 == 1 ? IORING_OP_WRITE : IORING_OP_READ, fd, buf + at,
		        BLOCK, at, 0);
		run(1, res);
		assert_int_equal(res[0], BLOCK);
	}
	assert_pattern(buf, 0, (size_t)4 * BLOCK);
	assert_int_equal(aio_contexts(), before);
	close(fd);
}

static void read_directly(int fd, unsigned together)
{
	unsigned all = BLOCK * BLOCKS;
	int res[4];

	memset(buf, 0, all);
	for (unsigned i = 0; i < together; i++)
		tr_prep(&ring, IORING_OP_READ, fd, buf, all, 0, i);
	run(together, res);
	for (unsigned i = 0; i < together; i++)
		assert_int_equal(res[i], all);
	assert_pattern(buf, 0, all);
}

/* O_DIRECT requests in flight together need no worker each. */
static void test_direct_together(void **state)
{
	int fd = reopen(O_RDWR | O_DIRECT), contexts;

	(void)state;
	/* A worker may be done with the first of them before the second is looked at. */
	for (int round = 0; round < 15 && !aio_contexts(); round++)
		read_directly(fd, 4);
	contexts = aio_contexts();
	/* One by one they have one later: the kernel's own rings never, nor those with which
	 * nothing but files may be shared. */
	for (int i = 0; i < 65; i++)
		read_directly(fd, 1);
	assert_int_equal(contexts, aio_contexts());
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		/* First, before others make a context. */
		T(test_a_little),
		T(test_direct_together),
		T(test_cached),
		T(test_order),
		T(test_run_over_the_end),
		T(test_broken_run),
		T(test_silent_bad_segments),
		T(test_errors_between),
		T(test_cold),
		T(test_direct),
		T(test_close_behind),
		T(test_writes),
		T(test_registered),
		T(test_ring_ends),
		T(test_deferred),
		T(test_watched_by_others),
		T(test_watched),
	};

	return tr_run_group("batch", tests, sizeof(tests) / sizeof(tests[0]));
}
