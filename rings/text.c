/* Numbers as text; see text.h. */
#include "rings/text.h"

size_t fu_decimal(char *to, u64 value)
{
	size_t digits = 1;

	for (u64 rest = value / 10; rest; rest /= 10)
		digits++;
	to[digits] = '\0';
	for (size_t i = digits; i; value /= 10)
		to[--i] = (char)('0' + value % 10);
	return digits;
}
