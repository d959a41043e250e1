// SPDX-License-Identifier: GPL-2.0-only
/* listen: VMMs connect and hand over their descriptors; show what they count */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

#define MAX_EXPECT 32

struct expectation {
	const char *name;
	bool known, moved;
};

struct listener {
	struct request request;
	struct fleet fleet;
	bool all, is_terminal, no_memory;
	struct expectation expect[MAX_EXPECT];
	size_t expect_count;
	struct output output;
};

static void on_event(void *context, const struct vm *vm, const char *name,
		     const char *reason)
{
	struct listener *listener = context;

	if (listener->request.as_json)
		report_event(listener->output.out, vm, name, reason);
	else
		text_event(listener->output.out, vm, name, reason);
}

static void check_expected(struct listener *listener, const struct watch *watch)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(watch->source);

	for (size_t i = 0; i < listener->expect_count; i++) {
		struct expectation *expect = &listener->expect[i];
		const struct kvmstats_desc *desc;

		desc = kvmstats_schema_find(schema, expect->name);
		if (!desc)
			continue;
		expect->known = true;
		for (unsigned int j = 0; j < kvmstats_desc_size(desc); j++)
			if (kvmstats_desc_value(desc, watch->now, j) !=
			    kvmstats_desc_value(desc, watch->before, j))
				expect->moved = true;
	}
}

static void show_vm(struct listener *listener, const struct vm *vm)
{
	const struct request *request = &listener->request;

	for (size_t i = 0; i < vm->count; i++)
		check_expected(listener, &vm->watches[i]);
	if (request->as_json)
		report_sample(listener->output.out, vm, request);
	else
		listener->no_memory |= !table_print(listener->output.out, vm,
						    &request->fields, listener->all,
						    request->columns);
}

/* In a terminal's table it would be gone in a moment. */
static void show_last(void *context, const struct vm *vm)
{
	struct listener *listener = context;

	if (listener->request.as_json || !listener->is_terminal)
		show_vm(listener, vm);
}

static bool show_tables(void *context)
{
	struct listener *listener = context;
	const struct fleet *fleet = &listener->fleet;

	if (listener->is_terminal && !listener->request.as_json)
		fputs("\033[H\033[2J", listener->output.out);
	for (size_t i = 0; i < fleet->count; i++)
		if (fleet_shows(fleet, fleet->vms[i]))
			show_vm(listener, fleet->vms[i]);
	return true;
}

/* All that a turn had to say, in one write. */
static int flush_out(void *context)
{
	struct listener *listener = context;

	return output_flush(&listener->output, &listener->fleet.while_waiting);
}

static int check_all_moved(const struct listener *listener)
{
	int status = STATUS_OK;

	for (size_t i = 0; i < listener->expect_count; i++) {
		const struct expectation *expect = &listener->expect[i];

		if (!expect->known)
			status = fail(STATUS_UNMOVED, "no VM had a statistic \"%s\"",
				      expect->name);
		else if (!expect->moved)
			status = fail(STATUS_UNMOVED, "\"%s\" did not change",
				      expect->name);
	}
	return status;
}

static int check_shown(const struct listener *listener)
{
	int status = listener->no_memory ? fail(STATUS_FAILED, TABLE_INCOMPLETE) :
		     check_all_moved(listener);

	if (status || interrupted)
		return status;
	if (!listener->fleet.shown)
		return fleet_fail_empty(&listener->fleet);
	if (!filter_matched(&listener->request.fields))
		return filter_fail(&listener->request.fields);
	return fleet_check_complete(&listener->fleet);
}

static int listen_and_show(struct listener *listener)
{
	static const struct fleet_ops ops = {
		.tick = show_tables, .last = show_last, .event = on_event, .turn = flush_out,
	};
	int status, ret;

	if (output_open(&listener->output, STDOUT_FILENO, "standard output"))
		return fail(STATUS_FAILED, "no memory");
	status = fleet_open(&listener->fleet, &listener->request, &ops,
			    listener);
	ret = status ? 0 : fleet_run(&listener->fleet);
	if (!status)
		signals_release(&listener->fleet.while_waiting);
	if (ret && ret != -EPIPE && ret != -EINTR)
		status = fail(STATUS_FAILED, "%s: %s",
			      output_what(&listener->output, "listen"),
			      write_error_text(ret));
	else if (!status)
		status = check_shown(listener);
	fleet_close(&listener->fleet);
	output_close(&listener->output);
	return status;
}

static int add_expected(struct listener *listener, const char *name)
{
	if (listener->expect_count == MAX_EXPECT)
		return usage_error(&cmd_listen, "too many --expect options");
	listener->expect[listener->expect_count++].name = name;
	return STATUS_OK;
}

static int take_opt(struct listener *listener, int letter)
{
	switch (letter) {
	case 'e':
		return add_expected(listener, optarg);
	case 'a':
		listener->all = true;
		return STATUS_OK;
	default:
		return request_opt(&listener->request, letter);
	}
}

/* A terminal that understands two of ANSI's control sequences. */
static bool can_clear(void)
{
	const char *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb");
}

static int run_listen(const struct command *command, int argc, char **argv)
{
	struct listener listener = { 0 };
	int letter, status = STATUS_OK;

	request_init(&listener.request, command, argc, argv);
	while (!status && (letter = next_opt(command, argc, argv)) != -1)
		status = take_opt(&listener, letter);
	if (!status && optind != argc - 1)
		status = usage_error(command, "one SOCKET is needed");
	if (!status) {
		listener.request.socket = argv[optind];
		listener.is_terminal = can_clear();
		status = listen_and_show(&listener);
	}
	request_free(&listener.request);
	return status;
}

static const struct opt listen_opts[] = {
	COMMON('g'), COMMON('F'), COMMON('i'), COMMON('n'), COMMON('d'),
	COMMON('u'), COMMON('m'),
	{ 'a', "all", NULL, "show statistics that are 0, too" },
	COMMON('C'),
	{ 'e', "expect", "NAME", "status 5 unless this statistic changed" },
	COMMON('j'),
	{ 0 }
};

const struct command cmd_listen = {
	"listen", " [OPTIONS] SOCKET",
	"receive descriptors from VMMs and show rates, live",
	listen_opts, run_listen
};
