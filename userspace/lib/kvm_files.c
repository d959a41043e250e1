// SPDX-License-Identifier: LGPL-2.1-or-later
/* KVM's descriptors in other processes: which there are, which are one file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "finder.h"

int kvm_files_add(struct kvm_files *files, const struct kvm_file *file)
{
	if (files->count == files->room) {
		size_t room = files->room ? 2 * files->room : 64;
		struct kvm_file *list = realloc(files->list,
						room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		files->list = list;
		files->room = room;
	}
	files->list[files->count++] = *file;
	return 0;
}

/*
 * Seen in a descriptor of our own: this kernel has no serial numbers. If a module with
 * them comes later, files are compared by kcmp as before.
 */
static atomic_bool none_has_serials;

/*
 * The kernel has no such line, or does not let us see it: 0. Returns whether it was
 * looked for.
 */
static bool read_serial(int dir_fd, const char *path, struct kvm_file *file)
{
	const char *key = file->kind == KVMSTATS_FD_VM ||
			  file->kind == KVMSTATS_FD_VM_STATS ?
			  "\nkvm-vm-serial:" : "\nkvm-vcpu-serial:";
	char text[1024], *line;
	ssize_t length;
	int fd;

	file->serial = 0;
	if (file->kind == KVMSTATS_FD_DEVICE || none_has_serials)
		return false;
	fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length <= 0)
		return false;
	text[length] = 0;
	line = strstr(text, key);
	if (line)
		file->serial = strtoull(line + strlen(key), NULL, 10);
	return true;
}

bool kvm_file_of_own_with_serial(int fd, struct kvm_file *file)
{
	char path[32];

	if (!kvm_file_of_own(fd, file))
		return false;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (read_serial(-1, path, file) && !file->serial)
		none_has_serials = true;	/* this number is no other file's by now */
	return true;
}

/* A descriptor that is closed while we look is simply not there any more. */
int kvm_files_list(struct kvm_files *files, const char *directory)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	int ret = 0;

	if (!dir)
		return -errno;
	while (!ret && (entry = readdir(dir))) {
		struct kvm_file file = { .number = atoi(entry->d_name) };
		char path[32];

		if (!kvm_file_from_fd(dirfd(dir), entry->d_name, &file))
			continue;
		snprintf(path, sizeof(path), "../fdinfo/%d", file.number);
		read_serial(dirfd(dir), path, &file);
		ret = kvm_files_add(files, &file);
	}
	closedir(dir);
	return ret;
}

int kvm_files_list_table(struct kvm_files *files, pid_t pid, pid_t tid)
{
	char path[64];

	files->count = 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/fd", pid, tid);
	return kvm_files_list(files, path);
}

static bool has_threads(pid_t pid)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	/* one link for each thread, and two */
	return stat(path, &st) || st.st_nlink > 3;
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
static int list_threads(struct kvm_files *files, pid_t pid, pid_t *table)
{
	char path[64];
	struct dirent *entry;
	DIR *dir;
	int ret = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return 0;
	while (!ret && !has_machine(files) && (entry = readdir(dir))) {
		pid_t tid = atoi(entry->d_name);

		if (tid <= 0 || tid == pid || has_same_table(pid, tid))
			continue;
		ret = kvm_files_list_table(files, pid, tid);
		if (ret == -ENOENT || ret == -ESRCH)
			ret = 0;	/* that thread has ended */
		*table = tid;
	}
	closedir(dir);
	return ret;
}

int kvm_files_of_process(struct kvm_files *files, pid_t pid, pid_t *tid)
{
	int ret = kvm_files_list_table(files, pid, *tid);

	if (ret == -ENOENT || ret == -ESRCH) {
		*tid = pid;
		ret = 0;
	}
	if (!ret && !has_machine(files) && has_threads(pid))
		ret = list_threads(files, pid, tid);
	return ret;
}

bool has_machine(const struct kvm_files *files)
{
	return kvm_files_count(files, KVMSTATS_FD_VM) ||
	       kvm_files_count(files, KVMSTATS_FD_VCPU);
}

/*
 * By serial number; the kernel gives open files without one an order, too, in
 * which equal ones are neighbours.
 */
static int compare(const void *a, const void *b, void *context)
{
	const struct kvm_file *x = a, *y = b;
	pid_t tid = *(pid_t *)context;
	long order;

	if (x->vcpu != y->vcpu)
		return x->vcpu < y->vcpu ? -1 : 1;
	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->serial != y->serial)
		return x->serial < y->serial ? -1 : 1;
	if (x->serial)
		return (x->number > y->number) - (x->number < y->number);
	order = syscall(SYS_kcmp, tid, tid, KCMP_FILE, x->number, y->number);
	if (order == 1 || order == 2)
		return order == 1 ? -1 : 1;
	return (x->number > y->number) - (x->number < y->number);
}

/*
 * Where kcmp is refused, equal names stand for one object: a second descriptor
 * of one VM is met more often than a second VM in one process.
 */
static bool is_same(pid_t tid, const struct kvm_file *a,
		    const struct kvm_file *b)
{
	int same = same_serial(a->serial, b->serial);

	if (same >= 0)
		return same;
	same = same_file(tid, a->number, tid, b->number);
	return same == 1 || (same < 0 && same != -EBADF && same != -ESRCH);
}

void kvm_files_unique(struct kvm_files *files, pid_t tid)
{
	size_t kept = 0;

	if (files->count)
		qsort_r(files->list, files->count, sizeof(*files->list),
			compare, &tid);
	for (size_t i = 0; i < files->count; i++) {
		const struct kvm_file *file = &files->list[i];
		const struct kvm_file *last =
			kept ? &files->list[kept - 1] : NULL;

		/* devices are many, and mostly there once */
		if (last && last->kind == file->kind &&
		    last->vcpu == file->vcpu &&
		    (file->kind == KVMSTATS_FD_DEVICE ?
		     same_file(tid, last->number, tid, file->number) == 1 :
		     is_same(tid, last, file)))
			continue;
		files->list[kept++] = *file;
	}
	files->count = kept;
}

size_t kvm_files_count(const struct kvm_files *files,
		       enum kvmstats_fd_kind kind)
{
	size_t count = 0;

	for (size_t i = 0; i < files->count; i++)
		count += files->list[i].kind == kind;
	return count;
}
