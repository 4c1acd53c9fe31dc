/*
 * To look through an object's code where it is loaded would bring all of it into
 * the process: pages it would never touch count as its memory. So the file is
 * mapped a second time, a megabyte at a time, and unmapped again.
 *
 * The file's name may lead to another file by now. It is taken for the same if its
 * first page is the same as in memory and holds a build ID, which depends on the
 * contents of all of it. Objects without one, and those that are small, are looked
 * at in memory.
 */
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include "preload/image.h"
#include "rings/sys.h"

#define WINDOW   (1UL << 20)
#define SMALL    (32UL << 10)
#define BUILD_ID "GNU"

/* The note that Go's linker leaves. */
#define GO          "Go\0"
#define GO_BUILD_ID 4

static bool same(const u8 *a, const u8 *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (a[i] != b[i]) {
			return false;
		}
	}
	return true;
}

/* The first note in [p, end) of this owner, a name of four bytes, and type; NULL if none. */
static const ElfW(Nhdr) * find_note(const u8 *p, const u8 *end, const char owner[4], u32 type)
{
	while ((size_t)(end - p) >= sizeof(ElfW(Nhdr)) + 4) {
		const ElfW(Nhdr) *note = (const void *)p;
		const u8 *name = p + sizeof(*note);
		u64 size = fu_align_up(note->n_namesz, 4) + fu_align_up(note->n_descsz, 4);

		if (size > (u64)(end - name)) {
			return NULL;
		}
		if (note->n_type == type && note->n_namesz == 4 &&
		    same(name, (const u8 *)owner, 4)) {
			return note;
		}
		p = name + size;
	}
	return NULL;
}

static bool has_build_id(const u8 *p, const u8 *end)
{
	const ElfW(Nhdr) *note = find_note(p, end, BUILD_ID, NT_GNU_BUILD_ID);

	return note && note->n_descsz >= 8;
}

/* Has the loader mapped these bytes of the file? */
static bool is_loaded(const struct dl_phdr_info *info, const ElfW(Phdr) * part)
{
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && (ph->p_flags & PF_R) && part->p_vaddr >= ph->p_vaddr &&
		    part->p_vaddr - ph->p_vaddr <= ph->p_filesz &&
		    part->p_filesz <= ph->p_filesz - (part->p_vaddr - ph->p_vaddr)) {
			return true;
		}
	}
	return false;
}

bool fu_image_is_go(const struct dl_phdr_info *info)
{
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		const u8 *notes = fu_ptr(info->dlpi_addr + ph->p_vaddr);

		if (ph->p_type == PT_NOTE && is_loaded(info, ph) &&
		    find_note(notes, notes + ph->p_filesz, GO, GO_BUILD_ID)) {
			return true;
		}
	}
	return false;
}

/* The object's first page, as loaded, if it has a build ID in it; else NULL. */
static const u8 *first_page(const struct dl_phdr_info *info)
{
	const u8 *page = NULL;
	bool found = false;

	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && ph->p_offset == 0 && ph->p_filesz >= FU_PAGE &&
		    !(ph->p_flags & PF_W)) {
			page = fu_ptr(info->dlpi_addr + ph->p_vaddr);
		}
	}
	for (size_t i = 0; page && i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_NOTE && ph->p_offset + ph->p_filesz <= FU_PAGE &&
		    ph->p_filesz <= FU_PAGE) {
			found = found || has_build_id(page + ph->p_offset,
			                              page + ph->p_offset + ph->p_filesz);
		}
	}
	return found ? page : NULL;
}

/* Is any executable segment large enough to make the file worth its while? */
static bool is_small(const struct dl_phdr_info *info)
{
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) && ph->p_filesz > SMALL) {
			return false;
		}
	}
	return true;
}

int fu_image_open(const struct dl_phdr_info *info)
{
	const char *path = *info->dlpi_name ? info->dlpi_name : "/proc/self/exe";
	const u8 *page = is_small(info) ? NULL : first_page(info);
	u8 head[FU_PAGE];
	long fd;

	if (!page) {
		return -1;
	}
	fd = fu_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0) {
		return -1;
	}
	if (fu_sys(SYS_pread64, fd, head, sizeof(head), 0) == (long)sizeof(head) &&
	    same(head, page, sizeof(head))) {
		return (int)fd;
	}
	fu_sys(SYS_close, fd);
	return -1;
}

void fu_image_close(int fd)
{
	if (fd >= 0) {
		fu_sys(SYS_close, fd);
	}
}

static bool in_memory(const struct fu_image *image,
                      bool (*fn)(const struct fu_view *view, void *arg), void *arg)
{
	struct fu_view view = { image->start, image->start, image->end, image->end, 0 };

	return fn(&view, arg);
}

bool fu_image_each(const struct fu_image *image, bool (*fn)(const struct fu_view *view, void *arg),
                   void *arg)
{
	u64 size = (u64)(image->end - image->start);
	u64 odd = image->offset % FU_PAGE; /* it need not begin where a page does */
	bool done = false;

	if (image->fd < 0 || size <= SMALL) {
		return in_memory(image, fn, arg);
	}
	for (u64 at = 0; at < size && !done; at += WINDOW) {
		/* A page more on either side, so that nothing hides at the edges. */
		u64 from = at ? at - FU_PAGE : 0;
		u64 to = at + WINDOW + FU_PAGE < size ? at + WINDOW + FU_PAGE : size;
		long ret =
		        fu_sys(SYS_mmap, 0, odd + to - from, PROT_READ, MAP_PRIVATE | MAP_POPULATE,
		               image->fd, image->offset - odd + from);
		struct fu_view view;

		if (fu_is_err(ret)) {
			return in_memory(image, fn, arg);
		}
		view.lead = fu_ptr((u64)ret + odd);
		view.start = view.lead + (at - from);
		view.stop = view.start + (at + WINDOW < size ? WINDOW : size - at);
		view.end = view.lead + (to - from);
		view.loaded = image->start + from - view.lead;
		done = fn(&view, arg);
		fu_sys(SYS_munmap, ret, odd + to - from);
	}
	return done;
}
