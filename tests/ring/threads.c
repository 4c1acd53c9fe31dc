/*
 * Many threads on one ring: submitters side by side, one waiter for all, a ring
 * that is made in one thread and used in another, threads that block all signals.
 */
#include "tests/ring_util.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define THREADS    4
#define PER_THREAD 2000
#define FILE_BYTES 65536

struct shared {
	struct tr_ring r;
	pthread_mutex_t lock; /* guards the SQ: io_uring leaves that to the program */
	int fd;
	unsigned failed; /* atomic */
};

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void *submitter(void *arg)
{
	struct shared *s = arg;

	for (unsigned i = 0; i < PER_THREAD; i++) {
		struct io_uring_sqe *sqe;

		for (;;) {
			pthread_mutex_lock(&s->lock);
			sqe = tr_sqe(&s->r);
			if (sqe)
				break;
			pthread_mutex_unlock(&s->lock);
			sched_yield();
		}
		sqe->opcode = IORING_OP_NOP;
		sqe->user_data = 1;
		sqe->flags = (uint8_t)(i % 64 == 0 ? IOSQE_ASYNC : 0);
		must(tr_submit(&s->r) == 1);
		pthread_mutex_unlock(&s->lock);
	}
	return NULL;
}

static void test_many_submitters_one_waiter(void **state)
{
	struct shared s = { .lock = PTHREAD_MUTEX_INITIALIZER };
	pthread_t t[THREADS];

	(void)state;
	assert_int_equal(tr_init(&s.r, 32, 0), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, submitter, &s), 0);
	for (unsigned i = 0; i < THREADS * PER_THREAD; i++) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait(&s.r, &cqe), 0);
		assert_int_equal(cqe.user_data, 1);
		assert_int_equal(cqe.res, 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	assert_null(tr_peek(&s.r));
	tr_exit(&s.r);
}

static void *enter_only(void *arg)
{
	struct shared *s = arg;

	/* Submits what others have prepared; with nothing left it gets 0. */
	for (int i = 0; i < 2000; i++)
		must(tr_sys_enter(s->r.fd, 4, 0, 0, NULL, 0) >= 0);
	return NULL;
}

static void test_concurrent_enters(void **state)
{
	struct shared s = { .failed = 0 };
	pthread_t t[THREADS];
	unsigned seen = 0;

	(void)state;
	assert_int_equal(tr_init(&s.r, 64, 0), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, enter_only, &s), 0);
	for (unsigned sent = 0; sent < 5000;) {
		if (tr_sqe(&s.r)) {
			sent++;
			tr_publish(&s.r);
		}
		while (tr_peek(&s.r)) {
			tr_seen(&s.r);
			seen++;
		}
		if (sent % 64 == 0)
			must(tr_sys_enter(s.r.fd, 64, 0, 0, NULL, 0) >= 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	while (tr_submit(&s.r) > 0)
		;
	/* Each entry was taken exactly once. */
	while (seen < 5000) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait(&s.r, &cqe), 0);
		seen++;
	}
	assert_null(tr_peek(&s.r));
	assert_int_equal(*s.r.sq_head, 5000);
	assert_int_equal(*s.r.cq_tail, 5000);
	tr_exit(&s.r);
}

static void *own_ring(void *arg)
{
	struct shared *s = arg;
	struct tr_ring r;
	unsigned char buf[8][512];

	must(tr_init(&r, 8, 0) == 0);
	for (unsigned round = 0; round < 200; round++) {
		for (unsigned i = 0; i < 8; i++) {
			struct io_uring_sqe *sqe = tr_sqe(&r);

			sqe->opcode = IORING_OP_READ;
			sqe->fd = s->fd;
			sqe->addr = (uint64_t)(uintptr_t)buf[i];
			sqe->len = 512;
			sqe->off = (round * 131 + i * 4099) % (FILE_BYTES - 512);
			sqe->user_data = i;
			sqe->flags = (uint8_t)((round + i) % 9 == 0 ? IOSQE_ASYNC : 0);
		}
		must(tr_submit_wait(&r, 8) == 8);
		for (unsigned i = 0; i < 8; i++) {
			struct io_uring_cqe cqe;
			size_t off;

			must(tr_wait(&r, &cqe) == 0);
			must(cqe.res == 512);
			off = (round * 131 + cqe.user_data * 4099) % (FILE_BYTES - 512);
			must(buf[cqe.user_data][0] == tr_pattern(off));
			must(buf[cqe.user_data][511] == tr_pattern(off + 511));
		}
	}
	tr_exit(&r);
	return NULL;
}

static void test_a_ring_each(void **state)
{
	struct shared s = { .fd = tr_temp_file(FILE_BYTES) };
	pthread_t t[8];

	(void)state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&t[i], NULL, own_ring, &s), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	close(s.fd);
}

static void *waiter(void *arg)
{
	struct shared *s = arg;

	return (void *)(intptr_t)tr_sys_enter(s->r.fd, 0, 2, IORING_ENTER_GETEVENTS, NULL, 0);
}

static void test_blocked_while_others_submit(void **state)
{
	struct shared s = { .failed = 0 };
	pthread_t t[2];
	void *res;

	(void)state;
	/* Two wait for two completions; submissions of a third thread wake both. */
	assert_int_equal(tr_init(&s.r, 8, 0), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, waiter, &s), 0);
	tr_sleep_ms(30);
	tr_prep(&s.r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	assert_int_equal(tr_submit(&s.r), 1);
	tr_sleep_ms(30);
	tr_prep(&s.r, IORING_OP_NOP, -1, NULL, 0, 0, 2)->flags = IOSQE_ASYNC;
	assert_int_equal(tr_submit(&s.r), 1);
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], &res);
		assert_int_equal((intptr_t)res, 0);
	}
	assert_int_equal(tr_ready(&s.r), 2);
	tr_exit(&s.r);
}

static void *enable_and_use(void *arg)
{
	struct tr_ring *r = arg;
	struct io_uring_cqe cqe;

	must(tr_sys_register(r->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) == 0);
	tr_sqe(r)->user_data = 3;
	must(tr_submit_wait(r, 1) == 1);
	must(tr_wait(r, &cqe) == 0);
	must(cqe.user_data == 3);
	return NULL;
}

static void test_made_here_used_there(void **state)
{
	struct tr_ring r;
	pthread_t t;

	(void)state;
	assert_int_equal(tr_init(&r, 8, IORING_SETUP_R_DISABLED), 0);
	tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	assert_int_equal(tr_submit(&r), -EBADFD);
	r.sqe_tail = 0;
	*r.sq_tail = 0;
	assert_int_equal(pthread_create(&t, NULL, enable_and_use, &r), 0);
	pthread_join(t, NULL);
	assert_int_equal(tr_sys_register(r.fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0), -EBADFD);
	tr_exit(&r);
}

static void *all_blocked(void *arg)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;

	(void)arg;
	must(tr_init(&r, 8, 0) == 0);
	for (int i = 0; i < 100; i++) {
		tr_sqe(&r)->user_data = 5;
		must(tr_submit_wait(&r, 1) == 1);
		must(tr_wait(&r, &cqe) == 0);
		must(cqe.user_data == 5);
	}
	tr_exit(&r);
	return NULL;
}

static void test_all_signals_blocked(void **state)
{
	sigset_t all, old, now;
	pthread_t t;

	(void)state;
	sigfillset(&all);
	/* A database's background thread: born with everything blocked. */
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &all, &old), 0);
	assert_int_equal(pthread_create(&t, NULL, all_blocked, NULL), 0);
	all_blocked(NULL);
	/* The program sees the mask that it asked for. */
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
	assert_int_equal(sigismember(&now, SIGSYS), 1);
	assert_int_equal(sigismember(&now, SIGTERM), 1);
	pthread_join(t, NULL);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &old, NULL), 0);
	assert_int_equal(sigprocmask(SIG_BLOCK, &all, NULL), 0);
	all_blocked(NULL);
	assert_int_equal(sigprocmask(SIG_SETMASK, &old, NULL), 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
	assert_int_equal(sigismember(&now, SIGSYS), 0);
}

static void *exits_at_once(void *arg)
{
	struct shared *s = arg;

	tr_prep(&s->r, IORING_OP_NOP, -1, NULL, 0, 0, 1)->flags = IOSQE_ASYNC;
	must(tr_submit(&s->r) == 1);
	return NULL;
}

static void test_submitter_gone(void **state)
{
	struct shared s = { .failed = 0 };
	pthread_t t;
	struct io_uring_cqe cqe;

	(void)state;
	assert_int_equal(tr_init(&s.r, 8, 0), 0);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(pthread_create(&t, NULL, exits_at_once, &s), 0);
		pthread_join(t, NULL);
		/* It completes or is cancelled with its thread, and says which. */
		assert_int_equal(tr_wait(&s.r, &cqe), 0);
		assert_true(cqe.res == 0 || cqe.res == -ECANCELED || cqe.res == -EINTR);
	}
	tr_exit(&s.r);
}

struct poller {
	struct tr_ring r;
	int p[2];
	int failed; /* the first result that is no event */
};

static void *poll_often(void *arg)
{
	struct poller *s = arg;

	for (int i = 0; i < PER_THREAD && !s->failed; i++) {
		struct io_uring_cqe cqe;
		char c;

		tr_prep(&s->r, IORING_OP_POLL_ADD, s->p[0], NULL, 0, 0, 1)->poll32_events = POLLIN;
		must(tr_submit(&s->r) == 1);
		must(write(s->p[1], "x", 1) == 1);
		must(tr_wait(&s->r, &cqe) == 0);
		if (cqe.res != POLLIN)
			s->failed = cqe.res;
		must(read(s->p[0], &c, 1) == 1);
	}
	return NULL;
}

/* The program has used its descriptors up: io_uring needs none for a poll, in several threads. */
static void test_no_descriptors_left(void **state)
{
	struct poller s[THREADS] = { 0 };
	struct rlimit old, few;
	pthread_t t[THREADS];
	int taken[128], n = 0;

	(void)state;
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(tr_init(&s[i].r, 8, 0), 0);
		assert_int_equal(pipe(s[i].p), 0);
	}
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = (struct rlimit){ 128, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while ((taken[n] = dup(0)) >= 0)
		n++;
	assert_int_equal(errno, EMFILE);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, poll_often, &s[i]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	while (n)
		close(taken[--n]);
	for (int i = 0; i < THREADS; i++) {
		tr_exit(&s[i].r);
		close(s[i].p[0]);
		close(s[i].p[1]);
		assert_int_equal(s[i].failed, 0);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_many_submitters_one_waiter),
	cmocka_unit_test(test_concurrent_enters),
	cmocka_unit_test(test_a_ring_each),
	cmocka_unit_test(test_blocked_while_others_submit),
	cmocka_unit_test(test_made_here_used_there),
	cmocka_unit_test(test_all_signals_blocked),
	cmocka_unit_test(test_submitter_gone),
	cmocka_unit_test(test_no_descriptors_left),
};

TR_MAIN("threads", tests)
