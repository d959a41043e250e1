// SPDX-License-Identifier: GPL-2.0-only
/*
 * One thread of libmicrohttpd serves all clients; none can make it wait. What
 * a client can take up is bounded: connections, scrapes, memory and time.
 */
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "http.h"
#include "negotiate.h"
#include "stream.h"

#define CHUNK_BYTES	(128u << 10)	/* memory of a connection */
#define IDLE_SECONDS	30
#define HUNG_NS		10000000000ull	/* the main thread does not turn */

struct http {
	struct MHD_Daemon *daemon;
	struct registry *registry;
	pthread_mutex_t lock;
	struct settings settings;	/* numbers only; under the lock */
	struct stream *streams;		/* under the lock */
	unsigned long num_streams;
};

static const char *header(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static enum MHD_Result answer(struct MHD_Connection *connection,
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
static enum MHD_Result answer_text(struct MHD_Connection *connection,
				   unsigned int status, const char *text)
{
	struct MHD_Response *response;

	response = MHD_create_response_from_buffer(strlen(text), (void *)text,
						   MHD_RESPMEM_PERSISTENT);
	return answer(connection, status, response,
		      "text/plain; charset=utf-8");
}

static void enter_stream(struct http *http, struct stream *stream)
{
	pthread_mutex_lock(&http->lock);
	stream->next = http->streams;
	http->streams = stream;
	pthread_mutex_unlock(&http->lock);
}

static void leave_stream(struct http *http, struct stream *stream)
{
	struct stream **link = &http->streams;

	pthread_mutex_lock(&http->lock);
	while (*link && *link != stream)
		link = &(*link)->next;
	if (*link)
		*link = stream->next;
	http->num_streams--;
	pthread_mutex_unlock(&http->lock);
}

static ssize_t read_stream(void *context, uint64_t position, char *out,
			   size_t room)
{
	struct stream *stream = context;
	size_t length;

	(void)position;
	if (atomic_load(&stream->cut))
		return MHD_CONTENT_READER_END_WITH_ERROR;
	length = stream_read(stream, out, room);
	if (!length)
		return stream->failed ? MHD_CONTENT_READER_END_WITH_ERROR :
		       MHD_CONTENT_READER_END_OF_STREAM;
	return length;
}

static void end_stream(void *context)
{
	struct stream *stream = context;

	leave_stream(stream->http, stream);
	stream_free(stream);
}

/* Compressing for this machine's own Prometheus only costs. */
static bool is_remote(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info;
	const struct sockaddr *address;
	const struct sockaddr_in6 *six;

	info = MHD_get_connection_info(connection,
				       MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	if (!info || !info->client_addr)
		return true;
	address = info->client_addr;
	six = (const struct sockaddr_in6 *)address;
	if (address->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)address)
			     ->sin_addr.s_addr) >> 24 != 127;
	return address->sa_family != AF_INET6 ||
	       !IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

static bool wants_gzip(struct MHD_Connection *connection, enum gzip_when when)
{
	if (when == GZIP_NEVER)
		return false;
	if (!negotiate_gzip(header(connection, "Accept-Encoding")))
		return false;
	return when == GZIP_ALWAYS || is_remote(connection);
}

static const char *const content_types[] = {
	[PROMETHEUS] = "text/plain; version=0.0.4; charset=utf-8",
	[OPENMETRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

static enum MHD_Result send_stream(struct MHD_Connection *connection,
				   struct stream *stream)
{
	enum exposition format = stream->scrape->format;
	struct MHD_Response *response;

	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN,
						     CHUNK_BYTES, read_stream,
						     stream, end_stream);
	if (!response) {
		end_stream(stream);
		return MHD_NO;
	}
	if (stream->gzip)
		MHD_add_response_header(response,
					MHD_HTTP_HEADER_CONTENT_ENCODING,
					"gzip");
	MHD_add_response_header(response, MHD_HTTP_HEADER_VARY,
				"Accept, Accept-Encoding");
	return answer(connection, MHD_HTTP_OK, response, content_types[format]);
}

/* A place among the scrapes that are under way, and what holds for it. */
static bool begin_scrape(struct http *http, struct settings *settings)
{
	bool free_place;

	pthread_mutex_lock(&http->lock);
	*settings = http->settings;
	free_place = http->num_streams < settings->max_scrapes;
	http->num_streams += free_place;
	pthread_mutex_unlock(&http->lock);
	return free_place;
}

static int connection_fd(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info;

	info = MHD_get_connection_info(connection,
				       MHD_CONNECTION_INFO_CONNECTION_FD);
	return info ? info->connect_fd : -1;
}

static enum MHD_Result serve_metrics(struct http *http,
				     struct MHD_Connection *connection)
{
	enum exposition format = negotiate_format(header(connection, "Accept"));
	struct settings settings;
	struct stream *stream;

	if (!begin_scrape(http, &settings)) {
		http->registry->counters.scrapes_refused++;
		return answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
				   "too many scrapes at once\n");
	}
	stream = stream_new(http->registry, format, &settings,
			    wants_gzip(connection, settings.gzip));
	if (!stream) {
		pthread_mutex_lock(&http->lock);
		http->num_streams--;
		pthread_mutex_unlock(&http->lock);
		return answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
				   "no memory\n");
	}
	stream->http = http;
	stream->socket_fd = connection_fd(connection);
	enter_stream(http, stream);
	return send_stream(connection, stream);
}

static enum MHD_Result serve_health(struct http *http,
				    struct MHD_Connection *connection)
{
	uint64_t turned_ns = http->registry->counters.heartbeat_ns;

	if (clock_ns() - turned_ns > HUNG_NS)
		return answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
				   "registrations are stuck\n");
	return answer_text(connection, MHD_HTTP_OK, "ok\n");
}

static enum MHD_Result serve_status(struct http *http,
				    struct MHD_Connection *connection)
{
	struct MHD_Response *response;
	size_t length;
	char *page = status_page(http->registry, &length);

	if (!page)
		return MHD_NO;
	response = MHD_create_response_from_buffer(length, page,
						   MHD_RESPMEM_MUST_FREE);
	if (response)
		MHD_add_response_header(response, "Content-Security-Policy",
					"default-src 'none'; style-src 'unsafe-inline'");
	return answer(connection, MHD_HTTP_OK, response,
		      "text/html; charset=utf-8");
}

/* The headers alone: nothing is read for them. */
static enum MHD_Result serve_head(struct MHD_Connection *connection,
				  const char *url)
{
	enum exposition format = negotiate_format(header(connection, "Accept"));
	const char *type = content_types[format];

	if (!strcmp(url, "/"))
		type = "text/html; charset=utf-8";
	return answer(connection, MHD_HTTP_OK,
		      MHD_create_response_from_buffer(0, NULL,
						      MHD_RESPMEM_PERSISTENT),
		      type);
}

static bool known_url(const char *url)
{
	return !strcmp(url, "/") || !strcmp(url, "/metrics") ||
	       !strcmp(url, "/healthz");
}

static enum MHD_Result serve(void *context, struct MHD_Connection *connection,
			     const char *url, const char *method,
			     const char *version, const char *upload,
			     size_t *upload_size, void **state)
{
	struct http *http = context;

	(void)version;
	(void)upload;
	(void)upload_size;
	(void)state;
	/* answered when the headers are there: no body is read, or waited for */
	if (strcmp(method, "GET") && strcmp(method, "HEAD"))
		return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
				   "only GET and HEAD\n");
	if (!known_url(url))
		return answer_text(connection, MHD_HTTP_NOT_FOUND,
				   "there are /, /metrics and /healthz\n");
	if (!strcmp(url, "/healthz"))
		return serve_health(http, connection);
	if (!strcmp(method, "HEAD"))
		return serve_head(connection, url);
	return strcmp(url, "/") ? serve_metrics(http, connection) :
	       serve_status(http, connection);
}

void http_configure(struct http *http, const struct settings *settings)
{
	pthread_mutex_lock(&http->lock);
	http->settings = *settings;
	pthread_mutex_unlock(&http->lock);
}

/*
 * A response is destroyed, and its stream leaves the list, before its
 * connection's descriptor is closed: under the lock the number is still that
 * connection's.
 */
void http_tick(struct http *http)
{
	uint64_t now_ns = clock_ns(), limit_ns;

	pthread_mutex_lock(&http->lock);
	limit_ns = http->settings.scrape_seconds * 1000000000ull;
	for (struct stream *s = http->streams; s; s = s->next) {
		if (now_ns - s->scrape->started_ns < limit_ns ||
		    atomic_exchange(&s->cut, true))
			continue;
		http->registry->counters.scrapes_cut++;
		shutdown(s->socket_fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&http->lock);
}

static struct MHD_Daemon *start_daemon(struct http *http, int listen_fd)
{
	/*
	 * Without ITC the listening socket would be shut down to stop the
	 * thread, but it may be systemd's and wait for our successor.
	 */
	unsigned int flags = MHD_USE_EPOLL_INTERNALLY | MHD_USE_ITC;
	struct MHD_OptionItem options[] = {
		{ MHD_OPTION_LISTEN_SOCKET, listen_fd, NULL },
		{ MHD_OPTION_CONNECTION_LIMIT,
		  http->settings.max_connections, NULL },
		{ MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, NULL },
		{ MHD_OPTION_CONNECTION_MEMORY_LIMIT, CHUNK_BYTES, NULL },
		{ MHD_OPTION_END, 0, NULL }
	};

	return MHD_start_daemon(flags, 0, NULL, NULL, serve, http,
				MHD_OPTION_ARRAY, options, MHD_OPTION_END);
}

struct http *http_start(struct registry *registry,
			const struct settings *settings, int listen_fd)
{
	struct http *http = calloc(1, sizeof(*http));

	if (!http)
		return NULL;
	http->registry = registry;
	http->settings = *settings;
	pthread_mutex_init(&http->lock, NULL);
	http->daemon = start_daemon(http, listen_fd);
	if (http->daemon)
		return http;
	free(http);
	return NULL;
}

void http_stop(struct http *http)
{
	MHD_stop_daemon(http->daemon);
	pthread_mutex_destroy(&http->lock);
	free(http);
}
