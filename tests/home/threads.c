/*
 * Many threads, many rings, threads that leave with work pending, libraries that bring their
 * own rings and go, and stacks of sixteen kilobytes.
 */
#include "tests/home/home.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>

static void must_(bool ok, int line)
{
	if (!ok) {
		fprintf(stderr, "threads.c:%d\n", line);
		abort();
	}
}
#define must(ok) must_((ok), __LINE__)

/* ---- sixty-four on one ring ---- */

enum { THREADS = 64, EACH = 100 };

static struct tr_ring ring;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int results[THREADS]; /* atomic */
static int file;
static pthread_barrier_t all_done;

static void *one_of_many(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	static unsigned char bufs[THREADS][64];

	for (int i = 0; i < EACH; i++) {
		struct io_uring_cqe cqe;

		pthread_mutex_lock(&lock);
		tr_prep(&ring, IORING_OP_READ, file, bufs[me], 64, me * 64, me)->flags =
		        (i + (int)me) % 10 == 0 ? IOSQE_ASYNC : 0;
		must(tr_submit(&ring) == 1);
		pthread_mutex_unlock(&lock);
		/* Whose it is does not matter: as many are taken as were put in. */
		for (;;) {
			bool got = false;

			must(tr_sys_enter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 0);
			pthread_mutex_lock(&lock);
			if (tr_peek(&ring)) {
				cqe = *tr_peek(&ring);
				tr_seen(&ring);
				got = true;
			}
			pthread_mutex_unlock(&lock);
			if (got)
				break;
		}
		must(cqe.user_data < THREADS && cqe.res == 64);
		__atomic_fetch_add(&results[cqe.user_data], 1, __ATOMIC_RELAXED);
	}
	/* What a thread has submitted may be cancelled when it leaves. */
	pthread_barrier_wait(&all_done);
	return NULL;
}

static void test_one_ring_many_threads(void **state)
{
	pthread_t t[THREADS];

	(void)state;
	memset(results, 0, sizeof(results));
	file = tr_temp_file(8192);
	pthread_barrier_init(&all_done, NULL, THREADS);
	assert_int_equal(tr_init(&ring, 128, 0), 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, one_of_many, (void *)i), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(results[i], EACH);
	tr_exit(&ring);
	close(file);
}

/* ---- a thousand rings ---- */

static void thousand(void)
{
	enum { COUNT = 1000 };
	static struct tr_ring r[COUNT];
	struct rlimit lim;
	int p[2];
	char c;

	TR_CHILD_CHECK(pipe(p) == 0);
	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = COUNT + 100 < lim.rlim_max ? COUNT + 100 : lim.rlim_max;
	TR_CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	for (int i = 0; i < COUNT; i++)
		TR_CHILD_CHECK(tr_init(&r[i], 4, 0) == 0);
	for (int i = 0; i < COUNT; i++) {
		TR_CHILD_CHECK(tr_do(&r[i], IORING_OP_NOP, -1, NULL, 0, 0) == 0);
		tr_prep(&r[i], IORING_OP_POLL_ADD, p[0], NULL, 0, 0, 5)->poll32_events = 1;
		TR_CHILD_CHECK(tr_submit(&r[i]) == 1);
	}
	TR_CHILD_CHECK(write(p[1], "x", 1) == 1);
	for (int i = 0; i < COUNT; i++) {
		struct io_uring_cqe cqe;

		TR_CHILD_CHECK(tr_wait_ms(&r[i], &cqe, 10000) == 0 && cqe.res == 1);
	}
	TR_CHILD_CHECK(read(p[0], &c, 1) == 1);
	for (int i = 0; i < COUNT; i++)
		tr_exit(&r[i]);
}

static void test_thousand_rings(void **state)
{
	(void)state;
	assert_int_equal(in_child(thousand, 50), 0);
}

/* ---- threads that leave ---- */

struct leaver {
	struct tr_ring r;
	int p[2];
	char buf[4];
	int how;
	pthread_barrier_t ready;
};

static void *leaves(void *arg)
{
	struct leaver *l = arg;

	/* Armed on a pipe, blocked in a worker, waiting for a time. */
	static struct __kernel_timespec ts;

	ts = (struct __kernel_timespec){ .tv_nsec = 200000000 };
	tr_prep(&l->r, IORING_OP_READ, l->p[0], l->buf, 1, 0, 1);
	tr_prep(&l->r, IORING_OP_POLL_ADD, l->p[0], NULL, 0, 0, 2)->poll32_events = 1;
	tr_prep(&l->r, IORING_OP_TIMEOUT, -1, &ts, 1, 0, 3);
	must(tr_submit(&l->r) == 3);
	pthread_barrier_wait(&l->ready);
	if (l->how == 1)
		pthread_exit(NULL);
	if (l->how == 2)
		for (;;)
			pause();
	if (l->how == 3)
		for (;;)
			tr_sys_enter(l->r.fd, 0, 4, IORING_ENTER_GETEVENTS, NULL, 0);
	return NULL;
}

static void test_leaving_threads(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		struct leaver l = { .how = how };
		pthread_t t;
		unsigned got = 0;

		assert_int_equal(tr_init(&l.r, 8, 0), 0);
		assert_int_equal(pipe(l.p), 0);
		pthread_barrier_init(&l.ready, NULL, 2);
		assert_int_equal(pthread_create(&t, NULL, leaves, &l), 0);
		pthread_barrier_wait(&l.ready);
		if (how == 2)
			pthread_cancel(t);
		pthread_join(t, NULL);
		tr_sleep_ms(20);
		assert_int_equal(write(l.p[1], "xy", 2), 2);
		for (int i = 0; i < 3; i++) {
			struct io_uring_cqe cqe;

			assert_int_equal(tr_wait_ms(&l.r, &cqe, 10000), 0);
			got |= 1U << cqe.user_data;
			if (getenv("SHOW"))
				printf("how %d: %llu %d\n", how, cqe.user_data, cqe.res);
			switch (cqe.user_data) {
			case 1:
				assert_true(cqe.res == 1 || cqe.res == -ECANCELED);
				break;
			case 2:
				assert_true(cqe.res == 1 || cqe.res == -ECANCELED);
				break;
			default:
				assert_true(cqe.res == -ETIME || cqe.res == -ECANCELED);
				break;
			}
		}
		assert_int_equal(got, 14);
		assert_int_equal(tr_do(&l.r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
		tr_exit(&l.r);
		close(l.p[0]);
		close(l.p[1]);
		pthread_barrier_destroy(&l.ready);
	}
}

/* Cancelled with asynchronous type in the middle of its calls: libc's own are not ours to lock. */
static void *enters_for_ever(void *arg)
{
	struct tr_ring *r = arg;

	for (;;) {
		pthread_testcancel();
		tr_prep(r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
		must(tr_submit_wait(r, 1) == 1);
		while (tr_peek(r))
			tr_seen(r);
	}
	return NULL;
}

static void test_cancelled_between_calls(void **state)
{
	(void)state;
	for (int i = 0; i < 50; i++) {
		struct tr_ring r;
		pthread_t t;

		assert_int_equal(tr_init(&r, 8, 0), 0);
		assert_int_equal(pthread_create(&t, NULL, enters_for_ever, &r), 0);
		usleep((useconds_t)(i * 37));
		pthread_cancel(t);
		pthread_join(t, NULL);
		while (tr_peek(&r))
			tr_seen(&r);
		assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
		tr_exit(&r);
	}
}

/* ---- a library that comes and goes ---- */

static void test_plugin(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		void *so = dlopen("libhome_plugin.so", RTLD_NOW | RTLD_LOCAL);
		int (*use)(void), (*leave)(int);

		if (!so)
			so = dlopen("./libhome_plugin.so", RTLD_NOW | RTLD_LOCAL);
		assert_non_null(so);
		use = (int (*)(void))dlsym(so, "plugin_use");
		leave = (int (*)(int))dlsym(so, "plugin_leave");
		assert_non_null(use);
		assert_int_equal(use(), 0);
		/* Every other time it leaves a ring with a read pending. */
		assert_int_equal(leave(i % 2), 0);
		assert_int_equal(dlclose(so), 0);
	}
}

static void test_new_namespace(void **state)
{
	void *so;
	int (*use)(void);

	(void)state;
	if (SANITIZED)
		skip();
	so = dlmopen(LM_ID_NEWLM, "./libhome_plugin.so", RTLD_NOW);
	if (!so) {
		fprintf(stderr, "%s\n", dlerror());
		fail();
	}
	use = (int (*)(void))dlsym(so, "plugin_use");
	assert_int_equal(use(), 0);
	dlclose(so);
}

/* ---- small stacks ---- */

static ucontext_t main_context, small_context;
static int small_done;

static void on_small(void)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;
	char buf[64];

	for (int i = 0; i < 3; i++) {
		must(tr_init(&r, 8, 0) == 0);
		must(tr_sys_register(r.fd, IORING_REGISTER_FILES, &file, 1) == 0);
		tr_prep(&r, IORING_OP_READ, 0, buf, 64, 0, 1)->flags =
		        IOSQE_FIXED_FILE | IOSQE_IO_LINK;
		tr_prep(&r, IORING_OP_READ, file, buf, 64, 0, 2)->flags =
		        IOSQE_ASYNC | IOSQE_IO_LINK;
		tr_prep(&r, IORING_OP_STATX, AT_FDCWD, "/", 0,
		        (uint64_t)(uintptr_t)(char[512]){ 0 }, 3);
		must(tr_submit_wait(&r, 3) == 3);
		for (int k = 0; k < 3; k++)
			must(tr_wait(&r, &cqe) == 0);
		tr_exit(&r);
	}
	small_done++;
	swapcontext(&small_context, &main_context);
}

static void test_small_stacks(void **state)
{
	size_t bytes = 16384;

	(void)state;
	file = tr_temp_file(8192);
	for (int i = 0; i < 8; i++) {
		char *stack = mmap(NULL, bytes + 4096, PROT_READ | PROT_WRITE,
		                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		size_t untouched = 0;

		assert_true(stack != MAP_FAILED);
		assert_int_equal(mprotect(stack, 4096, PROT_NONE), 0);
		small_done = 0;
		getcontext(&small_context);
		small_context.uc_stack.ss_sp = stack + 4096;
		small_context.uc_stack.ss_size = bytes;
		makecontext(&small_context, on_small, 0);
		swapcontext(&main_context, &small_context);
		assert_int_equal(small_done, 1);
		while (untouched < bytes && !stack[4096 + untouched])
			untouched++;
		if (getenv("SHOW"))
			printf("%zu bytes of stack\n", bytes - untouched);
		munmap(stack, bytes + 4096);
	}
	close(file);
}

static volatile int handled;

static void on_alternate(int sig)
{
	struct tr_ring r;

	(void)sig;
	must(tr_init(&r, 8, 0) == 0);
	must(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0) == 0);
	tr_exit(&r);
	handled++;
}

static void test_alternate_stack(void **state)
{
	struct sigaction sa = { .sa_handler = on_alternate, .sa_flags = SA_ONSTACK };
	stack_t ss = { .ss_size = 16384, .ss_sp = malloc(16384) }, old;

	(void)state;
	handled = 0;
	assert_int_equal(sigaltstack(&ss, &old), 0);
	assert_int_equal(sigaction(SIGUSR1, &sa, NULL), 0);
	for (int i = 0; i < 5; i++)
		raise(SIGUSR1);
	assert_int_equal(handled, 5);
	assert_int_equal(sigaltstack(&old, NULL), 0);
	signal(SIGUSR1, SIG_DFL);
	free(ss.ss_sp);
}

/* ---- a program that ends by its threads ---- */

static int ended[2];
static struct tr_ring last;

/* Leaves work for all kinds of threads that there may be. */
static void use_and_leave(void)
{
	static char c;
	struct io_uring_cqe cqe;
	int p[2];

	TR_CHILD_CHECK(pipe(p) == 0);
	TR_CHILD_CHECK(tr_init(&last, 8, 0) == 0);
	tr_prep(&last, IORING_OP_READ, p[0], &c, 1, 0, 1);
	tr_prep(&last, IORING_OP_READ, p[0], &c, 1, 0, 2)->flags = IOSQE_ASYNC;
	tr_prep(&last, IORING_OP_NOP, -1, NULL, 0, 0, 3)->flags = IOSQE_ASYNC;
	TR_CHILD_CHECK(tr_submit(&last) == 3);
	TR_CHILD_CHECK(tr_wait(&last, &cqe) == 0 && cqe.user_data == 3);
}

static void at_exit(void)
{
	(void)!write(ended[1], "x", 1);
}

static void ends_by_pthread_exit(void)
{
	TR_CHILD_CHECK(atexit(at_exit) == 0);
	use_and_leave();
	pthread_exit(NULL);
}

static void ends_by_system_call(void)
{
	use_and_leave();
	RAW(SYS_exit, 0);
}

static void *comes_later(void *arg)
{
	struct tr_ring r;

	(void)arg;
	tr_sleep_ms(1500);
	TR_CHILD_CHECK(tr_init(&r, 8, 0) == 0);
	TR_CHILD_CHECK(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0) == 0);
	return NULL;
}

static void leaves_a_thread(void)
{
	pthread_t thread;

	use_and_leave();
	TR_CHILD_CHECK(pthread_create(&thread, NULL, comes_later, NULL) == 0);
	pthread_exit(NULL);
}

static void test_last_thread_ends(void **state)
{
	char c;

	(void)state;
	if (SANITIZED)
		skip(); /* whose own threads and handlers keep the process */
	assert_int_equal(pipe(ended), 0);
	assert_int_equal(in_child(ends_by_pthread_exit, 20), 0);
	/* As libc does at the end of the last thread. */
	assert_int_equal(read(ended[0], &c, 1), 1);
	assert_int_equal(in_child(ends_by_system_call, 20), 0);
	assert_int_equal(in_child(leaves_a_thread, 20), 0);
	close(ended[0]);
	close(ended[1]);
}

static const struct CMUnitTest tests[] = {
	/* First: a plugin that had been there before would lie at places that are covered. */
	cmocka_unit_test(test_new_namespace),
	cmocka_unit_test(test_last_thread_ends),
	cmocka_unit_test(test_one_ring_many_threads),
	cmocka_unit_test(test_thousand_rings),
	cmocka_unit_test(test_leaving_threads),
	cmocka_unit_test(test_cancelled_between_calls),
	cmocka_unit_test(test_plugin),
	cmocka_unit_test(test_small_stacks),
	cmocka_unit_test(test_alternate_stack),
};

TR_MAIN("home threads", tests)
