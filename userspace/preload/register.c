// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Each descriptor goes into a message of its own. For kvmstat run it is closed then:
 * it would be one number less for the VMM. An agent (KVMSTATS_SOCKET) may begin
 * after the VM, or begin anew, so for that the descriptors stay (keep.c).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../common/socket_send.h"
#include "link.h"

#define WAIT_MS		1000	/* for a reader that is slow, in all */
#define RETRY_MS	10

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
struct link links[MAX_LINKS];

void links_lock(void)
{
	pthread_mutex_lock(&lock);
}

void links_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

/* A child of fork finds the lock taken for ever, if it was at that time. */
static bool take_lock(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2 * WAIT_MS / 1000;
	return !pthread_mutex_timedlock(&lock, &until);
}

static void wait_ms(long ms)
{
	struct timespec time = { .tv_nsec = ms * 1000000 };

	nanosleep(&time, NULL);
}

/*
 * A VMM may close all descriptors that it does not know, and its next one then
 * has the number of our socket.
 */
bool link_is_up(const struct link *link)
{
	struct stat st;

	return link->socket_fd >= 0 && !fstat(link->socket_fd, &st) &&
	       st.st_dev == link->dev && st.st_ino == link->ino;
}

/*
 * The reader learns of it now, also if the thread waits for this socket: as long as it
 * does, closing alone is not enough. A copy, which a child of fork has, is only closed.
 */
void link_hang_up(struct link *link)
{
	if (link_is_up(link)) {
		if (link->pid == getpid())
			shutdown(link->socket_fd, SHUT_RDWR);
		close(link->socket_fd);
	}
	link->socket_fd = -1;
}

static struct link *find_number(int vm_fd)
{
	pid_t pid = getpid();

	for (struct link *link = links; link < links + MAX_LINKS; link++)
		if (link->pid == pid && link->vm_fd == vm_fd)
			return link;
	return NULL;
}

/* The VM may have got another number since. */
static struct link *find_file(int vm_fd)
{
	pid_t pid = getpid();

	for (struct link *link = links; link < links + MAX_LINKS; link++)
		if (link->pid == pid && same_file(pid, link->vm_fd, pid, vm_fd) == 1) {
			/* the number that will last, as the VMM uses it */
			link->vm_fd = vm_fd;
			return link;
		}
	return NULL;
}

void link_free(struct link *link)
{
	link_hang_up(link);
	keep_free(link);
	link->pid = 0;
	link->generation++;
}

static struct link *unused(void)
{
	pid_t pid = getpid();

	for (struct link *link = links; link < links + MAX_LINKS; link++) {
		if (link->pid == pid)
			continue;
		/* the parent's connection, of which this is a copy */
		if (link->pid)
			link_free(link);
		return link;
	}
	return NULL;
}

/* The reader may be about to listen, or have a full queue. */
static int connect_to(int fd, const struct sockaddr_un *address)
{
	const struct sockaddr *any = (const struct sockaddr *)address;

	for (long waited_ms = 0; ; waited_ms += RETRY_MS) {
		if (!connect(fd, any, sizeof(*address)))
			return 0;
		if ((errno != ECONNREFUSED && errno != EAGAIN) ||
		    waited_ms >= WAIT_MS)
			return -errno;
		wait_ms(RETRY_MS);
	}
}

/* A connection by its path, or -1. */
static int connect_by_path(void)
{
	struct sockaddr_un address;
	int fd;

	if (!preload_socket || wire_address(preload_socket, &address))
		return -1;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect_to(fd, &address)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/*
 * One end of a new pair, the other having been passed over the inherited
 * socket: for a VMM that has changed its user or its root, or has another /tmp
 * by now. Or -1.
 */
static int connect_by_handoff(void)
{
	int fds[2], sent = 0, ret;

	if (!preload_has_handoff() ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		       0, fds))
		return -1;
	for (long waited_ms = 0; !sent && waited_ms < WAIT_MS;
	     waited_ms += RETRY_MS) {
		ret = socket_send(preload_handoff, "", 1, &fds[1], 1, MSG_DONTWAIT);
		if (!ret)
			sent = 1;
		else if (ret == -EAGAIN)
			wait_ms(RETRY_MS);
		else
			break;
	}
	close(fds[1]);
	if (sent)
		return fds[0];
	close(fds[0]);
	return -1;
}

/* 0 or -1 */
static int use_socket(struct link *link, int socket_fd)
{
	struct stat st;

	link->socket_fd = socket_fd;
	if (socket_fd < 0)
		return -1;
	if (fstat(link->socket_fd, &st)) {
		close(link->socket_fd);
		link->socket_fd = -1;
		return -1;
	}
	link->dev = st.st_dev;
	link->ino = st.st_ino;
	return 0;
}

static void connect_link(struct link *link)
{
	if (use_socket(link, connect_by_handoff()))
		use_socket(link, connect_by_path());
}

/* One try, which does not wait. */
int link_connect(struct link *link)
{
	struct sockaddr_un address;
	int fd;

	if (!preload_socket || wire_address(preload_socket, &address))
		return -1;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		fd = -1;
	}
	return use_socket(link, fd);
}

/* A name that the protocol does not take must not cost the statistics. */
static void set_text(char *to, const char *from, const char *otherwise)
{
	size_t length = from ? strlen(from) : 0;

	if (!length || length > KVMSTATS_MAX_VM_NAME || !wire_text_ok(from, length))
		from = otherwise;
	strcpy(to, from);
}

static size_t encode(uint32_t num_fds, void *bytes)
{
	struct wire_message message = {
		.num_fds = num_fds,
		.pid = getpid(),
		.start_time_ticks = process_start_ticks("self"),
	};

	set_text(message.name, preload_name ? preload_name :
		 program_invocation_short_name, "vmm");
	set_text(message.uuid, preload_uuid, "");
	return wire_encode(&message, bytes);
}

/* Without a descriptor: only that there is a VM. */
int link_send(const struct link *link, int fd)
{
	char bytes[WIRE_MESSAGE_BYTES];
	size_t size_bytes = encode(fd >= 0, bytes);

	return socket_send(link->socket_fd, bytes, size_bytes, &fd, fd >= 0,
			   MSG_DONTWAIT);
}

/*
 * The queue of the socket is bounded, and so is what one user may have in
 * flight. After a loss the reader is told by the end of the connection: it
 * must not take a part for the whole.
 */
static void send_or_hang_up(struct link *link, int fd)
{
	for (long waited_ms = 0; link_is_up(link); waited_ms += RETRY_MS) {
		int ret = link_send(link, fd);

		if (!ret)
			return;
		if ((ret != -EAGAIN && ret != -ETOOMANYREFS) ||
		    waited_ms >= WAIT_MS)
			break;
		wait_ms(RETRY_MS);
	}
	link_hang_up(link);
}

static void send_stats(struct link *link, int stats_fd, bool even_without)
{
	if (stats_fd >= 0 || even_without)
		send_or_hang_up(link, stats_fd);
	if (stats_fd >= 0 && !(link->keeps && keep_add(link, stats_fd)))
		close(stats_fd);
	if (link->keeps)
		keep_watch();
}

/* Not through the function that stands in: nobody else has to see this. */
static void send_stats_of(struct link *link, int kvm_fd, bool even_without)
{
	send_stats(link, syscall(SYS_ioctl, kvm_fd, UAPI_GET_STATS_FD, NULL),
		   even_without);
}

/*
 * That of all vCPUs, where the kernel has it. Each vCPU's own follows all the same:
 * the reader may not know this one.
 */
static void send_vcpus_of(struct link *link, int vm_fd)
{
	if (syscall(SYS_ioctl, vm_fd, UAPI_CHECK_EXTENSION,
		    UAPI_CAP_VCPUS_STATS_FD) > 0)
		send_stats(link, syscall(SYS_ioctl, vm_fd,
					 UAPI_GET_VCPUS_STATS_FD, NULL), false);
}

/* Another driver may have the same number for something else. */
static bool is_vm(int fd)
{
	struct kvm_file file;

	if (kvm_file_of_own(fd, &file))
		return file.kind == KVMSTATS_FD_VM;
	return access("/proc/self/fd", F_OK);	/* no /proc to ask */
}

static bool is_watched(void)
{
	return preload_socket || preload_handoff >= 0;
}

/* A VM or a vCPU, under whatever number. True also if nobody can tell. */
static bool has_kvm_file(void)
{
	struct kvm_file file;
	struct dirent *entry;
	DIR *dir = opendir("/proc/self/fd");
	bool found = !dir;

	while (dir && !found && (entry = readdir(dir)))
		found = kvm_file_from_fd(dirfd(dir), entry->d_name, &file) &&
			(file.kind == KVMSTATS_FD_VM ||
			 file.kind == KVMSTATS_FD_VCPU);
	if (dir)
		closedir(dir);
	return found;
}

static struct link *introduce(int vm_fd)
{
	struct link *link = unused();

	if (!link)
		return NULL;
	link->pid = getpid();
	link->vm_fd = vm_fd;
	link->socket_fd = -1;
	link->keeps = preload_socket && !preload_has_handoff();
	link->wait_s = 0;
	link->retry_ns = 0;
	connect_link(link);
	send_stats_of(link, vm_fd, true);
	send_vcpus_of(link, vm_fd);
	return link;
}

/* Does this process still have that VM? Its number may be another file's. */
static bool is_gone(const struct link *link)
{
	struct kvm_file file;

	if (access("/proc/self/fd", F_OK))
		return false;
	return !kvm_file_of_own(link->vm_fd, &file) ||
	       file.kind != KVMSTATS_FD_VM;
}

/*
 * A VM whose number is no VM's any more is gone, unless it has another number: but
 * not if this process has no VM at all.
 */
bool links_free_gone(void)
{
	pid_t pid = getpid();
	bool any_gone = false;

	for (struct link *link = links; link < links + MAX_LINKS; link++)
		any_gone |= link->pid == pid && is_gone(link);
	if (!any_gone)
		return true;
	if (has_kvm_file())
		return false;
	for (struct link *link = links; link < links + MAX_LINKS; link++)
		if (link->pid == pid && is_gone(link))
			link_free(link);
	return true;
}

/*
 * Before the VM is made: what is known of one that was destroyed holds memory, and
 * its name.
 */
void preload_vm_creating(void)
{
	if (!is_watched() || !take_lock())
		return;
	links_free_gone();
	pthread_mutex_unlock(&lock);
}

void preload_vm_created(int vm_fd)
{
	struct link *old;

	if (!is_watched() || !is_vm(vm_fd) || !take_lock())
		return;
	preload_leave_environment();
	/* its number is given anew, so that VM is no more */
	old = find_number(vm_fd);
	if (old)
		link_free(old);
	introduce(vm_fd);
	pthread_mutex_unlock(&lock);
}

void preload_vcpu_created(int vm_fd, int vcpu_fd)
{
	struct link *link;

	if (!is_watched() || !is_vm(vm_fd) || !take_lock())
		return;
	link = find_number(vm_fd);
	if (!link)
		link = find_file(vm_fd);
	if (!link)
		link = introduce(vm_fd);
	if (link)
		send_stats_of(link, vcpu_fd, false);
	pthread_mutex_unlock(&lock);
}
