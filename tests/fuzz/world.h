/*
 * What the fuzz targets share: a world of descriptors and memory that a stream of bytes can
 * point at, a ring in it, and the interpreter of such streams.
 *
 * A stream is a header (setup flags, entries) and commands, each a byte that selects it and a
 * structure of fixed size; what the stream ends in the middle of is left out. Pointers and
 * descriptors in it are selectors, so that a mutation is more likely to hit something: world_ptr
 * and world_fd make addresses and numbers of them.
 */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include <stddef.h>
#include <stdint.h>

struct __attribute__((packed)) fuzz_header {
	uint32_t setup_flags;
	uint16_t sq_entries;
	uint16_t cq_entries;
};

struct __attribute__((packed)) fuzz_ptr {
	uint8_t kind;
	uint32_t at;
};

struct __attribute__((packed)) fuzz_sqe {
	uint8_t opcode, flags, fd;
	uint16_t ioprio;
	struct fuzz_ptr addr, off, addr3;
	uint32_t len, op_flags, file_index;
	uint16_t buf_index, personality;
	uint8_t user_data;
};

struct __attribute__((packed)) fuzz_enter {
	uint8_t to_submit, min_complete;
	uint16_t flags;
	struct fuzz_ptr arg;
	uint8_t arg_bytes;
};

struct __attribute__((packed)) fuzz_register {
	uint8_t opcode;
	struct fuzz_ptr arg;
	uint16_t nr;
};

/* A value into the arena, of 1, 2, 4 or 8 bytes, or a pointer. */
struct __attribute__((packed)) fuzz_poke {
	uint8_t what;
	uint16_t at;
	struct fuzz_ptr value;
};

/* A value into the ring's shared memory. */
struct __attribute__((packed)) fuzz_ring_poke {
	uint8_t what;
	uint32_t value;
};

enum fuzz_command {
	FUZZ_SQE,
	FUZZ_ENTER,
	FUZZ_REGISTER,
	FUZZ_POKE,
	FUZZ_RING_POKE,
	FUZZ_STIR, /* bytes into the pipe, the socket and the eventfd; the CQ is emptied */
	FUZZ_COMMANDS
};

/* What makes a target: for each value of a command's byte, modulo 16, what the command is. */
extern const uint8_t fuzz_weights[16];

#endif
