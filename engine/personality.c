/* Taking down and putting on credentials; see personality.h. */
#include "engine/personality.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>

#include "engine/entry.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/sys.h"

#define NO_CHANGE (~0U)

struct ids {
	u32 real, effective, saved, fs;
};

struct caps {
	struct __user_cap_data_struct set[2];
};

struct fu_cred {
	struct fu_cred *next; /* ctx->creds; submit_lock */
	u32 refs;             /* atomic: the list's and the requests' */
	u16 id;
	struct ids uid, gid;
	struct caps caps;
	u32 *groups;
	u32 nr_groups;
};

/* ---- what the thread has ---- */

static int get_caps(struct caps *caps)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };

	return (int)fu_sys(SYS_capget, &header, caps->set);
}

static int set_caps(const struct caps *caps)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };

	return (int)fu_sys(SYS_capset, &header, caps->set);
}

static bool has_cap(const struct caps *caps, int cap)
{
	return caps->set[cap / 32].effective >> cap % 32 & 1;
}

static void forget(struct fu_cred *cred)
{
	fu_free(cred->groups, cred->nr_groups * sizeof(u32));
	cred->groups = NULL;
	cred->nr_groups = 0;
}

/* Takes down the calling thread's credentials. 0 or -ENOMEM. */
static int take_down(struct fu_cred *cred)
{
	long n = fu_sys(SYS_getgroups, 0, 0);

	fu_memset(cred, 0, sizeof(*cred));
	if (n > 0) {
		cred->groups = fu_alloc((size_t)n * sizeof(u32));
		if (!cred->groups)
			return -ENOMEM;
		cred->nr_groups = (u32)n;
		fu_sys(SYS_getgroups, n, cred->groups);
	}
	fu_sys(SYS_getresuid, &cred->uid.real, &cred->uid.effective, &cred->uid.saved);
	fu_sys(SYS_getresgid, &cred->gid.real, &cred->gid.effective, &cred->gid.saved);
	/* An impossible id changes nothing and tells the present one. */
	cred->uid.fs = (u32)fu_sys(SYS_setfsuid, NO_CHANGE);
	cred->gid.fs = (u32)fu_sys(SYS_setfsgid, NO_CHANGE);
	get_caps(&cred->caps);
	return 0;
}

static bool same_ids(const struct ids *a, const struct ids *b)
{
	return a->real == b->real && a->effective == b->effective && a->saved == b->saved &&
	       a->fs == b->fs;
}

static bool same_groups(const struct fu_cred *a, const struct fu_cred *b)
{
	if (a->nr_groups != b->nr_groups)
		return false;
	for (u32 i = 0; i < a->nr_groups; i++) {
		if (a->groups[i] != b->groups[i])
			return false;
	}
	return true;
}

static bool same(const struct fu_cred *a, const struct fu_cred *b)
{
	return same_ids(&a->uid, &b->uid) && same_ids(&a->gid, &b->gid) && same_groups(a, b) &&
	       a->caps.set[0].effective == b->caps.set[0].effective &&
	       a->caps.set[1].effective == b->caps.set[1].effective;
}

/* ---- putting on and off ---- */

struct change {
	struct fu_cred before;
	bool whole; /* all ids change, capabilities stay permitted: securebits see to it */
	long securebits, dumpable;
	int death_signal;
};

/* All that is permitted becomes effective; a thread that was root may become it again. */
static void raise_caps(const struct fu_cred *now, struct caps *caps)
{
	for (int i = 0; i < 2; i++)
		caps->set[i].effective = caps->set[i].permitted;
	set_caps(caps);
	if (!has_cap(caps, CAP_SETUID) && (!now->uid.real || !now->uid.saved)) {
		fu_sys(SYS_setresuid, NO_CHANGE, 0, NO_CHANGE);
		get_caps(caps);
	}
}

/* Whether a thread without privileges finds back to an effective id it gives up. */
static bool can_return(const struct ids *ids)
{
	return ids->effective == ids->real || ids->effective == ids->saved;
}

static int set_ids(long setres, long setfs, const struct ids *to, bool whole)
{
	long ret = whole ? fu_sys(setres, to->real, to->effective, to->saved)
	                 : fu_sys(setres, NO_CHANGE, to->effective, NO_CHANGE);

	if (!ret && to->fs != to->effective)
		fu_sys(setfs, to->fs);
	return (int)ret;
}

static void put_off(struct change *change)
{
	const struct fu_cred *before = &change->before;
	struct fu_cred now = { .uid = before->uid };
	struct caps caps;

	get_caps(&caps);
	raise_caps(&now, &caps);
	fu_sys(SYS_setgroups, before->nr_groups, before->groups);
	set_ids(SYS_setresgid, SYS_setfsgid, &before->gid, change->whole);
	set_ids(SYS_setresuid, SYS_setfsuid, &before->uid, change->whole);
	if (change->whole)
		fu_sys(SYS_prctl, PR_SET_SECUREBITS, change->securebits, 0, 0, 0);
	set_caps(&before->caps);
	if (change->dumpable == 1)
		fu_sys(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
	if (change->death_signal)
		fu_sys(SYS_prctl, PR_SET_PDEATHSIG, change->death_signal, 0, 0, 0);
}

/* Puts `to` on over change->before. 0 or -EPERM, then nothing has changed. */
static int put_on(const struct fu_cred *to, struct change *change)
{
	const struct fu_cred *before = &change->before;
	struct caps caps = before->caps;
	int ret = 0;

	/* A change of credentials makes the process undumpable and forgets this signal. */
	change->dumpable = fu_sys(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0);
	change->death_signal = 0;
	fu_sys(SYS_prctl, PR_GET_PDEATHSIG, &change->death_signal, 0, 0, 0);
	change->securebits = fu_sys(SYS_prctl, PR_GET_SECUREBITS, 0, 0, 0, 0);
	raise_caps(before, &caps);
	change->whole = has_cap(&caps, CAP_SETUID) && has_cap(&caps, CAP_SETGID) &&
	                fu_sys(SYS_prctl, PR_SET_SECUREBITS,
	                       change->securebits | (1L << SECURE_NO_SETUID_FIXUP), 0, 0, 0) == 0;
	if (!change->whole && (!can_return(&before->uid) || !can_return(&before->gid)))
		ret = -EPERM;
	if (!ret && !same_groups(before, to))
		ret = (int)fu_sys(SYS_setgroups, to->nr_groups, to->groups);
	if (!ret)
		ret = set_ids(SYS_setresgid, SYS_setfsgid, &to->gid, change->whole);
	if (!ret)
		ret = set_ids(SYS_setresuid, SYS_setfsuid, &to->uid, change->whole);
	if (!ret) {
		get_caps(&caps);
		for (int i = 0; i < 2; i++)
			caps.set[i].effective = to->caps.set[i].effective;
		ret = set_caps(&caps);
	}
	if (!ret)
		return 0;
	put_off(change);
	return -EPERM;
}

int fu_issue_as_creds(struct fu_req *req, u32 issue_flags)
{
	struct fu_cred *creds = req->creds;
	struct change change;
	int ret = take_down(&change.before);

	if (ret)
		return ret;
	if (same(&change.before, creds)) {
		ret = req->op->issue(req, issue_flags);
	} else {
		/* No signal handler of the program runs in somebody else's name. */
		fu_critical_enter();
		ret = put_on(creds, &change);
		if (!ret) {
			ret = req->op->issue(req, issue_flags);
			put_off(&change);
		}
		fu_critical_leave();
	}
	forget(&change.before);
	return ret;
}

/* ---- the submitter's ids ---- */

void fu_personality_punt(struct fu_req *req)
{
	if (req->op->needs_file || req->creds || fu_self.engine || req->flags & FU_REQ_FS_IDS)
		return;
	req->fsuid = (u32)fu_sys(SYS_setfsuid, NO_CHANGE);
	req->fsgid = (u32)fu_sys(SYS_setfsgid, NO_CHANGE);
	req->flags |= FU_REQ_FS_IDS;
}

static bool threads_differ;

void fu_threads_differ(void)
{
	/* Alone, the thread hands what it has on to those that it starts. */
	if (fu_load_relaxed(&fu_threaded))
		fu_store_relaxed(&threads_differ, true);
}

bool fu_personality_stays(const struct fu_req *req)
{
	return fu_unlikely(fu_load_relaxed(&threads_differ)) && !req->op->needs_file &&
	       !req->op->unbounded && !fu_self.engine;
}

/* Changes one id, telling the old one. Whether it is now as wanted. */
static bool set_fs_id(long nr, u32 id, u32 *old)
{
	*old = (u32)fu_sys(nr, id);
	return *old == id || (u32)fu_sys(nr, NO_CHANGE) == id;
}

int fu_issue_as_submitter(struct fu_req *req, u32 issue_flags)
{
	/* Somebody else may have ended the request when it has been issued. */
	const u32 fsuid = req->fsuid, fsgid = req->fsgid;
	u32 gid, uid;
	int ret = -EPERM;

	/* The group first: it takes a privilege that the user may not have. */
	if (!set_fs_id(SYS_setfsgid, fsgid, &gid))
		return ret;
	if (set_fs_id(SYS_setfsuid, fsuid, &uid))
		ret = req->op->issue(req, issue_flags);
	if (uid != fsuid)
		fu_sys(SYS_setfsuid, uid);
	if (gid != fsgid)
		fu_sys(SYS_setfsgid, gid);
	return ret;
}

/* ---- registration ---- */

static void drop(struct fu_cred *cred)
{
	if (__atomic_sub_fetch(&cred->refs, 1, __ATOMIC_ACQ_REL))
		return;
	forget(cred);
	fu_free(cred, sizeof(*cred));
}

static struct fu_cred **find(struct fu_ctx *ctx, u32 id)
{
	struct fu_cred **at = &ctx->creds;

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

/* Ids go round: one that was given back is not used again soon. */
static u16 free_id(struct fu_ctx *ctx)
{
	for (u32 tried = 0; tried < UINT16_MAX; tried++) {
		u32 id = ctx->next_personality % UINT16_MAX + 1;

		ctx->next_personality = id;
		if (!*find(ctx, id))
			return (u16)id;
	}
	return 0;
}

long fu_personality_register(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_cred *cred;
	u16 id;

	if (arg || nr)
		return -EINVAL;
	id = free_id(ctx);
	if (!id)
		return -EBUSY;
	cred = fu_alloc(sizeof(*cred));
	if (!cred)
		return -ENOMEM;
	if (take_down(cred)) {
		fu_free(cred, sizeof(*cred));
		return -ENOMEM;
	}
	cred->refs = 1;
	cred->id = id;
	cred->next = ctx->creds;
	ctx->creds = cred;
	return id;
}

long fu_personality_unregister(struct fu_ctx *ctx, void *arg, u32 id)
{
	struct fu_cred **at, *cred;

	if (arg)
		return -EINVAL;
	at = find(ctx, id);
	cred = *at;
	if (!cred)
		return -EINVAL;
	*at = cred->next;
	drop(cred);
	return 0;
}

void fu_personalities_free(struct fu_ctx *ctx)
{
	while (ctx->creds) {
		struct fu_cred *cred = ctx->creds;

		ctx->creds = cred->next;
		drop(cred);
	}
}

int fu_personality_get(struct fu_ctx *ctx, struct fu_req *req, u16 id)
{
	struct fu_cred *cred = *find(ctx, id);

	if (!cred)
		return -EINVAL;
	__atomic_fetch_add(&cred->refs, 1, __ATOMIC_RELAXED);
	req->creds = cred;
	return 0;
}

void fu_personality_put(struct fu_req *req)
{
	drop(req->creds);
	req->creds = NULL;
}
