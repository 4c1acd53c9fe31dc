/*
 * Prints the table of operations of docs/FEATURES.md from the engine's own table; with a
 * file as argument compares it with the table in there, so that the document cannot rot.
 */
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"

static const char *how(const struct fu_op *op)
{
	if (op->blocks)
		return "worker";
	if (op->pollin || op->pollout)
		return op->unbounded ? "inline, armed, worker" : "inline, armed";
	if (op->cancel || op->event)
		return "waits in the engine";
	return op->needs_file || op->unbounded ? "inline or worker" : "inline";
}

static void row(char *line, size_t size, u32 opcode)
{
	const struct fu_op *op = &fu_ops[opcode];

	snprintf(line, size, "| %u | %s | %u.%u | %s | %s | %s |\n", opcode, op->name,
	         op->since / 100U, op->since % 100U, how(op), op->buffer_select ? "yes" : "",
	         op->iopoll ? "yes" : "");
}

/* The next table line of the file that begins with "| <number>"; false at the end. */
static bool next_row(FILE *f, char *line, int size)
{
	while (fgets(line, size, f)) {
		if (line[0] == '|' && line[2] >= '0' && line[2] <= '9')
			return true;
	}
	return false;
}

int main(int argc, char **argv)
{
	FILE *f = argc > 1 ? fopen(argv[1], "r") : NULL;
	char want[256], have[256];
	int bad = 0;

	if (argc > 1 && !f) {
		perror(argv[1]);
		return 1;
	}
	for (u32 i = 0; i < IORING_OP_LAST; i++) {
		if (!fu_ops[i].issue)
			continue;
		row(want, sizeof(want), i);
		if (!f) {
			fputs(want, stdout);
		} else if (!next_row(f, have, sizeof(have)) || strcmp(have, want) != 0) {
			printf("the document lacks: %s", want);
			bad = 1;
		}
	}
	if (f && !bad && next_row(f, have, sizeof(have))) {
		printf("the document has too much: %s", have);
		bad = 1;
	}
	if (f)
		fclose(f);
	return bad;
}
