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
#include <time.h>
#include <unistd.h>

#include "finder.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL	/* Linux 6.9 */
#endif

/* A process that did not answer is asked again rarely: it costs the others. */
#define SLOW_MAX	16
#define SLOW_FIRST_NS	(10 * 1000000000ull)
#define SLOW_MOST_NS	(3600 * 1000000000ull)

struct slow {
	pid_t pid;
	uint64_t wait_ns, until_ns;
};

struct kvmstats_finder {
	struct slow slow[SLOW_MAX];
	struct kvmstats_vmm *first;
	struct kvmstats_cache *cache;
	struct worker worker;
};

/* One source. Its file is the VMM's own, or was made from one of the VMM's. */
struct held {
	struct kvmstats_source *source;
	int number;		/* over there */
	bool made;
};

/* A copy of a VM's own descriptor: what a VM is known by if we made its sources. */
struct token {
	int fd;			/* here */
	int number;		/* over there */
};

struct kvmstats_vmm {
	struct kvmstats_vmm *next;
	struct kvmstats_finder *finder;
	pid_t pid;
	pid_t tid;		/* a thread that has the table of descriptors */
	int pidfd;
	int table_fd;		/* a pidfd of that thread; -1: cannot be had */
	uint64_t start_ticks;
	struct kvm_files files;	/* as of the last look, each once */
	struct token *tokens;
	size_t token_count;
	struct held *held, *gone;
	size_t count, gone_count;
	size_t missing;
	int refused;		/* why the kernel makes us no statistics */
	int error;		/* why nothing could be copied */
	char name[KVMSTATS_NAME_MAX + 1];
	char uuid[KVMSTATS_NAME_MAX + 1];
};

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

static bool has_machine(const struct kvm_files *files)
{
	return kvm_files_count(files, KVMSTATS_FD_VM) ||
	       kvm_files_count(files, KVMSTATS_FD_VCPU);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
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
	slow->until_ns = now_ns() + slow->wait_ns;
}

static bool is_slow(struct kvmstats_finder *finder, pid_t pid)
{
	const struct slow *slow = find_slow(finder, pid);

	return slow && now_ns() < slow->until_ns;
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

/* ---- what is still there of what we have */

static void drop_token(struct kvmstats_vmm *vmm, size_t index)
{
	kvmstats_close_later(KVMSTATS_CLOSE_VM, &vmm->tokens[index].fd, 1);
	vmm->tokens[index] = vmm->tokens[--vmm->token_count];
}

/* Where kcmp is refused, a number stands for its file. */
static bool is_file(const struct kvmstats_vmm *vmm, int own_fd, int number,
		    const struct kvm_file *file)
{
	int same = same_file(getpid(), own_fd, vmm->tid, file->number);

	if (same < 0 && same != -EBADF)
		return number == file->number;
	return same == 1;
}

/* What is looked for is mostly where it was. */
static struct kvm_file *find_file(struct kvmstats_vmm *vmm, int own_fd,
				  int number, enum kvmstats_fd_kind kind,
				  int vcpu)
{
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < vmm->files.count; i++) {
			struct kvm_file *file = &vmm->files.list[i];

			if (file->kind == kind && file->vcpu == vcpu &&
			    !file->matched &&
			    (file->number == number) == !pass &&
			    is_file(vmm, own_fd, number, file))
				return file;
		}
	return NULL;
}

static struct kvm_file *find_number(struct kvmstats_vmm *vmm, int number,
				    enum kvmstats_fd_kind kind, int vcpu)
{
	for (size_t i = 0; i < vmm->files.count; i++) {
		struct kvm_file *file = &vmm->files.list[i];

		if (file->number == number && file->kind == kind &&
		    file->vcpu == vcpu)
			return file;
	}
	return NULL;
}

/* True if the VMs are those of the last look. */
static bool match_vms(struct kvmstats_vmm *vmm, size_t *kept)
{
	size_t before = vmm->token_count, i = 0;

	*kept = 0;
	while (i < vmm->token_count) {
		struct token *token = &vmm->tokens[i];
		struct kvm_file *file;

		file = find_file(vmm, token->fd, token->number, KVMSTATS_FD_VM,
				 -1);
		if (!file) {
			drop_token(vmm, i);
			continue;
		}
		file->matched = true;
		token->number = file->number;
		i++;
	}
	*kept = vmm->token_count;
	return vmm->token_count == before &&
	       before == kvm_files_count(&vmm->files, KVMSTATS_FD_VM);
}

static struct kvm_file *match_held(struct kvmstats_vmm *vmm,
				   struct held *held, bool same_vms)
{
	int vcpu = kvmstats_source_vcpu(held->source);
	bool is_vm = vcpu < 0;

	if (!held->made)
		return find_file(vmm, kvmstats_source_fd(held->source),
				 held->number, is_vm ? KVMSTATS_FD_VM_STATS :
				 KVMSTATS_FD_VCPU_STATS, vcpu);
	/* as long as the VMs are the same, so are their vCPUs' numbers */
	return same_vms ? find_number(vmm, held->number, is_vm ?
				      KVMSTATS_FD_VM : KVMSTATS_FD_VCPU, vcpu) :
	       NULL;
}

/* Returns the changes: what is not there any more goes to @gone. */
static int match(struct kvmstats_vmm *vmm)
{
	size_t kept = 0, vms_kept, before = vmm->count;
	size_t tokens_before = vmm->token_count;
	bool same_vms = match_vms(vmm, &vms_kept);
	int changes = 0;

	vmm->gone = calloc(vmm->count + 1, sizeof(*vmm->gone));
	if (!vmm->gone)
		return -ENOMEM;
	for (size_t i = 0; i < vmm->count; i++) {
		struct held *held = &vmm->held[i];
		struct kvm_file *file = match_held(vmm, held, same_vms);

		if (!file) {
			vmm->gone[vmm->gone_count++] = *held;
			continue;
		}
		file->matched = true;
		held->number = file->number;
		vmm->held[kept++] = *held;
	}
	vmm->count = kept;
	if (vmm->gone_count)
		changes |= KVMSTATS_VMM_SHRANK;
	if (tokens_before ? !vms_kept : before && !kept)
		changes |= KVMSTATS_VMM_NEW_VM;
	return changes;
}

/* ---- copying */

/* What is to be asked for, in as many questions as that takes. */
struct taking {
	struct kvmstats_vmm *vmm;
	struct ask ask;
	bool tokens;		/* the copies are VMs, to be kept as tokens */
	bool grew;
};

static int add_held(struct kvmstats_vmm *vmm, int fd, int number, bool made)
{
	struct held *list = realloc(vmm->held, (vmm->count + 1) *
				    sizeof(*list));
	struct kvmstats_source *source;
	int ret;

	if (!list)
		return -ENOMEM;
	vmm->held = list;
	ret = kvmstats_source_open(fd, vmm->finder->cache, &source);
	if (!ret)
		list[vmm->count++] = (struct held){
			.source = source, .number = number, .made = made,
		};
	return ret;
}

static int add_token(struct kvmstats_vmm *vmm, int fd, int number)
{
	struct token *tokens = realloc(vmm->tokens, (vmm->token_count + 1) *
				       sizeof(*tokens));

	if (!tokens)
		return -ENOMEM;
	vmm->tokens = tokens;
	tokens[vmm->token_count++] = (struct token){ fd, number };
	return 0;
}

/* Descriptors in the order of the files; too few of them: no room here. */
static int keep_taken(void *context, const struct answer *answer, int *fds,
		      size_t count)
{
	struct taking *taking = context;
	struct kvmstats_vmm *vmm = taking->vmm;
	size_t next = 0;

	for (size_t i = 0; i < answer->count; i++) {
		const struct kvm_file *file = &answer->files[i];
		int error = answer->errors[i], ret = 0;

		if (error && taking->ask.wanted[i] & ASK_STATS)
			vmm->refused = error;
		else if (error && error != -EBADF)
			vmm->error = error;
		for (unsigned int what = ASK_COPY; what <= ASK_STATS;
		     what <<= 1) {
			if (!(answer->given[i] & what))
				continue;
			if (next == count) {
				vmm->error = -EMFILE;
				return 0;
			}
			ret = taking->tokens ?
			      add_token(vmm, fds[next], file->number) :
			      add_held(vmm, fds[next], file->number,
				       what == ASK_STATS);
			if (!ret) {
				fds[next] = -1;
				taking->grew = true;
			} else if (ret != -ENODEV) {
				vmm->error = ret;
			}
			next++;
		}
	}
	return 0;
}

static int flush(struct taking *taking)
{
	struct kvmstats_vmm *vmm = taking->vmm;
	int ret = 0;

	if (taking->ask.count)
		ret = worker_ask(&vmm->finder->worker, &taking->ask,
				 vmm->table_fd, keep_taken, taking);
	taking->ask.count = 0;
	return ret;
}

static int want(struct taking *taking, const struct kvm_file *file,
		unsigned int what)
{
	struct ask *ask = &taking->ask;

	ask->files[ask->count] = *file;
	ask->wanted[ask->count++] = what;
	return ask->count == ASK_FILES ? flush(taking) : 0;
}

/* VMs and vCPUs, or statistics, of the files from @begin on of one vCPU. */
struct group {
	size_t begin, end;
	int vcpu;
	size_t machines, stats;
	size_t have;		/* sources */
};

static bool next_group(const struct kvmstats_vmm *vmm, struct group *group)
{
	const struct kvm_files *files = &vmm->files;
	size_t i = group->end;

	*group = (struct group){ .begin = i, .end = i };
	if (i == files->count)
		return false;
	group->vcpu = files->list[i].vcpu;
	for (; i < files->count && files->list[i].vcpu == group->vcpu; i++) {
		if (files->list[i].kind < KVMSTATS_FD_VM_STATS)
			group->machines++;
		else
			group->stats++;
	}
	group->end = i;
	for (i = 0; i < vmm->count; i++)
		group->have += kvmstats_source_vcpu(vmm->held[i].source) ==
			       group->vcpu;
	return true;
}

/*
 * The VMM's own descriptors first, one for each vCPU. Of what it keeps none
 * of, they are made, where the kernel does that for others than the VMM.
 */
static int take_group(struct taking *taking, const struct group *group)
{
	struct kvmstats_vmm *vmm = taking->vmm;
	size_t wanted = group->machines ? group->machines : 1;
	size_t have = group->have;
	int ret = 0;

	for (size_t i = group->begin; i < group->end && have < wanted && !ret;
	     i++) {
		const struct kvm_file *file = &vmm->files.list[i];

		if (file->kind < KVMSTATS_FD_VM_STATS || file->matched)
			continue;
		ret = want(taking, file, ASK_COPY);
		have++;
	}
	for (size_t i = group->begin; i < group->end && !have && !ret &&
	     !vmm->refused; i++)
		if (vmm->files.list[i].kind < KVMSTATS_FD_VM_STATS)
			ret = want(taking, &vmm->files.list[i], ASK_STATS);
	return ret;
}

/* The VMM's own statistics are files to know the VM by; ours are not. */
static bool has_made(const struct kvmstats_vmm *vmm)
{
	for (size_t i = 0; i < vmm->count; i++)
		if (vmm->held[i].made)
			return true;
	return false;
}

static int take_tokens(struct kvmstats_vmm *vmm)
{
	struct taking taking = {
		.vmm = vmm, .tokens = true,
		.ask = { .about = ASK_TAKE, .pid = vmm->pid },
	};
	int ret = 0;

	for (size_t i = 0; i < vmm->files.count && !ret; i++) {
		const struct kvm_file *file = &vmm->files.list[i];

		if (file->kind == KVMSTATS_FD_VM && !file->matched)
			ret = want(&taking, file, ASK_COPY);
	}
	return ret ? ret : flush(&taking);
}

static int compare_held(const void *a, const void *b)
{
	const struct held *x = a, *y = b;
	int i = kvmstats_source_vcpu(x->source);
	int j = kvmstats_source_vcpu(y->source);

	return i != j ? (i > j) - (i < j) :
	       (x->number > y->number) - (x->number < y->number);
}

static void count_missing(struct kvmstats_vmm *vmm)
{
	struct group group = { 0 };

	vmm->missing = 0;
	while (next_group(vmm, &group))
		if (group.machines > group.have)
			vmm->missing += group.machines - group.have;
}

/* Returns KVMSTATS_VMM_GREW, 0, or -errno of asking. */
static int take(struct kvmstats_vmm *vmm)
{
	struct taking taking = {
		.vmm = vmm, .ask = { .about = ASK_TAKE, .pid = vmm->pid },
	};
	struct group group = { 0 };
	int ret = 0;

	vmm->error = 0;
	if (vmm->table_fd < 0) {
		vmm->error = -EOPNOTSUPP;
	} else {
		while (!ret && next_group(vmm, &group))
			ret = take_group(&taking, &group);
		if (!ret)
			ret = flush(&taking);
		if (!ret && has_made(vmm))
			ret = take_tokens(vmm);
	}
	if (vmm->count)
		qsort(vmm->held, vmm->count, sizeof(*vmm->held), compare_held);
	count_missing(vmm);
	if (ret)
		return ret;
	return taking.grew ? KVMSTATS_VMM_GREW : 0;
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
		ret = take(vmm);
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
	changes = match(vmm);
	if (changes < 0)
		return changes;
	if (!has_machine(&vmm->files))
		return -ENODATA;
	ret = take(vmm);
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
		drop_token(vmm, 0);
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
