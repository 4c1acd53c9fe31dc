/*
 * The search for a place. A jump takes five bytes, a `syscall` has two, and the
 * instruction stays where it is, for whoever jumps straight to it. So the jump goes
 * to the nearest instruction before it that is five bytes long or longer; this one
 * and those between it and the `syscall` are copied to the trampoline. Nearly
 * always there is one: the mov of the number itself, or the load of an argument.
 * Only one instruction is overwritten, at its first byte: nobody can be in the
 * middle of it, or jump there.
 *
 * Where there is none, several short ones make room together. Then nobody may be
 * between them, and no branch may lead there: the function's own branches are
 * decoded, the others are looked for in every four bytes of the segment that could
 * be one's distance. A function with jump tables or landing pads is left alone.
 *
 * Instructions are decoded from the start of the function, which the unwind tables
 * tell. Breakpoints of a debugger hide what they replace: such a function is left
 * alone as well.
 */
#include <sys/mman.h>
#include <sys/syscall.h>
#include "preload/insn.h"
#include "preload/site.h"
#include "rings/mem.h"

#define NR_FIRST     0x1a9 /* io_uring_setup, enter and register */
#define NR_LAST      0x1ab
#define BLOCK        16 /* what processors fetch at once, at least */
#define HISTORY      32
#define FUNCTION_MAX (1 << 20)
#define SEARCH_MAX   (4 << 20)
#define RAX          0

/* The last instructions before the `syscall`, and what the function is known to hold. */
struct walk {
	struct {
		const u8 *at;
		struct fu_insn insn;
	} last[HISTORY];
	size_t n;
	u32 ring, memory, other; /* registers that somewhere get such a number */
};

static u32 load32(const u8 *p)
{
	return (u32)p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

/* mov $imm32, %r32 or %r64: returns the register, or -1. */
static int mov_immediate(const u8 *p, size_t len, u32 *imm)
{
	u8 rex = 0;

	if (len > 5 && (*p & 0xf0) == 0x40) {
		rex = *p++;
		len--;
	}
	if (len == 5 && (*p & 0xf8) == 0xb8) {
		*imm = load32(p + 1);
		return (*p & 7) | (rex & 1) << 3;
	}
	if (len == 6 && p[0] == 0xc7 && (p[1] & 0xf8) == 0xc0) {
		*imm = load32(p + 2);
		return (p[1] & 7) | (rex & 1) << 3;
	}
	return -1;
}

/* mov %reg, %eax or %rax: returns the register, or -1. */
static int mov_to_rax(const u8 *p, size_t len)
{
	u8 rex = 0;

	if (len == 3 && (*p & 0xf0) == 0x40) {
		rex = *p++;
		len--;
	}
	if (len == 2 && *p == 0x89 && (p[1] & 0xc7) == 0xc0 && !(rex & 1)) {
		return (p[1] >> 3 & 7) | (rex & 4) << 1;
	}
	if (len == 2 && *p == 0x8b && (p[1] & 0xf8) == 0xc0 && !(rex & 4)) {
		return (p[1] & 7) | (rex & 1) << 3;
	}
	return -1;
}

enum call { CALL_UNKNOWN, CALL_OTHER, CALL_MEMORY, CALL_RING };

static enum call call_of(u32 nr)
{
	if (nr >= NR_FIRST && nr <= NR_LAST) {
		return CALL_RING;
	}
	return nr == SYS_mmap || nr == SYS_close ? CALL_MEMORY : CALL_OTHER;
}

static void note_number(struct walk *w, const u8 *p, size_t len)
{
	u32 imm;
	int reg = mov_immediate(p, len, &imm);

	if (reg >= 0) {
		enum call call = call_of(imm);

		*(call == CALL_RING     ? &w->ring
		  : call == CALL_MEMORY ? &w->memory
		                        : &w->other) |= 1U << reg;
	}
}

enum walk_end { WALK_LOST, WALK_PASSED, WALK_ARRIVED };

/*
 * Decodes fn; the instructions before `stop` end up in w->last. PASSED: none begins there. LOST:
 * something in the way cannot be decoded.
 */
static enum walk_end walk(const struct fu_function *fn, const u8 *stop, struct walk *w)
{
	bool arrived = false;
	struct fu_insn insn;

	*w = (struct walk){ .n = 0 };
	for (const u8 *p = fn->start; p < fn->end; p += insn.len) {
		arrived = arrived || p == stop;
		if (!arrived && p > stop) {
			return WALK_PASSED;
		}
		if (!fu_insn_decode(p, fn->end, &insn) || (*p == 0xcc && !arrived)) {
			return arrived ? WALK_ARRIVED : WALK_LOST;
		}
		note_number(w, p, insn.len);
		if (!arrived) {
			w->last[w->n % HISTORY].at = p;
			w->last[w->n % HISTORY].insn = insn;
			w->n++;
		}
	}
	return arrived ? WALK_ARRIVED : WALK_PASSED;
}

/* The `back`th instruction before the `syscall`, from 1; NULL if it is not known. */
static const u8 *before(const struct walk *w, size_t back, struct fu_insn *insn)
{
	size_t i = w->n - back;

	if (back > w->n || back > HISTORY) {
		return NULL;
	}
	*insn = w->last[i % HISTORY].insn;
	return w->last[i % HISTORY].at;
}

/* Which call it is, as far as the last mov to eax tells. The trampoline looks again. */
static enum call call_at(const struct walk *w)
{
	struct fu_insn insn;
	const u8 *p;
	u32 imm;

	for (size_t back = 1; (p = before(w, back, &insn)); back++) {
		int from = mov_to_rax(p, insn.len);

		if (from >= 0) {
			return w->ring >> from & 1     ? CALL_RING
			       : w->memory >> from & 1 ? CALL_MEMORY
			       : w->other >> from & 1  ? CALL_OTHER
			                               : CALL_UNKNOWN;
		}
		if (mov_immediate(p, insn.len, &imm) == RAX) {
			return call_of(imm);
		}
	}
	return CALL_UNKNOWN;
}

bool fu_site_is_atomic(const u8 *p)
{
	return ((uintptr_t)p & (BLOCK - 1)) <= BLOCK - FU_SITE_JUMP;
}

static bool in_middle(const struct fu_site *site, const u8 *target)
{
	return target > site->at && target < site->syscall;
}

/* Does anything in the function that can be seen jump between the site's instructions? */
static bool function_enters(const struct fu_function *fn, const struct fu_site *site)
{
	struct fu_insn insn;

	for (const u8 *p = fn->start; p < fn->end; p += insn.len) {
		if (!fu_insn_decode(p, fn->end, &insn)) {
			return true;
		}
		/* What jumps by way of an address in memory leaves the object, what by way of a
		 * register may use a table. */
		if ((insn.kind == FU_INSN_INDIRECT && !insn.rip_disp) ||
		    (insn.target && in_middle(site, insn.target))) {
			return true;
		}
	}
	return false;
}

/* The same for the code around it, of which it is not known where instructions begin. */
static bool others_enter(const struct fu_text *text, const struct fu_function *fn,
                         const struct fu_site *site)
{
	const u8 *near = site->at - text->start > 130 ? site->at - 130 : text->start;

	if (text->end - text->start > SEARCH_MAX) {
		return true;
	}
	for (const u8 *p = text->start; text->end - p >= 4; p++) {
		s64 off = (s32)load32(p);

		if ((p < fn->start || p >= fn->end) && off > site->at - p - 4 &&
		    off < site->syscall - p - 4) {
			return true;
		}
	}
	for (const u8 *p = near; text->end - p >= 2 && p < site->syscall + 130; p++) {
		bool jump = (*p & 0xf0) == 0x70 || (*p & 0xfc) == 0xe0 || *p == 0xeb;

		if (jump && (p < fn->start || p >= fn->end) &&
		    in_middle(site, p + 2 + (signed char)p[1])) {
			return true;
		}
	}
	return false;
}

/* One instruction that is long enough. */
static bool find_single(const struct walk *w, const u8 *syscall, u32 flags, struct fu_site *site)
{
	struct fu_insn insn;
	const u8 *p;

	for (size_t back = 1; (p = before(w, back, &insn)); back++) {
		if (insn.kind != FU_INSN_PLAIN || syscall - p > FU_SITE_MOVED) {
			return false;
		}
		if (insn.len >= FU_SITE_JUMP && ((flags & FU_SITE_QUIET) || fu_site_is_atomic(p))) {
			*site = (struct fu_site){ p, syscall, true };
			return true;
		}
	}
	return false;
}

/* Several that are, together. */
static bool find_several(const struct fu_text *text, const struct fu_function *fn,
                         const struct walk *w, const u8 *syscall, struct fu_site *site)
{
	struct fu_insn insn;
	const u8 *p;

	for (size_t back = 1; (p = before(w, back, &insn)); back++) {
		if (insn.kind != FU_INSN_PLAIN) {
			return false;
		}
		if (syscall - p >= FU_SITE_JUMP) {
			*site = (struct fu_site){ p, syscall, false };
			return !fn->landing_pads && !function_enters(fn, site) &&
			       !others_enter(text, fn, site);
		}
	}
	return false;
}

/* Nothing is known but the bytes: mov $nr, %eax; syscall. */
static enum fu_site_kind find_by_bytes(const struct fu_text *text, const u8 *syscall, u32 flags,
                                       struct fu_site *site)
{
	const u8 *p = syscall - 5;
	enum call call;
	u8 prefix;

	if (syscall - text->start < 8) {
		return FU_SITE_STUCK;
	}
	call = call_of(load32(syscall - 4));
	if (call != CALL_RING && call != CALL_MEMORY) {
		return FU_SITE_STUCK;
	}
	if (p[-2] == 0x48 && p[-1] == 0xc7 && p[0] == 0xc0) {
		p -= 2;
	} else {
		/* A prefix, or the end of another instruction? Who knows. */
		prefix = p[-1];
		if (p[0] != 0xb8 || (prefix & 0xf0) == 0x40 || prefix == 0x0f || prefix == 0x66) {
			return FU_SITE_STUCK;
		}
	}
	*site = (struct fu_site){ p, syscall, true };
	return (flags & FU_SITE_QUIET) || fu_site_is_atomic(p) ? FU_SITE_FOUND : FU_SITE_STUCK;
}

enum fu_site_kind fu_site_find(const struct fu_text *text, const struct fu_function *fn,
                               const u8 *syscall, u32 flags, struct fu_site *site)
{
	enum walk_end end;
	enum call call;
	struct walk w;

	if (!fn) {
		return find_by_bytes(text, syscall, flags, site);
	}
	if (fn->end - fn->start > FUNCTION_MAX) {
		return FU_SITE_STUCK;
	}
	end = walk(fn, syscall, &w);
	if (end != WALK_ARRIVED) {
		return end == WALK_PASSED ? FU_SITE_NONE : FU_SITE_STUCK;
	}
	call = flags & FU_SITE_SEEN ? CALL_RING : call_at(&w);
	if (call == CALL_OTHER || call == CALL_UNKNOWN) {
		return call == CALL_OTHER ? FU_SITE_NONE : FU_SITE_STUCK;
	}
	if (find_single(&w, syscall, flags, site) ||
	    ((flags & FU_SITE_QUIET) && find_several(text, fn, &w, syscall, site))) {
		return FU_SITE_FOUND;
	}
	return call == CALL_RING ? FU_SITE_STUCK : FU_SITE_NONE;
}

size_t fu_site_move(const struct fu_site *site, u8 *to)
{
	size_t total = (size_t)(site->syscall - site->at);
	struct fu_insn insn;

	fu_memcpy(to, site->at, total);
	for (const u8 *p = site->at; p < site->syscall; p += insn.len) {
		u8 *copy = to + (p - site->at);

		if (!fu_insn_decode(p, site->syscall, &insn)) {
			return 0;
		}
		if (insn.rip_disp) {
			s64 disp = (s32)load32(p + insn.rip_disp) + (p - copy);
			s32 disp32 = (s32)disp;

			if (disp != disp32) {
				return 0;
			}
			fu_memcpy(copy + insn.rip_disp, &disp32, sizeof(disp32));
		}
	}
	return total;
}

/* ---- the bounds of functions: .eh_frame_hdr and the entries that it points to ---- */

#define EH_PCREL_SDATA4   0x1b
#define EH_UDATA4         0x03
#define EH_DATAREL_SDATA4 0x3b

static s32 load_s32(const u8 *p)
{
	return (s32)load32(p);
}

/* Looks into one entry: its length, and whether exceptions land in it. */
static void read_entry(const u8 *fde, struct fu_function *fn)
{
	const u8 *cie = fde + 4 - load32(fde + 4);
	const u8 *letter = cie + 9;

	/* The usual encoding, four bytes relative to themselves: the start has to agree. */
	if (fde + 8 + load_s32(fde + 8) == fn->start) {
		const u8 *end = fn->start + load32(fde + 12);

		fn->end = end < fn->end ? end : fn->end;
	}
	for (fn->landing_pads = false; *letter; letter++) {
		fn->landing_pads = fn->landing_pads || *letter == 'L';
	}
}

bool fu_site_function(const struct fu_text *text, const u8 *p, struct fu_function *fn)
{
	const u8 *hdr = text->eh_hdr, *table;
	u32 low = 0, high;

	if (!hdr || hdr[0] != 1 || hdr[1] != EH_PCREL_SDATA4 || hdr[2] != EH_UDATA4 ||
	    hdr[3] != EH_DATAREL_SDATA4) {
		return false;
	}
	high = load32(hdr + 8);
	table = hdr + 12;
	/* The last entry that begins at or before p. */
	while (low < high) {
		u32 mid = low + (high - low) / 2;

		if (hdr + load_s32(table + 8 * (size_t)mid) <= p) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	if (low == 0) {
		return false;
	}
	fn->start = hdr + load_s32(table + 8 * (size_t)(low - 1));
	fn->end = low < load32(hdr + 8) ? hdr + load_s32(table + 8 * (size_t)low) : text->end;
	read_entry(hdr + load_s32(table + 8 * (size_t)(low - 1) + 4), fn);
	return fn->start >= text->start && fn->end <= text->end && p < fn->end;
}
