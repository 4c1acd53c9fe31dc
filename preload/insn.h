/*
 * Just enough of x86-64's instruction encoding to move code: how long an
 * instruction is, where it goes, and whether it means the same at another address.
 */
#ifndef FU_INSN_H
#define FU_INSN_H

#include "rings/types.h"

enum fu_insn_kind {
	FU_INSN_PLAIN,    /* goes on to the next; the same anywhere, but for rip_disp */
	FU_INSN_BRANCH,   /* jumps, perhaps, to `target`: jmp, jcc, loop, xbegin */
	FU_INSN_CALL,     /* comes back, perhaps; direct calls have a target */
	FU_INSN_INDIRECT, /* jumps to where a register or a table says */
	FU_INSN_SYSCALL,
	FU_INSN_END /* does not go on to the next: ret, hlt, ud2, int3, iret */
};

struct fu_insn {
	u8 len;
	u8 kind;
	u8 rip_disp; /* offset of a displacement that is relative to the next instruction; 0: none
	              */
	const u8 *target; /* FU_INSN_BRANCH, FU_INSN_CALL; NULL if it is not known */
};

/*
 * Decodes the instruction at `p`, of which no byte at or behind `end` is read.
 * Returns false if there is no whole instruction, or none that is valid in 64-bit code.
 */
bool fu_insn_decode(const u8 *p, const u8 *end, struct fu_insn *insn);

#endif
