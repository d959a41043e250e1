// SPDX-License-Identifier: GPL-2.0-only
/*
 * nbdkit-kvmstats-filter: accounts for the requests that pass through nbdkit, and
 * publishes that as the statistics of a VM's disk; nbdkit-kvmstats-filter(1).
 */
#include <errno.h>
#include <kvmstats.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "../common/agent_socket.h"

#define TICK_MS 1000

static const char *device = "disk", *vm = "nbdkit", *uuid = "";
static const char *socket_path;
static char default_socket[AGENT_SOCKET_BYTES];
static struct kvmstats_block *block;
static struct kvmstats_sender *sender;
static pthread_t ticker;
static int stop_fd = -1;
static bool has_ticker, is_used;

static int set(const char **to, const char *value)
{
	*to = strdup(value);
	if (*to)
		return 0;
	nbdkit_error("out of memory");
	return -1;
}

static int kvmstats_config(nbdkit_next_config *next, nbdkit_backend *nxdata,
			   const char *key, const char *value)
{
	if (!strcmp(key, "kvmstats-device"))
		return set(&device, value);
	if (!strcmp(key, "kvmstats-vm"))
		return set(&vm, value);
	if (!strcmp(key, "kvmstats-uuid"))
		return set(&uuid, value);
	/* nbdkit changes its directory when it goes to the background */
	if (!strcmp(key, "kvmstats-socket")) {
		socket_path = *value ? nbdkit_absolute_path(value) : "";
		return socket_path ? 0 : -1;
	}
	return next(nxdata, key, value);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

/* Once for each reason. That there is no reader yet is no error. */
static void report(int result)
{
	static int before;

	if (result == before)
		return;
	before = result;
	if (result == 1)
		nbdkit_debug("registered at %s", socket_path);
	else if (result == -ENOENT || result == -ECONNREFUSED)
		nbdkit_debug("kvmstats-socket=%s: %s; will be tried again",
			     socket_path, strerror(-result));
	else if (result == -EPIPE || result == -ECONNRESET)
		nbdkit_error("kvmstats-socket=%s: the reader hung up; its log may say why",
			     socket_path);
	else if (result < 0)
		nbdkit_error("kvmstats-socket=%s: %s; will be tried again",
			     socket_path, strerror(-result));
}

/* Ticks, and keeps a reader informed: one that begins later, or begins again. */
static void *tick(void *argument)
{
	uint64_t next_ms = now_ms(), maintain_ms = next_ms;

	(void)argument;
	for (;;) {
		struct pollfd polls[] = {
			{ .fd = stop_fd, .events = POLLIN },
			{ .fd = kvmstats_sender_fd(sender), .events = POLLIN },
		};
		uint64_t at_ms = now_ms(), until_ms;
		int wait_ms;

		if (at_ms >= next_ms) {
			kvmstats_block_tick(block);
			next_ms = at_ms + TICK_MS;
		}
		until_ms = next_ms < maintain_ms ? next_ms : maintain_ms;
		if (poll(polls, 2, until_ms > at_ms ? until_ms - at_ms : 0) < 0 &&
		    errno != EINTR)
			break;
		if (polls[0].revents)
			break;
		if (!polls[1].revents && now_ms() < maintain_ms)
			continue;
		report(kvmstats_sender_maintain(sender, socket_path, &wait_ms));
		maintain_ms = now_ms() + wait_ms;
	}
	return NULL;
}

/* What is wrong is said before nbdkit forks, and its caller sees it. */
static int kvmstats_config_complete(nbdkit_next_config_complete *next,
				    nbdkit_backend *nxdata)
{
	size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
	struct kvmstats_block *tried;
	int ret;

	/* both would count in the same place */
	if (is_used) {
		nbdkit_error("the filter kvmstats can be used only once");
		return -1;
	}
	is_used = true;
	if (!socket_path) {
		agent_socket_find(default_socket);
		socket_path = default_socket;
	}
	if (!*socket_path || strlen(socket_path) > max) {
		nbdkit_error("kvmstats-socket=%s: must be a path of 1 to %zu bytes",
			     socket_path, max);
		return -1;
	}
	ret = kvmstats_block_new(device, NULL, &tried);
	if (ret) {
		nbdkit_error("kvmstats-device=%s: %s%s", device, strerror(-ret),
			     ret == -EINVAL ?
			     "; must be 1 to 79 printable ASCII characters" : "");
		return -1;
	}
	kvmstats_block_free(tried);
	ret = kvmstats_sender_new(vm, uuid, &sender);
	if (ret) {
		nbdkit_error("kvmstats-vm=%s kvmstats-uuid=%s: %s%s", vm, uuid,
			     strerror(-ret), ret == -EINVAL ?
			     "; must be UTF-8 without control characters, at most 255 bytes" : "");
		return -1;
	}
	return next(nxdata);
}

/* In the process that stays: its number is part of the device's name. */
static int kvmstats_after_fork(nbdkit_backend *backend)
{
	int ret = kvmstats_block_new(device, NULL, &block);

	(void)backend;
	if (!ret)
		ret = kvmstats_sender_add_device(sender,
						 kvmstats_block_device(block));
	stop_fd = eventfd(0, EFD_CLOEXEC);
	if (!ret && stop_fd < 0)
		ret = -errno;
	if (!ret)
		ret = -pthread_create(&ticker, NULL, tick, NULL);
	has_ticker = !ret;
	if (ret)
		nbdkit_error("kvmstats-device=%s: cannot be published: %s", device,
			     strerror(-ret));
	return ret ? -1 : 0;
}

static void kvmstats_unload(void)
{
	uint64_t one = 1;

	if (has_ticker && write(stop_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(ticker, NULL);
	if (stop_fd >= 0)
		close(stop_fd);
	/* whoever sees the end takes a last sample */
	if (block)
		kvmstats_block_tick(block);
	kvmstats_sender_free(sender);
	kvmstats_block_free(block);
	has_ticker = false;
	stop_fd = -1;
	sender = NULL;
	block = NULL;
}

static void begin(struct kvmstats_block_request *request,
		  enum kvmstats_block_op op, uint32_t count)
{
	kvmstats_block_submit(block, request, op, count);
}

/* What next said is what we say. */
static int end(struct kvmstats_block_request *request, int ret)
{
	int error = errno;

	kvmstats_block_complete(block, request, ret);
	errno = error;
	return ret;
}

static int kvmstats_pread(nbdkit_next *next, void *handle, void *buffer,
			  uint32_t count, uint64_t offset, uint32_t flags,
			  int *err)
{
	struct kvmstats_block_request request;

	(void)handle;
	begin(&request, KVMSTATS_BLOCK_READ, count);
	return end(&request, next->pread(next, buffer, count, offset, flags, err));
}

static int kvmstats_pwrite(nbdkit_next *next, void *handle, const void *buffer,
			   uint32_t count, uint64_t offset, uint32_t flags,
			   int *err)
{
	struct kvmstats_block_request request;

	(void)handle;
	begin(&request, KVMSTATS_BLOCK_WRITE, count);
	return end(&request, next->pwrite(next, buffer, count, offset, flags, err));
}

static int kvmstats_flush(nbdkit_next *next, void *handle, uint32_t flags,
			  int *err)
{
	struct kvmstats_block_request request;

	(void)handle;
	begin(&request, KVMSTATS_BLOCK_FLUSH, 0);
	return end(&request, next->flush(next, flags, err));
}

static int kvmstats_trim(nbdkit_next *next, void *handle, uint32_t count,
			 uint64_t offset, uint32_t flags, int *err)
{
	struct kvmstats_block_request request;

	(void)handle;
	begin(&request, KVMSTATS_BLOCK_DISCARD, count);
	return end(&request, next->trim(next, count, offset, flags, err));
}

/* As the kernel counts it: zeroes are written. */
static int kvmstats_zero(nbdkit_next *next, void *handle, uint32_t count,
			 uint64_t offset, uint32_t flags, int *err)
{
	struct kvmstats_block_request request;
	int ret;

	(void)handle;
	begin(&request, KVMSTATS_BLOCK_WRITE, count);
	ret = next->zero(next, count, offset, flags, err);
	/* no failure: the client asked whether it can be done fast, and will write */
	if (ret && flags & NBDKIT_FLAG_FAST_ZERO &&
	    (*err == ENOTSUP || *err == EOPNOTSUPP)) {
		kvmstats_block_cancel(block, &request);
		return ret;
	}
	return end(&request, ret);
}

static struct nbdkit_filter filter = {
	.name		= "kvmstats",
	.longname	= "nbdkit kvmstats filter",
	.config		= kvmstats_config,
	.config_complete = kvmstats_config_complete,
	.config_help	=
		"kvmstats-device=NAME   Name of the disk (default: disk).\n"
		"kvmstats-vm=NAME       Name of the VM that the disk belongs to (default: nbdkit).\n"
		"kvmstats-uuid=UUID     Its UUID (default: none).\n"
		"kvmstats-socket=PATH   Where the reader listens (default: kvmstatd's socket).",
	.after_fork	= kvmstats_after_fork,
	.unload		= kvmstats_unload,
	.pread		= kvmstats_pread,
	.pwrite		= kvmstats_pwrite,
	.flush		= kvmstats_flush,
	.trim		= kvmstats_trim,
	.zero		= kvmstats_zero,
};

NBDKIT_REGISTER_FILTER(filter)
