/*
 * The readability of a ring's descriptor when it is raised and lowered at the same time: after that
 * nobody may say that it is raised unless it is readable, or the next completion goes untold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rings/ring.h"

enum { ROUNDS = 100000, DELAYS = 500 };

static struct fu_ctrl ctrl;
static int prog, peer;
static u32 begun, done; /* atomic */

static void await(const u32 *at, u32 round)
{
	for (int i = 0; fu_load_acquire(at) != round; i++) {
		if (i > 10000)
			sched_yield();
	}
}

static void *raises(void *arg)
{
	for (u32 i = 1; i <= ROUNDS; i++) {
		await(&begun, i);
		fu_ringfd_raise(&ctrl, peer);
		fu_store_release(&done, i);
	}
	return arg;
}

static void test_raised_while_lowered(void **state)
{
	struct pollfd pfd = { .events = POLLIN };
	pthread_t t;
	u64 ino;

	(void)state;
	assert_int_equal(fu_ringfd_create(&prog, &peer, &ino), 0);
	pfd.fd = prog;
	assert_int_equal(pthread_create(&t, NULL, raises, NULL), 0);
	for (u32 i = 1; i <= ROUNDS; i++) {
		fu_ringfd_raise(&ctrl, peer);
		fu_store_release(&begun, i);
		for (volatile u32 n = 0; n < i % DELAYS; n++)
			;
		fu_ringfd_lower(&ctrl, prog);
		await(&done, i);
		assert_false(fu_ringfd_is_raised(&ctrl) && poll(&pfd, 1, 0) == 0);
	}
	pthread_join(t, NULL);
	close(prog);
	close(peer);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_raised_while_lowered),
};

int main(void)
{
	return cmocka_run_group_tests_name("ringfd", tests, NULL, NULL);
}
