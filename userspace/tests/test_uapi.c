// SPDX-License-Identifier: GPL-2.0-only
/* What the library makes of the bytes of a descriptor. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"

static void assert_refused(const struct image *image, int error)
{
	struct kvmstats_source *source = NULL;

	assert_int_equal(image_open(image, &source), error);
	assert_null(source);
}

static struct kvmstats_source *assert_opens(const struct image *image)
{
	struct kvmstats_source *source;

	assert_int_equal(image_open(image, &source), 0);
	return source;
}

static void good_image(void **state)
{
	struct kvmstats_schema *schema;
	struct kvmstats_source *source;
	struct image image;

	(void)state;
	image_fill(&image);
	source = assert_opens(&image);
	assert_int_equal(kvmstats_source_scope(source), KVMSTATS_SCOPE_VCPU);
	assert_int_equal(kvmstats_source_vcpu(source), 3);
	assert_string_equal(kvmstats_source_id(source), "kvm-77/vcpu-3");
	assert_int_equal(kvmstats_source_fd(source), -1);
	schema = kvmstats_source_schema(source);
	assert_int_equal(kvmstats_schema_count(schema), 4);
	assert_int_equal(kvmstats_schema_words(schema), 9);
	kvmstats_source_close(source);
}

static void desc_fields(void **state)
{
	const struct kvmstats_desc *desc;
	struct kvmstats_source *source;
	struct image image;

	(void)state;
	image_fill(&image);
	source = assert_opens(&image);
	desc = kvmstats_schema_desc(kvmstats_source_schema(source), 3);
	assert_string_equal(kvmstats_desc_name(desc), "hist");
	assert_int_equal(kvmstats_desc_type(desc), KVMSTATS_LOG_HIST);
	assert_int_equal(kvmstats_desc_unit(desc), KVMSTATS_UNIT_SECONDS);
	assert_int_equal(kvmstats_desc_base(desc), 10);
	assert_int_equal(kvmstats_desc_exponent(desc), -9);
	assert_int_equal(kvmstats_desc_size(desc), 5);
	assert_int_equal(kvmstats_desc_word(desc), 4);
	assert_int_equal(kvmstats_desc_is_hist(desc), 1);
	assert_null(kvmstats_schema_desc(kvmstats_source_schema(source), 4));
	kvmstats_source_close(source);
}

static void find_by_name(void **state)
{
	struct kvmstats_schema *schema;
	struct kvmstats_source *source;
	struct image image;

	(void)state;
	image_fill(&image);
	source = assert_opens(&image);
	schema = kvmstats_source_schema(source);
	for (size_t i = 0; i < kvmstats_schema_count(schema); i++) {
		const struct kvmstats_desc *desc;

		desc = kvmstats_schema_desc(schema, i);
		assert_ptr_equal(kvmstats_schema_find(schema, desc->name),
				 desc);
	}
	assert_null(kvmstats_schema_find(schema, "even"));
	assert_null(kvmstats_schema_find(schema, "zzz"));
	assert_null(kvmstats_schema_find(schema, ""));
	kvmstats_source_close(source);
}

static void equal_names_find_first(void **state)
{
	struct kvmstats_schema *schema;
	struct kvmstats_source *source;
	struct image image;

	(void)state;
	image_fill(&image);
	strcpy(image_name(&image, 1), "level");
	source = assert_opens(&image);
	schema = kvmstats_source_schema(source);
	assert_ptr_equal(kvmstats_schema_find(schema, "level"),
			 kvmstats_schema_desc(schema, 1));
	kvmstats_source_close(source);
}

static void no_statistics(void **state)
{
	struct kvmstats_source *source;
	struct image image;
	uint64_t sample[1];

	(void)state;
	image_fill(&image);
	image_header(&image)->num_desc = 0;
	source = assert_opens(&image);
	assert_int_equal(kvmstats_schema_words(kvmstats_source_schema(source)),
			 0);
	assert_int_equal(kvmstats_source_sample(source, sample, 0), 0);
	kvmstats_source_close(source);
}

/* An image is good at its full length and at no other. */
static void every_truncation(void **state)
{
	size_t full;
	struct image image;

	(void)state;
	image_fill(&image);
	full = image.size_bytes;
	for (image.size_bytes = 0; image.size_bytes < full; image.size_bytes++)
		assert_refused(&image, -EPROTO);
	kvmstats_source_close(assert_opens(&image));
}

struct header_case {
	size_t field;
	uint32_t value;
	int error;
};

#define HEADER(field) offsetof(struct uapi_header, field)

static void bad_headers(void **state)
{
	static const struct header_case cases[] = {
		{ HEADER(name_size), 0, -EPROTO },
		{ HEADER(name_size), 2048, -E2BIG },
		{ HEADER(name_size), 0xfffffff8, -E2BIG },
		{ HEADER(num_desc), 8193, -E2BIG },
		{ HEADER(num_desc), 0xffffffff, -E2BIG },
		{ HEADER(num_desc), 32, -EPROTO },	/* runs into the data */
		{ HEADER(id_offset), 0, -EPROTO },
		{ HEADER(id_offset), 16, -EPROTO },
		{ HEADER(id_offset), 28, -EPROTO },
		{ HEADER(id_offset), 32, -EPROTO },
		{ HEADER(id_offset), 0xfffffff8, -E2BIG },
		{ HEADER(desc_offset), 0, -EPROTO },
		{ HEADER(desc_offset), 64, -EPROTO },
		{ HEADER(desc_offset), 74, -EPROTO },
		{ HEADER(desc_offset), 0xffffff00, -E2BIG },
		{ HEADER(data_offset), 16, -EPROTO },
		{ HEADER(data_offset), 40, -EPROTO },
		{ HEADER(data_offset), 80, -EPROTO },
		{ HEADER(data_offset), 2049, -EPROTO },
		{ HEADER(data_offset), 16 << 20, -E2BIG },
		{ HEADER(data_offset), 0xfffffff8, -E2BIG },
	};
	struct image image;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		image_fill(&image);
		memcpy(image.bytes + cases[i].field, &cases[i].value, 4);
		assert_refused(&image, cases[i].error);
	}
}

/* Refused for itself, before it is used, whatever a later check would find. */
static void bad_headers_alone(void **state)
{
	static const struct header_case cases[] = {
		{ HEADER(name_size), 0, -EPROTO },
		{ HEADER(name_size), KVMSTATS_MAX_NAME_SIZE, 0 },
		{ HEADER(name_size), KVMSTATS_MAX_NAME_SIZE + 1, -E2BIG },
		{ HEADER(num_desc), KVMSTATS_MAX_STATS, 0 },
		{ HEADER(num_desc), KVMSTATS_MAX_STATS + 1, -E2BIG },
		{ HEADER(id_offset), 1004, -EPROTO },
		{ HEADER(desc_offset), 1004, -EPROTO },
		{ HEADER(data_offset), 1004, -EPROTO },
		{ HEADER(id_offset), KVMSTATS_MAX_OFFSET, 0 },
		{ HEADER(desc_offset), KVMSTATS_MAX_OFFSET, 0 },
		{ HEADER(data_offset), KVMSTATS_MAX_OFFSET, 0 },
		{ HEADER(id_offset), KVMSTATS_MAX_OFFSET + 8, -E2BIG },
		{ HEADER(desc_offset), KVMSTATS_MAX_OFFSET + 8, -E2BIG },
		{ HEADER(data_offset), KVMSTATS_MAX_OFFSET + 8, -E2BIG },
	};
	struct uapi_header header;
	struct image image;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		image_fill(&image);
		memcpy(image.bytes + cases[i].field, &cases[i].value, 4);
		assert_int_equal(header_from_uapi(image.bytes, &header),
				 cases[i].error);
	}
}

static void bad_descs(void **state)
{
	struct image image;

	(void)state;
	image_fill(&image);
	image_desc(&image, 2)->size = 0;
	assert_refused(&image, -EPROTO);
	image_fill(&image);
	image_desc(&image, 2)->offset = 12;
	assert_refused(&image, -EPROTO);
	image_fill(&image);
	image_desc(&image, 2)->offset = 0xfffffff8;
	assert_refused(&image, -E2BIG);
	image_fill(&image);
	image_desc(&image, 2)->offset = 16 << 20;
	assert_refused(&image, -E2BIG);
	image_fill(&image);
	image_desc(&image, 2)->size = 65535;	/* past the end */
	assert_refused(&image, -EPROTO);
}

static void bad_names(void **state)
{
	struct image image;

	(void)state;
	image_fill(&image);
	memset(image_name(&image, 1), 'a', IMAGE_NAME_SIZE);
	assert_refused(&image, -EPROTO);
	image_fill(&image);
	image_name(&image, 1)[0] = 0;
	assert_refused(&image, -EPROTO);
	image_fill(&image);
	image_name(&image, 1)[1] = '\033';
	assert_refused(&image, -EPROTO);
	image_fill(&image);
	image_name(&image, 1)[1] = 0x7f;
	assert_refused(&image, -EPROTO);
	image_fill(&image);
	image_name(&image, 1)[1] = (char)0xe9;
	assert_refused(&image, -EPROTO);
	image_fill(&image);
	memset(image.bytes + IMAGE_ID_AT, 'a', IMAGE_NAME_SIZE);
	assert_refused(&image, -EPROTO);
}

/* The order of the blocks is not promised. */
static void other_order(void **state)
{
	struct kvmstats_source *source;
	struct image image;
	uint64_t sample[9];

	(void)state;
	image_fill(&image);
	memmove(image.bytes + 1024, image.bytes + IMAGE_DESCS_AT, 4 * 64);
	memmove(image.bytes + 24, image.bytes + IMAGE_DATA_AT, 9 * 8);
	strcpy((char *)image.bytes + 512, "kvm-5");
	image_header(&image)->desc_offset = 1024;
	image_header(&image)->data_offset = 24;
	image_header(&image)->id_offset = 512;
	image.size_bytes = 1024 + 4 * 64;
	source = assert_opens(&image);
	assert_int_equal(kvmstats_source_scope(source), KVMSTATS_SCOPE_VM);
	assert_int_equal(kvmstats_source_sample(source, sample, 9), 0);
	assert_int_equal(sample[8], 108);
	kvmstats_source_close(source);
}

static void unknown_kinds_are_kept(void **state)
{
	const struct kvmstats_desc *desc;
	struct kvmstats_source *source;
	struct image image;
	char text[KVMSTATS_MAX_TEXT_SIZE];

	(void)state;
	image_fill(&image);
	image_desc(&image, 2)->flags = FLAGS(9, 12, 7) | 0x80000000;
	source = assert_opens(&image);
	desc = kvmstats_schema_find(kvmstats_source_schema(source), "level");
	assert_int_equal(kvmstats_desc_type(desc), 9);
	assert_null(kvmstats_type_name(9));
	assert_int_equal(kvmstats_desc_unit(desc), 12);
	assert_null(kvmstats_unit_name(12));
	assert_int_equal(kvmstats_desc_base(desc), 0);
	assert_int_equal(kvmstats_desc_flags(desc), FLAGS(9, 12, 7) | 1u << 31);
	assert_int_equal(kvmstats_desc_format(desc, 1, text, sizeof(text)), -ERANGE);
	kvmstats_source_close(source);
}

static void sample_reads_values(void **state)
{
	struct kvmstats_source *source;
	const struct kvmstats_desc *desc;
	struct image image;
	uint64_t sample[9];

	(void)state;
	image_fill(&image);
	source = assert_opens(&image);
	desc = kvmstats_schema_find(kvmstats_source_schema(source), "hist");
	assert_int_equal(kvmstats_source_sample(source, sample, 8), -ENOSPC);
	assert_int_equal(kvmstats_source_sample(source, sample, 9), 0);
	assert_int_equal(kvmstats_desc_value(desc, sample, 0), 104);
	assert_int_equal(kvmstats_desc_value(desc, sample, 4), 108);
	assert_int_equal(kvmstats_desc_value(desc, sample, 5), 0);
	kvmstats_source_close(source);
}

static void image_of_image(void **state)
{
	unsigned char copy[IMAGE_BYTES];
	struct kvmstats_source *source;
	struct image image;

	(void)state;
	image_fill(&image);
	source = assert_opens(&image);
	assert_int_equal(kvmstats_source_image(source, NULL, 0),
			 image.size_bytes);
	memset(copy, 0xaa, sizeof(copy));
	assert_int_equal(kvmstats_source_image(source, copy, 100),
			 image.size_bytes);
	assert_int_equal(copy[0], 0xaa);
	assert_int_equal(kvmstats_source_image(source, copy, sizeof(copy)),
			 image.size_bytes);
	assert_memory_equal(copy, image.bytes, image.size_bytes);
	kvmstats_source_close(source);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(good_image),
		cmocka_unit_test(desc_fields),
		cmocka_unit_test(find_by_name),
		cmocka_unit_test(equal_names_find_first),
		cmocka_unit_test(no_statistics),
		cmocka_unit_test(every_truncation),
		cmocka_unit_test(bad_headers),
		cmocka_unit_test(bad_headers_alone),
		cmocka_unit_test(bad_descs),
		cmocka_unit_test(bad_names),
		cmocka_unit_test(other_order),
		cmocka_unit_test(unknown_kinds_are_kept),
		cmocka_unit_test(sample_reads_values),
		cmocka_unit_test(image_of_image),
	};

	return RUN(tests);
}
