/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The arithmetic of the dirty-quota policy, apart from KVM and from time.
 *
 * Pages are granted by raising ceilings. At the begin of an interval the
 * interval's budget is divided: each vCPU may dirty an equal share on top of
 * what it has dirtied so far. What a vCPU left of its last share goes into the
 * pool. A vCPU that has used up its share takes from the pool, first come
 * first served. What a division leaves is kept for the next interval.
 *
 * What is dirtied never exceeds what was granted by more than the kernel
 * overruns; an overrun is taken off the vCPU's next shares.
 */
#ifndef MIGSIM_SHARES_H
#define MIGSIM_SHARES_H

#include <stdint.h>

/* Budgets are in 1/65536 of a page: an interval may be worth less than one. */
#define SHARE_ONE	65536ull

struct share {
	uint64_t count;		/* pages dirtied, as last seen */
	uint64_t ceiling;	/* pages granted: what kvm_run holds */
};

struct shares {
	unsigned int vcpus;
	uint64_t pool;		/* pages */
	uint64_t chunk;		/* pages that are taken from it at once */
	uint64_t rest;		/* of the budget: under a page a vCPU */
	struct share *share;	/* of each vCPU */
};

/* Start from the counts in @shares->share: nothing is granted yet. */
void shares_start(struct shares *shares);
/* Begin an interval worth @budget; the counts are as of now. */
void shares_begin(struct shares *shares, uint64_t budget);
/*
 * vCPU @index has dirtied @count pages and wants to go on. Returns the pages
 * that it may dirty now, 0 if it has to wait for the interval's end.
 */
uint64_t shares_take(struct shares *shares, unsigned int index, uint64_t count);
/* What was saved up may not be spent any longer. */
void shares_drain(struct shares *shares);
/* Pages that @percent of @bandwidth, bytes a second, sends in @interval_ns. */
uint64_t shares_budget(uint64_t bandwidth, uint64_t interval_ns,
		       unsigned int percent, unsigned int page_bytes);

#endif /* MIGSIM_SHARES_H */
