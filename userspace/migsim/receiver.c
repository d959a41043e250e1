// SPDX-License-Identifier: GPL-2.0-only
/*
 * The other host: a process that has no part in the guest but what comes over
 * the socket. Memory that never came reads as zeros.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sim.h"

struct receiver {
	int fd;
	uint8_t *memory;	/* the guest's, then the control area */
	size_t ram_bytes, control_bytes;
};

static bool read_all(int fd, void *data, size_t bytes)
{
	ssize_t got;
	size_t done = 0;

	while (done < bytes) {
		got = recv(fd, (char *)data + done, bytes - done, MSG_WAITALL);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		done += got;
	}
	return true;
}

static bool write_all(int fd, const void *data, size_t bytes)
{
	ssize_t sent;
	size_t done = 0;

	while (done < bytes) {
		sent = send(fd, (const char *)data + done, bytes - done,
			    MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return false;
		done += sent;
	}
	return true;
}

static bool take_page(struct receiver *receiver, size_t start, size_t bytes,
		      uint32_t page)
{
	if (page >= bytes / PAGE_BYTES)
		return false;
	return read_all(receiver->fd, receiver->memory + start +
			(size_t)page * PAGE_BYTES, PAGE_BYTES);
}

static bool take_record(struct receiver *receiver,
			const struct record_header *header)
{
	switch (header->record) {
	case RECORD_PAGE:
		return take_page(receiver, 0, receiver->ram_bytes,
				 header->page);
	case RECORD_CONTROL:
		return take_page(receiver, receiver->ram_bytes,
				 receiver->control_bytes, header->page);
	case RECORD_END:
		return write_all(receiver->fd, "", 1);
	case RECORD_DUMP:
		return write_all(receiver->fd, receiver->memory,
				 receiver->ram_bytes + receiver->control_bytes);
	default:
		return false;
	}
}

int receiver_run(int fd, size_t ram_bytes, size_t control_bytes)
{
	struct receiver receiver = {
		.fd = fd, .ram_bytes = ram_bytes, .control_bytes = control_bytes
	};
	struct record_header header;

	receiver.memory = mmap(NULL, ram_bytes + control_bytes,
			       PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (receiver.memory == MAP_FAILED)
		return EXIT_FAILED;
	while (read_all(fd, &header, sizeof(header)))
		if (!take_record(&receiver, &header))
			return EXIT_FAILED;
	return EXIT_CONVERGED;
}
