/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TEST_LINE_H
#define TEST_LINE_H

#include "image.h"

/* A reader, and a raw connection to it that can send anything. */
struct line {
	char dir[32], path[64];
	int listen_fd, raw_fd;
	struct kvmstats_peer *peer;
	unsigned int fds_before;
};

/* Set-up and tear-down of a test; the latter looks for leaked descriptors. */
int line_open(void **state);
int line_close(void **state);

int connect_raw(const char *path);
void send_fds(int socket_fd, const void *bytes, size_t size_bytes,
	      const int *fds, size_t count);
size_t make_message(char bytes[WIRE_MESSAGE_BYTES], uint32_t num_fds);

#define ON_LINE(test) \
	cmocka_unit_test_setup_teardown(test, line_open, line_close)

#endif /* TEST_LINE_H */
