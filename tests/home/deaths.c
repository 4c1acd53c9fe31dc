/*
 * Processes that die between what they have done to a shared ring and telling the others of it: a
 * filter kills them at the system call that would. The kernel makes no such call, and they die a
 * little later.
 */
#include "tests/home/home.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define FUTEX_COMMAND 0x7f
#define FUTEX_WAKE    1

/* From now on the process dies when it makes call `nr` with `second & mask` as second argument. */
static void die_at(unsigned nr, unsigned mask, unsigned second)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, second, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	TR_CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	TR_CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
}

static void post_and_die(struct tr_ring *r)
{
	tr_prep(r, IORING_OP_NOP, -1, NULL, 0, 0, 7);
	tr_submit(r);
	raise(SIGKILL);
}

static struct tr_ring ring;

static int setup(void **state)
{
	(void)state;
	return tr_init(&ring, 8, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	return 0;
}

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

static void polls(void)
{
	struct pollfd pfd = { .fd = ring.fd, .events = POLLIN };
	pid_t pid;

	TR_CHILD_CHECK(poll(&pfd, 1, 0) == 0);
	pid = fork();
	TR_CHILD_CHECK(pid >= 0);
	if (pid == 0) {
		die_at(SYS_sendto, 0, 0);
		post_and_die(&ring);
	}
	TR_CHILD_CHECK(tr_wait_child(pid) >= 128);
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
	pid_t pid;

	TR_CHILD_CHECK(poll(&pfd, 1, 0) == 0);
	pid = fork();
	TR_CHILD_CHECK(pid >= 0);
	if (pid == 0) {
		die_at(SYS_sendto, 0, 0);
		post_and_die(&ring);
	}
	TR_CHILD_CHECK(tr_wait_child(pid) >= 128);
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

static const struct CMUnitTest tests[] = {
	ON_RING(test_before_the_wake_up),
	ON_RING(test_before_the_descriptor),
	ON_RING(test_before_the_next),
};

TR_MAIN("home deaths", tests)
