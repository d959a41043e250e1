// SPDX-License-Identifier: GPL-2.0-only
/*
 * bench-read [--check] - what it costs to read the statistics of vCPUs
 *
 * Makes real VMs of 4 vCPUs, which do not run, and reads all statistics of 1
 * to 10,000 of their vCPUs in each way there is. The ways take turns in every
 * round, so that what else the machine does meets all of them alike; a figure
 * is the median of the rounds. --check: few vCPUs and rounds, and only the
 * promises are looked at. Exit status 1 if one does not hold: no allocation by
 * a sample, one schema for all, every read good, in all ways the same values.
 */
#include <errno.h>
#include <kvmstats.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "fleet.h"
#include "heap.h"

#define MOST		10000
#define ROUNDS		31
#define CHECK_ROUNDS	3
#define READS		2000	/* of one way in a round, at least */

struct bench {
	size_t count;		/* sources */
	size_t words;		/* of a sample */
	struct kvmstats_cache *cache;
	struct kvmstats_source *source[MOST];
	struct kvmstats_read read[MOST];
	uint64_t *samples;
	uint32_t data_offset;
	double open_ns;		/* each */
	size_t heap_bytes;	/* of all sources */
	unsigned int rounds;
};

static struct bench bench = { .rounds = ROUNDS };

static double cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

/* --------------------------------------------------------------- the ways */

/* What the library adds nothing to: the system call alone. */
static size_t by_system_call(struct kvmstats_batch *batch)
{
	size_t size_bytes = bench.words * 8, good = 0;

	(void)batch;
	for (size_t i = 0; i < bench.count; i++)
		good += pread(kvmstats_source_fd(bench.source[i]),
			      bench.read[i].sample, size_bytes,
			      bench.data_offset) == (ssize_t)size_bytes;
	return good;
}

static size_t by_sample(struct kvmstats_batch *batch)
{
	size_t good = 0;

	(void)batch;
	for (size_t i = 0; i < bench.count; i++)
		good += !kvmstats_source_sample(bench.source[i],
						bench.read[i].sample,
						bench.words);
	return good;
}

static size_t by_batch(struct kvmstats_batch *batch)
{
	return kvmstats_batch_sample(batch, bench.read, bench.count);
}

#define WAYS		5
#define WAY_URING	3
#define WAY_CHOICE	4
#define CHOICE_LEAST	16	/* fewer are read by pread */

struct way {
	const char *name;
	unsigned int flags;
	size_t (*sample)(struct kvmstats_batch *batch);
	struct kvmstats_batch *batch;
	double cpu_ns[ROUNDS];	/* for one source */
};

static struct way ways[WAYS] = {
	{ .name = "pread(2)", .sample = by_system_call },
	{ .name = "sample", .sample = by_sample },
	{ .name = "batch, pread", .flags = KVMSTATS_BATCH_PREAD,
	  .sample = by_batch },
	{ .name = "batch, io_uring", .flags = KVMSTATS_BATCH_URING,
	  .sample = by_batch },
	{ .name = "batch, as it chooses", .sample = by_batch },
};

static void run_once(struct way *way)
{
	size_t good = way->sample(way->batch);

	if (good != bench.count)
		die("%s: only %zu of %zu samples are good", way->name, good,
		    bench.count);
}

static void run_round(struct way *way, unsigned int round)
{
	size_t times = 1 + (READS - 1) / bench.count;
	double start = cpu_ns();

	for (size_t i = 0; i < times; i++)
		run_once(way);
	way->cpu_ns[round] = (cpu_ns() - start) / (times * bench.count);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *figures)
{
	qsort(figures, bench.rounds, sizeof(*figures), compare);
	return figures[bench.rounds / 2];
}

/* ------------------------------------------------------------ the sources */

static void open_sources(int *fds)
{
	double start = cpu_ns();
	size_t before;

	if (kvmstats_cache_new(&bench.cache))
		die("out of memory");
	before = heap.live_bytes;
	for (size_t i = 0; i < bench.count; i++) {
		int ret = kvmstats_source_open(fds[i], bench.cache,
					       &bench.source[i]);

		if (ret)
			die("a vCPU's descriptor: %s", strerror(-ret));
	}
	bench.heap_bytes = heap.live_bytes - before;
	bench.open_ns = (cpu_ns() - start) / bench.count;
	if (kvmstats_cache_count(bench.cache) != 1)
		die("%zu schemas for vCPUs of one kernel",
		    kvmstats_cache_count(bench.cache));
}

static void place_samples(void)
{
	bench.words = kvmstats_schema_words(kvmstats_source_schema(bench.source[0]));
	bench.samples = calloc(bench.count * bench.words, 8);
	if (!bench.samples)
		die("out of memory");
	for (size_t i = 0; i < bench.count; i++)
		bench.read[i] = (struct kvmstats_read){
			.source = bench.source[i],
			.sample = bench.samples + i * bench.words,
			.words = bench.words,
		};
	/* the header's sixth word, for the system call alone */
	if (pread(kvmstats_source_fd(bench.source[0]), &bench.data_offset, 4,
		  20) != 4)
		die("header: %s", strerror(errno));
}

static void close_sources(void)
{
	for (size_t i = 0; i < bench.count; i++)
		kvmstats_source_close(bench.source[i]);
	kvmstats_cache_free(bench.cache);
	free(bench.samples);
}

/* ------------------------------------------------------------ the figures */

static void open_batches(void)
{
	for (int i = 0; i < WAYS; i++)
		if (kvmstats_batch_new(ways[i].flags, &ways[i].batch))
			die("out of memory");
}

static void close_batches(void)
{
	for (int i = 0; i < WAYS; i++)
		kvmstats_batch_free(ways[i].batch);
}

/* The vCPUs do not run, so their values stay: every way reads the same. */
static void compare_ways(void)
{
	size_t size_bytes = bench.count * bench.words * 8;
	uint64_t *first = malloc(size_bytes);

	if (!first)
		die("out of memory");
	run_once(&ways[0]);
	memcpy(first, bench.samples, size_bytes);
	for (int i = 1; i < WAYS; i++) {
		memset(bench.samples, 0xff, size_bytes);
		run_once(&ways[i]);
		if (memcmp(first, bench.samples, size_bytes))
			die("%s: other values than %s has", ways[i].name,
			    ways[0].name);
	}
	free(first);
}

/* Returns the number of allocations, which is to be 0. */
static size_t measure(void)
{
	size_t before;

	/* the pages of the samples come, and the batch makes its choice */
	for (int i = 0; i < 20; i++)
		for (int j = 0; j < WAYS; j++)
			run_once(&ways[j]);
	before = heap.calls;
	for (unsigned int round = 0; round < bench.rounds; round++)
		for (int i = 0; i < WAYS; i++)
			run_round(&ways[i], round);
	return heap.calls - before;
}

static const char *choice(void)
{
	if (!kvmstats_batch_uses_uring(ways[WAY_URING].batch))
		return "no io_uring here";
	if (bench.count < CHOICE_LEAST)
		return "pread, as for few";
	return kvmstats_batch_uses_uring(ways[WAY_CHOICE].batch) ? "io_uring" :
	       "pread";
}

static void print_row(void)
{
	double first = median(ways[0].cpu_ns);

	printf("| %zu | %.0f | %.1f | %.0f |", bench.count, bench.open_ns,
	       (double)bench.heap_bytes / bench.count, first);
	for (int i = 1; i < WAYS; i++) {
		double cpu = median(ways[i].cpu_ns);

		printf(" %.0f (%.2f) |", cpu, cpu / first);
	}
	printf(" %s |\n", choice());
}

static void print_head(void)
{
	struct utsname name;

	uname(&name);
	printf("Linux %s, %s, median of %u rounds. ", name.release,
	       name.machine, bench.rounds);
	puts("CPU time in nanoseconds a vCPU; in brackets, times pread(2).\n");
	printf("| vCPUs | open | heap bytes each |");
	for (int i = 0; i < WAYS; i++)
		printf(" %s |", ways[i].name);
	printf(" its choice |\n|");
	for (int i = 0; i < WAYS + 4; i++)
		printf("---|");
	printf("\n");
}

static void bench_count(size_t count)
{
	static int fds[MOST];
	size_t calls;

	bench.count = count;
	fleet_make(fds, count);
	open_sources(fds);
	place_samples();
	open_batches();
	compare_ways();
	calls = measure();
	print_row();
	fflush(stdout);
	if (calls)
		die("%zu allocations while sampling %zu vCPUs", calls, count);
	close_batches();
	close_sources();
}

int main(int argc, char **argv)
{
	bool check = argc == 2 && !strcmp(argv[1], "--check");

	if (argc > 1 && !check) {
		fputs("usage: bench-read [--check]\n", stderr);
		return 2;
	}
	if (check)
		bench.rounds = CHECK_ROUNDS;
	print_head();
	for (size_t count = 1; count <= (check ? 100 : MOST); count *= 10)
		bench_count(count);
	printf("\nA sample is %zu bytes, and allocates 0 bytes.\n",
	       bench.words * 8);
	return 0;
}
