// SPDX-License-Identifier: GPL-2.0-only
/* list: the VMs that there are, and whether their statistics can be had */
#include <errno.h>
#include <string.h>

#include "vm.h"

static const char *const keys[KVMSTATS_FD_KINDS] = {
	"vms", "vcpus", "vm_stats_fds", "vcpu_stats_fds", "device_fds",
};

static void json_vm(struct json *json, const struct vm *vm, const char *command)
{
	char problem[512];

	json_open(json, '{');
	json_member_i64(json, "pid", vm->pid);
	json_member_i64(json, "uid", vm->uid);
	json_member_string(json, "command", command);
	json_member_string(json, "guest", vm_name(vm));
	json_member_string(json, "uuid", vm_uuid(vm));
	for (int kind = 0; kind < KVMSTATS_FD_KINDS; kind++)
		json_member_u64(json, keys[kind],
				kvmstats_vmm_held(vm->vmm, kind));
	json_member_u64(json, "descriptors", vm->count);
	vm_problem(vm, problem, sizeof(problem));
	json_key(json, "problem");
	if (*problem)
		json_string(json, problem);
	else
		json_null(json);
	json_close(json, '}');
}

static void list_json(const struct fleet *fleet)
{
	char command[KVMSTATS_MAX_VM_NAME + 1];
	struct json json = { .out = stdout };

	json_open(&json, '{');
	json_key(&json, "processes");
	json_open(&json, '[');
	for (size_t i = 0; i < fleet->count; i++) {
		vm_command(fleet->vms[i]->pid, command);
		json_vm(&json, fleet->vms[i], command);
	}
	json_close(&json, ']');
	json_member_u64(&json, "hidden", fleet->hidden);
	json_close(&json, '}');
	putchar('\n');
}

static void list_text(const struct fleet *fleet)
{
	char command[KVMSTATS_MAX_VM_NAME + 1];

	if (fleet->count)
		printf("%8s %8s  %-16s %4s %6s %9s %11s %8s  %s\n", "PID",
		       "UID", "COMMAND", "VMS", "VCPUS", "VM-STATS",
		       "VCPU-STATS", "DEVICES", "GUEST");
	for (size_t i = 0; i < fleet->count; i++) {
		const struct vm *vm = fleet->vms[i];

		vm_command(vm->pid, command);
		printf("%8ld %8ld  %-16s", vm->pid, vm->uid, command);
		printf(" %4zu %6zu %9zu %11zu %8zu  %s\n",
		       kvmstats_vmm_held(vm->vmm, KVMSTATS_FD_VM),
		       kvmstats_vmm_held(vm->vmm, KVMSTATS_FD_VCPU),
		       kvmstats_vmm_held(vm->vmm, KVMSTATS_FD_VM_STATS),
		       kvmstats_vmm_held(vm->vmm, KVMSTATS_FD_VCPU_STATS),
		       kvmstats_vmm_held(vm->vmm, KVMSTATS_FD_DEVICE),
		       vm_name(vm));
	}
}

/* Nothing to list is no success: there is no VM, or none that we may see. */
static int run_list(const struct command *command, int argc, char **argv)
{
	static const struct fleet_ops ops = { .input = NULL };
	struct request request;
	struct fleet fleet;
	int letter, status;

	request_init(&request, command, argc, argv);
	while ((letter = next_opt(command, argc, argv)) != -1)
		request_opt(&request, letter);
	status = request_end(&request, argc, argv);
	if (status)
		return status;
	status = fleet_open(&fleet, &request, &ops, NULL);
	if (!status && request.as_json)
		list_json(&fleet);
	else if (!status)
		list_text(&fleet);
	if (!status && fleet.count) {
		fleet_explain(&fleet);
		status = fleet_check_complete(&fleet);
	} else if (!status) {
		status = fleet_fail_list(&fleet);
	}
	fleet_close(&fleet);
	return status;
}

static const struct opt list_opts[] = {
	COMMON('j'),
	{ 0 }
};

const struct command cmd_list = {
	"list", " [--json]", "show the processes that have VMs",
	list_opts, run_list
};
