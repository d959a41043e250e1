// SPDX-License-Identifier: GPL-2.0-only
/* record: samples for programs and for later, as they come */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "record.h"

enum format { FORMAT_CSV, FORMAT_JSON, FORMAT_LOG };

struct recorder {
	struct request request;
	struct fleet fleet;
	struct recfile file;
	struct columns *columns;
	enum format format;
	bool format_chosen;
	FILE *out;		/* what is written at the end of a turn */
	char *text;
	size_t length;
	int status;
};

static void sample_vm(struct recorder *recorder, const struct vm *vm,
		      uint64_t wall_ns)
{
	if (recorder->format == FORMAT_JSON)
		report_sample(recorder->out, vm, &recorder->request);
	else
		csv_sample(recorder->out, vm, &recorder->request, wall_ns);
}

static void sample_vms(struct recorder *recorder)
{
	const struct fleet *fleet = &recorder->fleet;
	uint64_t wall_ns = wall_clock_ns();

	for (size_t i = 0; i < fleet->count; i++) {
		const struct vm *vm = fleet->vms[i];

		if (fleet_shows(fleet, vm) && vm->count)
			sample_vm(recorder, vm, wall_ns);
	}
}

static void no_memory(struct recorder *recorder)
{
	recorder->status = fail(STATUS_FAILED, "no memory");
}

/* The log has one line for all VMs; at the end of one, a line for it alone. */
static void on_last(void *context, const struct vm *vm)
{
	struct recorder *recorder = context;

	if (recorder->format != FORMAT_LOG)
		sample_vm(recorder, vm, wall_clock_ns());
	else if (!columns_last(recorder->out, recorder->columns,
			       &recorder->fleet, vm, wall_clock_ns()))
		no_memory(recorder);
}

static bool on_tick(void *context)
{
	struct recorder *recorder = context;

	if (recorder->format != FORMAT_LOG)
		sample_vms(recorder);
	else if (!columns_sample(recorder->out, recorder->columns,
				 &recorder->fleet, wall_clock_ns()))
		no_memory(recorder);
	return !recorder->status;
}

/* In JSON lines an event is a record; the other formats have no place for it. */
static void on_event(void *context, const struct vm *vm, const char *event,
		     const char *reason)
{
	struct recorder *recorder = context;

	if (recorder->format == FORMAT_JSON)
		report_event(recorder->out, vm, event, reason);
	else
		fleet_say_event(&recorder->fleet, vm, event, reason);
}

/* After what was written before the signal is out. */
static int on_turn(void *context)
{
	struct recorder *recorder = context;

	if (fflush(recorder->out) == EOF)
		return -ENOMEM;
	if (recorder->format == FORMAT_LOG)
		recorder->file.banner = columns_banner(recorder->columns);
	if (recorder->status)
		return -ECANCELED;
	recorder->status = recfile_write(&recorder->file, recorder->text,
					 ftello(recorder->out));
	rewind(recorder->out);
	if (hung_up && !recorder->status) {
		hung_up = false;
		recorder->status = recfile_reopen(&recorder->file);
		recorder->fleet.sample_on_signal = recorder->file.is_file;
	}
	return recorder->status ? -ECANCELED : 0;
}

static int run(struct recorder *recorder)
{
	int ret;

	recorder->fleet.sample_on_signal = recorder->file.is_file;
	fleet_explain(&recorder->fleet);
	ret = fleet_run(&recorder->fleet);
	signals_release(&recorder->fleet.while_waiting);
	if (ret && ret != -ECANCELED)
		return fail(STATUS_FAILED, "record: %s", strerror(-ret));
	if (recorder->status || interrupted)
		return recorder->status;
	/* an end that nobody asked for by a signal, and nothing to show for it */
	if (!recorder->fleet.shown)
		return fleet_fail_empty(&recorder->fleet);
	if (!filter_matched(&recorder->request.fields))
		return filter_fail(&recorder->request.fields);
	return fleet_check_complete(&recorder->fleet);
}

static int open_and_run(struct recorder *recorder)
{
	static const struct fleet_ops ops = {
		.tick = on_tick, .last = on_last, .event = on_event,
		.turn = on_turn,
	};
	int status, end;

	recorder->columns = columns_new();
	recorder->out = open_memstream(&recorder->text, &recorder->length);
	if (!recorder->out || !recorder->columns)
		return fail(STATUS_FAILED, "no memory");
	status = fleet_open(&recorder->fleet, &recorder->request, &ops,
			    recorder);
	if (!status) {
		fleet_begin(&recorder->fleet);
		recorder->file.while_waiting = &recorder->fleet.while_waiting;
		status = recfile_open(&recorder->file);
		status = status || interrupted ? status : run(recorder);
		end = recfile_close(&recorder->file);
		status = status ? status : end;
	}
	fleet_close(&recorder->fleet);
	return status;
}

static void release(struct recorder *recorder)
{
	columns_free(recorder->columns);
	if (recorder->out)
		fclose(recorder->out);
	free(recorder->text);
	request_free(&recorder->request);
}

static int choose(const char *option, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(optarg, names[i]))
			return i;
	usage_error(&cmd_record, "--%s %s: must be %s, %s or %s", option,
		    optarg, names[0], names[1], names[2]);
	return -1;
}

static int take_format(struct recorder *recorder)
{
	static const char *const names[] = { "csv", "json", "log" };
	int format = choose("format", names, 3);

	if (format < 0)
		return STATUS_USAGE;
	recorder->format = format;
	recorder->format_chosen = true;
	if (format == FORMAT_JSON)
		want_json();
	return STATUS_OK;
}

static int take_sync(struct recorder *recorder)
{
	static const char *const names[] = { "never", "close", "sample" };
	int sync = choose("fsync", names, 3);

	if (sync < 0)
		return STATUS_USAGE;
	recorder->file.sync = sync;
	return STATUS_OK;
}

static int take_rotate(struct recorder *recorder)
{
	uint64_t bytes;

	if (!parse_bytes(optarg, ULONG_MAX >> 1, &bytes) || !bytes)
		return usage_error(&cmd_record,
				   "--rotate %s: must be a size such as 4096, 100k, 20M or 1G",
				   optarg);
	recorder->file.rotate_bytes = bytes;
	return STATUS_OK;
}

static int take_keep(struct recorder *recorder)
{
	if (parse_number(optarg, 9999, &recorder->file.keep))
		return STATUS_OK;
	return usage_error(&cmd_record, "--keep %s: must be a number from 0 to 9999",
			   optarg);
}

static int take_opt(struct recorder *recorder, int letter)
{
	switch (letter) {
	case 't':
		return take_format(recorder);
	case 'y':
		return take_sync(recorder);
	case 'R':
		return take_rotate(recorder);
	case 'k':
		return take_keep(recorder);
	default:
		return request_opt(&recorder->request, letter);
	}
}

/* What does not go together, and what follows. */
static int settle(struct recorder *recorder)
{
	struct request *request = &recorder->request;

	recorder->file.path = request->output;
	if (recorder->file.rotate_bytes && !request->output)
		return usage_error(&cmd_record, "--rotate needs --output");
	if (request->as_json && recorder->format_chosen &&
	    recorder->format != FORMAT_JSON)
		return usage_error(&cmd_record, "--json does not go with another --format");
	if (request->as_json)
		recorder->format = FORMAT_JSON;
	request->as_json = recorder->format == FORMAT_JSON;
	if (recorder->format == FORMAT_CSV)
		recorder->file.header = csv_header();
	if (recorder->format == FORMAT_JSON)
		recorder->file.first = "{";
	if (recorder->format == FORMAT_LOG)
		recorder->file.first = "time ";
	return STATUS_OK;
}

static int run_record(const struct command *command, int argc, char **argv)
{
	struct recorder recorder = { .file = { .keep = 5, .fd = -1 } };
	int letter, status = STATUS_OK;

	request_init(&recorder.request, command, argc, argv);
	recorder.request.hangup_reopens = true;
	while (!status && (letter = next_opt(command, argc, argv)) != -1)
		status = take_opt(&recorder, letter);
	if (!status)
		status = request_end(&recorder.request, argc, argv);
	if (!status)
		status = settle(&recorder);
	if (!status)
		status = open_and_run(&recorder);
	release(&recorder);
	return status;
}

static const struct opt record_opts[] = {
	COMMON('p'), COMMON('g'), COMMON('S'), COMMON('m'), COMMON('f'),
	COMMON('I'), COMMON('F'), COMMON('z'), COMMON('i'), COMMON('n'),
	COMMON('d'), COMMON('u'),
	{ 'o', "output", "FILE", "append to it (default: standard output)" },
	{ 't', "format", "FORMAT", "csv (default), json (lines) or log" },
	{ 'R', "rotate", "SIZE", "begin a new file before this size (k, M, G)" },
	{ 'k', "keep", "N", "how many old files to keep (default: 5)" },
	{ 'y', "fsync", "WHEN", "never (default), close or sample" },
	COMMON('j'),
	{ 0 }
};

const struct command cmd_record = {
	"record", " [OPTIONS]",
	"write samples as they come, of all VMs or those named",
	record_opts, run_record
};
