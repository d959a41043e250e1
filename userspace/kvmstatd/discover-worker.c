// SPDX-License-Identifier: GPL-2.0-only
/* The worker process, and how it is asked. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "discover.h"

/* An honest process is looked at in well under a millisecond. */
#define PATIENCE_MS 5000

union fd_control {
	char bytes[CMSG_SPACE(KVMSTATS_MESSAGE_FDS * sizeof(int))];
	struct cmsghdr align;
};

static int send_part(int socket_fd, struct answer *answer, const int *fds,
		     size_t count)
{
	union fd_control control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = answer, .iov_len = sizeof(*answer) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	if (count) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(*fds));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(count * sizeof(*fds));
		memcpy(CMSG_DATA(cmsg), fds, count * sizeof(*fds));
	}
	return sendmsg(socket_fd, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The pidfd goes first, in a message of its own. */
static int send_look(int socket_fd, struct look *look)
{
	struct answer *answer = &look->answer;
	size_t sent = 0;
	int ret;

	answer->more = look->count;
	ret = send_part(socket_fd, answer, &look->pidfd, look->pidfd >= 0);
	while (!ret && sent < look->count) {
		size_t count = look->count - sent;

		if (count > KVMSTATS_MESSAGE_FDS)
			count = KVMSTATS_MESSAGE_FDS;
		answer->more = sent + count < look->count;
		ret = send_part(socket_fd, answer, look->stats + sent, count);
		sent += count;
	}
	return ret;
}

static void work(int socket_fd)
{
	struct inquiry inquiry;
	struct look look;

	while (recv(socket_fd, &inquiry, sizeof(inquiry), 0) ==
	       sizeof(inquiry)) {
		look_at_process(&inquiry, &look);
		if (send_look(socket_fd, &look))
			break;
		look_end(&look);
	}
}

/* Nothing of its parent's is its own: neither connections nor descriptors. */
static void become_worker(int socket_fd)
{
	sigset_t none;

	sigemptyset(&none);
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_IGN);	/* a terminal's goes to both */
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(socket_fd, STDIN_FILENO) < 0 ||
	    close_range(STDERR_FILENO + 1, ~0u, 0) < 0)
		_exit(1);
	work(STDIN_FILENO);
	_exit(0);
}

int worker_start(struct worker *worker)
{
	int sockets[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	worker->pid = fork();
	if (!worker->pid)
		become_worker(sockets[1]);
	close(sockets[1]);
	if (worker->pid < 0) {
		close(sockets[0]);
		worker->pid = 0;
		return -errno;
	}
	worker->socket_fd = sockets[0];
	return 0;
}

/* Not waited for: it may be where no signal reaches it. SIGCHLD is ignored. */
void worker_stop(struct worker *worker)
{
	if (!worker->pid)
		return;
	kill(worker->pid, SIGKILL);
	close(worker->socket_fd);
	worker->pid = 0;
}

static int make_room(struct look *look, size_t count)
{
	int *stats = realloc(look->stats,
			     (look->count + count) * sizeof(*stats));

	if (!stats)
		return -ENOMEM;
	look->stats = stats;
	return 0;
}

static int take_part(struct look *look, const struct cmsghdr *cmsg, bool first)
{
	size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	if (first) {
		memcpy(&look->pidfd, CMSG_DATA(cmsg), sizeof(int));
		return 0;
	}
	if (make_room(look, count)) {
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(fd),
			       sizeof(fd));
			close(fd);
		}
		return -ENOMEM;
	}
	memcpy(look->stats + look->count, CMSG_DATA(cmsg),
	       count * sizeof(int));
	look->count += count;
	return 0;
}

static int receive_part(int socket_fd, struct look *look, bool first)
{
	union fd_control control;
	struct iovec iov = {
		.iov_base = &look->answer, .iov_len = sizeof(look->answer)
	};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct pollfd ready = { .fd = socket_fd, .events = POLLIN };
	struct cmsghdr *cmsg;
	int ret;

	if (poll(&ready, 1, PATIENCE_MS) <= 0)
		return -ETIME;
	if (recvmsg(socket_fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) !=
	    sizeof(look->answer))
		return -ETIME;
	cmsg = CMSG_FIRSTHDR(&msg);
	ret = cmsg ? take_part(look, cmsg, first) : 0;
	return msg.msg_flags & MSG_CTRUNC ? -EMFILE : ret;
}

static int receive_look(int socket_fd, struct look *look)
{
	int ret = receive_part(socket_fd, look, true);

	while (!ret && look->answer.more)
		ret = receive_part(socket_fd, look, false);
	return ret;
}

/* A worker that failed in any way is not asked again. */
int worker_ask(struct worker *worker, const struct inquiry *inquiry,
	       struct look *look)
{
	int ret = 0;

	memset(look, 0, sizeof(*look));
	look->pidfd = -1;
	if (!worker->pid)
		ret = worker_start(worker);
	if (ret)
		return ret;
	if (send(worker->socket_fd, inquiry, sizeof(*inquiry), MSG_NOSIGNAL) < 0)
		ret = -errno;
	else
		ret = receive_look(worker->socket_fd, look);
	if (ret) {
		worker_stop(worker);
		look_end(look);
	}
	return ret;
}
