/*
 * What a process changes about itself after a ring was made holds for all that the ring does,
 * on whatever thread: directories, umask, identities, priority.
 */
#include "tests/home/home.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define NR_OPENAT 18

static struct tr_ring ring;
static char dir[64];

/* A request that runs on a worker: there is one by now, and it is old. */
static int late(int op, int fd, const char *path, unsigned len, uint64_t off, unsigned flags)
{
	struct io_uring_cqe cqe;
	struct io_uring_sqe *sqe = tr_prep(&ring, op, fd, path, len, off, 9);

	sqe->flags = IOSQE_ASYNC;
	sqe->open_flags = flags;
	TR_CHILD_CHECK(tr_submit(&ring) == 1);
	TR_CHILD_CHECK(tr_wait_ms(&ring, &cqe, 10000) == 0);
	TR_CHILD_CHECK(cqe.user_data == 9);
	return cqe.res;
}

static int open_late(const char *path, int flags, unsigned mode)
{
	int fd = late(IORING_OP_OPENAT, AT_FDCWD, path, mode, 0, (unsigned)flags);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

/* The parent's, who may remove what the child has made as whoever it became. */
static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/fu-state-XXXXXX");
	return !mkdtemp(dir) || chmod(dir, 0777) != 0;
}

static int remove_dir(void **state)
{
	static const char *const names[] = {
		"here", "masked", "theirs", "secret", "sub/here", "sub"
	};
	char path[100];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		remove(path);
	}
	return rmdir(dir);
}

static void begin(void)
{
	struct tr_ring *r = &ring;

	TR_CHILD_CHECK(chdir("/") == 0);
	TR_CHILD_CHECK(tr_init(r, 8, 0) == 0);
	TR_CHILD_CHECK(open_late("/etc/passwd", O_RDONLY, 0) == 0);
	TR_CHILD_CHECK(late(IORING_OP_NOP, -1, NULL, 0, 0, 0) == 0);
}

static void changes_directory(void)
{
	struct stat st;

	begin();
	TR_CHILD_CHECK(chdir(dir) == 0);
	TR_CHILD_CHECK(open_late("here", O_CREAT | O_RDWR, 0644) == 0);
	TR_CHILD_CHECK(stat("here", &st) == 0);
	umask(077);
	TR_CHILD_CHECK(open_late("masked", O_CREAT | O_RDWR, 0666) == 0);
	TR_CHILD_CHECK(stat("masked", &st) == 0 && (st.st_mode & 0777) == 0600);
	TR_CHILD_CHECK(late(IORING_OP_MKDIRAT, AT_FDCWD, "sub", 0777, 0, 0) == 0);
	TR_CHILD_CHECK(stat("sub", &st) == 0 && (st.st_mode & 0777) == 0700);
}

static void changes_root(void)
{
	int old;

	if (geteuid() != 0)
		return;
	begin();
	old = open("/", O_RDONLY | O_DIRECTORY);
	TR_CHILD_CHECK(chroot(dir) == 0 && chdir("/") == 0);
	TR_CHILD_CHECK(open_late("/here", O_CREAT | O_RDWR, 0644) == 0);
	TR_CHILD_CHECK(open_late("/etc/passwd", O_RDONLY, 0) == -ENOENT);
	TR_CHILD_CHECK(fchdir(old) == 0 && chroot(".") == 0);
	TR_CHILD_CHECK(open_late("/etc/passwd", O_RDONLY, 0) == 0);
}

static void secret(void)
{
	char path[100];
	int fd;

	snprintf(path, sizeof(path), "%s/secret", dir);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	TR_CHILD_CHECK(fd >= 0);
	close(fd);
	snprintf(path, sizeof(path), "%s/theirs", dir);
	fd = open(path, O_CREAT | O_RDWR, 0640);
	TR_CHILD_CHECK(fd >= 0 && fchown(fd, 0, 1234) == 0);
	close(fd);
	TR_CHILD_CHECK(chdir(dir) == 0);
}

static void changes_user(void)
{
	gid_t group = 1234;

	if (geteuid() != 0)
		return;
	begin();
	secret();
	/* All threads', by libc. */
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == 0);
	TR_CHILD_CHECK(setgroups(0, NULL) == 0);
	TR_CHILD_CHECK(seteuid(4321) == 0);
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == -EACCES);
	TR_CHILD_CHECK(open_late("theirs", O_RDONLY, 0) == -EACCES);
	TR_CHILD_CHECK(seteuid(0) == 0);
	TR_CHILD_CHECK(setgroups(1, &group) == 0 && seteuid(4321) == 0);
	TR_CHILD_CHECK(open_late("theirs", O_RDONLY, 0) == 0);
	TR_CHILD_CHECK(seteuid(0) == 0 && setgroups(0, NULL) == 0);
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == 0);
	/* Only this thread's, as file servers do it. */
	setfsuid(4321);
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == -EACCES);
	setfsuid(0);
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == 0);
	TR_CHILD_CHECK(syscall(SYS_setresuid, -1, 4321, -1) == 0);
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == -EACCES);
	TR_CHILD_CHECK(open_late("theirs", O_RDONLY, 0) == -EACCES);
	TR_CHILD_CHECK(syscall(SYS_setresuid, -1, 0, -1) == 0);
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == 0);
	TR_CHILD_CHECK(syscall(SYS_setgroups, 1, &group) == 0);
	TR_CHILD_CHECK(syscall(SYS_setresuid, -1, 4321, -1) == 0);
	TR_CHILD_CHECK(open_late("theirs", O_RDONLY, 0) == 0);
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == -EACCES);
	TR_CHILD_CHECK(syscall(SYS_setresuid, -1, 0, -1) == 0);
	TR_CHILD_CHECK(syscall(SYS_setgroups, 0, NULL) == 0);
	/* A file made belongs to who submitted. */
	TR_CHILD_CHECK(syscall(SYS_setresgid, -1, 1234, -1) == 0);
	TR_CHILD_CHECK(open_late("here", O_CREAT | O_RDWR, 0644) == 0);
	TR_CHILD_CHECK(syscall(SYS_setresgid, -1, 0, -1) == 0);
	struct stat st;
	TR_CHILD_CHECK(stat("here", &st) == 0 && st.st_gid == 1234);
}

/* The same by instructions of the program's own: what is not the file system's ids alone. */
static void changes_by_itself(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2], fewer[2];
	gid_t group = 1234;

	if (geteuid() != 0)
		return;
	begin();
	secret();
	TR_CHILD_CHECK(RAW(SYS_setgroups, 1, &group) == 0);
	TR_CHILD_CHECK(RAW(SYS_setresuid, -1, 4321, -1) == 0);
	TR_CHILD_CHECK(open_late("theirs", O_RDONLY, 0) == 0);
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == -EACCES);
	TR_CHILD_CHECK(RAW(SYS_setresuid, -1, 0, -1) == 0);
	TR_CHILD_CHECK(RAW(SYS_setgroups, 0, NULL) == 0);
	TR_CHILD_CHECK(chown("secret", 77, 77) == 0);
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == 0);
	TR_CHILD_CHECK(RAW(SYS_capget, &head, caps) == 0);
	memcpy(fewer, caps, sizeof(caps));
	fewer[0].effective &= ~(1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH);
	TR_CHILD_CHECK(RAW(SYS_capset, &head, fewer) == 0);
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == -EACCES);
	TR_CHILD_CHECK(RAW(SYS_capset, &head, caps) == 0);
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == 0);
}

/* For good: the last of it. */
static void drops_for_good(void)
{
	if (geteuid() != 0)
		return;
	begin();
	secret();
	TR_CHILD_CHECK(setgroups(0, NULL) == 0 && setresgid(4321, 4321, 4321) == 0 &&
	               setresuid(4321, 4321, 4321) == 0);
	TR_CHILD_CHECK(open_late("secret", O_RDONLY, 0) == -EACCES);
	TR_CHILD_CHECK(open_late("here", O_CREAT | O_RDWR, 0644) == 0);
	struct stat st;
	TR_CHILD_CHECK(stat("here", &st) == 0 && st.st_uid == 4321);
}

static void *unshared(void *arg)
{
	(void)arg;
	TR_CHILD_CHECK(syscall(SYS_unshare, CLONE_FS) == 0);
	TR_CHILD_CHECK(chdir(dir) == 0);
	/* Done where it was asked for, without a worker. */
	int fd = -1;
	struct io_uring_cqe cqe;

	tr_prep(&ring, IORING_OP_OPENAT, AT_FDCWD, "here", 0644, 0, 4)->open_flags =
	        O_CREAT | O_RDWR;
	TR_CHILD_CHECK(tr_submit(&ring) == 1);
	TR_CHILD_CHECK(tr_wait_ms(&ring, &cqe, 10000) == 0);
	fd = cqe.res;
	TR_CHILD_CHECK(fd >= 0);
	close(fd);
	TR_CHILD_CHECK(access("here", F_OK) == 0);
	/* Descriptors of its own: a file that only it has open. */
	TR_CHILD_CHECK(syscall(SYS_unshare, CLONE_FILES) == 0);
	fd = open("/etc/passwd", O_RDONLY);
	TR_CHILD_CHECK(fd >= 0);
	TR_CHILD_CHECK(fcntl(fd, F_DUPFD, 700) == 700);
	char buf[8];

	/* In the page cache, so that it is done at once. */
	TR_CHILD_CHECK(pread(fd, buf, 8, 0) == 8);
	tr_prep(&ring, IORING_OP_READ, 700, buf, 8, 0, 5);
	TR_CHILD_CHECK(tr_submit(&ring) == 1);
	TR_CHILD_CHECK(tr_wait_ms(&ring, &cqe, 10000) == 0);
	TR_CHILD_CHECK(cqe.res == 8);
	return NULL;
}

static void unshares(void)
{
	pthread_t t;

	begin();
	TR_CHILD_CHECK(pthread_create(&t, NULL, unshared, NULL) == 0);
	pthread_join(t, NULL);
	TR_CHILD_CHECK(open_late("here", O_RDONLY, 0) == -ENOENT);
	TR_CHILD_CHECK(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0) == 0);
}

static void changes_priority(void)
{
	begin();
	TR_CHILD_CHECK(setpriority(PRIO_PROCESS, 0, 18) == 0);
	TR_CHILD_CHECK(getpriority(PRIO_PROCESS, 0) == 18);
	TR_CHILD_CHECK(open_late("/etc/passwd", O_RDONLY, 0) == 0);
	TR_CHILD_CHECK(nice(1) == 19);
	TR_CHILD_CHECK(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0) == 0);
	TR_CHILD_CHECK(getpriority(PRIO_PROCESS, 0) == 19);
}

#define STATE(f)                                      \
	static void test_##f(void **state)            \
	{                                             \
		(void)state;                          \
		assert_int_equal(in_child(f, 30), 0); \
	}

STATE(changes_directory)
STATE(changes_root)
STATE(changes_user)
STATE(changes_by_itself)
STATE(drops_for_good)
STATE(unshares)
STATE(changes_priority)

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

static const struct CMUnitTest tests[] = {
	IN_DIR(test_changes_directory), IN_DIR(test_changes_root),   IN_DIR(test_changes_user),
	IN_DIR(test_changes_by_itself), IN_DIR(test_drops_for_good), IN_DIR(test_unshares),
	IN_DIR(test_changes_priority),
};

TR_MAIN("home state", tests)
