/*
 * jail: runs a program where io_uring is denied, as a container or an old kernel does it.
 *
 *     jail [--errno EPERM|ENOSYS | --kernel 4.9|4.14|4.19|5.0] [--deny CALL]... [--]
 *          program [args...]
 *
 * Installs a seccomp filter that answers io_uring_setup, io_uring_enter and
 * io_uring_register with the errno and allows everything else, then execs. The
 * filter is inherited by the whole process tree and nothing can take it off, so
 * a ring that works in here cannot be the kernel's. EPERM is what a container's
 * profile and kernel.io_uring_disabled answer, ENOSYS is an old kernel.
 *
 * With --kernel the rest of the machine looks like that kernel too, as far as a
 * filter can tell from a call's number and its arguments: what came later answers
 * as an unknown call, flag, command or option does (jail/oldkernel.c). Each --deny
 * answers one more call, by its name, with EPERM, as a strict sandbox does;
 * `writable-code` stands for making memory writable and executable at once.
 */
#include "jail/oldkernel.h"

#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What env(1), timeout(1) and shells answer when the program cannot be run. */
#define EXIT_USAGE     125
#define EXIT_CANNOT    126
#define EXIT_NOT_FOUND 127

static int usage(void)
{
	fprintf(stderr, "usage: jail [--errno EPERM|ENOSYS | --kernel 4.9|4.14|4.19|5.0] "
	                "[--deny CALL]... [--] program [args...]\n");
	return EXIT_USAGE;
}

/* Returns 0 or a libseccomp error, -errno like. */
static int build_filter(scmp_filter_ctx ctx, int denied, unsigned kernel)
{
	const int calls[] = { SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter),
		              SCMP_SYS(io_uring_register) };
	int rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW);

	for (size_t i = 0; rc == 0 && i < sizeof(calls) / sizeof(calls[0]); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO((unsigned)denied), calls[i], 0);
	if (rc == 0 && kernel)
		rc = old_kernel_rules(ctx, kernel);
	return rc;
}

static int deny(scmp_filter_ctx ctx, const char *name)
{
	int nr = seccomp_syscall_resolve_name(name);

	if (strcmp(name, "writable-code") == 0) {
		scmp_datum_t both = PROT_WRITE | PROT_EXEC;

		return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mprotect), 1,
		                        SCMP_A2(SCMP_CMP_MASKED_EQ, both, both));
	}
	return nr == __NR_SCMP_ERROR ? -EINVAL
	                             : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), nr, 0);
}

/*
 * A privileged process keeps its privileges, as a container's does; any other
 * one may only filter itself after it has given up gaining new ones.
 */
static int load_filter(scmp_filter_ctx ctx)
{
	int rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);

	if (rc == 0)
		rc = seccomp_load(ctx);
	if (rc != 0) {
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 1);
		if (rc == 0)
			rc = seccomp_load(ctx);
	}
	return rc;
}

int main(int argc, char **argv)
{
	unsigned kernel = 0;
	int denied = EPERM;
	int next = 1;
	int rc;
	scmp_filter_ctx ctx;

	if (next + 1 < argc && strcmp(argv[next], "--errno") == 0) {
		if (strcmp(argv[next + 1], "ENOSYS") == 0)
			denied = ENOSYS;
		else if (strcmp(argv[next + 1], "EPERM") != 0)
			return usage();
		next += 2;
	} else if (next + 1 < argc && strcmp(argv[next], "--kernel") == 0) {
		kernel = old_kernel_version(argv[next + 1]);
		if (!kernel)
			return usage();
		denied = ENOSYS;
		next += 2;
	}
	ctx = seccomp_init(SCMP_ACT_ALLOW);
	rc = ctx ? build_filter(ctx, denied, kernel) : -ENOMEM;
	for (; rc == 0 && next + 1 < argc && strcmp(argv[next], "--deny") == 0; next += 2)
		rc = deny(ctx, argv[next + 1]);
	if (next < argc && strcmp(argv[next], "--") == 0)
		next++;
	if (next >= argc || argv[next][0] == '-')
		return usage();
	if (rc == 0)
		rc = load_filter(ctx);
	if (ctx)
		seccomp_release(ctx);
	if (rc != 0) {
		fprintf(stderr, "jail: cannot install the filter: %s\n", strerror(-rc));
		return EXIT_USAGE;
	}

	execvp(argv[next], argv + next);
	fprintf(stderr, "jail: cannot run %s: %s\n", argv[next], strerror(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT;
}
