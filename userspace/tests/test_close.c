// SPDX-License-Identifier: GPL-2.0-only
/* The pool that closes descriptors: bounded, and never in the caller. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/internal.h"
#include "line.h"

/* One end of a connection that is full and lingers for ten minutes. */
static int lingering_socket(void)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 600 };
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int fd = socket(AF_INET, SOCK_STREAM, 0), small = 4096;
	char bytes[4096] = "";

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	assert_int_equal(bind(listener, (void *)&address, length), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (void *)&address, &length), 0);
	assert_int_equal(connect(fd, (void *)&address, length), 0);
	/* the other end stays open, and unread, to the end of the test */
	assert_true(accept(listener, NULL, NULL) >= 0);
	close(listener);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger,
				    sizeof(linger)), 0);
	while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	return fd;
}

static unsigned int count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static void closes_what_it_is_given(void **state)
{
	unsigned int before = count_open_fds();
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(kvmstats_close_later(KVMSTATS_CLOSE_VM, fds, 2), 0);
	kvmstats_close_wait(KVMSTATS_CLOSE_VM);
	assert_int_equal(count_open_fds(), before);
	assert_int_equal(kvmstats_close_pending(KVMSTATS_CLOSE_VM), 0);
}

static void set(void *argument)
{
	*(atomic_int *)argument = 1;
}

/* What hangs takes eight threads and no more; VMs are closed meanwhile. */
static void bounded(void)
{
	static atomic_int called;
	int fd, pipe_fds[2];

	for (int i = 0; i < 2 * KVMSTATS_MAX_CLOSE_THREADS; i++) {
		fd = lingering_socket();
		assert_int_equal(kvmstats_close_later(KVMSTATS_CLOSE_FOREIGN,
						      &fd, 1), 0);
	}
	assert_int_equal(kvmstats_close_pending(KVMSTATS_CLOSE_FOREIGN),
			 2 * KVMSTATS_MAX_CLOSE_THREADS);
	assert_int_equal(count_threads(), 1 + KVMSTATS_MAX_CLOSE_THREADS);
	assert_int_equal(kvmstats_close_full(KVMSTATS_CLOSE_FOREIGN), 0);
	assert_int_equal(kvmstats_close_call(KVMSTATS_CLOSE_VM, set, &called),
			 0);
	kvmstats_close_wait(KVMSTATS_CLOSE_VM);
	assert_int_equal(called, 1);
	for (int i = 0; i < KVMSTATS_MAX_CLOSE_WAITING / 2; i++) {
		assert_int_equal(pipe(pipe_fds), 0);
		kvmstats_close_later(KVMSTATS_CLOSE_FOREIGN, pipe_fds, 2);
	}
	assert_int_equal(kvmstats_close_full(KVMSTATS_CLOSE_FOREIGN), 1);
	assert_int_equal(kvmstats_close_full(KVMSTATS_CLOSE_VM), 0);
}

/* Nothing is received from strangers then. */
static void full_pool_receives_nothing(void)
{
	char path[] = "/tmp/kvmstats-close-XXXXXX";
	struct kvmstats_sender *sender;
	struct kvmstats_source *sources[KVMSTATS_MAX_MESSAGE_FDS];
	struct kvmstats_peer *peer;
	int listen_fd;

	assert_int_equal(close(mkstemp(path)), 0);
	assert_int_equal(unlink(path), 0);
	listen_fd = kvmstats_listen(path, 0600);
	assert_true(listen_fd >= 0);
	assert_int_equal(kvmstats_sender_new("n", "", &sender), 0);
	assert_int_equal(kvmstats_sender_connect(sender, path), 0);
	assert_int_equal(kvmstats_sender_flush(sender), 0);
	assert_int_equal(kvmstats_peer_accept(listen_fd, &peer), 0);
	assert_int_equal(kvmstats_peer_receive(peer, NULL, sources, NULL),
			 -EBUSY);
	kvmstats_peer_free(peer);
	kvmstats_sender_free(sender);
	unlink(path);
}

/*
 * In a process of its own, which is killed: its sockets would linger. A child
 * of fork has an empty pool, and closes nothing of its parent's.
 */
static void hangs_are_bounded(void **state)
{
	struct rlimit limit = { 4096, 4096 };
	int status;
	pid_t pid;

	(void)state;
	SKIP_IN_VALGRIND();
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_NOFILE, &limit);
		bounded();
		full_pool_receives_nothing();
		pid = fork();
		if (!pid)
			_exit(kvmstats_close_pending(KVMSTATS_CLOSE_FOREIGN) !=
			      0);
		waitpid(pid, &status, 0);
		kill(getpid(), status ? SIGABRT : SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The socket of a peer that sent what it was not asked for. */
static void unread_message_may_hang(void **state)
{
	char path[] = "/tmp/kvmstats-close-XXXXXX";
	struct kvmstats_sender *sender;
	struct kvmstats_peer *peer;
	int listen_fd, fd, status;
	pid_t pid;

	(void)state;
	SKIP_IN_VALGRIND();
	pid = fork();
	if (!pid) {
		assert_int_equal(close(mkstemp(path)), 0);
		unlink(path);
		listen_fd = kvmstats_listen(path, 0600);
		kvmstats_sender_new("n", "", &sender);
		fd = lingering_socket();
		kvmstats_sender_add_stats(sender, fd);
		kvmstats_sender_connect(sender, path);
		kvmstats_sender_flush(sender);
		kvmstats_peer_accept(listen_fd, &peer);
		kvmstats_sender_free(sender);
		unlink(path);
		alarm(30);
		kvmstats_peer_free(peer);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(closes_what_it_is_given),
		cmocka_unit_test(hangs_are_bounded),
		cmocka_unit_test(unread_message_may_hang),
	};

	return RUN(tests);
}
