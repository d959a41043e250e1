/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PID 1 of the machines that the tests boot: mount, run the list, check the
 * kernel's log, say the verdict on a channel that no test can reach, reset.
 */
#ifndef KVMSTATS_INIT_H
#define KVMSTATS_INIT_H

#include <stdbool.h>
#include <stddef.h>

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))
#define __printf(text, first)	__attribute__((__format__(__printf__, text, first)))

#define LIST_PATH	"/etc/kvmstats/tests"
#define LINE_SIZE	65536	/* longer lines of output are cut in two */
#define EXIT_SKIP	4	/* kselftest's exit status for "skipped" */
#define HOST_TOP		"/mnt/top"	/* host root: the repository, as TOP */

/* What the host said on the kernel command line (kvmstats.<name>=<value>) */
struct params {
	char nonce[64];
	char verdict_path[64];
	char output_path[64];
	bool host_root;
	bool power_off;
};

enum outcome { OUTCOME_PASS, OUTCOME_FAIL, OUTCOME_SKIP, OUTCOME_TIMEOUT };

/* One line of the list; the strings point into the list's buffer */
struct test {
	const char *name;
	unsigned int timeout_s;
	const char *tags;
	const char *command;
};

struct result {
	enum outcome outcome;
	unsigned long duration_ms;
	char reason[160];
};

/* What a test's output claims, if it speaks TAP */
struct tap {
	bool has_plan;
	unsigned int planned, ok, not_ok, skipped;
	char first_bad[96];
};

/* params.c */
void params_read(struct params *params);

/* mounts.c */
int mounts_basic(void);
int mounts_host_root(void);

/* list.c */
int list_load(const char *path);
bool list_next(struct test *test);
bool test_has_tag(const struct test *test, const char *tag);

/* run.c */
void run_test(const struct test *test, struct result *result);

/* tasks.c */
void report_tasks(const char *name);

/* tap.c */
void tap_line(struct tap *tap, const char *line);
void tap_judge(const struct tap *tap, const struct test *test,
	       struct result *result);

/* klog.c */
int klog_check(void);

/* report.c: the two channels to the host; init is their only opener */
int report_open(const struct params *params);
__printf(1, 2) void report_line(const char *format, ...);
void report_output(const char *name, const char *line);
void report_drain(void);

#endif
