// SPDX-License-Identifier: GPL-2.0-only
/* top --batch and --once */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "top.h"

void top_row_line(void *context, size_t index, char line[LINE_BYTES])
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

size_t top_count_guests(const struct fleet *fleet)
{
	size_t count = 0;

	for (size_t i = 0; i < fleet->count; i++)
		count += fleet_shows(fleet, fleet->vms[i]);
	return count;
}

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
		top_row_line(top, i, line);
		put_line(top, line);
	}
	put_line(top, "");
	top->tables++;
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

const struct fleet_ops top_batch_ops = {
	.tick = on_batch_tick, .last = on_batch_last, .event = on_batch_event,
	.turn = on_batch_turn,
};

/* Nothing to show is said, and is a status of its own. */
int top_run_batch(struct top *top)
{
	struct fleet *fleet = &top->fleet;
	int ret;

	if (!top->request.socket && !top_count_guests(fleet))
		return fleet_fail_empty(fleet);
	fleet_explain(fleet);
	if (output_open(&top->output, STDOUT_FILENO))
		return fail(STATUS_FAILED, "no memory");
	ret = fleet_run(fleet);
	output_close(&top->output);
	signals_release(&fleet->while_waiting);
	if (ret && ret != -EPIPE && ret != -EINTR)
		return fail(STATUS_FAILED, "standard output: %s",
			    strerror(-ret));
	if (!top->tables && !interrupted)
		return fleet_fail_empty(fleet);
	if (!filter_matched(&top->view.fields) && !interrupted)
		return filter_fail(&top->view.fields);
	return fleet_check_complete(fleet);
}
