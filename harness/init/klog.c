// SPDX-License-Identifier: GPL-2.0-only
/* After the tests: what the kernel's log, taint and leak detector say. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "init.h"

/* Our own modules in a distribution's kernel: out of tree (O), unsigned (E) */
#define TAINT_MODULES	0x3000UL
#define KMEMLEAK	"/sys/kernel/debug/kmemleak"
#define KCSAN_ALLOWED	"/etc/kvmstats/kcsan-allowed"
#define KCSAN_RACE	"BUG: KCSAN: data-race in "
#define RECORD_SIZE	8192
/* kmemleak reports nothing younger than five seconds */
#define LEAK_AGE_S	6
#define REPORTED_MAX	50

static const char * const bad_words[] = {
	"BUG:", "WARNING:", "Oops", "Kernel panic", "Call trace:",
	"Call Trace:", "general protection fault", "Unable to handle kernel",
	"unchecked MSR access", "possible recursive locking",
	"possible circular locking", "inconsistent lock state",
	"suspicious RCU usage", "suspicious rcu_dereference", "rcu_sched self",
	"rcu: INFO:", "soft lockup", "hard LOCKUP", "blocked for more than",
	"new suspected memory leaks", "refcount_t:", "ODEBUG:",
	"usercopy: Kernel memory", "corruption", "scheduling while atomic",
	"sleeping function called", "UBSAN:", "pagealloc:",
};

/* Lines "FUNCTION / FUNCTION<TAB>REASON" or "FUNCTION<TAB>REASON", of patterns */
static bool is_listed(const char *functions)
{
	FILE *file = fopen(KCSAN_ALLOWED, "re");
	bool listed = false;
	char line[512];

	if (!file)
		return false;
	while (!listed && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\t\n")] = '\0';
		listed = !fnmatch(line, functions, 0);
	}
	fclose(file);
	return listed;
}

/* A race with an unknown origin names its function with an offset. */
static bool is_judged_race(const char *text)
{
	const char *race = strstr(text, KCSAN_RACE);
	char functions[256];

	if (!race)
		return false;
	snprintf(functions, sizeof(functions), "%s", race + strlen(KCSAN_RACE));
	functions[strcspn(functions, "+\n")] = '\0';
	return is_listed(functions);
}

static bool is_bad(const char *text)
{
	size_t i;

	/* The CPU's fault: "WARNING: See https://.../hw-vuln/srso.html ..." */
	if (strstr(text, "/hw-vuln/") || is_judged_race(text))
		return false;
	for (i = 0; i < ARRAY_SIZE(bad_words); i++)
		if (strstr(text, bad_words[i]))
			return true;
	return false;
}

/*
 * vmalloc() says with a trace that an allocation has failed, and a test may have
 * it fail. The trace comes before anything else that this task has to say.
 */
static bool is_trace_of_failure(const char *text)
{
	static bool failed;

	if (strstr(text, "vmalloc: allocation failure")) {
		failed = true;
		return true;
	}
	if (!failed || !strcasestr(text, "Call trace:"))
		return false;
	failed = false;
	return true;
}

/* A record is "prio,seq,usec,flags;text\n" and continuation lines. */
static int check_record(char *record)
{
	static int reported;
	char *text = strchr(record, ';');

	if (!text)
		return 0;
	text++;
	text[strcspn(text, "\n")] = '\0';
	if (is_trace_of_failure(text) || !is_bad(text))
		return 0;
	if (reported++ < REPORTED_MAX)
		report_line("log %s", text);
	return 1;
}

static int check_kmsg(void)
{
	char record[RECORD_SIZE];
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int bad = 0;
	ssize_t len;

	if (fd < 0) {
		report_line("log /dev/kmsg: %s", strerror(errno));
		return 1;
	}
	for (;;) {
		len = read(fd, record, sizeof(record) - 1);
		if (len < 0 && errno == EAGAIN)
			break;
		if (len <= 0) {
			report_line("log /dev/kmsg: lost records: %s",
				    strerror(errno));
			bad++;
			break;
		}
		record[len] = '\0';
		bad += check_record(record);
	}
	close(fd);
	return bad;
}

static int check_taint(void)
{
	char text[32] = "";
	int fd = open("/proc/sys/kernel/tainted", O_RDONLY | O_CLOEXEC);
	ssize_t len = read(fd, text, sizeof(text) - 1);

	close(fd);
	if (len > 0 && !(strtoul(text, NULL, 10) & ~TAINT_MODULES))
		return 0;
	report_line("log kernel tainted: %s", strtok(text, "\n"));
	return 1;
}

static void kmemleak_scan(int fd)
{
	if (write(fd, "scan", 4) != 4)
		report_line("log kmemleak: scan: %s", strerror(errno));
}

/* Only debug kernels have the file; a leak must be seen by two scans. */
static int check_kmemleak(void)
{
	char text[RECORD_SIZE];
	int fd = open(KMEMLEAK, O_RDWR | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return 0;
	sleep(LEAK_AGE_S);
	kmemleak_scan(fd);
	sleep(1);
	kmemleak_scan(fd);
	lseek(fd, 0, SEEK_SET); /* the writes have moved the position */
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len <= 0)
		return 0;
	text[len] = '\0';
	report_output("kmemleak", text);
	report_line("log kmemleak: %s", strtok(text, "\n"));
	return 1;
}

int klog_check(void)
{
	int bad = check_kmemleak();

	return bad + check_kmsg() + check_taint();
}
