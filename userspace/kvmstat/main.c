// SPDX-License-Identifier: GPL-2.0-only
/* kvmstat - statistics of KVM virtual machines, through their descriptors */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvmstat.h"

#ifndef KVMSTATS_VERSION
#error "the version comes from the Makefile"
#endif

#define MAX_OPTS 32

static bool json_wanted;

static const struct command *const commands[] = {
	&cmd_list, &cmd_schema, &cmd_show, &cmd_dump, &cmd_top, &cmd_record,
	&cmd_listen, &cmd_run, &cmd_cpu_stats,
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(*commands))

static void print_opt(FILE *out, const struct opt *opt)
{
	char left[40];

	snprintf(left, sizeof(left), "--%s%s%s", opt->name,
		 opt->argument ? " " : "", opt->argument ? opt->argument : "");
	fprintf(out, "  %-22s %s\n", left, opt->help);
}

static void print_command_usage(FILE *out, const struct command *command)
{
	fprintf(out, "usage: kvmstat %s%s\n\n%s\n", command->name,
		command->operands, command->summary);
	if (command->opts->letter)
		fputs("\noptions:\n", out);
	for (const struct opt *opt = command->opts; opt->letter; opt++)
		print_opt(out, resolve_opt(opt));
}

static void print_usage(FILE *out)
{
	fputs("usage: kvmstat COMMAND [OPTIONS]\n\ncommands:\n", out);
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(out, "  %-9s %s\n", commands[i]->name,
			commands[i]->summary);
	fputs("  help      this text, or that of: help COMMAND\n"
	      "  version   the version\n"
	      "\n"
	      "exit status:\n"
	      "  0  done (an interrupt ends top, record and listen so, too)\n"
	      "  1  failed, for a reason that was printed\n"
	      "  2  wrong usage\n"
	      "  3  no such process, VM, descriptor or file\n"
	      "  4  permission denied\n"
	      "  5  a statistic named by listen --expect did not move\n", out);
}

/* Who asked for JSON gets the error as JSON as well, on standard output. */
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

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
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

/* What could not be written is a failure, whatever came before. */
static int finish(int status)
{
	if (fflush(stdout) == EOF && errno != EPIPE) {
		fprintf(stderr, "kvmstat: standard output: %s\n",
			strerror(errno));
		return STATUS_FAILED;
	}
	return status;
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
				 "ambiguous" : "no", argv[optind - 1]));
	return letter;
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

void want_json(void)
{
	json_wanted = true;
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

bool parse_number(const char *text, unsigned long max, unsigned long *number)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoul(text, &end, 10);
	return !errno && !*end && *number <= max;
}

bool parse_seconds(const char *text, unsigned long *ms)
{
	char *end;
	double seconds = strtod(text, &end);

	/* no exponents, no hexadecimal numbers, no names of numbers */
	if (end == text || *end || text[strspn(text, "0123456789.,")] || !(seconds >= 0.01 && seconds <= 86400))
		return false;
	*ms = seconds * 1000 + 0.5;
	return true;
}

static int help(const char *name)
{
	const struct command *command = name ? find_command(name) : NULL;

	if (name && !command)
		return fail(STATUS_USAGE, "no command \"%s\"", name);
	if (command)
		print_command_usage(stdout, command);
	else
		print_usage(stdout);
	return STATUS_OK;
}

static int dispatch(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2) {
		print_usage(stderr);
		return STATUS_USAGE;
	}
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") ||
	    !strcmp(argv[1], "-h"))
		return help(argv[2]);
	if (!strcmp(argv[1], "version") || !strcmp(argv[1], "--version")) {
		puts("kvmstat " KVMSTATS_VERSION);
		return STATUS_OK;
	}
	command = find_command(argv[1]);
	if (!command)
		return fail(STATUS_USAGE, "no command \"%s\"; try: kvmstat help",
			    argv[1]);
	return command->run(command, argc - 1, argv + 1);
}

/*
 * One that is closed would be given to the next file that we open, and messages
 * would go there. Reads find nothing, writes fail as they should.
 */
static void reserve_standard_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	/* a reader that closes the pipe is an end like any other, not a death */
	signal(SIGPIPE, SIG_IGN);
	/* likewise a limit of file sizes: there is an errno for it */
	signal(SIGXFSZ, SIG_IGN);
	reserve_standard_fds();
	return finish(dispatch(argc, argv));
}
