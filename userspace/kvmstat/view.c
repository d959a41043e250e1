// SPDX-License-Identifier: GPL-2.0-only
/* What top shows, as numbers: sums over sources, sorted. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "view.h"

bool view_selects(const struct view *view, const struct vm *vm)
{
	char pid[24];

	if (view->only)
		return vm == view->only;
	if (!fleet_shows(view->fleet, vm))
		return false;
	snprintf(pid, sizeof(pid), "%ld", vm->pid);
	return !*view->guest || !strcmp(view->guest, vm_name(vm)) ||
	       !strcmp(view->guest, pid);
}

static bool in_pool(const struct pool *pool, const struct watch *watch)
{
	return kvmstats_source_schema(watch->source) == pool->schema &&
	       kvmstats_source_scope(watch->source) == pool->scope &&
	       !strcmp(kvmstats_source_class(watch->source), pool->class_name);
}

static struct pool *add_pool(struct view *view,
			     const struct kvmstats_source *source)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(source);
	size_t words = kvmstats_schema_words(schema) + 1;
	struct pool *pools = realloc(view->pools, (view->pool_count + 1) *
				     sizeof(*pools));
	struct pool *pool;

	if (!pools)
		return NULL;
	view->pools = pools;
	pool = &pools[view->pool_count];
	*pool = (struct pool){
		.schema = schema, .scope = kvmstats_source_scope(source),
		.class_name = kvmstats_source_class(source),
	};
	pool->delta = calloc(3 * words, sizeof(uint64_t));
	if (!pool->delta)
		return NULL;
	pool->total = pool->delta + words;
	pool->peak = pool->total + words;
	view->pool_count++;
	return pool;
}

static struct pool *find_pool(struct view *view, const struct watch *watch)
{
	for (size_t i = 0; i < view->pool_count; i++)
		if (in_pool(&view->pools[i], watch))
			return &view->pools[i];
	return add_pool(view, watch->source);
}

static void pool_watch(struct view *view, const struct watch *watch,
		       uint64_t *scratch)
{
	struct pool *pool = find_pool(view, watch);

	if (!pool) {
		view->no_memory = true;
		return;
	}
	pool->sum = kvmstats_source_is_sum(watch->source);
	kvmstats_schema_delta(pool->schema, watch->base, watch->now, scratch);
	kvmstats_schema_fold(pool->schema, KVMSTATS_SUM, pool->total, scratch);
	kvmstats_schema_fold(pool->schema, KVMSTATS_SUM, pool->delta, watch->delta);
	kvmstats_schema_fold(pool->schema, KVMSTATS_MAX, pool->peak, watch->now);
	pool->interval_ns += watch->now_ns - watch->before_ns;
	pool->sources++;
	view->sources++;
	view->restarts += watch->restarts;
}

static void pool_vm(struct view *view, const struct vm *vm)
{
	for (size_t i = 0; i < vm->count; i++) {
		const struct watch *watch = &vm->watches[i];
		struct kvmstats_schema *schema =
			kvmstats_source_schema(watch->source);
		size_t words = kvmstats_schema_words(schema);
		uint64_t *scratch = calloc(words + 1, sizeof(*scratch));

		if (scratch)
			pool_watch(view, watch, scratch);
		else
			view->no_memory = true;
		free(scratch);
	}
}

static struct row *add_row(struct view *view)
{
	if (view->row_count == view->row_room) {
		size_t room = view->row_room ? 2 * view->row_room : 256;
		struct row *rows = realloc(view->rows, room * sizeof(*rows));

		if (!rows) {
			view->no_memory = true;
			return NULL;
		}
		view->rows = rows;
		view->row_room = room;
	}
	memset(&view->rows[view->row_count], 0, sizeof(struct row));
	return &view->rows[view->row_count++];
}

static void fill_hist(struct row *row, const uint64_t *delta,
		      const uint64_t *total, uint64_t interval_ns)
{
	const struct kvmstats_desc *desc = row->desc;

	row->total = kvmstats_desc_hist_count(desc, total);
	row->growth = kvmstats_desc_hist_count(desc, delta);
	row->rate = kvmstats_rate(row->growth, interval_ns);
	row->has_rate = true;
	row->has_p50 = !kvmstats_desc_quantile(desc, delta, 500000, &row->p50[0],
					       &row->p50[1]);
	row->has_p99 = !kvmstats_desc_quantile(desc, delta, 990000, &row->p99[0],
					       &row->p99[1]);
}

static void fill_reason(struct row *row, const uint64_t *delta,
			const uint64_t *total, uint64_t interval_ns)
{
	row->total = kvmstats_desc_value(row->desc, total, row->bucket);
	row->growth = kvmstats_desc_value(row->desc, delta, row->bucket);
	row->rate = kvmstats_rate(row->growth, interval_ns);
	row->has_rate = true;
}

/* Of what goes up and down the total is the sum now, of peaks the largest. */
static void fill_row(struct row *row, const uint64_t *delta,
		     const uint64_t *total, const uint64_t *peak,
		     uint64_t interval_ns)
{
	const struct kvmstats_desc *desc = row->desc;

	if (row->reason) {
		fill_reason(row, delta, total, interval_ns);
	} else if (kvmstats_desc_is_hist(desc)) {
		fill_hist(row, delta, total, interval_ns);
	} else if (is_counter(desc)) {
		row->total = kvmstats_desc_value(desc, total, 0);
		row->growth = kvmstats_desc_value(desc, delta, 0);
		row->rate = kvmstats_rate(row->growth, interval_ns);
		row->has_rate = true;
	} else if (kvmstats_desc_type(desc) == KVMSTATS_PEAK) {
		row->total = kvmstats_desc_value(desc, peak, 0);
	} else {
		row->total = kvmstats_desc_value(desc, delta, 0);
	}
}

/* Most of them never occur, and have no row. */
static void add_reasons(struct view *view, size_t index,
			const struct kvmstats_desc *desc)
{
	const struct pool *pool = &view->pools[index];

	for (unsigned int i = 0; i < kvmstats_desc_size(desc); i++) {
		struct row row = {
			.desc = desc, .pool = index, .bucket = i,
			.reason = kvmstats_desc_reason(desc, i),
		}, *place;

		fill_row(&row, pool->delta, pool->total, pool->peak,
			 pool->interval_ns / pool->sources);
		place = row.total ? add_row(view) : NULL;
		if (place)
			*place = row;
	}
}

static void add_stat(struct view *view, size_t index,
		     const struct kvmstats_desc *desc)
{
	const struct pool *pool = &view->pools[index];
	struct row row = { .desc = desc, .pool = index }, *place;
	bool has_reasons = kvmstats_desc_has_reasons(desc);

	if (!filter_passes(&view->fields, desc) ||
	    (view->hists && (!kvmstats_desc_is_hist(desc) || has_reasons)))
		return;
	if (view->reasons && has_reasons) {
		add_reasons(view, index, desc);
		return;
	}
	fill_row(&row, pool->delta, pool->total, pool->peak,
		 pool->interval_ns / pool->sources);
	if (is_event(desc)) {
		view->events += row.total;
		view->events_rate += row.rate;
	}
	if (!row.total && !view->zeros)
		return;
	place = add_row(view);
	if (place)
		*place = row;
}

static void add_stats(struct view *view)
{
	for (size_t i = 0; i < view->pool_count; i++) {
		struct kvmstats_schema *schema = view->pools[i].schema;

		for (size_t j = 0; j < kvmstats_schema_count(schema); j++)
			add_stat(view, i, kvmstats_schema_desc(schema, j));
	}
}

/* One source of a statistic; @scratch holds its totals. */
static void add_part(struct view *view, const struct row *parent,
		     const struct vm *vm, const struct watch *watch)
{
	const struct pool *pool = &view->pools[parent->pool];
	struct row row = {
		.desc = parent->desc, .pool = parent->pool, .vm = vm,
		.watch = watch, .reason = parent->reason,
		.bucket = parent->bucket,
	}, *place;
	uint64_t *total = calloc(kvmstats_schema_words(pool->schema) + 1,
				 sizeof(*total));

	if (!total) {
		view->no_memory = true;
		return;
	}
	kvmstats_schema_delta(pool->schema, watch->base, watch->now, total);
	fill_row(&row, watch->delta, total, watch->now,
		 watch->now_ns - watch->before_ns);
	free(total);
	place = row.total || view->zeros ? add_row(view) : NULL;
	if (place)
		*place = row;
}

static void add_parts(struct view *view, const struct row *parent)
{
	const struct pool *pool = &view->pools[parent->pool];

	for (size_t i = 0; i < view->fleet->count; i++) {
		const struct vm *vm = view->fleet->vms[i];

		for (size_t j = 0; view_selects(view, vm) && j < vm->count;
		     j++) {
			const struct watch *watch = &vm->watches[j];

			if (in_pool(pool, watch))
				add_part(view, parent, vm, watch);
		}
	}
}

/* Each statistic is followed by its sources. */
static void split_rows(struct view *view)
{
	struct row *parents = view->rows;
	size_t count = view->row_count;

	view->rows = NULL;
	view->row_count = 0;
	view->row_room = 0;
	for (size_t i = 0; i < count; i++) {
		struct row *place = add_row(view);

		if (!place)
			break;
		*place = parents[i];
		add_parts(view, &parents[i]);
	}
	free(parents);
}

static void count_events(struct view *view, struct row *row,
			 const struct watch *watch)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(watch->source);
	uint64_t interval_ns = watch->now_ns - watch->before_ns;

	for (size_t i = 0; i < kvmstats_schema_count(schema); i++) {
		const struct kvmstats_desc *desc;
		uint64_t total;

		desc = kvmstats_schema_desc(schema, i);
		if (!is_event(desc) || !filter_passes(&view->fields, desc))
			continue;
		kvmstats_counter_delta(kvmstats_desc_value(desc, watch->base, 0),
				       kvmstats_desc_value(desc, watch->now, 0),
				       &total);
		row->total += total;
		row->rate += kvmstats_rate(kvmstats_desc_value(desc, watch->delta,
							       0), interval_ns);
	}
}

static void add_guest(struct view *view, const struct vm *vm)
{
	struct row *row = add_row(view);

	if (!row)
		return;
	row->vm = vm;
	row->has_rate = true;
	for (size_t i = 0; i < vm->count; i++)
		count_events(view, row, &vm->watches[i]);
	view->events += row->total;
	view->events_rate += row->rate;
	view->sources += vm->count;
}

static void add_disks(struct view *view, const struct vm *vm)
{
	for (size_t i = 0; i < vm->count; i++) {
		struct row *row;

		if (!view_is_disk(&vm->watches[i]))
			continue;
		row = add_row(view);
		if (!row)
			return;
		row->vm = vm;
		row->watch = &vm->watches[i];
		view_device_fill(row);
		view->sources++;
		view->restarts += vm->watches[i].restarts;
	}
}

/* Seconds cannot be compared with events: each kind has a place of its own. */
static int kind(const struct row *row)
{
	if (!row->desc || row->reason || is_event(row->desc))
		return 0;
	if (kvmstats_desc_is_hist(row->desc))
		return 2;
	return is_counter(row->desc) ? 1 : 3;
}

static int compare_names(const struct row *x, const struct row *y)
{
	if (x->desc && x->desc == y->desc)
		return (x->bucket > y->bucket) - (x->bucket < y->bucket);
	if (x->desc && y->desc)
		return strcmp(kvmstats_desc_name(x->desc),
			      kvmstats_desc_name(y->desc));
	if (x->vm && y->vm && strcmp(vm_name(x->vm), vm_name(y->vm)))
		return strcmp(vm_name(x->vm), vm_name(y->vm));
	if (x->watch && y->watch && x->vm == y->vm)
		return kvmstats_source_compare(x->watch->source,
					       y->watch->source);
	return x->vm && y->vm ? (x->vm->pid > y->vm->pid) -
				(x->vm->pid < y->vm->pid) : 0;
}

static int by_name(const void *a, const void *b)
{
	return compare_names(a, b);
}

static int by_total(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (kind(x) != kind(y))
		return kind(x) - kind(y);
	if (x->total != y->total)
		return x->total < y->total ? 1 : -1;
	return compare_names(x, y);
}

static int by_rate(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (kind(x) != kind(y))
		return kind(x) - kind(y);
	if (x->rate != y->rate)
		return x->rate < y->rate ? 1 : -1;
	return by_total(a, b);
}

static void sort_rows(struct view *view)
{
	static int (*const orders[])(const void *a, const void *b) = {
		[SORT_RATE] = by_rate, [SORT_TOTAL] = by_total,
		[SORT_NAME] = by_name,
	};

	if (view->row_count)
		qsort(view->rows, view->row_count, sizeof(*view->rows),
		      orders[view->sort]);
}

void view_release(struct view *view)
{
	for (size_t i = 0; i < view->pool_count; i++)
		free(view->pools[i].delta);
	free(view->pools);
	free(view->rows);
	view->pools = NULL;
	view->rows = NULL;
	view->pool_count = 0;
	view->row_count = 0;
	view->row_room = 0;
}

/* Of the samples as they are: nothing is read. */
void view_build(struct view *view)
{
	const struct fleet *fleet = view->fleet;

	view_release(view);
	view->vms = 0;
	view->sources = 0;
	view->without = 0;
	view->events = 0;
	view->events_rate = 0;
	view->restarts = 0;
	view->no_memory = false;
	for (size_t i = 0; i < fleet->count; i++) {
		const struct vm *vm = fleet->vms[i];

		view->without += vm->vmm && !vm->count && !view->only &&
				 fleet_names(fleet, vm);
		if (!view_selects(view, vm))
			continue;
		view->vms++;
		if (view->devices)
			add_disks(view, fleet->vms[i]);
		else if (view->by_guest)
			add_guest(view, fleet->vms[i]);
		else
			pool_vm(view, fleet->vms[i]);
	}
	add_stats(view);
	sort_rows(view);
	if (view->split && !view->by_guest && !view->devices)
		split_rows(view);
}
