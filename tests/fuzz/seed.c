/*
 * fuzz_seed sqe|register DIR: writes the seed corpus, one stream for each operation or register
 * call with arguments that it accepts or nearly accepts, plus some that combine them.
 */
#include "tests/fuzz/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rings/abi.h"

static uint8_t stream[4096];
static size_t used;
static const char *dir;

/* The command byte for each command, in the target's weights. */
static uint8_t byte_of[FUZZ_COMMANDS];

static void put(const void *p, size_t n)
{
	if (used + n > sizeof(stream))
		abort();
	memcpy(stream + used, p, n);
	used += n;
}

static void begin(uint32_t setup_flags)
{
	const struct fuzz_header h = { .setup_flags = setup_flags,
		                       .sq_entries = 16,
		                       .cq_entries = 32 };

	used = 0;
	put(&h, sizeof(h));
}

static void finish(const char *name, unsigned number)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s-%u", dir, name, number);
	f = fopen(path, "w");
	if (!f || fwrite(stream, 1, used, f) != used || fclose(f)) {
		perror(path);
		exit(1);
	}
}

static void put_command(enum fuzz_command command, const void *p, size_t n)
{
	put(&byte_of[command], 1);
	put(p, n);
}

static void put_sqe(uint8_t opcode, uint8_t flags, uint8_t fd, uint8_t addr_kind, uint32_t len)
{
	const struct fuzz_sqe sqe = { .opcode = opcode,
		                      .flags = flags,
		                      .fd = fd,
		                      .addr = { .kind = addr_kind, .at = 0x100 },
		                      .len = len,
		                      .user_data = opcode };

	put_command(FUZZ_SQE, &sqe, sizeof(sqe));
}

static void put_enter(uint8_t wait)
{
	const struct fuzz_enter enter = { .to_submit = 63,
		                          .min_complete = wait,
		                          .flags = wait ? IORING_ENTER_GETEVENTS : 0 };

	put_command(FUZZ_ENTER, &enter, sizeof(enter));
}

static void put_stir(void)
{
	put_command(FUZZ_STIR, stream, 0);
}

static void put_register(uint8_t opcode, uint8_t arg_kind, uint32_t at, uint16_t nr)
{
	const struct fuzz_register reg = { .opcode = opcode, .arg = { arg_kind, at }, .nr = nr };

	put_command(FUZZ_REGISTER, &reg, sizeof(reg));
}

static void put_poke(uint16_t at, uint8_t what, uint8_t kind, uint32_t value)
{
	const struct fuzz_poke poke = { .what = what, .at = at, .value = { kind, value } };

	put_command(FUZZ_POKE, &poke, sizeof(poke));
}

/* Each operation on each kind of file; alone, linked, forced onto a worker, drained. */
static void sqes(void)
{
	static const uint8_t flags[] = { 0, IOSQE_IO_LINK, IOSQE_ASYNC, IOSQE_IO_DRAIN,
		                         IOSQE_CQE_SKIP_SUCCESS };

	for (uint8_t op = 0; op < IORING_OP_LAST; op++) {
		begin(op % 8);
		put_register(IORING_REGISTER_FILES, 3, 0x3000, 8);
		put_register(IORING_REGISTER_BUFFERS, 3, 8, 4);
		for (uint8_t i = 0; i < sizeof(flags); i++) {
			put_sqe(op, flags[i], (uint8_t)(i * 2 + op % 2), i % 2 ? 3 : 2, 1 + i);
			put_sqe(IORING_OP_NOP, 0, 0, 0, 0);
		}
		put_enter(1);
		put_stir();
		put_sqe(IORING_OP_ASYNC_CANCEL, 0, 0, 1, 0);
		put_enter(0);
		finish("op", op);
	}
}

static void registers(void)
{
	for (uint8_t op = 0; op < IORING_REGISTER_LAST; op++) {
		for (uint8_t nr = 0; nr < 3; nr++) {
			begin(op % 2 ? 0 : 5);
			put_register(op, nr ? 3 : 0, 0x3000, nr);
			put_poke(0x4000, 3, 0, nr);
			put_poke(0x4008, 7, 3, 0x20000);
			put_register(op, 3, 0x3000, nr);
			put_register(op + 1, 3, 0x3000, 1);
			put_sqe(IORING_OP_READ_FIXED, IOSQE_FIXED_FILE, 0, 3, 16);
			put_sqe(IORING_OP_READ, IOSQE_BUFFER_SELECT, 2, 0, 16);
			put_enter(1);
			put_stir();
			finish("register", op * 4U + nr);
		}
	}
}

int main(int argc, char **argv)
{
	static const uint8_t in_sqe[FUZZ_COMMANDS] = { 0, 6, 14, 12, 15, 11 };
	static const uint8_t in_register[FUZZ_COMMANDS] = { 11, 13, 0, 6, 15, 14 };

	if (argc != 3)
		return 2;
	dir = argv[2];
	memcpy(byte_of, strcmp(argv[1], "sqe") ? in_register : in_sqe, sizeof(byte_of));
	if (strcmp(argv[1], "sqe") == 0)
		sqes();
	else
		registers();
	return 0;
}
