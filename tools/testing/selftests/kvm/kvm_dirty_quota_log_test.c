// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_log_test
 *
 * A vCPU is charged one page for each bit of the dirty log that it has set:
 * what userspace finds in the log and what the vCPUs were charged must be
 * equal, whatever the vCPUs did to get there.
 *
 * Usage: kvm_dirty_quota_log_test [-s SECONDS] [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <linux/bitmap.h>

#include "kvm_dirty_quota_util.h"

#define NR_PAGES	768

static void setup(struct dq_vm *d, unsigned int nr_vcpus)
{
	struct dq_config config = {
		.nr_vcpus = nr_vcpus,
		.nr_pages = NR_PAGES,
		.enable = true,
	};

	dq_create(d, &config);
}

/* What the vCPUs were charged since @before is what is in the log now. */
static void check_charged(struct dq_vm *d, uint64_t before, uint64_t expected)
{
	uint64_t charged = dq_count_all(d) - before;

	dq_check_equal("bits in the log", dq_harvest(d), expected);
	dq_check_equal("pages charged", charged, expected);
}

static void join_all(struct dq_vm *d)
{
	unsigned int i;

	for (i = 0; i < d->nr_vcpus; i++)
		dq_join(&d->vcpus[i]);
}

/* ---- several vCPUs at the same time ---- */

static void check_disjoint(unsigned int nr)
{
	uint64_t share = NR_PAGES / nr;
	struct dq_vm d;
	unsigned int i;

	setup(&d, nr);
	for (i = 0; i < nr; i++) {
		dq_tell(&d.vcpus[i], DQ_WRITE, i * share, share);
		dq_start(&d.vcpus[i]);
	}
	join_all(&d);
	for (i = 0; i < nr; i++)
		dq_check_equal("pages_dirtied of a vCPU",
			       dq_count(&d.vcpus[i]), share);
	check_charged(&d, 0, nr * share);
	dq_check_bits(&d, 0, 1, nr * share);
	dq_destroy(&d);
}

static void test_disjoint(enum stats_scope scope)
{
	unsigned int nr;

	for (nr = 1; nr <= DQ_MAX_VCPUS; nr++)
		check_disjoint(nr);
}

/* All write all pages: each page is charged to the one that was first. */
static void check_same(unsigned int nr)
{
	struct dq_vm d;
	unsigned int i;

	setup(&d, nr);
	for (i = 0; i < nr; i++) {
		dq_tell(&d.vcpus[i], DQ_WRITE, 0, NR_PAGES);
		dq_start(&d.vcpus[i]);
	}
	join_all(&d);
	check_charged(&d, 0, NR_PAGES);
	dq_check_bits(&d, 0, 1, NR_PAGES);
	dq_destroy(&d);
}

static void test_same(enum stats_scope scope)
{
	unsigned int nr;

	for (nr = 2; nr <= DQ_MAX_VCPUS; nr++)
		check_same(nr);
}

/* Neighbours share half of their pages, in an order of their own. */
static void start_random(struct dq_vcpu *v)
{
	uint64_t share = NR_PAGES / (DQ_MAX_VCPUS + 1);

	dq_tell_endless(v, DQ_WRITE, v->id * share, 2 * share);
	v->work->random = 88172645463325252ULL + v->id;
	dq_start(v);
}

static void check_overlapping(unsigned int nr)
{
	struct dq_vm d;
	unsigned int i;

	setup(&d, nr);
	for (i = 0; i < nr; i++)
		start_random(&d.vcpus[i]);
	for (i = 0; i < nr; i++) {
		dq_wait_touched(&d.vcpus[i], 200);
		dq_stop(&d.vcpus[i]);
	}
	join_all(&d);
	dq_check_equal("pages charged", dq_count_all(&d), dq_harvest(&d));
	STATS_CHECK(dq_bits(&d), "no bit is set");
	dq_destroy(&d);
}

static void test_overlapping(enum stats_scope scope)
{
	unsigned int nr;

	for (nr = 1; nr <= DQ_MAX_VCPUS; nr++)
		check_overlapping(nr);
}

/* The log is taken away under the vCPUs; no bit is lost or charged twice. */
static void test_harvest_while_running(enum stats_scope scope)
{
	uint64_t bits = 0;
	struct dq_vm d;
	unsigned int i;

	setup(&d, 4);
	for (i = 0; i < d.nr_vcpus; i++)
		start_random(&d.vcpus[i]);
	for (i = 0; i < 200; i++) {
		dq_wait_touched(&d.vcpus[i % d.nr_vcpus], 20);
		bits += dq_harvest(&d);
	}
	for (i = 0; i < d.nr_vcpus; i++)
		dq_stop(&d.vcpus[i]);
	join_all(&d);
	bits += dq_harvest(&d);
	dq_check_equal("pages charged in all rounds", dq_count_all(&d), bits);
	STATS_CHECK(bits > NR_PAGES, "only %llu bits", bits + 0ULL);
}

/* Not charged for what another has dirtied, before or meanwhile. */
static void test_other_vcpu(enum stats_scope scope)
{
	struct dq_vm d;

	setup(&d, 3);
	dq_tell_endless(&d.vcpus[2], DQ_READ, NR_PAGES - 1, 1);
	dq_start(&d.vcpus[2]);
	dq_wait_touched(&d.vcpus[2], 1);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, 300);
	dq_do(&d.vcpus[1], DQ_WRITE, 0, 300);
	dq_stop(&d.vcpus[2]);
	dq_join(&d.vcpus[2]);
	dq_check_equal("of the first", dq_count(&d.vcpus[0]), 300);
	dq_check_equal("of the second", dq_count(&d.vcpus[1]), 0);
	dq_harvest(&d);
	dq_check_equal("of the reader", dq_count(&d.vcpus[2]),
		       dq_bit(&d, NR_PAGES - 1));
}

/* ---- one vCPU ---- */

static void check_two_rounds(bool enable)
{
	struct dq_config config = { .nr_pages = NR_PAGES, .enable = enable };
	struct dq_vm d;

	dq_create(&d, &config);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, 200);
	check_charged(&d, 0, 200);
	dq_check_bits(&d, 0, 1, 200);
	/* Half of them are mapped, but must not be written unseen. */
	dq_do(&d.vcpus[0], DQ_WRITE, 100, 200);
	check_charged(&d, 200, 200);
	dq_check_bits(&d, 100, 1, 200);
	dq_do(&d.vcpus[0], DQ_IDLE, 0, 0);
	check_charged(&d, 400, 0);
	dq_destroy(&d);
}

static void test_two_rounds(enum stats_scope scope)
{
	check_two_rounds(true);
}

/* The count does not depend on there being a quota. */
static void test_two_rounds_not_enabled(enum stats_scope scope)
{
	check_two_rounds(false);
}

static void test_rewrite(enum stats_scope scope)
{
	struct dq_vm d;
	int i;

	setup(&d, 1);
	dq_tell_endless(&d.vcpus[0], DQ_WRITE, 5, 1);
	d.vcpus[0].work->nr = 20000;
	dq_run_to_end(&d.vcpus[0]);
	dq_settle(&d.vcpus[0]);
	for (i = 0; i < 10; i++)
		dq_do(&d.vcpus[0], DQ_WRITE, 5, 1);
	check_charged(&d, 0, 1);
	dq_check_bits(&d, 5, 1, 1);
}

/* Words of the bitmap that no page of the slot uses stay clear. */
static void test_odd_size(enum stats_scope scope)
{
	struct dq_config config = { .nr_pages = 67, .enable = true };
	struct dq_vm d;

	dq_create(&d, &config);
	dq_do(&d.vcpus[0], DQ_WRITE, 63, 4);
	check_charged(&d, 0, 4);
	dq_check_bits(&d, 63, 1, 4);
}

static void test_step(enum stats_scope scope)
{
	struct dq_vm d;

	setup(&d, 1);
	dq_tell(&d.vcpus[0], DQ_WRITE, 3, 100);
	d.vcpus[0].work->step = 7;
	dq_run_to_end(&d.vcpus[0]);
	dq_settle(&d.vcpus[0]);
	check_charged(&d, 0, 100);
	dq_check_bits(&d, 3, 7, 100);
}

/* Pages that are mapped: a read changes nothing, even after a harvest. */
static void test_read_mapped(enum stats_scope scope)
{
	struct dq_vm d;

	setup(&d, 1);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, 300);
	dq_do(&d.vcpus[0], DQ_READ, 0, 300);
	check_charged(&d, 0, 300);
	dq_do(&d.vcpus[0], DQ_READ, 0, 300);
	check_charged(&d, 300, 0);
}

/*
 * A read of a page that is not mapped yet may map it for writing, and then sets
 * its bit: architectures differ, but the charge follows the log.
 */
static void check_read_unmapped(bool populate)
{
	uint64_t bits;
	struct dq_vm d;

	setup(&d, 1);
	if (populate)
		dq_populate(&d);
	dq_do(&d.vcpus[0], DQ_READ, 0, 300);
	bits = dq_harvest(&d);
	dq_check_equal("pages charged", dq_count_all(&d), bits);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, 300);
	check_charged(&d, bits, 300);
	dq_check_bits(&d, 0, 1, 300);
	dq_destroy(&d);
}

static void test_read_unmapped(enum stats_scope scope)
{
	check_read_unmapped(true);
}

/* All of them the one page of zeroes at first. */
static void test_read_zero_page(enum stats_scope scope)
{
	check_read_unmapped(false);
}

/* ---- KVM_CLEAR_DIRTY_LOG ---- */

static void setup_manual(struct dq_vm *d, uint64_t flags)
{
	struct dq_config config = {
		.nr_pages = NR_PAGES,
		.enable = true,
		.manual_protect = flags,
	};
	uint64_t have = kvm_check_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);

	if ((have & flags) != flags)
		stats_skip("KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 is %#llx",
			   (unsigned long long)have);
	dq_create(d, &config);
}

/* Those of the pages from @first whose bits @mask has, in each word. */
static void clear_log(struct dq_vm *d, uint64_t first, uint32_t nr,
		      unsigned long mask)
{
	unsigned long words[NR_PAGES / 64];

	memset(words, 0, sizeof(words));
	for (uint32_t i = 0; i < nr / 64; i++)
		words[i] = mask;
	kvm_vm_clear_dirty_log(d->vm, DQ_SLOT, words, first, nr);
}

/* Charged again are the pages that were cleared, and only those. */
static void test_clear_partial(enum stats_scope scope)
{
	struct dq_vcpu *v;
	struct dq_vm d;

	setup_manual(&d, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	v = &d.vcpus[0];
	dq_do(v, DQ_WRITE, 0, 256);
	check_charged(&d, 0, 256);
	dq_do(v, DQ_WRITE, 0, 256);
	dq_check_equal("charged before KVM_CLEAR_DIRTY_LOG", dq_count(v), 256);

	clear_log(&d, 64, 64, ~0UL);
	dq_check_equal("bits left", dq_harvest(&d), 192);
	dq_do(v, DQ_WRITE, 0, 256);
	dq_check_equal("charged after a range", dq_count(v), 256 + 64);

	clear_log(&d, 128, 128, 0x5555555555555555UL);
	dq_check_equal("bits left", dq_harvest(&d), 192);
	dq_do(v, DQ_WRITE, 0, 256);
	dq_check_equal("charged after every second", dq_count(v), 320 + 64);
	dq_check_equal("bits", dq_harvest(&d), 256);
}

/* A bit that was clear before stays so, and is charged once. */
static void test_clear_unset(enum stats_scope scope)
{
	struct dq_vm d;

	setup_manual(&d, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	clear_log(&d, 0, 128, ~0UL);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, 10);
	clear_log(&d, 64, 64, ~0UL);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, 70);
	check_charged(&d, 0, 70);
}

/* Who finds the bits set pays nothing, until they were cleared. */
static void test_initially_set(enum stats_scope scope)
{
	struct dq_vcpu *v;
	struct dq_vm d;

	setup_manual(&d, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
			 KVM_DIRTY_LOG_INITIALLY_SET);
	v = &d.vcpus[0];
	dq_check_equal("bits at first", dq_harvest(&d), NR_PAGES);
	dq_do(v, DQ_WRITE, 0, 100);
	dq_check_equal("charged at first", dq_count(v), 0);
	clear_log(&d, 0, 192, ~0UL);
	dq_check_equal("bits left", dq_harvest(&d), NR_PAGES - 192);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_check_equal("charged after a range", dq_count(v), 192);
	dq_check_equal("bits", dq_harvest(&d), NR_PAGES);
	clear_log(&d, 0, NR_PAGES, ~0UL);
	dq_do(v, DQ_WRITE, 0, 300);
	dq_check_equal("charged after all", dq_count(v), 192 + 300);
	dq_check_equal("bits", dq_harvest(&d), 300);
	dq_check_bits(&d, 0, 1, 300);
}

static const struct stats_case cases[] = {
	{ "disjoint",		test_disjoint },
	{ "same",		test_same },
	{ "overlapping",	test_overlapping },
	{ "harvest_while_running", test_harvest_while_running },
	{ "other_vcpu",		test_other_vcpu },
	{ "two_rounds",		test_two_rounds },
	{ "two_rounds_not_enabled", test_two_rounds_not_enabled },
	{ "rewrite",		test_rewrite },
	{ "odd_size",		test_odd_size },
	{ "step",		test_step },
	{ "read_mapped",	test_read_mapped },
	{ "read_unmapped",	test_read_unmapped },
	{ "read_zero_page",	test_read_zero_page },
	{ "clear_partial",	test_clear_partial },
	{ "clear_unset",	test_clear_unset },
	{ "initially_set",	test_initially_set },
};

int main(int argc, char *argv[])
{
	return dq_run_cases(cases, ARRAY_SIZE(cases), argc, argv);
}
