/* The table of FAKEURING_* variables, and their parser; see config.h. */
#include <stdarg.h>
#include "engine/config.h"
#include "rings/sys.h"

#define PREFIX "FAKEURING_"

struct fu_config fu_config;

const struct fu_config_var fu_config_vars[] = {
	{
	        .name = "FAKEURING_TRAP",
	        .option = "trap",
	        .metavar = "sigsys|notify",
	        .kind = FU_CONFIG_CHOICE,
	        .values = { "sigsys", "notify" },
	        .target = &fu_config.trap,
	        .text = "How system calls that the program issues with instructions of its own "
	                "reach "
	                "the library. sigsys (the default) lets seccomp raise SIGSYS; it works "
	                "wherever seccomp does, also where another filter denies io_uring. notify "
	                "uses seccomp's user notification (Linux 5.7); it is slower and yields to "
	                "a "
	                "filter that denies io_uring, but depends on no signal.",
	},
	{
	        .name = "FAKEURING_PATCH",
	        .option = "patch",
	        .metavar = "1|0",
	        .kind = FU_CONFIG_CHOICE,
	        .values = { "1", "0" },
	        .target = &fu_config.patch,
	        .text = "Whether io_uring calls that the program issues with instructions of its "
	                "own "
	                "are rewritten in memory to enter the library by a jump, as far as that is "
	                "safe. 1 is the default; with 0, and wherever the kernel does not let code "
	                "be "
	                "changed, all of them are trapped, which costs some microseconds each.",
	},
	{
	        .name = "FAKEURING_STATS",
	        .option = "stats",
	        .metavar = "FILE",
	        .kind = FU_CONFIG_PATH,
	        .target = &fu_config.stats,
	        .text = "Each process that makes or uses a ring appends one line to FILE, a JSON "
	                "object that says what the library did for it, and keeps the line up to "
	                "date "
	                "until the process ends.",
	},
};
const size_t fu_config_n_vars = FU_ARRAY_SIZE(fu_config_vars);

static size_t length(const char *s)
{
	size_t n = 0;

	while (s[n]) {
		n++;
	}
	return n;
}

static bool equal(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (a[i] != b[i]) {
			return false;
		}
	}
	return true;
}

void fu_complain(const char *first, ...)
{
	char line[512] = "fakeuring: ";
	size_t len = sizeof("fakeuring: ") - 1;
	va_list args;

	va_start(args, first);
	for (const char *s = first; s; s = va_arg(args, const char *)) {
		while (*s && len < sizeof(line) - 1) {
			line[len++] = *s++;
		}
	}
	va_end(args);
	line[len++] = '\n';
	fu_sys(SYS_write, 2, line, len);
}

/* Appends "a, b, c" to the `size` bytes at `buf`. */
static void list_values(const struct fu_config_var *var, char *buf, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; var->values[i]; i++) {
		for (const char *s = i ? ", " : ""; *s && len < size - 1;) {
			buf[len++] = *s++;
		}
		for (const char *s = var->values[i]; *s && len < size - 1;) {
			buf[len++] = *s++;
		}
	}
	buf[len] = '\0';
}

static void set(const struct fu_config_var *var, const char *value)
{
	char known[128];

	if (var->kind == FU_CONFIG_PATH) {
		*(const char **)var->target = *value ? value : NULL;
		return;
	}
	for (int i = 0; var->values[i]; i++) {
		if (equal(value, var->values[i], length(var->values[i]) + 1)) {
			*(int *)var->target = i;
			return;
		}
	}
	if (!*value) {
		return;
	}
	list_values(var, known, sizeof(known));
	fu_complain(var->name, ": unknown value \"", value, "\" (known: ", known, "); using ",
	            var->values[0], NULL);
}

void fu_config_parse(char *const *env)
{
	for (; env && *env; env++) {
		const char *entry = *env;
		size_t i;

		if (!equal(entry, PREFIX, sizeof(PREFIX) - 1)) {
			continue;
		}
		for (i = 0; i < fu_config_n_vars; i++) {
			size_t n = length(fu_config_vars[i].name);

			if (equal(entry, fu_config_vars[i].name, n) && entry[n] == '=') {
				set(&fu_config_vars[i], entry + n + 1);
				break;
			}
		}
		if (i == fu_config_n_vars) {
			char name[64];
			size_t n = 0;

			while (entry[n] && entry[n] != '=' && n < sizeof(name) - 1) {
				name[n] = entry[n];
				n++;
			}
			name[n] = '\0';
			fu_complain(name, ": unknown variable", NULL);
		}
	}
}
