// SPDX-License-Identifier: GPL-2.0-only
/*
 * For work_test, whose tests are in ARCH/works.c: a guest does one thing again
 * and again; the statistics move by what that is, and all others stay as they
 * are.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "bare.h"

#define NR_WARM_UPS	10
#define NR_ROUNDS	200

static void run_once(struct kvm_vm *vm, unsigned int exit_reason)
{
	struct kvm_run *run = vcpu_state(vm, STATS_VCPU_ID);

	TEST_ASSERT(!_vcpu_run(vm, STATS_VCPU_ID), "KVM_RUN");
	TEST_ASSERT(run->exit_reason == exit_reason,
		    "KVM_RUN: exit reason %u, expected %u", run->exit_reason,
		    exit_reason);
}

static bool is_among(const char *const *names, const char *name)
{
	for (; names && *names; names++)
		if (!strcmp(*names, name))
			return true;
	return false;
}

static unsigned int move_of(const struct bare_work *work, const char *name)
{
	const struct bare_move *move;

	for (move = work->moves; move->stat; move++)
		if (!strcmp(move->stat, name))
			return move->by;
	return 0;
}

/* Each statistic's value, a histogram's the sum of it. */
static uint64_t *get_values(const struct stats_file *s)
{
	uint64_t *values = calloc(s->header.num_desc, sizeof(*values));
	uint32_t i;

	TEST_ASSERT(values, "out of memory");
	for (i = 0; i < s->header.num_desc; i++)
		values[i] = stats_sum(s, stats_desc(s, i)->name);
	return values;
}

/* All exits by reason are what is counted as exits. */
static const char *counted_as(const char *name)
{
	return strncmp(name, "exit_reasons_", 13) ? name : "exits";
}

static void check_values(const struct bare_work *work,
			 const struct stats_file *s, const uint64_t *before)
{
	uint64_t *after = get_values(s), noise = 0, by;
	const char *name;
	uint32_t i;

	for (i = 0; i < s->header.num_desc; i++)
		if (is_among(work->noise, stats_desc(s, i)->name))
			noise += after[i] - before[i];
	for (i = 0; i < s->header.num_desc; i++) {
		name = counted_as(stats_desc(s, i)->name);
		if (is_among(work->noise, name) ||
		    is_among(work->unsteady, name))
			continue;
		by = (uint64_t)move_of(work, name) * NR_ROUNDS;
		if (work->sum && !strcmp(work->sum, name))
			by += noise;
		TEST_ASSERT(after[i] == before[i] + by,
			    "%s went from %llu to %llu, not by %llu", name,
			    (unsigned long long)before[i],
			    (unsigned long long)after[i],
			    (unsigned long long)by);
	}
	printf("# %llu interruptions\n", (unsigned long long)noise);
	free(after);
}

/* Nothing that happened to this vCPU is in the statistics of another. */
static void check_idle(const struct stats_file *s, const uint64_t *before)
{
	uint64_t *after = get_values(s);
	uint32_t i;

	for (i = 0; i < s->header.num_desc; i++)
		TEST_ASSERT(after[i] == before[i],
			    "%s of another vCPU went from %llu to %llu",
			    stats_desc(s, i)->name,
			    (unsigned long long)before[i],
			    (unsigned long long)after[i]);
	free(after);
}

void bare_check_work(const struct bare_work *work)
{
	const struct bare_move *move;
	uint64_t *before, *other_before;
	struct stats_file s, other;
	struct kvm_vm *vm = guest_setup(&s, work->guest);
	int i;

	for (move = work->moves; move->stat; move++)
		stats_need(&s, move->stat);
	vm_vcpu_add(vm, STATS_VCPU_ID + 1);
	stats_open(&other,
		   stats_get_fd(stats_vcpu_fd(vm, STATS_VCPU_ID + 1)));
	other_before = get_values(&other);
	/* What is touched for the first time takes exits of its own. */
	for (i = 0; i < NR_WARM_UPS; i++)
		run_once(vm, work->exit_reason);
	before = get_values(&s);
	for (i = 0; i < NR_ROUNDS; i++)
		run_once(vm, work->exit_reason);
	check_values(work, &s, before);
	check_idle(&other, other_before);
	/* The final values remain when the vCPU and the VM are closed. */
	kvm_vm_free(vm);
	check_values(work, &s, before);
	free(before);
	free(other_before);
}
