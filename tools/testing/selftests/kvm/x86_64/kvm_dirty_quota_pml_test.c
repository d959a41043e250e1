// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_pml_test
 *
 * Dirty quota where the CPU logs dirty pages by itself and tells KVM late:
 * Intel's page-modification logging.
 *
 * Usage: kvm_dirty_quota_pml_test [-s SECONDS] [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>

#include "kvm_dirty_quota_util.h"

#define NR_PAGES	1300
#define LOG_SIZE	512

/*
 * Mapped, and harvested, so that from now on only the CPU sees writes.  The
 * quota counts from here.
 */
static struct dq_vcpu *setup(struct dq_vm *d)
{
	struct dq_config config = { .nr_pages = NR_PAGES, .enable = true };
	struct dq_vcpu *v;

	dq_create(d, &config);
	v = &d->vcpus[0];
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_check_equal("bits", dq_harvest(d), NR_PAGES);
	dq_check_equal("pages_dirtied", dq_count(v), NR_PAGES);
	v->max_overrun = 0;
	return v;
}

static void print_overrun(uint64_t quota, uint64_t exits, uint64_t overrun)
{
	printf("# quota %llu: %llu exits, at most %llu pages late\n",
	       (unsigned long long)quota, (unsigned long long)exits,
	       (unsigned long long)overrun);
}

static void check_arithmetic(uint64_t quota)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d);
	uint64_t faults = stats_value(&v->stats, "pf_taken");

	stats_doing("a quota of %llu pages", (unsigned long long)quota);
	v->raise_by = quota;
	dq_set_quota(v, NR_PAGES + quota);
	dq_tell(v, DQ_WRITE, 0, NR_PAGES);
	dq_run_to_end(v);
	dq_settle(v);
	dq_check_equal("pages_dirtied", dq_count(v), 2 * NR_PAGES);
	dq_check_equal("exits for the quota", v->full_exits, NR_PAGES / quota);
	print_overrun(quota, v->full_exits, v->overrun);
	dq_check_equal("bits", dq_harvest(&d), NR_PAGES);
	dq_check_bits(&d, 0, 1, NR_PAGES);
	dq_check_equal("page faults", stats_value(&v->stats, "pf_taken"),
		       faults);
	dq_destroy(&d);
}

static void test_quota_small(enum stats_scope scope)
{
	check_arithmetic(1);
	check_arithmetic(2);
	check_arithmetic(3);
}

static void test_quota_log_size(enum stats_scope scope)
{
	check_arithmetic(LOG_SIZE - 1);
	check_arithmetic(LOG_SIZE);
	check_arithmetic(LOG_SIZE + 1);
	check_arithmetic(2 * LOG_SIZE);
}

static void test_quota_edge(enum stats_scope scope)
{
	check_arithmetic(NR_PAGES);
	check_arithmetic(NR_PAGES + 1);
}

static void test_quota_random(enum stats_scope scope)
{
	int i;

	srandom(time(NULL));
	for (i = 0; i < 10; i++)
		check_arithmetic(1 + random() % NR_PAGES);
}

/* Without a quota the log is used as ever. */
static void test_no_quota(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d);
	uint64_t bits = 0;
	int i;

	dq_tell_endless(v, DQ_WRITE, 0, NR_PAGES);
	v->work->random = 4711;
	dq_start(v);
	for (i = 0; i < 30; i++) {
		dq_wait_touched(v, 400);
		bits += dq_harvest(&d);
	}
	dq_stop(v);
	dq_join(v);
	bits += dq_harvest(&d);
	dq_check_equal("pages_dirtied", dq_count(v), NR_PAGES + bits);
}

/* Not used up by pages that are in the CPU's log but were dirty before. */
static void test_dirty_already(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d);
	int i;

	dq_set_quota(v, NR_PAGES + 101);
	for (i = 0; i < 5; i++)
		dq_do(v, DQ_WRITE, 0, 100);
	dq_check_equal("exits for the quota", v->full_exits, 0);
	dq_check_equal("pages_dirtied", dq_count(v), NR_PAGES + 100);
}

/* Changed while the CPU fills its log: late by at most what is in it. */
static void *run_to_exit(void *arg)
{
	struct dq_vcpu *v = arg;

	dq_check_equal("end of KVM_RUN", dq_run(v), DQ_FULL);
	return NULL;
}

static void test_lower_while_running(enum stats_scope scope)
{
	uint64_t count, before;
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d);

	dq_set_quota(v, UINT64_MAX);
	dq_tell_endless(v, DQ_WRITE, 0, NR_PAGES);
	STATS_CHECK(!pthread_create(&v->thread, NULL, run_to_exit, v),
		    "pthread_create");
	dq_wait_touched(v, 100);
	/* All is clean again, and the vCPU in the middle of it. */
	dq_harvest(&d);
	before = dq_count(v);
	dq_set_quota(v, before + 1);
	stats_doing("waiting for the exit");
	pthread_join(v->thread, NULL);
	count = v->run->dirty_quota_full.dirty_count;
	print_overrun(1, 1, count - (before + 1));
	STATS_CHECK(count - (before + 1) <= LOG_SIZE,
		    "quota %llu, count %llu", before + 1ULL, count + 0ULL);
}

/*
 * Every sixth page faults, the others are logged by the CPU: when the fault
 * comes, the pages that are in the log may just have used up the quota.
 */
static void test_mixed(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d);
	uint64_t page, before = dq_count(v);
	uint8_t *memory = addr_gpa2hva(d.vm, DQ_GPA);

	for (page = 5; page < NR_PAGES; page += 6)
		STATS_CHECK(!madvise(memory + page * getpagesize(),
				     getpagesize(), MADV_DONTNEED),
			    "madvise: %s", strerror(errno));
	v->max_overrun = 1;
	v->raise_by = 5;
	dq_set_quota(v, before + 5);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	print_overrun(5, v->full_exits, v->overrun);
	dq_check_equal("pages_dirtied", dq_count(v) - before, NR_PAGES);
	dq_check_equal("exits for the quota", v->full_exits, NR_PAGES / 5);
	dq_check_equal("bits", dq_harvest(&d), NR_PAGES);
}

static const struct stats_case cases[] = {
	{ "quota_small",	test_quota_small,	0, 300 },
	{ "quota_log_size",	test_quota_log_size,	0, 300 },
	{ "quota_edge",		test_quota_edge,	0, 300 },
	{ "quota_random",	test_quota_random,	0, 300 },
	{ "no_quota",		test_no_quota },
	{ "dirty_already",	test_dirty_already },
	{ "lower_while_running", test_lower_while_running },
	{ "mixed",		test_mixed },
};

int main(int argc, char *argv[])
{
	if (!dq_has_pml()) {
		ksft_print_header();
		ksft_exit_skip("no page-modification logging\n");
	}
	return dq_run_cases(cases, ARRAY_SIZE(cases), argc, argv);
}
