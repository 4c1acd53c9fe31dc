/*
 * Standing in front of a function of libc that cares who calls it, and from which frame.
 */
#ifndef FU_FORWARD_H
#define FU_FORWARD_H

/*
 * Defines `name`: calls fu_<name> with the same first two arguments, then jumps to what that has
 * returned, libc's function. Every register that a function has to keep is the caller's when libc's
 * sees it, and so is the stack.
 */
#define FU_FORWARD(name)                       \
	__asm__(".text\n"                      \
	        ".globl " #name "\n"           \
	        ".type " #name ", @function\n" \
	        ".p2align 4\n" #name ":\n"     \
	        "	.cfi_startproc\n"            \
	        "	endbr64\n"                   \
	        "	push %rdi\n"                 \
	        "	.cfi_adjust_cfa_offset 8\n"  \
	        "	push %rsi\n"                 \
	        "	.cfi_adjust_cfa_offset 8\n"  \
	        "	sub $8, %rsp\n"              \
	        "	.cfi_adjust_cfa_offset 8\n"  \
	        "	call fu_" #name "\n"   \
	        "	add $8, %rsp\n"              \
	        "	.cfi_adjust_cfa_offset -8\n" \
	        "	pop %rsi\n"                  \
	        "	.cfi_adjust_cfa_offset -8\n" \
	        "	pop %rdi\n"                  \
	        "	.cfi_adjust_cfa_offset -8\n" \
	        "	jmp *%rax\n"                 \
	        "	.cfi_endproc\n"              \
	        ".size " #name ", .-" #name "\n")

#endif
