/* Threads that exit, and the requests that they have submitted. */
#ifndef FU_LEAVING_H
#define FU_LEAVING_H

#include "engine/engine.h"

/* Called once in a process, early, before any thread can exit that is to be seen. */
void fu_leaving_init(void);
/* The calling thread has something here: it is seen when it exits. */
void fu_leaving_watch(void);

/* The calling thread has submitted the request, unless that is one of the engine's. */
void fu_req_own(struct fu_req *req);
/* Whether the thread that submitted it has exited. submit_lock held, or the request's own. */
bool fu_req_left_behind(const struct fu_req *req);

#endif
