/*
 * A program that could use io_uring is left alone until it does: it gets no filter before its
 * first ring. It passes on the kernel as well, where there is no filter at all.
 */
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int filters(void)
{
	static const char name[] = "Seccomp_filters:";
	char status[8192];
	const char *line;
	FILE *f = fopen("/proc/self/status", "r");
	size_t n = f ? fread(status, 1, sizeof(status) - 1, f) : 0;

	if (f)
		fclose(f);
	status[n] = '\0';
	line = strstr(status, name);
	if (!line) {
		fprintf(stderr, "no %s in /proc/self/status\n", name);
		exit(1);
	}
	return atoi(line + strlen(name));
}

int main(int argc, char **argv)
{
	int jailed = argc > 1 ? atoi(argv[1]) : 0, shim = getenv("FU_TEST_UNDER_SHIM") != NULL;
	int before = filters(), after, ret;
	struct io_uring ring;

	ret = io_uring_queue_init(8, &ring, 0);

	if (ret) {
		fprintf(stderr, "io_uring_queue_init: %s\n", strerror(-ret));
		return 1;
	}
	io_uring_prep_nop(io_uring_get_sqe(&ring));
	if (io_uring_submit_and_wait(&ring, 1) != 1)
		return 1;
	io_uring_queue_exit(&ring);
	after = filters();
	if (before != jailed || after != jailed + shim) {
		fprintf(stderr, "filters: %d, then %d\n", before, after);
		return 1;
	}
	return 0;
}
