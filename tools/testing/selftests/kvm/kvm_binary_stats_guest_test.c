// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_binary_stats_guest_test
 *
 * Statistics must move by what a guest did, no more where that can be known,
 * and must not move when it did nothing.
 *
 * Usage: kvm_binary_stats_guest_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "kvm_stats_guest.h"

#define NR_ROUNDS	50

/* Every exit of @guest is one of @name, and they are all exits. */
static void check_exits(void *guest, const char *name)
{
	uint64_t before, exits_before;
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest);
	int i;

	check_grown(name, 0, stats_value(&s, name), 0);
	guest_run_once(vm);
	before = stats_value(&s, name);
	exits_before = stats_value(&s, "exits");
	for (i = 1; i <= NR_ROUNDS; i++) {
		guest_run_once(vm);
		check_grown(name, before, stats_value(&s, name), i);
	}
	check_grown_at_least("exits", exits_before, stats_value(&s, "exits"),
			     NR_ROUNDS);
}

static void test_exits(enum stats_scope scope)
{
	check_exits(guest_exit_loop, EXIT_STAT);
}

static void test_mmio_exits(enum stats_scope scope)
{
	check_exits(guest_mmio_loop, MMIO_STAT);
}

/* What one vCPU does is not in the statistics of another. */
static void test_per_vcpu(enum stats_scope scope)
{
	struct stats_file s, other;
	struct kvm_vm *vm = guest_setup(&s, guest_exit_loop);
	int i;

	vm_vcpu_add(vm, STATS_VCPU_ID + 1);
	stats_open(&other,
		   stats_get_fd(stats_vcpu_fd(vm, STATS_VCPU_ID + 1)));
	for (i = 0; i < NR_ROUNDS; i++)
		guest_run_once(vm);
	check_grown(EXIT_STAT, 0, stats_value(&s, EXIT_STAT), NR_ROUNDS);
	check_grown(EXIT_STAT " of another vCPU", 0,
		    stats_value(&other, EXIT_STAT), 0);
	check_grown("exits of another vCPU", 0,
		    stats_value(&other, "exits"), 0);
}

/* Two fds of a vCPU are two views of the same numbers. */
static void test_two_fds(enum stats_scope scope)
{
	struct stats_file a, b;
	struct kvm_vm *vm = guest_setup(&a, guest_exit_loop);

	guest_run_once(vm);
	stats_open(&b, stats_get_fd(stats_vcpu_fd(vm, STATS_VCPU_ID)));
	guest_run_once(vm);
	check_grown(EXIT_STAT, 0, stats_value(&a, EXIT_STAT), 2);
	check_grown(EXIT_STAT, 0, stats_value(&b, EXIT_STAT), 2);
}

/* The final values remain when the vCPU and the VM are closed. */
static void test_after_vm(enum stats_scope scope)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_exit_loop);
	int i;

	for (i = 0; i < NR_ROUNDS; i++)
		guest_run_once(vm);
	kvm_vm_free(vm);
	check_grown(EXIT_STAT, 0, stats_value(&s, EXIT_STAT), NR_ROUNDS);
	stats_check_unchanged(&s, s.fd);
}

/*
 * A vCPU that does not run changes nothing, so that now also the data must be
 * the same however it is read.
 */
static void test_idle_data(enum stats_scope scope)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_exit_loop);
	uint8_t *image, *byte;
	size_t pos;
	int i;

	for (i = 0; i < NR_ROUNDS; i++)
		guest_run_once(vm);
	image = malloc(s.size);
	byte = malloc(s.size);
	STATS_CHECK(image && byte, "out of memory");
	stats_pread(s.fd, image, s.size, 0);
	for (pos = 0; pos < s.size; pos++)
		stats_pread(s.fd, byte + pos, 1, pos);
	for (pos = 0; pos < s.size; pos++)
		STATS_CHECK(byte[pos] == image[pos],
			    "byte %zu is %#x alone, %#x in the whole file",
			    pos, byte[pos], image[pos]);
	STATS_CHECK(memcmp(image, s.image, s.size), "no value has moved");
	stats_check_unchanged(&s, s.fd);
}

static bool only_grows(const struct kvm_stats_desc *d)
{
	switch (d->flags & KVM_STATS_TYPE_MASK) {
	case KVM_STATS_TYPE_INSTANT:
		return false;
	default:
		return true;
	}
}

static void check_not_less(const struct stats_file *s, const uint8_t *old,
			   const uint8_t *now)
{
	const struct kvm_stats_desc *d;
	const uint64_t *a, *b;
	uint32_t i, k;

	for (i = 0; i < s->header.num_desc; i++) {
		d = stats_desc(s, i);
		a = (const void *)(old + s->header.data_offset + d->offset);
		b = (const void *)(now + s->header.data_offset + d->offset);
		for (k = 0; only_grows(d) && k < d->size; k++)
			STATS_CHECK(b[k] >= a[k],
				    "%s[%u] went from %llu back to %llu",
				    d->name, k, (unsigned long long)a[k],
				    (unsigned long long)b[k]);
	}
}

/* All that is not instant never decreases, read while the vCPU runs. */
static void test_only_grows(enum stats_scope scope)
{
	struct kvm_vm *vm;
	struct stats_file s;
	uint8_t *old, *now, *swap;
	unsigned int i;

	vm = guest_setup(&s, guest_exit_loop);
	if (scope == STATS_VM) {
		stats_close(&s);
		stats_open(&s, stats_get_fd(vm_get_fd(vm)));
	}
	old = malloc(s.size);
	now = malloc(s.size);
	STATS_CHECK(old && now, "out of memory");
	stats_pread(s.fd, old, s.size, 0);
	runner_start(vm);
	for (i = 0; i < 1000; i++) {
		stats_pread(s.fd, now, s.size, 0);
		check_not_less(&s, old, now);
		swap = old;
		old = now;
		now = swap;
	}
	runner_wait_round(10);
	stats_check_unchanged(&s, s.fd);
}

static const struct stats_case cases[] = {
	{ "exits",		test_exits },
	{ "mmio_exits",		test_mmio_exits },
	{ "per_vcpu",		test_per_vcpu },
	{ "two_fds",		test_two_fds },
	{ "after_vm",		test_after_vm },
	{ "idle_data",		test_idle_data },
	{ "only_grows",		test_only_grows,	STATS_BOTH },
};

int main(int argc, char *argv[])
{
	return stats_run_cases(cases, ARRAY_SIZE(cases), argv[1]);
}
