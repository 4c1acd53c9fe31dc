/* Many rings in one process, one NOP on each in turn. */
#include "bench.h"

int main(int argc, char **argv)
{
	const char *usage = "RINGS MILLISECONDS";
	unsigned count = arg_number(argc, argv, 1, usage);
	uint64_t limit_ns = arg_number(argc, argv, 2, usage) * 1000000ULL;
	uint64_t ops = 0, start, spent;
	struct io_uring *rings = calloc(count, sizeof(*rings));

	if (!rings)
		die("memory", ENOMEM);
	need_files(3 * count + 100);
	for (unsigned i = 0; i < count; i++)
		check("io_uring_queue_init", io_uring_queue_init(8, &rings[i], 0));
	start = now_ns();
	do {
		for (unsigned i = 0; i < 1000; i++) {
			struct io_uring *ring = &rings[ops++ % count];

			io_uring_prep_nop(next_sqe(ring));
			check("io_uring_submit_and_wait", io_uring_submit_and_wait(ring, 1));
			while (!reap(ring, 0)) {
			}
		}
		spent = now_ns() - start;
	} while (spent < limit_ns);
	printf("ns_per_op %.1f\n", (double)spent / (double)ops);
	for (unsigned i = 0; i < count; i++)
		io_uring_queue_exit(&rings[i]);
	free(rings);
	return 0;
}
