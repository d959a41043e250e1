// SPDX-License-Identifier: GPL-2.0-only
/*
 * When a VMM ends, our descriptor is the last reference to its VM, and closing
 * it tears the VM down: seconds for a large one. So a few threads, that come
 * when there is work and go when there is none, do nothing else.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "store.h"

#define MAX_WORKERS 16

struct corpse {
	struct corpse *next;
	bool stored;		/* systemd has been told to forget them */
	size_t count;
	struct kvmstats_source *sources[];
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct corpse *first, **last;
	unsigned int workers;
} reaper = {
	.lock = PTHREAD_MUTEX_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER,
	.last = &reaper.first,
};

/* systemd's copies first, or closing them would tear the VM down there. */
static void bury(struct corpse *corpse)
{
	if (corpse->stored)
		store_wait();
	for (size_t i = 0; i < corpse->count; i++)
		kvmstats_source_close(corpse->sources[i]);
	free(corpse);
}

static void *work(void *unused)
{
	struct corpse *corpse;

	pthread_mutex_lock(&reaper.lock);
	while ((corpse = reaper.first)) {
		reaper.first = corpse->next;
		if (!reaper.first)
			reaper.last = &reaper.first;
		pthread_mutex_unlock(&reaper.lock);
		bury(corpse);
		pthread_mutex_lock(&reaper.lock);
	}
	reaper.workers--;
	pthread_cond_broadcast(&reaper.idle);
	pthread_mutex_unlock(&reaper.lock);
	return unused;
}

/* Signals are the main thread's. */
static bool start_worker(void)
{
	sigset_t all, before;
	pthread_t thread;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&thread, NULL, work, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!ret)
		pthread_detach(thread);
	return !ret;
}

void reap(struct kvmstats_source **sources, size_t count, bool stored)
{
	struct corpse *corpse;

	if (!count)
		return;
	corpse = malloc(sizeof(*corpse) + count * sizeof(*sources));
	if (!corpse) {
		for (size_t i = 0; i < count; i++)
			kvmstats_source_close(sources[i]);
		return;
	}
	corpse->next = NULL;
	corpse->stored = stored;
	corpse->count = count;
	memcpy(corpse->sources, sources, count * sizeof(*sources));
	pthread_mutex_lock(&reaper.lock);
	*reaper.last = corpse;
	reaper.last = &corpse->next;
	if (reaper.workers < MAX_WORKERS) {
		/* without a thread the work is ours */
		reaper.workers++;
		if (!start_worker()) {
			pthread_mutex_unlock(&reaper.lock);
			work(NULL);
			return;
		}
	}
	pthread_mutex_unlock(&reaper.lock);
}

/* At the end of the program, and of a test. */
void reap_wait(void)
{
	pthread_mutex_lock(&reaper.lock);
	while (reaper.workers)
		pthread_cond_wait(&reaper.idle, &reaper.lock);
	pthread_mutex_unlock(&reaper.lock);
}
