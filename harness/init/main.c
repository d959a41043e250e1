// SPDX-License-Identifier: GPL-2.0-only
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "init.h"

static const char * const outcome_names[] = {
	[OUTCOME_PASS] = "pass",
	[OUTCOME_FAIL] = "fail",
	[OUTCOME_SKIP] = "skip",
	[OUTCOME_TIMEOUT] = "timeout",
};

/*
 * A reset, not a power-off: QEMU runs with -no-reboot and ends on it, on every
 * machine and without ACPI. Bochs would boot again, it ends on a power-off.
 */
static void halt(const struct params *params)
{
	report_drain();
	sync();
	reboot(params->power_off ? RB_POWER_OFF : RB_AUTOBOOT);
	for (;;)
		pause();
}

static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0)
		return;
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

static void set_environment(const struct params *params)
{
	setenv("PATH", params->host_root ?
	       "/usr/sbin:/usr/bin:/sbin:/bin:/mnt/bin" : "/bin", 1);
	setenv("HOME", "/tmp", 1);
	setenv("TERM", "dumb", 1);
	setenv("LC_ALL", "C", 1);
	setenv("TOP", HOST_TOP, 1);
}

static bool run_one(const struct test *test)
{
	struct result result;

	printf("init: test %s\n", test->name);
	run_test(test, &result);
	report_line("test %s %s %lu %s", test->name,
		    outcome_names[result.outcome], result.duration_ms,
		    result.reason);
	return result.outcome == OUTCOME_PASS || result.outcome == OUTCOME_SKIP;
}

static bool run_list(void)
{
	struct test test;
	bool good = true;
	unsigned int ran = 0;

	while (list_next(&test)) {
		good &= run_one(&test);
		ran++;
	}
	report_line("ran %u", ran);
	return good && ran;
}

/* The verdict is the last thing said, after every check. */
int main(void)
{
	struct params params = {};
	bool good;

	if (getpid() != 1)
		return 1;
	if (mounts_basic())
		halt(&params);
	open_console();
	params_read(&params);
	if (report_open(&params) || list_load(LIST_PATH))
		halt(&params);
	if (params.host_root && mounts_host_root())
		halt(&params);
	set_environment(&params);
	report_line("begin");
	good = run_list();
	if (klog_check())
		good = false;
	report_line("verdict %s", good ? "pass" : "fail");
	halt(&params);
}
