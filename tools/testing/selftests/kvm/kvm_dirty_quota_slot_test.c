// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_slot_test
 *
 * Charging depends on the memory slot: whether it has a dirty log, since when,
 * what backs it, and what else than data is in it.
 *
 * Usage: kvm_dirty_quota_slot_test [-s SECONDS] [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "kvm_dirty_quota_util.h"

#define NR_PAGES	1024

static void check_charged(struct dq_vm *d, uint64_t before, uint64_t expected)
{
	uint64_t charged = dq_count_all(d) - before;

	dq_check_equal("bits in the log", dq_harvest(d), expected);
	dq_check_equal("pages charged", charged, expected);
}

static void setup_unlogged(struct dq_vm *d)
{
	struct dq_config config = {
		.nr_pages = NR_PAGES,
		.enable = true,
		.quota = 1,
		.unlogged = true,
	};

	dq_create(d, &config);
}

/* Even a quota of one page cannot be used up where there is no log. */
static void test_unlogged(enum stats_scope scope)
{
	struct dq_vm d;

	setup_unlogged(&d);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, NR_PAGES);
	dq_check_equal("pages_dirtied", dq_count_all(&d), 0);
}

/* Only while there is a log, and from its start. */
static void test_on_off(enum stats_scope scope)
{
	struct dq_vcpu *v;
	struct dq_vm d;

	setup_unlogged(&d);
	v = &d.vcpus[0];
	dq_do(v, DQ_WRITE, 0, 100);
	dq_set_quota(v, 0);
	dq_set_logging(&d, true);
	check_charged(&d, 0, 0);
	dq_do(v, DQ_WRITE, 50, 100);
	check_charged(&d, 0, 100);
	dq_check_bits(&d, 50, 1, 100);
	dq_do(v, DQ_WRITE, 50, 20);
	dq_set_logging(&d, false);
	dq_do(v, DQ_WRITE, 0, 500);
	dq_check_equal("pages_dirtied without a log", dq_count(v), 120);
	dq_set_logging(&d, true);
	check_charged(&d, 120, 0);
	dq_do(v, DQ_WRITE, 0, 500);
	check_charged(&d, 120, 500);
}

/* The log starts anew, all bits clear: the same pages are charged again. */
static void test_off_and_on(enum stats_scope scope)
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
	dq_check_equal("pages_dirtied", dq_count(v), 200);
	check_charged(&d, 100, 100);
}

/*
 * KVM_SET_USER_MEMORY_REGION returns when no vCPU uses the slot as it was: from
 * then on, without a log, nothing is charged.
 */
static void check_still(struct dq_vcpu *v)
{
	uint64_t count = dq_count(v);

	dq_wait_touched(v, 400);
	dq_check_equal("pages_dirtied without a log", dq_count(v), count);
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
	dq_check_equal("pages charged since the log is on",
		       dq_count(v) - before, dq_harvest(d));
}

static void test_switch_while_running(enum stats_scope scope)
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
static void test_on_uses_up_quota(enum stats_scope scope)
{
	struct dq_vcpu *v;
	struct dq_vm d;

	setup_unlogged(&d);
	v = &d.vcpus[0];
	v->raise_by = 300;
	dq_tell_endless(v, DQ_WRITE, 0, 300);
	dq_start(v);
	dq_wait_touched(v, 600);
	dq_check_equal("exits for the quota",
		       stats_value(&v->stats, "dirty_quota_exits"), 0);
	dq_set_logging(&d, true);
	dq_wait_touched(v, 900);
	dq_stop(v);
	dq_join(v);
	dq_check_equal("exits for the quota", v->full_exits, 1);
	check_charged(&d, 0, 300);
}

/* The page tables of the test pages are in the slot as well. */
static void check_tables(bool write_first)
{
	struct dq_config config = {
		.nr_pages = NR_PAGES,
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
			dq_do(v, DQ_WRITE, 0, NR_PAGES);
		else
			dq_do(v, DQ_READ, 0, NR_PAGES);
		bits = dq_harvest(&d);
		dq_check_equal("pages charged", dq_count(v) - before, bits);
		if (write_first && !round)
			STATS_CHECK(bits >= NR_PAGES, "only %llu bits",
				    bits + 0ULL);
	}
	dq_destroy(&d);
}

static void test_tables_write(enum stats_scope scope)
{
	check_tables(true);
}

static void test_tables_read(enum stats_scope scope)
{
	check_tables(false);
}

/*
 * One access marks the tables that lead to the page, one at each level, and the
 * page; the quota can only stop the vCPU after them.
 */
static void test_tables_quota(enum stats_scope scope)
{
	struct dq_config config = {
		.nr_pages = NR_PAGES,
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
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_check_equal("pages charged", dq_count(v), dq_harvest(&d));
	STATS_CHECK(v->full_exits <= dq_count(v) / 3 &&
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

	STATS_CHECK(f, "smaps: %s", strerror(errno));
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "AnonHugePages: %lu", &kb) == 1 ||
		    sscanf(line, "Private_Hugetlb: %lu", &kb) == 1)
			sum += kb;
	fclose(f);
	return sum;
}

static void setup_huge(struct dq_vm *d, enum vm_mem_backing_src_type source,
		       uint64_t manual_protect)
{
	struct dq_config config = {
		.nr_pages = NR_PAGES,
		.enable = true,
		.unlogged = true,
		.source = source,
		.manual_protect = manual_protect,
	};

	dq_create(d, &config);
	dq_populate(d);
	if (!huge_kb())
		stats_skip("no huge page was to be had");
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
		dq_do(v, DQ_WRITE, 0, NR_PAGES);
		dq_check_equal("pages_dirtied without a log", dq_count(v),
			       before);
		dq_set_logging(d, true);
		dq_tell(v, DQ_WRITE, 1, 100);
		v->work->step = 9;
		dq_run_to_end(v);
		dq_settle(v);
		check_charged(d, before, 100);
		dq_check_bits(d, 1, 9, 100);
		before = dq_count(v);
		dq_do(v, DQ_WRITE, 0, NR_PAGES);
		check_charged(d, before, NR_PAGES);
		dq_set_logging(d, false);
	}
}

static void test_thp(enum stats_scope scope)
{
	struct dq_vm d;

	if (access("/sys/kernel/mm/transparent_hugepage", F_OK))
		stats_skip("no transparent huge pages");
	setup_huge(&d, VM_MEM_SRC_ANONYMOUS_THP, 0);
	check_huge(&d);
}

static bool have_hugetlb(void)
{
	size_t size = NR_PAGES * getpagesize();
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE |
		       MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (p == MAP_FAILED)
		return false;
	munmap(p, size);
	return true;
}

/* Reserve some if there are none; they are given back by the next case. */
static void require_hugetlb(void)
{
	int fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY);

	if (have_hugetlb())
		return;
	if (fd < 0 || write(fd, "8", 1) != 1 || !have_hugetlb())
		stats_skip("no huge pages are reserved");
	close(fd);
}

static void test_hugetlb(enum stats_scope scope)
{
	struct dq_vm d;

	require_hugetlb();
	setup_huge(&d, VM_MEM_SRC_ANONYMOUS_HUGETLB, 0);
	check_huge(&d);
}

/* Huge pages stay huge until their part of the log is cleared. */
static void test_thp_initially_set(enum stats_scope scope)
{
	unsigned long words[NR_PAGES / 64];
	struct dq_vm d;

	if (access("/sys/kernel/mm/transparent_hugepage", F_OK))
		stats_skip("no transparent huge pages");
	setup_huge(&d, VM_MEM_SRC_ANONYMOUS_THP,
		   KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
		   KVM_DIRTY_LOG_INITIALLY_SET);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, NR_PAGES);
	dq_set_logging(&d, true);
	dq_do(&d.vcpus[0], DQ_WRITE, 0, NR_PAGES / 2);
	dq_check_equal("bits", dq_harvest(&d), NR_PAGES);
	dq_check_equal("pages_dirtied at first", dq_count_all(&d), 0);
	memset(words, 0xff, sizeof(words));
	kvm_vm_clear_dirty_log(d.vm, DQ_SLOT, words, 0, NR_PAGES);
	dq_do(&d.vcpus[0], DQ_WRITE, 3, NR_PAGES - 10);
	check_charged(&d, 0, NR_PAGES - 10);
	dq_check_bits(&d, 3, 1, NR_PAGES - 10);
}

/* ---- memory that comes and goes under the vCPU ---- */

/* What the host takes away is mapped again, but its bit is set already. */
static void test_dontneed(enum stats_scope scope)
{
	struct dq_config config = { .nr_pages = NR_PAGES, .enable = true };
	size_t size = NR_PAGES * getpagesize();
	struct dq_vcpu *v;
	struct dq_vm d;
	int i;

	dq_create(&d, &config);
	v = &d.vcpus[0];
	dq_tell_endless(v, DQ_WRITE, 0, 300);
	dq_start(v);
	for (i = 0; i < 20; i++) {
		dq_wait_touched(v, 350);
		STATS_CHECK(!madvise(addr_gpa2hva(d.vm, DQ_GPA), size,
				     MADV_DONTNEED),
			    "madvise: %s", strerror(errno));
	}
	dq_stop(v);
	dq_join(v);
	check_charged(&d, 0, 300);
}

static const struct stats_case cases[] = {
	{ "unlogged",		test_unlogged },
	{ "on_off",		test_on_off },
	{ "off_and_on",		test_off_and_on },
	{ "switch_while_running", test_switch_while_running },
	{ "on_uses_up_quota",	test_on_uses_up_quota },
	{ "tables_write",	test_tables_write },
	{ "tables_read",	test_tables_read },
	{ "tables_quota",	test_tables_quota },
	{ "thp",		test_thp },
	{ "thp_initially_set",	test_thp_initially_set },
	{ "hugetlb",		test_hugetlb },
	{ "dontneed",		test_dontneed },
};

int main(int argc, char *argv[])
{
	return dq_run_cases(cases, ARRAY_SIZE(cases), argc, argv);
}
