// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_exit_reasons_test
 *
 * The histogram of exits by reason: each exit of a guest is in the bucket of its
 * reason, and all buckets together are what is counted as exits.
 *
 * Usage: kvm_exit_reasons_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "kvm_stats_guest.h"
#include "kvm_test_harness.h"
#ifdef __x86_64__
#include "processor.h"
#endif

#define NR_ROUNDS	50

/* What exits of the guests of kvm_stats_guest.h are counted as. */
struct reasons {
	const char *name;
	uint32_t buckets;
	int exit, halt;
	int mmio[3];		/* one of these */
	int cpuid, msr;
	int cr8_write, invalid;	/* 0: not known here */
};

static const struct reasons known[] = {
#if defined(__x86_64__) || defined(__i386__)
	/* I/O, HLT; EPT misconfiguration, EPT violation, exception; CPUID, RDMSR */
	{ "exit_reasons_vmx", 80, 30, 12, { 49, 48, 0 }, 10, 31 },
	/* IOIO, HLT; NPF, #PF; CPUID, MSR; CR8, INVALID: see stats-fd.rst */
	{ "exit_reasons_svm", 80, 48, 45, { 71, 18, 18 }, 39, 49, 8, 75 },
#elif defined(__aarch64__)
	/* Data aborts from a lower exception level, WFI. */
	{ "exit_reasons_arm64", 68, 0x24, 0x01, { 0x24, 0x24, 0x24 } },
#endif
};

/* The one that this machine has. */
static const struct reasons *find_reasons(const struct stats_file *s)
{
	const struct reasons *found = NULL;
	int i, nr = 0;

	for (i = 0; i < ARRAY_SIZE(known); i++)
		if (stats_find(s, known[i].name)) {
			found = &known[i];
			nr++;
		}
	TEST_ASSERT(nr == 1, "%d histograms of exits", nr);
	return found;
}

static uint64_t count(const struct stats_file *s, int bucket)
{
	const struct kvm_stats_desc *desc = stats_need(s,
						       find_reasons(s)->name);
	uint64_t value, *values = calloc(desc->size, sizeof(*values));

	stats_read(s, desc, values);
	value = values[bucket];
	free(values);
	return value;
}

/* While the vCPU does not run. */
static void check_sum(const struct stats_file *s)
{
	const char *name = find_reasons(s)->name;
	uint64_t sum = stats_sum(s, name), exits = stats_value(s, "exits");

	TEST_ASSERT(sum == exits, "%s has %llu, exits is %llu", name,
		    (unsigned long long)sum, (unsigned long long)exits);
}

TEST(described)
{
	const struct kvm_stats_desc *desc;
	const struct reasons *reasons;
	struct stats_file s;

	stats_setup(&s, STATS_VCPU);
	reasons = find_reasons(&s);
	desc = stats_need(&s, reasons->name);
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_EXIT_REASONS), 1);
	TEST_ASSERT_EQ(desc->flags, KVM_STATS_TYPE_LINEAR_HIST |
				    KVM_STATS_UNIT_NONE |
				    KVM_STATS_BASE_POW10);
	TEST_ASSERT_EQ(desc->bucket_size, 1);
	TEST_ASSERT_EQ(desc->size, reasons->buckets);
	TEST_ASSERT_EQ(stats_sum(&s, reasons->name), 0);
#ifdef __x86_64__
	TEST_ASSERT(!strcmp(reasons->name, is_intel_cpu() ? "exit_reasons_vmx" :
							     "exit_reasons_svm"),
		    "this machine has %s", reasons->name);
#endif
}

/* An exit at a time, all of one kind. */
static void check_exits(void *guest, bool mmio)
{
	const struct reasons *reasons;
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest);
	uint64_t before;
	int i, bucket;

	reasons = find_reasons(&s);
	bucket = reasons->exit;
	/* The first access to a device is an EPT violation, the next ones are not. */
	guest_run_once(vm);
	guest_run_once(vm);
	for (i = 0; mmio && i < ARRAY_SIZE(reasons->mmio); i++)
		if (count(&s, reasons->mmio[i])) {
			bucket = reasons->mmio[i];
			break;
		}
	before = count(&s, bucket);
	TEST_ASSERT(before, "the first exit is not in bucket %d", bucket);
	for (i = 1; i <= NR_ROUNDS; i++) {
		guest_run_once(vm);
		TEST_ASSERT_EQ(count(&s, bucket), before + i);
		check_sum(&s);
	}
}

TEST(exits)
{
	check_exits(guest_exit_loop, false);
}

TEST(mmio_exits)
{
	check_exits(guest_mmio_loop, true);
}

/* The vCPU sleeps in KVM_RUN, and has counted what was before. */
TEST(halts)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_halt_loop);
	int i, bucket = find_reasons(&s)->halt;

	runner_start(vm);
	for (i = 1; i <= NR_ROUNDS; i++) {
		runner_wait_sleep();
		TEST_ASSERT_EQ(count(&s, bucket), i);
		check_sum(&s);
		raise_event(vm);
		runner_wait_round(i);
	}
}

#ifdef __x86_64__

#define NR_CPUIDS	7
#define NR_MSRS		5

static void guest_mixture(void)
{
	uint32_t eax, ecx;
	int i;

	for (;;) {
		for (i = 0; i < NR_CPUIDS; i++) {
			eax = 0;
			ecx = 0;
			asm volatile("cpuid" : "+a"(eax), "+c"(ecx) : :
				     "ebx", "edx");
		}
		for (i = 0; i < NR_MSRS; i++)
			rdmsr(MSR_IA32_MISC_ENABLE);
		guest_exit();
	}
}

static void check_mixture(struct kvm_vm *vm, const struct stats_file *s)
{
	const struct reasons *reasons = find_reasons(s);
	uint64_t exits, cpuids, msrs;
	int i;

	guest_run_once(vm);
	check_sum(s);
	exits = count(s, reasons->exit);
	cpuids = count(s, reasons->cpuid);
	msrs = count(s, reasons->msr);
	for (i = 1; i <= NR_ROUNDS; i++) {
		guest_run_once(vm);
		TEST_ASSERT_EQ(count(s, reasons->exit), exits + i);
		TEST_ASSERT_EQ(count(s, reasons->cpuid), cpuids + i * NR_CPUIDS);
		TEST_ASSERT_EQ(count(s, reasons->msr), msrs + i * NR_MSRS);
	}
	check_sum(s);
}

TEST(mixture)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_mixture);

	check_mixture(vm, &s);
}

/*
 * To look through the filter for an MSR is no exit, whether or not one of its
 * ranges has the MSR.
 */
TEST(msr_filter)
{
	uint8_t bitmap[8] = { 0 }, allowed[8] = { 1 };
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
	};
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_mixture);
	int i;

	for (i = 0; i < 3; i++)
		filter.ranges[i] = (struct kvm_msr_filter_range){
			.flags = KVM_MSR_FILTER_READ,
			.nmsrs = 1,
			.base = 0x40001000 + i,
			.bitmap = bitmap,
		};
	vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
	check_mixture(vm, &s);

	filter.ranges[3] = (struct kvm_msr_filter_range){
		.flags = KVM_MSR_FILTER_READ,
		.nmsrs = 1,
		.base = MSR_IA32_MISC_ENABLE,
		.bitmap = allowed,
	};
	vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
	check_mixture(vm, &s);
}

#define CR8_BLOCK_ALL	15UL
#define VECTOR		0x31
#define APIC_SPIV	0xf0
#define APIC_SPIV_ENABLED	0x100
#define MSI_ADDRESS	0xfee00000

static void guest_block_interrupts(void)
{
	for (;;) {
		asm volatile("mov %0, %%cr8" : : "r"(CR8_BLOCK_ALL));
		guest_exit();
	}
}

static void enable_apic(struct kvm_vm *vm)
{
	struct kvm_lapic_state lapic;

	vcpu_ioctl(vm, STATS_VCPU_ID, KVM_GET_LAPIC, &lapic);
	*(uint32_t *)(lapic.regs + APIC_SPIV) |= APIC_SPIV_ENABLED;
	vcpu_ioctl(vm, STATS_VCPU_ID, KVM_SET_LAPIC, &lapic);
}

/* While an interrupt waits, KVM has to know when the guest lets it in. */
TEST(cr8_writes)
{
	struct kvm_msi msi = {
		.address_lo = MSI_ADDRESS | STATS_VCPU_ID << 12,
		.data = VECTOR,
	};
	const struct reasons *reasons;
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_block_interrupts);
	uint64_t before;
	int i;

	reasons = find_reasons(&s);
	if (!reasons->cr8_write)
		SKIP(return, "VMX has a threshold instead");
	enable_apic(vm);
	guest_run_once(vm);
	TEST_ASSERT(ioctl(vm_get_fd(vm), KVM_SIGNAL_MSI, &msi) > 0,
		    "KVM_SIGNAL_MSI");
	guest_run_once(vm);
	before = count(&s, reasons->cr8_write);
	for (i = 1; i <= NR_ROUNDS; i++) {
		guest_run_once(vm);
		TEST_ASSERT_EQ(count(&s, reasons->cr8_write), before + i);
		check_sum(&s);
	}
}

#define CR0_NW		0x20000000UL

/* The processor refuses the state that is to be entered. */
TEST(invalid_state)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_DISABLE_QUIRKS,
		.args[0] = KVM_X86_QUIRK_CD_NW_CLEARED,
	};
	const struct reasons *reasons;
	struct kvm_sregs sregs;
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_exit_loop);

	reasons = find_reasons(&s);
	if (!reasons->invalid)
		SKIP(return, "VMX allows the state that SVM refuses");
	vm_enable_cap(vm, &cap);
	guest_run_once(vm);
	TEST_ASSERT_EQ(count(&s, reasons->invalid), 0);
	vcpu_sregs_get(vm, STATS_VCPU_ID, &sregs);
	sregs.cr0 |= CR0_NW;
	vcpu_sregs_set(vm, STATS_VCPU_ID, &sregs);
	TEST_ASSERT(!_vcpu_run(vm, STATS_VCPU_ID) &&
		    vcpu_state(vm, STATS_VCPU_ID)->exit_reason ==
			KVM_EXIT_FAIL_ENTRY, "not writing through, but caching");
	TEST_ASSERT_EQ(count(&s, reasons->invalid), 1);
	check_sum(&s);
}

#endif /* __x86_64__ */

KVM_TEST_HARNESS_MAIN(KVM_CAP_EXIT_REASONS)
