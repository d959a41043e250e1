// SPDX-License-Identifier: GPL-2.0-only
/* Words for people: messages of mistakes and failures, numbers, names. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

static bool json_wanted;
static int json_lost;	/* -errno of an error's object */

void want_json(void)
{
	json_wanted = true;
}

/* With --json, errors are JSON as well, on standard output. */
static void json_error(const char *message, enum status status)
{
	struct json json = { 0 };
	char *text = NULL;
	size_t length;

	if (!json_wanted)
		return;
	json.out = open_memstream(&text, &length);
	if (!json.out) {
		json_lost = -ENOMEM;
		return;
	}
	json_open(&json, '{');
	json_member_string(&json, "error", message);
	json_member_i64(&json, "status", status);
	json_close(&json, '}');
	fputc('\n', json.out);
	if (fclose(json.out) == EOF)
		json_lost = -ENOMEM;
	/* what fails here is told by finish */
	else if (fflush(stdout) != EOF)
		json_lost = signals_say(STDOUT_FILENO, text);
	free(text);
}

static void say_text(const char *message)
{
	char line[832];

	snprintf(line, sizeof(line), "kvmstat: %s\n", message);
	signals_say(STDERR_FILENO, line);
}

/* Names in it are those that VMs have given themselves. */
static void format_clean(char *message, size_t message_bytes, const char *format,
			 va_list args)
{
	vsnprintf(message, message_bytes, format, args);
	kvmstats_text_clean(message);
}

void say(const char *format, ...)
{
	char message[800];
	va_list args;

	va_start(args, format);
	format_clean(message, sizeof(message), format, args);
	va_end(args);
	say_text(message);
}

int usage_error(const struct command *command, const char *format, ...)
{
	char message[512];
	va_list args;

	va_start(args, format);
	format_clean(message, sizeof(message), format, args);
	va_end(args);
	fprintf(stderr, "kvmstat %s: %s\nTry: kvmstat %s --help\n",
		command->name, message, command->name);
	json_error(message, STATUS_USAGE);
	return STATUS_USAGE;
}

int fail(enum status status, const char *format, ...)
{
	char message[512];
	va_list args;

	va_start(args, format);
	format_clean(message, sizeof(message), format, args);
	va_end(args);
	say_text(message);
	json_error(message, status);
	return status;
}

enum status status_of(int error)
{
	switch (error) {
	case -EPERM:
	case -EACCES:
		return STATUS_DENIED;
	case -ENOENT:
	case -ESRCH:
	case -EBADF:
		return STATUS_NOTHING;
	default:
		return STATUS_FAILED;
	}
}

int finish(int status)
{
	if (fflush(stdout) == EOF) {
		if (errno == EPIPE)
			return status;
		say("standard output: %s", strerror(errno));
		return STATUS_FAILED;
	}
	/* with a reader that is not waited for, or has gone, all is said */
	if (json_lost && json_lost != -ETIME && json_lost != -EINTR &&
	    json_lost != -EPIPE) {
		say("standard output: %s", strerror(-json_lost));
		return STATUS_FAILED;
	}
	/* an earlier write failed, and what it had is not in the output */
	if (ferror(stdout)) {
		say("standard output: a part could not be written");
		return STATUS_FAILED;
	}
	return status;
}

/* ---- numbers and names */

struct prefix {
	double factor;
	const char *letter;
};

static const struct prefix prefixes[] = {
	{ 1e18, "E" }, { 1e15, "P" }, { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" },
	{ 1e3, "k" }, { 1, "" }, { 0.001, "m" }, { 0.000001, "u" },
	{ 0.000000001, "n" },
};

#define PREFIX_COUNT (sizeof(prefixes) / sizeof(*prefixes))

/* Counts have no thousandths: "0.02", not "20m". */
static const struct prefix *choose(double value, bool counts)
{
	size_t last = counts ? 6 : PREFIX_COUNT - 1;

	for (size_t i = 0; i < last; i++)
		if (value >= prefixes[i].factor * 0.9995)
			return &prefixes[i];
	return &prefixes[last];
}

/* Three significant digits and an SI prefix: "1.23k", "912ms", "0". */
const char *si_text(char text[SI_TEXT_SIZE], double value, const char *unit)
{
	const struct prefix *prefix = choose(value, !*unit);
	double scaled = value / prefix->factor;
	int decimals = scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0;

	if (isnan(value))
		snprintf(text, SI_TEXT_SIZE, "?");
	else if (value == 0)
		snprintf(text, SI_TEXT_SIZE, "0");
	else
		snprintf(text, SI_TEXT_SIZE, "%.*f%s%s", decimals, scaled,
			 prefix->letter, unit);
	return text;
}

const char *type_text(char text[SI_TEXT_SIZE], unsigned int type)
{
	const char *name = kvmstats_type_name(type);

	if (name)
		return name;
	snprintf(text, SI_TEXT_SIZE, "type-%u", type);
	return text;
}

const char *unit_text(char text[SI_TEXT_SIZE], unsigned int unit)
{
	const char *name = kvmstats_unit_name(unit);

	if (name)
		return name;
	snprintf(text, SI_TEXT_SIZE, "unit-%u", unit);
	return text;
}

/* Behind a number. An unknown unit is shown by a mark, not left out. */
const char *unit_letter(const struct kvmstats_desc *desc)
{
	switch (kvmstats_desc_unit(desc)) {
	case KVMSTATS_UNIT_NONE:
	case KVMSTATS_UNIT_BOOLEAN:
		return "";
	case KVMSTATS_UNIT_BYTES:
		return "B";
	case KVMSTATS_UNIT_SECONDS:
		return "s";
	case KVMSTATS_UNIT_CYCLES:
		return "cyc";
	default:
		return "?";
	}
}

const char *scope_text(const struct kvmstats_source *source)
{
	if (kvmstats_source_is_sum(source))
		return "sum";
	switch (kvmstats_source_scope(source)) {
	case KVMSTATS_SCOPE_VCPU:
		return "vcpu";
	case KVMSTATS_SCOPE_DEVICE:
		return "device";
	default:
		return "vm";
	}
}

void source_label(char text[LABEL_TEXT_SIZE],
		  const struct kvmstats_source *source)
{
	int vcpu = kvmstats_source_vcpu(source);

	if (kvmstats_source_scope(source) == KVMSTATS_SCOPE_DEVICE)
		snprintf(text, LABEL_TEXT_SIZE, "%s:%s",
			 kvmstats_source_class(source),
			 kvmstats_source_device(source));
	else if (vcpu < 0)
		snprintf(text, LABEL_TEXT_SIZE, "%s", scope_text(source));
	else
		snprintf(text, LABEL_TEXT_SIZE, "vcpu%d", vcpu);
}

/* One number that only grows; a histogram is none. */
bool is_counter(const struct kvmstats_desc *desc)
{
	return kvmstats_desc_type(desc) == KVMSTATS_CUMULATIVE;
}

/* Only plain events can be added up over statistics. */
bool is_event(const struct kvmstats_desc *desc)
{
	return is_counter(desc) &&
	       kvmstats_desc_unit(desc) == KVMSTATS_UNIT_NONE;
}

bool all_zero(const struct kvmstats_desc *desc, const uint64_t *values)
{
	for (unsigned int i = 0; i < kvmstats_desc_size(desc); i++)
		if (kvmstats_desc_value(desc, values, i))
			return false;
	return true;
}
