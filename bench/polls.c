/*
 * Many armed polls. Up to a thousand are on an eventfd of their own: one after the
 * other is made ready, completes and is armed again. The others wait for nothing, on
 * few eventfds, so that limits on descriptors do not end it.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench.h"

#define ENTRIES 256U
#define HOT     1000U
#define COLD    100U

static void arm(struct io_uring *ring, int fd, uint64_t index)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe) {
		check("io_uring_submit", io_uring_submit(ring));
		sqe = next_sqe(ring);
	}
	io_uring_prep_poll_add(sqe, fd, POLLIN);
	sqe->user_data = index;
}

int main(int argc, char **argv)
{
	const char *usage = "POLLS MILLISECONDS";
	unsigned count = arg_number(argc, argv, 1, usage);
	uint64_t limit_ns = arg_number(argc, argv, 2, usage) * 1000000ULL;
	uint64_t ops = 0, start, spent;
	unsigned hot = count < HOT ? count : HOT;
	int fds[HOT + COLD];
	struct io_uring_cqe *cqe;
	struct io_uring ring;

	need_files(2 * count + HOT);
	check("io_uring_queue_init", io_uring_queue_init(ENTRIES, &ring, 0));
	for (unsigned i = 0; i < HOT + COLD; i++) {
		fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (fds[i] < 0)
			die("eventfd", errno);
	}
	for (unsigned i = 0; i < count; i++)
		arm(&ring, fds[i < hot ? i : HOT + i % COLD], i);
	check("io_uring_submit", io_uring_submit(&ring));
	start = now_ns();
	do {
		for (unsigned i = 0; i < 200; i++) {
			uint64_t value = 1, index = (ops * 7919) % hot;

			if (write(fds[index], &value, sizeof(value)) != sizeof(value))
				die("write", errno);
			check("io_uring_wait_cqe", io_uring_wait_cqe(&ring, &cqe));
			if (cqe->user_data != index || !(cqe->res & POLLIN))
				die("poll", cqe->res < 0 ? cqe->res : EPROTO);
			io_uring_cqe_seen(&ring, cqe);
			if (read(fds[index], &value, sizeof(value)) != sizeof(value))
				die("read", errno);
			arm(&ring, fds[index], index);
			check("io_uring_submit", io_uring_submit(&ring));
			ops++;
		}
		spent = now_ns() - start;
	} while (spent < limit_ns);
	printf("ns_per_op %.1f\n", (double)spent / (double)ops);
	io_uring_queue_exit(&ring);
	return 0;
}
