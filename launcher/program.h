/*
 * Looking at a program before it is run: can the library be preloaded into it?
 */
#ifndef FU_PROGRAM_H
#define FU_PROGRAM_H

#include <stddef.h>

/*
 * Finds `name` as execvp would. Returns 0 with the path in `path`; 127 if there is
 * no such program, 126 if there is one that may not be executed.
 */
int fu_program_find(const char *name, char *path, size_t size);

/*
 * Follows scripts to their interpreter. Returns NULL if the loader will honour
 * LD_PRELOAD for the program at `path`, else a sentence that says why it will not.
 */
const char *fu_program_obstacle(const char *path);

#endif
