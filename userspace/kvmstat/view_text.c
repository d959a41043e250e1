// SPDX-License-Identifier: GPL-2.0-only
/* The lines of top, on a screen and without one. */
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "view.h"

#define LABEL_WIDTH	32
#define LABEL_LEAST	12
#define NUMBERS_WIDTH	36
#define GUEST_WIDTH	(NUMBERS_WIDTH + 16)
#define PERCENT_WIDTH	8
#define RANGES_WIDTH	63
#define NARROW_RANGES_WIDTH 28	/* without the two columns before them */

/* Then the percentages go, which are not sorted by. */
static bool is_narrow(const struct view *view)
{
	return view->columns && view->columns < LABEL_LEAST +
	       (view->by_guest ? GUEST_WIDTH : NUMBERS_WIDTH);
}

static bool has_ranges(const struct view *view)
{
	return view->hists && !view->by_guest;
}

/* Then the ranges stay, and what they are counted of goes. */
static bool is_too_narrow_for_counts(const struct view *view)
{
	return view->columns && view->columns < LABEL_LEAST + RANGES_WIDTH;
}

static int range_width(const struct view *view)
{
	return is_too_narrow_for_counts(view) ? 13 : 17;
}

static int numbers_width(const struct view *view)
{
	if (has_ranges(view))
		return is_too_narrow_for_counts(view) ? NARROW_RANGES_WIDTH :
		       RANGES_WIDTH;
	if (is_narrow(view))
		return NUMBERS_WIDTH - PERCENT_WIDTH;
	return view->by_guest ? GUEST_WIDTH : NUMBERS_WIDTH;
}

/* On a narrow screen names are cut, not numbers. */
static int label_width(const struct view *view)
{
	int left = view->columns - numbers_width(view);

	if (!view->columns || left > LABEL_WIDTH)
		return LABEL_WIDTH;
	return left < LABEL_LEAST ? LABEL_LEAST : left;
}

/* @label in so many columns; text that is longer is cut if need be. */
static void put_label(const struct view *view, const char *label,
		      char line[LINE_BYTES])
{
	int width = label_width(view), columns = 0, bytes = 0;

	for (; label[bytes]; bytes++) {
		columns += (label[bytes] & 0xc0) != 0x80;
		if (columns > (view->columns ? width : LINE_BYTES / 2))
			break;
	}
	snprintf(line, LINE_BYTES, "%.*s%*s", bytes, label,
		 columns < width ? width - columns : 0, "");
}

static void plain(char text[SI_TEXT_SIZE], double value)
{
	snprintf(text, SI_TEXT_SIZE, value < 10 && value ? "%.1f" : "%.0f",
		 value);
}

static bool is_counted(const struct kvmstats_desc *desc)
{
	return !desc || kvmstats_desc_is_hist(desc) ||
	       (!*unit_letter(desc) && !kvmstats_desc_exponent(desc));
}

/* Of a number without a unit only the scale is to be seen. */
static void scaled(char text[SI_TEXT_SIZE], const struct kvmstats_desc *desc,
		   double value)
{
	if (*unit_letter(desc))
		si_text(text, kvmstats_desc_to_unit(desc, value),
			unit_letter(desc));
	else
		snprintf(text, SI_TEXT_SIZE, "%.6g",
			 kvmstats_desc_to_unit(desc, value));
}

/* Events are counted out, all else is scaled. */
static void total_text(const struct row *row, char text[SI_TEXT_SIZE])
{
	if (is_counted(row->desc))
		snprintf(text, SI_TEXT_SIZE, "%ju", (uintmax_t)row->total);
	else
		scaled(text, row->desc, row->total);
}

static void rate_text(const struct row *row, char text[SI_TEXT_SIZE])
{
	text[0] = 0;
	if (!row->has_rate)
		return;
	if (is_counted(row->desc))
		plain(text, row->rate);
	else
		scaled(text, row->desc, row->rate);
}

static void percent_text(const struct view *view, const struct row *row,
			 char text[SI_TEXT_SIZE])
{
	text[0] = 0;
	if ((!row->desc || is_event(row->desc)) && view->events)
		snprintf(text, SI_TEXT_SIZE, "%.1f",
			 100.0 * row->total / view->events);
}

/* In percent of one CPU, as top(1) has it. */
static const char *part_text(double part, char text[SI_TEXT_SIZE])
{
	if (isnan(part))
		return "-";
	snprintf(text, SI_TEXT_SIZE, "%.1f", 100 * part);
	return text;
}

/* "65.5us-131us"; the last bucket has no end: ">17.2s". */
static const char *range_text(const struct kvmstats_desc *desc,
			      const uint64_t range[2], bool known,
			      char text[2 * SI_TEXT_SIZE])
{
	char from[SI_TEXT_SIZE], to[SI_TEXT_SIZE];
	const char *unit = unit_letter(desc);

	si_text(from, kvmstats_desc_to_unit(desc, range[0]), unit);
	si_text(to, kvmstats_desc_to_unit(desc, range[1]), unit);
	if (!known)
		strcpy(text, "-");
	else if (range[1] == UINT64_MAX)
		snprintf(text, 2 * SI_TEXT_SIZE, ">%s", from);
	else if (range[0] == range[1])
		strcpy(text, from);
	else
		snprintf(text, 2 * SI_TEXT_SIZE, "%s-%s", from, to);
	return text;
}

static void label_text(const struct view *view, const struct row *row,
		       char text[LINE_BYTES])
{
	char source[LABEL_TEXT_SIZE];

	if (row->watch) {
		source_label(source, row->watch->source);
		snprintf(text, LINE_BYTES, "  %s %s", vm_name(row->vm), source);
	} else if (row->vm) {
		snprintf(text, LINE_BYTES, "%s (%ld)%s", vm_name(row->vm),
			 row->vm->pid, row->vm->count &&
			 kvmstats_source_is_sum(row->vm->watches[0].source) ?
			 " (debugfs)" : "");
	} else if (row->reason) {
		snprintf(text, LINE_BYTES, "exit: %s", row->reason);
	} else {
		snprintf(text, LINE_BYTES, "%s%s",
			 kvmstats_desc_name(row->desc),
			 view->pools[row->pool].sum ? " (debugfs)" : "");
	}
}

__printf(2, 3)
static void put_more(char line[LINE_BYTES], const char *format, ...)
{
	size_t length = strlen(line);
	va_list args;

	va_start(args, format);
	vsnprintf(line + length, LINE_BYTES - length, format, args);
	va_end(args);
}

void view_line(const struct view *view, const struct row *row,
	       char line[LINE_BYTES])
{
	char label[LINE_BYTES], total[SI_TEXT_SIZE], percent[SI_TEXT_SIZE];
	char cpu[SI_TEXT_SIZE], wait[SI_TEXT_SIZE];
	char rate[SI_TEXT_SIZE], p50[2 * SI_TEXT_SIZE], p99[2 * SI_TEXT_SIZE];

	if (view->devices) {
		view_device_line(view, row, line);
		return;
	}
	label_text(view, row, label);
	total_text(row, total);
	rate_text(row, rate);
	percent_text(view, row, percent);
	put_label(view, label, line);
	if (has_ranges(view) && !is_too_narrow_for_counts(view))
		put_more(line, " %14s %10s ", total, rate);
	if (has_ranges(view))
		put_more(line, " %-*s %-*s", range_width(view),
			 range_text(row->desc, row->p50, row->has_p50, p50),
			 range_width(view), range_text(row->desc, row->p99, row->has_p99, p99));
	else if (is_narrow(view))
		put_more(line, " %14s %12s", total, rate);
	else if (view->by_guest)
		put_more(line, " %14s %7s %12s %7s %7s", total, percent, rate,
			 part_text(row->vm->cpu.run, cpu),
			 part_text(row->vm->cpu.wait, wait));
	else
		put_more(line, " %14s %7s %12s", total, percent, rate);
}

void view_heading(const struct view *view, char line[LINE_BYTES])
{
	if (view->devices) {
		view_device_heading(view, line);
	} else if (has_ranges(view)) {
		put_label(view, "Histogram", line);
		if (!is_too_narrow_for_counts(view))
			put_more(line, " %14s %10s ", "Total", "CurAvg/s");
		put_more(line, " %-*s %-*s", range_width(view), "Median within",
			 range_width(view), "99% within");
	} else {
		put_label(view, view->by_guest ? "Guest" : "Event", line);
		if (is_narrow(view))
			put_more(line, " %14s %12s", "Total", "CurAvg/s");
		else
			put_more(line, " %14s %7s %12s%s", "Total", "%Total",
				 "CurAvg/s", view->by_guest ?
				 "    %CPU   %wait" : "");
	}
}

/* Of plain events only: there is no sum of seconds and bytes. */
void view_footing(const struct view *view, char line[LINE_BYTES])
{
	char rate[SI_TEXT_SIZE];

	if (view->devices) {
		snprintf(line, LINE_BYTES, "%s", view->row_count ? "" :
			 "no VM publishes a disk here; one that is registered with kvmstatd is shown there");
		return;
	}
	plain(rate, view->events_rate);
	put_label(view, "Total of events", line);
	if (is_narrow(view))
		put_more(line, " %14ju %12s", (uintmax_t)view->events, rate);
	else
		put_more(line, " %14ju %7s %12s", (uintmax_t)view->events, "",
			 rate);
}

void view_summary(const struct view *view, char line[LINE_BYTES])
{
	snprintf(line, LINE_BYTES, "kvm statistics - %zu VM%s, %zu descriptor%s",
		 view->vms, view->vms == 1 ? "" : "s", view->sources,
		 view->sources == 1 ? "" : "s");
	if (view->without)
		put_more(line, " - %zu more without statistics", view->without);
	if (*view->guest)
		put_more(line, " - guest %.80s", view->guest);
	if (view->fields.set)
		put_more(line, " - filter %s", view->fields.text);
	if (view->restarts)
		put_more(line, " - %d counters restarted", view->restarts);
	if (view->no_memory)
		put_more(line, " - out of memory: incomplete");
}

static bool is_missing(const struct view *view, const struct vm *vm)
{
	return vm->vmm && !vm->gone && vm_problem_code(vm) &&
	       fleet_names(view->fleet, vm);
}

size_t view_missing_count(const struct view *view)
{
	const struct fleet *fleet = view->fleet;
	size_t count = fleet->hidden || fleet_has_trouble(fleet);

	for (size_t i = 0; i < fleet->count; i++)
		count += is_missing(view, fleet->vms[i]);
	return count;
}

/* The process of the first line with this reason; 0: that is this line. */
static long find_reason(const struct view *view, const struct vm *vm)
{
	char text[LINE_BYTES], other[LINE_BYTES];

	vm_problem_reason(vm, text, sizeof(text));
	for (size_t i = 0; *text; i++) {
		const struct vm *before = view->fleet->vms[i];

		if (before == vm)
			break;
		if (!is_missing(view, before))
			continue;
		vm_problem_reason(before, other, sizeof(other));
		if (!strcmp(text, other))
			return before->pid;
	}
	return 0;
}

void view_missing_line(const struct view *view, size_t index,
		       char line[LINE_BYTES])
{
	const struct fleet *fleet = view->fleet;
	char problem[LINE_BYTES - 64];

	for (size_t i = 0; i < fleet->count; i++) {
		const struct vm *vm = fleet->vms[i];

		if (!is_missing(view, vm) || index--)
			continue;
		vm_problem_as(vm, find_reason(view, vm), problem, sizeof(problem));
		snprintf(line, LINE_BYTES, "%.60s: %s", vm_name(vm), problem);
		return;
	}
	fleet_trouble(fleet, line, LINE_BYTES);
}
