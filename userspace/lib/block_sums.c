// SPDX-License-Identifier: LGPL-2.1-or-later
/* The sums of all threads' shards, and what follows from them; block.c has the idea. */
#include <string.h>

#include "block.h"

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

void block_add_up(struct kvmstats_block *block)
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

void block_advance(struct kvmstats_block *block, uint64_t now_ns)
{
	uint64_t before_ns = block->now_ns;

	block_add_up(block);
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
void block_publish(struct kvmstats_block *block)
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
