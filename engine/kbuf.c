/* Provided buffers; see kbuf.h. */
#include "engine/kbuf.h"

void fu_pbufs_free(struct fu_ctx *ctx)
{
	fu_list_init(&ctx->pbufs);
}
