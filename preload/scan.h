/*
 * Finding the objects of the process that issue io_uring calls with `syscall`
 * instructions of their own.
 */
#ifndef FU_SCAN_H
#define FU_SCAN_H

#include "preload/site.h"
#include "seccomp/filter.h"

#define FU_TEXTS_MAX 512
#define FU_SITES_MAX 1024

/* What a scan has found. */
struct fu_scan {
	struct fu_range ranges[FU_RANGES_MAX]; /* the places that calls come from */
	size_t n_ranges;
	struct fu_text texts[FU_TEXTS_MAX]; /* the segments that they lie in */
	size_t n_texts;
	const u8 *sites[FU_SITES_MAX]; /* the `syscall`s in them */
	size_t n_sites;
	const u8 *last; /* while one segment is being looked at: the last one, */
	size_t count;   /* and how many */
	bool unloaded;  /* objects have gone since the last scan */
	bool trap_only; /* some of the places are not to be patched, or not all are in `sites` */
	bool bare;      /* the program needs no library: its threads are not libc's */
	bool go;        /* some of the places are in Go code: it has no room on its stacks */
};

/*
 * Looks at every object that is loaded and was not looked at before. n_ranges is 0
 * if none of the new ones has a call site. Callers hold the scan lock of init.c.
 */
void fu_scan(struct fu_scan *scan);

/* The next `syscall` instruction, or what looks like one, at or after p; `end` if there is none. */
const u8 *fu_scan_syscall(const u8 *p, const u8 *end);

#endif
