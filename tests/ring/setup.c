/*
 * io_uring_setup: how sizes are rounded and limited, which parameters are
 * refused, what it reports, and the mappings of the ring in all their forms.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static const unsigned max_sq = 32768;
static const unsigned max_cq = 65536;

static int try_setup(unsigned entries, struct io_uring_params *p)
{
	int fd = tr_sys_setup(entries, p);

	if (fd < 0)
		return fd;
	tr_sys_close(fd);
	return 0;
}

static int try_flags(unsigned entries, unsigned flags)
{
	struct io_uring_params p = { .flags = flags };

	return try_setup(entries, &p);
}

static void test_sizes(void **state)
{
	static const unsigned sizes[][2] = { { 1, 1 },       { 2, 2 },         { 3, 4 },
		                             { 5, 8 },       { 100, 128 },     { 128, 128 },
		                             { 4095, 4096 }, { 16385, 32768 }, { 32768, 32768 } };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct io_uring_params p = { .flags = 0 };

		assert_int_equal(try_setup(sizes[i][0], &p), 0);
		assert_int_equal(p.sq_entries, sizes[i][1]);
		assert_int_equal(p.cq_entries, 2 * sizes[i][1]);
	}
	assert_int_equal(try_flags(0, 0), -EINVAL);
	assert_int_equal(try_flags(max_sq + 1, 0), -EINVAL);
	assert_int_equal(try_flags(0x80000000u, 0), -EINVAL);
	assert_int_equal(try_flags(0xffffffffu, 0), -EINVAL);
	assert_int_equal(try_flags(0, IORING_SETUP_CLAMP), -EINVAL);
}

static void test_clamp(void **state)
{
	struct io_uring_params p = { .flags = IORING_SETUP_CLAMP };

	(void)state;
	assert_int_equal(try_setup(max_sq + 1, &p), 0);
	assert_int_equal(p.sq_entries, max_sq);
	assert_int_equal(p.cq_entries, max_cq);
	p = (struct io_uring_params){ .flags = IORING_SETUP_CLAMP };
	assert_int_equal(try_setup(0xffffffffu, &p), 0);
	assert_int_equal(p.sq_entries, max_sq);
	p = (struct io_uring_params){ .flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE,
		                      .cq_entries = max_cq + 1 };
	assert_int_equal(try_setup(4, &p), 0);
	assert_int_equal(p.sq_entries, 4);
	assert_int_equal(p.cq_entries, max_cq);
}

static void test_cqsize(void **state)
{
	struct io_uring_params p = { .flags = IORING_SETUP_CQSIZE, .cq_entries = 100 };

	(void)state;
	assert_int_equal(try_setup(4, &p), 0);
	assert_int_equal(p.sq_entries, 4);
	assert_int_equal(p.cq_entries, 128);

	p = (struct io_uring_params){ .flags = IORING_SETUP_CQSIZE, .cq_entries = 4 };
	assert_int_equal(try_setup(4, &p), 0);
	assert_int_equal(p.cq_entries, 4);
	/* Rounded before it is compared: 3 is 4. */
	p = (struct io_uring_params){ .flags = IORING_SETUP_CQSIZE, .cq_entries = 3 };
	assert_int_equal(try_setup(4, &p), 0);
	assert_int_equal(p.cq_entries, 4);

	p = (struct io_uring_params){ .flags = IORING_SETUP_CQSIZE, .cq_entries = 2 };
	assert_int_equal(try_setup(4, &p), -EINVAL);
	p = (struct io_uring_params){ .flags = IORING_SETUP_CQSIZE, .cq_entries = 0 };
	assert_int_equal(try_setup(4, &p), -EINVAL);
	p = (struct io_uring_params){ .flags = IORING_SETUP_CQSIZE, .cq_entries = max_cq + 1 };
	assert_int_equal(try_setup(4, &p), -EINVAL);
	/* Without the flag the field is not looked at. */
	p = (struct io_uring_params){ .cq_entries = 12345 };
	assert_int_equal(try_setup(4, &p), 0);
	assert_int_equal(p.cq_entries, 8);
}

static void test_refused(void **state)
{
	struct io_uring_params p = { .flags = 0 };

	(void)state;
	assert_int_equal(tr_sys_setup(4, NULL), -EFAULT);
	assert_int_equal(tr_sys_setup(4, (struct io_uring_params *)(uintptr_t)8), -EFAULT);
	/* The pointer comes before the entries. */
	assert_int_equal(tr_sys_setup(0, NULL), -EFAULT);
	for (size_t i = 0; i < sizeof(p.resv) / sizeof(p.resv[0]); i++) {
		memset(&p, 0, sizeof(p));
		p.resv[i] = 1;
		assert_int_equal(try_setup(4, &p), -EINVAL);
	}
	assert_int_equal(try_flags(4, 1u << 31), -EINVAL);
	assert_int_equal(try_flags(4, 1u << 30), -EINVAL);
	assert_int_equal(try_flags(4, IORING_SETUP_SQ_AFF), -EINVAL);
	p = (struct io_uring_params){ .flags = IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF,
		                      .sq_thread_cpu = 100000 };
	assert_int_equal(try_setup(4, &p), -EINVAL);
	/* Flags that do not go together: what fio and QEMU rely on when they probe. */
	assert_int_equal(try_flags(4, IORING_SETUP_SQPOLL | IORING_SETUP_COOP_TASKRUN), -EINVAL);
	assert_int_equal(try_flags(4, IORING_SETUP_SQPOLL | IORING_SETUP_DEFER_TASKRUN), -EINVAL);
	assert_int_equal(try_flags(4, IORING_SETUP_TASKRUN_FLAG), -EINVAL);
	assert_int_equal(try_flags(4, IORING_SETUP_DEFER_TASKRUN), -EINVAL);
}

static void test_read_only_params(void **state)
{
	long page = sysconf(_SC_PAGESIZE);
	char *map = mmap(NULL, (size_t)page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int before = tr_count_dir("fd");

	(void)state;
	assert_ptr_not_equal(map, MAP_FAILED);
	/* Read well, written badly: no descriptor may stay behind. */
	assert_int_equal(tr_sys_setup(4, (struct io_uring_params *)(void *)map), -EFAULT);
	assert_int_equal(tr_count_dir("fd"), before);
	munmap(map, (size_t)page);
}

static void test_reported(void **state)
{
	const unsigned needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP |
	                        IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_RW_CUR_POS |
	                        IORING_FEAT_EXT_ARG | IORING_FEAT_POLL_32BITS |
	                        IORING_FEAT_SQPOLL_NONFIXED | IORING_FEAT_FAST_POLL;
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 6, 0), 0);
	assert_int_equal(r.p.features & needed, needed);
	assert_int_equal(*r.sq_mask, 7);
	assert_int_equal(*r.sq_entries, 8);
	assert_int_equal(*r.cq_mask, 15);
	assert_int_equal(*r.cq_entries, 16);
	assert_int_equal(*r.sq_head, 0);
	assert_int_equal(*r.sq_tail, 0);
	assert_int_equal(*r.cq_head, 0);
	assert_int_equal(*r.cq_tail, 0);
	assert_int_equal(*r.sq_flags, 0);
	assert_int_equal(*r.cq_flags, 0);
	assert_int_equal(*r.sq_dropped, 0);
	assert_int_equal(*r.cq_overflow, 0);
	assert_int_equal(r.p.cq_off.cqes % 64, 0);
	assert_true(r.p.sq_off.array >= r.p.cq_off.cqes + 16 * sizeof(struct io_uring_cqe));
	assert_int_equal(fcntl(r.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	tr_exit(&r);
}

static void test_three_mmaps(void **state)
{
	struct io_uring_params p = { .flags = 0 };
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init_params(&r, 8, &p, TR_THREE_MMAPS), 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_int_equal(*r.cq_tail, 20);
	/* The one mapping of the CQ ring shows what the one of the SQ ring does. */
	assert_int_equal(*(unsigned *)(void *)(r.sq + r.p.cq_off.tail), 20);
	tr_exit(&r);
}

static void test_partial_mappings(void **state)
{
	const int prot = PROT_READ | PROT_WRITE;
	struct io_uring_params p = { .flags = 0 };
	int fd = tr_sys_setup(8, &p);
	unsigned *head;

	(void)state;
	assert_true(fd >= 0);
	/* Only as much as somebody needs to look at the indices. */
	head = tr_sys_mmap(128, prot, MAP_SHARED, fd, IORING_OFF_SQ_RING);
	assert_true((long)head > 0);
	assert_int_equal(*(unsigned *)(void *)((char *)head + p.sq_off.ring_entries), 8);
	assert_int_equal(tr_sys_munmap(head, 128), 0);
	head = tr_sys_mmap(128, PROT_READ, MAP_SHARED, fd, IORING_OFF_CQ_RING);
	assert_true((long)head > 0);
	assert_int_equal(*(unsigned *)(void *)((char *)head + p.cq_off.ring_entries), 16);
	assert_int_equal(tr_sys_munmap(head, 128), 0);
	/* More than the ring has: what there is of it is there. */
	head = tr_sys_mmap(1 << 20, prot, MAP_SHARED, fd, IORING_OFF_SQ_RING);
	assert_true((long)head > 0);
	assert_int_equal(*(unsigned *)(void *)((char *)head + p.sq_off.ring_entries), 8);
	assert_int_equal(tr_sys_munmap(head, 1 << 20), 0);
	/* There is no such part. */
	assert_int_equal((long)tr_sys_mmap(4096, prot, MAP_SHARED, fd, 0x18000000), -ENOMEM);
	tr_sys_close(fd);
}

/* A private mapping shows what the kernel writes. */
static void test_private_mapping(void **state)
{
	struct tr_ring r;
	size_t bytes;
	char *seen;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	bytes = r.p.cq_off.cqes + r.p.cq_entries * sizeof(struct io_uring_cqe);
	seen = tr_sys_mmap(bytes, PROT_READ, MAP_PRIVATE, r.fd, IORING_OFF_SQ_RING);
	assert_true((long)seen > 0);
	assert_int_equal(*(unsigned *)(void *)(seen + r.p.sq_off.ring_entries), 8);
	assert_int_equal(*(unsigned *)(void *)(seen + r.p.cq_off.tail), 0);
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_int_equal(*(unsigned *)(void *)(seen + r.p.cq_off.tail), 1);
	assert_int_equal(tr_sys_munmap(seen, bytes), 0);
	seen = tr_sys_mmap(bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE, r.fd, IORING_OFF_SQ_RING);
	assert_int_equal((long)seen, -EPERM);
	seen = tr_sys_mmap(bytes, PROT_READ, MAP_PRIVATE, r.fd, 0x20000000);
	assert_int_equal((long)seen, -ENOMEM);
	tr_exit(&r);
}

/* A ring that the program has no mapping of goes on working. */
static void test_unmapped(void **state)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 7);
	assert_int_equal(tr_publish(&r), 1);
	tr_unmap(&r);
	assert_int_equal(tr_sys_enter(r.fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0), 1);
	assert_int_equal(tr_map(&r, TR_ONE_MMAP), 0);
	assert_int_equal(tr_wait(&r, &cqe), 0);
	assert_int_equal(cqe.user_data, 7);
	tr_exit(&r);
}

static void test_mapping_outlives_fd(void **state)
{
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 8, 0), 0);
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_int_equal(tr_sys_close(r.fd), 0);
	assert_int_equal(*r.cq_tail, 1);
	*r.sq_tail = 77;
	assert_int_equal(*r.sq_tail, 77);
	tr_unmap(&r);
}

static void test_index_array(void **state)
{
	struct tr_ring r;
	struct io_uring_cqe cqe;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	for (unsigned i = 0; i < 4; i++)
		tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 10 + i);
	assert_null(tr_sqe(&r));
	/* The order of submission is the array's, not the SQEs'. */
	for (unsigned i = 0; i < 4; i++)
		r.sq_array[i] = 3 - i;
	assert_int_equal(tr_submit_wait(&r, 4), 4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(tr_wait(&r, &cqe), 0);
		assert_int_equal(cqe.user_data, 13 - i);
	}
	tr_exit(&r);
}

static void test_wrap_around(void **state)
{
	struct tr_ring r;

	(void)state;
	assert_int_equal(tr_init(&r, 2, 0), 0);
	/* A ring that has run for long: the indices are about to wrap. */
	for (int i = 0; i < 1000; i++)
		assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	assert_int_equal(*r.sq_head, 1000);
	assert_int_equal(*r.cq_tail, 1000);
	assert_int_equal(*r.sq_flags, 0);
	tr_exit(&r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_sizes),
	cmocka_unit_test(test_clamp),
	cmocka_unit_test(test_cqsize),
	cmocka_unit_test(test_refused),
	cmocka_unit_test(test_read_only_params),
	cmocka_unit_test(test_reported),
	cmocka_unit_test(test_three_mmaps),
	cmocka_unit_test(test_partial_mappings),
	cmocka_unit_test(test_private_mapping),
	cmocka_unit_test(test_unmapped),
	cmocka_unit_test(test_mapping_outlives_fd),
	cmocka_unit_test(test_index_array),
	cmocka_unit_test(test_wrap_around),
};

TR_MAIN("setup", tests)
