/* Numbers as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "rings/text.h"

static void expect(u64 value, const char *text, size_t digits)
{
	char buf[FU_DECIMAL_BYTES];

	assert_int_equal(fu_decimal(buf, value), digits);
	assert_string_equal(buf, text);
}

static void test_decimal(void **state)
{
	(void)state;
	expect(0, "0", 1);
	expect(9, "9", 1);
	expect(10, "10", 2);
	expect(65536, "65536", 5);
	expect(UINT64_MAX, "18446744073709551615", FU_DECIMAL_BYTES - 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_decimal) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
