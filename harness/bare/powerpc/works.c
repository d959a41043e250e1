// SPDX-License-Identifier: GPL-2.0-only
/*
 * What guests of 64-bit PowerPC do, and what it is counted as.
 */
#include "bare.h"
#include "kvm_test_harness.h"
#include "processor.h"

#define NR_HALTS	200

static const char *const interrupts[] = {
	"dec_exits", "ext_intr_exits", NULL
};

static void hypercall_loop(void)
{
	for (;;)
		bare_hypercall();
}

/* KVM-PR finds no translation first; KVM-HV loads the instruction. */
TEST(mmio_store)
{
	static const struct bare_move pr[] = {
		{ "sum_exits", 1 }, { "mmio_exits", 1 }, { "pf_storage", 1 }, {}
	};
	static const struct bare_move hv[] = {
		{ "sum_exits", 1 }, { "ld", 1 }, {}
	};
	struct bare_work work = {
		.guest = guest_mmio_loop,
		.exit_reason = KVM_EXIT_MMIO,
		.moves = bare_have_pr() ? pr : hv,
		.noise = interrupts,
		.sum = "sum_exits",
	};

	bare_check_work(&work);
}

/* KVM-PR emulates the instruction that stands for the hypercall. */
TEST(hypercall)
{
	static const struct bare_move pr[] = {
		{ "sum_exits", 1 }, { "emulated_inst_exits", 1 }, {}
	};
	static const struct bare_move hv[] = { { "sum_exits", 1 }, {} };
	struct bare_work work = {
		.guest = hypercall_loop,
		.exit_reason = KVM_EXIT_PAPR_HCALL,
		.moves = bare_have_pr() ? pr : hv,
		.noise = interrupts,
		.sum = "sum_exits",
	};

	bare_check_work(&work);
}

static void *raise_often(void *vm)
{
	unsigned int i;

	for (i = 0;; i++) {
		usleep(i % 8 * 500);
		raise_event(vm);
	}
	return NULL;
}

static bool has_all_kinds(const struct stats_file *s)
{
	return stats_value(s, "halt_successful_poll") &&
	       stats_sum(s, "halt_poll_fail_hist") &&
	       stats_sum(s, "halt_wait_hist");
}

/* An event can come before the guest halts; then nothing of it is counted. */
static void run_halts(struct kvm_vm *vm, const struct stats_file *s)
{
	struct kvm_enable_cap polling = {
		.cap = KVM_CAP_HALT_POLL,
		.args = { 100 * 1000 * 1000 },
	};
	uint64_t end_ms = stats_now_ms() + STATS_WAIT_MS;
	pthread_t thread;
	int i;

	/* KVM-HV does not look at it, but at the module's parameter. */
	vm_enable_cap(vm, &polling);
	TEST_ASSERT(!pthread_create(&thread, NULL, raise_often, vm),
		    "pthread_create");
	for (i = 0; i < NR_HALTS || !has_all_kinds(s); i++) {
		TEST_ASSERT(stats_now_ms() < end_ms,
			    "no halts of all kinds in %d", i);
		guest_run_once(vm);
	}
}

/*
 * The vCPU does not halt while the statistics are read: all that was polled
 * and waited for is in one histogram or the other.
 */
TEST(halts)
{
	uint64_t attempted, successful, waits;
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_halt_loop);

	run_halts(vm, &s);
	attempted = stats_value(&s, "halt_attempted_poll");
	successful = stats_value(&s, "halt_successful_poll");
	waits = stats_sum(&s, "halt_wait_hist");
	printf("# %llu polls, %llu of them successful, %llu waits\n",
	       (unsigned long long)attempted, (unsigned long long)successful,
	       (unsigned long long)waits);
	TEST_ASSERT_EQ(stats_sum(&s, "halt_poll_success_hist"), successful);
	TEST_ASSERT_EQ(stats_sum(&s, "halt_poll_fail_hist"),
		       attempted - successful);
	/* KVM-PR does not count it. */
	TEST_STAT_EQ(&s, "halt_successful_wait", bare_have_pr() ? 0 : waits);
	/* A poll that succeeds at its first look takes no time. */
	TEST_ASSERT(stats_value(&s, "halt_wait_ns") &&
		    stats_value(&s, "halt_poll_fail_ns"), "no time is counted");
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_BINARY_STATS_FD)
