// SPDX-License-Identifier: LGPL-2.1-or-later
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct kvmstats_schema *kvmstats_schema_ref(struct kvmstats_schema *schema)
{
	if (schema)
		atomic_fetch_add_explicit(&schema->refs, 1,
					  memory_order_relaxed);
	return schema;
}

void kvmstats_schema_unref(struct kvmstats_schema *schema)
{
	/* acq_rel: the last one frees what the others have finished reading */
	if (!schema || atomic_fetch_sub_explicit(&schema->refs, 1,
						 memory_order_acq_rel) != 1)
		return;
	free(schema->raw);
	free(schema->descs);
	free(schema->by_name);
	free(schema);
}

size_t kvmstats_schema_count(const struct kvmstats_schema *schema)
{
	return schema->header.num_desc;
}

size_t kvmstats_schema_words(const struct kvmstats_schema *schema)
{
	return schema->words;
}

const struct kvmstats_desc *
kvmstats_schema_desc(const struct kvmstats_schema *schema, size_t index)
{
	return index < schema->header.num_desc ? &schema->descs[index] : NULL;
}

static int compare_indices(const void *a, const void *b, void *descs)
{
	const struct kvmstats_desc *desc = descs;
	uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
	int order = strcmp(desc[i].name, desc[j].name);

	return order ? order : (i > j) - (i < j);
}

/*
 * A heap sort: bounded for any order of names, and neither qsort_r (musl got
 * it late) nor a global variable is needed.
 */
static void sift_down(uint32_t *index, size_t root, size_t count, void *descs)
{
	for (;;) {
		size_t child = 2 * root + 1;
		uint32_t swap = index[root];

		if (child >= count)
			return;
		if (child + 1 < count &&
		    compare_indices(&index[child], &index[child + 1], descs) < 0)
			child++;
		if (compare_indices(&index[root], &index[child], descs) >= 0)
			return;
		index[root] = index[child];
		index[child] = swap;
		root = child;
	}
}

void schema_index_names(struct kvmstats_schema *schema)
{
	size_t count = schema->header.num_desc;
	uint32_t *index = schema->by_name;

	for (size_t i = 0; i < count; i++)
		index[i] = i;
	for (size_t i = count / 2; i-- > 0;)
		sift_down(index, i, count, schema->descs);
	for (size_t end = count; end-- > 1;) {
		uint32_t swap = index[0];

		index[0] = index[end];
		index[end] = swap;
		sift_down(index, 0, end, schema->descs);
	}
}

const struct kvmstats_desc *
kvmstats_schema_find(const struct kvmstats_schema *schema, const char *name)
{
	size_t low = 0, high = schema->header.num_desc;
	const struct kvmstats_desc *desc;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		desc = &schema->descs[schema->by_name[middle]];
		if (strcmp(desc->name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == schema->header.num_desc)
		return NULL;
	desc = &schema->descs[schema->by_name[low]];
	return strcmp(desc->name, name) ? NULL : desc;
}

const char *kvmstats_desc_name(const struct kvmstats_desc *desc)
{
	return desc->name;
}

unsigned int kvmstats_desc_type(const struct kvmstats_desc *desc)
{
	return UAPI_TYPE(desc->flags);
}

unsigned int kvmstats_desc_unit(const struct kvmstats_desc *desc)
{
	return UAPI_UNIT(desc->flags);
}

unsigned int kvmstats_desc_base(const struct kvmstats_desc *desc)
{
	switch (UAPI_BASE(desc->flags)) {
	case UAPI_BASE_POW10:
		return 10;
	case UAPI_BASE_POW2:
		return 2;
	default:
		return 0;
	}
}

int kvmstats_desc_exponent(const struct kvmstats_desc *desc)
{
	return desc->exponent;
}

unsigned int kvmstats_desc_size(const struct kvmstats_desc *desc)
{
	return desc->size;
}

uint32_t kvmstats_desc_bucket_size(const struct kvmstats_desc *desc)
{
	return desc->bucket_size;
}

uint32_t kvmstats_desc_flags(const struct kvmstats_desc *desc)
{
	return desc->flags;
}

size_t kvmstats_desc_word(const struct kvmstats_desc *desc)
{
	return desc->word;
}

int kvmstats_desc_is_hist(const struct kvmstats_desc *desc)
{
	unsigned int type = kvmstats_desc_type(desc);

	return type == KVMSTATS_LINEAR_HIST || type == KVMSTATS_LOG_HIST;
}

const char *kvmstats_type_name(unsigned int type)
{
	static const char *const names[] = {
		[KVMSTATS_CUMULATIVE]	= "cumulative",
		[KVMSTATS_INSTANT]	= "instant",
		[KVMSTATS_PEAK]		= "peak",
		[KVMSTATS_LINEAR_HIST]	= "linear_hist",
		[KVMSTATS_LOG_HIST]	= "log_hist",
	};

	return type < sizeof(names) / sizeof(*names) ? names[type] : NULL;
}

const char *kvmstats_unit_name(unsigned int unit)
{
	static const char *const names[] = {
		[KVMSTATS_UNIT_NONE]	= "none",
		[KVMSTATS_UNIT_BYTES]	= "bytes",
		[KVMSTATS_UNIT_SECONDS]	= "seconds",
		[KVMSTATS_UNIT_CYCLES]	= "cycles",
		[KVMSTATS_UNIT_BOOLEAN]	= "boolean",
	};

	return unit < sizeof(names) / sizeof(*names) ? names[unit] : NULL;
}
