// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kvmstat.h"

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#define GET_STATS_FD _IO(0xAE, 0xce)

#define IMAGE_MAX_BYTES (KVMSTATS_MAX_OFFSET + 0ul)

static int append(struct collection *collection, struct origin origin)
{
	size_t size = (collection->count + 1) * sizeof(origin);
	struct origin *origins = realloc(collection->origins, size);

	if (!origins)
		return -ENOMEM;
	collection->origins = origins;
	origins[collection->count++] = origin;
	return 0;
}

/* Takes over @origin.fd as opened at @fd here. */
static int append_fd(struct collection *collection, int fd,
		     struct origin origin)
{
	int ret;

	if (!collection->cache) {
		ret = kvmstats_cache_new(&collection->cache);
		if (ret)
			return ret;
	}
	ret = kvmstats_source_open(fd, collection->cache, &origin.source);
	if (ret)
		return ret;
	ret = append(collection, origin);
	if (ret)
		kvmstats_source_close(origin.source);
	return ret;
}

static int explain_fd(int error, const char *number)
{
	if (error == -EBADF)
		return fail(STATUS_NOTHING, "descriptor %s is not open", number);
	if (error == -ENODEV)
		return fail(STATUS_FAILED,
			    "descriptor %s is no KVM statistics descriptor",
			    number);
	return fail(status_of(error), "descriptor %s: %s", number,
		    strerror(-error));
}

int collect_fd(struct collection *collection, const char *number)
{
	struct origin origin = { 0 };
	unsigned long fd;
	int ret;

	if (!parse_number(number, INT_MAX, &fd))
		return fail(STATUS_USAGE, "\"%s\" is no descriptor number",
			    number);
	origin.fd = fd;
	ret = append_fd(collection, fd, origin);
	return ret ? explain_fd(ret, number) : STATUS_OK;
}

struct visit {
	struct collection *collection;
	long pid;
	int pidfd;
	unsigned int wanted;	/* bits: kinds to take */
	unsigned int seen;	/* bits: kinds met */
	int ioctl_error;	/* of getting a statistics fd of our own */
};

static bool is_stats(enum kvm_fd_kind kind)
{
	return kind == KVM_FD_VM_STATS || kind == KVM_FD_VCPU_STATS;
}

/* Of a VM or vCPU descriptor, make it a statistics descriptor. */
static int to_stats_fd(struct visit *visit, enum kvm_fd_kind kind, int fd)
{
	int stats_fd;

	if (is_stats(kind))
		return fd;
	stats_fd = ioctl(fd, GET_STATS_FD, NULL);
	if (stats_fd < 0)
		visit->ioctl_error = -errno;
	close(fd);
	return stats_fd;
}

static int take_fd(void *context, enum kvm_fd_kind kind, long number)
{
	struct visit *visit = context;
	int fd, ret;

	visit->seen |= 1u << kind;
	if (!(visit->wanted & 1u << kind))
		return 0;
	fd = syscall(SYS_pidfd_getfd, visit->pidfd, (int)number, 0);
	if (fd < 0)
		return errno == EBADF ? 0 : -errno;
	fd = to_stats_fd(visit, kind, fd);
	if (fd < 0)
		return 0;
	ret = append_fd(visit->collection, fd, (struct origin){
		.pid = visit->pid, .fd = number });
	if (ret)
		close(fd);
	return ret;
}

/*
 * A VMM that has no statistics descriptors still has those of VM and vCPUs:
 * where the kernel allows it, they give us statistics descriptors of our own.
 */
static int visit_all(struct visit *visit)
{
	int ret;

	visit->wanted = 1u << KVM_FD_VM_STATS | 1u << KVM_FD_VCPU_STATS;
	ret = proc_kvm_fds(visit->pid, take_fd, visit);
	if (ret)
		return ret;
	visit->wanted = 0;
	if (!(visit->seen & 1u << KVM_FD_VM_STATS))
		visit->wanted |= 1u << KVM_FD_VM;
	if (!(visit->seen & 1u << KVM_FD_VCPU_STATS))
		visit->wanted |= 1u << KVM_FD_VCPU;
	return visit->wanted ? proc_kvm_fds(visit->pid, take_fd, visit) : 0;
}

static int explain_pid(const struct visit *visit, int error)
{
	const char *need = error == -EPERM || error == -EACCES ?
		"; needs the rights of a debugger (same user, or root)" : "";

	if (error == -ENOENT || error == -ESRCH)
		return fail(STATUS_NOTHING, "no process %ld", visit->pid);
	return fail(status_of(error), "process %ld: %s%s", visit->pid,
		    strerror(-error), need);
}

/* What could be had is shown; what could not is said. */
static int judge(const struct visit *visit, size_t taken)
{
	unsigned int vm_kinds = 1u << KVM_FD_VM | 1u << KVM_FD_VCPU;

	if (visit->ioctl_error)
		fprintf(stderr, "kvmstat: process %ld: %s; the kernel gives us none: %s\n",
			visit->pid, taken ? "descriptors of a part only" :
			"no statistics descriptor",
			strerror(-visit->ioctl_error));
	if (taken)
		return STATUS_OK;
	if (visit->seen & vm_kinds)
		return fail(STATUS_NOTHING,
			    "process %ld runs a VM but has no statistics descriptor",
			    visit->pid);
	return fail(STATUS_NOTHING, "process %ld runs no VM", visit->pid);
}

int collect_pid(struct collection *collection, const char *number)
{
	struct visit visit = { .collection = collection };
	size_t before = collection->count;
	unsigned long pid;
	int ret;

	if (!parse_number(number, INT_MAX, &pid) || !pid)
		return fail(STATUS_USAGE, "\"%s\" is no process number", number);
	visit.pid = pid;
	visit.pidfd = syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (visit.pidfd < 0)
		return explain_pid(&visit, -errno);
	ret = visit_all(&visit);
	close(visit.pidfd);
	if (ret)
		return explain_pid(&visit, ret);
	return judge(&visit, collection->count - before);
}

static int read_open_file(int fd, void **bytes, size_t *size_bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (size_t)st.st_size > IMAGE_MAX_BYTES)
		return -EPROTO;
	*size_bytes = st.st_size;
	*bytes = malloc(st.st_size + 1);
	if (!*bytes)
		return -ENOMEM;
	return read(fd, *bytes, st.st_size) == st.st_size ? 0 : -EIO;
}

/* *bytes is to be freed, on failure as well. */
static int read_file(const char *path, void **bytes, size_t *size_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int ret;

	if (fd < 0)
		return -errno;
	ret = read_open_file(fd, bytes, size_bytes);
	close(fd);
	return ret;
}

int collect_image(struct collection *collection, const char *path)
{
	struct origin origin = { .fd = -1 };
	size_t size_bytes = 0;
	void *bytes = NULL;
	int ret = read_file(path, &bytes, &size_bytes);

	if (!ret)
		ret = kvmstats_source_open_image(bytes, size_bytes, NULL,
						 &origin.source);
	free(bytes);
	if (ret)
		return fail(status_of(ret), "%s: %s", path, ret == -EPROTO ?
			    "not the image of a statistics descriptor" :
			    strerror(-ret));
	if (append(collection, origin)) {
		kvmstats_source_close(origin.source);
		return fail(STATUS_FAILED, "%s: no memory", path);
	}
	return STATUS_OK;
}

void collection_free(struct collection *collection)
{
	for (size_t i = 0; i < collection->count; i++)
		kvmstats_source_close(collection->origins[i].source);
	free(collection->origins);
	kvmstats_cache_free(collection->cache);
}
