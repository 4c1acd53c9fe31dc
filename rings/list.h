/*
 * An intrusive doubly linked list, as the kernel's own: a head is a node that
 * points to itself when the list is empty. A node that is on no list points to
 * itself too, so removing it twice does no harm.
 */
#ifndef FU_LIST_H
#define FU_LIST_H

#include "rings/types.h"

struct fu_list {
	struct fu_list *next, *prev;
};

static inline void fu_list_init(struct fu_list *node)
{
	node->next = node->prev = node;
}

static inline bool fu_list_empty(const struct fu_list *head)
{
	return head->next == head;
}

static inline void fu_list_add_tail(struct fu_list *head, struct fu_list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

static inline void fu_list_add_head(struct fu_list *head, struct fu_list *node)
{
	fu_list_add_tail(head->next, node);
}

static inline void fu_list_del(struct fu_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	fu_list_init(node);
}

/* Takes the first node off the list; NULL if there is none. */
static inline struct fu_list *fu_list_pop(struct fu_list *head)
{
	struct fu_list *node = head->next;

	if (node == head)
		return NULL;
	fu_list_del(node);
	return node;
}

#define fu_list_entry(node, type, member) fu_container_of(node, type, member)

#define fu_list_for_each(node, head) \
	for (struct fu_list *node = (head)->next; node != (head); node = node->next)

/* The current node may be removed, and only that one. */
#define fu_list_for_each_safe(node, nxt, head)                                       \
	for (struct fu_list *node = (head)->next, *nxt = node->next; node != (head); \
	     node = nxt, nxt = node->next)

#endif
