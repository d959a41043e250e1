// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The process that touches what belongs to other processes. A command line can
 * lie in a file system of its owner's, and a descriptor can have become
 * anything by the time that it is copied: then reading and closing wait for as
 * long as the owner likes, beyond SIGKILL. That must not happen to the program.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/socket_send.h"
#include "finder.h"

#define MESSAGE_FDS	(2 * ASK_FILES)
#define NUMBERS_MAX	0x100000l	/* fs.nr_open, unless it was raised */
#define FOREIGN_FDS	64

union fd_control {
	char bytes[CMSG_SPACE(MESSAGE_FDS * sizeof(int))];
	struct cmsghdr align;
};

/* ---- in the worker */

/* Strangers' descriptors, handed to the pool some at a time. */
struct foreign {
	int fds[FOREIGN_FDS];
	size_t count;
};

struct work {
	const struct ask *ask;
	int socket_fd, pidfd;
	struct foreign foreign;
	struct answer answer;
	int fds[MESSAGE_FDS];
	size_t fd_count;
};

static void close_foreign(struct foreign *foreign)
{
	kvmstats_close_later(KVMSTATS_CLOSE_FOREIGN, foreign->fds,
			     foreign->count);
	foreign->count = 0;
}

static void discard(struct work *work, int fd)
{
	work->foreign.fds[work->foreign.count++] = fd;
	if (work->foreign.count == FOREIGN_FDS)
		close_foreign(&work->foreign);
}

/* All that came with the message; what is more than @room is not received. */
static ssize_t receive_with_fds(int socket_fd, void *bytes, size_t size_bytes,
				int *fds, size_t *count, int flags)
{
	union fd_control control;
	struct iovec iov = { .iov_base = bytes, .iov_len = size_bytes };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *cmsg;
	ssize_t length;

	*count = 0;
	do {
		length = recvmsg(socket_fd, &msg, MSG_CMSG_CLOEXEC | flags);
	} while (length < 0 && errno == EINTR);
	cmsg = length < 0 ? NULL : CMSG_FIRSTHDR(&msg);
	if (cmsg) {
		*count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(cmsg), *count * sizeof(int));
	}
	return length;
}

/* The copies are closed here: the asker has them. KVM's own can be closed. */
static int send_answer(struct work *work, bool more)
{
	int ret;

	work->answer.more = more;
	do {
		ret = socket_send(work->socket_fd, &work->answer,
				  sizeof(work->answer), work->fds,
				  work->fd_count, 0);
		/* so many are on their way: one user may not have more */
		if (ret == -ETOOMANYREFS)
			usleep(1000);
	} while (ret == -ETOOMANYREFS);
	for (size_t i = 0; i < work->fd_count; i++)
		close(work->fds[i]);
	work->fd_count = 0;
	work->answer.count = 0;
	return ret;
}

static int copy_fd(const struct work *work, int number)
{
	int fd = syscall(SYS_pidfd_getfd, work->pidfd, number, 0);

	return fd < 0 ? -errno : fd;
}

static bool maps_a_vcpu(pid_t pid, int *error)
{
	char path[64], *line = NULL;
	bool found = false;
	size_t room = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	if (!maps) {
		*error = -errno;
		return false;
	}
	while (!found && getline(&line, &room, maps) > 0)
		found = strstr(line, " " VCPU_LINK);
	if (!found && ferror(maps))
		*error = -EACCES;
	free(line);
	fclose(maps);
	return found;
}

/* Not open there any more, or never: nothing. -EMFILE and such end it. */
static int probe_number(struct work *work, struct kvm_files *files, int number)
{
	struct kvm_file file;
	int fd = copy_fd(work, number);

	if (fd < 0)
		return fd == -EBADF ? 0 : fd;
	if (!kvm_file_of_own_with_serial(fd, &file)) {
		discard(work, fd);
		return 0;
	}
	close(fd);
	file.number = number;
	return kvm_files_add(files, &file);
}

/* From Linux 5.14 on the rights of a debugger open the list that fdinfo is. */
static int probe_fdinfo(struct work *work, struct kvm_files *files)
{
	struct dirent *entry;
	char path[64];
	int ret = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo", work->ask->pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (!ret && (entry = readdir(dir)))
		if (*entry->d_name != '.')
			ret = probe_number(work, files, atoi(entry->d_name));
	closedir(dir);
	return ret;
}

/* Places in the table of descriptors, used or not. */
static long table_size(pid_t pid)
{
	char path[64], text[4096], *line;
	long size = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (read_proc(path, text, sizeof(text)) <= 0)
		return 0;
	line = strstr(text, "\nFDSize:");
	if (line)
		size = strtol(line + strlen("\nFDSize:"), NULL, 10);
	return size < NUMBERS_MAX ? size : NUMBERS_MAX;
}

/*
 * CAP_SYS_PTRACE allows to copy a descriptor, but not to list those of another
 * user's process: /proc/PID/fd is open to its owner only. There the memory map
 * (a vCPU's kvm_run is mapped) tells whether it has a VM at all, and then each
 * number is tried.
 */
static int probe(struct work *work, struct kvm_files *files)
{
	int ret = 0;

	if (!maps_a_vcpu(work->ask->pid, &ret))
		return ret;
	ret = probe_fdinfo(work, files);
	if (ret == -EACCES) {
		long size = table_size(work->ask->pid);

		ret = 0;
		for (long i = 0; i < size && !ret; i++)
			ret = probe_number(work, files, i);
	}
	return ret;
}

static int send_files(struct work *work, const struct kvm_files *files)
{
	struct answer *answer = &work->answer;
	int ret = 0;

	for (size_t i = 0; i < files->count && !ret; i++) {
		answer->files[answer->count++] = files->list[i];
		if (answer->count == ASK_FILES)
			ret = send_answer(work, true);
	}
	return ret;
}

static int list(struct work *work)
{
	struct answer *answer = &work->answer;
	struct kvm_files files = { 0 };
	int ret;

	answer->tid = work->ask->tid;
	answer->error = kvm_files_of_process(&files, work->ask->pid,
					     &answer->tid);
	if (answer->error == -EACCES) {
		files.count = 0;
		answer->tid = work->ask->pid;
		answer->error = probe(work, &files);
	}
	if (!answer->error)
		kvm_files_unique(&files, answer->tid);
	ret = answer->error ? 0 : send_files(work, &files);
	free(files.list);
	return ret;
}

static void compare(struct work *work)
{
	const struct ask *ask = work->ask;
	struct answer *answer = &work->answer;

	answer->count = ask->count;
	for (size_t i = 0; i < ask->count; i++) {
		const struct place *a = &ask->pairs[i][0];
		const struct place *b = &ask->pairs[i][1];

		answer->errors[i] = same_file(a->tid ? a->tid : getppid(),
					      a->number,
					      b->tid ? b->tid : getppid(),
					      b->number);
	}
}

/* To see what a thread waits in takes the lock that its exec holds. */
static int list_running(struct work *work)
{
	struct answer *answer = &work->answer;
	struct kvm_files files = { 0 }, threads = { 0 };
	struct dirent *entry;
	char path[64];
	DIR *dir;
	int ret;

	answer->tid = work->ask->pid;
	if (!kvm_files_of_process(&files, work->ask->pid, &answer->tid))
		kvm_files_unique(&files, answer->tid);
	answer->vms = kvm_files_count(&files, KVMSTATS_FD_VM);
	free(files.list);
	snprintf(path, sizeof(path), "/proc/%d/task", work->ask->pid);
	dir = opendir(path);
	if (!dir) {
		answer->error = -errno;
		return 0;
	}
	while (!answer->error && (entry = readdir(dir))) {
		struct kvm_file thread = { .number = parse_int(entry->d_name) };

		if (thread.number < 0)
			continue;
		thread.vcpu = running_vcpu(work->ask->pid, thread.number);
		answer->error = kvm_files_add(&threads, &thread);
	}
	closedir(dir);
	ret = answer->error ? 0 : send_files(work, &threads);
	free(threads.list);
	return ret;
}

static void give(struct work *work, size_t index, int fd, unsigned int what)
{
	work->fds[work->fd_count++] = fd;
	work->answer.given[index] |= what;
}

/*
 * KVM's old way to refuse what is another process's comes before it looks at
 * what is asked for: a kernel without statistics descriptors says the same.
 */
static int makes_none(int error)
{
	int kvm, has = -1;

	if (error != -EIO)
		return error;
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm >= 0) {
		has = ioctl(kvm, UAPI_CHECK_EXTENSION, UAPI_CAP_STATS_FD);
		close(kvm);
	}
	return has ? error : -ENOTTY;
}

/*
 * A number can have been given to another file since it was listed: what it is
 * now is looked at on the copy, before anything is done with it.
 */
static int take_one(struct work *work, size_t index)
{
	const struct ask *ask = work->ask;
	struct kvm_file now, wanted = ask->files[index];
	int fd = copy_fd(work, wanted.number), stats_fd, ret = 0;

	if (fd < 0)
		return fd;
	if (!kvm_file_of_own_with_serial(fd, &now) || now.kind != wanted.kind ||
	    now.vcpu != wanted.vcpu ||
	    !same_serial(now.serial, wanted.serial)) {
		discard(work, fd);
		return -EBADF;
	}
	if (ask->wanted[index] & ASK_COPY)
		give(work, index, fd, ASK_COPY);
	if (ask->wanted[index] & ASK_STATS) {
		stats_fd = ioctl(fd, UAPI_GET_STATS_FD, NULL);
		if (stats_fd < 0)
			ret = makes_none(-errno);
		else
			give(work, index, stats_fd, ASK_STATS);
	}
	if (ask->wanted[index] & ASK_VCPUS) {
		stats_fd = ioctl(fd, UAPI_GET_VCPUS_STATS_FD, NULL);
		if (stats_fd < 0)
			ret = -errno;
		else
			give(work, index, stats_fd, ASK_VCPUS);
	}
	if (!(ask->wanted[index] & ASK_COPY))
		close(fd);
	return ret;
}

static void take(struct work *work)
{
	struct answer *answer = &work->answer;

	answer->count = work->ask->count;
	for (size_t i = 0; i < answer->count; i++) {
		answer->files[i] = work->ask->files[i];
		answer->errors[i] = take_one(work, i);
	}
}

static int answer(struct work *work)
{
	char number[16];
	int ret = 0;

	memset(&work->answer, 0, sizeof(work->answer));
	switch (work->ask->about) {
	case ASK_NAMES:
		kvmstats_process_names(work->ask->pid, work->answer.name,
				       work->answer.uuid);
		snprintf(number, sizeof(number), "%d", work->ask->pid);
		work->answer.start_ticks = process_start_ticks(number);
		break;
	case ASK_LIST:
		ret = list(work);
		break;
	case ASK_SAME:
		compare(work);
		break;
	case ASK_TAKE:
		take(work);
		break;
	case ASK_THREADS:
		ret = list_running(work);
		break;
	}
	close_foreign(&work->foreign);
	if (kvmstats_close_full(KVMSTATS_CLOSE_FOREIGN))
		work->answer.error = -EBUSY;
	return ret ? ret : send_answer(work, false);
}

static void serve(int socket_fd)
{
	struct work *work = calloc(1, sizeof(*work));
	struct ask ask;
	size_t count;
	int fds[MESSAGE_FDS];

	if (!work)
		return;
	work->ask = &ask;
	work->socket_fd = socket_fd;
	while (receive_with_fds(socket_fd, &ask, sizeof(ask), fds, &count, 0) ==
	       sizeof(ask) && count <= 1) {
		work->pidfd = count ? fds[0] : -1;
		if (answer(work))
			break;
		if (count)
			close(fds[0]);
	}
}

/*
 * Nothing of its parent's may stay open: neither connections nor the
 * descriptors of VMs. A terminal's signals go to both.
 */
static void become_worker(int socket_fd)
{
	static const int ignored[] = { SIGINT, SIGQUIT, SIGHUP, SIGPIPE };
	sigset_t none;
	int null;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(socket_fd, STDIN_FILENO) < 0)
		_exit(1);
	if (syscall(SYS_close_range, STDIN_FILENO + 1u, ~0u, 0u) < 0)
		_exit(1);
	null = open("/dev/null", O_RDWR);
	if (null >= 0)
		dup2(null, STDERR_FILENO);
	serve(STDIN_FILENO);
	_exit(0);
}

/* ---- in the program */

static int start(struct worker *worker)
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

/* Killed workers that are still where no signal reaches them. */
static pid_t *free_place(struct worker *worker)
{
	pid_t *place = NULL;

	for (size_t i = 0; i < STUCK_MAX; i++) {
		pid_t *pid = &worker->stuck[i];

		if (*pid && waitpid(*pid, NULL, WNOHANG))
			*pid = 0;
		if (!*pid)
			place = pid;
	}
	return place;
}

/* Not waited for: it may take as long as a stranger likes. */
void worker_stop(struct worker *worker)
{
	pid_t *place = free_place(worker);

	if (!worker->pid)
		return;
	close(worker->socket_fd);
	kill(worker->pid, SIGKILL);
	/* a moment for an honest one */
	for (int i = 0; i < 100 && !waitpid(worker->pid, NULL, WNOHANG); i++)
		usleep(100);
	if (place && !kill(worker->pid, 0))
		*place = worker->pid;
	worker->pid = 0;
}

static bool has_answered(int socket_fd)
{
	struct pollfd ready = { .fd = socket_fd, .events = POLLIN };
	int ret;

	do {
		ret = poll(&ready, 1, KVMSTATS_FINDER_PATIENCE_MS);
	} while (ret < 0 && errno == EINTR);
	return ret > 0;
}

int worker_ask(struct worker *worker, const struct ask *ask, int pidfd,
	       int (*take)(void *context, const struct answer *answer,
			   int *fds, size_t count), void *context)
{
	struct answer answer = { .more = true };
	int ret = 0, taken;

	if (!worker->pid) {
		if (!free_place(worker))
			return -EBUSY;
		ret = start(worker);
	}
	if (!ret)
		ret = socket_send(worker->socket_fd, ask, sizeof(*ask),
				  &pidfd, pidfd >= 0, 0);
	while (!ret && answer.more) {
		int fds[MESSAGE_FDS];
		size_t count = 0;

		if (!has_answered(worker->socket_fd)) {
			ret = -ETIME;
			break;
		}
		if (receive_with_fds(worker->socket_fd, &answer, sizeof(answer),
				     fds, &count, MSG_DONTWAIT) !=
		    sizeof(answer))
			ret = -EPIPE;
		taken = ret ? 0 : take(context, &answer, fds, count);
		for (size_t i = 0; i < count; i++)
			if (fds[i] >= 0)
				close(fds[i]);
		if (taken && !ret)
			ret = taken;
	}
	/* one that failed in any way, or is full, is not asked again */
	if ((ret && worker->pid) || answer.error == -EBUSY)
		worker_stop(worker);
	return ret;
}
