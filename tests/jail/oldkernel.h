/* What the jail takes away to look like an old kernel. */
#ifndef JAIL_OLDKERNEL_H
#define JAIL_OLDKERNEL_H

#include <seccomp.h>

/* "4.14" as 414: major * 100 + minor; 0 if the jail knows nothing of that kernel. */
unsigned old_kernel_version(const char *name);

/* Adds the rules of kernel `version` to a filter that allows by default. 0 or a libseccomp error.
 */
int old_kernel_rules(scmp_filter_ctx ctx, unsigned version);

#endif
