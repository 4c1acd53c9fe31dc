/*
 * A fork does not meet engine threads in libc: engine/thread.c with a libc that takes its time, and
 * has a lock meanwhile, for each thread that begins or ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/entry.h"
#include "engine/thread.h"

#define LONG_US 100000

/* Atomic. `passed` counts how often a thread has been through libc. */
static u32 created, in_libc, passed, ran, leave;

struct routine {
	void *(*fn)(void *);
	void *arg;
};

static void linger(void)
{
	fu_store_release(&in_libc, 1);
	usleep(LONG_US);
	fu_store_release(&in_libc, 0);
	__atomic_fetch_add(&passed, 1, __ATOMIC_RELEASE);
}

static void *slow_routine(void *p)
{
	struct routine *r = p;
	void *ret;

	linger();
	ret = r->fn(r->arg);
	linger();
	return ret;
}

static int slow_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                       void *arg)
{
	static struct routine r;

	r = (struct routine){ fn, arg };
	fu_store_release(&created, 1);
	return pthread_create(thread, attr, slow_routine, &r);
}

static void *engine_thread(void *arg)
{
	(void)arg;
	fu_store_release(&ran, 1);
	while (!fu_load_acquire(&leave))
		usleep(1000);
	return NULL;
}

static void await_value(const u32 *word, u32 value)
{
	while (fu_load_acquire(word) != value)
		usleep(100);
}

static int setup(void **state)
{
	(void)state;
	created = passed = ran = leave = 0;
	fu_pthread_create = slow_create;
	fu_process_enter();
	return 0;
}

/* Lets the thread end, and waits until it has. */
static int teardown(void **state)
{
	(void)state;
	fu_store_release(&leave, 1);
	await_value(&passed, 2);
	return 0;
}

static void test_waits_for_a_start(void **state)
{
	(void)state;
	assert_int_equal(fu_thread_start(engine_thread, NULL), 0);
	fu_fork_begin();
	assert_int_equal(fu_load_acquire(&passed), 1);
	fu_fork_parent();
}

static void test_waits_for_an_end(void **state)
{
	(void)state;
	assert_int_equal(fu_thread_start(engine_thread, NULL), 0);
	await_value(&ran, 1);
	fu_store_release(&leave, 1);
	await_value(&in_libc, 1);
	fu_fork_begin();
	assert_int_equal(fu_load_acquire(&passed), 2);
	fu_fork_parent();
}

static void *starts_one(void *arg)
{
	(void)arg;
	return fu_thread_start(engine_thread, NULL) ? &created : NULL;
}

static void test_starts_none(void **state)
{
	pthread_t thread;
	void *failed;

	(void)state;
	fu_fork_begin();
	assert_int_equal(pthread_create(&thread, NULL, starts_one, NULL), 0);
	usleep(LONG_US);
	assert_int_equal(fu_load_acquire(&created), 0);
	fu_fork_parent();
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	assert_int_equal(fu_load_acquire(&created), 1);
}

static void test_lets_none_end(void **state)
{
	(void)state;
	assert_int_equal(fu_thread_start(engine_thread, NULL), 0);
	await_value(&ran, 1);
	fu_fork_begin();
	fu_store_release(&leave, 1);
	usleep(LONG_US);
	assert_int_equal(fu_load_acquire(&in_libc), 0);
	assert_int_equal(fu_load_acquire(&passed), 1);
	fu_fork_parent();
	await_value(&in_libc, 1);
}

/* The child starts its own. */
static void test_child(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(fu_thread_start(engine_thread, NULL), 0);
	fu_fork_begin();
	fu_fork_prepare();
	pid = fork();
	if (pid == 0) {
		fu_fork_child();
		fu_store_release(&ran, 0);
		if (fu_thread_start(engine_thread, NULL))
			_exit(1);
		await_value(&ran, 1);
		_exit(0);
	}
	fu_fork_parent();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define WITH_THREAD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_THREAD(test_waits_for_a_start),
		WITH_THREAD(test_waits_for_an_end),
		WITH_THREAD(test_starts_none),
		WITH_THREAD(test_lets_none_end),
		WITH_THREAD(test_child),
	};

	return cmocka_run_group_tests_name("forks", tests, NULL, NULL);
}
