/*
 * Libraries that are loaded later. dlopen and dlmopen are followed by a scan of
 * what they brought in. The difficulty is that dlopen looks at its return address
 * to learn who calls: the caller's RUNPATH, $ORIGIN and namespace decide what is
 * found. A wrapper that calls it would be taken for the caller. A wrapper that
 * jumps to it never gets control back.
 *
 * So the wrapper jumps, with two more words on the stack: the address of some
 * `ret` instruction inside the object that called, and below it the address of
 * our continuation. dlopen sees a return address within its true caller and,
 * when it is done, returns to that `ret`, which pops the continuation, which scans
 * and returns to where the call came from:
 *
 *     [ a ret in the caller's object ] [ continuation ] [ true return address ]
 *
 * dlopen takes its arguments in registers, so nothing else on the stack has a
 * meaning to it. This holds as long as shadow stacks are off, as they are for any
 * process that loads an object without the property note, and this file has none.
 * By then the new objects' constructors have run; what these need is done before, where the loader
 * can be made to say when it has mapped them (loader.c).
 */
#include <elf.h>
#include <link.h>
#include "preload/init.h"
#include "preload/next.h"

#define RET_OPCODE 0xc3

/* What the assembly jumps to; constant from fu_init on. */
__attribute__((visibility("hidden"))) void *fu_dl_real[2];

struct search {
	const u8 *caller;
	const u8 *found;
};

static int find_ret(struct dl_phdr_info *info, size_t size, void *data)
{
	struct search *s = data;

	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		const u8 *start = fu_ptr(info->dlpi_addr + ph->p_vaddr);
		const u8 *end = start + ph->p_filesz;

		if (ph->p_type == PT_LOAD && (ph->p_flags & (PF_X | PF_R)) == (PF_X | PF_R) &&
		    s->caller >= start && s->caller < end) {
			s->found =
			        __builtin_memchr(s->caller, RET_OPCODE, (size_t)(end - s->caller));
			if (!s->found) {
				s->found = __builtin_memchr(start, RET_OPCODE,
				                            (size_t)(s->caller - start));
			}
			return 1;
		}
	}
	return 0;
}

/* Where the call may pretend to come from; NULL if the caller lies in no object (generated code).
 */
__attribute__((used, visibility("hidden"))) const void *fu_dl_enter(const void *caller)
{
	struct search s = { .caller = caller };

	fu_init();
	fu_dl_real[0] = (void *)(uintptr_t)fu_next.dlopen;
	fu_dl_real[1] = (void *)(uintptr_t)fu_next.dlmopen;
	fu_next.dl_iterate_phdr(find_ret, &s);
	if (s.found) {
		fu_init_before_load();
	}
	return s.found;
}

__attribute__((used, visibility("hidden"))) void fu_dl_leave(void)
{
	fu_init_rescan();
}

#define WRAPPER(name, index)                                       \
	__asm__(".text\n"                                          \
	        ".globl " #name "\n"                               \
	        ".type " #name ", @function\n"                     \
	        ".p2align 4\n" #name ":\n"                         \
	        "	.cfi_startproc\n"                                \
	        "	push %rdi\n"                                     \
	        "	.cfi_adjust_cfa_offset 8\n"                      \
	        "	push %rsi\n"                                     \
	        "	.cfi_adjust_cfa_offset 8\n"                      \
	        "	push %rdx\n"                                     \
	        "	.cfi_adjust_cfa_offset 8\n"                      \
	        "	mov 24(%rsp), %rdi\n"                            \
	        "	call fu_dl_enter\n"                              \
	        "	pop %rdx\n"                                      \
	        "	.cfi_adjust_cfa_offset -8\n"                     \
	        "	pop %rsi\n"                                      \
	        "	.cfi_adjust_cfa_offset -8\n"                     \
	        "	pop %rdi\n"                                      \
	        "	.cfi_adjust_cfa_offset -8\n"                     \
	        "	mov fu_dl_real+8*" #index "(%rip), %r11\n" \
	        "	test %rax, %rax\n"                               \
	        "	je 1f\n"                                         \
	        "	lea 2f(%rip), %r10\n"                            \
	        "	push %r10\n"                                     \
	        "	push %rax\n"                                     \
	        "1:	jmp *%r11\n"                                   \
	        "	nop\n"                                           \
	        "2:	sub $8, %rsp\n"                                \
	        "	.cfi_adjust_cfa_offset 8\n"                      \
	        "	mov %rax, (%rsp)\n"                              \
	        "	call fu_dl_leave\n"                              \
	        "	pop %rax\n"                                      \
	        "	.cfi_adjust_cfa_offset -8\n"                     \
	        "	ret\n"                                           \
	        "	.cfi_endproc\n"                                  \
	        ".size " #name ", .-" #name "\n")

WRAPPER(dlopen, 0);
WRAPPER(dlmopen, 1);
