/*
 * Which instruction a jump may take the place of: preload/site.c on code written for it.
 * Each piece of code is one function; what stands in for the rest of the segment are nops.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>
#include "preload/site.h"

#define CODE_AT 256
#define SYSCALL 0x0f, 0x05
#define MOV_EAX 0xb8, 0xaa, 1, 0, 0 /* mov $0x1aa, %eax */
#define XOR_EDX 0x31, 0xd2          /* xor %edx, %edx */
#define XOR_R8  0x45, 0x31, 0xc0    /* xor %r8d, %r8d */
#define RET     0xc3
#define NONE    (-1) /* another call, or none */
#define STUCK   (-2)

static _Alignas(4096) u8 segment[8192];
static struct fu_text text = { segment, segment + sizeof(segment), NULL, PROT_READ | PROT_EXEC };
static struct fu_function fn;
static struct fu_site site;

/* Puts the code at `at`, and looks. Returns where the jump goes, from the first byte, or NONE or
 * STUCK. */
static int find_at(size_t at, const u8 *code, size_t n, size_t syscall, u32 flags)
{
	enum fu_site_kind kind;

	memset(segment, 0x90, sizeof(segment));
	memcpy(segment + at, code, n);
	fn.start = segment + at;
	fn.end = fn.start + n;
	kind = fu_site_find(&text, &fn, segment + at + syscall, flags, &site);
	if (kind != FU_SITE_FOUND)
		return kind == FU_SITE_NONE ? NONE : STUCK;
	assert_ptr_equal(site.syscall, segment + at + syscall);
	return (int)(site.at - fn.start);
}

#define FIND(flags, syscall, ...)                                           \
	(__extension__({                                                    \
		static const u8 code_[] = { __VA_ARGS__ };                  \
		find_at(CODE_AT, code_, sizeof(code_), (syscall), (flags)); \
	}))

static void test_number_before(void **state)
{
	(void)state;
	assert_int_equal(FIND(0, 5, MOV_EAX, SYSCALL, RET), 0);
	assert_true(site.single);
	assert_int_equal(FIND(0, 7, 0x48, 0xc7, 0xc0, 0xa9, 1, 0, 0, SYSCALL, RET), 0);
	/* other instructions between */
	assert_int_equal(FIND(0, 10, MOV_EAX, XOR_EDX, XOR_R8, SYSCALL, RET), 0);
	/* of which one has room itself: mov 8(%rsp), %rsi */
	assert_int_equal(FIND(0, 10, MOV_EAX, 0x48, 0x8b, 0x74, 0x24, 8, SYSCALL, RET), 5);
}

static void test_other_calls(void **state)
{
	(void)state;
	assert_int_equal(FIND(FU_SITE_QUIET, 5, 0xb8, 2, 0, 0, 0, SYSCALL, RET), NONE);
	assert_int_equal(FIND(FU_SITE_QUIET, 5, 0xb8, 0xac, 1, 0, 0, SYSCALL, RET), NONE);
	/* mov $0x1aa, %r8d; then mov %edi, %eax: who knows what that is */
	assert_int_equal(FIND(FU_SITE_QUIET, 8, 0x41, MOV_EAX, 0x89, 0xf8, SYSCALL, RET), STUCK);
	/* unless it was seen to make the call */
	assert_int_equal(FIND(FU_SITE_SEEN, 8, 0x41, MOV_EAX, 0x89, 0xf8, SYSCALL, RET), 0);
	/* the two bytes are part of something else: mov $0x050f, %ebx */
	assert_int_equal(FIND(FU_SITE_QUIET, 6, MOV_EAX, 0xbb, SYSCALL, 0, 0, RET), NONE);
}

static void test_number_in_register(void **state)
{
	(void)state;
	/* mov $0x1aa, %r15d; jmp 1f; 1: movslq 12(%r12), %r9; cmove; mov %r15d, %eax; syscall */
	assert_int_equal(FIND(0, 20, 0x41, 0xbf, 0xaa, 1, 0, 0, 0xeb, 0, 0x4d, 0x63, 0x4c, 0x24,
	                      0x0c, 0x44, 0x0f, 0x44, 0xd0, 0x44, 0x89, 0xf8, SYSCALL, RET),
	                 8);
	/* another register's number */
	assert_int_equal(FIND(0, 20, 0x41, 0xbf, 0xaa, 1, 0, 0, 0xeb, 0, 0x4d, 0x63, 0x4c, 0x24,
	                      0x0c, 0x44, 0x0f, 0x44, 0xd0, 0x44, 0x89, 0xf0, SYSCALL, RET),
	                 STUCK);
}

static void test_branches_between(void **state)
{
	(void)state;
	/* A jump, a call or another syscall behind the only instruction that is long enough. */
	assert_int_equal(FIND(FU_SITE_QUIET, 7, MOV_EAX, 0x74, 2, SYSCALL, RET, RET), STUCK);
	assert_int_equal(FIND(FU_SITE_QUIET, 7, MOV_EAX, 0xff, 0xd0, SYSCALL, RET), STUCK);
	assert_int_equal(FIND(FU_SITE_QUIET, 7, MOV_EAX, SYSCALL, SYSCALL, RET), STUCK);
	/* Too much to move. */
	{
		u8 code[80] = { MOV_EAX };

		for (size_t i = 5; i < sizeof(code); i++)
			code[i] = (u8) "\x66\x66\x90"[(i - 5) % 3];
		memcpy(code + 71, "\x0f\x05\xc3", 3);
		assert_int_equal(find_at(CODE_AT, code, 74, 71, 0), STUCK);
		memcpy(code + 62, "\x0f\x05\xc3", 3);
		assert_int_equal(find_at(CODE_AT, code, 65, 62, 0), 0);
	}
}

/* No instruction has room for itself: mov %r15d, %eax and two more, behind a jump. */
#define SHORT_ONES 0x41, 0xbf, 0xaa, 1, 0, 0, 0xeb, 0, XOR_EDX, XOR_R8, 0x44, 0x89, 0xf8, SYSCALL

static void test_several(void **state)
{
	(void)state;
	assert_int_equal(FIND(0, 16, SHORT_ONES, RET), STUCK);
	assert_int_equal(FIND(FU_SITE_QUIET, 16, SHORT_ONES, RET), 10);
	assert_false(site.single);
	/* A branch to between them: back from behind, a short one and a long one. */
	assert_int_equal(FIND(FU_SITE_QUIET, 16, SHORT_ONES, 0x75, 0xf9, RET), STUCK);
	assert_int_equal(
	        FIND(FU_SITE_QUIET, 16, SHORT_ONES, 0x0f, 0x85, 0xf5, 0xff, 0xff, 0xff, RET),
	        STUCK);
	/* to the first of them, and to the syscall */
	assert_int_equal(FIND(FU_SITE_QUIET, 16, SHORT_ONES, 0x75, 0xf6, RET), 10);
	assert_int_equal(FIND(FU_SITE_QUIET, 16, SHORT_ONES, 0x75, 0xfc, RET), 10);
	/* a jump table; a jump through the GOT */
	assert_int_equal(FIND(FU_SITE_QUIET, 16, SHORT_ONES, 0x3e, 0xff, 0xe0), STUCK);
	assert_int_equal(FIND(FU_SITE_QUIET, 16, SHORT_ONES, 0xff, 0x25, 0, 1, 0, 0), 10);
	fn.landing_pads = true;
	assert_int_equal(FIND(FU_SITE_QUIET, 16, SHORT_ONES, RET), STUCK);
	fn.landing_pads = false;
}

/* mmap and close, near and in a register; one that cannot be patched is no reason to trap. */
static void test_memory_calls(void **state)
{
	(void)state;
	assert_int_equal(FIND(0, 5, 0xb8, 9, 0, 0, 0, SYSCALL, RET), 0);
	assert_int_equal(FIND(0, 5, 0xb8, 3, 0, 0, 0, SYSCALL, RET), 0);
	assert_int_equal(FIND(FU_SITE_QUIET, 5, 0xb8, 2, 0, 0, 0, SYSCALL, RET), NONE);
	assert_int_equal(FIND(FU_SITE_QUIET, 7, 0xb8, 9, 0, 0, 0, 0x74, 2, SYSCALL, RET, RET),
	                 NONE);
}

static void test_others_jump_there(void **state)
{
	static const u8 code[] = { SHORT_ONES, RET };
	const u8 *middle = segment + CODE_AT + 13;
	s32 off;

	(void)state;
	assert_int_equal(find_at(CODE_AT, code, sizeof(code), 16, FU_SITE_QUIET), 10);
	/* From far away. */
	segment[4096] = 0xe9;
	off = (s32)(middle - (segment + 4096 + 5));
	memcpy(segment + 4097, &off, 4);
	assert_int_equal(fu_site_find(&text, &fn, segment + CODE_AT + 16, FU_SITE_QUIET, &site),
	                 FU_SITE_STUCK);
	segment[4096] = 0x90;
	memset(segment + 4097, 0x90, 4);
	assert_int_equal(fu_site_find(&text, &fn, segment + CODE_AT + 16, FU_SITE_QUIET, &site),
	                 FU_SITE_FOUND);
	/* From next door. */
	segment[CODE_AT - 20] = 0xeb;
	segment[CODE_AT - 19] = (u8)(middle - (segment + CODE_AT - 18));
	assert_int_equal(fu_site_find(&text, &fn, segment + CODE_AT + 16, FU_SITE_QUIET, &site),
	                 FU_SITE_STUCK);
}

static void test_breakpoint(void **state)
{
	(void)state;
	/* A debugger's int3 hides the first byte of movl $0, 4(%rsp), or of the mov. */
	assert_int_equal(
	        FIND(FU_SITE_QUIET, 13, MOV_EAX, 0xcc, 0x44, 0x24, 4, 0, 0, 0, 0, SYSCALL, RET),
	        STUCK);
	assert_int_equal(FIND(FU_SITE_QUIET, 5, 0xcc, 0xaa, 1, 0, 0, SYSCALL, RET), STUCK);
	/* One behind the syscall does not matter. */
	assert_int_equal(FIND(FU_SITE_QUIET, 5, MOV_EAX, SYSCALL, 0xcc), 0);
}

static void test_while_threads_run(void **state)
{
	static const u8 code[] = { MOV_EAX, SYSCALL, RET };

	(void)state;
	for (size_t at = CODE_AT; at < CODE_AT + 64; at++) {
		bool whole = at % 16 <= 11;

		assert_int_equal(find_at(at, code, sizeof(code), 5, 0), whole ? 0 : STUCK);
		assert_int_equal(find_at(at, code, sizeof(code), 5, FU_SITE_QUIET), 0);
		assert_int_equal(fu_site_is_atomic(segment + at), whole);
	}
}

/* What can be seen without knowing where instructions begin. */
static int by_bytes(size_t syscall, const u8 *code, size_t n)
{
	memset(segment, 0x90, sizeof(segment));
	memcpy(segment + CODE_AT, code, n);
	if (fu_site_find(&text, NULL, segment + CODE_AT + syscall, FU_SITE_QUIET, &site) !=
	    FU_SITE_FOUND)
		return STUCK;
	return (int)(site.at - (segment + CODE_AT));
}

static void test_no_function(void **state)
{
	static const u8 plain[] = { MOV_EAX, SYSCALL, RET };
	static const u8 rax[] = { 0x48, 0xc7, 0xc0, 0xaa, 1, 0, 0, SYSCALL, RET };
	static const u8 r8[] = { 0x41, MOV_EAX, SYSCALL, RET };
	static const u8 wide[] = { 0x48, MOV_EAX, SYSCALL, 0, 0 };
	static const u8 apart[] = { MOV_EAX, XOR_EDX, SYSCALL, RET };

	(void)state;
	assert_int_equal(by_bytes(5, plain, sizeof(plain)), 0);
	assert_int_equal(by_bytes(7, rax, sizeof(rax)), 0);
	assert_int_equal(by_bytes(6, r8, sizeof(r8)), STUCK);
	assert_int_equal(by_bytes(6, wide, sizeof(wide)), STUCK);
	assert_int_equal(by_bytes(7, apart, sizeof(apart)), STUCK);
}

static void test_move(void **state)
{
	static u8 to[128];
	s32 old, new;

	(void)state;
	/* mov $0x1aa, %eax; lea 0x1000(%rip), %rsi (7 bytes, itself a place); syscall */
	assert_int_equal(FIND(0, 12, MOV_EAX, 0x48, 0x8d, 0x35, 0, 0x10, 0, 0, SYSCALL, RET), 5);
	assert_int_equal(fu_site_move(&site, to), 7);
	memcpy(&old, site.at + 3, 4);
	memcpy(&new, to + 3, 4);
	assert_ptr_equal(to + 7 + new, site.at + 7 + old);
	assert_memory_equal(to, site.at, 3);
	/* Nothing to change. */
	assert_int_equal(FIND(0, 10, MOV_EAX, XOR_EDX, XOR_R8, SYSCALL, RET), 0);
	assert_int_equal(fu_site_move(&site, to), 10);
	assert_memory_equal(to, site.at, 10);
}

static void test_move_too_far(void **state)
{
	u8 *far = mmap((void *)0x10000000000, 4096, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(far, MAP_FAILED);
	assert_int_equal(FIND(0, 12, MOV_EAX, 0x48, 0x8d, 0x35, 0, 0x10, 0, 0, SYSCALL, RET), 5);
	assert_int_equal(fu_site_move(&site, far), 0);
	munmap(far, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_number_before),
		cmocka_unit_test(test_other_calls),
		cmocka_unit_test(test_number_in_register),
		cmocka_unit_test(test_branches_between),
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_memory_calls),
		cmocka_unit_test(test_others_jump_there),
		cmocka_unit_test(test_breakpoint),
		cmocka_unit_test(test_while_threads_run),
		cmocka_unit_test(test_no_function),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_move_too_far),
	};

	return cmocka_run_group_tests_name("site", tests, NULL, NULL);
}
