// SPDX-License-Identifier: LGPL-2.1-or-later
/* Processes with VMs, and copies of their statistics descriptors. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "finder.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL	/* Linux 6.9 */
#endif

#define SLOW_FIRST_NS	(10 * 1000000000ull)
#define SLOW_MOST_NS	(3600 * 1000000000ull)

int kvmstats_finder_new(unsigned int flags, struct kvmstats_cache *cache,
			struct kvmstats_finder **result)
{
	struct kvmstats_finder *finder;

	if (flags)
		return -EINVAL;
	finder = calloc(1, sizeof(*finder));
	if (!finder)
		return -ENOMEM;
	finder->cache = cache;
	*result = finder;
	return 0;
}

void kvmstats_finder_free(struct kvmstats_finder *finder)
{
	if (!finder)
		return;
	worker_stop(&finder->worker);
	free(finder);
}

/* As long as it has not ended, its number is no other's. */
static bool has_ended(int pidfd)
{
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) > 0;
}

static struct slow *find_slow(struct kvmstats_finder *finder, pid_t pid)
{
	for (size_t i = 0; i < SLOW_MAX; i++)
		if (finder->slow[i].pid == pid)
			return &finder->slow[i];
	return NULL;
}

/* One more process than there is room for takes the place of the earliest. */
static void remember_slow(struct kvmstats_finder *finder, pid_t pid)
{
	struct slow *slow = find_slow(finder, pid);

	if (!slow) {
		slow = &finder->slow[0];
		for (size_t i = 1; i < SLOW_MAX; i++)
			if (finder->slow[i].until_ns < slow->until_ns)
				slow = &finder->slow[i];
		*slow = (struct slow){ .pid = pid };
	}
	slow->wait_ns = slow->wait_ns ? 2 * slow->wait_ns : SLOW_FIRST_NS;
	if (slow->wait_ns > SLOW_MOST_NS)
		slow->wait_ns = SLOW_MOST_NS;
	slow->until_ns = monotonic_ns() + slow->wait_ns;
}

static bool is_slow(struct kvmstats_finder *finder, pid_t pid)
{
	const struct slow *slow = find_slow(finder, pid);

	return slow && monotonic_ns() < slow->until_ns;
}

/* ---- what a process has */

static int add_probed(void *context, const struct answer *answer, int *fds,
		      size_t count)
{
	int ret = answer->error;

	(void)fds;
	(void)count;
	for (size_t i = 0; i < answer->count && !ret; i++)
		ret = kvm_files_add(context, &answer->files[i]);
	return ret;
}

/* Where that is refused to be told, only of a process without a main thread. */
static bool has_same_table(pid_t pid, pid_t tid)
{
	long order = syscall(SYS_kcmp, pid, tid, KCMP_FILES, 0, 0);
	char path[32], text[1024];
	const char *end;

	if (order >= 0)
		return !order;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_proc(path, text, sizeof(text)) <= 0)
		return true;
	end = strrchr(text, ')');
	return !end || strncmp(end, ") Z", 3);
}

/*
 * Threads share one table of descriptors, but one can have left it (unshare
 * with CLONE_FILES), and a main thread that has ended has none: then another
 * thread's table is looked at.
 */
static int list_threads(struct kvmstats_vmm *vmm)
{
	char path[64];
	struct dirent *entry;
	struct stat st;
	DIR *dir;
	int ret = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", vmm->pid);
	/* one link for each thread, and two */
	if (!stat(path, &st) && st.st_nlink <= 3)
		return 0;
	dir = opendir(path);
	if (!dir)
		return 0;
	while (!ret && !has_machine(&vmm->files) && (entry = readdir(dir))) {
		pid_t tid = atoi(entry->d_name);

		if (tid <= 0 || tid == vmm->pid || has_same_table(vmm->pid, tid))
			continue;
		vmm->files.count = 0;
		snprintf(path, sizeof(path), "/proc/%d/task/%d/fd", vmm->pid,
			 tid);
		ret = kvm_files_list(&vmm->files, path);
		if (ret == -ENOENT || ret == -ESRCH)
			ret = 0;	/* that thread has ended */
		vmm->tid = tid;
	}
	closedir(dir);
	return ret;
}

static int list(struct kvmstats_vmm *vmm)
{
	struct kvmstats_finder *finder = vmm->finder;
	struct ask ask = { .about = ASK_PROBE, .pid = vmm->pid };
	char path[64];
	int ret;

	vmm->files.count = 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/fd", vmm->pid, vmm->tid);
	ret = kvm_files_list(&vmm->files, path);
	if (ret == -ENOENT || ret == -ESRCH) {
		vmm->tid = vmm->pid;
		ret = has_ended(vmm->pidfd) ? -ESRCH : 0;
	}
	if (!ret && !has_machine(&vmm->files))
		ret = list_threads(vmm);
	if (ret == -EACCES)
		ret = worker_ask(&finder->worker, &ask, vmm->pidfd, add_probed,
				 &vmm->files);
	if (ret)
		return ret;
	kvm_files_unique(&vmm->files, vmm->tid);
	return 0;
}

/* Is what it has another vmm's, which it was passed or has inherited? */
static bool is_known(const struct kvmstats_vmm *vmm, const struct kvm_file *file)
{
	for (const struct kvmstats_vmm *other = vmm->finder->first; other;
	     other = other->next)
		for (size_t i = 0; i < other->files.count; i++) {
			const struct kvm_file *theirs = &other->files.list[i];

			if (theirs->kind == file->kind &&
			    theirs->vcpu == file->vcpu &&
			    same_file(other->tid, theirs->number, vmm->tid,
				      file->number) == 1)
				return true;
		}
	return false;
}

static bool is_holder_only(const struct kvmstats_vmm *vmm)
{
	const struct kvm_files *files = &vmm->files;
	enum kvmstats_fd_kind kind = kvm_files_count(files, KVMSTATS_FD_VM) ?
				     KVMSTATS_FD_VM : KVMSTATS_FD_VCPU;

	for (size_t i = 0; i < files->count; i++)
		if (files->list[i].kind == kind &&
		    !is_known(vmm, &files->list[i]))
			return false;
	return true;
}

/* ---- looks */

static int keep_names(void *context, const struct answer *answer, int *fds,
		      size_t count)
{
	struct kvmstats_vmm *vmm = context;

	(void)fds;
	(void)count;
	strcpy(vmm->name, answer->name);
	strcpy(vmm->uuid, answer->uuid);
	return 0;
}

/* A process by its pidfd; a thread's table only where threads have pidfds. */
static void open_table(struct kvmstats_vmm *vmm)
{
	if (vmm->table_fd >= 0 && vmm->table_fd != vmm->pidfd)
		close(vmm->table_fd);
	vmm->table_fd = vmm->pidfd;
	if (vmm->tid != vmm->pid)
		vmm->table_fd = syscall(SYS_pidfd_open, vmm->tid, PIDFD_THREAD);
}

static int begin(struct kvmstats_vmm *vmm)
{
	struct ask ask = { .about = ASK_NAMES, .pid = vmm->pid };
	char number[16];
	int ret;

	open_table(vmm);
	snprintf(number, sizeof(number), "%d", vmm->pid);
	vmm->start_ticks = process_start_ticks(number);
	ret = worker_ask(&vmm->finder->worker, &ask, vmm->pidfd, keep_names,
			 vmm);
	if (!ret)
		ret = vmm_take(vmm);
	if (ret < 0)
		return ret;
	/* all that was read was this process's */
	return has_ended(vmm->pidfd) ? -ESRCH : 1;
}

int kvmstats_finder_look(struct kvmstats_finder *finder, pid_t pid,
			 struct kvmstats_vmm **result)
{
	struct kvmstats_vmm *vmm;
	int ret;

	*result = NULL;
	if (pid <= 0)
		return -ESRCH;
	if (is_slow(finder, pid))
		return -ETIME;
	vmm = calloc(1, sizeof(*vmm));
	if (!vmm)
		return -ENOMEM;
	vmm->finder = finder;
	vmm->pid = pid;
	vmm->tid = pid;
	vmm->table_fd = -1;
	vmm->pidfd = syscall(SYS_pidfd_open, pid, 0);
	ret = vmm->pidfd < 0 ? -errno : list(vmm);
	if (!ret && has_machine(&vmm->files) && !is_holder_only(vmm))
		ret = begin(vmm);
	if (ret == -ETIME)
		remember_slow(finder, pid);
	if (ret <= 0) {
		kvmstats_vmm_free(vmm);
		return ret == -ENOENT ? -ESRCH : ret;
	}
	vmm->next = finder->first;
	finder->first = vmm;
	*result = vmm;
	return 1;
}

int kvmstats_vmm_look(struct kvmstats_vmm *vmm)
{
	pid_t tid = vmm->tid;
	int changes, ret;

	kvmstats_vmm_settle(vmm);
	if (is_slow(vmm->finder, vmm->pid))
		return has_ended(vmm->pidfd) ? -ESRCH : -ETIME;
	ret = has_ended(vmm->pidfd) ? -ESRCH : list(vmm);
	if (ret)
		return ret;
	if (tid != vmm->tid)
		open_table(vmm);
	changes = vmm_match(vmm);
	if (changes < 0)
		return changes;
	if (!has_machine(&vmm->files))
		return -ENODATA;
	ret = vmm_take(vmm);
	if (ret == -ETIME)
		remember_slow(vmm->finder, vmm->pid);
	return ret < 0 ? ret : changes | ret;
}

/* ---- the end */

static void close_held(void *argument)
{
	kvmstats_source_close(argument);
}

static void close_all(struct held *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (kvmstats_close_call(KVMSTATS_CLOSE_VM, close_held,
					list[i].source))
			kvmstats_source_close(list[i].source);
	free(list);
}

void kvmstats_vmm_settle(struct kvmstats_vmm *vmm)
{
	close_all(vmm->gone, vmm->gone_count);
	vmm->gone = NULL;
	vmm->gone_count = 0;
}

void kvmstats_vmm_free(struct kvmstats_vmm *vmm)
{
	struct kvmstats_vmm **link;

	if (!vmm)
		return;
	for (link = &vmm->finder->first; *link && *link != vmm;
	     link = &(*link)->next)
		;
	if (*link)
		*link = vmm->next;
	kvmstats_vmm_settle(vmm);
	close_all(vmm->held, vmm->count);
	while (vmm->token_count)
		vmm_drop_token(vmm, 0);
	if (vmm->table_fd >= 0 && vmm->table_fd != vmm->pidfd)
		close(vmm->table_fd);
	if (vmm->pidfd >= 0)
		close(vmm->pidfd);
	free(vmm->tokens);
	free(vmm->files.list);
	free(vmm);
}

/* ---- questions */

size_t kvmstats_vmm_source_count(const struct kvmstats_vmm *vmm)
{
	return vmm->count;
}

struct kvmstats_source *
kvmstats_vmm_source(const struct kvmstats_vmm *vmm, size_t index)
{
	return vmm->held[index].source;
}

int kvmstats_vmm_source_number(const struct kvmstats_vmm *vmm, size_t index)
{
	return vmm->held[index].number;
}

size_t kvmstats_vmm_gone_count(const struct kvmstats_vmm *vmm)
{
	return vmm->gone_count;
}

struct kvmstats_source *
kvmstats_vmm_gone(const struct kvmstats_vmm *vmm, size_t index)
{
	return vmm->gone[index].source;
}

pid_t kvmstats_vmm_pid(const struct kvmstats_vmm *vmm)
{
	return vmm->pid;
}

int kvmstats_vmm_pidfd(const struct kvmstats_vmm *vmm)
{
	return vmm->pidfd;
}

uint64_t kvmstats_vmm_start_ticks(const struct kvmstats_vmm *vmm)
{
	return vmm->start_ticks;
}

const char *kvmstats_vmm_name(const struct kvmstats_vmm *vmm)
{
	return vmm->name;
}

const char *kvmstats_vmm_uuid(const struct kvmstats_vmm *vmm)
{
	return vmm->uuid;
}

size_t kvmstats_vmm_held(const struct kvmstats_vmm *vmm,
			 enum kvmstats_fd_kind kind)
{
	return kvm_files_count(&vmm->files, kind);
}

int kvmstats_vmm_error(const struct kvmstats_vmm *vmm)
{
	if (!vmm->missing)
		return 0;
	return vmm->error ? vmm->error : vmm->refused;
}

size_t kvmstats_vmm_missing(const struct kvmstats_vmm *vmm)
{
	return vmm->missing;
}

int64_t kvmstats_raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	if (limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			return -errno;
	}
	return limit.rlim_cur > INT64_MAX ? INT64_MAX : (int64_t)limit.rlim_cur;
}

int kvmstats_vmm_vcpu(const struct kvmstats_vmm *vmm, size_t index)
{
	for (size_t i = 0; i < vmm->files.count; i++)
		if (vmm->files.list[i].kind == KVMSTATS_FD_VCPU && !index--)
			return vmm->files.list[i].vcpu;
	return -1;
}
