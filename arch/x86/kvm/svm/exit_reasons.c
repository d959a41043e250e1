// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where SVM's exit codes are in the histogram of exits by reason
 *
 * Codes of what KVM and L1 do not see have no bucket of their own, nor have the
 * single debug registers and most exceptions: each bucket is read with every
 * sample of the statistics.
 */

#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/kvm_host.h>
#include <linux/string.h>

#include "kvm_cache_regs.h"
#include "svm.h"

/* Written before the first VM exists, then constant. */
u8 svm_exit_buckets[SVM_EXIT_CODES] __ro_after_init;

/* Exceptions with a bucket of their own, in its order. */
static const u8 svm_own_exceptions[] __initconst = {
	DB_VECTOR, BP_VECTOR, UD_VECTOR, NM_VECTOR, GP_VECTOR, PF_VECTOR,
	AC_VECTOR, MC_VECTOR,
};

/* Before the buckets that follow in <asm/kvm_exit_reasons.h>. */
static_assert(KVM_SVM_REASON_EXCP + ARRAY_SIZE(svm_own_exceptions) + 1 ==
	      KVM_SVM_REASON_INTR);
static_assert(KVM_SVM_REASON_INTR + 0x90 - SVM_EXIT_INTR ==
	      KVM_SVM_REASON_CR_WRITE_TRAP);
static_assert(KVM_SVM_REASON_NPF + SVM_EXIT_CODES - SVM_EXIT_NPF ==
	      KVM_SVM_REASON_INVALID);

static int __init svm_cr_bucket(int cr)
{
	switch (cr) {
	case 0:
		return 0;
	case 3:
		return 1;
	case 4:
		return 2;
	case 8:
		return 3;
	default:
		return 4;
	}
}

void __init svm_init_exit_buckets(void)
{
	u8 *bucket = svm_exit_buckets;
	int i;

	memset(bucket, KVM_EXIT_REASON_OTHER, SVM_EXIT_CODES);

	for (i = 0; i < 16; i++) {
		bucket[SVM_EXIT_READ_CR0 + i] = KVM_SVM_REASON_CR_READ +
						svm_cr_bucket(i);
		bucket[SVM_EXIT_WRITE_CR0 + i] = KVM_SVM_REASON_CR_WRITE +
						 svm_cr_bucket(i);
		bucket[SVM_EXIT_READ_DR0 + i] = KVM_SVM_REASON_DR_READ;
		bucket[SVM_EXIT_WRITE_DR0 + i] = KVM_SVM_REASON_DR_WRITE;
		bucket[0x90 + i] = KVM_SVM_REASON_CR_WRITE_TRAP;
	}

	for (i = 0; i < 32; i++)
		bucket[SVM_EXIT_EXCP_BASE + i] = KVM_SVM_REASON_EXCP;
	for (i = 0; i < ARRAY_SIZE(svm_own_exceptions); i++)
		bucket[SVM_EXIT_EXCP_BASE + svm_own_exceptions[i]] =
			KVM_SVM_REASON_EXCP + 1 + i;

	for (i = SVM_EXIT_INTR; i < 0x90; i++)
		bucket[i] = KVM_SVM_REASON_INTR + i - SVM_EXIT_INTR;

	bucket[SVM_EXIT_INVPCID] = KVM_SVM_REASON_INVPCID;

	for (i = SVM_EXIT_NPF; i < SVM_EXIT_CODES; i++)
		bucket[i] = KVM_SVM_REASON_NPF + i - SVM_EXIT_NPF;
}
