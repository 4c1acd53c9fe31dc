/*
 * Assembling and installing the seccomp filter: the generated body (which calls)
 * behind a prelude that knows from where in the program they may come.
 */
#ifndef FU_FILTER_H
#define FU_FILTER_H

#include "rings/types.h"

/* The three system calls, by number: the headers of an old system lack the names. */
#define FU_NR_SETUP    425
#define FU_NR_ENTER    426
#define FU_NR_REGISTER 427

/* Comes back as si_errno of a SIGSYS that one of our filters raised. */
#define FU_FILTER_TAG 0x4675

/* Instruction pointers [start, end) after a `syscall` instruction, as seccomp sees them. */
struct fu_range {
	u64 start;
	u64 end;
};

/* So many are remembered. */
#define FU_RANGES_MAX 4096

enum fu_filter_action { FU_FILTER_TRAP, FU_FILTER_NOTIFY };

/*
 * Installs a filter over all threads for calls issued from `ranges`. Ranges that
 * an earlier filter of this process covers are left out; if none remain, nothing
 * is installed and 0 is returned. Sets no_new_privs if, and only if, the kernel
 * demands it. Returns 0 (FU_FILTER_NOTIFY: the listener's descriptor), or -errno if
 * there is no filter for any of them;
 * -ESRCH if another thread has filters of its own, which TSYNC cannot join;
 * -ENOSPC if no more ranges can be remembered. Where one filter has no
 * room for all there are more of them; the second and later ones trap.
 * Not reentrant: callers hold the scan lock of preload/.
 */
long fu_filter_install(enum fu_filter_action action, const struct fu_range *ranges, size_t n);

/* Whether there were ranges, once, that no filter could be had for. */
bool fu_filter_is_incomplete(void);

/* Installs the trap again over everything that was ever covered: see notify.c, fork. */
long fu_filter_reinstall_trap(void);

#endif
