// SPDX-License-Identifier: GPL-2.0-only
/* What the command line names becomes a fleet; what is wrong is said. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

static int open_pid(struct fleet *fleet, const char *number)
{
	char reason[512];
	unsigned long pid;
	struct vm *vm;
	int ret;

	if (!parse_number(number, INT_MAX, &pid) || !pid)
		return fail(STATUS_USAGE, "\"%s\" is no process number",
			    number);
	ret = fleet_add_process(fleet, pid, &vm);
	if (ret == -ENOENT || ret == -ESRCH)
		return fail(STATUS_NOTHING, "no process %lu", pid);
	if (!vm)
		return fail(status_of(ret), "process %lu: %s", pid,
			    strerror(-ret));
	take_reason(vm, reason, sizeof(reason));
	if (ret || !vm->count)
		return fail(ret ? status_of(ret) : STATUS_NOTHING, "%s",
			    reason);
	if (*reason)
		fprintf(stderr, "kvmstat: %s\n", reason);
	return STATUS_OK;
}

/* Sources of one VM stand together; the kernel's id says of which they are. */
static int add_given(struct fleet *fleet, struct kvmstats_source *source,
		     long fd)
{
	const char *id = kvmstats_source_id(source);
	char name[KVMSTATS_NAME_MAX + 1];
	struct vm *vm = NULL;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(id, "/"), id);
	for (size_t i = 0; i < fleet->count && !vm; i++)
		if (fleet->vms[i]->name && !fleet->vms[i]->pid &&
		    !strcmp(fleet->vms[i]->name, name))
			vm = fleet->vms[i];
	if (!vm)
		vm = fleet_new_vm(fleet, 0, -1, name);
	if (!vm) {
		kvmstats_source_close(source);
		return -ENOMEM;
	}
	return vm_add(vm, source, fd);
}

static int open_fd(struct fleet *fleet, const char *number)
{
	struct kvmstats_source *source;
	unsigned long fd;
	int ret;

	if (!parse_number(number, INT_MAX, &fd))
		return fail(STATUS_USAGE, "\"%s\" is no descriptor number",
			    number);
	ret = kvmstats_source_open(fd, fleet->cache, &source);
	if (!ret)
		ret = add_given(fleet, source, fd);
	if (ret == -EBADF)
		return fail(STATUS_NOTHING, "descriptor %s is not open", number);
	if (ret == -ENODEV)
		return fail(STATUS_FAILED,
			    "descriptor %s is no KVM statistics descriptor",
			    number);
	if (ret)
		return fail(status_of(ret), "descriptor %s: %s", number,
			    strerror(-ret));
	return STATUS_OK;
}

static int open_file(struct fleet *fleet, const char *path)
{
	struct kvmstats_source *source;
	int ret = open_image(path, fleet->cache, &source);

	if (!ret)
		ret = add_given(fleet, source, -1);
	if (ret)
		return fail(status_of(ret), "%s: %s", path, ret == -EPROTO ?
			    "not the image of a statistics descriptor" :
			    strerror(-ret));
	return STATUS_OK;
}

static int open_wish(struct fleet *fleet, const struct wish *wish)
{
	switch (wish->letter) {
	case 'p':
		return open_pid(fleet, wish->argument);
	case 'f':
		return open_fd(fleet, wish->argument);
	default:
		return open_file(fleet, wish->argument);
	}
}

static int open_socket(struct fleet *fleet, const char *path)
{
	fleet->listen_fd = kvmstats_listen(path, fleet->request->socket_mode);
	if (fleet->listen_fd < 0)
		return fail(status_of(fleet->listen_fd), "%s: %s", path,
			    strerror(-fleet->listen_fd));
	fprintf(stderr, "kvmstat: listening on %s\n", path);
	return STATUS_OK;
}

/* With nothing named, all processes are looked at. */
int fleet_open(struct fleet *fleet, const struct request *request,
	       const struct fleet_ops *ops, void *context)
{
	int status = STATUS_OK;

	*fleet = (struct fleet){
		.request = request, .ops = ops, .context = context,
		.listen_fd = -1, .input_fd = -1,
		.interval_ms = request->interval_ms,
		.samples_left = request->count,
		.scanning = !request->wish_count && !request->socket,
	};
	if (ops->tick || request->socket)
		signals_catch(&fleet->while_waiting, request->hangup_reopens);
	if (kvmstats_cache_new(&fleet->cache))
		return fail(STATUS_FAILED, "no memory");
	for (size_t i = 0; i < request->wish_count && !status; i++)
		status = open_wish(fleet, &request->wishes[i]);
	if (!status && request->socket)
		status = open_socket(fleet, request->socket);
	if (!status && fleet->scanning)
		fleet_scan(fleet);
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
	for (size_t i = 0; i < fleet->count; i++)
		vm_free(fleet->vms[i]);
	free(fleet->vms);
	kvmstats_cache_free(fleet->cache);
}

/* The first process that cannot be read, if any, and those that are hidden. */
void fleet_excuse(const struct fleet *fleet, char *text, size_t text_bytes)
{
	size_t length = 0;

	text[0] = 0;
	for (size_t i = 0; i < fleet->count && !*text; i++)
		if (!fleet->vms[i]->peer && fleet->vms[i]->pid)
			take_reason(fleet->vms[i], text, text_bytes);
	length = strlen(text);
	if (fleet->hidden)
		snprintf(text + length, text_bytes - length,
			 "%s%u processes of other users could not be looked into",
			 length ? "; " : "", fleet->hidden);
}
