// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * close() can block: a file system in userspace answers it when it likes, a
 * TCP socket lingers. Who hands over such a descriptor must not stop us.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

struct discard {
	size_t count;
	int fd[];
};

static void *close_fds(void *argument)
{
	struct discard *discard = argument;

	for (size_t i = 0; i < discard->count; i++)
		close(discard->fd[i]);
	free(discard);
	return NULL;
}

/* The caller's signal handlers must not run in a thread it does not know. */
static int start_thread(struct discard *discard)
{
	sigset_t all, before;
	pthread_t thread;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&thread, NULL, close_fds, discard);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!ret)
		pthread_detach(thread);
	return ret;
}

void discard_fds(const int *fds, size_t count)
{
	struct discard *discard;

	if (!count)
		return;
	discard = malloc(sizeof(*discard) + count * sizeof(*fds));
	if (discard) {
		discard->count = count;
		memcpy(discard->fd, fds, count * sizeof(*fds));
		if (!start_thread(discard))
			return;
	}
	free(discard);
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
}
