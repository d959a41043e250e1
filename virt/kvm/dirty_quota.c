// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dirty quota: a limit on the pages that a vCPU may set in the dirty log.
 *
 * Userspace owns the limit, kvm_run.dirty_quota, and KVM owns the count,
 * the statistic pages_dirtied.  Neither is ever written by the other side, so
 * that there is no update to lose and no lock to take: userspace may change the
 * limit at any time, KVM reads it once for each decision.
 *
 * All functions that take a vCPU are for the thread that runs it and holds
 * vcpu->mutex, but for kvm_dirty_quota_log() while the vCPU is not in KVM_RUN.
 */
#include <linux/kvm_host.h>
#include <linux/kvm_dirty_quota.h>
#include <linux/string.h>
#include <trace/events/kvm.h>

/*
 * A request was found.  Userspace may have raised the limit since it was made,
 * or switched it off: then there is nothing to exit for.
 */
bool kvm_dirty_quota_exit(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	u64 quota = kvm_dirty_quota_read(vcpu);

	if (!kvm_dirty_quota_used_up(vcpu->stat.pages_dirtied, quota))
		return false;

	run->exit_reason = KVM_EXIT_DIRTY_QUOTA_FULL;
	run->dirty_quota_full.dirty_count = vcpu->stat.pages_dirtied;
	run->dirty_quota_full.dirty_quota = quota;
	vcpu->stat.dirty_quota_exits++;
	trace_kvm_dirty_quota_exit(vcpu->vcpu_id, vcpu->stat.pages_dirtied,
				   quota);
	return true;
}

/*
 * KVM_RUN begins.  The limit may be used up from before, or have been lowered.
 */
void kvm_dirty_quota_run_begin(struct kvm_vcpu *vcpu)
{
	vcpu->dirty_quota_charge = 1;
	if (!vcpu->kvm->dirty_quota_enabled)
		return;

	vcpu->dirty_quota_limited = true;
	if (kvm_dirty_quota_used_up(vcpu->stat.pages_dirtied,
				    kvm_dirty_quota_read(vcpu)))
		kvm_make_request(KVM_REQ_DIRTY_QUOTA, vcpu);
}

/*
 * What is written in the vCPU's name from now on is not the guest's: by an ioctl
 * of the VMM, or because the vCPU is destroyed.
 */
void kvm_dirty_quota_run_end(struct kvm_vcpu *vcpu)
{
	vcpu->dirty_quota_charge = 0;
	vcpu->dirty_quota_limited = false;
}

/*
 * kvm->lock orders this against KVM_CREATE_VCPU, which counts a vCPU before it
 * creates it: a vCPU sees the field as it stays, or this fails.
 */
int kvm_dirty_quota_enable(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	int r = 0;

	if (cap->flags || memchr_inv(cap->args, 0, sizeof(cap->args)))
		return -EINVAL;

	mutex_lock(&kvm->lock);
	if (kvm->created_vcpus)
		r = -EBUSY;
	else
		kvm->dirty_quota_enabled = true;
	mutex_unlock(&kvm->lock);
	return r;
}
