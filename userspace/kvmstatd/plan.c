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
	if (kind == FAMILY_HISTOGRAM)
		return "histogram";
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
void metric_name(char name[METRIC_NAME_SIZE], enum kvmstats_scope scope,
		 const struct kvmstats_desc *desc, unsigned int attempt)
{
	const char *unit = metric_unit(desc);
	size_t length;

	snprintf(name, METRIC_NAME_SIZE, "%s_%s",
		 scope == KVMSTATS_SCOPE_VM ? "kvm_vm" : "kvm_vcpu",
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
static bool extends(const char *name, const char *family)
{
	static const char *const ends[] = {
		"", "_total", "_created", "_count", "_sum", "_bucket", "_info",
		"_gcount", "_gsum",
	};
	size_t length = strlen(family);

	if (strncmp(name, family, length))
		return false;
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		if (!strcmp(name + length, ends[i]))
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
		"Time that the thread of the vCPU ran" },
	[HOST_VCPU_WAIT] = { "kvm_vcpu_cpu_wait_seconds",
		"Time that the thread of the vCPU waited for a CPU: steal time to the guest" },
	[HOST_PROCESS] = { "kvm_vm_process_cpu_seconds",
		"Time that all threads of the VM's process ran" },
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

static void family_free(struct family *family, size_t num_schemas)
{
	for (size_t i = 0; family->columns && i < num_schemas; i++)
		column_free(family->columns[i]);
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
		family_free(&plan->families[i], plan->num_schemas);
	free(plan->families);
	for (size_t i = 0; i < plan->num_schemas; i++)
		kvmstats_schema_unref(plan->schemas[i]);
	free(plan->schemas);
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

/* The text behind a histogram's other labels, for each of its buckets. */
static int make_ends(struct column *column)
{
	column->ends = calloc(column->size, sizeof(*column->ends));
	if (!column->ends)
		return -1;
	for (unsigned int i = 0; i < column->size; i++) {
		char le[LE_TEXT_SIZE] = "+Inf", line[LE_TEXT_SIZE + 16];
		uint64_t low, high;

		kvmstats_desc_bucket_bounds(column->desc, i, &low, &high);
		if (i < column->size - 1)
			le_text(le, column->value == VALUE_PLAIN ? high :
				kvmstats_desc_to_unit(column->desc, high));
		snprintf(line, sizeof(line), ",le=\"%s\"} ", le);
		if (text_set(&column->ends[i], line, ""))
			return -1;
	}
	return 0;
}

static struct column *column_new(const struct kvmstats_desc *desc,
				 enum family_kind kind)
{
	struct column *column = calloc(1, sizeof(*column));

	if (!column)
		return NULL;
	column->desc = desc;
	column->value = value_kind(desc);
	column->word = kvmstats_desc_word(desc);
	column->size = kvmstats_desc_size(desc);
	if (kind == FAMILY_HISTOGRAM && make_ends(column)) {
		column_free(column);
		return NULL;
	}
	return column;
}

static void write_help(FILE *out, const struct family *family)
{
	const char *type = kvmstats_type_name(family->type);

	fputs("KVM statistic ", out);
	escape_help(out, family->stat);
	fprintf(out, " of the %s (%s)",
		family->scope == KVMSTATS_SCOPE_VM ? "VM" : "vCPU",
		type ? type : "of a type that is not known");
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
	bool is_counter = family->kind != FAMILY_HISTOGRAM &&
			  family->type == KVMSTATS_CUMULATIVE;
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

static struct family *family_add(struct plan *plan, const char *name,
				 enum kvmstats_scope scope,
				 const struct kvmstats_desc *desc)
{
	struct family *families = realloc(plan->families, (plan->count + 1) *
					  sizeof(*families));
	struct family *family;

	if (!families)
		return NULL;
	plan->families = families;
	family = &families[plan->count];
	memset(family, 0, sizeof(*family));
	family->scope = scope;
	family->kind = family_kind(desc);
	family->type = kvmstats_desc_type(desc);
	family->unit = kvmstats_desc_unit(desc);
	family->stat = kvmstats_desc_name(desc);
	plan->count++;
	return family_fill(family, name, desc, plan->num_schemas) ? NULL :
	       family;
}

static bool is_same(const struct family *family, enum kvmstats_scope scope,
		    const struct kvmstats_desc *desc)
{
	return family->scope == scope && family->kind == family_kind(desc) &&
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
				  enum kvmstats_scope scope, size_t schema,
				  const struct kvmstats_desc *desc, bool *taken)
{
	*taken = is_reserved(name);
	for (size_t i = 0; i < plan->count; i++) {
		struct family *family = &plan->families[i];

		if (!metric_names_clash(family->name, name))
			continue;
		if (!strcmp(family->name, name) &&
		    is_same(family, scope, desc) && !family->columns[schema])
			return family;
		*taken = true;
	}
	return NULL;
}

static int add_desc(struct plan *plan, enum kvmstats_scope scope,
		    size_t schema, const struct kvmstats_desc *desc,
		    const struct filter *filter)
{
	char name[METRIC_NAME_SIZE];
	struct family *family;
	unsigned int attempt = 0;
	bool taken;

	do {
		metric_name(name, scope, desc, attempt++);
		family = family_find(plan, name, scope, schema, desc, &taken);
	} while (!family && taken);
	if (!family)
		family = family_add(plan, name, scope, desc);
	if (!family)
		return -1;
	family->hidden = !filter_passes(filter, family->sample.bytes);
	family->columns[schema] = column_new(desc, family->kind);
	if (!family->columns[schema])
		return -1;
	if (family->kind == FAMILY_HISTOGRAM &&
	    kvmstats_desc_size(desc) > plan->largest_histogram)
		plan->largest_histogram = kvmstats_desc_size(desc);
	return 0;
}

static int fill(struct plan *plan, const enum kvmstats_scope *scopes,
		const struct filter *filter)
{
	for (size_t i = 0; i < plan->num_schemas; i++) {
		const struct kvmstats_desc *desc;
		size_t index = 0;

		while ((desc = kvmstats_schema_desc(plan->schemas[i], index++)))
			if (add_desc(plan, scopes[i], i, desc, filter))
				return -1;
	}
	return 0;
}

struct plan *plan_new(struct kvmstats_schema *const *schemas,
		      const enum kvmstats_scope *scopes, size_t count,
		      const struct filter *filter)
{
	struct plan *plan = calloc(1, sizeof(*plan));

	if (!plan)
		return NULL;
	plan->refs = 1;
	plan->schemas = calloc(count + 1, sizeof(*plan->schemas));
	if (!plan->schemas) {
		plan_unref(plan);
		return NULL;
	}
	for (size_t i = 0; i < count; i++)
		plan->schemas[i] = kvmstats_schema_ref(schemas[i]);
	plan->num_schemas = count;
	plan->no_cpu = true;
	plan->start_hidden = !filter_passes(filter, "kvm_vm_start_time_seconds");
	for (int i = 0; i < HOST_FAMILIES; i++) {
		char name[64];

		snprintf(name, sizeof(name), "%s_total", host_metrics[i].name);
		plan->host_hidden[i] = !filter_passes(filter, name);
		plan->no_cpu &= plan->host_hidden[i];
	}
	if (fill(plan, scopes, filter)) {
		plan_unref(plan);
		return NULL;
	}
	return plan;
}
