// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_x86_test
 *
 * Ways in which pages get dirty that only x86 has: by instructions that KVM
 * emulates, in real mode, by the guest's writes to its own page tables, by the
 * CPU's own log of dirty pages, by the hypervisor.
 *
 * Usage: kvm_dirty_quota_x86_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>
#include <asm/kvm_para.h>

#include "kvm_dirty_quota_util.h"
#include "kvm_test_harness.h"
#include "processor.h"

#define PAGE		4096UL
#define NR_PAGES	100
#define PORT		0x1234

/* ---- instructions that KVM has to emulate ---- */

static void guest_ins(uint64_t nr)
{
	struct dq_work *w = dq_guest_my_work(nr);
	uint64_t to, count;

	for (;;) {
		to = w->first;
		count = w->nr;
		asm volatile("rep insb" : "+D"(to), "+c"(count)
			     : "d"(PORT) : "memory");
		dq_guest_done();
	}
}

/* Host's side of the guests that read a device; each answer is accepted. */
static void answer_to_end(struct dq_vcpu *v)
{
	uint64_t over;
	enum dq_end end;

	while ((end = dq_run(v)) != DQ_DONE) {
		if (end == DQ_ASK) {
			dq_answer(v, 0x5a5a5a5a);
			continue;
		}
		over = v->run->dirty_quota_full.dirty_count -
		       v->run->dirty_quota_full.dirty_quota;
		TEST_ASSERT(end == DQ_FULL && over <= v->max_overrun,
			    "end %d, %llu pages over", end, over + 0ULL);
		dq_set_quota(v, v->run->dirty_quota_full.dirty_count + 1);
	}
}

static struct dq_vcpu *setup_device_guest(struct dq_vm *d, void *guest,
					  uint64_t to, uint64_t nr)
{
	struct dq_config config = {
		.enable = true,
		.quota = 1,
		.guest = guest,
	};
	struct dq_vcpu *v;

	dq_create(d, &config);
	v = &d->vcpus[0];
	v->work->first = to;
	v->work->nr = nr;
	return v;
}

/* From the middle of page 10 to the middle of page 14, in pieces. */
TEST(ins)
{
	struct dq_vm d;
	struct dq_vcpu *v;

	v = setup_device_guest(&d, guest_ins, DQ_GPA + 10 * PAGE + 1000,
			       4 * PAGE);
	answer_to_end(v);
	TEST_ASSERT_EQ(v->full_exits, 5);
	TEST_ASSERT_EQ(dq_count(v), 5);
	dq_harvest(&d);
	dq_check_bits(&d, 10, 1, 5);
}

static void guest_ins_crossing(uint64_t nr)
{
	struct dq_work *w = dq_guest_my_work(nr);
	uint64_t to;

	for (;;) {
		to = w->first;
		asm volatile("insl" : "+D"(to) : "d"(PORT) : "memory");
		dq_guest_done();
	}
}

/* One instruction, two pages: the second one is over. */
TEST(ins_crossing)
{
	struct dq_vm d;
	struct dq_vcpu *v;

	v = setup_device_guest(&d, guest_ins_crossing,
			       DQ_GPA + 11 * PAGE - 2, 1);
	v->max_overrun = 1;
	answer_to_end(v);
	TEST_ASSERT_EQ(v->full_exits, 1);
	TEST_ASSERT_EQ(dq_count(v), 2);
	TEST_STAT_EQ(&v->stats, "dirty_quota", 3);
	dq_harvest(&d);
	dq_check_bits(&d, 10, 1, 2);
}

static void guest_movs(uint64_t nr)
{
	struct dq_work *w = dq_guest_my_work(nr);
	uint64_t from, to, count;

	for (;;) {
		from = DQ_MMIO_GPA;
		to = w->first;
		count = w->nr;
		asm volatile("rep movsq"
			     : "+S"(from), "+D"(to), "+c"(count) : : "memory");
		dq_guest_done();
	}
}

/*
 * From a device to memory: KVM goes on after each answer, with no way out for
 * the quota between the pages of one instruction.
 */
TEST(movs)
{
	struct dq_vm d;
	struct dq_vcpu *v;

	v = setup_device_guest(&d, guest_movs, DQ_GPA + 31 * PAGE - 64, 16);
	v->max_overrun = 1;
	answer_to_end(v);
	TEST_ASSERT_EQ(dq_count(v), 2);
	TEST_ASSERT(v->full_exits, "no exit for the quota");
	dq_harvest(&d);
	dq_check_bits(&d, 30, 1, 2);
}

/* ---- the guest's page tables, in the slot and written by the guest ---- */

#define PTE_ACCESSED	BIT(5)
#define PTE_DIRTY	BIT(6)

static uint64_t *ptes;

static void guest_tables(uint64_t nr)
{
	struct dq_work *w = dq_guest_my_work(nr);
	uint64_t page, *word;

	for (;;) {
		for (page = 0; page < w->nr; page++) {
			word = (uint64_t *)(DQ_GPA + page * PAGE);
			ptes[page] &= ~(PTE_ACCESSED | PTE_DIRTY);
			asm volatile("invlpg (%0)" : : "r"(word) : "memory");
			if (w->action == DQ_WRITE)
				WRITE_ONCE(*word, page);
			else
				READ_ONCE(*word);
			w->touched++;
		}
		dq_guest_done();
	}
}

/* The page table that maps the first test pages. */
static uint64_t find_page_table(struct kvm_vm *vm)
{
	struct kvm_sregs sregs;
	uint64_t table;
	int shift;

	vcpu_sregs_get(vm, 0, &sregs);
	table = sregs.cr3;
	for (shift = 39; shift > 12; shift -= 9) {
		uint64_t *entries = addr_gpa2hva(vm, table & ~0xfffUL);

		table = entries[DQ_GPA >> shift & 511] & 0xffffffffff000UL;
	}
	return table;
}

static struct dq_vcpu *setup_tables(struct dq_vm *d, uint64_t quota)
{
	struct dq_config config = {
		.enable = true,
		.quota = quota,
		.tables_in_slot = true,
		.guest = guest_tables,
	};
	uint64_t table;

	dq_create(d, &config);
	table = find_page_table(d->vm);
	TEST_ASSERT(table > DQ_GPA, "page table at %#llx", table + 0ULL);
	virt_pg_map(d->vm, table, table, DQ_SLOT);
	ptes = (uint64_t *)table;
	sync_global_to_guest(d->vm, ptes);
	return &d->vcpus[0];
}

static void check_tables(enum dq_action action)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup_tables(&d, 0);
	uint64_t before;
	int round;

	for (round = 0; round < 3; round++) {
		before = dq_count(v);
		dq_tell(v, action, 0, NR_PAGES);
		dq_run_to_end(v);
		dq_settle(v);
		TEST_ASSERT_EQ(dq_harvest(&d), dq_count(v) - before);
		TEST_ASSERT(dq_bits(&d) > (action == DQ_WRITE ? NR_PAGES : 0),
			    "%llu bits", dq_bits(&d) + 0ULL);
	}
}

TEST(tables_write)
{
	check_tables(DQ_WRITE);
}

TEST(tables_read)
{
	check_tables(DQ_READ);
}

TEST(tables_quota)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup_tables(&d, 1);

	v->raise_by = 1;
	v->max_overrun = DQ_TABLE_LEVELS;
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	TEST_ASSERT_EQ(dq_harvest(&d), dq_count(v));
	TEST_ASSERT(v->full_exits >= dq_count(v) / (DQ_TABLE_LEVELS + 1),
		    "%llu exits for %llu pages", v->full_exits + 0ULL,
		    dq_count(v) + 0ULL);
}

/* ---- page faults that are fixed without a lock ---- */

static bool has_fast_faults(void)
{
	bool paging = is_intel_cpu() ? stats_parameter("kvm_intel", "ept") :
				       stats_parameter("kvm_amd", "npt");

	return paging && !stats_parameter("kvm", "tdp_mmu") && !dq_has_pml();
}

/* All that a write to a mapped page lacks after a harvest is one bit. */
TEST(fast_faults)
{
	struct dq_config config = { .enable = true, .quota = 1 };
	struct dq_vcpu *v;
	struct dq_vm d;

	dq_create(&d, &config);
	v = &d.vcpus[0];
	v->raise_by = 1;
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_harvest(&d);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	TEST_ASSERT_EQ(dq_count(v), 2 * NR_PAGES);
	TEST_ASSERT_EQ(v->full_exits, 2 * NR_PAGES);
	dq_harvest(&d);
	dq_check_bits(&d, 0, 1, NR_PAGES);
	if (has_fast_faults())
		TEST_STAT_EQ(&v->stats, "pf_fast", NR_PAGES);
}

/* ---- a guest without protected mode ---- */

/*
 * Writes a byte to each of NR_PAGES pages and tells when it has done so.  With
 * the segment that it writes to no CPU can be in this mode of its own; where
 * the hardware does not allow that, KVM emulates each instruction.
 */
static const uint8_t real_mode_code[] = {
	0xb9, NR_PAGES, 0x00,				/* mov cx */
	0x66, 0x31, 0xdb,				/* xor ebx, ebx */
	0x67, 0x88, 0x03,				/* mov [ebx], al */
	0x66, 0x81, 0xc3, 0x00, 0x10, 0x00, 0x00,	/* add ebx, 0x1000 */
	0x49,						/* dec cx */
	0x75, 0xf3,					/* jnz to the mov */
	0xba, PORT & 0xff, PORT >> 8,			/* mov dx */
	0x66, 0xef,					/* out dx, eax */
	0xeb, 0xe6,					/* jmp to the start */
};

static void set_segment(struct kvm_segment *s, uint64_t base, uint32_t limit,
			uint8_t type)
{
	memset(s, 0, sizeof(*s));
	s->base = base;
	s->limit = limit;
	s->g = limit > 0xffff;
	s->type = type;
	s->s = 1;
	s->present = 1;
}

/* Where the hardware has no real mode for guests, KVM keeps pages of its own. */
static void allow_real_mode(struct kvm_vm *vm)
{
	TEST_ASSERT(!ioctl(vm_get_fd(vm), KVM_SET_TSS_ADDR, 0xfffbd000),
		    "KVM_SET_TSS_ADDR");
}

static void enter_real_mode(struct kvm_vm *vm)
{
	uint64_t code = vm_phy_page_alloc(vm, 0x10000, 0);
	struct kvm_regs regs = { .rip = code & 0xffff, .rflags = 0x202 };
	struct kvm_sregs sregs;

	memcpy(addr_gpa2hva(vm, code), real_mode_code, sizeof(real_mode_code));
	allow_real_mode(vm);
	vcpu_sregs_get(vm, 0, &sregs);
	set_segment(&sregs.cs, code & ~0xffffUL, 0xffff, 11);
	sregs.cs.selector = code >> 16 << 12;
	set_segment(&sregs.ss, 0, 0xffff, 3);
	sregs.es = sregs.ss;
	sregs.fs = sregs.ss;
	sregs.gs = sregs.ss;
	set_segment(&sregs.ds, DQ_GPA, 0xffffffff, 3);
	sregs.cr0 = 0x10;
	sregs.cr3 = 0;
	sregs.cr4 = 0;
	sregs.efer = 0;
	vcpu_sregs_set(vm, 0, &sregs);
	vcpu_regs_set(vm, 0, &regs);
}

/* The loop writes a page with four instructions; all go through KVM there. */
static void check_emulated(const struct dq_vcpu *v, int rounds)
{
	uint64_t emulated = stats_value(&v->stats, "insn_emulation");

	if (!is_intel_cpu() || stats_parameter("kvm_intel", "unrestricted_guest"))
		return;
	TEST_ASSERT(emulated >= 4ULL * rounds * NR_PAGES,
		    "%llu instructions emulated", emulated + 0ULL);
}

TEST(real_mode)
{
	struct dq_config config = { .enable = true, .quota = 1 };
	struct dq_vcpu *v;
	struct dq_vm d;
	int round;
	bool late;

	dq_create(&d, &config);
	enter_real_mode(d.vm);
	v = &d.vcpus[0];
	v->raise_by = 1;
	for (round = 1; round <= 2; round++) {
		dq_run_to_end(v);
		TEST_ASSERT_EQ(dq_count(v), round * NR_PAGES);
		/* If only the CPU saw the last page, its exit is still to come. */
		late = round == 2 && dq_has_pml();
		TEST_ASSERT_EQ(v->full_exits, round * NR_PAGES - late);
		dq_harvest(&d);
		dq_check_bits(&d, 0, 1, NR_PAGES);
	}
	check_emulated(v, 2);
}

/* ---- instructions that KVM is made to emulate ---- */

#define NR_EMULATED	300
/* Makes KVM emulate what comes after it. */
#define EMULATE		"ud2; .ascii \"kvm\"; "

/* One of these for each page; @at is its first byte. */
static void store(uint64_t at)
{
	asm volatile(EMULATE "movq %0, (%1)" : : "r"(at), "r"(at) : "memory");
}

static void exchange(uint64_t at)
{
	uint64_t value = at;

	asm volatile(EMULATE "xchgq %0, (%1)"
		     : "+r"(value) : "r"(at) : "memory");
}

static void compare_exchange(uint64_t at)
{
	uint64_t expected = *(uint64_t *)at;

	asm volatile(EMULATE "lock cmpxchgq %1, (%2)"
		     : "+a"(expected) : "r"(at), "r"(at) : "memory");
}

/* Reads and writes the same page, by one instruction. */
static void add_to(uint64_t at)
{
	asm volatile(EMULATE "addq $1, (%0)" : : "r"(at) : "memory", "cc");
}

static void push(uint64_t at)
{
	uint64_t saved;

	asm volatile("movq %%rsp, %0; leaq 8(%1), %%rsp; "
		     EMULATE "pushq %1; movq %0, %%rsp"
		     : "=&r"(saved) : "r"(at) : "memory");
}

static void fill_page(uint64_t at)
{
	uint64_t count = PAGE / 8;

	asm volatile(EMULATE "rep stosq"
		     : "+D"(at), "+c"(count) : "a"(at) : "memory");
}

/* The page before it, too: the caller leaves a gap. */
static void store_crossing(uint64_t at)
{
	asm volatile(EMULATE "movq %0, -4(%1)"
		     : : "r"(at), "r"(at) : "memory");
}

/* Only one instruction is emulated before the CPU takes over. */
static void fill_pages(uint64_t at)
{
	uint64_t count = 4 * PAGE / 8;

	asm volatile(EMULATE "rep stosq"
		     : "+D"(at), "+c"(count) : "a"(at) : "memory");
}

typedef void (*instruction)(uint64_t at);
static instruction guest_instruction;

static void guest_emulated(uint64_t nr)
{
	struct dq_work *w = dq_guest_my_work(nr);
	uint64_t i;

	for (;;) {
		if (w->action == DQ_OTHER) {
			for (i = 0; i < w->nr; i++)
				guest_instruction(DQ_GPA + PAGE *
						  (w->first + i * w->step));
		}
		dq_guest_done();
	}
}

static struct dq_vcpu *setup_emulated(struct dq_vm *d, instruction insn)
{
	struct dq_config config = {
		.enable = true,
		.quota = 1,
		.guest = guest_emulated,
	};

	dq_create(d, &config);
	guest_instruction = insn;
	sync_global_to_guest(d->vm, guest_instruction);
	d->vcpus[0].raise_by = 1;
	return &d->vcpus[0];
}

static void write_by(struct dq_vcpu *v, uint64_t first, uint64_t step,
		     uint64_t nr)
{
	dq_tell(v, DQ_OTHER, first, nr);
	v->work->step = step;
	dq_run_to_end(v);
	dq_settle(v);
}

/* One page for each, charged once; twice, as the second finds it mapped. */
static void check_single(instruction insn)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup_emulated(&d, insn);
	uint64_t round, emulated;

	for (round = 1; round <= 2; round++) {
		emulated = stats_value(&v->stats, "insn_emulation");
		write_by(v, 3, 1, NR_EMULATED);
		TEST_ASSERT_EQ(dq_count(v), round * NR_EMULATED);
		TEST_ASSERT_EQ(v->full_exits, round * NR_EMULATED);
		TEST_ASSERT_EQ(dq_harvest(&d), NR_EMULATED);
		dq_check_bits(&d, 3, 1, NR_EMULATED);
		emulated = stats_value(&v->stats, "insn_emulation") - emulated;
		TEST_ASSERT(emulated >= NR_EMULATED,
			    "%llu instructions were emulated", emulated + 0ULL);
	}
}

/* Several pages by one instruction: no more over than was written down. */
static void check_several(instruction insn, uint64_t step, uint64_t pages,
			  uint64_t over)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup_emulated(&d, insn);

	v->max_overrun = over;
	write_by(v, 1, step, 50);
	TEST_ASSERT_EQ(dq_count(v), 50 * pages);
	TEST_ASSERT_EQ(dq_harvest(&d), 50 * pages);
	TEST_ASSERT(v->full_exits >= dq_count(v) / (over + 1),
		    "%llu exits for %llu pages", v->full_exits + 0ULL,
		    dq_count(v) + 0ULL);
}

/* What the CPU could execute as well, if it were not for the prefix. */
FIXTURE(emulated)
{
};

FIXTURE_VARIANT(emulated)
{
	instruction insn;
	/* How many pages it writes, if that is more than one. */
	uint64_t pages;
	uint64_t step;
};

FIXTURE_VARIANT_ADD(emulated, store)
{
	.insn = store,
};

FIXTURE_VARIANT_ADD(emulated, exchange)
{
	.insn = exchange,
};

FIXTURE_VARIANT_ADD(emulated, compare_exchange)
{
	.insn = compare_exchange,
};

FIXTURE_VARIANT_ADD(emulated, add)
{
	.insn = add_to,
};

FIXTURE_VARIANT_ADD(emulated, push)
{
	.insn = push,
};

FIXTURE_VARIANT_ADD(emulated, fill_page)
{
	.insn = fill_page,
};

FIXTURE_VARIANT_ADD(emulated, store_crossing)
{
	.insn = store_crossing,
	.pages = 2,
	.step = 2,
};

/* 1024 repetitions of 8 bytes at most before the quota is looked at. */
FIXTURE_VARIANT_ADD(emulated, fill_pages)
{
	.insn = fill_pages,
	.pages = 4,
	.step = 4,
};

FIXTURE_SETUP(emulated)
{
}

FIXTURE_TEARDOWN(emulated)
{
}

TEST_F(emulated, charged)
{
	if (!stats_parameter("kvm", "force_emulation_prefix"))
		SKIP(return, "needs kvm.force_emulation_prefix=1");
	if (variant->pages)
		check_several(variant->insn, variant->step, variant->pages, 1);
	else
		check_single(variant->insn);
}

/* ---- system management mode ---- */

/* In the address space that only this mode has. */
#define SMRAM_SLOT	(BIT(16) | 2)
#define SMRAM_GPA	0x1000000UL
#define SMRAM_PAGES	16
/* Where the CPU saves its state, and where it goes on. */
#define SMRAM_STATE_PAGE 15
#define SMRAM_CODE	0x8000

static const uint8_t smm_code[] = {
	0xba, PORT & 0xff, PORT >> 8,	/* mov dx */
	0x66, 0xef,			/* out dx, eax */
	0x0f, 0xaa,			/* rsm */
};

static unsigned long harvest_smram(struct kvm_vm *vm)
{
	unsigned long bitmap = 0;
	struct kvm_dirty_log log = {
		.slot = SMRAM_SLOT,
		.dirty_bitmap = &bitmap,
	};

	vm_ioctl(vm, KVM_GET_DIRTY_LOG, &log);
	return bitmap;
}

/* KVM saves the vCPU's state for it, and this is a write of the vCPU. */
TEST(smm)
{
	struct dq_config config = { .enable = true, .quota = 1 };
	unsigned long bits;
	struct dq_vcpu *v;
	struct dq_vm d;

	dq_create(&d, &config);
	v = &d.vcpus[0];
	allow_real_mode(d.vm);
	vm_userspace_mem_region_add(d.vm, VM_MEM_SRC_ANONYMOUS, SMRAM_GPA,
				    SMRAM_SLOT, SMRAM_PAGES,
				    KVM_MEM_LOG_DIRTY_PAGES);
	memcpy(addr_gpa2hva(d.vm, SMRAM_GPA) + SMRAM_CODE, smm_code,
	       sizeof(smm_code));
	vcpu_set_msr(d.vm, 0, MSR_IA32_SMBASE, SMRAM_GPA);
	TEST_ASSERT_EQ(dq_run(v), DQ_DONE);
	vcpu_ioctl(d.vm, 0, KVM_SMI, NULL);
	/* Before the first instruction of the new mode. */
	TEST_ASSERT_EQ(dq_run(v), DQ_FULL);
	TEST_ASSERT_EQ(v->run->dirty_quota_full.dirty_count, 1);
	TEST_ASSERT_EQ(harvest_smram(d.vm), BIT(SMRAM_STATE_PAGE));
	dq_set_quota(v, 0);
	/* From there, and then from where it was interrupted. */
	TEST_ASSERT_EQ(dq_run(v), DQ_DONE);
	TEST_ASSERT_EQ(dq_run(v), DQ_DONE);
	bits = harvest_smram(d.vm);
	TEST_ASSERT_EQ(dq_count(v), 1 + __builtin_popcountl(bits));
}

/* ---- a vCPU that would not enter the guest ---- */

static void handle_nmi(struct ex_regs *regs)
{
}

/* An NMI, which ends a halt and needs no programmed APIC. */
static void send_nmi(struct kvm_vm *vm)
{
	struct kvm_msi msi = {
		.address_lo = 0xfee00000,
		.data = 4 << 8,
	};

	TEST_ASSERT(ioctl(vm_get_fd(vm), KVM_SIGNAL_MSI, &msi) > 0,
		    "KVM_SIGNAL_MSI");
}

static void init_nmi(struct kvm_vm *vm)
{
	struct kvm_lapic_state lapic;

	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(vm, 0);
	vm_handle_exception(vm, 2, handle_nmi);
	/* A new vCPU cannot be addressed before its APIC has been written. */
	vcpu_ioctl(vm, 0, KVM_GET_LAPIC, &lapic);
	vcpu_ioctl(vm, 0, KVM_SET_LAPIC, &lapic);
}

static bool run_is_over;

static void *run_once(void *v)
{
	enum dq_end end = dq_run(v);

	WRITE_ONCE(run_is_over, true);
	return (void *)(long)end;
}

static void no_op(int sig)
{
}

/* With its quota used up, in a state in which it does not run. */
static struct dq_vcpu *start_waiting(struct dq_vm *d, uint32_t mp_state)
{
	struct dq_config config = { .enable = true, .quota = 3 };
	struct kvm_mp_state state = { .mp_state = mp_state };
	struct dq_vcpu *v;

	signal(SIGUSR1, no_op);
	dq_create(d, &config);
	init_nmi(d->vm);
	v = &d->vcpus[0];
	dq_tell(v, DQ_WRITE, 0, 10);
	TEST_ASSERT_EQ(dq_run(v), DQ_FULL);
	vcpu_set_mp_state(d->vm, 0, &state);
	TEST_ASSERT(!pthread_create(&v->thread, NULL, run_once, v),
		    "pthread_create");
	STATS_WAIT(stats_value(&v->stats, "blocking"), "for the vCPU to block");
	/* There is no exit to come. */
	usleep(100000);
	TEST_ASSERT(!READ_ONCE(run_is_over), "KVM_RUN has returned");
	TEST_STAT_EQ(&v->stats, "dirty_quota_exits", 1);
	return v;
}

static enum dq_end join_waiting(struct dq_vcpu *v)
{
	void *end;

	pthread_join(v->thread, &end);
	return (long)end;
}

/* It exits when it wakes up, before it executes anything. */
TEST(halted)
{
	struct dq_vm d;
	struct dq_vcpu *v = start_waiting(&d, KVM_MP_STATE_HALTED);
	uint64_t touched = v->work->touched;

	send_nmi(d.vm);
	TEST_ASSERT_EQ(join_waiting(v), DQ_FULL);
	TEST_ASSERT_EQ(v->work->touched, touched);
	dq_set_quota(v, 0);
	dq_run_to_end(v);
	TEST_ASSERT_EQ(dq_count(v), 10);
}

/* A signal ends the wait as ever; what the vCPU waits for has not come. */
static void check_interrupted(uint32_t mp_state)
{
	struct kvm_mp_state state = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct dq_vm d;
	struct dq_vcpu *v = start_waiting(&d, mp_state);

	pthread_kill(v->thread, SIGUSR1);
	TEST_ASSERT_EQ(join_waiting(v), DQ_SIGNAL);
	vcpu_set_mp_state(d.vm, 0, &state);
	TEST_ASSERT_EQ(dq_run(v), DQ_FULL);
	dq_set_quota(v, 0);
	dq_run_to_end(v);
	TEST_ASSERT_EQ(dq_count(v), 10);
}

TEST(halted_interrupted)
{
	check_interrupted(KVM_MP_STATE_HALTED);
}

TEST(waits_for_sipi)
{
	check_interrupted(KVM_MP_STATE_INIT_RECEIVED);
}

/* ---- pages that the hypervisor writes are logged, and nobody's charge ---- */

#define HOST_PAGE	200
#define HOST_GPA	(DQ_GPA + HOST_PAGE * PAGE)

static bool have_feature(unsigned int bit)
{
	struct kvm_cpuid_entry2 *e;

	e = kvm_get_supported_cpuid_entry(KVM_CPUID_FEATURES);
	return e->eax & 1U << bit;
}

/* The quota is one page more than the guest uses. */
static struct dq_vcpu *setup_host_page(struct dq_vm *d, void *guest)
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
	TEST_ASSERT_EQ(dq_count_all(d), charged);
}

/* By an ioctl() of userspace, for a vCPU that does not run. */
TEST(wall_clock_ioctl)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup_host_page(&d, NULL);

	if (!have_feature(KVM_FEATURE_CLOCKSOURCE2))
		SKIP(return, "no paravirtual clock");
	vcpu_set_msr(d.vm, 0, MSR_KVM_WALL_CLOCK_NEW, HOST_GPA);
	check_host_page(&d, 0);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	TEST_ASSERT_EQ(dq_harvest(&d), NR_PAGES);
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
TEST(wall_clock_guest)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup_host_page(&d, guest_wall_clock);

	if (!have_feature(KVM_FEATURE_CLOCKSOURCE2))
		SKIP(return, "no paravirtual clock");
	dq_do(v, DQ_IDLE, 0, 0);
	check_host_page(&d, 0);
	dq_do(v, DQ_WRITE, HOST_PAGE, 1);
	TEST_ASSERT_EQ(dq_count(v), 0);
}

/* The page is written in each KVM_RUN, whatever the guest does. */
static void check_written_in_run(uint32_t msr)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup_host_page(&d, NULL);

	vcpu_set_msr(d.vm, 0, msr, HOST_GPA | 1);
	dq_do(v, DQ_IDLE, 0, 0);
	check_host_page(&d, 0);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_harvest(&d);
	TEST_ASSERT_EQ(dq_count(v), NR_PAGES);
	TEST_ASSERT_EQ(v->full_exits, 0);
}

TEST(steal_time)
{
	if (!have_feature(KVM_FEATURE_STEAL_TIME))
		SKIP(return, "no steal time");
	check_written_in_run(MSR_KVM_STEAL_TIME);
}

TEST(pvclock)
{
	if (!have_feature(KVM_FEATURE_CLOCKSOURCE2))
		SKIP(return, "no paravirtual clock");
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
	struct dq_vcpu *v = setup_host_page(&d, guest_wrmsr);

	if (xen)
		TEST_ASSERT(!ioctl(vm_get_fd(d.vm), KVM_XEN_HVM_CONFIG, xen),
			    "KVM_XEN_HVM_CONFIG");
	guest_msr = msr;
	sync_global_to_guest(d.vm, guest_msr);
	dq_do(v, DQ_IDLE, 0, 0);
	check_host_page(&d, 0);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	TEST_ASSERT_EQ(dq_count(v), NR_PAGES);
	TEST_ASSERT_EQ(v->full_exits, 0);
}

TEST(hyperv_hypercall)
{
	check_page_of_msr(HV_HYPERCALL, NULL);
}

TEST(hyperv_tsc)
{
	check_page_of_msr(HV_REFERENCE_TSC, NULL);
}

TEST(hyperv_assist)
{
	check_page_of_msr(HV_VP_ASSIST_PAGE, NULL);
}

/* A timer that is over writes a message.  Its interrupt is masked from reset on. */
TEST(hyperv_timer)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_HYPERV_SYNIC2 };
	struct dq_vm d;
	struct dq_vcpu *v = setup_host_page(&d, NULL);

	vcpu_enable_cap(d.vm, 0, &cap);
	vcpu_set_msr(d.vm, 0, HV_SCONTROL, 1);
	vcpu_set_msr(d.vm, 0, HV_SIMP, HOST_GPA | 1);
	vcpu_set_msr(d.vm, 0, HV_STIMER0_COUNT, 1);
	vcpu_set_msr(d.vm, 0, HV_STIMER0_CONFIG,
		     HV_STIMER_ENABLE | HV_STIMER_SINT(2));
	dq_do(v, DQ_IDLE, 0, 0);
	check_host_page(&d, 0);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	TEST_ASSERT_EQ(dq_count(v), NR_PAGES);
	TEST_ASSERT_EQ(v->full_exits, 0);
}

TEST(xen_hypercall)
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

/* ---- pages that the CPU logs, and tells KVM of late ---- */

#define NR_LOGGED	1300
#define LOG_SIZE	512

/*
 * Mapped, and harvested, so that from now on only the CPU sees writes.  The
 * quota counts from here.
 */
static struct dq_vcpu *setup_pml(struct dq_vm *d)
{
	struct dq_config config = { .nr_pages = NR_LOGGED, .enable = true };
	struct dq_vcpu *v;

	dq_create(d, &config);
	v = &d->vcpus[0];
	dq_do(v, DQ_WRITE, 0, NR_LOGGED);
	TEST_ASSERT_EQ(dq_harvest(d), NR_LOGGED);
	TEST_ASSERT_EQ(dq_count(v), NR_LOGGED);
	v->max_overrun = 0;
	return v;
}

FIXTURE(pml)
{
};

FIXTURE_SETUP(pml)
{
}

FIXTURE_TEARDOWN(pml)
{
}

#define NO_PML	"no page-modification logging"

static void print_overrun(uint64_t quota, uint64_t exits, uint64_t overrun)
{
	printf("# quota %llu: %llu exits, at most %llu pages late\n",
	       (unsigned long long)quota, (unsigned long long)exits,
	       (unsigned long long)overrun);
}

static void check_pml(uint64_t quota)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup_pml(&d);
	uint64_t faults = stats_value(&v->stats, "pf_taken");

	v->raise_by = quota;
	dq_set_quota(v, NR_LOGGED + quota);
	dq_tell(v, DQ_WRITE, 0, NR_LOGGED);
	dq_run_to_end(v);
	dq_settle(v);
	TEST_ASSERT_EQ(dq_count(v), 2 * NR_LOGGED);
	TEST_ASSERT_EQ(v->full_exits, NR_LOGGED / quota);
	print_overrun(quota, v->full_exits, v->overrun);
	TEST_ASSERT_EQ(dq_harvest(&d), NR_LOGGED);
	dq_check_bits(&d, 0, 1, NR_LOGGED);
	TEST_STAT_EQ(&v->stats, "pf_taken", faults);
	dq_destroy(&d);
}

TEST_F_TIMEOUT(pml, small, 300)
{
	if (!dq_has_pml())
		SKIP(return, NO_PML);
	check_pml(1);
	check_pml(2);
	check_pml(3);
}

TEST_F_TIMEOUT(pml, log_size, 300)
{
	if (!dq_has_pml())
		SKIP(return, NO_PML);
	check_pml(LOG_SIZE - 1);
	check_pml(LOG_SIZE);
	check_pml(LOG_SIZE + 1);
	check_pml(2 * LOG_SIZE);
}

TEST_F_TIMEOUT(pml, edge, 300)
{
	if (!dq_has_pml())
		SKIP(return, NO_PML);
	check_pml(NR_LOGGED);
	check_pml(NR_LOGGED + 1);
}

TEST_F_TIMEOUT(pml, random, 300)
{
	int i;

	if (!dq_has_pml())
		SKIP(return, NO_PML);
	srandom(time(NULL));
	for (i = 0; i < 10; i++)
		check_pml(1 + random() % NR_LOGGED);
}

/* Without a quota the log is used as ever. */
TEST_F(pml, no_quota)
{
	struct dq_vm d;
	struct dq_vcpu *v;
	uint64_t bits = 0;
	int i;

	if (!dq_has_pml())
		SKIP(return, NO_PML);
	v = setup_pml(&d);
	dq_tell_endless(v, DQ_WRITE, 0, NR_LOGGED);
	v->work->random = 4711;
	dq_start(v);
	for (i = 0; i < 30; i++) {
		dq_wait_touched(v, 400);
		bits += dq_harvest(&d);
	}
	dq_stop(v);
	dq_join(v);
	bits += dq_harvest(&d);
	TEST_ASSERT_EQ(dq_count(v), NR_LOGGED + bits);
}

/* Not used up by pages that are in the CPU's log but were dirty before. */
TEST_F(pml, dirty_already)
{
	struct dq_vm d;
	struct dq_vcpu *v;
	int i;

	if (!dq_has_pml())
		SKIP(return, NO_PML);
	v = setup_pml(&d);
	dq_set_quota(v, NR_LOGGED + 101);
	for (i = 0; i < 5; i++)
		dq_do(v, DQ_WRITE, 0, 100);
	TEST_ASSERT_EQ(v->full_exits, 0);
	TEST_ASSERT_EQ(dq_count(v), NR_LOGGED + 100);
}

/* Changed while the CPU fills its log: late by at most what is in it. */
static void *run_to_exit(void *arg)
{
	struct dq_vcpu *v = arg;

	TEST_ASSERT_EQ(dq_run(v), DQ_FULL);
	return NULL;
}

TEST_F(pml, lower_while_running)
{
	uint64_t count, before;
	struct dq_vm d;
	struct dq_vcpu *v;

	if (!dq_has_pml())
		SKIP(return, NO_PML);
	v = setup_pml(&d);
	dq_set_quota(v, UINT64_MAX);
	dq_tell_endless(v, DQ_WRITE, 0, NR_LOGGED);
	TEST_ASSERT(!pthread_create(&v->thread, NULL, run_to_exit, v),
		    "pthread_create");
	/* All is dirty: no page is charged before the log is harvested. */
	dq_wait_touched(v, 2 * NR_LOGGED);
	before = dq_count(v);
	dq_set_quota(v, before + 1);
	while (pthread_tryjoin_np(v->thread, NULL)) {
		dq_harvest(&d);
		usleep(1000);
	}
	count = v->run->dirty_quota_full.dirty_count;
	print_overrun(1, 1, count - (before + 1));
	TEST_ASSERT(count - (before + 1) <= LOG_SIZE, "quota %llu, count %llu",
		    before + 1ULL, count + 0ULL);
}

/*
 * Every sixth page faults, the others are logged by the CPU: when the fault
 * comes, the pages that are in the log may just have used up the quota.
 */
TEST_F(pml, mixed)
{
	struct dq_vm d;
	struct dq_vcpu *v;
	uint64_t page, before;
	uint8_t *memory;

	if (!dq_has_pml())
		SKIP(return, NO_PML);
	v = setup_pml(&d);
	before = dq_count(v);
	memory = addr_gpa2hva(d.vm, DQ_GPA);
	for (page = 5; page < NR_LOGGED; page += 6)
		TEST_ASSERT(!madvise(memory + page * PAGE, PAGE, MADV_DONTNEED),
			    "madvise");
	v->max_overrun = 1;
	v->raise_by = 5;
	dq_set_quota(v, before + 5);
	dq_do(v, DQ_WRITE, 0, NR_LOGGED);
	print_overrun(5, v->full_exits, v->overrun);
	TEST_ASSERT_EQ(dq_count(v) - before, NR_LOGGED);
	TEST_ASSERT_EQ(v->full_exits, NR_LOGGED / 5);
	TEST_ASSERT_EQ(dq_harvest(&d), NR_LOGGED);
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_DIRTY_QUOTA)
