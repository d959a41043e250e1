// SPDX-License-Identifier: GPL-2.0-only
/* top --devices: a line a disk, in the columns of iostat -x where they mean the same */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "view.h"

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
static size_t put_label(char line[LINE_BYTES], const char *label, int width)
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

void view_device_heading(const struct view *view, char line[LINE_BYTES])
{
	int width, rank = shown_rank(view, &width);
	size_t length = put_label(line, "Device", width);

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

void view_device_line(const struct view *view, const struct row *row,
		      char line[LINE_BYTES])
{
	char label[KVMSTATS_MAX_VM_NAME + KVMSTATS_MAX_DEVICE + 2];
	int width, rank = shown_rank(view, &width);
	struct disk disk;
	size_t length;

	snprintf(label, sizeof(label), "%s %s", vm_name(row->vm),
		 kvmstats_source_device(row->watch->source));
	disk_fill(&disk, row->watch);
	length = put_label(line, label, width);
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
