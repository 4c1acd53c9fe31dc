/*
 * What rings cost that have nothing to do: processor time, threads, memory. Each has
 * done one NOP; one of them has a poll armed if "poll" is given.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench.h"

/* A number from /proc/self/status. */
static long status(const char *name)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[256];
	long value = -1;

	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, name, strlen(name)) == 0)
			value = strtol(line + strlen(name) + 1, NULL, 10);
	}
	if (file)
		fclose(file);
	return value;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

static void use(struct io_uring *ring)
{
	check("io_uring_queue_init", io_uring_queue_init(128, ring, 0));
	io_uring_prep_nop(next_sqe(ring));
	check("io_uring_submit_and_wait", io_uring_submit_and_wait(ring, 1));
	reap(ring, 0);
}

int main(int argc, char **argv)
{
	const char *usage = "RINGS MILLISECONDS [poll]";
	unsigned count = arg_number(argc, argv, 1, usage);
	unsigned ms = arg_number(argc, argv, 2, usage);
	struct timespec pause = { ms / 1000, (long)(ms % 1000) * 1000000L };
	struct io_uring *rings = calloc(count + 1, sizeof(*rings));
	long before_kib, after_kib;
	uint64_t cpu;

	if (!rings)
		die("memory", ENOMEM);
	need_files(3 * count + 100);
	/* The first one pays for what all share. */
	use(&rings[count]);
	before_kib = status("VmRSS:");
	for (unsigned i = 0; i < count; i++)
		use(&rings[i]);
	after_kib = status("VmRSS:");
	printf("kib_per_ring %.1f\n", (double)(after_kib - before_kib) / count);
	printf("threads %ld\n", status("Threads:"));
	if (argc > 3 && strcmp(argv[3], "poll") == 0) {
		io_uring_prep_poll_add(next_sqe(&rings[0]), eventfd(0, EFD_CLOEXEC), POLLIN);
		check("io_uring_submit", io_uring_submit(&rings[0]));
	}
	cpu = cpu_ns();
	nanosleep(&pause, NULL);
	printf("cpu_us_per_s %.1f\n", (double)(cpu_ns() - cpu) / ms);
	return 0;
}
