// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guests that do known work, and what runs and wakes them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <linux/bits.h>
#include <linux/compiler.h>

#include "kvm_stats_guest.h"
#include "processor.h"

/* Guest physical = virtual address that no memory is behind. */
#define MMIO_GPA	0x40000000UL

static uint64_t ticks;
static uint64_t halt_wanted;

static void mmio_store(void)
{
	WRITE_ONCE(*(uint64_t *)MMIO_GPA, 1);
}

#if defined(__x86_64__)

#define IO_PORT		0x1234
#define NMI_VECTOR	2
#define RFLAGS_IF	0x200
#define MSI_ADDRESS	0xfee00000
#define MSI_DATA_NMI	(4 << 8)

static void exit_to_host(void)
{
	asm volatile("outb %%al, %%dx" : : "a"(0), "d"(IO_PORT));
}

static void wait_for_event(void)
{
	asm volatile("sti; hlt" : : : "memory");
}

static void handle_nmi(struct ex_regs *regs)
{
}

void guest_enable_interrupts(struct kvm_vm *vm, uint32_t vcpu_id)
{
	struct kvm_regs regs;

	vcpu_regs_get(vm, vcpu_id, &regs);
	regs.rflags |= RFLAGS_IF;
	vcpu_regs_set(vm, vcpu_id, &regs);
}

static void init_events(struct kvm_vm *vm)
{
	struct kvm_lapic_state lapic;

	guest_enable_interrupts(vm, STATS_VCPU_ID);
	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(vm, STATS_VCPU_ID);
	vm_handle_exception(vm, NMI_VECTOR, handle_nmi);
	/* A new vCPU cannot be addressed before its APIC has been written. */
	vcpu_ioctl(vm, STATS_VCPU_ID, KVM_GET_LAPIC, &lapic);
	vcpu_ioctl(vm, STATS_VCPU_ID, KVM_SET_LAPIC, &lapic);
}

/* An interrupt that needs neither a programmed APIC nor an EOI. */
void raise_event(struct kvm_vm *vm)
{
	struct kvm_msi msi = {
		.address_lo = MSI_ADDRESS | STATS_VCPU_ID << 12,
		.data = MSI_DATA_NMI,
	};
	int ret = ioctl(vm_get_fd(vm), KVM_SIGNAL_MSI, &msi);

	TEST_ASSERT(ret > 0, "KVM_SIGNAL_MSI returned %d", ret);
}

void lower_event(struct kvm_vm *vm)
{
}

#elif defined(__aarch64__)

static void exit_to_host(void)
{
	mmio_store();
}

#define ISR_EL1_I	BIT(7)

/*
 * WFI need neither wait nor be trapped if an interrupt is pending, be it one of
 * the host's.
 */
static void wait_for_event(void)
{
	uint64_t pending;

	do
		asm volatile("wfi\n\tmrs %0, isr_el1" : "=r"(pending) : :
			     "memory");
	while (!(pending & ISR_EL1_I));
}

static void init_events(struct kvm_vm *vm)
{
}

/* The vCPU's interrupt line: wakes it even while it masks interrupts. */
static void set_line(struct kvm_vm *vm, bool level)
{
	struct kvm_irq_level irq = {
		.irq = KVM_ARM_IRQ_TYPE_CPU << KVM_ARM_IRQ_TYPE_SHIFT |
		       KVM_ARM_IRQ_CPU_IRQ,
		.level = level,
	};

	TEST_ASSERT(!ioctl(vm_get_fd(vm), KVM_IRQ_LINE, &irq), "KVM_IRQ_LINE");
}

void raise_event(struct kvm_vm *vm)
{
	set_line(vm, true);
}

void lower_event(struct kvm_vm *vm)
{
	set_line(vm, false);
}

#endif

void guest_exit(void)
{
	exit_to_host();
}

void guest_exit_loop(void)
{
	for (;;)
		exit_to_host();
}

void guest_mmio_loop(void)
{
	for (;;)
		mmio_store();
}

void guest_halt_loop(void)
{
	for (;;) {
		wait_for_event();
		exit_to_host();
	}
}

void guest_spin_loop(void)
{
	for (;;) {
		WRITE_ONCE(ticks, ticks + 1);
		if (READ_ONCE(halt_wanted)) {
			WRITE_ONCE(halt_wanted, 0);
			wait_for_event();
		}
	}
}

struct kvm_vm *guest_setup_pages(struct stats_file *s, void *guest,
				 uint64_t nr_tables)
{
	/* The library calculates with two tables for 512 pages. */
	struct kvm_vm *vm = vm_create_default(STATS_VCPU_ID,
					      nr_tables * 256, guest);

	virt_pg_map(vm, MMIO_GPA, MMIO_GPA, 0);
	init_events(vm);
	stats_open(s, stats_get_fd(stats_vcpu_fd(vm, STATS_VCPU_ID)));
	return vm;
}

struct kvm_vm *guest_setup(struct stats_file *s, void *guest)
{
	return guest_setup_pages(s, guest, 0);
}

void guest_run_once(struct kvm_vm *vm)
{
	struct kvm_run *run = vcpu_state(vm, STATS_VCPU_ID);
	int ret = _vcpu_run(vm, STATS_VCPU_ID);

	TEST_ASSERT(!ret, "KVM_RUN");
	TEST_ASSERT(run->exit_reason == KVM_EXIT_IO ||
		    run->exit_reason == KVM_EXIT_MMIO,
		    "KVM_RUN: exit reason %u (%s)", run->exit_reason,
		    exit_reason_str(run->exit_reason));
}

uint64_t guest_ticks(struct kvm_vm *vm)
{
	uint64_t *p = addr_gva2hva(vm, (vm_vaddr_t)&ticks);

	return READ_ONCE(*p);
}

void guest_want_halt(struct kvm_vm *vm)
{
	uint64_t *p = addr_gva2hva(vm, (vm_vaddr_t)&halt_wanted);

	WRITE_ONCE(*p, 1);
	STATS_WAIT(!READ_ONCE(*p), "for the guest to halt");
}

/* The one vCPU that runs in a thread; written by that thread only. */
static struct {
	struct kvm_vm *vm;
	pid_t tid;
	unsigned int rounds;
	unsigned int interrupted;
} runner;

static void *run_vcpu(void *arg)
{
	int ret, fd = stats_vcpu_fd(runner.vm, STATS_VCPU_ID);

	WRITE_ONCE(runner.tid, syscall(SYS_gettid));
	for (;;) {
		/* The library would not let signals be seen. */
		ret = ioctl(fd, KVM_RUN, NULL);
		if (ret && errno == EINTR) {
			WRITE_ONCE(runner.interrupted, runner.interrupted + 1);
			continue;
		}
		TEST_ASSERT(!ret, "KVM_RUN");
		lower_event(runner.vm);
		WRITE_ONCE(runner.rounds, runner.rounds + 1);
	}
	return NULL;
}

pthread_t runner_start(struct kvm_vm *vm)
{
	pthread_t thread;

	runner.vm = vm;
	TEST_ASSERT(!pthread_create(&thread, NULL, run_vcpu, NULL),
		    "pthread_create");
	STATS_WAIT(READ_ONCE(runner.tid), "for the vCPU's thread");
	return thread;
}

unsigned int runner_rounds(void)
{
	return READ_ONCE(runner.rounds);
}

unsigned int runner_interrupted(void)
{
	return READ_ONCE(runner.interrupted);
}

void runner_wait_round(unsigned int round)
{
	STATS_WAIT(runner_rounds() >= round, "for round %u of the guest",
		   round);
}

void runner_wait_ticks(void)
{
	uint64_t start = guest_ticks(runner.vm);

	STATS_WAIT(guest_ticks(runner.vm) != start, "for the guest to run");
}

static void runner_file(const char *name, const char *format, char *word)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", runner.tid, name);
	f = fopen(path, "r");
	TEST_ASSERT(f, "%s", path);
	TEST_ASSERT(fscanf(f, format, word) == 1, "%s", path);
	fclose(f);
}

/*
 * A thread that is about to sleep is in state S already, and may find that it
 * need not; "syscall" says "running" until the thread has left the CPU.
 */
static bool runner_sleeps(void)
{
	char state[2], call[16];

	runner_file("stat", "%*d (%*[^)]) %1s", state);
	runner_file("syscall", "%15s", call);
	return *state == 'S' && strcmp(call, "running");
}

void runner_wait_sleep(void)
{
	STATS_WAIT(runner_sleeps(), "for the vCPU to sleep after %u rounds",
		   runner_rounds());
}
