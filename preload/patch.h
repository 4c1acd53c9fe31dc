/*
 * Patched call sites: io_uring calls that a program issues with `syscall`
 * instructions of its own enter the engine by a jump instead of a trap.
 */
#ifndef FU_PATCH_H
#define FU_PATCH_H

#include "preload/scan.h"

/*
 * Patches what it can of the call sites that a scan has found, and remembers their
 * segments for fu_patch_trapped. With `quiet` no thread is executing any of this
 * code. Returns how many it has patched; *left: whether io_uring calls may come from elsewhere
 * in what was scanned. Callers hold the scan lock.
 */
size_t fu_patch_found(const struct fu_scan *scan, bool quiet, bool *left);

/* Objects have been unloaded: forgets their segments, gives their trampolines back. Scan lock held.
 */
void fu_patch_unloaded(void);

/*
 * The `syscall` at `site` was trapped and made an io_uring call: patches it if that
 * is safe by now. Each site is tried once. Scan lock held, in the trap's handler.
 */
void fu_patch_trapped(const u8 *site);

/* Has fu_patch_trapped been called for this site? A look, without any lock. */
bool fu_patch_was_tried(const u8 *site);

/*
 * Directs a `call rel32` in `text`, which other threads may be executing, to `target`. Returns
 * false if that is not safe, too far, or not allowed. Scan lock held; fu_patch_close after the
 * last.
 */
bool fu_patch_call(const struct fu_text *text, const u8 *call, void (*target)(void));
void fu_patch_close(void);

#endif
