// SPDX-License-Identifier: GPL-2.0-only
/* The arithmetic of migsim: shares, auto-converge's throttle, token bucket. */
#include <stdlib.h>
#include <string.h>

#include "image.h"

#include "../migsim/bucket.h"
#include "../migsim/shares.h"
#include "../migsim/throttle.h"

#define VCPUS		4
#define NS_PER_S	1000000000ull

static struct share share[64];

static struct shares make_shares(unsigned int vcpus, uint64_t count)
{
	struct shares shares = { .vcpus = vcpus, .share = share };

	for (unsigned int i = 0; i < vcpus; i++)
		share[i] = (struct share){ .count = count, .ceiling = 12345 };
	shares_start(&shares);
	return shares;
}

/* All of what is granted is dirtied. */
static void use_up(const struct shares *shares)
{
	for (unsigned int i = 0; i < shares->vcpus; i++)
		shares->share[i].count = shares->share[i].ceiling;
}

static void equal_shares(void **state)
{
	struct shares shares = make_shares(VCPUS, 100);

	(void)state;
	for (unsigned int i = 0; i < VCPUS; i++)
		assert_int_equal(share[i].ceiling, 100);
	shares_begin(&shares, 40 * SHARE_ONE);
	for (unsigned int i = 0; i < VCPUS; i++)
		assert_int_equal(share[i].ceiling, 110);
	assert_int_equal(shares.pool, 0);
}

/* Less than a page a vCPU and interval is not lost, it comes later. */
static void rest_is_kept(void **state)
{
	struct shares shares = make_shares(VCPUS, 0);

	(void)state;
	for (int interval = 1; interval <= 80; interval++) {
		shares_begin(&shares, SHARE_ONE * 3 / 10);
		use_up(&shares);
		for (unsigned int i = 0; i < VCPUS; i++)
			assert_in_range(share[i].ceiling,
					(interval * 3 - 1) / 10 / VCPUS,
					interval * 3 / 10 / VCPUS);
	}
	assert_int_equal(share[0].ceiling, 5); /* 23.99 pages by four */
}

static void unused_goes_to_the_pool(void **state)
{
	struct shares shares = make_shares(VCPUS, 0);

	(void)state;
	shares_begin(&shares, 40 * SHARE_ONE);
	share[0].count = 10;
	share[1].count = 4;
	shares_begin(&shares, 40 * SHARE_ONE);
	assert_int_equal(shares.pool, 6 + 10 + 10);
	assert_int_equal(share[0].ceiling, 20);
	assert_int_equal(share[1].ceiling, 14);
	assert_int_equal(share[3].ceiling, 10);
}

static void first_come_first_served(void **state)
{
	struct shares shares = make_shares(VCPUS, 0);
	uint64_t total = 20;

	(void)state;
	shares_begin(&shares, 40 * SHARE_ONE);
	share[0].count = 10;
	shares_begin(&shares, 40 * SHARE_ONE);
	assert_int_equal(shares_take(&shares, 0, 15), 5); /* still its share */
	assert_int_equal(shares.pool, 30);
	for (int takes = 0; takes < 3; takes++) {
		assert_int_equal(shares_take(&shares, 0, total), 8);
		total += 8;
	}
	assert_int_equal(shares.pool, 6);
	assert_int_equal(shares_take(&shares, 1, 10), 6);
	assert_int_equal(shares_take(&shares, 0, total), 0);
	assert_int_equal(shares_take(&shares, 2, 10), 0);
	assert_int_equal(shares.pool, 0);
}

/* A log that reports late: the vCPU pays before it goes on. */
static void overrun_is_made_up(void **state)
{
	struct shares shares = make_shares(2, 0);

	(void)state;
	shares_begin(&shares, 20 * SHARE_ONE);
	share[0].count = 10 + 25;
	share[1].count = 10;
	shares_begin(&shares, 20 * SHARE_ONE);
	assert_int_equal(share[0].ceiling, 20);
	assert_int_equal(shares_take(&shares, 0, 35), 0);
	assert_int_equal(shares.pool, 0);
	share[1].count = 20;
	shares_begin(&shares, 20 * SHARE_ONE);
	assert_int_equal(shares_take(&shares, 0, 35), 0);
	share[1].count = 30;
	shares_begin(&shares, 20 * SHARE_ONE);
	assert_int_equal(shares_take(&shares, 0, 35), 5);
}

/* What the pool has goes against the overrun first. */
static void pool_pays_for_an_overrun(void **state)
{
	struct shares shares = make_shares(2, 0);

	(void)state;
	shares_begin(&shares, 20 * SHARE_ONE);
	share[0].count = 14;
	shares_begin(&shares, 0);
	assert_int_equal(shares.pool, 10);
	assert_int_equal(shares_take(&shares, 0, 14), 5);
	assert_int_equal(share[0].ceiling, 19);
	assert_int_equal(shares.pool, 1);
}

static void counts_wrap(void **state)
{
	struct shares shares = make_shares(2, UINT64_MAX - 4);

	(void)state;
	shares_begin(&shares, 20 * SHARE_ONE);
	assert_int_equal(share[0].ceiling, 5);
	assert_int_equal(shares_take(&shares, 0, UINT64_MAX), 6);
	share[0].count = 5;
	share[1].count = 1;
	shares_begin(&shares, 20 * SHARE_ONE);
	assert_int_equal(share[0].ceiling, 15);
	assert_int_equal(share[1].ceiling, 11);
	assert_int_equal(shares.pool, 4);
}

static void no_vcpus(void **state)
{
	struct shares shares = make_shares(0, 0);

	(void)state;
	shares_begin(&shares, 20 * SHARE_ONE);
	shares_begin(&shares, UINT64_MAX);
	shares_drain(&shares);
	assert_int_equal(shares.pool, 0);
}

static void drained(void **state)
{
	struct shares shares = make_shares(2, 0);

	(void)state;
	shares_begin(&shares, 20 * SHARE_ONE);
	share[0].count = 10;
	shares_begin(&shares, 20 * SHARE_ONE);
	assert_int_equal(shares.pool, 10);
	shares_drain(&shares);
	assert_int_equal(shares_take(&shares, 0, 20), 0);
	assert_int_equal(shares_take(&shares, 1, 5), 5);
}

/* Whatever they do: never more than the budgets, and all of it if wanted. */
static void nothing_is_made_or_lost(void **state)
{
	struct shares shares = make_shares(7, 1000);
	uint64_t granted = 0, dirtied = 0;

	(void)state;
	srandom(1);
	for (int interval = 0; interval < 5000; interval++) {
		uint64_t budget = random() % (20 * SHARE_ONE);

		granted += budget;
		shares_begin(&shares, budget);
		for (int i = 0; i < 50; i++) {
			unsigned int vcpu = random() % 7;
			uint64_t may = shares_take(&shares, vcpu,
						   share[vcpu].count);

			may = may ? random() % (may + 1) : 0;
			share[vcpu].count += may;
			dirtied += may;
		}
		assert_true(dirtied * SHARE_ONE <= granted);
	}
	for (unsigned int i = 0; i < 7; i++) {
		uint64_t may;

		while ((may = shares_take(&shares, i, share[i].count))) {
			share[i].count += may;
			dirtied += may;
		}
	}
	assert_true(shares.pool == 0);
	assert_int_equal(dirtied * SHARE_ONE + shares.rest, granted);
}

static void budgets(void **state)
{
	(void)state;
	/* 40960 bytes in 10 ms, half of it, are 5 pages */
	assert_int_equal(shares_budget(4096000, 10000000, 50, 4096),
			 5 * SHARE_ONE);
	assert_int_equal(shares_budget(4096000, 10000000, 100, 4096),
			 10 * SHARE_ONE);
	assert_int_equal(shares_budget(0, 10000000, 50, 4096), 0);
	assert_int_equal(shares_budget(4096000, 0, 50, 4096), 0);
	/* 1 TiB/s over a second does not overflow */
	assert_int_equal(shares_budget(1ull << 40, NS_PER_S, 100, 4096),
			 (1ull << 28) * SHARE_ONE);
}

static void throttle_as_qemu(void **state)
{
	static const unsigned int percents[] = {
		20, 30, 40, 50, 60, 70, 80, 90, 99, 99, 99
	};
	struct throttle throttle = { 0 };

	(void)state;
	for (unsigned int i = 0; i < sizeof(percents) / sizeof(*percents); i++) {
		unsigned int before = throttle.percent;

		throttle_round(&throttle, 100, 51);
		assert_int_equal(throttle.percent, before);
		throttle_round(&throttle, 100, 50); /* not too much */
		assert_int_equal(throttle.percent, before);
		throttle_round(&throttle, 100, 51);
		assert_int_equal(throttle.percent, percents[i]);
	}
}

static void throttle_sleeps(void **state)
{
	struct throttle throttle = { 0 };

	(void)state;
	assert_int_equal(throttle_sleep_ns(&throttle), 0);
	throttle.percent = 20;
	assert_int_equal(throttle_sleep_ns(&throttle), 2500000);
	throttle.percent = 50;
	assert_int_equal(throttle_sleep_ns(&throttle), 10000000);
	throttle.percent = 99;
	assert_int_equal(throttle_sleep_ns(&throttle), 990000000);
}

static void bucket_keeps_the_rate(void **state)
{
	struct bucket bucket;
	uint64_t now = 5 * NS_PER_S, sent = 0, wait_ns;

	(void)state;
	bucket_init(&bucket, 1000003, NS_PER_S / 100, now);
	for (int i = 0; i < 10000 && now < 15 * NS_PER_S; i++) {
		wait_ns = bucket_take(&bucket, 4104, now);
		if (!wait_ns)
			sent += 4104;
		now += wait_ns;
	}
	/* one message may be ahead of its time */
	assert_in_range(sent, 10000030 - 4104, 10000030 + 4104);
}

static void bucket_saves_no_more_than_a_burst(void **state)
{
	struct bucket bucket;
	uint64_t now = NS_PER_S, sent = 0;

	(void)state;
	bucket_init(&bucket, 1000000, NS_PER_S / 100, now);
	now += 100 * NS_PER_S; /* nothing was sent for long */
	while (sent < 1000000 && !bucket_take(&bucket, 100, now))
		sent += 100;
	assert_in_range(sent, 10000, 10100);
}

static void bucket_says_how_long(void **state)
{
	struct bucket bucket;
	uint64_t wait_ns;

	(void)state;
	bucket_init(&bucket, 1000, 0, 0);
	assert_int_equal(bucket_take(&bucket, 500, 0), 0);
	wait_ns = bucket_take(&bucket, 500, 1);
	assert_int_equal(wait_ns, NS_PER_S / 2 - 1);
	assert_int_not_equal(bucket_take(&bucket, 500, NS_PER_S / 2 - 1), 0);
	assert_int_equal(bucket_take(&bucket, 500, NS_PER_S / 2), 0);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(equal_shares),
		cmocka_unit_test(rest_is_kept),
		cmocka_unit_test(unused_goes_to_the_pool),
		cmocka_unit_test(first_come_first_served),
		cmocka_unit_test(overrun_is_made_up),
		cmocka_unit_test(pool_pays_for_an_overrun),
		cmocka_unit_test(counts_wrap),
		cmocka_unit_test(no_vcpus),
		cmocka_unit_test(drained),
		cmocka_unit_test(nothing_is_made_or_lost),
		cmocka_unit_test(budgets),
		cmocka_unit_test(throttle_as_qemu),
		cmocka_unit_test(throttle_sleeps),
		cmocka_unit_test(bucket_keeps_the_rate),
		cmocka_unit_test(bucket_saves_no_more_than_a_burst),
		cmocka_unit_test(bucket_says_how_long),
	};

	return RUN(tests);
}
