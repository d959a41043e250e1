/* SPDX-License-Identifier: GPL-2.0-only */
/* What http.c, http_scrape.c and http_auth.c share. */
#ifndef KVMSTATD_HTTP_PRIVATE_H
#define KVMSTATD_HTTP_PRIVATE_H

#include <microhttpd.h>
#include <sys/socket.h>

#include "http.h"
#include "systemd.h"
#include "web.h"

#define CHUNK_BYTES	(128u << 10)	/* memory of a connection */

struct address {
	sa_family_t family;
	unsigned char bytes[16];
};

/* A connection, for as long as it lasts. All under the lock. */
struct client {
	struct client *next, **link;
	int fd;
	struct address address;
	enum http_phase phase;
	uint64_t since_ns;	/* of the phase */
	bool cut;
	enum { AUTH_UNKNOWN, AUTH_GOOD, AUTH_BAD } auth;	/* of this request */
};

struct stream;
struct auth_job;

struct http {
	struct MHD_Daemon *daemons[MAX_LISTEN];
	int listen_fds[MAX_LISTEN];
	size_t count;
	struct registry *registry;
	pthread_mutex_t lock;
	struct settings settings;	/* numbers only; under the lock */
	struct web *web;		/* NULL: none; daemons stop before it changes */
	struct client *clients;
	unsigned long num_clients;
	struct stream *streams;
	unsigned long num_streams;	/* without those that were cut */
	/* the thread that checks passwords */
	pthread_t auth_thread;
	bool has_auth_thread, auth_stopping;
	pthread_cond_t auth_due;
	struct auth_job *auth_first, **auth_last;
	unsigned int auth_jobs;
};

/* http.c */
struct client *client_of(struct MHD_Connection *connection);
bool same_address(const struct address *one, const struct address *other);
/* Its end is handled by libmicrohttpd's thread. Under the lock. */
void cut_client(struct http *http, struct client *client);
/* Adds the headers that all answers have. Takes over @response; NULL: MHD_NO */
enum MHD_Result answer(struct http *http, struct MHD_Connection *connection,
		       unsigned int status, struct MHD_Response *response,
		       const char *type);
/* @text is a literal. */
enum MHD_Result answer_text(struct http *http,
			    struct MHD_Connection *connection,
			    unsigned int status, const char *text);
/* The headers alone: nothing is read for them. */
enum MHD_Result answer_head(struct http *http,
			    struct MHD_Connection *connection,
			    const char *type);

/* http_scrape.c */
enum MHD_Result serve_metrics(struct http *http, struct client *client,
			      struct MHD_Connection *connection,
			      bool head_only);
/* Ends the scrapes whose time is up. Under the lock. */
void cut_old_streams(struct http *http, uint64_t limit_ns);

/* http_auth.c */
int auth_start(struct http *http);
/* Before the daemons: who waits for a password cannot be ended. */
void auth_stop(struct http *http);
/* True if the request may be answered; else *@result is what to return. */
bool is_authorized(struct http *http, struct client *client,
		   struct MHD_Connection *connection,
		   enum MHD_Result *result);

#endif /* KVMSTATD_HTTP_PRIVATE_H */
