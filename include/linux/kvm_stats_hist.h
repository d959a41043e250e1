/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_STATS_HIST_H
#define __KVM_STATS_HIST_H

#include <linux/bitops.h>
#include <linux/kernel.h>
#include <linux/types.h>

/*
 * Count a value in a histogram.  Only the owner of the histogram may do so, as
 * with any statistic: there is no lock.  Inline, because the architectures'
 * modules count too and the core is not a module to all of them.
 */

/**
 * kvm_stats_log_hist_update - count a value in buckets that double in width
 * @data: the buckets; the last one also takes all larger values
 * @size: number of buckets, not 0
 * @value: the value
 *
 * Bucket 0 holds 0, bucket i > 0 holds values from 2^(i - 1) to 2^i - 1.
 */
static inline void kvm_stats_log_hist_update(u64 *data, size_t size, u64 value)
{
	++data[min_t(unsigned int, fls64(value), size - 1)];
}

#define KVM_STATS_LOG_HIST_UPDATE(hist, value)				\
	kvm_stats_log_hist_update(hist, ARRAY_SIZE(hist), value)

/**
 * kvm_stats_count_index - count a number in buckets of width 1
 * @data: the buckets; the last one also takes all larger numbers
 * @size: number of buckets, not 0
 * @index: the number
 */
static inline void kvm_stats_count_index(u64 *data, size_t size,
					 unsigned int index)
{
	++data[min_t(unsigned int, index, size - 1)];
}

#define KVM_STATS_COUNT_INDEX(hist, index)				\
	kvm_stats_count_index(hist, ARRAY_SIZE(hist), index)

#endif /* __KVM_STATS_HIST_H */
