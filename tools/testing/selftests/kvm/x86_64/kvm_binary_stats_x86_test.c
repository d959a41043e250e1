// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_binary_stats_x86_test
 *
 * Statistics which only x86 has, and callers which only x86 has.
 *
 * Usage: kvm_binary_stats_x86_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <linux/kvm_para.h>

#include "kvm_stats_guest.h"
#include "processor.h"
#include "svm_util.h"
#include "vmx.h"

#define NR_ROUNDS	50
#define L2_STACK_SIZE	64
#define IO_PORT		0x1234
#define YIELD_TO_ID	(STATS_VCPU_ID + 1)

/* System call numbers of 32-bit programs. */
#define NR_IOCTL_IA32	54
#define NR_PREAD64_IA32	180

struct known_stat {
	const char *name;
	uint32_t flags;
};

#define COUNTER	(KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE)
#define INSTANT	(KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_NONE)
#define PEAK	(KVM_STATS_TYPE_PEAK | KVM_STATS_UNIT_NONE)
#define BOOLEAN	(KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BOOLEAN)

static const struct known_stat vm_known[] = {
	{ "mmu_shadow_zapped",		COUNTER },
	{ "mmu_pte_write",		COUNTER },
	{ "mmu_pde_zapped",		COUNTER },
	{ "mmu_flooded",		COUNTER },
	{ "mmu_recycled",		COUNTER },
	{ "mmu_cache_miss",		COUNTER },
	{ "mmu_unsync",			INSTANT },
	{ "pages_4k",			INSTANT },
	{ "pages_2m",			INSTANT },
	{ "pages_1g",			INSTANT },
	{ "nx_lpage_splits",		INSTANT },
	{ "max_mmu_rmap_size",		PEAK },
	{ "max_mmu_page_hash_collisions", PEAK },
};

static const struct known_stat vcpu_known[] = {
	{ "pf_taken",			COUNTER },
	{ "pf_fixed",			COUNTER },
	{ "pf_emulate",			COUNTER },
	{ "pf_spurious",		COUNTER },
	{ "pf_fast",			COUNTER },
	{ "pf_mmio_spte_created",	COUNTER },
	{ "pf_guest",			COUNTER },
	{ "tlb_flush",			COUNTER },
	{ "invlpg",			COUNTER },
	{ "exits",			COUNTER },
	{ "io_exits",			COUNTER },
	{ "mmio_exits",			COUNTER },
	{ "signal_exits",		COUNTER },
	{ "irq_window_exits",		COUNTER },
	{ "nmi_window_exits",		COUNTER },
	{ "l1d_flush",			COUNTER },
	{ "halt_exits",			COUNTER },
	{ "request_irq_exits",		COUNTER },
	{ "irq_exits",			COUNTER },
	{ "host_state_reload",		COUNTER },
	{ "fpu_reload",			COUNTER },
	{ "insn_emulation",		COUNTER },
	{ "insn_emulation_fail",	COUNTER },
	{ "hypercalls",			COUNTER },
	{ "irq_injections",		COUNTER },
	{ "nmi_injections",		COUNTER },
	{ "req_event",			COUNTER },
	{ "nested_run",			COUNTER },
	{ "directed_yield_attempted",	COUNTER },
	{ "directed_yield_successful",	COUNTER },
	{ "guest_mode",			BOOLEAN },
};

static void check_known(const struct stats_file *s, const struct known_stat *k)
{
	const struct kvm_stats_desc *d = stats_need(s, k->name);

	STATS_CHECK(d->flags == k->flags && !d->exponent && d->size == 1,
		    "%s: flags %#x, exponent %d, size %u; expected %#x, 0, 1",
		    k->name, d->flags, d->exponent, d->size, k->flags);
}

static void test_known(enum stats_scope scope)
{
	const struct known_stat *k = scope == STATS_VM ? vm_known : vcpu_known;
	size_t nr = scope == STATS_VM ? ARRAY_SIZE(vm_known) :
					ARRAY_SIZE(vcpu_known);
	struct stats_file s;
	size_t i;

	stats_setup(&s, scope);
	for (i = 0; i < nr; i++)
		check_known(&s, &k[i]);
}

/* A store that KVM has to emulate is a fault, an emulation, and an exit. */
static void test_emulation(enum stats_scope scope)
{
	uint64_t emulated, failed;
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_mmio_loop);
	int i;

	guest_run_once(vm);
	check_grown_at_least("pf_taken", 0, stats_value(&s, "pf_taken"), 1);
	check_grown_at_least("pf_fixed", 0, stats_value(&s, "pf_fixed"), 1);
	check_grown_at_least("pf_emulate", 0, stats_value(&s, "pf_emulate"), 1);
	emulated = stats_value(&s, "insn_emulation");
	failed = stats_value(&s, "insn_emulation_fail");
	for (i = 1; i <= NR_ROUNDS; i++) {
		guest_run_once(vm);
		check_grown_at_least("insn_emulation", emulated,
				     stats_value(&s, "insn_emulation"), i);
	}
	check_grown("insn_emulation_fail", failed,
		    stats_value(&s, "insn_emulation_fail"), 0);
}

/*
 * Every event is one NMI, which is injected again if the guest faults meanwhile;
 * there is no other interrupt.
 */
static void test_nmi_injections(enum stats_scope scope)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_halt_loop);
	unsigned int i;

	runner_start(vm);
	for (i = 1; i <= NR_ROUNDS; i++) {
		runner_wait_halt(&s);
		raise_event(vm);
		runner_wait_round(i);
		check_grown_at_least("nmi_injections", 0,
				     stats_value(&s, "nmi_injections"), i);
	}
	check_grown("irq_injections", 0, stats_value(&s, "irq_injections"), 0);
}

/* Neither offered nor known to any hypervisor. */
#define NO_HYPERCALL	12345

static void guest_hypercall_loop(bool intel, unsigned long nr, unsigned long arg)
{
	unsigned long ret;

	for (;;) {
		ret = nr;
		if (intel)
			asm volatile("vmcall" : "+a"(ret) : "b"(arg) : "memory");
		else
			asm volatile("vmmcall" : "+a"(ret) : "b"(arg) : "memory");
		asm volatile("outb %%al, %%dx" : : "a"(0), "d"(IO_PORT));
	}
}

static void test_hypercalls(enum stats_scope scope)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_hypercall_loop);
	int i;

	vcpu_args_set(vm, STATS_VCPU_ID, 3, (uint64_t)is_intel_cpu(),
		      (uint64_t)NO_HYPERCALL, (uint64_t)0);
	for (i = 1; i <= NR_ROUNDS; i++) {
		guest_run_once(vm);
		check_grown("hypercalls", 0, stats_value(&s, "hypercalls"), i);
	}
}

/* Whoever runs on the first CPU has preempted the others that want to. */
static void use_first_cpu(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	STATS_CHECK(!sched_setaffinity(0, sizeof(cpus), &cpus),
		    "sched_setaffinity: %s", strerror(errno));
}

static void *spin_on_first_cpu(void *vm)
{
	use_first_cpu();
	for (;;)
		ioctl(stats_vcpu_fd(vm, YIELD_TO_ID), KVM_RUN, NULL);
	return NULL;
}

/* A vCPU that wants to run, and that a yield can be directed to. */
static void start_yield_target(struct kvm_vm *vm)
{
	struct kvm_lapic_state lapic;
	pthread_t thread;

	vm_vcpu_add_default(vm, YIELD_TO_ID, guest_spin_loop);
	guest_enable_interrupts(vm, YIELD_TO_ID);
	vcpu_ioctl(vm, YIELD_TO_ID, KVM_GET_LAPIC, &lapic);
	vcpu_ioctl(vm, YIELD_TO_ID, KVM_SET_LAPIC, &lapic);
	STATS_CHECK(!pthread_create(&thread, NULL, spin_on_first_cpu, vm),
		    "pthread_create");
}

static void setup_yields(struct stats_file *s, struct kvm_vm **vm, int to)
{
	*vm = guest_setup(s, guest_hypercall_loop);
	vcpu_args_set(*vm, STATS_VCPU_ID, 3, (uint64_t)is_intel_cpu(),
		      (uint64_t)KVM_HC_SCHED_YIELD, (uint64_t)to);
}

/* To itself, which runs: asked for, but there is nothing to gain. */
static void test_yield_to_itself(enum stats_scope scope)
{
	struct stats_file s;
	struct kvm_vm *vm;
	int i;

	setup_yields(&s, &vm, STATS_VCPU_ID);
	for (i = 1; i <= NR_ROUNDS; i++) {
		guest_run_once(vm);
		check_grown("directed_yield_attempted", 0,
			    stats_value(&s, "directed_yield_attempted"), i);
	}
	check_grown("directed_yield_successful", 0,
		    stats_value(&s, "directed_yield_successful"), 0);
}

/* To a vCPU that waits for the CPU that this one runs on. */
static void test_yield(enum stats_scope scope)
{
	uint64_t attempted, successful;
	struct stats_file s;
	struct kvm_vm *vm;

	setup_yields(&s, &vm, YIELD_TO_ID);
	use_first_cpu();
	start_yield_target(vm);
	stats_doing("waiting for a yield that succeeds");
	do {
		guest_run_once(vm);
		attempted = stats_value(&s, "directed_yield_attempted");
		successful = stats_value(&s, "directed_yield_successful");
	} while (!successful);
	STATS_CHECK(successful <= attempted, "%llu of %llu yields succeeded",
		    (unsigned long long)successful,
		    (unsigned long long)attempted);
}

static uint64_t mapped_pages(const struct stats_file *s)
{
	return stats_value(s, "pages_4k") + stats_value(s, "pages_2m") +
	       stats_value(s, "pages_1g");
}

/* What is mapped for a guest is counted, and taken back with its memory. */
static void test_mapped_pages(enum stats_scope scope)
{
	struct stats_file vcpu_stats, s;
	struct kvm_vm *vm = guest_setup(&vcpu_stats, guest_exit_loop);

	stats_open(&s, stats_get_fd(vm_get_fd(vm)));
	check_grown("mapped pages", 0, mapped_pages(&s), 0);
	guest_run_once(vm);
	check_grown_at_least("mapped pages", 0, mapped_pages(&s), 1);
	vm_mem_region_delete(vm, 0);
	check_grown("mapped pages", 0, mapped_pages(&s), 0);
	check_grown("mmu_unsync", 0, stats_value(&s, "mmu_unsync"), 0);
}

/* To userspace, without a way through L1. */
static void exit_to_host(void)
{
	asm volatile("outb %%al, %%dx" : : "a"(0), "d"(IO_PORT) : "memory");
}

static void l2_svm(void)
{
	for (;;) {
		exit_to_host();
		asm volatile("vmmcall" : : : "memory");
	}
}

static void l1_svm(struct svm_test_data *svm)
{
	unsigned long l2_stack[L2_STACK_SIZE];
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, l2_svm, &l2_stack[L2_STACK_SIZE]);
	for (;;) {
		run_guest(vmcb, svm->vmcb_gpa);
		/* Behind the vmmcall that has left L2. */
		vmcb->save.rip += 3;
		exit_to_host();
	}
}

static void l2_vmx(void)
{
	for (;;) {
		exit_to_host();
		vmcall();
	}
}

static void l1_vmx(struct vmx_pages *vmx)
{
	unsigned long l2_stack[L2_STACK_SIZE];
	int failed;

	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2_vmx, &l2_stack[L2_STACK_SIZE]);
	for (failed = vmlaunch(); !failed; failed = vmresume()) {
		/* Behind the vmcall. */
		vmwrite(GUEST_RIP, vmreadz(GUEST_RIP) + 3);
		exit_to_host();
	}
	GUEST_ASSERT(!failed);
}

/* Exits to userspace alternate between L2 and L1. */
static void test_nested(enum stats_scope scope)
{
	bool svm = nested_svm_supported();
	struct stats_file s;
	struct kvm_vm *vm;
	vm_vaddr_t gva;
	int i;

	if (!svm && !nested_vmx_supported())
		stats_skip("no nested guests");
	vm = guest_setup(&s, svm ? (void *)l1_svm : (void *)l1_vmx);
	vcpu_set_cpuid(vm, STATS_VCPU_ID, kvm_get_supported_cpuid());
	if (svm)
		vcpu_alloc_svm(vm, &gva);
	else
		vcpu_alloc_vmx(vm, &gva);
	vcpu_args_set(vm, STATS_VCPU_ID, 1, gva);
	check_grown("guest_mode", 0, stats_value(&s, "guest_mode"), 0);
	for (i = 1; i <= 20; i++) {
		guest_run_once(vm);
		check_grown("nested_run", 0, stats_value(&s, "nested_run"), i);
		check_grown("guest_mode", 0, stats_value(&s, "guest_mode"), 1);
		guest_run_once(vm);
		check_grown("guest_mode", 1, stats_value(&s, "guest_mode"), -1);
	}
}

static int ia32_syscall(int nr, int a, int b, int c, int d, int e)
{
	long ret;

	asm volatile("int $0x80" : "=a"(ret)
		     : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
		     : "r8", "r9", "r10", "r11", "memory");
	return ret;
}

static void no_ia32(int sig)
{
	stats_skip("no system calls of 32-bit programs");
}

/* The way of a 32-bit program into the kernel, which 64-bit ones have too. */
static void test_ia32_caller(enum stats_scope scope)
{
	int fd, got, owner_fd = stats_owner_fd(stats_create_vm(), scope);
	struct stats_file s;
	uint8_t *buf;

	signal(SIGSEGV, no_ia32);
	fd = ia32_syscall(NR_IOCTL_IA32, owner_fd, KVM_GET_STATS_FD, 0, 0, 0);
	STATS_CHECK(fd >= 0, "KVM_GET_STATS_FD: %s", strerror(-fd));
	stats_open(&s, fd);
	stats_check_id(&s, getpid(), scope == STATS_VM ? -1 : STATS_VCPU_ID);
	buf = mmap(NULL, s.size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	STATS_CHECK(buf != MAP_FAILED, "mmap: %s", strerror(errno));
	got = ia32_syscall(NR_PREAD64_IA32, fd, (long)buf, s.size, 0, 0);
	STATS_CHECK(got == s.size, "pread returned %d of %zu", got, s.size);
	STATS_CHECK(!memcmp(buf, s.image, s.header.data_offset),
		    "pread differs from that of a 64-bit program");
}

static const struct stats_case cases[] = {
	{ "known",		test_known,		STATS_BOTH },
	{ "emulation",		test_emulation },
	{ "nmi_injections",	test_nmi_injections },
	{ "hypercalls",		test_hypercalls },
	{ "yield_to_itself",	test_yield_to_itself },
	{ "yield",		test_yield },
	{ "mapped_pages",	test_mapped_pages },
	{ "nested",		test_nested },
	{ "ia32_caller",	test_ia32_caller,	STATS_BOTH },
};

int main(int argc, char *argv[])
{
	return stats_run_cases(cases, ARRAY_SIZE(cases), argv[1]);
}
