// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * close(2) can wait: for a file system in userspace that answers when it likes,
 * for a socket that lingers, for a VM that is torn down with its last
 * descriptor. One pool of threads for the whole process does that waiting.
 *
 * What strangers handed over may wait for ever, a VM may not: each has threads
 * of its own, so that no number of the one delays the other.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

struct job {
	struct job *next;
	void (*call)(void *argument);
	void *argument;
	size_t count;
	int fd[];
};

struct lane {
	struct job *first, **last;
	unsigned int threads;
	size_t waiting;		/* descriptors that no thread has in hand */
	size_t busy;		/* those that one has */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct lane lanes[KVMSTATS_CLOSE_KINDS];
} pool = {
	.lock = PTHREAD_MUTEX_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER,
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A child of fork has none of the threads; it closes none of their files. */
static void forget(void)
{
	pthread_mutex_init(&pool.lock, NULL);
	pthread_cond_init(&pool.idle, NULL);
	memset(pool.lanes, 0, sizeof(pool.lanes));
}

static void set_up(void)
{
	pthread_atfork(NULL, NULL, forget);
}

static void run_job(struct job *job)
{
	if (job->call)
		job->call(job->argument);
	for (size_t i = 0; i < job->count; i++)
		close(job->fd[i]);
	free(job);
}

static void *work(void *argument)
{
	struct lane *lane = argument;
	struct job *job;

	pthread_mutex_lock(&pool.lock);
	while ((job = lane->first)) {
		size_t size = job->count ? job->count : 1;

		lane->first = job->next;
		lane->waiting -= size;
		lane->busy += size;
		pthread_mutex_unlock(&pool.lock);
		run_job(job);
		pthread_mutex_lock(&pool.lock);
		lane->busy -= size;
	}
	lane->threads--;
	pthread_cond_broadcast(&pool.idle);
	pthread_mutex_unlock(&pool.lock);
	return NULL;
}

/* The caller's signal handlers must not run in a thread it does not know. */
static void start_thread(struct lane *lane)
{
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	lane->threads++;
	if (pthread_create(&thread, NULL, work, lane))
		lane->threads--;	/* the next job tries again */
	else
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void add(enum kvmstats_close_kind kind, struct job *job)
{
	struct lane *lane = &pool.lanes[kind];

	pthread_once(&once, set_up);
	pthread_mutex_lock(&pool.lock);
	if (!lane->first)
		lane->last = &lane->first;
	job->next = NULL;
	*lane->last = job;
	lane->last = &job->next;
	lane->waiting += job->count ? job->count : 1;
	if (lane->threads < KVMSTATS_MAX_CLOSE_THREADS)
		start_thread(lane);
	pthread_mutex_unlock(&pool.lock);
}

int kvmstats_close_later(enum kvmstats_close_kind kind, const int *fds,
			 size_t count)
{
	struct job *job;

	if (!count)
		return 0;
	job = malloc(sizeof(*job) + count * sizeof(*fds));
	if (!job)
		return -ENOMEM;
	job->call = NULL;
	job->count = count;
	memcpy(job->fd, fds, count * sizeof(*fds));
	add(kind, job);
	return 0;
}

int kvmstats_close_call(enum kvmstats_close_kind kind,
			void (*call)(void *argument), void *argument)
{
	struct job *job = malloc(sizeof(*job));

	if (!job)
		return -ENOMEM;
	job->call = call;
	job->argument = argument;
	job->count = 0;
	add(kind, job);
	return 0;
}

size_t kvmstats_close_pending(enum kvmstats_close_kind kind)
{
	size_t pending;

	pthread_mutex_lock(&pool.lock);
	pending = pool.lanes[kind].waiting + pool.lanes[kind].busy;
	pthread_mutex_unlock(&pool.lock);
	return pending;
}

int kvmstats_close_full(enum kvmstats_close_kind kind)
{
	int full;

	pthread_mutex_lock(&pool.lock);
	full = pool.lanes[kind].waiting >= KVMSTATS_MAX_CLOSE_WAITING;
	pthread_mutex_unlock(&pool.lock);
	return full;
}

void kvmstats_close_wait(enum kvmstats_close_kind kind)
{
	struct lane *lane = &pool.lanes[kind];

	pthread_mutex_lock(&pool.lock);
	if (lane->first && !lane->threads)
		start_thread(lane);
	while (lane->threads)
		pthread_cond_wait(&pool.idle, &pool.lock);
	pthread_mutex_unlock(&pool.lock);
}
