// SPDX-License-Identifier: GPL-2.0-only
/*
 * nested_test
 *
 * A nested guest (L2) on a 32-bit kernel, or of a 32-bit program: KVM's own page
 * tables have to fit it in each mode that it can be in. What it writes must be in
 * the dirty log, and where there is a dirty quota, charged.
 *
 * Usage: nested_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <linux/bits.h>

#include "bare.h"
#include "kvm_test_harness.h"
#include "kvm_util_internal.h"
#include "processor.h"
#include "x86_64/svm.h"

#define PAGE_SIZE	4096
#define LARGE_PAGE	(512UL * PAGE_SIZE)
#define NR_L2_PAGES	64
#define STACK_SIZE	4096

#define CPUID_SVM	0x4	/* of leaf 0x80000001, ecx */
#define MSR_EFER	0xc0000080
#define MSR_HSAVE_PA	0xc0010117
#define EFER_SVME	0x1000

#define PAT_AT_RESET	0x0007040600070406ULL
#define CR0_PE_ET	0x11
#define CR0_PG		0x80000000
#define CR4_PSE		0x10
#define CR4_PAE		0x20
#define CODE_ATTRIB	0xc9b
#define DATA_ATTRIB	0xc93
#define EXIT_VMMCALL	0x81

#define PTE_FLAGS	0xe7	/* present, writable, user, large, A and D */

#define page_aligned	__aligned(PAGE_SIZE)

static page_aligned struct vmcb vmcb;
static page_aligned char host_save[PAGE_SIZE];
static page_aligned char l2_stack[STACK_SIZE];
static page_aligned uint32_t tables_32_bit[1024];
static page_aligned uint64_t tables_pae[4];
static page_aligned uint64_t directories_pae[4][512];
/* L1's for its nested paging, which KVM shadows: nobody else uses them. */
static page_aligned uint32_t nested_32_bit[1024];
static page_aligned uint64_t nested_pae[4];
static page_aligned uint64_t nested_directories[4][512];
page_aligned char l2_pages[NR_L2_PAGES][PAGE_SIZE];

/* ---- guests ---- */

/* Writes to all pages, tells userspace, and returns to L1. */
static void __attribute__((naked)) l2_entry(void)
{
	asm volatile("2:	movl	$l2_pages, %ecx\n"
		     "1:	incb	(%ecx)\n"
		     "	addl	$4096, %ecx\n"
		     "	cmpl	$l2_pages + 64 * 4096, %ecx\n"
		     "	jb	1b\n"
		     "	movl	$0x1234, %edx\n"
		     "	outb	%al, %dx\n"
		     "	vmmcall\n"
		     "	jmp	2b\n");
}

static uint64_t read_msr(uint32_t msr)
{
	uint32_t low, high;

	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static void write_msr(uint32_t msr, uint64_t value)
{
	asm volatile("wrmsr" : : "a"((uint32_t)value),
		     "d"((uint32_t)(value >> 32)), "c"(msr) : "memory");
}

static void run_l2(void)
{
	asm volatile("vmload %0; vmrun %0; vmsave %0"
		     : : "a"(&vmcb) : "ebx", "ecx", "edx", "esi", "edi",
		     "memory", "cc");
}

static void l1(void)
{
	write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SVME);
	write_msr(MSR_HSAVE_PA, (uintptr_t)host_save);
	asm volatile("vmsave %0" : : "a"(&vmcb) : "memory");
	for (;;) {
		run_l2();
		vmcb.save.rip += 3;
		exit_to_host();
	}
}

/* ---- the host ---- */

static void set_segment(struct vmcb_seg *segment, uint16_t selector,
			uint16_t attrib)
{
	segment->selector = selector;
	segment->attrib = attrib;
	segment->limit = -1U;
}

static void init_vmcb(const struct kvm_sregs *sregs, uint32_t cr3, uint32_t cr4,
		      uint32_t nested_cr3)
{
	struct vmcb_save_area *save = &vmcb.save;

	memset(&vmcb, 0, sizeof(vmcb));
	vmcb.control.intercept = 1ULL << INTERCEPT_VMRUN |
				 1ULL << INTERCEPT_VMMCALL;
	vmcb.control.asid = 1;
	if (nested_cr3) {
		vmcb.control.nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
		vmcb.control.nested_cr3 = nested_cr3;
		save->g_pat = PAT_AT_RESET;
	}
	set_segment(&save->cs, sregs->cs.selector, CODE_ATTRIB);
	set_segment(&save->ds, sregs->ds.selector, DATA_ATTRIB);
	save->es = save->ds;
	save->ss = save->ds;
	save->gdtr.base = sregs->gdt.base;
	save->gdtr.limit = sregs->gdt.limit;
	save->idtr.base = sregs->idt.base;
	save->idtr.limit = sregs->idt.limit;
	save->efer = EFER_SVME;
	save->cr0 = CR0_PE_ET | (cr3 ? CR0_PG : 0);
	save->cr3 = cr3;
	save->cr4 = cr4;
	save->dr6 = 0xffff0ff0;
	save->dr7 = 0x400;
	save->rflags = 2;
	save->rip = (uintptr_t)l2_entry;
	save->rsp = (uintptr_t)l2_stack + STACK_SIZE;
}

/* Everything is where it was. */
static void build_32_bit(uint32_t tables[1024])
{
	unsigned int i;

	for (i = 0; i < 1024; i++)
		tables[i] = i << 22 | PTE_FLAGS;
}

static void build_pae(uint64_t tables[4], uint64_t directories[4][512])
{
	unsigned int i, k;

	for (i = 0; i < 4; i++) {
		tables[i] = (uintptr_t)directories[i] | 1;
		for (k = 0; k < 512; k++)
			directories[i][k] = (i * 512ULL + k) * LARGE_PAGE |
					    PTE_FLAGS;
	}
}

static void build_tables(void)
{
	build_32_bit(tables_32_bit);
	build_32_bit(nested_32_bit);
	build_pae(tables_pae, directories_pae);
	build_pae(nested_pae, nested_directories);
}

/* Offer all that KVM supports; false if nested guests are not among it. */
static bool offer_svm(struct kvm_vm *vm)
{
	const int nr = 256;
	struct kvm_cpuid2 *cpuid;
	bool svm = false;
	uint32_t i;

	cpuid = calloc(1, sizeof(*cpuid) + nr * sizeof(cpuid->entries[0]));
	TEST_ASSERT(cpuid, "out of memory");
	cpuid->nent = nr;
	TEST_ASSERT(!ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid),
		    "KVM_GET_SUPPORTED_CPUID");
	vcpu_ioctl(vm, STATS_VCPU_ID, KVM_SET_CPUID2, cpuid);
	for (i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 0x80000001)
			svm = cpuid->entries[i].ecx & CPUID_SVM;
	free(cpuid);
	return svm;
}

/*
 * Of L1, without which it may not use SVM. Its mode is also that of its nested
 * page tables.
 */
static void start_paging(struct kvm_vm *vm, struct kvm_sregs *sregs, bool pae)
{
	vcpu_ioctl(vm, STATS_VCPU_ID, KVM_GET_SREGS, sregs);
	sregs->cr3 = pae ? (uintptr_t)tables_pae : (uintptr_t)tables_32_bit;
	sregs->cr4 |= pae ? CR4_PAE : CR4_PSE;
	sregs->cr0 |= CR0_PG;
	vcpu_ioctl(vm, STATS_VCPU_ID, KVM_SET_SREGS, sregs);
}

static void log_dirty_pages(struct kvm_vm *vm)
{
	struct kvm_userspace_memory_region region = {
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
		.guest_phys_addr = BARE_GPA(BARE_LOW()),
		.memory_size = bare_memory_size(),
		.userspace_addr = (uintptr_t)BARE_LOW(),
	};

	TEST_ASSERT(!ioctl(vm_get_fd(vm), KVM_SET_USER_MEMORY_REGION, &region),
		    "KVM_SET_USER_MEMORY_REGION");
}

/* The number of dirty pages, among which L2's must be. */
static uint64_t harvest(struct kvm_vm *vm, bool written)
{
	size_t nr = bare_memory_size() / PAGE_SIZE, i, first;
	uint8_t *bitmap = calloc(nr / 64 + 1, 8);
	struct kvm_dirty_log log = { .dirty_bitmap = bitmap };
	uint64_t sum = 0;

	TEST_ASSERT(bitmap, "out of memory");
	TEST_ASSERT(!ioctl(vm_get_fd(vm), KVM_GET_DIRTY_LOG, &log),
		    "KVM_GET_DIRTY_LOG");
	first = (l2_pages[0] - BARE_LOW()) / PAGE_SIZE;
	for (i = 0; i < nr; i++) {
		bool dirty = bitmap[i / 8] & 1 << i % 8;

		sum += dirty;
		if (i >= first && i < first + NR_L2_PAGES)
			TEST_ASSERT(dirty == written, "page %zu of L2 is %s",
				    i - first, dirty ? "dirty" : "clean");
	}
	free(bitmap);
	return sum;
}

FIXTURE(mode)
{
};

FIXTURE_VARIANT(mode)
{
	void *tables;
	uint32_t cr4;
	void *nested;
};

FIXTURE_VARIANT_ADD(mode, unpaged)
{
	.tables = NULL,
};

FIXTURE_VARIANT_ADD(mode, 32_bit)
{
	.tables = tables_32_bit,
	.cr4 = CR4_PSE,
};

FIXTURE_VARIANT_ADD(mode, pae)
{
	.tables = tables_pae,
	.cr4 = CR4_PAE,
};

/*
 * L1 uses nested paging, and is itself in the mode that is named last. KVM of 5.10
 * looks at L2's CR4 where L1's would tell the format of L1's nested page tables, so
 * that L2 has to be in a mode of the same format.
 */
FIXTURE_VARIANT_ADD(mode, pae_in_nested_pae)
{
	.tables = tables_pae,
	.cr4 = CR4_PAE,
	.nested = nested_pae,
};

FIXTURE_VARIANT_ADD(mode, unpaged_in_nested_32_bit)
{
	.tables = NULL,
	.cr4 = CR4_PSE,
	.nested = nested_32_bit,
};

FIXTURE_VARIANT_ADD(mode, 32_bit_in_nested_32_bit)
{
	.tables = tables_32_bit,
	.cr4 = CR4_PSE,
	.nested = nested_32_bit,
};

FIXTURE_SETUP(mode)
{
}

FIXTURE_TEARDOWN(mode)
{
}

TEST_F(mode, runs)
{
	struct kvm_sregs sregs;
	uint64_t bits = 0;
	struct stats_file s;
	struct kvm_vm *vm;
	int round;

	build_tables();
	vm = guest_setup(&s, l1);
	if (!offer_svm(vm))
		SKIP(return, "no nested SVM");
	if (variant->nested && !stats_parameter("kvm_amd", "npt"))
		SKIP(return, "no nested paging for L1");
	start_paging(vm, &sregs, variant->nested == nested_pae);
	init_vmcb(&sregs, (uintptr_t)variant->tables, variant->cr4,
		  (uintptr_t)variant->nested);
	log_dirty_pages(vm);
	for (round = 1; round <= 5; round++) {
		/* For a CPU that marks what has no such bit as accessed. */
		build_tables();
		guest_run_once(vm);
		TEST_STAT_EQ(&s, "guest_mode", 1);
		TEST_STAT_EQ(&s, "nested_run", round);
		bits += harvest(vm, true);
		guest_run_once(vm);
		TEST_STAT_EQ(&s, "guest_mode", 0);
		TEST_ASSERT_EQ(vmcb.control.exit_code, EXIT_VMMCALL);
		bits += harvest(vm, false);
		if (stats_find(&s, "pages_dirtied"))
			TEST_STAT_EQ(&s, "pages_dirtied", bits);
	}
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_BINARY_STATS_FD)
