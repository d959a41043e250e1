// SPDX-License-Identifier: GPL-2.0-only
/* What cannot be shown, and why: statistics of VMs, and processes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vm.h"

#define KEEPS(what) \
	"the VMM keeps " what " of its statistics descriptors, and this kernel " \
	"makes none for others; kvmstat run starts a VMM with"
#define NO_ROOM \
	"a VM registered whose descriptors did not fit into this process, so " \
	"its figures are missing; raise the limit on open files (ulimit -n)"

struct error_text {
	int error;
	const char *text;
};

/* What is to be said of @error, negative: a table's, which ends with NULL, or NULL. */
static const char *text_of(const struct error_text *texts, int error)
{
	while (texts->text && texts->error != -error)
		texts++;
	return texts->text;
}

/* ---- of one VM */

static const char *remedy(int error, bool any)
{
	static const struct error_text texts[] = {
		{ 0, "no descriptor to take" },
		{ ENOTTY, "this kernel has no statistics descriptors" },
		{ EPERM, NEEDS_RIGHTS }, { EACCES, NEEDS_RIGHTS },
		{ NO_SUCH_CALL,
		  "pidfd_getfd is missing, or a container's system call filter refuses it" },
		{ EMFILE, "raise the limit on open files (ulimit -n)" },
		{ ENFILE, "too many files are open on this machine" },
		{ EOPNOTSUPP,
		  "its descriptors are one thread's, which cannot be copied before Linux 6.9" },
		{ 0, NULL },
	};
	const char *text = text_of(texts, error);

	if (error == -EIO && any)
		return KEEPS("only some") " all of them";
	if (error == -EIO)
		return KEEPS("none") " them";
	return text ? text : "try again";
}

/* Why its sums are not shown instead; "" if they were not looked for. */
static void debugfs_problem(const struct vm *vm, char *text, size_t text_bytes)
{
	static const struct error_text texts[] = {
		{ EPERM, "debugfs is closed by kernel lockdown" },
		{ EACCES, "debugfs is open to root only" },
		{ ENOENT, "debugfs is not mounted" },
		{ EXDEV, "debugfs is not read in a container, where processes have other numbers" },
		{ ESRCH, "debugfs has no directory of this VM" },
		{ 0, NULL },
	};
	const char *why = text_of(texts, vm->debugfs_error);

	text[0] = 0;
	if (why)
		snprintf(text, text_bytes, "; %s", why);
	else if (vm->debugfs_error)
		snprintf(text, text_bytes, "; debugfs could not be read: %s",
			 strerror(-vm->debugfs_error));
}

static bool shows_sums(const struct vm *vm)
{
	return vm->count && kvmstats_source_is_sum(vm->watches[0].source);
}

static size_t count_devices(const struct vm *vm)
{
	size_t count = 0;

	for (size_t i = 0; i < vm->count; i++)
		count += kvmstats_source_scope(vm->watches[i].source) ==
			 KVMSTATS_SCOPE_DEVICE;
	return count;
}

size_t vm_devices_left_out(const struct vm *vm)
{
	size_t held = vm->vmm ? kvmstats_vmm_held(vm->vmm, KVMSTATS_FD_DEVICE) : 0;
	size_t shown = count_devices(vm);

	return held > KVMSTATS_MAX_VMM_DEVICES && held > shown ? held - shown : 0;
}

int vm_problem_code(const struct vm *vm)
{
	int code = vm->vmm && kvmstats_vmm_missing(vm->vmm) ?
		   kvmstats_vmm_error(vm->vmm) - 1 : 0;

	return 2 * code + !!vm_devices_left_out(vm);
}

void vm_problem_reason(const struct vm *vm, char *text, size_t text_bytes)
{
	int error = vm->vmm ? kvmstats_vmm_error(vm->vmm) : 0;
	char debugfs[128] = "";

	text[0] = 0;
	if (!vm->vmm || !kvmstats_vmm_missing(vm->vmm))
		return;
	if (!vm->count)
		debugfs_problem(vm, debugfs, sizeof(debugfs));
	snprintf(text, text_bytes, "%s%s%s%s",
		 error && !shows_sums(vm) ? strerror(-error) : "",
		 error && !shows_sums(vm) ? ": " : "",
		 remedy(error, vm->count && !shows_sums(vm)), debugfs);
}

void vm_problem_as(const struct vm *vm, long other, char *text, size_t text_bytes)
{
	size_t missing = vm->vmm ? kvmstats_vmm_missing(vm->vmm) : 0;
	size_t left_out = vm_devices_left_out(vm), length;
	char reason[400];

	text[0] = 0;
	if (!missing && !left_out)
		return;
	snprintf(text, text_bytes, "process %ld: ", vm->pid);
	length = strlen(text);
	if (missing && shows_sums(vm))
		snprintf(text + length, text_bytes - length, "sums over vCPUs, from debugfs");
	else if (missing)
		snprintf(text + length, text_bytes - length,
			 "%s%zu of %zu descriptors are not available",
			 vm->count ? "" : "no statistics, ", missing, missing + vm->count);
	length = strlen(text);
	vm_problem_reason(vm, reason, sizeof(reason));
	if (missing && other)
		snprintf(text + length, text_bytes - length, ", for the reason of process %ld",
			 other);
	else if (missing)
		snprintf(text + length, text_bytes - length, ": %s", reason);
	length = strlen(text);
	if (left_out)
		snprintf(text + length, text_bytes - length, "%s%zu of %zu devices are shown",
			 missing ? "; " : "", count_devices(vm),
			 count_devices(vm) + left_out);
}

void vm_problem(const struct vm *vm, char *text, size_t text_bytes)
{
	vm_problem_as(vm, 0, text, text_bytes);
}

/* ---- of processes */

/* One more process that could not be inspected. */
void fleet_add_trouble(struct fleet *fleet, long pid, int error)
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
void fleet_forget_troubles(struct fleet *fleet)
{
	for (size_t i = 0; i < TROUBLES; i++)
		fleet->troubles[i].count = 0;
	fleet->hidden = 0;
}

static void trouble_text(const struct trouble *trouble, char *text,
			 size_t text_bytes)
{
	static const struct error_text texts[] = {
		{ ETIME, "no answer within 5 seconds; it will be asked again later" },
		{ EBUSY, "too many processes do not answer; no others are asked until they do" },
		{ NO_SUCH_CALL,
		  "pidfd_open is missing, or a container's system call filter refuses it" },
		{ EMFILE, "too many open files; raise the limit (ulimit -n)" },
		{ 0, NULL },
	};
	const char *why = text_of(texts, trouble->error);

	if (!why)
		why = strerror(-trouble->error);
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
void fleet_say_troubles(struct fleet *fleet)
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

/* ---- of all */

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
		say("%s: %s", vm_name(vm), text);
}

/* A VMM that begins may take its descriptors in the next moment. */
void fleet_tell_problem(struct fleet *fleet, struct vm *vm)
{
	int problem = vm_problem_code(vm);

	if (problem == vm->said)
		return;
	if (problem && !vm->seen_incomplete) {
		vm->seen_incomplete = true;
		return;
	}
	vm->said = problem;
	/* what is said of none explains nothing to the next */
	if (problem && fleet->ops->event && fleet_names(fleet, vm))
		say_problem(fleet, vm);
}

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
			 "%u process%s of other users could not be inspected; to see them, run as root or with CAP_SYS_PTRACE",
			 fleet->hidden, fleet->hidden == 1 ? "" : "es");
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
		say("%s", text);
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
		    "no VM has registered" : request->without_statistics ?
		    "no VM" : "no VM with statistics",
		    !request->guest ? "" : request->socket ? " as " : " is named ",
		    request->guest ? request->guest : "",
		    *text ? "; " : "", text);
}

int fleet_fail_list(const struct fleet *fleet)
{
	char text[512];

	fleet_trouble(fleet, text, sizeof(text));
	say("no process with a VM%s%s", *text ? "; " : "", text);
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
			    "%zu device%s not shown: of a VM that does not register, %d are the most",
			    left_out, left_out == 1 ? " is" : "s are", KVMSTATS_MAX_VMM_DEVICES);
	return STATUS_OK;
}
