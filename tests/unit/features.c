/*
 * Prints the tables of docs/FEATURES.md: operations from the engine's own table, flags and
 * register operations from the lists below, which have to agree with what the engine takes.
 * With a file as argument compares them with the tables in there, so that the document
 * cannot rot. What a row says behind its fixed columns is free.
 */
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/register.h"

static int bad;

static void complain(const char *what, const char *row)
{
	printf("%s: %s\n", what, row);
	bad = 1;
}

/* ---- operations ---- */

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

static void op_row(char *line, size_t size, u32 opcode)
{
	const struct fu_op *op = &fu_ops[opcode];

	snprintf(line, size, "| %u | %s | %u.%u | %s | %s | %s |", opcode, op->name,
	         op->since / 100U, op->since % 100U, how(op), op->buffer_select ? "yes" : "",
	         op->iopoll ? "yes" : "");
}

/* ---- flags ---- */

enum field { OP_FLAGS, LEN, IOPRIO };

struct flag {
	const char *where, *name;
	u32 value, since;
};

#define F(where, name, since)             \
	{                                 \
		where, #name, name, since \
	}

static const struct flag flags[] = {
	F("setup", IORING_SETUP_IOPOLL, 501),
	F("setup", IORING_SETUP_SQPOLL, 501),
	F("setup", IORING_SETUP_SQ_AFF, 501),
	F("setup", IORING_SETUP_CQSIZE, 505),
	F("setup", IORING_SETUP_CLAMP, 506),
	F("setup", IORING_SETUP_ATTACH_WQ, 506),
	F("setup", IORING_SETUP_R_DISABLED, 510),
	F("setup", IORING_SETUP_SUBMIT_ALL, 518),
	F("setup", IORING_SETUP_COOP_TASKRUN, 519),
	F("setup", IORING_SETUP_TASKRUN_FLAG, 519),
	F("setup", IORING_SETUP_SQE128, 519),
	F("setup", IORING_SETUP_CQE32, 519),
	F("setup", IORING_SETUP_SINGLE_ISSUER, 600),
	F("setup", IORING_SETUP_DEFER_TASKRUN, 601),
	F("setup", IORING_SETUP_NO_MMAP, 605),
	F("setup", IORING_SETUP_REGISTERED_FD_ONLY, 605),
	F("setup", IORING_SETUP_NO_SQARRAY, 606),
	F("setup", IORING_SETUP_HYBRID_IOPOLL, 613),
	F("setup", IORING_SETUP_CQE_MIXED, 618),
	F("feature", IORING_FEAT_SINGLE_MMAP, 504),
	F("feature", IORING_FEAT_NODROP, 505),
	F("feature", IORING_FEAT_SUBMIT_STABLE, 505),
	F("feature", IORING_FEAT_RW_CUR_POS, 506),
	F("feature", IORING_FEAT_CUR_PERSONALITY, 506),
	F("feature", IORING_FEAT_FAST_POLL, 507),
	F("feature", IORING_FEAT_POLL_32BITS, 509),
	F("feature", IORING_FEAT_SQPOLL_NONFIXED, 511),
	F("feature", IORING_FEAT_EXT_ARG, 511),
	F("feature", IORING_FEAT_NATIVE_WORKERS, 512),
	F("feature", IORING_FEAT_RSRC_TAGS, 513),
	F("feature", IORING_FEAT_CQE_SKIP, 517),
	F("feature", IORING_FEAT_LINKED_FILE, 517),
	F("feature", IORING_FEAT_REG_REG_RING, 603),
	F("feature", IORING_FEAT_RECVSEND_BUNDLE, 610),
	F("feature", IORING_FEAT_MIN_TIMEOUT, 612),
	F("feature", IORING_FEAT_RW_ATTR, 614),
	F("feature", IORING_FEAT_NO_IOWAIT, 615),
	F("enter", IORING_ENTER_GETEVENTS, 501),
	F("enter", IORING_ENTER_SQ_WAKEUP, 501),
	F("enter", IORING_ENTER_SQ_WAIT, 510),
	F("enter", IORING_ENTER_EXT_ARG, 511),
	F("enter", IORING_ENTER_REGISTERED_RING, 518),
	F("enter", IORING_ENTER_ABS_TIMER, 612),
	F("enter", IORING_ENTER_EXT_ARG_REG, 613),
	F("enter", IORING_ENTER_NO_IOWAIT, 615),
	F("SQE", IOSQE_FIXED_FILE, 501),
	F("SQE", IOSQE_IO_DRAIN, 502),
	F("SQE", IOSQE_IO_LINK, 503),
	F("SQE", IOSQE_IO_HARDLINK, 505),
	F("SQE", IOSQE_ASYNC, 506),
	F("SQE", IOSQE_BUFFER_SELECT, 507),
	F("SQE", IOSQE_CQE_SKIP_SUCCESS, 517),
	F("CQE", IORING_CQE_F_BUFFER, 507),
	F("CQE", IORING_CQE_F_MORE, 513),
	F("CQE", IORING_CQE_F_SOCK_NONEMPTY, 519),
	F("CQE", IORING_CQE_F_NOTIF, 600),
	F("CQE", IORING_CQE_F_BUF_MORE, 612),
	F("CQE", IORING_CQE_F_SKIP, 618),
	F("CQE", IORING_CQE_F_32, 618),
	F("NOP", IORING_NOP_INJECT_RESULT, 610),
	F("NOP", IORING_NOP_FILE, 613),
	F("NOP", IORING_NOP_FIXED_FILE, 613),
	F("NOP", IORING_NOP_FIXED_BUFFER, 613),
	F("NOP", IORING_NOP_TW, 616),
	F("NOP", IORING_NOP_CQE32, 618),
	F("FSYNC", IORING_FSYNC_DATASYNC, 501),
	F("POLL_ADD", IORING_POLL_ADD_MULTI, 513),
	F("POLL_REMOVE", IORING_POLL_ADD_MULTI, 513),
	F("POLL_REMOVE", IORING_POLL_UPDATE_EVENTS, 513),
	F("POLL_REMOVE", IORING_POLL_UPDATE_USER_DATA, 513),
	F("TIMEOUT", IORING_TIMEOUT_ABS, 505),
	F("TIMEOUT", IORING_TIMEOUT_BOOTTIME, 515),
	F("TIMEOUT", IORING_TIMEOUT_REALTIME, 515),
	F("TIMEOUT", IORING_TIMEOUT_ETIME_SUCCESS, 516),
	F("TIMEOUT", IORING_TIMEOUT_MULTISHOT, 604),
	F("TIMEOUT_REMOVE", IORING_TIMEOUT_ABS, 511),
	F("TIMEOUT_REMOVE", IORING_TIMEOUT_UPDATE, 511),
	F("TIMEOUT_REMOVE", IORING_LINK_TIMEOUT_UPDATE, 515),
	F("ASYNC_CANCEL", IORING_ASYNC_CANCEL_ALL, 519),
	F("ASYNC_CANCEL", IORING_ASYNC_CANCEL_FD, 519),
	F("ASYNC_CANCEL", IORING_ASYNC_CANCEL_ANY, 519),
	F("ASYNC_CANCEL", IORING_ASYNC_CANCEL_FD_FIXED, 600),
	F("ASYNC_CANCEL", IORING_ASYNC_CANCEL_USERDATA, 606),
	F("ASYNC_CANCEL", IORING_ASYNC_CANCEL_OP, 606),
	F("ACCEPT", IORING_ACCEPT_MULTISHOT, 519),
	F("ACCEPT", IORING_ACCEPT_DONTWAIT, 610),
	F("ACCEPT", IORING_ACCEPT_POLL_FIRST, 610),
	F("SEND", IORING_RECVSEND_POLL_FIRST, 519),
	F("SEND", IORING_RECVSEND_BUNDLE, 610),
	F("SEND", IORING_SEND_VECTORIZED, 617),
	F("RECV", IORING_RECVSEND_POLL_FIRST, 519),
	F("RECV", IORING_RECV_MULTISHOT, 600),
	F("RECV", IORING_RECVSEND_BUNDLE, 610),
	F("SEND_ZC", IORING_RECVSEND_POLL_FIRST, 600),
	F("SEND_ZC", IORING_RECVSEND_FIXED_BUF, 600),
	F("SEND_ZC", IORING_SEND_ZC_REPORT_USAGE, 602),
	F("SEND_ZC", IORING_SEND_VECTORIZED, 617),
	F("MSG_RING", IORING_MSG_RING_CQE_SKIP, 600),
	F("MSG_RING", IORING_MSG_RING_FLAGS_PASS, 603),
	F("FIXED_FD_INSTALL", IORING_FIXED_FD_NO_CLOEXEC, 608),
};

#define NR_FLAGS (sizeof(flags) / sizeof(flags[0]))

/* What the engine takes in one place: a mask of its own, or what an operation's prep lets pass. */
static u32 listed(const char *where)
{
	u32 mask = 0;

	for (size_t i = 0; i < NR_FLAGS; i++) {
		if (strcmp(flags[i].where, where) == 0)
			mask |= flags[i].value;
	}
	return mask;
}

static void check_mask(const char *where, u32 mask)
{
	char text[128];

	snprintf(text, sizeof(text), "%s: 0x%x, listed 0x%x", where, mask, listed(where));
	if (listed(where) != mask)
		complain("the list of flags differs from the engine's", text);
}

static struct fu_timespec soon = { .tv_sec = 1 };

struct taker {
	const char *where;
	struct fu_sqe sqe;
	enum field field;
};

static bool takes(const struct taker *t, u32 opcode, u32 bit)
{
	static struct fu_ctrl ctrl;
	static struct fu_ctx ctx;
	struct fu_req req = { .ctx = &ctx, .op = &fu_ops[opcode], .opcode = (u8)opcode };
	struct fu_sqe sqe = t->sqe;

	ctx.ring.ctrl = &ctrl;
	ctx.ring.setup_flags = IORING_SETUP_CQE32;
	sqe.opcode = (u8)opcode;
	req.flags = sqe.flags;
	if (t->field == OP_FLAGS)
		sqe.op_flags |= bit;
	else if (t->field == LEN)
		sqe.len |= bit;
	else
		sqe.ioprio = (u16)(sqe.ioprio | bit);
	return req.op->prep(&req, &sqe) == 0;
}

static void check_operation(const struct taker *t)
{
	u32 mask = 0, opcode = 0;

	while (opcode < IORING_OP_LAST && strcmp(fu_ops[opcode].name, t->where) != 0)
		opcode++;
	for (u32 bit = 0; bit < (t->field == IOPRIO ? 16 : 32); bit++) {
		if (takes(t, opcode, 1U << bit))
			mask |= 1U << bit;
	}
	check_mask(t->where, mask);
}

static void check_flags(void)
{
	const u64 time = (u64)(uintptr_t)&soon;
	const struct taker takers[] = {
		{ "NOP", { 0 }, OP_FLAGS },
		{ "FSYNC", { 0 }, OP_FLAGS },
		{ "POLL_ADD", { 0 }, LEN },
		{ "POLL_REMOVE", { .len = IORING_POLL_UPDATE_EVENTS }, LEN },
		{ "TIMEOUT", { .addr = time, .len = 1 }, OP_FLAGS },
		{ "ASYNC_CANCEL", { 0 }, OP_FLAGS },
		{ "ACCEPT", { 0 }, IOPRIO },
		{ "SEND", { 0 }, IOPRIO },
		{ "RECV", { .flags = IOSQE_BUFFER_SELECT }, IOPRIO },
		{ "SEND_ZC", { 0 }, IOPRIO },
		{ "MSG_RING", { 0 }, OP_FLAGS },
		{ "FIXED_FD_INSTALL", { .flags = IOSQE_FIXED_FILE }, OP_FLAGS },
	};

	check_mask("setup", FU_SETUP_FLAGS);
	check_mask("feature", FU_FEATURES);
	check_mask("enter", FU_ENTER_FLAGS);
	check_mask("SQE", FU_SQE_FLAGS);
	for (size_t i = 0; i < sizeof(takers) / sizeof(takers[0]); i++)
		check_operation(&takers[i]);
}

static void flag_row(char *line, size_t size, size_t i)
{
	snprintf(line, size, "| %s | %s | 0x%x | %u.%u |", flags[i].where, flags[i].name,
	         flags[i].value, flags[i].since / 100, flags[i].since % 100);
}

/* ---- register operations ---- */

#define R(name, since) [IORING_##name] = { "register", "IORING_" #name, IORING_##name, since }

static const struct flag registers[IORING_REGISTER_LAST] = {
	R(REGISTER_BUFFERS, 501),        R(UNREGISTER_BUFFERS, 501),
	R(REGISTER_FILES, 501),          R(UNREGISTER_FILES, 501),
	R(REGISTER_EVENTFD, 502),        R(UNREGISTER_EVENTFD, 502),
	R(REGISTER_FILES_UPDATE, 505),   R(REGISTER_EVENTFD_ASYNC, 506),
	R(REGISTER_PROBE, 506),          R(REGISTER_PERSONALITY, 506),
	R(UNREGISTER_PERSONALITY, 506),  R(REGISTER_RESTRICTIONS, 510),
	R(REGISTER_ENABLE_RINGS, 510),   R(REGISTER_FILES2, 513),
	R(REGISTER_FILES_UPDATE2, 513),  R(REGISTER_BUFFERS2, 513),
	R(REGISTER_BUFFERS_UPDATE, 513), R(REGISTER_IOWQ_AFF, 514),
	R(UNREGISTER_IOWQ_AFF, 514),     R(REGISTER_IOWQ_MAX_WORKERS, 515),
	R(REGISTER_RING_FDS, 518),       R(UNREGISTER_RING_FDS, 518),
	R(REGISTER_PBUF_RING, 519),      R(UNREGISTER_PBUF_RING, 519),
	R(REGISTER_SYNC_CANCEL, 600),    R(REGISTER_FILE_ALLOC_RANGE, 600),
	R(REGISTER_PBUF_STATUS, 608),    R(REGISTER_NAPI, 609),
	R(UNREGISTER_NAPI, 609),         R(REGISTER_CLOCK, 612),
	R(REGISTER_CLONE_BUFFERS, 612),  R(REGISTER_SEND_MSG_RING, 613),
	R(REGISTER_ZCRX_IFQ, 615),       R(REGISTER_RESIZE_RINGS, 613),
	R(REGISTER_MEM_REGION, 613),     R(REGISTER_QUERY, 618),
};

static void register_row(char *line, size_t size, u32 i)
{
	snprintf(line, size, "| register | %s | %u | %u.%u |", registers[i].name, i,
	         registers[i].since / 100, registers[i].since % 100);
}

static void check_registers(void)
{
	for (u32 i = 0; i < IORING_REGISTER_LAST; i++) {
		if (fu_register_known(i) != (registers[i].name != NULL))
			complain("not both listed and served",
			         registers[i].name ? registers[i].name : "a register operation");
	}
}

/* ---- the document ---- */

#define MAX_ROWS 400

static char rows[MAX_ROWS][160];
static size_t nr_rows;

static void make_rows(void)
{
	for (u32 i = 0; i < IORING_OP_LAST; i++) {
		if (fu_ops[i].issue)
			op_row(rows[nr_rows++], sizeof(rows[0]), i);
	}
	for (size_t i = 0; i < NR_FLAGS; i++)
		flag_row(rows[nr_rows++], sizeof(rows[0]), i);
	for (u32 i = 0; i < IORING_REGISTER_LAST; i++)
		register_row(rows[nr_rows++], sizeof(rows[0]), i);
}

/* A line of a table that has something in its first column other than a headline or a rule. */
static bool is_row(const char *line)
{
	return line[0] == '|' && strncmp(line, "|---", 4) != 0 &&
	       strncmp(line, "| number ", 9) != 0 && strncmp(line, "| where ", 8) != 0;
}

/* The document's rows are these, in this order. */
static void compare(FILE *f)
{
	char line[512];
	size_t next = 0;

	while (fgets(line, sizeof(line), f)) {
		if (!is_row(line))
			continue;
		line[strcspn(line, "\n")] = 0;
		if (next == nr_rows || strncmp(line, rows[next], strlen(rows[next])) != 0) {
			complain("the document has", line);
			complain("in the place of", next < nr_rows ? rows[next] : "nothing");
			return;
		}
		next++;
	}
	if (next < nr_rows)
		complain("the document lacks", rows[next]);
}

int main(int argc, char **argv)
{
	FILE *f;

	check_flags();
	check_registers();
	make_rows();
	if (argc < 2) {
		for (size_t i = 0; i < nr_rows; i++)
			printf("%s\n", rows[i]);
		return bad;
	}
	f = fopen(argv[1], "r");
	if (!f) {
		perror(argv[1]);
		return 1;
	}
	compare(f);
	fclose(f);
	return bad;
}
