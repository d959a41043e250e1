// SPDX-License-Identifier: GPL-2.0-only
/*
 * What guests of 32-bit x86 do, and what it is counted as.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/compiler.h>
#include <string.h>

#include "bare.h"
#include "kvm_test_harness.h"
#include "processor.h"

#define NO_MEMORY	0x40000000UL
#define PAGE_SIZE	4096
#define NR_FRESH_PAGES	256
#define NO_HYPERCALL	12345
#define SVM_LEAF	0x8000000a
#define SVM_NRIPS	8

static char fresh_pages[NR_FRESH_PAGES][PAGE_SIZE] __aligned(PAGE_SIZE);

static void in_loop(void)
{
	uint8_t value;

	for (;;)
		asm volatile("inb %%dx, %%al" : "=a"(value) : "d"(IO_PORT));
}

/* KVM has to decode this one. */
static void outs_loop(void)
{
	static char byte;
	const char *from;

	for (;;) {
		from = &byte;
		asm volatile("outsb" : "+S"(from) : "d"(IO_PORT));
	}
}

static void store_loop(void)
{
	for (;;)
		WRITE_ONCE(*(uint32_t *)NO_MEMORY, 1);
}

static void load_loop(void)
{
	for (;;)
		READ_ONCE(*(uint32_t *)NO_MEMORY);
}

/* None that any hypervisor knows. */
static void hypercall_loop(void)
{
	unsigned long nr;

	for (;;) {
		nr = NO_HYPERCALL;
		asm volatile("vmmcall" : "+a"(nr) : : "memory");
		exit_to_host();
	}
}

static void cpuid_loop(void)
{
	unsigned int a, b, c, d;

	for (;;) {
		a = 0;
		c = 0;
		asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
		exit_to_host();
	}
}

static void fresh_page_loop(void)
{
	char *page = fresh_pages[0];

	for (;; page += PAGE_SIZE) {
		WRITE_ONCE(*page, 2);
		exit_to_host();
	}
}

static void check_work(void *guest, unsigned int exit_reason,
		       const struct bare_move *moves)
{
	/* Interrupts of the host. */
	static const char *const noise[] = { "irq_exits", NULL };
	/* At the end of each KVM_RUN, and when the host runs something else. */
	static const char *const unsteady[] = {
		"host_state_reload", "preemption_reported", "preemption_other",
		NULL
	};
	struct bare_work work = {
		.guest = guest,
		.exit_reason = exit_reason,
		.moves = moves,
		.noise = noise,
		.sum = "exits",
		.unsteady = unsteady,
	};

	bare_check_work(&work);
}

#define WORK(name, guest, reason, ...)					\
	static const struct bare_move name##_moves[] = { __VA_ARGS__, {} }; \
									\
	TEST(name)							\
	{								\
		check_work(guest, reason, name##_moves);			\
	}

#define EXIT	{ "exits", 1 }
#define EXIT_2	{ "exits", 2 }
/* At the end of each KVM_RUN. */
#define FPU	{ "fpu_reload", 1 }
#define IO	{ "io_exits", 1 }
#define MMIO	{ "mmio_exits", 1 }
#define DECODED	{ "insn_emulation", 1 }

WORK(out, guest_exit_loop, KVM_EXIT_IO, EXIT, FPU, IO)
WORK(in, in_loop, KVM_EXIT_IO, EXIT, FPU, IO)
WORK(outs, outs_loop, KVM_EXIT_IO, EXIT, FPU, IO, DECODED)
WORK(store, store_loop, KVM_EXIT_MMIO, EXIT, FPU, MMIO, DECODED)
WORK(load, load_loop, KVM_EXIT_MMIO, EXIT, FPU, MMIO, DECODED)

/* An AMD CPU that does not tell where the next instruction is: KVM decodes. */
static unsigned int decoded_to_skip(void)
{
	unsigned int a, b, c, features;

	__cpuid(SVM_LEAF, a, b, c, features);
	return features & SVM_NRIPS ? 0 : 1;
}

TEST(hypercall)
{
	const struct bare_move moves[] = {
		EXIT_2, FPU, IO, { "hypercalls", 1 },
		{ "insn_emulation", decoded_to_skip() }, {}
	};

	check_work(hypercall_loop, KVM_EXIT_IO, moves);
}

TEST(cpuid)
{
	const struct bare_move moves[] = {
		EXIT_2, FPU, IO, { "insn_emulation", decoded_to_skip() }, {}
	};

	check_work(cpuid_loop, KVM_EXIT_IO, moves);
}

TEST(fresh)
{
	static const struct bare_move moves[] = {
		EXIT_2, FPU, IO, { "pf_taken", 1 }, { "pf_fixed", 1 }, {}
	};

	memset(fresh_pages, 1, sizeof(fresh_pages));
	check_work(fresh_page_loop, KVM_EXIT_IO, moves);
}

/* ---- dirty quota, which only 64-bit kernels have ---- */

#define NR_QUOTA	7

/* Let KVM log which pages of the program the guest has written. */
static void log_dirty_pages(struct kvm_vm *vm)
{
	uintptr_t end = ((uintptr_t)_end + PAGE_SIZE - 1) & -PAGE_SIZE;
	struct kvm_userspace_memory_region region = {
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
		.guest_phys_addr = BARE_GPA(__executable_start),
		.memory_size = end - (uintptr_t)__executable_start,
		.userspace_addr = (uintptr_t)__executable_start,
	};

	TEST_ASSERT(!ioctl(vm_get_fd(vm), KVM_SET_USER_MEMORY_REGION, &region),
		    "KVM_SET_USER_MEMORY_REGION");
}

static void check_quota_exit(struct kvm_vm *vm, const struct stats_file *s,
			     uint64_t quota)
{
	struct kvm_run *run = vcpu_state(vm, STATS_VCPU_ID);

	run->dirty_quota = quota;
	TEST_ASSERT(!_vcpu_run(vm, STATS_VCPU_ID), "KVM_RUN");
	TEST_ASSERT(run->exit_reason == KVM_EXIT_DIRTY_QUOTA_FULL,
		    "exit reason %u", run->exit_reason);
	TEST_ASSERT_EQ(run->dirty_quota_full.dirty_count, quota);
	TEST_ASSERT_EQ(run->dirty_quota_full.dirty_quota, quota);
	TEST_STAT_EQ(s, "pages_dirtied", quota);
}

static void write_all(void)
{
	int i;

	for (i = 0; i < NR_FRESH_PAGES; i++)
		WRITE_ONCE(fresh_pages[i][0], 2);
	guest_exit_loop();
}

static void check_no_quota(void)
{
	struct kvm_enable_cap quota = { .cap = KVM_CAP_DIRTY_QUOTA };
	struct stats_file s;
	struct kvm_vm *vm = vm_create(VM_MODE_DEFAULT, 0, O_RDWR);

	TEST_ASSERT(ioctl(vm_get_fd(vm), KVM_ENABLE_CAP, &quota) == -1 &&
		    errno == EINVAL, "KVM_ENABLE_CAP");
	vm_vcpu_add(vm, STATS_VCPU_ID);
	stats_open(&s, stats_get_fd(stats_vcpu_fd(vm, STATS_VCPU_ID)));
	TEST_ASSERT(!stats_find(&s, "pages_dirtied"), "there is pages_dirtied");
}

/* A 32-bit program on a 64-bit kernel has the limit where it expects it. */
TEST(dirty_quota)
{
	struct stats_file s;
	struct kvm_vm *vm;
	int i;

	if (!kvm_check_cap(KVM_CAP_DIRTY_QUOTA)) {
		check_no_quota();
		return;
	}
	memset(fresh_pages, 1, sizeof(fresh_pages));
	bare_dirty_quota = true;
	vm = guest_setup(&s, write_all);
	log_dirty_pages(vm);
	for (i = 1; i <= 5; i++)
		check_quota_exit(vm, &s, i * NR_QUOTA);
	TEST_STAT_EQ(&s, "dirty_quota_exits", 5);
	vcpu_state(vm, STATS_VCPU_ID)->dirty_quota = 0;
	guest_run_once(vm);
	TEST_STAT_GE(&s, "pages_dirtied", NR_FRESH_PAGES);
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_BINARY_STATS_FD)
