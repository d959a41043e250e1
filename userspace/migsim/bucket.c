// SPDX-License-Identifier: GPL-2.0-only
#include "bucket.h"

#define NS_PER_S	1000000000ull

void bucket_init(struct bucket *bucket, uint64_t rate, uint64_t burst_ns,
		 uint64_t now_ns)
{
	*bucket = (struct bucket){
		.rate = rate, .burst_ns = burst_ns, .ready_ns = now_ns
	};
}

uint64_t bucket_take(struct bucket *bucket, uint64_t bytes, uint64_t now_ns)
{
	uint64_t earliest = now_ns - bucket->burst_ns, due;

	if (bucket->ready_ns > now_ns)
		return bucket->ready_ns - now_ns;
	if (now_ns > bucket->burst_ns && bucket->ready_ns < earliest)
		bucket->ready_ns = earliest;
	/* messages are far below 18 GB, where this product would not fit */
	due = bytes * NS_PER_S + bucket->rest;
	bucket->ready_ns += due / bucket->rate;
	bucket->rest = due % bucket->rate;
	return 0;
}
