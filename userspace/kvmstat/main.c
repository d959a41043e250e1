// SPDX-License-Identifier: GPL-2.0-only
/* kvmstat - statistics of KVM virtual machines, through their descriptors */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvmstat.h"

#ifndef KVMSTATS_VERSION
#error "the version comes from the Makefile"
#endif

static const struct command *const commands[] = {
	&cmd_list, &cmd_schema, &cmd_show, &cmd_dump, &cmd_top, &cmd_record,
	&cmd_listen, &cmd_run, &cmd_cpu_stats,
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(*commands))

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
	      "  0  done; also if top, record or listen was interrupted\n"
	      "  1  failed, for a reason that was printed\n"
	      "  2  wrong usage\n"
	      "  3  no such process, VM, descriptor, statistic or file\n"
	      "  4  permission denied\n"
	      "  5  a statistic named by listen --expect did not change\n", out);
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

static int help(const char *name)
{
	const struct command *command = name ? find_command(name) : NULL;

	if (name && !command)
		return fail(STATUS_USAGE, "unknown command \"%s\"", name);
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
		return fail(STATUS_USAGE, "unknown command \"%s\"; try: kvmstat help",
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
	/* so is a limit on the size of files: there is an errno for it */
	signal(SIGXFSZ, SIG_IGN);
	reserve_standard_fds();
	return finish(dispatch(argc, argv));
}
