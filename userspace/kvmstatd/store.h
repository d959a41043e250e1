/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What systemd does for us, if it is there: sockets that are open already, a
 * watchdog, and a place where descriptors survive our restart.
 */
#ifndef KVMSTATD_STORE_H
#define KVMSTATD_STORE_H

#include <stdint.h>

#include "agent.h"
#include "table.h"

/* What systemd passed, taken out of the environment. */
struct inherited {
	int register_fd, http_fd;	/* -1: none */
	int table_fd;
	unsigned int table_number;
	int count;
	int *fds;		/* the rest; -1: taken */
	char **names;
};

int inherited_take(struct inherited *inherited);
/* Closes what nobody took, and has systemd forget it. */
void inherited_free(struct inherited *inherited);

void notify_ready(const struct registry *registry);
void notify_status(const struct registry *registry);
void notify_reloading(void);
void notify_stopping(void);
/* Half the watchdog's interval; 0: none */
uint64_t watchdog_ns(void);
void notify_alive(void);

/* A VM's place in the store. Nothing happens without systemd. */
/*
 * Takes over the one of our predecessor, unless it is -1. Main thread only, all
 * but the last.
 */
int store_open(int table_fd, unsigned int number);
/* As table_read */
int store_read(void (*found)(void *context, struct stored *stored),
	       void *context);
void store_close(void);
void store_enter(const struct vm *vm, int pidfd);
void store_add(const struct vm *vm, struct kvmstats_source *const *sources,
	       size_t count);
/* Some were replaced: hold what the VM has now, and nothing else. */
void store_again(struct registry *registry, const struct vm *vm);
void store_forget(uint64_t serial);
/* The copies of what was forgotten before this are closed. Any thread. */
void store_wait(void);

#endif /* KVMSTATD_STORE_H */
