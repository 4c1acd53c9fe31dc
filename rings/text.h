/* Numbers as text, for names in /proc and what is reported. */
#ifndef FU_TEXT_H
#define FU_TEXT_H

#include "rings/types.h"

/* The longest number with its NUL. */
#define FU_DECIMAL_BYTES 21

/* Writes `value` in decimal and a NUL to `to`; returns how many digits. */
size_t fu_decimal(char *to, u64 value);

#endif
