/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Between the files that support tests of dirty quota.
 */
#ifndef SELFTEST_KVM_DIRTY_QUOTA_INTERNAL_H
#define SELFTEST_KVM_DIRTY_QUOTA_INTERNAL_H

#include "kvm_dirty_quota_util.h"

#define DQ_PORT		0x1234

/* The guest's; the host sees its own copies, which mean nothing. */
extern struct dq_work dq_works[DQ_MAX_VCPUS];
extern uint64_t dq_page_size;

#endif /* SELFTEST_KVM_DIRTY_QUOTA_INTERNAL_H */
