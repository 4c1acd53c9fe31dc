/*
 * Call sites: which instruction in front of a `syscall` can give its place to a
 * jump, and what has to be done elsewhere then. Reads code, changes nothing.
 */
#ifndef FU_SITE_H
#define FU_SITE_H

#include "rings/types.h"

#define FU_SITE_JUMP  5  /* bytes of a jmp rel32 */
#define FU_SITE_MOVED 64 /* bytes of instructions that a site may have moved */

/* An executable segment of a loaded object. */
struct fu_text {
	const u8 *start;
	const u8 *end;
	const u8 *eh_hdr; /* .eh_frame_hdr, or NULL: without it functions have no known bounds */
	int prot;         /* as mapped: PROT_* */
};

struct fu_function {
	const u8 *start;
	const u8 *end;
	bool landing_pads; /* an exception may enter it in the middle */
};

/* The instructions in [at, syscall) are replaced by a jump at `at`. */
struct fu_site {
	const u8 *at;
	const u8 *syscall;
	bool single; /* the jump lies within what was one instruction */
};

/* No thread is executing this code, and none will before it has been changed. */
#define FU_SITE_QUIET 1U
/* The `syscall` has made an io_uring call: no need to see from the code that it does. */
#define FU_SITE_SEEN 2U

enum fu_site_kind {
	FU_SITE_NONE,  /* no instruction, or another call */
	FU_SITE_STUCK, /* an io_uring call, or perhaps one, and no place that is safe */
	FU_SITE_FOUND,
};

/* The function that `p` lies in. Returns false if the object does not say. */
bool fu_site_function(const struct fu_text *text, const u8 *p, struct fu_function *fn);

/*
 * Looks for a place for the jump, if the call is one of io_uring's three, or mmap or close, which
 * a ring's descriptor takes as well. `fn` may be NULL; then only a mov of the number right
 * before `syscall` will do.
 */
enum fu_site_kind fu_site_find(const struct fu_text *text, const struct fu_function *fn,
                               const u8 *syscall, u32 flags, struct fu_site *site);

/*
 * Copies the site's instructions to `to`, where they mean the same. Returns their
 * length; 0 if they cannot, what they refer to being too far away.
 */
size_t fu_site_move(const struct fu_site *site, u8 *to);

/* Can the five bytes at `p` be replaced while another thread executes them? */
bool fu_site_is_atomic(const u8 *p);

#endif
