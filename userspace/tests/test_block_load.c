// SPDX-License-Identifier: GPL-2.0-only
/* Block accounting under load: many threads, requests that others complete. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image.h"

/* Where all takes longer; what it is for there is seen with less. */
static unsigned int fewer(unsigned int count)
{
#ifdef __SANITIZE_THREAD__
	return count / 5;
#else
	return getenv("IN_VALGRIND") ? count / 20 : count;
#endif
}

static uint64_t pick_bytes(unsigned int *seed)
{
	return (1ull << rand_r(seed) % 34) + rand_r(seed) % 3;
}

#define WORKERS	8

struct load {
	struct kvmstats_block *block;
	struct kvmstats_source *source;
	unsigned int requests;
	pthread_barrier_t all_have_begun;	/* so that all live at once */
	pthread_mutex_t lock;		/* of the requests that others complete */
	struct handed {
		struct kvmstats_block_request request;
		uint64_t bytes;
		int op;
	} *handed[WORKERS * 16];
	size_t handed_count;
	/* the reference */
	atomic_ullong ios[KVMSTATS_BLOCK_OPS], bytes[KVMSTATS_BLOCK_OPS];
	atomic_ullong failed[KVMSTATS_BLOCK_OPS], invalid[KVMSTATS_BLOCK_OPS];
	atomic_ullong longest_ns;	/* of one call */
	atomic_uint next_seed;
	atomic_bool stop;
};

static void open_source(struct load *load)
{
	struct kvmstats_device *device = kvmstats_block_device(load->block);
	int fd = dup(kvmstats_device_fd(device));

	assert_int_equal(kvmstats_source_open(fd, NULL, &load->source), 0);
}

static uint64_t value_of(const struct kvmstats_schema *schema, const char *name,
			 const uint64_t *sample)
{
	return kvmstats_desc_value(kvmstats_schema_find(schema, name), sample,
				   0);
}

static void note_call(struct load *load, uint64_t start_ns)
{
	unsigned long long took_ns = monotonic_ns() - start_ns;
	unsigned long long longest_ns = atomic_load(&load->longest_ns);

	while (took_ns > longest_ns &&
	       !atomic_compare_exchange_weak(&load->longest_ns, &longest_ns,
					     took_ns))
		;
}

static void complete(struct load *load, struct handed *handed, unsigned int *seed)
{
	int error = rand_r(seed) % 7 ? 0 : -EIO;
	uint64_t start_ns = monotonic_ns();

	assert_int_equal(kvmstats_block_complete(load->block, &handed->request,
						 error), 0);
	note_call(load, start_ns);
	if (error) {
		atomic_fetch_add(&load->failed[handed->op], 1);
	} else {
		atomic_fetch_add(&load->ios[handed->op], 1);
		atomic_fetch_add(&load->bytes[handed->op], handed->bytes);
	}
	free(handed);
}

/* Leave it to the others, or take one of theirs. */
static struct handed *exchange(struct load *load, struct handed *handed,
			       unsigned int *seed)
{
	size_t room = sizeof(load->handed) / sizeof(*load->handed);

	pthread_mutex_lock(&load->lock);
	if (handed && load->handed_count < room && rand_r(seed) % 2) {
		load->handed[load->handed_count++] = handed;
		handed = NULL;
	} else if (!handed && load->handed_count) {
		handed = load->handed[--load->handed_count];
	}
	pthread_mutex_unlock(&load->lock);
	return handed;
}

static void *work(void *argument)
{
	struct load *load = argument;
	unsigned int seed = atomic_fetch_add(&load->next_seed, 1);

	for (unsigned int i = 0; i < load->requests; i++) {
		struct handed *handed = calloc(1, sizeof(*handed));

		handed->op = rand_r(&seed) % KVMSTATS_BLOCK_OPS;
		handed->bytes = pick_bytes(&seed);
		assert_int_equal(kvmstats_block_submit(load->block,
						       &handed->request,
						       handed->op,
						       handed->bytes), 0);
		handed = exchange(load, handed, &seed);
		if (handed)
			complete(load, handed, &seed);
		handed = exchange(load, NULL, &seed);
		if (handed)
			complete(load, handed, &seed);
		if (!i)
			pthread_barrier_wait(&load->all_have_begun);
		if (rand_r(&seed) % 50)
			continue;
		atomic_fetch_add(&load->invalid[i % KVMSTATS_BLOCK_OPS], 1);
		kvmstats_block_invalid(load->block, i % KVMSTATS_BLOCK_OPS);
	}
	return NULL;
}

/* Counters only grow; what is in flight is never more than there can be. */
static void *watch(void *argument)
{
	static const char *const names[] = {
		"read_ios", "read_bytes", "read_queue_time_ns", "read_time_ns",
		"read_failed", "idle_time_ns",
	};
	struct load *load = argument;
	struct kvmstats_schema *schema = kvmstats_source_schema(load->source);
	uint64_t sample[KVMSTATS_MAX_PUBLISHED_WORDS], last[6] = { 0 };

	while (!atomic_load(&load->stop)) {
		uint64_t start_ns = monotonic_ns();

		kvmstats_block_tick(load->block);
		note_call(load, start_ns);
		assert_int_equal(kvmstats_source_sample(load->source, sample,
							KVMSTATS_MAX_PUBLISHED_WORDS),
				 0);
		for (int i = 0; i < 6; i++) {
			uint64_t value = value_of(schema, names[i], sample);

			assert_true(value >= last[i]);
			last[i] = value;
		}
		assert_in_range(value_of(schema, "read_in_flight", sample),
				0, WORKERS * 17 + 200);
		usleep(20);
	}
	return NULL;
}

static uint64_t seen(struct load *load, const uint64_t *sample, int op,
		     const char *name)
{
	static const char *const operations[] = {
		"read", "write", "flush", "discard",
	};
	struct kvmstats_schema *schema = kvmstats_source_schema(load->source);
	const struct kvmstats_desc *desc;
	char text[48];

	snprintf(text, sizeof(text), "%s_%s", operations[op], name);
	desc = kvmstats_schema_find(schema, text);
	assert_non_null(desc);
	return kvmstats_desc_is_hist(desc) ?
	       kvmstats_desc_hist_count(desc, sample) :
	       kvmstats_desc_value(desc, sample, 0);
}

/* In the end all is exact: nothing was lost, nothing counted twice. */
static void run_load(unsigned int threads, unsigned int requests)
{
	struct load load = { .requests = requests, .next_seed = 1,
			     .lock = PTHREAD_MUTEX_INITIALIZER };
	uint64_t sample[KVMSTATS_MAX_PUBLISHED_WORDS];
	pthread_t thread[100], watcher;
	unsigned int seed = 99;

	assert_int_equal(kvmstats_block_new("load", NULL, &load.block), 0);
	open_source(&load);
	pthread_barrier_init(&load.all_have_begun, NULL, threads);
	assert_int_equal(pthread_create(&watcher, NULL, watch, &load), 0);
	for (unsigned int i = 0; i < threads; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, work, &load), 0);
	for (unsigned int i = 0; i < threads; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	while (load.handed_count)
		complete(&load, load.handed[--load.handed_count], &seed);
	atomic_store(&load.stop, true);
	assert_int_equal(pthread_join(watcher, NULL), 0);
	kvmstats_block_tick(load.block);
	assert_int_equal(kvmstats_source_sample(load.source, sample,
						KVMSTATS_MAX_PUBLISHED_WORDS), 0);
	for (int op = 0; op < KVMSTATS_BLOCK_OPS; op++) {
		uint64_t ios = load.ios[op], time_ns;

		assert_int_equal(seen(&load, sample, op, "ios"), ios);
		assert_int_equal(seen(&load, sample, op, "failed"),
				 load.failed[op]);
		assert_int_equal(seen(&load, sample, op, "invalid"),
				 load.invalid[op]);
		assert_int_equal(seen(&load, sample, op, "in_flight"), 0);
		assert_int_equal(seen(&load, sample, op, "latency_hist"), ios);
		/*
		 * Every request's time is in the integral, once; and what it was
		 * ahead of a thread that was in the middle of a call.
		 */
		time_ns = seen(&load, sample, op, "time_ns") +
			  seen(&load, sample, op, "failed_time_ns");
		assert_in_range(seen(&load, sample, op, "queue_time_ns"), time_ns,
				time_ns + (threads + 1) * load.longest_ns);
		if (op == KVMSTATS_BLOCK_FLUSH)
			continue;
		assert_int_equal(seen(&load, sample, op, "bytes"), load.bytes[op]);
		assert_int_equal(seen(&load, sample, op, "size_hist"), ios);
	}
	pthread_barrier_destroy(&load.all_have_begun);
	kvmstats_source_close(load.source);
	kvmstats_block_free(load.block);
}

static void threads(void **state)
{
	(void)state;
	run_load(WORKERS, fewer(20000));
}

/* More than have a shard of their own, and then again: shards change hands. */
static void many_threads(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < fewer(40); i += 13)
		run_load(100, fewer(1000));
}

static void *submit_and_complete(void *argument)
{
	struct load *load = argument;
	struct kvmstats_block_request request;

	while (!atomic_load_explicit(&load->stop, memory_order_relaxed)) {
		kvmstats_block_submit(load->block, &request, 0, 1);
		kvmstats_block_complete(load->block, &request, 0);
	}
	return NULL;
}

/* What belongs together is never seen in parts: one request at most, and its time. */
static void of_one_moment(void **state)
{
	uint64_t sample[KVMSTATS_MAX_PUBLISHED_WORDS], begin_ns, elapsed_ns;
	unsigned int count = fewer(200000);
	struct load load = { .stop = false };
	pthread_t thread;

	(void)state;
	begin_ns = monotonic_ns();
	assert_int_equal(kvmstats_block_new("one", NULL, &load.block), 0);
	open_source(&load);
	assert_int_equal(pthread_create(&thread, NULL, submit_and_complete,
					&load), 0);
	for (unsigned int i = 0; i < count; i++) {
		kvmstats_block_tick(load.block);
		if (i % 8)
			continue;
		assert_int_equal(kvmstats_source_sample(load.source, sample,
							KVMSTATS_MAX_PUBLISHED_WORDS),
				 0);
		assert_in_range(seen(&load, sample, 0, "in_flight"), 0, 1);
	}
	elapsed_ns = monotonic_ns() - begin_ns;
	atomic_store(&load.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* a part would be off by the time since the machine began */
	assert_in_range(seen(&load, sample, 0, "queue_time_ns"), 0, elapsed_ns);
	kvmstats_source_close(load.source);
	kvmstats_block_free(load.block);
}

/* ------------------------------------------------- who comes meanwhile */

#define SECOND 1000000000ull

static uint64_t value_now(struct kvmstats_source *source, const char *name)
{
	static uint64_t sample[KVMSTATS_MAX_PUBLISHED_WORDS];

	assert_int_equal(kvmstats_source_sample(source, sample,
						KVMSTATS_MAX_PUBLISHED_WORDS), 0);
	return value_of(kvmstats_source_schema(source), name, sample);
}

struct meeting {
	struct load load;
	uint64_t now_ns;
	struct kvmstats_block_request late;
	bool now;		/* the next look at the clock waits for it */
};

static void *come_late(void *argument)
{
	struct meeting *meeting = argument;

	assert_int_equal(kvmstats_block_submit(meeting->load.block,
					       &meeting->late,
					       KVMSTATS_BLOCK_READ, 1), 0);
	return NULL;
}

/* In a tick this is under its lock: the other one does not get it. */
static uint64_t meet(void *context)
{
	struct meeting *meeting = context;
	pthread_t thread;

	if (meeting->now) {
		meeting->now = false;
		assert_int_equal(pthread_create(&thread, NULL, come_late,
						meeting), 0);
		pthread_join(thread, NULL);
		meeting->now_ns += 5;
	}
	return meeting->now_ns;
}

/* The idle time that it ended is counted, whoever has the lock. */
static void idle_until_another_comes(void **state)
{
	struct meeting meeting = { .now_ns = 100 * SECOND };
	struct kvmstats_block_options options = {
		.size_bytes = sizeof(options), .clock = meet,
		.clock_context = &meeting,
	};
	struct kvmstats_block_request request;
	struct load *load = &meeting.load;

	(void)state;
	assert_int_equal(kvmstats_block_new("d", &options, &load->block), 0);
	open_source(load);
	meeting.now_ns += SECOND;
	kvmstats_block_submit(load->block, &request, KVMSTATS_BLOCK_WRITE, 1);
	meeting.now_ns += SECOND;
	kvmstats_block_complete(load->block, &request, 0);
	meeting.now_ns += 10 * SECOND;
	meeting.now = true;
	kvmstats_block_tick(load->block);
	assert_int_equal(value_now(load->source, "read_in_flight"), 1);
	assert_int_equal(value_now(load->source, "idle_time_ns"), 11 * SECOND);
	/* and that time only once */
	meeting.now_ns += SECOND;
	kvmstats_block_complete(load->block, &meeting.late, 0);
	kvmstats_block_tick(load->block);
	assert_int_equal(value_now(load->source, "idle_time_ns"), 11 * SECOND);
	kvmstats_source_close(load->source);
	kvmstats_block_free(load->block);
}

static void *tick_often(void *argument)
{
	struct load *load = argument;

	while (!atomic_load(&load->stop))
		kvmstats_block_tick(load->block);
	return NULL;
}

/* Whatever the parent's threads were at, it ends, and what is published stays. */
static void freed_by_a_child(void **state)
{
	struct load load = { 0 };
	struct kvmstats_block_request request;
	pthread_t thread;
	int status;

	(void)state;
	assert_int_equal(kvmstats_block_new("d", NULL, &load.block), 0);
	open_source(&load);
	pthread_create(&thread, NULL, tick_often, &load);
	for (unsigned int i = 0; i < fewer(60); i++) {
		pid_t child = fork();

		if (!child) {
			alarm(60);
			kvmstats_block_free(load.block);
			_exit(0);
		}
		kvmstats_block_submit(load.block, &request, KVMSTATS_BLOCK_READ, 1);
		kvmstats_block_complete(load.block, &request, 0);
		kvmstats_block_tick(load.block);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
		assert_true(value_now(load.source, "read_ios") >= i + 1);
	}
	atomic_store(&load.stop, true);
	pthread_join(thread, NULL);
	kvmstats_source_close(load.source);
	kvmstats_block_free(load.block);
}

static _Thread_local bool no_memory;

/* In the place of the C library's. */
void *aligned_alloc(size_t alignment, size_t size)
{
	void *memory = NULL;

	return no_memory || posix_memalign(&memory, alignment, size) ? NULL :
	       memory;
}

static void *complete_without_memory(void *argument)
{
	struct meeting *meeting = argument;
	struct kvmstats_block_request own;

	no_memory = true;
	assert_int_equal(kvmstats_block_complete(meeting->load.block,
						 &meeting->late, 0), 0);
	assert_int_equal(kvmstats_block_submit(meeting->load.block, &own,
					       KVMSTATS_BLOCK_READ, 7), 0);
	assert_int_equal(kvmstats_block_complete(meeting->load.block, &own, 0), 0);
	return NULL;
}

static void thread_without_memory(void **state)
{
	struct meeting meeting = { .now_ns = 0 };
	struct load *load = &meeting.load;
	pthread_t thread;

	(void)state;
	assert_int_equal(kvmstats_block_new("d", NULL, &load->block), 0);
	open_source(load);
	come_late(&meeting);
	pthread_create(&thread, NULL, complete_without_memory, &meeting);
	pthread_join(thread, NULL);
	kvmstats_block_tick(load->block);
	assert_int_equal(value_now(load->source, "read_in_flight"), 0);
	assert_int_equal(value_now(load->source, "read_bytes"), 8);
	assert_int_equal(value_now(load->source, "read_ios"), 2);
	kvmstats_source_close(load->source);
	kvmstats_block_free(load->block);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(idle_until_another_comes),
		cmocka_unit_test(freed_by_a_child),
		cmocka_unit_test(thread_without_memory),
		cmocka_unit_test(of_one_moment),
		cmocka_unit_test(threads),
		cmocka_unit_test(many_threads),
	};

	return RUN(tests);
}
