/*
 * seccomp/filter.c where the kernel's limit for all filters of a process leaves room for some of
 * the call sites only: what fits is served, and a listener that is there is not lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "seccomp/filter.h"

/* Instructions of all filters together, with some more for each that is there. */
#define LIMIT    32768U
#define LONGEST  4096U
#define SHORTEST 8U
#define EXTRA    12U

#define RANGES 600

static struct fu_range ranges[RANGES];

#define CHECK(cond)                                                              \
	do {                                                                     \
		if (!(cond)) {                                                   \
			fprintf(stderr, "%d: %s: %d\n", __LINE__, #cond, errno); \
			_exit(1);                                                \
		}                                                                \
	} while (0)

static bool fill(unsigned len)
{
	static struct sock_filter code[LONGEST];
	struct sock_fprog prog = { (unsigned short)len, code };

	for (unsigned i = 0; i < len - 1; i++)
		code[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
	code[len - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

/* Leaves room for so many instructions. */
static void use_up(unsigned left)
{
	unsigned used = 0, most = LIMIT - left;

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	while (used + EXTRA + 1 < most) {
		unsigned len = most - used - EXTRA < LONGEST ? most - used - EXTRA : LONGEST;

		CHECK(fill(len));
		used += len + EXTRA;
	}
}

static int filters(void)
{
	char line[128];
	int n = -1;
	FILE *f = fopen("/proc/self/status", "r");

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "Seccomp_filters: %d", &n);
	fclose(f);
	return n;
}

static void some_fit(void)
{
	int before;

	use_up(1500);
	before = filters();
	CHECK(fu_filter_install(FU_FILTER_TRAP, ranges, RANGES) == 0);
	CHECK(fu_filter_is_incomplete());
	CHECK(before < 0 || filters() > before + 1);
	/* Those that it has are not asked for again. */
	before = filters();
	CHECK(fu_filter_install(FU_FILTER_TRAP, ranges, 1) == 0);
	CHECK(filters() == before);
}

static void listener_stays(void)
{
	long fd;

	use_up(1500);
	fd = fu_filter_install(FU_FILTER_NOTIFY, ranges, RANGES);
	if (fd == -EINVAL || fd == -EBUSY)
		_exit(77);
	CHECK(fd >= 0);
	CHECK(fcntl((int)fd, F_GETFD) >= 0);
	CHECK(fu_filter_is_incomplete());
}

static void none_fits(void)
{
	use_up(200);
	while (fill(SHORTEST))
		;
	CHECK(fu_filter_install(FU_FILTER_TRAP, ranges, RANGES) == -ENOMEM);
	CHECK(fu_filter_is_incomplete());
}

static void all_fit(void)
{
	CHECK(fu_filter_install(FU_FILTER_TRAP, ranges, RANGES) == 0);
	CHECK(!fu_filter_is_incomplete());
}

static int run(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_some_fit(void **state)
{
	(void)state;
	assert_int_equal(run(some_fit), 0);
}

static void test_listener_stays(void **state)
{
	int ret = run(listener_stays);

	(void)state;
	if (ret == 77)
		skip();
	assert_int_equal(ret, 0);
}

static void test_none_fits(void **state)
{
	(void)state;
	assert_int_equal(run(none_fits), 0);
}

static void test_all_fit(void **state)
{
	(void)state;
	assert_int_equal(run(all_fit), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_some_fit),
		cmocka_unit_test(test_listener_stays),
		cmocka_unit_test(test_none_fits),
		cmocka_unit_test(test_all_fit),
	};

	/* Where no code is. */
	for (unsigned i = 0; i < RANGES; i++)
		ranges[i] = (struct fu_range){ 16 * i + 16, 16 * i + 18 };
	return cmocka_run_group_tests_name("filter", tests, NULL, NULL);
}
