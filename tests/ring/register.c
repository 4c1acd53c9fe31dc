/*
 * io_uring_register beyond what liburing's tests cover: what is newer than they are,
 * and what a registration does to others: threads, other rings, closed descriptors.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* What the installed header may be too old for. */
enum {
	REG_CLOCK = 29,
	REG_CLONE_BUFFERS = 30,
	REG_RESIZE_RINGS = 33,
	REG_MEM_REGION = 34,
	REG_QUERY = 35,
	REG_RING_FDS = 20,
	UNREG_RING_FDS = 21,
	SETUP_DEFER = 1 << 13 | 1 << 12,
	ENTER_REGISTERED = 1 << 4,
	ENTER_EXT_ARG_REG = 1 << 6,
};

#define REG_USE_REGISTERED (1U << 31)

struct query {
	uint64_t next, data;
	uint32_t op, size;
	int32_t result;
	uint32_t resv[3];
};

struct query_opcodes {
	uint32_t requests, registers;
	uint64_t features, setup, enter, sqe;
	uint32_t queries, pad;
};

struct region {
	uint64_t addr, size;
	uint32_t flags, id;
	uint64_t offset, resv[4];
};

struct region_reg {
	uint64_t region, flags, resv[2];
};

struct wait_arg {
	int64_t sec, nsec;
	uint32_t min_wait_usec, flags;
	uint64_t sigmask;
	uint32_t sigmask_bytes, pad[3];
	uint64_t pad2[2];
};

struct clone {
	uint32_t src_fd, flags, src_off, dst_off, nr, pad[3];
};

struct sync_cancel {
	uint64_t addr;
	int32_t fd;
	uint32_t flags;
	int64_t sec, nsec;
	uint64_t pad[4];
};

static void test_query(void **state)
{
	struct query_opcodes ops;
	struct query second = { .data = (uint64_t)&ops, .op = 0, .size = sizeof(ops) };
	struct query first = { .next = (uint64_t)&second, .op = 1000 };

	(void)state;
	memset(&ops, 0xff, sizeof(ops));
	assert_int_equal(tr_sys_register(-1, REG_QUERY, &first, 0), 0);
	assert_int_equal(first.result, -EOPNOTSUPP);
	assert_int_equal(second.result, 0);
	assert_int_equal(second.size, sizeof(ops));
	assert_true(ops.requests >= 63);
	assert_true(ops.registers >= 36);
	assert_true(ops.setup & IORING_SETUP_DEFER_TASKRUN);
	assert_int_equal(ops.sqe & 0x7f, 0x7f);
	/* A result that is not clear, no room, a circle, arguments that should not be. */
	second = (struct query){ .data = (uint64_t)&ops, .size = 8, .result = 1 };
	assert_int_equal(tr_sys_register(-1, REG_QUERY, &second, 0), 0);
	assert_int_equal(second.result, -EINVAL);
	second = (struct query){ .data = (uint64_t)&ops };
	assert_int_equal(tr_sys_register(-1, REG_QUERY, &second, 0), 0);
	assert_int_equal(second.result, -EINVAL);
	second = (struct query){ .data = (uint64_t)&ops, .size = 8, .next = (uint64_t)&second };
	assert_int_equal(tr_sys_register(-1, REG_QUERY, &second, 0), -ERANGE);
	assert_int_equal(tr_sys_register(-1, REG_QUERY, &second, 1), -EINVAL);
	assert_int_equal(tr_sys_register(-1, REG_QUERY, (void *)8, 0), -EFAULT);
	/* Nothing else does without a ring. */
	assert_int_equal(tr_sys_register(-1, IORING_REGISTER_PROBE, NULL, 0), -EINVAL);
}

static void register_tagged(struct tr_ring *r, int fd)
{
	int fds[3] = { fd, -1, fd };
	uint64_t tags[3] = { 71, 0, 72 };
	struct io_uring_rsrc_register reg = { .nr = 3,
		                              .data = (uint64_t)fds,
		                              .tags = (uint64_t)tags };

	assert_int_equal(tr_sys_register(r->fd, IORING_REGISTER_FILES2, &reg, sizeof(reg)), 0);
}

/* A tag is reported when the last request that uses the file is done, not before. */
static void test_tag_waits_for_request(void **state)
{
	struct io_uring_cqe cqe;
	struct tr_ring r;
	int fds[2];
	char c;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	assert_int_equal(pipe(fds), 0);
	register_tagged(&r, fds[0]);
	tr_prep(&r, IORING_OP_READ, 0, &c, 1, 0, 1)->flags = IOSQE_FIXED_FILE;
	assert_int_equal(tr_submit(&r), 1);
	assert_int_equal(tr_sys_register(r.fd, IORING_UNREGISTER_FILES, NULL, 0), 0);
	assert_int_equal(tr_wait(&r, &cqe), 0);
	assert_int_equal(cqe.user_data, 72);
	assert_int_equal(tr_ready(&r), 0);
	/* The request still has its file, though the program has not. */
	close(fds[0]);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(tr_wait(&r, &cqe), 0);
	assert_int_equal(cqe.user_data, 1);
	assert_int_equal(cqe.res, 1);
	assert_int_equal(tr_wait_ms(&r, &cqe, 1000), 0);
	assert_int_equal(cqe.user_data, 71);
	close(fds[1]);
	tr_exit(&r);
}

/* Registration that fails half-way leaves nothing and reports no tags. */
static void test_failed_registration(void **state)
{
	int fds[3] = { 0, 1, 9999 };
	uint64_t tags[3] = { 1, 2, 3 };
	struct io_uring_rsrc_register reg = { .nr = 3,
		                              .data = (uint64_t)fds,
		                              .tags = (uint64_t)tags };
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	assert_int_equal(tr_sys_register(r.fd, IORING_REGISTER_FILES2, &reg, sizeof(reg)), -EBADF);
	assert_int_equal(tr_ready(&r), 0);
	assert_int_equal(tr_sys_register(r.fd, IORING_UNREGISTER_FILES, NULL, 0), -ENXIO);
	tr_exit(&r);
}

static void test_clone(void **state)
{
	static char memory[8192];
	struct iovec iov[2] = { { memory, 4096 }, { memory + 4096, 4096 } };
	struct tr_ring a, b;
	struct clone c = { .flags = 0 };
	int fd = tr_temp_file(4096);

	(void)state;
	assert_int_equal(tr_init(&a, 8, 0), 0);
	assert_int_equal(tr_init(&b, 8, 0), 0);
	c.src_fd = (uint32_t)a.fd;
	assert_int_equal(tr_sys_register(b.fd, REG_CLONE_BUFFERS, &c, 1), -ENXIO);
	assert_int_equal(tr_sys_register(a.fd, IORING_REGISTER_BUFFERS, iov, 2), 0);
	c.nr = 1;
	c.src_off = 1;
	c.dst_off = 3;
	assert_int_equal(tr_sys_register(b.fd, REG_CLONE_BUFFERS, &c, 1), 0);
	/* The clone outlives the original. */
	tr_exit(&a);
	tr_prep(&b, IORING_OP_READ_FIXED, fd, memory + 4096, 100, 0, 1)->buf_index = 3;
	assert_int_equal(tr_run(&b, 1), 100);
	assert_int_equal((unsigned char)memory[4096 + 7], tr_pattern(7));
	tr_prep(&b, IORING_OP_READ_FIXED, fd, memory + 4096, 100, 0, 1)->buf_index = 0;
	assert_int_equal(tr_run(&b, 1), -EFAULT);
	close(fd);
	tr_exit(&b);
}

/* ---- ring descriptors ---- */

/* Another thread has slots of its own. */
static void *no_registration(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)tr_sys_enter(0, 0, 0, ENTER_REGISTERED, NULL, 0);
}

static void test_registered_ring(void **state)
{
	struct io_uring_rsrc_update up = { .offset = 0 };
	struct tr_ring r;
	pthread_t thread;
	void *ret;
	int fd;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	fd = r.fd;
	up.data = (unsigned)fd;
	assert_int_equal(tr_sys_register(fd, REG_RING_FDS, &up, 1), 1);
	assert_int_equal(up.offset, 0);
	assert_int_equal(tr_sys_register(fd, REG_RING_FDS, &up, 1), -EBUSY);
	/* Its descriptor goes, the ring stays. */
	tr_sys_close(fd);
	tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 5);
	tr_publish(&r);
	assert_int_equal(tr_sys_enter(0, 1, 1, ENTER_REGISTERED | IORING_ENTER_GETEVENTS, NULL, 0),
	                 1);
	assert_int_equal(tr_peek(&r)->user_data, 5);
	tr_seen(&r);
	assert_int_equal(tr_sys_enter(1, 0, 0, ENTER_REGISTERED, NULL, 0), -EBADF);
	assert_int_equal(tr_sys_enter(16, 0, 0, ENTER_REGISTERED, NULL, 0), -EINVAL);
	assert_int_equal(pthread_create(&thread, NULL, no_registration, NULL), 0);
	assert_int_equal(pthread_join(thread, &ret), 0);
	assert_true((intptr_t)ret == -EINVAL || (intptr_t)ret == -EBADF);
	up = (struct io_uring_rsrc_update){ .offset = 0 };
	assert_int_equal(tr_sys_register(0, UNREG_RING_FDS | REG_USE_REGISTERED, &up, 1), 1);
	assert_int_equal(tr_sys_enter(0, 0, 0, ENTER_REGISTERED, NULL, 0), -EBADF);
	tr_unmap(&r);
}

static void *register_and_exit(void *arg)
{
	struct io_uring_rsrc_update up = { .offset = ~0U };
	int fd = *(int *)arg;

	up.data = (unsigned)fd;
	return (void *)(intptr_t)tr_sys_register(fd, REG_RING_FDS, &up, 1);
}

/* A thread's slots end with it: the ring that only it kept open ends too. */
static void test_registration_ends_with_thread(void **state)
{
	struct tr_ring r;
	pthread_t thread;
	void *ret;
	int fds[2];
	char c;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(tr_sys_register(r.fd, IORING_REGISTER_FILES, &fds[1], 1), 0);
	close(fds[1]);
	assert_int_equal(pthread_create(&thread, NULL, register_and_exit, &r.fd), 0);
	assert_int_equal(pthread_join(thread, &ret), 0);
	assert_int_equal((intptr_t)ret, 1);
	tr_exit(&r);
	/* With the ring its registered end of the pipe has gone. */
	assert_int_equal(read(fds[0], &c, 1), 0);
	close(fds[0]);
}

/* ---- sizes and regions ---- */

static void test_resize(void **state)
{
	struct io_uring_params p = { .sq_entries = 32 };
	struct tr_ring r, n;
	unsigned tail;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	assert_int_equal(tr_sys_register(r.fd, REG_RESIZE_RINGS, &p, 1), -EINVAL);
	tr_exit(&r);
	assert_int_equal(tr_init(&r, 4, SETUP_DEFER), 0);
	for (unsigned i = 0; i < 6; i++) {
		tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, i);
		assert_int_equal(tr_submit(&r), 1);
	}
	/* Too small for what is in it: all stays as it was. */
	p = (struct io_uring_params){ .sq_entries = 2, .cq_entries = 4, .flags = 8 };
	assert_int_equal(tr_sys_register(r.fd, REG_RESIZE_RINGS, &p, 1), -EOVERFLOW);
	assert_int_equal(tr_ready(&r), 6);
	p = (struct io_uring_params){ .sq_entries = 32 };
	assert_int_equal(tr_sys_register(r.fd, REG_RESIZE_RINGS, &p, 1), 0);
	assert_int_equal(p.sq_entries, 32);
	assert_int_equal(p.cq_entries, 64);
	n = (struct tr_ring){ .fd = r.fd, .p = p };
	n.p.features = r.p.features;
	/* The kernel does not say where the index array is: behind the CQEs. */
	n.p.sq_off.array = p.cq_off.cqes + 64 * (unsigned)sizeof(struct io_uring_cqe);
	assert_int_equal(tr_map(&n, TR_ONE_MMAP), 0);
	tr_unmap(&r);
	assert_int_equal(*n.cq_mask, 63);
	/* Something may have gone unseen: who looks at the flags is to enter. */
	assert_int_equal(*n.sq_flags, IORING_SQ_NEED_WAKEUP | IORING_SQ_TASKRUN);
	assert_int_equal(tr_ready(&n), 6);
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(tr_peek(&n)->user_data, i);
		tr_seen(&n);
	}
	tail = *n.sq_tail;
	assert_int_equal(tail, 6);
	n.sqe_tail = tail;
	for (unsigned i = 0; i < 32; i++)
		tr_prep(&n, IORING_OP_NOP, -1, NULL, 0, 0, 100 + i);
	assert_int_equal(tr_submit_wait(&n, 32), 32);
	assert_int_equal(tr_ready(&n), 32);
	tr_exit(&n);
}

/* Waits for a CQE as the entry at this offset of the region says. */
static int wait_at(struct tr_ring *r, uintptr_t offset)
{
	return tr_sys_enter(r->fd, 0, 1,
	                    IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | ENTER_EXT_ARG_REG,
	                    (void *)offset, sizeof(struct wait_arg));
}

static void test_registered_wait(void **state)
{
	struct region rd = { .size = 8192 };
	struct region_reg reg = { .region = (uint64_t)&rd, .flags = 1 };
	struct tr_ring r;
	struct wait_arg *arg;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	/* Nobody may be waiting when it comes. */
	assert_int_equal(tr_sys_register(r.fd, REG_MEM_REGION, &reg, 1), -EINVAL);
	tr_exit(&r);
	assert_int_equal(tr_init(&r, 4, IORING_SETUP_R_DISABLED), 0);
	assert_int_equal(tr_sys_register(r.fd, REG_MEM_REGION, &reg, 1), 0);
	assert_int_equal(tr_sys_register(r.fd, REG_MEM_REGION, &reg, 1), -EBUSY);
	assert_int_equal(tr_sys_register(r.fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0), 0);
	assert_int_equal((long)tr_sys_mmap(4096, PROT_READ, MAP_SHARED, r.fd, rd.offset), -EFAULT);
	arg = tr_sys_mmap(8192, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, rd.offset);
	assert_true((long)arg > 0);
	arg[1] = (struct wait_arg){ .nsec = 20000000, .flags = 1 };
	assert_int_equal(wait_at(&r, sizeof(*arg)), -ETIME);
	assert_int_equal(wait_at(&r, 8192 - 56), -EFAULT);
	assert_int_equal(wait_at(&r, 4), -EFAULT);
	arg[1].flags = 2;
	assert_int_equal(wait_at(&r, sizeof(*arg)), -EINVAL);
	tr_sys_munmap(arg, 8192);
	tr_exit(&r);
}

static void test_clock(void **state)
{
	struct {
		uint32_t id, resv[3];
	} clock = { .id = 7 };
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	assert_int_equal(tr_sys_register(r.fd, REG_CLOCK, &clock, 0), 0);
	clock.id = 0;
	assert_int_equal(tr_sys_register(r.fd, REG_CLOCK, &clock, 0), -EINVAL);
	clock.id = 1;
	assert_int_equal(tr_sys_register(r.fd, REG_CLOCK, &clock, 1), -EINVAL);
	clock.resv[2] = 1;
	assert_int_equal(tr_sys_register(r.fd, REG_CLOCK, &clock, 0), -EINVAL);
	tr_exit(&r);
}

/* ---- cancellation, credentials ---- */

/* The call returns when the request is gone from the worker that was running it. */
static void test_sync_cancel_waits(void **state)
{
	struct sync_cancel c = { .addr = 9, .sec = -1, .nsec = -1 };
	struct io_uring_cqe cqe;
	struct tr_ring r;
	int fds[2];
	char b;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(tr_sys_register(r.fd, IORING_REGISTER_SYNC_CANCEL, &c, 1), -ENOENT);
	tr_prep(&r, IORING_OP_READ, fds[0], &b, 1, 0, 9)->flags = IOSQE_ASYNC;
	assert_int_equal(tr_submit(&r), 1);
	tr_sleep_ms(20);
	assert_int_equal(tr_sys_register(r.fd, IORING_REGISTER_SYNC_CANCEL, &c, 1), 0);
	assert_int_equal(tr_wait_ms(&r, &cqe, 1000), 0);
	assert_true(cqe.res == -ECANCELED || cqe.res == -EINTR);
	close(fds[0]);
	close(fds[1]);
	tr_exit(&r);
}

static void check_personalities(void)
{
	struct tr_ring r;
	int root, user;

	TR_CHILD_CHECK(tr_init(&r, 4, 0) == 0);
	root = tr_sys_register(r.fd, IORING_REGISTER_PERSONALITY, NULL, 0);
	TR_CHILD_CHECK(root == 1);
	/* Libc changes all threads, the engine's too: they must answer it. */
	TR_CHILD_CHECK(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0) == 0);
	TR_CHILD_CHECK(setegid(1000) == 0 && seteuid(1000) == 0);
	user = tr_sys_register(r.fd, IORING_REGISTER_PERSONALITY, NULL, 0);
	TR_CHILD_CHECK(user == 2);
	for (int async = 0; async < 2; async++) {
		for (int id = 0; id < 4; id++) {
			struct io_uring_sqe *sqe =
			        tr_prep(&r, IORING_OP_OPENAT, AT_FDCWD, "/etc/shadow", 0, 0, 3);
			int want = id == 0 || id == user ? -EACCES : id == root ? 0 : -EINVAL;
			int got;

			sqe->personality = (unsigned short)id;
			sqe->flags = async ? IOSQE_ASYNC : 0;
			TR_CHILD_CHECK(tr_submit_wait(&r, 1) == 1);
			got = tr_peek(&r)->res;
			tr_seen(&r);
			TR_CHILD_CHECK(want ? got == want : got >= 0);
			TR_CHILD_CHECK(geteuid() == 1000 && getegid() == 1000);
		}
	}
	TR_CHILD_CHECK(tr_sys_register(r.fd, IORING_UNREGISTER_PERSONALITY, NULL, 1) == 0);
	TR_CHILD_CHECK(tr_sys_register(r.fd, IORING_UNREGISTER_PERSONALITY, NULL, 1) == -EINVAL);
	/* Ids go round before one is used again. */
	TR_CHILD_CHECK(tr_sys_register(r.fd, IORING_REGISTER_PERSONALITY, NULL, 0) == 3);
	_exit(0);
}

static void test_personalities(void **state)
{
	pid_t pid;

	(void)state;
	if (geteuid() != 0 || access("/etc/shadow", R_OK))
		skip();
	pid = fork();
	if (pid == 0)
		check_personalities();
	assert_int_equal(tr_wait_child(pid), 0);
}

static void test_file_allocation(void **state)
{
	struct io_uring_rsrc_register reg = { .nr = 6, .flags = 1 };
	struct {
		uint32_t off, len;
		uint64_t resv;
	} range = { 2, 3, 0 };
	int fds[4] = { 0, 0, 0, 0 };
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	assert_int_equal(tr_do(&r, IORING_OP_FILES_UPDATE, -1, fds, 1, ~0U), -ENXIO);
	assert_int_equal(tr_sys_register(r.fd, IORING_REGISTER_FILES2, &reg, sizeof(reg)), 0);
	assert_int_equal(tr_sys_register(r.fd, IORING_REGISTER_FILE_ALLOC_RANGE, &range, 0), 0);
	/* Three have room in the range. */
	assert_int_equal(tr_do(&r, IORING_OP_FILES_UPDATE, -1, fds, 4, ~0U), 3);
	assert_int_equal(fds[0], 2);
	assert_int_equal(fds[2], 4);
	assert_int_equal(tr_do(&r, IORING_OP_FILES_UPDATE, -1, fds, 1, ~0U), -ENFILE);
	range.len = 5;
	assert_int_equal(tr_sys_register(r.fd, IORING_REGISTER_FILE_ALLOC_RANGE, &range, 0),
	                 -EINVAL);
	range.off = ~0U;
	assert_int_equal(tr_sys_register(r.fd, IORING_REGISTER_FILE_ALLOC_RANGE, &range, 0),
	                 -EOVERFLOW);
	tr_exit(&r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_query),
	cmocka_unit_test(test_tag_waits_for_request),
	cmocka_unit_test(test_failed_registration),
	cmocka_unit_test(test_clone),
	cmocka_unit_test(test_registered_ring),
	cmocka_unit_test(test_registration_ends_with_thread),
	cmocka_unit_test(test_resize),
	cmocka_unit_test(test_registered_wait),
	cmocka_unit_test(test_clock),
	cmocka_unit_test(test_sync_cancel_waits),
	cmocka_unit_test(test_personalities),
	cmocka_unit_test(test_file_allocation),
};

TR_MAIN("register", tests)
