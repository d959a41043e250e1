// SPDX-License-Identifier: GPL-2.0-only
/* top: what happens most, live; the keys are those of kvm_stat */
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "view.h"

#define FIRST_MS 250

struct prompt;

struct top {
	struct request request;
	struct fleet fleet;
	struct view view;
	struct screen_lines lines;
	const struct prompt *prompt;	/* NULL: none is open */
	char answer[KVMSTATS_MAX_VM_NAME + 1];
	size_t answer_length;
	char message[160];		/* until the next key */
	bool help, batch, once, quit;
	struct output output;		/* of tables without a screen */
	size_t tables;			/* written */
	bool no_memory;			/* for all of one of them */
};

/* A question on the last line; the table goes on meanwhile. */
struct prompt {
	char key;
	const char *question;
	bool lists_guests;
	/* false: the answer was bad, ask again */
	bool (*apply)(struct top *top, const char *answer);
};

static bool apply_filter(struct top *top, const char *answer)
{
	return !filter_set(&top->view.fields, answer, top->message,
			   sizeof(top->message));
}

/* A name or a number that fits no VM may fit one that is yet to come. */
static bool apply_guest(struct top *top, const char *answer)
{
	snprintf(top->view.guest, sizeof(top->view.guest), "%s", answer);
	return true;
}

static bool apply_delay(struct top *top, const char *answer)
{
	unsigned long interval_ms;

	if (!*answer)
		return true;
	if (!parse_seconds(answer, &interval_ms) || interval_ms < 100) {
		snprintf(top->message, sizeof(top->message),
			 "must be from 0.1 to 86400 seconds");
		return false;
	}
	top->fleet.interval_ms = interval_ms;
	return true;
}

static const struct prompt prompts[] = {
	{ 'f', "Show statistics whose name matches (regex, empty: all): ",
	  false, apply_filter },
	{ 'g', "Guest, by name or pid (empty: all): ", true, apply_guest },
	{ 'p', "Guest, by name or pid (empty: all): ", true, apply_guest },
	{ 's', "Delay between samples in seconds: ", false, apply_delay },
};

static const char *const help_lines[] = {
	"",
	"   b     toggle events by guests",
	"   c     clear filter: all statistics of all guests",
	"   d     toggle disks: requests, volume, latency, depth, as iostat -x",
	"   f     filter by regular expression",
	"   g     filter by guest name or pid",
	"   h     this text",
	"   l     toggle latencies: histograms with median and 99 %",
	"   o     toggle sorting order (Total vs CurAvg/s)",
	"   p     filter by guest name or pid",
	"   q     quit",
	"   r     reset: totals count from now (in this table only)",
	"   s     set delay between samples",
	"   x     toggle each statistic's sources: VMs and vCPUs",
	"   z     toggle statistics that are 0",
	"",
	"   arrows, page up, page down, home, end: scroll",
	"   any other key: a new sample at once",
};

#define HELP_COUNT (sizeof(help_lines) / sizeof(*help_lines))

/* A line of the table: a row of the view, or what is below the last. */
static void row_line(void *context, size_t index, char line[LINE_BYTES])
{
	struct top *top = context;
	size_t rows = top->view.row_count;

	if (index < rows)
		view_line(&top->view, &top->view.rows[index], line);
	else if (index == rows)
		view_footing(&top->view, line);
	else
		view_missing_line(&top->view, index - rows - 1, line);
}

static size_t count_guests(const struct fleet *fleet)
{
	size_t count = 0;

	for (size_t i = 0; i < fleet->count; i++)
		count += fleet_shows(fleet, fleet->vms[i]);
	return count;
}

/* ---- the screen */

static void help_line(void *context, size_t index, char line[LINE_BYTES])
{
	(void)context;
	snprintf(line, LINE_BYTES, "%s", help_lines[index]);
}

static void empty_line(void *context, size_t index, char line[LINE_BYTES])
{
	struct top *top = context;

	if (index == 0)
		snprintf(line, LINE_BYTES, "%s", top->request.socket ?
			 "no VM has registered yet" : "no VM with statistics");
	else
		view_missing_line(&top->view, index - 1, line);
}

static void guest_line(void *context, size_t index, char line[LINE_BYTES])
{
	const struct fleet *fleet = &((struct top *)context)->fleet;

	for (size_t i = 0; i < fleet->count; i++) {
		const struct vm *vm = fleet->vms[i];

		if (fleet_shows(fleet, vm) && !index--)
			snprintf(line, LINE_BYTES, "%10ld  %s", vm->pid,
				 vm_name(vm));
	}
}

static void fill_lines(struct top *top)
{
	struct screen_lines *lines = &top->lines;

	if (top->help) {
		lines->line = help_line;
		lines->count = HELP_COUNT;
	} else if (top->prompt && top->prompt->lists_guests) {
		lines->line = guest_line;
		lines->count = count_guests(&top->fleet);
	} else if (!top->view.vms) {
		lines->line = empty_line;
		lines->count = 1 + view_missing_count(&top->view);
	} else {
		lines->line = row_line;
		lines->count = top->view.row_count + 1 +
			       view_missing_count(&top->view);
	}
}

static void draw(struct top *top)
{
	char title[LINE_BYTES], heading[LINE_BYTES], status[LINE_BYTES];

	view_summary(&top->view, title);
	view_heading(&top->view, heading);
	if (top->help)
		strcpy(heading, "Keys");
	else if (top->prompt && top->prompt->lists_guests)
		strcpy(heading, "       PID  Guest");
	if (top->prompt)
		snprintf(status, sizeof(status), "%s%s%s%s", top->message,
			 *top->message ? "; " : "", top->prompt->question,
			 top->answer);
	else
		snprintf(status, sizeof(status), "%s", *top->message ?
			 top->message : "h: help, q: quit");
	fill_lines(top);
	top->lines.title = title;
	top->lines.heading = heading;
	top->lines.status = status;
	top->lines.prompting = top->prompt;
	top->lines.context = top;
	screen_draw(&top->lines, &top->fleet.while_waiting);
}

static void rebuild(struct top *top)
{
	top->view.columns = screen_columns();
	view_build(&top->view);
	draw(top);
}

static bool on_tick(void *context)
{
	struct top *top = context;

	top->fleet.wants_cpu = top->view.by_guest;
	rebuild(top);
	return true;
}

static void on_event(void *context, const struct vm *vm, const char *event,
		     const char *reason)
{
	struct top *top = context;

	if (!top->prompt && strcmp(event, "sent"))
		snprintf(top->message, sizeof(top->message),
			 "%.60s (%ld) %s: %.60s", vm_name(vm), vm->pid, event,
			 reason);
}

static void open_prompt(struct top *top, const struct prompt *prompt)
{
	top->prompt = prompt;
	top->answer[0] = 0;
	top->answer_length = 0;
	top->lines.first = 0;
}

static void close_prompt(struct top *top)
{
	top->prompt = NULL;
	top->message[0] = 0;
	top->lines.first = 0;
}

static void answer_key(struct top *top, int key)
{
	if (key == SCREEN_ESCAPE) {
		close_prompt(top);
	} else if (key == SCREEN_ENTER) {
		if (top->prompt->apply(top, top->answer))
			close_prompt(top);
		else
			open_prompt(top, top->prompt);
	} else if (key == SCREEN_ERASE && top->answer_length) {
		/* all bytes of one character */
		while (--top->answer_length &&
		       (top->answer[top->answer_length] & 0xc0) == 0x80)
			;
		top->answer[top->answer_length] = 0;
	} else if (key >= ' ' && key <= 0xff &&
		   top->answer_length + 1 < sizeof(top->answer)) {
		top->answer[top->answer_length++] = key;
		top->answer[top->answer_length] = 0;
	}
}

static void scroll(struct top *top, int key)
{
	struct screen_lines *lines = &top->lines;
	size_t page = screen_room();
	size_t back = key == SCREEN_UP ? 1 : key == SCREEN_PAGE_UP ? page :
		      key == SCREEN_HOME ? lines->first : 0;

	lines->first -= back < lines->first ? back : lines->first;
	if (key == SCREEN_DOWN)
		lines->first++;
	else if (key == SCREEN_PAGE_DOWN)
		lines->first += page;
	else if (key == SCREEN_END)
		lines->first = lines->count;
}

static void reset(struct top *top)
{
	for (size_t i = 0; i < top->fleet.count; i++)
		vm_reset(top->fleet.vms[i], false);
}

static void clear_filters(struct top *top)
{
	filter_set(&top->view.fields, NULL, NULL, 0);
	top->view.guest[0] = 0;
}

/* False if the key means nothing: then a new sample is wanted. */
static bool toggle_key(struct top *top, int key)
{
	struct view *view = &top->view;

	switch (key) {
	case 'b':
		view->by_guest = !view->by_guest;
		return true;
	case 'd':
		view->devices = !view->devices;
		return true;
	case 'l':
		view->hists = !view->hists;
		return true;
	case 'o':
		view->sort = view->sort == SORT_TOTAL ? SORT_RATE : SORT_TOTAL;
		return true;
	case 'x':
		view->split = !view->split;
		return true;
	case 'z':
		view->zeros = !view->zeros;
		return true;
	case 'c':
		clear_filters(top);
		return true;
	case 'r':
		reset(top);
		return true;
	default:
		return false;
	}
}

static void command_key(struct top *top, int key)
{
	top->message[0] = 0;
	for (size_t i = 0; i < sizeof(prompts) / sizeof(*prompts); i++) {
		if (key == prompts[i].key) {
			open_prompt(top, &prompts[i]);
			return;
		}
	}
	if (key >= SCREEN_UP && key <= SCREEN_END)
		scroll(top, key);
	else if (key == 'h')
		top->help = true;
	else if (!toggle_key(top, key))
		top->fleet.deadline_ns = clock_ns();
}

static void handle_key(struct top *top, int key)
{
	if (key == SCREEN_RESIZED)
		return;
	if (top->prompt)
		answer_key(top, key);
	else if (top->help)
		top->help = false;
	else if (key == 'q')
		top->quit = true;
	else
		command_key(top, key);
}

/* All keys that are there; then one new picture. False: quit. */
static bool on_input(void *context)
{
	struct top *top = context;
	int key;

	while (!top->quit && (key = screen_key()) != SCREEN_NONE)
		handle_key(top, key);
	if (!top->quit)
		rebuild(top);
	return !top->quit;
}

/* A first sample comes soon, for the rates; the others at the interval. */
static int run_screen(struct top *top)
{
	const char *problem = screen_open();
	int ret;

	if (problem)
		return fail(STATUS_FAILED, "%s", problem);
	top->fleet.input_fd = STDIN_FILENO;
	if (top->fleet.interval_ms > FIRST_MS)
		top->fleet.first_ms = FIRST_MS;
	rebuild(top);
	ret = fleet_run(&top->fleet);
	screen_close();
	if (ret)
		return fail(STATUS_FAILED, "wait: %s", strerror(-ret));
	/* an end that nobody asked for, and nothing to show for it */
	if (!top->quit && !interrupted && !top->fleet.shown)
		return fleet_fail_empty(&top->fleet);
	return STATUS_OK;
}

/* ---- tables without a screen */

static void put_line(struct top *top, const char *line)
{
	size_t length = strlen(line);

	while (length && line[length - 1] == ' ')
		length--;
	fprintf(top->output.out, "%.*s\n", (int)length, line);
}

static void put_table(struct top *top)
{
	char line[LINE_BYTES], time[40];

	view_build(&top->view);
	iso_time(time, wall_clock_ns());
	view_summary(&top->view, line);
	fprintf(top->output.out, "%s  ", time);
	put_line(top, line);
	view_heading(&top->view, line);
	put_line(top, line);
	for (size_t i = 0; i <= top->view.row_count; i++) {
		row_line(top, i, line);
		put_line(top, line);
	}
	put_line(top, "");
	top->tables++;
	top->no_memory |= top->view.no_memory;
}

static bool on_batch_tick(void *context)
{
	struct top *top = context;

	put_table(top);
	return !top->once;
}

/* A VM that ends before the first table is in it all the same. */
static void on_batch_last(void *context, const struct vm *vm)
{
	struct top *top = context;

	(void)vm;
	/* others go on, and their table is not to be cut short */
	if (count_guests(&top->fleet) > 1)
		return;
	if (!top->tables)
		put_table(top);
	if (top->once) {
		top->fleet.enough = true;
		top->fleet.done = true;
	}
}

static int on_batch_turn(void *context)
{
	struct top *top = context;

	return output_flush(&top->output, &top->fleet.while_waiting);
}

static void on_batch_event(void *context, const struct vm *vm,
			   const char *event, const char *reason)
{
	struct top *top = context;

	if (strcmp(event, "sent") && strcmp(event, "found"))
		fleet_say_event(&top->fleet, vm, event, reason);
}

/* Nothing to show is said, and is a status of its own. */
static int run_batch(struct top *top)
{
	struct fleet *fleet = &top->fleet;
	int ret;

	fleet_explain(fleet);
	if (!top->request.socket && !count_guests(fleet))
		return fleet_fail_empty(fleet);
	if (output_open(&top->output, STDOUT_FILENO, "standard output"))
		return fail(STATUS_FAILED, "no memory");
	ret = fleet_run(fleet);
	output_close(&top->output);
	signals_release(&fleet->while_waiting);
	if (ret && ret != -EPIPE && ret != -EINTR)
		return fail(STATUS_FAILED, "%s: %s", output_what(&top->output, "top"),
			    write_error_text(ret));
	if (!top->tables && !interrupted)
		return fleet_fail_empty(fleet);
	if (!filter_matched(&top->view.fields) && !interrupted)
		return filter_fail(&top->view.fields);
	if (top->no_memory)
		return fail(STATUS_FAILED, TABLE_INCOMPLETE);
	return fleet_check_complete(fleet);
}

static int take_opt(struct top *top, int letter)
{
	switch (letter) {
	case 'B':
		top->batch = true;
		return STATUS_OK;
	case '1':
		top->once = true;
		top->batch = true;
		return STATUS_OK;
	case 'x':
		top->view.split = true;
		return STATUS_OK;
	case 'b':
		top->view.by_guest = true;
		return STATUS_OK;
	case 'l':
		top->view.hists = true;
		return STATUS_OK;
	case 'D':
		top->view.devices = true;
		return STATUS_OK;
	case 'a':
		top->view.zeros = true;
		return STATUS_OK;
	default:
		return request_opt(&top->request, letter);
	}
}

static int open_and_run(struct top *top)
{
	static const struct fleet_ops screen_ops = {
		.tick = on_tick, .event = on_event, .input = on_input,
	};
	static const struct fleet_ops batch_ops = {
		.tick = on_batch_tick, .last = on_batch_last,
		.event = on_batch_event, .turn = on_batch_turn,
	};
	int status;

	top->view.fleet = &top->fleet;
	top->view.fields = top->request.fields;
	top->request.fields.set = false;
	top->view.sort = top->request.sort;
	top->view.reasons = true;
	status = fleet_open(&top->fleet, &top->request, top->batch ?
			    &batch_ops : &screen_ops, top);
	top->fleet.wants_cpu = top->view.by_guest;
	for (size_t i = 0; i < top->fleet.count && top->fleet.wants_cpu; i++)
		vm_sample_cpu(top->fleet.vms[i]);
	if (!status)
		status = top->batch ? run_batch(top) : run_screen(top);
	view_release(&top->view);
	filter_set(&top->view.fields, NULL, NULL, 0);
	fleet_close(&top->fleet);
	return status;
}

static int run_top(const struct command *command, int argc, char **argv)
{
	struct top top = { 0 };
	int letter, status = STATUS_OK;

	setlocale(LC_CTYPE, "");
	request_init(&top.request, command, argc, argv);
	while (!status && (letter = next_opt(command, argc, argv)) != -1)
		status = take_opt(&top, letter);
	if (!status)
		status = request_end(&top.request, argc, argv);
	if (!status)
		status = open_and_run(&top);
	request_free(&top.request);
	return status;
}

static const struct opt top_opts[] = {
	COMMON('p'), COMMON('g'), COMMON('S'), COMMON('m'), COMMON('f'),
	COMMON('I'), COMMON('F'), COMMON('i'), COMMON('n'), COMMON('d'),
	COMMON('u'), COMMON('s'), COMMON('P'),
	{ 'a', "all", NULL, "show statistics that are 0, too (key z)" },
	{ 'b', "by-guest", NULL, "one line per VM (key b)" },
	{ 'x', "split", NULL, "each statistic's sources (key x)" },
	{ 'l', "latencies", NULL, "histograms: median and 99 % (key l)" },
	{ 'D', "devices", NULL, "one line per disk, as iostat -x (key d)" },
	{ 'B', "batch", NULL, "no screen: one table after another" },
	{ '1', "once", NULL, "no screen: one table" },
	{ 0 }
};

const struct command cmd_top = {
	"top", " [OPTIONS]",
	"show what happens most, on a screen, of all VMs or those named",
	top_opts, run_top
};
