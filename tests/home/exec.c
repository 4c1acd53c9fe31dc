/*
 * The beginning and the end of a program: a ring made by a library's constructor, children that
 * do not have the shim, and long chains of exec.
 *
 * With arguments it is such a child itself: "chain N" uses a ring and becomes "chain N-1".
 */
#include "tests/home/home.h"

#include <fcntl.h>
#include <sys/stat.h>

static char self[4096];
static char *alone; /* a program with call sites of its own, linked statically */

/* The filters on this process, 0 where the kernel does not say. */
static int filters(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[200];
	int n = 0;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "Seccomp_filters: %d", &n);
	if (f)
		fclose(f);
	return n;
}

static int chain(int left)
{
	struct tr_ring r;
	char number[16];

	for (int way = 0; way < 2; way++) {
		tr_entry = way ? TR_INLINE : TR_LIBC;
		if (tr_init(&r, 4, 0) != 0 || tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0) != 0)
			return 1;
		/* The next one inherits it, were it not close-on-exec. */
		if (left % 2)
			tr_exit(&r);
	}
	if (left == 0)
		return 0;
	snprintf(number, sizeof(number), "%d", left - 1);
	execl(self, self, "chain", number, (char *)NULL);
	return 2;
}

/* In a library that is there from the start: what its constructor got from a ring of its own. */
int plugin_early(void);

static void test_early_ring(void **state)
{
	(void)state;
	assert_int_equal(plugin_early(), 0);
}

static int run(const char *const *argv, char *const *env)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		alarm(50);
		execve(argv[0], (char *const *)(uintptr_t)argv, env);
		_exit(127);
	}
	return tr_wait_child(pid);
}

extern char **environ;

static void test_chain(void **state)
{
	const char *const argv[] = { self, "chain", "50", NULL };

	(void)state;
	assert_int_equal(run(argv, environ), 0);
}

/* Shells that become shells: nothing has been added to any at the end. */
static void test_chain_of_shells(void **state)
{
	const char *const argv[] = {
		"/bin/sh", "-c",
		"if [ ${N:=0} -lt 50 ]; then N=$((N + 1)) exec /bin/sh -c \"$S\"; fi\n"
		"grep -q \"^Seccomp_filters:[^0-9]*$F$\" /proc/self/status || ! grep -q "
		"^Seccomp_filters /proc/self/status",
		NULL
	};
	char number[16];
	struct tr_ring r;

	(void)state;
	/* Begun by one that has rings. */
	assert_int_equal(tr_init(&r, 4, 0), 0);
	snprintf(number, sizeof(number), "%d", filters());
	setenv("F", number, 1);
	setenv("S", argv[2], 1);
	assert_int_equal(run(argv, environ), 0);
	tr_exit(&r);
}

/*
 * Programs that do without the shim do all that they did, and get of io_uring what the
 * kernel gives: from a parent that has rings, and from a thread that has everything blocked.
 */
static void test_without_library(void **state)
{
	char *const empty[] = { NULL };
	const char *const argv[] = { alone, tr_under_shim() ? "denied" : "works", NULL };
	const char *const truth[] = { "/bin/true", NULL };
	struct tr_ring r;
	sigset_t all, old;

	(void)state;
	assert_int_equal(tr_init(&r, 4, 0), 0);
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	for (int i = 0; i < 2; i++) {
		sigfillset(&all);
		if (i)
			sigprocmask(SIG_SETMASK, &all, &old);
		assert_int_equal(run(argv, environ), 0);
		assert_int_equal(run(argv, empty), 0);
		assert_int_equal(run(truth, empty), 0);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	assert_int_equal(tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	tr_exit(&r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_early_ring),
	cmocka_unit_test(test_chain),
	cmocka_unit_test(test_chain_of_shells),
	cmocka_unit_test(test_without_library),
};

int main(int argc, char **argv)
{
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 32);

	if (n <= 0)
		return 99;
	self[n] = '\0';
	if (argc == 3 && !strcmp(argv[1], "chain"))
		return chain(atoi(argv[2]));
	alone = strdup(self);
	strcpy(strrchr(alone, '/') + 1, "home_alone");
	return tr_run_group("home exec", tests, sizeof(tests) / sizeof(tests[0]));
}
