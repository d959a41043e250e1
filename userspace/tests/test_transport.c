// SPDX-License-Identifier: GPL-2.0-only
/* The reader's side, and senders that are not honest. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "line.h"

static void send_message(struct line *line, uint32_t num_fds, const int *fds,
			 size_t count)
{
	char bytes[WIRE_MESSAGE_BYTES];
	size_t size_bytes = make_message(bytes, num_fds);

	send_fds(line->raw_fd, bytes, size_bytes, fds, count);
}

static int receive(struct line *line, unsigned int *rejected)
{
	struct kvmstats_source *sources[KVMSTATS_MAX_MESSAGE_FDS];
	int ret = kvmstats_peer_receive(line->peer, NULL, sources, rejected);

	for (int i = 0; i < ret; i++)
		kvmstats_source_close(sources[i]);
	return ret;
}

static void greeting(void **state)
{
	struct line *line = *state;
	unsigned int rejected = 99;

	SKIP_IN_VALGRIND();
	assert_int_equal(receive(line, &rejected), -EAGAIN);
	assert_string_equal(kvmstats_peer_name(line->peer), "");
	assert_int_equal(kvmstats_peer_pidfd(line->peer), -1);
	send_message(line, 0, NULL, 0);
	assert_int_equal(receive(line, &rejected), 0);
	assert_int_equal(rejected, 0);
	assert_string_equal(kvmstats_peer_name(line->peer), "guest");
	assert_string_equal(kvmstats_peer_uuid(line->peer), "1234");
	assert_int_equal(kvmstats_peer_pid(line->peer), getpid());
	assert_int_equal(kvmstats_peer_uid(line->peer), getuid());
	assert_int_equal(kvmstats_peer_gid(line->peer), getgid());
	assert_true(kvmstats_peer_pidfd(line->peer) >= 0);
}

static void end_of_connection(void **state)
{
	struct line *line = *state;

	close(line->raw_fd);
	line->raw_fd = -1;
	assert_int_equal(receive(line, NULL), -EPIPE);
	assert_int_equal(receive(line, NULL), -EPIPE);
}

/* A sender in a time namespace sees other times: they are not compared. */
static void other_times(void **state)
{
	struct line *line = *state;
	struct wire_message message = { .start_time_ticks = 1, .name = "x" };
	char bytes[WIRE_MESSAGE_BYTES];

	SKIP_IN_VALGRIND();
	send_fds(line->raw_fd, bytes, wire_encode(&message, bytes), NULL, 0);
	assert_int_equal(receive(line, NULL), 0);
	assert_true(kvmstats_peer_pidfd(line->peer) >= 0);
	assert_int_equal(kvmstats_peer_start_ticks(line->peer),
			 process_start_ticks("self"));
}

static void pidfd_tells_the_end(void **state)
{
	struct line *line = *state;
	struct pollfd poll_fd = { .events = POLLIN };
	struct kvmstats_peer *peer;
	int go[2], status;
	pid_t child;

	SKIP_IN_VALGRIND();
	assert_int_equal(pipe(go), 0);
	child = fork();
	if (!child) {
		char byte;

		close(go[1]);
		line->raw_fd = connect_raw(line->path);
		send_message(line, 0, NULL, 0);
		if (read(go[0], &byte, 1) < 0)
			_exit(1);
		_exit(0);
	}
	close(go[0]);
	poll_fd.fd = line->listen_fd;
	assert_int_equal(poll(&poll_fd, 1, 30000), 1);
	assert_int_equal(kvmstats_peer_accept(line->listen_fd, &peer), 0);
	poll_fd.fd = kvmstats_peer_fd(peer);
	assert_int_equal(poll(&poll_fd, 1, 30000), 1);
	assert_int_equal(kvmstats_peer_receive(peer, NULL, NULL, NULL), 0);
	poll_fd.fd = kvmstats_peer_pidfd(peer);
	assert_true(poll_fd.fd >= 0);
	assert_int_equal(poll(&poll_fd, 1, 0), 0);
	close(go[1]);
	assert_int_equal(poll(&poll_fd, 1, 30000), 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	kvmstats_peer_free(peer);
}

static void foreign_fds_are_closed(void **state)
{
	struct line *line = *state;
	unsigned int rejected;
	int fds[3];

	assert_int_equal(pipe(fds), 0);
	fds[2] = inotify_init();
	send_message(line, 3, fds, 3);
	assert_int_equal(receive(line, &rejected), 0);
	assert_int_equal(rejected, 3);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

static void full_message(void **state)
{
	struct line *line = *state;
	int fds[KVMSTATS_MAX_MESSAGE_FDS];
	unsigned int rejected;

	for (int i = 0; i < KVMSTATS_MAX_MESSAGE_FDS; i++)
		fds[i] = line->listen_fd;
	send_message(line, KVMSTATS_MAX_MESSAGE_FDS, fds, KVMSTATS_MAX_MESSAGE_FDS);
	assert_int_equal(receive(line, &rejected), 0);
	assert_int_equal(rejected, KVMSTATS_MAX_MESSAGE_FDS);
}

static void wrong_count(void **state)
{
	struct line *line = *state;
	int fds[2] = { line->listen_fd, line->listen_fd };

	send_message(line, 1, fds, 2);
	assert_int_equal(receive(line, NULL), -EBADMSG);
	send_message(line, 3, fds, 2);
	assert_int_equal(receive(line, NULL), -EBADMSG);
}

static void garbage_with_fds(void **state)
{
	struct line *line = *state;
	char bytes[2 * WIRE_RECEIVE_BYTES] = "KVMSTATS";

	send_fds(line->raw_fd, "x", 1, &line->listen_fd, 1);
	assert_int_equal(receive(line, NULL), -EBADMSG);
	send_fds(line->raw_fd, bytes, sizeof(bytes), &line->listen_fd, 1);
	assert_int_equal(receive(line, NULL), -EBADMSG);
	send_fds(line->raw_fd, bytes, 0, &line->listen_fd, 1);
	assert_int_equal(receive(line, NULL), -EPIPE);
}

/* What is cut off must not look whole, whatever the header says. */
static void oversized_message(void **state)
{
	struct line *line = *state;
	char bytes[2 * WIRE_RECEIVE_BYTES] = "";
	size_t size_bytes = make_message(bytes, 0);
	uint16_t header_bytes = WIRE_RECEIVE_BYTES -
				(size_bytes - WIRE_HEADER_BYTES);

	memcpy(bytes + 10, &header_bytes, sizeof(header_bytes));
	memset(bytes + WIRE_HEADER_BYTES, 'a', sizeof(bytes) -
	       WIRE_HEADER_BYTES);
	send_fds(line->raw_fd, bytes, WIRE_RECEIVE_BYTES, NULL, 0);
	assert_int_equal(receive(line, NULL), 0);
	send_fds(line->raw_fd, bytes, sizeof(bytes), NULL, 0);
	assert_int_equal(receive(line, NULL), -EBADMSG);
}

static void other_identity(void **state)
{
	struct line *line = *state;
	struct wire_message message = { .name = "somebody", .uuid = "1234" };
	char bytes[WIRE_MESSAGE_BYTES];

	send_message(line, 0, NULL, 0);
	assert_int_equal(receive(line, NULL), 0);
	send_fds(line->raw_fd, bytes, wire_encode(&message, bytes), NULL, 0);
	assert_int_equal(receive(line, NULL), -EBADMSG);
	assert_string_equal(kvmstats_peer_name(line->peer), "guest");
}

/*
 * The kernel drops what finds no number, and says so: also when as many arrive
 * as the message promises.
 */
static void no_number_free(void **state)
{
	unsigned int before = count_open_fds();
	struct line *line = *state;
	struct rlimit old, low;
	int fds[8];

	SKIP_IN_VALGRIND();
	for (int i = 0; i < 8; i++)
		fds[i] = line->listen_fd;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (unsigned int promised = 1; promised <= 8; promised++) {
		send_message(line, promised, fds, 8);
		low = old;
		low.rlim_cur = before + 2;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
		assert_int_equal(receive(line, NULL), -EMFILE);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
		assert_no_leak(before);
	}
}

static unsigned int count_mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "r");
	unsigned int count = 0;
	char row[512];

	assert_non_null(file);
	while (fgets(row, sizeof(row), file))
		count++;
	fclose(file);
	return count;
}

/*
 * One connection cannot take all the numbers that there are. Nor does it leave
 * anything behind of the 64 threads that closed what it sent.
 */
static void too_many_fds(void **state)
{
	struct line *line = *state;
	unsigned int before = count_mappings(), open_before;
	int fds[KVMSTATS_MAX_MESSAGE_FDS];

	/* from now on the peer has a pidfd */
	send_message(line, 0, NULL, 0);
	assert_int_equal(receive(line, NULL), 0);
	open_before = count_open_fds();
	for (int i = 0; i < KVMSTATS_MAX_MESSAGE_FDS; i++)
		fds[i] = line->listen_fd;
	for (int i = 0; i < KVMSTATS_MAX_PEER_FDS / KVMSTATS_MAX_MESSAGE_FDS; i++) {
		send_message(line, KVMSTATS_MAX_MESSAGE_FDS, fds,
			     KVMSTATS_MAX_MESSAGE_FDS);
		assert_int_equal(receive(line, NULL), 0);
		assert_no_leak(open_before);
	}
	send_message(line, KVMSTATS_MAX_MESSAGE_FDS, fds, KVMSTATS_MAX_MESSAGE_FDS);
	assert_int_equal(receive(line, NULL), -E2BIG);
	assert_in_range(count_mappings(), 0, before + 40);
}

/* One end of a connection that is full and lingers for ten minutes. */
static int lingering_socket(int *other)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 600 };
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char bytes[4096] = "";

	assert_int_equal(bind(listener, (void *)&address, length), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (void *)&address, &length), 0);
	assert_int_equal(connect(fd, (void *)&address, length), 0);
	*other = accept(listener, NULL, NULL);
	close(listener);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger,
				    sizeof(linger)), 0);
	while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	return fd;
}

static uint64_t blocked_signals(const char *task)
{
	unsigned long long blocked = ~0ull;	/* has ended meanwhile */
	char path[300], row[128];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%s/status", task);
	file = fopen(path, "r");
	while (file && fgets(row, sizeof(row), file))
		if (sscanf(row, "SigBlk: %llx", &blocked) == 1)
			break;
	if (file)
		fclose(file);
	return blocked;
}

/* No handler of the program's runs in a thread that it does not know. */
static void assert_other_threads_take_no_signals(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	int others = 0;

	assert_non_null(tasks);
	while ((task = readdir(tasks))) {
		if (task->d_name[0] == '.' || atoi(task->d_name) == getpid())
			continue;
		assert_true(blocked_signals(task->d_name) >> (SIGTERM - 1) & 1);
		others++;
	}
	closedir(tasks);
	assert_true(others > 0);
}

/* If receive closed it itself, the runner's time limit would end this test. */
static void close_that_blocks(void **state)
{
	struct line *line = *state;
	unsigned int rejected;
	int other, fd;

	SKIP_IN_VALGRIND();
	fd = lingering_socket(&other);
	send_message(line, 1, &fd, 1);
	/* ours first: it must not be the last one */
	close(fd);
	assert_int_equal(receive(line, &rejected), 0);
	assert_int_equal(rejected, 1);
	assert_other_threads_take_no_signals();
	close(other);
}

struct wire_case {
	size_t at;
	unsigned char byte;
};

/* From memory that ends with it. */
static void assert_cut_off(const void *bytes, size_t size_bytes)
{
	void *copy = malloc(size_bytes ? size_bytes : 1);
	struct wire_message message;

	assert_non_null(copy);
	memcpy(copy, bytes, size_bytes);
	assert_int_equal(message_from_wire(copy, size_bytes, &message),
			 -EBADMSG);
	free(copy);
}

static void bad_messages(void **state)
{
	static const struct wire_case cases[] = {
		{ 0, 'k' }, { 7, 0 },		/* magic */
		{ 8, 2 }, { 9, 1 },		/* version */
		{ 10, 39 }, { 10, 41 }, { 11, 1 }, /* header's length */
		{ 12, 254 }, { 15, 1 },		/* descriptors */
		{ 20, 2 }, { 23, 1 }, { 36, 1 }, /* reserved */
		{ 32, 4 }, { 32, 6 }, { 33, 1 }, { 34, 3 }, { 35, 255 },
		{ 40, '\n' }, { 40, 0x7f }, { 40, 0x80 }, { 40, 0 },
		{ 44, 0xc3 }, { 48, 0xe2 },
	};
	unsigned char bytes[WIRE_MESSAGE_BYTES];
	struct wire_message message;
	size_t size_bytes;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_bytes = make_message((char *)bytes, 0);
		bytes[cases[i].at] = cases[i].byte;
		assert_int_equal(message_from_wire(bytes, size_bytes, &message),
				 -EBADMSG);
	}
	size_bytes = make_message((char *)bytes, 0);
	assert_int_equal(message_from_wire(bytes, size_bytes, &message), 0);
	while (size_bytes--)
		assert_cut_off(bytes, size_bytes);
}

/* Texts that are as long as the message says, but longer than there is room. */
static void long_texts(void **state)
{
	unsigned char bytes[2 * WIRE_MESSAGE_BYTES];
	struct wire_message message;
	uint16_t length = KVMSTATS_MAX_VM_NAME + 1;

	(void)state;
	for (size_t at = 32; at <= 34; at += 2) {
		size_t size_bytes = make_message((char *)bytes, 0) + length -
				    (at == 32 ? 5 : 4);

		memset(bytes + WIRE_HEADER_BYTES, 'a', sizeof(bytes) -
		       WIRE_HEADER_BYTES);
		memcpy(bytes + at, &length, sizeof(length));
		assert_int_equal(message_from_wire(bytes, size_bytes, &message),
				 -EBADMSG);
	}
}

/* A later version may add to the header. */
static void longer_header(void **state)
{
	unsigned char bytes[WIRE_MESSAGE_BYTES + 8];
	struct wire_message message;
	size_t size_bytes = make_message((char *)bytes, 5);

	(void)state;
	memmove(bytes + 48, bytes + 40, size_bytes - 40);
	bytes[10] = 48;
	assert_int_equal(message_from_wire(bytes, size_bytes + 8, &message), 0);
	assert_string_equal(message.name, "guest");
	assert_int_equal(message.num_fds, 5);
}

int main(void)
{
	TEST_LIST = {
		ON_LINE(greeting),
		ON_LINE(end_of_connection),
		ON_LINE(other_times),
		ON_LINE(pidfd_tells_the_end),
		ON_LINE(foreign_fds_are_closed),
		ON_LINE(full_message),
		ON_LINE(wrong_count),
		ON_LINE(garbage_with_fds),
		ON_LINE(oversized_message),
		ON_LINE(other_identity),
		ON_LINE(no_number_free),
		ON_LINE(too_many_fds),
		ON_LINE(close_that_blocks),
		cmocka_unit_test(bad_messages),
		cmocka_unit_test(long_texts),
		cmocka_unit_test(longer_header),
	};

	return RUN(tests);
}
