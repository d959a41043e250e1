/* SPDX-License-Identifier: GPL-2.0-only */
/* A scrape on its way to a client, compressed if it likes. */
#ifndef KVMSTATD_STREAM_H
#define KVMSTATD_STREAM_H

#include <zlib.h>

#include "scrape.h"

struct http;

struct stream {
	struct stream *next;
	struct http *http;
	int socket_fd;
	atomic_bool cut;	/* out of time */
	struct scrape *scrape;
	bool gzip, failed;
	z_stream zip;
	int flush;		/* Z_FINISH: all text has been read */
	char *text;		/* on its way into zip */
};

struct stream *stream_new(struct registry *registry, enum exposition format,
			  const struct settings *settings, bool gzip);
void stream_free(struct stream *stream);
/* The next bytes; 0: the end, or failed */
size_t stream_read(struct stream *stream, char *out, size_t room);

#endif /* KVMSTATD_STREAM_H */
