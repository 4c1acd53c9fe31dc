/* NOPs in batches: the cost of a request that does nothing. */
#include "bench.h"

int main(int argc, char **argv)
{
	const char *usage = "BATCH MILLISECONDS";
	unsigned batch = arg_number(argc, argv, 1, usage);
	uint64_t limit_ns = arg_number(argc, argv, 2, usage) * 1000000ULL;
	uint64_t ops = 0, start, spent;
	struct io_uring ring;

	check("io_uring_queue_init", io_uring_queue_init(batch, &ring, 0));
	start = now_ns();
	do {
		for (int round = 0; round < 64; round++) {
			unsigned done = 0;

			for (unsigned i = 0; i < batch; i++)
				io_uring_prep_nop(next_sqe(&ring));
			check("io_uring_submit_and_wait", io_uring_submit_and_wait(&ring, batch));
			while (done < batch)
				done += reap(&ring, 0);
			ops += done;
		}
		spent = now_ns() - start;
	} while (spent < limit_ns);
	printf("ns_per_op %.1f\n", (double)spent / (double)ops);
	io_uring_queue_exit(&ring);
	return 0;
}
