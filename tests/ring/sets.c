/*
 * Threads that each wait on a ring of their own: what one waits for is not another's business, and
 * goes on when the thread does something else, leaves the ring to others, jumps out of its wait or
 * ends.
 */
#include "tests/ring_util.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS 4
#define ROUNDS  1000

/* Outlives all of a test's threads, whose rings are not the first to have anything armed. */
static struct tr_ring first;
static int first_pipe[2];

static int setup(void **state)
{
	static char c;

	(void)state;
	if (tr_init(&first, 8, 0) || pipe(first_pipe))
		return -1;
	tr_prep(&first, IORING_OP_READ, first_pipe[0], &c, 1, (__u64)-1, 99);
	return tr_submit(&first) != 1;
}

static int teardown(void **state)
{
	(void)state;
	if (write(first_pipe[1], "x", 1) != 1)
		return -1;
	tr_expect(&first, 99, 1, 0);
	tr_exit(&first);
	close(first_pipe[0]);
	close(first_pipe[1]);
	return 0;
}

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void arm_read(struct tr_ring *r, int fd, void *c, __u64 user_data)
{
	tr_prep(r, IORING_OP_READ, fd, c, 1, (__u64)-1, user_data);
}

/* Until there is a CQE, which is to come though nobody enters. */
static void spin_for(struct tr_ring *r, __u64 user_data)
{
	for (int i = 0; !tr_peek(r); i++) {
		must(i < 10000);
		tr_sleep_ms(1);
	}
	must(tr_peek(r)->user_data == user_data && tr_peek(r)->res == 1);
	tr_seen(r);
}

/* ---- a token goes round ---- */

struct station {
	int from, to;
	bool starts;
};

static void *pass_on(void *arg)
{
	const struct station *s = arg;
	struct tr_ring r;
	char c = 'x';

	must(tr_init(&r, 8, 0) == 0);
	for (int i = 0; i < ROUNDS; i++) {
		if (!s->starts || i) {
			arm_read(&r, s->from, &c, 1);
			must(tr_run(&r, 1) == 1);
		}
		tr_prep(&r, IORING_OP_WRITE, s->to, &c, 1, (__u64)-1, 2);
		must(tr_run(&r, 2) == 1);
	}
	if (s->starts) {
		arm_read(&r, s->from, &c, 1);
		must(tr_run(&r, 1) == 1);
	}
	tr_exit(&r);
	return NULL;
}

/* How many there are once what went before has closed its own, which may take a moment. */
static int settled_fds(void)
{
	int fds = tr_count_dir("fd");

	for (int quiet = 0; quiet < 20; quiet++) {
		int now;

		tr_sleep_ms(1);
		now = tr_count_dir("fd");
		if (now < fds) {
			fds = now;
			quiet = 0;
		}
	}
	return fds;
}

static void test_token(void **state)
{
	struct station stations[THREADS];
	int pair[THREADS][2], fds = settled_fds();
	pthread_t t[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair[i]), 0);
	for (int i = 0; i < THREADS; i++) {
		stations[i].from = pair[i][0];
		stations[i].to = pair[(i + 1) % THREADS][1];
		stations[i].starts = i == 0;
		assert_int_equal(pthread_create(&t[i], NULL, pass_on, &stations[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(t[i], NULL);
		close(pair[i][0]);
		close(pair[i][1]);
	}
	/* Nothing of the rings is left. Fewer than before is something else that has ended. */
	for (int i = 0; i < 1000 && tr_count_dir("fd") > fds; i++)
		tr_sleep_ms(1);
	assert_true(tr_count_dir("fd") <= fds);
}

/* ---- without the thread ---- */

static void *goes_away(void *arg)
{
	int p[2], q[2];
	struct tr_ring r;
	char c[2];

	(void)arg;
	must(pipe(p) == 0 && pipe(q) == 0 && tr_init(&r, 8, 0) == 0);
	for (unsigned i = 0; i < 20; i++) {
		/* Waited for once, then not: what is armed comes all the same. */
		arm_read(&r, p[0], &c[0], 1);
		arm_read(&r, q[0], &c[1], 2);
		must(tr_submit(&r) == 2);
		must(write(p[1], "1", 1) == 1);
		tr_expect(&r, 1, 1, 0);
		must(write(q[1], "2", 1) == 1);
		spin_for(&r, 2);
	}
	close(p[0]);
	close(p[1]);
	close(q[0]);
	close(q[1]);
	tr_exit(&r);
	return NULL;
}

static void test_thread_goes_away(void **state)
{
	(void)state;
	tr_in_thread(goes_away, NULL);
}

struct left {
	struct tr_ring r;
	int p[2];
	char c[4];
};

static void *leaves(void *arg)
{
	struct left *l = arg;

	must(tr_init(&l->r, 8, 0) == 0);
	arm_read(&l->r, l->p[0], &l->c[0], 1);
	must(tr_submit(&l->r) == 1);
	must(write(l->p[1], "1", 1) == 1);
	tr_expect(&l->r, 1, 1, 0);
	return NULL;
}

/* The ring of a thread that has ended goes on in others, two of which wait at once. */
static void *waits(void *arg)
{
	struct left *l = arg;

	must(tr_sys_enter(l->r.fd, 0, 2, IORING_ENTER_GETEVENTS, NULL, 0) == 0);
	return NULL;
}

static void test_ring_changes_hands(void **state)
{
	struct left l;
	pthread_t t[2];

	(void)state;
	assert_int_equal(pipe(l.p), 0);
	tr_in_thread(leaves, &l);
	arm_read(&l.r, l.p[0], &l.c[1], 2);
	arm_read(&l.r, l.p[0], &l.c[2], 3);
	assert_int_equal(tr_submit(&l.r), 2);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, waits, &l), 0);
	tr_sleep_ms(20);
	assert_int_equal(write(l.p[1], "2", 1), 1);
	tr_sleep_ms(20);
	assert_int_equal(write(l.p[1], "3", 1), 1);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(tr_ready(&l.r), 2);
	tr_expect(&l.r, tr_peek(&l.r)->user_data, 1, 0);
	tr_expect(&l.r, tr_peek(&l.r)->user_data, 1, 0);
	tr_exit(&l.r);
	close(l.p[0]);
	close(l.p[1]);
}

static sigjmp_buf back;

static void jump(int sig)
{
	(void)sig;
	siglongjmp(back, 1);
}

static void *jumps(void *arg)
{
	struct left *l = arg;
	volatile int jumped = 0;

	must(tr_init(&l->r, 8, 0) == 0);
	arm_read(&l->r, l->p[0], &l->c[0], 1);
	must(tr_submit(&l->r) == 1);
	while (jumped < 5) {
		if (sigsetjmp(back, 1)) {
			jumped++;
			continue;
		}
		ualarm(20000, 0);
		tr_sys_enter(l->r.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
		must(false);
	}
	must(write(l->p[1], "1", 1) == 1);
	spin_for(&l->r, 1);
	arm_read(&l->r, l->p[0], &l->c[0], 2);
	must(tr_submit(&l->r) == 1);
	must(write(l->p[1], "2", 1) == 1);
	tr_expect(&l->r, 2, 1, 0);
	tr_exit(&l->r);
	return NULL;
}

static void test_jumps_out(void **state)
{
	struct sigaction act = { .sa_handler = jump }, old;
	sigset_t alarm;
	struct left l;
	pthread_t t;

	(void)state;
	assert_int_equal(pipe(l.p), 0);
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigaction(SIGALRM, &act, &old);
	assert_int_equal(pthread_create(&t, NULL, jumps, &l), 0);
	/* The alarm is the thread's. */
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	pthread_join(t, NULL);
	sigaction(SIGALRM, &old, NULL);
	pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
	close(l.p[0]);
	close(l.p[1]);
}

/* A child of the thread has the ring too; what either arms comes, and whoever waits has it. */
static void *forks(void *arg)
{
	struct left *in = arg;
	pid_t pid;

	leaves(in);
	for (int round = 0; round < 3; round++) {
		pid = fork();
		must(pid >= 0);
		if (pid == 0) {
			alarm(20);
			arm_read(&in->r, in->p[0], &in->c[0], 2);
			TR_CHILD_CHECK(tr_submit(&in->r) == 1);
			TR_CHILD_CHECK(write(in->p[1], "2", 1) == 1);
			tr_expect(&in->r, 2, 1, 0);
			_exit(0);
		}
		must(tr_wait_child(pid) == 0);
		/* What the child has taken is not in our copy of the indices. */
		in->r.sqe_tail = *in->r.sq_tail;
		arm_read(&in->r, in->p[0], &in->c[1], 3);
		must(tr_submit(&in->r) == 1);
		must(write(in->p[1], "3", 1) == 1);
		tr_expect(&in->r, 3, 1, 0);
		arm_read(&in->r, in->p[0], &in->c[1], 4);
		must(tr_submit(&in->r) == 1);
		must(write(in->p[1], "4", 1) == 1);
		spin_for(&in->r, 4);
	}
	return NULL;
}

static void test_fork_in_thread(void **state)
{
	struct left l;

	(void)state;
	assert_int_equal(pipe(l.p), 0);
	tr_in_thread(forks, &l);
	tr_exit(&l.r);
	close(l.p[0]);
	close(l.p[1]);
}

/* ---- a set each ---- */

static int epoll_sets(void)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *e;
	int n = 0;

	assert_non_null(dir);
	while ((e = readdir(dir))) {
		char path[300], to[64] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%s", e->d_name);
		if (readlink(path, to, sizeof(to) - 1) > 0)
			n += strcmp(to, "anon_inode:[eventpoll]") == 0;
	}
	closedir(dir);
	return n;
}

static void test_a_set_each(void **state)
{
	struct left l[3];
	int before = epoll_sets();

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pipe(l[i].p), 0);
		tr_in_thread(leaves, &l[i]);
	}
	/* The kernel's rings have none. */
	if (tr_under_shim())
		assert_int_equal(epoll_sets() - before, 3);
	for (int i = 0; i < 3; i++) {
		tr_exit(&l[i].r);
		close(l[i].p[0]);
		close(l[i].p[1]);
	}
	for (int i = 0; i < 1000 && epoll_sets() > before; i++)
		tr_sleep_ms(1);
	assert_int_equal(epoll_sets(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_RING(test_token),
		ON_RING(test_thread_goes_away),
		ON_RING(test_ring_changes_hands),
		ON_RING(test_jumps_out),
		ON_RING(test_a_set_each),
		ON_RING(test_fork_in_thread),
	};

	return tr_run_group("sets", tests, sizeof(tests) / sizeof(tests[0]));
}
