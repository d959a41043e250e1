// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_stats_hist_test
 *
 * Where the kernel's histogram helpers count a value, compiled from the kernel's
 * own header: at the edges of buckets, and beyond the last one.  Needs no KVM.
 */
#include <stdbool.h>
#include <stdint.h>
#include <linux/kernel.h>

#include "kselftest.h"

/* The header's own includes are those of tools/include, which lacks it. */
#ifndef min_t
#define min_t(type, a, b)	\
	({ type _a = (a); type _b = (b); _a < _b ? _a : _b; })
#endif

#include "../../../../include/linux/kvm_stats_hist.h"

#define MAX_BUCKETS	70

/* @width is that of a linear histogram's buckets; 0: a log histogram. */
struct hist {
	const char *name;
	size_t buckets;
	size_t width;
};

static const struct hist hists[] = {
	{ "log histogram of 1 bucket",		1,	0 },
	{ "log histogram of 2 buckets",		2,	0 },
	{ "log histogram of 32 buckets",	32,	0 },
	{ "log histogram of 64 buckets",	64,	0 },
	{ "log histogram of 65 buckets",	65,	0 },
	{ "log histogram of 70 buckets",	70,	0 },
	{ "linear histogram of 1 bucket",	1,	10 },
	{ "linear histogram of width 1",	32,	1 },
	{ "linear histogram of width 3",	32,	3 },
	{ "linear histogram of width 4096",	32,	4096 },
	{ "linear histogram of width 2^31",	4,	1UL << 31 },
	{ "linear histogram of the greatest width", 4,	SIZE_MAX },
};

/* By the definition of the ABI, and not as the kernel calculates it. */
static size_t expected_bucket(const struct hist *h, u64 value)
{
	size_t bucket = 0;

	if (h->width) {
		for (; bucket < h->buckets && value >= h->width; bucket++)
			value -= h->width;
	} else {
		for (; value; value >>= 1)
			bucket++;
	}
	return bucket < h->buckets ? bucket : h->buckets - 1;
}

static void count(const struct hist *h, u64 *data, u64 value)
{
	if (h->width)
		kvm_stats_linear_hist_update(data, h->buckets, value, h->width);
	else
		kvm_stats_log_hist_update(data, h->buckets, value);
}

/* One value is one more in one bucket, and nothing around the buckets. */
static bool check_value(const struct hist *h, u64 value)
{
	u64 data[MAX_BUCKETS + 2] = {}, *first = data + 1;
	size_t i, bucket = expected_bucket(h, value);

	count(h, first, value);
	count(h, first, value);
	for (i = 0; i < MAX_BUCKETS + 2; i++) {
		if (data[i] == (i == bucket + 1 ? 2 : 0))
			continue;
		ksft_print_msg("%s: value %llu: bucket %zd has %llu, expected 2 in %zu\n",
			       h->name, (unsigned long long)value,
			       (ssize_t)i - 1, (unsigned long long)data[i],
			       bucket);
		return false;
	}
	return true;
}

static bool check_around(const struct hist *h, u64 value)
{
	return check_value(h, value - 1) && check_value(h, value) &&
	       check_value(h, value + 1);
}

/* 0, every power of two and its neighbours, every edge, the greatest value. */
static bool check_hist(const struct hist *h)
{
	bool ok = check_value(h, 0) && check_value(h, UINT64_MAX);
	u64 edge;
	int i;

	for (i = 0; ok && i < 64; i++)
		ok = check_around(h, 1ULL << i);
	for (i = 1, edge = h->width; ok && i <= h->buckets + 1; i++) {
		ok = check_around(h, edge);
		edge += h->width;
	}
	return ok;
}

static bool check_array_macros(void)
{
	u64 linear[5] = {}, log[5] = {};

	KVM_STATS_LINEAR_HIST_UPDATE(linear, 1000, 10);
	KVM_STATS_LOG_HIST_UPDATE(log, 1000);
	KVM_STATS_LINEAR_HIST_UPDATE(linear, 39, 10);
	KVM_STATS_LOG_HIST_UPDATE(log, 7);
	return linear[4] == 1 && linear[3] == 1 && log[4] == 1 && log[3] == 1;
}

int main(void)
{
	unsigned int i;

	ksft_print_header();
	ksft_set_plan(ARRAY_SIZE(hists) + 1);
	for (i = 0; i < ARRAY_SIZE(hists); i++)
		ksft_test_result(check_hist(&hists[i]), "%s\n", hists[i].name);
	ksft_test_result(check_array_macros(), "size taken from the array\n");
	ksft_print_cnts();
	return ksft_get_fail_cnt() ? KSFT_FAIL : KSFT_PASS;
}
