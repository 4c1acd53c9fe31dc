/* FILES_UPDATE: changing the table of registered files by a request. */
#ifndef FU_FILES_UPDATE_H
#define FU_FILES_UPDATE_H

#include "engine/engine.h"

int fu_files_update_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_files_update_issue(struct fu_req *req, u32 issue_flags);

#endif
