/*
 * Registered files and buffers: tables of counted nodes. A request that uses a
 * node holds it, so that unregistering or replacing a slot never pulls a file or
 * buffer from under a request; the node goes, and its tag is reported, when the
 * last holder lets go. Tables are guarded by submit_lock, reference counts are
 * atomic.
 */
#ifndef FU_RSRC_H
#define FU_RSRC_H

#include "rings/types.h"

/* What has been learned about an open file; relaxed accesses, hints only. */
struct fu_file_info {
	u16 flags;
	u16 uses;
	struct {
		u8 trust;   /* calls in a row that may wait, on the submitter's thread */
		u8 backoff; /* how often in a row one did */
		u16 skip;   /* requests until the next try */
	} waits[2];         /* reads, writes */
};

struct fu_file_node {
	u32 refs;
	s32 fd; /* the engine's duplicate */
	struct fu_file_info info;
	u64 tag;
};

struct fu_buf_node {
	u32 refs;
	u32 pad;
	u64 addr; /* in the program's memory; addr 0 and len 0: an empty slot with a tag */
	u64 len;
	u64 tag;
};

struct fu_table {
	void **slots; /* node pointers, NULL for an empty slot */
	u32 nr;
};

/* Allocates an empty table of `nr` slots. 0 or -ENOMEM. */
int fu_table_init(struct fu_table *table, u32 nr);
/* Frees the array; the slots must be empty. */
void fu_table_free(struct fu_table *table);

/* The node of slot `index`, or NULL. */
static inline void *fu_table_get(const struct fu_table *table, u32 index)
{
	return fu_likely(index < table->nr) ? table->slots[index] : NULL;
}

/* A node for a duplicate of `fd`, with one reference. NULL with *err set: -EBADF, -EMFILE, -ENOMEM.
 */
struct fu_file_node *fu_file_node_make(int fd, u64 tag, int *err);
struct fu_buf_node *fu_buf_node_make(u64 addr, u64 len, u64 tag);

static inline void fu_file_node_hold(struct fu_file_node *node)
{
	__atomic_fetch_add(&node->refs, 1, __ATOMIC_RELAXED);
}

static inline void fu_buf_node_hold(struct fu_buf_node *node)
{
	__atomic_fetch_add(&node->refs, 1, __ATOMIC_RELAXED);
}

/* Drops a reference; the last one closes the file. Returns the tag to report, or 0. */
u64 fu_file_node_put(struct fu_file_node *node);
u64 fu_buf_node_put(struct fu_buf_node *node);

#endif
