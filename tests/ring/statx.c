/*
 * STATX against statx(2), field by field: kinds of files and file systems, names, flags, masks,
 * errors, and what the buffer holds after them. Each request is made several times in a row, since
 * the engine serves the first ones and the later ones in different ways.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define TIMES    4
#define PATTERN  0xa5
#define ALL_BITS 0x7fffffffU /* but the one that is reserved */
#define MNT_IDS  0x5000U     /* STATX_MNT_ID, STATX_MNT_ID_UNIQUE */

static struct tr_ring ring;
static char dir[] = "statx.XXXXXX";
static int dirfd_ = -1;
/* Others are at the file as well: directories where they make files, and what is in /proc. */
static bool is_shared;

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void touch(const char *name, size_t bytes)
{
	int fd = openat(dirfd_, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);

	must(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 && write(fd, "x", 1) == 1);
	/* Later its blocks would be counted anew. */
	must(fsync(fd) == 0 && close(fd) == 0);
}

static void bind_socket(const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", dir, name);
	must(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	close(fd);
}

static int setup(void **state)
{
	(void)state;
	memcpy(dir, "statx.XXXXXX", sizeof(dir));
	must(mkdtemp(dir) != NULL);
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(dirfd_ >= 0);
	touch("file", 12345);
	must(mkdirat(dirfd_, "sub", 0755) == 0);
	touch("sub/inner", 1);
	must(symlinkat("file", dirfd_, "link") == 0);
	must(symlinkat("sub", dirfd_, "dirlink") == 0);
	must(symlinkat("nowhere", dirfd_, "broken") == 0);
	must(symlinkat("loop", dirfd_, "loop") == 0);
	must(mkfifoat(dirfd_, "fifo", 0600) == 0);
	bind_socket("socket");
	return tr_init(&ring, 64, 0);
}

static int teardown(void **state)
{
	static const char *const names[] = { "sub/inner", "file", "link", "dirlink",
		                             "broken",    "loop", "fifo", "socket" };

	(void)state;
	tr_exit(&ring);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlinkat(dirfd_, names[i], 0);
	unlinkat(dirfd_, "sub", AT_REMOVEDIR);
	close(dirfd_);
	return rmdir(dir);
}

static void prep(int fd, const char *name, int flags, unsigned mask, void *buf, uint64_t user_data)
{
	tr_prep(&ring, IORING_OP_STATX, fd, name, mask, (uint64_t)(uintptr_t)buf, user_data)
	        ->statx_flags = (unsigned)flags;
}

/* Both say the same and leave the same; returns what. */
static int same(int fd, const char *name, int flags, unsigned mask)
{
	struct statx theirs, ours;
	int res = -1;

	for (int i = 0; i < TIMES; i++) {
		memset(&theirs, PATTERN, sizeof(theirs));
		memset(&ours, PATTERN, sizeof(ours));
		prep(fd, name, flags, mask, &ours, 7);
		res = tr_run(&ring, 7);
		assert_int_equal(syscall(SYS_statx, fd, name, flags, mask, &theirs) ? -errno : 0,
		                 res);
		if (!is_shared)
			assert_memory_equal(&ours, &theirs, sizeof(ours));
		assert_int_equal(ours.stx_mask, theirs.stx_mask);
		assert_int_equal(ours.stx_mode, theirs.stx_mode);
		assert_int_equal(ours.stx_ino, theirs.stx_ino);
		assert_int_equal(ours.stx_dev_minor, theirs.stx_dev_minor);
	}
	return res;
}

static void test_kinds(void **state)
{
	static const char *const names[] = { "file",
		                             "sub",
		                             "link",
		                             "dirlink",
		                             "dirlink/",
		                             "fifo",
		                             ".",
		                             "..",
		                             "socket",
		                             "sub/",
		                             "sub/..",
		                             "sub/inner",
		                             "/",
		                             "/etc/passwd",
		                             "/dev/null",
		                             "/dev/shm",
		                             "/proc/version",
		                             "/proc/self/exe",
		                             "/sys/kernel" };
	static const unsigned masks[] = {
		STATX_BASIC_STATS, STATX_BASIC_STATS | STATX_BTIME, 0x0fff, STATX_SIZE, MNT_IDS, 0,
		ALL_BITS
	};
	static const int flags[] = { 0,
		                     AT_SYMLINK_NOFOLLOW,
		                     AT_NO_AUTOMOUNT,
		                     AT_STATX_DONT_SYNC,
		                     AT_STATX_FORCE_SYNC,
		                     AT_EMPTY_PATH };

	(void)state;
	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		is_shared = names[n][0] == '/' || !strcmp(names[n], "..");
		for (size_t m = 0; m < sizeof(masks) / sizeof(masks[0]); m++)
			same(dirfd_, names[n], 0, masks[m]);
		for (size_t f = 0; f < sizeof(flags) / sizeof(flags[0]); f++)
			same(dirfd_, names[n], flags[f], STATX_BASIC_STATS);
	}
	is_shared = false;
	assert_int_equal(same(dirfd_, "broken", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS), 0);
	assert_int_equal(same(dirfd_, "loop", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS), 0);
	/* From the directory we are in, and from none. */
	assert_int_equal(same(AT_FDCWD, dir, 0, STATX_BASIC_STATS), 0);
	is_shared = true;
	assert_int_equal(same(-1, "/etc/passwd", 0, STATX_BASIC_STATS), 0);
	is_shared = false;
}

static void test_descriptors(void **state)
{
	int p[2], sv[2], fds[9], n = 0;
	char name[64];

	(void)state;
	must(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	fds[n++] = p[0];
	fds[n++] = sv[0];
	fds[n++] = eventfd(0, 0);
	fds[n++] = memfd_create("statx", 0);
	fds[n++] = openat(dirfd_, "file", O_RDONLY);
	fds[n++] = openat(dirfd_, "link", O_PATH | O_NOFOLLOW);
	fds[n++] = open("/dev/null", O_WRONLY);
	fds[n++] = dirfd_;
	fds[n++] = AT_FDCWD;
	for (int i = 0; i < n; i++) {
		is_shared = fds[i] == AT_FDCWD;
		assert_int_equal(same(fds[i], "", AT_EMPTY_PATH, STATX_BASIC_STATS | MNT_IDS), 0);
		assert_int_equal(same(fds[i], "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, 0), 0);
		assert_int_equal(same(fds[i], "", 0, STATX_BASIC_STATS), -ENOENT);
		if (fds[i] < 0)
			continue;
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fds[i]);
		same(AT_FDCWD, name, 0, STATX_BASIC_STATS);
		if (fds[i] != dirfd_)
			assert_int_equal(same(fds[i], "file", 0, STATX_SIZE), -ENOTDIR);
	}
	is_shared = false;
	assert_int_equal(same(-1, "", AT_EMPTY_PATH, STATX_BASIC_STATS), -EBADF);
	for (int i = 0; i < n - 2; i++)
		close(fds[i]);
	close(p[1]);
	close(sv[1]);
}

static void test_errors(void **state)
{
	static const int bad_flags[] = { 1, AT_SYMLINK_FOLLOW, AT_REMOVEDIR,
		                         AT_STATX_DONT_SYNC | AT_STATX_FORCE_SYNC, 0x10000 };
	char *guarded =
	        mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char name[512], deep[4200];
	struct statx sx;

	(void)state;
	memset(name, 'n', sizeof(name));
	name[300] = '\0';
	memset(deep, '/', sizeof(deep));
	deep[4199] = '\0';
	assert_int_equal(same(dirfd_, "nothing", 0, STATX_SIZE), -ENOENT);
	assert_int_equal(same(dirfd_, "broken", 0, STATX_SIZE), -ENOENT);
	assert_int_equal(same(dirfd_, "loop", 0, STATX_SIZE), -ELOOP);
	assert_int_equal(same(dirfd_, "file/", 0, STATX_SIZE), -ENOTDIR);
	assert_int_equal(same(dirfd_, "link/", AT_SYMLINK_NOFOLLOW, STATX_SIZE), -ENOTDIR);
	assert_int_equal(same(dirfd_, "file/x", 0, STATX_SIZE), -ENOTDIR);
	assert_int_equal(same(dirfd_, name, 0, STATX_SIZE), -ENAMETOOLONG);
	assert_int_equal(same(dirfd_, deep, 0, STATX_SIZE), -ENAMETOOLONG);
	assert_int_equal(same(-1, "file", 0, STATX_SIZE), -EBADF);
	assert_int_equal(same(dirfd_, "file", 0, 1U << 31), -EINVAL);
	for (size_t i = 0; i < sizeof(bad_flags) / sizeof(bad_flags[0]); i++)
		assert_int_equal(same(dirfd_, "file", bad_flags[i], STATX_SIZE), -EINVAL);
	assert_int_equal(same(dirfd_, NULL, 0, STATX_SIZE), -EFAULT);
	assert_int_equal(same(dirfd_, (char *)8, 0, STATX_SIZE), -EFAULT);
	/* A name with no end in sight, and one that ends where the memory does. */
	must(guarded != MAP_FAILED && munmap(guarded + 4096, 4096) == 0);
	memcpy(guarded + 4092, "file", 4);
	assert_int_equal(same(dirfd_, guarded + 4092, 0, STATX_SIZE), -EFAULT);
	memcpy(guarded + 4091, "file", 5);
	assert_int_equal(same(dirfd_, guarded + 4091, 0, STATX_SIZE), 0);
	/* The buffer cannot be written, at all or to its end. */
	for (int i = 0; i < TIMES; i++) {
		prep(dirfd_, "file", 0, STATX_SIZE, NULL, 1);
		assert_int_equal(tr_run(&ring, 1), -EFAULT);
		prep(dirfd_, "file", 0, STATX_SIZE, guarded + 4096 - sizeof(sx) / 2, 1);
		assert_int_equal(tr_run(&ring, 1), -EFAULT);
		prep(dirfd_, "nothing", 0, STATX_SIZE, NULL, 1);
		assert_int_equal(tr_run(&ring, 1), -ENOENT);
	}
	munmap(guarded, 4096);
}

/* A name that cannot be read ends the submission, one that is not there does not. */
static void test_bad_name_ends_submission(void **state)
{
	struct statx sx;

	(void)state;
	for (int i = 0; i < TIMES; i++) {
		prep(dirfd_, "nothing", 0, STATX_SIZE, &sx, 1);
		prep(dirfd_, (char *)8, 0, STATX_SIZE, &sx, 2);
		prep(dirfd_, "file", 0, STATX_SIZE, &sx, 3);
		assert_int_equal(tr_submit(&ring), 2);
		assert_int_equal(tr_submit(&ring), 1);
		for (int n = 0; n < 3; n++) {
			struct io_uring_cqe cqe;

			assert_int_equal(tr_wait(&ring, &cqe), 0);
			assert_int_equal(cqe.res, cqe.user_data == 1   ? -ENOENT
			                          : cqe.user_data == 2 ? -EFAULT
			                                               : 0);
		}
	}
}

/* What changes is seen at once. */
static void test_changes(void **state)
{
	struct statx sx;
	int fd = openat(dirfd_, "file", O_WRONLY | O_CLOEXEC);

	(void)state;
	for (int i = 1; i <= 20; i++) {
		must(ftruncate(fd, i) == 0 && fchmod(fd, i % 2 ? 0600 : 0640) == 0);
		prep(dirfd_, "link", 0, STATX_BASIC_STATS, &sx, 1);
		assert_int_equal(tr_run(&ring, 1), 0);
		assert_int_equal(sx.stx_size, i);
		assert_int_equal(sx.stx_mode & 0777, i % 2 ? 0600 : 0640);
		assert_int_equal(renameat(dirfd_, "file", dirfd_, "other"), 0);
		assert_int_equal(same(dirfd_, "link", 0, STATX_SIZE), -ENOENT);
		assert_int_equal(renameat(dirfd_, "other", dirfd_, "file"), 0);
	}
	close(fd);
}

/* Whoever runs it, the name is the request's own once it is submitted. */
static void test_name_is_copied(void **state)
{
	static const unsigned char sqe_flags[] = { 0, IOSQE_ASYNC, IOSQE_IO_DRAIN, IOSQE_IO_LINK,
		                                   IOSQE_IO_HARDLINK | IOSQE_ASYNC };
	struct statx sx[2];
	char name[8];

	(void)state;
	for (size_t f = 0; f < sizeof(sqe_flags); f++) {
		for (int i = 0; i < TIMES; i++) {
			memset(sx, 0, sizeof(sx));
			memcpy(name, "file", 5);
			prep(dirfd_, name, 0, STATX_SIZE, &sx[0], 1);
			ring.sqes[(ring.sqe_tail - 1) & *ring.sq_mask].flags = sqe_flags[f];
			prep(dirfd_, name, 0, STATX_SIZE, &sx[1], 2);
			assert_int_equal(tr_submit(&ring), 2);
			memcpy(name, "nothere", 8);
			for (int n = 0; n < 2; n++) {
				struct io_uring_cqe cqe;

				assert_int_equal(tr_wait(&ring, &cqe), 0);
				assert_int_equal(cqe.res, 0);
			}
			assert_int_equal(sx[0].stx_size, 12345);
			assert_int_equal(sx[1].stx_size, 12345);
		}
	}
}

/* A failure breaks no link, and is passed over in silence where success would be. */
static void test_failure_is_a_result(void **state)
{
	struct statx sx;

	(void)state;
	for (int i = 0; i < TIMES; i++) {
		prep(dirfd_, "nothing", 0, STATX_SIZE, &sx, 1);
		ring.sqes[(ring.sqe_tail - 1) & *ring.sq_mask].flags =
		        IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
		prep(dirfd_, "file", 0, STATX_SIZE, &sx, 2);
		assert_int_equal(tr_submit(&ring), 2);
		tr_expect(&ring, 2, 0, 0);
		assert_int_equal(tr_ready(&ring), 0);
	}
}

static void test_permissions(void **state)
{
	(void)state;
	assert_int_equal(fchmodat(dirfd_, "sub", 0700, 0), 0);
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
	same(dirfd_, "sub/inner", 0, STATX_BASIC_STATS);
	same(dirfd_, "sub", 0, STATX_BASIC_STATS);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(same(dirfd_, "sub/inner", 0, STATX_BASIC_STATS), 0);
}

/* It leaves no descriptor behind, and does without one when there is none to be had. */
static void test_no_descriptors(void **state)
{
	static int fds[4096];
	int before = tr_count_dir("fd"), n = 0;

	(void)state;
	same(dirfd_, "file", 0, STATX_BASIC_STATS);
	same(dirfd_, "nothing", 0, STATX_BASIC_STATS);
	assert_int_equal(tr_count_dir("fd"), before);
	while (n < 4096 && (fds[n] = dup(dirfd_)) >= 0)
		n++;
	assert_int_equal(same(dirfd_, "file", 0, STATX_BASIC_STATS), 0);
	assert_int_equal(same(dirfd_, "nothing", 0, STATX_BASIC_STATS), -ENOENT);
	while (n)
		close(fds[--n]);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_kinds),          ON_RING(test_descriptors),
	ON_RING(test_errors),         ON_RING(test_bad_name_ends_submission),
	ON_RING(test_changes),        ON_RING(test_name_is_copied),
	ON_RING(test_permissions),    ON_RING(test_failure_is_a_result),
	ON_RING(test_no_descriptors),
};

TR_MAIN("statx", tests)
