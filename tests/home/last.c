/*
 * A process whose first thread leaves, and then its last, with calls of its own instructions
 * made from both. It exits with 0, as libc does at the end of the last thread.
 */
#include <pthread.h>
#include <stdlib.h>

#include "tests/ring_util.h"

static struct tr_ring ring;

static void *last(void *arg)
{
	(void)arg;
	tr_sleep_ms(20);
	if (tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0) != 0)
		abort();
	return NULL;
}

int main(void)
{
	pthread_t t;

	tr_entry = TR_INLINE;
	if (tr_init(&ring, 4, 0) != 0 || tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0) != 0 ||
	    pthread_create(&t, NULL, last, NULL) != 0)
		return 1;
	pthread_exit(NULL);
}
