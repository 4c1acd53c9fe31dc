/*
 * The scan. An object issues io_uring calls of its own if its code holds
 *
 *   near: mov $0x1a9..0x1ab, %r32 with a `syscall` at most 64 bytes behind it, or
 *   far:  such a mov for both 0x1a9 and 0x1aa within 16 KiB, to the register that
 *         a wrapper takes the number in (edi or eax), plus a `syscall` that looks
 *         like a generic wrapper's: r10 loaded before it (the fourth
 *         argument; no compiler uses r10 otherwise in such a place) and a return,
 *         a test or a store of the result behind it.
 *
 * Immediates are looked for first, sixteen bytes at a time: almost every object
 * has none, and is done with. In an object that has call sites every `syscall`
 * counts, since the same code maps the ring and closes it.
 *
 * libc and the loader are left out (libc's syscall() is interposed; its one instruction is
 * covered too, for callers that got hold of it by other ways), and so are the
 * vdso and this library.
 */
#include <elf.h>
#include <emmintrin.h>
#include <link.h>
#include <sys/mman.h>
#include "preload/image.h"
#include "preload/next.h"
#include "preload/scan.h"
#include "rings/sys.h"

#define IMM_FIRST    0xa9 /* the low byte; the rest of the immediate is 01 00 00 */
#define NEAR_BYTES   64
#define FAR_BYTES    16384
#define R10_BYTES    48
#define WRAPPER_SIZE 64
#define SITES_EXACT  16
#define AHEAD        4096 /* how far to fetch in advance: processors do not cross pages */

struct walk {
	struct fu_scan *out;
	size_t index; /* of the object in load order */
};

/* This library's own header, by the linker. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

/* Objects up to this index were there at the start and stay; see fu_scan. */
static size_t n_seen, n_initial;
static u64 seen_adds, seen_subs;

/* Sixteen bytes of 0xff or 0: at which of the positions from p on lie {first..first+span} second.
 */
static inline __m128i match(const u8 *p, u8 first, u8 span, u8 second)
{
	__m128i b0 = _mm_loadu_si128((const __m128i *)(const void *)p);
	__m128i b1 = _mm_loadu_si128((const __m128i *)(const void *)(p + 1));
	__m128i d = _mm_sub_epi8(b0, _mm_set1_epi8((char)first));

	return _mm_and_si128(_mm_cmpeq_epi8(_mm_min_epu8(d, _mm_set1_epi8((char)span)), d),
	                     _mm_cmpeq_epi8(b1, _mm_set1_epi8((char)second)));
}

/*
 * The next pair of bytes {first..first+span} second at or after p; `end` if there
 * is none. It hardly ever matches, so one branch for 64 positions is enough.
 */
static inline __attribute__((always_inline)) const u8 *next_pair(const u8 *p, const u8 *end,
                                                                 u8 first, u8 span, u8 second)
{
	for (; end - p >= 64 + 1; p += 64) {
		__m128i m0 = match(p, first, span, second);
		__m128i m1 = match(p + 16, first, span, second);
		__m128i m2 = match(p + 32, first, span, second);
		__m128i m3 = match(p + 48, first, span, second);
		u64 mask;

		__builtin_prefetch(p + AHEAD);
		if (fu_likely(!_mm_movemask_epi8(
		            _mm_or_si128(_mm_or_si128(m0, m1), _mm_or_si128(m2, m3))))) {
			continue;
		}
		mask = (u64)_mm_movemask_epi8(m0) | (u64)_mm_movemask_epi8(m1) << 16 |
		       (u64)_mm_movemask_epi8(m2) << 32 | (u64)_mm_movemask_epi8(m3) << 48;
		return p + __builtin_ctzll(mask);
	}
	for (; end - p >= 2; p++) {
		if ((u8)(p[0] - first) <= span && p[1] == second) {
			return p;
		}
	}
	return end;
}

/* The next 4 bytes {a9..ab} 01 00 00 at or after p; `end` if there are none. */
static const u8 *next_immediate(const u8 *p, const u8 *end)
{
	for (p = next_pair(p, end, IMM_FIRST, 2, 1); p < end;
	     p = next_pair(p + 1, end, IMM_FIRST, 2, 1)) {
		if (end - p >= 4 && p[2] == 0 && p[3] == 0) {
			return p;
		}
	}
	return end;
}

const u8 *fu_scan_syscall(const u8 *p, const u8 *end)
{
	return next_pair(p, end, 0x0f, 0, 0x05);
}

/* The byte before the immediate is the opcode of mov $imm32, %r32 (b8..bf, with or without REX). */
static bool is_mov(const u8 *imm, const u8 *start)
{
	return imm > start && (imm[-1] & 0xf8) == 0xb8;
}

/* Some instruction in [p, end) that writes r10. */
static bool writes_r10(const u8 *p, const u8 *end)
{
	for (; end - p >= 3; p++) {
		bool to_rm = (p[0] & 0xf1) == 0x41 && p[1] == 0x89 && (p[2] & 0xc7) == 0xc2;
		bool to_reg = (p[0] & 0xf4) == 0x44 && (p[1] == 0x8b || p[1] == 0x63) &&
		              (p[2] & 0x38) == 0x10;
		bool imm = p[0] == 0x41 && p[1] == 0xba;
		bool zero = p[0] == 0x45 && p[1] == 0x31 && p[2] == 0xd2;

		if (to_rm || to_reg || imm || zero) {
			return true;
		}
	}
	return false;
}

/* What comes after a wrapper's `syscall`: ret, pop, leave, or something done to (r|e)ax. */
static bool uses_result(const u8 *p, const u8 *end)
{
	if (end - p < 4) {
		return false;
	}
	if (p[0] >= 0x48 && p[0] <= 0x4f) {
		p++;
	}
	switch (p[0]) {
	case 0xc3: /* ret */
	case 0xc9: /* leave */
	case 0x3d: /* cmp $imm32, %eax */
		return true;
	case 0x83: /* op $imm8: cmp %eax, or add %rsp */
		return p[1] == 0xf8 || p[1] == 0xc4;
	case 0x85: /* test %eax, %eax */
		return p[1] == 0xc0;
	case 0x89: /* mov %eax, anywhere */
		return (p[1] & 0x38) == 0;
	default:
		return p[0] >= 0x58 && p[0] <= 0x5f; /* pop */
	}
}

/* A view has a `syscall` that looks like a generic wrapper's. */
static bool has_wrapper(const struct fu_view *v, void *arg)
{
	(void)arg;
	for (const u8 *p = fu_scan_syscall(v->start, v->end); p < v->stop;
	     p = fu_scan_syscall(p + 2, v->end)) {
		const u8 *before = p - v->lead > R10_BYTES ? p - R10_BYTES : v->lead;

		if (writes_r10(before, p) && uses_result(p + 2, v->end)) {
			return true;
		}
	}
	return false;
}

struct numbers {
	/* Where the latest mov of 0x1a9 and of 0x1aa to eax and to edi is; 0: nowhere yet. */
	u64 last[2][2];
	bool far; /* two were close to each other */
};

/* Notes the mov whose immediate is at p in the view. */
static void note_number(struct numbers *n, const u8 *p, const struct fu_view *v)
{
	bool to_edi = p[-1] == 0xbf;
	u64 *last = n->last[to_edi];

	if (*p - IMM_FIRST > 1 || (!to_edi && p[-1] != 0xb8)) {
		return;
	}
	last[*p - IMM_FIRST] = (u64)(uintptr_t)p + (u64)v->loaded;
	n->far = n->far || (last[0] && last[1] && last[0] - last[1] + FAR_BYTES < 2 * FAR_BYTES);
}

/* A view has one of the numbers right before a `syscall`. Notes those that are not. */
static bool has_near(const struct fu_view *v, void *arg)
{
	struct numbers *n = arg;

	for (const u8 *p = next_immediate(v->start, v->end); p < v->stop;
	     p = next_immediate(p + 1, v->end)) {
		const u8 *near = v->end - p > NEAR_BYTES + 4 ? p + NEAR_BYTES + 4 : v->end;

		if (!is_mov(p, v->lead)) {
			continue;
		}
		if (fu_scan_syscall(p + 4, near) < near) {
			return true;
		}
		note_number(n, p, v);
	}
	return false;
}

/* Does the code of the segment issue io_uring calls? */
static bool has_call_site(const struct fu_image *image)
{
	struct numbers numbers = { .far = false };

	return fu_image_each(image, has_near, &numbers) ||
	       (numbers.far && fu_image_each(image, has_wrapper, NULL));
}

static void add_range(struct fu_scan *s, const u8 *first, const u8 *last)
{
	if (s->n_ranges < FU_RANGES_MAX) {
		/* seccomp sees the address behind the two bytes of the instruction. */
		s->ranges[s->n_ranges++] =
		        (struct fu_range){ (u64)(uintptr_t)first + 2, (u64)(uintptr_t)last + 3 };
	}
}

static bool note_syscalls(const struct fu_view *v, void *arg)
{
	struct fu_scan *s = arg;

	for (const u8 *p = fu_scan_syscall(v->start, v->end); p < v->stop;
	     p = fu_scan_syscall(p + 2, v->end)) {
		const u8 *loaded = p + v->loaded;

		if (s->n_sites < FU_SITES_MAX) {
			s->sites[s->n_sites++] = loaded;
		} else {
			s->trap_only = true;
		}
		s->last = loaded;
		s->count++;
	}
	return false;
}

/* Every `syscall` of the segment: one by one if they are few, else from the first to the last. */
static void add_sites(struct fu_scan *s, const struct fu_image *image)
{
	size_t from = s->n_sites;

	s->count = 0;
	fu_image_each(image, note_syscalls, s);
	if (s->count > SITES_EXACT || (s->count && s->n_ranges > FU_RANGES_MAX / 2)) {
		add_range(s, from < s->n_sites ? s->sites[from] : image->start, s->last);
		return;
	}
	for (size_t i = from; i < s->n_sites; i++) {
		add_range(s, s->sites[i], s->sites[i]);
	}
}

static const char *base_name(const char *path)
{
	const char *name = path;

	for (; *path; path++) {
		if (*path == '/') {
			name = path + 1;
		}
	}
	return name;
}

static bool starts_with(const char *s, const char *prefix)
{
	while (*prefix) {
		if (*s++ != *prefix++) {
			return false;
		}
	}
	return true;
}

/* The library itself, whatever its name, and any other copy of it that bears its name. */
static bool is_fakeuring(const struct dl_phdr_info *info)
{
	return info->dlpi_addr == (u64)(uintptr_t)&__ehdr_start ||
	       starts_with(base_name(info->dlpi_name), "libfakeuring");
}

static bool is_left_out(const struct dl_phdr_info *info)
{
	const char *name = base_name(info->dlpi_name);

	return is_fakeuring(info) || starts_with(name, "libc.so.") ||
	       starts_with(name, "libc-2.") || starts_with(name, "ld-linux") ||
	       starts_with(name, "ld-2.") || starts_with(name, "linux-vdso");
}

static void add_text(struct fu_scan *s, const struct dl_phdr_info *info, const ElfW(Phdr) * ph)
{
	const u8 *start = fu_ptr(info->dlpi_addr + ph->p_vaddr);
	struct fu_text text = { .start = start,
		                .end = start + ph->p_filesz,
		                .prot = PROT_READ | PROT_EXEC |
		                        (ph->p_flags & PF_W ? PROT_WRITE : 0) };

	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME) {
			text.eh_hdr = fu_ptr(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
		}
	}
	if (s->n_texts < FU_TEXTS_MAX) {
		s->texts[s->n_texts++] = text;
	}
}

/* NULL if it has none. */
static const ElfW(Dyn) * dynamic_section(const struct dl_phdr_info *info)
{
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) {
			return fu_ptr(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
		}
	}
	return NULL;
}

static bool needs_libraries(const struct dl_phdr_info *info)
{
	for (const ElfW(Dyn) *dyn = dynamic_section(info); dyn && dyn->d_tag != DT_NULL; dyn++) {
		if (dyn->d_tag == DT_NEEDED) {
			return true;
		}
	}
	return false;
}

/* Does the loader write into its code, perhaps after now? */
static bool has_text_relocations(const struct dl_phdr_info *info)
{
	const ElfW(Dyn) *dyn = dynamic_section(info);

	for (; dyn && dyn->d_tag != DT_NULL; dyn++) {
		if (dyn->d_tag == DT_TEXTREL ||
		    (dyn->d_tag == DT_FLAGS && (dyn->d_un.d_val & DF_TEXTREL))) {
			return true;
		}
	}
	return false;
}

/* What has been found since there were so many is to be trapped, not patched. */
static void keep_unpatched(struct fu_scan *s, size_t n_texts, size_t n_sites, size_t n_ranges)
{
	s->n_texts = n_texts;
	s->n_sites = n_sites;
	s->trap_only = s->trap_only || s->n_ranges > n_ranges;
}

static void look_at(struct fu_scan *s, const struct dl_phdr_info *info)
{
	struct fu_image image = { .fd = fu_image_open(info) };
	size_t n_texts = s->n_texts, n_sites = s->n_sites, n_ranges = s->n_ranges;

	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type != PT_LOAD || (ph->p_flags & (PF_X | PF_R)) != (PF_X | PF_R)) {
			continue;
		}
		image.start = fu_ptr(info->dlpi_addr + ph->p_vaddr);
		image.end = image.start + ph->p_filesz;
		image.offset = ph->p_offset;
		if (has_call_site(&image)) {
			add_sites(s, &image);
			add_text(s, info, ph);
		}
	}
	fu_image_close(image.fd);
	if (s->n_ranges == n_ranges) {
		return;
	}
	if (fu_image_is_go(info)) {
		s->go = true;
		keep_unpatched(s, n_texts, n_sites, n_ranges);
	} else if (has_text_relocations(info)) {
		keep_unpatched(s, n_texts, n_sites, n_ranges);
	}
}

/* struct r_debug_extended, which a glibc before 2.35 does not have. */
struct name_space {
	struct r_debug debug;
	const struct name_space *next;
};

/*
 * The objects that dlmopen has put into other namespaces, which dl_iterate_phdr passes over.
 * Their calls are trapped, not patched: nobody tells when such an object goes.
 */
static void look_elsewhere(struct fu_scan *s)
{
	const struct name_space *ns = fu_ptr((u64)(uintptr_t)&_r_debug);
	size_t n_texts = s->n_texts, n_sites = s->n_sites, n_ranges = s->n_ranges;

	while (_r_debug.r_version > 1 && (ns = ns->next)) {
		for (const struct link_map *map = ns->debug.r_map; map; map = map->l_next) {
			const ElfW(Ehdr) *head = fu_ptr(map->l_addr);
			struct dl_phdr_info info = { .dlpi_addr = map->l_addr,
				                     .dlpi_name = map->l_name };

			if (is_left_out(&info) || !map->l_addr ||
			    __builtin_memcmp(head->e_ident, ELFMAG, SELFMAG) != 0) {
				continue;
			}
			info.dlpi_phdr = fu_ptr(map->l_addr + head->e_phoff);
			info.dlpi_phnum = head->e_phnum;
			look_at(s, &info);
		}
	}
	keep_unpatched(s, n_texts, n_sites, n_ranges);
}

/* The `index`th object that is loaded. */
static int visit(struct dl_phdr_info *info, size_t size, void *data)
{
	struct walk *w = data;
	size_t index = w->index++;

	(void)size;
	if (index == 0 && info->dlpi_adds == seen_adds && info->dlpi_subs == seen_subs) {
		w->index = n_seen;
		return 1;
	}
	if (index == 0) {
		w->out->bare = !needs_libraries(info);
		/* After an unload any later place in the list may hold another object. */
		w->out->unloaded = info->dlpi_subs != seen_subs;
		n_seen = w->out->unloaded ? n_initial : n_seen;
		seen_adds = info->dlpi_adds;
		seen_subs = info->dlpi_subs;
		/* Here, where the loader's lock is held. */
		look_elsewhere(w->out);
	}
	if (index < n_seen || is_left_out(info)) {
		return 0;
	}
	look_at(w->out, info);
	return 0;
}

void fu_scan(struct fu_scan *scan)
{
	struct walk w = { .out = scan };
	const u8 *libc_syscall = fu_ptr((u64)(uintptr_t)fu_next.syscall);

	scan->n_ranges = 0;
	scan->n_texts = 0;
	scan->n_sites = 0;
	scan->unloaded = scan->trap_only = scan->go = false;
	fu_next.dl_iterate_phdr(visit, &w);
	n_seen = w.index;
	if (n_initial == 0) {
		n_initial = n_seen;
	}
	if (scan->n_ranges && libc_syscall) {
		const u8 *end = libc_syscall + WRAPPER_SIZE;
		const u8 *p = fu_scan_syscall(libc_syscall, end);

		if (p < end) {
			add_range(scan, p, p);
		}
	}
}
