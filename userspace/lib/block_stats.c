// SPDX-License-Identifier: LGPL-2.1-or-later
/* What is published of a block device, in the order in which block.c puts it. */
#include <stdio.h>
#include <string.h>

#include "block_windows.h"

#define NANO	-9
#define MICRO	-6

struct kind {
	const char *name;		/* behind the operation's */
	unsigned int type, unit;
	int exponent;
	unsigned int size;
	bool not_of_flush;
};

static const struct kind kinds[] = {
	{ "bytes", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_BYTES, 0, 1, true },
	{ "ios", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_NONE, 0, 1, false },
	{ "merged", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_NONE, 0, 1, true },
	{ "invalid", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_NONE, 0, 1, false },
	{ "failed", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_NONE, 0, 1, false },
	{ "time_ns", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_SECONDS, NANO, 1, false },
	{ "failed_time_ns", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_SECONDS, NANO, 1, false },
	{ "queue_time_ns", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_SECONDS, NANO, 1, false },
	{ "in_flight", KVMSTATS_INSTANT, KVMSTATS_UNIT_NONE, 0, 1, false },
	{ "latency_hist", KVMSTATS_LOG_HIST, KVMSTATS_UNIT_SECONDS, NANO,
	  BLOCK_LATENCY_BUCKETS, false },
	{ "size_hist", KVMSTATS_LOG_HIST, KVMSTATS_UNIT_BYTES, 0,
	  BLOCK_SIZE_BUCKETS, true },
};

/* Of each window: its name comes in between. */
static const struct {
	const char *before, *behind;
	unsigned int unit;
	int exponent;
} averages[] = {
	{ "done", "", KVMSTATS_UNIT_NONE, 0 },
	{ "latency_avg", "_ns", KVMSTATS_UNIT_SECONDS, NANO },
	{ "latency_min", "_ns", KVMSTATS_UNIT_SECONDS, NANO },
	{ "latency_max", "_ns", KVMSTATS_UNIT_SECONDS, NANO },
	{ "depth", "", KVMSTATS_UNIT_NONE, MICRO },
};

static const char *const windows[BLOCK_WINDOWS] = { "1s", "1m", "1h" };
static const char *const operations[KVMSTATS_BLOCK_OPS] = {
	"read", "write", "flush", "discard",
};

#define COUNT(array)	(sizeof(array) / sizeof(*(array)))
#define MOST (2 + KVMSTATS_BLOCK_OPS * (COUNT(kinds) + BLOCK_WINDOWS * COUNT(averages)))

struct list {
	struct kvmstats_stat stats[MOST];
	char names[MOST][KVMSTATS_MAX_STAT_NAME + 1];
	size_t count;
};

static struct kvmstats_stat *add(struct list *list, const char *operation,
				 const char *name, const char *window,
				 const char *behind)
{
	struct kvmstats_stat *stat = &list->stats[list->count];
	char *text = list->names[list->count++];

	snprintf(text, sizeof(list->names[0]), "%s%s%s%s%s%s", operation,
		 *operation ? "_" : "", name, *window ? "_" : "", window, behind);
	*stat = (struct kvmstats_stat){ .name = text, .size = 1 };
	return stat;
}

static void add_operation(struct list *list, int op)
{
	struct kvmstats_stat *stat;

	for (size_t i = 0; i < COUNT(kinds); i++) {
		const struct kind *kind = &kinds[i];

		if (op == KVMSTATS_BLOCK_FLUSH && kind->not_of_flush)
			continue;
		stat = add(list, operations[op], kind->name, "", "");
		stat->type = kind->type;
		stat->unit = kind->unit;
		stat->exponent = kind->exponent;
		stat->size = kind->size;
	}
	for (int i = 0; i < BLOCK_WINDOWS; i++)
		for (size_t j = 0; j < COUNT(averages); j++) {
			stat = add(list, operations[op], averages[j].before,
				   windows[i], averages[j].behind);
			stat->type = KVMSTATS_INSTANT;
			stat->unit = averages[j].unit;
			stat->exponent = averages[j].exponent;
		}
}

int block_publisher(struct kvmstats_publisher **publisher)
{
	struct list list = { .count = 0 };
	struct kvmstats_stat *stat;

	stat = add(&list, "", "idle_time_ns", "", "");
	stat->type = KVMSTATS_CUMULATIVE;
	stat->unit = KVMSTATS_UNIT_SECONDS;
	stat->exponent = NANO;
	stat = add(&list, "", "idle_since_ns", "", "");
	stat->type = KVMSTATS_INSTANT;
	stat->unit = KVMSTATS_UNIT_SECONDS;
	stat->exponent = NANO;
	for (int op = 0; op < KVMSTATS_BLOCK_OPS; op++)
		add_operation(&list, op);
	return kvmstats_publisher_new("block", list.stats, list.count, publisher);
}
