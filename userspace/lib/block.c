// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Block accounting. Each thread counts in a shard of its own: no instruction
 * that locks the bus, no cache line that two threads write. Once in a millisecond
 * one thread, whichever comes first, adds the shards up and stores the sums where
 * readers see them; it also closes the windows that are due.
 *
 * The depth of the queue needs no samples. With the sum of the times at which
 * requests ended, less the sum of those at which they began, modulo 2^64, called
 * the balance, the integral of the depth up to a time t is
 *
 *	balance + t * requests in flight
 *
 * so that a window's average is the difference of two of those by its length.
 * For that the counters of a shard have to be of one moment: there are two sets of
 * them, of which one is right while the thread writes the other. So nobody waits
 * for a thread that was interrupted.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block_windows.h"
#include "thread_slot.h"

#define STATE_SUBMITTED	0x5b10c4edu

/* What an event changes, all at once. */
enum {
	COUNT_BYTES, COUNT_IOS, COUNT_FAILED, COUNT_TIME, COUNT_FAILED_TIME,
	COUNT_BEGUN, COUNT_ENDED, COUNT_BALANCE,
	COUNTS
};

/* What one thread has to say of one operation; that thread alone writes it. */
struct tally {
	_Atomic uint64_t turn;		/* count[turn % 2] is right */
	_Atomic uint64_t count[2][COUNTS];
	_Atomic uint64_t merged, invalid;
	_Atomic uint64_t cancelled_ns;	/* not before it is in the counts */
	_Atomic uint64_t latency[BLOCK_LATENCY_BUCKETS];
	_Atomic uint64_t size[BLOCK_SIZE_BUCKETS];
	/* of the window that is open, if it has this number */
	_Atomic uint64_t window, shortest_ns, longest_ns;
};

struct shard {
	_Atomic uint64_t last_ns;	/* when its last request ended */
	struct tally tally[KVMSTATS_BLOCK_OPS];
};

/* The same of all threads. */
struct sum {
	uint64_t count[COUNTS];
	uint64_t merged, invalid, cancelled_ns;
	uint64_t latency[BLOCK_LATENCY_BUCKETS];
	uint64_t size[BLOCK_SIZE_BUCKETS];
	bool any;			/* in the window that is open */
	uint64_t shortest_ns, longest_ns;
};

struct kvmstats_block {
	/* Read by every request, written once in a millisecond. */
	_Alignas(64) _Atomic uint64_t next_ns;	/* then the sums are due */
	_Atomic uint64_t floor_ns;		/* that they are of: none is earlier */
	_Atomic uint64_t window;		/* number of the second that is open */
	uint64_t (*clock)(void *context);
	void *clock_context;
	struct shard *_Atomic shards[THREAD_SLOTS + 1];
	struct kvmstats_device *device;
	pid_t pid;			/* a forked child publishes nothing */
	pthread_mutex_t shared_lock;	/* of the shard that threads share */

	_Alignas(64) pthread_mutex_t lock;	/* of all that follows */
	uint64_t now_ns;		/* of the sums; never goes back */
	struct sum sum[KVMSTATS_BLOCK_OPS];
	uint64_t queue_time[KVMSTATS_BLOCK_OPS];	/* as published */
	uint64_t created_ns, last_ns;	/* when the last request ended, 0 none */
	uint64_t idle_ns, idle_until_ns;
	uint64_t depth_ns;		/* integral of the depth up to now_ns */
	struct block_windows windows;
};

static uint64_t read_clock(void *context)
{
	(void)context;
	return monotonic_ns();
}

/* ------------------------------------------------------------- the shards */

static inline uint64_t get(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

/* For the thread that owns the shard: no other one writes. */
static inline void add(_Atomic uint64_t *word, uint64_t amount)
{
	atomic_store_explicit(word, get(word) + amount, memory_order_relaxed);
}

static inline void set(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

/*
 * release: who sees a count that is being written anew sees that its turn is
 * over; who sees a turn sees its counts.
 */
static inline void tally_change(struct tally *tally,
				const uint64_t change[COUNTS])
{
	uint64_t turn = get(&tally->turn);
	_Atomic uint64_t *from = tally->count[turn % 2];
	_Atomic uint64_t *to = tally->count[(turn + 1) % 2];

	for (int i = 0; i < COUNTS; i++)
		atomic_store_explicit(&to[i], get(&from[i]) + change[i],
				      memory_order_release);
	atomic_store_explicit(&tally->turn, turn + 1, memory_order_release);
}

/* Again only if the thread has come twice meanwhile, not if it has stopped. */
static void tally_counts(struct tally *tally, uint64_t count[COUNTS])
{
	uint64_t turn;

	do {
		turn = atomic_load_explicit(&tally->turn, memory_order_acquire);
		for (int i = 0; i < COUNTS; i++)
			count[i] = atomic_load_explicit(&tally->count[turn % 2][i],
							memory_order_acquire);
	} while (get(&tally->turn) != turn);
}

static struct shard *shard_new(struct kvmstats_block *block, int slot)
{
	size_t bytes = (sizeof(struct shard) + 63) / 64 * 64;
	struct shard *shard = aligned_alloc(64, bytes);

	if (!shard)
		return NULL;
	memset((void *)shard, 0, bytes);
	atomic_store_explicit(&block->shards[slot], shard, memory_order_release);
	return shard;
}

/* --------------------------------------------------------------- the sums */

/* Under the lock, as all in this part. */
static void add_tally(struct sum *sum, struct tally *tally, uint64_t window)
{
	uint64_t count[COUNTS], shortest_ns, longest_ns;

	sum->cancelled_ns += atomic_load_explicit(&tally->cancelled_ns,
						  memory_order_acquire);
	tally_counts(tally, count);
	for (int i = 0; i < COUNTS; i++)
		sum->count[i] += count[i];
	sum->merged += get(&tally->merged);
	sum->invalid += get(&tally->invalid);
	for (int i = 0; i < BLOCK_LATENCY_BUCKETS; i++)
		sum->latency[i] += get(&tally->latency[i]);
	for (int i = 0; i < BLOCK_SIZE_BUCKETS; i++)
		sum->size[i] += get(&tally->size[i]);
	if (atomic_load_explicit(&tally->window, memory_order_acquire) != window)
		return;
	shortest_ns = get(&tally->shortest_ns);
	longest_ns = get(&tally->longest_ns);
	if (!sum->any || shortest_ns < sum->shortest_ns)
		sum->shortest_ns = shortest_ns;
	if (longest_ns > sum->longest_ns)
		sum->longest_ns = longest_ns;
	sum->any = true;
}

static void add_up(struct kvmstats_block *block)
{
	uint64_t window = get(&block->window);

	memset(block->sum, 0, sizeof(block->sum));
	for (int slot = 0; slot <= THREAD_SLOTS; slot++) {
		struct shard *shard = atomic_load_explicit(&block->shards[slot],
							   memory_order_acquire);

		if (!shard)
			continue;
		for (int op = 0; op < KVMSTATS_BLOCK_OPS; op++)
			add_tally(&block->sum[op], &shard->tally[op], window);
		if (block->last_ns < get(&shard->last_ns))
			block->last_ns = get(&shard->last_ns);
	}
}

static uint64_t in_flight(const struct kvmstats_block *block, int op)
{
	const uint64_t *sum = block->sum[op].count;
	uint64_t count = sum[COUNT_BEGUN] - sum[COUNT_ENDED];

	/* shards are not of one moment: the end may be seen, the begin not */
	return (int64_t)count < 0 ? 0 : count;
}

/*
 * May be a little less than what it was, for the same reason; and a little more
 * than what it will come to, for the threads that have looked at the clock and
 * not yet written.
 */
static uint64_t integral_at(const struct kvmstats_block *block, int op,
			    uint64_t t_ns)
{
	const uint64_t *sum = block->sum[op].count;

	return sum[COUNT_BALANCE] +
	       t_ns * (sum[COUNT_BEGUN] - sum[COUNT_ENDED]);
}

static bool is_idle(const struct kvmstats_block *block)
{
	for (int op = 0; op < KVMSTATS_BLOCK_OPS; op++)
		if (in_flight(block, op))
			return false;
	return true;
}

/* For how long the requests in flight have been there, in all. */
static uint64_t age_in_flight(const struct kvmstats_block *block)
{
	int64_t age_ns = 0;

	for (int op = 0; op < KVMSTATS_BLOCK_OPS; op++) {
		const struct sum *sum = &block->sum[op];

		age_ns += integral_at(block, op, block->now_ns) -
			  sum->count[COUNT_TIME] -
			  sum->count[COUNT_FAILED_TIME] - sum->cancelled_ns;
	}
	return age_ns < 0 ? 0 : age_ns;
}

/* Since when it is idle, if it is. */
static uint64_t idle_from(const struct kvmstats_block *block)
{
	return block->last_ns ? block->last_ns : block->created_ns;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/*
 * Requests may come, and even end, while who is to count the idle time before them
 * is on its way here: it is at least what is left
 *  - since the last one ended, without the ages of those in flight;
 *  - since @before_ns, when this was done last, without all the time that requests
 *    have been there since.
 * Where requests did not overlap, that is all of it.
 */
static void count_idle(struct kvmstats_block *block, uint64_t before_ns)
{
	uint64_t from_ns = idle_from(block), depth_ns = 0, since_end_ns, idle_ns;

	if (from_ns < block->idle_until_ns)
		from_ns = block->idle_until_ns;
	since_end_ns = less(less(block->now_ns, from_ns), age_in_flight(block));
	for (int op = 0; op < KVMSTATS_BLOCK_OPS; op++)
		depth_ns += integral_at(block, op, block->now_ns);
	idle_ns = (int64_t)(depth_ns - block->depth_ns) < 0 ? 0 :
		  less(block->now_ns - before_ns, depth_ns - block->depth_ns);
	block->depth_ns = depth_ns;
	if (idle_ns < since_end_ns)
		idle_ns = since_end_ns;
	if (!idle_ns)
		return;
	block->idle_ns += idle_ns;
	block->idle_until_ns = block->now_ns;
}

/* After a long sleep, seconds that no window will ever see are left out. */
static void skip_seconds(struct kvmstats_block *block, uint64_t to)
{
	block->windows.second = to;
	for (int op = 0; op < KVMSTATS_BLOCK_OPS; op++)
		block->windows.before[op].integral =
			integral_at(block, op, to * BLOCK_SECOND_NS);
}

/* All seconds that have ended, of which only the first one has requests. */
static void close_windows(struct kvmstats_block *block)
{
	struct block_windows *windows = &block->windows;
	uint64_t due = block->now_ns / BLOCK_SECOND_NS;

	if (windows->second == due)
		return;
	while (windows->second < due) {
		uint64_t end_ns = (windows->second + 1) * BLOCK_SECOND_NS;

		for (int op = 0; op < KVMSTATS_BLOCK_OPS; op++) {
			const struct sum *sum = &block->sum[op];
			struct block_totals totals = {
				.count = sum->count[COUNT_IOS],
				.time_ns = sum->count[COUNT_TIME],
				.integral = integral_at(block, op, end_ns),
			};

			block_windows_close(windows, op, &totals,
					    sum->shortest_ns, sum->longest_ns);
		}
		block_windows_next(windows, due);
		if (due > windows->second + 2 * BLOCK_MEMORY_S)
			skip_seconds(block, due - BLOCK_MEMORY_S);
	}
	/* 0 is the number that no window has */
	set(&block->window, due + 1);
}

/* What happened before @now_ns, whose event is not among it. */
static void advance(struct kvmstats_block *block, uint64_t now_ns)
{
	uint64_t before_ns = block->now_ns;

	add_up(block);
	if (block->now_ns < now_ns)
		block->now_ns = now_ns;
	set(&block->floor_ns, block->now_ns);
	count_idle(block, before_ns);
	close_windows(block);
	set(&block->next_ns, (block->now_ns / BLOCK_REFRESH_NS + 1) *
	    BLOCK_REFRESH_NS);
}

static void put(_Atomic uint64_t **out, uint64_t value)
{
	atomic_store_explicit((*out)++, value, memory_order_relaxed);
}

static void put_windows(const struct kvmstats_block *block, int op,
			_Atomic uint64_t **out)
{
	for (int i = 0; i < BLOCK_WINDOWS; i++) {
		const struct block_window *window = &block->windows.last[i][op];
		uint64_t count = window->count;

		put(out, count);
		put(out, count ? window->time_ns / count : 0);
		put(out, window->shortest_ns);
		put(out, window->longest_ns);
		put(out, block_window_depth(window, i));
	}
}

/*
 * In the order of block_stats.c. The request that ends an idle time is to come
 * here at once, so that none of it is missing.
 */
static void publish(struct kvmstats_block *block)
{
	_Atomic uint64_t *out = device_values(block->device);

	if (is_idle(block))
		set(&block->next_ns, block->now_ns);
	put(&out, block->idle_ns);
	put(&out, is_idle(block) ? block->now_ns - idle_from(block) : 0);
	for (int op = 0; op < KVMSTATS_BLOCK_OPS; op++) {
		const struct sum *sum = &block->sum[op];
		bool flush = op == KVMSTATS_BLOCK_FLUSH;
		uint64_t integral = integral_at(block, op, block->now_ns);

		if ((int64_t)(integral - block->queue_time[op]) > 0)
			block->queue_time[op] = integral;
		if (!flush)
			put(&out, sum->count[COUNT_BYTES]);
		put(&out, sum->count[COUNT_IOS]);
		if (!flush)
			put(&out, sum->merged);
		put(&out, sum->invalid);
		put(&out, sum->count[COUNT_FAILED]);
		put(&out, sum->count[COUNT_TIME]);
		put(&out, sum->count[COUNT_FAILED_TIME]);
		put(&out, block->queue_time[op]);
		put(&out, in_flight(block, op));
		for (int i = 0; i < BLOCK_LATENCY_BUCKETS; i++)
			put(&out, sum->latency[i]);
		for (int i = 0; i < BLOCK_SIZE_BUCKETS && !flush; i++)
			put(&out, sum->size[i]);
		put_windows(block, op, &out);
	}
}

void kvmstats_block_tick(struct kvmstats_block *block)
{
	pthread_mutex_lock(&block->lock);
	advance(block, block->clock(block->clock_context));
	publish(block);
	pthread_mutex_unlock(&block->lock);
}

/* ----------------------------------------------------------- the requests */

/* It is there from the beginning. */
static struct shard *get_shared(struct kvmstats_block *block)
{
	return atomic_load_explicit(&block->shards[THREAD_SLOT_SHARED],
				    memory_order_acquire);
}

/* An event on its way into the shard of its thread. */
struct event {
	struct shard *shard;
	uint64_t now_ns;
	bool due;		/* we have the lock */
	bool shared;		/* we have the other lock */
};

/*
 * Never waits for who sums up: the sums can do without this event for once. A thread
 * for which there is no slot or no memory takes the shard that is shared.
 */
static void event_begin(struct kvmstats_block *block, struct event *event)
{
	int slot = thread_slot();
	uint64_t next_ns;

	event->shard = atomic_load_explicit(&block->shards[slot],
					    memory_order_acquire);
	if (!event->shard)
		event->shard = shard_new(block, slot);
	event->shared = !event->shard || slot == THREAD_SLOT_SHARED;
	if (event->shared) {
		pthread_mutex_lock(&block->shared_lock);
		event->shard = get_shared(block);
	}
	event->now_ns = block->clock(block->clock_context);
	next_ns = get(&block->next_ns);
	/* a clock that goes back stands still; so does a thread that is late */
	if (event->now_ns < get(&block->floor_ns))
		event->now_ns = get(&block->floor_ns);
	event->due = event->now_ns >= next_ns &&
		     !pthread_mutex_trylock(&block->lock);
	if (event->due)
		advance(block, event->now_ns);
}

static void event_end(struct kvmstats_block *block, const struct event *event)
{
	if (event->shared)
		pthread_mutex_unlock(&block->shared_lock);
	if (!event->due)
		return;
	add_up(block);
	publish(block);
	pthread_mutex_unlock(&block->lock);
}

int kvmstats_block_submit(struct kvmstats_block *block,
			  struct kvmstats_block_request *request,
			  enum kvmstats_block_op op, uint64_t bytes)
{
	uint64_t change[COUNTS] = { 0 };
	struct event event;

	request->state = 0;
	if ((unsigned int)op >= KVMSTATS_BLOCK_OPS)
		return -EINVAL;
	event_begin(block, &event);
	change[COUNT_BEGUN] = 1;
	change[COUNT_BALANCE] = -event.now_ns;
	tally_change(&event.shard->tally[op], change);
	event_end(block, &event);
	request->start_ns = event.now_ns;
	request->bytes = bytes;
	request->op = op;
	request->state = STATE_SUBMITTED;
	return 0;
}

static unsigned int bucket_of(uint64_t value, unsigned int buckets)
{
	unsigned int bucket = log_bucket(value);

	return bucket < buckets ? bucket : buckets - 1;
}

/* What is not of one moment with the counts. */
static void count_done(const struct kvmstats_block *block, struct tally *tally,
		       const struct kvmstats_block_request *request,
		       uint64_t time_ns)
{
	uint64_t window = get(&block->window);
	bool first = get(&tally->window) != window;

	add(&tally->latency[bucket_of(time_ns, BLOCK_LATENCY_BUCKETS)], 1);
	if (request->op != KVMSTATS_BLOCK_FLUSH)
		add(&tally->size[bucket_of(request->bytes, BLOCK_SIZE_BUCKETS)],
		    1);
	if (first || time_ns < get(&tally->shortest_ns))
		set(&tally->shortest_ns, time_ns);
	if (first || time_ns > get(&tally->longest_ns))
		set(&tally->longest_ns, time_ns);
	/* release: who sees it sees these two */
	if (first)
		atomic_store_explicit(&tally->window, window,
				      memory_order_release);
}

int kvmstats_block_complete(struct kvmstats_block *block,
			    struct kvmstats_block_request *request, int error)
{
	uint64_t change[COUNTS] = { 0 }, end_ns, time_ns;
	struct event event;
	struct tally *tally;

	if (request->state != STATE_SUBMITTED)
		return -EINVAL;
	event_begin(block, &event);
	end_ns = event.now_ns > request->start_ns ? event.now_ns :
		 request->start_ns;
	time_ns = end_ns - request->start_ns;
	tally = &event.shard->tally[request->op];
	if (!error)
		count_done(block, tally, request, time_ns);
	change[COUNT_BYTES] = error ? 0 : request->bytes;
	change[error ? COUNT_FAILED : COUNT_IOS] = 1;
	change[error ? COUNT_FAILED_TIME : COUNT_TIME] = time_ns;
	change[COUNT_ENDED] = 1;
	change[COUNT_BALANCE] = end_ns;
	tally_change(tally, change);
	set(&event.shard->last_ns, end_ns);
	event_end(block, &event);
	request->state = 0;
	return 0;
}

int kvmstats_block_cancel(struct kvmstats_block *block,
			  struct kvmstats_block_request *request)
{
	uint64_t change[COUNTS] = { 0 }, end_ns;
	struct event event;
	struct tally *tally;

	if (request->state != STATE_SUBMITTED)
		return -EINVAL;
	event_begin(block, &event);
	end_ns = event.now_ns > request->start_ns ? event.now_ns :
		 request->start_ns;
	tally = &event.shard->tally[request->op];
	change[COUNT_ENDED] = 1;
	change[COUNT_BALANCE] = end_ns;
	tally_change(tally, change);
	atomic_store_explicit(&tally->cancelled_ns, get(&tally->cancelled_ns) +
			      end_ns - request->start_ns, memory_order_release);
	set(&event.shard->last_ns, end_ns);
	event_end(block, &event);
	request->state = 0;
	return 0;
}

static int count_apart(struct kvmstats_block *block, enum kvmstats_block_op op,
		       bool invalid, uint64_t amount)
{
	struct event event;
	struct tally *tally;

	if ((unsigned int)op >= KVMSTATS_BLOCK_OPS)
		return -EINVAL;
	event_begin(block, &event);
	tally = &event.shard->tally[op];
	add(invalid ? &tally->invalid : &tally->merged, amount);
	event_end(block, &event);
	return 0;
}

int kvmstats_block_invalid(struct kvmstats_block *block,
			   enum kvmstats_block_op op)
{
	return count_apart(block, op, true, 1);
}

int kvmstats_block_merged(struct kvmstats_block *block,
			  enum kvmstats_block_op op, uint64_t count)
{
	return op == KVMSTATS_BLOCK_FLUSH ? -EINVAL :
	       count_apart(block, op, false, count);
}

/* --------------------------------------------------------- making of a block */

static int open_device(struct kvmstats_block *block, const char *name)
{
	struct kvmstats_publisher *publisher;
	int ret = block_publisher(&publisher);

	if (ret)
		return ret;
	ret = kvmstats_device_new(publisher, name, &block->device);
	kvmstats_publisher_free(publisher);
	return ret;
}

int kvmstats_block_new(const char *name,
		       const struct kvmstats_block_options *options,
		       struct kvmstats_block **result)
{
	struct kvmstats_block *block;
	int ret;

	if (options && options->size_bytes != sizeof(*options))
		return -EINVAL;
	block = aligned_alloc(64, (sizeof(*block) + 63) / 64 * 64);
	if (!block)
		return -ENOMEM;
	memset((void *)block, 0, sizeof(*block));
	ret = open_device(block, name);
	if (!ret && !shard_new(block, THREAD_SLOT_SHARED))
		ret = -ENOMEM;
	if (ret) {
		kvmstats_device_free(block->device);
		free(block);
		return ret;
	}
	block->pid = getpid();
	pthread_mutex_init(&block->lock, NULL);
	pthread_mutex_init(&block->shared_lock, NULL);
	block->clock = options && options->clock ? options->clock : read_clock;
	block->clock_context = options ? options->clock_context : NULL;
	block->now_ns = block->clock(block->clock_context);
	block->created_ns = block->now_ns;
	block->windows.second = block->now_ns / BLOCK_SECOND_NS;
	block->window = block->windows.second + 1;
	advance(block, block->now_ns);
	publish(block);
	*result = block;
	return 0;
}

void kvmstats_block_free(struct kvmstats_block *block)
{
	if (!block)
		return;
	/* the numbers are the parent's; a thread of it may have the locks */
	if (getpid() == block->pid)
		kvmstats_block_tick(block);
	for (int slot = 0; slot <= THREAD_SLOTS; slot++)
		free(block->shards[slot]);
	kvmstats_device_free(block->device);
	pthread_mutex_destroy(&block->lock);
	pthread_mutex_destroy(&block->shared_lock);
	free(block);
}

struct kvmstats_device *kvmstats_block_device(const struct kvmstats_block *block)
{
	return block->device;
}
