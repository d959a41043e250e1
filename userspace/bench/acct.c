// SPDX-License-Identifier: GPL-2.0-only
/*
 * usage: bench-acct [--check] [SECONDS]
 *
 * What it costs to account for a request: submit and complete, one after the
 * other, on one thread and on eight, all on one device. Beside it an empty loop,
 * the two looks at the clock that any accounting takes, and the same counters
 * under one mutex, as VMMs have it. CPU time of all threads by requests, the best
 * of five rounds. QEMU's own accounting, if it is linked in (scripts/qemu-acct).
 * --check fails if ours takes more than 100 ns on one thread, or on eight twice
 * what it takes on one.
 */
#include <kvmstats.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "qemu-acct.h"

#define ROUNDS	5
#define THREADS	8

struct method {
	const char *name;
	void (*request)(void);
};

static struct kvmstats_block *block;
static atomic_bool stop;

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void nothing(void)
{
	__asm__ volatile("" ::: "memory");
}

static void clock_only(void)
{
	uint64_t ns = now_ns(CLOCK_MONOTONIC) + now_ns(CLOCK_MONOTONIC);

	/* or nobody would need it */
	__asm__ volatile("" : : "r" (ns));
}

static void ours(void)
{
	struct kvmstats_block_request request;

	kvmstats_block_submit(block, &request, KVMSTATS_BLOCK_READ, 4096);
	kvmstats_block_complete(block, &request, 0);
}

/* The counters of one operation, as ours has them. */
static struct {
	pthread_mutex_t lock;
	uint64_t begun, ended, balance, bytes, ios, time_ns, last_ns;
	uint64_t latency[64], size[64], shortest_ns, longest_ns;
} locked = { .lock = PTHREAD_MUTEX_INITIALIZER, .shortest_ns = UINT64_MAX };

static void with_mutex(void)
{
	uint64_t start_ns = now_ns(CLOCK_MONOTONIC), end_ns, time_ns;

	pthread_mutex_lock(&locked.lock);
	locked.begun++;
	locked.balance -= start_ns;
	locked.last_ns = start_ns;
	pthread_mutex_unlock(&locked.lock);
	end_ns = now_ns(CLOCK_MONOTONIC);
	time_ns = end_ns - start_ns;
	pthread_mutex_lock(&locked.lock);
	locked.ended++;
	locked.balance += end_ns;
	locked.last_ns = end_ns;
	locked.bytes += 4096;
	locked.ios++;
	locked.time_ns += time_ns;
	locked.latency[63 - __builtin_clzll(time_ns | 1)]++;
	locked.size[12]++;
	if (time_ns < locked.shortest_ns)
		locked.shortest_ns = time_ns;
	if (time_ns > locked.longest_ns)
		locked.longest_ns = time_ns;
	pthread_mutex_unlock(&locked.lock);
}

static const struct method methods[] = {
	{ "empty loop", nothing },
	{ "two looks at the clock", clock_only },
	{ "one mutex", with_mutex },
	{ "kvmstats_block", ours },
	{ "QEMU's, as it is by default", qemu_acct_plain },
	{ "QEMU's, 3 intervals, histogram", qemu_acct_full },
	{ "QEMU's, block=on", qemu_acct_published },
};

#define METHODS (sizeof(methods) / sizeof(*methods))

struct worker {
	pthread_t thread;
	pthread_barrier_t *start;
	const struct method *method;
	uint64_t requests, cpu_ns;
};

static void *work(void *argument)
{
	struct worker *worker = argument;
	uint64_t before_ns;

	pthread_barrier_wait(worker->start);
	before_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		for (int i = 0; i < 1000; i++)
			worker->method->request();
		worker->requests += 1000;
	}
	worker->cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - before_ns;
	return NULL;
}

/* Nanoseconds of CPU time that a request takes. */
static double run(const struct method *method, int threads, double seconds)
{
	struct worker workers[THREADS] = { 0 };
	uint64_t requests = 0, cpu_ns = 0;
	pthread_barrier_t start;

	atomic_store(&stop, false);
	pthread_barrier_init(&start, NULL, threads + 1);
	for (int i = 0; i < threads; i++) {
		workers[i].start = &start;
		workers[i].method = method;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			exit(1);
	}
	pthread_barrier_wait(&start);
	usleep(seconds * 1e6);
	atomic_store(&stop, true);
	for (int i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		requests += workers[i].requests;
		cpu_ns += workers[i].cpu_ns;
	}
	pthread_barrier_destroy(&start);
	return (double)cpu_ns / requests;
}

static double best_of(const struct method *method, int threads, double seconds)
{
	double best = 0;

	for (int i = 0; i < ROUNDS; i++) {
		double each = run(method, threads, seconds / ROUNDS);

		if (!i || each < best)
			best = each;
	}
	return best;
}

#define READS	100000

/* All that is published, as the library reads it and by pread. */
static void time_reads(void)
{
	static uint64_t sample[KVMSTATS_MAX_PUBLISHED_WORDS];
	struct kvmstats_source *source;
	uint64_t start_ns, library_ns;
	uint32_t header[6];	/* the last is the offset of the data */
	ssize_t size_bytes;
	int fd = dup(kvmstats_device_fd(kvmstats_block_device(block)));

	if (fd < 0 || kvmstats_source_open(fd, NULL, &source) ||
	    pread(fd, header, sizeof(header), 0) != sizeof(header))
		exit(1);
	start_ns = now_ns(CLOCK_MONOTONIC);
	for (int i = 0; i < READS; i++)
		if (kvmstats_source_sample(source, sample,
					   KVMSTATS_MAX_PUBLISHED_WORDS))
			exit(1);
	library_ns = now_ns(CLOCK_MONOTONIC) - start_ns;
	size_bytes = kvmstats_schema_words(kvmstats_source_schema(source)) * 8;
	start_ns = now_ns(CLOCK_MONOTONIC);
	for (int i = 0; i < READS; i++)
		if (pread(fd, sample, size_bytes, header[5]) != size_bytes)
			exit(1);
	start_ns = now_ns(CLOCK_MONOTONIC) - start_ns;
	printf("%-32s %12.1f\n", "to read the device", (double)library_ns / READS);
	printf("%-32s %12.1f\n", "the same by pread", (double)start_ns / READS);
	kvmstats_source_close(source);
}

int main(int argc, char **argv)
{
	bool check = argc > 1 && !strcmp(argv[1], "--check");
	double seconds = argc > 1 + check ? atof(argv[1 + check]) : 1;
	double one = 0, many = 0, ours_one = 0, ours_many = 0;

	if (seconds <= 0 || kvmstats_block_new("bench", NULL, &block)) {
		fprintf(stderr, "usage: bench-acct [--check] [SECONDS]\n");
		return 2;
	}
	if (qemu_acct_setup)
		qemu_acct_setup();
	printf("%-32s %12s %12s\n", "ns a request, CPU time", "1 thread",
	       "8 threads");
	for (size_t i = 0; i < METHODS && methods[i].request; i++) {
		one = best_of(&methods[i], 1, seconds);
		many = best_of(&methods[i], THREADS, seconds);
		printf("%-32s %12.1f %12.1f\n", methods[i].name, one, many);
		if (methods[i].request == ours) {
			ours_one = one;
			ours_many = many;
		}
	}
	time_reads();
	kvmstats_block_free(block);
	if (check && (ours_one >= 100 || ours_many > 2 * ours_one)) {
		printf("beyond the bounds: 100 ns, and twice that of one thread\n");
		return 1;
	}
	return 0;
}
