/*
 * Processes that die between what they have done to a shared ring and telling the others of it: a
 * filter kills them at the system call that would. The kernel makes no such call, and they die a
 * little later. And processes whose ids say nothing about whether they live.
 */
#include "tests/home/home.h"

#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>

#include "tests/call_filter.h"

#define SETUP_SINGLE_ISSUER (1U << 12)

#define FUTEX_COMMAND 0x7f
#define FUTEX_WAKE    1

/* From now on the process dies when it makes call `nr` with `second & mask` as second argument. */
static void die_at(unsigned nr, unsigned mask, unsigned second)
{
	TR_CHILD_CHECK(filter_call(nr, mask, second, SECCOMP_RET_KILL_PROCESS));
}

static void post_and_die(struct tr_ring *r)
{
	tr_prep(r, IORING_OP_NOP, -1, NULL, 0, 0, 7);
	tr_submit(r);
	raise(SIGKILL);
}

TR_ONE_RING(8);

static void waits(void)
{
	struct io_uring_cqe cqe;
	pid_t pid = fork();

	TR_CHILD_CHECK(pid >= 0);
	if (pid == 0) {
		tr_sleep_ms(100);
		die_at(SYS_futex, FUTEX_COMMAND, FUTEX_WAKE);
		post_and_die(&ring);
	}
	TR_CHILD_CHECK(tr_wait(&ring, &cqe) == 0);
	TR_CHILD_CHECK(cqe.user_data == 7 && cqe.res == 0);
	TR_CHILD_CHECK(tr_wait_child(pid) >= 128);
}

static void test_before_the_wake_up(void **state)
{
	(void)state;
	assert_int_equal(in_child(waits, 30), 0);
}

/* The ring is watched; a child posts in it and dies before it has told the ring's descriptor. */
static void post_untold(struct pollfd *pfd)
{
	pid_t pid;

	TR_CHILD_CHECK(poll(pfd, 1, 0) == 0);
	pid = fork();
	TR_CHILD_CHECK(pid >= 0);
	if (pid == 0) {
		/* It has told the others that it uses the ring, too. */
		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 6)->flags = IOSQE_CQE_SKIP_SUCCESS;
		TR_CHILD_CHECK(tr_submit(&ring) == 1);
		die_at(SYS_sendto, 0, 0);
		post_and_die(&ring);
	}
	TR_CHILD_CHECK(tr_wait_child(pid) >= 128);
}

static void polls(void)
{
	struct pollfd pfd = { .fd = ring.fd, .events = POLLIN };

	post_untold(&pfd);
	TR_CHILD_CHECK(poll(&pfd, 1, -1) == 1);
	TR_CHILD_CHECK(tr_peek(&ring) && tr_peek(&ring)->user_data == 7);
	tr_seen(&ring);
	TR_CHILD_CHECK(poll(&pfd, 1, 0) == 0);
}

static void test_before_the_descriptor(void **state)
{
	(void)state;
	assert_int_equal(in_child(polls, 30), 0);
}

/* One that is watched already: what others post next is seen. */
static void posts_next(void)
{
	struct pollfd pfd = { .fd = ring.fd, .events = POLLIN };

	post_untold(&pfd);
	ring.sqe_tail = *ring.sq_tail;
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 8);
	TR_CHILD_CHECK(tr_submit(&ring) == 1);
	/* Nothing interposed sees this. */
	TR_CHILD_CHECK(RAW(SYS_poll, &pfd, 1, -1) == 1);
}

static void test_before_the_next(void **state)
{
	(void)state;
	assert_int_equal(in_child(posts_next, 30), 0);
}

/* ---- process ids that mean something else elsewhere ---- */

#define NO_NAMESPACES 77

/* Whether the next child is the first of a pid namespace. */
static bool enter_namespace(void)
{
	return unshare(CLONE_NEWPID) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0;
}

/* Runs fn as the first process of a pid namespace; its exit status. */
static int in_namespace(void (*fn)(void))
{
	pid_t pid;

	if (!enter_namespace())
		return NO_NAMESPACES;
	pid = fork();
	if (pid == 0) {
		TR_CHILD_CHECK(getpid() == 1);
		fn();
		_exit(0);
	}
	return pid < 0 ? -1 : tr_wait_child(pid);
}

static void is_no_issuer(void)
{
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2);
	TR_CHILD_CHECK(tr_submit(&ring) == -EEXIST);
}

static void issues_alone(void)
{
	TR_CHILD_CHECK(tr_init(&ring, 8, SETUP_SINGLE_ISSUER) == 0);
	TR_CHILD_CHECK(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0) == 0);
	_exit(in_namespace(is_no_issuer));
}

static void nest(void)
{
	_exit(in_namespace(issues_alone));
}

/* Where namespaces can be had. */
static void must_pass(void (*fn)(void))
{
	int ret = in_child(fn, 30);

	if (ret == NO_NAMESPACES)
		skip();
	assert_int_equal(ret, 0);
}

static void test_same_id(void **state)
{
	(void)state;
	must_pass(nest);
}

static int p[2], go[2];

static void reads_and_lives(void)
{
	static char c;

	/* So that none of its threads has the number of one that lives outside. */
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		TR_CHILD_CHECK(tr_wait_child(pid) == 0);
	}
	/* And that these are there. */
	tr_prep(&ring, IORING_OP_READ, p[0], &c, 1, 0, 2);
	TR_CHILD_CHECK(tr_submit(&ring) == 1);
	TR_CHILD_CHECK(RAW(SYS_write, p[1], "x", 1) == 1);
	while (!tr_peek(&ring))
		tr_sleep_ms(1);
	tr_seen(&ring);
	tr_prep(&ring, IORING_OP_READ, p[0], &c, 1, 0, 3);
	TR_CHILD_CHECK(tr_submit(&ring) == 1);
	TR_CHILD_CHECK(write(go[1], "x", 1) == 1);
	tr_sleep_ms(1000);
	TR_CHILD_CHECK(write(p[1], "x", 1) == 1);
	(void)!read(go[0], &c, 1);
}

/* What waits in one is not taken for a dead process's in another. */
static void waits_outside(void)
{
	struct io_uring_cqe cqe;
	pid_t pid;
	char c;

	TR_CHILD_CHECK(pipe(p) == 0 && pipe(go) == 0);
	if (!enter_namespace())
		_exit(NO_NAMESPACES);
	pid = fork();
	if (pid == 0) {
		reads_and_lives();
		_exit(0);
	}
	TR_CHILD_CHECK(read(go[0], &c, 1) == 1);
	TR_CHILD_CHECK(tr_wait(&ring, &cqe) == 0);
	TR_CHILD_CHECK(cqe.user_data == 3 && cqe.res == 1);
	TR_CHILD_CHECK(write(go[1], "x", 1) == 1);
	_exit(tr_wait_child(pid));
}

static void nest_two(void)
{
	_exit(in_namespace(waits_outside));
}

static void test_other_ids(void **state)
{
	(void)state;
	must_pass(nest_two);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_same_id),
	ON_RING(test_other_ids),
	ON_RING(test_before_the_wake_up),
	ON_RING(test_before_the_descriptor),
	ON_RING(test_before_the_next),
};

TR_MAIN("home deaths", tests)
