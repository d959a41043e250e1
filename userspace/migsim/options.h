/* SPDX-License-Identifier: GPL-2.0-only */
/* What the command line asks for. */
#ifndef MIGSIM_OPTIONS_H
#define MIGSIM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES	4096u
#define MAX_VCPUS	64
#define MAX_MEMORY_MIB	2048
#define TEXT_BYTES	96
#define NO_PAGE		UINT64_MAX

/* Exit statuses, in the order of their weight. */
enum exit_status {
	EXIT_CONVERGED		= 0,	/* and the memories are equal */
	EXIT_FAILED		= 1,	/* memories differ, or something broke */
	EXIT_USAGE		= 2,
	EXIT_NOT_CONVERGED	= 3,	/* memories are equal, downtime is not kept */
	EXIT_UNAVAILABLE	= 4,	/* this kernel or machine cannot do it */
};

enum work {
	WORK_WRITE,
	WORK_READ,
	WORK_COMPUTE,
	WORKS,
};

enum pattern {
	PATTERN_SEQ,
	PATTERN_RANDOM,
	PATTERN_SKEWED,		/* 7 of 8 accesses go to 1/8 of the pages */
	PATTERNS,
};

/* What one vCPU does: units are pages, or steps of computing. */
struct workload {
	enum work work;
	enum pattern pattern;
	uint32_t rate;		/* units a second, 0 = as fast as it can */
	uint32_t set_pages;
	uint32_t meet_ms;	/* from one meeting with others to the next, or 0 */
	char text[TEXT_BYTES];	/* as it was given */
};

struct options {
	struct workload vcpus[MAX_VCPUS];
	unsigned int vcpu_count;
	const struct policy *policy;
	uint64_t memory_pages;
	uint64_t bandwidth;	/* bytes a second */
	unsigned int downtime_ms;
	unsigned int interval_ms;
	unsigned int quota_percent;
	bool from_start;	/* the quota holds before it is needed */
	unsigned int clear_pages; /* of the log at once; 0: all, when it is read */
	unsigned int warmup_ms, baseline_ms;
	unsigned int sample_ms;
	unsigned int max_rounds;
	unsigned int max_seconds;
	uint64_t lose_page;
	const char *csv, *json, *samples;
	const char *label;
	bool quiet;
};

/*
 * 0, 1 if help was asked for, or -EINVAL with what is wrong in @error: it
 * names the option and its argument.
 */
int options_parse(struct options *options, int argc, char **argv,
		  char *error, size_t error_bytes);
/* One --vcpu; "3*write:rate=..." makes three. 0 or -EINVAL, as above. */
int workload_parse(struct options *options, const char *text,
		   char *error, size_t error_bytes);
/* A whole number of at most @most, nothing behind it. 0 or -EINVAL. */
int parse_whole(const char *text, uint64_t most, uint64_t *number);
const char *options_help(void);
const char *work_name(enum work work);

#endif /* MIGSIM_OPTIONS_H */
