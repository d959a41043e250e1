// SPDX-License-Identifier: GPL-2.0-only
/* Messages of mistakes and failures, for people and for programs. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "kvmstat.h"

static bool json_wanted;

void want_json(void)
{
	json_wanted = true;
}

/* With --json, errors are JSON as well, on standard output. */
static void json_error(const char *message, enum status status)
{
	struct json json = { .out = stdout };

	if (!json_wanted)
		return;
	json_open(&json, '{');
	json_member_string(&json, "error", message);
	json_member_i64(&json, "status", status);
	json_close(&json, '}');
	putchar('\n');
}

int usage_error(const struct command *command, const char *format, ...)
{
	char message[512];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	kvmstats_text_clean(message);
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
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	kvmstats_text_clean(message);
	fprintf(stderr, "kvmstat: %s\n", message);
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
		fprintf(stderr, "kvmstat: standard output: %s\n",
			strerror(errno));
		return STATUS_FAILED;
	}
	/* an earlier write failed, and what it had is not in the output */
	if (ferror(stdout)) {
		fputs("kvmstat: standard output: a part could not be written\n",
		      stderr);
		return STATUS_FAILED;
	}
	return status;
}
