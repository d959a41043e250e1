/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Dirty quota as programs see it, for kernel headers that do not have it: the
 * numbers of Documentation/virt/kvm/dirty-quota.rst. The layout is checked
 * against the composed tree's header by tests/migsim.sh.
 */
#ifndef KVMSTATS_QUOTA_UAPI_H
#define KVMSTATS_QUOTA_UAPI_H

#include <assert.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#define QUOTA_CAP		51000	/* KVM_CAP_DIRTY_QUOTA */
#define QUOTA_EXIT_FULL		51000	/* KVM_EXIT_DIRTY_QUOTA_FULL */

/*
 * Where struct kvm_run ends without the quota, and the quota stands with it:
 * behind the registers, whose room the kernel keeps (SYNC_REGS_SIZE_BYTES).
 */
#define QUOTA_RUN_OFFSET	(offsetof(struct kvm_run, s) + 2048)

/* In the union of what the exits carry. */
struct quota_full {
	uint64_t dirty_count;
	uint64_t dirty_quota;
};

#define QUOTA_EXIT_OFFSET	offsetof(struct kvm_run, hw)

static_assert(offsetof(struct kvm_run, kvm_valid_regs) ==
	      QUOTA_EXIT_OFFSET + 256, "the exits' data has grown");
#ifndef __s390__ /* which has its PSW in front of the exits' data */
static_assert(QUOTA_EXIT_OFFSET == 32, "the exits' data has moved");
static_assert(QUOTA_RUN_OFFSET == 2352, "struct kvm_run ends elsewhere");
#endif
static_assert(sizeof(struct quota_full) <= 256, "too large for an exit");

#endif /* KVMSTATS_QUOTA_UAPI_H */
