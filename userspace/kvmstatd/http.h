/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTATD_HTTP_H
#define KVMSTATD_HTTP_H

#include "agent.h"

struct http;

/* @listen_fd is owned by the server from here on. NULL: could not start. */
struct http *http_start(struct registry *registry,
			const struct settings *settings, int listen_fd);
/* What the server is to do from now on. */
void http_configure(struct http *http, const struct settings *settings);
/* To be called every second: ends scrapes of clients that stall. */
void http_tick(struct http *http);
void http_stop(struct http *http);

/* Listen at "ADDRESS:PORT"; the descriptor or -1 after saying why not. */
int http_listen(const char *address);

/* status.c: the page for people; NULL without memory */
char *status_page(struct registry *registry, size_t *length);

#endif /* KVMSTATD_HTTP_H */
