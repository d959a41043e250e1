/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTAT_RUN_H
#define KVMSTAT_RUN_H

#include <limits.h>

#include "vm.h"

/* As env, nohup and timeout have them; what is below is the VMM's own. */
#define RUN_FAILED	125
#define RUN_CANNOT_EXEC	126
#define RUN_NOT_FOUND	127
#define RUN_SIGNAL	128	/* and the signal's number */

/* What the VMM finds in its environment. */
struct preload {
	char path[PATH_MAX];
	const char *socket, *name, *uuid;
	const char *dirty_quota;	/* bytes a second, or NULL */
	int handoff_fd;			/* for connections without a path; -1: none */
	char handoff[64];		/* its number and inode */
};

/* run_vmm.c: STATUS_OK, or the status for an error that was printed */
int run_find_preload(const char *option, char path[PATH_MAX]);
int run_find_program(const char *name, char path[PATH_MAX]);
int run_check_program(const char *path, const char *preload);

/* Signals for us go to it from then on */
int run_start(const char *path, char **argv, const struct preload *preload,
	      sigset_t *while_waiting);
/* Takes its place; the status if that fails. */
int run_become(const char *path, char **argv, const struct preload *preload);
/* Its status as ours, or -1 while it runs. */
int run_status(void);

#endif /* KVMSTAT_RUN_H */
