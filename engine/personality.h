/*
 * Registered credentials (IORING_REGISTER_PERSONALITY): what a thread may do, taken
 * down when it registers, and put on for the time of one request by whichever thread
 * runs that request. The system calls of Linux change the credentials of the calling
 * thread only; nobody else in the process notices.
 */
#ifndef FU_PERSONALITY_H
#define FU_PERSONALITY_H

#include "engine/engine.h"

/* Registers the caller's credentials; returns the id (1..65535) or -errno. submit_lock held. */
long fu_personality_register(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_personality_unregister(struct fu_ctx *ctx, void *arg, u32 id);
void fu_personalities_free(struct fu_ctx *ctx);
/* Has the request run with registered credentials. 0 or -EINVAL for an unknown id. submit_lock
 * held. */
int fu_personality_get(struct fu_ctx *ctx, struct fu_req *req, u16 id);
/* The request needs its credentials no more. */
void fu_personality_put(struct fu_req *req);

/*
 * A request on names goes to a worker: remembers as whom its submitter, the caller, may
 * use them. Workers share the process's credentials, but a thread may have changed its own.
 */
void fu_personality_punt(struct fu_req *req);

/* Whether the request, which would go to a worker, has to stay with its submitter: it looks up
 * names, and threads differ in what they see (fu_threads_differ). */
bool fu_personality_stays(const struct fu_req *req);

/* op->issue with req->creds on this thread; -EPERM if it cannot take them on and come back. */
int fu_issue_as_creds(struct fu_req *req, u32 issue_flags);
/* On a worker, op->issue with the submitter's ids for file systems; -EPERM as above. */
int fu_issue_as_submitter(struct fu_req *req, u32 issue_flags);

/* op->issue with the request's credentials. */
static inline int fu_issue_as(struct fu_req *req, u32 issue_flags)
{
	if (fu_unlikely(req->creds != NULL))
		return fu_issue_as_creds(req, issue_flags);
	if ((issue_flags & FU_ISSUE_WORKER) && fu_unlikely(req->flags & FU_REQ_FS_IDS))
		return fu_issue_as_submitter(req, issue_flags);
	return req->op->issue(req, issue_flags);
}

#endif
