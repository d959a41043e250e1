// SPDX-License-Identifier: GPL-2.0-only
/* The options that several commands have: one table, one meaning. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "kvmstat.h"

#define MAX_OPTS 32

static const struct opt common_opts[] = {
	{ 'p', "pid", "PID", "of this process's VMs (needs a debugger's rights)" },
	{ 'f', "fd", "N", "of descriptor N, inherited from the caller" },
	{ 'I', "image", "FILE", "of a file that dump wrote" },
	{ 'g', "guest", "NAME", "of the VMs of this name only" },
	{ 'S', "socket", "PATH", "of VMs that register at this socket" },
	{ 'm', "mode", "OCTAL", "permissions of the socket (default: 0600)" },
	{ 'w', "wait", "SECONDS", "how long to wait for a first VM (default: 10)" },
	{ 'F', "fields", "REGEX", "statistics whose name matches, as grep -E" },
	{ 'i', "interval", "SECONDS", "time between samples (default: 1)" },
	{ 'n', "count", "N", "end after N samples that had a VM" },
	{ 'd', "duration", "SECONDS", "end after this time" },
	{ 'u', "until-gone", NULL, "end when the last VM has gone" },
	{ 'z', "skip-zero", NULL, "leave out what is 0" },
	{ 's', "sort", "ORDER", "by rate (default), total or name" },
	{ 'P', "include-past", NULL, "totals count from the VM's start" },
	{ 'C', "columns", "N", "show at most N vCPUs (default: 8)" },
	{ 'j', "json", NULL, "JSON for programs, errors included" },
	{ 0 }
};

static const struct opt *resolve_opt(const struct opt *opt)
{
	const struct opt *common = common_opts;

	if (opt->name)
		return opt;
	while (common->letter != opt->letter) {
		if (!common->letter)
			abort();
		common++;
	}
	return common;
}

static void print_opt(FILE *out, const struct opt *opt)
{
	char left[40];

	snprintf(left, sizeof(left), "--%s%s%s", opt->name,
		 opt->argument ? " " : "", opt->argument ? opt->argument : "");
	fprintf(out, "  %-22s %s\n", left, opt->help);
}

void print_command_usage(FILE *out, const struct command *command)
{
	fprintf(out, "usage: kvmstat %s%s\n\n%s\n", command->name,
		command->operands, command->summary);
	if (command->opts->letter)
		fputs("\noptions:\n", out);
	for (const struct opt *opt = command->opts; opt->letter; opt++)
		print_opt(out, resolve_opt(opt));
}

static void fill_options(const struct command *command,
			 struct option options[MAX_OPTS + 2])
{
	size_t count = 0;

	for (const struct opt *opt = command->opts; opt->letter; opt++) {
		const struct opt *o = resolve_opt(opt);

		if (count == MAX_OPTS)
			abort();
		options[count++] = (struct option){
			o->name, o->argument ? required_argument : no_argument,
			NULL, o->letter
		};
	}
	options[count] = (struct option){ "help", no_argument, NULL, 'h' };
}

/* NULL if there is none of that letter. */
static const char *name_of(const struct option *options, int letter)
{
	for (; options->name; options++)
		if (options->val == letter)
			return options->name;
	return NULL;
}

/* An abbreviation of more than one. */
static bool is_ambiguous(const struct option *options, const char *word)
{
	size_t length = strcspn(word += strspn(word, "-"), "=");
	int fits = 0;

	for (; options->name; options++)
		fits += length && !strncmp(options->name, word, length);
	return fits > 1;
}

/* As getopt_long: next letter, -1 at the end; exits for --help and mistakes. */
int next_opt(const struct command *command, int argc, char **argv)
{
	struct option options[MAX_OPTS + 2] = { { 0 } };
	int letter;

	fill_options(command, options);
	opterr = 0;
	letter = getopt_long(argc, argv, ":h", options, NULL);
	if (letter == 'h') {
		print_command_usage(stdout, command);
		exit(finish(STATUS_OK));
	}
	if (letter == ':')
		exit(usage_error(command, "--%s needs an argument",
				 name_of(options, optopt)));
	if (letter == '?' && name_of(options, optopt))
		exit(usage_error(command, "--%s takes no argument",
				 name_of(options, optopt)));
	if (letter == '?')
		exit(usage_error(command, "%s option \"%s\"",
				 is_ambiguous(options, argv[optind - 1]) ?
				 "ambiguous" : "unknown", argv[optind - 1]));
	return letter;
}

/* --json counts for the errors of what stands before it, too. */
static bool asks_json(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--json"))
			return true;
	return false;
}

void request_init(struct request *request, const struct command *command,
		  int argc, char **argv)
{
	memset(request, 0, sizeof(*request));
	request->command = command;
	request->socket_mode = 0600;
	request->interval_ms = 1000;
	request->wait_ms = 10000;
	request->columns = 8;
	if (asks_json(argc, argv))
		want_json();
}

static int bad_value(const struct request *request, int letter,
		     const char *wanted)
{
	const struct opt opt = COMMON(letter);

	return usage_error(request->command, "--%s %s: %s",
			   resolve_opt(&opt)->name, optarg, wanted);
}

static int take_seconds(const struct request *request, int letter,
			unsigned long *ms)
{
	if (parse_seconds(optarg, ms))
		return STATUS_OK;
	return bad_value(request, letter, "must be a number of seconds from 0.01 to 86400");
}

static int add_target(struct request *request, int letter)
{
	if (request->target_count == MAX_TARGETS)
		return bad_value(request, letter, "too many of these; 256 are the most");
	request->targets[request->target_count++] = (struct target){
		letter, optarg
	};
	return STATUS_OK;
}

static int take_mode(struct request *request)
{
	char *end;

	request->socket_mode = strtoul(optarg, &end, 8);
	if (end == optarg || *end || request->socket_mode > 0777)
		return bad_value(request, 'm', "must be an octal number from 0 to 0777");
	return STATUS_OK;
}

static int take_fields(struct request *request)
{
	char error[128];

	if (filter_set(&request->fields, optarg, error, sizeof(error)))
		return bad_value(request, 'F', error);
	return STATUS_OK;
}

static int take_sort(struct request *request)
{
	static const char *const names[] = {
		[SORT_RATE] = "rate", [SORT_TOTAL] = "total",
		[SORT_NAME] = "name",
	};

	for (int order = SORT_RATE; order <= SORT_NAME; order++) {
		if (!strcmp(optarg, names[order])) {
			request->sort = order;
			return STATUS_OK;
		}
	}
	return bad_value(request, 's', "must be rate, total or name");
}

static int take_count(struct request *request)
{
	if (parse_number(optarg, ULONG_MAX, &request->count) && request->count)
		return STATUS_OK;
	return bad_value(request, 'n', "must be a number, 1 or more");
}

static int take_columns(struct request *request)
{
	if (parse_number(optarg, ULONG_MAX, &request->columns))
		return STATUS_OK;
	return bad_value(request, 'C', "must be a number");
}

/* STATUS_OK, or a mistake that was printed. */
int request_opt(struct request *request, int letter)
{
	switch (letter) {
	case 'p':
	case 'f':
	case 'I':
		return add_target(request, letter);
	case 'm':
		return take_mode(request);
	case 'w':
		return take_seconds(request, letter, &request->wait_ms);
	case 'i':
		return take_seconds(request, letter, &request->interval_ms);
	case 'd':
		return take_seconds(request, letter, &request->duration_ms);
	case 'F':
		return take_fields(request);
	case 's':
		return take_sort(request);
	case 'n':
		return take_count(request);
	case 'C':
		return take_columns(request);
	case 'g':
		request->guest = optarg;
		return STATUS_OK;
	case 'S':
		request->socket = optarg;
		return STATUS_OK;
	case 'o':
		request->output = optarg;
		return STATUS_OK;
	case 'u':
		request->until_gone = true;
		return STATUS_OK;
	case 'z':
		request->skip_zero = true;
		return STATUS_OK;
	case 'P':
		request->include_past = true;
		return STATUS_OK;
	case 'e':
		request->exits = true;
		return STATUS_OK;
	case 'j':
		request->as_json = true;
		return STATUS_OK;
	default:
		abort();
	}
}

/* What is left over, and what does not go together. */
int request_end(const struct request *request, int argc, char **argv)
{
	if (optind < argc)
		return usage_error(request->command, "unexpected argument \"%s\"",
				   argv[optind]);
	if (request->output && !*request->output)
		return usage_error(request->command, "--output needs the name of a file");
	return STATUS_OK;
}

void request_free(struct request *request)
{
	filter_set(&request->fields, NULL, NULL, 0);
}

bool parse_number(const char *text, unsigned long max, unsigned long *number)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoul(text, &end, 10);
	return !errno && !*end && *number <= max;
}

bool parse_bytes(const char *text, uint64_t most, uint64_t *bytes)
{
	static const char letters[] = "kKMG";
	static const unsigned char shifts[] = { 10, 10, 20, 30 };
	const char *letter;
	unsigned int shift;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*bytes = strtoull(text, &end, 10);
	letter = *end ? strchr(letters, *end) : NULL;
	shift = letter ? shifts[letter - letters] : 0;
	if (errno || (*end && (!letter || end[1])) || *bytes > most >> shift)
		return false;
	*bytes <<= shift;
	return true;
}

bool parse_seconds(const char *text, unsigned long *ms)
{
	char *end;
	double seconds = strtod(text, &end);

	/* no exponents, no hexadecimal numbers, no names of numbers */
	if (end == text || *end || text[strspn(text, "0123456789.,")] ||
	    !(seconds >= 0.01 && seconds <= 86400))
		return false;
	*ms = seconds * 1000 + 0.5;
	return true;
}

/* A command has one filter from its start to its end. */
static bool any_passed;

static void filter_clear(struct filter *filter)
{
	if (filter->set)
		regfree(&filter->regex);
	filter->set = false;
	filter->text[0] = 0;
}

/* An empty or absent expression passes everything; a bad one changes nothing. */
int filter_set(struct filter *filter, const char *regex, char *error,
	       size_t error_bytes)
{
	struct filter new = { .set = true };
	int ret;

	if (!regex || !*regex) {
		filter_clear(filter);
		return 0;
	}
	if (strlen(regex) >= sizeof(new.text)) {
		snprintf(error, error_bytes, "too long");
		return -1;
	}
	ret = regcomp(&new.regex, regex, REG_EXTENDED | REG_NOSUB);
	if (ret) {
		regerror(ret, &new.regex, error, error_bytes);
		return -1;
	}
	strcpy(new.text, regex);
	filter_clear(filter);
	*filter = new;
	return 0;
}

bool filter_passes(const struct filter *filter,
		   const struct kvmstats_desc *desc)
{
	bool passes = !filter->set || !regexec(&filter->regex,
					       kvmstats_desc_name(desc), 0,
					       NULL, 0);

	any_passed = any_passed || passes;
	return passes;
}

bool filter_matched(const struct filter *filter)
{
	return !filter->set || any_passed;
}

int filter_fail(const struct filter *filter)
{
	return fail(STATUS_NOTHING, "no statistic matches --fields %s",
		    filter->text);
}
