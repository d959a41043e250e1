// SPDX-License-Identifier: GPL-2.0-only
/* Devices that are left out, and wait for room. */
#include <errno.h>
#include <stdlib.h>

#include "../common/log.h"
#include "sources.h"

static struct log_limit device_limit = LOG_LIMIT(20);

bool left_out(const struct vm *vm, const struct kvmstats_source *source, int error,
	      const struct settings *settings)
{
	const char *device = kvmstats_source_device(source), *who = "the VM has", *what;
	unsigned long limit;

	switch (*device ? error : 0) {
	case -E2BIG:
		what = "more or larger devices than --max-devices-per-vm allows";
		limit = settings->max_devices_per_vm;
		break;
	case -EMFILE:
		what = "as many vCPUs and devices as --max-fds-per-vm allows";
		limit = settings->max_fds_per_vm;
		break;
	case -EDQUOT:
		what = "brought as many different lists of statistics as one VM may";
		limit = KINDS_PER_VM;
		break;
	case -EUSERS:
		who = "the VMs of its user have";
		what = "devices with as many different lists of statistics as one user may";
		limit = KINDS_PER_UID;
		break;
	case -ENOSPC:
		who = "all VMs together have";
		what = "devices with as many different lists of statistics as they may";
		limit = MAX_PUBLISHED;
		break;
	default:
		return false;
	}
	log_limited(&device_limit, LOG_LEVEL_WARNING,
		    "VM \"%s\": %s:%s is left out: %s %s (%lu)", vm->key,
		    kvmstats_source_class(source), device, who, what, limit);
	return true;
}

struct kvmstats_source *stop_waiting(struct registry *registry, struct vm *vm,
				     const struct kvmstats_source *source)
{
	struct waiting *waiting = vm->waiting;

	for (size_t i = 0; waiting && i < waiting->count; i++) {
		struct kvmstats_source *old = waiting->sources[i];

		if (kvmstats_source_compare(old, source))
			continue;
		waiting->sources[i] = waiting->sources[--waiting->count];
		registry->num_waiting--;
		registry->fds--;
		return old;
	}
	return NULL;
}

bool wait_for_room(struct registry *registry, struct vm *vm,
		   struct kvmstats_source *source, int error,
		   const struct settings *settings)
{
	struct waiting *waiting = vm->waiting;
	size_t count = waiting ? waiting->count : 0;

	if (error == -EDQUOT || count >= settings->max_devices_per_vm)
		return false;
	/* no lock: besides us only the store looks at it, in this thread */
	waiting = realloc(waiting, sizeof(*waiting) + (count + 1) * sizeof(source));
	if (!waiting)
		return false;
	waiting->count = count + 1;
	waiting->sources[count] = source;
	vm->waiting = waiting;
	registry->num_waiting++;
	registry->fds++;
	return true;
}
