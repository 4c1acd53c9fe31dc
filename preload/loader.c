/*
 * The dynamic linker tells debuggers of what it loads: it calls an empty function,
 * whose address it gives out as r_brk, once when it begins to change the list of
 * objects and again when the list is consistent. The latter is after the mapping of
 * all that one dlopen brings and before the first of their constructors, which is
 * where call sites have to be patched if a constructor makes a ring.
 *
 * Debuggers put their breakpoint into that function. So it is left alone, and the
 * instructions that call it are directed here, from where it is called in turn. They
 * are found by where they lead: no other five bytes of the loader do.
 */
#include <link.h>
#include <sys/mman.h>
#include "preload/loader.h"
#include "preload/next.h"
#include "preload/patch.h"
#include "rings/sys.h"

#define CALL_OPCODE 0xe8
#define CALL_BYTES  5

/* Constant once the first call leads here. */
static void (*tell_debugger)(void);
static void (*tell_us)(void);

/* struct r_debug_extended, which a glibc before 2.35 does not have. */
struct name_space {
	struct r_debug debug;
	const struct name_space *next;
};

/* Is no namespace's list of objects being changed? */
static bool is_consistent(void)
{
	const struct name_space *ns = fu_ptr((u64)(uintptr_t)&_r_debug);

	do {
		if (ns->debug.r_state != RT_CONSISTENT) {
			return false;
		}
		ns = _r_debug.r_version > 1 ? ns->next : NULL;
	} while (ns);
	return true;
}

static void on_change(void)
{
	tell_debugger();
	if (is_consistent()) {
		tell_us();
	}
}

/* The segment that r_brk lies in. */
static int find_text(struct dl_phdr_info *info, size_t size, void *data)
{
	struct fu_text *text = data;
	const u8 *brk = fu_ptr(_r_debug.r_brk);

	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		const u8 *start = fu_ptr(info->dlpi_addr + ph->p_vaddr);

		if (ph->p_type == PT_LOAD && ph->p_flags == (PF_R | PF_X) && brk >= start &&
		    brk < start + ph->p_filesz) {
			*text = (struct fu_text){ .start = start,
				                  .end = start + ph->p_filesz,
				                  .prot = PROT_READ | PROT_EXEC };
			return 1;
		}
	}
	return 0;
}

static bool leads_to(const u8 *call, u64 target)
{
	s32 off;

	__builtin_memcpy(&off, call + 1, sizeof(off));
	return *call == CALL_OPCODE && (u64)(uintptr_t)call + CALL_BYTES + (u64)(s64)off == target;
}

bool fu_loader_hook(void (*fn)(void))
{
	struct fu_text text = { 0 };
	bool hooked = false;

	if (!_r_debug.r_brk || !fu_next.dl_iterate_phdr(find_text, &text)) {
		return false;
	}
	tell_us = fn;
	__builtin_memcpy(&tell_debugger, &_r_debug.r_brk, sizeof(tell_debugger));
	for (const u8 *p = text.start; text.end - p >= CALL_BYTES; p++) {
		if (leads_to(p, _r_debug.r_brk)) {
			hooked = fu_patch_call(&text, p, on_change) || hooked;
		}
	}
	fu_patch_close();
	return hooked;
}
