// SPDX-License-Identifier: GPL-2.0-only
/* The sending end of the link. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim.h"

#define BURST_NS	(10 * NS_PER_MS)
#define PIECE_NS	(5 * NS_PER_MS)	/* the link's time for one buffer */
#define MAX_PIECE	64		/* records */

static void become_receiver(const struct options *options, int fd,
			    size_t control_bytes, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILED);
	_exit(receiver_run(fd, options->memory_pages * PAGE_BYTES,
			   control_bytes));
}

void link_open(struct link *link, const struct options *options,
	       size_t control_bytes)
{
	pid_t parent = getpid();
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		die("socketpair: %s", strerror(errno));
	fflush(NULL);
	link->receiver = fork();
	if (link->receiver < 0)
		die("fork: %s", strerror(errno));
	if (!link->receiver) {
		close(ends[0]);
		become_receiver(options, ends[1], control_bytes, parent);
	}
	close(ends[1]);
	link->fd = ends[0];
	link->lose_page = options->lose_page;
	link->buffer = allocate(MAX_PIECE * RECORD_BYTES);
}

void link_start(struct link *link, uint64_t bandwidth)
{
	uint64_t piece = bandwidth * PIECE_NS / NS_PER_S / RECORD_BYTES;

	if (piece > MAX_PIECE)
		piece = MAX_PIECE;
	link->limit = (piece ? piece : 1) * RECORD_BYTES;
	bucket_init(&link->bucket, bandwidth, BURST_NS, now_ns());
	link_resume(link);
}

void link_resume(struct link *link)
{
	link->mark_ns = now_ns();
}

uint64_t link_bandwidth(struct link *link)
{
	uint64_t busy_ns = link->busy_ns;

	return busy_ns ? (double)link->sent * NS_PER_S / busy_ns : 0;
}

static void send_all(struct link *link, const void *data, size_t bytes)
{
	const uint8_t *next = data;
	ssize_t sent;

	while (bytes) {
		sent = send(link->fd, next, bytes, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			die("the receiver has gone: %s", strerror(errno));
		next += sent;
		bytes -= sent;
	}
}

void link_flush(struct link *link)
{
	uint64_t wait_ns, now;

	if (!link->filled)
		return;
	while ((wait_ns = bucket_take(&link->bucket, link->filled, now_ns())))
		sleep_ns(wait_ns);
	send_all(link, link->buffer, link->filled);
	now = now_ns();
	link->sent += link->filled;
	link->busy_ns += now - link->mark_ns;
	link->mark_ns = now;
	link->filled = 0;
}

void link_page(struct link *link, enum record record, uint64_t page,
	       const uint8_t *content)
{
	struct record_header header = { .record = record, .page = page };

	if (record == RECORD_PAGE && page == link->lose_page)
		return;
	memcpy(link->buffer + link->filled, &header, sizeof(header));
	memcpy(link->buffer + link->filled + sizeof(header), content,
	       PAGE_BYTES);
	link->filled += RECORD_BYTES;
	if (link->filled >= link->limit)
		link_flush(link);
}

static void command(struct link *link, enum record record)
{
	struct record_header header = { .record = record };

	send_all(link, &header, sizeof(header));
}

void link_read(struct link *link, void *data, size_t bytes)
{
	ssize_t got;

	do {
		got = recv(link->fd, data, bytes, MSG_WAITALL);
	} while (got < 0 && errno == EINTR);
	if (got != (ssize_t)bytes)
		die("the receiver has gone: %s",
		    got < 0 ? strerror(errno) : "end of file");
}

void link_end(struct link *link)
{
	char answer;

	link_flush(link);
	command(link, RECORD_END);
	link_read(link, &answer, sizeof(answer));
}

void link_ask_dump(struct link *link)
{
	command(link, RECORD_DUMP);
}

void link_close(struct link *link)
{
	int status;

	close(link->fd);
	while (waitpid(link->receiver, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		die("the receiver failed, status %d", status);
	free(link->buffer);
}
