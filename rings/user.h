/*
 * Reading and writing memory that the program names and that may not be there.
 * Nothing here can fault: the kernel does the access and reports -EFAULT.
 */
#ifndef FU_USER_H
#define FU_USER_H

#include "rings/types.h"

/* Copies `n` bytes; 0 or -EFAULT, then an unknown part has been copied. */
int fu_copy_from_user(void *dst, const void *user_src, size_t n);
int fu_copy_to_user(void *user_dst, const void *src, size_t n);

/* A NUL-terminated string of at most `size` bytes with its NUL: its length, -EFAULT or
 * -ENAMETOOLONG. */
long fu_strncpy_from_user(char *dst, const char *user_src, size_t size);

#endif
