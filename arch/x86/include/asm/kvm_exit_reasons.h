/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_KVM_EXIT_REASONS_H
#define _ASM_X86_KVM_EXIT_REASONS_H

/*
 * Exits by reason: buckets of the histogram of each vCPU.  VMX counts basic exit
 * reasons as they are.  SVM's exit codes are far apart; those that KVM, or L1, can
 * see are put side by side, see Documentation/virt/kvm/stats-fd.rst.  The last
 * bucket is for all others.
 */
#define KVM_EXIT_REASONS		80
#define KVM_EXIT_REASON_OTHER		(KVM_EXIT_REASONS - 1)

/* SVM: control registers 0, 3, 4 and 8 have a bucket each, the others one. */
#define KVM_SVM_REASON_CR_READ		0
#define KVM_SVM_REASON_CR_WRITE		5
#define KVM_SVM_REASON_DR_READ		10
#define KVM_SVM_REASON_DR_WRITE		11
/* First those exceptions that have none of their own. */
#define KVM_SVM_REASON_EXCP		12
/* The codes from INTR (0x60) to EFER_WRITE_TRAP (0x8f), in their order. */
#define KVM_SVM_REASON_INTR		21
#define KVM_SVM_REASON_CR_WRITE_TRAP	69
#define KVM_SVM_REASON_INVPCID		70
/* From NPF (0x400) to VMGEXIT (0x403). */
#define KVM_SVM_REASON_NPF		71
#define KVM_SVM_REASON_INVALID		75

#endif /* _ASM_X86_KVM_EXIT_REASONS_H */
