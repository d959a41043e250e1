// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clients of the registration socket that do anything in any order. The bytes
 * are a program: connections that open, send messages, good or spoilt, with
 * descriptors or without, and close, with turns of the agent in between.
 * Afterwards nothing is left: no VM, no descriptor.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../kvmstatd/registrations.h"
#include "../kvmstatd/scrape.h"
#include "../lib/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

#define CLIENTS 4

struct input {
	const uint8_t *bytes;
	size_t left;
};

static uint8_t next(struct input *input)
{
	if (!input->left)
		return 0;
	input->left--;
	return *input->bytes++;
}

static const struct settings settings = {
	.max_vms = 3, .max_vms_per_uid = 3, .max_fds_per_vm = 4,
	.max_devices_per_vm = 2,
	.max_messages = 6, .max_scrapes = 1,
};

static struct sockaddr_un address = { .sun_family = AF_UNIX };

static int open_client(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC |
			SOCK_NONBLOCK, 0);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* A right message, of which some bytes may be others. */
static size_t make_message(struct input *input, char bytes[WIRE_MESSAGE_BYTES],
			   size_t num_fds)
{
	struct wire_message message = {
		.num_fds = num_fds, .pid = getpid(),
		.start_time_ticks = process_start_ticks("self"), .uuid = "u",
	};
	size_t length;

	message.name[0] = 'a' + (next(input) & 3);
	length = wire_encode(&message, bytes);
	for (int spoilt = next(input) & 3; spoilt; spoilt--) {
		size_t at = next(input);

		bytes[at % length] = next(input);
	}
	return length;
}

/* What a VM publishes: one of four, of which each counts something else. */
static int published_fd(unsigned int which)
{
	/* for as long as the fuzzer runs */
	static struct kvmstats_device *devices[4];
	static const char *const names[] = { "a", "b_total", "ns", "a_bytes" };
	struct kvmstats_stat stat = { .name = names[which], .type = which };
	struct kvmstats_publisher *publisher;

	if (devices[which])
		return kvmstats_device_fd(devices[which]);
	stat.bucket_size = which == KVMSTATS_LINEAR_HIST;
	if (kvmstats_publisher_new(which & 1 ? "block" : "net", &stat, 1,
				   &publisher) ||
	    kvmstats_device_new(publisher, which & 2 ? "x" : "y\"", &devices[which]))
		abort();
	kvmstats_publisher_free(publisher);
	return kvmstats_device_fd(devices[which]);
}

static void send_message(struct input *input, int client, int device_fd)
{
	union {
		char bytes[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	char bytes[WIRE_MESSAGE_BYTES];
	size_t count = next(input) & 7;
	struct iovec iov = { .iov_base = bytes };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[8];

	iov.iov_len = make_message(input, bytes, next(input) & 1 ? count : 0);
	for (size_t i = 0; i < count; i++) {
		uint8_t which = next(input);

		fds[i] = which & 4 ? published_fd(which & 3) : device_fd;
	}
	if (count) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, count * sizeof(int));
	}
	sendmsg(client, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void scrape_all(struct registry *registry)
{
	struct scrape *scrape = scrape_new(registry, OPENMETRICS, &settings);
	char text[4096];

	if (!scrape)
		abort();
	while (scrape_read(scrape, text, sizeof(text)))
		;
	scrape_free(scrape);
}

static void act(struct input *input, struct receiver *receiver, int *clients)
{
	uint8_t what = next(input);
	int *client = &clients[what % CLIENTS];

	switch (what / CLIENTS % 8) {
	case 0:
	case 1:
		if (*client < 0)
			*client = open_client();
		break;
	case 2:
		if (*client >= 0)
			close(*client);
		*client = -1;
		break;
	case 3:
	case 4:
		if (*client >= 0)
			send_message(input, *client, receiver->epoll_fd);
		break;
	case 5:
		scrape_all(receiver->registry);
		break;
	default:
		receiver_turn(receiver, 0);
	}
}

static int listen_somewhere(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC |
			SOCK_NONBLOCK, 0);

	/* a name that needs no file, new for each process */
	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1,
		 "kvmstatd-fuzz-%d", getpid());
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 16) < 0)
		abort();
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes)
{
	struct input input = { bytes, size_bytes };
	int clients[CLIENTS] = { -1, -1, -1, -1 };
	struct receiver receiver;
	struct registry registry;
	int fd = listen_somewhere();

	if (registry_open(&registry, &settings.filters) ||
	    receiver_open(&receiver, &registry, &settings, fd))
		abort();
	while (input.left)
		act(&input, &receiver, clients);
	for (int i = 0; i < CLIENTS; i++)
		if (clients[i] >= 0)
			close(clients[i]);
	for (int i = 0; i < 50 && (receiver.count || i < 3); i++)
		receiver_turn(&receiver, 0);
	if (receiver.count || registry.count || registry.fds)
		abort();
	receiver_close(&receiver);
	registry_close(&registry);
	close_wait();
	close(fd);
	return 0;
}
