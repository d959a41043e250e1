// SPDX-License-Identifier: GPL-2.0-only
/* Where a fleet's VMs are from: processes, descriptors, images; what is missing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm.h"

#define SCAN_NS		2000000000ull	/* to look at all processes is work */
#define IMAGE_MAX_BYTES (KVMSTATS_MAX_OFFSET + 0ul)

/* What it has by now. Its first descriptors are announced. */
static void add_found(struct fleet *fleet, struct vm *vm)
{
	size_t before = vm->count;
	char text[80];
	int ret = vm_add_found(vm), error = kvmstats_vmm_error(vm->vmm);

	if (ret)
		fleet_add_trouble(fleet, vm->pid, ret);
	if (!vm->count && (error == -EIO || error == -ENOTTY))
		vm->debugfs_error = vm_add_debugfs(vm, DEBUGFS_PLACE,
						   fleet->cache);
	if (vm->count == before)
		return;
	if (fleet->request->include_past)
		vm_reset(vm, true);
	snprintf(text, sizeof(text), "%zu descriptor%s taken",
		 vm->count - before, plural(vm->count - before));
	fleet_event(fleet, vm, before ? "grown" : "found", text);
}

/* Another VM of the same process, for us: the old one ends first. */
static void begin_anew(struct fleet *fleet, struct vm *vm)
{
	vm->gone = "the process closed its VM and made another";
	fleet_announce_gone(fleet, vm);
	vm_close_sources(vm);
	kvmstats_vmm_settle(vm->vmm);
	vm->said = 0;
	vm->seen_incomplete = false;
	add_found(fleet, vm);
}

static void look_again(struct fleet *fleet, struct vm *vm)
{
	int ret = kvmstats_vmm_look(vm->vmm);

	if (ret == -ESRCH) {
		vm->gone = "process ended";
	} else if (ret == -ENODATA) {
		vm->gone = "the process closed its VM";
	} else if (ret < 0) {
		fleet_add_trouble(fleet, vm->pid, ret);
	} else if (ret & KVMSTATS_VMM_NEW_VM) {
		begin_anew(fleet, vm);
	} else {
		vm_drop_gone(vm);
		kvmstats_vmm_settle(vm->vmm);
		add_found(fleet, vm);
		fleet_tell_problem(fleet, vm);
	}
}

static bool is_known(const struct fleet *fleet, pid_t pid)
{
	for (size_t i = 0; i < fleet->count; i++)
		if (fleet->vms[i]->vmm && fleet->vms[i]->pid == pid)
			return true;
	return false;
}

/* 1 and *vm, or as kvmstats_finder_look. */
static int look_first(struct fleet *fleet, pid_t pid, struct vm **result)
{
	struct kvmstats_vmm *vmm;
	struct vm *vm;
	int ret = kvmstats_finder_look(fleet->finder, pid, &vmm);

	if (ret <= 0)
		return ret;
	vm = vm_new(NULL, vmm);
	if (!vm) {
		kvmstats_vmm_free(vmm);
		return -ENOMEM;
	}
	if (fleet_append(fleet, vm))
		return -ENOMEM;
	add_found(fleet, vm);
	fleet_tell_problem(fleet, vm);
	*result = vm;
	return 1;
}

static void look_at_all(struct fleet *fleet)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	struct vm *vm;

	if (!dir) {
		fleet_add_trouble(fleet, 0, -errno);
		return;
	}
	while ((entry = readdir(dir))) {
		pid_t pid = atoi(entry->d_name);
		int ret = 0;

		if (pid > 0 && pid != getpid() && !is_known(fleet, pid))
			ret = look_first(fleet, pid, &vm);
		if (ret == -EACCES || ret == -EPERM)
			fleet->hidden++;
		else if (ret < 0 && ret != -ESRCH)
			fleet_add_trouble(fleet, pid, ret);
	}
	closedir(dir);
}

/* Known processes may have new vCPUs, and there may be new processes. */
void fleet_scan(struct fleet *fleet)
{
	fleet_forget_troubles(fleet);
	for (size_t i = 0; i < fleet->count; i++)
		if (fleet->vms[i]->vmm)
			look_again(fleet, fleet->vms[i]);
	if (fleet->scanning)
		look_at_all(fleet);
	fleet_say_troubles(fleet);
	fleet_remove_gone(fleet);
	fleet->next_scan_ns = clock_ns() + SCAN_NS;
}

/* ---- what the command line names */

static int open_pid(struct fleet *fleet, const char *number)
{
	char problem[512];
	unsigned long pid;
	struct vm *vm;
	int ret, error;

	if (!parse_number(number, INT_MAX, &pid) || !pid)
		return fail(STATUS_USAGE, "\"%s\" is not a process number",
			    number);
	if (is_known(fleet, pid))
		return STATUS_OK;
	ret = look_first(fleet, pid, &vm);
	if (ret == -ESRCH)
		return fail(STATUS_NOTHING, "there is no process %lu", pid);
	if (ret == -EACCES || ret == -EPERM)
		return fail(STATUS_DENIED, "process %lu: %s; " NEEDS_RIGHTS,
			    pid, strerror(-ret));
	if (ret < 0)
		return fail(status_of(ret), "process %lu: %s", pid,
			    strerror(-ret));
	if (!ret)
		return fail(STATUS_NOTHING, "process %lu runs no VM of its own",
			    pid);
	vm_problem(vm, problem, sizeof(problem));
	error = kvmstats_vmm_error(vm->vmm);
	if (!vm->count && !fleet->request->without_statistics)
		return fail(error == -EIO || error == -ENOTTY || !error ?
			    STATUS_NOTHING : status_of(error), "%s", problem);
	return STATUS_OK;
}

/* Sources of one VM stand together; the kernel's id says of which they are. */
static int add_given(struct fleet *fleet, struct kvmstats_source *source,
		     long fd)
{
	const char *id = kvmstats_source_id(source);
	char name[KVMSTATS_MAX_VM_NAME + 1];
	struct vm *vm = NULL;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(id, "/"), id);
	for (size_t i = 0; i < fleet->count && !vm; i++)
		if (fleet->vms[i]->name && !fleet->vms[i]->pid &&
		    !strcmp(fleet->vms[i]->name, name))
			vm = fleet->vms[i];
	if (!vm) {
		vm = vm_new(name, NULL);
		if (!vm || fleet_append(fleet, vm)) {
			kvmstats_source_close(source);
			return -ENOMEM;
		}
	}
	return vm_add(vm, source, fd, true);
}

static int open_fd(struct fleet *fleet, const char *number)
{
	struct kvmstats_source *source;
	unsigned long fd;
	int ret;

	if (!parse_number(number, INT_MAX, &fd))
		return fail(STATUS_USAGE, "\"%s\" is not a descriptor number",
			    number);
	ret = kvmstats_source_open(fd, fleet->cache, &source);
	if (ret == -ENODEV)
		ret = kvmstats_vcpus_open(fd, fleet->cache, &source);
	if (!ret)
		ret = add_given(fleet, source, fd);
	if (ret == -EBADF)
		return fail(STATUS_NOTHING, "descriptor %s is not open", number);
	if (ret == -ENODEV || ret == -EPROTO || ret == -E2BIG)
		return fail(STATUS_FAILED,
			    "descriptor %s is not a KVM statistics descriptor%s",
			    number, ret == -ENODEV ? "" :
			    " that this version understands");
	if (ret)
		return fail(status_of(ret), "descriptor %s: %s", number,
			    strerror(-ret));
	return STATUS_OK;
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

static int open_image(const char *path, struct kvmstats_cache *cache,
		      struct kvmstats_source **source)
{
	size_t size_bytes = 0;
	void *bytes = NULL;
	int ret = read_file(path, &bytes, &size_bytes);

	if (!ret)
		ret = kvmstats_source_open_image(bytes, size_bytes, cache,
						 source);
	free(bytes);
	return ret;
}

static int open_file(struct fleet *fleet, const char *path)
{
	struct kvmstats_source *source;
	int ret = open_image(path, fleet->cache, &source);

	if (!ret)
		ret = add_given(fleet, source, -1);
	if (ret)
		return fail(status_of(ret), "%s: %s", path, ret == -EPROTO || ret == -E2BIG ?
			    "not the image of a statistics descriptor" :
			    strerror(-ret));
	return STATUS_OK;
}

static int open_target(struct fleet *fleet, const struct target *target)
{
	switch (target->letter) {
	case 'p':
		return open_pid(fleet, target->argument);
	case 'f':
		return open_fd(fleet, target->argument);
	default:
		return open_file(fleet, target->argument);
	}
}

static int open_socket(struct fleet *fleet, const char *path)
{
	fleet->listen_fd = kvmstats_listen(path, fleet->request->socket_mode);
	if (fleet->listen_fd < 0)
		return fail(status_of(fleet->listen_fd), "%s: %s", path,
			    strerror(-fleet->listen_fd));
	say("listening on %s", path);
	return STATUS_OK;
}

/* With nothing named, all processes are looked at. */
int fleet_open(struct fleet *fleet, const struct request *request,
	       const struct fleet_ops *ops, void *context)
{
	int status = STATUS_OK;

	*fleet = (struct fleet){
		.request = request, .ops = ops, .context = context,
		.listen_fd = -1, .handoff_fd = -1, .input_fd = -1,
		.interval_ms = request->interval_ms,
		.samples_left = request->count,
		.scanning = !request->target_count && !request->socket,
	};
	if (ops->tick || request->socket)
		signals_catch(&fleet->while_waiting, request->hangup_reopens);
	kvmstats_raise_fd_limit();
	if (kvmstats_cache_new(&fleet->cache) ||
	    kvmstats_finder_new(KVMSTATS_FINDER_VCPUS, fleet->cache, &fleet->finder))
		return fail(STATUS_FAILED, "no memory");
	for (size_t i = 0; i < request->target_count && !status; i++)
		status = open_target(fleet, &request->targets[i]);
	if (!status && request->socket)
		status = open_socket(fleet, request->socket);
	if (!status && fleet->scanning)
		fleet_scan(fleet);
	fleet->next_scan_ns = clock_ns() + SCAN_NS;
	if (!status && request->include_past)
		for (size_t i = 0; i < fleet->count; i++)
			vm_reset(fleet->vms[i], true);
	return status;
}

/* The name is free for another reader from now on; connections stay. */
void fleet_stop_listening(struct fleet *fleet)
{
	if (fleet->listen_fd < 0)
		return;
	unlink(fleet->request->socket);
	close(fleet->listen_fd);
	fleet->listen_fd = -1;
}

void fleet_close(struct fleet *fleet)
{
	fleet_stop_listening(fleet);
	if (fleet->handoff_fd >= 0)
		close(fleet->handoff_fd);
	for (size_t i = 0; i < fleet->count; i++)
		vm_free(fleet->vms[i]);
	free(fleet->vms);
	for (size_t i = 0; i < REASONS; i++)
		free(fleet->reasons[i].text);
	kvmstats_finder_free(fleet->finder);
	kvmstats_cache_free(fleet->cache);
}
