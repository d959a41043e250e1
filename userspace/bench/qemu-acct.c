// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU's own accounting, for bench-acct: built by scripts/qemu-acct with QEMU's
 * headers and objects. Without intervals and histograms, as QEMU has it by default,
 * and with as many of both as kvmstats_block always has. Of the series, also as
 * kvm-stats-export,block=on publishes it.
 */
#include "qemu/osdep.h"
#include "block/accounting.h"
#include "qemu-acct.h"

static BlockAcctStats plain, full;

#ifdef QEMU_ACCT_SERIES
#include "block/acct-publish.h"
#include "sysemu/block-backend.h"

/* All of a BlockBackend that what publishes its statistics wants of it */
struct BlockBackend {
	BlockAcctStats stats;
};

static BlockBackend published;

BlockAcctStats *blk_get_stats(BlockBackend *blk)
{
	return &blk->stats;
}

void blk_ref(BlockBackend *blk)
{
}

void blk_unref(BlockBackend *blk)
{
}

bool blk_is_quiet(BlockBackend *blk)
{
	return false;
}

static void added(void *opaque, int fd)
{
}
#endif

void qemu_acct_setup(void)
{
	static const unsigned int intervals_s[] = { 1, 60, 3600 };
	uint64List bounds[38];

	block_acct_init(&plain);
	block_acct_init(&full);
	for (int i = 0; i < 3; i++)
		block_acct_add_interval(&full, intervals_s[i]);
	for (int i = 0; i < 38; i++) {
		bounds[i].next = i < 37 ? &bounds[i + 1] : NULL;
		bounds[i].value = 2ull << i;
	}
	block_latency_histogram_set(&full, BLOCK_ACCT_READ, bounds);
#ifdef QEMU_ACCT_SERIES
	block_acct_init(&published.stats);
	block_acct_publish(block_acct_publisher_new(added, NULL), &published,
			   "published", NULL);
#endif
}

static void request(BlockAcctStats *stats)
{
	BlockAcctCookie cookie;

	block_acct_start(stats, &cookie, 4096, BLOCK_ACCT_READ);
	block_acct_done(stats, &cookie);
}

void qemu_acct_plain(void)
{
	request(&plain);
}

void qemu_acct_full(void)
{
	request(&full);
}

#ifdef QEMU_ACCT_SERIES
void qemu_acct_published(void)
{
	request(&published.stats);
}
#endif
