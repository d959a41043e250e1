// SPDX-License-Identifier: GPL-2.0-only
/* kvmstatd: numbers, names and what clients ask for. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../kvmstatd/exposition.h"
#include "../kvmstatd/scrape.h"
#include "image.h"

static uint64_t pseudo_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	/* all lengths, not only the longest */
	return *state >> (*state >> 58);
}

static void check_u64(uint64_t value)
{
	char text[32], expected[32];

	*put_u64(text, value) = 0;
	snprintf(expected, sizeof(expected), "%" PRIu64, value);
	assert_string_equal(text, expected);
}

static void whole_numbers(void **unused)
{
	uint64_t state = 1;

	(void)unused;
	for (uint64_t power = 1, i = 0; i < 20; i++, power *= 10) {
		check_u64(power - 1);
		check_u64(power);
		check_u64(power + 1);
	}
	check_u64(UINT64_MAX);
	for (int i = 0; i < 100000; i++)
		check_u64(pseudo_random(&state));
}

/* The library's exact text, without what a zero at the end adds. */
static void check_nano(const struct kvmstats_desc *desc, uint64_t value)
{
	char text[32], expected[KVMSTATS_MAX_TEXT_SIZE];
	char *end;

	*put_nano(text, value) = 0;
	assert_true(kvmstats_desc_format(desc, value, expected,
					 sizeof(expected)) > 0);
	end = expected + strlen(expected);
	while (end[-1] == '0')
		*--end = 0;
	if (end[-1] == '.')
		end[-1] = 0;
	assert_string_equal(text, expected);
}

static void nanoseconds(void **unused)
{
	const struct kvmstats_desc *desc;
	struct kvmstats_source *source;
	struct image image;
	uint64_t state = 2;

	(void)unused;
	image_fill(&image);
	assert_int_equal(image_open(&image, &source), 0);
	desc = kvmstats_schema_find(kvmstats_source_schema(source), "wait_ns");
	for (uint64_t power = 1, i = 0; i < 20; i++, power *= 10) {
		check_nano(desc, power - 1);
		check_nano(desc, power);
	}
	check_nano(desc, UINT64_MAX);
	for (int i = 0; i < 20000; i++)
		check_nano(desc, pseudo_random(&state));
	kvmstats_source_close(source);
}

static void bounds_as_go_prints_them(void **unused)
{
	static const struct {
		double bound;
		const char *text;
	} cases[] = {
		{ 0, "0.0" }, { 0.000000001, "1e-09" },
		{ 0.000000003, "3e-09" },
		{ 0.000001023, "1.023e-06" }, { 0.000131071, "0.000131071" },
		{ 0.00001, "1e-05" }, { 0.0001, "0.0001" },
		{ 1.073741823, "1.073741823" }, { 7, "7.0" }, { 10, "10.0" },
		{ 127, "127.0" }, { 999999, "999999.0" }, { 1e6, "1e+06" },
		{ 1048575, "1.048575e+06" }, { 0.1, "0.1" },
		{ 1073741823, "1.073741823e+09" },
		{ 18446744073709551615.0, "1.8446744073709552e+19" },
	};
	char text[LE_TEXT_SIZE];

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		le_text(text, cases[i].bound);
		assert_string_equal(text, cases[i].text);
	}
}

static void escapes(void **unused)
{
	static const char expected[] =
		"a\\\\\\\"b\\\"<i>\\n&|a\\\\\"b\"<i>\\n&|a\\&quot;b&quot;&lt;i&gt;\n&amp;";
	static const char bad[] = "a\\\"b\"<i>\n&";
	size_t length;
	char *text;
	FILE *out = open_memstream(&text, &length);

	(void)unused;
	escape_label(out, bad);
	fputc('|', out);
	escape_help(out, bad);
	fputc('|', out);
	escape_html(out, bad);
	fclose(out);
	assert_string_equal(text, expected);
	free(text);
}

/* What they send, but for versions that we do not have. */
static const char prometheus_2[] =
"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
static const char prometheus_3[] =
"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.3";

static void formats(void **unused)
{
	static const struct {
		const char *accept;
		enum exposition format;
	} cases[] = {
		{ NULL, PROMETHEUS }, { "", PROMETHEUS }, { "*/*", PROMETHEUS },
		{ "text/html,*/*;q=0.8", PROMETHEUS },
		{ "application/openmetrics-text", OPENMETRICS },
		{ "APPLICATION/OpenMetrics-Text; Version=1.0.0", OPENMETRICS },
		{ "application/openmetrics-text; version=\"1.0.0\"",
		  OPENMETRICS },
		{ "application/openmetrics-text;version=0.0.1", PROMETHEUS },
		{ "application/openmetrics-text;version=2.0.0", PROMETHEUS },
		{ "application/openmetrics-text;q=0", PROMETHEUS },
		{ "application/openmetrics-text;q=0.1,*/*", PROMETHEUS },
		{ "application/openmetrics-text,*/*;q=0.1", OPENMETRICS },
		{ "application/openmetrics-text,text/plain", PROMETHEUS },
		{ "text/plain;q=0.3,application/openmetrics-text;q=0.31",
		  OPENMETRICS },
		{ "application/*;q=0.9,text/plain;q=0.8", OPENMETRICS },
		{ "application/openmetrics-text;q=nonsense", PROMETHEUS },
		{ "application/openmetrics-text;x=\",\";q=1,text/plain;q=.5",
		  OPENMETRICS },
		{ prometheus_2, OPENMETRICS }, { prometheus_3, OPENMETRICS },
		{ "text/plain;version=0.0.4;q=1,*/*;q=0.1", PROMETHEUS },
		{ ",,;,;q=,=", PROMETHEUS },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (negotiate_format(cases[i].accept) != cases[i].format)
			fail_msg("%s", cases[i].accept);
}

static void encodings(void **unused)
{
	static const struct {
		const char *accept;
		bool gzip;
	} cases[] = {
		{ NULL, false }, { "", false }, { "gzip", true },
		{ "deflate, gzip;q=1.0, *;q=0.5", true }, { "x-gzip", true },
		{ "gzip;q=0", false }, { "identity", false }, { "*", true },
		{ "*;q=0", false }, { "gzip;q=0, *", false },
		{ "gzip;q=0.5, identity", false },
		{ "gzip;q=0.5, identity;q=0.1", true }, { "gzipped", false },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (negotiate_gzip(cases[i].accept) != cases[i].gzip)
			fail_msg("%s", cases[i].accept);
}

/* A header that a client made endless. */
static void long_header(void **unused)
{
	char *accept = calloc(1, 20001);

	(void)unused;
	memset(accept, ';', 20000);
	assert_int_equal(negotiate_format(accept), PROMETHEUS);
	memset(accept, 'a', 20000);
	strcpy(accept + 19000, ", application/openmetrics-text");
	assert_int_equal(negotiate_format(accept), OPENMETRICS);
	free(accept);
}

struct naming {
	const char *name;
	unsigned int type, unit;
	int exponent;
	unsigned int base;
	const char *metric[3];	/* by attempt */
};

static void names(void **unused)
{
	static const struct naming cases[] = {
		{ "exits", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_NONE, 0, 0,
		  { "kvm_vcpu_exits", "kvm_vcpu_exits_cumulative",
		    "kvm_vcpu_exits_cumulative_2" } },
		{ "halt_wait_ns", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_SECONDS,
		  -9, 0, { "kvm_vcpu_halt_wait_seconds",
			   "kvm_vcpu_halt_wait_cumulative_seconds",
			   "kvm_vcpu_halt_wait_cumulative_2_seconds" } },
		{ "wait_total", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_NONE, 0, 0,
		  { "kvm_vcpu_wait" } },
		{ "mem", KVMSTATS_INSTANT, KVMSTATS_UNIT_BYTES, 10, 1,
		  { "kvm_vcpu_mem_bytes" } },
		{ "a.b-c", KVMSTATS_PEAK, KVMSTATS_UNIT_CYCLES, 0, 0,
		  { "kvm_vcpu_a_b_c_cycles", "kvm_vcpu_a_b_c_peak_cycles" } },
		{ "busy", KVMSTATS_INSTANT, KVMSTATS_UNIT_BOOLEAN, 0, 0,
		  { "kvm_vcpu_busy" } },
		/* no conversion, no unit */
		{ "odd_ns", KVMSTATS_INSTANT, KVMSTATS_UNIT_SECONDS, -9, 7,
		  { "kvm_vcpu_odd_ns" } },
		{ "far_ns", KVMSTATS_INSTANT, KVMSTATS_UNIT_SECONDS, -900, 0,
		  { "kvm_vcpu_far_ns" } },
		{ "new", 9, 12, 0, 0, { "kvm_vcpu_new",
					"kvm_vcpu_new_untyped" } },
	};
	const struct source_kind vm = { .scope = KVMSTATS_SCOPE_VM };
	const struct source_kind vcpu = { .scope = KVMSTATS_SCOPE_VCPU };
	const struct source_kind block = { .scope = KVMSTATS_SCOPE_DEVICE,
					   .class_name = "block" };
	char name[METRIC_NAME_SIZE];
	struct kvmstats_desc desc;

	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct naming *naming = &cases[i];

		desc = (struct kvmstats_desc){
			.name = naming->name, .exponent = naming->exponent,
			.flags = FLAGS(naming->type, naming->unit,
				       naming->base), .size = 1,
		};
		for (int j = 0; j < 3 && naming->metric[j]; j++) {
			metric_name(name, &vcpu, &desc, j);
			assert_string_equal(name, naming->metric[j]);
		}
	}
	metric_name(name, &vm, &desc, 0);
	assert_string_equal(name, "kvm_vm_new");
	metric_name(name, &block, &desc, 0);
	assert_string_equal(name, "kvm_block_new");
}

static void clashes(void **unused)
{
	(void)unused;
	assert_true(metric_names_clash("a", "a"));
	assert_true(metric_names_clash("a", "a_bucket"));
	assert_true(metric_names_clash("a_total", "a"));
	assert_false(metric_names_clash("a", "ab"));
	assert_false(metric_names_clash("a_b", "a"));
	assert_false(metric_names_clash("a_b_total", "a"));
}

int main(void)
{
	static TEST_LIST = {
		cmocka_unit_test(whole_numbers),
		cmocka_unit_test(nanoseconds),
		cmocka_unit_test(bounds_as_go_prints_them),
		cmocka_unit_test(escapes),
		cmocka_unit_test(formats),
		cmocka_unit_test(encodings),
		cmocka_unit_test(long_header),
		cmocka_unit_test(names),
		cmocka_unit_test(clashes),
	};

	return RUN(tests);
}
