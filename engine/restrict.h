/*
 * What a ring allows to be submitted and registered once it is enabled
 * (IORING_REGISTER_RESTRICTIONS). All of it is guarded by submit_lock.
 */
#ifndef FU_RESTRICT_H
#define FU_RESTRICT_H

#include "engine/engine.h"

/* Whether the ring's restrictions allow this request's opcode and flags. */
bool fu_restriction_allows(const struct fu_ctx *ctx, const struct fu_req *req);
/* Whether they allow the register operation. */
bool fu_restriction_allows_register(const struct fu_ctx *ctx, u32 opcode);
/* Registers restrictions; the errors of io_uring_register(2). */
long fu_reg_restrictions(struct fu_ctx *ctx, void *user, u32 nr);

#endif
