// SPDX-License-Identifier: GPL-2.0-only
/* The VMM's side, and the way to the listening socket. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "line.h"

/* From memory that ends with the text: no byte behind it may be looked at. */
static bool text_ok(const char *text)
{
	size_t length = strlen(text);
	char *copy = malloc(length ? length : 1);
	bool ok;

	assert_non_null(copy);
	memcpy(copy, text, length);
	ok = wire_text_ok(copy, length);
	free(copy);
	return ok;
}

static void texts(void **state)
{
	static const char *const good[] = {
		"", "a b", "gr\303\274n", "\342\202\254", "\360\237\230\200",
	};
	static const char *const bad[] = {
		"\t", "\033[2J", "\302\205", "\300\200", "\340\200\200",
		"\355\240\200", "\364\220\200\200", "\370\200\200\200",
		"\303", "\342\202", "\303x", "\377", "\340\202\251",
		"\360\202\202\251",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		assert_true(text_ok(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(text_ok(bad[i]));
}

static void sender_names(void **state)
{
	struct kvmstats_sender *sender;
	char name[KVMSTATS_MAX_VM_NAME + 2];

	(void)state;
	memset(name, 'n', sizeof(name));
	name[KVMSTATS_MAX_VM_NAME + 1] = 0;
	assert_int_equal(kvmstats_sender_new(name, "", &sender), -EINVAL);
	assert_int_equal(kvmstats_sender_new("", "\n", &sender), -EINVAL);
	name[KVMSTATS_MAX_VM_NAME] = 0;
	assert_int_equal(kvmstats_sender_new(name, name, &sender), 0);
	assert_int_equal(kvmstats_sender_fd(sender), -1);
	assert_int_equal(kvmstats_sender_flush(sender), -ENOTCONN);
	assert_int_equal(kvmstats_sender_add(sender, -1), -EBADF);
	assert_int_equal(kvmstats_sender_connect(sender, "/nonexistent/socket"),
			 -ENOENT);
	assert_int_equal(kvmstats_sender_connect(sender, ""), -EINVAL);
	assert_int_equal(kvmstats_sender_connect(sender, name),
			 -ENAMETOOLONG);
	kvmstats_sender_free(sender);
	kvmstats_sender_free(NULL);
}

/* As long as the kernel's array for it, and one more. */
static void path_lengths(void **state)
{
	struct sockaddr_un address;
	char path[sizeof(address.sun_path) + 1];

	(void)state;
	memset(path, 'p', sizeof(path));
	path[sizeof(address.sun_path)] = 0;
	assert_int_equal(wire_address(path, &address), -ENAMETOOLONG);
	path[sizeof(address.sun_path) - 1] = 0;
	assert_int_equal(wire_address(path, &address), 0);
	assert_string_equal(address.sun_path, path);
}

/* Reader's view of one new connection: all that comes, counted. */
static unsigned int receive_all(int listen_fd)
{
	struct kvmstats_source *sources[KVMSTATS_MAX_MESSAGE_FDS];
	unsigned int rejected, total = 0;
	struct kvmstats_peer *peer;
	int ret;

	assert_int_equal(kvmstats_peer_accept(listen_fd, &peer), 0);
	while ((ret = kvmstats_peer_receive(peer, NULL, sources,
					    &rejected)) >= 0)
		total += rejected;
	assert_int_equal(ret, -EAGAIN);
	kvmstats_peer_free(peer);
	return total;
}

/*
 * More than one message, then more descriptors, then a new connection that
 * gets all of them again.
 */
static void sender_sends(void **state)
{
	struct line *line = *state;
	struct kvmstats_sender *sender;

	assert_int_equal(kvmstats_sender_new("a", "", &sender), 0);
	for (int i = 0; i < 300; i++)
		assert_int_equal(kvmstats_sender_add_stats(sender, dup(0)), 0);
	assert_int_equal(kvmstats_sender_connect(sender, line->path), 0);
	assert_int_equal(kvmstats_sender_flush(sender), 300);
	assert_int_equal(kvmstats_sender_flush(sender), 0);
	assert_int_equal(kvmstats_sender_add_stats(sender, dup(0)), 0);
	assert_int_equal(kvmstats_sender_flush(sender), 1);
	assert_int_equal(receive_all(line->listen_fd), 301);
	assert_int_equal(kvmstats_sender_add_stats(sender, dup(0)), 0);
	assert_int_equal(kvmstats_sender_flush(sender), -EPIPE);
	assert_int_equal(kvmstats_sender_connect(sender, line->path), 0);
	assert_int_equal(kvmstats_sender_flush(sender), 302);
	assert_int_equal(receive_all(line->listen_fd), 302);
	kvmstats_sender_free(sender);
}

static void sender_without_fds_greets(void **state)
{
	struct line *line = *state;
	struct kvmstats_sender *sender;
	struct kvmstats_peer *peer;

	assert_int_equal(kvmstats_sender_new("empty", "", &sender), 0);
	assert_int_equal(kvmstats_sender_connect(sender, line->path), 0);
	assert_int_equal(kvmstats_sender_flush(sender), 0);
	assert_int_equal(kvmstats_peer_accept(line->listen_fd, &peer), 0);
	assert_int_equal(kvmstats_peer_receive(peer, NULL, NULL, NULL), 0);
	assert_string_equal(kvmstats_peer_name(peer), "empty");
	kvmstats_peer_free(peer);
	/* to the next reader, too */
	assert_int_equal(kvmstats_sender_connect(sender, line->path), 0);
	assert_int_equal(kvmstats_sender_flush(sender), 0);
	assert_int_equal(kvmstats_peer_accept(line->listen_fd, &peer), 0);
	assert_int_equal(kvmstats_peer_receive(peer, NULL, NULL, NULL), 0);
	kvmstats_peer_free(peer);
	kvmstats_sender_free(sender);
}

/* Made by somebody else; when it has ended, there is no other. */
static void sender_takes_connection(void **state)
{
	struct line *line = *state;
	struct kvmstats_sender *sender;
	struct kvmstats_peer *peer;
	int wait_ms;

	assert_int_equal(kvmstats_sender_new("taken", "", &sender), 0);
	assert_int_equal(kvmstats_sender_add_stats(sender, dup(0)), 0);
	assert_int_equal(kvmstats_sender_maintain(sender, NULL, &wait_ms),
			 -ENOTCONN);
	assert_int_equal(kvmstats_sender_take_connection(sender,
							 connect_raw(line->path)), 0);
	assert_int_equal(fcntl(kvmstats_sender_fd(sender), F_GETFD), FD_CLOEXEC);
	assert_int_equal(kvmstats_sender_maintain(sender, NULL, &wait_ms), 1);
	assert_int_equal(kvmstats_peer_accept(line->listen_fd, &peer), 0);
	kvmstats_peer_free(peer);
	assert_int_equal(kvmstats_sender_maintain(sender, NULL, &wait_ms), -EPIPE);
	assert_int_equal(kvmstats_sender_fd(sender), -1);
	assert_int_equal(kvmstats_sender_maintain(sender, NULL, &wait_ms),
			 -ENOTCONN);
	/* and another one gets all again */
	assert_int_equal(kvmstats_sender_take_connection(sender,
							 connect_raw(line->path)), 0);
	assert_int_equal(kvmstats_sender_flush(sender), 1);
	assert_int_equal(receive_all(line->listen_fd), 1);
	kvmstats_sender_free(sender);
}

/* What is refused stays the caller's, and the sender as it was. */
static void no_such_connection(void **state)
{
	struct line *line = *state;
	struct kvmstats_sender *sender;
	int fds[] = { socket(AF_UNIX, SOCK_SEQPACKET, 0),
		      socket(AF_UNIX, SOCK_STREAM, 0),
		      open("/dev/null", O_RDONLY) };

	assert_int_equal(kvmstats_sender_new("refused", "", &sender), 0);
	assert_int_equal(kvmstats_sender_connect(sender, line->path), 0);
	assert_int_equal(kvmstats_sender_take_connection(sender, fds[0]), -ENOTCONN);
	assert_int_equal(kvmstats_sender_take_connection(sender, fds[1]),
			 -EPROTOTYPE);
	assert_int_equal(kvmstats_sender_take_connection(sender, fds[2]), -ENOTSOCK);
	assert_int_equal(kvmstats_sender_take_connection(sender, -1), -EBADF);
	assert_int_equal(kvmstats_sender_take_connection(sender, line->listen_fd),
			 -ENOTCONN);
	assert_int_equal(kvmstats_sender_flush(sender), 0);
	assert_int_equal(receive_all(line->listen_fd), 0);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(close(fds[i]), 0);
	kvmstats_sender_free(sender);
}

/* A reader that does not read must not stop the VMM. */
static void sender_does_not_wait(void **state)
{
	struct line *line = *state;
	struct kvmstats_sender *sender;
	int ret = 0;

	assert_int_equal(kvmstats_sender_new("busy", "", &sender), 0);
	assert_int_equal(kvmstats_sender_connect(sender, line->path), 0);
	for (int i = 0; i < 5000 && ret >= 0; i++) {
		assert_int_equal(kvmstats_sender_add_stats(sender, dup(0)), 0);
		ret = kvmstats_sender_flush(sender);
	}
	assert_int_equal(ret, -EAGAIN);
	kvmstats_sender_free(sender);
}

static void listen_paths(void **state)
{
	struct line *line = *state;
	char file[128];
	struct stat st;
	int fd;

	assert_int_equal(stat(line->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* in use */
	assert_int_equal(kvmstats_listen(line->path, 0600), -EADDRINUSE);
	/* left behind */
	close(line->listen_fd);
	line->listen_fd = kvmstats_listen(line->path, 0622);
	assert_true(line->listen_fd >= 0);
	assert_int_equal(stat(line->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0622);
	/* a file */
	snprintf(file, sizeof(file), "%s/file", line->dir);
	fd = open(file, O_CREAT | O_RDONLY, 0600);
	assert_int_equal(kvmstats_listen(file, 0600), -EADDRINUSE);
	assert_int_equal(unlink(file), 0);
	close(fd);
}

/* A lock that is ours is not somebody else's because there is no descriptor for it. */
static void no_descriptor_for_lock(void **state)
{
	struct line *line = *state;
	struct rlimit before, limit;
	char path[128], lock[140];
	int last = dup(0), fd;

	snprintf(path, sizeof(path), "%s/s", line->dir);
	snprintf(lock, sizeof(lock), "%s.lock", path);
	fd = open(lock, O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0 && last >= 0);
	close(fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	/* the socket has one */
	limit.rlim_cur = last + 1;
	close(last);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	fd = kvmstats_listen(path, 0600);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(fd, -EMFILE);
	assert_int_equal(unlink(lock), 0);
}

/* Somebody else's socket, which only happens not to be of our kind. */
static void stream_socket_stays(void **state)
{
	struct line *line = *state;
	struct sockaddr_un address;
	char path[128];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(path, sizeof(path), "%s/stream", line->dir);
	assert_int_equal(wire_address(path, &address), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address,
			      sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(kvmstats_listen(path, 0600), -EADDRINUSE);
	assert_int_equal(unlink(path), 0);
	close(fd);
}

static void start_times(void **state)
{
	const char stat[] =
		"12 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";

	(void)state;
	assert_int_equal(start_ticks_from_stat(stat), 4242);
	assert_int_equal(start_ticks_from_stat("12 (x) R 1 2"), 0);
	assert_int_equal(start_ticks_from_stat("12 x R 1 2"), 0);
	assert_int_equal(start_ticks_from_stat(""), 0);
	assert_true(process_start_ticks("self") > 0);
	assert_int_equal(process_start_ticks("nobody"), 0);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(texts),
		cmocka_unit_test(sender_names),
		cmocka_unit_test(path_lengths),
		ON_LINE(sender_sends),
		ON_LINE(sender_without_fds_greets),
		ON_LINE(sender_takes_connection),
		ON_LINE(no_such_connection),
		ON_LINE(sender_does_not_wait),
		ON_LINE(listen_paths),
		ON_LINE(stream_socket_stays),
		ON_LINE(no_descriptor_for_lock),
		cmocka_unit_test(start_times),
	};

	return RUN(tests);
}
