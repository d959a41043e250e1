// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kvmstat.h"

struct process {
	long pid;
	long uid;
	char command[64];
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

/* The command's name is the process's own choice: nothing of it may act. */
static void read_command(struct process *process)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/comm", process->pid);
	file = fopen(path, "re");
	if (!file)
		return;
	if (!fgets(process->command, sizeof(process->command), file))
		process->command[0] = 0;
	fclose(file);
	process->command[strcspn(process->command, "\n")] = 0;
	for (char *p = process->command; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
}

static long read_uid(long pid)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%ld", pid);
	return stat(path, &st) < 0 ? -1 : (long)st.st_uid;
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
	for (int kind = 0; kind < KVM_FD_KINDS; kind++)
		json_member_u64(&listing->json, keys[kind],
				process->count[kind]);
	json_close(&listing->json, '}');
}

static void print_row(struct listing *listing, const struct process *process)
{
	if (!listing->shown++)
		printf("%8s %8s  %-16s %4s %6s %9s %11s\n", "PID", "UID",
		       "COMMAND", "VMS", "VCPUS", "VM-STATS", "VCPU-STATS");
	printf("%8ld %8ld  %-16s %4u %6u %9u %11u\n", process->pid,
	       process->uid, process->command, process->count[KVM_FD_VM],
	       process->count[KVM_FD_VCPU], process->count[KVM_FD_VM_STATS],
	       process->count[KVM_FD_VCPU_STATS]);
}

static void look_at(struct listing *listing, long pid)
{
	struct process process = { .pid = pid };
	unsigned int any = 0;
	int ret = proc_kvm_fds(pid, count_fd, &process);

	if (ret == -EACCES || ret == -EPERM)
		listing->hidden++;
	for (int kind = 0; kind < KVM_FD_KINDS; kind++)
		any |= process.count[kind];
	if (!any)
		return;
	process.uid = read_uid(pid);
	read_command(&process);
	if (listing->as_json)
		print_json(listing, &process);
	else
		print_row(listing, &process);
}

static int look_at_all(struct listing *listing)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	unsigned long pid;

	if (!dir)
		return fail(STATUS_FAILED, "/proc: %s", strerror(errno));
	while ((entry = readdir(dir)))
		if (parse_number(entry->d_name, INT_MAX, &pid))
			look_at(listing, pid);
	closedir(dir);
	return STATUS_OK;
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
	int letter;

	while ((letter = next_opt(command, argc, argv)) != -1)
		listing.as_json = true;
	if (optind < argc)
		return usage_error(command, "what is \"%s\"?", argv[optind]);
	return listing.as_json ? list_json(&listing) : list_text(&listing);
}

static const struct opt list_opts[] = {
	{ 'j', "json", NULL, "for programs: one object" },
	{ 0 }
};

const struct command cmd_list = {
	"list", " [--json]", "show the processes that have VMs",
	list_opts, run_list
};
