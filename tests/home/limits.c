/*
 * Little of everything: no threads to be had, no memory, no locked memory, no /proc, and
 * sandboxes that the program puts on after its first ring. Things may become slower or end in
 * an error that says so; nothing hangs and nothing dies.
 */
#include "tests/home/home.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sched.h>

static struct tr_ring ring;
static bool strict; /* everything has to succeed */

/* Whether the request came to an end that is `want`, or, where not strict, an error. */
static void ends_with(struct tr_ring *r, uint64_t user_data, int want)
{
	struct io_uring_cqe cqe;

	TR_CHILD_CHECK(tr_wait_ms(r, &cqe, 10000) == 0);
	TR_CHILD_CHECK(cqe.user_data == user_data);
	if (getenv("SHOW") && cqe.res != want)
		fprintf(stderr, "   request %d: %d\n", (int)user_data, cqe.res);
	TR_CHILD_CHECK(cqe.res == want || (!strict && cqe.res < 0));
}

/* One of each kind of work: inline, armed, a timer, a worker, another thread's wake-up. */
static void use(struct tr_ring *r)
{
	struct __kernel_timespec ts = { .tv_nsec = 2000000 };
	struct pollfd pfd = { .fd = r->fd, .events = POLLIN };
	int p[2], file;
	char c, buf[64] = "";
	long got;

	TR_CHILD_CHECK(pipe(p) == 0);
	tr_prep(r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	TR_CHILD_CHECK(tr_submit(r) == 1);
	ends_with(r, 1, 0);

	tr_prep(r, IORING_OP_READ, p[0], &c, 1, 0, 2);
	TR_CHILD_CHECK(tr_submit(r) == 1);
	TR_CHILD_CHECK(write(p[1], "x", 1) == 1);
	ends_with(r, 2, 1);
	TR_CHILD_CHECK(poll(&(struct pollfd){ .fd = p[0], .events = POLLIN }, 1, 0) == 0 ||
	               !strict);

	tr_prep(r, IORING_OP_TIMEOUT, -1, &ts, 1, 0, 3);
	TR_CHILD_CHECK(tr_submit(r) == 1);
	ends_with(r, 3, -ETIME);

	tr_prep(r, IORING_OP_NOP, -1, NULL, 0, 0, 4)->flags = IOSQE_ASYNC;
	TR_CHILD_CHECK(tr_submit(r) == 1);
	ends_with(r, 4, 0);

	file = open("/dev/zero", O_RDONLY);
	if (file >= 0) {
		tr_prep(r, IORING_OP_READ, file, buf, sizeof(buf), 0, 5)->flags = IOSQE_ASYNC;
		TR_CHILD_CHECK(tr_submit(r) == 1);
		ends_with(r, 5, sizeof(buf));
		close(file);
	}
	tr_prep(r, IORING_OP_FSYNC, p[0], NULL, 0, 0, 6);
	TR_CHILD_CHECK(tr_submit(r) == 1);
	ends_with(r, 6, -EINVAL);

	/* Someone waits for the descriptor. */
	tr_prep(r, IORING_OP_POLL_ADD, p[0], NULL, 0, 0, 7)->poll32_events = POLLIN;
	TR_CHILD_CHECK(tr_submit(r) == 1);
	TR_CHILD_CHECK(write(p[1], "x", 1) == 1);
	got = poll(&pfd, 1, 5000);
	TR_CHILD_CHECK(got == 1);
	ends_with(r, 7, POLLIN);
	close(p[0]);
	close(p[1]);
}

/* Rings that are made now work or are refused. */
static void another(void)
{
	struct tr_ring r;
	int ret = tr_init(&r, 8, 0);

	if (getenv("SHOW") && ret)
		fprintf(stderr, "   another ring: %d\n", ret);
	TR_CHILD_CHECK(ret == 0 || (!strict && ret < 0));
	if (ret)
		return;
	use(&r);
	tr_exit(&r);
}

/* ---- limits ---- */

static void become_nobody(void)
{
	if (geteuid() == 0)
		TR_CHILD_CHECK(setgroups(0, NULL) == 0 && setresgid(64321, 64321, 64321) == 0 &&
		               setresuid(64321, 64321, 64321) == 0);
}

static void no_processes(void)
{
	struct rlimit lim = { 0, 0 };

	/* The kernel cancels what needs a worker then, or never completes it. */
	if (!tr_under_shim())
		return;
	become_nobody();
	TR_CHILD_CHECK(setrlimit(RLIMIT_NPROC, &lim) == 0);
	TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
	use(&ring);
	another();
}

/* The thread that polls has a place, and so has a worker where reading a pipe takes one. */
static void few_processes(void)
{
	struct rlimit lim = { 2, 2 };

	if (!tr_under_shim())
		return;
	if (!tr_has_pipe_nowait())
		lim.rlim_cur = lim.rlim_max = 3;
	strict = true;
	become_nobody();
	TR_CHILD_CHECK(setrlimit(RLIMIT_NPROC, &lim) == 0);
	TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
	use(&ring);
	another();
}

static void little_address_space(void)
{
	char line[200];
	long kb = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f && fgets(line, sizeof(line), f))
		kb = atol(line) * 4;
	if (f)
		fclose(f);
	TR_CHILD_CHECK(kb > 0);
	if (SANITIZED)
		return;
	for (long more = 0; more < 24576; more += 1536) {
		struct rlimit lim = { (rlim_t)(kb + more) * 1024, (rlim_t)(kb + more) * 1024 };
		pid_t pid = fork();

		if (pid == 0) {
			TR_CHILD_CHECK(setrlimit(RLIMIT_AS, &lim) == 0);
			another();
			_exit(0);
		}
		TR_CHILD_CHECK(tr_wait_child(pid) == 0);
	}
}

static void ring_before_little_address_space(void)
{
	struct rlimit lim = { 1 << 20, 1 << 20 };

	if (SANITIZED)
		return;
	TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
	TR_CHILD_CHECK(setrlimit(RLIMIT_AS, &lim) == 0);
	use(&ring);
	another();
}

static void no_locked_memory(void)
{
	struct rlimit lim = { 0, 0 };

	/* Kernels that charge a ring to the limit refuse it. */
	become_nobody();
	TR_CHILD_CHECK(setrlimit(RLIMIT_MEMLOCK, &lim) == 0);
	strict = tr_under_shim();
	another();
	another();
}

static void all_locked(void)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
		return;
	strict = true;
	TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
	use(&ring);
	another();
}

static void all_locked_of_little(void)
{
	struct rlimit lim = { 8 << 20, 8 << 20 };

	become_nobody();
	if (setrlimit(RLIMIT_MEMLOCK, &lim) != 0 || mlockall(MCL_FUTURE) != 0)
		return;
	another();
	another();
}

static void no_stack_limit(void)
{
	struct rlimit lim = { 64 << 10, 64 << 10 };

	strict = true;
	TR_CHILD_CHECK(setrlimit(RLIMIT_STACK, &lim) == 0);
	TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
	use(&ring);
	another();
}

/* ---- an empty world ---- */

static void empty_root(void)
{
	char dir[] = "/tmp/fu-empty-XXXXXX";

	if (geteuid() != 0)
		return;
	strict = true;
	/* A directory that has gone is as empty a root as any. */
	TR_CHILD_CHECK(mkdtemp(dir) != NULL && chdir(dir) == 0 && rmdir(dir) == 0);
	TR_CHILD_CHECK(chroot(".") == 0);
	TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
	use(&ring);
	another();
}

static void read_only_root(void)
{
	if (unshare(CLONE_NEWNS) != 0)
		return;
	TR_CHILD_CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) != 0 ||
	    mount("none", "/tmp", "tmpfs", MS_RDONLY, NULL) != 0 ||
	    mount("none", "/dev/shm", "tmpfs", MS_RDONLY, NULL) != 0)
		return;
	strict = true;
	TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
	use(&ring);
	another();
}

/* ---- sandboxes of the program's own ---- */

static void deny(int nr, unsigned action)
{
	struct sock_filter insns[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { 4, insns };

	TR_CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	TR_CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
}

static const int denied[] = {
	SYS_clone,
	SYS_clone3,
	SYS_io_submit,
	SYS_io_setup,
	SYS_io_getevents,
	SYS_memfd_create,
	SYS_eventfd2,
	SYS_epoll_create1,
	SYS_epoll_ctl,
	SYS_timerfd_create,
	SYS_timerfd_settime,
	SYS_socketpair,
	SYS_fcntl,
	SYS_ppoll,
	SYS_prlimit64,
	SYS_madvise,
	SYS_preadv2,
	SYS_sched_yield,
	SYS_tgkill,
	SYS_tkill,
	SYS_prctl,
	SYS_setfsuid,
	SYS_sendto,
	SYS_recvfrom,
	SYS_fstat,
	SYS_newfstatat,
	SYS_sched_getaffinity,
	SYS_rt_tgsigqueueinfo,
	SYS_mremap,
	SYS_set_robust_list,
	SYS_process_vm_readv,
	SYS_capget,
	SYS_statx,
};

static unsigned turn;
static bool before_any, clone_too;
static int refusal;

/* Denied as well, for the engine's ways to the program's memory. */
static const int copying_calls[] = { SYS_process_vm_readv, SYS_process_vm_writev, SYS_pipe2 };

static void no_way_to_memory(void)
{
	struct __kernel_timespec ts = { .tv_nsec = 2000000 };
	struct io_uring_params p = { 0 };
	char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	strict = true;
	TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
	for (size_t i = 0; i < 3; i++)
		deny(copying_calls[i], SECCOMP_RET_ERRNO | EPERM);
	tr_prep(&ring, IORING_OP_TIMEOUT, -1, &ts, 1, 0, 1);
	tr_prep(&ring, IORING_OP_TIMEOUT, -1, (void *)8, 1, 0, 2);
	TR_CHILD_CHECK(tr_submit(&ring) == 2);
	ends_with(&ring, 2, -EFAULT);
	ends_with(&ring, 1, -ETIME);
	TR_CHILD_CHECK(tr_sys_setup(8, (void *)page) == -EFAULT);
	TR_CHILD_CHECK(tr_sys_setup(8, (void *)8) == -EFAULT);
	TR_CHILD_CHECK(tr_sys_setup(8, &p) >= 0 && p.sq_entries == 8);
}

static void sandboxed(void)
{
	if (!before_any) {
		TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
		if (turn % 2)
			use(&ring);
	}
	deny(denied[turn / 2], SECCOMP_RET_ERRNO | EPERM);
	if (clone_too)
		deny(SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
	if (!before_any)
		use(&ring);
	another();
}

static void test_sandboxes(void **state)
{
	int failed = 0;

	(void)state;
	if (SANITIZED)
		skip();
	for (turn = 0; turn < 2 * sizeof(denied) / sizeof(denied[0]); turn++) {
		for (int k = 0; k < 2; k++) {
			int ret;

			before_any = k;
			clone_too = denied[turn / 2] == SYS_clone;
			if (k && turn % 2)
				continue;
			if (getenv("SHOW"))
				fprintf(stderr, "call %d denied, %s\n", denied[turn / 2],
				        k          ? "before the first ring"
				        : turn % 2 ? "after use"
				                   : "after the first ring");
			ret = in_child(sandboxed, 10);
			if (ret) {
				fprintf(stderr, "call %d denied, %s: %d\n", denied[turn / 2],
				        k          ? "before the first ring"
				        : turn % 2 ? "after use"
				                   : "after the first ring",
				        ret);
				failed++;
			}
		}
	}
	assert_int_equal(failed, 0);
}

/* ---- calls that have another beside them ---- */

/* Each of these is refused, and everything is done by others. */
static const int replaceable[][3] = {
	{ SYS_preadv2, SYS_pwritev2 },
	{ SYS_pread64, SYS_pwrite64 },
	{ SYS_io_setup, SYS_io_submit },
	{ SYS_io_submit },
	{ SYS_poll },
	{ SYS_ppoll },
	{ SYS_getsockopt },
	{ SYS_openat2 },
};

static void one(struct tr_ring *r, int op, int fd, const void *addr, unsigned len, int want)
{
	tr_prep(r, op, fd, addr, len, 0, 1);
	TR_CHILD_CHECK(tr_submit(r) == 1);
	ends_with(r, 1, want);
}

/* Transfers of all kinds, at a file; armed ones at a pipe. */
static void transfer(struct tr_ring *r, int file)
{
	static const char text[] = "transfer";
	char a[4], b[4];
	struct iovec out[2] = { { (void *)text, 4 }, { (void *)(text + 4), 4 } };
	struct iovec in[2] = { { a, 4 }, { b, 4 } };
	int p[2];

	one(r, IORING_OP_WRITE, file, text, 8, 8);
	one(r, IORING_OP_READ, file, a, 4, 4);
	TR_CHILD_CHECK(memcmp(a, text, 4) == 0);
	one(r, IORING_OP_WRITEV, file, out, 2, 8);
	one(r, IORING_OP_READV, file, in, 2, 8);
	TR_CHILD_CHECK(memcmp(b, text + 4, 4) == 0);
	TR_CHILD_CHECK(tr_sys_register(r->fd, IORING_REGISTER_BUFFERS, in, 2) == 0);
	memset(a, 0, 4);
	one(r, IORING_OP_READ_FIXED, file, a, 4, 4);
	TR_CHILD_CHECK(memcmp(a, text, 4) == 0);
	one(r, IORING_OP_WRITE_FIXED, file, a, 4, 4);
	TR_CHILD_CHECK(tr_sys_register(r->fd, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0);
	TR_CHILD_CHECK(pipe(p) == 0);
	tr_prep(r, IORING_OP_READV, p[0], in, 2, 0, 2);
	TR_CHILD_CHECK(tr_submit(r) == 1);
	tr_prep(r, IORING_OP_WRITE, p[1], text, 8, 0, 2);
	TR_CHILD_CHECK(tr_submit(r) == 1);
	ends_with(r, 2, 8);
	ends_with(r, 2, 8);
	close(p[0]);
	close(p[1]);
}

/* What is refused for the file's sake is refused. */
static void write_sealed(struct tr_ring *r)
{
	int fd = memfd_create("sealed", MFD_ALLOW_SEALING);

	TR_CHILD_CHECK(fd >= 0 && write(fd, "x", 1) == 1);
	TR_CHILD_CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
	one(r, IORING_OP_WRITE, fd, "y", 1, -EPERM);
	close(fd);
}

static void connect_and_accept(struct tr_ring *r)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(name);
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	struct io_uring_cqe cqe;

	TR_CHILD_CHECK(bind(l, (void *)&name, sizeof(sa_family_t)) == 0 && listen(l, 1) == 0);
	TR_CHILD_CHECK(getsockname(l, (void *)&name, &len) == 0);
	tr_prep(r, IORING_OP_ACCEPT, l, NULL, 0, 0, 1);
	TR_CHILD_CHECK(tr_submit(r) == 1);
	tr_sleep_ms(1);
	TR_CHILD_CHECK(!tr_peek(r));
	TR_CHILD_CHECK(connect(c, (void *)&name, len) == 0);
	TR_CHILD_CHECK(tr_wait_ms(r, &cqe, 10000) == 0 && cqe.res >= 0);
	close(cqe.res);
	close(c);
	close(l);
}

static void replaced(void)
{
	struct io_uring_cqe cqe;
	int file = tr_temp_file(0);

	strict = true;
	TR_CHILD_CHECK(file >= 0);
	if (!before_any)
		TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
	for (int i = 0; i < 3 && (i == 0 || replaceable[turn][i]); i++)
		deny(replaceable[turn][i], SECCOMP_RET_ERRNO | (unsigned)refusal);
	if (before_any)
		TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
	for (int i = 0; i < 2; i++) {
		transfer(&ring, file);
		write_sealed(&ring);
		connect_and_accept(&ring);
		tr_prep(&ring, IORING_OP_OPENAT, AT_FDCWD, "/proc/self/stat", 0, 0, 1);
		TR_CHILD_CHECK(tr_submit(&ring) == 1);
		TR_CHILD_CHECK(tr_wait_ms(&ring, &cqe, 10000) == 0 && cqe.res >= 0);
		close(cqe.res);
	}
	tr_exit(&ring);
}

static void test_replaceable(void **state)
{
	static const int refusals[] = { EPERM, EACCES, ENOSYS };
	int failed = 0;

	(void)state;
	if (SANITIZED)
		skip();
	for (turn = 0; turn < sizeof(replaceable) / sizeof(replaceable[0]); turn++) {
		for (int i = 0; i < 6; i++) {
			int ret;

			refusal = refusals[i / 2];
			before_any = i % 2;
			ret = in_child(replaced, 10);
			if (ret)
				fprintf(stderr, "call %d, error %d, %s the first ring: %d\n",
				        replaceable[turn][0], refusal,
				        before_any ? "before" : "after", ret);
			failed += ret != 0;
		}
	}
	assert_int_equal(failed, 0);
}

/* ---- nothing to wait with: no epoll, no eventfd, no timer descriptor ---- */

static const int waiting_calls[] = { SYS_timerfd_create, SYS_timerfd_settime, SYS_epoll_create,
	                             SYS_epoll_create1,  SYS_epoll_ctl,       SYS_epoll_wait,
	                             SYS_epoll_pwait,    SYS_epoll_pwait2,    SYS_eventfd,
	                             SYS_eventfd2 };
enum { WAITING_CALLS = sizeof(waiting_calls) / sizeof(waiting_calls[0]), TIMER_CALLS = 2 };

/* Requests that wait, each ended by what it waits for. */
static void wait_for_files(struct tr_ring *r)
{
	int p[2], s[2];
	char c;

	connect_and_accept(r);
	TR_CHILD_CHECK(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	tr_prep(r, IORING_OP_READ, p[0], &c, 1, 0, 1);
	tr_prep(r, IORING_OP_RECV, s[0], &c, 1, 0, 2);
	TR_CHILD_CHECK(tr_submit(r) == 2);
	TR_CHILD_CHECK(tr_ready(r) == 0);
	TR_CHILD_CHECK(write(p[1], "x", 1) == 1);
	ends_with(r, 1, 1);
	TR_CHILD_CHECK(write(s[1], "x", 1) == 1);
	ends_with(r, 2, 1);
	tr_prep(r, IORING_OP_POLL_ADD, p[0], NULL, 0, 0, 3)->poll32_events = POLLIN;
	TR_CHILD_CHECK(tr_submit(r) == 1);
	tr_sleep_ms(5);
	TR_CHILD_CHECK(tr_ready(r) == 0);
	TR_CHILD_CHECK(write(p[1], "x", 1) == 1);
	ends_with(r, 3, POLLIN);
	close(p[0]);
	close(p[1]);
	close(s[0]);
	close(s[1]);
}

/* ... or taken back. */
static void wait_in_vain(struct tr_ring *r)
{
	struct __kernel_timespec ts = { .tv_nsec = 2000000 };
	struct io_uring_cqe cqe;
	int p[2], canceled = 0;
	char c;

	TR_CHILD_CHECK(pipe(p) == 0);
	tr_prep(r, IORING_OP_READ, p[0], &c, 1, 0, 1)->flags = IOSQE_IO_LINK;
	tr_prep(r, IORING_OP_LINK_TIMEOUT, -1, &ts, 1, 0, 2);
	TR_CHILD_CHECK(tr_submit(r) == 2);
	for (int i = 0; i < 2; i++) {
		TR_CHILD_CHECK(tr_wait_ms(r, &cqe, 5000) == 0);
		TR_CHILD_CHECK(cqe.user_data != 1 || cqe.res == -ECANCELED || cqe.res == -EINTR);
		TR_CHILD_CHECK(cqe.user_data != 2 || cqe.res == -ETIME || cqe.res == -EALREADY);
	}
	for (int i = 0; i < 4; i++) {
		tr_prep(r, IORING_OP_POLL_ADD, p[0], NULL, 0, 0, 3)->poll32_events = POLLIN;
		TR_CHILD_CHECK(tr_submit(r) == 1);
		if (i % 2 == 0)
			tr_sleep_ms(2);
		tr_prep(r, i < 2 ? IORING_OP_ASYNC_CANCEL : IORING_OP_POLL_REMOVE, -1, (void *)3, 0,
		        0, 4);
		TR_CHILD_CHECK(tr_submit(r) == 1);
		for (int k = 0; k < 2; k++) {
			TR_CHILD_CHECK(tr_wait_ms(r, &cqe, 5000) == 0);
			canceled += cqe.user_data == 3 && cqe.res == -ECANCELED;
			TR_CHILD_CHECK(cqe.user_data == 3 || cqe.res == 0 ||
			               (cqe.res == -EALREADY && i < 2));
		}
	}
	TR_CHILD_CHECK(canceled == 4);
	close(p[0]);
	close(p[1]);
}

static void let_time_pass(struct tr_ring *r)
{
	static const unsigned clocks[] = { 0, IORING_TIMEOUT_BOOTTIME, IORING_TIMEOUT_REALTIME };
	struct __kernel_timespec ts = { .tv_nsec = 2000000 }, never = { .tv_sec = 1000 };

	tr_prep(r, IORING_OP_TIMEOUT, -1, &never, 1, 0, 9);
	for (size_t i = 0; i < 3; i++) {
		tr_prep(r, IORING_OP_TIMEOUT, -1, &ts, 1, 0, 1)->timeout_flags = clocks[i];
		TR_CHILD_CHECK(tr_submit(r) >= 1);
		ends_with(r, 1, -ETIME);
	}
	tr_prep(r, IORING_OP_TIMEOUT_REMOVE, -1, (void *)9, 0, 0, 2);
	TR_CHILD_CHECK(tr_submit(r) == 1);
	tr_expect(r, 2, 0, 0);
	ends_with(r, 9, -ECANCELED);
}

static void wait_without(void)
{
	size_t n = turn % 2 ? TIMER_CALLS : WAITING_CALLS;

	strict = true;
	if (!before_any) {
		TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
		if (clone_too) {
			wait_for_files(&ring);
			let_time_pass(&ring);
		}
	}
	for (size_t i = 0; i < n; i++)
		deny(waiting_calls[i], SECCOMP_RET_ERRNO | (unsigned)refusal);
	if (before_any)
		TR_CHILD_CHECK(tr_init(&ring, 8, 0) == 0);
	for (int i = 0; i < 2; i++) {
		wait_for_files(&ring);
		wait_in_vain(&ring);
		let_time_pass(&ring);
	}
	tr_exit(&ring);
	strict = false;
	another();
}

static void test_nothing_to_wait_with(void **state)
{
	static const int refusals[] = { EPERM, ENOSYS, EACCES };
	int failed = 0;

	(void)state;
	if (SANITIZED)
		skip();
	for (int i = 0; i < 18; i++) {
		int ret;

		refusal = refusals[i / 6];
		turn = (unsigned)i % 2;
		before_any = i / 2 % 3 == 0;
		clone_too = i / 2 % 3 == 2;
		ret = in_child(wait_without, 10);
		if (ret) {
			fprintf(stderr, "error %d, %s, %s: %d\n", refusal, turn ? "timers" : "all",
			        before_any  ? "before the first ring"
			        : clone_too ? "after use"
			                    : "after the first ring",
			        ret);
			failed++;
		}
	}
	assert_int_equal(failed, 0);
}

#define LIMIT(f)                                      \
	static void test_##f(void **state)            \
	{                                             \
		(void)state;                          \
		strict = false;                       \
		assert_int_equal(in_child(f, 30), 0); \
	}

LIMIT(no_processes)
LIMIT(few_processes)
LIMIT(little_address_space)
LIMIT(ring_before_little_address_space)
LIMIT(no_locked_memory)
LIMIT(all_locked)
LIMIT(all_locked_of_little)
LIMIT(no_stack_limit)
LIMIT(empty_root)
LIMIT(read_only_root)

static void test_no_way_to_memory(void **state)
{
	(void)state;
	if (SANITIZED)
		skip();
	assert_int_equal(in_child(no_way_to_memory, 30), 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_no_processes),
	cmocka_unit_test(test_few_processes),
	cmocka_unit_test(test_little_address_space),
	cmocka_unit_test(test_ring_before_little_address_space),
	cmocka_unit_test(test_no_locked_memory),
	cmocka_unit_test(test_all_locked),
	cmocka_unit_test(test_all_locked_of_little),
	cmocka_unit_test(test_no_stack_limit),
	cmocka_unit_test(test_empty_root),
	cmocka_unit_test(test_read_only_root),
	cmocka_unit_test(test_sandboxes),
	cmocka_unit_test(test_replaceable),
	cmocka_unit_test(test_no_way_to_memory),
	cmocka_unit_test(test_nothing_to_wait_with),
};

TR_MAIN("home limits", tests)
