/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The link's speed: a token bucket, kept as the time at which it is full
 * again. A message may overdraw it; the next one waits for that.
 */
#ifndef MIGSIM_BUCKET_H
#define MIGSIM_BUCKET_H

#include <stdint.h>

struct bucket {
	uint64_t rate;		/* bytes a second, not 0 */
	uint64_t burst_ns;	/* what may be saved up while nothing is sent */
	uint64_t ready_ns;	/* what was sent is paid for at this time */
	uint64_t rest;		/* of a division: under rate */
};

void bucket_init(struct bucket *bucket, uint64_t rate, uint64_t burst_ns,
		 uint64_t now_ns);
/*
 * 0 if @bytes may go now, and they are then accounted for; else how long to
 * wait before asking again.
 */
uint64_t bucket_take(struct bucket *bucket, uint64_t bytes, uint64_t now_ns);

#endif /* MIGSIM_BUCKET_H */
