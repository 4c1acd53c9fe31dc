/*
 * The first rings of a process, made by several threads at once. The program runs itself again
 * many times: only a process that has never used a ring can show it.
 */
#include "tests/ring_util.h"

#include <pthread.h>
#include <spawn.h>
#include <unistd.h>

#define THREADS 4
#define RUNS    60

extern char **environ;

static pthread_barrier_t start;

static void *use_ring(void *arg)
{
	struct tr_ring r;

	(void)arg;
	pthread_barrier_wait(&start);
	TR_CHILD_CHECK(tr_init(&r, 8, 0) == 0);
	for (uint64_t i = 0; i < 10; i++) {
		struct io_uring_cqe cqe;

		TR_CHILD_CHECK(tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, i) != NULL);
		TR_CHILD_CHECK(tr_submit(&r) == 1);
		TR_CHILD_CHECK(tr_wait(&r, &cqe) == 0 && cqe.user_data == i);
	}
	tr_exit(&r);
	return NULL;
}

static int first_use(void)
{
	pthread_t t[THREADS];

	pthread_barrier_init(&start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		TR_CHILD_CHECK(pthread_create(&t[i], NULL, use_ring, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	return 0;
}

static void test_many_at_once(void **state)
{
	char *argv[] = { (char *)"first", (char *)(tr_entry == TR_LIBC ? "libc" : "inline"), NULL };

	(void)state;
	for (int i = 0; i < RUNS; i++) {
		pid_t pid;

		assert_int_equal(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ), 0);
		assert_int_equal(tr_wait_child(pid), 0);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_many_at_once) };

	if (argc > 1) {
		tr_entry = strcmp(argv[1], "libc") ? TR_INLINE : TR_LIBC;
		return first_use();
	}
	return tr_run_group("first", tests, 1);
}
