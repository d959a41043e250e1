// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block_trace.h"

#define SECOND	1000000000ull
#define RASTER	1000000ull

static const char *const operations[KVMSTATS_BLOCK_OPS] = {
	"read", "write", "flush", "discard",
};

static uint64_t read_clock(void *context)
{
	return ((struct trace *)context)->now_ns;
}

struct trace *trace_open(uint64_t now_ns)
{
	struct trace *trace = calloc(1, sizeof(*trace));
	struct kvmstats_block_options options = {
		.size_bytes = sizeof(options), .clock = read_clock,
		.clock_context = trace,
	};
	int fd;

	assert_non_null(trace);
	trace->now_ns = now_ns;
	trace->created_ns = now_ns;
	assert_int_equal(kvmstats_block_new("drive0", &options, &trace->block), 0);
	fd = kvmstats_device_fd(kvmstats_block_device(trace->block));
	assert_int_equal(kvmstats_source_open(dup(fd), NULL, &trace->source), 0);
	return trace;
}

void trace_close(struct trace *trace)
{
	kvmstats_block_free(trace->block);
	kvmstats_source_close(trace->source);
	free(trace);
}

size_t trace_begin(struct trace *trace, enum kvmstats_block_op op, uint64_t bytes)
{
	struct trace_request *r = &trace->request[trace->count];

	assert_true(trace->count < TRACE_REQUESTS);
	r->op = op;
	r->bytes = bytes;
	r->start_ns = trace->now_ns;
	r->end_ns = NEVER;
	assert_int_equal(kvmstats_block_submit(trace->block, &r->request, op,
					       bytes), 0);
	return trace->count++;
}

void trace_end(struct trace *trace, size_t number, int error)
{
	struct trace_request *r = &trace->request[number];

	r->end_ns = trace->now_ns;
	r->failed = error;
	assert_int_equal(kvmstats_block_complete(trace->block, &r->request,
						 error), 0);
}

void trace_sample(struct trace *trace)
{
	assert_int_equal(kvmstats_source_sample(trace->source, trace->sample,
						KVMSTATS_MAX_PUBLISHED_WORDS), 0);
}

uint64_t trace_value(struct trace *trace, const char *operation,
		     const char *name, unsigned int element)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(trace->source);
	const struct kvmstats_desc *desc;
	char text[64];

	snprintf(text, sizeof(text), "%s%s%s", operation, *operation ? "_" : "",
		 name);
	desc = kvmstats_schema_find(schema, text);
	if (!desc)
		fail_msg("no %s", text);
	return kvmstats_desc_value(desc, trace->sample, element);
}

/* ---------------------------------------------------------- the reference */

/* How much of it lies in [from, to). */
static uint64_t overlap(const struct trace_request *r, uint64_t from, uint64_t to)
{
	uint64_t start = r->start_ns > from ? r->start_ns : from;
	uint64_t end = r->end_ns < to ? r->end_ns : to;

	return start < end ? end - start : 0;
}

static void expect(struct trace *trace, const char *operation, const char *name,
		   uint64_t value)
{
	uint64_t found = trace_value(trace, operation, name, 0);

	if (found != value)
		fail_msg("%s_%s at %ju: %ju, by the reference %ju", operation,
			 name, (uintmax_t)trace->now_ns, (uintmax_t)found,
			 (uintmax_t)value);
}

/* Before the clock's 0 there was nothing. */
static void check_window(struct trace *trace, int op, const char *window,
			 uint64_t length, uint64_t to)
{
	uint64_t from = to > length ? to - length : 0;
	uint64_t count = 0, time = 0, shortest = 0, longest = 0, queue = 0;
	char name[32];

	for (size_t i = 0; i < trace->count; i++) {
		const struct trace_request *r = &trace->request[i];
		uint64_t took = r->end_ns - r->start_ns;

		if ((int)r->op != op)
			continue;
		queue += overlap(r, from, to);
		if (r->failed || r->end_ns < from || r->end_ns >= to)
			continue;
		if (!count || took < shortest)
			shortest = took;
		if (took > longest)
			longest = took;
		count++;
		time += took;
	}
	snprintf(name, sizeof(name), "done_%s", window);
	expect(trace, operations[op], name, count);
	snprintf(name, sizeof(name), "latency_avg_%s_ns", window);
	expect(trace, operations[op], name, count ? time / count : 0);
	snprintf(name, sizeof(name), "latency_min_%s_ns", window);
	expect(trace, operations[op], name, shortest);
	snprintf(name, sizeof(name), "latency_max_%s_ns", window);
	expect(trace, operations[op], name, longest);
	snprintf(name, sizeof(name), "depth_%s", window);
	expect(trace, operations[op], name,
	       (__uint128_t)queue * 1000000 / length);
}

static void check_windows(struct trace *trace, int op)
{
	uint64_t second = trace->now_ns / SECOND * SECOND;
	uint64_t minute = trace->now_ns / (60 * SECOND) * (60 * SECOND);

	check_window(trace, op, "1s", SECOND, second);
	check_window(trace, op, "1m", 60 * SECOND, second);
	check_window(trace, op, "1h", 3600 * SECOND, minute);
}

static unsigned int bucket_of(uint64_t value, unsigned int last)
{
	unsigned int bucket = 0;

	for (; value; value /= 2)
		bucket++;
	return bucket < last ? bucket : last;
}

static void check_hist(struct trace *trace, int op, const char *name,
		       const uint64_t *count, unsigned int buckets)
{
	for (unsigned int i = 0; i < buckets; i++)
		assert_int_equal(trace_value(trace, operations[op], name, i),
				 count[i]);
}

static void check_totals(struct trace *trace, int op)
{
	uint64_t bytes = 0, ios = 0, failed = 0, time = 0, failed_time = 0;
	uint64_t queue = 0, in_flight = 0, latency[40] = { 0 }, size[32] = { 0 };
	const char *name = operations[op];

	for (size_t i = 0; i < trace->count; i++) {
		const struct trace_request *r = &trace->request[i];
		uint64_t took = r->end_ns - r->start_ns;

		if ((int)r->op != op)
			continue;
		queue += overlap(r, 0, trace->now_ns);
		if (r->end_ns == NEVER) {
			in_flight++;
		} else if (r->failed) {
			failed++;
			failed_time += took;
		} else {
			ios++;
			time += took;
			bytes += r->bytes;
			latency[bucket_of(took, 39)]++;
			size[bucket_of(r->bytes, 31)]++;
		}
	}
	expect(trace, name, "ios", ios);
	expect(trace, name, "failed", failed);
	expect(trace, name, "time_ns", time);
	expect(trace, name, "failed_time_ns", failed_time);
	expect(trace, name, "queue_time_ns", queue);
	expect(trace, name, "in_flight", in_flight);
	expect(trace, name, "invalid", trace->invalid[op]);
	check_hist(trace, op, "latency_hist", latency, 40);
	if (op == KVMSTATS_BLOCK_FLUSH)
		return;
	expect(trace, name, "bytes", bytes);
	expect(trace, name, "merged", trace->merged[op]);
	check_hist(trace, op, "size_hist", size, 32);
}

static int by_start(const void *a, const void *b)
{
	const struct trace_request *const *x = a, *const *y = b;

	return ((*x)->start_ns > (*y)->start_ns) -
	       ((*x)->start_ns < (*y)->start_ns);
}

/*
 * All gaps, and of gaps of less than a raster's millisecond how much may be
 * missing.
 */
static void check_idle(struct trace *trace)
{
	struct trace_request **sorted = calloc(trace->count + 1, sizeof(*sorted));
	uint64_t until = trace->created_ns, idle = 0, slack = 0, last = until;
	uint64_t found = trace_value(trace, "", "idle_time_ns", 0);
	bool busy = false;

	assert_non_null(sorted);
	for (size_t i = 0; i < trace->count; i++)
		sorted[i] = &trace->request[i];
	qsort(sorted, trace->count, sizeof(*sorted), by_start);
	for (size_t i = 0; i < trace->count; i++) {
		const struct trace_request *r = sorted[i];

		if (r->start_ns > until) {
			uint64_t gap = r->start_ns - until;

			idle += gap;
			slack += gap < RASTER ? gap : 0;
		}
		busy |= r->end_ns == NEVER;
		if (r->end_ns > until)
			until = r->end_ns;
		if (r->end_ns != NEVER && r->end_ns > last)
			last = r->end_ns;
		if (r->start_ns > last)
			last = r->start_ns;
	}
	free(sorted);
	if (!busy)
		idle += trace->now_ns - until;
	if (found > idle || found + slack < idle)
		fail_msg("idle_time_ns: %ju, by the reference %ju, of which %ju may be missing",
			 (uintmax_t)found, (uintmax_t)idle, (uintmax_t)slack);
	expect(trace, "", "idle_since_ns", busy ? 0 : trace->now_ns - last);
}

void trace_check(struct trace *trace)
{
	kvmstats_block_tick(trace->block);
	trace_sample(trace);
	for (int op = 0; op < KVMSTATS_BLOCK_OPS; op++) {
		check_totals(trace, op);
		check_windows(trace, op);
	}
	check_idle(trace);
}
