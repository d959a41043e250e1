// SPDX-License-Identifier: GPL-2.0-only
/*
 * exit-bench exits KIND EXITS
 *
 * What one exit of a guest costs, and which statistics count it. Rounds of N
 * and of 2N exits take turns, and what is printed is the difference between the
 * shortest of each, which no interrupt of the host's disturbed: "KIND exits
 * nanoseconds", where under QEMU's -icount shift=0 a nanosecond is an
 * instruction; then, if there are statistics fds, "stat KIND NAME count" for
 * each statistic that moved in as many exits.
 *
 *   io         a port is written: KVM_RUN returns, and is called again
 *   cpuid      handled in the kernel, as short as they come
 *   hypercall  one that there is not
 *   halt       until the next tick of a timer of 1 ms, without polling: the
 *              time that the vCPU's thread runs, so that waiting does not count
 *   fault      the first write to a page
 *
 * exit-bench running TRIES [--check]
 *
 * What it takes to get a statistics fd of a vCPU while that is in the guest:
 * "running tries median-ns longest-ns exits". The guest leaves KVM_RUN each
 * ROUND_TRIPS trips round its loop, and exits are those which its vCPU counts
 * during all calls; some are the host's own interrupts. --check: fail if every
 * single call saw one, as it would if getting the fd caused it.
 */
#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#include "bench-vm.h"

#define ROUND_TRIPS	100000000ull
#define MAX_TRIES	1000
#define ROUNDS		64

#if defined(__x86_64__)
#include "exit-bench-x86_64.h"
#else
#error "what are the guests on this architecture?"
#endif
#include "exit-bench-stats.h"

struct kind {
	const char *name;
	const unsigned char *code, *code_end;
	clockid_t clock;
	bool interrupts, slot;
};

#define KIND(_name, ...)						\
	{ .name = #_name, .code = guest_##_name,			\
	  .code_end = guest_##_name##_end, __VA_ARGS__ }

static const struct kind kinds[] = {
	KIND(io, .clock = CLOCK_MONOTONIC),
	KIND(cpuid, .clock = CLOCK_MONOTONIC),
	KIND(hypercall, .clock = CLOCK_MONOTONIC),
	KIND(halt, .clock = CLOCK_THREAD_CPUTIME_ID, .interrupts = true),
	KIND(fault, .clock = CLOCK_MONOTONIC, .slot = true),
	{ .name = NULL }
};

static const struct kind *find_kind(const char *name)
{
	for (const struct kind *kind = kinds; kind->name; kind++)
		if (!strcmp(name, kind->name))
			return kind;
	fprintf(stderr, "exit-bench: no such kind of exit: %s\n", name);
	exit(2);
}

/* --- the VM ---------------------------------------------------------------- */

static void create_irqchip(const struct bench *bench)
{
	const struct kvm_pit_config pit = { 0 };
	struct kvm_enable_cap no_polling = { .cap = KVM_CAP_HALT_POLL };

	CALL(bench->vm_fd, KVM_CREATE_IRQCHIP, 0);
	CALL(bench->vm_fd, KVM_CREATE_PIT2, &pit);
	CALL(bench->vm_fd, KVM_ENABLE_CAP, &no_polling);
}

static void set_up(struct bench *bench, const struct kind *kind)
{
	create_vm(bench);
	add_memory(bench, PLAIN_START);
	if (kind && kind->slot)
		make_slot(bench, 0, LOGGED_START);
	if (kind && kind->interrupts)
		create_irqchip(bench);
	add_vcpu(bench);
	guest_set_up(bench);
	set_tables(bench);
	if (kind)
		load_code(bench, kind->code, kind->code_end);
	if (kind && kind->interrupts)
		start_timer(bench);
}

/* --- exits ----------------------------------------------------------------- */

/* Returns the nanoseconds of so many exits, and one more. */
static uint64_t run_guest(const struct bench *bench, clockid_t clock,
			  uint64_t exits)
{
	uint64_t start_ns, left = 0;

	memcpy(bench->plain + COUNT_OFFSET, &exits, sizeof(exits));
	start_ns = now_ns(clock);
	for (;;) {
		CALL(bench->vcpu_fd, KVM_RUN, 0);
		if (bench->run->exit_reason != KVM_EXIT_IO) {
			fprintf(stderr, "exit-bench: exit reason %u\n",
				bench->run->exit_reason);
			exit(1);
		}
		if (bench->run->io.port == 0x10)
			break;
		left++;
	}
	start_ns = now_ns(clock) - start_ns;
	if (left && left != exits)
		die("exits to userspace");
	return start_ns;
}

static uint64_t one_round(const struct bench *bench, const struct kind *kind,
			  uint64_t exits)
{
	if (kind->slot)
		renew_slot(bench, 0, LOGGED_START);
	return run_guest(bench, kind->clock, exits);
}

static void print_counts(const struct bench *bench, const struct kind *kind,
			 uint64_t exits)
{
	struct stats vm, vcpu;

	if (ioctl(bench->kvm_fd, KVM_CHECK_EXTENSION,
		  KVM_CAP_BINARY_STATS_FD) <= 0)
		return;
	stats_open(&vm, bench->vm_fd);
	stats_open(&vcpu, bench->vcpu_fd);
	if (kind->slot)
		renew_slot(bench, 0, LOGGED_START);
	stats_read(&vm);
	stats_read(&vcpu);
	run_guest(bench, kind->clock, exits);
	stats_print_moved(&vm, kind->name);
	stats_print_moved(&vcpu, kind->name);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int measure_exits(const char *name, uint64_t exits)
{
	const struct kind *kind = find_kind(name);
	uint64_t one_ns = UINT64_MAX, two_ns = UINT64_MAX;
	struct bench bench;

	if (!exits || exits > LOGGED_PAGES / 2)
		die("EXITS");
	set_up(&bench, kind);
	one_round(&bench, kind, 2 * exits);
	for (int i = 0; i < ROUNDS; i++) {
		one_ns = least(one_ns, one_round(&bench, kind, exits));
		two_ns = least(two_ns, one_round(&bench, kind, 2 * exits));
	}
	printf("%s %llu %llu\n", kind->name, (unsigned long long)exits,
	       (unsigned long long)(two_ns - one_ns));
	print_counts(&bench, kind, exits);
	return 0;
}

/* --- the fd of a vCPU that runs -------------------------------------------- */

static bool stop;

static void *run_vcpu(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		run_guest(arg, CLOCK_MONOTONIC, ROUND_TRIPS);
	return NULL;
}

static int compare(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;

	return (*a > *b) - (*a < *b);
}

/* Returns whether the vCPU left the guest meanwhile. */
static bool get_fd(const struct bench *bench, struct stats *vcpu,
		   uint64_t *taken_ns, uint64_t *exits)
{
	uint64_t before = stats_value(vcpu, "exits"), start_ns;
	int fd;

	start_ns = now_ns(CLOCK_MONOTONIC);
	fd = CALL(bench->vcpu_fd, KVM_GET_STATS_FD, 0);
	*taken_ns = now_ns(CLOCK_MONOTONIC) - start_ns;
	before = stats_value(vcpu, "exits") - before;
	*exits += before;
	close(fd);
	return before;
}

static int measure_running(unsigned int tries, bool check)
{
	/* No multiple of the host's tick */
	const struct timespec pause = { .tv_nsec = 6700000 };
	uint64_t taken_ns[MAX_TRIES], exits = 0;
	unsigned int disturbed = 0;
	struct bench bench;
	struct stats vcpu;
	pthread_t thread;

	if (!tries || tries > MAX_TRIES)
		die("TRIES");
	set_up(&bench, NULL);
	load_code(&bench, guest_nothing, guest_nothing_end);
	allow_interrupts(&bench);
	stats_open(&vcpu, bench.vcpu_fd);
	if (pthread_create(&thread, NULL, run_vcpu, &bench))
		die("thread");
	while (!stats_value(&vcpu, "exits"))
		nanosleep(&pause, NULL);
	for (unsigned int i = 0; i < tries; i++) {
		nanosleep(&pause, NULL);
		disturbed += get_fd(&bench, &vcpu, &taken_ns[i], &exits);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	qsort(taken_ns, tries, sizeof(taken_ns[0]), compare);
	printf("running %u %llu %llu %llu\n", tries,
	       (unsigned long long)taken_ns[tries / 2],
	       (unsigned long long)taken_ns[tries - 1],
	       (unsigned long long)exits);
	if (!check || disturbed < tries)
		return 0;
	fprintf(stderr, "exit-bench: exits during all of %u calls\n", tries);
	return 1;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "exits"))
		return measure_exits(argv[2], strtoull(argv[3], NULL, 10));
	if ((argc == 3 || (argc == 4 && !strcmp(argv[3], "--check"))) &&
	    !strcmp(argv[1], "running"))
		return measure_running(strtoul(argv[2], NULL, 10), argc == 4);
	fprintf(stderr, "usage: exit-bench exits KIND EXITS\n"
		"       exit-bench running TRIES [--check]\n");
	return 2;
}
