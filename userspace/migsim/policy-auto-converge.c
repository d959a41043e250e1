// SPDX-License-Identifier: GPL-2.0-only
/*
 * All vCPUs alike: while the guest dirties too much, each round or two has
 * them sleep a greater part of the time.
 */
#include "sim.h"
#include "throttle.h"

static struct {
	pthread_mutex_t lock;
	struct throttle throttle;
} state = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct throttle current(void)
{
	struct throttle throttle;

	pthread_mutex_lock(&state.lock);
	throttle = state.throttle;
	pthread_mutex_unlock(&state.lock);
	return throttle;
}

static void round_end(struct sim *sim, const struct round *round)
{
	(void)sim;
	pthread_mutex_lock(&state.lock);
	throttle_round(&state.throttle, round->sent_pages, round->dirty_pages);
	pthread_mutex_unlock(&state.lock);
}

/* They sleep now, and run for a slice until the next tick. */
static uint64_t tick(struct sim *sim, uint64_t now_ns)
{
	struct throttle throttle = current();
	uint64_t sleep_ns = throttle_sleep_ns(&throttle);

	for (unsigned int i = 0; sleep_ns && i < sim->machine.vcpus; i++)
		vcpu_pause_until(&sim->machine.vcpu[i], now_ns + sleep_ns);
	return now_ns + sleep_ns + THROTTLE_SLICE_NS;
}

static void describe(struct sim *sim, char *text, size_t bytes)
{
	(void)sim;
	snprintf(text, bytes, "all vCPUs sleep %u %%", current().percent);
}

const struct policy policy_auto_converge = {
	.name = "auto-converge",
	.help = "all vCPUs sleep alike, more from round to round",
	.tick = tick,
	.round_end = round_end,
	.describe = describe,
};
