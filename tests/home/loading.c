/*
 * A library that is loaded while the program runs has rings from its constructor on, in a process
 * that has made none before and in one that has, whatever other library brings it, in whatever
 * namespace.
 *
 * With arguments it is the process that loads: "HOW LIBRARY", where HOW is any of
 *     n    into a namespace of its own
 *     r    there has been a ring before
 *     t    other threads load and unload something else meanwhile
 *     o    over and over again
 *     m    many copies of it, which is libring_plugin.so then
 */
#include "tests/home/home.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define must(what)                                      \
	do {                                            \
		if (!(what)) {                          \
			fprintf(stderr, "%s\n", #what); \
			_exit(5);                       \
		}                                       \
	} while (0)

enum { LOADERS = 2, ROUNDS = 30, COPIES = 300 };

static char self[4096];

static void *loads_others(void *stop)
{
	while (!__atomic_load_n((int *)stop, __ATOMIC_RELAXED)) {
		void *so = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);

		must(so != NULL);
		dlclose(so);
	}
	return NULL;
}

/* What the library's constructor got from a ring of its own, and what another ring gets now. */
static int load_once(const char *how, const char *library)
{
	void *so;
	int (*early)(void), (*use)(void);
	int ret;

	if (strchr(how, 'n'))
		so = dlmopen(LM_ID_NEWLM, library, RTLD_NOW);
	else
		so = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	if (!so) {
		fprintf(stderr, "%s\n", dlerror());
		return 2;
	}
	early = (int (*)(void))dlsym(so, "plugin_early");
	use = (int (*)(void))dlsym(so, "plugin_use");
	if (!early || !use)
		return 3;
	ret = early();
	if (ret)
		fprintf(stderr, "in the constructor: %s\n", strerror(-ret));
	if (ret || use())
		return 4;
	dlclose(so);
	return 0;
}

static bool copy(const char *from, const char *to)
{
	char buf[65536];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0700);
	ssize_t n = -1;

	while (in >= 0 && out >= 0 && (n = read(in, buf, sizeof(buf))) > 0) {
		if (write(out, buf, (size_t)n) != n)
			n = -1;
	}
	close(in);
	close(out);
	return n == 0;
}

/* More call sites than there is room for in any one place: half of them come before the first ring.
 */
static int load_many(const char *library)
{
	static long (*enter[COPIES])(long, long);
	char dir[] = "/tmp/fakeuring-many-XXXXXX", path[64];
	struct tr_ring r;

	must(mkdtemp(dir) != NULL);
	for (int i = 0; i < COPIES; i++) {
		void *so;

		snprintf(path, sizeof(path), "%s/%d.so", dir, i);
		must(copy(library, path));
		so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		unlink(path);
		enter[i] = so ? (long (*)(long, long))dlsym(so, "plugin_enter") : NULL;
		if (i == COPIES / 2)
			must(tr_init(&r, 4, 0) == 0);
		if (!enter[i])
			break;
	}
	rmdir(dir);
	for (int i = 0; i < COPIES; i++) {
		must(enter[i] != NULL);
		tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, (unsigned)i);
		tr_publish(&r);
		if (enter[i](r.fd, 1) != 1 || !tr_peek(&r) ||
		    tr_peek(&r)->user_data != (unsigned)i) {
			fprintf(stderr, "library %d\n", i);
			return 6;
		}
		tr_seen(&r);
	}
	tr_exit(&r);
	return 0;
}

static int load(const char *how, const char *library)
{
	pthread_t loaders[LOADERS];
	int stop = 0, ret = 0;

	if (strchr(how, 'r')) {
		struct tr_ring r;

		must(tr_init(&r, 4, 0) == 0);
		tr_exit(&r);
	}
	if (strchr(how, 't')) {
		for (int i = 0; i < LOADERS; i++)
			must(pthread_create(&loaders[i], NULL, loads_others, &stop) == 0);
	}
	for (int i = 0; i < (strchr(how, 'o') ? ROUNDS : 1) && !ret; i++)
		ret = load_once(how, library);
	if (strchr(how, 't')) {
		__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
		for (int i = 0; i < LOADERS; i++)
			pthread_join(loaders[i], NULL);
	}
	return ret;
}

static int in_process(const char *how, const char *library)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		alarm(50);
		execl(self, self, how, library, (char *)NULL);
		_exit(127);
	}
	return tr_wait_child(pid);
}

static void test_constructor(void **state)
{
	(void)state;
	assert_int_equal(in_process("", "./libhome_plugin.so"), 0);
	assert_int_equal(in_process("r", "./libhome_plugin.so"), 0);
	assert_int_equal(in_process("o", "./libhome_plugin.so"), 0);
}

static void test_dependency(void **state)
{
	(void)state;
	assert_int_equal(in_process("", "./libhome_needs_plugin.so"), 0);
	assert_int_equal(in_process("o", "./libhome_needs_plugin.so"), 0);
}

static void test_new_namespace(void **state)
{
	(void)state;
	if (SANITIZED)
		skip();
	assert_int_equal(in_process("n", "./libhome_plugin.so"), 0);
	assert_int_equal(in_process("nr", "./libhome_needs_plugin.so"), 0);
}

static void test_beside_other_loads(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(in_process("t", "./libhome_plugin.so"), 0);
		assert_int_equal(in_process("to", "./libhome_needs_plugin.so"), 0);
	}
}

static void test_many(void **state)
{
	(void)state;
	assert_int_equal(in_process("m", "./libring_plugin.so"), 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_constructor),   cmocka_unit_test(test_dependency),
	cmocka_unit_test(test_new_namespace), cmocka_unit_test(test_beside_other_loads),
	cmocka_unit_test(test_many),
};

int main(int argc, char **argv)
{
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return 99;
	self[n] = '\0';
	if (argc == 3)
		return strchr(argv[1], 'm') ? load_many(argv[2]) : load(argv[1], argv[2]);
	return tr_run_group("home loading", tests, sizeof(tests) / sizeof(tests[0]));
}
