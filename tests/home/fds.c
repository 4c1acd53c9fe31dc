/*
 * Descriptors: programs that close everything, run with very few or very many numbers, and
 * hand a ring to another process.
 */
#include "tests/home/home.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#define NR_CLOSE_RANGE 436
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

/* A ring with a registered file, a registered eventfd, and a read pending in it. */
struct used {
	struct tr_ring r;
	int p[2], file;
	char c;
};

static void begin(struct used *u)
{
	TR_CHILD_CHECK(tr_init(&u->r, 8, 0) == 0);
	TR_CHILD_CHECK(pipe(u->p) == 0);
	u->file = tr_temp_file(4096);
	TR_CHILD_CHECK(tr_sys_register(u->r.fd, IORING_REGISTER_FILES, &u->file, 1) == 0);
	tr_prep(&u->r, IORING_OP_READ, u->p[0], &u->c, 1, 0, 1);
	tr_prep(&u->r, IORING_OP_NOP, -1, NULL, 0, 0, 2)->flags = IOSQE_ASYNC;
	TR_CHILD_CHECK(tr_submit(&u->r) == 2);
	struct io_uring_cqe cqe;
	TR_CHILD_CHECK(tr_wait(&u->r, &cqe) == 0 && cqe.user_data == 2);
}

/* The ring's descriptor is there still: all that it holds works. */
static void still_works(struct used *u, bool pipe_too)
{
	struct io_uring_cqe cqe;
	char buf[16] = { 0 };

	tr_prep(&u->r, IORING_OP_READ, 0, buf, 16, 0, 3)->flags = IOSQE_FIXED_FILE;
	TR_CHILD_CHECK(tr_submit(&u->r) == 1);
	do
		TR_CHILD_CHECK(tr_wait_ms(&u->r, &cqe, 5000) == 0);
	while (!pipe_too && cqe.user_data == 1); /* whose other end has been closed */
	TR_CHILD_CHECK(cqe.user_data == 3 && cqe.res == 16);
	if (pipe_too) {
		TR_CHILD_CHECK(write(u->p[1], "x", 1) == 1);
		TR_CHILD_CHECK(tr_wait_ms(&u->r, &cqe, 5000) == 0);
		TR_CHILD_CHECK(cqe.user_data == 1 && cqe.res == 1);
	}
}

static long own_close_range(unsigned first, unsigned last, unsigned flags)
{
	if (tr_entry == TR_INLINE)
		return RAW(NR_CLOSE_RANGE, first, last, flags);
	return close_range(first, last, (int)flags);
}

/* A second ring, from scratch, where the first has been. */
static void later_ring(void)
{
	struct used u;

	begin(&u);
	still_works(&u, true);
	tr_exit(&u.r);
}

/* The ring and the pipe are moved to high numbers, everything between goes. */
static void closes_below(void)
{
	struct used u;
	int high;

	begin(&u);
	high = fcntl(u.r.fd, F_DUPFD, 500);
	TR_CHILD_CHECK(high >= 500 && tr_sys_close(u.r.fd) == 0);
	u.r.fd = high;
	TR_CHILD_CHECK(own_close_range(3, (unsigned)high - 1, 0) == 0);
	still_works(&u, false);
	TR_CHILD_CHECK(own_close_range((unsigned)high + 1, ~0U, 0) == 0);
	still_works(&u, false);
	later_ring();
	TR_CHILD_CHECK(own_close_range((unsigned)high + 1, ~0U, 4) == 0);
	later_ring();
}

static void closes_all(void)
{
	struct used u;

	begin(&u);
	TR_CHILD_CHECK(own_close_range(3, ~0U, 0) == 0);
	TR_CHILD_CHECK(tr_sys_enter(u.r.fd, 0, 0, 0, NULL, 0) == -EBADF);
	later_ring();
	begin(&u);
	closefrom(3);
	TR_CHILD_CHECK(tr_sys_enter(u.r.fd, 0, 0, 0, NULL, 0) == -EBADF);
	later_ring();
}

/* One by one, as programs without close_range do it, all but the ring. */
static void closes_one_by_one(void)
{
	struct rlimit lim = { 65536, 65536 };
	struct used u;

	getrlimit(RLIMIT_NOFILE, &lim);
	begin(&u);
	for (int fd = 3; fd < (int)lim.rlim_cur; fd++) {
		if (fd != u.r.fd && fd != u.p[0] && fd != u.p[1])
			tr_sys_close(fd);
	}
	still_works(&u, true);
	for (int fd = 3; fd < (int)lim.rlim_cur; fd++)
		tr_sys_close(fd);
	TR_CHILD_CHECK(tr_sys_enter(u.r.fd, 0, 0, 0, NULL, 0) == -EBADF);
	later_ring();
}

/* Those that /proc names. */
static void closes_by_proc(void)
{
	struct used u;
	struct dirent *e;
	DIR *dir;

	begin(&u);
	dir = opendir("/proc/self/fd");
	TR_CHILD_CHECK(dir != NULL);
	while ((e = readdir(dir))) {
		int fd = atoi(e->d_name);

		if (fd > 2 && fd != dirfd(dir) && fd != u.r.fd && fd != u.p[0] && fd != u.p[1])
			tr_sys_close(fd);
	}
	closedir(dir);
	still_works(&u, true);
	later_ring();
}

/* dup2 over every number. */
static void dups_over(void)
{
	struct used u;

	begin(&u);
	for (int fd = 3; fd < 1100; fd++) {
		if (fd != u.r.fd && fd != u.p[0] && fd != u.p[1])
			dup2(0, fd);
	}
	still_works(&u, true);
	TR_CHILD_CHECK(own_close_range((unsigned)u.r.fd + 10, ~0U, 0) == 0);
	later_ring();
}

static void test_closing(void **state)
{
	(void)state;
	assert_int_equal(in_child(closes_below, 20), 0);
	assert_int_equal(in_child(closes_all, 20), 0);
	assert_int_equal(in_child(closes_one_by_one, 20), 0);
	assert_int_equal(in_child(closes_by_proc, 20), 0);
	assert_int_equal(in_child(dups_over, 20), 0);
}

static void few_descriptors(void)
{
	struct rlimit lim = { 16, 16 };
	struct used u;

	TR_CHILD_CHECK(own_close_range(3, ~0U, 0) == 0);
	TR_CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	for (int i = 0; i < 5; i++) {
		begin(&u);
		still_works(&u, true);
		tr_exit(&u.r);
		close(u.p[0]);
		close(u.p[1]);
		close(u.file);
	}
}

static void many_descriptors(void)
{
	struct rlimit lim = { 1000000, 1000000 };
	struct used u, v;
	int high;

	if (setrlimit(RLIMIT_NOFILE, &lim) != 0)
		return;
	begin(&u);
	high = fcntl(u.r.fd, F_DUPFD, 999000);
	TR_CHILD_CHECK(high >= 999000);
	TR_CHILD_CHECK(tr_sys_close(u.r.fd) == 0);
	u.r.fd = high;
	still_works(&u, true);
	begin(&v);
	/* Must not take a walk over a million numbers. */
	for (int i = 0; i < 200; i++)
		TR_CHILD_CHECK(own_close_range(1000, 998000, 0) == 0);
	still_works(&v, true);
	TR_CHILD_CHECK(own_close_range(3, ~0U, 0) == 0);
	TR_CHILD_CHECK(tr_sys_enter(high, 0, 0, 0, NULL, 0) == -EBADF);
	later_ring();
}

static void test_limits(void **state)
{
	(void)state;
	assert_int_equal(in_child(few_descriptors, 20), 0);
	assert_int_equal(in_child(many_descriptors, 20), 0);
}

/* ---- another process takes the descriptor ---- */

static bool readable(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, ms) == 1 && pfd.revents & (POLLIN | POLLHUP);
}

static void test_taken_by_pidfd(void **state)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;
	int p[2], go[2];
	char c;
	pid_t pid;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(pipe(go), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		/* Has not inherited the number, but takes it. */
		alarm(20);
		tr_sys_close(r.fd);
		int pidfd = (int)syscall(SYS_pidfd_open, getppid(), 0);
		int fd = (int)syscall(SYS_pidfd_getfd, pidfd, r.fd, 0);

		TR_CHILD_CHECK(fd >= 0);
		TR_CHILD_CHECK(readable(fd, 0) == false);
		TR_CHILD_CHECK(write(go[1], "x", 1) == 1);
		/* The parent closes its own while ours lives: its read is not cancelled. */
		TR_CHILD_CHECK(readable(fd, 10000));
		int sum = tr_sys_enter(fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0);
		TR_CHILD_CHECK(sum == 0);
		_exit(0);
	}
	assert_int_equal(read(go[0], &c, 1), 1);
	tr_prep(&r, IORING_OP_READ, p[0], &c, 1, 0, 1);
	assert_int_equal(tr_submit(&r), 1);
	assert_int_equal(tr_sys_close(r.fd), 0);
	tr_sleep_ms(50);
	assert_null(tr_peek(&r));
	assert_int_equal(write(p[1], "x", 1), 1);
	/* The mapping is ours as before. */
	for (int i = 0; i < 1000 && !tr_peek(&r); i++)
		tr_sleep_ms(5);
	assert_non_null(tr_peek(&r));
	cqe = *tr_peek(&r);
	assert_int_equal(cqe.res, 1);
	assert_int_equal(tr_wait_child(pid), 0);
	tr_unmap(&r);
	for (int i = 0; i < 2; i++) {
		close(p[i]);
		close(go[i]);
	}
}

/* ---- descriptor tables ---- */

/* A read of a new pipe, which nobody waits for: another thread than this one has to do it. */
static void read_by_itself(struct tr_ring *r)
{
	int p[2];
	char c = 0;

	TR_CHILD_CHECK(pipe(p) == 0);
	tr_prep(r, IORING_OP_READ, p[0], &c, 1, 0, 5);
	TR_CHILD_CHECK(tr_submit(r) == 1);
	TR_CHILD_CHECK(RAW(SYS_write, p[1], "x", 1) == 1);
	for (int i = 0; i < 1000 && !tr_peek(r); i++)
		tr_sleep_ms(5);
	TR_CHILD_CHECK(tr_peek(r) && tr_peek(r)->user_data == 5 && tr_peek(r)->res == 1);
	tr_seen(r);
	close(p[0]);
	close(p[1]);
}

/* With a single thread there is nobody to part with. */
static void unshares(void)
{
	struct tr_ring late;
	struct used u;

	begin(&u);
	TR_CHILD_CHECK(unshare(CLONE_FILES) == 0);
	read_by_itself(&u.r);
	TR_CHILD_CHECK(syscall(SYS_unshare, CLONE_FILES) == 0);
	read_by_itself(&u.r);
	TR_CHILD_CHECK(syscall(NR_CLOSE_RANGE, 100, ~0U, CLOSE_RANGE_UNSHARE) == 0);
	read_by_itself(&u.r);
	TR_CHILD_CHECK(tr_init(&late, 8, 0) == 0);
	read_by_itself(&late);
	still_works(&u, true);
}

static void test_unshared(void **state)
{
	(void)state;
	assert_int_equal(in_child(unshares, 30), 0);
}

/* A child that has its parent's descriptors, not its memory. */
static void has_such_a_child(void)
{
	struct used u;
	pid_t pid;

	begin(&u);
	pid = (pid_t)RAW(SYS_clone, CLONE_FILES | SIGCHLD, 0);
	TR_CHILD_CHECK(pid >= 0);
	if (pid == 0) {
		struct used own;

		begin(&own);
		read_by_itself(&own.r);
		tr_sys_close(own.r.fd);
		_exit(0);
	}
	TR_CHILD_CHECK(tr_wait_child(pid) == 0);
	read_by_itself(&u.r);
	still_works(&u, true);
}

static void test_table_of_two(void **state)
{
	(void)state;
	assert_int_equal(in_child(has_such_a_child, 30), 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_unshared),       cmocka_unit_test(test_table_of_two),
	cmocka_unit_test(test_closing),        cmocka_unit_test(test_limits),
	cmocka_unit_test(test_taken_by_pidfd),
};

TR_MAIN("home descriptors", tests)
