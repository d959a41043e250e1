// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A reader may begin after the VM, or begin anew. So the descriptors of a VM stay
 * here, and a thread of our own sends them again: first after a second, then after
 * twice as long each time, at last once a minute. It waits in poll otherwise; nothing
 * of the VMM waits for it but for the lock, for as long as one message takes.
 *
 * Nobody tells of the end of a VM whose VMM lives on, and what stays here keeps it in
 * the kernel. So the thread looks every two seconds whether its number still is a VM's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "link.h"

#define MAX_KEPT	8192
#define WAIT_MAX_S	60
#define LOOK_S		2
#define STACK_BYTES	(256u << 10)
/* A program may want the low ones for itself: select has no others. */
#define LOWEST_FD	1024

static struct kept {
	const struct link *link;	/* NULL: free */
	int fd;
} kept[MAX_KEPT];

static pid_t thread_pid;	/* the process that has the thread */
static int wake_fd = -1;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static struct kept *unused(void)
{
	for (struct kept *k = kept; k < kept + MAX_KEPT; k++)
		if (!k->link)
			return k;
	return NULL;
}

/* A VMM may have closed it, and its next file has the number. */
static bool is_ours(int fd)
{
	struct kvm_file file;

	if (!kvm_file_of_own(fd, &file))
		return is_vcpus_stats(fd);
	return file.kind == KVMSTATS_FD_VM_STATS ||
	       file.kind == KVMSTATS_FD_VCPU_STATS;
}

void keep_free(const struct link *link)
{
	for (struct kept *k = kept; k < kept + MAX_KEPT; k++) {
		if (k->link != link)
			continue;
		if (is_ours(k->fd))
			close(k->fd);
		k->link = NULL;
	}
}

bool keep_add(struct link *link, int fd)
{
	struct kept *k = unused();
	int high;

	if (!k) {
		/* a part must not be taken for the whole */
		link->keeps = false;
		keep_free(link);
		return false;
	}
	high = fcntl(fd, F_DUPFD_CLOEXEC, LOWEST_FD);
	if (high >= 0)
		close(fd);
	*k = (struct kept){ link, high >= 0 ? high : fd };
	return true;
}

static bool has_kept(const struct link *link)
{
	for (const struct kept *k = kept; k < kept + MAX_KEPT; k++)
		if (k->link == link)
			return true;
	return false;
}

static void try_later(struct link *link)
{
	uint64_t now = now_ns();

	/* one that has held for a while was good */
	if (link->up_ns && now - link->up_ns > WAIT_MAX_S * 1000000000ull)
		link->wait_s = 0;
	link->wait_s = link->wait_s ? 2 * link->wait_s : 1;
	if (link->wait_s > WAIT_MAX_S)
		link->wait_s = WAIT_MAX_S;
	link->up_ns = 0;
	link->retry_ns = now + link->wait_s * 1000000000ull;
}

/*
 * All that is kept of the VM. The lock is given up where the reader is slow; the VM
 * may be gone when it is taken again.
 */
static void send_all(struct link *link)
{
	unsigned int generation = link->generation;

	for (struct kept *k = kept; k < kept + MAX_KEPT; k++) {
		unsigned int tries = 0;

		int ret = -EAGAIN;

		while (link->generation == generation && k->link == link &&
		       is_ours(k->fd) && (ret = link_send(link, k->fd))) {
			struct timespec pause = { .tv_nsec = 10000000 };

			if ((ret != -EAGAIN && ret != -ETOOMANYREFS) ||
			    tries++ == 500) {
				link_hang_up(link);
				try_later(link);
				return;
			}
			links_unlock();
			nanosleep(&pause, NULL);
			links_lock();
		}
		if (link->generation != generation)
			return;
	}
}

static void connect_again(struct link *link)
{
	if (link_connect(link)) {
		try_later(link);
		return;
	}
	link->up_ns = now_ns();
	send_all(link);
}

/* What to wait for; returns the number, and for how long in @timeout_ms: to @until. */
static nfds_t fill(struct pollfd *polls, uint64_t until, int *timeout_ms)
{
	uint64_t now = now_ns();
	bool any = false;
	pid_t pid = getpid();
	nfds_t count = 0;

	polls[count++] = (struct pollfd){ wake_fd, POLLIN, 0 };
	for (struct link *link = links; link < links + MAX_LINKS; link++) {
		if (link->pid != pid || !link->keeps || !has_kept(link))
			continue;
		any = true;
		if (link_is_up(link))
			polls[count++] = (struct pollfd){ link->socket_fd, POLLIN, 0 };
		else if (link->retry_ns < until)
			until = link->retry_ns;
	}
	*timeout_ms = until <= now ? 0 : (until - now) / 1000000 + 1;
	/* keep_watch wakes it, but for a VMM that has closed what it is woken by */
	if (!any)
		*timeout_ms = WAIT_MAX_S * 1000;
	return count;
}

/* A reader says nothing: what can be read is the end. */
static void take_ends(const struct pollfd *polls, nfds_t count)
{
	for (nfds_t i = 1; i < count; i++) {
		if (!polls[i].revents)
			continue;
		for (struct link *link = links; link < links + MAX_LINKS; link++)
			if (link->pid == getpid() && link->keeps &&
			    link->socket_fd == polls[i].fd) {
				link_hang_up(link);
				try_later(link);
			}
	}
}

static void connect_due(void)
{
	uint64_t now = now_ns();
	pid_t pid = getpid();

	for (struct link *link = links; link < links + MAX_LINKS; link++)
		if (link->pid == pid && link->keeps && !link_is_up(link) &&
		    link->retry_ns <= now && has_kept(link))
			connect_again(link);
}

static void *watch(void *unused_argument)
{
	static struct pollfd polls[MAX_LINKS + 1];
	unsigned int look_s = LOOK_S;
	uint64_t count, look_ns = 0;

	(void)unused_argument;
	prctl(PR_SET_NAME, "kvmstats");
	links_lock();
	for (;;) {
		int timeout_ms;
		nfds_t number = fill(polls, look_ns, &timeout_ms);

		links_unlock();
		poll(polls, number, timeout_ms);
		links_lock();
		if (polls[0].revents & POLLNVAL)
			wake_fd = -1;	/* the VMM has closed it */
		else if (polls[0].revents & POLLIN &&
			 read(wake_fd, &count, sizeof(count)) < 0)
			wake_fd = -1;
		take_ends(polls, number);
		if (now_ns() >= look_ns) {
			look_s = links_free_gone() ? LOOK_S : 2 * look_s;
			if (look_s > WAIT_MAX_S)
				look_s = WAIT_MAX_S;
			look_ns = now_ns() + look_s * 1000000000ull;
		}
		connect_due();
	}
	return NULL;
}

/* Signals are the VMM's threads' to handle. */
static void start_thread(void)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	pthread_t thread;

	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	thread_pid = getpid();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	if (pthread_create(&thread, &attributes, watch, NULL))
		thread_pid = 0;
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void keep_watch(void)
{
	uint64_t one = 1;

	if (thread_pid != getpid())
		start_thread();
	else if (wake_fd >= 0 && write(wake_fd, &one, sizeof(one)) < 0)
		wake_fd = -1;
}
