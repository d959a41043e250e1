// SPDX-License-Identifier: GPL-2.0-only
/* Scrapes on their way to clients, and how many there may be. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <zlib.h>

#include "http_private.h"
#include "scrape.h"

#define STALLED_NS	1000000000ull	/* nothing was taken for so long */

#define TEXT_BYTES	(64u << 10)
/* The text repeats itself: the fastest level makes it small enough. */
#define GZIP_LEVEL	1
#define GZIP_WINDOW	(15 + 16)
#define GZIP_MEMORY	8

/* A scrape on its way to a client, compressed if it wants that. */
struct stream {
	struct stream *next, **link;	/* under the lock */
	struct http *http;
	struct client *client;
	atomic_ullong progress_ns;	/* the client took something */
	atomic_bool cut;		/* out of time, or of place */
	struct scrape *scrape;
	bool gzip, failed;
	z_stream zip;
	int flush;		/* Z_FINISH: all text has been read */
	char *text;		/* on its way into zip */
};

static bool start_gzip(struct stream *stream)
{
	stream->text = malloc(TEXT_BYTES);
	if (!stream->text)
		return false;
	if (deflateInit2(&stream->zip, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW,
			 GZIP_MEMORY, Z_DEFAULT_STRATEGY) == Z_OK)
		return true;
	free(stream->text);
	stream->text = NULL;
	return false;
}

static struct stream *stream_new(struct http *http, enum exposition format,
				 const struct settings *settings, bool gzip)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->http = http;
	stream->progress_ns = clock_ns();
	stream->scrape = scrape_new(http->registry, format, settings);
	if (!stream->scrape) {
		free(stream);
		return NULL;
	}
	/* without memory for it the client gets plain text */
	stream->gzip = gzip && start_gzip(stream);
	return stream;
}

static void stream_free(struct stream *stream)
{
	if (stream->gzip)
		deflateEnd(&stream->zip);
	free(stream->text);
	scrape_free(stream->scrape);
	free(stream);
}

static size_t read_gzip(struct stream *stream, char *out, size_t room)
{
	z_stream *zip = &stream->zip;
	int ret = Z_OK;

	zip->next_out = (Bytef *)out;
	zip->avail_out = room;
	while (zip->avail_out && ret == Z_OK) {
		if (!zip->avail_in && !stream->flush) {
			zip->next_in = (Bytef *)stream->text;
			zip->avail_in = scrape_read(stream->scrape,
						    stream->text, TEXT_BYTES);
			if (!zip->avail_in)
				stream->flush = Z_FINISH;
		}
		ret = deflate(zip, stream->flush);
	}
	stream->failed = ret != Z_OK && ret != Z_STREAM_END &&
			 ret != Z_BUF_ERROR;
	return room - zip->avail_out;
}

static ssize_t read_stream(void *context, uint64_t position, char *out,
			   size_t room)
{
	struct stream *stream = context;
	size_t length;

	(void)position;
	if (stream->cut)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	stream->progress_ns = clock_ns();
	length = stream->gzip ? read_gzip(stream, out, room) :
		 scrape_read(stream->scrape, out, room);
	if (!length)
		return stream->failed ? MHD_CONTENT_READER_END_WITH_ERROR :
		       MHD_CONTENT_READER_END_OF_STREAM;
	return length;
}

/* Under the lock. */
static void cut_stream(struct http *http, struct stream *stream)
{
	static const struct linger reset = { .l_onoff = 1 };

	if (atomic_exchange(&stream->cut, true))
		return;
	http->num_streams--;
	http->registry->counters.scrapes_cut++;
	/* HTTP/1.0 knows the end of a text by that of the connection only */
	setsockopt(stream->client->fd, SOL_SOCKET, SO_LINGER, &reset,
		   sizeof(reset));
	cut_client(http, stream->client);
}

static void enter_stream(struct http *http, struct stream *stream)
{
	pthread_mutex_lock(&http->lock);
	stream->link = &http->streams;
	stream->next = http->streams;
	if (stream->next)
		stream->next->link = &stream->next;
	http->streams = stream;
	pthread_mutex_unlock(&http->lock);
}

static void end_stream(void *context)
{
	struct stream *stream = context;
	struct http *http = stream->http;

	pthread_mutex_lock(&http->lock);
	*stream->link = stream->next;
	if (stream->next)
		stream->next->link = stream->link;
	http->num_streams -= !stream->cut;
	pthread_mutex_unlock(&http->lock);
	stream_free(stream);
}

static unsigned int streams_of(const struct http *http,
			       const struct address *address)
{
	unsigned int count = 0;

	for (const struct stream *s = http->streams; s; s = s->next)
		count += !s->cut && same_address(&s->client->address, address);
	return count;
}

/*
 * Whose place a new scrape gets: a client that takes nothing, or else the oldest
 * of those of the address that has most, and two more than the one that asks.
 */
static struct stream *choose_victim(const struct http *http,
				    const struct address *asking)
{
	unsigned int own = streams_of(http, asking), most = own + 1;
	uint64_t now_ns = clock_ns(), oldest_ns = now_ns;
	struct stream *victim = NULL;

	for (struct stream *s = http->streams; s; s = s->next) {
		unsigned int theirs;

		if (s->cut)
			continue;
		if (now_ns - s->progress_ns >= STALLED_NS)
			return s;
		theirs = streams_of(http, &s->client->address);
		if (theirs > most || (theirs == most && victim &&
				      s->scrape->started_ns < oldest_ns)) {
			victim = s;
			most = theirs;
			oldest_ns = s->scrape->started_ns;
		}
	}
	return victim;
}

/* A place among the scrapes that are under way, and what holds for it. */
static bool begin_scrape(struct http *http, const struct client *client,
			 struct settings *settings)
{
	bool has_place;

	pthread_mutex_lock(&http->lock);
	*settings = http->settings;
	if (http->num_streams >= settings->max_scrapes) {
		struct stream *victim = choose_victim(http, &client->address);

		if (victim)
			cut_stream(http, victim);
	}
	has_place = http->num_streams < settings->max_scrapes;
	http->num_streams += has_place;
	pthread_mutex_unlock(&http->lock);
	return has_place;
}

void cut_old_streams(struct http *http, uint64_t limit_ns)
{
	uint64_t now_ns = clock_ns();

	for (struct stream *s = http->streams; s; s = s->next)
		if (now_ns - s->scrape->started_ns >= limit_ns)
			cut_stream(http, s);
}

static const char *const content_types[] = {
	[PROMETHEUS] = "text/plain; version=0.0.4; charset=utf-8",
	[OPENMETRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

/* All lines of a header, as if they were one. */
struct header_lines {
	const char *name;
	char text[4096];	/* a client that sends more is served by its start */
	size_t length;
};

static enum MHD_Result add_line(void *context, enum MHD_ValueKind kind,
				const char *name, const char *value)
{
	struct header_lines *lines = context;
	int length;

	(void)kind;
	if (strcasecmp(name, lines->name) || !value)
		return MHD_YES;
	length = snprintf(lines->text + lines->length,
			  sizeof(lines->text) - lines->length, "%s%s",
			  lines->length ? ", " : "", value);
	lines->length += length;
	if (lines->length >= sizeof(lines->text))
		lines->length = sizeof(lines->text) - 1;
	return MHD_YES;
}

static const char *header(struct MHD_Connection *connection, const char *name,
			  struct header_lines *lines)
{
	lines->name = name;
	lines->length = 0;
	MHD_get_connection_values(connection, MHD_HEADER_KIND, add_line, lines);
	return lines->length ? lines->text : NULL;
}

/* Compressing for this machine's own Prometheus only costs. */
static bool is_remote(const struct address *address)
{
	switch (address->family) {
	case AF_INET:
		return address->bytes[0] != 127;
	case AF_INET6:
		return !IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)
					     address->bytes);
	default:
		return address->family != AF_UNIX;
	}
}

static bool wants_gzip(const struct client *client,
		       struct MHD_Connection *connection, enum gzip_when when)
{
	struct header_lines lines;

	if (when == GZIP_NEVER ||
	    !negotiate_gzip(header(connection, "Accept-Encoding", &lines)))
		return false;
	return when == GZIP_ALWAYS || is_remote(&client->address);
}

enum MHD_Result serve_metrics(struct http *http,
			      struct client *client,
			      struct MHD_Connection *connection,
			      bool head_only)
{
	struct header_lines lines;
	enum exposition format = negotiate_format(header(connection, "Accept",
							 &lines));
	struct MHD_Response *response;
	struct settings settings;
	struct stream *stream;

	if (head_only)
		return answer_head(http, connection, content_types[format]);
	if (!begin_scrape(http, client, &settings)) {
		http->registry->counters.scrapes_refused++;
		return answer_text(http, connection,
				   MHD_HTTP_SERVICE_UNAVAILABLE,
				   "too many scrapes at once\n");
	}
	stream = stream_new(http, format, &settings,
			    wants_gzip(client, connection, settings.gzip));
	if (!stream) {
		pthread_mutex_lock(&http->lock);
		http->num_streams--;
		pthread_mutex_unlock(&http->lock);
		return answer_text(http, connection,
				   MHD_HTTP_SERVICE_UNAVAILABLE, "no memory\n");
	}
	stream->client = client;
	enter_stream(http, stream);
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
	return answer(http, connection, MHD_HTTP_OK, response,
		      content_types[format]);
}
