// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "sim.h"

#define MIB_PAGES	(1048576 / PAGE_BYTES)

enum {
	O_VCPU = 1, O_POLICY, O_MEMORY, O_BANDWIDTH, O_DOWNTIME, O_INTERVAL,
	O_PERCENT, O_FROM_START, O_CLEAR, O_WARMUP,
	O_BASELINE, O_SAMPLE, O_ROUNDS, O_SECONDS, O_LOSE,
	O_CSV, O_JSON, O_SAMPLES, O_LABEL, O_QUIET, O_HELP,
};

static const struct option long_options[] = {
	{ "vcpu", required_argument, NULL, O_VCPU },
	{ "policy", required_argument, NULL, O_POLICY },
	{ "memory-mib", required_argument, NULL, O_MEMORY },
	{ "bandwidth", required_argument, NULL, O_BANDWIDTH },
	{ "downtime-ms", required_argument, NULL, O_DOWNTIME },
	{ "interval-ms", required_argument, NULL, O_INTERVAL },
	{ "quota-percent", required_argument, NULL, O_PERCENT },
	{ "from-start", no_argument, NULL, O_FROM_START },
	{ "clear-pages", required_argument, NULL, O_CLEAR },
	{ "warmup-ms", required_argument, NULL, O_WARMUP },
	{ "baseline-ms", required_argument, NULL, O_BASELINE },
	{ "sample-ms", required_argument, NULL, O_SAMPLE },
	{ "max-rounds", required_argument, NULL, O_ROUNDS },
	{ "max-seconds", required_argument, NULL, O_SECONDS },
	{ "lose-page", required_argument, NULL, O_LOSE },
	{ "csv", required_argument, NULL, O_CSV },
	{ "json", required_argument, NULL, O_JSON },
	{ "samples", required_argument, NULL, O_SAMPLES },
	{ "label", required_argument, NULL, O_LABEL },
	{ "quiet", no_argument, NULL, O_QUIET },
	{ "help", no_argument, NULL, O_HELP },
	{ 0 }
};

static const char help[] =
"usage: migsim [OPTIONS]\n"
"Migrate a guest of its own to another process over a link of limited speed.\n"
"\n"
"the guest\n"
"  --vcpu [N*]WORK[:KEY=VALUE,...]   N vCPUs; may be given several times\n"
"      WORK  write, read: pages; compute: nothing but arithmetic\n"
"      rate=UNITS a second (pages, or steps of 1000 additions) or max\n"
"      set=PAGES  of its own that it goes through (default 1024)\n"
"      pattern=seq, random or skewed (7 of 8 accesses in 1/8 of the set)\n"
"      meet=MS  all that have it wait for each other so often, at a tick of\n"
"          their timers; needs rate=\n"
"      (default: one write:rate=2000,set=1024 and one compute:rate=1000)\n"
"  --memory-mib MIB       memory that is migrated (default 16)\n"
"the migration\n"
"  --policy NAME          one of those below (default none)\n"
"  --bandwidth BYTES[K|M] of the link, a second (default 8M)\n"
"  --downtime-ms MS       the rest must fit into this time (default 300)\n"
"  --max-rounds N         stop after so many in any case (default 50)\n"
"  --max-seconds S        stop after this time in any case (default 300)\n"
"  --interval-ms MS       of dirty-quota (default 200)\n"
"  --quota-percent PCT    of the bandwidth that may be dirtied (default 30)\n"
"  --from-start           dirty-quota holds at once, and not only when\n"
"                         auto-converge would step in\n"
"  --clear-pages PAGES    the dirty log is cleared for so many at once, just\n"
"                         before they are sent: a multiple of 64 (default), or\n"
"                         0: of all when it is read, at the end of a round\n"
"measuring\n"
"  --warmup-ms MS         before anything is measured (default 500)\n"
"  --baseline-ms MS       to see the guest's speed before (default 1000)\n"
"  --sample-ms MS         between two samples (default 100)\n"
"  --csv FILE, --json FILE   the result, one line a vCPU or round and run\n"
"  --samples FILE         CSV of pages to send and progress over time\n"
"  --label TEXT           name of the run in these files (default migsim)\n"
"                         FILE is appended to; - is standard output\n"
"  --quiet                no table\n"
"  --lose-page PAGE       never send this page: the comparison must see it\n"
"\n"
"exit status: 0 converged, 3 not converged (copied all the same), in both the\n"
"memories were compared and are equal; 1 they differ, or something broke;\n"
"2 usage; 4 this machine or kernel cannot do it\n";

const char *options_help(void)
{
	return help;
}

static int number_between(const char *text, uint64_t least, uint64_t most,
			  unsigned int *number)
{
	uint64_t value;

	if (parse_whole(text, most, &value) || value < least)
		return -EINVAL;
	*number = value;
	return 0;
}

/* "2560K": powers of 1024. */
static int parse_bandwidth(const char *text, uint64_t *bandwidth)
{
	char digits[16];
	size_t length = strlen(text);
	uint64_t unit = 1;

	if (!length || length >= sizeof(digits))
		return -EINVAL;
	strcpy(digits, text);
	if (digits[length - 1] == 'K')
		unit = 1024;
	else if (digits[length - 1] == 'M')
		unit = 1048576;
	if (unit > 1)
		digits[length - 1] = '\0';
	if (parse_whole(digits, 1 << 30, bandwidth))
		return -EINVAL;
	*bandwidth *= unit;
	return *bandwidth < PAGE_BYTES || *bandwidth > 1ull << 40 ? -EINVAL : 0;
}

static int parse_memory(const char *text, uint64_t *pages)
{
	unsigned int mib;

	if (number_between(text, 1, MAX_MEMORY_MIB, &mib))
		return -EINVAL;
	*pages = (uint64_t)mib * MIB_PAGES;
	return 0;
}

/* Labels go into CSV and file names as they are. */
static int take_label(struct options *options, const char *text)
{
	if (!*text || strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-_") !=
		      strlen(text))
		return -EINVAL;
	options->label = text;
	return 0;
}

static int take_policy(struct options *options, const char *text)
{
	options->policy = policy_find(text);
	return options->policy ? 0 : -EINVAL;
}

/* What is a number and nothing else. */
static const struct number {
	int letter;
	unsigned int least, most;
	size_t offset;
} numbers[] = {
	{ O_DOWNTIME, 1, 60000, offsetof(struct options, downtime_ms) },
	{ O_INTERVAL, 1, 1000, offsetof(struct options, interval_ms) },
	{ O_PERCENT, 1, 100, offsetof(struct options, quota_percent) },
	{ O_CLEAR, 0, 1 << 18, offsetof(struct options, clear_pages) },
	{ O_WARMUP, 0, 60000, offsetof(struct options, warmup_ms) },
	{ O_BASELINE, 10, 60000, offsetof(struct options, baseline_ms) },
	{ O_SAMPLE, 10, 60000, offsetof(struct options, sample_ms) },
	{ O_ROUNDS, 1, 10000, offsetof(struct options, max_rounds) },
	{ O_SECONDS, 1, 86400, offsetof(struct options, max_seconds) },
};

static const struct number *find_number(int letter)
{
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		if (numbers[i].letter == letter)
			return &numbers[i];
	return NULL;
}

static int take_number(struct options *options, int letter, const char *text)
{
	const struct number *number = find_number(letter);
	unsigned int value;

	if (!number || number_between(text, number->least, number->most, &value) ||
	    (letter == O_CLEAR && value % 64))
		return -EINVAL;
	memcpy((char *)options + number->offset, &value, sizeof(value));
	return 0;
}

/* Of the option, what it takes. */
static const char *allowed(int letter, char *text, size_t bytes)
{
	const struct number *number = find_number(letter);

	if (number)
		snprintf(text, bytes, "a whole number from %u to %u%s",
			 number->least, number->most,
			 letter == O_CLEAR ? ", a multiple of 64" : "");
	else if (letter == O_MEMORY)
		snprintf(text, bytes, "a whole number from 1 to %u",
			 MAX_MEMORY_MIB);
	else if (letter == O_BANDWIDTH)
		snprintf(text, bytes,
			 "bytes, also with K or M, from %u to 1048576M", PAGE_BYTES);
	else if (letter == O_POLICY)
		snprintf(text, bytes, "one of those that --help lists");
	else if (letter == O_LABEL)
		snprintf(text, bytes, "of a-z, 0-9, - and _");
	else
		snprintf(text, bytes, "a whole number");
	return text;
}

static int take_option(struct options *options, int letter, const char *text)
{
	switch (letter) {
	case O_POLICY:
		return take_policy(options, text);
	case O_MEMORY:
		return parse_memory(text, &options->memory_pages);
	case O_BANDWIDTH:
		return parse_bandwidth(text, &options->bandwidth);
	case O_LOSE:
		return parse_whole(text, UINT32_MAX, &options->lose_page);
	case O_LABEL:
		return take_label(options, text);
	case O_CSV:
		options->csv = text;
		return 0;
	case O_JSON:
		options->json = text;
		return 0;
	case O_SAMPLES:
		options->samples = text;
		return 0;
	case O_QUIET:
		options->quiet = true;
		return 0;
	case O_FROM_START:
		options->from_start = true;
		return 0;
	default:
		return take_number(options, letter, text);
	}
}

static int parse_all(struct options *options, int argc, char **argv,
		     char *error, size_t error_bytes)
{
	int letter, index = 0;
	char text[TEXT_BYTES];

	optind = 0;
	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":", long_options, &index)) !=
	       -1) {
		if (letter == O_HELP)
			return 1;
		if (letter == '?' || letter == ':') {
			snprintf(error, error_bytes, "%s: %s", argv[optind - 1],
				 letter == ':' ? "needs an argument" :
						 "no such option");
			return -EINVAL;
		}
		if (letter == O_VCPU) {
			if (workload_parse(options, optarg, error, error_bytes))
				return -EINVAL;
		} else if (take_option(options, letter, optarg)) {
			snprintf(error, error_bytes, "--%s %s: must be %s",
				 long_options[index].name, optarg,
				 allowed(letter, text, sizeof(text)));
			return -EINVAL;
		}
	}
	if (optind == argc)
		return 0;
	snprintf(error, error_bytes, "%s: not an option", argv[optind]);
	return -EINVAL;
}

static int check_all(const struct options *options, char *error,
		     size_t error_bytes)
{
	uint64_t pages = 0;

	for (unsigned int i = 0; i < options->vcpu_count; i++)
		pages += options->vcpus[i].set_pages;
	if (pages > options->memory_pages) {
		snprintf(error, error_bytes,
			 "--vcpu: sets of %ju pages, --memory-mib: %ju",
			 (uintmax_t)pages, (uintmax_t)options->memory_pages);
		return -EINVAL;
	}
	if (options->lose_page != NO_PAGE &&
	    options->lose_page >= options->memory_pages) {
		snprintf(error, error_bytes, "--lose-page %ju: there are %ju pages",
			 (uintmax_t)options->lose_page,
			 (uintmax_t)options->memory_pages);
		return -EINVAL;
	}
	return 0;
}

int options_parse(struct options *options, int argc, char **argv,
		  char *error, size_t error_bytes)
{
	int ret;

	*options = (struct options){
		.policy = &policy_none, .memory_pages = 16 * MIB_PAGES,
		.bandwidth = 8 << 20, .downtime_ms = 300, .interval_ms = 200,
		.quota_percent = 30, .clear_pages = 64, .warmup_ms = 500, .baseline_ms = 1000,
		.sample_ms = 100, .max_rounds = 50, .max_seconds = 300,
		.lose_page = NO_PAGE, .label = "migsim",
	};
	ret = parse_all(options, argc, argv, error, error_bytes);
	if (ret)
		return ret;
	if (!options->vcpu_count) {
		workload_parse(options, "write:rate=2000,set=1024", error,
			       error_bytes);
		workload_parse(options, "compute:rate=1000", error, error_bytes);
	}
	return check_all(options, error, error_bytes);
}
