/*
 * Programs that gain rights when they are executed. The shim is not in them, and as long as its
 * filter has not been needed they gain what they would without it; as on the kernel after a ring
 * that was made with CAP_SYS_ADMIN. A filter that an ordinary user's process needs costs them their
 * rights; then they are programs like others, and have the shim if it can be in them.
 *
 * With arguments it is one of the processes:
 *     starts HOW DIRECTORY     executes the programs in it as an ordinary user:
 *                              n: without a ring, u: after having made one, r: having made one as
 * root gains WHAT EUID          is such a program, where rings are WHAT: works or denied
 */
#include "tests/home/home.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/stat.h>

enum { USER = 65533, SKIPPED = 77 };

static char self[4096];

static int gains(const char *what, const char *euid)
{
	struct tr_ring r;
	int ret;

	tr_entry = TR_INLINE;
	ret = tr_init(&r, 4, 0);
	if (geteuid() != (uid_t)strtoul(euid, NULL, 10))
		return 10;
	if (!strcmp(what, "works"))
		return ret ? 11 : 0;
	return ret == -EPERM || ret == -ENOSYS ? 0 : 12;
}

static int execute(const char *dir, const char *name, const char *mode, bool gets)
{
	bool works = !tr_under_shim() || (mode && !gets);
	const char *what = works ? "works" : "denied";
	char path[4096], euid[16];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(euid, sizeof(euid), "%u", gets ? 0U : USER);
	pid = fork();
	if (pid == 0) {
		if (mode)
			execl(path, path, mode, what, euid, (char *)NULL);
		execl(path, path, what, euid, (char *)NULL);
		_exit(127);
	}
	return tr_wait_child(pid);
}

static void become_user(void)
{
	if (setgroups(0, NULL) || setgid(USER) || setuid(USER))
		_exit(SKIPPED);
}

static int starts(const char *how, const char *dir)
{
	bool gets = *how != 'u' || !tr_under_shim();
	struct tr_ring r;
	int ret;

	tr_entry = TR_INLINE;
	if (*how != 'r')
		become_user();
	if (*how != 'n' && (tr_init(&r, 4, 0) || tr_do(&r, IORING_OP_NOP, -1, NULL, 0, 0)))
		return 1;
	if (*how == 'r')
		become_user();
	/* A setting of this process, and of no other. */
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != !gets)
		return 2;
	ret = execute(dir, "dynamic", "gains", gets);
	return ret ? ret : execute(dir, "static", NULL, gets);
}

static bool copy(const char *from, const char *dir, const char *name)
{
	char path[4096], buf[65536];
	int in = open(from, O_RDONLY), out;
	ssize_t n = -1;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	out = open(path, O_WRONLY | O_CREAT | O_EXCL, 0700);
	while (in >= 0 && out >= 0 && (n = read(in, buf, sizeof(buf))) > 0) {
		if (write(out, buf, (size_t)n) != n)
			break;
	}
	if (in >= 0)
		close(in);
	if (out >= 0)
		n = n == 0 && fchmod(out, 04755) == 0 ? close(out) : -1;
	return n == 0;
}

/* Can an ordinary user execute what is to be executed, and the library with it? */
static int looks(void)
{
	const char *library = getenv("LD_PRELOAD");
	pid_t pid = fork();

	if (pid == 0) {
		become_user();
		_exit(access(self, X_OK) || (library && access(library, R_OK)) ? SKIPPED : 0);
	}
	return tr_wait_child(pid);
}

static char dir[] = "/tmp/fakeuring-rights-XXXXXX";

static bool set_up(void)
{
	char alone[4096];

	if (geteuid() || looks() || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) || !mkdtemp(dir))
		return true;
	strcpy(alone, self);
	strcpy(strrchr(alone, '/') + 1, "home_alone");
	return chmod(dir, 0755) == 0 && copy(self, dir, "dynamic") && copy(alone, dir, "static");
}

static void clean_up(void)
{
	static const char *const names[] = { "dynamic", "static" };
	char path[4096];

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
}

static int started(const char *how)
{
	pid_t pid;

	if (access(dir, X_OK))
		skip();
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		alarm(30);
		execl(self, self, "starts", how, dir, (char *)NULL);
		_exit(127);
	}
	return tr_wait_child(pid);
}

static void test_without_ring(void **state)
{
	(void)state;
	assert_int_equal(started("n"), 0);
}

static void test_ring_of_a_user(void **state)
{
	(void)state;
	assert_int_equal(started("u"), 0);
}

static void test_ring_of_root(void **state)
{
	(void)state;
	assert_int_equal(started("r"), 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_without_ring),
	cmocka_unit_test(test_ring_of_a_user),
	cmocka_unit_test(test_ring_of_root),
};

int main(int argc, char **argv)
{
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 32);
	int ret;

	if (n <= 0)
		return 99;
	self[n] = '\0';
	if (argc == 4 && !strcmp(argv[1], "starts"))
		return starts(argv[2], argv[3]);
	if (argc == 4 && !strcmp(argv[1], "gains"))
		return gains(argv[2], argv[3]);
	ret = set_up() ? tr_run_group("home rights", tests, sizeof(tests) / sizeof(tests[0])) : 98;
	clean_up();
	return ret;
}
