/* Tables and nodes of registered resources; see rsrc.h. */
#include "rings/rsrc.h"

#include <errno.h>

#include "rings/fds.h"
#include "rings/keep.h"
#include "rings/mem.h"

int fu_table_init(struct fu_table *table, u32 nr)
{
	table->slots = fu_zalloc(nr * sizeof(void *));
	if (!table->slots)
		return -ENOMEM;
	table->nr = nr;
	return 0;
}

void fu_table_free(struct fu_table *table)
{
	fu_free(table->slots, table->nr * sizeof(void *));
	table->slots = NULL;
	table->nr = 0;
}

struct fu_file_node *fu_file_node_make(int fd, u64 tag, int *err)
{
	struct fu_file_node *node = fu_alloc(sizeof(*node));

	if (!node) {
		*err = -ENOMEM;
		return NULL;
	}
	node->fd = fu_fd_dup_high(fd);
	if (node->fd < 0) {
		*err = node->fd;
		fu_free(node, sizeof(*node));
		return NULL;
	}
	node->refs = 1;
	node->info = (struct fu_file_info){ 0 };
	node->tag = tag;
	return node;
}

struct fu_buf_node *fu_buf_node_make(u64 addr, u64 len, u64 tag)
{
	struct fu_buf_node *node = fu_alloc(sizeof(*node));

	if (node)
		*node = (struct fu_buf_node){ .refs = 1, .addr = addr, .len = len, .tag = tag };
	return node;
}

u64 fu_file_node_put(struct fu_file_node *node)
{
	u64 tag;

	if (__atomic_sub_fetch(&node->refs, 1, __ATOMIC_ACQ_REL))
		return 0;
	fu_fd_release(node->fd, -1);
	tag = node->tag;
	fu_free(node, sizeof(*node));
	return tag;
}

u64 fu_buf_node_put(struct fu_buf_node *node)
{
	u64 tag;

	if (__atomic_sub_fetch(&node->refs, 1, __ATOMIC_ACQ_REL))
		return 0;
	tag = node->tag;
	fu_free(node, sizeof(*node));
	return tag;
}
