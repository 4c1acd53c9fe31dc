/*
 * The decoder of preload/insn.c: one instruction of every shape of encoding; and, where Zydis
 * is installed, all the code of the objects given as arguments, instruction by instruction.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "preload/insn.h"

static const struct sample {
	const char *text;
	u8 bytes[16];
	u8 len, kind, rip_disp;
	int target; /* from the instruction's first byte */
} samples[] = {
	{ "mov $0x1aa, %eax", { 0xb8, 0xaa, 1, 0, 0 }, 5, FU_INSN_PLAIN, 0, 0 },
	{ "mov $0x1aa, %r8d", { 0x41, 0xb8, 0xaa, 1, 0, 0 }, 6, FU_INSN_PLAIN, 0, 0 },
	{ "movabs $..., %rax", { 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8 }, 10, FU_INSN_PLAIN, 0, 0 },
	{ "mov $0x1aa, %rax", { 0x48, 0xc7, 0xc0, 0xaa, 1, 0, 0 }, 7, FU_INSN_PLAIN, 0, 0 },
	{ "mov $1, %ax", { 0x66, 0xb8, 1, 0 }, 4, FU_INSN_PLAIN, 0, 0 },
	{ "mov %r15d, %eax", { 0x44, 0x89, 0xf8 }, 3, FU_INSN_PLAIN, 0, 0 },
	{ "movslq 12(%r12), %r9", { 0x4d, 0x63, 0x4c, 0x24, 0x0c }, 5, FU_INSN_PLAIN, 0, 0 },
	{ "mov 0x100(%rip), %rdx", { 0x48, 0x8b, 0x15, 0, 1, 0, 0 }, 7, FU_INSN_PLAIN, 3, 0 },
	{ "movl $1, 0x100(%rip)", { 0xc7, 0x05, 0, 1, 0, 0, 1, 0, 0, 0 }, 10, FU_INSN_PLAIN, 2, 0 },
	{ "mov 0x100, %eax", { 0x8b, 0x04, 0x25, 0, 1, 0, 0 }, 7, FU_INSN_PLAIN, 0, 0 },
	{ "mov %fs:0x28, %rax",
	  { 0x64, 0x48, 0x8b, 4, 0x25, 0x28, 0, 0, 0 },
	  9,
	  FU_INSN_PLAIN,
	  0,
	  0 },
	{ "testb $1, (%rax)", { 0xf6, 0, 1 }, 3, FU_INSN_PLAIN, 0, 0 },
	{ "negl (%rax)", { 0xf7, 0x18 }, 2, FU_INSN_PLAIN, 0, 0 },
	{ "enter", { 0xc8, 1, 0, 0 }, 4, FU_INSN_PLAIN, 0, 0 },
	{ "movabs 8 bytes, %al", { 0xa0, 1, 2, 3, 4, 5, 6, 7, 8 }, 9, FU_INSN_PLAIN, 0, 0 },
	{ "imul $1000, %eax, %eax", { 0x69, 0xc0, 0xe8, 3, 0, 0 }, 6, FU_INSN_PLAIN, 0, 0 },
	{ "endbr64", { 0xf3, 0x0f, 0x1e, 0xfa }, 4, FU_INSN_PLAIN, 0, 0 },
	{ "nopw", { 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0 }, 10, FU_INSN_PLAIN, 0, 0 },
	{ "movups %xmm0, 4(%rsp)", { 0x0f, 0x11, 0x44, 0x24, 4 }, 5, FU_INSN_PLAIN, 0, 0 },
	{ "pshufd $1, %xmm0, %xmm0", { 0x66, 0x0f, 0x70, 0xc0, 1 }, 5, FU_INSN_PLAIN, 0, 0 },
	{ "palignr $1", { 0x66, 0x0f, 0x3a, 0x0f, 0xc0, 1 }, 6, FU_INSN_PLAIN, 0, 0 },
	{ "pshufb", { 0x66, 0x0f, 0x38, 0x00, 0xc0 }, 5, FU_INSN_PLAIN, 0, 0 },
	{ "vzeroupper", { 0xc5, 0xf8, 0x77 }, 3, FU_INSN_PLAIN, 0, 0 },
	{ "vpshufd $1", { 0xc5, 0xf9, 0x70, 0xc0, 1 }, 5, FU_INSN_PLAIN, 0, 0 },
	{ "vinserti128 $1", { 0xc4, 0xe3, 0x7d, 0x38, 0xc0, 1 }, 6, FU_INSN_PLAIN, 0, 0 },
	{ "vmovdqu64 64(%rip), %zmm0",
	  { 0x62, 0xf1, 0xfe, 0x48, 0x6f, 5, 64, 0, 0, 0 },
	  10,
	  FU_INSN_PLAIN,
	  6,
	  0 },
	{ "pop (%rax)", { 0x8f, 0 }, 2, FU_INSN_PLAIN, 0, 0 },
	{ "mov %rbp, %db1, by way of memory", { 0x0f, 0x23, 0x0d }, 3, FU_INSN_PLAIN, 0, 0 },
	{ "rex without effect", { 0x48, 0x66, 0xb8, 1, 0 }, 5, FU_INSN_PLAIN, 0, 0 },
	{ "jmp rel8", { 0xeb, 0xfe }, 2, FU_INSN_BRANCH, 0, 0 },
	{ "je rel8", { 0x74, 0x10 }, 2, FU_INSN_BRANCH, 0, 0x12 },
	{ "jrcxz", { 0xe3, 0x10 }, 2, FU_INSN_BRANCH, 0, 0x12 },
	{ "ja rel32", { 0x0f, 0x87, 0xbe, 1, 0, 0 }, 6, FU_INSN_BRANCH, 0, 0x1c4 },
	{ "jmp rel32", { 0xe9, 0xfb, 0xff, 0xff, 0xff }, 5, FU_INSN_BRANCH, 0, 0 },
	{ "xbegin", { 0xc7, 0xf8, 0x10, 0, 0, 0 }, 6, FU_INSN_BRANCH, 0, 0x16 },
	{ "call rel32", { 0xe8, 0x10, 0, 0, 0 }, 5, FU_INSN_CALL, 0, 0x15 },
	{ "call *%rax", { 0xff, 0xd0 }, 2, FU_INSN_CALL, 0, 0 },
	{ "int $0x80", { 0xcd, 0x80 }, 2, FU_INSN_CALL, 0, 0 },
	{ "notrack jmp *%rax", { 0x3e, 0xff, 0xe0 }, 3, FU_INSN_INDIRECT, 0, 0 },
	{ "jmp *0x100(%rip)", { 0xff, 0x25, 0, 1, 0, 0 }, 6, FU_INSN_INDIRECT, 2, 0 },
	{ "syscall", { 0x0f, 0x05 }, 2, FU_INSN_SYSCALL, 0, 0 },
	{ "ret", { 0xc3 }, 1, FU_INSN_END, 0, 0 },
	{ "rep ret", { 0xf3, 0xc3 }, 2, FU_INSN_END, 0, 0 },
	{ "int3", { 0xcc }, 1, FU_INSN_END, 0, 0 },
	{ "ud2", { 0x0f, 0x0b }, 2, FU_INSN_END, 0, 0 },
};

static void test_samples(void **state)
{
	(void)state;
	for (size_t i = 0; i < FU_ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];
		struct fu_insn insn = { 0 };
		bool target = s->kind == FU_INSN_BRANCH || s->bytes[0] == 0xe8;

		print_message("%s\n", s->text);
		assert_true(fu_insn_decode(s->bytes, s->bytes + sizeof(s->bytes), &insn));
		assert_int_equal(insn.len, s->len);
		assert_int_equal(insn.kind, s->kind);
		assert_int_equal(insn.rip_disp, s->rip_disp);
		assert_ptr_equal(insn.target, target ? s->bytes + s->target : NULL);
		/* Nothing behind the end is read, and half an instruction is none. */
		for (u8 n = 0; n < s->len; n++)
			assert_false(fu_insn_decode(s->bytes, s->bytes + n, &insn));
	}
}

static void test_invalid(void **state)
{
	static const u8 bad[][16] = { { 0x06 }, { 0x60 }, { 0x82, 0 }, { 0x9a },
		                      { 0xce }, { 0xd4 }, { 0xea },    { 0x62, 0 } };
	u8 prefixes[16];
	struct fu_insn insn;

	(void)state;
	for (size_t i = 0; i < FU_ARRAY_SIZE(bad); i++)
		assert_false(fu_insn_decode(bad[i], bad[i] + 16, &insn));
	memset(prefixes, 0x66, sizeof(prefixes));
	assert_false(fu_insn_decode(prefixes, prefixes + 16, &insn));
}

#ifdef HAVE_ZYDIS
#include <Zydis/Zydis.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char **objects;

/* Of a processor that was never sold as more than an accelerator; it took VEX for jumps. */
static bool is_knc(ZydisMnemonic m)
{
	return m == ZYDIS_MNEMONIC_JKZD || m == ZYDIS_MNEMONIC_JKNZD;
}

static void compare(const u8 *p, const ZydisDecodedInstruction *z)
{
	struct fu_insn insn;
	u8 rip = 0;

	if ((z->attributes & ZYDIS_ATTRIB_HAS_MODRM) && z->raw.modrm.mod == 0 &&
	    z->raw.modrm.rm == 5 && z->raw.disp.size == 32)
		rip = z->raw.disp.offset;
	assert_true(fu_insn_decode(p, p + 15, &insn));
	assert_int_equal(insn.len, z->length);
	assert_int_equal(insn.rip_disp, rip);
	if (z->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
		assert_int_not_equal(insn.kind, FU_INSN_PLAIN);
	if (insn.target)
		assert_ptr_equal(insn.target, p + z->length + z->raw.imm[0].value.s);
}

/* Every byte of the code as the start of an instruction: what is valid is decoded alike. */
static void test_zydis(void **state)
{
	ZydisDecodedInstruction z;
	ZydisDecoder decoder;
	size_t n = 0;

	(void)state;
	if (!*objects)
		skip();
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (char **path = objects; *path; path++) {
		int fd = open(*path, O_RDONLY);
		struct stat st;
		const u8 *map;
		const Elf64_Ehdr *ehdr;

		assert_true(fd >= 0 && fstat(fd, &st) == 0);
		map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		assert_ptr_not_equal(map, MAP_FAILED);
		ehdr = (const void *)map;
		for (size_t i = 0; i < ehdr->e_phnum; i++) {
			const Elf64_Phdr *ph =
			        (const Elf64_Phdr *)(const void *)(map + ehdr->e_phoff) + i;
			const u8 *end = map + ph->p_offset + ph->p_filesz;

			if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X))
				continue;
			for (const u8 *p = map + ph->p_offset; p + 15 < end; p++) {
				if (ZYAN_FAILED(ZydisDecoderDecodeInstruction(&decoder, NULL, p, 15,
				                                              &z)) ||
				    is_knc(z.mnemonic))
					continue;
				compare(p, &z);
				n++;
			}
		}
		munmap((void *)(uintptr_t)map, (size_t)st.st_size);
		close(fd);
	}
	assert_int_not_equal(n, 0);
}
#endif

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_invalid),
#ifdef HAVE_ZYDIS
		cmocka_unit_test(test_zydis),
#endif
	};

	(void)argc;
#ifdef HAVE_ZYDIS
	objects = argv + 1;
#else
	(void)argv;
#endif
	return cmocka_run_group_tests_name("insn", tests, NULL, NULL);
}
