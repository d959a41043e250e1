// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_x86_test
 *
 * Ways in which pages get dirty that only x86 has: by instructions that KVM
 * carries out for the guest, in real mode, and by the guest's writes to its own
 * page tables.
 *
 * Usage: kvm_dirty_quota_x86_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "kvm_dirty_quota_util.h"
#include "processor.h"

#define PAGE		4096UL
#define NR_PAGES	100
#define PORT		0x1234

/* ---- written by KVM's emulation of an instruction ---- */

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
		STATS_CHECK(end == DQ_FULL && over <= v->max_overrun,
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
static void test_ins(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v;

	v = setup_device_guest(&d, guest_ins, DQ_GPA + 10 * PAGE + 1000,
			       4 * PAGE);
	answer_to_end(v);
	dq_check_equal("exits for the quota", v->full_exits, 5);
	dq_check_equal("pages_dirtied", dq_count(v), 5);
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
static void test_ins_crossing(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v;

	v = setup_device_guest(&d, guest_ins_crossing,
			       DQ_GPA + 11 * PAGE - 2, 1);
	v->max_overrun = 1;
	answer_to_end(v);
	dq_check_equal("exits for the quota", v->full_exits, 1);
	dq_check_equal("pages_dirtied", dq_count(v), 2);
	dq_check_equal("count at the exit",
		       stats_value(&v->stats, "dirty_quota"), 3);
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
static void test_movs(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v;

	v = setup_device_guest(&d, guest_movs, DQ_GPA + 31 * PAGE - 64, 16);
	v->max_overrun = 1;
	answer_to_end(v);
	dq_check_equal("pages_dirtied", dq_count(v), 2);
	STATS_CHECK(v->full_exits, "no exit for the quota");
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
	STATS_CHECK(table > DQ_GPA, "page table at %#llx", table + 0ULL);
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
		dq_check_equal("bits", dq_harvest(&d), dq_count(v) - before);
		STATS_CHECK(dq_bits(&d) > (action == DQ_WRITE ? NR_PAGES : 0),
			    "%llu bits", dq_bits(&d) + 0ULL);
	}
}

static void test_tables_write(enum stats_scope scope)
{
	check_tables(DQ_WRITE);
}

static void test_tables_read(enum stats_scope scope)
{
	check_tables(DQ_READ);
}

static void test_tables_quota(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup_tables(&d, 1);

	v->raise_by = 1;
	v->max_overrun = DQ_TABLE_LEVELS;
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_check_equal("bits", dq_harvest(&d), dq_count(v));
	STATS_CHECK(v->full_exits >= dq_count(v) / (DQ_TABLE_LEVELS + 1),
		    "%llu exits for %llu pages", v->full_exits + 0ULL,
		    dq_count(v) + 0ULL);
}

/* ---- page faults that are fixed without a lock ---- */

static bool has_fast_faults(void)
{
	bool paging = is_intel_cpu() ? dq_parameter("kvm_intel", "ept") :
				       dq_parameter("kvm_amd", "npt");

	return paging && !dq_parameter("kvm", "tdp_mmu") && !dq_has_pml();
}

/* All that a write to a mapped page lacks after a harvest is one bit. */
static void test_fast_faults(enum stats_scope scope)
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
	dq_check_equal("pages_dirtied", dq_count(v), 2 * NR_PAGES);
	dq_check_equal("exits for the quota", v->full_exits, 2 * NR_PAGES);
	dq_harvest(&d);
	dq_check_bits(&d, 0, 1, NR_PAGES);
	if (has_fast_faults())
		dq_check_equal("pf_fast", stats_value(&v->stats, "pf_fast"),
			       NR_PAGES);
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

static void enter_real_mode(struct kvm_vm *vm)
{
	uint64_t code = vm_phy_page_alloc(vm, 0x10000, 0);
	struct kvm_regs regs = { .rip = code & 0xffff, .rflags = 0x202 };
	struct kvm_sregs sregs;

	memcpy(addr_gpa2hva(vm, code), real_mode_code, sizeof(real_mode_code));
	STATS_CHECK(!ioctl(vm_get_fd(vm), KVM_SET_TSS_ADDR, 0xfffbd000),
		    "KVM_SET_TSS_ADDR: %s", strerror(errno));
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

	if (!is_intel_cpu() || dq_parameter("kvm_intel", "unrestricted_guest"))
		return;
	STATS_CHECK(emulated >= 4ULL * rounds * NR_PAGES,
		    "%llu instructions emulated", emulated + 0ULL);
}

static void test_real_mode(enum stats_scope scope)
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
		dq_check_equal("pages_dirtied", dq_count(v), round * NR_PAGES);
		/* If only the CPU saw the last page, its exit is still to come. */
		late = round == 2 && dq_has_pml();
		dq_check_equal("exits for the quota", v->full_exits,
			       round * NR_PAGES - late);
		dq_harvest(&d);
		dq_check_bits(&d, 0, 1, NR_PAGES);
	}
	check_emulated(v, 2);
}

/* ---- a vCPU that waits for an interrupt which never comes ---- */

static void test_halted(enum stats_scope scope)
{
	struct dq_config config = { .enable = true, .quota = 3 };
	struct kvm_mp_state state = { .mp_state = KVM_MP_STATE_HALTED };
	struct dq_vcpu *v;
	struct dq_vm d;

	dq_create(&d, &config);
	v = &d.vcpus[0];
	dq_tell(v, DQ_WRITE, 0, 10);
	dq_check_equal("end of KVM_RUN", dq_run(v), DQ_FULL);
	vcpu_set_mp_state(d.vm, 0, &state);
	dq_check_equal("end of KVM_RUN, halted", dq_run(v), DQ_FULL);
	state.mp_state = KVM_MP_STATE_RUNNABLE;
	vcpu_set_mp_state(d.vm, 0, &state);
	dq_set_quota(v, 0);
	dq_run_to_end(v);
	dq_check_equal("pages_dirtied", dq_count(v), 10);
}

static const struct stats_case cases[] = {
	{ "ins",		test_ins },
	{ "ins_crossing",	test_ins_crossing },
	{ "movs",		test_movs },
	{ "tables_write",	test_tables_write },
	{ "tables_read",	test_tables_read },
	{ "tables_quota",	test_tables_quota },
	{ "fast_faults",	test_fast_faults },
	{ "real_mode",		test_real_mode },
	{ "halted",		test_halted },
};

int main(int argc, char *argv[])
{
	return dq_run_cases(cases, ARRAY_SIZE(cases), argc, argv);
}
