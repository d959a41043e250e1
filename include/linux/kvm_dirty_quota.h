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

bool kvm_dirty_quota_exit(struct kvm_vcpu *vcpu);
int kvm_dirty_quota_enable(struct kvm *kvm, const struct kvm_enable_cap *cap);
void kvm_dirty_quota_run_begin(struct kvm_vcpu *vcpu);
void kvm_dirty_quota_run_end(struct kvm_vcpu *vcpu);

/* The limit is used up; 0 is no limit: less one, it is larger than any count. */
static inline bool kvm_dirty_quota_used_up(u64 count, u64 quota)
{
	return count > quota - 1;
}

/*
 * Userspace may write the limit at any time: whoever decides by it and reports
 * the decision keeps what this returned.
 */
static inline u64 kvm_dirty_quota_read(struct kvm_vcpu *vcpu)
{
	u64 quota = READ_ONCE(vcpu->run->dirty_quota);

	vcpu->stat.dirty_quota = quota;
	return quota;
}

/* How many pages the vCPU may still dirty; U64_MAX if there is no limit. */
static inline u64 kvm_dirty_quota_left(struct kvm_vcpu *vcpu)
{
	u64 quota;

	if (!vcpu->dirty_quota_limited)
		return U64_MAX;

	quota = kvm_dirty_quota_read(vcpu);
	if (!quota)
		return U64_MAX;
	if (kvm_dirty_quota_used_up(vcpu->stat.pages_dirtied, quota))
		return 0;
	return quota - vcpu->stat.pages_dirtied;
}

/*
 * The vCPU has turned a bit of the dirty log from 0 to 1.  Without the
 * capability this is one addition and one test: a fast page fault is short.
 */
static inline void kvm_dirty_quota_charge(struct kvm_vcpu *vcpu)
{
	vcpu->stat.pages_dirtied += vcpu->dirty_quota_charge;
	if (!vcpu->dirty_quota_limited)
		return;

	lockdep_assert_held(&vcpu->mutex);
	if (kvm_dirty_quota_used_up(vcpu->stat.pages_dirtied,
				    kvm_dirty_quota_read(vcpu)))
		kvm_make_request(KVM_REQ_DIRTY_QUOTA, vcpu);
}

/*
 * The only way to set a page's bit in a slot's dirty log in the name of a vCPU:
 * whoever marks a page that way cannot forget the charge.
 */
static inline void kvm_dirty_quota_log(struct kvm_vcpu *vcpu,
				       unsigned long rel_gfn, void *bitmap)
{
	/*
	 * The write to the page comes before the look at its bit: a bit that is
	 * found set stays as it is, and test_and_set_bit() gives no order then.
	 * Pairs with the xchg() and the atomic_long_fetch_andnot() with which
	 * the log is harvested before userspace reads the page.
	 */
	smp_mb__before_atomic();
	if (!test_and_set_bit_le(rel_gfn, bitmap))
		kvm_dirty_quota_charge(vcpu);
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

#else /* !CONFIG_HAVE_KVM_DIRTY_QUOTA */

static inline void kvm_dirty_quota_run_begin(struct kvm_vcpu *vcpu) { }
static inline void kvm_dirty_quota_run_end(struct kvm_vcpu *vcpu) { }

static inline int kvm_dirty_quota_enable(struct kvm *kvm,
					 const struct kvm_enable_cap *cap)
{
	return -EINVAL;
}

static inline void kvm_dirty_quota_log(struct kvm_vcpu *vcpu,
				       unsigned long rel_gfn, void *bitmap)
{
	set_bit_le(rel_gfn, bitmap);
}

static inline bool kvm_dirty_quota_check_exit(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvm_dirty_quota_requested(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline u64 kvm_dirty_quota_left(struct kvm_vcpu *vcpu)
{
	return U64_MAX;
}

#endif /* CONFIG_HAVE_KVM_DIRTY_QUOTA */

/*
 * Guest memory is being written for the VM.  While a vCPU handles an exit of its
 * guest, that is right for what the hypervisor writes, which says so by using the
 * kvm_host_*() functions.  Anything else would escape the charge.
 */
static inline void kvm_dirty_quota_check_writer(void)
{
#ifdef CONFIG_KVM_DIRTY_QUOTA_DEBUG
	struct kvm_vcpu *vcpu = kvm_get_running_vcpu();

	WARN_ONCE(in_task() && vcpu && vcpu->dirty_quota_charge,
		  "vCPU %d writes guest memory without being charged",
		  vcpu->vcpu_id);
#endif
}

#endif /* __KVM_DIRTY_QUOTA_H */
