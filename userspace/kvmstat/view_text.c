// SPDX-License-Identifier: GPL-2.0-only
/* The lines of top, on a screen and without one: statistics, VMs, disks. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "view.h"

#define LABEL_WIDTH	32
#define LABEL_LEAST	12
#define NUMBERS_WIDTH	36
#define GUEST_WIDTH	(NUMBERS_WIDTH + 16)
#define PERCENT_WIDTH	8
#define RANGES_WIDTH	63
#define NARROW_RANGES_WIDTH 28	/* without the two columns before them */

/* ---- top --devices: a line a disk, in the columns of iostat -x where they mean the same */

#define NUMBER_WIDTH	9

enum operation { READ, WRITE, DISCARD, FLUSH, OPERATIONS };

static const char *const operations[OPERATIONS] = {
	"read", "write", "discard", "flush",
};

/* Of one disk, in the last interval. */
struct disk {
	double seconds;
	struct {
		double ios, bytes, wait_s, queue_s;
	} op[OPERATIONS];
	double idle_s;
};

static double growth(const struct watch *watch, const char *operation,
		     const char *name)
{
	const struct kvmstats_desc *desc;
	char text[KVMSTATS_MAX_STAT_NAME + 1];

	snprintf(text, sizeof(text), "%s%s", operation, name);
	desc = kvmstats_schema_find(kvmstats_source_schema(watch->source), text);
	return desc && is_counter(desc) ?
	       kvmstats_desc_to_unit(desc, kvmstats_desc_value(desc, watch->delta,
							       0)) : 0;
}

static void disk_fill(struct disk *disk, const struct watch *watch)
{
	disk->seconds = (watch->now_ns - watch->before_ns) / 1e9;
	disk->idle_s = growth(watch, "", "idle_time_ns");
	for (int i = 0; i < OPERATIONS; i++) {
		const char *name = operations[i];

		disk->op[i].ios = growth(watch, name, "_ios");
		disk->op[i].bytes = growth(watch, name, "_bytes");
		disk->op[i].wait_s = growth(watch, name, "_time_ns");
		disk->op[i].queue_s = growth(watch, name, "_queue_time_ns");
	}
}

static double part(double a, double b)
{
	return b > 0 ? a / b : 0;
}

static double io_rate(const struct disk *disk, enum operation op)
{
	return part(disk->op[op].ios, disk->seconds);
}

static double kilobytes(const struct disk *disk, enum operation op)
{
	return part(disk->op[op].bytes / 1024, disk->seconds);
}

static double await_ms(const struct disk *disk, enum operation op)
{
	return part(disk->op[op].wait_s * 1000, disk->op[op].ios);
}

static double size_kb(const struct disk *disk, enum operation op)
{
	return part(disk->op[op].bytes / 1024, disk->op[op].ios);
}

static double depth(const struct disk *disk, enum operation op)
{
	double sum = 0;

	(void)op;
	for (int i = 0; i < OPERATIONS; i++)
		sum += disk->op[i].queue_s;
	return part(sum, disk->seconds);
}

/*
 * Without requests the publisher tells of idle time once a second only, so that
 * a short interval may lack it or have it of another one.
 */
static double util(const struct disk *disk, enum operation op)
{
	double busy = disk->seconds - disk->idle_s;

	return busy < 0 || !depth(disk, op) ? 0 :
	       100 * part(busy, disk->seconds);
}

/* On a narrow screen those of high rank go first. */
static const struct column {
	const char *name;
	int rank;
	double (*value)(const struct disk *disk, enum operation op);
	enum operation op;
} columns[] = {
	{ "r/s", 0, io_rate, READ },
	{ "rkB/s", 1, kilobytes, READ },
	{ "r_await", 0, await_ms, READ },
	{ "rareq-sz", 4, size_kb, READ },
	{ "w/s", 0, io_rate, WRITE },
	{ "wkB/s", 1, kilobytes, WRITE },
	{ "w_await", 0, await_ms, WRITE },
	{ "wareq-sz", 4, size_kb, WRITE },
	{ "d/s", 3, io_rate, DISCARD },
	{ "dkB/s", 5, kilobytes, DISCARD },
	{ "d_await", 5, await_ms, DISCARD },
	{ "dareq-sz", 5, size_kb, DISCARD },
	{ "f/s", 2, io_rate, FLUSH },
	{ "f_await", 2, await_ms, FLUSH },
	{ "aqu-sz", 0, depth, READ },
	{ "%util", 0, util, READ },
};

#define COLUMNS		(sizeof(columns) / sizeof(*columns))
#define MAX_RANK	5
#define LEAST_LABEL	16
#define MOST_LABEL	40

/* The highest rank with which all columns have room. */
static int shown_rank(const struct view *view, int *label_width)
{
	for (int rank = MAX_RANK; rank >= 0; rank--) {
		int width = 0;

		for (size_t i = 0; i < COLUMNS; i++)
			width += columns[i].rank <= rank ? NUMBER_WIDTH : 0;
		*label_width = view->columns ? view->columns - width : MOST_LABEL;
		if (*label_width > MOST_LABEL)
			*label_width = MOST_LABEL;
		if (*label_width >= LEAST_LABEL)
			return rank;
	}
	*label_width = LEAST_LABEL;
	return 0;
}

/* The end of what is too long tells disks apart. */
static size_t put_device_label(char line[LINE_BYTES], const char *label, int width)
{
	int columns = 0, skip = 0;

	for (const char *p = label; *p; p++)
		columns += (*p & 0xc0) != 0x80;
	for (; columns > width; skip++)
		columns -= (label[skip] & 0xc0) != 0x80;
	while ((label[skip] & 0xc0) == 0x80)
		skip++;
	return snprintf(line, LINE_BYTES, "%s%*s", label + skip, width - columns,
			"");
}

static void put_device_heading(const struct view *view, char line[LINE_BYTES])
{
	int width, rank = shown_rank(view, &width);
	size_t length = put_device_label(line, "Device", width);

	for (size_t i = 0; i < COLUMNS; i++)
		if (columns[i].rank <= rank)
			length += snprintf(line + length, LINE_BYTES - length,
					   "%*s", NUMBER_WIDTH, columns[i].name);
}

/* Never wider than its column, and behind a blank, whatever a VM publishes. */
static size_t put_number(char *line, double value)
{
	if (!isfinite(value) || value < 0)
		return sprintf(line, "%*s", NUMBER_WIDTH, "-");
	return sprintf(line, value < 99999.995 ? " %*.2f" :
		       value < 9999999.5 ? " %*.0f" : " %*.1e",
		       NUMBER_WIDTH - 1, value);
}

static void put_device_line(const struct view *view, const struct row *row,
			    char line[LINE_BYTES])
{
	char label[KVMSTATS_MAX_VM_NAME + KVMSTATS_MAX_DEVICE + 2];
	int width, rank = shown_rank(view, &width);
	struct disk disk;
	size_t length;

	snprintf(label, sizeof(label), "%s %s", vm_name(row->vm),
		 kvmstats_source_device(row->watch->source));
	disk_fill(&disk, row->watch);
	length = put_device_label(line, label, width);
	for (size_t i = 0; i < COLUMNS; i++) {
		const struct column *column = &columns[i];

		if (column->rank <= rank)
			length += put_number(line + length,
					     column->value(&disk, column->op));
	}
}

bool view_is_disk(const struct watch *watch)
{
	return !strcmp(kvmstats_source_class(watch->source), "block");
}

/* What disks are sorted by: requests. */
void view_device_fill(struct row *row)
{
	const struct watch *watch = row->watch;
	struct kvmstats_schema *schema = kvmstats_source_schema(watch->source);
	char text[KVMSTATS_MAX_STAT_NAME + 1];
	double ios = 0;

	for (int i = 0; i < OPERATIONS; i++) {
		const struct kvmstats_desc *desc;

		ios += growth(watch, operations[i], "_ios");
		snprintf(text, sizeof(text), "%s_ios", operations[i]);
		desc = kvmstats_schema_find(schema, text);
		if (desc)
			row->total += kvmstats_desc_value(desc, watch->now, 0);
	}
	row->has_rate = true;
	row->rate = part(ios, (watch->now_ns - watch->before_ns) / 1e9);
}

/* ---- statistics and VMs */

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
		put_device_line(view, row, line);
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
		put_device_heading(view, line);
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
		 view->vms, plural(view->vms), view->sources,
		 plural(view->sources));
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
