/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_STATS_H
#define __KVM_STATS_H

/*
 * The statistics of a VM and of a vCPU.
 *
 * Each scope has one list, a generic part in <linux/kvm_types.h> and an
 * architecture's part in <asm/kvm_host.h>.  Whatever has to name every statistic
 * (the structs that hold the values, the tables that describe them to userspace,
 * the files in debugfs) is an expansion of the list, so that a new statistic is
 * one new line and nothing can be forgotten.  A line is one of
 *
 *   STAT(name, type, unit, exponent, file, mode)
 *   HIST(name, type, unit, exponent, buckets, bucket_size)
 *
 * name		the field of the struct, a u64 or an array of them; also the name
 *		that userspace sees, unless a debugfs file says otherwise
 * type		CUMULATIVE (only grows), INSTANT (may shrink), PEAK (the largest
 *		value so far), LINEAR_HIST or LOG_HIST
 * unit		NONE, BYTES, SECONDS, CYCLES or BOOLEAN
 * exponent	the value counts units of 10^exponent
 * file, mode	name and mode of the debugfs file; NULL if there is none
 * buckets	number of buckets of a histogram
 * bucket_size	width of a bucket of a linear histogram, else 0
 *
 * A value is written by whoever counts, without a lock.  The vCPU thread is the
 * only writer of nearly all of a vCPU's statistics; a VM's are mostly written
 * under mmu_lock.  Readers take no lock either.
 */
#define KVM_VM_STATS(STAT, HIST)	\
	KVM_VM_STATS_GENERIC(STAT, HIST)	\
	KVM_VM_STATS_ARCH(STAT, HIST)

#define KVM_VCPU_STATS(STAT, HIST)	\
	KVM_VCPU_STATS_GENERIC(STAT, HIST)	\
	KVM_VCPU_STATS_ARCH(STAT, HIST)

#define KVM_STAT_FIELD(name, type, unit, exponent, file, mode)	\
	u64 name;
#define KVM_HIST_FIELD(name, type, unit, exponent, buckets, bucket_size)	\
	u64 name[buckets];

struct kvm_vm_stat {
	KVM_VM_STATS(KVM_STAT_FIELD, KVM_HIST_FIELD)
};

struct kvm_vcpu_stat {
	KVM_VCPU_STATS(KVM_STAT_FIELD, KVM_HIST_FIELD)
};

#undef KVM_STAT_FIELD
#undef KVM_HIST_FIELD

#endif /* __KVM_STATS_H */
