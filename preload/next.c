/*
 * What dlsym(RTLD_NEXT) does, done by hand: walk the objects behind this one in
 * load order and look the names up in their GNU hash tables. It takes no lock of
 * the loader, since it runs before there is a second thread; it allocates nothing
 * (a program's malloc may itself call a function that is interposed here) and needs
 * neither libdl nor a particular version of it. Nor does it call libc: a sanitizer's
 * run time in the program itself stands in front of that, and is not ready yet.
 */
#include <elf.h>
#include <link.h>
#include "preload/next.h"

/* Absent where it is a library of its own, in older glibcs. */
extern void *dlsym(void *handle, const char *name) __attribute__((weak));
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");
#define FU_RTLD_NEXT ((void *)-1L)

struct fu_next fu_next;

struct object {
	const ElfW(Sym) * symbols;
	const char *strings;
	const ElfW(Half) * versions; /* or NULL */
	const u32 *gnu_hash;
	u64 base;
};

static const struct {
	const char *name;
	size_t offset; /* of the pointer in fu_next */
} wanted[] = {
#define WANTED(type, name, params) { #name, offsetof(struct fu_next, name) },
	FU_NEXT_FUNCTIONS(WANTED)
};

static void **slot(size_t i)
{
	return (void **)(void *)((char *)&fu_next + wanted[i].offset);
}

static u32 hash_name(const char *name)
{
	u32 h = 5381;

	while (*name) {
		h = h * 33 + (u8)*name++;
	}
	return h;
}

static bool same_name(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

/* Dynamic pointers are absolute once the loader has relocated them, except in the vdso. */
static const void *dynamic_pointer(u64 base, u64 value)
{
	return fu_ptr(value < base ? base + value : value);
}

/* False if the object has no table to search. */
static bool open_object(struct object *o, const struct link_map *map)
{
	const ElfW(Dyn) * d;

	*o = (struct object){ .base = map->l_addr };
	for (d = map->l_ld; d && d->d_tag != DT_NULL; d++) {
		const void *p = dynamic_pointer(o->base, d->d_un.d_ptr);

		switch (d->d_tag) {
		case DT_SYMTAB:
			o->symbols = p;
			break;
		case DT_STRTAB:
			o->strings = p;
			break;
		case DT_GNU_HASH:
			o->gnu_hash = p;
			break;
		case DT_VERSYM:
			o->versions = p;
			break;
		default:
			break;
		}
	}
	return o->symbols && o->strings && o->gnu_hash;
}

/* The default version of a defined function, as an address; NULL if there is none. */
static void *lookup(const struct object *o, const char *name, u32 hash)
{
	u32 n_buckets = o->gnu_hash[0], first = o->gnu_hash[1], n_bloom = o->gnu_hash[2];
	const u64 *bloom = (const u64 *)(const void *)(o->gnu_hash + 4);
	const u32 *buckets = (const u32 *)(const void *)(bloom + n_bloom);
	const u32 *chain = buckets + n_buckets;
	u64 word = bloom[(hash / 64) % n_bloom];

	if (!((word >> (hash % 64)) & (word >> ((hash >> o->gnu_hash[3]) % 64)) & 1)) {
		return NULL;
	}
	for (u32 i = buckets[hash % n_buckets]; i >= first; i++) {
		const ElfW(Sym) *sym = &o->symbols[i];
		u32 h = chain[i - first];

		if ((h | 1) == (hash | 1) && sym->st_shndx != SHN_UNDEF &&
		    (ELF64_ST_TYPE(sym->st_info) == STT_FUNC) &&
		    !(o->versions && (o->versions[i] & 0x8000)) &&
		    same_name(o->strings + sym->st_name, name)) {
			return fu_ptr(o->base + sym->st_value);
		}
		if (h & 1) {
			break;
		}
	}
	return NULL;
}

bool fu_next_resolve(void)
{
	bool behind = false;
	struct object o;

	if (!&_r_debug) {
		for (size_t i = 0; dlsym && i < FU_ARRAY_SIZE(wanted); i++) {
			*slot(i) = dlsym(FU_RTLD_NEXT, wanted[i].name);
		}
		return false;
	}
	for (const struct link_map *map = _r_debug.r_map; map; map = map->l_next) {
		if (!behind) {
			behind = map->l_ld == _DYNAMIC;
			continue;
		}
		if (!open_object(&o, map)) {
			continue;
		}
		for (size_t i = 0; i < FU_ARRAY_SIZE(wanted); i++) {
			if (!*slot(i)) {
				*slot(i) = lookup(&o, wanted[i].name, hash_name(wanted[i].name));
			}
		}
	}
	return true;
}
