// SPDX-License-Identifier: GPL-2.0-only
/* top --batch and --once */
#include <errno.h>
#include <string.h>

#include "top.h"

void top_row_line(void *context, size_t index, char line[LINE_BYTES])
{
	struct top *top = context;

	if (index < top->view.row_count)
		view_line(&top->view, &top->view.rows[index], line);
	else
		view_footing(&top->view, line);
}

size_t top_count_guests(const struct fleet *fleet)
{
	size_t count = 0;

	for (size_t i = 0; i < fleet->count; i++)
		count += fleet_shows(fleet, fleet->vms[i]);
	return count;
}

static void batch_line(struct top *top, const char *line)
{
	if (printf("%s\n", line) < 0)
		top->write_error = -errno;
}

static bool on_batch_tick(void *context)
{
	struct top *top = context;
	char line[LINE_BYTES], time[40];

	view_build(&top->view);
	iso_time(time, wall_clock_ns());
	view_summary(&top->view, line);
	printf("%s  ", time);
	batch_line(top, line);
	view_heading(&top->view, line);
	batch_line(top, line);
	for (size_t i = 0; i <= top->view.row_count; i++) {
		top_row_line(top, i, line);
		batch_line(top, line);
	}
	batch_line(top, "");
	if (fflush(stdout) == EOF)
		top->write_error = -errno;
	return !top->write_error && !top->once;
}

/* Nothing to show is said, and is a status of its own. */
static int begin_batch(struct top *top)
{
	char excuse[640];

	if (top->request.socket || top_count_guests(&top->fleet))
		return STATUS_OK;
	fleet_excuse(&top->fleet, excuse, sizeof(excuse));
	return fail(STATUS_NOTHING, "no VM with statistics%s%s",
		    *excuse ? "; " : "", excuse);
}

static void on_batch_event(void *context, const struct vm *vm,
			   const char *event, const char *reason)
{
	(void)context;
	if (strcmp(event, "sent") && strcmp(event, "found"))
		text_event(stderr, vm, event, reason);
}

const struct fleet_ops top_batch_ops = {
	.tick = on_batch_tick, .event = on_batch_event,
};

int top_run_batch(struct top *top)
{
	int status = begin_batch(top);
	int ret = status ? 0 : fleet_run(&top->fleet);

	if (top->write_error && top->write_error != -EPIPE &&
	    top->write_error != -EINTR)
		return fail(STATUS_FAILED, "standard output: %s",
			    strerror(-top->write_error));
	return ret ? fail(STATUS_FAILED, "wait: %s", strerror(-ret)) : status;
}
