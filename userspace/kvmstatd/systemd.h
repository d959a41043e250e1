/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What systemd does for us, if it is there: sockets that are open already, a
 * watchdog, and a place where open files survive our restart. Without it, or
 * without its library, all of this does nothing.
 */
#ifndef KVMSTATD_SYSTEMD_H
#define KVMSTATD_SYSTEMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_LISTEN	16

/* What systemd passed, taken out of the environment. */
struct inherited {
	int register_fd;		/* -1: none */
	int http_fds[MAX_LISTEN];
	size_t num_http;
	int count;			/* of the rest */
	int *fds;			/* -1: taken */
	char **names;
};

/* 0 or -errno */
int inherited_take(struct inherited *inherited);
/* Closes what nobody took, and has systemd forget it. */
void inherited_free(struct inherited *inherited);

/* Does anybody listen to what we say? */
bool supervised(void);
/* Half the watchdog's interval; 0: none */
uint64_t watchdog_ns(void);
/* "READY=1" and the like, see sd_notify(3) */
void notify(const char *text);
/* Keep a copy of @fd under @name, whatever happens to it. */
void supervisor_keep(const char *name, int fd);
void supervisor_drop(const char *name);
/* All that was said before has been done. Any thread. */
void supervisor_wait(void);

#endif /* KVMSTATD_SYSTEMD_H */
