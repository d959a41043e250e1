// SPDX-License-Identifier: GPL-2.0-only
/*
 * What 32-bit MIPS by trap and emulate counts guests' works as.
 */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "bare.h"
#include "kvm_test_harness.h"
#include "processor.h"

#define NR_ROUNDS	50
#define PAGE_SIZE	0x4000
#define NR_FRESH_PAGES	256
/* In the stand-in of kseg0, far from the program. */
#define NO_MEMORY	((void *)0x50000000UL)

static char fresh_pages[NR_FRESH_PAGES][PAGE_SIZE] __aligned(PAGE_SIZE);

/*
 * KVM replaces the cache instruction by one that needs no emulation: the guest
 * puts it back, where it can be written to.
 */
asm(".pushsection .guest, \"awx\"\n"
	"	.set	push\n"
	"	.set	noreorder\n"
	"	.set	mips32r2\n"
	"	.globl	cache_loop\n"
	"	.ent	cache_loop\n"
	"cache_loop:\n"
	"	lui	$t0, %hi(3f)\n"
	"	addiu	$t0, %lo(3f)\n"
	"	lui	$t2, 0xbf00\n"
	"	lw	$t1, 0($t0)\n"
	"1:	sw	$t1, 0($t0)\n"
	"	synci	0($t0)\n"
	"	b	2f\n"
	"	nop\n"
	"2:	nop\n"
	"3:	cache	0x15, 0($t0)\n"
	"	sw	$t1, 0($t2)\n"
	"	b	1b\n"
	"	nop\n"
	"	.end	cache_loop\n"
	"	.set	pop\n"
	".popsection\n");

/* Exceptions of a guest; what it is told of them it handles with one eret. */
#define EXCEPTION_LOOP(name, instruction)				\
	static void name(void)						\
	{								\
		for (;;) {						\
			asm volatile(".set push; .set mips32r2; "	\
				     ".set hardfloat; " instruction	\
				     "; .set pop" : : : "$2", "memory");	\
			exit_to_host();					\
		}							\
	}

EXCEPTION_LOOP(syscall_loop, "syscall")
EXCEPTION_LOOP(break_loop, "break")
EXCEPTION_LOOP(trap_loop, "teq $0, $0")
EXCEPTION_LOOP(fpu_loop, "mfc1 $2, $0")
/* An instruction that only 64-bit CPUs have. */
EXCEPTION_LOOP(ri_loop, ".word 0x3f")

static void load_loop(void)
{
	for (;;)
		READ_ONCE(*(uint32_t *)EXIT_ADDRESS);
}

/* Each page is mapped when it is read, but not for writing. */
static void fresh_page_loop(void)
{
	char *page = fresh_pages[0];

	for (;; page += PAGE_SIZE) {
		WRITE_ONCE(*page, READ_ONCE(*page) + 1);
		exit_to_host();
	}
}

static void check_work(void *guest, unsigned int exit_reason,
		       const struct bare_move *moves)
{
	/* Interrupts of the host, its timer's for one. */
	static const char *const noise[] = { "int_exits", NULL };
	struct bare_work work = {
		.guest = guest,
		.exit_reason = exit_reason,
		.moves = moves,
		.noise = noise,
	};

	bare_check_work(&work);
}

#define WORK(name, guest, exit_reason, ...)				\
	static const struct bare_move name##_moves[] = { __VA_ARGS__, {} }; \
									\
	TEST(name)							\
	{								\
		check_work(guest, exit_reason, name##_moves);		\
	}

#define MMIO	KVM_EXIT_MMIO
#define FAULT	KVM_EXIT_INTERNAL_ERROR
#define EXIT	{ EXIT_STAT, 1 }
#define ERET	{ "cop_unusable_exits", 1 }
#define ERET_2	{ "cop_unusable_exits", 2 }

/* The program counter is where there are no instructions for a guest. */
WORK(fetch, SIMPLE_GUEST, FAULT, { SIMPLE_STAT, 1 })
WORK(kseg0_fetch, NO_MEMORY, FAULT, { "tlbmiss_ld_exits", 1 })
WORK(store, guest_exit_loop, MMIO, EXIT)
WORK(kseg0_store, guest_mmio_loop, MMIO, { MMIO_STAT, 1 })
WORK(load, load_loop, MMIO, { "addrerr_ld_exits", 1 })
WORK(syscall_instruction, syscall_loop, MMIO, EXIT, ERET, { "syscall_exits", 1 })
WORK(break_instruction, break_loop, MMIO, EXIT, ERET, { "break_inst_exits", 1 })
WORK(trap, trap_loop, MMIO, EXIT, ERET, { "trap_inst_exits", 1 })
WORK(fpu, fpu_loop, MMIO, EXIT, ERET_2)
WORK(reserved, ri_loop, MMIO, EXIT, ERET, { "resvd_inst_exits", 1 })
/* A cache instruction cannot be executed, as an eret cannot. */
WORK(cache, cache_loop, MMIO, EXIT, ERET, { "cache_exits", 1 })

TEST(fresh)
{
	static const struct bare_move moves[] = {
		EXIT, { "tlbmiss_ld_exits", 1 }, { "tlbmod_exits", 1 }, {}
	};

	TEST_ASSERT(getpagesize() == PAGE_SIZE, "pages have %d bytes",
		    getpagesize());
	memset(fresh_pages, 1, sizeof(fresh_pages));
	check_work(fresh_page_loop, KVM_EXIT_MMIO, moves);
}

/* What one vCPU does is not in the statistics of another. */
TEST(per_vcpu)
{
	struct stats_file s, other;
	struct kvm_vm *vm = guest_setup(&s, guest_exit_loop);
	unsigned int i;

	vm_vcpu_add(vm, STATS_VCPU_ID + 1);
	stats_open(&other,
		   stats_get_fd(stats_vcpu_fd(vm, STATS_VCPU_ID + 1)));
	for (i = 0; i < NR_ROUNDS; i++)
		guest_run_once(vm);
	TEST_STAT_EQ(&s, EXIT_STAT, NR_ROUNDS);
	for (i = 0; i < other.header.num_desc; i++)
		TEST_ASSERT_EQ(stats_sum(&other, stats_desc(&other, i)->name),
			       0);
}

/* With an interrupt pending, no wait waits. */
TEST(wait_pending)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_halt_loop);
	unsigned int i;

	raise_event(vm);
	for (i = 1; i <= NR_ROUNDS; i++) {
		guest_run_once(vm);
		TEST_STAT_EQ(&s, "wait_exits", i);
	}
	TEST_ASSERT_EQ(stats_sum(&s, "halt_wait_hist"), 0);
}

/*
 * Each wait ends in an exit of its own, to say that interrupts are possible,
 * and is not counted as a wakeup: this KVM wakes its vCPUs itself.
 */
TEST(waits)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_halt_loop);
	unsigned int i;

	runner_start(vm);
	for (i = 1; i <= NR_ROUNDS; i++) {
		runner_wait_sleep();
		raise_event(vm);
		runner_wait_round(2 * i);
	}
	runner_wait_sleep();
	TEST_STAT_EQ(&s, "wait_exits", NR_ROUNDS + 1);
	TEST_ASSERT_EQ(stats_sum(&s, "halt_wait_hist"), NR_ROUNDS);
	TEST_STAT_GE(&s, "halt_wait_ns", 1);
	TEST_STAT_EQ(&s, "halt_wakeup", 0);
	TEST_STAT_EQ(&s, EXIT_STAT, NR_ROUNDS);
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_BINARY_STATS_FD)
