/*
 * Trampolines. A patched site jumps to 128 bytes of its own within the reach of a
 * jmp rel32:
 *
 *     the instructions that made room          (site.c moves them)
 *     lea  after(%rip), %rcx                   where to go on; a syscall clobbers rcx
 *     lea  -128(%rsp), %rsp                    over the red zone
 *     call *entry(%rip)
 *     lea  128(%rsp), %rsp
 *     jrcxz 1f
 *     jmp  after
 *  1: jmp  syscall                             not an io_uring call: nothing has happened
 *
 * fu_patch_entry, which it calls, keeps what a system call keeps: every register but
 * rax, rcx and r11, and the flags. Vector and x87 registers need no care, since
 * nothing behind it is compiled to use them (-mgeneral-regs-only; engine/thread.c
 * takes care of the few calls to libc). Its unwind information leads from the
 * engine's frames straight to the call site, as if it had been called from there:
 * debuggers and cancellation need not know the trampoline.
 *
 * Text becomes writable for a moment only, and stays executable all the time. Where
 * that is refused (SELinux, PaX, PR_SET_MDWE, a service manager's filter) the site
 * stays as it is, and the trap serves.
 */
#include <elf.h>
#include <link.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "engine/counters.h"
#include "preload/next.h"
#include "preload/patch.h"
#include "preload/scan.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "seccomp/dispatch.h"

#define SLOT_BYTES       128
#define SLOTS            (FU_PAGE / SLOT_BYTES)
#define PAGES_MAX        64
#define TEXTS_MAX        512
#define SITES_MAX        1024
#define TRIED            256
#define REACH            (0x7fffffffLL - (s64)FU_PAGE)
#define CODE_BYTES       48 /* of a trampoline, without what was moved */
#define OPEN_BYTES       (64UL << 10)
#define HINT_STEP        (64UL << 10)
#define HINTS            14
#define LOWEST_HINT      0x10000UL
#define MASK_RX          (PROT_READ | PROT_EXEC)
#define MASK_RWX         (PROT_READ | PROT_WRITE | PROT_EXEC)
#define CACHELINE_END(p) (((uintptr_t)(p) | (FU_CACHELINE - 1)) + 1)

_Static_assert(FU_SITE_MOVED + CODE_BYTES <= SLOT_BYTES, "a trampoline fits its slot");

/*
 * All of it under the scan lock, but for `tried`. The first slot of a page holds the
 * address of fu_patch_entry.
 */
static struct page {
	u8 *start;
	u32 used;  /* one bit for each slot */
	bool open; /* writable at the moment */
} pages[PAGES_MAX];

/* The piece of text that is writable at the moment, whole pages; empty when nothing is. */
static struct {
	u64 start;
	u64 end;
	int prot; /* what it goes back to */
} open_text;

static struct known {
	struct fu_text text;
	bool quiet; /* has just been loaded: no thread is in it yet */
} texts[TEXTS_MAX];
static size_t n_texts;

static struct patched {
	const u8 *at;
	u8 *slot;
	u8 jump[FU_SITE_JUMP];
	bool seen;
} sites[SITES_MAX];
static size_t n_sites; /* those from here on have never been used */

static u64 tried[TRIED];

/* ---- the entry ---- */

void fu_patch_entry(void);
__asm__(".text\n"
        ".hidden fu_patch_entry\n"
        ".globl fu_patch_entry\n"
        ".type fu_patch_entry, @function\n"
        ".p2align 6\n"
        "fu_patch_entry:\n"
        "	.cfi_startproc\n"
        "	.cfi_def_cfa %rsp, 136\n" /* the stack as it was at the site */
        "	.cfi_register %rip, %rcx\n"
        "	endbr64\n"
        "	pushfq\n"
        "	.cfi_adjust_cfa_offset 8\n"
        "	push %rcx\n"
        "	.cfi_adjust_cfa_offset 8\n"
        "	.cfi_rel_offset %rip, 0\n"
        "	leal -425(%rax), %ecx\n"
        "	cmpl $2, %ecx\n"
        "	ja 6f\n"
        "	.cfi_remember_state\n"
        "1:	push %rbp\n"
        "	.cfi_adjust_cfa_offset 8\n"
        "	.cfi_rel_offset %rbp, 0\n"
        "	mov %rsp, %rbp\n"
        "	.cfi_def_cfa_register %rbp\n"
        "	push %r9\n"
        "	push %r8\n"
        "	push %r10\n"
        "	push %rdx\n"
        "	push %rsi\n"
        "	push %rdi\n"
        "	mov %rsp, %r11\n"
        "	and $-16, %rsp\n"
        /* C code expects the direction flag to be clear; it hardly ever is not. */
        "	testl $0x400, 16(%rbp)\n"
        "	jnz 3f\n"
        "	cmpl $426, %eax\n"
        "	jne 2f\n"
        "	mov %r10, %rcx\n"
        "	call fu_dispatch_enter\n"
        "	jmp 5f\n"
        "3:	cld\n"
        "	movl %eax, %edi\n"
        "	mov %r11, %rsi\n"
        "	call fu_patch_serve\n"
        "	std\n"
        "	jmp 5f\n"
        "2:	movl %eax, %edi\n"
        "	mov %r11, %rsi\n"
        "	call fu_patch_serve\n"
        "5:	mov -48(%rbp), %rdi\n"
        "	mov -40(%rbp), %rsi\n"
        "	mov -32(%rbp), %rdx\n"
        "	mov -24(%rbp), %r10\n"
        "	mov -16(%rbp), %r8\n"
        "	mov -8(%rbp), %r9\n"
        "	mov %rbp, %rsp\n"
        "	.cfi_def_cfa_register %rsp\n"
        "	pop %rbp\n"
        "	.cfi_adjust_cfa_offset -8\n"
        "	.cfi_restore %rbp\n"
        /* popf takes longer than all the rest: overflow by an addition, the others from ah. */
        "	mov %rax, %r11\n"
        "	mov 8(%rsp), %eax\n"
        "	mov %eax, %ecx\n"
        "	mov %al, %ah\n"
        "	shr $11, %ecx\n"
        "	and $1, %ecx\n"
        "	add $0x7fffffff, %ecx\n"
        "	sahf\n"
        "	mov %r11, %rax\n"
        "	pop %rcx\n" /* the address to go on at, where the kernel leaves it as well */
        "	.cfi_adjust_cfa_offset -8\n"
        "	pop %r11\n" /* and the flags */
        "	.cfi_adjust_cfa_offset -8\n"
        "	ret\n"
        "	.cfi_restore_state\n"
        /* mmap and close, which may mean a ring as well. */
        "6:	cmpl $9, %eax\n"
        "	je 1b\n"
        "	cmpl $3, %eax\n"
        "	je 1b\n"
        "	pop %rcx\n"
        "	.cfi_adjust_cfa_offset -8\n"
        "	xor %ecx, %ecx\n"
        "	popfq\n"
        "	.cfi_adjust_cfa_offset -8\n"
        "	ret\n"
        "	.cfi_endproc\n"
        ".size fu_patch_entry, .-fu_patch_entry\n");

__attribute__((used, visibility("hidden"))) long fu_patch_serve(long nr, const long args[6])
{
	long ret = 0;

	if (!fu_dispatch(nr, args, &ret)) {
		ret = fu_sys(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
	}
	return ret;
}

/* ---- pages of trampolines ---- */

static bool reaches(const void *from, const void *to)
{
	s64 d = (s64)((uintptr_t)to - (uintptr_t)from);

	return d > -REACH && d < REACH;
}

static bool reaches_all(const u8 *page, const struct fu_text *text)
{
	return reaches(page, text->start) && reaches(page, text->end);
}

static bool protect(u64 start, u64 end, int prot)
{
	return fu_sys(SYS_mprotect, start, end - start, prot) == 0;
}

/* A page near `text`: below it at first, where nothing grows into it. NULL if there is none. */
static u8 *map_near(const struct fu_text *text)
{
	u64 low = (u64)(uintptr_t)text->start & ~(FU_PAGE - 1);
	u64 high = fu_align_up((u64)(uintptr_t)text->end, FU_PAGE);

	for (u32 i = 0; i < 2 * HINTS; i++) {
		u64 away = HINT_STEP << i / 2;
		u64 hint = i % 2 ? high + away : low - away;
		long ret;

		if (i % 2 == 0 && (low < away || hint < LOWEST_HINT)) {
			continue;
		}
		ret = fu_sys(SYS_mmap, hint, FU_PAGE, PROT_READ | PROT_WRITE,
		             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (fu_is_err(ret)) {
			return NULL;
		}
		if (reaches_all(fu_ptr((u64)ret), text)) {
			return fu_ptr((u64)ret);
		}
		fu_sys(SYS_munmap, ret, FU_PAGE);
	}
	return NULL;
}

static bool page_open(struct page *page)
{
	u64 start = (u64)(uintptr_t)page->start;

	page->open = page->open || protect(start, start + FU_PAGE, MASK_RWX);
	return page->open;
}

static struct page *new_page(const struct fu_text *text)
{
	u64 entry = (u64)(uintptr_t)fu_patch_entry;

	for (size_t i = 0; i < PAGES_MAX; i++) {
		struct page *page = &pages[i];

		if (page->start) {
			continue;
		}
		page->start = map_near(text);
		if (!page->start) {
			return NULL;
		}
		fu_memcpy(page->start, &entry, sizeof(entry));
		page->used = 1;
		page->open = false;
		if (!page_open(page)) {
			fu_sys(SYS_munmap, page->start, FU_PAGE);
			page->start = NULL;
			return NULL;
		}
		return page;
	}
	return NULL;
}

/* A free slot, writable, that code in `text` can jump to and back from; NULL if there is none. */
static u8 *slot_alloc(const struct fu_text *text)
{
	struct page *page = NULL;

	for (size_t i = 0; i < PAGES_MAX && !page; i++) {
		if (pages[i].start && ~pages[i].used && reaches_all(pages[i].start, text)) {
			page = &pages[i];
		}
	}
	page = page ? page : new_page(text);
	if (!page || !page_open(page)) {
		return NULL;
	}
	for (u32 slot = 1; slot < SLOTS; slot++) {
		if (!(page->used >> slot & 1)) {
			page->used |= 1U << slot;
			return page->start + slot * SLOT_BYTES;
		}
	}
	return NULL;
}

static void slot_free(const u8 *slot)
{
	for (size_t i = 0; i < PAGES_MAX; i++) {
		if (pages[i].start && slot >= pages[i].start && slot < pages[i].start + FU_PAGE) {
			pages[i].used &= ~(1U << (u32)((slot - pages[i].start) / SLOT_BYTES));
		}
	}
}

/* ---- writing code ---- */

static void text_close(void)
{
	if (open_text.end) {
		protect(open_text.start, open_text.end, open_text.prot);
	}
	open_text.end = 0;
}

/* Makes the code at `at` writable, and some behind it, where more may be to do. */
static bool text_open(const struct fu_text *text, const u8 *at)
{
	u64 first = (u64)(uintptr_t)at, end = first + FU_SITE_JUMP;
	u64 limit = fu_align_up((u64)(uintptr_t)text->end, FU_PAGE);

	if (first >= open_text.start && end <= open_text.end) {
		return true;
	}
	text_close();
	first &= ~(FU_PAGE - 1);
	end = fu_align_up(end + OPEN_BYTES, FU_PAGE);
	end = end < limit ? end : limit;
	if (!protect(first, end, MASK_RWX)) {
		return false;
	}
	open_text.start = first;
	open_text.end = end;
	open_text.prot = text->prot;
	return true;
}

/* Nothing is writable any more. Other processors drop what they have fetched. */
static void close_all(bool quiet)
{
	text_close();
	for (size_t i = 0; i < PAGES_MAX; i++) {
		u64 start = (u64)(uintptr_t)pages[i].start;

		if (start && pages[i].open) {
			protect(start, start + FU_PAGE, MASK_RX);
			pages[i].open = false;
		}
	}
	/* Where the kernel is too old to know this they do so before long. */
	if (!quiet && fu_sys(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0,
	                     0) == 0) {
		fu_sys(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
	}
}

static u8 *put(u8 *p, const void *code, size_t bytes)
{
	fu_memcpy(p, code, bytes);
	return p + bytes;
}

/* An opcode, and the distance to `target` from behind it. */
static u8 *put_relative(u8 *p, const void *opcode, size_t bytes, const void *target)
{
	s32 off;

	p = put(p, opcode, bytes);
	off = (s32)((s64)(uintptr_t)target - (s64)(uintptr_t)(p + sizeof(off)));
	return put(p, &off, sizeof(off));
}

static bool write_trampoline(u8 *slot, const struct fu_site *site)
{
	static const u8 lea_rcx[] = { 0x48, 0x8d, 0x0d };
	static const u8 down[] = { 0x48, 0x8d, 0x64, 0x24, 0x80 };
	static const u8 up[] = { 0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0 };
	static const u8 call[] = { 0xff, 0x15 }, jmp[] = { 0xe9 };
	static const u8 jrcxz_over_jmp[] = { 0xe3, 5 };
	const u8 *entry = (const u8 *)((uintptr_t)slot & ~(FU_PAGE - 1));
	size_t moved;
	u8 *p = slot;

	moved = fu_site_move(site, p);
	if (!moved) {
		return false;
	}
	p = put_relative(p + moved, lea_rcx, sizeof(lea_rcx), site->syscall + 2);
	p = put(p, down, sizeof(down));
	p = put_relative(p, call, sizeof(call), entry);
	p = put(p, up, sizeof(up));
	p = put(p, jrcxz_over_jmp, sizeof(jrcxz_over_jmp));
	p = put_relative(p, jmp, sizeof(jmp), site->syscall + 2);
	put_relative(p, jmp, sizeof(jmp), site->syscall);
	return true;
}

/* Eight bytes wherever they lie. */
struct word {
	u64 bytes;
} __attribute__((packed));

/*
 * Replaces five bytes of code that another thread may be executing, with one locked
 * operation on eight bytes of one cache line.
 */
static void store_atomic(u8 *at, const u8 jump[FU_SITE_JUMP])
{
	struct word *word = (struct word *)(void *)at;
	struct word old, new;
	bool done;

	if (CACHELINE_END(at) - (uintptr_t)at < sizeof(*word)) {
		word = fu_ptr(CACHELINE_END(at) - sizeof(*word));
	}
	old = *word;
	do {
		new = old;
		fu_memcpy((u8 *)&new + (at - (u8 *)word), jump, FU_SITE_JUMP);
		__asm__ volatile("lock cmpxchgq %3, %1"
		                 : "+a"(old.bytes), "+m"(*word), "=@ccz"(done)
		                 : "r"(new.bytes)
		                 : "memory");
	} while (!done);
}

static bool store(const struct fu_text *text, const u8 *site, const u8 jump[FU_SITE_JUMP])
{
	u8 *at = (u8 *)(uintptr_t)site;

	if (!text_open(text, at)) {
		return false;
	}
	if (fu_site_is_atomic(at)) {
		store_atomic(at, jump);
	} else {
		fu_memcpy(at, jump, FU_SITE_JUMP);
	}
	return true;
}

/* ---- sites ---- */

static bool same(const u8 *a, const u8 *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (a[i] != b[i]) {
			return false;
		}
	}
	return true;
}

static bool patch(const struct fu_text *text, const struct fu_site *site)
{
	struct patched *entry = NULL;
	u8 *slot;
	s32 off;

	for (size_t i = 0; i < SITES_MAX && !entry; i++) {
		entry = sites[i].slot ? NULL : &sites[i];
	}
	slot = entry ? slot_alloc(text) : NULL;
	if (!slot) {
		return false;
	}
	off = (s32)((s64)(uintptr_t)slot - (s64)(uintptr_t)(site->at + FU_SITE_JUMP));
	entry->jump[0] = 0xe9;
	fu_memcpy(entry->jump + 1, &off, sizeof(off));
	if (!write_trampoline(slot, site) || !store(text, site->at, entry->jump)) {
		slot_free(slot);
		return false;
	}
	entry->at = site->at;
	entry->slot = slot;
	if (entry == &sites[n_sites]) {
		n_sites++;
	}
	FU_COUNT(patched, 1);
	return true;
}

/* The `syscall` at p, if it lies in a segment that is known. */
static enum fu_site_kind patch_at(const u8 *p, u32 flags)
{
	for (size_t i = 0; i < n_texts; i++) {
		const struct fu_text *text = &texts[i].text;
		enum fu_site_kind kind;
		struct fu_function fn;
		struct fu_site site;

		if (p >= text->start && p < text->end) {
			bool known = fu_site_function(text, p, &fn);

			flags |= texts[i].quiet ? FU_SITE_QUIET : 0;
			kind = fu_site_find(text, known ? &fn : NULL, p, flags, &site);
			return kind == FU_SITE_FOUND && !patch(text, &site) ? FU_SITE_STUCK : kind;
		}
	}
	return FU_SITE_STUCK;
}

/* After an unload objects that have been there for long are found again. */
static bool is_known(const struct fu_text *text)
{
	for (size_t i = 0; i < n_texts; i++) {
		if (texts[i].text.start == text->start && texts[i].text.end == text->end) {
			return true;
		}
	}
	return false;
}

size_t fu_patch_found(const struct fu_scan *scan, bool quiet, bool *left)
{
	size_t patched = 0;

	for (size_t i = 0; i < scan->n_texts && n_texts < TEXTS_MAX; i++) {
		if (!is_known(&scan->texts[i])) {
			texts[n_texts++] = (struct known){ scan->texts[i], quiet };
		}
	}
	*left = scan->trap_only;
	for (size_t i = 0; i < scan->n_sites; i++) {
		enum fu_site_kind kind = patch_at(scan->sites[i], 0);

		patched += kind == FU_SITE_FOUND;
		*left = *left || kind == FU_SITE_STUCK;
	}
	for (size_t i = 0; i < n_texts; i++) {
		texts[i].quiet = false;
	}
	close_all(quiet);
	return patched;
}

/* ---- objects that go ---- */

/* Marks what lies in an object that is loaded. */
static int mark(struct dl_phdr_info *info, size_t size, void *data)
{
	bool *text_seen = data;

	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		const u8 *start = fu_ptr(info->dlpi_addr + ph->p_vaddr);
		const u8 *end = start + ph->p_filesz;

		if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X)) {
			continue;
		}
		for (size_t k = 0; k < n_sites; k++) {
			if (sites[k].slot && sites[k].at >= start && sites[k].at < end) {
				sites[k].seen = same(sites[k].at, sites[k].jump, FU_SITE_JUMP);
			}
		}
		for (size_t k = 0; k < n_texts; k++) {
			text_seen[k] = text_seen[k] ||
			               (texts[k].text.start == start && texts[k].text.end == end);
		}
	}
	return 0;
}

/* Another object may lie where one was: then none of the jumps in it is there any more. */
static bool is_replaced(const struct fu_text *text)
{
	bool gone = false;

	for (size_t i = 0; i < n_sites; i++) {
		if (sites[i].slot && sites[i].at >= text->start && sites[i].at < text->end) {
			if (sites[i].seen) {
				return false;
			}
			gone = true;
		}
	}
	return gone;
}

void fu_patch_unloaded(void)
{
	bool text_seen[TEXTS_MAX] = { false };
	size_t kept = 0;

	for (size_t i = 0; i < n_sites; i++) {
		sites[i].seen = false;
	}
	fu_next.dl_iterate_phdr(mark, text_seen);
	for (size_t i = 0; i < n_texts; i++) {
		if (text_seen[i] && !is_replaced(&texts[i].text)) {
			texts[kept++] = texts[i];
		}
	}
	n_texts = kept;
	for (size_t i = 0; i < n_sites; i++) {
		if (sites[i].slot && !sites[i].seen) {
			slot_free(sites[i].slot);
			sites[i].slot = NULL;
		}
	}
	fu_memset(tried, 0, sizeof(tried));
}

/* ---- sites that have trapped ---- */

static u64 *tried_place(const u8 *site)
{
	return &tried[((uintptr_t)site >> 1) % TRIED];
}

bool fu_patch_was_tried(const u8 *site)
{
	return fu_load_relaxed(tried_place(site)) == (u64)(uintptr_t)site;
}

/* The process has no other thread, the kernel's count being the one that counts. */
static bool is_alone(void)
{
	struct stat st;

	return fu_sys(SYS_stat, "/proc/self/task", &st) == 0 && st.st_nlink == 3;
}

void fu_patch_trapped(const u8 *site)
{
	bool quiet = is_alone();

	fu_store_relaxed(tried_place(site), (u64)(uintptr_t)site);
	patch_at(site, FU_SITE_SEEN | (quiet ? FU_SITE_QUIET : 0));
	close_all(quiet);
}

/* ---- calls ---- */

bool fu_patch_call(const struct fu_text *text, const u8 *call, void (*target)(void))
{
	const u8 *to = fu_ptr((u64)(uintptr_t)target);
	u8 code[FU_SITE_JUMP];
	s32 off;

	if (!reaches(call, to) || !(fu_site_is_atomic(call) || is_alone())) {
		return false;
	}
	off = (s32)((s64)(uintptr_t)to - (s64)(uintptr_t)(call + sizeof(code)));
	code[0] = *call;
	fu_memcpy(code + 1, &off, sizeof(off));
	return store(text, call, code);
}

void fu_patch_close(void)
{
	/* Who still fetches the old call does what it did before. */
	close_all(true);
}
