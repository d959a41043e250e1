// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each vCPU may dirty its share of what the link carries, and no more. The
 * kernel counts, and stops the vCPU that has used up what kvm_run grants it;
 * to raise that, no vCPU has to leave the guest.
 *
 * The guest may dirty quota_percent of what is sent meanwhile. So no round has
 * more than that part of the pages of the one before, and the migration
 * converges whatever the guest does. What is saved up is valid for a round. The
 * smaller the part, the sooner it is over: with the defaults a guest loses least
 * (make lab), and is held no longer at a time than a usual downtime.
 *
 * It begins when auto-converge would: a guest that converges by itself is never
 * held, and one that does not runs at full speed for the first rounds.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "../common/quota_uapi.h"
#include "shares.h"
#include "sim.h"
#include "throttle.h"

#define WINDOW		32	/* intervals over which the link is measured */
#define MOST_INTERVALS	4	/* that a late tick pays for */

static struct {
	pthread_mutex_t lock;
	bool armed;
	struct throttle trigger;
	struct shares shares;
	struct share share[MAX_VCPUS];
	uint64_t sent[WINDOW], busy_ns[WINDOW];
	unsigned int ticks;
	uint64_t last_ns;
	uint64_t bandwidth;	/* as last measured */
} state = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int prepare(struct sim *sim)
{
	struct kvm_enable_cap enable = { .cap = QUOTA_CAP };

	if (ioctl(sim->machine.vm_fd, KVM_CHECK_EXTENSION, QUOTA_CAP) <= 0)
		return -EOPNOTSUPP;
	/* A vCPU starts without a limit. */
	if (ioctl(sim->machine.vm_fd, KVM_ENABLE_CAP, &enable) < 0)
		return -errno;
	return 0;
}

/* The kernel sees it before the vCPU dirties its next page. */
static void set_quota(struct vcpu *vcpu, uint64_t pages)
{
	uint8_t *quota = (uint8_t *)vcpu->run + QUOTA_RUN_OFFSET;

	__atomic_store_n((uint64_t *)quota, pages, __ATOMIC_RELEASE);
}

/* 0 is no limit: who may dirty nothing yet gets a page on credit. */
static void set_ceilings(struct sim *sim)
{
	for (unsigned int i = 0; i < sim->machine.vcpus; i++) {
		uint64_t ceiling = state.share[i].ceiling;

		set_quota(&sim->machine.vcpu[i], ceiling ? ceiling : 1);
	}
}

static void read_counts(struct sim *sim)
{
	for (unsigned int i = 0; i < sim->machine.vcpus; i++)
		state.share[i].count = vcpu_dirtied(&sim->machine.vcpu[i]);
}

static void check_stats(const struct sim *sim)
{
	for (unsigned int i = 0; i < sim->machine.vcpus; i++)
		if (!sim->machine.vcpu[i].stats.dirtied)
			die("vCPU %u: no pages_dirtied among its statistics", i);
}

static void start(struct sim *sim)
{
	check_stats(sim);
	state.shares.vcpus = sim->machine.vcpus;
	state.shares.share = state.share;
	state.last_ns = now_ns();
	/* what the VMM was told to use, until the first page has gone */
	state.bandwidth = sim->options.bandwidth;
	state.armed = sim->options.from_start;
	read_counts(sim);
	shares_start(&state.shares);
}

/* Over the last intervals, for as long as the link was used in them. */
static uint64_t measure(struct sim *sim)
{
	unsigned int now = state.ticks % WINDOW;
	unsigned int oldest = state.ticks < WINDOW ? 0 : (now + 1) % WINDOW;
	uint64_t busy_ns;

	state.sent[now] = sim->link.sent;
	state.busy_ns[now] = sim->link.busy_ns;
	busy_ns = state.busy_ns[now] - state.busy_ns[oldest];
	state.ticks++;
	if (!busy_ns)
		return state.bandwidth;
	return (double)(state.sent[now] - state.sent[oldest]) * NS_PER_S /
	       busy_ns;
}

static uint64_t budget_of(struct sim *sim, uint64_t now)
{
	uint64_t interval_ns = sim->options.interval_ms * NS_PER_MS;
	uint64_t elapsed_ns = now - state.last_ns;

	if (elapsed_ns > MOST_INTERVALS * interval_ns)
		elapsed_ns = MOST_INTERVALS * interval_ns;
	return shares_budget(state.bandwidth, elapsed_ns,
			     sim->options.quota_percent, RECORD_BYTES);
}

static void begin_interval(struct sim *sim, uint64_t now)
{
	state.bandwidth = measure(sim);
	if (state.armed) {
		read_counts(sim);
		shares_begin(&state.shares, budget_of(sim, now));
		set_ceilings(sim);
	}
	state.last_ns = now;
}

static uint64_t tick(struct sim *sim, uint64_t now_ns)
{
	unsigned int vcpus = sim->machine.vcpus, first;

	pthread_mutex_lock(&state.lock);
	begin_interval(sim, now_ns);
	first = state.ticks;
	pthread_mutex_unlock(&state.lock);
	/* each comes first once: what is in the pool goes to the first */
	for (unsigned int i = 0; i < vcpus; i++)
		vcpu_release(&sim->machine.vcpu[(first + i) % vcpus]);
	return now_ns + sim->options.interval_ms * NS_PER_MS;
}

static void quota_full(struct sim *sim, struct vcpu *vcpu)
{
	const struct quota_full *full =
		(const void *)((uint8_t *)vcpu->run + QUOTA_EXIT_OFFSET);

	(void)sim;
	pthread_mutex_lock(&state.lock);
	if (shares_take(&state.shares, vcpu->index, full->dirty_count))
		set_quota(vcpu, state.share[vcpu->index].ceiling);
	else
		vcpu_hold(vcpu); /* to the interval's end */
	pthread_mutex_unlock(&state.lock);
}

static void round_end(struct sim *sim, const struct round *round)
{
	pthread_mutex_lock(&state.lock);
	throttle_round(&state.trigger, round->sent_pages, round->dirty_pages);
	if (!state.armed && state.trigger.percent) {
		state.armed = true;
		read_counts(sim);
		shares_start(&state.shares);
	}
	shares_drain(&state.shares);
	pthread_mutex_unlock(&state.lock);
}

static void finish(struct sim *sim)
{
	for (unsigned int i = 0; i < sim->machine.vcpus; i++)
		set_quota(&sim->machine.vcpu[i], 0);
}

static void describe(struct sim *sim, char *text, size_t bytes)
{
	uint64_t exits = 0;

	for (unsigned int i = 0; i < sim->machine.vcpus; i++)
		exits += vcpu_quota_exits(&sim->machine.vcpu[i]);
	pthread_mutex_lock(&state.lock);
	snprintf(text, bytes, "%ju KiB/s measured, %ju exits%s",
		 (uintmax_t)state.bandwidth / 1024, (uintmax_t)exits,
		 state.armed ? "" : ", not needed yet");
	pthread_mutex_unlock(&state.lock);
}

const struct policy policy_dirty_quota = {
	.name = "dirty-quota",
	.help = "each vCPU may dirty its share of what the link carries",
	.prepare = prepare,
	.start = start,
	.tick = tick,
	.round_end = round_end,
	.quota_full = quota_full,
	.finish = finish,
	.describe = describe,
};
