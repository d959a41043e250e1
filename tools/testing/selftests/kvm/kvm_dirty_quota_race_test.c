// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_race_test
 *
 * Dirty quota with all sides active at once: enabled while a vCPU is created,
 * changed while vCPUs run, with signals, with the log taken away meanwhile.
 *
 * Usage: kvm_dirty_quota_race_test [PART-OF-A-TEST'S-NAME]
 * DIRTY_QUOTA_RACE_S in the environment: seconds that events come at random.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kvm_dirty_quota_util.h"
#include "kvm_test_harness.h"

#define NR_PAGES	512

/* ---- enabling against KVM_CREATE_VCPU ---- */

#define NR_HAMMERS	300
#define NR_RACERS	3

/* One of the threads that all start at once, after @delay turns of a loop. */
struct racer {
	int vm_fd;
	unsigned int delay;
	bool create;		/* the vCPU; else enable */
	int result;		/* errno, or the vCPU's fd */
};

static unsigned int racers_ready;

static void wait_for_start(const struct racer *r)
{
	unsigned int i;

	__atomic_add_fetch(&racers_ready, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&racers_ready, __ATOMIC_SEQ_CST) < NR_RACERS)
		sched_yield();
	for (i = 0; i < r->delay; i++)
		asm volatile("" : : : "memory");
}

static void *race(void *arg)
{
	struct racer *r = arg;

	wait_for_start(r);
	if (r->create)
		r->result = ioctl(r->vm_fd, KVM_CREATE_VCPU, 0);
	else
		r->result = dq_enable(r->vm_fd);
	return NULL;
}

/* On a single CPU it is the order that decides: another one each @turn. */
static void run_racers(struct racer *racers, unsigned int turn)
{
	pthread_t threads[NR_RACERS];
	int i;

	racers_ready = 0;
	for (i = 0; i < NR_RACERS; i++)
		TEST_ASSERT(!pthread_create(&threads[i], NULL, race,
					    &racers[(i + turn) % NR_RACERS]),
			    "pthread_create");
	for (i = 0; i < NR_RACERS; i++)
		pthread_join(threads[i], NULL);
}

/* KVM looks at the quota when KVM_RUN begins, even if nothing comes of that. */
static bool is_limited(int vcpu_fd)
{
	struct stats_file s;
	struct kvm_run *run;
	bool limited;

	run = mmap(NULL, sizeof(*run), PROT_READ | PROT_WRITE, MAP_SHARED,
		   vcpu_fd, 0);
	TEST_ASSERT(run != MAP_FAILED, "mmap");
	TEST_ASSERT_EQ(run->dirty_quota, 0);
	run->dirty_quota = 77;
	run->immediate_exit = 1;
	TEST_ASSERT(ioctl(vcpu_fd, KVM_RUN, NULL), "KVM_RUN");
	stats_open(&s, stats_get_fd(vcpu_fd));
	limited = stats_value(&s, "dirty_quota") == 77;
	TEST_STAT_EQ(&s, "dirty_quota", limited ? 77 : 0);
	stats_close(&s);
	munmap(run, sizeof(*run));
	return limited;
}

static bool hammer_once(unsigned int delay, unsigned int turn)
{
	struct kvm_vm *vm = vm_create(VM_MODE_DEFAULT, 0, O_RDWR);
	struct racer racers[NR_RACERS] = {
		{ .vm_fd = vm_get_fd(vm), .create = true },
		{ .vm_fd = vm_get_fd(vm), .delay = delay },
		{ .vm_fd = vm_get_fd(vm), .delay = delay },
	};
	bool enabled;
	int i;

	run_racers(racers, turn);
	TEST_ASSERT(racers[0].result >= 0, "KVM_CREATE_VCPU");
	enabled = !racers[1].result || !racers[2].result;
	for (i = 1; i < NR_RACERS; i++)
		if (racers[i].result)
			TEST_ASSERT_EQ(racers[i].result, EBUSY);
	TEST_ASSERT_EQ(is_limited(racers[0].result), enabled);
	TEST_ASSERT_EQ(dq_enable(vm_get_fd(vm)), EBUSY);
	close(racers[0].result);
	kvm_vm_free(vm);
	return enabled;
}

/*
 * The vCPU is limited if and only if enabling has not failed.  Whoever wins
 * makes it harder for itself, so that it stays a close race.
 */
TEST(enable)
{
	unsigned int i, delay = 1000, enabled = 0;

	for (i = 0; i < NR_HAMMERS; i++) {
		if (hammer_once(delay, i)) {
			enabled++;
			delay += delay / 8 + 1;
		} else {
			delay -= delay / 8;
		}
	}
	TEST_ASSERT(enabled && enabled < NR_HAMMERS,
		    "enabling has won %u of %u races", enabled, NR_HAMMERS);
}

/* ---- changing the quota of vCPUs that run ---- */

/*
 * All quotas that are written have this remainder, so that one which was never
 * written shows; 0 and UINT64_MAX are the exceptions.
 */
#define TAG_DIVISOR	101
#define TAG		37

static uint64_t tagged(uint64_t quota)
{
	return quota - quota % TAG_DIVISOR + TAG;
}

/* What the vCPU's thread tells; written by it alone. */
static struct seen {
	uint64_t exits;
	uint64_t quota;		/* at the last exit */
	uint64_t signals;
} seen[DQ_MAX_VCPUS];

static void see_exit(struct dq_vcpu *v)
{
	uint64_t quota = v->run->dirty_quota_full.dirty_quota;

	TEST_ASSERT(quota % TAG_DIVISOR == TAG,
		    "an exit with quota %llu, which nobody wrote",
		    quota + 0ULL);
	WRITE_ONCE(seen[v->id].quota, quota);
	WRITE_ONCE(seen[v->id].exits, seen[v->id].exits + 1);
}

/* As a VMM does that has nothing better to do than to try again. */
static void *run_stubborn(void *arg)
{
	struct dq_vcpu *v = arg;
	enum dq_end end;

	while ((end = dq_run(v)) != DQ_DONE) {
		if (end == DQ_FULL) {
			see_exit(v);
			sched_yield();
			continue;
		}
		v->run->immediate_exit = 0;
		WRITE_ONCE(seen[v->id].signals, seen[v->id].signals + 1);
	}
	return NULL;
}

static void no_op(int sig)
{
}

/* Bits of all harvests: at the end, what was charged must be equal to them. */
static uint64_t harvested;

typedef bool (*condition)(struct dq_vcpu *v, uint64_t arg);

static void harvest_until(struct dq_vm *d, condition is_so, struct dq_vcpu *v,
			  uint64_t arg)
{
	uint64_t end_ms = stats_now_ms() + STATS_WAIT_MS;

	do {
		TEST_ASSERT(stats_now_ms() < end_ms,
			    "vCPU %u does not go on, with quota %llu", v->id,
			    (unsigned long long)v->run->dirty_quota);
		harvested += dq_harvest(d);
		usleep(200);
	} while (!is_so(v, arg));
}

static bool has_exited_with(struct dq_vcpu *v, uint64_t quota)
{
	return READ_ONCE(seen[v->id].quota) == quota;
}

static bool has_touched(struct dq_vcpu *v, uint64_t nr)
{
	return READ_ONCE(v->work->touched) >= nr;
}

/* A quota that is used up: the exit for it must come. */
static void lower(struct dq_vm *d, struct dq_vcpu *v)
{
	uint64_t count = dq_count(v), quota;

	quota = tagged(count < TAG_DIVISOR ? 0 : random() % count);
	WRITE_ONCE(seen[v->id].quota, 0);
	dq_set_quota(v, quota);
	harvest_until(d, has_exited_with, v, quota);
}

/* A quota that is not: the guest must go on, wherever it was. */
static void lift(struct dq_vm *d, struct dq_vcpu *v, uint64_t quota)
{
	uint64_t touched;

	dq_set_quota(v, quota);
	touched = READ_ONCE(v->work->touched);
	harvest_until(d, has_touched, v, touched + 50);
}

static void raise_a_bit(struct dq_vcpu *v)
{
	dq_set_quota(v, tagged(dq_count(v) + random() % 300));
}

static void change(struct dq_vm *d, struct dq_vcpu *v)
{
	switch (random() % 8) {
	case 0:
		lower(d, v);
		break;
	case 1:
		lift(d, v, 0);
		break;
	case 2:
		lift(d, v, UINT64_MAX);
		break;
	case 3:
		lift(d, v, tagged(dq_count(v) + 100000));
		break;
	case 4:
		harvested += dq_harvest(d);
		break;
	default:
		raise_a_bit(v);
		break;
	}
}

static void disturb(struct dq_vcpu *v)
{
	if (random() % 2)
		WRITE_ONCE(v->run->immediate_exit, 1);
	if (random() % 2)
		pthread_kill(v->thread, SIGUSR1);
}

static void start_stubborn(struct dq_vcpu *v)
{
	dq_tell_endless(v, DQ_WRITE, v->id * NR_PAGES / 4, NR_PAGES / 2);
	v->work->random = 1 + random();
	TEST_ASSERT(!pthread_create(&v->thread, NULL, run_stubborn, v),
		    "pthread_create");
}

static void stop_all(struct dq_vm *d)
{
	unsigned int i;

	for (i = 0; i < d->nr_vcpus; i++) {
		dq_stop(&d->vcpus[i]);
		dq_set_quota(&d->vcpus[i], 0);
	}
	for (i = 0; i < d->nr_vcpus; i++)
		dq_join(&d->vcpus[i]);
}

/* How long events come at random. */
static unsigned int duration_s(void)
{
	const char *value = getenv("DIRTY_QUOTA_RACE_S");

	return value ? atoi(value) : 5;
}

static void change_at_random(unsigned int nr_vcpus, bool signals)
{
	struct dq_config config = {
		.nr_vcpus = nr_vcpus,
		.nr_pages = NR_PAGES,
		.enable = true,
	};
	uint64_t end_ms = stats_now_ms() + duration_s() * 1000;
	struct dq_vm d;
	unsigned int i;

	signal(SIGUSR1, no_op);
	srandom(end_ms);
	dq_create(&d, &config);
	for (i = 0; i < nr_vcpus; i++)
		start_stubborn(&d.vcpus[i]);
	for (i = 0; stats_now_ms() < end_ms || i < 100; i++) {
		change(&d, &d.vcpus[i % nr_vcpus]);
		if (signals)
			disturb(&d.vcpus[random() % nr_vcpus]);
	}
	lower(&d, &d.vcpus[0]);
	stop_all(&d);
	harvested += dq_harvest(&d);
	TEST_ASSERT_EQ(dq_count_all(&d), harvested);
	TEST_ASSERT(seen[0].exits, "no exit for the quota");
	TEST_ASSERT(!!seen[0].signals == signals, "%llu signals",
		    seen[0].signals + 0ULL);
}

FIXTURE(change)
{
};

FIXTURE_VARIANT(change)
{
	unsigned int nr_vcpus;
	bool signals;
};

FIXTURE_VARIANT_ADD(change, one)
{
	.nr_vcpus = 1,
};

FIXTURE_VARIANT_ADD(change, two)
{
	.nr_vcpus = 2,
};

FIXTURE_VARIANT_ADD(change, two_with_signals)
{
	.nr_vcpus = 2,
	.signals = true,
};

FIXTURE_SETUP(change)
{
}

FIXTURE_TEARDOWN(change)
{
}

TEST_F_TIMEOUT(change, quota, 300)
{
	change_at_random(variant->nr_vcpus, variant->signals);
}

/* ---- a migration ---- */

#define BUDGET_END	4
#define BUDGET_START	64

/* Sleep while the quota is used up, as a VMM does that throttles. */
static void *run_throttled(void *arg)
{
	struct dq_vcpu *v = arg;
	enum dq_end end;
	uint64_t quota;

	while ((end = dq_run(v)) != DQ_DONE) {
		TEST_ASSERT(end == DQ_FULL, "vCPU %u: end %d", v->id, end);
		quota = v->run->dirty_quota_full.dirty_quota;
		WRITE_ONCE(seen[v->id].quota, quota);
		while (READ_ONCE(v->run->dirty_quota) == quota)
			usleep(100);
	}
	return NULL;
}

static uint64_t send_dirty(struct dq_vm *d, uint8_t *to)
{
	const uint8_t *from = addr_gpa2hva(d->vm, DQ_GPA);
	size_t size = getpagesize();
	uint64_t page, bits = dq_harvest(d);

	for (page = 0; page < d->nr_pages; page++)
		if (dq_bit(d, page))
			memcpy(to + page * size, from + page * size, size);
	harvested += bits;
	return bits;
}

static void wait_paused(struct dq_vcpu *v)
{
	STATS_WAIT(READ_ONCE(seen[v->id].quota) == v->run->dirty_quota,
		   "for vCPU %u to use up its quota", v->id);
}

/*
 * Each vCPU dirties what it may and is stopped; what the log then has is no
 * more than they were allowed together.
 */
static void run_round(struct dq_vm *d, uint8_t *copy, uint64_t budget)
{
	uint64_t bits, most = 0;
	unsigned int i;

	for (i = 0; i < d->nr_vcpus; i++) {
		dq_set_quota(&d->vcpus[i], dq_count(&d->vcpus[i]) + budget);
		most += budget + d->vcpus[i].max_overrun;
	}
	for (i = 0; i < d->nr_vcpus; i++)
		wait_paused(&d->vcpus[i]);
	bits = send_dirty(d, copy);
	TEST_ASSERT(bits >= budget * d->nr_vcpus && bits <= most,
		    "%llu pages in a round, with %llu allowed to each vCPU",
		    bits + 0ULL, budget + 0ULL);
}

static void run_migration(struct dq_vm *d, uint8_t *copy)
{
	uint64_t budget;
	unsigned int i;

	for (i = 0; i < d->nr_vcpus; i++) {
		dq_tell_endless(&d->vcpus[i], DQ_WRITE, i * NR_PAGES / 4,
				NR_PAGES / 2);
		d->vcpus[i].work->random = 11 + i;
		dq_set_quota(&d->vcpus[i], 1);
		TEST_ASSERT(!pthread_create(&d->vcpus[i].thread, NULL, run_throttled, &d->vcpus[i]),
			    "pthread_create");
	}
	for (i = 0; i < d->nr_vcpus; i++)
		wait_paused(&d->vcpus[i]);
	send_dirty(d, copy);
	for (budget = BUDGET_START; budget >= BUDGET_END; budget /= 2)
		run_round(d, copy, budget);
}

/* What is written all over again in each round is sent in the end. */
TEST(migration)
{
	struct dq_config config = {
		.nr_vcpus = 3,
		.nr_pages = NR_PAGES,
		.enable = true,
	};
	size_t size = NR_PAGES * getpagesize();
	uint8_t *copy = calloc(1, size);
	struct dq_vm d;

	TEST_ASSERT(copy, "out of memory");
	dq_create(&d, &config);
	run_migration(&d, copy);
	stop_all(&d);
	send_dirty(&d, copy);
	TEST_ASSERT_EQ(dq_count_all(&d), harvested);
	TEST_ASSERT(!memcmp(copy, addr_gpa2hva(d.vm, DQ_GPA), size),
		    "the copy differs from the guest's memory");
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_DIRTY_QUOTA)
