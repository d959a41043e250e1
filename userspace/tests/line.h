/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TEST_LINE_H
#define TEST_LINE_H

#include <stdlib.h>

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

/* Discarded descriptors are closed in a while: wait, but not for ever. */
void assert_no_leak(unsigned int fds_before);

int connect_raw(const char *path);
void send_fds(int socket_fd, const void *bytes, size_t size_bytes,
	      const int *fds, size_t count);
size_t make_message(char bytes[WIRE_MESSAGE_BYTES], uint32_t num_fds);

/*
 * Debian 12's valgrind has no pidfd_open, has descriptors of its own, and while
 * one thread is inside close all others wait.
 */
#define SKIP_IN_VALGRIND() \
	do { if (getenv("IN_VALGRIND")) skip(); } while (0)

#define ON_LINE(test) \
	cmocka_unit_test_setup_teardown(test, line_open, line_close)

#endif /* TEST_LINE_H */
