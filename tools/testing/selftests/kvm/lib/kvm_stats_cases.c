// SPDX-License-Identifier: GPL-2.0-only
/*
 * Run a table of test cases, each in a process of its own, and report in TAP.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "kvm_stats_util.h"

#define KVM_DEV_PATH	"/dev/kvm"

/*
 * Not KSFT_SKIP: that is what the library's assertions exit with when errno
 * happens to be EACCES, and such a case has failed.
 */
#define CASE_SKIPPED	40

/* What the case's process tells the one that reports; shared memory. */
struct case_report {
	char reason[512];
	char doing[128];
};

static struct case_report *report;

static void set_reason(const char *fmt, va_list args)
{
	char *newline;

	vsnprintf(report->reason, sizeof(report->reason), fmt, args);
	/* One result is one line. */
	while ((newline = strchr(report->reason, '\n')))
		*newline = ' ';
}

static void __printf(1, 2) report_reason(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	set_reason(fmt, args);
	va_end(args);
}

void stats_fail(const char *file, int line, const char *fmt, ...)
{
	const char *base = strrchr(file, '/');
	char text[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	report_reason("%s:%d: %s", base ? base + 1 : file, line, text);
	fflush(stdout);
	_exit(KSFT_FAIL);
}

void stats_skip(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	set_reason(fmt, args);
	va_end(args);
	fflush(stdout);
	_exit(CASE_SKIPPED);
}

void stats_doing(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(report->doing, sizeof(report->doing), fmt, args);
	va_end(args);
}

pid_t stats_fork(void)
{
	pid_t parent = getpid();
	pid_t pid;

	/* Else the child would print what the parent has not written yet. */
	fflush(stdout);
	pid = fork();
	STATS_CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(KSFT_FAIL);
	}
	return pid;
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

void stats_join(pid_t pid)
{
	int status = wait_for(pid);

	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return;
	if (!WIFEXITED(status) || !report->reason[0])
		report_reason("child %d ended with status %#x", pid, status);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : KSFT_FAIL);
}

static unsigned int case_timeout(const struct stats_case *c)
{
	return c->timeout_s ?: STATS_TIMEOUT_S;
}

static int run_in_child(const struct stats_case *c, enum stats_scope scope)
{
	pid_t pid;

	report->reason[0] = '\0';
	stats_doing("the case");
	pid = stats_fork();
	if (!pid) {
		/* Nothing catches it: also a blocked ioctl() ends with it. */
		alarm(case_timeout(c));
		c->run(scope);
		fflush(stdout);
		_exit(KSFT_PASS);
	}
	return wait_for(pid);
}

static void explain(const struct stats_case *c, int status)
{
	if (report->reason[0])
		return;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		report_reason("%s took longer than %u s", report->doing,
			      case_timeout(c));
	else if (WIFSIGNALED(status))
		report_reason("killed by signal %d", WTERMSIG(status));
	else if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_SKIP)
		report_reason("the library was denied access, see above");
	else
		report_reason("ended with wait status %#x, see above", status);
}

static void run_case(const struct stats_case *c, enum stats_scope scope,
		     const char *name)
{
	int status = run_in_child(c, scope);

	if (WIFEXITED(status) && !WEXITSTATUS(status)) {
		ksft_test_result_pass("%s\n", name);
		return;
	}
	explain(c, status);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CASE_SKIPPED)
		ksft_test_result_skip("%s: %s\n", name, report->reason);
	else
		ksft_test_result_fail("%s # %s\n", name, report->reason);
}

static const char *case_name(const struct stats_case *c,
			     enum stats_scope scope)
{
	static char name[80];

	snprintf(name, sizeof(name), "%s%s", c->name,
		 scope == STATS_VM ? ".vm" : scope == STATS_VCPU ? ".vcpu" : "");
	return name;
}

/* "!tables" is every case that is not named like "tables". */
static bool name_matches(const char *name, const char *pattern)
{
	if (!pattern)
		return true;
	if (*pattern == '!')
		return !strstr(name, pattern + 1);
	return strstr(name, pattern);
}

/* Run the results of one case that match, or only count them. */
static unsigned int for_scopes(const struct stats_case *c, const char *pattern,
			       bool run)
{
	unsigned int scope, nr = 0;
	const char *name;

	for (scope = STATS_NO_SCOPE; scope <= STATS_VCPU; scope++) {
		if (scope ? !(c->scopes & scope) : c->scopes)
			continue;
		name = case_name(c, scope);
		if (!name_matches(name, pattern))
			continue;
		nr++;
		if (run)
			run_case(c, scope, name);
	}
	return nr;
}

/*
 * Only a kernel without KVM or without the interface is a reason to skip;
 * a device that may not be opened is a fault of whoever runs the test.
 */
static void require_interface(void)
{
	int fd = open(KVM_DEV_PATH, O_RDWR);

	if (fd < 0 && (errno == ENOENT || errno == ENODEV))
		ksft_exit_skip("%s: %s\n", KVM_DEV_PATH, strerror(errno));
	if (fd < 0)
		ksft_exit_fail_msg("%s: %s\n", KVM_DEV_PATH, strerror(errno));
	if (ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_BINARY_STATS_FD) <= 0)
		ksft_exit_skip("this kernel lacks KVM_CAP_BINARY_STATS_FD\n");
	close(fd);
}

int stats_run_cases(const struct stats_case *cases, size_t nr,
		    const char *pattern)
{
	unsigned int planned = 0;
	size_t i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	require_interface();
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (report == MAP_FAILED)
		ksft_exit_fail_msg("mmap: %s\n", strerror(errno));

	for (i = 0; i < nr; i++)
		planned += for_scopes(&cases[i], pattern, false);
	if (!planned)
		ksft_exit_fail_msg("no case is named like '%s'\n", pattern);
	ksft_set_plan(planned);
	for (i = 0; i < nr; i++)
		for_scopes(&cases[i], pattern, true);
	ksft_print_cnts();
	return ksft_get_fail_cnt() ? KSFT_FAIL : KSFT_PASS;
}
