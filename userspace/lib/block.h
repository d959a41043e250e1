/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Block accounting: what threads have counted, and the sums that are published. */
#ifndef KVMSTATS_LIB_BLOCK_H
#define KVMSTATS_LIB_BLOCK_H

#include <pthread.h>

#include "block_windows.h"
#include "thread_slot.h"

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

/* All in block_sums.c is under the block's lock. */
void block_add_up(struct kvmstats_block *block);
/* What happened before @now_ns, whose event is not among it. */
void block_advance(struct kvmstats_block *block, uint64_t now_ns);
/* What has been added up, for readers. */
void block_publish(struct kvmstats_block *block);

#endif /* KVMSTATS_LIB_BLOCK_H */
