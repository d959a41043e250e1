// SPDX-License-Identifier: GPL-2.0-only
/* "3*write:rate=2000,set=4096,pattern=random": what a vCPU does. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

#define DEFAULT_SET_PAGES	1024
#define MAX_RATE		1000000
#define MAX_MEET_MS		10000

static const char *const works[WORKS] = {
	[WORK_WRITE]	= "write",
	[WORK_READ]	= "read",
	[WORK_COMPUTE]	= "compute",
};

static const char *const patterns[PATTERNS] = {
	[PATTERN_SEQ]		= "seq",
	[PATTERN_RANDOM]	= "random",
	[PATTERN_SKEWED]	= "skewed",
};

const char *work_name(enum work work)
{
	return works[work];
}

int parse_whole(const char *text, uint64_t most, uint64_t *number)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return errno || *end || *number > most ? -EINVAL : 0;
}

static int find(const char *const *names, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(names[i], name))
			return i;
	return -EINVAL;
}

static int take_rate(struct workload *workload, const char *value)
{
	uint64_t rate;

	if (!strcmp(value, "max")) {
		workload->rate = 0;
		return 0;
	}
	if (parse_whole(value, MAX_RATE, &rate) || !rate)
		return -EINVAL;
	workload->rate = rate;
	return 0;
}

static int take_set(struct workload *workload, const char *value)
{
	const uint64_t most = MAX_MEMORY_MIB * (1048576u / PAGE_BYTES);
	uint64_t pages;

	if (parse_whole(value, most, &pages) || !pages)
		return -EINVAL;
	workload->set_pages = pages;
	return 0;
}

static int take_meet(struct workload *workload, const char *value)
{
	uint64_t ms;

	if (parse_whole(value, MAX_MEET_MS, &ms) || !ms)
		return -EINVAL;
	workload->meet_ms = ms;
	return 0;
}

static int take_pattern(struct workload *workload, const char *value)
{
	int pattern = find(patterns, PATTERNS, value);

	if (pattern < 0)
		return pattern;
	workload->pattern = pattern;
	return 0;
}

/* "key=value"; computing has no pages. */
static int take_setting(struct workload *workload, char *setting)
{
	char *value = strchr(setting, '=');

	if (!value)
		return -EINVAL;
	*value++ = '\0';
	if (!strcmp(setting, "rate"))
		return take_rate(workload, value);
	if (!strcmp(setting, "meet"))
		return take_meet(workload, value);
	if (workload->work == WORK_COMPUTE)
		return -EINVAL;
	if (!strcmp(setting, "set"))
		return take_set(workload, value);
	if (!strcmp(setting, "pattern"))
		return take_pattern(workload, value);
	return -EINVAL;
}

static int parse_settings(struct workload *workload, char *settings)
{
	char *setting;

	while ((setting = strsep(&settings, ",")))
		if (take_setting(workload, setting))
			return -EINVAL;
	return 0;
}

static int parse_one(struct workload *workload, const char *text)
{
	char copy[TEXT_BYTES], *settings = copy;
	int work;

	if (strlen(text) >= sizeof(copy))
		return -EINVAL;
	strcpy(copy, text);
	work = find(works, WORKS, strsep(&settings, ":"));
	if (work < 0)
		return work;
	*workload = (struct workload){
		.work = work,
		.set_pages = work == WORK_COMPUTE ? 0 : DEFAULT_SET_PAGES,
	};
	strcpy(workload->text, text);
	if (settings && parse_settings(workload, settings))
		return -EINVAL;
	/* It is at the timer's ticks that they meet. */
	return workload->meet_ms && !workload->rate ? -EINVAL : 0;
}

/* "3*" in front; 1 without it, 0 if it is no number of vCPUs. */
static unsigned int parse_times(const char **text)
{
	const char *star = strchr(*text, '*');
	char digits[8] = "";
	uint64_t times;

	if (!star)
		return 1;
	if ((size_t)(star - *text) >= sizeof(digits))
		return 0;
	memcpy(digits, *text, star - *text);
	*text = star + 1;
	return parse_whole(digits, MAX_VCPUS, &times) ? 0 : times;
}

int workload_parse(struct options *options, const char *text,
		   char *error, size_t error_bytes)
{
	const char *rest = text;
	unsigned int times = parse_times(&rest);
	struct workload workload;

	if (!times || parse_one(&workload, rest)) {
		snprintf(error, error_bytes,
			 "--vcpu %s: must be [N*]WORK[:KEY=VALUE,...], meet= only with rate=",
			 text);
		return -EINVAL;
	}
	if (options->vcpu_count + times > MAX_VCPUS) {
		snprintf(error, error_bytes, "--vcpu %s: more than %u vCPUs",
			 text, MAX_VCPUS);
		return -EINVAL;
	}
	while (times--)
		options->vcpus[options->vcpu_count++] = workload;
	return 0;
}
