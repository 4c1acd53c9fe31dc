/*
 * The decoder. An instruction is: prefixes, an opcode of one of several maps, and
 * then what the opcode's row says: a ModRM byte (with SIB and displacement as it
 * says itself), an immediate. The rows are bit sets, one bit for each opcode. VEX
 * and EVEX put prefixes and map into one longer prefix; behind it the rules are
 * the same.
 */
#include "preload/insn.h"

#define INSN_MAX 15

enum { MAP_ONE, MAP_0F, MAP_38, MAP_3A, MAP_NO_IMMEDIATE, MAP_IMM8, MAP_IMM32 };

struct cursor {
	const u8 *p, *end;
	u8 rex;
	bool opsize, addrsize; /* prefixes 66 and 67 */
	bool vex;
	u8 map, opcode, modrm;
	bool bad;
};

static u8 next(struct cursor *c)
{
	if (c->p >= c->end) {
		c->bad = true;
		return 0;
	}
	return *c->p++;
}

/* One bit for each opcode of a map, sixteen to a word. */
static bool in_set(const u16 set[16], u8 opcode)
{
	return set[opcode >> 4] >> (opcode & 15) & 1;
}

static const u16 one_modrm[16] = {
	0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0, 0, 0x0a08, 0, 0xfffb, 0, 0, 0, 0x00c3, 0xff0f, 0, 0xc0c0,
};
static const u16 one_imm8[16] = {
	0x1010, 0x1010, 0x1010, 0x1010, 0,      0,      0x0c00, 0xffff,
	0x0009, 0,      0x0100, 0x00ff, 0x2043, 0x0000, 0x00ff, 0,
};
/* 2 bytes with prefix 66, else 4. */
static const u16 one_imm_z[16] = {
	0x2020, 0x2020, 0x2020, 0x2020, 0, 0, 0x0300, 0, 0x0002, 0, 0x0200, 0, 0x0080, 0, 0, 0,
};
static const u16 one_invalid[16] = {
	0x40c0, 0xc0c0, 0x8080, 0x8080, 0,      0,      0x0007, 0,
	0x0004, 0x0400, 0,      0,      0x4000, 0x0070, 0x0400, 0,
};
static const u16 two_no_modrm[16] = {
	0x4be0, 0, 0, 0x00bf, 0, 0, 0, 0x0080, 0xffff, 0, 0x0707, 0, 0xff00, 0, 0, 0,
};
static const u16 two_imm8[16] = {
	0x8000, 0, 0, 0, 0, 0, 0, 0x000f, 0, 0, 0x1010, 0x0400, 0x0074, 0, 0, 0,
};

static void read_prefixes(struct cursor *c)
{
	for (;;) {
		u8 b = next(c), rex = 0;

		switch (b) {
		case 0x66:
			c->opsize = true;
			break;
		case 0x67:
			c->addrsize = true;
			break;
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
		case 0x64:
		case 0x65:
		case 0xf0:
		case 0xf2:
		case 0xf3:
			break;
		default:
			if ((b & 0xf0) != 0x40) {
				c->opcode = b;
				return;
			}
			rex = b;
			break;
		}
		/* It counts only directly before the opcode. */
		c->rex = rex;
	}
}

/* VEX, EVEX and XOP: the map, and the opcode behind the longer prefix. */
static void read_vex(struct cursor *c)
{
	u8 b = next(c);
	u8 map = b & 0x1f;

	c->vex = true;
	switch (c->opcode) {
	case 0xc5:
		map = MAP_0F;
		break;
	case 0xc4:
		next(c);
		break;
	case 0x8f:
		next(c);
		map = map == 8 ? MAP_IMM8 : map == 9 ? MAP_NO_IMMEDIATE : map == 10 ? MAP_IMM32 : 0;
		break;
	default:
		map = b & 7;
		map = map == 5 || map == 6 ? MAP_NO_IMMEDIATE : map;
		next(c);
		next(c);
		break;
	}
	c->bad = c->bad || map == 0 || map > MAP_IMM32 ||
	         (map > MAP_3A && (c->opcode == 0xc4 || c->opcode == 0xc5));
	c->map = map;
	c->opcode = next(c);
}

static void read_opcode(struct cursor *c)
{
	u8 first;

	read_prefixes(c);
	first = c->opcode;
	if (first == 0x0f) {
		c->opcode = next(c);
		c->map = MAP_0F;
		if (c->opcode == 0x38 || c->opcode == 0x3a) {
			c->map = c->opcode == 0x38 ? MAP_38 : MAP_3A;
			c->opcode = next(c);
		}
	} else if (first == 0xc4 || first == 0xc5 || first == 0x62 ||
	           (first == 0x8f && c->p < c->end && (*c->p & 0x1f) >= 8)) {
		read_vex(c);
	} else {
		c->bad = c->bad || in_set(one_invalid, first);
	}
}

static bool has_modrm(const struct cursor *c)
{
	if (c->map == MAP_ONE) {
		return in_set(one_modrm, c->opcode);
	}
	if (c->map == MAP_0F) {
		if (c->vex) {
			return c->opcode != 0x77;
		}
		return !in_set(two_no_modrm, c->opcode);
	}
	return true;
}

/* Returns the size of the displacement; notes one that is relative to rip. */
static u32 read_modrm(struct cursor *c, bool *rip)
{
	u8 mod, rm, base = 0;

	c->modrm = next(c);
	mod = c->modrm >> 6;
	rm = c->modrm & 7;
	/* Control and debug registers are moved to and from registers, whatever it says. */
	if (mod == 3 || (c->map == MAP_0F && !c->vex && (c->opcode & 0xfc) == 0x20)) {
		return 0;
	}
	if (rm == 4) {
		base = next(c) & 7;
	}
	if (mod == 1) {
		return 1;
	}
	*rip = mod == 0 && rm == 5;
	return mod == 2 || *rip || (rm == 4 && base == 5) ? 4 : 0;
}

static u32 imm_z(const struct cursor *c)
{
	return c->opsize && !(c->rex & 8) ? 2 : 4;
}

static u32 one_immediate(const struct cursor *c)
{
	u8 op = c->opcode;

	switch (op) {
	case 0xf6:
		return (c->modrm & 0x30) == 0 ? 1 : 0;
	case 0xf7:
		return (c->modrm & 0x30) == 0 ? imm_z(c) : 0;
	case 0xc2:
	case 0xca:
		return 2;
	case 0xc8:
		return 3;
	case 0xe8:
	case 0xe9:
		return 4;
	case 0xeb:
		return 1;
	default:
		break;
	}
	if ((op & 0xfc) == 0xa0) {
		return c->addrsize ? 4 : 8;
	}
	if ((op & 0xf8) == 0xb8) {
		return c->rex & 8 ? 8 : imm_z(c);
	}
	return in_set(one_imm8, op) ? 1 : in_set(one_imm_z, op) ? imm_z(c) : 0;
}

static u32 immediate(const struct cursor *c)
{
	switch (c->map) {
	case MAP_ONE:
		return one_immediate(c);
	case MAP_0F:
		if (!c->vex && (c->opcode & 0xf0) == 0x80) {
			return 4;
		}
		return in_set(two_imm8, c->opcode) && !(c->vex && (c->opcode & 0xf0) != 0x70 &&
		                                        (c->opcode & 0xf0) != 0xc0)
		               ? 1
		               : 0;
	case MAP_3A:
	case MAP_IMM8:
		return 1;
	case MAP_IMM32:
		return 4;
	default:
		return 0;
	}
}

static enum fu_insn_kind one_kind(const struct cursor *c)
{
	u8 op = c->opcode, reg = c->modrm >> 3 & 7;

	if ((op & 0xf0) == 0x70 || (op & 0xfc) == 0xe0 || op == 0xe9 || op == 0xeb) {
		return FU_INSN_BRANCH;
	}
	if (op == 0xe8 || op == 0xcd) {
		return FU_INSN_CALL;
	}
	if (op == 0xff && (reg == 2 || reg == 3)) {
		return FU_INSN_CALL;
	}
	if (op == 0xff && (reg == 4 || reg == 5)) {
		return FU_INSN_INDIRECT;
	}
	if (op == 0xc7 && c->modrm == 0xf8) {
		return FU_INSN_BRANCH;
	}
	if ((op & 0xf6) == 0xc2 || op == 0xcc || op == 0xcf || op == 0xf4 || op == 0xf1) {
		return FU_INSN_END;
	}
	return FU_INSN_PLAIN;
}

static enum fu_insn_kind kind_of(const struct cursor *c)
{
	if (c->map == MAP_ONE) {
		return one_kind(c);
	}
	if (c->map != MAP_0F || c->vex) {
		return FU_INSN_PLAIN;
	}
	switch (c->opcode) {
	case 0x05:
		return FU_INSN_SYSCALL;
	case 0x34: /* sysenter */
		return FU_INSN_CALL;
	case 0x07: /* sysret */
	case 0x35: /* sysexit */
	case 0x0b: /* ud2 */
	case 0xb9: /* ud1 */
	case 0xff: /* ud0 */
		return FU_INSN_END;
	default:
		return (c->opcode & 0xf0) == 0x80 ? FU_INSN_BRANCH : FU_INSN_PLAIN;
	}
}

static const u8 *relative(const u8 *imm, u32 size)
{
	s32 off = 0;

	if (size == 1) {
		return imm + 1 + (signed char)*imm;
	}
	for (u32 i = 0; i < 4; i++) {
		off = (s32)((u32)off | (u32)imm[i] << (8 * i));
	}
	return imm + 4 + off;
}

bool fu_insn_decode(const u8 *p, const u8 *end, struct fu_insn *insn)
{
	struct cursor c = { .p = p };
	u32 disp = 0, imm;
	bool rip = false;

	c.end = end - p > INSN_MAX ? p + INSN_MAX : end;
	read_opcode(&c);
	if (!c.bad && has_modrm(&c)) {
		disp = read_modrm(&c, &rip);
	}
	imm = immediate(&c);
	if (c.bad || (size_t)(c.end - c.p) < disp + imm) {
		return false;
	}
	insn->rip_disp = rip ? (u8)(c.p - p) : 0;
	c.p += disp;
	insn->len = (u8)(c.p + imm - p);
	insn->kind = (u8)kind_of(&c);
	insn->target = NULL;
	if ((insn->kind == FU_INSN_BRANCH || (insn->kind == FU_INSN_CALL && c.opcode == 0xe8)) &&
	    (imm == 1 || imm == 4)) {
		insn->target = relative(c.p, imm);
	}
	return true;
}
