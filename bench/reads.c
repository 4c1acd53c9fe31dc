/* Cached random 4 KiB reads, a whole queue's depth per io_uring_enter. */
#include <fcntl.h>
#include <sys/stat.h>

#include "bench.h"

#define BLOCK 4096U

int main(int argc, char **argv)
{
	const char *usage = "DEPTH MILLISECONDS FILE";
	unsigned depth = arg_number(argc, argv, 1, usage);
	uint64_t limit_ns = arg_number(argc, argv, 2, usage) * 1000000ULL;
	uint64_t ops = 0, start, spent, random = 88172645463325252ULL;
	struct io_uring ring;
	struct stat st;
	char *buffers;
	int fd = argc > 3 ? open(argv[3], O_RDONLY) : -1;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < BLOCK) {
		fprintf(stderr, "usage: %s %s\n", argv[0], usage);
		return 2;
	}
	buffers = aligned_alloc(BLOCK, (size_t)depth * BLOCK);
	if (!buffers)
		die("memory", ENOMEM);
	memset(buffers, 1, (size_t)depth * BLOCK);
	check("io_uring_queue_init", io_uring_queue_init(depth, &ring, 0));
	start = now_ns();
	do {
		unsigned done = 0;

		for (unsigned i = 0; i < depth; i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			io_uring_prep_read(next_sqe(&ring), fd, buffers + (size_t)i * BLOCK, BLOCK,
			                   random % ((uint64_t)st.st_size / BLOCK) * BLOCK);
		}
		check("io_uring_submit_and_wait", io_uring_submit_and_wait(&ring, depth));
		while (done < depth)
			done += reap(&ring, BLOCK);
		ops += done;
		spent = now_ns() - start;
	} while (spent < limit_ns);
	printf("ns_per_op %.1f\n", (double)spent / (double)ops);
	io_uring_queue_exit(&ring);
	free(buffers);
	return 0;
}
