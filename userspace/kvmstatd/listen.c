// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/agent_socket.h"
#include "../common/unix_listen.h"
#include "listen.h"

#define UNIX_PREFIX	"unix:"

/* A socket with a name, and which one it was. */
struct bound {
	struct stat st;
	char path[];
};

static int listen_at_path(struct listeners *listeners, const char *path,
			  int type, mode_t mode)
{
	struct bound *bound;
	int fd = unix_listen(path, type, mode);

	if (fd < 0)
		return fd;
	bound = malloc(sizeof(*bound) + strlen(path) + 1);
	if (bound && !lstat(path, &bound->st)) {
		strcpy(bound->path, path);
		listeners->bound[listeners->num_bound++] = bound;
	} else {
		free(bound);
	}
	return fd;
}

/* Why nothing could be bound at @path, and what to do about it. */
static void log_path_error(const char *option, const char *path, int error)
{
	const char *slash = strrchr(path, '/');
	const char *directory = slash ? path : ".";
	/* "/" is one, too */
	int length = slash > path ? slash - path : 1;
	pid_t holder;

	switch (error) {
	case -EADDRINUSE:
		log_error("%s %s: another file has this name, or another process listens there",
			  option, path);
		break;
	case -EBUSY:
		holder = unix_lock_holder(path);
		if (holder)
			log_error("%s %s: process %d keeps the lock %s%s: end it",
				  option, path, holder, path, LOCK_SUFFIX);
		else
			log_error("%s %s: another process keeps the lock %s%s",
				  option, path, path, LOCK_SUFFIX);
		break;
	case -ENOLCK:
		log_error("%s %s: its lock, %s%s, is no file of this user: remove it",
			  option, path, path, LOCK_SUFFIX);
		break;
	case -ENOENT:
	case -ENOTDIR:
		log_error("%s %s: the directory %.*s does not exist: create it",
			  option, path, length, directory);
		break;
	case -EACCES:
	case -EROFS:
		log_error("%s %s: this user cannot create files in the directory %.*s: %s",
			  option, path, length, directory, strerror(-error));
		break;
	default:
		log_error("%s %s: %s", option, path, strerror(-error));
	}
}

/* ----------------------------------------------------------- registration */

/* A user who tries it has no right to /run. */
static int default_path(char path[AGENT_SOCKET_BYTES])
{
	char *slash;

	if (agent_socket_own(path)) {
		log_error("$XDG_RUNTIME_DIR is not set, or not usable: --socket PATH is needed");
		return -1;
	}
	slash = strrchr(path, '/');
	*slash = '\0';
	if (mkdir(path, geteuid() ? 0700 : 0755) < 0 && errno != EEXIST) {
		log_error("cannot make the directory %s: %s", path, strerror(errno));
		return -1;
	}
	*slash = '/';
	return 0;
}

static int open_registration(struct listeners *listeners,
			     const struct settings *settings)
{
	const char *path = settings->socket;
	char made[AGENT_SOCKET_BYTES];

	if (!path && default_path(made))
		return -1;
	path = path ? path : made;
	listeners->register_fd = listen_at_path(listeners, path, SOCK_SEQPACKET,
						settings->mode);
	if (listeners->register_fd >= 0)
		return 0;
	log_path_error("--socket", path, listeners->register_fd);
	return -1;
}

/* ------------------------------------------------------------------- HTTP */

static int add_http(struct listeners *listeners, int fd)
{
	if (listeners->num_http == MAX_LISTEN) {
		close(fd);
		log_error("--listen: there must be at most %d addresses",
			  MAX_LISTEN);
		return -1;
	}
	listeners->http_fds[listeners->num_http++] = fd;
	return 0;
}

static int listen_at_address(const struct addrinfo *info)
{
	int one = 1, error;
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC |
			SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* IPv4 has a socket of its own */
	if (info->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (!bind(fd, info->ai_addr, info->ai_addrlen) &&
	    !listen(fd, SOMAXCONN))
		return fd;
	error = -errno;
	close(fd);
	return error;
}

/* Of port 0 the second address takes what the first one got. */
static void keep_port(const struct addrinfo *info, int first_fd)
{
	struct sockaddr_storage first;
	socklen_t size_bytes = sizeof(first);
	struct sockaddr_in *to = (struct sockaddr_in *)info->ai_addr;

	/* the port of both families is in the same place */
	if (!to->sin_port &&
	    !getsockname(first_fd, (struct sockaddr *)&first, &size_bytes))
		to->sin_port = ((struct sockaddr_in *)&first)->sin_port;
}

/* "HOST:PORT", "[IPV6]:PORT", ":PORT", "*:PORT", "PORT". Changes nothing else. */
static int split_address(const char *address, char host[256], const char **port)
{
	const char *colon = strrchr(address, ':');
	size_t length = colon ? colon - address : 0;
	char *end;
	unsigned long number;

	*port = colon ? colon + 1 : address;
	number = strtoul(*port, &end, 10);
	if (**port < '0' || **port > '9' || *end || number > 65535) {
		log_error("--listen %s: the port must be a number from 0 to 65535, not \"%s\"",
			  address, *port);
		return -1;
	}
	if (*address == '[' && length > 2 && address[length - 1] == ']') {
		address++;
		length -= 2;
	} else if (memchr(address, ':', length)) {
		log_error("--listen %s: an IPv6 address must be in brackets, as in [::1]:9976",
			  address);
		return -1;
	}
	if (length >= 256) {
		log_error("--listen %s: the name must have at most 255 bytes", address);
		return -1;
	}
	memcpy(host, address, length);
	host[length] = 0;
	if (!strcmp(host, "*"))
		*host = 0;
	return 0;
}

/*
 * All addresses of a name: localhost may be two. One that cannot be had is no error
 * if another can: a machine may have no IPv6.
 */
static int open_address(struct listeners *listeners, const char *address)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE,
	}, *list;
	size_t before = listeners->num_http;
	char host[256];
	const char *port;
	int ret, error = 0;

	if (split_address(address, host, &port))
		return -1;
	ret = getaddrinfo(*host ? host : NULL, port, &hints, &list);
	if (ret) {
		log_error("--listen %s: %s", address, ret == EAI_SYSTEM ?
			  strerror(errno) : gai_strerror(ret));
		return -1;
	}
	ret = 0;
	for (const struct addrinfo *info = list; info && !ret;
	     info = info->ai_next) {
		int fd;

		if (listeners->num_http > before)
			keep_port(info, listeners->http_fds[before]);
		fd = listen_at_address(info);
		if (fd < 0)
			error = fd;
		else
			ret = add_http(listeners, fd);
	}
	freeaddrinfo(list);
	if (listeners->num_http == before && !ret)
		log_error("--listen %s: %s", address, strerror(-error));
	return ret || listeners->num_http == before ? -1 : 0;
}

static int open_http_path(struct listeners *listeners, const char *address)
{
	const char *path = address + strlen(UNIX_PREFIX);
	int fd = listen_at_path(listeners, path, SOCK_STREAM, 0660);

	if (fd < 0) {
		log_path_error("--listen", path, fd);
		return -1;
	}
	return add_http(listeners, fd);
}

static int open_http(struct listeners *listeners,
		     const struct settings *settings)
{
	static char *default_address = (char *)DEFAULT_LISTEN;
	struct text_list list = settings->listen;

	if (!list.count)
		list = (struct text_list){ 1, &default_address };
	for (size_t i = 0; i < list.count; i++) {
		const char *address = list.texts[i];
		int ret = strncmp(address, UNIX_PREFIX, strlen(UNIX_PREFIX)) ?
			  open_address(listeners, address) :
			  open_http_path(listeners, address);

		if (ret)
			return -1;
	}
	return 0;
}

int listeners_open(struct listeners *listeners, const struct settings *settings,
		   const struct inherited *inherited)
{
	*listeners = (struct listeners){ .register_fd = inherited->register_fd };
	if (listeners->register_fd < 0) {
		if (open_registration(listeners, settings))
			return -1;
	} else if (settings->socket) {
		log_warning("--socket has no effect: systemd has opened the socket");
	}
	if (!inherited->num_http)
		return open_http(listeners, settings);
	if (settings->listen.count)
		log_warning("--listen has no effect: systemd has opened the socket");
	for (size_t i = 0; i < inherited->num_http; i++)
		listeners->http_fds[listeners->num_http++] =
			inherited->http_fds[i];
	return 0;
}

/* The port may have been 0: say which one it became. */
static void announce(int fd, bool tls)
{
	char host[64], port[16];
	union {
		struct sockaddr any;
		struct sockaddr_un local;
		struct sockaddr_storage room;
	} address;
	socklen_t size_bytes = sizeof(address);
	bool six;

	if (getsockname(fd, &address.any, &size_bytes) < 0)
		return;
	if (address.any.sa_family == AF_UNIX) {
		log_info("serving HTTP%s at %s", tls ? "S" : "",
			 address.local.sun_path);
		return;
	}
	if (getnameinfo(&address.any, size_bytes, host, sizeof(host), port,
			sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
		return;
	six = address.any.sa_family == AF_INET6;
	log_info("serving http%s://%s%s%s:%s/metrics", tls ? "s" : "",
		 six ? "[" : "", host, six ? "]" : "", port);
}

void listeners_announce(const struct listeners *listeners, bool tls)
{
	struct sockaddr_un local = { 0 };
	socklen_t size_bytes = sizeof(local) - 1;

	if (!getsockname(listeners->register_fd, (struct sockaddr *)&local,
			 &size_bytes) && *local.sun_path)
		log_info("VMs register at %s", local.sun_path);
	for (size_t i = 0; i < listeners->num_http; i++)
		announce(listeners->http_fds[i], tls);
}

void listeners_close(struct listeners *listeners)
{
	while (listeners->num_bound) {
		struct bound *bound = listeners->bound[--listeners->num_bound];

		unix_remove(bound->path, &bound->st);
		free(bound);
	}
}
