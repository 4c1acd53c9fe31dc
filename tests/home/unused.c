/*
 * A program that could use io_uring is left alone until it does: it gets no filter before its
 * first ring, however often libraries come and go; and it gets one then, also while another
 * thread loads some. It passes on the kernel as well, where there is no filter at all, and where
 * none can be installed.
 *
 *     unused [filters at the start [how many a ring adds]]
 */
#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOADS = 300, FIRST_RINGS = 30 };

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

static void load(const char *name)
{
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);

	if (!library || dlclose(library)) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
}

/* Makes a ring and uses it; returns how many filters there are then. */
static int first_ring(void)
{
	struct io_uring ring;
	int ret = io_uring_queue_init(8, &ring, 0);

	if (ret) {
		fprintf(stderr, "io_uring_queue_init: %s\n", strerror(-ret));
		exit(1);
	}
	io_uring_prep_nop(io_uring_get_sqe(&ring));
	if (io_uring_submit_and_wait(&ring, 1) != 1)
		exit(1);
	io_uring_queue_exit(&ring);
	return filters();
}

static void check(const char *when, int n, int expected)
{
	if (n != expected) {
		fprintf(stderr, "%s: %d filters\n", when, n);
		exit(1);
	}
}

static void *load_on(void *loaded)
{
	for (;;) {
		load("libm.so.6");
		__atomic_store_n((int *)loaded, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* In a child: a first ring while another thread loads a library. */
static void beside_loads(int expected)
{
	int loaded = 0, status;
	pthread_t thread;
	pid_t pid = fork();

	if (pid == 0) {
		if (pthread_create(&thread, NULL, load_on, &loaded))
			exit(1);
		while (!__atomic_load_n(&loaded, __ATOMIC_RELAXED))
			usleep(100);
		check("a ring beside loads", first_ring(), expected);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		exit(1);
}

/*
 * In a child: a call site that cannot be patched gets a filter of its own, and takes nothing from
 * those that are where there is none.
 */
static void beside_unpatched(int expected)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (!dlmopen(LM_ID_NEWLM, "libring_plugin.so", RTLD_NOW)) {
			fprintf(stderr, "%s\n", dlerror());
			exit(1);
		}
		if (syscall(SYS_io_uring_setup, 1, NULL) != -1 || errno != EFAULT) {
			perror("io_uring_setup");
			exit(1);
		}
		check("a ring beside what cannot be patched", first_ring(), expected);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		exit(1);
}

int main(int argc, char **argv)
{
	int before = argc > 1 ? atoi(argv[1]) : 0, more = argc > 2 ? atoi(argv[2]) : 0;

	check("at the start", filters(), before);
	for (int i = 0; i < LOADS; i++)
		load("libring_plugin.so");
	check("after loading libraries", filters(), before);
	for (int i = 0; i < FIRST_RINGS; i++)
		beside_loads(before + more);
	beside_unpatched(before + 2 * more);
	check("after a ring", first_ring(), before + more);
	return 0;
}
