/*
 * The last values of the statistics are never lost: engine/stats.c while another thread is in the
 * middle of writing the line, where a filter makes it stay.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine/counters.h"
#include "engine/stats.h"
#include "tests/call_filter.h"

#define LONG_US 200000

static char path[64];
static u32 inside; /* somebody is about to write; atomic */
static bool for_good;

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* Instead of pwrite64: the same, later. */
static void on_write(int sig, siginfo_t *si, void *context)
{
	greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
	long ret;

	(void)sig;
	(void)si;
	fu_store_release(&inside, 1);
	do
		usleep(LONG_US);
	while (for_good);
	ret = syscall(SYS_lseek, (int)r[REG_RDI], r[REG_R10], SEEK_SET);
	if (ret >= 0)
		ret = syscall(SYS_write, (int)r[REG_RDI], r[REG_RSI], r[REG_RDX]);
	r[REG_RAX] = ret;
}

static void *writes_slowly(void *arg)
{
	must(filter_call(SYS_pwrite64, 0, 0, SECCOMP_RET_TRAP));
	fu_stats_flush();
	return arg;
}

/* Returns when the thread has taken down what it writes, and is about to. */
static pthread_t begin(void)
{
	struct sigaction act = { .sa_sigaction = on_write, .sa_flags = SA_SIGINFO };
	pthread_t thread;

	sigaction(SIGSYS, &act, NULL);
	fu_stats_init(path, "stats");
	fu_stats_touch();
	must(pthread_create(&thread, NULL, writes_slowly, NULL) == 0);
	while (!fu_load_acquire(&inside))
		usleep(100);
	FU_COUNT(sqes, 7);
	return thread;
}

static void process_ends(void)
{
	pthread_detach(begin());
	fu_stats_end();
}

static void other_never_writes(void)
{
	for_good = true;
	process_ends();
}

static void ring_ends(void)
{
	pthread_t thread = begin();

	fu_stats_flush();
	pthread_join(thread, NULL);
}

static void has_no_descriptors_left(void)
{
	struct rlimit none;

	fu_stats_init(path, "stats");
	fu_stats_touch();
	FU_COUNT(sqes, 7);
	must(getrlimit(RLIMIT_NOFILE, &none) == 0);
	none.rlim_cur = 3;
	must(setrlimit(RLIMIT_NOFILE, &none) == 0);
	while (dup(0) >= 0)
		;
	fu_stats_end();
}

/* Runs fn in a child, whose line then is to have its last values. */
static void check(void (*fn)(void))
{
	char text[4096] = "";
	pid_t pid = fork();
	int fd, status;

	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(30);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	assert_non_null(strstr(text, "\"sqes\":7,"));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static int setup(void **state)
{
	int fd;

	(void)state;
	strcpy(path, "/tmp/fu-stats-XXXXXX");
	fd = mkstemp(path);
	return fd < 0 || close(fd);
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

#define CASE(fn)                            \
	static void test_##fn(void **state) \
	{                                   \
		(void)state;                \
		check(fn);                  \
	}

CASE(process_ends)
CASE(other_never_writes)
CASE(ring_ends)
CASE(has_no_descriptors_left)

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FILE(test_process_ends),
		WITH_FILE(test_other_never_writes),
		WITH_FILE(test_ring_ends),
		WITH_FILE(test_has_no_descriptors_left),
	};

	return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
