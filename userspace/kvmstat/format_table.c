// SPDX-License-Identifier: GPL-2.0-only
/* The live table: growth a second for counters, values for the rest. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vm.h"

#define NAME_WIDTH	24
#define CELL_WIDTH	8
#define LABEL_WIDTH	NAME_WIDTH

/* Watches of equal schema, scope and class: one part of a table. */
struct group {
	const struct vm *vm;
	struct kvmstats_schema *schema;
	enum kvmstats_scope scope;
	const char *class_name;		/* "" but of devices */
	size_t count;
	const struct watch **watches;
	uint64_t *sum;			/* of the deltas */
	uint64_t sum_ns;		/* mean length of the intervals */
};

struct table {
	FILE *out;
	const struct group *group;
	size_t columns;		/* watches that have a column of their own */
	const struct filter *fields;
	bool all;
	unsigned int left_out;	/* statistics that did not move */
};

static void group_free(struct group *group)
{
	free(group->watches);
	free(group->sum);
	group->watches = NULL;
	group->sum = NULL;
}

static bool in_group(const struct group *group, const struct watch *watch)
{
	return kvmstats_source_schema(watch->source) == group->schema &&
	       kvmstats_source_scope(watch->source) == group->scope &&
	       !strcmp(kvmstats_source_class(watch->source), group->class_name);
}

/* A watch begins a group if none before it belongs to that group. */
static bool begins_group(const struct vm *vm, const struct group *group,
			 size_t position)
{
	for (size_t i = 0; i < position; i++)
		if (in_group(group, &vm->watches[i]))
			return false;
	return true;
}

/* 1 or -ENOMEM */
static int group_fill(struct group *group, size_t position)
{
	const struct vm *vm = group->vm;
	size_t words = kvmstats_schema_words(group->schema);
	uint64_t total_ns = 0;

	group->count = 0;
	group->watches = calloc(vm->count, sizeof(*group->watches));
	group->sum = calloc(words + 1, sizeof(*group->sum));
	if (!group->watches || !group->sum) {
		group_free(group);
		return -ENOMEM;
	}
	for (size_t i = position; i < vm->count; i++) {
		const struct watch *watch = &vm->watches[i];

		if (!in_group(group, watch))
			continue;
		group->watches[group->count++] = watch;
		kvmstats_schema_fold(group->schema, KVMSTATS_SUM, group->sum,
				     watch->delta);
		total_ns += watch->now_ns - watch->before_ns;
	}
	group->sum_ns = total_ns / group->count;
	return 1;
}

/* The next group at or after *@position: 1, 0 at the end, or -ENOMEM. */
static int group_next(const struct vm *vm, size_t *position, struct group *group)
{
	for (; *position < vm->count; ++*position) {
		struct kvmstats_source *source = vm->watches[*position].source;

		group->vm = vm;
		group->schema = kvmstats_source_schema(source);
		group->scope = kvmstats_source_scope(source);
		group->class_name = kvmstats_source_class(source);
		if (begins_group(vm, group, *position))
			return group_fill(group, (*position)++);
	}
	return 0;
}

static void print_cell(FILE *out, const char *text)
{
	fprintf(out, " %*s", CELL_WIDTH, text);
}

static void print_rate(FILE *out, const struct kvmstats_desc *desc,
		       uint64_t delta, uint64_t interval_ns)
{
	double rate = kvmstats_rate(delta, interval_ns);
	char text[SI_TEXT_SIZE];

	print_cell(out, si_text(text, kvmstats_desc_to_unit(desc, rate),
				unit_letter(desc)));
}

static void print_counter(struct table *table, const struct kvmstats_desc *desc)
{
	const struct group *group = table->group;

	if (group->count > 1)
		print_rate(table->out, desc,
			   kvmstats_desc_value(desc, group->sum, 0), group->sum_ns);
	for (size_t i = 0; i < table->columns; i++) {
		const struct watch *watch = group->watches[i];

		print_rate(table->out, desc,
			   kvmstats_desc_value(desc, watch->delta, 0),
			   watch->now_ns - watch->before_ns);
	}
}

/* Not a counter: a sum says little, so the first column stays empty. */
static void print_values(struct table *table, const struct kvmstats_desc *desc)
{
	const struct group *group = table->group;
	char text[SI_TEXT_SIZE];

	if (group->count > 1)
		print_cell(table->out, "");
	for (size_t i = 0; i < table->columns; i++) {
		uint64_t raw = kvmstats_desc_value(desc, group->watches[i]->now, 0);

		if (kvmstats_desc_unit(desc) == KVMSTATS_UNIT_BOOLEAN) {
			print_cell(table->out, raw ? "1" : "0");
			continue;
		}
		print_cell(table->out,
			   si_text(text, kvmstats_desc_to_unit(desc, raw),
				   unit_letter(desc)));
	}
}

static void print_events(struct table *table, const struct kvmstats_desc *desc)
{
	const struct group *group = table->group;
	char text[SI_TEXT_SIZE];

	if (group->count > 1)
		print_cell(table->out,
			   si_text(text, kvmstats_rate(kvmstats_desc_hist_count(desc,
										group->sum),
						       group->sum_ns), ""));
	for (size_t i = 0; i < table->columns; i++) {
		const struct watch *watch = group->watches[i];
		uint64_t count = kvmstats_desc_hist_count(desc, watch->delta);
		uint64_t interval_ns = watch->now_ns - watch->before_ns;

		print_cell(table->out,
			   si_text(text, kvmstats_rate(count, interval_ns), ""));
	}
}

/* The upper end of the bucket, or of an open bucket its lower end with ">". */
static void print_quantile(FILE *out, const struct kvmstats_desc *desc,
			   const uint64_t *delta, uint32_t ppm)
{
	char text[SI_TEXT_SIZE + 1] = ">";
	uint64_t low, high;

	if (kvmstats_desc_quantile(desc, delta, ppm, &low, &high)) {
		print_cell(out, "-");
	} else if (high == UINT64_MAX) {
		si_text(text + 1, kvmstats_desc_to_unit(desc, low),
			unit_letter(desc));
		print_cell(out, text);
	} else {
		print_cell(out, si_text(text, kvmstats_desc_to_unit(desc, high),
					unit_letter(desc)));
	}
}

static void print_quantiles(struct table *table,
			    const struct kvmstats_desc *desc,
			    const char *label, uint32_t ppm)
{
	const struct group *group = table->group;

	fprintf(table->out, "    %-*s", LABEL_WIDTH - 2 + 6, label);
	if (group->count > 1)
		print_quantile(table->out, desc, group->sum, ppm);
	for (size_t i = 0; i < table->columns; i++)
		print_quantile(table->out, desc, group->watches[i]->delta, ppm);
	fputc('\n', table->out);
}

static void print_hist(struct table *table, const struct kvmstats_desc *desc)
{
	print_events(table, desc);
	fputc('\n', table->out);
	print_quantiles(table, desc, "median at most", 500000);
	print_quantiles(table, desc, "p99 at most", 990000);
}

static bool moved(const struct group *group, const struct kvmstats_desc *desc)
{
	for (size_t i = 0; i < group->count; i++)
		if (!all_zero(desc, group->watches[i]->delta))
			return true;
	return false;
}

/* What a cell of this row means. */
static const char *row_kind(const struct kvmstats_desc *desc)
{
	switch (kvmstats_desc_type(desc)) {
	case KVMSTATS_CUMULATIVE:
		return "/s";
	case KVMSTATS_LINEAR_HIST:
	case KVMSTATS_LOG_HIST:
		return "n/s";
	case KVMSTATS_INSTANT:
		return "now";
	case KVMSTATS_PEAK:
		return "peak";
	default:
		return "raw";
	}
}

/* For values, the delta holds the value: what is 0 everywhere is left out. */
static void print_row(struct table *table, const struct kvmstats_desc *desc)
{
	if (!filter_passes(table->fields, desc))
		return;
	if (!table->all && !moved(table->group, desc)) {
		table->left_out++;
		return;
	}
	fprintf(table->out, "  %-*s %-5s", NAME_WIDTH,
		kvmstats_desc_name(desc), row_kind(desc));
	if (kvmstats_desc_is_hist(desc)) {
		print_hist(table, desc);
		return;
	}
	if (is_counter(desc))
		print_counter(table, desc);
	else
		print_values(table, desc);
	if (kvmstats_desc_size(desc) > 1)
		fprintf(table->out, " (first of %u)", kvmstats_desc_size(desc));
	fputc('\n', table->out);
}

/* Of names that are too long the ends are what tells them apart. */
static void print_label(FILE *out, const struct kvmstats_source *source)
{
	const char *device = kvmstats_source_device(source);
	size_t length = strlen(device);
	char label[LABEL_TEXT_SIZE];

	source_label(label, source);
	if (length > CELL_WIDTH)
		device += length - CELL_WIDTH;
	print_cell(out, *device ? device : label);
}

static void print_heading(const struct table *table)
{
	static const char *const headings[KVMSTATS_SCOPES] = {
		[KVMSTATS_SCOPE_VM] = "VM", [KVMSTATS_SCOPE_VCPU] = "VCPUS",
		[KVMSTATS_SCOPE_DEVICE] = "DEVICES",
	};
	const struct group *group = table->group;

	fprintf(table->out, "  %-*s %-5s", NAME_WIDTH,
		headings[group->scope], "");
	if (group->count > 1)
		print_cell(table->out, "sum");
	for (size_t i = 0; i < table->columns; i++)
		print_label(table->out, group->watches[i]->source);
	fputc('\n', table->out);
}

static int count_restarts(const struct group *group)
{
	int restarts = 0;

	for (size_t i = 0; i < group->count; i++)
		restarts += group->watches[i]->restarts;
	return restarts;
}

/* What is left out is said. */
static void print_footing(const struct table *table)
{
	const struct group *group = table->group;
	int restarts = count_restarts(group);

	if (table->left_out)
		fprintf(table->out, "  (%u more statistics are 0; --all shows them)\n",
			table->left_out);
	if (table->columns < group->count)
		fprintf(table->out, "  (%zu more columns, in the sum only; --columns shows them)\n",
			group->count - table->columns);
	if (restarts)
		fprintf(table->out, "  (%d counters restarted)\n", restarts);
}

static void print_group(struct table *table, size_t columns)
{
	const struct group *group = table->group;

	table->left_out = 0;
	table->columns = group->count < columns ? group->count : columns;
	print_heading(table);
	for (size_t i = 0; i < kvmstats_schema_count(group->schema); i++)
		print_row(table, kvmstats_schema_desc(group->schema, i));
	print_footing(table);
}

static void print_vm_line(FILE *out, const struct vm *vm)
{
	const char *uuid = vm_uuid(vm);
	char now[16];
	struct tm tm;
	time_t t = time(NULL);

	localtime_r(&t, &tm);
	strftime(now, sizeof(now), "%H:%M:%S", &tm);
	fprintf(out, "%s  VM %s%s%s  pid %ld uid %ld  %zu descriptor%s", now,
		vm_name(vm), *uuid ? " " : "", uuid, vm->pid, vm->uid,
		vm->count, plural(vm->count));
	if (vm->rejected)
		fprintf(out, ", %u rejected", vm->rejected);
	fputc('\n', out);
}

bool table_print(FILE *out, const struct vm *vm, const struct filter *fields,
		 bool all, size_t columns)
{
	size_t position = 0;
	int ret;
	struct group group;
	struct table table = {
		.out = out, .group = &group, .fields = fields, .all = all
	};

	print_vm_line(out, vm);
	while ((ret = group_next(vm, &position, &group)) > 0) {
		print_group(&table, columns);
		group_free(&group);
	}
	if (ret)
		fputs("  out of memory: incomplete\n", out);
	fputc('\n', out);
	return !ret;
}

void text_event(FILE *out, const struct vm *vm, const char *event,
		const char *reason)
{
	fprintf(out, "VM %s (pid %ld, uid %ld) %s: %s\n", vm_name(vm), vm->pid,
		vm->uid, event, reason);
}
