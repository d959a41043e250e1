// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_nested_test
 *
 * Pages that are dirtied while a vCPU runs a nested guest (L2), by that guest
 * or by KVM when it enters and leaves it, are charged to the vCPU.
 *
 * Usage: kvm_dirty_quota_nested_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "kvm_dirty_quota_util.h"
#include "processor.h"
#include "svm_util.h"
#include "vmx.h"

#define PAGE		4096UL
#define NR_PAGES	1000
/* Pages of the slot that the hypervisor's structures are put in. */
#define VMCB_PAGE	1010
#define L2_STACK_SIZE	4096

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

/* ---- L1 ---- */

static bool alternate;
static uint64_t nested_cr3;

static void l1_svm(struct svm_test_data *svm)
{
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, alternate ? l2_svm_alternate : l2_work,
			  l2_stack_top());
	if (nested_cr3) {
		vmcb->control.nested_ctl |= SVM_NESTED_CTL_NP_ENABLE;
		vmcb->control.nested_cr3 = nested_cr3;
	}
	for (;;) {
		run_guest(vmcb, svm->vmcb_gpa);
		/* Behind the vmmcall. */
		vmcb->save.rip += 3;
		work_once();
	}
}

static void l1_vmx(struct vmx_pages *vmx)
{
	int failed;

	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, alternate ? l2_vmx_alternate : l2_work,
		     l2_stack_top());
	/* Emulated CPUs may not interrupt it otherwise. */
	vmwrite(GUEST_RFLAGS, vmreadz(GUEST_RFLAGS) | 1 << 9);
	failed = vmlaunch();
	for (;;) {
		GUEST_ASSERT(!failed);
		/* Behind the vmcall. */
		vmwrite(GUEST_RIP, vmreadz(GUEST_RIP) + 3);
		work_once();
		failed = vmresume();
	}
}

/* ---- the host ---- */

struct nested_config {
	uint64_t quota;
	bool alternate;
	bool paging;		/* L1 has its own nested page tables */
	bool tables_in_slot;
	bool vmcb_in_slot;
};

static uint64_t *new_table(struct kvm_vm *vm, uint32_t slot, uint64_t *gpa)
{
	*gpa = vm_phy_page_alloc(vm, slot ? DQ_GPA : 0x10000, slot);
	return addr_gpa2hva(vm, *gpa);
}

#define NPT_FLAGS	7	/* present, writable, user */
#define NPT_LARGE	BIT(7)
#define LARGE_PAGE	(512 * PAGE)

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

	root[0] = gpa[0] | NPT_FLAGS;
	pdpt[0] = gpa[1] | NPT_FLAGS;
	pdpt[1] = gpa[2] | NPT_FLAGS;
	for (i = 0; i < 512; i++) {
		low[i] = i * LARGE_PAGE | NPT_FLAGS | NPT_LARGE;
		high[i] = (DQ_GPA + i * LARGE_PAGE) | NPT_FLAGS | NPT_LARGE;
		small[i] = (DQ_GPA + i * PAGE) | NPT_FLAGS;
	}
	high[0] = gpa[3] | NPT_FLAGS;
	return root_gpa;
}

static vm_vaddr_t setup_svm(struct dq_vm *d, const struct nested_config *config)
{
	uint32_t slot = config->tables_in_slot ? DQ_SLOT : 0;
	struct svm_test_data *svm;
	vm_vaddr_t gva;

	svm = vcpu_alloc_svm(d->vm, &gva);
	if (config->vmcb_in_slot) {
		svm->vmcb_gpa = DQ_GPA + VMCB_PAGE * PAGE;
		svm->vmcb = (void *)svm->vmcb_gpa;
		svm->save_area_gpa = svm->vmcb_gpa + PAGE;
		svm->save_area = (void *)svm->save_area_gpa;
	}
	nested_cr3 = config->paging ? build_npt(d->vm, slot) : 0;
	sync_global_to_guest(d->vm, nested_cr3);
	return gva;
}

static vm_vaddr_t setup_vmx(struct dq_vm *d, const struct nested_config *config)
{
	uint32_t slot = config->tables_in_slot ? DQ_SLOT : 0;
	struct vmx_pages *vmx;
	vm_vaddr_t gva;

	vmx = vcpu_alloc_vmx(d->vm, &gva);
	if (config->paging) {
		prepare_eptp(vmx, d->vm, slot);
		nested_map_memslot(vmx, d->vm, 0, slot);
		nested_map_memslot(vmx, d->vm, DQ_SLOT, slot);
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

	if (!svm && !nested_vmx_supported())
		stats_skip("no nested guests");
	dq_create(d, &config);
	alternate = nested->alternate;
	sync_global_to_guest(d->vm, alternate);
	gva = svm ? setup_svm(d, nested) : setup_vmx(d, nested);
	vcpu_args_set(d->vm, 0, 1, gva);
	return &d->vcpus[0];
}

static void check_in_l2(struct dq_vcpu *v)
{
	dq_check_equal("guest_mode", stats_value(&v->stats, "guest_mode"), 1);
}

/* L2 writes; harvested, and written again. */
static void check_rounds(const struct nested_config *config)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, config);
	uint64_t before, round;

	for (round = 0; round < 3; round++) {
		before = dq_count(v);
		dq_do(v, DQ_WRITE, 100 * round, NR_PAGES / 2);
		check_in_l2(v);
		dq_check_equal("pages charged", dq_count(v) - before,
			       NR_PAGES / 2);
		dq_check_equal("bits", dq_harvest(&d), NR_PAGES / 2);
		dq_check_bits(&d, 100 * round, 1, NR_PAGES / 2);
	}
	before = dq_count(v);
	dq_do(v, DQ_READ, 0, NR_PAGES);
	dq_check_equal("pages charged for reads", dq_count(v) - before,
		       dq_harvest(&d));
}

static void test_rounds(enum stats_scope scope)
{
	const struct nested_config config = {};

	check_rounds(&config);
}

static void test_rounds_paging(enum stats_scope scope)
{
	const struct nested_config config = { .paging = true };

	check_rounds(&config);
}

/* Out of L2 to userspace for the quota, and back into L2. */
static void check_quota(const struct nested_config *config)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, config);

	v->raise_by = config->quota;
	dq_tell(v, DQ_WRITE, 0, NR_PAGES);
	dq_check_equal("end of KVM_RUN", dq_run(v), DQ_FULL);
	check_in_l2(v);
	dq_run_to_end(v);
	dq_settle(v);
	check_in_l2(v);
	dq_check_equal("pages_dirtied", dq_count(v), NR_PAGES);
	dq_check_equal("exits for the quota", v->full_exits,
		       NR_PAGES / config->quota + 1);
	dq_harvest(&d);
	dq_check_bits(&d, 0, 1, NR_PAGES);
}

static void test_quota(enum stats_scope scope)
{
	const struct nested_config config = { .quota = 1 };

	check_quota(&config);
}

static void test_quota_paging(enum stats_scope scope)
{
	const struct nested_config config = { .quota = 7, .paging = true };

	check_quota(&config);
}

/*
 * L1's tables of nested pages are in the log: KVM marks them as accessed for
 * the CPU.
 */
static void test_tables(enum stats_scope scope)
{
	const struct nested_config config = {
		.quota = 1,
		.paging = true,
		.tables_in_slot = true,
	};
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, &config);
	uint64_t bits = 0, round;

	v->raise_by = 1;
	v->max_overrun = DQ_TABLE_LEVELS;
	for (round = 0; round < 3; round++) {
		dq_do(v, DQ_WRITE, 100 * round, NR_PAGES / 2);
		check_in_l2(v);
		bits += dq_harvest(&d);
		dq_check_equal("pages_dirtied", dq_count(v), bits);
	}
	STATS_CHECK(bits > 3 * NR_PAGES / 2, "no bit of a table is set");
}

/* Back and forth between L1 and L2, who take turns with the work. */
static void check_alternate(const struct nested_config *config)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, config);
	uint64_t bits = 0, round;

	v->raise_by = config->quota;
	/* KVM writes two of its pages when it leaves L2. */
	v->max_overrun = config->vmcb_in_slot ? 2 : v->max_overrun;
	for (round = 0; round < 20; round++) {
		dq_tell(v, DQ_WRITE, 10 * round, 30);
		dq_run_to_end(v);
		dq_check_equal("guest_mode",
			       stats_value(&v->stats, "guest_mode"),
			       round % 2 == 0);
		if (round % 3 == 0)
			bits += dq_harvest(&d);
	}
	dq_tell(v, DQ_IDLE, 0, 0);
	dq_run_to_end(v);
	bits += dq_harvest(&d);
	dq_check_equal("pages_dirtied", dq_count(v), bits);
}

static void test_alternate(enum stats_scope scope)
{
	const struct nested_config config = { .quota = 3, .alternate = true };

	check_alternate(&config);
}

static void test_alternate_paging(enum stats_scope scope)
{
	const struct nested_config config = {
		.quota = 3,
		.alternate = true,
		.paging = true,
	};

	check_alternate(&config);
}

/* The structure by which L1 controls L2 is in the log; KVM writes it, too. */
static void test_vmcb(enum stats_scope scope)
{
	const struct nested_config config = {
		.quota = 3,
		.alternate = true,
		.vmcb_in_slot = true,
	};

	check_alternate(&config);
}

#define PAGING	BIT(0)	/* L1 has to be offered nested paging */
#define SVM	BIT(1)	/* where L1 and KVM write the same structure */

static const struct nested_case {
	struct stats_case c;
	unsigned int needs;
} cases[] = {
	{ { "rounds",		test_rounds } },
	{ { "quota",		test_quota } },
	{ { "alternate",	test_alternate } },
	{ { "rounds_paging",	test_rounds_paging },		PAGING },
	{ { "quota_paging",	test_quota_paging },		PAGING },
	{ { "tables",		test_tables },			PAGING },
	{ { "alternate_paging",	test_alternate_paging },	PAGING },
	{ { "vmcb",		test_vmcb },			SVM },
};

/* L1 is offered what L0 uses itself. */
static unsigned int what_there_is(void)
{
	if (is_intel_cpu())
		return dq_parameter("kvm_intel", "ept") ? PAGING : 0;
	return dq_parameter("kvm_amd", "npt") ? PAGING | SVM : SVM;
}

int main(int argc, char *argv[])
{
	struct stats_case possible[ARRAY_SIZE(cases)];
	unsigned int have = what_there_is();
	size_t i, nr = 0;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		if (!(cases[i].needs & ~have))
			possible[nr++] = cases[i].c;
	return dq_run_cases(possible, nr, argc, argv);
}
