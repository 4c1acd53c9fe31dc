/*
 * A program's children: rings in memory that many processes share, a creator that leaves,
 * deaths at any moment, vfork and posix_spawn with rings at work, daemons.
 */
#include "tests/home/home.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

#define SETUP_NO_MMAP (1U << 14) /* the addresses lie where older headers have resv2 */

enum { RINGS = 100, CHILDREN = 50, ENTRIES = 16 };

/* ---- rings in shared memory ---- */

static char *shared;

/* A ring whose memory is ours: one page for the rings, one for the SQEs. */
static int make_shared(struct tr_ring *r, char *pages)
{
	struct io_uring_params *p = &r->p;

	memset(r, 0, sizeof(*r));
	p->flags = SETUP_NO_MMAP;
	p->cq_off.resv2 = (uint64_t)(uintptr_t)pages;
	p->sq_off.resv2 = (uint64_t)(uintptr_t)(pages + 4096);
	r->fd = tr_sys_setup(ENTRIES, p);
	if (r->fd < 0)
		return r->fd;
	r->sq = r->cq = pages;
	r->sqes = (void *)(pages + 4096);
	r->sq_head = (void *)(pages + p->sq_off.head);
	r->sq_tail = (void *)(pages + p->sq_off.tail);
	r->sq_mask = (void *)(pages + p->sq_off.ring_mask);
	r->sq_entries = (void *)(pages + p->sq_off.ring_entries);
	r->sq_flags = (void *)(pages + p->sq_off.flags);
	r->sq_array = (void *)(pages + p->sq_off.array);
	r->cq_head = (void *)(pages + p->cq_off.head);
	r->cq_tail = (void *)(pages + p->cq_off.tail);
	r->cq_mask = (void *)(pages + p->cq_off.ring_mask);
	r->cq_entries = (void *)(pages + p->cq_off.ring_entries);
	r->cqes = (void *)(pages + p->cq_off.cqes);
	return 0;
}

static void make_all(struct tr_ring *r)
{
	shared =
	        mmap(NULL, RINGS * 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(shared != MAP_FAILED);
	for (int i = 0; i < RINGS; i++)
		assert_int_equal(make_shared(&r[i], shared + i * 8192), 0);
}

/* Reads of the shared file through one ring, checked; who else uses the ring waits or submits. */
static void read_some(struct tr_ring *r, int fd, int rounds, unsigned seed)
{
	/* At the same address in all: a request that one leaves behind may be another's to submit.
	 */
	static unsigned char buf[256];

	for (int k = 0; k < rounds; k++) {
		size_t off = (seed + (unsigned)k * 977) % 60000;
		struct io_uring_cqe cqe;

		r->sqe_tail = *r->sq_tail;
		memset(buf, 0, sizeof(buf));
		tr_prep(r, IORING_OP_READ, fd, buf, sizeof(buf), off, (unsigned)k)->flags =
		        k % 5 == 0 ? IOSQE_ASYNC : 0;
		TR_CHILD_CHECK(tr_submit_wait(r, 1) == 1);
		TR_CHILD_CHECK(tr_wait(r, &cqe) == 0);
		TR_CHILD_CHECK(cqe.user_data == (unsigned)k && cqe.res == (int)sizeof(buf));
		TR_CHILD_CHECK(buf[0] == tr_pattern(off) && buf[255] == tr_pattern(off + 255));
	}
}

static void test_shared_by_many(void **state)
{
	static struct tr_ring r[RINGS];
	pid_t pids[CHILDREN];
	int fd = tr_temp_file(65536);

	(void)state;
	make_all(r);
	for (int i = 0; i < CHILDREN; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0) {
			alarm(60);
			for (int k = 0; k < 5; k++) {
				read_some(&r[2 * i], fd, 10, (unsigned)(i + k));
				read_some(&r[2 * i + 1], fd, 10, (unsigned)(i - k + 10));
			}
			_exit(0);
		}
	}
	for (int i = 0; i < CHILDREN; i++)
		assert_int_equal(tr_wait_child(pids[i]), 0);
	for (int i = 0; i < RINGS; i++)
		assert_int_equal(tr_sys_close(r[i].fd), 0);
	munmap(shared, RINGS * 8192);
	close(fd);
}

/* One process submits, another waits, pair by pair. */
static void test_submit_here_wait_there(void **state)
{
	enum { PAIRS = 10, ROUNDS = 100 };
	static struct tr_ring r[RINGS];
	pid_t pids[2 * PAIRS];
	int p[PAIRS][2];

	(void)state;
	make_all(r);
	for (int i = 0; i < 2 * PAIRS; i++) {
		struct tr_ring *own = &r[i / 2];

		if (i % 2 == 0)
			assert_int_equal(pipe(p[i / 2]), 0);
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0 && i % 2 == 0) {
			alarm(60);
			for (unsigned k = 0; k < ROUNDS; k++) {
				char c;

				/* Do not run ahead of the CQ; one at a time, answered by the pipe.
				 */
				own->sqe_tail = *own->sq_tail;
				tr_prep(own, IORING_OP_NOP, -1, NULL, 0, 0, k)->flags =
				        k % 3 ? 0 : IOSQE_ASYNC;
				TR_CHILD_CHECK(tr_submit(own) == 1);
				TR_CHILD_CHECK(read(p[i / 2][0], &c, 1) == 1);
			}
			_exit(0);
		}
		if (pids[i] == 0) {
			alarm(60);
			for (unsigned k = 0; k < ROUNDS; k++) {
				struct io_uring_cqe cqe;

				TR_CHILD_CHECK(tr_wait(own, &cqe) == 0);
				TR_CHILD_CHECK(cqe.user_data == k);
				TR_CHILD_CHECK(write(p[i / 2][1], "x", 1) == 1);
			}
			_exit(0);
		}
	}
	for (int i = 0; i < 2 * PAIRS; i++)
		assert_int_equal(tr_wait_child(pids[i]), 0);
	for (int i = 0; i < PAIRS; i++) {
		close(p[i][0]);
		close(p[i][1]);
	}
	for (int i = 0; i < RINGS; i++)
		assert_int_equal(tr_sys_close(r[i].fd), 0);
	munmap(shared, RINGS * 8192);
}

/* ---- a database's way: every process has a ring, and waits at any ---- */

enum { BACKENDS = 4, IOS = 8, IO_BYTES = 4096, TURNS = 100 };

enum { IDLE, IN_FLIGHT, READ };

struct backend {
	pthread_mutex_t reap; /* whoever takes completions of this ring holds it, and sleeps so */
	int state[IOS];
	int res[IOS];
	off_t off[IOS];
};

static struct backend *backends;
static unsigned char *io_pages;

static unsigned char *io_buf(int b, int io)
{
	return io_pages + (b * IOS + io) * IO_BYTES;
}

static int io_state(const struct backend *be, int io)
{
	return __atomic_load_n(&be->state[io], __ATOMIC_ACQUIRE);
}

static void wait_for_io(struct tr_ring *r, struct backend *be, int io)
{
	pthread_mutex_lock(&be->reap);
	while (io_state(be, io) == IN_FLIGHT) {
		struct io_uring_cqe cqe;

		TR_CHILD_CHECK(tr_wait(r, &cqe) == 0);
		TR_CHILD_CHECK(cqe.user_data < IOS);
		be->res[cqe.user_data] = cqe.res;
		__atomic_store_n(&be->state[cqe.user_data], READ, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&be->reap);
}

static void start_io(struct tr_ring *r, int b, int io, int fd, unsigned seed)
{
	struct backend *be = &backends[b];
	struct io_uring_sqe *sqe;

	be->off[io] = (off_t)(seed % 16) * IO_BYTES;
	memset(io_buf(b, io), 0, IO_BYTES);
	sqe = tr_prep(r, IORING_OP_READ, fd, io_buf(b, io), IO_BYTES, (uint64_t)be->off[io],
	              (uint64_t)io);
	sqe->flags = seed % 3 ? 0 : IOSQE_ASYNC;
	__atomic_store_n(&be->state[io], IN_FLIGHT, __ATOMIC_RELEASE);
	TR_CHILD_CHECK(tr_submit(r) == 1);
}

static void check_io(int b, int io)
{
	struct backend *be = &backends[b];

	TR_CHILD_CHECK(be->res[io] == IO_BYTES);
	for (int i = 0; i < IO_BYTES; i += 101)
		TR_CHILD_CHECK(io_buf(b, io)[i] == tr_pattern((size_t)(be->off[io] + i)));
	__atomic_store_n(&be->state[io], IDLE, __ATOMIC_RELEASE);
}

static void be_backend(struct tr_ring *r, int b, const int fds[2])
{
	unsigned seed = (unsigned)b * 7919 + 1;

	alarm(60);
	for (int turn = 0; turn < TURNS; turn++) {
		for (int io = 0; io < IOS; io++) {
			seed = seed * 1103515245 + 12345;
			start_io(&r[b], b, io, fds[seed / 65536 % 2], seed / 65536);
		}
		/* First another's, as for a page that two of them want. */
		seed = seed * 1103515245 + 12345;
		wait_for_io(&r[seed / 65536 % BACKENDS], &backends[seed / 65536 % BACKENDS],
		            (int)(seed / 262144 % IOS));
		for (int io = 0; io < IOS; io++) {
			wait_for_io(&r[b], &backends[b], io);
			check_io(b, io);
		}
	}
	_exit(0);
}

static void test_any_waits(void **state)
{
	static struct tr_ring r[RINGS];
	pthread_mutexattr_t attr;
	pid_t pids[BACKENDS];
	char name[40];
	int fds[2];

	(void)state;
	make_all(r);
	fds[0] = tr_temp_file(65536);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fds[0]);
	/* Not every file system has it. */
	fds[1] = open(name, O_RDONLY | O_DIRECT);
	if (fds[1] < 0)
		fds[1] = dup(fds[0]);
	io_pages = mmap(NULL, BACKENDS * (IOS * IO_BYTES + sizeof(*backends)),
	                PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(io_pages != MAP_FAILED);
	backends = (void *)(io_pages + (size_t)BACKENDS * IOS * IO_BYTES);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	for (int b = 0; b < BACKENDS; b++)
		assert_int_equal(pthread_mutex_init(&backends[b].reap, &attr), 0);
	for (int b = 0; b < BACKENDS; b++) {
		pids[b] = fork();
		assert_true(pids[b] >= 0);
		if (pids[b] == 0)
			be_backend(r, b, fds);
	}
	for (int b = 0; b < BACKENDS; b++)
		assert_int_equal(tr_wait_child(pids[b]), 0);
	for (int i = 0; i < RINGS; i++)
		assert_int_equal(tr_sys_close(r[i].fd), 0);
	munmap(io_pages, BACKENDS * (IOS * IO_BYTES + sizeof(*backends)));
	munmap(shared, RINGS * 8192);
	close(fds[0]);
	close(fds[1]);
}

/*
 * Processes that are killed anywhere, and that their parent does not wait for before it uses the
 * ring itself.
 */
static void kills_and_goes_on(void)
{
	struct tr_ring r;

	TR_CHILD_CHECK(tr_init(&r, 8, 0) == 0);
	for (int i = 0; i < 150; i++) {
		pid_t pid = fork();

		TR_CHILD_CHECK(pid >= 0);
		if (pid == 0) {
			for (;;)
				tr_sys_register(r.fd, IORING_UNREGISTER_FILES, NULL, 0);
		}
		usleep((useconds_t)(500 + i * 7));
		TR_CHILD_CHECK(kill(pid, SIGKILL) == 0);
		for (int k = 0; k < 3; k++) {
			TR_CHILD_CHECK(tr_sys_register(r.fd, IORING_UNREGISTER_FILES, NULL, 0) ==
			               -ENXIO);
			usleep(100);
		}
		TR_CHILD_CHECK(tr_wait_child(pid) == 128 + SIGKILL);
	}
	TR_CHILD_CHECK(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0) == 0);
	tr_exit(&r);
}

static void test_killed_and_not_waited_for(void **state)
{
	(void)state;
	assert_int_equal(in_child(kills_and_goes_on, 40), 0);
}

/* A ring's SQ has nobody to look at it once its creator is dead, waited for or not. */
static void creator_of_sqpoll_dies(void)
{
	struct tr_ring r;
	int p[2], ret = 0;
	pid_t creator;

	TR_CHILD_CHECK(pipe(p) == 0);
	creator = fork();
	TR_CHILD_CHECK(creator >= 0);
	if (creator == 0) {
		struct io_uring_params params = { .flags = IORING_SETUP_SQPOLL,
			                          .sq_thread_idle = 1 };

		TR_CHILD_CHECK(tr_init_params(&r, 4, &params, TR_ONE_MMAP) == 0);
		if (fork() == 0) {
			pid_t parent = getppid();

			kill(parent, SIGKILL);
			for (int i = 0; i < 500 && ret != -EOWNERDEAD; i++) {
				ret = tr_sys_enter(r.fd, 0, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0);
				usleep(10000);
			}
			(void)!write(p[1], &ret, sizeof(ret));
			_exit(0);
		}
		for (;;)
			pause();
	}
	TR_CHILD_CHECK(read(p[0], &ret, sizeof(ret)) == sizeof(ret));
	TR_CHILD_CHECK(ret == -EOWNERDEAD);
	TR_CHILD_CHECK(tr_wait_child(creator) == 128 + SIGKILL);
}

static void test_creator_of_sqpoll_dies(void **state)
{
	(void)state;
	assert_int_equal(in_child(creator_of_sqpoll_dies, 20), 0);
}

/* A process goes on without its first thread, and its ring with it. */
static struct tr_ring headless;

static char state_of(pid_t pid)
{
	char name[40], text[64], state = 0;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/stat", pid);
	f = fopen(name, "r");
	TR_CHILD_CHECK(f && fgets(text, sizeof(text), f));
	sscanf(strrchr(text, ')'), ") %c", &state);
	fclose(f);
	return state;
}

static void *goes_on(void *arg)
{
	pid_t pid;

	(void)arg;
	while (state_of(getpid()) != 'Z')
		tr_sleep_ms(1);
	pid = fork();
	if (pid == 0) {
		struct io_uring_cqe cqe;

		TR_CHILD_CHECK(tr_sys_enter(headless.fd, 0, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0) ==
		               0);
		tr_prep(&headless, IORING_OP_NOP, -1, NULL, 0, 0, 7);
		tr_publish(&headless);
		TR_CHILD_CHECK(tr_sys_enter(headless.fd, 1, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0) ==
		               1);
		TR_CHILD_CHECK(tr_wait(&headless, &cqe) == 0 && cqe.user_data == 7);
		_exit(0);
	}
	TR_CHILD_CHECK(tr_wait_child(pid) == 0);
	_exit(0);
}

static void first_thread_ends(void)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SQPOLL, .sq_thread_idle = 1 };
	pthread_t thread;

	TR_CHILD_CHECK(tr_init_params(&headless, 4, &params, TR_ONE_MMAP) == 0);
	TR_CHILD_CHECK(pthread_create(&thread, NULL, goes_on, NULL) == 0);
	pthread_exit(NULL);
}

static void test_first_thread_of_sqpoll_ends(void **state)
{
	(void)state;
	assert_int_equal(in_child(first_thread_ends, 20), 0);
}

/* The process that made the rings is gone before its children use them. */
static void creator_leaves(void)
{
	static struct tr_ring r[4];
	int fd = tr_temp_file(65536), done[2];
	char got[4];
	size_t n = 0;
	pid_t pid;

	TR_CHILD_CHECK(pipe(done) == 0);
	TR_CHILD_CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	pid = fork();
	if (pid == 0) {
		shared = mmap(NULL, 4 * 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		              -1, 0);
		for (int i = 0; i < 4; i++)
			TR_CHILD_CHECK(make_shared(&r[i], shared + i * 8192) == 0);
		read_some(&r[0], fd, 20, 7);
		for (int i = 0; i < 4; i++) {
			if (fork())
				continue;
			alarm(30);
			while (getppid() != 1 && kill(getppid(), 0) == 0 && n++ < 20)
				tr_sleep_ms(5);
			read_some(&r[i], fd, 50, (unsigned)i * 31);
			TR_CHILD_CHECK(write(done[1], "x", 1) == 1);
			_exit(0);
		}
		raise(SIGKILL);
	}
	TR_CHILD_CHECK(tr_wait_child(pid) == 128 + SIGKILL);
	close(done[1]);
	for (ssize_t k; (k = read(done[0], got, sizeof(got))) > 0;)
		n += (size_t)k;
	TR_CHILD_CHECK(n == 4);
	while (wait(NULL) > 0)
		;
}

static void test_creator_leaves(void **state)
{
	(void)state;
	assert_int_equal(in_child(creator_leaves, 50), 0);
}

/* A child is killed at some moment of its work on a ring that its parent goes on with. */
static void test_killed_at_random(void **state)
{
	enum { KILLS = 20 };
	static struct tr_ring r[RINGS];
	int fd = tr_temp_file(65536);
	unsigned seed = 12345;

	(void)state;
	make_all(r);
	for (int i = 0; i < KILLS; i++) {
		struct io_uring_cqe cqe;
		pid_t victim = fork();

		assert_true(victim >= 0);
		if (victim == 0) {
			alarm(30);
			for (;;)
				read_some(&r[i], fd, 100, (unsigned)i);
		}
		seed = seed * 1103515245 + 12345;
		usleep(seed / 65536 % 3000);
		kill(victim, SIGKILL);
		assert_int_equal(tr_wait_child(victim), 128 + SIGKILL);
		/* What the dead one was about to show may be half there: take it away. */
		r[i].sqe_tail = *r[i].sq_tail;
		while (*r[i].sq_head != *r[i].sq_tail)
			assert_true(tr_sys_enter(r[i].fd, 1, 0, 0, NULL, 0) >= 0);
		while (tr_wait_ms(&r[i], &cqe, 5) == 0)
			;
		tr_prep(&r[i], IORING_OP_NOP, -1, NULL, 0, 0, 77);
		assert_int_equal(tr_submit(&r[i]), 1);
		/* A worker of the kernel's may have been late. */
		do
			assert_int_equal(tr_wait_ms(&r[i], &cqe, 10000), 0);
		while (cqe.user_data != 77);
	}
	for (int i = 0; i < RINGS; i++)
		assert_int_equal(tr_sys_close(r[i].fd), 0);
	munmap(shared, RINGS * 8192);
	close(fd);
}

/*
 * Every SQE that a killed process's call has taken completes once: the heads and tails, which only
 * ever count up, are level in the end.
 */
static void test_killed_with_all_completed(void **state)
{
	enum { KILLS = 100, BATCH = 8 };
	static struct tr_ring r;
	int fd = tr_temp_file(65536);
	unsigned seed = 4711;

	(void)state;
	shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(shared != MAP_FAILED);
	assert_int_equal(make_shared(&r, shared), 0);
	for (int i = 0; i < KILLS; i++) {
		static unsigned char buf[BATCH][256];
		struct io_uring_cqe cqe;
		pid_t victim = fork();

		assert_true(victim >= 0);
		if (victim == 0) {
			static const uint8_t ops[] = { IORING_OP_NOP, IORING_OP_READ };

			alarm(30);
			r.sqe_tail = *r.sq_tail;
			for (unsigned k = 0;; k++) {
				for (int n = 0; n < BATCH; n++)
					tr_prep(&r, ops[(k + (unsigned)n) % 2], fd, buf[n],
					        sizeof(buf[n]), 256, k);
				TR_CHILD_CHECK(tr_submit(&r) == BATCH);
				for (int n = 0; n < BATCH; n++)
					TR_CHILD_CHECK(tr_wait(&r, &cqe) == 0);
			}
		}
		seed = seed * 1103515245 + 12345;
		usleep(300 + seed / 65536 % 1000);
		kill(victim, SIGKILL);
		assert_int_equal(tr_wait_child(victim), 128 + SIGKILL);
		r.sqe_tail = *r.sq_tail;
		while (*r.sq_head != *r.sq_tail)
			assert_true(tr_sys_enter(r.fd, 1, 0, 0, NULL, 0) >= 0);
		do
			*r.cq_head = *(volatile uint32_t *)r.cq_tail;
		while (*r.cq_head != *r.sq_head && tr_wait_ms(&r, &cqe, 10000) == 0);
		assert_int_equal(*r.cq_tail, *r.sq_head);
	}
	assert_int_equal(tr_wait_ms(&r, &(struct io_uring_cqe){ 0 }, 300), -ETIME);
	assert_int_equal(tr_sys_close(r.fd), 0);
	munmap(shared, 8192);
	close(fd);
}

/* ---- other ways to have children ---- */

TR_ONE_RING(8);

static void check_ring(void)
{
	int p[2];
	char c;
	struct io_uring_cqe cqe;

	assert_int_equal(pipe(p), 0);
	tr_prep(&ring, IORING_OP_READ, p[0], &c, 1, 0, 3);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 10000), 0);
	assert_int_equal(cqe.res, 1);
	close(p[0]);
	close(p[1]);
}

static volatile int sigsys_seen;

static void on_sigsys(int sig)
{
	(void)sig;
	sigsys_seen++;
}

static void test_vfork(void **state)
{
	(void)state;
	signal(SIGSYS, on_sigsys);
	signal(SIGUSR1, on_sigsys);
	for (volatile int i = 0; i < 10; i++) {
		pid_t pid = vfork();

		if (pid == 0) {
			/* What shells do before they exec. */
			signal(SIGSYS, SIG_DFL);
			signal(SIGUSR1, SIG_IGN);
			if (i % 2)
				tr_sys_close(99);
			execl("/bin/true", "true", (char *)NULL);
			_exit(1);
		}
		assert_true(pid > 0);
		assert_int_equal(tr_wait_child(pid), 0);
		check_ring();
	}
	sigsys_seen = 0;
	raise(SIGSYS);
	raise(SIGUSR1);
	assert_int_equal(sigsys_seen, 2);
	assert_ptr_equal(signal(SIGSYS, SIG_DFL), on_sigsys);
	assert_ptr_equal(signal(SIGUSR1, SIG_DFL), on_sigsys);
}

static void test_spawn(void **state)
{
	char *const argv[] = { (char *)"sh", (char *)"-c",
		               (char *)"grep -q '^SigBlk:.*0000000040000200$' /proc/self/status",
		               NULL };
	posix_spawnattr_t attr;
	sigset_t defaults, mask;

	(void)state;
	assert_int_equal(posix_spawnattr_init(&attr), 0);
	sigfillset(&defaults);
	sigemptyset(&mask);
	sigaddset(&mask, SIGSYS);
	sigaddset(&mask, SIGUSR1);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setsigmask(&attr, &mask);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	for (int i = 0; i < 10; i++) {
		pid_t pid;

		assert_int_equal(posix_spawn(&pid, "/bin/sh", NULL, &attr, argv, environ), 0);
		check_ring();
		/* SIGUSR1 and SIGSYS are 10 and 31: the child's mask is what was asked for. */
		tr_wait_child(pid);
	}
	posix_spawnattr_destroy(&attr);
	assert_int_equal(system("exit 0"), 0);
	check_ring();
}

static void daemonises(void)
{
	struct tr_ring r;
	int p[2], answer[2];
	char c = 0;

	TR_CHILD_CHECK(pipe(p) == 0 && pipe(answer) == 0);
	TR_CHILD_CHECK(tr_init(&r, 8, 0) == 0);
	tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1)->flags = IOSQE_ASYNC;
	TR_CHILD_CHECK(tr_submit_wait(&r, 1) == 1);
	tr_seen(&r);
	if (fork() == 0) {
		TR_CHILD_CHECK(daemon(1, 0) == 0);
		alarm(20);
		for (unsigned i = 2; i < 50; i++) {
			struct io_uring_cqe cqe;

			tr_prep(&r, IORING_OP_READ, p[0], &c, 1, 0, i);
			if (tr_submit(&r) != 1 || write(p[1], "x", 1) != 1 || tr_wait(&r, &cqe) ||
			    cqe.user_data != i || cqe.res != 1)
				_exit(1);
		}
		if (write(answer[1], "k", 1) != 1)
			_exit(1);
		_exit(0);
	}
	close(answer[1]);
	TR_CHILD_CHECK(wait(NULL) > 0);
	TR_CHILD_CHECK(read(answer[0], &c, 1) == 1 && c == 'k');
	/* Here too. */
	r.sqe_tail = *r.sq_tail;
	TR_CHILD_CHECK(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0) == 0);
}

static void test_daemon(void **state)
{
	(void)state;
	assert_int_equal(in_child(daemonises, 30), 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_shared_by_many),
	cmocka_unit_test(test_submit_here_wait_there),
	cmocka_unit_test(test_any_waits),
	cmocka_unit_test(test_creator_leaves),
	cmocka_unit_test(test_killed_at_random),
	cmocka_unit_test(test_killed_with_all_completed),
	ON_RING(test_vfork),
	ON_RING(test_spawn),
	cmocka_unit_test(test_daemon),
	cmocka_unit_test(test_killed_and_not_waited_for),
	cmocka_unit_test(test_creator_of_sqpoll_dies),
	cmocka_unit_test(test_first_thread_of_sqpoll_ends),
};

TR_MAIN("home family", tests)
