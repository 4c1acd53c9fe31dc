/*
 * MSG_RING: data and files for other rings, of every kind, their errors, and two rings
 * that send to each other at the same time.
 */
#include "tests/ring_util.h"
#include "tests/newer_ops.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#define MSG_DATA    0
#define MSG_SEND_FD 1
#define CQE_SKIP    1U
#define ALLOC       (~0U)
#define ROUNDS      2000

static struct tr_ring ring, other;

static int setup(void **state)
{
	(void)state;
	return tr_init(&ring, 16, 0) || tr_init(&other, 4, 0);
}

static int setup_deferred(void **state)
{
	(void)state;
	return tr_init(&ring, 16, 0) ||
	       tr_init(&other, 4, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	tr_exit(&other);
	return 0;
}

static struct io_uring_sqe *prep(struct tr_ring *from, int to, uint64_t cmd, unsigned len,
                                 uint64_t user_data)
{
	return tr_prep(from, IORING_OP_MSG_RING, to, (void *)(uintptr_t)cmd, len, user_data, 1);
}

static int send_fd(uint64_t src, unsigned slot, unsigned flags)
{
	struct io_uring_sqe *sqe = prep(&ring, other.fd, MSG_SEND_FD, 0, 50);

	sqe->addr3 = src;
	sqe->file_index = slot;
	sqe->rw_flags = (int)flags;
	return tr_run(&ring, 1);
}

static void test_data(void **state)
{
	struct io_uring_sqe *sqe;
	int pipe_fds[2];

	(void)state;
	prep(&ring, other.fd, MSG_DATA, 7, 99);
	assert_int_equal(tr_run(&ring, 1), 0);
	tr_expect(&other, 99, 7, 0);
	sqe = prep(&ring, other.fd, MSG_DATA, 8, 98);
	sqe->rw_flags = MSG_FLAGS_PASS;
	sqe->file_index = 0x55;
	assert_int_equal(tr_run(&ring, 1), 0);
	tr_expect(&other, 98, 8, 0x55);
	prep(&ring, other.fd, MSG_DATA, 0, 0)->file_index = 1;
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
	prep(&ring, other.fd, MSG_DATA, 0, 0)->rw_flags = CQE_SKIP;
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
	prep(&ring, other.fd, 2, 0, 0);
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
	assert_int_equal(pipe(pipe_fds), 0);
	prep(&ring, pipe_fds[0], MSG_DATA, 0, 0);
	assert_int_equal(tr_run(&ring, 1), -EBADFD);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	prep(&ring, pipe_fds[0], MSG_DATA, 0, 0);
	assert_int_equal(tr_run(&ring, 1), -EBADF);
}

/* A message to the ring itself overtakes what the submission has completed. */
/* Of the command and of the file's index only the lower halves count. */
static void test_upper_halves(void **state)
{
	int files[1] = { STDERR_FILENO }, none[1] = { -1 };

	(void)state;
	prep(&ring, other.fd, MSG_DATA | 1ULL << 40, 7, 60)->addr3 = 1ULL << 32;
	assert_int_equal(tr_run(&ring, 1), 0);
	tr_expect(&other, 60, 7, 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, files, 1), 0);
	assert_int_equal(tr_sys_register(other.fd, IORING_REGISTER_FILES, none, 1), 0);
	assert_int_equal(send_fd(1ULL << 32, 1, 0), 0);
	tr_expect(&other, 50, 0, 0);
}

static void test_self(void **state)
{
	(void)state;
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 2);
	prep(&ring, ring.fd, MSG_DATA, 7, 99);
	assert_int_equal(tr_submit(&ring), 2);
	tr_expect(&ring, 99, 7, 0);
	tr_expect(&ring, 2, 0, 0);
	tr_expect(&ring, 1, 0, 0);
}

static void test_disabled(void **state)
{
	struct io_uring_params p = { .flags = IORING_SETUP_R_DISABLED };
	struct tr_ring disabled;

	(void)state;
	assert_int_equal(tr_init_params(&disabled, 4, &p, TR_ONE_MMAP), 0);
	prep(&ring, disabled.fd, MSG_DATA, 0, 0);
	assert_int_equal(tr_run(&ring, 1), -EBADFD);
	tr_exit(&disabled);
}

static void test_overflow(void **state)
{
	(void)state;
	for (int i = 0; i < 12; i++) {
		prep(&ring, other.fd, MSG_DATA, (unsigned)i, 99);
		assert_int_equal(tr_run(&ring, 1), 0);
	}
	assert_int_equal(tr_ready(&other), 8);
	assert_true(*other.sq_flags & IORING_SQ_CQ_OVERFLOW);
	for (int i = 0; i < 12; i++)
		tr_expect(&other, 99, i, 0);
}

static void test_files(void **state)
{
	int fd = tr_temp_file(100), none[2] = { -1, -1 };
	char byte = 0;

	(void)state;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, &fd, 1), 0);
	close(fd);
	assert_int_equal(send_fd(0, 1, 0), -ENXIO);
	assert_int_equal(tr_sys_register(other.fd, IORING_REGISTER_FILES, none, 2), 0);
	assert_int_equal(send_fd(0, 2, 0), 0);
	tr_expect(&other, 50, 0, 0);
	tr_prep(&other, IORING_OP_READ, 1, &byte, 1, 5, 3)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_run(&other, 3), 1);
	assert_int_equal((unsigned char)byte, tr_pattern(5));
	assert_int_equal(send_fd(0, ALLOC, CQE_SKIP), 0);
	assert_null(tr_peek(&other));
	assert_int_equal(send_fd(0, ALLOC, 0), -ENFILE);
	assert_int_equal(send_fd(0, 3, 0), -EINVAL);
	assert_int_equal(send_fd(0, 0, 0), -EINVAL);
	assert_int_equal(send_fd(1, 1, 0), -EBADF);
	prep(&ring, ring.fd, MSG_SEND_FD, 0, 0)->file_index = 1;
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
}

static void test_deferred(void **state)
{
	int fd = tr_temp_file(1), none = -1;

	(void)state;
	prep(&ring, other.fd, MSG_DATA, 7, 99);
	assert_int_equal(tr_run(&ring, 1), 0);
	assert_null(tr_peek(&other));
	tr_expect(&other, 99, 7, 0);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, &fd, 1), 0);
	assert_int_equal(tr_sys_register(other.fd, IORING_REGISTER_FILES, &none, 1), 0);
	close(fd);
}

static void test_without_ring(void **state)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_MSG_RING, .off = 90, .len = 9 };

	(void)state;
	sqe.fd = other.fd;
	assert_int_equal(tr_sys_register(-1, REGISTER_SEND_MSG_RING, &sqe, 1), 0);
	tr_expect(&other, 90, 9, 0);
	assert_int_equal(tr_sys_register(-1, REGISTER_SEND_MSG_RING, &sqe, 2), -EINVAL);
	assert_int_equal(tr_sys_register(-1, REGISTER_SEND_MSG_RING, (void *)8, 1), -EFAULT);
	sqe.addr = MSG_SEND_FD;
	assert_int_equal(tr_sys_register(-1, REGISTER_SEND_MSG_RING, &sqe, 1), -EINVAL);
	sqe.addr = MSG_DATA;
	sqe.fd = 1000;
	assert_int_equal(tr_sys_register(-1, REGISTER_SEND_MSG_RING, &sqe, 1), -EBADF);
	assert_int_equal(tr_sys_register(other.fd, REGISTER_SEND_MSG_RING, &sqe, 1), -EINVAL);
}

/* Each of two threads sends files and data to the other's ring, with a timeout that counts. */
static void *sender(void *arg)
{
	struct tr_ring *from = arg, *to = from == &ring ? &other : &ring;
	static const struct __kernel_timespec forever = { .tv_sec = 1000 };

	for (int i = 0; i < ROUNDS; i++) {
		struct io_uring_cqe cqe;
		int own = 0;

		tr_prep(from, IORING_OP_TIMEOUT, -1, &forever, 1, 1, 2);
		prep(from, to->fd, MSG_DATA, 1, 99);
		prep(from, to->fd, MSG_SEND_FD, 0, 98)->file_index = 1;
		if (tr_submit(from) != 3)
			return (void *)"submit";
		while (own < 3) {
			if (tr_wait_ms(from, &cqe, 10000))
				return (void *)"wait";
			own += cqe.user_data < 90;
		}
	}
	return NULL;
}

static void test_both_ways(void **state)
{
	int fd = tr_temp_file(1);
	pthread_t threads[2];
	void *failed;

	(void)state;
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, &fd, 1), 0);
	assert_int_equal(tr_sys_register(other.fd, IORING_REGISTER_FILES, &fd, 1), 0);
	assert_int_equal(pthread_create(&threads[0], NULL, sender, &ring), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, sender, &other), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_data, setup, teardown),
		cmocka_unit_test_setup_teardown(test_upper_halves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_self, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disabled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overflow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deferred, setup_deferred, teardown),
		cmocka_unit_test_setup_teardown(test_without_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_both_ways, setup, teardown),
	};

	return tr_run_group("messages", tests, sizeof(tests) / sizeof(tests[0]));
}
