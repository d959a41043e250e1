// SPDX-License-Identifier: LGPL-2.1-or-later
#include <string.h>

#include "block_windows.h"

static void add(struct block_window *sum, const struct block_window *window)
{
	if (window->count && (!sum->count ||
			      window->shortest_ns < sum->shortest_ns))
		sum->shortest_ns = window->shortest_ns;
	if (window->longest_ns > sum->longest_ns)
		sum->longest_ns = window->longest_ns;
	sum->count += window->count;
	sum->time_ns += window->time_ns;
	sum->queue_time += window->queue_time;
}

static void sum_up(struct block_window ring[BLOCK_RING][KVMSTATS_BLOCK_OPS],
		   struct block_window sum[KVMSTATS_BLOCK_OPS])
{
	memset(sum, 0, KVMSTATS_BLOCK_OPS * sizeof(*sum));
	for (int i = 0; i < BLOCK_RING; i++)
		for (int op = 0; op < KVMSTATS_BLOCK_OPS; op++)
			add(&sum[op], &ring[i][op]);
}

void block_windows_close(struct block_windows *windows, int op,
			 const struct block_totals *totals,
			 uint64_t shortest_ns, uint64_t longest_ns)
{
	struct block_totals *before = &windows->before[op];
	struct block_window *window;
	uint64_t growth = totals->integral - before->integral;

	window = &windows->seconds[windows->second % BLOCK_RING][op];
	*window = (struct block_window){
		.count = totals->count - before->count,
		.time_ns = totals->time_ns - before->time_ns,
		/* below 0: an end was seen before its begin, see block.c */
		.queue_time = (int64_t)growth < 0 ? 0 : growth,
	};
	if (window->count) {
		window->shortest_ns = shortest_ns;
		window->longest_ns = longest_ns;
	}
	*before = *totals;
}

void block_windows_next(struct block_windows *windows, uint64_t due)
{
	uint64_t ended = windows->second++;

	memcpy(windows->last[BLOCK_1S], windows->seconds[ended % BLOCK_RING],
	       sizeof(windows->last[BLOCK_1S]));
	if (windows->second == due || !(windows->second % BLOCK_RING))
		sum_up(windows->seconds, windows->last[BLOCK_1M]);
	if (!(windows->second % BLOCK_RING)) {
		memcpy(windows->minutes[ended / BLOCK_RING % BLOCK_RING],
		       windows->last[BLOCK_1M],
		       sizeof(windows->last[BLOCK_1M]));
		sum_up(windows->minutes, windows->last[BLOCK_1H]);
	}
}

uint64_t block_window_depth(const struct block_window *window, int which)
{
	static const uint64_t thousands_of_ns[BLOCK_WINDOWS] = {
		[BLOCK_1S] = 1000, [BLOCK_1M] = 60000, [BLOCK_1H] = 3600000,
	};

	return window->queue_time / thousands_of_ns[which];
}
