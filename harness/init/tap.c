// SPDX-License-Identifier: GPL-2.0-only
/*
 * A test that speaks TAP is believed only when it is consistent: a plan, as
 * many lines as planned, none "not ok", no skip that the list does not allow.
 * An exit status of 0 does not outweigh any of these.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "init.h"

static bool is_result(const char *line, const char *word)
{
	size_t len = strlen(word);

	return !strncmp(line, word, len) && (isspace(line[len]) || !line[len]);
}

static void remember(struct tap *tap, const char *line)
{
	if (!tap->first_bad[0])
		snprintf(tap->first_bad, sizeof(tap->first_bad), "%s", line);
}

static bool is_skipped(const char *line)
{
	const char *mark = strchr(line, '#');

	return mark && !strncasecmp(mark + 1 + strspn(mark + 1, " "), "skip", 4);
}

static void tap_plan(struct tap *tap, const char *line)
{
	tap->planned = strtoul(line + 3, NULL, 10);
	tap->has_plan = true;
	/* A plan of nothing, "1..0 # SKIP", skips the whole program */
	if (!tap->planned)
		tap->skipped++;
}

void tap_line(struct tap *tap, const char *line)
{
	if (!strncmp(line, "1..", 3) && isdigit(line[3])) {
		tap_plan(tap, line);
	} else if (is_result(line, "not ok")) {
		tap->not_ok++;
		remember(tap, line);
	} else if (is_result(line, "ok")) {
		tap->ok++;
		if (is_skipped(line)) {
			tap->skipped++;
			remember(tap, line);
		}
	} else if (!strncmp(line, "Bail out!", 9)) {
		tap->not_ok++;
		remember(tap, line);
	}
}

static void fail(struct result *result, const char *what, const char *detail)
{
	result->outcome = OUTCOME_FAIL;
	snprintf(result->reason, sizeof(result->reason), "%s%s", what, detail);
}

void tap_judge(const struct tap *tap, const struct test *test,
	       struct result *result)
{
	bool may_skip = test_has_tag(test, "skip-ok");

	if (result->outcome == OUTCOME_PASS && tap->not_ok)
		fail(result, "exit status 0, but ", tap->first_bad);
	else if (result->outcome == OUTCOME_PASS && !tap->has_plan &&
		 test_has_tag(test, "tap"))
		fail(result, "TAP without a plan", "");
	else if (result->outcome == OUTCOME_PASS && tap->has_plan &&
		 tap->planned != tap->ok + tap->not_ok)
		fail(result, "TAP plan and results differ in number", "");
	else if (result->outcome == OUTCOME_PASS && tap->skipped &&
		 tap->skipped >= tap->ok)
		result->outcome = OUTCOME_SKIP;
	else if (result->outcome == OUTCOME_PASS && tap->skipped && !may_skip)
		fail(result, "unexpected skip: ", tap->first_bad);
	if (result->outcome == OUTCOME_SKIP && !may_skip)
		fail(result, "unexpected skip", "");
}
