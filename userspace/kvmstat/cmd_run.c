// SPDX-License-Identifier: GPL-2.0-only
/*
 * run: a VMM that knows nothing of statistics. A library that is loaded into
 * it takes the descriptors when it makes its VM and vCPUs, and sends them here
 * over a private socket. Standard input and output are the VMM's.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/agent_socket.h"
#include "../common/quota_uapi.h"
#include "run.h"
#include "view.h"

#define QUOTA_LEAST	(64ull << 10)
#define QUOTA_MOST	(1024ull << 30)

struct run {
	struct request request;
	struct fleet fleet;
	struct view view;		/* of totals */
	struct preload preload;
	const char *preload_option;
	char directory[PATH_MAX], socket[PATH_MAX + 16];
	char program[PATH_MAX];
	char quota[32];			/* bytes a second */
	char **argv;			/* of the VMM */
	bool all;
	bool agent;			/* it shows, not we */
	bool has_other;			/* options than those of the agent */
	bool seen_vm, seen_stats, no_room, no_memory, fleet_is_open;
	struct output output;
};

/* Each vCPU's descriptor comes by itself: people see the first of them. */
static void on_event(void *context, const struct vm *vm, const char *name,
		     const char *reason)
{
	struct run *run = context;

	run->seen_vm = true;
	if (vm->count)
		run->seen_stats = true;
	if (run->request.as_json)
		report_event(run->output.out, vm, name, reason);
	else if (strcmp(name, "sent") || vm->count <= 1)
		text_event(run->output.out, vm, name, reason);
}

/* Since the VM's first sample: in the table of rates a short one is lost. */
static void print_totals(struct run *run, const struct vm *vm)
{
	struct view *view = &run->view;
	char line[LINE_BYTES];

	view->fleet = &run->fleet;
	view->only = vm;
	view->zeros = run->all;
	view->sort = SORT_TOTAL;
	view->fields = run->request.fields;
	view_build(view);
	fprintf(run->output.out, "totals of VM %s (pid %ld)\n", vm_name(vm),
		vm->pid);
	view_heading(view, line);
	fprintf(run->output.out, "%s\n", line);
	for (size_t i = 0; i < view->row_count; i++) {
		view_line(view, &view->rows[i], line);
		fprintf(run->output.out, "%s\n", line);
	}
	if (view->no_memory)
		fputs("out of memory: incomplete\n", run->output.out);
	run->no_memory |= view->no_memory;
	fputc('\n', run->output.out);
	view_release(view);
}

/* At the end of the show, of the VMs that go on. 0 or -errno. */
static int print_all_totals(struct run *run)
{
	for (size_t i = 0; i < run->fleet.count && !run->request.as_json; i++)
		if (fleet_shows(&run->fleet, run->fleet.vms[i]))
			print_totals(run, run->fleet.vms[i]);
	return output_flush(&run->output, &run->fleet.while_waiting);
}

/* What it did since the last table, and in all. */
static void on_last(void *context, const struct vm *vm)
{
	struct run *run = context;

	if (run->request.as_json)
		report_sample(run->output.out, vm, &run->request);
	else
		print_totals(run, vm);
}

static bool on_tick(void *context)
{
	struct run *run = context;

	for (size_t i = 0; i < run->fleet.count; i++) {
		const struct vm *vm = run->fleet.vms[i];

		/* it has connected, and is about to send */
		if (!vm->count || !fleet_shows(&run->fleet, vm))
			continue;
		if (run->request.as_json)
			report_sample(run->output.out, vm, &run->request);
		else
			run->no_memory |= !table_print(run->output.out, vm,
						       &run->request.fields, run->all,
						       run->request.columns);
	}
	return true;
}

/* A VMM that goes into the background has ended, and its VM has not. */
static bool all_ended(const struct run *run)
{
	struct pollfd queues[] = {
		{ .fd = run->fleet.listen_fd, .events = POLLIN },
		{ .fd = run->fleet.handoff_fd, .events = POLLIN },
	};

	return run_status() >= 0 && !run->fleet.count &&
	       poll(queues, 2, 0) < 1;
}

static int on_turn(void *context)
{
	struct run *run = context;

	if (all_ended(run))
		run->fleet.done = true;
	return output_flush(&run->output, &run->fleet.while_waiting);
}

/* In a directory that only this user can enter: 0 or -errno. */
static int try_place(struct run *run, const char *place)
{
	int ret;

	if (!place || !*place)
		return -ENOENT;
	snprintf(run->directory, sizeof(run->directory), "%s/kvmstat-XXXXXX",
		 place);
	if (!mkdtemp(run->directory)) {
		run->directory[0] = 0;
		return -errno;
	}
	snprintf(run->socket, sizeof(run->socket), "%s/socket",
		 run->directory);
	ret = kvmstats_listen(run->socket, 0600);
	if (ret >= 0) {
		run->fleet.listen_fd = ret;
		return 0;
	}
	rmdir(run->directory);
	run->directory[0] = 0;
	return ret;
}

/* Variables of another user's session, or a long path, are no reason to fail. */
static int open_socket(struct run *run)
{
	const char *const places[] = {
		getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp",
	};
	int ret = -ENOENT;

	for (size_t i = 0; i < sizeof(places) / sizeof(*places) && ret; i++)
		ret = try_place(run, places[i]);
	return ret ? fail(RUN_FAILED, "cannot make a socket in /tmp: %s",
			  strerror(-ret)) : STATUS_OK;
}

static int open_output(struct run *run)
{
	const char *path = run->request.output;
	int fd = STDERR_FILENO;

	if (path)
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return fail(RUN_FAILED, "%s: %s", path, strerror(errno));
	if (output_open(&run->output, fd, path ? path : "standard error"))
		return fail(RUN_FAILED, "no memory");
	run->output.may_wait = true;
	return STATUS_OK;
}

static int open_fleet(struct run *run)
{
	static const struct fleet_ops ops = {
		.tick = on_tick, .last = on_last, .event = on_event,
		.turn = on_turn,
	};
	int sockets[2], status;
	struct stat st;

	/* totals are those of the VM, from its start */
	run->request.include_past = true;
	run->request.socket = run->socket;
	run->fleet = (struct fleet){
		.request = &run->request, .ops = &ops, .context = run,
		.listen_fd = -1, .handoff_fd = -1, .input_fd = -1,
		.interval_ms = run->request.interval_ms,
		.samples_left = run->request.count,
		.next_scan_ns = UINT64_MAX,
	};
	run->fleet_is_open = true;
	status = open_socket(run);
	if (status)
		return status;
	if (kvmstats_cache_new(&run->fleet.cache))
		return fail(RUN_FAILED, "no memory");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		       0, sockets) < 0 || fstat(sockets[1], &st) < 0)
		return fail(RUN_FAILED, "socketpair: %s", strerror(errno));
	run->fleet.handoff_fd = sockets[0];
	run->preload.socket = run->socket;
	run->preload.handoff_fd = sockets[1];
	snprintf(run->preload.handoff, sizeof(run->preload.handoff), "%d:%ju",
		 sockets[1], (uintmax_t)st.st_ino);
	return STATUS_OK;
}

static void close_fleet(struct run *run)
{
	if (run->fleet_is_open)
		fleet_close(&run->fleet);
	run->fleet_is_open = false;
}

/* The show may end before the VMM; we are its parent until it ends, too. */
static int await_end(struct run *run)
{
	int status;

	while ((status = run_status()) < 0)
		sigsuspend(&run->fleet.while_waiting);
	return status;
}

/* What was not seen, and why; the VMM's status, unless the show failed. */
static int explain_end(struct run *run, int shown, int status)
{
	const char *name = run->argv[0];

	signals_release(&run->fleet.while_waiting);

	/* standard error that nobody reads any more is no failure */
	if (shown && shown != -EINTR && (shown != -EPIPE || run->request.output)) {
		say("%s: %s", output_what(&run->output, "run"), write_error_text(shown));
		return status ? status : STATUS_FAILED;
	}
	if (!run->seen_vm && !run->fleet.preloaded)
		say("the library was not loaded into %s, or %s closed all its descriptors: %s",
		    name, name, "no VM was seen");
	else if (!run->seen_vm)
		say("%s made no VM, or did so in a way that cannot be seen", name);
	else if (run->no_room)
		say("descriptors of %s did not fit into this process; %s", name,
		    "raise the limit on open files (ulimit -n)");
	else if (!run->seen_stats)
		say("the kernel gave %s no statistics descriptor", name);
	else if (run->no_memory)
		say(TABLE_INCOMPLETE);
	else if (!filter_matched(&run->request.fields))
		filter_fail(&run->request.fields);
	/* as with an output that fails: the VMM succeeded, and we did not */
	return (run->no_room || run->no_memory) && !status ? STATUS_FAILED : status;
}

static int start_and_show(struct run *run)
{
	int status = run_start(run->program, run->argv, &run->preload,
			       &run->fleet.while_waiting);
	int shown;

	close(run->preload.handoff_fd);
	if (status)
		return status;
	/* for VMs of many vCPUs; the VMM has the limit as it was */
	kvmstats_raise_fd_limit();
	shown = fleet_run(&run->fleet);
	if (!shown)
		shown = print_all_totals(run);
	run->no_room = fleet_had_no_room(&run->fleet);
	close_fleet(run);
	return explain_end(run, shown, await_end(run));
}

/* The socket that was named, or where kvmstatd listens by itself. */
static const char *agent_socket(struct run *run)
{
	if (run->request.socket)
		return run->request.socket;
	agent_socket_find(run->socket);
	return run->socket;
}

/*
 * The VMM takes our place, so that whoever started us finds it under our number. The
 * library connects when there is an agent, whenever that is.
 */
static int become_vmm(struct run *run)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = agent_socket(run);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		return fail(RUN_FAILED, "--socket %s: must have at most %zu bytes",
			    path, sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		say("no agent can be reached at %s (%s); %s", path, strerror(errno),
		    "the VM will be registered when one can");
	close(fd);
	run->preload.socket = path;
	run->preload.handoff_fd = -1;
	return run_become(run->program, run->argv, &run->preload);
}

/* The library cannot say it: what is inside the VMM is silent. */
static int check_quota(void)
{
	int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int known;

	if (kvm_fd < 0)
		return fail(RUN_FAILED, "--dirty-quota: /dev/kvm: %s",
			    strerror(errno));
	known = ioctl(kvm_fd, KVM_CHECK_EXTENSION, QUOTA_CAP);
	close(kvm_fd);
	return known > 0 ? STATUS_OK :
	       fail(RUN_FAILED,
		    "--dirty-quota: this kernel has no KVM_CAP_DIRTY_QUOTA");
}

static int run_vmm(struct run *run)
{
	int status = run->preload.dirty_quota ? check_quota() : STATUS_OK;

	if (!status)
		status = run_find_program(run->argv[0], run->program);
	if (!status)
		status = run_find_preload(run->preload_option,
					  run->preload.path);
	if (!status)
		status = run_check_program(run->program, run->preload.path);
	if (!status && run->agent)
		return become_vmm(run);
	if (!status)
		status = open_output(run);
	if (!status)
		status = open_fleet(run);
	if (!status)
		status = start_and_show(run);
	return status;
}

static void release(struct run *run)
{
	close_fleet(run);
	if (run->directory[0])
		rmdir(run->directory);
	output_close(&run->output);
	request_free(&run->request);
}

/* Less than the least would be a stop rather than a limit. */
static int take_quota(struct run *run, const char *text)
{
	uint64_t bytes;

	if (!parse_bytes(text, QUOTA_MOST, &bytes) || bytes < QUOTA_LEAST)
		return usage_error(run->request.command,
				   "--dirty-quota %s: must be bytes a second, 64K to 1024G",
				   text);
	snprintf(run->quota, sizeof(run->quota), "%ju", (uintmax_t)bytes);
	run->preload.dirty_quota = run->quota;
	return STATUS_OK;
}

static int take_opt(struct run *run, int letter)
{
	run->has_other |= !strchr("ASNULQ", letter);
	switch (letter) {
	case 'A':
		run->agent = true;
		return STATUS_OK;
	case 'a':
		run->all = true;
		return STATUS_OK;
	case 'N':
		run->preload.name = optarg;
		return STATUS_OK;
	case 'U':
		run->preload.uuid = optarg;
		return STATUS_OK;
	case 'Q':
		return take_quota(run, optarg);
	case 'L':
		run->preload_option = optarg;
		return STATUS_OK;
	default:
		return request_opt(&run->request, letter);
	}
}

/* What stands behind -- is not ours to interpret. */
static int find_dashes(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--"))
			return i;
	return argc;
}

static int parse(struct run *run, const struct command *command, int argc,
		 char **argv)
{
	int letter, status = STATUS_OK;

	while (!status && (letter = next_opt(command, argc, argv)) != -1)
		status = take_opt(run, letter);
	if (!status && run->agent && run->has_other)
		return usage_error(command,
				   "--agent shows nothing: only --socket, --name, --uuid, --dirty-quota and --preload go with it");
	if (!status && !run->agent && run->request.socket)
		return usage_error(command, "--socket needs --agent");
	return status ? status : request_end(&run->request, argc, argv);
}

static int run_run(const struct command *command, int argc, char **argv)
{
	int own_argc = find_dashes(argc, argv), status;
	struct run *run = calloc(1, sizeof(*run));

	if (!run)
		return fail(RUN_FAILED, "no memory");
	request_init(&run->request, command, own_argc, argv);
	status = parse(run, command, own_argc, argv);
	if (!status && own_argc + 1 >= argc)
		status = usage_error(command,
				     "name the VMM to run: -- VMM [ARGUMENTS...]");
	if (!status) {
		run->argv = argv + own_argc + 1;
		status = run_vmm(run);
	}
	release(run);
	free(run);
	return status;
}

static const struct opt run_opts[] = {
	{ 'o', "output", "PATH", "write there, not to standard error" },
	COMMON('j'), COMMON('F'), COMMON('i'),
	{ 'n', "count", "N", "print N times; the VMM goes on" },
	{ 'd', "duration", "SECONDS", "print for this time; the VMM goes on" },
	{ 'A', "agent", NULL, "become the VMM, and let kvmstatd show it" },
	{ 'S', "socket", "PATH", "where kvmstatd listens, for --agent" },
	{ 'a', "all", NULL, "show statistics that are 0, too" },
	COMMON('C'),
	{ 'N', "name", "TEXT", "what to call the VM (default: the program)" },
	{ 'U', "uuid", "TEXT", "its uuid (default: none)" },
	{ 'Q', "dirty-quota", "BYTES",
	  "what it may dirty per second during migration" },
	{ 'L', "preload", "FILE", "the library to load into the VMM" },
	{ 0 }
};

const struct command cmd_run = {
	"run", " [OPTIONS] -- VMM [ARGUMENTS...]",
	"run a VMM and show what its VMs count, on standard error",
	run_opts, run_run
};
