/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTAT_H
#define KVMSTAT_H

#include <getopt.h>
#include <kvmstats.h>
#include <regex.h>
#include <stdbool.h>
#include <stdio.h>

#include "../common/json.h"

#define __printf(format, first) \
	__attribute__((__format__(__printf__, format, first)))

/* Documented in kvmstat help; scripts rely on them. */
enum status {
	STATUS_OK	= 0,
	STATUS_FAILED	= 1,
	STATUS_USAGE	= 2,
	STATUS_NOTHING	= 3,	/* no VM, descriptor or statistic like that */
	STATUS_DENIED	= 4,
	STATUS_UNMOVED	= 5,	/* an --expect was not met */
};

/*
 * One line of usage and one option of getopt_long. COMMON(letter) stands for
 * the one of that letter in the table of options.c, which all commands share.
 */
struct opt {
	int letter;
	const char *name;	/* NULL: a common one */
	const char *argument;	/* NULL: takes none */
	const char *help;
};

#define COMMON(the_letter) { .letter = (the_letter) }

struct command {
	const char *name;
	const char *operands;
	const char *summary;
	const struct opt *opts;		/* ends with letter 0 */
	int (*run)(const struct command *command, int argc, char **argv);
};

extern const struct command cmd_list, cmd_schema, cmd_show, cmd_dump,
			    cmd_listen, cmd_top, cmd_record, cmd_run,
			    cmd_cpu_stats;

/* text.c: printed, as JSON as well if that is wanted; the status */
int usage_error(const struct command *command, const char *format, ...)
	__printf(2, 3);
int fail(enum status status, const char *format, ...)
	__printf(2, 3);
/* A line on standard error that is no failure. */
void say(const char *format, ...)
	__printf(1, 2);
enum status status_of(int error);
void want_json(void);
/* What could not be written is a failure, whatever came before. */
int finish(int status);

/* options.c: what the common options say */
#define MAX_TARGETS 256

enum sort_order { SORT_RATE, SORT_TOTAL, SORT_NAME };

struct filter {
	regex_t regex;
	bool set;
	char text[128];
};

struct target {
	int letter;		/* of pid, fd or image */
	const char *argument;
};

struct request {
	const struct command *command;
	struct target targets[MAX_TARGETS];	/* in the order of the command line */
	size_t target_count;
	const char *guest;		/* NULL: any */
	const char *socket;		/* NULL: do not listen */
	unsigned long socket_mode;
	unsigned long wait_ms;		/* for a first VM on the socket */
	struct filter fields;
	unsigned long interval_ms;
	unsigned long count;		/* 0: no end */
	unsigned long columns;		/* vCPUs that have one in a table */
	unsigned long duration_ms;	/* 0: no end */
	enum sort_order sort;
	const char *output;
	bool as_json, skip_zero, until_gone, include_past, exits;
	bool without_statistics;	/* a VM that has none will do */
	bool hangup_reopens;		/* else SIGHUP ends the command */
};

void print_command_usage(FILE *out, const struct command *command);
int next_opt(const struct command *command, int argc, char **argv);
bool parse_number(const char *text, unsigned long max, unsigned long *number);
/* Also with k, K, M or G behind: powers of 1024 */
bool parse_bytes(const char *text, uint64_t most, uint64_t *bytes);
bool parse_seconds(const char *text, unsigned long *ms);
void request_init(struct request *request, const struct command *command,
		  int argc, char **argv);
int request_opt(struct request *request, int letter);
int request_end(const struct request *request, int argc, char **argv);
void request_free(struct request *request);

/* 0, or the text of the error in @error. */
int filter_set(struct filter *filter, const char *regex, char *error,
	       size_t error_bytes);
bool filter_passes(const struct filter *filter,
		   const struct kvmstats_desc *desc);
/* Has anything passed so far? Without an expression, that does not matter. */
bool filter_matched(const struct filter *filter);
/* Nothing has: a message, and the status. */
int filter_fail(const struct filter *filter);

/* format_json.c: members of an object that is open */
void json_desc(struct json *json, const struct kvmstats_desc *desc);
void json_elements(struct json *json, const char *key,
		   const struct kvmstats_desc *desc, const uint64_t *sample);
void json_quantiles(struct json *json, const struct kvmstats_desc *desc,
		    const uint64_t *sample);
void json_scope(struct json *json, const struct kvmstats_source *source);

/* Numbers for people; what stands behind a noun */
static inline const char *plural(size_t count)
{
	return count == 1 ? "" : "s";
}

#define SI_TEXT_SIZE 24
const char *si_text(char text[SI_TEXT_SIZE], double value, const char *unit);
const char *type_text(char text[SI_TEXT_SIZE], unsigned int type);
const char *unit_text(char text[SI_TEXT_SIZE], unsigned int unit);
bool is_counter(const struct kvmstats_desc *desc);
bool is_event(const struct kvmstats_desc *desc);
bool all_zero(const struct kvmstats_desc *desc, const uint64_t *values);
const char *unit_letter(const struct kvmstats_desc *desc);
/* "vm", "vcpu0", "block:drive0" */
#define LABEL_TEXT_SIZE (KVMSTATS_MAX_CLASS + KVMSTATS_MAX_DEVICE + 2)
void source_label(char text[LABEL_TEXT_SIZE],
		  const struct kvmstats_source *source);
/* "vm", "vcpu", "sum", "device" */
const char *scope_text(const struct kvmstats_source *source);

#endif /* KVMSTAT_H */
