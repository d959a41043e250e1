// SPDX-License-Identifier: GPL-2.0-only
/* All vCPUs of a VM in one descriptor: its bytes, samples, each vCPU by itself. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image.h"

#define WORDS	9	/* of a vCPU's sample */

static int open_all(const struct image *image, struct kvmstats_source **all)
{
	*all = NULL;
	return kvmstats_vcpus_open_image(image->bytes, image->size_bytes, NULL, all);
}

static void good_image(void **state)
{
	uint64_t records[3 * VCPUS_RECORD_WORDS];
	const struct kvmstats_desc *desc;
	struct kvmstats_source *all;
	struct image image;

	(void)state;
	image_fill_vcpus(&image);
	assert_int_equal(open_all(&image, &all), 0);
	assert_int_equal(kvmstats_source_scope(all), KVMSTATS_SCOPE_VCPUS);
	assert_int_equal(kvmstats_source_vcpu(all), -1);
	assert_string_equal(kvmstats_source_id(all), "kvm-77");
	assert_int_equal(kvmstats_vcpus_record_words(all), VCPUS_RECORD_WORDS);
	assert_int_equal(kvmstats_schema_words(kvmstats_source_schema(all)), WORDS);
	assert_int_equal(kvmstats_vcpus_sample(all, records, 33), 2);
	assert_int_equal(kvmstats_vcpus_number(all, records), 3);
	assert_int_equal(kvmstats_vcpus_number(all, records + 11), 700);
	desc = kvmstats_schema_find(kvmstats_source_schema(all), "wait_ns");
	assert_int_equal(kvmstats_desc_value(desc,
					     kvmstats_vcpus_values(all, records), 0),
			 102);
	assert_int_equal(kvmstats_desc_value(desc,
					     kvmstats_vcpus_values(all, records + 11),
					     0), 1102);
	kvmstats_source_close(all);
}

static void room_for_records(void **state)
{
	uint64_t records[2 * VCPUS_RECORD_WORDS] = { 0 };
	struct kvmstats_source *all;
	struct image image;

	(void)state;
	image_fill_vcpus(&image);
	assert_int_equal(open_all(&image, &all), 0);
	assert_int_equal(kvmstats_vcpus_sample(all, records, 10), -ENOSPC);
	assert_int_equal(records[0], 0);
	assert_int_equal(kvmstats_vcpus_sample(all, records, 21), 1);
	assert_int_equal(records[11], 0);
	assert_int_equal(kvmstats_vcpus_sample(all, records, 22), 2);
	assert_int_equal(kvmstats_source_sample(all, records, 22), -EINVAL);
	kvmstats_source_close(all);
}

static void no_vcpus(void **state)
{
	struct kvmstats_source *all, *vcpu;
	uint64_t records[VCPUS_RECORD_WORDS];
	struct image image;

	(void)state;
	image_fill_vcpus(&image);
	image.size_bytes = IMAGE_DATA_AT;
	assert_int_equal(open_all(&image, &all), 0);
	assert_int_equal(kvmstats_vcpus_sample(all, records, 11), 0);
	assert_int_equal(kvmstats_vcpus_source(all, 0, &vcpu), -ENODATA);
	kvmstats_source_close(all);
}

/* What knows one list of values takes it for an object that counts nothing. */
static void other_kinds(void **state)
{
	struct kvmstats_source *source;
	uint64_t sample[WORDS];
	struct image image;

	(void)state;
	image_fill_vcpus(&image);
	assert_int_equal(image_open(&image, &source), 0);
	assert_int_equal(kvmstats_source_scope(source), KVMSTATS_SCOPE_VM);
	assert_int_equal(kvmstats_schema_count(kvmstats_source_schema(source)), 0);
	assert_int_equal(kvmstats_vcpus_record_words(source), 0);
	assert_int_equal(kvmstats_vcpus_sample(source, sample, WORDS), -EINVAL);
	assert_int_equal(kvmstats_vcpus_source(source, 0, &source), -EINVAL);
	assert_int_equal(kvmstats_vcpus_number_at(source, 0), -EINVAL);
	kvmstats_source_close(source);
	image_fill(&image);
	assert_int_equal(open_all(&image, &source), -EPROTO);
	/* a number that means nothing elsewhere does no harm there */
	image_header(&image)->flags = UAPI_FLAG_VCPUS;
	assert_int_equal(image_open(&image, &source), 0);
	assert_int_equal(kvmstats_source_sample(source, sample, WORDS), 0);
	kvmstats_source_close(source);
}

/* ---- one wrong thing at a time */

static void assert_refused(const struct image *image, int error)
{
	struct kvmstats_source *all;

	assert_int_equal(open_all(image, &all), error);
	assert_null(all);
}

static void wrong_headers(void **state)
{
	const struct {
		size_t at;
		uint32_t value;
		int error;
	} wrong[] = {
		{ offsetof(struct uapi_vcpus_header, header.flags), 0, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, header.flags), 1, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, header.num_desc), 4, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, num_desc), 8193, -E2BIG },
		{ offsetof(struct uapi_vcpus_header, num_desc), 5, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, record_size), 0, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, record_size), 84, -EPROTO },
		/* one element less than the values need */
		{ offsetof(struct uapi_vcpus_header, record_size), 72, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, record_size), 17 << 20, -E2BIG },
		{ offsetof(struct uapi_vcpus_header, record_size), 0xfffffff8, -E2BIG },
		{ offsetof(struct uapi_vcpus_header, values_offset), 0, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, values_offset), 12, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, values_offset), 24, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, values_offset), 96, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, values_offset), 0xfffffff8, -EPROTO },
		/* into the longer header */
		{ offsetof(struct uapi_vcpus_header, header.id_offset), 24, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, header.id_offset), 32, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, header.desc_offset), 24, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, header.data_offset), 32, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, header.data_offset), 2052, -EPROTO },
		{ offsetof(struct uapi_vcpus_header, header.name_size), 0, -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct image image;

		image_fill_vcpus(&image);
		memcpy(image.bytes + wrong[i].at, &wrong[i].value, 4);
		assert_refused(&image, wrong[i].error);
	}
}

/* Where the header of other files has ended, this one has not. */
static void within_the_header(void **state)
{
	struct kvmstats_source *all;
	struct image image;

	(void)state;
	image_fill_vcpus(&image);
	image_vcpus_header(&image)->num_desc = 0;
	image_header(&image)->desc_offset = 32;
	assert_refused(&image, -EPROTO);
	image_header(&image)->desc_offset = 40;
	assert_int_equal(open_all(&image, &all), 0);
	kvmstats_source_close(all);
}

/* It ends in a block, or inside of the first record. */
static void every_truncation(void **state)
{
	struct kvmstats_source *all;
	struct image image;

	(void)state;
	image_fill_vcpus(&image);
	for (size_t bytes = 0; bytes < image.size_bytes; bytes++) {
		struct image cut = image;
		bool whole = bytes >= IMAGE_DATA_AT + VCPUS_RECORD_WORDS * 8;
		int ret;

		cut.size_bytes = bytes;
		ret = open_all(&cut, &all);
		/* all blocks but the records end long before */
		if (whole || (bytes >= 344 && bytes <= IMAGE_DATA_AT))
			assert_int_equal(ret, 0);
		else
			assert_int_equal(ret, -EPROTO);
		kvmstats_source_close(all);
	}
}

static void half_a_record(void **state)
{
	uint64_t records[3 * VCPUS_RECORD_WORDS];
	struct kvmstats_source *all;
	struct image image;

	(void)state;
	image_fill_vcpus(&image);
	image.size_bytes -= 8;
	assert_int_equal(open_all(&image, &all), 0);
	assert_int_equal(kvmstats_vcpus_sample(all, records, 33), -EIO);
	kvmstats_source_close(all);
}

static void wrong_number(void **state)
{
	struct kvmstats_source *all, *vcpu;
	uint64_t records[2 * VCPUS_RECORD_WORDS];
	struct image image;

	(void)state;
	image_fill_vcpus(&image);
	image_data(&image)[11] = 1ull << 31;
	assert_int_equal(open_all(&image, &all), 0);
	assert_int_equal(kvmstats_vcpus_sample(all, records, 22), 2);
	assert_int_equal(kvmstats_vcpus_number(all, records + 11), -EPROTO);
	assert_int_equal(kvmstats_vcpus_number_at(all, 1), -EPROTO);
	assert_int_equal(kvmstats_vcpus_source(all, 1, &vcpu), -EPROTO);
	kvmstats_source_close(all);
}

/* ---- one vCPU */

static void each_vcpu(void **state)
{
	struct kvmstats_source *all, *vcpu;
	uint64_t sample[WORDS];
	struct image image;

	(void)state;
	image_fill_vcpus(&image);
	assert_int_equal(open_all(&image, &all), 0);
	assert_int_equal(kvmstats_vcpus_source(all, 2, &vcpu), -ENODATA);
	assert_int_equal(kvmstats_vcpus_source(all, 1ull << 61, &vcpu), -ENODATA);
	assert_int_equal(kvmstats_vcpus_source(all, 1, &vcpu), 0);
	assert_int_equal(kvmstats_source_scope(vcpu), KVMSTATS_SCOPE_VCPU);
	assert_int_equal(kvmstats_source_vcpu(vcpu), 700);
	assert_string_equal(kvmstats_source_id(vcpu), "kvm-77/vcpu-700");
	assert_int_equal(kvmstats_source_fd(vcpu), -1);
	assert_ptr_equal(kvmstats_source_schema(vcpu), kvmstats_source_schema(all));
	assert_int_equal(kvmstats_vcpus_record_words(vcpu), 0);
	assert_int_equal(kvmstats_source_sample(vcpu, sample, WORDS - 1), -ENOSPC);
	assert_int_equal(kvmstats_source_sample(vcpu, sample, WORDS), 0);
	assert_int_equal(sample[0], 1101);
	assert_int_equal(sample[8], 1109);
	kvmstats_source_close(all);
	/* it has what it needs for as long as it is there */
	assert_int_equal(kvmstats_source_sample(vcpu, sample, WORDS), 0);
	assert_int_equal(sample[8], 1109);
	kvmstats_source_close(vcpu);
}

static void last_closes(void **state)
{
	unsigned int before = count_open_fds();
	struct kvmstats_source *all, *a, *b;
	struct image image;

	(void)state;
	image_fill_vcpus(&image);
	for (int order = 0; order < 3; order++) {
		all = image_open_vcpus_file(&image);
		assert_int_equal(kvmstats_vcpus_source(all, 0, &a), 0);
		assert_int_equal(kvmstats_vcpus_source(all, 1, &b), 0);
		assert_int_equal(count_open_fds(), before + 1);
		kvmstats_source_close(order == 0 ? all : a);
		kvmstats_source_close(order == 1 ? all : b);
		assert_int_equal(count_open_fds(), before + 1);
		kvmstats_source_close(order == 0 ? a : order == 1 ? b : all);
		assert_int_equal(count_open_fds(), before);
	}
}

/* As the vCPU's own descriptor would have been recorded. */
static void image_of_vcpu(void **state)
{
	struct kvmstats_source *all, *vcpu, *again;
	unsigned char bytes[IMAGE_BYTES];
	uint64_t sample[WORDS];
	struct image image;
	int64_t size_bytes;

	(void)state;
	image_fill_vcpus(&image);
	assert_int_equal(open_all(&image, &all), 0);
	assert_int_equal(kvmstats_vcpus_source(all, 1, &vcpu), 0);
	size_bytes = kvmstats_source_image(vcpu, NULL, 0);
	assert_in_range(size_bytes, 1, sizeof(bytes));
	memset(bytes, 0xaa, sizeof(bytes));
	assert_int_equal(kvmstats_source_image(vcpu, bytes, sizeof(bytes)),
			 size_bytes);
	assert_int_equal(bytes[size_bytes], 0xaa);
	assert_int_equal(kvmstats_source_open_image(bytes, size_bytes, NULL, &again),
			 0);
	assert_string_equal(kvmstats_source_id(again), "kvm-77/vcpu-700");
	assert_int_equal(kvmstats_source_vcpu(again), 700);
	assert_int_equal(kvmstats_source_sample(again, sample, WORDS), 0);
	assert_int_equal(sample[8], 1109);
	kvmstats_source_close(again);
	kvmstats_source_close(vcpu);
	kvmstats_source_close(all);
}

static void image_of_all(void **state)
{
	unsigned char bytes[IMAGE_BYTES];
	struct kvmstats_source *all;
	struct image image;

	(void)state;
	image_fill_vcpus(&image);
	for (int vcpus = 2; vcpus < 9; vcpus++) {
		assert_int_equal(open_all(&image, &all), 0);
		assert_int_equal(kvmstats_source_image(all, bytes, sizeof(bytes)),
				 image.size_bytes);
		assert_memory_equal(bytes, image.bytes, image.size_bytes);
		kvmstats_source_close(all);
		image_add_vcpu(&image, vcpus);
	}
}

/* ---- vCPUs that come later */

static void append(const struct kvmstats_source *all, const struct image *image,
		   size_t from)
{
	size_t bytes = image->size_bytes - from;

	assert_int_equal(pwrite(kvmstats_source_fd(all), image->bytes + from, bytes,
				from), bytes);
}

static void new_vcpu(void **state)
{
	uint64_t records[4 * VCPUS_RECORD_WORDS];
	struct kvmstats_source *all, *vcpu;
	struct image image;
	size_t before;

	(void)state;
	image_fill_vcpus(&image);
	all = image_open_vcpus_file(&image);
	assert_int_equal(kvmstats_vcpus_sample(all, records, 44), 2);
	assert_int_equal(kvmstats_vcpus_source(all, 2, &vcpu), -ENODATA);
	before = image.size_bytes;
	image_add_vcpu(&image, 4);
	append(all, &image, before);
	assert_int_equal(kvmstats_vcpus_sample(all, records, 44), 3);
	assert_int_equal(kvmstats_vcpus_number(all, records + 22), 4);
	assert_int_equal(kvmstats_vcpus_number_at(all, 2), 4);
	assert_int_equal(kvmstats_vcpus_number_at(all, 3), -ENODATA);
	assert_int_equal(kvmstats_vcpus_source(all, 2, &vcpu), 0);
	assert_int_equal(kvmstats_source_vcpu(vcpu), 4);
	kvmstats_source_close(vcpu);
	kvmstats_source_close(all);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(good_image),
		cmocka_unit_test(room_for_records),
		cmocka_unit_test(no_vcpus),
		cmocka_unit_test(other_kinds),
		cmocka_unit_test(wrong_headers),
		cmocka_unit_test(within_the_header),
		cmocka_unit_test(every_truncation),
		cmocka_unit_test(half_a_record),
		cmocka_unit_test(wrong_number),
		cmocka_unit_test(each_vcpu),
		cmocka_unit_test(last_closes),
		cmocka_unit_test(image_of_vcpu),
		cmocka_unit_test(image_of_all),
		cmocka_unit_test(new_vcpu),
	};

	return RUN(tests);
}
