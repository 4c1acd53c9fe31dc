/*
 * Does io_uring_enter stall its caller? Random reads of a file that is not cached,
 * with O_DIRECT, always DEPTH in flight; the time of each call that submits one and
 * waits for nothing, and the time a read takes.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "bench.h"

#define BLOCK     4096U
#define MAX_CALLS 200000U
#define MAX_DEPTH 256U

static uint64_t calls_ns[MAX_CALLS], reads_ns[MAX_CALLS];

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void print(const char *what, uint64_t *ns, unsigned n)
{
	qsort(ns, n, sizeof(*ns), compare);
	printf("%s_p50_us %.2f\n", what, (double)ns[n / 2] / 1e3);
	printf("%s_p99_us %.2f\n", what, (double)ns[(size_t)n * 99 / 100] / 1e3);
}

int main(int argc, char **argv)
{
	const char *usage = "DEPTH MILLISECONDS FILE";
	unsigned depth = arg_number(argc, argv, 1, usage), n = 0;
	uint64_t limit_ns = arg_number(argc, argv, 2, usage) * 1000000ULL;
	uint64_t start = now_ns(), random = 88172645463325252ULL, begun[MAX_DEPTH];
	int fd = argc > 3 ? open(argv[3], O_RDONLY | O_DIRECT) : -1;
	struct io_uring ring;
	struct stat st;
	char *buffers;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < BLOCK || depth > MAX_DEPTH) {
		fprintf(stderr, "usage: %s %s\n", argv[0], usage);
		return 2;
	}
	buffers = aligned_alloc(BLOCK, (size_t)depth * BLOCK);
	if (!buffers)
		die("memory", ENOMEM);
	check("io_uring_queue_init", io_uring_queue_init(depth, &ring, 0));
	for (unsigned slot = 0; n < MAX_CALLS && (n < depth || now_ns() - start < limit_ns); n++) {
		struct io_uring_sqe *sqe = next_sqe(&ring);
		struct io_uring_cqe *cqe;

		if (n < depth)
			slot = n;
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		io_uring_prep_read(sqe, fd, buffers + (size_t)slot * BLOCK, BLOCK,
		                   random % ((uint64_t)st.st_size / BLOCK) * BLOCK);
		sqe->user_data = slot;
		begun[slot] = now_ns();
		check("io_uring_submit", io_uring_submit(&ring));
		calls_ns[n] = now_ns() - begun[slot];
		if (n < depth - 1)
			continue;
		check("io_uring_wait_cqe", io_uring_wait_cqe(&ring, &cqe));
		if (cqe->res != (int)BLOCK)
			die("read", cqe->res);
		slot = (unsigned)cqe->user_data;
		reads_ns[n - depth + 1] = now_ns() - begun[slot];
		io_uring_cqe_seen(&ring, cqe);
	}
	print("enter", calls_ns, n);
	print("read", reads_ns, n - depth + 1);
	io_uring_queue_exit(&ring);
	return 0;
}
