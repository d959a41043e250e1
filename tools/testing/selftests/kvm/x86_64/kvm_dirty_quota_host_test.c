// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_host_test
 *
 * Pages that the hypervisor of x86 itself writes are in the dirty log, and are
 * nobody's charge.
 *
 * Usage: kvm_dirty_quota_host_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <asm/kvm_para.h>

#include "kvm_dirty_quota_util.h"
#include "processor.h"

#define PAGE		4096UL
#define HOST_PAGE	200
#define HOST_GPA	(DQ_GPA + HOST_PAGE * PAGE)
#define NR_PAGES	100

static void require_feature(unsigned int bit)
{
	struct kvm_cpuid_entry2 *e;

	e = kvm_get_supported_cpuid_entry(KVM_CPUID_FEATURES);
	if (!(e->eax & 1U << bit))
		stats_skip("no paravirtual feature %u", bit);
}

/* The quota is one page more than the guest uses. */
static struct dq_vcpu *setup(struct dq_vm *d, void *guest)
{
	struct dq_config config = {
		.enable = true,
		.quota = NR_PAGES + 1,
		.guest = guest,
	};

	dq_create(d, &config);
	return &d->vcpus[0];
}

static void check_host_page(struct dq_vm *d, uint64_t charged)
{
	dq_harvest(d);
	dq_check_bits(d, HOST_PAGE, 1, 1);
	dq_check_equal("pages_dirtied", dq_count_all(d), charged);
}

/* By an ioctl() of userspace, for a vCPU that does not run. */
static void test_wall_clock_ioctl(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, NULL);

	require_feature(KVM_FEATURE_CLOCKSOURCE2);
	vcpu_set_msr(d.vm, 0, MSR_KVM_WALL_CLOCK_NEW, HOST_GPA);
	check_host_page(&d, 0);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_check_equal("bits", dq_harvest(&d), NR_PAGES);
	vcpu_set_msr(d.vm, 0, MSR_KVM_WALL_CLOCK_NEW, HOST_GPA);
	check_host_page(&d, NR_PAGES);
}

static void guest_wall_clock(uint64_t nr)
{
	for (;;) {
		wrmsr(MSR_KVM_WALL_CLOCK_NEW, HOST_GPA);
		dq_guest_do_work(dq_guest_my_work(nr));
		dq_guest_done();
	}
}

/* At the guest's request, but with the host's hand. */
static void test_wall_clock_guest(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, guest_wall_clock);

	require_feature(KVM_FEATURE_CLOCKSOURCE2);
	dq_do(v, DQ_IDLE, 0, 0);
	check_host_page(&d, 0);
	dq_do(v, DQ_WRITE, HOST_PAGE, 1);
	dq_check_equal("pages_dirtied", dq_count(v), 0);
}

/* The page is written in each KVM_RUN, whatever the guest does. */
static void check_written_in_run(uint32_t msr)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, NULL);

	vcpu_set_msr(d.vm, 0, msr, HOST_GPA | 1);
	dq_do(v, DQ_IDLE, 0, 0);
	check_host_page(&d, 0);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_harvest(&d);
	dq_check_equal("pages_dirtied", dq_count(v), NR_PAGES);
	dq_check_equal("exits for the quota", v->full_exits, 0);
}

static void test_steal_time(enum stats_scope scope)
{
	require_feature(KVM_FEATURE_STEAL_TIME);
	check_written_in_run(MSR_KVM_STEAL_TIME);
}

static void test_pvclock(enum stats_scope scope)
{
	require_feature(KVM_FEATURE_CLOCKSOURCE2);
	check_written_in_run(MSR_KVM_SYSTEM_TIME_NEW);
}

/* ---- interfaces of other hypervisors ---- */

#define HV_GUEST_OS_ID		0x40000000
#define HV_HYPERCALL		0x40000001
#define HV_REFERENCE_TSC	0x40000021
#define HV_VP_ASSIST_PAGE	0x40000073
#define HV_SCONTROL		0x40000080
#define HV_SIMP			0x40000083
#define HV_STIMER0_CONFIG	0x400000b0
#define HV_STIMER0_COUNT	0x400000b1
#define HV_STIMER_ENABLE	1
#define HV_STIMER_SINT(n)	((n) << 16)
/* Not used by anything else. */
#define XEN_MSR			0x40000200

static uint32_t guest_msr;

static void guest_wrmsr(uint64_t nr)
{
	wrmsr(HV_GUEST_OS_ID, 1);
	for (;;) {
		wrmsr(guest_msr, HOST_GPA | (guest_msr == XEN_MSR ? 0 : 1));
		dq_guest_do_work(dq_guest_my_work(nr));
		dq_guest_done();
	}
}

static void check_page_of_msr(uint32_t msr, const struct kvm_xen_hvm_config *xen)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, guest_wrmsr);

	if (xen)
		STATS_CHECK(!ioctl(vm_get_fd(d.vm), KVM_XEN_HVM_CONFIG, xen),
			    "KVM_XEN_HVM_CONFIG: %s", strerror(errno));
	guest_msr = msr;
	sync_global_to_guest(d.vm, guest_msr);
	dq_do(v, DQ_IDLE, 0, 0);
	check_host_page(&d, 0);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_check_equal("pages_dirtied", dq_count(v), NR_PAGES);
	dq_check_equal("exits for the quota", v->full_exits, 0);
}

static void test_hyperv_hypercall(enum stats_scope scope)
{
	check_page_of_msr(HV_HYPERCALL, NULL);
}

static void test_hyperv_tsc(enum stats_scope scope)
{
	check_page_of_msr(HV_REFERENCE_TSC, NULL);
}

static void test_hyperv_assist(enum stats_scope scope)
{
	check_page_of_msr(HV_VP_ASSIST_PAGE, NULL);
}

/* A timer that is over writes a message.  Its interrupt is masked from reset on. */
static void test_hyperv_timer(enum stats_scope scope)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_HYPERV_SYNIC2 };
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, NULL);

	vcpu_enable_cap(d.vm, 0, &cap);
	vcpu_set_msr(d.vm, 0, HV_SCONTROL, 1);
	vcpu_set_msr(d.vm, 0, HV_SIMP, HOST_GPA | 1);
	vcpu_set_msr(d.vm, 0, HV_STIMER0_COUNT, 1);
	vcpu_set_msr(d.vm, 0, HV_STIMER0_CONFIG,
		     HV_STIMER_ENABLE | HV_STIMER_SINT(2));
	dq_do(v, DQ_IDLE, 0, 0);
	check_host_page(&d, 0);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_check_equal("pages_dirtied", dq_count(v), NR_PAGES);
	dq_check_equal("exits for the quota", v->full_exits, 0);
}

static void test_xen_hypercall(enum stats_scope scope)
{
	static uint8_t blob[PAGE];
	struct kvm_xen_hvm_config xen = {
		.msr = XEN_MSR,
		.blob_addr_32 = (uint64_t)blob,
		.blob_addr_64 = (uint64_t)blob,
		.blob_size_32 = 1,
		.blob_size_64 = 1,
	};

	check_page_of_msr(XEN_MSR, &xen);
}

static const struct stats_case cases[] = {
	{ "wall_clock_ioctl",	test_wall_clock_ioctl },
	{ "wall_clock_guest",	test_wall_clock_guest },
	{ "steal_time",		test_steal_time },
	{ "pvclock",		test_pvclock },
	{ "hyperv_hypercall",	test_hyperv_hypercall },
	{ "hyperv_tsc",		test_hyperv_tsc },
	{ "hyperv_assist",	test_hyperv_assist },
	{ "hyperv_timer",	test_hyperv_timer },
	{ "xen_hypercall",	test_xen_hypercall },
};

int main(int argc, char *argv[])
{
	return dq_run_cases(cases, ARRAY_SIZE(cases), argc, argv);
}
