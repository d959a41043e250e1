// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_nested_test
 *
 * Pages that are dirtied while a vCPU runs a nested guest (L2), by that guest,
 * whatever mode it is in, or by KVM in place of the CPU of the guest's
 * hypervisor (L1), are charged to the vCPU.
 *
 * Usage: kvm_dirty_quota_nested_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "kvm_dirty_quota_util.h"
#include "kvm_test_harness.h"
#include "processor.h"
#include "svm_util.h"
#include "vmx.h"

#define PAGE		4096UL
#define LARGE_PAGE	(512 * PAGE)
#define NR_PAGES	1000
#define L2_STACK_SIZE	4096
#define PORT		0x1234

/* Pages of the slot, behind those that are written, for structures of L1. */
#define VMCB_PAGE	1010	/* and the next one for the state of L1 */
#define VMCS_PAGE	1012
#define SHADOW_VMCS_PAGE 1013
#define PML_PAGE	1014
#define VAPIC_PAGE	1015
#define SLOT_GPA(page)	(DQ_GPA + (page) * PAGE)

#define PT_FLAGS	7	/* present, writable, user */
#define PT_ACCESSED	BIT(5)
#define PT_DIRTY	BIT(6)
#define PT_LARGE	BIT(7)

#define EFER_LME_LMA	(BIT(8) | BIT(10))

enum l2_mode {
	L2_64_BIT,
	L2_UNPAGED,
	L2_32_BIT,
	L2_PAE,
};

/* What L1 is to do; the host writes it. */
static struct {
	bool alternate;		/* L2 returns to L1 after each piece of work */
	enum l2_mode mode;
	uint64_t l2_code;	/* of an L2 that is not in 64-bit mode */
	uint64_t l2_cr3;
	uint64_t l2_pdptrs[4];
	uint64_t nested_cr3;	/* SVM: L1's tables of nested pages, or 0 */
	/* VMX: each of them is 0 if L1 does not use it. */
	uint64_t pml;
	uint64_t vapic;
	bool shadow_vmcs;
	bool clear_vmcs;	/* have KVM write the VMCS to memory each time */
} l1;

static uint8_t l2_stack[L2_STACK_SIZE] __aligned(16);

/* As if it had been called. */
static void *l2_stack_top(void)
{
	return &l2_stack[L2_STACK_SIZE - 8];
}

/* ---- L2 ---- */

/* Straight to userspace, never to L1. */
static void l2_work(void)
{
	dq_guest_work(0);
}

static void work_once(void)
{
	dq_guest_do_work(dq_guest_my_work(0));
	dq_guest_done();
}

static void l2_svm_alternate(void)
{
	for (;;) {
		work_once();
		asm volatile("vmmcall" : : : "memory");
	}
}

static void l2_vmx_alternate(void)
{
	for (;;) {
		work_once();
		vmcall();
	}
}

#define NR_L2_PAGES	200

/* In 32-bit mode: writes to the pages, tells userspace, and returns to L1. */
static const uint8_t l2_32_bit_code[] = {
	0xb9, NR_L2_PAGES, 0x00, 0x00, 0x00,		/* mov ecx */
	0xbb, 0x00, 0x00, 0x00, DQ_GPA >> 24,		/* mov ebx */
	0x89, 0x03,					/* mov [ebx], eax */
	0x81, 0xc3, 0x00, 0x10, 0x00, 0x00,		/* add ebx, 0x1000 */
	0x49,						/* dec ecx */
	0x75, 0xf5,					/* jnz to mov [ebx] */
	0xba, PORT & 0xff, PORT >> 8, 0x00, 0x00,	/* mov edx */
	0xef,						/* out dx, eax */
	0x0f, 0x01, 0xd9,				/* vmmcall */
	0xeb, 0xe0,					/* jmp to the start */
};

#define VMMCALL_OFFSET	27
#define VMCALL_BYTE	0xc1	/* Intel's, in place of the 0xd9 */

/* ---- L1 ---- */

static void set_svm_mode(struct vmcb *vmcb)
{
	if (l1.mode == L2_64_BIT)
		return;
	vmcb->save.rip = l1.l2_code;
	vmcb->save.cs.attrib = 0xb | SVM_SELECTOR_S_MASK | SVM_SELECTOR_P_MASK |
			       SVM_SELECTOR_DB_MASK | SVM_SELECTOR_G_MASK;
	vmcb->save.efer &= ~EFER_LME_LMA;
	vmcb->save.cr0 = X86_CR0_PE | X86_CR0_ET;
	vmcb->save.cr3 = l1.l2_cr3;
	vmcb->save.cr4 = 0;
	if (l1.mode != L2_UNPAGED)
		vmcb->save.cr0 |= X86_CR0_PG;
	if (l1.mode == L2_32_BIT)
		vmcb->save.cr4 |= X86_CR4_PSE;
	if (l1.mode == L2_PAE)
		vmcb->save.cr4 |= X86_CR4_PAE;
}

static void l1_svm(struct svm_test_data *svm)
{
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, l1.alternate ? l2_svm_alternate : l2_work,
			  l2_stack_top());
	set_svm_mode(vmcb);
	if (l1.nested_cr3) {
		vmcb->control.nested_ctl |= SVM_NESTED_CTL_NP_ENABLE;
		vmcb->control.nested_cr3 = l1.nested_cr3;
	}
	for (;;) {
		run_guest(vmcb, svm->vmcb_gpa);
		GUEST_ASSERT_1(vmcb->control.exit_code == SVM_EXIT_VMMCALL,
			       vmcb->control.exit_code);
		vmcb->save.rip += 3;
		work_once();
	}
}

static void add_secondary_controls(uint32_t bits)
{
	vmwrite(SECONDARY_VM_EXEC_CONTROL,
		vmreadz(SECONDARY_VM_EXEC_CONTROL) | bits);
}

static void set_vmx_mode(void)
{
	uint64_t cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE, cr4 = X86_CR4_VMXE;
	int i;

	if (l1.mode == L2_64_BIT)
		return;
	vmwrite(GUEST_RIP, l1.l2_code);
	vmwrite(GUEST_CS_AR_BYTES, 0xc09b);
	vmwrite(VM_ENTRY_CONTROLS,
		vmreadz(VM_ENTRY_CONTROLS) & ~VM_ENTRY_IA32E_MODE);
	if (l1.mode == L2_UNPAGED)
		add_secondary_controls(SECONDARY_EXEC_UNRESTRICTED_GUEST);
	else
		cr0 |= X86_CR0_PG;
	if (l1.mode == L2_32_BIT)
		cr4 |= X86_CR4_PSE;
	if (l1.mode == L2_PAE)
		cr4 |= X86_CR4_PAE;
	vmwrite(GUEST_CR0, cr0);
	vmwrite(GUEST_CR3, l1.l2_cr3);
	vmwrite(GUEST_CR4, cr4);
	for (i = 0; i < 4; i++)
		vmwrite(GUEST_PDPTR0 + 2 * i, l1.l2_pdptrs[i]);
}

static void set_vmx_structures(struct vmx_pages *vmx)
{
	if (l1.pml) {
		add_secondary_controls(SECONDARY_EXEC_ENABLE_PML);
		vmwrite(PML_ADDRESS, l1.pml);
		vmwrite(GUEST_PML_INDEX, 511);
	}
	if (l1.vapic) {
		vmwrite(CPU_BASED_VM_EXEC_CONTROL,
			vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
			CPU_BASED_TPR_SHADOW);
		vmwrite(VIRTUAL_APIC_PAGE_ADDR, l1.vapic);
	}
	if (l1.shadow_vmcs) {
		add_secondary_controls(SECONDARY_EXEC_SHADOW_VMCS);
		vmwrite(VMCS_LINK_POINTER, vmx->shadow_vmcs_gpa);
	}
}

static void l1_vmx(struct vmx_pages *vmx)
{
	int failed;

	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l1.alternate ? l2_vmx_alternate : l2_work,
		     l2_stack_top());
	/* Emulated CPUs may not interrupt it otherwise. */
	vmwrite(GUEST_RFLAGS, vmreadz(GUEST_RFLAGS) | 1 << 9);
	set_vmx_mode();
	set_vmx_structures(vmx);
	failed = vmlaunch();
	for (;;) {
		GUEST_ASSERT(!failed);
		GUEST_ASSERT_1(vmreadz(VM_EXIT_REASON) == EXIT_REASON_VMCALL,
			       vmreadz(VM_EXIT_REASON));
		vmwrite(GUEST_RIP, vmreadz(GUEST_RIP) + 3);
		if (l1.clear_vmcs) {
			GUEST_ASSERT(!vmclear(vmx->vmcs_gpa));
			GUEST_ASSERT(!vmptrld(vmx->vmcs_gpa));
		}
		work_once();
		failed = l1.clear_vmcs ? vmlaunch() : vmresume();
	}
}

/* ---- the host ---- */

/* L1 is offered what L0 uses itself. */
static bool have_nested_paging(void)
{
	return is_intel_cpu() ? stats_parameter("kvm_intel", "ept") :
				stats_parameter("kvm_amd", "npt");
}

static bool have_nested(void)
{
	return nested_svm_supported() || nested_vmx_supported();
}

#define NO_NESTED	"no nested guests"
#define NO_PAGING	"no nested paging for L1"
#define NO_SVM		"no nested SVM"
#define NO_VMX		"no nested VMX"

struct nested_config {
	uint64_t quota;
	enum l2_mode mode;
	bool alternate;
	bool paging;		/* L1 has its own nested page tables */
	bool tables_in_slot;	/* these */
	bool in_slot;		/* structures of L1 that KVM writes to */
	bool pml;
	bool vapic;
	bool shadow_vmcs;
};

static uint64_t *new_table(struct kvm_vm *vm, uint32_t slot, uint64_t *gpa)
{
	*gpa = vm_phy_page_alloc(vm, slot ? DQ_GPA : 0x10000, slot);
	return addr_gpa2hva(vm, *gpa);
}

/*
 * Everything at the address where it is anyway: large pages but for the first
 * half of the test pages.
 */
static uint64_t build_npt(struct kvm_vm *vm, uint32_t slot)
{
	uint64_t root_gpa, gpa[4], i;
	uint64_t *root = new_table(vm, slot, &root_gpa);
	uint64_t *pdpt = new_table(vm, slot, &gpa[0]);
	uint64_t *low = new_table(vm, slot, &gpa[1]);
	uint64_t *high = new_table(vm, slot, &gpa[2]);
	uint64_t *small = new_table(vm, slot, &gpa[3]);

	root[0] = gpa[0] | PT_FLAGS;
	pdpt[0] = gpa[1] | PT_FLAGS;
	pdpt[1] = gpa[2] | PT_FLAGS;
	for (i = 0; i < 512; i++) {
		low[i] = i * LARGE_PAGE | PT_FLAGS | PT_LARGE;
		high[i] = (DQ_GPA + i * LARGE_PAGE) | PT_FLAGS | PT_LARGE;
		small[i] = (DQ_GPA + i * PAGE) | PT_FLAGS;
	}
	high[0] = gpa[3] | PT_FLAGS;
	return root_gpa;
}

/* 4 MiB for each entry, from 0 on. */
static uint64_t build_32_bit_tables(struct kvm_vm *vm)
{
	uint64_t gpa;
	uint32_t *root = (uint32_t *)new_table(vm, 0, &gpa);
	uint32_t i;

	for (i = 0; i < 1024; i++)
		root[i] = i << 22 | PT_FLAGS | PT_LARGE | PT_ACCESSED |
			  PT_DIRTY;
	return gpa;
}

/* The first 2 GiB. */
static uint64_t build_pae_tables(struct kvm_vm *vm)
{
	uint64_t gpa, dir_gpa, i, k;
	uint64_t *root = new_table(vm, 0, &gpa), *dir;

	for (i = 0; i < 2; i++) {
		dir = new_table(vm, 0, &dir_gpa);
		root[i] = dir_gpa | 1;
		l1.l2_pdptrs[i] = root[i];
		for (k = 0; k < 512; k++)
			dir[k] = (i * 512 + k) * LARGE_PAGE | PT_FLAGS |
				 PT_LARGE | PT_ACCESSED | PT_DIRTY;
	}
	return gpa;
}

static void setup_l2(struct kvm_vm *vm, enum l2_mode mode)
{
	uint8_t *code;

	l1.mode = mode;
	if (mode == L2_64_BIT)
		return;
	code = (uint8_t *)new_table(vm, 0, &l1.l2_code);
	memcpy(code, l2_32_bit_code, sizeof(l2_32_bit_code));
	if (!nested_svm_supported())
		code[VMMCALL_OFFSET + 2] = VMCALL_BYTE;
	if (mode == L2_32_BIT)
		l1.l2_cr3 = build_32_bit_tables(vm);
	if (mode == L2_PAE)
		l1.l2_cr3 = build_pae_tables(vm);
}

static vm_vaddr_t setup_svm(struct dq_vm *d, const struct nested_config *config)
{
	uint32_t slot = config->tables_in_slot ? DQ_SLOT : 0;
	struct svm_test_data *svm;
	vm_vaddr_t gva;

	svm = vcpu_alloc_svm(d->vm, &gva);
	if (config->in_slot) {
		svm->vmcb_gpa = SLOT_GPA(VMCB_PAGE);
		svm->vmcb = (void *)svm->vmcb_gpa;
		svm->save_area_gpa = svm->vmcb_gpa + PAGE;
		svm->save_area = (void *)svm->save_area_gpa;
	}
	if (config->paging)
		l1.nested_cr3 = build_npt(d->vm, slot);
	return gva;
}

#define EPT_DIRTY	BIT(9)

/* The library says that all pages have been written; L1's log wants new ones. */
static void clear_ept_dirty(struct kvm_vm *vm, uint64_t *table, uint64_t page)
{
	uint64_t gpa = SLOT_GPA(page);
	int shift;

	for (shift = 39; shift > 12; shift -= 9)
		table = addr_gpa2hva(vm, table[gpa >> shift & 511] &
				     0xffffffffff000UL);
	table[gpa >> 12 & 511] &= ~EPT_DIRTY;
}

static vm_vaddr_t setup_vmx(struct dq_vm *d, const struct nested_config *config)
{
	uint32_t slot = config->tables_in_slot ? DQ_SLOT : 0;
	struct vmx_pages *vmx;
	vm_vaddr_t gva;
	uint64_t page;

	vmx = vcpu_alloc_vmx(d->vm, &gva);
	if (config->in_slot) {
		l1.clear_vmcs = true;
		vmx->vmcs_gpa = SLOT_GPA(VMCS_PAGE);
		vmx->vmcs = (void *)vmx->vmcs_gpa;
	}
	if (config->shadow_vmcs) {
		l1.shadow_vmcs = true;
		vmx->shadow_vmcs_gpa = SLOT_GPA(SHADOW_VMCS_PAGE);
		vmx->shadow_vmcs = (void *)vmx->shadow_vmcs_gpa;
	}
	if (config->vapic)
		l1.vapic = SLOT_GPA(VAPIC_PAGE);
	if (config->pml)
		l1.pml = SLOT_GPA(PML_PAGE);
	if (config->paging) {
		prepare_eptp(vmx, d->vm, slot);
		nested_map_memslot(vmx, d->vm, 0, slot);
		nested_map_memslot(vmx, d->vm, DQ_SLOT, slot);
		for (page = 0; config->pml && page < NR_PAGES; page++)
			clear_ept_dirty(d->vm, vmx->eptp_hva, page);
	}
	return gva;
}

static struct dq_vcpu *setup(struct dq_vm *d,
			     const struct nested_config *nested)
{
	bool svm = nested_svm_supported();
	struct dq_config config = {
		.enable = true,
		.quota = nested->quota,
		.tables_in_slot = nested->tables_in_slot,
		.guest = svm ? (void *)l1_svm : (void *)l1_vmx,
	};
	vm_vaddr_t gva;

	dq_create(d, &config);
	l1.alternate = nested->alternate;
	setup_l2(d->vm, nested->mode);
	gva = svm ? setup_svm(d, nested) : setup_vmx(d, nested);
	sync_global_to_guest(d->vm, l1);
	vcpu_args_set(d->vm, 0, 1, gva);
	d->vcpus[0].raise_by = nested->quota;
	return &d->vcpus[0];
}

/* ---- L2 in 64-bit mode, with and without nested page tables of L1 ---- */

FIXTURE(l2)
{
};

FIXTURE_VARIANT(l2)
{
	bool paging;
};

FIXTURE_VARIANT_ADD(l2, no_paging)
{
	.paging = false,
};

FIXTURE_VARIANT_ADD(l2, paging)
{
	.paging = true,
};

FIXTURE_SETUP(l2)
{
}

FIXTURE_TEARDOWN(l2)
{
}

/* Written, harvested, and written again. */
TEST_F(l2, rounds)
{
	const struct nested_config config = { .paging = variant->paging };
	uint64_t before, round;
	struct dq_vcpu *v;
	struct dq_vm d;

	if (!have_nested())
		SKIP(return, NO_NESTED);
	if (variant->paging && !have_nested_paging())
		SKIP(return, NO_PAGING);
	v = setup(&d, &config);
	for (round = 0; round < 3; round++) {
		before = dq_count(v);
		dq_do(v, DQ_WRITE, 100 * round, NR_PAGES / 2);
		TEST_STAT_EQ(&v->stats, "guest_mode", 1);
		dq_check_charged(&d, before, NR_PAGES / 2);
		dq_check_bits(&d, 100 * round, 1, NR_PAGES / 2);
	}
	before = dq_count(v);
	dq_do(v, DQ_READ, 0, NR_PAGES);
	TEST_ASSERT_EQ(dq_count(v) - before, dq_harvest(&d));
}

/* Out of L2 to userspace for the quota, and back into L2. */
TEST_F(l2, quota)
{
	const struct nested_config config = {
		.quota = variant->paging ? 7 : 1,
		.paging = variant->paging,
	};
	struct dq_vcpu *v;
	struct dq_vm d;

	if (!have_nested())
		SKIP(return, NO_NESTED);
	if (variant->paging && !have_nested_paging())
		SKIP(return, NO_PAGING);
	v = setup(&d, &config);
	dq_tell(v, DQ_WRITE, 0, NR_PAGES);
	TEST_ASSERT_EQ(dq_run(v), DQ_FULL);
	TEST_STAT_EQ(&v->stats, "guest_mode", 1);
	dq_run_to_end(v);
	dq_settle(v);
	TEST_STAT_EQ(&v->stats, "guest_mode", 1);
	TEST_ASSERT_EQ(v->full_exits, NR_PAGES / config.quota + 1);
	dq_check_charged(&d, 0, NR_PAGES);
	dq_check_bits(&d, 0, 1, NR_PAGES);
}

/*
 * Back and forth between L1 and L2, who take turns with the work.  Returns the
 * number of bits in the log.
 */
static uint64_t check_alternate(struct dq_vm *d, struct dq_vcpu *v)
{
	uint64_t bits = 0, round;

	for (round = 0; round < 20; round++) {
		dq_tell(v, DQ_WRITE, 10 * round, 30);
		dq_run_to_end(v);
		TEST_STAT_EQ(&v->stats, "guest_mode", round % 2 == 0);
		if (round % 3 == 0)
			bits += dq_harvest(d);
	}
	dq_tell(v, DQ_IDLE, 0, 0);
	dq_run_to_end(v);
	bits += dq_harvest(d);
	TEST_ASSERT_EQ(dq_count(v), bits);
	return bits;
}

TEST_F(l2, alternate)
{
	const struct nested_config config = {
		.quota = 3,
		.alternate = true,
		.paging = variant->paging,
	};
	struct dq_vm d;

	if (!have_nested())
		SKIP(return, NO_NESTED);
	if (variant->paging && !have_nested_paging())
		SKIP(return, NO_PAGING);
	check_alternate(&d, setup(&d, &config));
}

/*
 * L1's tables of nested pages are in the log: KVM marks them as accessed for
 * the CPU.
 */
TEST(tables)
{
	const struct nested_config config = {
		.quota = 1,
		.paging = true,
		.tables_in_slot = true,
	};
	uint64_t bits = 0, round;
	struct dq_vcpu *v;
	struct dq_vm d;

	if (!have_nested())
		SKIP(return, NO_NESTED);
	if (!have_nested_paging())
		SKIP(return, NO_PAGING);
	v = setup(&d, &config);
	v->max_overrun = DQ_TABLE_LEVELS;
	for (round = 0; round < 3; round++) {
		dq_do(v, DQ_WRITE, 100 * round, NR_PAGES / 2);
		TEST_STAT_EQ(&v->stats, "guest_mode", 1);
		bits += dq_harvest(&d);
		TEST_ASSERT_EQ(dq_count(v), bits);
	}
	TEST_ASSERT(bits > 3 * NR_PAGES / 2, "no bit of a table is set");
}

/* ---- what KVM writes because L1's CPU would ---- */

/* With SVM, KVM writes two pages when it leaves L2: the VMCB and its own state. */
TEST(vmcb)
{
	const struct nested_config config = {
		.quota = 3,
		.alternate = true,
		.in_slot = true,
	};
	struct dq_vcpu *v;
	struct dq_vm d;

	if (!nested_svm_supported())
		SKIP(return, NO_SVM);
	v = setup(&d, &config);
	v->max_overrun = 2;
	check_alternate(&d, v);
}

static bool have_secondary_control(struct dq_vm *d, uint32_t bit)
{
	return vcpu_get_msr(d->vm, 0, MSR_IA32_VMX_PROCBASED_CTLS2) >> 32 & bit;
}

/*
 * One of L1's pages is written by KVM between any two harvests; what all of them
 * are charged is in the log.
 */
static void check_written(struct dq_vm *d, struct dq_vcpu *v, uint64_t page)
{
	uint64_t bits = 0, round;

	v->max_overrun = 3;
	for (round = 0; round < 10; round++) {
		/* L2's turn, and then L1's, with nothing more to do. */
		dq_tell(v, DQ_WRITE, 50 * round, 40);
		dq_run_to_end(v);
		TEST_STAT_EQ(&v->stats, "guest_mode", 1);
		dq_tell(v, DQ_IDLE, 0, 0);
		dq_run_to_end(v);
		TEST_STAT_EQ(&v->stats, "guest_mode", 0);
		bits += dq_harvest(d);
		TEST_ASSERT(dq_bit(d, page), "round %llu: page %llu is clean",
			    (unsigned long long)round,
			    (unsigned long long)page);
		TEST_ASSERT_EQ(dq_count(v), bits);
	}
}

TEST(vmcs)
{
	const struct nested_config config = {
		.quota = 3,
		.alternate = true,
		.in_slot = true,
	};
	struct dq_vcpu *v;
	struct dq_vm d;

	if (!nested_vmx_supported())
		SKIP(return, NO_VMX);
	v = setup(&d, &config);
	check_written(&d, v, VMCS_PAGE);
}

TEST(shadow_vmcs)
{
	const struct nested_config config = {
		.quota = 3,
		.alternate = true,
		.shadow_vmcs = true,
	};
	struct dq_vcpu *v;
	struct dq_vm d;

	if (!nested_vmx_supported())
		SKIP(return, NO_VMX);
	v = setup(&d, &config);
	if (!have_secondary_control(&d, SECONDARY_EXEC_SHADOW_VMCS))
		SKIP(return, "no shadow VMCS for L1");
	check_written(&d, v, SHADOW_VMCS_PAGE);
}

TEST(virtual_apic)
{
	const struct nested_config config = {
		.quota = 3,
		.alternate = true,
		.vapic = true,
	};
	struct dq_vcpu *v;
	struct dq_vm d;

	if (!nested_vmx_supported())
		SKIP(return, NO_VMX);
	v = setup(&d, &config);
	if (!(vcpu_get_msr(d.vm, 0, MSR_IA32_VMX_TRUE_PROCBASED_CTLS) >> 32 &
	      CPU_BASED_TPR_SHADOW))
		SKIP(return, "no TPR shadow for L1");
	check_written(&d, v, VAPIC_PAGE);
}

/* Of the pages that L2 has written, in this order, from the end on. */
static void check_log_of_l1(struct dq_vm *d, uint64_t nr)
{
	uint64_t *log = addr_gpa2hva(d->vm, SLOT_GPA(PML_PAGE)), i;

	for (i = 0; i < nr; i++)
		TEST_ASSERT_EQ(log[511 - i], SLOT_GPA(i));
}

/* L1 has its CPU log the pages that L2 dirties, which KVM does in its place. */
TEST(pml_of_l1)
{
	const struct nested_config config = {
		.quota = 3,
		.alternate = true,
		.paging = true,
		.pml = true,
	};
	uint64_t bits = 0, round;
	struct dq_vcpu *v;
	struct dq_vm d;

	if (!nested_vmx_supported())
		SKIP(return, NO_VMX);
	if (!have_nested_paging())
		SKIP(return, NO_PAGING);
	v = setup(&d, &config);
	if (!have_secondary_control(&d, SECONDARY_EXEC_ENABLE_PML))
		SKIP(return, "no page-modification logging for L1");
	v->max_overrun = 3;
	for (round = 0; round < 8; round++) {
		dq_tell(v, DQ_WRITE, 50 * round, 50);
		dq_run_to_end(v);
		TEST_STAT_EQ(&v->stats, "guest_mode", 1);
		dq_tell(v, DQ_IDLE, 0, 0);
		dq_run_to_end(v);
		bits += dq_harvest(&d);
		TEST_ASSERT(dq_bit(&d, PML_PAGE), "L1's log is clean");
		TEST_ASSERT_EQ(dq_bits(&d), 50 + 1);
		TEST_ASSERT_EQ(dq_count(v), bits);
	}
	check_log_of_l1(&d, 8 * 50);
}

/* ---- L2 in other modes, which KVM's own page tables have to follow ---- */

FIXTURE(mode)
{
};

FIXTURE_VARIANT(mode)
{
	enum l2_mode mode;
	bool paging;
};

FIXTURE_VARIANT_ADD(mode, unpaged)
{
	.mode = L2_UNPAGED,
};

FIXTURE_VARIANT_ADD(mode, 32_bit)
{
	.mode = L2_32_BIT,
};

FIXTURE_VARIANT_ADD(mode, pae)
{
	.mode = L2_PAE,
};

FIXTURE_VARIANT_ADD(mode, unpaged_nested_paging)
{
	.mode = L2_UNPAGED,
	.paging = true,
};

FIXTURE_VARIANT_ADD(mode, 32_bit_nested_paging)
{
	.mode = L2_32_BIT,
	.paging = true,
};

FIXTURE_VARIANT_ADD(mode, pae_nested_paging)
{
	.mode = L2_PAE,
	.paging = true,
};

FIXTURE_SETUP(mode)
{
}

FIXTURE_TEARDOWN(mode)
{
}

/* With VMX, only an unrestricted guest runs unpaged, which takes EPT. */
static bool can_run(struct dq_vm *d, enum l2_mode mode, bool paging)
{
	if (mode != L2_UNPAGED || nested_svm_supported())
		return true;
	return paging &&
	       have_secondary_control(d, SECONDARY_EXEC_UNRESTRICTED_GUEST);
}

TEST_F(mode, runs)
{
	const struct nested_config config = {
		.quota = 7,
		.mode = variant->mode,
		.paging = variant->paging,
	};
	struct dq_vcpu *v;
	uint64_t round;
	struct dq_vm d;

	if (!have_nested())
		SKIP(return, NO_NESTED);
	if (variant->paging && !have_nested_paging())
		SKIP(return, NO_PAGING);
	v = setup(&d, &config);
	if (!can_run(&d, variant->mode, variant->paging))
		SKIP(return, "no unpaged L2 with VMX here");
	for (round = 0; round < 3; round++) {
		dq_run_to_end(v);
		TEST_STAT_EQ(&v->stats, "guest_mode", 1);
		/* And on to L1. */
		dq_run_to_end(v);
		TEST_STAT_EQ(&v->stats, "guest_mode", 0);
		TEST_STAT_EQ(&v->stats, "nested_run", round + 1);
		dq_check_charged(&d, round * NR_L2_PAGES, NR_L2_PAGES);
		dq_check_bits(&d, 0, 1, NR_L2_PAGES);
		/* Some emulated CPU marks what has no such bit as accessed. */
		if (variant->mode == L2_PAE)
			memcpy(addr_gpa2hva(d.vm, l1.l2_cr3), l1.l2_pdptrs,
			       sizeof(l1.l2_pdptrs));
	}
	TEST_ASSERT_EQ(v->full_exits, 3 * NR_L2_PAGES / config.quota);
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_DIRTY_QUOTA)
