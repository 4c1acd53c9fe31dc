/* A worker that acts with a submitter's ids has its own again afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/fsuid.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/personality.h"

#define SUBMITTER 4711U

static uid_t seen_uid;
static gid_t seen_gid;

/* The ids stay as they are where these cannot be had. */
static uid_t fsuid(void)
{
	return (uid_t)setfsuid((uid_t)-1);
}

static gid_t fsgid(void)
{
	return (gid_t)setfsgid((gid_t)-1);
}

static int issue(struct fu_req *req, u32 issue_flags)
{
	(void)req;
	(void)issue_flags;
	seen_uid = fsuid();
	seen_gid = fsgid();
	return FU_DONE;
}

/* Somebody else ends the request at once, and it is another one by now. */
static int issue_taken(struct fu_req *req, u32 issue_flags)
{
	issue(req, issue_flags);
	req->fsuid = geteuid();
	req->fsgid = getegid();
	return FU_TAKEN;
}

static void act(int (*fn)(struct fu_req *req, u32 issue_flags), int result)
{
	static struct fu_req req;
	const struct fu_op op = { .issue = fn };

	if (geteuid())
		skip();
	req.op = &op;
	req.fsuid = req.fsgid = SUBMITTER;
	assert_int_equal(fu_issue_as_submitter(&req, 0), result);
	assert_int_equal(seen_uid, SUBMITTER);
	assert_int_equal(seen_gid, SUBMITTER);
	assert_int_equal(fsuid(), geteuid());
	assert_int_equal(fsgid(), getegid());
}

static void test_done(void **state)
{
	(void)state;
	act(issue, FU_DONE);
}

static void test_taken(void **state)
{
	(void)state;
	act(issue_taken, FU_TAKEN);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_done),
		cmocka_unit_test(test_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
