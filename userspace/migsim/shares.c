// SPDX-License-Identifier: GPL-2.0-only
#include "shares.h"

/* Pages that are granted and not dirtied; 0 after an overrun. */
static uint64_t left_of(const struct share *share)
{
	int64_t left = (int64_t)(share->ceiling - share->count);

	return left > 0 ? left : 0;
}

void shares_start(struct shares *shares)
{
	shares->pool = 0;
	shares->rest = 0;
	shares->chunk = 0;
	for (unsigned int i = 0; i < shares->vcpus; i++)
		shares->share[i].ceiling = shares->share[i].count;
}

static uint64_t collect(struct shares *shares)
{
	uint64_t left = 0;

	for (unsigned int i = 0; i < shares->vcpus; i++) {
		struct share *share = &shares->share[i];

		left += left_of(share);
		share->ceiling -= left_of(share);
	}
	return left;
}

/* After an overrun the ceiling stays below the count until that is made up. */
void shares_begin(struct shares *shares, uint64_t budget)
{
	uint64_t divisor = SHARE_ONE * shares->vcpus, equal;

	if (!divisor)
		return;
	budget += shares->rest;
	equal = budget / divisor;
	shares->rest = budget % divisor;
	shares->pool += collect(shares);
	shares->chunk = (shares->pool + shares->vcpus - 1) / shares->vcpus;
	for (unsigned int i = 0; i < shares->vcpus; i++)
		shares->share[i].ceiling += equal;
}

uint64_t shares_take(struct shares *shares, unsigned int index, uint64_t count)
{
	struct share *share = &shares->share[index];
	uint64_t want;

	share->count = count;
	if (left_of(share))
		return left_of(share);
	want = share->count - share->ceiling + shares->chunk;
	if (want > shares->pool)
		want = shares->pool;
	shares->pool -= want;
	share->ceiling += want;
	return left_of(share);
}

void shares_drain(struct shares *shares)
{
	shares->pool = 0;
}

uint64_t shares_budget(uint64_t bandwidth, uint64_t interval_ns,
		       unsigned int percent, unsigned int page_bytes)
{
	double pages = (double)bandwidth * interval_ns / 1e9 / page_bytes;

	return pages * percent / 100 * SHARE_ONE;
}
