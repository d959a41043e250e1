/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTAT_VIEW_H
#define KVMSTAT_VIEW_H

#include "vm.h"

/*
 * One line of top: a statistic (or one bucket of exits by reason) over all sources,
 * one source of it, a VM, a disk.
 */
struct row {
	const struct kvmstats_desc *desc;	/* NULL: a VM's events */
	const struct watch *watch;		/* NULL: not one source */
	const struct vm *vm;
	const char *reason;			/* of exits, or NULL */
	unsigned int bucket;			/* of that reason */
	size_t pool;
	bool has_rate;
	uint64_t total;				/* raw */
	uint64_t growth;			/* raw, in the interval */
	double rate;				/* raw a second */
	bool has_p50, has_p99;
	uint64_t p50[2], p99[2];		/* from, to; of the interval */
};

/* Sources of equal schema, scope and class: their sums. */
struct pool {
	struct kvmstats_schema *schema;
	enum kvmstats_scope scope;
	const char *class_name;		/* "" but of devices */
	bool sum;			/* over vCPUs, by debugfs */
	uint64_t *delta, *total, *peak;
	uint64_t interval_ns;			/* sum, then mean */
	size_t sources;
};

struct view {
	const struct fleet *fleet;
	const struct vm *only;			/* NULL: all */
	struct filter fields;
	char guest[KVMSTATS_MAX_VM_NAME + 1];	/* name or pid; "": all */
	enum sort_order sort;
	bool by_guest, split, hists, zeros, devices;
	bool reasons;				/* of exits: a row each */
	int columns;				/* 0: as wide as need be */

	/* filled by view_build */
	struct pool *pools;
	size_t pool_count;
	struct row *rows;
	size_t row_count, row_room;
	size_t vms, sources;
	size_t without;				/* VMs that have no source */
	uint64_t events;			/* over all shown counters */
	double events_rate;
	int restarts;
	bool no_memory;
};

bool view_selects(const struct view *view, const struct vm *vm);
void view_build(struct view *view);
void view_release(struct view *view);

/* view_text.c: text, without line ends */
#define LINE_BYTES 512
void view_summary(const struct view *view, char line[LINE_BYTES]);
void view_heading(const struct view *view, char line[LINE_BYTES]);
void view_line(const struct view *view, const struct row *row,
	       char line[LINE_BYTES]);
void view_footing(const struct view *view, char line[LINE_BYTES]);
/* VMs of which statistics are missing, and why; what else could not be seen. */
size_t view_missing_count(const struct view *view);
void view_missing_line(const struct view *view, size_t index,
		       char line[LINE_BYTES]);

/* A line for a disk, which is sorted by its requests */
bool view_is_disk(const struct watch *watch);
void view_device_fill(struct row *row);

/* screen.c */
struct screen_lines {
	const char *title;
	const char *heading;
	const char *status;		/* the last line */
	bool prompting;			/* the cursor stands behind status */
	void (*line)(void *context, size_t index, char line[LINE_BYTES]);
	void *context;
	size_t count;
	size_t first;			/* scrolled; corrected when too far */
};

enum screen_key {
	SCREEN_NONE = -1, SCREEN_UP = 1000, SCREEN_DOWN, SCREEN_PAGE_UP,
	SCREEN_PAGE_DOWN, SCREEN_HOME, SCREEN_END, SCREEN_ERASE, SCREEN_ENTER, SCREEN_ESCAPE,
	SCREEN_RESIZED, SCREEN_OTHER,
};

/* NULL, or why there can be no screen. */
const char *screen_open(void);
void screen_close(void);
int screen_key(void);
size_t screen_room(void);
int screen_columns(void);
void screen_draw(struct screen_lines *lines, const sigset_t *while_waiting);

#endif /* KVMSTAT_VIEW_H */
