// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_binary_stats_halt_test
 *
 * The statistics of a vCPU that halts, is woken, and is interrupted.
 *
 * Usage: kvm_binary_stats_halt_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <signal.h>
#include <time.h>

#include "kvm_stats_guest.h"

#define NR_ROUNDS	50

/*
 * Halts which are all slept through: each is one halt, one wait, one wakeup,
 * and one entry of the histogram of waits.
 */
static void test_halts(enum stats_scope scope)
{
	uint64_t wait_ns, total_ns;
	struct timespec start;
	struct stats_file s;
	struct kvm_vm *vm;
	unsigned int i;

	clock_gettime(CLOCK_MONOTONIC, &start);
	vm = guest_setup(&s, guest_halt_loop);
	runner_start(vm);
	for (i = 1; i <= NR_ROUNDS; i++) {
		runner_wait_halt(&s);
		raise_event(vm);
		runner_wait_round(i);
	}
	/* All that was begun has been counted when it halts again. */
	runner_wait_halt(&s);
	total_ns = timespec_to_ns(timespec_diff_now(start));
	wait_ns = stats_value(&s, "halt_wait_ns");
	check_grown("halt_wait_hist", 0, stats_sum(&s, "halt_wait_hist"),
		    NR_ROUNDS);
	check_grown(HALT_STAT, 0, stats_value(&s, HALT_STAT), NR_ROUNDS + 1);
	check_grown_at_least("halt_wakeup", 0, stats_value(&s, "halt_wakeup"),
			     NR_ROUNDS);
	STATS_CHECK(wait_ns && wait_ns <= total_ns,
		    "halt_wait_ns is %llu after %llu ns",
		    (unsigned long long)wait_ns, (unsigned long long)total_ns);
}

/* 1 for as long as the vCPU sleeps, 0 before that. */
static void test_blocking(enum stats_scope scope)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_halt_loop);
	unsigned int i;

	check_grown("blocking", 0, stats_value(&s, "blocking"), 0);
	runner_start(vm);
	for (i = 1; i <= 5; i++) {
		runner_wait_halt(&s);
		usleep(20000);
		check_grown("blocking", 0, stats_value(&s, "blocking"), 1);
		raise_event(vm);
		runner_wait_round(i);
	}
}

/* It has slept, and runs again without having left KVM_RUN. */
static void test_not_blocking(enum stats_scope scope)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_halt_then_spin);
	int i;

	runner_start(vm);
	runner_wait_halt(&s);
	raise_event(vm);
	for (i = 0; i < 100; i++) {
		runner_wait_ticks();
		check_grown("blocking", 0, stats_value(&s, "blocking"), 0);
	}
}

/* The bounds that a log histogram sets for the sum of what is in it. */
static void check_hist_bounds(const struct stats_file *s, const char *hist,
			      const char *sum_name)
{
	const struct kvm_stats_desc *d = stats_need(s, hist);
	uint64_t min = 0, max = 0, sum = stats_value(s, sum_name);
	uint64_t count[65];
	int i;

	stats_read(s, d, count);
	for (i = 1; i < d->size; i++) {
		min += count[i] << (i - 1);
		max += count[i] * ((1ULL << i) - 1);
	}
	/* The last bucket has no upper limit. */
	if (count[d->size - 1])
		max = UINT64_MAX;
	STATS_CHECK(min <= sum && sum <= max,
		    "%s is %llu, but by %s it is %llu to %llu", sum_name,
		    (unsigned long long)sum, hist, (unsigned long long)min,
		    (unsigned long long)max);
}

static void check_poll_hists(const struct stats_file *s)
{
	uint64_t attempted = stats_value(s, "halt_attempted_poll");
	uint64_t successful = stats_value(s, "halt_successful_poll");

	printf("# halt polls: %llu attempted, %llu successful\n",
	       (unsigned long long)attempted, (unsigned long long)successful);
	STATS_CHECK(attempted, "no halt has been polled for");
	check_grown("halt_poll_success_hist", 0,
		    stats_sum(s, "halt_poll_success_hist"), successful);
	check_grown("halt_poll_fail_hist", 0,
		    stats_sum(s, "halt_poll_fail_hist"),
		    attempted - successful);
	check_hist_bounds(s, "halt_wait_hist", "halt_wait_ns");
}

static void allow_polling(struct kvm_vm *vm, uint64_t limit_ns)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_HALT_POLL,
		.args = { limit_ns },
	};

	vm_enable_cap(vm, &cap);
}

/*
 * Halts that end at any time, so that some are over while KVM polls and some
 * later.  An event can come before the guest halts and be of no use then.
 */
static void test_halt_polling(enum stats_scope scope)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_halt_loop);
	unsigned int i;

	allow_polling(vm, 100 * 1000 * 1000);
	runner_start(vm);
	for (i = 1; i <= 4 * NR_ROUNDS; i++) {
		stats_doing("waiting for round %u of the guest", i);
		while (runner_rounds() < i) {
			usleep(i % 8 * 200);
			raise_event(vm);
		}
	}
	runner_wait_halt(&s);
	check_poll_hists(&s);
}

static void ignore_signal(int sig)
{
}

/* Signals that all reach the thread inside the guest. */
static void test_signal_exits(enum stats_scope scope)
{
	struct sigaction action = { .sa_handler = ignore_signal };
	struct stats_file s;
	pthread_t thread;
	unsigned int i;

	STATS_CHECK(!sigaction(SIGUSR1, &action, NULL), "sigaction");
	thread = runner_start(guest_setup(&s, guest_spin_loop));
	for (i = 1; i <= NR_ROUNDS; i++) {
		runner_wait_ticks();
		stats_doing("waiting for signal %u to end KVM_RUN", i);
		pthread_kill(thread, SIGUSR1);
		while (runner_interrupted() < i)
			usleep(100);
		check_grown("signal_exits", 0,
			    stats_value(&s, "signal_exits"), i);
	}
}

static const struct stats_case cases[] = {
	{ "halts",		test_halts },
	{ "blocking",		test_blocking },
	{ "not_blocking",	test_not_blocking },
	{ "halt_polling",	test_halt_polling },
	{ "signal_exits",	test_signal_exits },
};

int main(int argc, char *argv[])
{
	return stats_run_cases(cases, ARRAY_SIZE(cases), argv[1]);
}
