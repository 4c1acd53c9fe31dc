/*
 * Control at the moment when the dynamic linker has mapped new objects and none of their
 * constructors has run.
 */
#ifndef FU_LOADER_H
#define FU_LOADER_H

#include "rings/types.h"

/*
 * From now on `fn` is called, with the loader's lock held, each time when objects have been mapped
 * or unmapped. False if the loader does not look as it should, or may not be changed: then it
 * never is. Callers hold the scan lock; once per process.
 */
bool fu_loader_hook(void (*fn)(void));

#endif
