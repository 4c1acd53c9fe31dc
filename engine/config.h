/*
 * The user's switches: FAKEURING_* environment variables. One table says which
 * there are, what they may hold and what they mean; the library parses by it,
 * the launcher's options and help and the manual page are printed from it.
 */
#ifndef FU_CONFIG_H
#define FU_CONFIG_H

#include "rings/types.h"

enum fu_trap_mode { FU_TRAP_SIGSYS, FU_TRAP_NOTIFY };
enum fu_patch_mode { FU_PATCH_ON, FU_PATCH_OFF };

struct fu_config {
	enum fu_trap_mode trap;
	enum fu_patch_mode patch;
	const char *stats; /* file to append to, or NULL; points into the environment */
};

extern struct fu_config fu_config;

enum fu_config_kind {
	FU_CONFIG_CHOICE, /* one of `values`, stored as its index in an enum */
	FU_CONFIG_PATH    /* any non-empty string, stored as a pointer */
};

struct fu_config_var {
	const char *name;   /* FAKEURING_TRAP */
	const char *option; /* of the launcher, without the dashes */
	const char *metavar;
	enum fu_config_kind kind;
	const char *values[4]; /* NULL-terminated; the first one is the default */
	void *target;
	const char *text; /* one paragraph, plain words */
};

extern const struct fu_config_var fu_config_vars[];
extern const size_t fu_config_n_vars;

/*
 * Reads `env` (a NULL-terminated environment that stays valid) into fu_config.
 * An unknown variable or value costs one line on stderr, and the default holds.
 * Called once, before anything else of the library; no malloc, no stdio.
 */
void fu_config_parse(char *const *env);

/* One line "fakeuring: " + the given strings, up to NULL, on stderr in a single write. */
void fu_complain(const char *first, ...) __attribute__((sentinel));

#endif
