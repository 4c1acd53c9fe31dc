/*
 * Small random programs for a ring: NOPs that succeed or fail, reads, timeouts, in links,
 * hard links, drains and with silent successes. Prints each one's CQEs in their order,
 * or sorted where a drain is among them: what it held back runs on the kernel's workers,
 * beside what follows.
 */
#include "tests/ring_util.h"

#include <stdlib.h>
#include <unistd.h>

#define MAX_SQES 8
#define DEFER    (1U << 13 | 1U << 12)

static uint64_t state;

static unsigned pick(unsigned n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state >> 11) % n;
}

static bool drained;

static int by_user_data(const void *a, const void *b)
{
	const struct io_uring_cqe *x = a, *y = b;

	return x->user_data < y->user_data ? -1 : x->user_data > y->user_data;
}

static void prepare(struct tr_ring *r, int file, unsigned i, bool last)
{
	static const unsigned flag_sets[] = { 0,
		                              0,
		                              0,
		                              IOSQE_IO_LINK,
		                              IOSQE_IO_LINK,
		                              IOSQE_IO_HARDLINK,
		                              IOSQE_IO_DRAIN,
		                              IOSQE_CQE_SKIP_SUCCESS,
		                              IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK };
	static struct __kernel_timespec times[MAX_SQES];
	static char bytes[MAX_SQES][64];
	struct io_uring_sqe *sqe;
	unsigned flags = flag_sets[pick(9)];

	/* Timeouts end one by one. */
	times[i] = (struct __kernel_timespec){ .tv_nsec = (4 + 6 * (int)i) * 1000000L };
	switch (pick(9)) {
	case 0:
		sqe = tr_prep(r, IORING_OP_READ, file, bytes[i], 50, 0, i);
		break;
	case 1: /* short: at the end of the file */
		sqe = tr_prep(r, IORING_OP_READ, file, bytes[i], 50, 80, i);
		break;
	case 2:
		sqe = tr_prep(r, IORING_OP_READ, 9999, bytes[i], 50, 0, i);
		break;
	case 3: /* refused when prepared */
		sqe = tr_prep(r, IORING_OP_NOP, -1, NULL, 0, 0, i);
		sqe->rw_flags = 1 << 20;
		break;
	case 4:
		sqe = tr_prep(r, IORING_OP_TIMEOUT, -1, &times[i], 1, 0, i);
		break;
	case 5:
		sqe = tr_prep(r, IORING_OP_LINK_TIMEOUT, -1, &times[i], 1, 0, i);
		break;
	default:
		sqe = tr_prep(r, IORING_OP_NOP, -1, NULL, 0, 0, i);
	}
	drained |= flags == IOSQE_IO_DRAIN;
	/* A link that the submission leaves open is nobody's order. */
	sqe->flags = (unsigned char)(last ? flags & ~(IOSQE_IO_LINK | IOSQE_IO_HARDLINK) : flags);
}

static void run(unsigned seed, int file)
{
	static const unsigned setups[] = { 0, DEFER, IORING_SETUP_COOP_TASKRUN,
		                           IORING_SETUP_SUBMIT_ALL,
		                           IORING_SETUP_SUBMIT_ALL | DEFER };
	struct io_uring_cqe cqes[2 * MAX_SQES];
	unsigned setup, n, got = 0;
	struct tr_ring r;
	int done;

	drained = false;
	state = 0x9E3779B97F4A7C15ULL * (seed + 1);
	for (int i = 0; i < 5; i++)
		pick(2);
	setup = setups[pick(5)];
	n = 1 + pick(MAX_SQES);
	if (tr_init(&r, MAX_SQES, setup))
		exit(1);
	for (unsigned i = 0; i < n; i++)
		prepare(&r, file, i, i == n - 1);
	done = tr_submit(&r);
	printf("%u: setup %x, %d of %u:", seed, setup, done, n);
	while (got < 2 * MAX_SQES && tr_wait_ms(&r, &cqes[got], 80) == 0)
		got++;
	if (drained)
		qsort(cqes, got, sizeof(cqes[0]), by_user_data);
	for (unsigned i = 0; i < got; i++)
		printf(" %llu=%d", (unsigned long long)cqes[i].user_data, cqes[i].res);
	printf("\n");
	fflush(stdout);
	tr_exit(&r);
}

int main(int argc, char **argv)
{
	unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 150;
	struct tr_ring r;
	int file = tr_temp_file(100);
	int ret = tr_init(&r, 1, 0);

	if (ret == -ENOSYS || ret == -EPERM)
		return 77;
	tr_exit(&r);
	for (unsigned seed = 0; seed < count; seed++)
		run(seed, file);
	close(file);
	return 0;
}
