// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU's own accounting, for bench-acct: built by scripts/qemu-acct with QEMU's
 * headers and objects. Without intervals and histograms, as QEMU has it by default,
 * and with as many of both as kvmstats_block always has.
 */
#include "qemu/osdep.h"
#include "block/accounting.h"
#include "qemu-acct.h"

static BlockAcctStats plain, full;

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
