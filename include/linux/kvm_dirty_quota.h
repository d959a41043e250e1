/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_DIRTY_QUOTA_H
#define __KVM_DIRTY_QUOTA_H

/*
 * Dirty quota: a limit on the pages that a vCPU may set in the dirty log.
 *
 * What is charged is decided by who marks a page dirty.  The vCPU's own
 * functions, kvm_vcpu_mark_page_dirty() and those that write guest memory in
 * the name of a vCPU, charge it when they turn a bit of the log from 0 to 1.
 * mark_page_dirty() and the functions that write for the VM are for what the
 * hypervisor itself writes, and charge nobody.
 */
#include <linux/kvm_host.h>

#ifdef CONFIG_HAVE_KVM_DIRTY_QUOTA

void kvm_dirty_quota_charge(struct kvm_vcpu *vcpu);
bool kvm_dirty_quota_exit(struct kvm_vcpu *vcpu);
u64 kvm_dirty_quota_left(struct kvm_vcpu *vcpu);
int kvm_dirty_quota_enable(struct kvm *kvm, const struct kvm_enable_cap *cap);
void kvm_dirty_quota_vcpu_init(struct kvm_vcpu *vcpu);
void kvm_dirty_quota_run_begin(struct kvm_vcpu *vcpu);
void kvm_dirty_quota_run_end(struct kvm_vcpu *vcpu);

/* Marks a page as dirty in a slot's log; true if it was not. */
static inline bool kvm_dirty_quota_log(unsigned long rel_gfn, void *bitmap)
{
	/*
	 * The write to the page comes before the look at its bit: a bit that is
	 * found set stays as it is, and test_and_set_bit() gives no order then.
	 * Pairs with the xchg() and the atomic_long_fetch_andnot() with which
	 * the log is harvested before userspace reads the page.
	 */
	smp_mb__before_atomic();
	return !test_and_set_bit_le(rel_gfn, bitmap);
}

/*
 * To be called by the architecture before it enters the guest, where it can
 * still return to userspace.  True: leave KVM_RUN with 0, kvm_run is filled.
 */
static inline bool kvm_dirty_quota_check_exit(struct kvm_vcpu *vcpu)
{
	return kvm_check_request(KVM_REQ_DIRTY_QUOTA, vcpu) &&
	       kvm_dirty_quota_exit(vcpu);
}

static inline bool kvm_dirty_quota_requested(struct kvm_vcpu *vcpu)
{
	return kvm_test_request(KVM_REQ_DIRTY_QUOTA, vcpu);
}

static inline bool kvm_dirty_quota_enabled(struct kvm *kvm)
{
	return kvm->dirty_quota_enabled;
}

/*
 * For the few places where the hypervisor writes memory by a function that is
 * meant for the vCPU's own writes.  Returns what to restore afterwards.
 */
static inline bool kvm_dirty_quota_set_charging(struct kvm_vcpu *vcpu, bool on)
{
	bool before = vcpu->dirty_quota_charging;

	vcpu->dirty_quota_charging = on;
	return before;
}

#else /* !CONFIG_HAVE_KVM_DIRTY_QUOTA */

static inline void kvm_dirty_quota_charge(struct kvm_vcpu *vcpu) { }
static inline void kvm_dirty_quota_vcpu_init(struct kvm_vcpu *vcpu) { }
static inline void kvm_dirty_quota_run_begin(struct kvm_vcpu *vcpu) { }
static inline void kvm_dirty_quota_run_end(struct kvm_vcpu *vcpu) { }

static inline int kvm_dirty_quota_enable(struct kvm *kvm,
					 const struct kvm_enable_cap *cap)
{
	return -EINVAL;
}

static inline bool kvm_dirty_quota_log(unsigned long rel_gfn, void *bitmap)
{
	set_bit_le(rel_gfn, bitmap);
	return false;
}

static inline bool kvm_dirty_quota_check_exit(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvm_dirty_quota_requested(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvm_dirty_quota_enabled(struct kvm *kvm)
{
	return false;
}

static inline u64 kvm_dirty_quota_left(struct kvm_vcpu *vcpu)
{
	return U64_MAX;
}

static inline bool kvm_dirty_quota_set_charging(struct kvm_vcpu *vcpu, bool on)
{
	return false;
}

#endif /* CONFIG_HAVE_KVM_DIRTY_QUOTA */

#endif /* __KVM_DIRTY_QUOTA_H */
