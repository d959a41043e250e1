// SPDX-License-Identifier: LGPL-2.1-or-later
/* Processes with VMs, and copies of their statistics descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

	if (flags > KVMSTATS_FINDER_VCPUS_TOO)
		return -EINVAL;
	finder = calloc(1, sizeof(*finder));
	if (!finder)
		return -ENOMEM;
	finder->cache = cache;
	finder->takes_vcpus = flags;
	finder->instead = flags == KVMSTATS_FINDER_VCPUS;
	*result = finder;
	return 0;
}

static void forget_slow(struct slow *slow)
{
	if (slow->pid)
		close(slow->pidfd);
	slow->pid = 0;
}

void kvmstats_finder_free(struct kvmstats_finder *finder)
{
	if (!finder)
		return;
	worker_stop(&finder->worker);
	for (size_t i = 0; i < SLOW_MAX; i++)
		forget_slow(&finder->slow[i]);
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
		if (finder->slow[i].pid == pid &&
		    !has_ended(finder->slow[i].pidfd))
			return &finder->slow[i];
	return NULL;
}

/* One more process than there is room for takes the place of the earliest. */
void finder_remember_slow(struct kvmstats_finder *finder, pid_t pid)
{
	struct slow *slow = find_slow(finder, pid);

	if (!slow) {
		int pidfd = syscall(SYS_pidfd_open, pid, 0);

		if (pidfd < 0)
			return;		/* it has ended */
		slow = &finder->slow[0];
		for (size_t i = 1; i < SLOW_MAX; i++)
			if (finder->slow[i].until_ns < slow->until_ns)
				slow = &finder->slow[i];
		forget_slow(slow);
		*slow = (struct slow){ .pid = pid, .pidfd = pidfd };
	}
	slow->wait_ns = slow->wait_ns ? 2 * slow->wait_ns : SLOW_FIRST_NS;
	if (slow->wait_ns > SLOW_MOST_NS)
		slow->wait_ns = SLOW_MOST_NS;
	slow->until_ns = monotonic_ns() + slow->wait_ns;
}

bool finder_is_slow(struct kvmstats_finder *finder, pid_t pid)
{
	const struct slow *slow = find_slow(finder, pid);

	return slow && monotonic_ns() < slow->until_ns;
}

/* ---- what a process has */

struct listing {
	struct kvm_files *files;
	pid_t *tid;
};

static int add_listed(void *context, const struct answer *answer, int *fds,
		      size_t count)
{
	struct listing *listing = context;
	int ret = answer->error;

	(void)fds;
	(void)count;
	*listing->tid = answer->tid;
	for (size_t i = 0; i < answer->count && !ret; i++)
		ret = kvm_files_add(listing->files, &answer->files[i]);
	return ret;
}

int finder_list(struct kvmstats_finder *finder, pid_t pid, int pidfd,
		struct kvm_files *files, pid_t *tid)
{
	struct ask ask = { .about = ASK_LIST, .pid = pid, .tid = *tid };
	struct listing listing = { .files = files, .tid = tid };

	return worker_ask(&finder->worker, &ask, pidfd, add_listed, &listing);
}

static int list(struct kvmstats_vmm *vmm, struct kvm_files *files, pid_t *tid)
{
	int ret = finder_list(vmm->finder, vmm->pid, vmm->pidfd, files, tid);

	/* or all that was read may be another process's */
	return has_ended(vmm->pidfd) ? -ESRCH : ret;
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
	vmm->start_ticks = answer->start_ticks;
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
	int ret;

	open_table(vmm);
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
	struct kvm_files files = { 0 };
	struct kvmstats_vmm *vmm;
	int ret;

	*result = NULL;
	if (pid <= 0)
		return -ESRCH;
	if (finder_is_slow(finder, pid))
		return -ETIME;
	vmm = calloc(1, sizeof(*vmm));
	if (!vmm)
		return -ENOMEM;
	vmm->finder = finder;
	vmm->next = finder->first;
	vmm->pid = pid;
	vmm->tid = pid;
	vmm->table_fd = -1;
	vmm->pidfd = syscall(SYS_pidfd_open, pid, 0);
	ret = vmm->pidfd < 0 ? -errno : 0;
	if (!ret)
		ret = list(vmm, &files, &vmm->tid);
	if (!ret)
		ret = vmm_drop_shared(vmm, &files, vmm->tid);
	vmm->files = files;
	if (!ret && has_machine(&vmm->files))
		ret = begin(vmm);
	if (ret == -ETIME || vmm->error == -ETIME)
		finder_remember_slow(finder, pid);
	if (ret <= 0) {
		kvmstats_vmm_free(vmm);
		return ret == -ENOENT ? -ESRCH : ret;
	}
	finder->first = vmm;
	*result = vmm;
	return 1;
}

static int look_again(struct kvmstats_vmm *vmm)
{
	struct kvm_files before = vmm->files, now = { 0 };
	pid_t tid_before = vmm->tid, tid = vmm->tid;
	int changes, ret = list(vmm, &now, &tid);

	if (!ret)
		ret = vmm_drop_shared(vmm, &now, tid);
	if (!ret) {
		vmm->files = now;
		vmm->tid = tid;
		ret = vmm_match(vmm);
	}
	if (ret < 0) {
		vmm->files = before;
		vmm->tid = tid_before;
		free(now.list);
		return ret;
	}
	free(before.list);
	changes = ret;
	if (tid != tid_before)
		open_table(vmm);
	if (!has_machine(&vmm->files))
		return -ENODATA;
	ret = vmm_take(vmm);
	if (ret >= 0)
		return changes | ret;
	/* the caller has to learn of what has gone, whatever else failed */
	vmm->error = ret;
	return changes ? changes : ret;
}

int kvmstats_vmm_look(struct kvmstats_vmm *vmm)
{
	int ret;

	if (has_ended(vmm->pidfd))
		return -ESRCH;
	if (finder_is_slow(vmm->finder, vmm->pid))
		return -ETIME;
	ret = look_again(vmm);
	if (ret == -ETIME || (ret >= 0 && vmm->error == -ETIME))
		finder_remember_slow(vmm->finder, vmm->pid);
	return ret;
}

/* ---- the end */

static void close_held(void *argument)
{
	kvmstats_source_close(argument);
}

static void close_all(struct held *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (kvmstats_close_call(KVMSTATS_CLOSE_VM, close_held,
					list[i].source))
			kvmstats_source_close(list[i].source);
		free(list[i].vcpus);
	}
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
