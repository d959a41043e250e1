// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_emulated_test
 *
 * Instructions which KVM is made to emulate although the CPU could execute
 * them: needs kvm.force_emulation_prefix=1 on the kernel's command line.
 *
 * Usage: kvm_dirty_quota_emulated_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "kvm_dirty_quota_util.h"
#include "processor.h"

#define PAGE		4096UL
#define NR_PAGES	300
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

static struct dq_vcpu *setup(struct dq_vm *d, instruction insn)
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
	struct dq_vcpu *v = setup(&d, insn);
	uint64_t round, emulated;

	for (round = 1; round <= 2; round++) {
		emulated = stats_value(&v->stats, "insn_emulation");
		write_by(v, 3, 1, NR_PAGES);
		dq_check_equal("pages_dirtied", dq_count(v), round * NR_PAGES);
		dq_check_equal("exits for the quota", v->full_exits,
			       round * NR_PAGES);
		dq_check_equal("bits", dq_harvest(&d), NR_PAGES);
		dq_check_bits(&d, 3, 1, NR_PAGES);
		emulated = stats_value(&v->stats, "insn_emulation") - emulated;
		STATS_CHECK(emulated >= NR_PAGES,
			    "%llu instructions were emulated", emulated + 0ULL);
	}
}

static void test_store(enum stats_scope scope)
{
	check_single(store);
}

static void test_exchange(enum stats_scope scope)
{
	check_single(exchange);
}

static void test_compare_exchange(enum stats_scope scope)
{
	check_single(compare_exchange);
}

static void test_add(enum stats_scope scope)
{
	check_single(add_to);
}

static void test_push(enum stats_scope scope)
{
	check_single(push);
}

static void test_fill_page(enum stats_scope scope)
{
	check_single(fill_page);
}

/* Several pages by one instruction: no more over than was written down. */
static void check_several(instruction insn, uint64_t step, uint64_t pages,
			  uint64_t over)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, insn);

	v->max_overrun = over;
	write_by(v, 1, step, 50);
	dq_check_equal("pages_dirtied", dq_count(v), 50 * pages);
	dq_check_equal("bits", dq_harvest(&d), 50 * pages);
	STATS_CHECK(v->full_exits >= dq_count(v) / (over + 1),
		    "%llu exits for %llu pages", v->full_exits + 0ULL,
		    dq_count(v) + 0ULL);
}

static void test_store_crossing(enum stats_scope scope)
{
	check_several(store_crossing, 2, 2, 1);
}

/* 1024 repetitions of 8 bytes at most before the quota is looked at. */
static void test_fill_pages(enum stats_scope scope)
{
	check_several(fill_pages, 4, 4, 1);
}

static const struct stats_case cases[] = {
	{ "store",		test_store },
	{ "exchange",		test_exchange },
	{ "compare_exchange",	test_compare_exchange },
	{ "add",		test_add },
	{ "push",		test_push },
	{ "fill_page",		test_fill_page },
	{ "store_crossing",	test_store_crossing },
	{ "fill_pages",		test_fill_pages },
};

int main(int argc, char *argv[])
{
	if (!dq_parameter("kvm", "force_emulation_prefix")) {
		ksft_print_header();
		ksft_exit_skip("needs kvm.force_emulation_prefix=1\n");
	}
	return dq_run_cases(cases, ARRAY_SIZE(cases), argc, argv);
}
