/* Ten thousand timeouts (or as many as asked for) are armed, and cancelled one by one. */
#include "bench.h"

#define BATCH 64U

static void flush(struct io_uring *ring, unsigned wait)
{
	check("io_uring_submit_and_wait", io_uring_submit_and_wait(ring, wait));
}

int main(int argc, char **argv)
{
	const char *usage = "PENDING MILLISECONDS";
	unsigned count = arg_number(argc, argv, 1, usage);
	uint64_t limit_ns = arg_number(argc, argv, 2, usage) * 1000000ULL;
	uint64_t ops = 0, start, spent;
	struct __kernel_timespec times[BATCH];
	struct io_uring ring;

	check("io_uring_queue_init", io_uring_queue_init(4 * BATCH, &ring, 0));
	start = now_ns();
	do {
		for (unsigned i = 0; i < count; i++) {
			struct __kernel_timespec *ts = &times[i % BATCH];
			struct io_uring_sqe *sqe = next_sqe(&ring);

			/* Neither in the order of the deadlines nor all the same. */
			*ts = (struct __kernel_timespec){ .tv_sec = 3600 + (i * 7919) % count };
			io_uring_prep_timeout(sqe, ts, 0, 0);
			sqe->user_data = i + 1;
			if (i % BATCH == BATCH - 1 || i == count - 1)
				flush(&ring, 0);
		}
		for (unsigned i = 0, taken = 0; i < count; i++) {
			struct io_uring_sqe *sqe = next_sqe(&ring);
			unsigned batch = i % BATCH + 1;

			io_uring_prep_timeout_remove(sqe, i + 1, 0);
			if (batch != BATCH && i != count - 1)
				continue;
			/* Two each: the removal, and the timeout with -ECANCELED. */
			flush(&ring, 2 * batch);
			for (taken = 0; taken < 2 * batch;)
				taken += reap(&ring, -ECANCELED);
		}
		ops += count;
		spent = now_ns() - start;
	} while (spent < limit_ns);
	printf("ns_per_op %.1f\n", (double)spent / (double)ops);
	io_uring_queue_exit(&ring);
	return 0;
}
