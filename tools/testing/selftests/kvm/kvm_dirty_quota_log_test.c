// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_log_test
 *
 * A vCPU is charged one page for each bit of the dirty log that it has set: what
 * userspace finds in the log and what the vCPUs were charged must be equal,
 * whatever the vCPUs did to get there, and whatever the memory slot is.
 *
 * Usage: kvm_dirty_quota_log_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "kvm_dirty_quota_util.h"
#include "kvm_test_harness.h"

#define NR_PAGES	768
/* Where huge pages are to fit in. */
#define SLOT_PAGES	1024

static void setup(struct dq_vm *d, unsigned int nr_vcpus)
{
	struct dq_config config = {
		.nr_vcpus = nr_vcpus,
		.nr_pages = NR_PAGES,
		.enable = true,
	};

	dq_create(d, &config);
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
		TEST_ASSERT_EQ(dq_count(&d.vcpus[i]), share);
	dq_check_charged(&d, 0, nr * share);
	dq_check_bits(&d, 0, 1, nr * share);
	dq_destroy(&d);
}

TEST(disjoint)
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
	dq_check_charged(&d, 0, NR_PAGES);
	dq_check_bits(&d, 0, 1, NR_PAGES);
	dq_destroy(&d);
}

TEST(same)
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
	TEST_ASSERT_EQ(dq_count_all(&d), dq_harvest(&d));
	TEST_ASSERT(dq_bits(&d), "no bit is set");
	dq_destroy(&d);
}

TEST(overlapping)
{
	unsigned int nr;

	for (nr = 1; nr <= DQ_MAX_VCPUS; nr++)
		check_overlapping(nr);
}

/* The log is taken away under the vCPUs; no bit is lost or charged twice. */
TEST(harvest_while_running)
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
	TEST_ASSERT_EQ(dq_count_all(&d), bits);
	TEST_ASSERT(bits > NR_PAGES, "only %llu bits", bits + 0ULL);
}

/* Not charged for what another has dirtied, before or meanwhile. */
TEST(other_vcpu)
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
	TEST_ASSERT_EQ(dq_count(&d.vcpus[0]), 300);
	TEST_ASSERT_EQ(dq_count(&d.vcpus[1]), 0);
	dq_harvest(&d);
	TEST_ASSERT_EQ(dq_count(&d.vcpus[2]), dq_bit(&d, NR_PAGES - 1));
}

/* ---- one vCPU ---- */

static void check_two_rounds(bool enable)
{
	struct dq_config config = { .nr_pages = NR_PAGES, .enable = enable };
	struct dq_vm d;

	dq_create(&d, &config);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, 200);
	dq_check_charged(&d, 0, 200);
	dq_check_bits(&d, 0, 1, 200);
	/* Half of them are mapped, but must not be written unseen. */
	dq_do(&d.vcpus[0], DQ_WRITE, 100, 200);
	dq_check_charged(&d, 200, 200);
	dq_check_bits(&d, 100, 1, 200);
	dq_do(&d.vcpus[0], DQ_IDLE, 0, 0);
	dq_check_charged(&d, 400, 0);
	dq_destroy(&d);
}

TEST(two_rounds)
{
	check_two_rounds(true);
}

/* The count does not depend on there being a quota. */
TEST(two_rounds_not_enabled)
{
	check_two_rounds(false);
}

TEST(rewrite)
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
	dq_check_charged(&d, 0, 1);
	dq_check_bits(&d, 5, 1, 1);
}

/* Words of the bitmap that no page of the slot uses stay clear. */
TEST(odd_size)
{
	struct dq_config config = { .nr_pages = 67, .enable = true };
	struct dq_vm d;

	dq_create(&d, &config);
	dq_do(&d.vcpus[0], DQ_WRITE, 63, 4);
	dq_check_charged(&d, 0, 4);
	dq_check_bits(&d, 63, 1, 4);
}

TEST(step)
{
	struct dq_vm d;

	setup(&d, 1);
	dq_tell(&d.vcpus[0], DQ_WRITE, 3, 100);
	d.vcpus[0].work->step = 7;
	dq_run_to_end(&d.vcpus[0]);
	dq_settle(&d.vcpus[0]);
	dq_check_charged(&d, 0, 100);
	dq_check_bits(&d, 3, 7, 100);
}

/* Pages that are mapped: a read changes nothing, even after a harvest. */
TEST(read_mapped)
{
	struct dq_vm d;

	setup(&d, 1);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, 300);
	dq_do(&d.vcpus[0], DQ_READ, 0, 300);
	dq_check_charged(&d, 0, 300);
	dq_do(&d.vcpus[0], DQ_READ, 0, 300);
	dq_check_charged(&d, 300, 0);
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
	TEST_ASSERT_EQ(dq_count_all(&d), bits);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, 300);
	dq_check_charged(&d, bits, 300);
	dq_check_bits(&d, 0, 1, 300);
	dq_destroy(&d);
}

TEST(read_unmapped)
{
	check_read_unmapped(true);
}

/* All of them the one page of zeroes at first. */
TEST(read_zero_page)
{
	check_read_unmapped(false);
}

/* ---- KVM_CLEAR_DIRTY_LOG ---- */

#define MANUAL		KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE
#define INITIALLY_SET	KVM_DIRTY_LOG_INITIALLY_SET

static bool have_manual_protect(uint64_t flags)
{
	uint64_t have = kvm_check_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);

	return (have & flags) == flags;
}

static void setup_manual(struct dq_vm *d, uint64_t flags)
{
	struct dq_config config = {
		.nr_pages = NR_PAGES,
		.enable = true,
		.manual_protect = flags,
	};

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
TEST(clear_partial)
{
	struct dq_vcpu *v;
	struct dq_vm d;

	if (!have_manual_protect(MANUAL))
		SKIP(return, "no KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2");
	setup_manual(&d, MANUAL);
	v = &d.vcpus[0];
	dq_do(v, DQ_WRITE, 0, 256);
	dq_check_charged(&d, 0, 256);
	dq_do(v, DQ_WRITE, 0, 256);
	TEST_ASSERT_EQ(dq_count(v), 256);

	clear_log(&d, 64, 64, ~0UL);
	TEST_ASSERT_EQ(dq_harvest(&d), 192);
	dq_do(v, DQ_WRITE, 0, 256);
	TEST_ASSERT_EQ(dq_count(v), 256 + 64);

	clear_log(&d, 128, 128, 0x5555555555555555UL);
	TEST_ASSERT_EQ(dq_harvest(&d), 192);
	dq_do(v, DQ_WRITE, 0, 256);
	TEST_ASSERT_EQ(dq_count(v), 320 + 64);
	TEST_ASSERT_EQ(dq_harvest(&d), 256);
}

/* A bit that was clear before stays so, and is charged once. */
TEST(clear_unset)
{
	struct dq_vm d;

	if (!have_manual_protect(MANUAL))
		SKIP(return, "no KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2");
	setup_manual(&d, MANUAL);
	clear_log(&d, 0, 128, ~0UL);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, 10);
	clear_log(&d, 64, 64, ~0UL);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, 70);
	dq_check_charged(&d, 0, 70);
}

/* Who finds the bits set pays nothing, until they were cleared. */
TEST(initially_set)
{
	struct dq_vcpu *v;
	struct dq_vm d;

	if (!have_manual_protect(MANUAL | INITIALLY_SET))
		SKIP(return, "no KVM_DIRTY_LOG_INITIALLY_SET");
	setup_manual(&d, MANUAL | INITIALLY_SET);
	v = &d.vcpus[0];
	TEST_ASSERT_EQ(dq_harvest(&d), NR_PAGES);
	dq_do(v, DQ_WRITE, 0, 100);
	TEST_ASSERT_EQ(dq_count(v), 0);
	clear_log(&d, 0, 192, ~0UL);
	TEST_ASSERT_EQ(dq_harvest(&d), NR_PAGES - 192);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	TEST_ASSERT_EQ(dq_count(v), 192);
	TEST_ASSERT_EQ(dq_harvest(&d), NR_PAGES);
	clear_log(&d, 0, NR_PAGES, ~0UL);
	dq_do(v, DQ_WRITE, 0, 300);
	TEST_ASSERT_EQ(dq_count(v), 192 + 300);
	TEST_ASSERT_EQ(dq_harvest(&d), 300);
	dq_check_bits(&d, 0, 1, 300);
}

/* ---- whether a slot has a log, and since when ---- */

static void setup_unlogged(struct dq_vm *d)
{
	struct dq_config config = {
		.nr_pages = SLOT_PAGES,
		.enable = true,
		.quota = 1,
		.unlogged = true,
	};

	dq_create(d, &config);
}

/* Even a quota of one page cannot be used up where there is no log. */
TEST(unlogged)
{
	struct dq_vm d;

	setup_unlogged(&d);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, SLOT_PAGES);
	TEST_ASSERT_EQ(dq_count_all(&d), 0);
}

/* Only while there is a log, and from its start. */
TEST(on_off)
{
	struct dq_vcpu *v;
	struct dq_vm d;

	setup_unlogged(&d);
	v = &d.vcpus[0];
	dq_do(v, DQ_WRITE, 0, 100);
	dq_set_quota(v, 0);
	dq_set_logging(&d, true);
	dq_check_charged(&d, 0, 0);
	dq_do(v, DQ_WRITE, 50, 100);
	dq_check_charged(&d, 0, 100);
	dq_check_bits(&d, 50, 1, 100);
	dq_do(v, DQ_WRITE, 50, 20);
	dq_set_logging(&d, false);
	dq_do(v, DQ_WRITE, 0, 500);
	TEST_ASSERT_EQ(dq_count(v), 120);
	dq_set_logging(&d, true);
	dq_check_charged(&d, 120, 0);
	dq_do(v, DQ_WRITE, 0, 500);
	dq_check_charged(&d, 120, 500);
}

/* The log starts anew, all bits clear: the same pages are charged again. */
TEST(off_and_on)
{
	struct dq_vcpu *v;
	struct dq_vm d;

	setup_unlogged(&d);
	v = &d.vcpus[0];
	dq_set_quota(v, 0);
	dq_set_logging(&d, true);
	dq_do(v, DQ_WRITE, 0, 100);
	dq_set_logging(&d, false);
	dq_set_logging(&d, true);
	dq_do(v, DQ_WRITE, 0, 100);
	TEST_ASSERT_EQ(dq_count(v), 200);
	dq_check_charged(&d, 100, 100);
}

/*
 * KVM_SET_USER_MEMORY_REGION returns when no vCPU uses the slot as it was: from
 * then on, without a log, nothing is charged.
 */
static void check_still(struct dq_vcpu *v)
{
	uint64_t count = dq_count(v);

	dq_wait_touched(v, 400);
	TEST_ASSERT_EQ(dq_count(v), count);
}

/*
 * Switched while the vCPU writes.  Bits that it set go away with the log when
 * that is switched off, so that only what was charged since the log was last
 * switched on can be compared with its bits, after the vCPU has stopped.
 */
static void check_switch(struct dq_vm *d, unsigned int times)
{
	struct dq_vcpu *v = &d->vcpus[0];
	uint64_t before;
	unsigned int i;

	dq_tell_endless(v, DQ_WRITE, 0, 300);
	dq_start(v);
	for (i = 0; i < times; i++) {
		dq_set_logging(d, false);
		check_still(v);
		before = dq_count(v);
		dq_set_logging(d, true);
		dq_wait_touched(v, i % 350);
	}
	dq_stop(v);
	dq_join(v);
	TEST_ASSERT_EQ(dq_count(v) - before, dq_harvest(d));
}

TEST(switch_while_running)
{
	struct dq_vm d;
	int i;

	setup_unlogged(&d);
	dq_set_quota(&d.vcpus[0], 0);
	for (i = 1; i < 8; i++)
		check_switch(&d, i);
	check_switch(&d, 40);
}

/* With the first page that there is a log for, the quota is in force. */
TEST(on_uses_up_quota)
{
	struct dq_vcpu *v;
	struct dq_vm d;

	setup_unlogged(&d);
	v = &d.vcpus[0];
	v->raise_by = 300;
	dq_tell_endless(v, DQ_WRITE, 0, 300);
	dq_start(v);
	dq_wait_touched(v, 600);
	TEST_STAT_EQ(&v->stats, "dirty_quota_exits", 0);
	dq_set_logging(&d, true);
	dq_wait_touched(v, 900);
	dq_stop(v);
	dq_join(v);
	TEST_ASSERT_EQ(v->full_exits, 1);
	dq_check_charged(&d, 0, 300);
}

/* The page tables of the test pages are in the slot as well. */
static void check_tables(bool write_first)
{
	struct dq_config config = {
		.nr_pages = SLOT_PAGES,
		.enable = true,
		.tables_in_slot = true,
	};
	uint64_t bits, before;
	struct dq_vcpu *v;
	struct dq_vm d;
	int round;

	dq_create(&d, &config);
	v = &d.vcpus[0];
	for (round = 0; round < 3; round++) {
		before = dq_count(v);
		if (write_first == !round)
			dq_do(v, DQ_WRITE, 0, SLOT_PAGES);
		else
			dq_do(v, DQ_READ, 0, SLOT_PAGES);
		bits = dq_harvest(&d);
		TEST_ASSERT_EQ(dq_count(v) - before, bits);
		if (write_first && !round)
			TEST_ASSERT(bits >= SLOT_PAGES, "only %llu bits",
				    bits + 0ULL);
	}
	dq_destroy(&d);
}

TEST(tables_write)
{
	check_tables(true);
}

TEST(tables_read)
{
	check_tables(false);
}

/*
 * One access marks the tables that lead to the page, one at each level, and the
 * page; the quota can only stop the vCPU after them.
 */
TEST(tables_quota)
{
	struct dq_config config = {
		.nr_pages = SLOT_PAGES,
		.enable = true,
		.quota = 3,
		.tables_in_slot = true,
	};
	struct dq_vcpu *v;
	struct dq_vm d;

	dq_create(&d, &config);
	v = &d.vcpus[0];
	v->raise_by = 3;
	v->max_overrun = DQ_TABLE_LEVELS;
	dq_do(v, DQ_WRITE, 0, SLOT_PAGES);
	TEST_ASSERT_EQ(dq_count(v), dq_harvest(&d));
	TEST_ASSERT(v->full_exits <= dq_count(v) / 3 &&
		    v->full_exits >= dq_count(v) / (3 + DQ_TABLE_LEVELS),
		    "%llu exits for %llu pages", v->full_exits + 0ULL,
		    dq_count(v) + 0ULL);
}

/* ---- huge pages ---- */

/* Of all memory of this process that huge pages of any kind are used for. */
static uint64_t huge_kb(void)
{
	unsigned long sum = 0, kb;
	char line[256];
	FILE *f = fopen("/proc/self/smaps", "r");

	TEST_ASSERT(f, "smaps");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "AnonHugePages: %lu", &kb) == 1 ||
		    sscanf(line, "Private_Hugetlb: %lu", &kb) == 1)
			sum += kb;
	fclose(f);
	return sum;
}

static bool setup_huge(struct dq_vm *d, enum vm_mem_backing_src_type source,
		       uint64_t manual_protect)
{
	struct dq_config config = {
		.nr_pages = SLOT_PAGES,
		.enable = true,
		.unlogged = true,
		.source = source,
		.manual_protect = manual_protect,
	};

	dq_create(d, &config);
	dq_populate(d);
	return huge_kb();
}

/*
 * Mapped by huge pages, logged and charged in small ones; and once more, as the
 * small ones may be put together when there is no log.
 */
static void check_huge(struct dq_vm *d)
{
	struct dq_vcpu *v = &d->vcpus[0];
	uint64_t before;
	int round;

	for (round = 0; round < 3; round++) {
		before = dq_count(v);
		dq_do(v, DQ_WRITE, 0, SLOT_PAGES);
		TEST_ASSERT_EQ(dq_count(v), before);
		dq_set_logging(d, true);
		dq_tell(v, DQ_WRITE, 1, 100);
		v->work->step = 9;
		dq_run_to_end(v);
		dq_settle(v);
		dq_check_charged(d, before, 100);
		dq_check_bits(d, 1, 9, 100);
		before = dq_count(v);
		dq_do(v, DQ_WRITE, 0, SLOT_PAGES);
		dq_check_charged(d, before, SLOT_PAGES);
		dq_set_logging(d, false);
	}
}

/* The library does not start without. */
static bool have_thp(void)
{
	return !access("/sys/kernel/mm/transparent_hugepage", F_OK);
}

TEST(thp)
{
	struct dq_vm d;

	if (!have_thp() || !setup_huge(&d, VM_MEM_SRC_ANONYMOUS_THP, 0))
		SKIP(return, "no transparent huge pages");
	check_huge(&d);
}

static bool have_hugetlb(void)
{
	size_t size = SLOT_PAGES * getpagesize();
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE |
		       MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (p == MAP_FAILED)
		return false;
	munmap(p, size);
	return true;
}

/* Reserve some if there are none. */
static bool reserve_hugetlb(void)
{
	int fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY);
	bool ok = fd >= 0 && write(fd, "8", 1) == 1;

	if (fd >= 0)
		close(fd);
	return ok && have_hugetlb();
}

TEST(hugetlb)
{
	struct dq_vm d;

	if ((!have_hugetlb() && !reserve_hugetlb()) ||
	    !setup_huge(&d, VM_MEM_SRC_ANONYMOUS_HUGETLB, 0))
		SKIP(return, "no huge pages are reserved");
	check_huge(&d);
}

/* Huge pages stay huge until their part of the log is cleared. */
TEST(thp_initially_set)
{
	unsigned long words[SLOT_PAGES / 64];
	struct dq_vm d;

	if (!have_manual_protect(MANUAL | INITIALLY_SET))
		SKIP(return, "no KVM_DIRTY_LOG_INITIALLY_SET");
	if (!have_thp() || !setup_huge(&d, VM_MEM_SRC_ANONYMOUS_THP,
				       MANUAL | INITIALLY_SET))
		SKIP(return, "no transparent huge pages");
	dq_do(&d.vcpus[0], DQ_WRITE, 0, SLOT_PAGES);
	dq_set_logging(&d, true);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, SLOT_PAGES / 2);
	TEST_ASSERT_EQ(dq_harvest(&d), SLOT_PAGES);
	TEST_ASSERT_EQ(dq_count_all(&d), 0);
	memset(words, 0xff, sizeof(words));
	kvm_vm_clear_dirty_log(d.vm, DQ_SLOT, words, 0, SLOT_PAGES);
	dq_do(&d.vcpus[0], DQ_WRITE, 3, SLOT_PAGES - 10);
	dq_check_charged(&d, 0, SLOT_PAGES - 10);
	dq_check_bits(&d, 3, 1, SLOT_PAGES - 10);
}

/* ---- memory that comes and goes under the vCPU ---- */

/* What the host takes away is mapped again, but its bit is set already. */
TEST(dontneed)
{
	struct dq_config config = { .nr_pages = SLOT_PAGES, .enable = true };
	size_t size = SLOT_PAGES * getpagesize();
	struct dq_vcpu *v;
	struct dq_vm d;
	int i;

	dq_create(&d, &config);
	v = &d.vcpus[0];
	dq_tell_endless(v, DQ_WRITE, 0, 300);
	dq_start(v);
	for (i = 0; i < 20; i++) {
		dq_wait_touched(v, 350);
		TEST_ASSERT(!madvise(addr_gpa2hva(d.vm, DQ_GPA), size, MADV_DONTNEED),
			    "madvise");
	}
	dq_stop(v);
	dq_join(v);
	dq_check_charged(&d, 0, 300);
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_DIRTY_QUOTA)
