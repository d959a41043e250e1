// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>

#include "stream.h"

#define TEXT_BYTES	(64u << 10)
/* The text repeats itself: the fastest level makes it small enough. */
#define LEVEL		1
#define WINDOW_GZIP	(15 + 16)
#define MEMORY_LEVEL	8

static bool start_gzip(struct stream *stream)
{
	stream->text = malloc(TEXT_BYTES);
	if (!stream->text)
		return false;
	if (deflateInit2(&stream->zip, LEVEL, Z_DEFLATED, WINDOW_GZIP,
			 MEMORY_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK)
		return true;
	free(stream->text);
	stream->text = NULL;
	return false;
}

struct stream *stream_new(struct registry *registry, enum exposition format,
			  const struct settings *settings, bool gzip)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->scrape = scrape_new(registry, format, settings);
	if (!stream->scrape) {
		free(stream);
		return NULL;
	}
	/* without memory for it the client gets plain text */
	stream->gzip = gzip && start_gzip(stream);
	return stream;
}

void stream_free(struct stream *stream)
{
	if (stream->gzip)
		deflateEnd(&stream->zip);
	free(stream->text);
	scrape_free(stream->scrape);
	free(stream);
}

static void refill(struct stream *stream)
{
	size_t length;

	if (stream->zip.avail_in || stream->flush)
		return;
	length = scrape_read(stream->scrape, stream->text, TEXT_BYTES);
	stream->zip.next_in = (Bytef *)stream->text;
	stream->zip.avail_in = length;
	if (!length)
		stream->flush = Z_FINISH;
}

static size_t read_gzip(struct stream *stream, char *out, size_t room)
{
	z_stream *zip = &stream->zip;
	int ret = Z_OK;

	zip->next_out = (Bytef *)out;
	zip->avail_out = room;
	while (zip->avail_out && ret == Z_OK) {
		refill(stream);
		ret = deflate(zip, stream->flush);
	}
	stream->failed = ret != Z_OK && ret != Z_STREAM_END &&
			 ret != Z_BUF_ERROR;
	return room - zip->avail_out;
}

size_t stream_read(struct stream *stream, char *out, size_t room)
{
	return stream->gzip ? read_gzip(stream, out, room) :
	       scrape_read(stream->scrape, out, room);
}
