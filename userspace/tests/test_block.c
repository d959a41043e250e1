// SPDX-License-Identifier: GPL-2.0-only
/*
 * Block accounting against a reference (block_trace.h). A row of the table in
 * docs/accounting.md names a test here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block_trace.h"

#define MS	1000000ull
#define SECOND	1000000000ull
#define MINUTE	(60 * SECOND)
#define START	(100000 * SECOND + 1)

/* Where all takes longer. */
static unsigned int fewer(unsigned int count)
{
	return getenv("IN_VALGRIND") ? count / 20 : count;
}

/* ------------------------------------------------ one after the other */

static void totals(void **state)
{
	struct trace *trace = trace_open(START);
	size_t a, b;

	(void)state;
	a = trace_begin(trace, KVMSTATS_BLOCK_READ, 4096);
	trace->now_ns += 5 * MS;
	b = trace_begin(trace, KVMSTATS_BLOCK_WRITE, 512);
	trace->now_ns += 2 * MS;
	trace_end(trace, a, 0);
	trace_check(trace);
	assert_int_equal(trace_value(trace, "read", "bytes", 0), 4096);
	assert_int_equal(trace_value(trace, "read", "time_ns", 0), 7 * MS);
	assert_int_equal(trace_value(trace, "write", "in_flight", 0), 1);
	assert_int_equal(trace_value(trace, "write", "bytes", 0), 0);
	assert_int_equal(trace_value(trace, "write", "queue_time_ns", 0), 2 * MS);
	trace->now_ns += 2 * MS;
	trace_end(trace, b, 0);
	b = trace_begin(trace, KVMSTATS_BLOCK_FLUSH, 77);
	trace->now_ns += MS;
	trace_end(trace, b, 0);
	b = trace_begin(trace, KVMSTATS_BLOCK_DISCARD, 1ull << 40);
	trace_end(trace, b, 0);
	trace_check(trace);
	assert_int_equal(trace_value(trace, "discard", "bytes", 0), 1ull << 40);
	assert_int_equal(trace_value(trace, "discard", "size_hist", 31), 1);
	assert_int_equal(trace_value(trace, "discard", "latency_hist", 0), 1);
	assert_int_equal(trace_value(trace, "flush", "ios", 0), 1);
	trace_close(trace);
}

/* Counted apart, whatever an operator thinks of them: no volume, no latency. */
static void failed_and_invalid(void **state)
{
	struct trace *trace = trace_open(START);
	size_t a;

	(void)state;
	a = trace_begin(trace, KVMSTATS_BLOCK_WRITE, 4096);
	trace->now_ns += 30 * SECOND;
	trace_end(trace, a, -EIO);
	for (int op = 0; op < KVMSTATS_BLOCK_OPS; op++)
		for (int i = 0; i <= op; i++) {
			trace->invalid[op]++;
			assert_int_equal(kvmstats_block_invalid(trace->block, op),
					 0);
		}
	trace_check(trace);
	assert_int_equal(trace_value(trace, "write", "ios", 0), 0);
	assert_int_equal(trace_value(trace, "write", "bytes", 0), 0);
	assert_int_equal(trace_value(trace, "write", "failed", 0), 1);
	assert_int_equal(trace_value(trace, "write", "failed_time_ns", 0),
			 30 * SECOND);
	assert_int_equal(trace_value(trace, "flush", "invalid", 0), 3);
	trace_close(trace);
}

/* In the queue while it was there; else as if it had not been. */
static void cancelled(void **state)
{
	struct kvmstats_block_request request;
	struct trace *trace = trace_open(START);

	(void)state;
	assert_int_equal(kvmstats_block_submit(trace->block, &request,
					       KVMSTATS_BLOCK_WRITE, 4096), 0);
	trace->now_ns += 2 * SECOND;
	assert_int_equal(kvmstats_block_cancel(trace->block, &request), 0);
	assert_int_equal(kvmstats_block_cancel(trace->block, &request), -EINVAL);
	assert_int_equal(kvmstats_block_complete(trace->block, &request, 0),
			 -EINVAL);
	trace->now_ns += 3 * SECOND;
	kvmstats_block_tick(trace->block);
	trace_sample(trace);
	assert_int_equal(trace_value(trace, "write", "in_flight", 0), 0);
	assert_int_equal(trace_value(trace, "write", "ios", 0), 0);
	assert_int_equal(trace_value(trace, "write", "bytes", 0), 0);
	assert_int_equal(trace_value(trace, "write", "failed", 0), 0);
	assert_int_equal(trace_value(trace, "write", "time_ns", 0), 0);
	assert_int_equal(trace_value(trace, "write", "failed_time_ns", 0), 0);
	assert_int_equal(trace_value(trace, "write", "queue_time_ns", 0),
			 2 * SECOND);
	assert_int_equal(trace_value(trace, "", "idle_time_ns", 0), 3 * SECOND);
	trace_close(trace);
}

static void merged(void **state)
{
	struct trace *trace = trace_open(START);

	(void)state;
	trace->merged[KVMSTATS_BLOCK_READ] = 3;
	trace->merged[KVMSTATS_BLOCK_DISCARD] = 5;
	assert_int_equal(kvmstats_block_merged(trace->block,
					       KVMSTATS_BLOCK_READ, 1), 0);
	assert_int_equal(kvmstats_block_merged(trace->block,
					       KVMSTATS_BLOCK_READ, 2), 0);
	assert_int_equal(kvmstats_block_merged(trace->block,
					       KVMSTATS_BLOCK_DISCARD, 5), 0);
	assert_int_equal(kvmstats_block_merged(trace->block,
					       KVMSTATS_BLOCK_FLUSH, 1), -EINVAL);
	trace_check(trace);
	trace_close(trace);
}

/* What is no request changes nothing. */
static void misuse(void **state)
{
	struct kvmstats_block_options options = { .size_bytes = 8 };
	struct kvmstats_block_request request = { 0 };
	struct trace *trace = trace_open(START);
	struct kvmstats_block *block;

	(void)state;
	assert_int_equal(kvmstats_block_new("a", &options, &block), -EINVAL);
	assert_int_equal(kvmstats_block_new("", NULL, &block), -EINVAL);
	assert_int_equal(kvmstats_block_complete(trace->block, &request, 0),
			 -EINVAL);
	assert_int_equal(kvmstats_block_submit(trace->block, &request, 4, 1),
			 -EINVAL);
	assert_int_equal(kvmstats_block_complete(trace->block, &request, 0),
			 -EINVAL);
	assert_int_equal(kvmstats_block_invalid(trace->block, 4), -EINVAL);
	assert_int_equal(kvmstats_block_merged(trace->block, 4, 1), -EINVAL);
	trace_end(trace, trace_begin(trace, KVMSTATS_BLOCK_READ, 1), 0);
	assert_int_equal(kvmstats_block_complete(trace->block,
						 &trace->request[0].request, 0),
			 -EINVAL);
	trace_check(trace);
	trace_close(trace);
	kvmstats_block_free(NULL);
}

/* Half of a second at depth 1, a quarter at depth 3, nothing: 1.25. */
static void depth(void **state)
{
	struct trace *trace = trace_open(200000 * SECOND);
	size_t first, others[2];

	(void)state;
	first = trace_begin(trace, KVMSTATS_BLOCK_READ, 1);
	trace->now_ns += 500 * MS;
	others[0] = trace_begin(trace, KVMSTATS_BLOCK_READ, 1);
	others[1] = trace_begin(trace, KVMSTATS_BLOCK_READ, 1);
	trace->now_ns += 250 * MS;
	trace_end(trace, others[0], 0);
	trace_end(trace, first, 0);
	trace_end(trace, others[1], 1);
	trace->now_ns += 300 * MS;
	trace_check(trace);
	assert_int_equal(trace_value(trace, "read", "depth_1s", 0), 1250000);
	assert_int_equal(trace_value(trace, "read", "depth_1m", 0), 20833);
	assert_int_equal(trace_value(trace, "read", "depth_1h", 0), 0);
	trace->now_ns += MINUTE;
	trace_check(trace);
	assert_int_equal(trace_value(trace, "read", "depth_1h", 0), 347);
	trace_close(trace);
}

/* A request of hours is in all windows while it is in flight. */
static void long_request(void **state)
{
	struct trace *trace = trace_open(START);
	size_t a = trace_begin(trace, KVMSTATS_BLOCK_FLUSH, 0);

	(void)state;
	for (int i = 0; i < 200; i++) {
		trace->now_ns += 37 * SECOND + 123456789;
		trace_check(trace);
	}
	assert_int_equal(trace_value(trace, "flush", "depth_1h", 0), 1000000);
	trace_end(trace, a, 0);
	trace->now_ns += 2 * SECOND;
	trace_check(trace);
	assert_int_equal(trace_value(trace, "flush", "latency_hist", 39), 1);
	trace_close(trace);
}

static void idle(void **state)
{
	struct trace *trace = trace_open(START);
	size_t a;

	(void)state;
	trace->now_ns += 10 * SECOND;
	trace_check(trace);
	assert_int_equal(trace_value(trace, "", "idle_time_ns", 0), 10 * SECOND);
	assert_int_equal(trace_value(trace, "", "idle_since_ns", 0), 10 * SECOND);
	trace->now_ns += SECOND;
	a = trace_begin(trace, KVMSTATS_BLOCK_READ, 1);
	trace->now_ns += 7 * SECOND;
	trace_check(trace);
	assert_int_equal(trace_value(trace, "", "idle_time_ns", 0), 11 * SECOND);
	assert_int_equal(trace_value(trace, "", "idle_since_ns", 0), 0);
	trace_end(trace, a, 0);
	trace->now_ns += 3 * SECOND;
	trace_check(trace);
	assert_int_equal(trace_value(trace, "", "idle_time_ns", 0), 14 * SECOND);
	assert_int_equal(trace_value(trace, "", "idle_since_ns", 0), 3 * SECOND);
	trace_close(trace);
}

/* An event on a second's first nanosecond is the new second's. */
static void boundaries(void **state)
{
	struct trace *trace = trace_open(3599 * SECOND);
	size_t a;

	(void)state;
	for (uint64_t at = 3600 * SECOND; at < 3604 * SECOND; at += SECOND)
		for (int off = -1; off <= 1; off++) {
			trace->now_ns = at + off;
			a = trace_begin(trace, KVMSTATS_BLOCK_WRITE, 1);
			trace_check(trace);
			trace_end(trace, a, 0);
			trace_check(trace);
		}
	trace_close(trace);
}

/* Names, types and units are what they were when this disk was recorded. */
static void schema(void **state)
{
	struct trace *trace = trace_open(START);
	FILE *file = fopen("tests/data/block-drive0.bin", "re");
	struct kvmstats_source *recorded;
	struct kvmstats_schema *then, *now;
	static unsigned char image[65536];
	size_t size_bytes;

	(void)state;
	assert_non_null(file);
	size_bytes = fread(image, 1, sizeof(image), file);
	assert_int_equal(kvmstats_source_open_image(image, size_bytes, NULL,
						    &recorded), 0);
	fclose(file);
	then = kvmstats_source_schema(recorded);
	now = kvmstats_source_schema(trace->source);
	for (size_t i = 0; i < kvmstats_schema_count(then); i++) {
		const struct kvmstats_desc *was = kvmstats_schema_desc(then, i);
		const struct kvmstats_desc *is =
			kvmstats_schema_find(now, kvmstats_desc_name(was));

		if (!is)
			fail_msg("no %s any more", kvmstats_desc_name(was));
		assert_int_equal(kvmstats_desc_flags(is), kvmstats_desc_flags(was));
		assert_int_equal(kvmstats_desc_exponent(is),
				 kvmstats_desc_exponent(was));
		assert_int_equal(kvmstats_desc_size(is), kvmstats_desc_size(was));
	}
	kvmstats_source_close(recorded);
	trace_close(trace);
}

/* ------------------------------------------------------------- any trace */

static uint64_t pick_step(unsigned int *seed)
{
	switch (rand_r(seed) % 16) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 2:
		return rand_r(seed) % (3 * SECOND);
	case 3:
		return rand_r(seed) % 100 ? 0 : rand_r(seed) % 100 * MINUTE;
	default:
		return rand_r(seed) % (20 * MS);
	}
}

static uint64_t pick_bytes(unsigned int *seed)
{
	return (1ull << rand_r(seed) % 34) + rand_r(seed) % 3;
}

/* Begins, ends and ticks at any time, each tick compared. */
static void random_trace(unsigned int seed, unsigned int steps)
{
	/* every third machine has just been started */
	struct trace *trace = trace_open((seed % 3 ? START : 0) + rand_r(&seed));
	size_t open[64], depth = 0;

	for (unsigned int i = 0; i < steps; i++) {
		trace->now_ns += pick_step(&seed);
		switch (rand_r(&seed) % 8) {
		case 0:
		case 1:
		case 2:
			if (depth < 64)
				open[depth++] =
					trace_begin(trace,
						    rand_r(&seed) % KVMSTATS_BLOCK_OPS,
						    pick_bytes(&seed));
			break;
		case 3:
		case 4:
		case 5:
			if (depth) {
				size_t which = rand_r(&seed) % depth;

				trace_end(trace, open[which],
					  rand_r(&seed) % 5 ? 0 : -EIO);
				open[which] = open[--depth];
			}
			break;
		case 6:
			if (rand_r(&seed) % 20)
				break;
			trace->invalid[1]++;
			kvmstats_block_invalid(trace->block, 1);
			trace->merged[3] += 2;
			kvmstats_block_merged(trace->block, 3, 2);
			break;
		default:
			if (!(rand_r(&seed) % 10))
				trace_check(trace);
		}
	}
	trace_check(trace);
	trace_close(trace);
}

static void random_traces(void **state)
{
	unsigned int count = fewer(60);

	(void)state;
	for (unsigned int seed = 1; seed <= count; seed++)
		random_trace(seed, 3000);
}

/*
 * A real disk's: begin in ns, operation, bytes, duration in ns, of each request.
 */
static void recorded_trace(void **state)
{
	static struct {
		uint64_t start_ns, bytes, time_ns;
		char op;
		bool begun, ended;
		size_t number;
	} line[4000];
	FILE *file = fopen("tests/data/block-trace.txt", "re");
	struct trace *trace = trace_open(START);
	size_t count = 0, ended = 0;

	(void)state;
	assert_non_null(file);
	while (count < 4000 &&
	       fscanf(file, "%ju %c %ju %ju\n", &line[count].start_ns,
		      &line[count].op, &line[count].bytes,
		      &line[count].time_ns) == 4)
		count++;
	fclose(file);
	assert_true(count > 1000);
	while (ended < count) {
		uint64_t soonest = NEVER;
		size_t which = 0;
		bool begins = false;

		for (size_t i = 0; i < count; i++) {
			uint64_t at = line[i].start_ns + (line[i].begun ?
				      line[i].time_ns : 0);

			if (line[i].ended || at >= soonest)
				continue;
			soonest = at;
			which = i;
			begins = !line[i].begun;
		}
		if ((START + soonest) / (100 * MS) != trace->now_ns / (100 * MS))
			trace_check(trace);
		trace->now_ns = START + soonest;
		if (begins) {
			line[which].number =
				trace_begin(trace,
					    strchr("rwfd", line[which].op) - "rwfd",
					    line[which].bytes);
			line[which].begun = true;
		} else {
			trace_end(trace, line[which].number, 0);
			line[which].ended = true;
			ended++;
		}
	}
	trace_check(trace);
	trace->now_ns += 2 * MINUTE;
	trace_check(trace);
	trace_close(trace);
}

/* --------------------------------------------------------------- the clock */

/* Late ticks close all that is due: as if they had not been late. */
static void late_ticks(void **state)
{
	static const uint64_t lateness[] = {
		1, SECOND, 59 * SECOND, 61 * MINUTE, 62 * MINUTE, 5 * 60 * MINUTE,
		100 * 24 * 60 * MINUTE,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lateness) / sizeof(*lateness); i++) {
		struct trace *trace = trace_open(START);
		size_t a = trace_begin(trace, KVMSTATS_BLOCK_READ, 1), b;

		trace->now_ns += 300 * MS;
		b = trace_begin(trace, KVMSTATS_BLOCK_READ, 1);
		trace->now_ns += 400 * MS;
		trace_end(trace, b, 0);
		trace->now_ns += lateness[i];
		trace_check(trace);
		trace_check(trace);
		trace->now_ns += lateness[i];
		trace_end(trace, a, 0);
		trace_check(trace);
		trace_close(trace);
	}
}

/* As in a VM that is stopped. */
static void clock_stands_still(void **state)
{
	struct trace *trace = trace_open(START);
	size_t a = trace_begin(trace, KVMSTATS_BLOCK_READ, 1);

	(void)state;
	for (int i = 0; i < 100; i++) {
		trace_end(trace, trace_begin(trace, KVMSTATS_BLOCK_WRITE, 1), 0);
		trace_check(trace);
	}
	trace_end(trace, a, 0);
	trace_check(trace);
	trace_close(trace);
}

/* Then no time passes until it is there again; nothing goes back, or wraps. */
static void clock_goes_back(void **state)
{
	uint64_t before[KVMSTATS_MAX_PUBLISHED_WORDS];
	struct trace *trace = trace_open(START);
	struct kvmstats_schema *schema = kvmstats_source_schema(trace->source);
	uint64_t highest_ns = START, waited_ns = 0;
	unsigned int seed = 7;
	size_t open = 0;
	bool any = false;

	(void)state;
	trace_sample(trace);
	for (int i = 0; i < 5000; i++) {
		memcpy(before, trace->sample, sizeof(before));
		trace->now_ns += pick_step(&seed) % SECOND;
		if (i % 50 == 0)
			trace->now_ns = START - 500 * SECOND +
					rand_r(&seed) % 600 * SECOND;
		if (trace->now_ns > highest_ns)
			highest_ns = trace->now_ns;
		if (any)
			trace_end(trace, open, 0);
		else
			open = trace_begin(trace, i % KVMSTATS_BLOCK_OPS, 4096);
		any = !any;
		if (i % 3 == 0)
			kvmstats_block_tick(trace->block);
		trace_sample(trace);
		for (size_t j = 0; j < kvmstats_schema_count(schema); j++) {
			const struct kvmstats_desc *desc =
				kvmstats_schema_desc(schema, j);
			uint64_t x = kvmstats_desc_value(desc, before, 0);
			uint64_t y = kvmstats_desc_value(desc, trace->sample, 0);

			if (kvmstats_desc_type(desc) == KVMSTATS_CUMULATIVE &&
			    y < x)
				fail_msg("%s went back from %ju to %ju",
					 kvmstats_desc_name(desc), (uintmax_t)x,
					 (uintmax_t)y);
			if (kvmstats_desc_unit(desc) == KVMSTATS_UNIT_SECONDS &&
			    !kvmstats_desc_is_hist(desc))
				assert_in_range(y, 0, 5000 * SECOND);
		}
	}
	/* there was one at a time, and no more time than what was new */
	waited_ns = trace_value(trace, "read", "queue_time_ns", 0) +
		    trace_value(trace, "write", "queue_time_ns", 0) +
		    trace_value(trace, "flush", "queue_time_ns", 0) +
		    trace_value(trace, "discard", "queue_time_ns", 0);
	assert_in_range(waited_ns, 1, highest_ns - START);
	trace_close(trace);
}

/* ----------------------------------------------------------- what is seen */

/* While there are requests it is at most a millisecond old, without any tick. */
static void freshness(void **state)
{
	struct trace *trace = trace_open(START);

	(void)state;
	for (int i = 0; i < 5000; i++) {
		trace->now_ns += 250000;
		trace_end(trace, trace_begin(trace, KVMSTATS_BLOCK_READ, 1), 0);
		trace_sample(trace);
		assert_in_range(trace_value(trace, "read", "ios", 0),
				i < 3 ? 0 : i - 3, i + 1);
	}
	assert_in_range(trace_value(trace, "read", "done_1s", 0), 3999, 4000);
	trace_close(trace);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(schema),
		cmocka_unit_test(totals),
		cmocka_unit_test(failed_and_invalid),
		cmocka_unit_test(cancelled),
		cmocka_unit_test(merged),
		cmocka_unit_test(misuse),
		cmocka_unit_test(depth),
		cmocka_unit_test(long_request),
		cmocka_unit_test(idle),
		cmocka_unit_test(boundaries),
		cmocka_unit_test(random_traces),
		cmocka_unit_test(recorded_trace),
		cmocka_unit_test(late_ticks),
		cmocka_unit_test(clock_stands_still),
		cmocka_unit_test(clock_goes_back),
		cmocka_unit_test(freshness),
	};

	return RUN(tests);
}
