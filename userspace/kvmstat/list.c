// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>

#include "kvmstat.h"

struct process {
	long pid;
	long uid;
	char command[64], guest[KVMSTATS_NAME_MAX + 1];
	unsigned int count[KVM_FD_KINDS];
};

struct listing {
	struct json json;
	bool as_json;
	unsigned int shown;
	unsigned int hidden;	/* processes that we may not look into */
};

static int count_fd(void *context, enum kvm_fd_kind kind, long fd)
{
	struct process *process = context;

	(void)fd;
	process->count[kind]++;
	return 0;
}

static void print_json(struct listing *listing, const struct process *process)
{
	static const char *const keys[KVM_FD_KINDS] = {
		"vms", "vcpus", "vm_stats_fds", "vcpu_stats_fds",
	};

	json_open(&listing->json, '{');
	json_member_i64(&listing->json, "pid", process->pid);
	json_member_i64(&listing->json, "uid", process->uid);
	json_member_string(&listing->json, "command", process->command);
	json_member_string(&listing->json, "guest", process->guest);
	for (int kind = 0; kind < KVM_FD_KINDS; kind++)
		json_member_u64(&listing->json, keys[kind],
				process->count[kind]);
	json_close(&listing->json, '}');
}

static void print_row(struct listing *listing, const struct process *process)
{
	if (!listing->shown++)
		printf("%8s %8s  %-16s %4s %6s %9s %11s  %s\n", "PID", "UID",
		       "COMMAND", "VMS", "VCPUS", "VM-STATS", "VCPU-STATS",
		       "GUEST");
	printf("%8ld %8ld  %-16s %4u %6u %9u %11u  %s\n", process->pid,
	       process->uid, process->command, process->count[KVM_FD_VM],
	       process->count[KVM_FD_VCPU], process->count[KVM_FD_VM_STATS],
	       process->count[KVM_FD_VCPU_STATS], process->guest);
}

static int look_at(void *context, long pid)
{
	struct listing *listing = context;
	struct process process = { .pid = pid };
	unsigned int any = 0;
	int ret = proc_kvm_fds(pid, count_fd, &process);

	if (ret == -EACCES || ret == -EPERM)
		listing->hidden++;
	for (int kind = 0; kind < KVM_FD_KINDS; kind++)
		any |= process.count[kind];
	if (!any)
		return 0;
	process.uid = proc_owner(pid, NULL);
	proc_command(pid, process.command, sizeof(process.command));
	proc_guest(pid, process.guest, sizeof(process.guest));
	if (listing->as_json)
		print_json(listing, &process);
	else
		print_row(listing, &process);
	return 0;
}

/* Nothing is printed yet when /proc cannot be read at all. */
static int look_at_all(struct listing *listing)
{
	int ret = proc_all(look_at, listing);

	return ret ? fail(STATUS_FAILED, "/proc: %s", strerror(-ret)) :
	       STATUS_OK;
}

static int list_json(struct listing *listing)
{
	int status;

	json_open(&listing->json, '{');
	json_key(&listing->json, "processes");
	json_open(&listing->json, '[');
	status = look_at_all(listing);
	json_close(&listing->json, ']');
	json_member_u64(&listing->json, "hidden", listing->hidden);
	json_close(&listing->json, '}');
	putchar('\n');
	return status;
}

static int list_text(struct listing *listing)
{
	int status = look_at_all(listing);

	if (!status && !listing->shown)
		puts("no process with a VM");
	if (listing->hidden)
		printf("%u processes of other users could not be looked into\n",
		       listing->hidden);
	return status;
}

static int run_list(const struct command *command, int argc, char **argv)
{
	struct listing listing = { .json.out = stdout };
	struct request request;
	int letter, status;

	request_init(&request, command, argc, argv);
	while ((letter = next_opt(command, argc, argv)) != -1)
		request_opt(&request, letter);
	status = request_end(&request, argc, argv);
	if (status)
		return status;
	listing.as_json = request.as_json;
	return request.as_json ? list_json(&listing) : list_text(&listing);
}

static const struct opt list_opts[] = {
	COMMON('j'),
	{ 0 }
};

const struct command cmd_list = {
	"list", " [--json]", "show the processes that have VMs",
	list_opts, run_list
};
