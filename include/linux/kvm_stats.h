/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_STATS_H
#define __KVM_STATS_H

/*
 * The statistics of a VM and of a vCPU.
 *
 * Each scope has one list: a generic part in <linux/kvm_types.h> and the
 * architecture's part in <asm/kvm_host.h>.  Whatever has to name every statistic
 * (the structs that hold the values, the tables that describe them to userspace,
 * the files in debugfs) is an expansion of the list, so that a new statistic is
 * one new line and nothing can be forgotten.
 *
 * An architecture may have another pair of lists, KVM_VM_STATS_DEBUGFS(STAT) and
 * KVM_VCPU_STATS_DEBUGFS(STAT), of statistics that are only in debugfs.
 *
 * A line of a list is one of
 *
 *   STAT(name, type, unit, exponent, file, mode)
 *   HIST(name, type, unit, exponent, buckets, bucket_size)
 *
 * or one of the short forms below.
 *
 * name		the field of the struct, a u64 or an array of them; also the name
 *		that userspace sees
 * type		KVM_STATS_TYPE_*: whether the value only grows, may shrink, is the
 *		largest so far, or is a histogram
 * unit		KVM_STATS_UNIT_*
 * exponent	the value counts units of 10^exponent
 * file, mode	name and mode of the debugfs file; NULL if there is none
 * buckets	number of buckets of a histogram
 * bucket_size	width of a bucket of a linear histogram, else 0
 *
 * A value is written by whoever counts, without a lock.  The vCPU thread is the
 * only writer of nearly all of a vCPU's statistics; a VM's are mostly written
 * under mmu_lock.  Readers take no lock either.
 */

/* The number of events; only grows. */
#define KVM_STATS_COUNTER(STAT, name, file)				\
	STAT(name, KVM_STATS_TYPE_CUMULATIVE, KVM_STATS_UNIT_NONE, 0,	\
	     file, 0644)

/* A sum of nanoseconds; only grows. */
#define KVM_STATS_TIME_NS(STAT, name, file)				\
	STAT(name, KVM_STATS_TYPE_CUMULATIVE, KVM_STATS_UNIT_SECONDS, -9, \
	     file, 0644)

/* How many there are now. */
#define KVM_STATS_INSTANT(STAT, name, file, mode)			\
	STAT(name, KVM_STATS_TYPE_INSTANT, KVM_STATS_UNIT_NONE, 0, file, mode)

/* How many bytes there are now. */
#define KVM_STATS_INSTANT_BYTES(STAT, name)				\
	STAT(name, KVM_STATS_TYPE_INSTANT, KVM_STATS_UNIT_BYTES, 0, NULL, 0)

/* Whether something is the case now: 0 or 1. */
#define KVM_STATS_BOOLEAN(STAT, name)					\
	STAT(name, KVM_STATS_TYPE_INSTANT, KVM_STATS_UNIT_BOOLEAN, 0, NULL, 0)

/* The largest number so far. */
#define KVM_STATS_PEAK(STAT, name, file)				\
	STAT(name, KVM_STATS_TYPE_PEAK, KVM_STATS_UNIT_NONE, 0, file, 0644)

/* Durations in nanoseconds by their binary logarithm. */
#define KVM_STATS_LOG_HIST_NS(HIST, name, buckets)			\
	HIST(name, KVM_STATS_TYPE_LOG_HIST, KVM_STATS_UNIT_SECONDS, -9,	\
	     buckets, 0)

/* How often each of numbered things happened; the last is all others. */
#define KVM_STATS_INDEX_HIST(HIST, name, buckets)			\
	HIST(name, KVM_STATS_TYPE_LINEAR_HIST, KVM_STATS_UNIT_NONE, 0,	\
	     buckets, 1)

#define KVM_VM_STATS(STAT, HIST)	\
	KVM_VM_STATS_GENERIC(STAT, HIST)	\
	KVM_VM_STATS_ARCH(STAT, HIST)

#define KVM_VCPU_STATS(STAT, HIST)	\
	KVM_VCPU_STATS_GENERIC(STAT, HIST)	\
	KVM_VCPU_STATS_ARCH(STAT, HIST)

#ifndef KVM_VM_STATS_DEBUGFS
#define KVM_VM_STATS_DEBUGFS(STAT)
#endif
#ifndef KVM_VCPU_STATS_DEBUGFS
#define KVM_VCPU_STATS_DEBUGFS(STAT)
#endif

#define KVM_STAT_FIELD(name, type, unit, exponent, file, mode)	\
	u64 name;
#define KVM_HIST_FIELD(name, type, unit, exponent, buckets, bucket_size)	\
	u64 name[buckets];

/* What is only in debugfs comes last, behind what userspace reads as a block. */
struct kvm_vm_stat {
	KVM_VM_STATS(KVM_STAT_FIELD, KVM_HIST_FIELD)
	KVM_VM_STATS_DEBUGFS(KVM_STAT_FIELD)
};

struct kvm_vcpu_stat {
	KVM_VCPU_STATS(KVM_STAT_FIELD, KVM_HIST_FIELD)
	KVM_VCPU_STATS_DEBUGFS(KVM_STAT_FIELD)
};

#undef KVM_STAT_FIELD
#undef KVM_HIST_FIELD

#endif /* __KVM_STATS_H */
