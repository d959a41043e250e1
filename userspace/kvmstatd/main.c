// SPDX-License-Identifier: GPL-2.0-only
/* kvmstatd - serve the statistics of KVM virtual machines to Prometheus */
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "document.h"
#include "http.h"
#include "receive.h"

#define TURN_MS 1000

enum status { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

struct agent {
	int argc;
	char **argv;
	struct settings settings;
	struct inherited inherited;
	struct registry registry;
	struct receiver receiver;
	struct watch signals;
	struct http *http;
	bool bound;		/* the socket's name is ours to remove */
	bool done;
};

static int try_listen(const struct addrinfo *info)
{
	int one = 1;
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC |
			SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, info->ai_addr, info->ai_addrlen) < 0 ||
	    listen(fd, SOMAXCONN) < 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

/* The port may have been 0: say which one it became. */
static void announce(int fd)
{
	char host[64], port[16];
	struct sockaddr_storage address;
	socklen_t size_bytes = sizeof(address);
	struct sockaddr *any = (struct sockaddr *)&address;

	if (getsockname(fd, any, &size_bytes) < 0 ||
	    getnameinfo(any, size_bytes, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return;
	complain(address.ss_family == AF_INET6 ?
		 "serving http://[%s]:%s/metrics" :
		 "serving http://%s:%s/metrics", host, port);
}

/* "127.0.0.1:9976", "[::1]:9976", "localhost:9976" */
static int split_address(const char *address, char *host, size_t size,
			 const char **port)
{
	const char *colon = strrchr(address, ':');
	size_t length;

	if (!colon || !colon[1])
		return -EINVAL;
	*port = colon + 1;
	length = colon - address;
	if (*address == '[' && length && address[length - 1] == ']') {
		address++;
		length -= 2;
	}
	if (!length || length >= size)
		return -EINVAL;
	memcpy(host, address, length);
	host[length] = 0;
	return 0;
}

int http_listen(const char *address)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *info;
	char host[256];
	const char *port;
	int fd;

	if (split_address(address, host, sizeof(host), &port) ||
	    getaddrinfo(host, port, &hints, &info)) {
		complain("--listen %s: no address and port", address);
		return -1;
	}
	fd = try_listen(info);
	freeaddrinfo(info);
	if (fd >= 0)
		return fd;
	complain("--listen %s: %s", address, strerror(-fd));
	return -1;
}

/* Handled in turns, as all else. A broken connection is no reason to die. */
static int catch_signals(struct agent *agent)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	/* before the first thread, so that all have it */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	agent->signals.kind = WATCH_SIGNAL;
	agent->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return agent->signals.fd < 0 ? -errno : 0;
}

static int open_registration(struct agent *agent)
{
	const char *path = agent->settings.socket;
	int fd = agent->inherited.register_fd;

	if (fd >= 0)
		return fd;
	fd = kvmstats_listen(path, agent->settings.mode);
	if (fd < 0) {
		complain("--socket %s: %s", path, strerror(-fd));
		return -1;
	}
	agent->bound = true;
	return fd;
}

static int open_http(struct agent *agent)
{
	int fd = agent->inherited.http_fd;

	if (fd < 0)
		fd = http_listen(agent->settings.listen);
	if (fd < 0)
		return -1;
	announce(fd);
	agent->http = http_start(&agent->registry, &agent->settings, fd);
	if (agent->http)
		return 0;
	complain("libmicrohttpd does not start");
	return -1;
}

static int start(struct agent *agent)
{
	int fd, ret = inherited_take(&agent->inherited);

	if (!ret)
		ret = catch_signals(agent);
	if (!ret)
		ret = registry_open(&agent->registry, &agent->settings.filter);
	if (ret) {
		complain("%s", strerror(-ret));
		return -1;
	}
	fd = open_registration(agent);
	if (fd < 0)
		return -1;
	ret = receiver_open(&agent->receiver, &agent->registry,
			    &agent->settings, fd);
	if (!ret)
		ret = receiver_watch(&agent->receiver, &agent->signals);
	if (!ret)
		ret = store_open(agent->inherited.table_fd,
				 agent->inherited.table_number);
	if (ret) {
		complain("%s", strerror(-ret));
		return -1;
	}
	receiver_restore(&agent->receiver, &agent->inherited);
	inherited_free(&agent->inherited);
	return open_http(agent);
}

/* A file with a mistake changes nothing. */
static void reload(struct agent *agent)
{
	struct settings settings, old = agent->settings;

	notify_reloading();
	if (settings_parse(&settings, agent->argc, agent->argv)) {
		complain("the configuration stays as it was");
		settings_free(&settings);
	} else if (registry_set_filter(&agent->registry, &settings.filter)) {
		settings_free(&settings);
	} else {
		if (strcmp(settings.socket, old.socket) ||
		    strcmp(settings.listen, old.listen))
			complain("sockets stay where they are until a restart");
		agent->settings = settings;
		http_configure(agent->http, &settings);
		settings_free(&old);
	}
	notify_ready(&agent->registry);
}

static void take_signals(struct agent *agent)
{
	struct signalfd_siginfo info;

	while (read(agent->signals.fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			reload(agent);
		else
			agent->done = true;
	}
}

static void run(struct agent *agent)
{
	uint64_t pause_ns = watchdog_ns(), alive_ns = 0, status_ns = 0;
	struct registry *registry = &agent->registry;

	notify_ready(registry);
	while (!agent->done) {
		uint64_t now_ns;

		if (receiver_turn(&agent->receiver, TURN_MS))
			take_signals(agent);
		now_ns = clock_ns();
		if (pause_ns && now_ns - alive_ns >= pause_ns / 2) {
			notify_alive();
			alive_ns = now_ns;
		}
		if (now_ns - status_ns < 1000000000)
			continue;
		http_tick(agent->http);
		notify_status(registry);
		status_ns = now_ns;
	}
}

static void stop(struct agent *agent)
{
	notify_stopping();
	if (agent->http)
		http_stop(agent->http);
	if (agent->bound)
		unlink(agent->settings.socket);
	reap_wait();
	store_close();
	if (agent->receiver.cache)
		receiver_close(&agent->receiver);
	if (agent->registry.batch)
		registry_close(&agent->registry);
	settings_free(&agent->settings);
}

int main(int argc, char **argv)
{
	static struct agent agent;
	int status = STATUS_OK;

	agent.argc = argc;
	agent.argv = argv;
	if (settings_parse(&agent.settings, argc, argv)) {
		complain("try: kvmstatd --help");
		return STATUS_USAGE;
	}
	if (agent.settings.help) {
		settings_help();
	} else if (agent.settings.version) {
		puts("kvmstatd " KVMSTATS_VERSION);
	} else if (agent.settings.print_doc) {
		if (document_print(agent.settings.operands))
			status = STATUS_FAILED;
	} else if (start(&agent)) {
		status = STATUS_FAILED;
	} else {
		run(&agent);
	}
	stop(&agent);
	return status;
}
