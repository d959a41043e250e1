/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Publish the statistics of block devices
 *
 * Copyright (c) 2026 kvmstats developers
 */

#ifndef KVM_STATS_BLOCK_H
#define KVM_STATS_BLOCK_H

typedef struct KVMStatsBlock KVMStatsBlock;

/*
 * All block devices that there are and will be, until it is freed. Only one at
 * a time. @plugged is called for each of them with a descriptor of its
 * statistics, which stays the caller's; @unplugged when some are gone.
 */
KVMStatsBlock *kvm_stats_block_new(void (*plugged)(void *opaque, int fd),
                                   void (*unplugged)(void *opaque),
                                   void *opaque);
/* Call @plugged for all that there are */
void kvm_stats_block_again(KVMStatsBlock *b);
void kvm_stats_block_free(KVMStatsBlock *b);

#endif
