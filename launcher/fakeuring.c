/*
 * fakeuring(1): runs a program with the library preloaded. It finds the library,
 * turns options into FAKEURING_* variables, says clearly when a program cannot be
 * preloaded, and execs. Exit codes are env(1)'s: 127 not found, 126 found but not
 * to be run this way, 125 when the launcher itself fails.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "engine/config.h"
#include "launcher/program.h"

#define LIBRARY     "libfakeuring.so"
#define EXIT_FAILED 125

__attribute__((noreturn, format(printf, 2, 3))) static void fail(int code, const char *format, ...)
{
	va_list args;

	fputs("fakeuring: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(code);
}

/* `text`, broken at blanks, each line behind `indent`. */
static void print_wrapped(const char *text, const char *indent)
{
	const size_t width = 78 - strlen(indent);

	while (*text) {
		size_t len = strlen(text), cut = len;

		if (len > width) {
			cut = width;
			while (cut > 0 && text[cut] != ' ') {
				cut--;
			}
		}
		printf("%s%.*s\n", indent, (int)cut, text);
		text += cut;
		text += *text == ' ';
	}
}

static void print_help(void)
{
	printf("Usage: fakeuring [options] [--] program [argument...]\n\n"
	       "Runs a program with a complete io_uring in user space, also where the kernel\n"
	       "has none or denies it.\n\n"
	       "  --help     this text\n"
	       "  --version  the version\n");
	for (size_t i = 0; i < fu_config_n_vars; i++) {
		const struct fu_config_var *var = &fu_config_vars[i];

		printf("\n  --%s %s    (%s)\n", var->option, var->metavar, var->name);
		print_wrapped(var->text, "      ");
	}
}

/* One part of the manual page, as roff: "options" or "variables". */
static int print_man(const char *part)
{
	bool options = strcmp(part, "options") == 0;

	if (!options && strcmp(part, "variables") != 0) {
		fail(EXIT_FAILED, "--man: unknown part %s", part);
	}
	for (size_t i = 0; i < fu_config_n_vars; i++) {
		const struct fu_config_var *var = &fu_config_vars[i];

		if (options) {
			printf(".TP\n.BI \\-\\-%s \" %s\"\nSets\n.BR %s .\n", var->option,
			       var->metavar, var->name);
		} else {
			printf(".TP\n.BR %s = \\fI%s\\fR\n%s\n", var->name, var->metavar,
			       var->text);
		}
	}
	return 0;
}

/* The library next to the launcher (a build tree), or where installation puts it. */
static void find_library(char *path, size_t size)
{
	static const char *const places[] = { "", FAKEURING_LIBDIR_FROM_BINDIR "/" };
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len > 0) {
		self[len] = '\0';
		*(strrchr(self, '/') + 1) = '\0';
		for (size_t i = 0; i < FU_ARRAY_SIZE(places); i++) {
			if ((size_t)snprintf(path, size, "%s%s" LIBRARY, self, places[i]) < size &&
			    access(path, R_OK) == 0) {
				return;
			}
		}
	}
	snprintf(path, size, "%s/" LIBRARY, FAKEURING_LIBDIR);
	if (access(path, R_OK) != 0) {
		fail(EXIT_FAILED, "cannot find " LIBRARY " next to the launcher or in %s",
		     FAKEURING_LIBDIR);
	}
}

static void set_preload(void)
{
	const char *old = getenv("LD_PRELOAD");
	char library[PATH_MAX];
	char *value;

	find_library(library, sizeof(library));
	if (strpbrk(library, " :")) {
		fail(EXIT_FAILED, "%s: the loader cannot preload a path with a blank or a colon",
		     library);
	}
	if (asprintf(&value, "%s%s%s", library, old && *old ? ":" : "", old ? old : "") < 0 ||
	    setenv("LD_PRELOAD", value, 1) != 0) {
		fail(EXIT_FAILED, "out of memory");
	}
	free(value);
}

static void check_value(const struct fu_config_var *var, const char *value)
{
	if (var->kind == FU_CONFIG_PATH) {
		if (!*value) {
			fail(EXIT_FAILED, "--%s: needs a value", var->option);
		}
		return;
	}
	for (size_t i = 0; var->values[i]; i++) {
		if (strcmp(value, var->values[i]) == 0) {
			return;
		}
	}
	fail(EXIT_FAILED, "--%s: unknown value \"%s\" (known: %s)", var->option, value,
	     var->metavar);
}

/* Handles argv[i], an option; returns how many arguments it took. */
static int take_option(char **argv, int i)
{
	const char *name = argv[i] + 2;
	const char *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);

	for (size_t v = 0; v < fu_config_n_vars; v++) {
		const struct fu_config_var *var = &fu_config_vars[v];
		const char *value;

		if (strlen(var->option) != len || strncmp(var->option, name, len) != 0) {
			continue;
		}
		value = equals ? equals + 1 : argv[i + 1];
		if (!value) {
			fail(EXIT_FAILED, "%s: needs a value", argv[i]);
		}
		check_value(var, value);
		if (setenv(var->name, value, 1) != 0) {
			fail(EXIT_FAILED, "out of memory");
		}
		return equals ? 1 : 2;
	}
	fail(EXIT_FAILED, "unknown option %s (see fakeuring --help)", argv[i]);
}

int main(int argc, char **argv)
{
	char path[PATH_MAX];
	const char *why;
	int i = 1, rc;

	while (i < argc && argv[i][0] == '-') {
		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		if (strcmp(argv[i], "--help") == 0) {
			print_help();
			return 0;
		}
		if (strcmp(argv[i], "--version") == 0) {
			puts("fakeuring " FAKEURING_VERSION);
			return 0;
		}
		if (strcmp(argv[i], "--man") == 0 && i + 1 < argc) {
			return print_man(argv[i + 1]);
		}
		if (strncmp(argv[i], "--", 2) != 0) {
			fail(EXIT_FAILED, "unknown option %s (see fakeuring --help)", argv[i]);
		}
		i += take_option(argv, i);
	}
	if (i >= argc) {
		fail(EXIT_FAILED, "no program given (see fakeuring --help)");
	}
	rc = fu_program_find(argv[i], path, sizeof(path));
	if (rc) {
		fail(rc, "%s: %s", argv[i], rc == 127 ? "no such program" : "cannot be executed");
	}
	why = fu_program_obstacle(path);
	if (why) {
		fail(126, "%s cannot be preloaded: %s", path, why);
	}
	set_preload();
	execv(path, argv + i);
	if (errno == ENOEXEC) {
		/* A script without a #! line is the shell's, as in execvp. */
		execvp(argv[i], argv + i);
	}
	fail(126, "%s: %s", path, strerror(errno));
}
