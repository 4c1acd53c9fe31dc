/*
 * The run-time half of the filter. In front of the generated body stands
 *
 *     arch is x86-64?  nr is one of ours?  instruction pointer in a range?
 *
 * and everything else is allowed. The order matters: for a system call that is
 * decided by arch and nr alone the kernel (5.11 and later) notes once that the
 * answer is always ALLOW and never runs the program again; the few calls in
 * question pay for the comparison of addresses. An image that the process execs
 * later lies elsewhere and is never trapped, which is what makes it bearable
 * that filters survive exec.
 *
 * Addresses are 64 bits, BPF's words 32: ranges are cut at 4 GiB boundaries and
 * grouped by their upper half.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include "rings/sys.h"
#include "seccomp/filter.h"
#include "filter_body.h"

#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH (1UL << 4)
#endif

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define DATA_NR      offsetof(struct seccomp_data, nr)
#define DATA_ARCH    offsetof(struct seccomp_data, arch)
#define DATA_IP_LOW  offsetof(struct seccomp_data, instruction_pointer)
#define DATA_IP_HIGH (DATA_IP_LOW + 4)

#define LOAD(off)        ((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (u32)(off)))
#define RETURN(k)        ((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, (k)))
#define GOTO(n)          ((struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (n)))
#define IF_EQ(k, jt, jf) ((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k), (jt), (jf)))
#define IF_GT(k, jt, jf) ((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (k), (jt), (jf)))
#define IF_GE(k, jt, jf) ((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (k), (jt), (jf)))

/* What one filter takes: a program may have 4096 instructions. */
#define CHUNK       256
#define PRELUDE_MAX (16 + FU_ARRAY_SIZE(fu_body_numbers) + CHUNK * 8)
#define PROGRAM_MAX (PRELUDE_MAX + FU_ARRAY_SIZE(fu_body_trap) + FU_ARRAY_SIZE(fu_body_notify))

struct program {
	size_t len;
	struct sock_filter insn[PROGRAM_MAX];
};

/* Written under the caller's lock only; too large for the stack of a dlopen caller. */
static struct program program;

/* What filters of this process cover by now. */
static struct fu_range covered[FU_RANGES_MAX];
static size_t n_covered;
static bool incomplete; /* some could not be had */

static void emit(struct program *p, struct sock_filter insn)
{
	p->insn[p->len++] = insn;
}

static bool is_covered(const struct fu_range *r)
{
	for (size_t i = 0; i < n_covered; i++) {
		if (covered[i].start <= r->start && r->end <= covered[i].end) {
			return true;
		}
	}
	return false;
}

/*
 * One piece of a range that lies below one upper half. The accumulator holds the
 * lower half; a match goes to the body, whose place is known later: the jump is
 * left with offset 0 and fixed by link_body().
 */
static void emit_piece(struct program *p, u32 first, u32 last)
{
	if (first == last) {
		emit(p, IF_EQ(first, 0, 1));
	} else {
		emit(p, IF_GE(first, 0, 2));
		emit(p, IF_GT(last, 1, 0));
	}
	emit(p, GOTO(0));
}

/* All pieces of `ranges` whose addresses have the upper half `high`. */
static void emit_group(struct program *p, u32 high, const struct fu_range *ranges, size_t n)
{
	size_t skip;

	emit(p, IF_EQ(high, 1, 0));
	skip = p->len;
	emit(p, GOTO(0));
	emit(p, LOAD(DATA_IP_LOW));
	for (size_t i = 0; i < n; i++) {
		u64 last = ranges[i].end - 1;
		u32 from = (u32)(ranges[i].start >> 32), to = (u32)(last >> 32);

		if (high < from || high > to) {
			continue;
		}
		emit_piece(p, high == from ? (u32)ranges[i].start : 0,
		           high == to ? (u32)last : UINT32_MAX);
	}
	emit(p, RETURN(SECCOMP_RET_ALLOW));
	p->insn[skip].k = (u32)(p->len - skip - 1);
}

/* The groups in ascending order, each upper half once. */
static void emit_groups(struct program *p, const struct fu_range *ranges, size_t n)
{
	u64 high = 0;

	for (;;) {
		u64 next = UINT64_MAX;

		for (size_t i = 0; i < n; i++) {
			u64 from = ranges[i].start >> 32, to = (ranges[i].end - 1) >> 32;

			if (to >= high) {
				u64 candidate = from > high ? from : high;

				next = candidate < next ? candidate : next;
			}
		}
		if (next == UINT64_MAX) {
			return;
		}
		emit_group(p, (u32)next, ranges, n);
		high = next + 1;
	}
}

/* Points the open jumps, which are the only ones with offset 0, to the body. */
static void link_body(struct program *p)
{
	for (size_t i = 0; i < p->len; i++) {
		if (p->insn[i].code == (BPF_JMP | BPF_JA) && p->insn[i].k == 0) {
			p->insn[i].k = (u32)(p->len - i - 1);
		}
	}
}

/* Allows all numbers but those that the body may have a rule for. */
static void emit_numbers(struct program *p)
{
	size_t n = FU_ARRAY_SIZE(fu_body_numbers);

	for (size_t i = 0; i < n; i++) {
		emit(p, IF_EQ(fu_body_numbers[i], (u8)(n - i), 0));
	}
	emit(p, RETURN(SECCOMP_RET_ALLOW));
}

static void assemble(struct program *p, enum fu_filter_action action, const struct fu_range *ranges,
                     size_t n)
{
	const struct sock_filter *body = action == FU_FILTER_NOTIFY ? fu_body_notify : fu_body_trap;
	size_t body_len = action == FU_FILTER_NOTIFY ? FU_ARRAY_SIZE(fu_body_notify)
	                                             : FU_ARRAY_SIZE(fu_body_trap);

	p->len = 0;
	emit(p, LOAD(DATA_ARCH));
	emit(p, IF_EQ(AUDIT_ARCH_X86_64, 1, 0));
	emit(p, RETURN(SECCOMP_RET_ALLOW));
	emit(p, LOAD(DATA_NR));
	emit_numbers(p);
	emit(p, LOAD(DATA_IP_HIGH));
	emit_groups(p, ranges, n);
	emit(p, RETURN(SECCOMP_RET_ALLOW));
	link_body(p);
	for (size_t i = 0; i < body_len; i++) {
		emit(p, body[i]);
	}
}

static long install(u32 flags)
{
	struct sock_fprog prog = { (unsigned short)program.len, program.insn };
	long ret = fu_sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);

	if (ret == -EACCES) {
		fu_sys(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		ret = fu_sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
	}
	return ret;
}

/* Over one chunk; as fu_filter_install. */
static long install_chunk(enum fu_filter_action action, const struct fu_range *ranges, size_t n)
{
	u32 flags = SECCOMP_FILTER_FLAG_TSYNC;
	long ret;

	if (action == FU_FILTER_NOTIFY) {
		flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC_ESRCH |
		         SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	}
	assemble(&program, action, ranges, n);
	ret = install(flags);
	if (ret == -EINVAL && action == FU_FILTER_NOTIFY) {
		/* Before Linux 5.19 any signal ends the wait for an answer. */
		ret = install(flags & ~(u32)SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
	}
	return ret > 0 && action == FU_FILTER_TRAP ? -ESRCH : ret;
}

/*
 * Over what is covered from `from` on. The kernel has a limit for all filters of a process: where a
 * chunk is too long for what is left of that a shorter one may do. What could not be had is covered
 * no more.
 */
static long install_from(enum fu_filter_action action, size_t from)
{
	size_t at = from, chunk = CHUNK;
	long ret, result = 0;

	while (at < n_covered) {
		size_t n = n_covered - at < chunk ? n_covered - at : chunk;

		ret = install_chunk(at == from ? action : FU_FILTER_TRAP, covered + at, n);
		if (ret == -ENOMEM && n > 1) {
			chunk = n / 2;
			continue;
		}
		if (at == from) {
			result = ret;
		}
		if (ret < 0) {
			n_covered = at;
			break;
		}
		at += n;
	}
	return result;
}

long fu_filter_install(enum fu_filter_action action, const struct fu_range *ranges, size_t n)
{
	size_t before = n_covered, wanted = n_covered;
	long ret;

	for (size_t i = 0; i < n; i++) {
		if (is_covered(&ranges[i])) {
			continue;
		}
		wanted++;
		if (n_covered < FU_RANGES_MAX) {
			covered[n_covered++] = ranges[i];
		}
	}
	ret = install_from(action, before);
	if (n_covered < wanted) {
		incomplete = true;
	}
	return wanted > before && before == FU_RANGES_MAX ? -ENOSPC : ret;
}

bool fu_filter_is_incomplete(void)
{
	return incomplete;
}

long fu_filter_reinstall_trap(void)
{
	return install_from(FU_FILTER_TRAP, 0);
}
