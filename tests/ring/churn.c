/*
 * 10,000 rings created and closed in a loop leave no descriptor, no thread and
 * no memory behind; running out of descriptors is an error and nothing more.
 */
#include "tests/ring_util.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define ROUNDS 5000 /* twice, once for each way in */

struct usage {
	int fds;
	int tasks;
	long maps;
	long vm_kb;
	long rss_kb;
};

static long status_kb(const char *key)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	long kb = -1;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)) == 0)
			kb = strtol(line + strlen(key), NULL, 10);
	}
	fclose(f);
	return kb;
}

static long count_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	long n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n++;
	fclose(f);
	return n;
}

static struct usage measure(void)
{
	return (struct usage){ .fds = tr_count_dir("fd"),
		               .tasks = tr_count_dir("task"),
		               .maps = count_maps(),
		               .vm_kb = status_kb("VmSize:"),
		               .rss_kb = status_kb("VmRSS:") };
}

static void one_ring(unsigned i)
{
	struct tr_ring r;

	assert_int_equal(tr_init(&r, 8, 0), 0);
	if (i % 4 == 0)
		assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	if (i % 16 == 0) {
		/* Closed with work on a worker and in the poller. */
		int p[2];
		char c;

		assert_int_equal(pipe(p), 0);
		tr_prep(&r, IORING_OP_READ, p[0], &c, 1, 0, 1);
		tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 2)->flags = IOSQE_ASYNC;
		assert_int_equal(tr_submit(&r), 2);
		close(p[0]);
		close(p[1]);
	}
	tr_exit(&r);
}

/* Ending a ring is asynchronous: waits for what it holds to come down to `limit`. */
static struct usage settle(const struct usage *limit)
{
	struct usage now = measure();

	for (int i = 0; i < 1000; i++) {
		if (now.fds <= limit->fds && now.tasks <= limit->tasks && now.maps <= limit->maps)
			break;
		tr_sleep_ms(10);
		now = measure();
	}
	return now;
}

static void test_nothing_left(void **state)
{
	struct usage before, after;

	(void)state;
	for (unsigned i = 0; i < 64; i++)
		one_ring(i);
	tr_sleep_ms(200);
	before = measure();
	for (unsigned i = 0; i < ROUNDS; i++)
		one_ring(i);
	/* Threads that were busy with it may linger; 5000 rings' worth of anything may not. */
	struct usage limit = { .fds = before.fds + 4,
		               .tasks = before.tasks + 8,
		               .maps = before.maps + 24 };

	after = settle(&limit);
	printf("fds %d -> %d, tasks %d -> %d, maps %ld -> %ld, VmSize %ld -> %ld kB, VmRSS %ld -> "
	       "%ld kB\n",
	       before.fds, after.fds, before.tasks, after.tasks, before.maps, after.maps,
	       before.vm_kb, after.vm_kb, before.rss_kb, after.rss_kb);
	assert_true(after.fds <= limit.fds);
	assert_true(after.tasks <= limit.tasks);
	assert_true(after.maps <= limit.maps);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	/* A leak of one page per ring would be 20 MB. */
	assert_true(after.rss_kb <= before.rss_kb + 4096);
	assert_true(after.vm_kb <= before.vm_kb + 65536 + 8 * 8192);
#endif
}

static void test_many_at_once(void **state)
{
	enum { COUNT = 200 };
	static struct tr_ring r[COUNT];

	(void)state;
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(tr_init(&r[i], 4, 0), 0);
	for (int k = 0; k < 3; k++) {
		for (int i = 0; i < COUNT; i++)
			assert_int_equal(tr_do(&r[i], IORING_OP_NOP, -1, NULL, 0, 0), 0);
	}
	/* Closed in another order than they were made. */
	for (int i = 0; i < COUNT; i += 2)
		tr_exit(&r[i]);
	for (int i = COUNT - 1; i > 0; i -= 2)
		tr_exit(&r[i]);
}

static void test_out_of_descriptors(void **state)
{
	struct rlimit old, low;
	struct tr_ring r;
	struct io_uring_params p = { .flags = 0 };
	int spare;
	int fds[64];
	int n = 0;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	spare = dup(0);
	low.rlim_cur = (rlim_t)spare + 8;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	while (n < 64 && (fds[n] = dup(0)) >= 0)
		n++;
	assert_true(n > 0 && n < 64);
	assert_int_equal(tr_sys_setup(4, &p), -EMFILE);
	/* The rings that there are go on. */
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	while (n > 0)
		close(fds[--n]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	close(spare);
	tr_exit(&r);
	one_ring(0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_nothing_left),
	cmocka_unit_test(test_many_at_once),
	cmocka_unit_test(test_out_of_descriptors),
};

TR_MAIN("churn", tests)
