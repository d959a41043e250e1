/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * HTTP, by libmicrohttpd: a thread for each address serves all of its clients, and
 * no client can make it wait. What a client can take up is bounded: connections,
 * scrapes, memory, and time in each phase. Who comes when all is taken gets the
 * place of the one that is slowest.
 */
#ifndef KVMSTATD_HTTP_H
#define KVMSTATD_HTTP_H

#include "registry.h"

struct http;

/*
 * The descriptors are owned by the server from here on. NULL after saying why it
 * could not start.
 */
struct http *http_start(struct registry *registry,
			const struct settings *settings, const int *listen_fds,
			size_t count);
bool http_has_tls(const struct http *http);
/*
 * What the server is to do from now on; the web configuration is read again.
 * 0, or -1 after saying what is wrong: then nothing has changed.
 */
int http_configure(struct http *http, const struct settings *settings);
/* To be called every second: ends what has taken too long. */
void http_tick(struct http *http);
void http_stop(struct http *http);

/* status.c: the page for people; NULL without memory */
char *status_page(struct registry *registry, size_t *length);

#endif /* KVMSTATD_HTTP_H */
