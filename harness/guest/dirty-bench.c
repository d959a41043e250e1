// SPDX-License-Identifier: GPL-2.0-only
/*
 * dirty-bench [--quota PAGES] [--faults N]
 *
 * What a write fault on a page under dirty logging costs. A guest of its own
 * writes one word to each page of a logged slot; the dirty log is fetched (and
 * thereby cleared) after each round, so that the same pages fault again.
 *
 * Rounds over N and over 2N pages take turns, and what is printed is their
 * difference: what entering and leaving the guest costs, and setting it up,
 * does not count. One line a kind of fault: "kind faults nanoseconds", where
 * under QEMU's -icount shift=0 a nanosecond is an instruction.
 *
 *   protected  the page is mapped, its write permission was taken by the log
 *   unmapped   the slot was made anew: nothing of it is mapped
 *
 * --quota: enable dirty quota, PAGES is every vCPU's quota (0: no limit).
 */
#include <getopt.h>

#include "bench-vm.h"
#include "../../userspace/common/quota_uapi.h"

#if defined(__x86_64__)
#include "dirty-bench-x86_64.h"
#elif defined(__aarch64__)
#include "dirty-bench-aarch64.h"
#else
#error "what is the guest's code on this architecture?"
#endif

static void set_up(struct bench *bench, const char *quota)
{
	struct kvm_enable_cap cap = { .cap = QUOTA_CAP };

	create_vm(bench);
	if (quota)
		CALL(bench->vm_fd, KVM_ENABLE_CAP, &cap);
	add_memory(bench, PLAIN_START);
	add_vcpu(bench);
	if (quota)
		*(uint64_t *)((uint8_t *)bench->run + QUOTA_RUN_OFFSET) =
			strtoull(quota, NULL, 0);
	guest_set_up(bench);
}

/* The log must hold what the guest was told to write: else nothing faulted. */
static void harvest(const struct bench *bench, uint64_t pages)
{
	static uint64_t bits[LOGGED_PAGES / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };
	uint64_t count = 0;

	CALL(bench->vm_fd, KVM_GET_DIRTY_LOG, &log);
	for (size_t i = 0; i < LOGGED_PAGES / 64; i++)
		count += __builtin_popcountll(bits[i]);
	if (count == pages)
		return;
	fprintf(stderr, "dirty-bench: %llu pages written, %llu in the log\n",
		(unsigned long long)pages, (unsigned long long)count);
	exit(1);
}

static uint64_t write_pages(const struct bench *bench, uint64_t pages)
{
	uint64_t start_ns, end_ns;

	memcpy(bench->plain + COUNT_OFFSET, &pages, sizeof(pages));
	start_ns = now_ns(CLOCK_MONOTONIC);
	CALL(bench->vcpu_fd, KVM_RUN, 0);
	end_ns = now_ns(CLOCK_MONOTONIC);
	if (bench->run->exit_reason != DONE_EXIT) {
		fprintf(stderr, "dirty-bench: unexpected exit, reason %u\n",
			bench->run->exit_reason);
		exit(1);
	}
	harvest(bench, pages);
	return end_ns - start_ns;
}

static void renew_log(const struct bench *bench)
{
	renew_slot(bench, KVM_MEM_LOG_DIRTY_PAGES, LOGGED_START);
}

/* A pair of rounds takes 3N faults, and its difference counts N of them. */
static void measure(const struct bench *bench, const char *kind, int renew,
		    uint64_t faults)
{
	const uint64_t n = LOGGED_PAGES / 2;
	uint64_t counted = 0, ns = 0;

	for (uint64_t taken = 0; taken < faults; taken += 3 * n) {
		if (renew)
			renew_log(bench);
		ns -= write_pages(bench, n);
		if (renew)
			renew_log(bench);
		ns += write_pages(bench, 2 * n);
		counted += n;
	}
	printf("%s %llu %llu\n", kind, (unsigned long long)counted,
	       (unsigned long long)ns);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "quota", required_argument, NULL, 'q' },
		{ "faults", required_argument, NULL, 'f' },
		{ 0 }
	};
	uint64_t faults = 1000000;
	const char *quota = NULL;
	struct bench bench;
	int letter;

	while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (letter == 'q')
			quota = optarg;
		else if (letter == 'f')
			faults = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	set_up(&bench, quota);
	make_slot(&bench, KVM_MEM_LOG_DIRTY_PAGES, LOGGED_START);
	write_pages(&bench, LOGGED_PAGES);
	measure(&bench, "protected", 0, faults);
	measure(&bench, "unmapped", 1, faults);
	return 0;
}
