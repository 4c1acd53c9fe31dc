/*
 * longjmp and its like. A signal handler that jumps may leave a call of ours behind, which holds
 * something: the engine is told where the jump goes (stay.h). The stack pointer to go to lies
 * in the buffer as glibc has it on x86-64: rotated, and XORed with a word of the thread's own.
 */
#include <setjmp.h>
#include "engine/entry.h"
#include "preload/init.h"
#include "preload/next.h"

#define JB_RSP 6

static void tell(const u64 *buffer)
{
	u64 to = buffer[JB_RSP];

	fu_init();
	__asm__("ror $17, %0\n\txor %%fs:0x30, %0" : "+r"(to));
	fu_jumps((uintptr_t)__builtin_frame_address(0), to);
}

/* The buffer and the value to return stay where they are for libc's function, which is jumped to.
 */
#define WRAPPER(name)                                                                        \
	__attribute__((used, visibility("hidden"))) void *fu_jump_##name(const u64 *buffer); \
	__attribute__((used, visibility("hidden"))) void *fu_jump_##name(const u64 *buffer)  \
	{                                                                                    \
		tell(buffer);                                                                \
		return (void *)(uintptr_t)fu_next.name;                                      \
	}                                                                                    \
	__asm__(".text\n"                                                                    \
	        ".globl " #name "\n"                                                         \
	        ".type " #name ", @function\n"                                               \
	        ".p2align 4\n" #name ":\n"                                                   \
	        "	.cfi_startproc\n"                                                          \
	        "	endbr64\n"                                                                 \
	        "	push %rdi\n"                                                               \
	        "	.cfi_adjust_cfa_offset 8\n"                                                \
	        "	push %rsi\n"                                                               \
	        "	.cfi_adjust_cfa_offset 8\n"                                                \
	        "	sub $8, %rsp\n"                                                            \
	        "	.cfi_adjust_cfa_offset 8\n"                                                \
	        "	call fu_jump_" #name "\n"                                            \
	        "	add $8, %rsp\n"                                                            \
	        "	.cfi_adjust_cfa_offset -8\n"                                               \
	        "	pop %rsi\n"                                                                \
	        "	.cfi_adjust_cfa_offset -8\n"                                               \
	        "	pop %rdi\n"                                                                \
	        "	.cfi_adjust_cfa_offset -8\n"                                               \
	        "	jmp *%rax\n"                                                               \
	        "	.cfi_endproc\n"                                                            \
	        ".size " #name ", .-" #name "\n")

WRAPPER(longjmp);
WRAPPER(_longjmp);
WRAPPER(siglongjmp);
WRAPPER(__longjmp_chk);
