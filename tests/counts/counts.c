/*
 * How many system calls the shim makes, counted by a tracer; no timing is involved.
 *
 *     counts libc|inline
 *
 * The scenarios run in a child that enters rings through libc's syscall() or through
 * instructions of its own. It marks the beginning and the end of what counts with calls
 * of getpgid that no program would make. Each is repeated and the smallest count taken:
 * the statistics are written now and then, and that is not what is measured.
 *
 * On a kernel with io_uring the program runs alone too: NOPs then take one call each.
 */
#include "tests/ring_util.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define EXIT_SKIPPED 77
#define MARK         0x6d61726bL /* and the scenario in the bits above */
#define REPEATS      8
#define BLOCK        4096U
#define BATCH        32U
#define MAX_SEEN     16

/* ---- what is measured: the child ---- */

static struct tr_ring ring, sqpoll_ring;
static char buffers[BATCH][BLOCK];
static int file = -1;

static void need(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "counts: %s: %s\n", what, strerror(errno));
		_exit(1);
	}
}

static struct io_uring_sqe *prep(struct tr_ring *r, int op, unsigned i)
{
	struct io_uring_sqe *sqe = tr_sqe(r);

	need(sqe != NULL, "SQE");
	sqe->opcode = (unsigned char)op;
	sqe->fd = file;
	if (op == IORING_OP_READ) {
		sqe->addr = (uint64_t)(uintptr_t)buffers[i];
		sqe->len = BLOCK;
		sqe->off = (uint64_t)i * BLOCK;
	}
	return sqe;
}

static void reap(struct tr_ring *r, unsigned count, int res)
{
	for (unsigned i = 0; i < count; i++) {
		need(tr_peek(r) && tr_peek(r)->res == res, "completion");
		tr_seen(r);
	}
}

static void batch(int op, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		prep(&ring, op, i);
	need(tr_submit_wait(&ring, count) == (int)count, "io_uring_enter");
	reap(&ring, count, op == IORING_OP_READ ? (int)BLOCK : 0);
}

static void one_read(void)
{
	batch(IORING_OP_READ, 1);
}

static void many_reads(void)
{
	batch(IORING_OP_READ, BATCH);
}

static void nops(void)
{
	batch(IORING_OP_NOP, BATCH);
}

/* Its two structures are the program's memory, and each is copied by one call. */
static void nop_within(void)
{
	struct __kernel_timespec ts = { .tv_sec = 60 };
	struct io_uring_getevents_arg arg = { .ts = (uint64_t)(uintptr_t)&ts };

	prep(&ring, IORING_OP_NOP, 0);
	tr_publish(&ring);
	need(tr_sys_enter(ring.fd, 1, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg,
	                  sizeof(arg)) == 1,
	     "io_uring_enter");
	reap(&ring, 1, 0);
}

/* Found, asked for its device, asked for the rest, closed. */
static void one_statx(void)
{
	struct io_uring_sqe *sqe = tr_sqe(&ring);
	struct statx sx;

	need(sqe != NULL, "SQE");
	sqe->opcode = IORING_OP_STATX;
	sqe->fd = AT_FDCWD;
	sqe->addr = (uint64_t)(uintptr_t) ".";
	sqe->len = STATX_BASIC_STATS;
	sqe->off = (uint64_t)(uintptr_t)&sx;
	need(tr_submit_wait(&ring, 1) == 1, "io_uring_enter");
	reap(&ring, 1, 0);
}

static void prep_socket(int op, int fd, unsigned len)
{
	struct io_uring_sqe *sqe = tr_sqe(&ring);

	need(sqe != NULL, "SQE");
	sqe->opcode = (unsigned char)op;
	sqe->fd = fd;
	sqe->addr = (uint64_t)(uintptr_t)buffers[0];
	sqe->len = len;
}

static int pair[2] = { -1, -1 };

/* It waits for what is sent behind it. */
static void waiting_receive(void)
{
	need(pair[0] >= 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socket pair");
	prep_socket(IORING_OP_RECV, pair[0], BLOCK);
	prep_socket(IORING_OP_SEND, pair[1], 1);
	need(tr_submit_wait(&ring, 2) == 2, "io_uring_enter");
	reap(&ring, 2, 1);
}

/* What is waited for has always come: nobody but this thread has to look. */
static void no_wait(void)
{
	for (int i = 0; i < 100; i++) {
		prep_socket(IORING_OP_RECV, pair[0], BLOCK);
		prep_socket(IORING_OP_SEND, pair[1], 1);
		for (unsigned done = 0; done < 2; done++) {
			need(tr_submit_wait(&ring, 1) >= 0, "io_uring_enter");
			reap(&ring, 1, 1);
		}
	}
}

static int crowd_sv[2];
static struct tr_ring crowd;

static void crowd_waits(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct io_uring_sqe *sqe = tr_sqe(&crowd);

		need(sqe != NULL, "SQE");
		sqe->opcode = IORING_OP_RECV;
		sqe->fd = crowd_sv[0];
		sqe->addr = (uint64_t)(uintptr_t)buffers[0];
		sqe->len = BLOCK;
	}
	need(tr_submit(&crowd) == (int)n, "receives");
}

static void make_crowd(void)
{
	need(socketpair(AF_UNIX, SOCK_DGRAM, 0, crowd_sv) == 0, "socket pair");
	need(tr_init(&crowd, BATCH, 0) == 0, "ring");
	crowd_waits(BATCH);
}

/* One of many that wait for it gets the message, and waits again. */
static void message_for_one(void)
{
	need(write(crowd_sv[1], "x", 1) == 1, "message");
	need(tr_submit_wait(&crowd, 1) == 0, "io_uring_enter");
	reap(&crowd, 1, 1);
	crowd_waits(1);
}

/* The duplicate that it keeps of the pipe is not asked what it is. */
static void waiting_read(void)
{
	static int p[2] = { -1, -1 };

	need(p[0] >= 0 || pipe2(p, O_CLOEXEC) == 0, "pipe");
	prep_socket(IORING_OP_READ, p[0], BLOCK);
	prep_socket(IORING_OP_WRITE, p[1], 1);
	need(tr_submit_wait(&ring, 2) == 2, "io_uring_enter");
	reap(&ring, 2, 1);
}

static int terminal = -1;

static void make_terminal(void)
{
	struct termios raw;

	terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	need(terminal >= 0 && tcgetattr(terminal, &raw) == 0, "terminal");
	cfmakeraw(&raw);
	need(tcsetattr(terminal, TCSANOW, &raw) == 0, "raw terminal");
}

/* It cannot be asked not to wait, but has room. */
static void terminal_write(void)
{
	prep_socket(IORING_OP_WRITE, terminal, 1);
	need(tr_submit_wait(&ring, 1) == 1, "io_uring_enter");
	reap(&ring, 1, 1);
}

static void make_sqpoll(void)
{
	struct io_uring_params p = { .flags = IORING_SETUP_SQPOLL, .sq_thread_idle = 60000 };

	need(tr_init_params(&sqpoll_ring, 8, &p, TR_ONE_MMAP) == 0, "SQPOLL ring");
}

/* Only the tail is moved, and the CQ looked at. */
static void sqpoll_read(void)
{
	prep(&sqpoll_ring, IORING_OP_READ, 0);
	tr_publish(&sqpoll_ring);
	for (unsigned spins = 0; !tr_ready(&sqpoll_ring); spins++) {
		__builtin_ia32_pause();
		/* It sleeps, or has no processor: that repetition does not count. */
		if (spins > 10000000)
			tr_sys_enter(sqpoll_ring.fd, 1, 1,
			             IORING_ENTER_SQ_WAKEUP | IORING_ENTER_GETEVENTS, NULL, 0);
	}
	reap(&sqpoll_ring, 1, (int)BLOCK);
}

static void sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

static void idle(void)
{
	sleep_ms(1000);
}

/* Timeouts that are armed and removed, and everything above. */
static void busy(void)
{
	struct __kernel_timespec ts = { .tv_sec = 3600 };

	for (int round = 0; round < 20; round++) {
		nops();
		many_reads();
		for (unsigned i = 0; i < BATCH; i++) {
			struct io_uring_sqe *sqe = tr_sqe(&ring);

			need(sqe != NULL, "SQE");
			sqe->opcode = i % 2 ? IORING_OP_TIMEOUT_REMOVE : IORING_OP_TIMEOUT;
			sqe->fd = -1;
			if (i % 2)
				sqe->addr = i - 1;
			else
				sqe->addr = (uint64_t)(uintptr_t)&ts;
			sqe->len = i % 2 ? 0 : 1;
			sqe->user_data = i;
		}
		need(tr_submit_wait(&ring, BATCH) == BATCH, "timeouts");
		for (unsigned i = 0; i < BATCH; i++) {
			need(tr_peek(&ring) != NULL, "completion");
			tr_seen(&ring);
		}
	}
}

/* Waits on a ring of its own, for a pipe, and leaves a read of that armed; or closes the ring. */
static void *other_thread(void *arg)
{
	static struct tr_ring kept;
	struct tr_ring gone, *r = arg ? &kept : &gone;
	static char c;
	int p[2];

	need(pipe2(p, O_CLOEXEC) == 0 && tr_init(r, 8, 0) == 0, "ring of another thread");
	for (int i = 0; i < 2; i++) {
		struct io_uring_sqe *sqe = tr_sqe(r);

		need(sqe != NULL, "SQE");
		sqe->opcode = IORING_OP_READ;
		sqe->fd = p[0];
		sqe->addr = (uint64_t)(uintptr_t)&c;
		sqe->len = 1;
		need(tr_submit(r) == 1, "read");
		if (i)
			break;
		need(write(p[1], "x", 1) == 1 && tr_submit_wait(r, 1) == 0, "wait");
		need(tr_peek(r) != NULL, "completion");
		tr_seen(r);
	}
	if (!arg)
		tr_exit(r);
	return NULL;
}

/*
 * A ring that has worked, one with a poll armed, an SQPOLL ring that has gone to sleep, two of
 * threads that have ended.
 */
static void make_idle(void)
{
	struct io_uring_params p = { .flags = IORING_SETUP_SQPOLL, .sq_thread_idle = 1 };
	static struct tr_ring sleeper, poller;
	struct io_uring_sqe *sqe;

	need(tr_init_params(&sleeper, 8, &p, TR_ONE_MMAP) == 0, "SQPOLL ring");
	need(tr_init(&poller, 8, 0) == 0, "ring");
	sqe = tr_sqe(&poller);
	need(sqe != NULL, "SQE");
	sqe->opcode = IORING_OP_POLL_ADD;
	sqe->fd = eventfd(0, EFD_CLOEXEC);
	sqe->poll32_events = POLLIN;
	need(tr_submit(&poller) == 1, "poll");
	for (int i = 0; i < 2; i++) {
		pthread_t t;

		need(pthread_create(&t, NULL, other_thread, i ? &t : NULL) == 0, "thread");
		pthread_join(t, NULL);
	}
	while (!(__atomic_load_n(sleeper.sq_flags, __ATOMIC_ACQUIRE) & IORING_SQ_NEED_WAKEUP))
		sleep_ms(5);
	/* It announces its sleep before it lies down. */
	sleep_ms(300);
}

/* Has a read of a pipe armed on a ring of its own. */
static void *reader(void *arg)
{
	static char c;
	struct tr_ring r;
	struct io_uring_sqe *sqe;
	int p[2];

	need(pipe2(p, O_CLOEXEC) == 0 && tr_init(&r, 8, 0) == 0, "ring of another thread");
	sqe = tr_sqe(&r);
	need(sqe != NULL, "SQE");
	sqe->opcode = IORING_OP_READ;
	sqe->fd = p[0];
	sqe->addr = (uint64_t)(uintptr_t)&c;
	sqe->len = 1;
	need(tr_submit(&r) == 1, "read");
	if (!arg)
		return NULL;
	pthread_barrier_wait(arg);
	for (;;)
		pause();
}

static void make_readers(void)
{
	static pthread_barrier_t ready;

	reader(NULL);
	pthread_barrier_init(&ready, NULL, 4);
	for (int i = 0; i < 3; i++) {
		pthread_t t;

		need(pthread_create(&t, NULL, reader, &ready) == 0, "thread");
	}
	pthread_barrier_wait(&ready);
}

/* It looks at what this thread waits for, and leaves that of the others to them. */
static void one_write(void)
{
	static int null = -1;

	if (null < 0)
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	need(write(null, "x", 1) == 1, "write");
}

static int child_sv[2];

/* It has the rings, and does nothing with them. */
static void make_child(void)
{
	pid_t parent = getpid(), pid;

	need(socketpair(AF_UNIX, SOCK_STREAM, 0, child_sv) == 0, "socket pair");
	pid = fork();
	need(pid >= 0, "fork");
	if (pid)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (char c; getppid() == parent && read(child_sv[1], &c, 1) == 1;) {
		sleep_ms(2);
		need(write(child_sv[1], &c, 1) == 1, "answer");
	}
	_exit(0);
}

static void answer(void)
{
	need(write(child_sv[0], "x", 1) == 1, "question");
	prep_socket(IORING_OP_RECV, child_sv[0], 1);
	need(tr_submit_wait(&ring, 1) == 1, "io_uring_enter");
	reap(&ring, 1, 1);
}

/* All threads there are on one processor: none gets on while this one runs. */
static void make_single(void)
{
	cpu_set_t one, all;
	DIR *tasks = opendir("/proc/self/task");

	need(tasks && sched_getaffinity(0, sizeof(all), &all) == 0, "processors");
	CPU_ZERO(&one);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++) {
		if (CPU_ISSET(cpu, &all))
			CPU_SET(cpu, &one);
	}
	for (struct dirent *d = readdir(tasks); d; d = readdir(tasks))
		sched_setaffinity(atoi(d->d_name), sizeof(one), &one);
	closedir(tasks);
}

/* Workers do them, and call each other. */
static void worker_reads(void)
{
	for (unsigned i = 0; i < BATCH; i++)
		prep(&ring, IORING_OP_READ, i)->flags = IOSQE_ASYNC;
	need(tr_submit_wait(&ring, BATCH) == BATCH, "io_uring_enter");
	reap(&ring, BATCH, (int)BLOCK);
}

enum what { APPLICATION, ALL_THREADS, MEMORY, ARMING, SLEEPING, LOOKING, WAKING };

static const struct scenario {
	const char *name;
	void (*before)(void);
	void (*run)(void);
	unsigned repeats;
	enum what counted;
	unsigned limit, limit_native;
} scenarios[] = {
	{ "a cached read", NULL, one_read, REPEATS, ALL_THREADS, 1, 1 },
	{ "32 cached reads", NULL, many_reads, REPEATS, ALL_THREADS, 3, 1 },
	{ "STATX of a cached name", NULL, one_statx, REPEATS, ALL_THREADS, 4, 1 },
	{ "32 NOPs", NULL, nops, REPEATS, ALL_THREADS, 0, 1 },
	{ "a NOP with a limit to the wait", NULL, nop_within, REPEATS, ALL_THREADS, 2, 1 },
	{ "arming of a receive that waits", NULL, waiting_receive, REPEATS, ARMING, 1, 0 },
	{ "looks of other threads at 100 receives", NULL, no_wait, REPEATS, LOOKING, 10, 0 },
	{ "a message for one of 32 receives", make_crowd, message_for_one, REPEATS, ALL_THREADS, 12,
	  3 },
	{ "a read of a pipe that waits, and a write", NULL, waiting_read, REPEATS, ALL_THREADS, 9,
	  1 },
	{ "a write to a terminal", make_terminal, terminal_write, REPEATS, ALL_THREADS, 4, 1 },
	{ "an SQPOLL read, in the application's thread", make_sqpoll, sqpoll_read, REPEATS,
	  APPLICATION, 0, 0 },
	{ "memory calls of much work", NULL, busy, 2, MEMORY, 0, 0 },
	{ "a write beside rings of other threads", make_readers, one_write, REPEATS, APPLICATION, 3,
	  1 },
	{ "sleeping until a child's answer is handed over", make_child, answer, REPEATS, SLEEPING,
	  0, 0 },
	{ "idle rings, for a second", make_idle, idle, 1, ALL_THREADS, 0, 0 },
	{ "wake-ups for 32 reads on workers", make_single, worker_reads, 64, WAKING, 20, 0 },
};
#define SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

static void child(enum tr_entry entry)
{
	need(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0, "ptrace");
	raise(SIGSTOP);
	tr_entry = entry;
	file = tr_temp_file(BATCH * BLOCK);
	need(file >= 0 && tr_init(&ring, 2 * BATCH, 0) == 0, "ring");
	for (unsigned i = 0; i < SCENARIOS; i++) {
		const struct scenario *s = &scenarios[i];

		if (s->before)
			s->before();
		else
			s->run();
		for (unsigned n = 0; n < s->repeats; n++) {
			syscall(SYS_getpgid, MARK | (long)i << 32);
			s->run();
			syscall(SYS_getpgid, MARK | (long)SCENARIOS << 32);
		}
		/* It would keep a processor busy. */
		if (s->run == sqpoll_read)
			tr_exit(&sqpoll_ring);
	}
	_exit(0);
}

/* ---- the tracer ---- */

static unsigned best[SCENARIOS], count;
static long seen[MAX_SEEN];
static int current = -1;

static bool counts(const struct scenario *s, bool application, long nr, long second)
{
	switch (s->counted) {
	case APPLICATION:
		return application;
	case MEMORY:
		return nr == SYS_mmap || nr == SYS_munmap || nr == SYS_brk || nr == SYS_madvise ||
		       nr == SYS_mremap || nr == SYS_memfd_create;
	case ARMING:
		return nr == SYS_epoll_ctl;
	case LOOKING:
		return !application && (nr == SYS_epoll_wait || nr == SYS_poll);
	case WAKING:
		return application && nr == SYS_futex && (second & 0x7f) == FUTEX_WAKE;
	case SLEEPING:
		return application && nr == SYS_futex && (second & 0x7f) == FUTEX_WAIT;
	default:
		/* The sleep that an idle second is. */
		return !(s->run == idle && application &&
		         (nr == SYS_clock_nanosleep || nr == SYS_restart_syscall));
	}
}

static unsigned limit_of(const struct scenario *s)
{
	return tr_under_shim() ? s->limit : s->limit_native;
}

static void mark(long which)
{
	if (current >= 0 && count < best[current])
		best[current] = count;
	if (current >= 0 && count > limit_of(&scenarios[current])) {
		fprintf(stderr, "counts: %s: system calls", scenarios[current].name);
		for (unsigned i = 0; i < count && i < MAX_SEEN; i++)
			fprintf(stderr, " %ld", seen[i]);
		fprintf(stderr, "\n");
	}
	current = which < (long)SCENARIOS ? (int)which : -1;
	count = 0;
}

static void entered(bool application, long nr, long arg, long second)
{
	if (nr == SYS_getpgid && (arg & 0xffffffffL) == MARK) {
		mark(arg >> 32);
	} else if (current >= 0 && counts(&scenarios[current], application, nr, second)) {
		if (count < MAX_SEEN)
			seen[count] = nr;
		count++;
	}
}

/* Signals go on to the child, but for those that tracing makes. */
static int signal_of(int status)
{
	int sig = WSTOPSIG(status);

	return sig == (SIGTRAP | 0x80) || sig == SIGSTOP || status >> 16 ? 0 : sig;
}

/* Follows the child and its threads to the end; its exit status. */
static int trace(pid_t pid)
{
	struct __ptrace_syscall_info info;
	int status;

	for (;;) {
		pid_t tid = waitpid(-1, &status, __WALL);

		if (tid < 0)
			return 1;
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			if (tid != pid)
				continue;
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
		if (WSTOPSIG(status) == (SIGTRAP | 0x80) &&
		    ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof(info), &info) > 0 &&
		    info.op == PTRACE_SYSCALL_INFO_ENTRY)
			entered(tid == pid, (long)info.entry.nr, (long)info.entry.args[0],
			        (long)info.entry.args[1]);
		ptrace(PTRACE_SYSCALL, tid, NULL, (long)signal_of(status));
	}
}

int main(int argc, char **argv)
{
	enum tr_entry entry = argc > 1 && strcmp(argv[1], "inline") == 0 ? TR_INLINE : TR_LIBC;
	long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
	pid_t pid = fork();
	int status, failed = 0;

	if (pid == 0)
		child(entry);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	if (!WIFSTOPPED(status) || ptrace(PTRACE_SETOPTIONS, pid, NULL, options) < 0) {
		printf("SKIPPED: no ptrace here\n");
		return EXIT_SKIPPED;
	}
	memset(best, 0xff, sizeof(best));
	ptrace(PTRACE_SYSCALL, pid, NULL, 0L);
	status = trace(pid);
	if (status) {
		fprintf(stderr, "counts: the child ended with %d\n", status);
		return 1;
	}
	for (unsigned i = 0; i < SCENARIOS; i++) {
		const struct scenario *s = &scenarios[i];
		bool ok = best[i] <= limit_of(s);

		printf("%-8s%s: %u (at most %u)\n", ok ? "ok" : "FAILED", s->name, best[i],
		       limit_of(s));
		failed |= !ok;
	}
	return failed;
}
