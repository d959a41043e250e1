// SPDX-License-Identifier: GPL-2.0-only
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"
#include "text.h"

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

/*
 * The family of that name if the statistic is the same in another schema.
 * *@taken: another statistic has the name, or one that comes too near.
 */
static struct family *family_find(struct plan *plan, const char *name,
				  enum kvmstats_scope scope, size_t schema,
				  const struct kvmstats_desc *desc, bool *taken)
{
	*taken = false;
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
	if (fill(plan, scopes, filter)) {
		plan_unref(plan);
		return NULL;
	}
	return plan;
}
