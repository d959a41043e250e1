// SPDX-License-Identifier: GPL-2.0-only
/* The bytes of a descriptor: open them and use all that was understood. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

static void use_desc(const struct kvmstats_schema *schema,
		     const struct kvmstats_desc *desc, const uint64_t *sample)
{
	char text[KVMSTATS_MAX_TEXT_SIZE];
	uint64_t low, high;

	if (!kvmstats_schema_find(schema, kvmstats_desc_name(desc)))
		abort();
	if (kvmstats_desc_word(desc) + kvmstats_desc_size(desc) >
	    kvmstats_schema_words(schema))
		abort();
	kvmstats_desc_format(desc, kvmstats_desc_value(desc, sample, 0), text,
			     sizeof(text));
	for (unsigned int i = 0; i < kvmstats_desc_size(desc); i++)
		if (!kvmstats_desc_bucket_bounds(desc, i, &low, &high) && low > high)
			abort();
	for (uint32_t ppm = 0; ppm <= 1000000; ppm += 250000)
		if (!kvmstats_desc_quantile(desc, sample, ppm, &low, &high) &&
		    low > high)
			abort();
}

static void use_source(const struct kvmstats_source *source)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(source);
	size_t words = kvmstats_schema_words(schema);
	uint64_t *memory = calloc(2 * words + 1, sizeof(*memory));

	if (!memory || kvmstats_source_sample(source, memory, words))
		abort();
	for (size_t i = 0; i < kvmstats_schema_count(schema); i++)
		use_desc(schema, kvmstats_schema_desc(schema, i), memory);
	kvmstats_schema_delta(schema, memory, memory, memory + words);
	kvmstats_schema_fold(schema, KVMSTATS_SUM, memory + words, memory);
	free(memory);
}

/* Whatever is in a record, each is a sample that can be had by itself, too. */
static void use_vcpus(struct kvmstats_source *all)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(all);
	size_t words = kvmstats_vcpus_record_words(all);
	uint64_t *records = calloc(4 * words, sizeof(*records));
	uint64_t *sample = calloc(kvmstats_schema_words(schema) + 1,
				  sizeof(*sample));
	int count = -ENOMEM;

	if (records && sample)
		count = kvmstats_vcpus_sample(all, records, 4 * words);
	/* it ends inside of a record that opening did not look at */
	if (count < 0 && count != -EIO)
		abort();
	for (int i = 0; i < count; i++) {
		const uint64_t *record = records + i * words;
		const uint64_t *values = kvmstats_vcpus_values(all, record);
		struct kvmstats_source *vcpu;

		for (size_t j = 0; j < kvmstats_schema_count(schema); j++)
			use_desc(schema, kvmstats_schema_desc(schema, j), values);
		if (kvmstats_vcpus_source(all, i, &vcpu))
			continue;
		if (kvmstats_source_vcpu(vcpu) !=
		    kvmstats_vcpus_number(all, record) ||
		    kvmstats_source_sample(vcpu, sample,
					   kvmstats_schema_words(schema)) ||
		    memcmp(sample, values, kvmstats_schema_words(schema) * 8))
			abort();
		kvmstats_source_close(vcpu);
	}
	free(records);
	free(sample);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes)
{
	struct kvmstats_source *source;

	if (!kvmstats_vcpus_open_image(bytes, size_bytes, NULL, &source)) {
		use_vcpus(source);
		kvmstats_source_close(source);
	}
	if (kvmstats_source_open_image(bytes, size_bytes, NULL, &source))
		return 0;
	use_source(source);
	kvmstats_source_close(source);
	return 0;
}
