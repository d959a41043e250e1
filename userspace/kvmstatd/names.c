// SPDX-License-Identifier: GPL-2.0-only
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "plan.h"

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
