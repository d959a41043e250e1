// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * close(2) can wait: for a file system in userspace that answers when it likes,
 * for a socket that lingers, for a VM that is torn down with its last
 * descriptor. So can a look at a process's files in /proc: for the end of its exec,
 * which closes files. One pool of threads for the whole process does that waiting.
 *
 * What strangers handed over may wait for ever, a VM may not: each has threads
 * of its own, so that no number of the one delays the other.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

struct job {
	struct job *next;
	void (*call)(void *argument);
	void *argument;
	size_t count;
	int fd[];
};

#define LANE_LOOKS KVMSTATS_CLOSE_KINDS

struct lane {
	struct job *first, **last;
	unsigned int threads;
	size_t waiting;		/* descriptors that no thread has in hand */
	size_t busy;		/* those that one has */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct lane lanes[LANE_LOOKS + 1];
	struct look *left_looks;
} pool = {
	.lock = PTHREAD_MUTEX_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER,
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void set_up_idle(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool.idle, &attr);
	pthread_condattr_destroy(&attr);
}

/* A child of fork has none of the threads; it closes none of their files. */
static void forget(void)
{
	pthread_mutex_init(&pool.lock, NULL);
	set_up_idle();
	memset(pool.lanes, 0, sizeof(pool.lanes));
	pool.left_looks = NULL;
}

static void set_up(void)
{
	set_up_idle();
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

/* Under the lock. */
static void add_locked(struct lane *lane, struct job *job)
{
	if (!lane->first)
		lane->last = &lane->first;
	job->next = NULL;
	*lane->last = job;
	lane->last = &job->next;
	lane->waiting += job->count ? job->count : 1;
	if (lane->threads < KVMSTATS_MAX_CLOSE_THREADS)
		start_thread(lane);
}

static void add(enum kvmstats_close_kind kind, struct job *job)
{
	pthread_once(&once, set_up);
	pthread_mutex_lock(&pool.lock);
	add_locked(&pool.lanes[kind], job);
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

/* ---- looks at files of /proc that a process can keep others from */

#define LOOK_BYTES 1024

struct look {
	struct look *next;	/* among those that nobody waits for any more */
	pid_t pid;
	char path[64], text[LOOK_BYTES];
	ssize_t length;
	bool done;
	bool left;		/* by whoever asked: freed where it is done */
};

static void look(void *argument)
{
	struct look *look = argument, **link;
	char text[LOOK_BYTES];
	ssize_t length = read_proc(look->path, text, sizeof(text));
	bool left;

	pthread_mutex_lock(&pool.lock);
	memcpy(look->text, text, sizeof(text));
	look->length = length;
	look->done = true;
	left = look->left;
	for (link = &pool.left_looks; left && *link; link = &(*link)->next)
		if (*link == look) {
			*link = look->next;
			break;
		}
	pthread_cond_broadcast(&pool.idle);
	pthread_mutex_unlock(&pool.lock);
	if (left)
		free(look);
}

/*
 * As many as there are threads wait for strangers: one more is not asked, and of
 * one process no second time.
 */
static bool takes_look(pid_t pid)
{
	bool takes;

	pthread_mutex_lock(&pool.lock);
	takes = pool.lanes[LANE_LOOKS].busy < KVMSTATS_MAX_CLOSE_THREADS;
	for (struct look *look = pool.left_looks; look; look = look->next)
		takes &= look->pid != pid;
	pthread_mutex_unlock(&pool.lock);
	return takes;
}

/* Until it is done, or for as long as one has patience. */
static ssize_t wait_for(struct look *look, char *text, size_t text_bytes)
{
	struct timespec end;
	ssize_t length = -ETIME;
	int ret = 0;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += KVMSTATS_FINDER_PATIENCE_MS / 1000;
	pthread_mutex_lock(&pool.lock);
	while (!look->done && !ret)
		ret = pthread_cond_timedwait(&pool.idle, &pool.lock, &end);
	if (look->done) {
		length = look->length;
		snprintf(text, text_bytes, "%s", look->text);
	} else {
		look->left = true;
		look->next = pool.left_looks;
		pool.left_looks = look;
	}
	ret = look->left;
	pthread_mutex_unlock(&pool.lock);
	if (!ret)
		free(look);
	return length;
}

ssize_t read_proc_in_time(pid_t pid, const char *file, char *text,
			  size_t text_bytes)
{
	struct look *look_at = calloc(1, sizeof(*look_at));

	if (!look_at)
		return -ENOMEM;
	look_at->pid = pid;
	snprintf(look_at->path, sizeof(look_at->path), "/proc/%d/%s", pid, file);
	if (!takes_look(pid)) {
		free(look_at);
		return -EBUSY;
	}
	if (kvmstats_close_call(LANE_LOOKS, look, look_at)) {
		free(look_at);
		return -ENOMEM;
	}
	return wait_for(look_at, text, text_bytes);
}

uint64_t process_start_ticks_in_time(pid_t pid)
{
	char stat[1024];

	return read_proc_in_time(pid, "stat", stat, sizeof(stat)) <= 0 ? 0 :
	       start_ticks_from_stat(stat);
}
