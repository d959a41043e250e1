// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_binary_stats_guest_test
 *
 * Statistics must move by what a guest did, no more where that can be known, and
 * must not move when it did nothing.
 *
 * Usage: kvm_binary_stats_guest_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kvm_stats_guest.h"
#include "kvm_test_harness.h"

#define NR_ROUNDS	50

/* ---- exits ---- */

/* Every exit of @guest is one of @name, and they are all exits. */
static void check_exits(void *guest, const char *name)
{
	uint64_t before, exits_before;
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest);
	int i;

	TEST_STAT_EQ(&s, name, 0);
	guest_run_once(vm);
	before = stats_value(&s, name);
	exits_before = stats_value(&s, "exits");
	for (i = 1; i <= NR_ROUNDS; i++) {
		guest_run_once(vm);
		TEST_STAT_EQ(&s, name, before + i);
	}
	TEST_STAT_GE(&s, "exits", exits_before + NR_ROUNDS);
}

TEST(exits)
{
	check_exits(guest_exit_loop, EXIT_STAT);
}

TEST(mmio_exits)
{
	check_exits(guest_mmio_loop, MMIO_STAT);
}

/* What one vCPU does is not in the statistics of another. */
TEST(per_vcpu)
{
	struct stats_file s, other;
	struct kvm_vm *vm = guest_setup(&s, guest_exit_loop);
	int i;

	vm_vcpu_add(vm, STATS_VCPU_ID + 1);
	stats_open(&other,
		   stats_get_fd(stats_vcpu_fd(vm, STATS_VCPU_ID + 1)));
	for (i = 0; i < NR_ROUNDS; i++)
		guest_run_once(vm);
	TEST_STAT_EQ(&s, EXIT_STAT, NR_ROUNDS);
	TEST_STAT_EQ(&other, EXIT_STAT, 0);
	TEST_STAT_EQ(&other, "exits", 0);
}

/*
 * Two fds of a vCPU are two views of the same numbers, and the final ones remain
 * when the vCPU and the VM are closed.
 */
TEST(after_vm)
{
	struct stats_file a, b;
	struct kvm_vm *vm = guest_setup(&a, guest_exit_loop);
	int i;

	guest_run_once(vm);
	stats_open(&b, stats_get_fd(stats_vcpu_fd(vm, STATS_VCPU_ID)));
	for (i = 1; i < NR_ROUNDS; i++)
		guest_run_once(vm);
	TEST_STAT_EQ(&a, EXIT_STAT, NR_ROUNDS);
	TEST_STAT_EQ(&b, EXIT_STAT, NR_ROUNDS);
	kvm_vm_free(vm);
	TEST_STAT_EQ(&a, EXIT_STAT, NR_ROUNDS);
	stats_check_unchanged(&a, a.fd);
	stats_close(&a);
	TEST_STAT_EQ(&b, EXIT_STAT, NR_ROUNDS);
}

/*
 * A vCPU that does not run changes nothing, so that now also the data must be
 * the same however it is read.
 */
TEST(idle_data)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_exit_loop);
	uint8_t *image = malloc(s.size), *byte = malloc(s.size);
	size_t pos;
	int i;

	TEST_ASSERT(image && byte, "out of memory");
	for (i = 0; i < NR_ROUNDS; i++)
		guest_run_once(vm);
	stats_pread(s.fd, image, s.size, 0);
	for (pos = 0; pos < s.size; pos++)
		stats_pread(s.fd, byte + pos, 1, pos);
	for (pos = 0; pos < s.size; pos++)
		TEST_ASSERT(byte[pos] == image[pos],
			    "byte %zu is %#x alone, %#x in the whole file",
			    pos, byte[pos], image[pos]);
	TEST_ASSERT(memcmp(image, s.image, s.size), "no value has moved");
	stats_check_unchanged(&s, s.fd);
}

static void check_not_less(const struct stats_file *s, const uint8_t *old,
			   const uint8_t *now)
{
	const struct kvm_stats_desc *d;
	const uint64_t *a, *b;
	uint32_t i, k;

	for (i = 0; i < s->header.num_desc; i++) {
		d = stats_desc(s, i);
		if ((d->flags & KVM_STATS_TYPE_MASK) == KVM_STATS_TYPE_INSTANT)
			continue;
		a = (const void *)(old + s->header.data_offset + d->offset);
		b = (const void *)(now + s->header.data_offset + d->offset);
		for (k = 0; k < d->size; k++)
			TEST_ASSERT(b[k] >= a[k],
				    "%s[%u] went from %llu back to %llu",
				    d->name, k, (unsigned long long)a[k],
				    (unsigned long long)b[k]);
	}
}

/* All that is not instant never decreases, read while the vCPU runs. */
static void check_only_grows(const struct stats_file *s, struct kvm_vm *vm)
{
	uint8_t *old = malloc(s->size), *now = malloc(s->size), *swap;
	unsigned int i;

	TEST_ASSERT(old && now, "out of memory");
	stats_pread(s->fd, old, s->size, 0);
	runner_start(vm);
	for (i = 0; i < 1000; i++) {
		stats_pread(s->fd, now, s->size, 0);
		check_not_less(s, old, now);
		swap = old;
		old = now;
		now = swap;
	}
	runner_wait_round(10);
	stats_check_unchanged(s, s->fd);
}

TEST(only_grows)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_exit_loop);

	check_only_grows(&s, vm);
}

TEST(only_grows_vm)
{
	struct stats_file vcpu_stats, s;
	struct kvm_vm *vm = guest_setup(&vcpu_stats, guest_exit_loop);

	stats_open(&s, stats_get_fd(vm_get_fd(vm)));
	check_only_grows(&s, vm);
}

/* The VMM's vCPU does not have to leave the guest for a file, nor does it. */
static void check_while_running(enum stats_scope scope)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_spin_loop);
	int i;

	runner_start(vm);
	for (i = 0; i < 10; i++) {
		/* It ticks only inside KVM_RUN, and nothing ends that. */
		runner_wait_ticks();
		stats_check_file(stats_get_scope_fd(stats_owner_fd(vm, scope),
						    scope),
				 getpid(), scope);
	}
	runner_wait_ticks();
	TEST_ASSERT_EQ(runner_rounds(), 0);
	TEST_ASSERT_EQ(runner_interrupted(), 0);
}

TEST(while_running)
{
	check_while_running(STATS_VCPU);
}

TEST(while_running_vm)
{
	check_while_running(STATS_VM);
}

TEST(while_running_vcpus)
{
	check_while_running(STATS_VCPUS);
}

static void ignore_signal(int sig)
{
}

/* Signals that all reach the thread inside the guest. */
TEST(signal_exits)
{
	struct sigaction action = { .sa_handler = ignore_signal };
	struct stats_file s;
	pthread_t thread;
	unsigned int i;

	TEST_ASSERT(!sigaction(SIGUSR1, &action, NULL), "sigaction");
	thread = runner_start(guest_setup(&s, guest_spin_loop));
	for (i = 1; i <= NR_ROUNDS; i++) {
		runner_wait_ticks();
		pthread_kill(thread, SIGUSR1);
		STATS_WAIT(runner_interrupted() == i,
			   "for signal %u to end KVM_RUN", i);
		TEST_STAT_EQ(&s, "signal_exits", i);
	}
}

/* ---- the VM's ---- */

#if defined(__x86_64__) || defined(__aarch64__)

#define LOG_GPA		0x80000000UL
#define LOG_SLOT	1

static uint64_t exit_wanted;

/* Writes to the page that is logged, all the time. */
static void guest_write_loop(void)
{
	uint64_t *page = (uint64_t *)LOG_GPA;

	for (;;) {
		WRITE_ONCE(*page, *page + 1);
		if (READ_ONCE(exit_wanted))
			guest_exit();
	}
}

static void set_exit_wanted(struct kvm_vm *vm, bool wanted)
{
	exit_wanted = wanted;
	sync_global_to_guest(vm, exit_wanted);
}

/* Take the page's bit, which must be set. */
static void harvest(struct kvm_vm *vm)
{
	unsigned long bitmap = 0;
	struct kvm_dirty_log log = {
		.slot = LOG_SLOT,
		.dirty_bitmap = &bitmap,
	};

	vm_ioctl(vm, KVM_GET_DIRTY_LOG, &log);
	TEST_ASSERT(bitmap == 1, "the log is %#lx", bitmap);
}

/* On arm64, a flush of all CPUs is one instruction, and always done. */
#ifdef __x86_64__
#define IDLE_FLUSHES	0
#else
#define IDLE_FLUSHES	1
#endif

/*
 * To take a page's bit, KVM has to take back the right to write to it.  If no
 * vCPU runs, that remains a request; sooner or later, it meets one that does.
 */
TEST(remote_tlb_flush)
{
	struct stats_file vcpu_stats, s;
	struct kvm_vm *vm = guest_setup(&vcpu_stats, guest_write_loop);
	uint64_t requests, flushes, *page, old;
	uint64_t end_ms = stats_now_ms() + STATS_WAIT_MS;
	unsigned int i;

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, LOG_GPA, LOG_SLOT,
				    1, KVM_MEM_LOG_DIRTY_PAGES);
	virt_pg_map(vm, LOG_GPA, LOG_GPA, 0);
	page = addr_gpa2hva(vm, LOG_GPA);
	stats_open(&s, stats_get_fd(vm_get_fd(vm)));

	set_exit_wanted(vm, true);
	guest_run_once(vm);
	requests = stats_value(&s, "remote_tlb_flush_requests");
	flushes = stats_value(&s, "remote_tlb_flush");
	harvest(vm);
	TEST_STAT_EQ(&s, "remote_tlb_flush_requests", requests + 1);
	TEST_STAT_EQ(&s, "remote_tlb_flush", flushes + IDLE_FLUSHES);

	/* On a single CPU, the vCPU does not run while this does. */
	if (sysconf(_SC_NPROCESSORS_ONLN) == 1)
		return;
	set_exit_wanted(vm, false);
	runner_start(vm);
	flushes = stats_value(&s, "remote_tlb_flush");
	for (i = 2; stats_value(&s, "remote_tlb_flush") == flushes; i++) {
		TEST_ASSERT(stats_now_ms() < end_ms,
			    "%u requests, and no flush", i);
		old = READ_ONCE(*page);
		STATS_WAIT(READ_ONCE(*page) != old, "for a write of the guest");
		harvest(vm);
		TEST_STAT_EQ(&s, "remote_tlb_flush_requests", requests + i);
	}
}

#endif

/* ---- halts ---- */

/*
 * Halts which are all slept through: each is one halt, one wait, one wakeup,
 * and one entry of the histogram of waits.
 */
TEST(halts)
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
		runner_wait_sleep();
		raise_event(vm);
		runner_wait_round(i);
	}
	/* All that was begun has been counted when it halts again. */
	runner_wait_sleep();
	total_ns = timespec_to_ns(timespec_diff_now(start));
	wait_ns = stats_value(&s, "halt_wait_ns");
	TEST_ASSERT_EQ(stats_sum(&s, "halt_wait_hist"), NR_ROUNDS);
	TEST_STAT_EQ(&s, HALT_STAT, NR_ROUNDS + 1);
	TEST_STAT_GE(&s, "halt_wakeup", NR_ROUNDS);
	TEST_ASSERT(wait_ns && wait_ns <= total_ns,
		    "halt_wait_ns is %llu after %llu ns",
		    (unsigned long long)wait_ns, (unsigned long long)total_ns);
}

/*
 * 1 for as long as the vCPU sleeps, which its thread's state tells, and 0 while
 * it runs.
 */
TEST(blocking)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_spin_loop);
	unsigned int i;

	TEST_STAT_EQ(&s, "blocking", 0);
	runner_start(vm);
	for (i = 0; i < NR_ROUNDS; i++) {
		runner_wait_ticks();
		TEST_STAT_EQ(&s, "blocking", 0);
		guest_want_halt(vm);
		runner_wait_sleep();
		/* The thread's state may change shortly before. */
		STATS_WAIT(stats_value(&s, "blocking") == 1,
			   "for a vCPU that sleeps to be shown as blocked");
		raise_event(vm);
		runner_wait_ticks();
		TEST_STAT_EQ(&s, "blocking", 0);
		lower_event(vm);
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
	TEST_ASSERT(min <= sum && sum <= max,
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
	TEST_ASSERT(attempted, "no halt has been polled for");
	TEST_ASSERT_EQ(stats_sum(s, "halt_poll_success_hist"), successful);
	TEST_ASSERT_EQ(stats_sum(s, "halt_poll_fail_hist"),
		       attempted - successful);
	check_hist_bounds(s, "halt_wait_hist", "halt_wait_ns");
}

/*
 * Halts that end at any time, so that some are over while KVM polls and some
 * later.  An event can come before the guest halts and be of no use then.
 */
TEST(halt_polling)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_HALT_POLL,
		.args = { 100 * 1000 * 1000 },
	};
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_halt_loop);
	uint64_t end_ms = stats_now_ms() + STATS_WAIT_MS;
	unsigned int i;

	vm_enable_cap(vm, &cap);
	runner_start(vm);
	for (i = 1; i <= 4 * NR_ROUNDS; i++) {
		while (runner_rounds() < i) {
			TEST_ASSERT(stats_now_ms() < end_ms,
				    "no end of halt %u", i);
			usleep(i % 8 * 200);
			raise_event(vm);
		}
	}
	runner_wait_sleep();
	check_poll_hists(&s);
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_BINARY_STATS_FD)
