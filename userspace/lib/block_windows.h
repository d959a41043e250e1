/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The statistics of a block device, and the windows of its averages. */
#ifndef KVMSTATS_LIB_BLOCK_WINDOWS_H
#define KVMSTATS_LIB_BLOCK_WINDOWS_H

#include "internal.h"

#define BLOCK_LATENCY_BUCKETS	40	/* the last one from 2^38 ns, 275 s, on */
#define BLOCK_SIZE_BUCKETS	32	/* the last one from 1 GiB on */
#define BLOCK_SECOND_NS		1000000000ull
#define BLOCK_REFRESH_NS	1000000ull

/* The last complete second, 60 complete seconds, 60 complete minutes. */
enum { BLOCK_1S, BLOCK_1M, BLOCK_1H, BLOCK_WINDOWS };

struct block_window {
	uint64_t count;			/* requests that ended well in it */
	uint64_t time_ns;		/* that they took */
	uint64_t shortest_ns, longest_ns;	/* 0 if there was none */
	uint64_t queue_time;		/* integral of the depth, in ns */
};

/* So far, at the end of a second. */
struct block_totals {
	uint64_t count, time_ns, integral;
};

#define BLOCK_RING	60
#define BLOCK_MEMORY_S	(61 * 60ull)	/* what is older is in no window */

struct block_windows {
	uint64_t second;	/* that is open, by CLOCK_MONOTONIC */
	struct block_totals before[KVMSTATS_BLOCK_OPS];
	/* of second s at s % 60, of minute m at m % 60 */
	struct block_window seconds[BLOCK_RING][KVMSTATS_BLOCK_OPS];
	struct block_window minutes[BLOCK_RING][KVMSTATS_BLOCK_OPS];
	struct block_window last[BLOCK_WINDOWS][KVMSTATS_BLOCK_OPS];
};

/* The open second of @op ends with these totals. */
void block_windows_close(struct block_windows *windows, int op,
			 const struct block_totals *totals,
			 uint64_t shortest_ns, uint64_t longest_ns);
/*
 * All operations are closed: the next second begins. If it ends as well, before
 * second @due, nothing has happened in it.
 */
void block_windows_next(struct block_windows *windows, uint64_t due);
/* The average depth in millionths. */
uint64_t block_window_depth(const struct block_window *window, int which);

/* Describes what block.c publishes. */
int block_publisher(struct kvmstats_publisher **publisher);

#endif /* KVMSTATS_LIB_BLOCK_WINDOWS_H */
