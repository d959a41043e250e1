// SPDX-License-Identifier: GPL-2.0-only
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/log.h"
#include "http_private.h"

#define HEAD_NS		10000000000ull	/* for a first request's head */
#define IDLE_NS		60000000000ull	/* for the next one */
#define HUNG_NS		10000000000ull	/* the main thread does not turn */
#define SPARE_CONNECTIONS 8	/* come, before others have gone */

/* ------------------------------------------------------------------ clients */

struct client *client_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info;

	info = MHD_get_connection_info(connection,
				       MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	return info ? info->socket_context : NULL;
}

static void read_address(struct address *address,
			 struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info;
	const struct sockaddr *any;

	memset(address, 0, sizeof(*address));
	info = MHD_get_connection_info(connection,
				       MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	any = info ? info->client_addr : NULL;
	if (!any)
		return;
	address->family = any->sa_family;
	if (any->sa_family == AF_INET)
		memcpy(address->bytes,
		       &((const struct sockaddr_in *)any)->sin_addr, 4);
	else if (any->sa_family == AF_INET6)
		memcpy(address->bytes,
		       &((const struct sockaddr_in6 *)any)->sin6_addr, 16);
}

bool same_address(const struct address *one, const struct address *other)
{
	return one->family == other->family &&
	       !memcmp(one->bytes, other->bytes, sizeof(one->bytes));
}

void cut_client(struct http *http, struct client *client)
{
	if (client->cut)
		return;
	client->cut = true;
	http->registry->counters.http_cut[client->phase]++;
	shutdown(client->fd, SHUT_RDWR);
}

/*
 * One address may have half of the connections. The connection that has asked for
 * nothing for the longest time makes room: of this address if that has its share,
 * of any if all are taken. Under the lock.
 */
static void make_room(struct http *http, const struct address *address)
{
	unsigned long limit = http->settings.max_connections, theirs = 0;
	struct client *oldest = NULL;

	for (struct client *c = http->clients; c; c = c->next)
		theirs += !c->cut && same_address(&c->address, address);
	if (http->num_clients < limit && theirs < (limit + 1) / 2)
		return;
	for (struct client *c = http->clients; c; c = c->next)
		if (c->phase != PHASE_READING && !c->cut &&
		    (http->num_clients >= limit ||
		     same_address(&c->address, address)) &&
		    (!oldest || c->since_ns < oldest->since_ns))
			oldest = c;
	if (oldest)
		cut_client(http, oldest);
}

static void client_begins(struct http *http, struct MHD_Connection *connection,
			  void **context)
{
	struct client *client = calloc(1, sizeof(*client));
	const union MHD_ConnectionInfo *info;

	if (!client)
		return;		/* it is refused when it asks */
	info = MHD_get_connection_info(connection,
				       MHD_CONNECTION_INFO_CONNECTION_FD);
	client->fd = info ? info->connect_fd : -1;
	read_address(&client->address, connection);
	client->since_ns = clock_ns();
	pthread_mutex_lock(&http->lock);
	make_room(http, &client->address);
	client->link = &http->clients;
	client->next = http->clients;
	if (client->next)
		client->next->link = &client->next;
	http->clients = client;
	http->num_clients++;
	pthread_mutex_unlock(&http->lock);
	*context = client;
}

/* Before the descriptor is closed: under the lock its number is the client's. */
static void client_ends(struct http *http, struct client *client)
{
	if (!client)
		return;
	pthread_mutex_lock(&http->lock);
	*client->link = client->next;
	if (client->next)
		client->next->link = client->link;
	http->num_clients--;
	pthread_mutex_unlock(&http->lock);
	free(client);
}

static void on_connection(void *context, struct MHD_Connection *connection,
			  void **socket_context,
			  enum MHD_ConnectionNotificationCode code)
{
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		client_begins(context, connection, socket_context);
	else
		client_ends(context, *socket_context);
}

static void set_phase(struct http *http, struct client *client,
		      enum http_phase phase)
{
	pthread_mutex_lock(&http->lock);
	client->phase = phase;
	client->since_ns = clock_ns();
	pthread_mutex_unlock(&http->lock);
}

/* The answer has been sent: the client may ask again. */
static void on_completed(void *context, struct MHD_Connection *connection,
			 void **state, enum MHD_RequestTerminationCode code)
{
	struct client *client = client_of(connection);

	(void)state;
	(void)code;
	if (!client)
		return;
	client->auth = AUTH_UNKNOWN;
	set_phase(context, client, PHASE_IDLE);
}

/* ------------------------------------------------------------------ answers */

enum MHD_Result answer(struct http *http, struct MHD_Connection *connection,
		       unsigned int status, struct MHD_Response *response,
		       const char *type)
{
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL,
				"no-store");
	for (size_t i = 0; http->web && i < http->web->num_headers; i++)
		MHD_add_response_header(response, http->web->headers[i].name,
					http->web->headers[i].value);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW,
					"GET, HEAD");
	if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
		MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER,
					"1");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

/* @text is a literal. */
enum MHD_Result answer_text(struct http *http,
			    struct MHD_Connection *connection,
			    unsigned int status, const char *text)
{
	struct MHD_Response *response;

	response = MHD_create_response_from_buffer(strlen(text), (void *)text,
						   MHD_RESPMEM_PERSISTENT);
	return answer(http, connection, status, response,
		      "text/plain; charset=utf-8");
}

static ssize_t read_nothing(void *context, uint64_t position, char *out,
			    size_t room)
{
	(void)context;
	(void)position;
	(void)out;
	(void)room;
	return MHD_CONTENT_READER_END_OF_STREAM;
}

/* The headers alone: nothing is read for them. */
enum MHD_Result answer_head(struct http *http,
			    struct MHD_Connection *connection,
			    const char *type)
{
	struct MHD_Response *response;

	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN,
						     CHUNK_BYTES, read_nothing,
						     NULL, NULL);
	if (response)
		MHD_add_response_header(response, MHD_HTTP_HEADER_VARY,
					"Accept, Accept-Encoding");
	return answer(http, connection, MHD_HTTP_OK, response, type);
}

static enum MHD_Result serve_health(struct http *http,
				    struct client *client,
				    struct MHD_Connection *connection,
				    bool head_only)
{
	uint64_t turned_ns = http->registry->counters.heartbeat_ns;

	(void)client;
	(void)head_only;	/* libmicrohttpd leaves the body out */
	if (clock_ns() - turned_ns > HUNG_NS)
		return answer_text(http, connection,
				   MHD_HTTP_SERVICE_UNAVAILABLE,
				   "registrations are stuck\n");
	return answer_text(http, connection, MHD_HTTP_OK, "ok\n");
}

static enum MHD_Result serve_status(struct http *http,
				    struct client *client,
				    struct MHD_Connection *connection,
				    bool head_only)
{
	static const char type[] = "text/html; charset=utf-8";
	struct MHD_Response *response;
	size_t length;
	char *page;

	(void)client;
	if (head_only)
		return answer_head(http, connection, type);
	page = status_page(http->registry, &length);
	if (!page)
		return MHD_NO;
	response = MHD_create_response_from_buffer(length, page,
						   MHD_RESPMEM_MUST_FREE);
	if (response)
		MHD_add_response_header(response, "Content-Security-Policy",
					"default-src 'none'; style-src 'unsafe-inline'");
	return answer(http, connection, MHD_HTTP_OK, response, type);
}

static const struct page {
	const char *url;
	enum MHD_Result (*serve)(struct http *http, struct client *client,
				 struct MHD_Connection *connection,
				 bool head_only);
	bool is_open;		/* to those without a password, too */
} pages[] = {
	{ "/", serve_status, false },
	{ "/metrics", serve_metrics, false },
	{ "/metrics/", serve_metrics, false },
	{ "/healthz", serve_health, true },
	{ "/-/healthy", serve_health, true },
	{ "/-/ready", serve_health, true },
};

static const struct page *find_page(const char *url)
{
	for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++)
		if (!strcmp(pages[i].url, url))
			return &pages[i];
	return NULL;
}

/* ------------------------------------------------------------------- server */

static bool is_trusted(const struct http *http,
		       struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info;

	if (!http->web)
		return true;
	info = MHD_get_connection_info(connection,
				       MHD_CONNECTION_INFO_GNUTLS_SESSION);
	return web_client_ok(http->web, info ? info->tls_session : NULL);
}

static enum MHD_Result serve(void *context, struct MHD_Connection *connection,
			     const char *url, const char *method,
			     const char *version, const char *upload,
			     size_t *upload_size, void **state)
{
	struct client *client = client_of(connection);
	bool head_only = !strcmp(method, "HEAD");
	const struct page *page = find_page(url);
	struct http *http = context;
	enum MHD_Result result;

	static char seen;

	(void)version;
	(void)upload;
	/* a body, of which nothing is wanted */
	if (*upload_size) {
		*upload_size = 0;
		return MHD_YES;
	}
	/* without memory for it, or without its certificate */
	if (!client || !is_trusted(http, connection))
		return MHD_NO;
	/* answered when the headers are there: no body is read, or waited for */
	if (strcmp(method, "GET") && !head_only) {
		set_phase(http, client, PHASE_READING);
		return answer_text(http, connection,
				   MHD_HTTP_METHOD_NOT_ALLOWED,
				   "only GET and HEAD\n");
	}
	/* an answer in the first call would end the connection */
	if (!*state) {
		*state = &seen;
		set_phase(http, client, PHASE_READING);
		return MHD_YES;
	}
	if (http->web && http->web->num_users && !(page && page->is_open) &&
	    !is_authorized(http, client, connection, &result))
		return result;
	if (!page)
		return answer_text(http, connection, MHD_HTTP_NOT_FOUND,
				   "there are /, /metrics and /healthz\n");
	return page->serve(http, client, connection, head_only);
}

void http_tick(struct http *http)
{
	uint64_t now_ns = clock_ns(), limit_ns;

	pthread_mutex_lock(&http->lock);
	limit_ns = http->settings.scrape_seconds * 1000000000ull;
	cut_old_streams(http, limit_ns);
	for (struct client *c = http->clients; c; c = c->next) {
		uint64_t phase_ns = c->phase == PHASE_READING ? limit_ns :
				    c->phase == PHASE_IDLE ? IDLE_NS : HEAD_NS;

		if (now_ns - c->since_ns >= phase_ns)
			cut_client(http, c);
	}
	pthread_mutex_unlock(&http->lock);
}

static void on_libmicrohttpd_says(void *context, const char *format,
				  va_list args)
{
	char text[512];

	(void)context;
	vsnprintf(text, sizeof(text), format, args);
	text[strcspn(text, "\n")] = 0;
	log_debug("libmicrohttpd: %s", text);
}

static struct MHD_Daemon *start_daemon(struct http *http, int listen_fd)
{
	/*
	 * Without ITC the listening socket would be shut down to stop the
	 * thread, but it may be systemd's and wait for our successor.
	 */
	unsigned int flags = MHD_USE_EPOLL_INTERNALLY | MHD_USE_ITC |
			     MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME;
	struct MHD_OptionItem options[16];
	size_t count = 0;

#define OPTION(option, number, pointer) \
	(options[count++] = (struct MHD_OptionItem){ option, number, pointer })
	OPTION(MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_libmicrohttpd_says, NULL);
	OPTION(MHD_OPTION_LISTEN_SOCKET, listen_fd, NULL);
	OPTION(MHD_OPTION_CONNECTION_LIMIT,
	       http->settings.max_connections + SPARE_CONNECTIONS, NULL);
	OPTION(MHD_OPTION_CONNECTION_MEMORY_LIMIT, CHUNK_BYTES, NULL);
	OPTION(MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, http);
	OPTION(MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, http);
	if (http_has_tls(http)) {
		flags |= MHD_USE_TLS;
		OPTION(MHD_OPTION_HTTPS_MEM_CERT, 0, http->web->certificate);
		OPTION(MHD_OPTION_HTTPS_MEM_KEY, 0, http->web->key);
		OPTION(MHD_OPTION_HTTPS_PRIORITIES, 0, http->web->priorities);
		if (http->web->client_ca)
			OPTION(MHD_OPTION_HTTPS_MEM_TRUST, 0,
			       http->web->client_ca);
	}
	OPTION(MHD_OPTION_END, 0, NULL);
#undef OPTION
	return MHD_start_daemon(flags, 0, NULL, NULL, serve, http,
				MHD_OPTION_ARRAY, options, MHD_OPTION_END);
}

/* libmicrohttpd closes the socket that it is given. */
static int start_daemons(struct http *http)
{
	if (auth_start(http))
		return -1;
	for (size_t i = 0; i < http->count; i++) {
		http->daemons[i] = start_daemon(http,
						fcntl(http->listen_fds[i],
						      F_DUPFD_CLOEXEC, 0));
		if (!http->daemons[i]) {
			log_error("libmicrohttpd cannot serve HTTP (--log-level debug says more)");
			return -1;
		}
	}
	return 0;
}

static void stop_daemons(struct http *http)
{
	auth_stop(http);
	for (size_t i = 0; i < http->count; i++) {
		if (http->daemons[i])
			MHD_stop_daemon(http->daemons[i]);
		http->daemons[i] = NULL;
	}
}

struct http *http_start(struct registry *registry,
			const struct settings *settings, const int *listen_fds,
			size_t count)
{
	struct http *http = calloc(1, sizeof(*http));

	if (!http)
		return NULL;
	http->registry = registry;
	http->settings = *settings;
	pthread_mutex_init(&http->lock, NULL);
	pthread_cond_init(&http->auth_due, NULL);
	memcpy(http->listen_fds, listen_fds, count * sizeof(*listen_fds));
	http->count = count;
	if (settings->web_config)
		http->web = web_read(settings->web_config);
	if ((settings->web_config && !http->web) || start_daemons(http)) {
		http_stop(http);
		return NULL;
	}
	return http;
}

bool http_has_tls(const struct http *http)
{
	return http->web && http->web->certificate;
}

/*
 * Certificates and passwords may be new under the same name. A scrape that is
 * under way is cut then; the sockets wait meanwhile.
 */
int http_configure(struct http *http, const struct settings *settings)
{
	struct web *web = NULL;

	if (settings->web_config) {
		web = web_read(settings->web_config);
		if (!web)
			return -1;
	}
	if (web || http->web) {
		struct web *old = http->web;

		stop_daemons(http);
		http->web = web;
		http->settings = *settings;
		if (!start_daemons(http)) {
			web_free(old);
			return 0;
		}
		stop_daemons(http);
		http->web = old;
		web_free(web);
		if (start_daemons(http))
			log_error("HTTP is no longer served");
		return -1;
	}
	pthread_mutex_lock(&http->lock);
	http->settings = *settings;
	pthread_mutex_unlock(&http->lock);
	return 0;
}

void http_stop(struct http *http)
{
	stop_daemons(http);
	for (size_t i = 0; i < http->count; i++)
		close(http->listen_fds[i]);
	web_free(http->web);
	pthread_cond_destroy(&http->auth_due);
	pthread_mutex_destroy(&http->lock);
	free(http);
}
