// SPDX-License-Identifier: GPL-2.0-only
/* Units, deltas, folds and histograms. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "image.h"

#define MAX	UINT64_MAX

static struct kvmstats_desc make_desc(unsigned int type, unsigned int base,
				      int exponent)
{
	return (struct kvmstats_desc){
		.name = "x", .flags = FLAGS(type, KVMSTATS_UNIT_SECONDS, base),
		.exponent = exponent, .size = 1,
	};
}

static void assert_text(unsigned int base, int exponent, uint64_t raw,
			const char *expected)
{
	struct kvmstats_desc desc = make_desc(0, base, exponent);
	char text[KVMSTATS_MAX_TEXT_SIZE];

	assert_int_equal(kvmstats_desc_format(&desc, raw, text, sizeof(text)),
			 strlen(expected));
	assert_string_equal(text, expected);
}

static void format_is_exact(void **state)
{
	(void)state;
	assert_text(0, 0, 0, "0");
	assert_text(0, 0, MAX, "18446744073709551615");
	assert_text(0, -9, 1500, "0.000001500");
	assert_text(0, -9, MAX, "18446744073.709551615");
	assert_text(0, -9, 0, "0.000000000");
	assert_text(0, 3, 7, "7000");
	assert_text(0, 3, 0, "0");
	assert_text(1, 12, 3, "12288");
	assert_text(1, 64, MAX, "340282366920938463444927863358058659840");
	assert_text(1, -3, 5, "0.625");
	assert_text(1, -1, MAX, "9223372036854775807.5");
	assert_text(1, -20, 1, "0.00000095367431640625");
}

static void format_limits(void **state)
{
	struct kvmstats_desc desc = make_desc(0, 0, 65);
	char text[KVMSTATS_MAX_TEXT_SIZE];

	(void)state;
	assert_int_equal(kvmstats_desc_format(&desc, 1, text, sizeof(text)),
			 -ERANGE);
	desc.exponent = INT16_MIN;
	assert_int_equal(kvmstats_desc_format(&desc, 1, text, sizeof(text)),
			 -ERANGE);
	desc.exponent = -64;
	assert_true(kvmstats_desc_format(&desc, MAX, text, sizeof(text)) > 0);
	desc = make_desc(0, 1, -64);
	assert_true(kvmstats_desc_format(&desc, MAX, text, sizeof(text)) > 0);
	desc = make_desc(0, 0, 64);
	assert_int_equal(kvmstats_desc_format(&desc, MAX, text, sizeof(text)), 84);
	desc = make_desc(0, 0, 0);
	assert_int_equal(kvmstats_desc_format(&desc, 123, text, 3), -ENOSPC);
	assert_int_equal(kvmstats_desc_format(&desc, 123, text, 4), 3);
}

static void to_base(void **state)
{
	struct kvmstats_desc desc = make_desc(0, 0, -9);

	(void)state;
	assert_true(kvmstats_desc_to_unit(&desc, 1500000000) == 1.5);
	/* rounded once: 1e-9 is no double */
	assert_true(kvmstats_desc_to_unit(&desc, 3) == 3 / 1e9);
	desc = make_desc(0, 1, 12);
	assert_true(kvmstats_desc_to_unit(&desc, 3) == 12288);
	desc = make_desc(0, 5, 0);
	assert_true(isnan(kvmstats_desc_to_unit(&desc, 3)));
}

static void assert_counter(uint64_t before, uint64_t after, uint64_t growth,
			   int restart)
{
	uint64_t delta;

	assert_int_equal(kvmstats_counter_delta(before, after, &delta),
			 restart);
	assert_int_equal(delta, growth);
}

static void counter_delta(void **state)
{
	(void)state;
	assert_counter(5, 5, 0, 0);
	assert_counter(5, 8, 3, 0);
	assert_counter(0, MAX, MAX, 0);
	assert_counter(MAX, 0, 1, 0);		/* wrap */
	assert_counter(MAX - 9, 10, 20, 0);
	assert_counter(1000, 10, 10, 1);	/* restart */
	assert_counter(1, 0, 0, 1);
	assert_counter(1ull << 63, 0, 0, 1);
	assert_counter((1ull << 63) + 1, 0, (1ull << 63) - 1, 0);
}

static struct kvmstats_source *open_filled(void)
{
	struct kvmstats_source *source;
	struct image image;

	image_fill(&image);
	assert_int_equal(image_open(&image, &source), 0);
	return source;
}

static void sample_delta(void **state)
{
	/* events, wait_ns, level, gap, hist */
	const uint64_t before[9] = { 10, 20, 30, 7, 1, 2, 3, 4, 5 };
	const uint64_t after[9] = { 15, 20, 4, 9, 1, 3, 3, 4, 9 };
	const uint64_t expected[9] = { 5, 0, 4, 0, 0, 1, 0, 0, 4 };
	struct kvmstats_source *source = open_filled();
	uint64_t delta[9];

	(void)state;
	memset(delta, 0xaa, sizeof(delta));
	assert_int_equal(kvmstats_schema_delta(kvmstats_source_schema(source), before,
					       after, delta), 0);
	assert_memory_equal(delta, expected, sizeof(delta));
	kvmstats_source_close(source);
}

static void sample_restart(void **state)
{
	const uint64_t before[9] = { 10, 20, 30, 7, 1, 2, 3, 4, 5 };
	const uint64_t after[9] = { 3, 21, 4, 9, 6, 7, 0, 9, 9 };
	const uint64_t expected[9] = { 3, 1, 4, 0, 6, 7, 0, 9, 9 };
	struct kvmstats_source *source = open_filled();
	uint64_t delta[9];

	(void)state;
	assert_int_equal(kvmstats_schema_delta(kvmstats_source_schema(source), before,
					       after, delta), 2);
	assert_memory_equal(delta, expected, sizeof(delta));
	kvmstats_source_close(source);
}

static void rate(void **state)
{
	(void)state;
	assert_true(kvmstats_rate(500, 500000000) == 1000);
	assert_true(kvmstats_rate(500, 0) == 0);
}

static void folds(void **state)
{
	const uint64_t a[9] = { 1, MAX, 3, 0, 9, 0, 0, 0, 0 };
	const uint64_t b[9] = { 4, 2, 1, 0, 9, 0, 0, 0, 5 };
	const uint64_t sum[9] = { 5, MAX, 4, 0, 18, 0, 0, 0, 5 };
	const uint64_t min[9] = { 1, 2, 1, 0, 9, 0, 0, 0, 0 };
	const uint64_t max[9] = { 4, MAX, 3, 0, 9, 0, 0, 0, 5 };
	const uint64_t *const expected[] = { sum, min, max };
	struct kvmstats_source *source = open_filled();
	struct kvmstats_schema *schema = kvmstats_source_schema(source);
	uint64_t into[9];

	(void)state;
	for (int fold = KVMSTATS_SUM; fold <= KVMSTATS_MAX; fold++) {
		memcpy(into, a, sizeof(into));
		assert_int_equal(kvmstats_schema_fold(schema, fold, into, b), 0);
		assert_memory_equal(into, expected[fold], sizeof(into));
	}
	assert_int_equal(kvmstats_schema_fold(schema, 7, into, b), -EINVAL);
	kvmstats_source_close(source);
}

static void assert_bounds(const struct kvmstats_desc *desc, unsigned int bucket,
			  uint64_t low, uint64_t high)
{
	uint64_t l, h;

	assert_int_equal(kvmstats_desc_bucket_bounds(desc, bucket, &l, &h), 0);
	assert_int_equal(l, low);
	assert_int_equal(h, high);
}

static void log_buckets(void **state)
{
	struct kvmstats_desc desc = make_desc(KVMSTATS_LOG_HIST, 0, -9);
	uint64_t low, high;

	(void)state;
	desc.size = 32;
	assert_bounds(&desc, 0, 0, 0);
	assert_bounds(&desc, 1, 1, 1);
	assert_bounds(&desc, 2, 2, 3);
	assert_bounds(&desc, 30, 1u << 29, (1u << 30) - 1);
	assert_bounds(&desc, 31, 1u << 30, MAX);
	assert_int_equal(kvmstats_desc_bucket_bounds(&desc, 32, &low, &high),
			 -EINVAL);
	desc.size = 100;
	assert_bounds(&desc, 63, 1ull << 62, (1ull << 63) - 1);
	assert_bounds(&desc, 64, 1ull << 63, MAX);
	assert_bounds(&desc, 65, MAX, MAX);
}

static void linear_buckets(void **state)
{
	struct kvmstats_desc desc = make_desc(KVMSTATS_LINEAR_HIST, 0, 0);
	uint64_t low, high;

	(void)state;
	desc.size = 3;
	desc.bucket_size = 10;
	assert_bounds(&desc, 0, 0, 9);
	assert_bounds(&desc, 1, 10, 19);
	assert_bounds(&desc, 2, 20, MAX);
	desc.bucket_size = 0;
	assert_int_equal(kvmstats_desc_bucket_bounds(&desc, 0, &low, &high),
			 -EINVAL);
	desc = make_desc(KVMSTATS_CUMULATIVE, 0, 0);
	assert_int_equal(kvmstats_desc_bucket_bounds(&desc, 0, &low, &high),
			 -EINVAL);
	desc = make_desc(KVMSTATS_LINEAR_HIST, 0, 0);
	desc.size = 65535;
	desc.bucket_size = UINT32_MAX;
	assert_bounds(&desc, 65534, 65534ull * UINT32_MAX, MAX);
}

static struct kvmstats_desc make_reasons(const char *name, uint16_t size)
{
	struct kvmstats_desc desc = make_desc(KVMSTATS_LINEAR_HIST, 0, 0);

	desc.name = name;
	desc.size = size;
	desc.bucket_size = 1;
	return desc;
}

/* Each has a name, and no two the same; the last is all else. */
static void assert_names(const char *stat, uint16_t size)
{
	struct kvmstats_desc desc = make_reasons(stat, size);

	assert_true(kvmstats_desc_has_reasons(&desc));
	for (unsigned int i = 0; i < size; i++) {
		assert_non_null(kvmstats_desc_reason(&desc, i));
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(kvmstats_desc_reason(&desc, i),
						kvmstats_desc_reason(&desc, j));
	}
	assert_string_equal(kvmstats_desc_reason(&desc, size - 1), "other");
	assert_null(kvmstats_desc_reason(&desc, size));
	desc.size--;
	assert_false(kvmstats_desc_has_reasons(&desc));
}

static void exit_reasons(void **state)
{
	struct kvmstats_desc desc;

	(void)state;
	assert_names("exit_reasons_vmx", 80);
	assert_names("exit_reasons_svm", 80);
	assert_names("exit_reasons_arm64", 68);
	desc = make_reasons("exit_reasons_vmx", 80);
	assert_string_equal(kvmstats_desc_reason(&desc, 48), "EPT violation");
	desc.bucket_size = 2;
	assert_null(kvmstats_desc_reason(&desc, 48));
	desc = make_reasons("exit_reasons_svm", 80);
	assert_string_equal(kvmstats_desc_reason(&desc, 71), "NPF");
	desc.flags = KVMSTATS_LOG_HIST;
	assert_null(kvmstats_desc_reason(&desc, 71));
	desc = make_reasons("exit_reasons", 80);
	assert_null(kvmstats_desc_reason(&desc, 0));
	desc = make_reasons("exit_reasons_arm64", 68);
	assert_string_equal(kvmstats_desc_reason(&desc, 0x16), "HVC");
	assert_string_equal(kvmstats_desc_reason(&desc, 0x02), "class 0x02");
	assert_string_equal(kvmstats_desc_reason(&desc, 64), "IRQ");
}

static void assert_quantile(const uint64_t *sample, uint32_t ppm, uint64_t low,
			    uint64_t high)
{
	struct kvmstats_desc desc = make_desc(KVMSTATS_LOG_HIST, 0, 0);
	uint64_t l, h;

	desc.size = 5;
	assert_int_equal(kvmstats_desc_quantile(&desc, sample, ppm, &l, &h), 0);
	assert_int_equal(l, low);
	assert_int_equal(h, high);
}

static void quantiles(void **state)
{
	/* values 0; 1, 1; 2 or 3, seven times; none; one of 8 or more */
	const uint64_t sample[5] = { 1, 2, 7, 0, 1 };
	const uint64_t hundred[5] = { 7, 93, 0, 0, 0 };
	const uint64_t full[5] = { MAX, MAX, 0, 0, 0 };
	const uint64_t ones[5] = { 0, 5, 0, 0, 0 };

	(void)state;
	assert_quantile(ones, 0, 1, 1);
	assert_quantile(sample, 0, 0, 0);
	assert_quantile(sample, 90909, 0, 0);
	assert_quantile(sample, 90910, 1, 1);
	assert_quantile(sample, 500000, 2, 3);
	assert_quantile(sample, 909090, 2, 3);
	assert_quantile(sample, 909091, 8, MAX);
	assert_quantile(sample, 990000, 8, MAX);
	assert_quantile(sample, 1000000, 8, MAX);
	/* with a double, 0.07 * 100 would be a little over 7 */
	assert_quantile(hundred, 70000, 0, 0);
	assert_quantile(hundred, 70001, 1, 1);
	assert_quantile(full, 500000, 0, 0);
	assert_quantile(full, 1000000, 0, 0);
}

static void hist_counts(void **state)
{
	struct kvmstats_desc desc = make_desc(KVMSTATS_LINEAR_HIST, 0, 0);
	const uint64_t sample[3] = { 1, 2, 4 };
	const uint64_t full[3] = { MAX, 1, 1 };

	(void)state;
	desc.size = 3;
	assert_int_equal(kvmstats_desc_hist_count(&desc, sample), 7);
	assert_int_equal(kvmstats_desc_hist_count(&desc, full), MAX);
}

static void quantile_errors(void **state)
{
	struct kvmstats_desc desc = make_desc(KVMSTATS_LOG_HIST, 0, 0);
	const uint64_t sample[5] = { 0 };
	uint64_t low, high;

	(void)state;
	desc.size = 5;
	assert_int_equal(kvmstats_desc_quantile(&desc, sample, 1, &low, &high),
			 -ENODATA);
	assert_int_equal(kvmstats_desc_quantile(&desc, sample, 1000001, &low, &high),
			 -EINVAL);
	desc = make_desc(KVMSTATS_CUMULATIVE, 0, 0);
	assert_int_equal(kvmstats_desc_quantile(&desc, sample, 1, &low, &high),
			 -EINVAL);
	assert_int_equal(kvmstats_desc_hist_count(&desc, sample), 0);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(format_is_exact),
		cmocka_unit_test(format_limits),
		cmocka_unit_test(to_base),
		cmocka_unit_test(counter_delta),
		cmocka_unit_test(sample_delta),
		cmocka_unit_test(sample_restart),
		cmocka_unit_test(rate),
		cmocka_unit_test(folds),
		cmocka_unit_test(log_buckets),
		cmocka_unit_test(linear_buckets),
		cmocka_unit_test(exit_reasons),
		cmocka_unit_test(quantiles),
		cmocka_unit_test(hist_counts),
		cmocka_unit_test(quantile_errors),
	};

	return RUN(tests);
}
