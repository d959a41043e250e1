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
#define NO_ROOM \
	"a VM registered whose descriptors did not fit into this process, so " \
	"its figures are missing; raise the limit on open files (ulimit -n)"

/* The VM of which this was said in full, or 0, and it is said now. */
static long find_reason(struct fleet *fleet, const struct vm *vm, const char *text)
{
	for (size_t i = 0; i < REASONS; i++) {
		struct reason *reason = &fleet->reasons[i];

		if (!reason->text) {
			reason->text = strdup(text);
			reason->pid = vm->pid;
			return 0;
		}
		if (!strcmp(reason->text, text))
			return reason->pid == vm->pid ? 0 : reason->pid;
	}
	return 0;
}

/* For people a reason is explained once; a program looks at each event alone. */
static void say_problem(struct fleet *fleet, struct vm *vm)
{
	char text[512], why[400];
	bool events = fleet->ops->event;
	long other = 0;

	vm_problem_reason(vm, why, sizeof(why));
	if (!(events && fleet->request->as_json) && *why)
		other = find_reason(fleet, vm, why);
	vm_problem_as(vm, other, text, sizeof(text));
	if (events)
		fleet_event(fleet, vm, "incomplete", text);
	else
		fprintf(stderr, "kvmstat: %s: %s\n", vm_name(vm), text);
}

/* A VMM that begins may take its descriptors in the next moment. */
static void tell_problem(struct fleet *fleet, struct vm *vm)
{
	int problem = vm_problem_code(vm);

	if (problem == vm->said)
		return;
	if (problem && !vm->seen_incomplete) {
		vm->seen_incomplete = true;
		return;
	}
	vm->said = problem;
	if (problem && fleet->ops->event)
		say_problem(fleet, vm);
}

/* One more process that could not be inspected. */
static void add_trouble(struct fleet *fleet, long pid, int error)
{
	struct trouble *place = NULL;

	for (size_t i = 0; i < TROUBLES; i++) {
		struct trouble *trouble = &fleet->troubles[i];

		if (trouble->error == error) {
			place = trouble;
			break;
		}
		if (!place && !trouble->error)
			place = trouble;
	}
	/* as many kinds as there is room for will do to be noticed */
	if (!place)
		return;
	place->error = error;
	place->pid = place->count++ ? place->pid : pid;
}

/* What is the matter is found anew by each scan. */
static void forget_troubles(struct fleet *fleet)
{
	for (size_t i = 0; i < TROUBLES; i++)
		fleet->troubles[i].count = 0;
	fleet->hidden = 0;
}

static void trouble_text(const struct trouble *trouble, char *text,
			 size_t text_bytes)
{
	static const struct {
		int error;
		const char *text;
	} texts[] = {
		{ ETIME, "no answer within 5 seconds; it will be asked again later" },
		{ EBUSY, "too many processes do not answer; no others are asked until they do" },
		{ NO_SUCH_CALL,
		  "pidfd_open is missing, or a container's system call filter refuses it" },
		{ EMFILE, "too many open files; raise the limit (ulimit -n)" },
	};
	const char *why = strerror(-trouble->error);

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		if (texts[i].error == -trouble->error)
			why = texts[i].text;
	if (!trouble->pid)
		snprintf(text, text_bytes, "/proc could not be read: %s", why);
	else if (trouble->count == 1)
		snprintf(text, text_bytes, "process %ld could not be inspected: %s",
			 trouble->pid, why);
	else
		snprintf(text, text_bytes,
			 "%u processes could not be inspected, for example %ld: %s",
			 trouble->count, trouble->pid, why);
}

/* Once when it begins; of processes that do not answer, each. */
static void say_troubles(struct fleet *fleet)
{
	char text[300];

	for (size_t i = 0; i < TROUBLES; i++) {
		struct trouble *trouble = &fleet->troubles[i];

		if (fleet->says_trouble && trouble->count > trouble->said &&
		    (!trouble->said || trouble->error == -ETIME)) {
			trouble_text(trouble, text, sizeof(text));
			fleet_say(fleet, "%s", text);
		}
		trouble->said = trouble->count;
		if (!trouble->count)
			trouble->error = 0;
	}
}

/* What it has by now. Its first descriptors are announced. */
static void add_found(struct fleet *fleet, struct vm *vm)
{
	size_t before = vm->count;
	char text[80];
	int ret = vm_add_found(vm), error = kvmstats_vmm_error(vm->vmm);

	if (ret)
		add_trouble(fleet, vm->pid, ret);
	if (!vm->count && (error == -EIO || error == -ENOTTY))
		vm->debugfs_error = vm_add_debugfs(vm, DEBUGFS_PLACE,
						   fleet->cache);
	if (vm->count == before)
		return;
	if (fleet->request->include_past)
		vm_reset(vm, true);
	snprintf(text, sizeof(text), "%zu descriptors taken",
		 vm->count - before);
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
		add_trouble(fleet, vm->pid, ret);
	} else if (ret & KVMSTATS_VMM_NEW_VM) {
		begin_anew(fleet, vm);
	} else {
		vm_drop_gone(vm);
		kvmstats_vmm_settle(vm->vmm);
		add_found(fleet, vm);
		tell_problem(fleet, vm);
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
	tell_problem(fleet, vm);
	*result = vm;
	return 1;
}

static void look_at_all(struct fleet *fleet)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	struct vm *vm;

	if (!dir) {
		add_trouble(fleet, 0, -errno);
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
			add_trouble(fleet, pid, ret);
	}
	closedir(dir);
}

/* Known processes may have new vCPUs, and there may be new processes. */
void fleet_scan(struct fleet *fleet)
{
	forget_troubles(fleet);
	for (size_t i = 0; i < fleet->count; i++)
		if (fleet->vms[i]->vmm)
			look_again(fleet, fleet->vms[i]);
	if (fleet->scanning)
		look_at_all(fleet);
	say_troubles(fleet);
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

/* ---- what is missing */

bool fleet_has_trouble(const struct fleet *fleet)
{
	for (size_t i = 0; i < TROUBLES; i++)
		if (fleet->troubles[i].count)
			return true;
	return false;
}

void fleet_trouble(const struct fleet *fleet, char *text, size_t text_bytes)
{
	text[0] = 0;
	for (size_t i = 0; i < TROUBLES; i++) {
		if (!fleet->troubles[i].count)
			continue;
		trouble_text(&fleet->troubles[i], text, text_bytes);
		return;
	}
	if (fleet->hidden)
		snprintf(text, text_bytes,
			 "%u processes of other users could not be inspected; to see them, run as root or with CAP_SYS_PTRACE",
			 fleet->hidden);
}

/* All that is missing by now; what comes later is said as it comes. */
void fleet_explain(struct fleet *fleet)
{
	char text[512];

	for (size_t i = 0; i < fleet->count; i++) {
		struct vm *vm = fleet->vms[i];

		if (!vm->vmm || !fleet_names(fleet, vm))
			continue;
		vm->said = vm_problem_code(vm);
		if (vm->said)
			say_problem(fleet, vm);
	}
	fleet_trouble(fleet, text, sizeof(text));
	if (*text)
		fprintf(stderr, "kvmstat: %s\n", text);
	fleet->says_trouble = true;
}

bool fleet_had_no_room(const struct fleet *fleet)
{
	return fleet->no_room || fleet->in_queue;
}

/* One that may be seen by others, but not by us, is a reason of its own. */
int fleet_fail_empty(const struct fleet *fleet)
{
	const struct request *request = fleet->request;
	enum status status = fleet->hidden ? STATUS_DENIED : STATUS_NOTHING;
	char text[512] = "";
	bool told = false;	/* people know why */
	int error;

	if (fleet_had_no_room(fleet))
		return fail(STATUS_FAILED, NO_ROOM);
	for (size_t i = 0; i < TROUBLES && !fleet->hidden; i++)
		if (fleet->troubles[i].count)
			status = status_of(fleet->troubles[i].error);
	for (size_t i = 0; i < fleet->count && !*text; i++) {
		const struct vm *vm = fleet->vms[i];

		if (!vm->vmm || !fleet_names(fleet, vm))
			continue;
		vm_problem(vm, text, sizeof(text));
		told = vm->said && !request->as_json;
		error = kvmstats_vmm_error(vm->vmm);
		if (*text && error != -EIO && error != -ENOTTY)
			status = status_of(error);
		else if (*text && !fleet_has_trouble(fleet))
			status = STATUS_NOTHING;
	}
	if (!*text)
		fleet_trouble(fleet, text, sizeof(text));
	if (told)
		text[0] = 0;
	return fail(status, "%s%s%s%s%s", request->socket ?
		    "no VM has registered" : "no VM with statistics",
		    !request->guest ? "" : request->socket ? " as " : " is named ",
		    request->guest ? request->guest : "",
		    *text ? "; " : "", text);
}

int fleet_fail_list(const struct fleet *fleet)
{
	char text[512];

	fleet_trouble(fleet, text, sizeof(text));
	fprintf(stderr, "kvmstat: no process with a VM%s%s\n",
		*text ? "; " : "", text);
	return fleet->hidden ? STATUS_DENIED : fleet_has_trouble(fleet) ?
	       STATUS_FAILED : STATUS_NOTHING;
}

/* What was asked for by its name is there, whatever else there may be. */
int fleet_check_complete(const struct fleet *fleet)
{
	size_t missing = 0, left_out = 0;
	char text[300];

	for (size_t i = 0; i < fleet->count; i++) {
		const struct vm *vm = fleet->vms[i];

		if (!vm->vmm || !fleet_names(fleet, vm))
			continue;
		if (kvmstats_vmm_error(vm->vmm) == -EMFILE)
			missing += kvmstats_vmm_missing(vm->vmm);
		/* who does not ask for statistics misses none of a device */
		if (!fleet->request->without_statistics)
			left_out += vm_devices_left_out(vm);
	}
	if (missing)
		return fail(STATUS_FAILED,
			    "%zu descriptors did not fit into this process, so the figures are not complete; raise the limit on open files (ulimit -n)",
			    missing);
	if (fleet_had_no_room(fleet))
		return fail(STATUS_FAILED, NO_ROOM);
	if (fleet_has_trouble(fleet) && !fleet->request->guest) {
		fleet_trouble(fleet, text, sizeof(text));
		return fail(STATUS_FAILED,
			    "what was shown may not be complete: %s", text);
	}
	if (left_out)
		return fail(STATUS_FAILED,
			    "%zu devices are not shown: of a VM that does not register, %d are the most",
			    left_out, KVMSTATS_MAX_VMM_DEVICES);
	return STATUS_OK;
}
