/*
 * The system calls, flags, commands and options that old kernels do not know, each with
 * the version that brought it and what a kernel before that answers.
 *
 * Every rule is for x86-64. What lies in memory (the flags of an iocb, a clone's
 * arguments) or depends on the kind of a file is out of a filter's sight.
 */
#include "jail/oldkernel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#define V(major, minor) ((unsigned)(major)*100 + (minor))

/* All calls from this number on are later than any kernel here: 424 is pidfd_send_signal, 5.1. */
#define FIRST_LATE_CALL 424
#define LAST_LATE_CALL  511

unsigned old_kernel_version(const char *name)
{
	static const struct {
		const char *name;
		unsigned version;
	} known[] = {
		{ "4.9", V(4, 9) },
		{ "4.14", V(4, 14) },
		{ "4.19", V(4, 19) },
		{ "5.0", V(5, 0) },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(name, known[i].name) == 0)
			return known[i].version;
	}
	return 0;
}

/* Calls with numbers below FIRST_LATE_CALL. */
static const struct {
	int nr;
	unsigned since;
} late_calls[] = {
	{ SYS_statx, V(4, 11) },        { 333 /* io_pgetevents */, V(4, 18) },
	{ SYS_rseq, V(4, 18) },         { 335 /* uretprobe */, V(6, 11) },
	{ 336 /* uprobe */, V(6, 18) },
};

/* Argument `arg`, seen through `mask`, is `value`: answered with `error` before `since`. */
static const struct {
	int nr;
	unsigned arg;
	scmp_datum_t mask, value;
	int error;
	unsigned since;
} late_arguments[] = {
	/* preadv2 and pwritev2: NOWAIT for buffered reads, APPEND, NOAPPEND, ATOMIC, DONTCACHE...
	 */
	{ SYS_preadv2, 5, 0x8, 0x8, EOPNOTSUPP, V(4, 14) },
	{ SYS_preadv2, 5, 0x10, 0x10, EOPNOTSUPP, V(4, 16) },
	{ SYS_preadv2, 5, 0x20, 0x20, EOPNOTSUPP, V(6, 9) },
	{ SYS_preadv2, 5, 0x40, 0x40, EOPNOTSUPP, V(6, 11) },
	{ SYS_preadv2, 5, 0x80, 0x80, EOPNOTSUPP, V(6, 14) },
	{ SYS_preadv2, 5, 0x100, 0x100, EOPNOTSUPP, V(6, 18) },
	{ SYS_pwritev2, 5, 0x8, 0x8, EOPNOTSUPP, V(4, 13) },
	/* Until 5.5 a file that can do without waiting refuses it to buffered writes like this. */
	{ SYS_pwritev2, 5, 0x8, 0x8, EINVAL, V(5, 5) },
	{ SYS_pwritev2, 5, 0x10, 0x10, EOPNOTSUPP, V(4, 16) },
	{ SYS_pwritev2, 5, 0x20, 0x20, EOPNOTSUPP, V(6, 9) },
	{ SYS_pwritev2, 5, 0x40, 0x40, EOPNOTSUPP, V(6, 11) },
	{ SYS_pwritev2, 5, 0x80, 0x80, EOPNOTSUPP, V(6, 14) },
	{ SYS_pwritev2, 5, 0x100, 0x100, EOPNOTSUPP, V(6, 18) },

	/* madvise: WIPEONFORK, KEEPONFORK, COLD, PAGEOUT, POPULATE_READ and _WRITE and later. */
	{ SYS_madvise, 2, ~0U, 18, EINVAL, V(4, 14) },
	{ SYS_madvise, 2, ~0U, 19, EINVAL, V(4, 14) },
	{ SYS_madvise, 2, ~0U, 20, EINVAL, V(5, 4) },
	{ SYS_madvise, 2, ~0U, 21, EINVAL, V(5, 4) },
	{ SYS_madvise, 2, ~0U, 22, EINVAL, V(5, 14) },
	{ SYS_madvise, 2, ~0U, 23, EINVAL, V(5, 14) },
	{ SYS_madvise, 2, ~0U, 24, EINVAL, V(5, 18) },
	{ SYS_madvise, 2, ~0U, 25, EINVAL, V(6, 1) },

	/* mmap: MAP_SHARED_VALIDATE. */
	{ SYS_mmap, 3, 0xf, 3, EINVAL, V(4, 15) },

	/* membarrier: everything but QUERY and GLOBAL. */
	{ SYS_membarrier, 0, ~0U, 1 << 1, EINVAL, V(4, 16) },
	{ SYS_membarrier, 0, ~0U, 1 << 2, EINVAL, V(4, 16) },
	{ SYS_membarrier, 0, ~0U, 1 << 3, EINVAL, V(4, 14) },
	{ SYS_membarrier, 0, ~0U, 1 << 4, EINVAL, V(4, 14) },
	{ SYS_membarrier, 0, ~0U, 1 << 5, EINVAL, V(4, 16) },
	{ SYS_membarrier, 0, ~0U, 1 << 6, EINVAL, V(4, 16) },
	{ SYS_membarrier, 0, ~0U, 1 << 7, EINVAL, V(5, 10) },
	{ SYS_membarrier, 0, ~0U, 1 << 8, EINVAL, V(5, 10) },

	/* seccomp: GET_ACTION_AVAIL, GET_NOTIF_SIZES; FLAG_LOG, SPEC_ALLOW, NEW_LISTENER,
	 * TSYNC_ESRCH, WAIT_KILLABLE_RECV. */
	{ SYS_seccomp, 0, ~0U, 2, EINVAL, V(4, 14) },
	{ SYS_seccomp, 0, ~0U, 3, EINVAL, V(5, 0) },
	{ SYS_seccomp, 1, 0x2, 0x2, EINVAL, V(4, 14) },
	{ SYS_seccomp, 1, 0x4, 0x4, EINVAL, V(4, 17) },
	{ SYS_seccomp, 1, 0x8, 0x8, EINVAL, V(5, 0) },
	{ SYS_seccomp, 1, 0x10, 0x10, EINVAL, V(5, 7) },
	{ SYS_seccomp, 1, 0x20, 0x20, EINVAL, V(5, 19) },

	/* prctl: SET_IO_FLUSHER, SET_SYSCALL_USER_DISPATCH, SET_VMA. */
	{ SYS_prctl, 0, ~0U, 57, EINVAL, V(5, 6) },
	{ SYS_prctl, 0, ~0U, 59, EINVAL, V(5, 11) },
	{ SYS_prctl, 0, ~0U, 0x53564d41, EINVAL, V(5, 17) },

	/* fcntl: the write hints, DUPFD_QUERY. */
	{ SYS_fcntl, 1, ~0U, F_GET_RW_HINT, EINVAL, V(4, 13) },
	{ SYS_fcntl, 1, ~0U, F_SET_RW_HINT, EINVAL, V(4, 13) },
	{ SYS_fcntl, 1, ~0U, 1027, EINVAL, V(6, 10) },

	/* memfd_create: HUGETLB, NOEXEC_SEAL, EXEC. */
	{ SYS_memfd_create, 1, 0x4, 0x4, EINVAL, V(4, 14) },
	{ SYS_memfd_create, 1, 0x8, 0x8, EINVAL, V(6, 3) },
	{ SYS_memfd_create, 1, 0x10, 0x10, EINVAL, V(6, 3) },

	/* waitid: P_PIDFD. clone: PIDFD. unshare and setns know no time namespace. */
	{ SYS_waitid, 0, ~0U, 3, EINVAL, V(5, 4) },
	{ SYS_unshare, 0, 0x80, 0x80, EINVAL, V(5, 6) },
};

/* Options of SOL_SOCKET: ENOPROTOOPT before `since`. */
static const struct {
	unsigned option, since;
} late_options[] = {
	{ 55 /* SO_MEMINFO */, V(4, 12) },
	{ 56 /* SO_INCOMING_NAPI_ID */, V(4, 12) },
	{ 57 /* SO_COOKIE */, V(4, 12) },
	{ 59 /* SO_PEERGROUPS */, V(4, 13) },
	{ 60 /* SO_ZEROCOPY */, V(4, 14) },
	{ 61 /* SO_TXTIME */, V(4, 19) },
	{ 62 /* SO_BINDTOIFINDEX */, V(5, 1) },
	{ 63, V(5, 1) },
	{ 64, V(5, 1) },
	{ 65, V(5, 1) },
	{ 66, V(5, 1) },
	{ 67, V(5, 1) },
	{ 68 /* SO_DETACH_REUSEPORT_BPF */, V(5, 3) },
	{ 69 /* SO_PREFER_BUSY_POLL */, V(5, 11) },
	{ 70 /* SO_BUSY_POLL_BUDGET */, V(5, 11) },
	{ 71 /* SO_NETNS_COOKIE */, V(5, 14) },
	{ 72, V(5, 16) },
	{ 73, V(5, 16) },
	{ 74, V(6, 0) },
	{ 75, V(6, 2) },
	{ 76 /* SO_PASSPIDFD */, V(6, 5) },
	{ 77 /* SO_PEERPIDFD */, V(6, 5) },
};

static int deny_call(scmp_filter_ctx ctx, int nr)
{
	int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), nr, 0);

	return rc == -EEXIST ? 0 : rc;
}

static int deny_option(scmp_filter_ctx ctx, unsigned option)
{
	const int calls[] = { SCMP_SYS(getsockopt), SCMP_SYS(setsockopt) };
	int rc = 0;

	for (size_t i = 0; i < 2 && !rc; i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOPROTOOPT), calls[i], 2,
		                      SCMP_A1_32(SCMP_CMP_EQ, 1 /* SOL_SOCKET */, 0),
		                      SCMP_A2_32(SCMP_CMP_EQ, option, 0));
	return rc;
}

int old_kernel_rules(scmp_filter_ctx ctx, unsigned version)
{
	int rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);

	for (int nr = FIRST_LATE_CALL; nr <= LAST_LATE_CALL && !rc; nr++)
		rc = deny_call(ctx, nr);
	for (size_t i = 0; i < sizeof(late_calls) / sizeof(late_calls[0]) && !rc; i++) {
		if (late_calls[i].since > version)
			rc = deny_call(ctx, late_calls[i].nr);
	}
	for (size_t i = 0; i < sizeof(late_arguments) / sizeof(late_arguments[0]) && !rc; i++) {
		if (late_arguments[i].since <= version)
			continue;
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO((unsigned)late_arguments[i].error),
		                      late_arguments[i].nr, 1,
		                      SCMP_CMP32(late_arguments[i].arg, SCMP_CMP_MASKED_EQ,
		                                 late_arguments[i].mask, late_arguments[i].value));
		if (rc == -EEXIST)
			rc = 0;
	}
	for (size_t i = 0; i < sizeof(late_options) / sizeof(late_options[0]) && !rc; i++) {
		if (late_options[i].since > version)
			rc = deny_option(ctx, late_options[i].option);
	}
	return rc;
}
