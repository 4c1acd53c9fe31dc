/*
 * What a start costs: runs a program again and again, with a library
 * preloaded or none ("-"), and says how long one run takes. Called with "child" it is such a
 * program: it makes a ring if told so, says how much memory it has, and ends.
 */
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

extern char **environ;

static int child(bool ring_too, bool say)
{
	char line[256];
	FILE *file;

	if (ring_too) {
		struct io_uring ring;

		check("io_uring_queue_init", io_uring_queue_init(128, &ring, 0));
		io_uring_prep_nop(next_sqe(&ring));
		check("io_uring_submit_and_wait", io_uring_submit_and_wait(&ring, 1));
	}
	if (!say)
		return 0;
	file = fopen("/proc/self/status", "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "VmRSS:", 6) == 0)
			printf("rss_kib %ld\n", strtol(line + 6, NULL, 10));
	}
	return 0;
}

static void run(char **argv)
{
	int status;
	pid_t pid;
	int err = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);

	if (err)
		die("posix_spawn", err);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		die("the program failed", 0);
}

int main(int argc, char **argv)
{
	const char *usage = "RUNS LIBRARY|- PROGRAM ARGUMENT...";
	unsigned runs;
	uint64_t start;

	if (argc > 2 && strcmp(argv[1], "child") == 0)
		return child(strcmp(argv[2], "ring") == 0, argc > 3);
	runs = arg_number(argc, argv, 1, usage);
	if (argc < 4) {
		fprintf(stderr, "usage: %s %s\n", argv[0], usage);
		return 2;
	}
	/* For the program, not for this process. */
	if (strcmp(argv[2], "-") != 0)
		setenv("LD_PRELOAD", argv[2], 1);
	run(argv + 3);
	start = now_ns();
	for (unsigned i = 0; i < runs; i++)
		run(argv + 3);
	printf("ms_per_run %.3f\n", (double)(now_ns() - start) / 1e6 / runs);
	return 0;
}
