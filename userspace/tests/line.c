// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "line.h"

int connect_raw(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;

	assert_int_equal(wire_address(path, &address), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address,
				 sizeof(address)), 0);
	return fd;
}

int line_open(void **state)
{
	static struct line line;

	line.fds_before = count_open_fds();
	strcpy(line.dir, "/tmp/kvmstats-test-XXXXXX");
	assert_non_null(mkdtemp(line.dir));
	snprintf(line.path, sizeof(line.path), "%s/socket", line.dir);
	line.listen_fd = kvmstats_listen(line.path, 0600);
	assert_true(line.listen_fd >= 0);
	line.raw_fd = connect_raw(line.path);
	assert_int_equal(kvmstats_peer_accept(line.listen_fd, &line.peer), 0);
	*state = &line;
	return 0;
}

void assert_no_leak(unsigned int fds_before)
{
	for (int i = 0; i < 3000 && count_open_fds() != fds_before; i++)
		usleep(10000);
	assert_int_equal(count_open_fds(), fds_before);
}

int line_close(void **state)
{
	struct line *line = *state;

	kvmstats_peer_free(line->peer);
	close(line->listen_fd);
	if (line->raw_fd >= 0)
		close(line->raw_fd);
	unlink(line->path);
	rmdir(line->dir);
	assert_no_leak(line->fds_before);
	return 0;
}

void send_fds(int socket_fd, const void *bytes, size_t size_bytes,
	      const int *fds, size_t count)
{
	union {
		char bytes[CMSG_SPACE(KVMSTATS_MAX_MESSAGE_FDS * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)bytes, size_bytes };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, count * sizeof(int));
	}
	assert_int_equal(sendmsg(socket_fd, &msg, 0), size_bytes);
}

size_t make_message(char bytes[WIRE_MESSAGE_BYTES], uint32_t num_fds)
{
	struct wire_message message = {
		.num_fds = num_fds, .pid = getpid(),
		.start_time_ticks = process_start_ticks("self"),
		.name = "guest", .uuid = "1234",
	};

	return wire_encode(&message, bytes);
}
