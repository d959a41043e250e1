// SPDX-License-Identifier: GPL-2.0-only
/* The policies there are, and the thread that lets one of them act. */
#include <string.h>

#include "sim.h"

const struct policy *const policies[] = {
	&policy_none, &policy_stop_and_copy, &policy_auto_converge,
	&policy_dirty_quota, NULL
};

const struct policy *policy_find(const char *name)
{
	for (int i = 0; policies[i]; i++)
		if (!strcmp(policies[i]->name, name))
			return policies[i];
	return NULL;
}

static void *policy_loop(void *argument)
{
	struct sim *sim = argument;
	struct policy_thread *thread = &sim->policy_thread;
	uint64_t next_ns;

	pthread_mutex_lock(&thread->lock);
	while (!thread->stop) {
		pthread_mutex_unlock(&thread->lock);
		next_ns = sim->options.policy->tick(sim, now_ns());
		pthread_mutex_lock(&thread->lock);
		while (!thread->stop && now_ns() < next_ns)
			cond_wait_until(&thread->wake, &thread->lock, next_ns);
	}
	pthread_mutex_unlock(&thread->lock);
	return NULL;
}

void policy_thread_start(struct sim *sim)
{
	struct policy_thread *thread = &sim->policy_thread;

	if (sim->options.policy->start)
		sim->options.policy->start(sim);
	if (!sim->options.policy->tick)
		return;
	pthread_mutex_init(&thread->lock, NULL);
	cond_init(&thread->wake);
	if (pthread_create(&thread->thread, NULL, policy_loop, sim))
		die("no thread for the policy");
	thread->running = true;
}

void policy_thread_stop(struct sim *sim)
{
	struct policy_thread *thread = &sim->policy_thread;

	if (!thread->running)
		return;
	pthread_mutex_lock(&thread->lock);
	thread->stop = true;
	pthread_cond_signal(&thread->wake);
	pthread_mutex_unlock(&thread->lock);
	pthread_join(thread->thread, NULL);
	thread->running = false;
}
