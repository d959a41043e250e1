// SPDX-License-Identifier: GPL-2.0-only
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exposition.h"
#include "plan.h"

/* ---------------------------------- names, types and units of statistics */

/* A histogram whose buckets have no bounds is a row of numbers. */
enum family_kind family_kind(const struct kvmstats_desc *desc)
{
	uint64_t low, high;

	if (kvmstats_desc_has_reasons(desc))
		return FAMILY_REASONS;
	if (!kvmstats_desc_bucket_bounds(desc, 0, &low, &high))
		return FAMILY_HISTOGRAM;
	return kvmstats_desc_size(desc) > 1 ? FAMILY_VECTOR : FAMILY_SCALAR;
}

enum value_kind value_kind(const struct kvmstats_desc *desc)
{
	char text[KVMSTATS_MAX_TEXT_SIZE];

	if (!kvmstats_desc_exponent(desc) ||
	    kvmstats_desc_format(desc, 0, text, sizeof(text)) < 0)
		return VALUE_PLAIN;
	return kvmstats_desc_base(desc) == 10 &&
	       kvmstats_desc_exponent(desc) == -9 ? VALUE_NANO : VALUE_SCALED;
}

const char *metric_type(enum family_kind kind, unsigned int type)
{
	if (kind >= FAMILY_HISTOGRAM)
		return kind == FAMILY_HISTOGRAM ? "histogram" : "counter";
	switch (type) {
	case KVMSTATS_CUMULATIVE:
		return "counter";
	case KVMSTATS_INSTANT:
	case KVMSTATS_PEAK:
		return "gauge";
	default:
		return "unknown";
	}
}

/* A value that cannot be converted is not in its unit. */
static bool is_convertible(const struct kvmstats_desc *desc)
{
	return !kvmstats_desc_exponent(desc) ||
	       value_kind(desc) != VALUE_PLAIN;
}

const char *metric_unit(const struct kvmstats_desc *desc)
{
	unsigned int unit = kvmstats_desc_unit(desc);

	if (!is_convertible(desc) || unit == KVMSTATS_UNIT_NONE ||
	    unit == KVMSTATS_UNIT_BOOLEAN)
		return NULL;
	return kvmstats_unit_name(unit);
}

static bool strip(char *name, const char *end)
{
	size_t length = strlen(name), end_length = strlen(end);

	if (length <= end_length || strcmp(name + length - end_length, end))
		return false;
	name[length - end_length] = 0;
	return true;
}

/* What the kernel says of the unit in the name, and is no longer true. */
static void strip_unit(char *name, const char *unit)
{
	static const char *const ends[] = {
		"_ns", "_us", "_ms", "_sec", "_seconds", "_bytes", "_cycles",
	};

	if (!unit)
		return;
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		if (strip(name, ends[i]))
			return;
}

static const char *kind_text(const struct kvmstats_desc *desc)
{
	const char *type = kvmstats_type_name(kvmstats_desc_type(desc));

	return type ? type : "untyped";
}

/*
 * The same statistic always gets the same name, unless another one has it:
 * then its type is added (attempt 1), then a number.
 */
void metric_name(char name[METRIC_NAME_SIZE], const struct source_kind *kind,
		 const struct kvmstats_desc *desc, unsigned int attempt)
{
	static const char *const prefixes[] = {
		[KVMSTATS_SCOPE_VM] = "vm", [KVMSTATS_SCOPE_VCPU] = "vcpu",
	};
	bool published = kind->scope == KVMSTATS_SCOPE_DEVICE;
	const char *unit = metric_unit(desc);
	size_t length;

	snprintf(name, METRIC_NAME_SIZE, "kvm_%s_%s",
		 published ? kind->class_name : prefixes[kind->scope],
		 kvmstats_desc_name(desc));
	for (char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p))
			*p = '_';
	strip(name, "_total");
	strip_unit(name, unit);
	length = strlen(name);
	if (attempt)
		length += snprintf(name + length, METRIC_NAME_SIZE - length,
				   "_%s", kind_text(desc));
	if (attempt > 1)
		length += snprintf(name + length, METRIC_NAME_SIZE - length,
				   "_%u", attempt);
	if (unit)
		snprintf(name + length, METRIC_NAME_SIZE - length, "_%s", unit);
}

/* Ends that make a sample's name out of a family's. */
static const char *const sample_ends[] = {
	"", "_total", "_created", "_count", "_sum", "_bucket", "_info", "_gcount",
	"_gsum",
};

#define SAMPLE_ENDS (sizeof(sample_ends) / sizeof(*sample_ends))

static bool extends(const char *name, const char *family)
{
	size_t length = strlen(family);

	if (strncmp(name, family, length))
		return false;
	for (size_t i = 0; i < SAMPLE_ENDS; i++)
		if (!strcmp(name + length, sample_ends[i]))
			return true;
	return false;
}

bool metric_names_clash(const char *one, const char *other)
{
	return extends(one, other) || extends(other, one);
}

static bool matches(const regex_t *regex, const char *name)
{
	return !regexec(regex, name, 0, NULL, 0);
}

bool filter_passes(const struct filter *filter, const char *name)
{
	if (filter->include && !matches(filter->include, name))
		return false;
	return !filter->exclude || !matches(filter->exclude, name);
}

/* ------------------------------------------------------------- families */

const struct host_metric host_metrics[HOST_FAMILIES] = {
	[HOST_VCPU_RUN] = { "kvm_vcpu_cpu_seconds",
		"CPU time of the vCPU's thread" },
	[HOST_VCPU_WAIT] = { "kvm_vcpu_cpu_wait_seconds",
		"Time that the vCPU's thread waited for a CPU: steal time to the guest" },
	[HOST_PROCESS] = { "kvm_vm_process_cpu_seconds",
		"CPU time of all threads of the VM's process" },
};

static void text_free(struct text *text)
{
	free(text->bytes);
}

static void column_free(struct column *column)
{
	if (!column)
		return;
	for (unsigned int i = 0; column->ends && i < column->size; i++)
		text_free(&column->ends[i]);
	free(column->ends);
	free(column);
}

static void columns_unref(struct columns *columns)
{
	if (!columns || --columns->refs)
		return;
	for (size_t i = 0; i < kvmstats_schema_count(columns->schema); i++)
		column_free(columns->column[i]);
	kvmstats_schema_unref(columns->schema);
	free(columns);
}

static void family_free(struct family *family)
{
	free(family->columns);
	free(family->name);
	text_free(&family->sample);
	text_free(&family->count);
	for (int i = 0; i < EXPOSITIONS; i++)
		text_free(&family->head[i]);
}

struct plan *plan_ref(struct plan *plan)
{
	plan->refs++;
	return plan;
}

void plan_unref(struct plan *plan)
{
	if (!plan || --plan->refs)
		return;
	for (size_t i = 0; i < plan->count; i++)
		family_free(&plan->families[i]);
	free(plan->families);
	free(plan->by_name);
	for (size_t i = 0; i < plan->num_schemas; i++)
		columns_unref(plan->columns[i]);
	free(plan->columns);
	free(plan);
}

static int text_set(struct text *text, const char *one, const char *two)
{
	int length = asprintf(&text->bytes, "%s%s", one, two);

	if (length < 0) {
		text->bytes = NULL;
		return -1;
	}
	text->length = length;
	return 0;
}

/* The text behind a histogram's other labels; no reason has to be escaped. */
static int make_ends(struct column *column)
{
	column->ends = calloc(column->size, sizeof(*column->ends));
	if (!column->ends)
		return -1;
	for (unsigned int i = 0; i < column->size; i++) {
		const char *reason = kvmstats_desc_reason(column->desc, i);
		char le[LE_TEXT_SIZE] = "+Inf", line[80];
		uint64_t low, high;

		kvmstats_desc_bucket_bounds(column->desc, i, &low, &high);
		if (i < column->size - 1)
			le_text(le, column->value == VALUE_PLAIN ? high :
				kvmstats_desc_to_unit(column->desc, high));
		snprintf(line, sizeof(line), ",%s=\"%s\"} ",
			 reason ? "reason" : "le", reason ?: le);
		if (text_set(&column->ends[i], line, ""))
			return -1;
	}
	return 0;
}

static struct column *column_new(const struct kvmstats_desc *desc)
{
	struct column *column = calloc(1, sizeof(*column));

	if (!column)
		return NULL;
	column->desc = desc;
	column->value = value_kind(desc);
	column->word = kvmstats_desc_word(desc);
	column->size = kvmstats_desc_size(desc);
	if (family_kind(desc) >= FAMILY_HISTOGRAM && make_ends(column)) {
		column_free(column);
		return NULL;
	}
	return column;
}

static struct columns *columns_new(struct kvmstats_schema *schema)
{
	size_t count = kvmstats_schema_count(schema);
	struct columns *columns = calloc(1, sizeof(*columns) +
					 count * sizeof(columns->column[0]));

	if (!columns)
		return NULL;
	columns->refs = 1;
	columns->schema = kvmstats_schema_ref(schema);
	for (size_t i = 0; i < count; i++) {
		columns->column[i] = column_new(kvmstats_schema_desc(schema, i));
		if (columns->column[i])
			continue;
		columns_unref(columns);
		return NULL;
	}
	return columns;
}

/* Those of @before, if it has the schema at the same place. */
static struct columns *columns_get(struct kvmstats_schema *schema, size_t place,
				   const struct plan *before)
{
	struct columns *columns;

	if (!before || place >= before->num_schemas)
		return columns_new(schema);
	columns = before->columns[place];
	if (columns->schema != schema)
		return columns_new(schema);
	columns->refs++;
	return columns;
}

static void write_help(FILE *out, const struct family *family)
{
	const char *type = kvmstats_type_name(family->type);

	if (!type)
		type = "of unknown type";
	if (family->scope == KVMSTATS_SCOPE_DEVICE) {
		fprintf(out, "Statistic %s of a %s device (%s)", family->stat,
			family->class_name, type);
		return;
	}
	fputs("KVM statistic ", out);
	escape_help(out, family->stat);
	fprintf(out, " of the %s (%s)",
		family->scope == KVMSTATS_SCOPE_VM ? "VM" : "vCPU", type);
}

static int make_head(struct family *family, enum exposition format,
		     const char *unit)
{
	const char *type = metric_type(family->kind, family->type);
	struct text *head = &family->head[format];
	const char *name = family->name;
	FILE *out;

	if (format == PROMETHEUS && family->kind != FAMILY_HISTOGRAM)
		name = family->sample.bytes;
	if (format == PROMETHEUS && !strcmp(type, "unknown"))
		type = "untyped";
	out = open_memstream(&head->bytes, &head->length);
	if (!out)
		return -1;
	fprintf(out, "# HELP %s ", name);
	write_help(out, family);
	fprintf(out, "\n# TYPE %s %s\n", name, type);
	if (format == OPENMETRICS && unit)
		fprintf(out, "# UNIT %s %s\n", name, unit);
	return fclose(out);
}

static int family_fill(struct family *family, const char *name,
		       const struct kvmstats_desc *desc, size_t num_schemas)
{
	bool is_counter = !strcmp(metric_type(family->kind, family->type),
				  "counter");
	const char *unit = metric_unit(desc);

	family->name = strdup(name);
	family->columns = calloc(num_schemas, sizeof(*family->columns));
	if (!family->name || !family->columns)
		return -1;
	if (family->kind == FAMILY_HISTOGRAM) {
		if (text_set(&family->sample, name, "_bucket") ||
		    text_set(&family->count, name, "_count"))
			return -1;
	} else if (text_set(&family->sample, name,
			    is_counter ? "_total" : "")) {
		return -1;
	}
	return make_head(family, PROMETHEUS, unit) ||
	       make_head(family, OPENMETRICS, unit) ? -1 : 0;
}

/* ------------------------------------------------- families by their names */

static uint32_t hash_name(const char *name, size_t length)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)name[i]) * 16777619u;
	return hash;
}

/* Its place in by_name, or that where it belongs. */
static size_t name_place(const struct plan *plan, const char *name,
			 size_t length)
{
	size_t mask = plan->by_name_size - 1;
	size_t place = hash_name(name, length) & mask;

	while (plan->by_name[place]) {
		const char *other = plan->families[plan->by_name[place] - 1].name;

		if (!strncmp(other, name, length) && !other[length])
			break;
		place = (place + 1) & mask;
	}
	return place;
}

/* The first @length bytes of @name. */
static struct family *name_find(const struct plan *plan, const char *name,
				size_t length)
{
	uint32_t number = plan->by_name_size ?
			  plan->by_name[name_place(plan, name, length)] : 0;

	return number ? &plan->families[number - 1] : NULL;
}

/* For one family more. At most half full, so that no search is long. */
static int names_make_room(struct plan *plan)
{
	size_t size = plan->by_name_size ? 2 * plan->by_name_size : 256;
	struct family *families;
	uint32_t *by_name;

	if (2 * (plan->count + 1) <= plan->by_name_size)
		return 0;
	families = realloc(plan->families, size / 2 * sizeof(*families));
	if (!families)
		return -1;
	plan->families = families;
	by_name = calloc(size, sizeof(*by_name));
	if (!by_name)
		return -1;
	free(plan->by_name);
	plan->by_name = by_name;
	plan->by_name_size = size;
	for (size_t i = 0; i < plan->count; i++) {
		const char *name = plan->families[i].name;

		by_name[name_place(plan, name, strlen(name))] = i + 1;
	}
	return 0;
}

/* Has a family a name that comes too near? See metric_names_clash. */
static bool name_clashes(const struct plan *plan, const char *name)
{
	size_t length = strlen(name);
	char longer[METRIC_NAME_SIZE + 16];

	for (size_t i = 0; i < SAMPLE_ENDS; i++) {
		size_t end = strlen(sample_ends[i]);

		snprintf(longer, sizeof(longer), "%s%s", name, sample_ends[i]);
		if (name_find(plan, longer, length + end))
			return true;
		if (length > end && !strcmp(name + length - end, sample_ends[i]) &&
		    name_find(plan, name, length - end))
			return true;
	}
	return false;
}

static struct family *family_add(struct plan *plan, const char *name,
				 const struct source_kind *kind,
				 const struct kvmstats_desc *desc)
{
	struct family *family;

	if (names_make_room(plan))
		return NULL;
	family = &plan->families[plan->count];
	memset(family, 0, sizeof(*family));
	family->scope = kind->scope;
	strcpy(family->class_name, kind->class_name);
	family->kind = family_kind(desc);
	family->type = kvmstats_desc_type(desc);
	family->unit = kvmstats_desc_unit(desc);
	family->stat = kvmstats_desc_name(desc);
	plan->count++;
	if (family_fill(family, name, desc, plan->num_schemas))
		return NULL;
	plan->by_name[name_place(plan, name, strlen(name))] = plan->count;
	return family;
}

static bool is_same(const struct family *family, const struct source_kind *kind,
		    const struct kvmstats_desc *desc)
{
	return family->scope == kind->scope &&
	       !strcmp(family->class_name, kind->class_name) &&
	       family->kind == family_kind(desc) &&
	       family->type == kvmstats_desc_type(desc) &&
	       family->unit == kvmstats_desc_unit(desc) &&
	       !strcmp(family->stat, kvmstats_desc_name(desc));
}

/* Names that are not the kernel's to give. */
static bool is_reserved(const char *name)
{
	if (metric_names_clash("kvm_vm", name) ||
	    metric_names_clash("kvm_vm_start_time_seconds", name))
		return true;
	for (int i = 0; i < HOST_FAMILIES; i++)
		if (metric_names_clash(host_metrics[i].name, name))
			return true;
	return false;
}

/*
 * The family of that name if the statistic is the same in another schema.
 * *@taken: another statistic has the name, or one that comes too near.
 */
static struct family *family_find(struct plan *plan, const char *name,
				  const struct source_kind *kind, size_t schema,
				  const struct kvmstats_desc *desc, bool *taken)
{
	struct family *family = name_find(plan, name, strlen(name));

	*taken = is_reserved(name) || name_clashes(plan, name);
	return family && is_same(family, kind, desc) &&
	       !family->columns[schema] ? family : NULL;
}

static int add_column(struct plan *plan, const struct source_kind *kind,
		      size_t schema, const struct column *column,
		      const struct filter *filter)
{
	const struct kvmstats_desc *desc = column->desc;
	char name[METRIC_NAME_SIZE];
	struct family *family;
	unsigned int attempt = 0;
	bool taken;

	do {
		metric_name(name, kind, desc, attempt++);
		family = family_find(plan, name, kind, schema, desc, &taken);
	} while (!family && taken);
	if (!family)
		family = family_add(plan, name, kind, desc);
	if (!family)
		return -1;
	family->hidden = !filter_passes(filter, family->sample.bytes);
	family->columns[schema] = column;
	if (family->kind >= FAMILY_HISTOGRAM &&
	    kvmstats_desc_size(desc) > plan->largest_histogram)
		plan->largest_histogram = kvmstats_desc_size(desc);
	return 0;
}

static int fill(struct plan *plan, const struct source_kind *kinds,
		const struct filter *filter)
{
	for (size_t i = 0; i < plan->num_schemas; i++) {
		const struct columns *columns = plan->columns[i];
		size_t count = kvmstats_schema_count(columns->schema);

		for (size_t j = 0; j < count; j++)
			if (add_column(plan, &kinds[i], i, columns->column[j],
				       filter))
				return -1;
	}
	return 0;
}

struct plan *plan_new(const struct source_kind *kinds, size_t count,
		      const struct filter *filter, const struct plan *before)
{
	struct plan *plan = calloc(1, sizeof(*plan));
	bool good;

	if (!plan)
		return NULL;
	plan->refs = 1;
	plan->columns = calloc(count + 1, sizeof(*plan->columns));
	good = plan->columns;
	plan->num_schemas = good ? count : 0;
	for (size_t i = 0; good && i < count; i++) {
		plan->columns[i] = columns_get(kinds[i].schema, i, before);
		good = plan->columns[i];
	}
	plan->no_cpu = true;
	plan->start_hidden = !filter_passes(filter, "kvm_vm_start_time_seconds");
	for (int i = 0; i < HOST_FAMILIES; i++) {
		char name[64];

		snprintf(name, sizeof(name), "%s_total", host_metrics[i].name);
		plan->host_hidden[i] = !filter_passes(filter, name);
		plan->no_cpu &= plan->host_hidden[i];
	}
	if (good && !fill(plan, kinds, filter))
		return plan;
	plan_unref(plan);
	return NULL;
}
