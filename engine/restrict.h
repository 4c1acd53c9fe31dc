/*
 * Who may submit what, and as whom: restrictions of a ring
 * (IORING_REGISTER_RESTRICTIONS) and registered credentials
 * (IORING_REGISTER_PERSONALITY). All of it is guarded by submit_lock.
 */
#ifndef FU_RESTRICT_H
#define FU_RESTRICT_H

#include "engine/engine.h"

/* Whether the ring's restrictions allow this request's opcode and flags. */
bool fu_restriction_allows(const struct fu_ctx *ctx, const struct fu_req *req);
/* Whether they allow the register operation. */
bool fu_restriction_allows_register(const struct fu_ctx *ctx, u32 opcode);
/* Registers restrictions; the errors of io_uring_register(2). */
long fu_restrictions_register(struct fu_ctx *ctx, const void *user, u32 nr);
void fu_restrictions_free(struct fu_ctx *ctx);

/* Registers the caller's credentials; returns the id (1..65535) or -errno. */
long fu_personality_register(struct fu_ctx *ctx);
long fu_personality_unregister(struct fu_ctx *ctx, u32 id);
void fu_personalities_free(struct fu_ctx *ctx);
/* Has the request run with registered credentials. 0 or -EINVAL for an unknown id. */
int fu_personality_get(struct fu_ctx *ctx, struct fu_req *req, u16 id);
/* op->issue with the request's credentials on this thread. */
int fu_issue_as(struct fu_req *req, u32 issue_flags);

#endif
