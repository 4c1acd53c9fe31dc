/*
 * Reading the code of loaded objects without leaving it mapped: from the file that
 * an object was loaded from, a window at a time.
 */
#ifndef FU_IMAGE_H
#define FU_IMAGE_H

#include <link.h>
#include "rings/types.h"

/* An executable segment, and where else its bytes are. */
struct fu_image {
	const u8 *start; /* as loaded */
	const u8 *end;
	int fd; /* the file, or -1: only in memory */
	u64 offset;
};

/*
 * A piece of it. Bytes in [start, stop) are this view's; what lies around them, in
 * [lead, end), may be looked at as well.
 */
struct fu_view {
	const u8 *lead;
	const u8 *start;
	const u8 *stop;
	const u8 *end;
	s64 loaded; /* add to a pointer in the view for where the program has this byte */
};

/* The file of an object for fu_image_close, or -1 if it may not be the one that was loaded. */
int fu_image_open(const struct dl_phdr_info *info);
void fu_image_close(int fd);

/* Does it hold Go code, which runs on stacks of a few kilobytes? */
bool fu_image_is_go(const struct dl_phdr_info *info);

/* Calls fn for one view after the other until it returns true. Returns whether it did. */
bool fu_image_each(const struct fu_image *image, bool (*fn)(const struct fu_view *view, void *arg),
                   void *arg);

#endif
