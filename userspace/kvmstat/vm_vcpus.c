// SPDX-License-Identifier: GPL-2.0-only
/* VMs whose vCPUs are all in one descriptor: one read is a sample of all. */
#include <errno.h>
#include <stdlib.h>

#include "vm.h"

#define FIRST_ROOM 16

static size_t record_words(const struct vcpus *vcpus)
{
	return kvmstats_vcpus_record_words(vcpus->all);
}

static const uint64_t *values_of(const struct vcpus *vcpus, size_t index)
{
	return kvmstats_vcpus_values(vcpus->all, vcpus->records +
				     index * record_words(vcpus));
}

static int make_room(struct vcpus *vcpus)
{
	size_t room = vcpus->room ? 2 * vcpus->room : FIRST_ROOM;
	uint64_t *records = realloc(vcpus->records, room * record_words(vcpus) *
				    sizeof(*records));

	if (!records)
		return -ENOMEM;
	vcpus->records = records;
	vcpus->room = room;
	return 0;
}

/* The number of records, or -errno; one that fills its room may not be the last. */
static int read_records(struct vcpus *vcpus)
{
	int ret, count = -1;

	for (;;) {
		if (!vcpus->room || (size_t)count == vcpus->room) {
			ret = make_room(vcpus);
			if (ret)
				return ret;
		}
		count = kvmstats_vcpus_sample(vcpus->all, vcpus->records,
					      vcpus->room * record_words(vcpus));
		if (count < 0 || (size_t)count < vcpus->room)
			return count;
	}
}

static int add_vcpu(struct vm *vm, struct vcpus *vcpus, uint64_t now_ns)
{
	struct kvmstats_source *source;
	struct watch watch;
	int ret = kvmstats_vcpus_source(vcpus->all, vcpus->count, &source);

	if (ret)
		return ret;
	ret = watch_open(&watch, source, values_of(vcpus, vcpus->count), now_ns,
			 vcpus->read_ns);
	if (ret) {
		free(watch.memory);
		kvmstats_source_close(source);
		return ret;
	}
	watch.owned = true;
	watch.fd = vcpus->fd;
	watch.all = vcpus->all;
	watch.index = vcpus->count;
	ret = vm_append(vm, &watch);
	if (!ret)
		vcpus->count++;
	return ret;
}

/*
 * Of @count records those that have no watch yet: the vCPU has been created since the
 * last read, and all that it has counted belongs to this interval.
 */
static int add_new(struct vm *vm, struct vcpus *vcpus, int count,
		   uint64_t now_ns)
{
	int ret = 0;

	while (!ret && vcpus->count < (size_t)count)
		ret = add_vcpu(vm, vcpus, now_ns);
	return ret;
}

static void sample_vcpus(struct vm *vm, struct vcpus *vcpus)
{
	int count = read_records(vcpus);
	uint64_t now_ns = clock_ns();

	if (count < 0 || (size_t)count < vcpus->count) {
		vcpus_fail(vm, vcpus->all, count < 0 ? count : -EIO);
		return;
	}
	for (size_t i = 0; i < vm->count; i++) {
		struct watch *watch = &vm->watches[i];

		if (watch->all == vcpus->all)
			watch_take(watch, values_of(vcpus, watch->index), now_ns);
	}
	/* without memory for one, the next sample has it */
	add_new(vm, vcpus, count, now_ns);
	vcpus->read_ns = now_ns;
}

void vcpus_sample(struct vm *vm)
{
	for (size_t i = 0; i < vm->vcpus_count; i++)
		sample_vcpus(vm, &vm->vcpus[i]);
}

int vcpus_refresh(struct vm *vm)
{
	int ret = 0;

	for (size_t i = 0; i < vm->vcpus_count && !ret; i++) {
		struct vcpus *vcpus = &vm->vcpus[i];
		int count = read_records(vcpus);

		ret = count < 0 ? count :
		      add_new(vm, vcpus, count, clock_ns());
	}
	return ret;
}

static void end(struct vcpus *vcpus)
{
	if (vcpus->owned)
		kvmstats_source_close(vcpus->all);
	free(vcpus->records);
}

int vm_add_vcpus(struct vm *vm, struct kvmstats_source *all, long fd, bool owned)
{
	struct vcpus *list = realloc(vm->vcpus, (vm->vcpus_count + 1) *
				     sizeof(*list));
	struct vcpus *vcpus;
	int count, ret;

	if (!list) {
		if (owned)
			kvmstats_source_close(all);
		return -ENOMEM;
	}
	vm->vcpus = list;
	vcpus = &list[vm->vcpus_count];
	*vcpus = (struct vcpus){ .all = all, .fd = fd, .owned = owned };
	count = read_records(vcpus);
	if (count < 0) {
		end(vcpus);
		return count;
	}
	vm->vcpus_count++;
	ret = add_new(vm, vcpus, count, clock_ns());
	vcpus->read_ns = clock_ns();
	return ret;
}

bool vm_has_vcpus(const struct vm *vm, const struct kvmstats_source *all)
{
	for (size_t i = 0; i < vm->vcpus_count; i++)
		if (vm->vcpus[i].all == all)
			return true;
	return false;
}

void vcpus_fail(struct vm *vm, const struct kvmstats_source *all, int error)
{
	for (size_t i = 0; i < vm->count; i++)
		if (vm->watches[i].all == all)
			vm->watches[i].error = error;
	for (size_t i = 0; i < vm->vcpus_count; i++)
		if (vm->vcpus[i].all == all)
			vm->vcpus[i].error = error;
}

void vcpus_drop(struct vm *vm, bool all)
{
	size_t kept = 0;

	for (size_t i = 0; i < vm->vcpus_count; i++) {
		if (all || vm->vcpus[i].error)
			end(&vm->vcpus[i]);
		else
			vm->vcpus[kept++] = vm->vcpus[i];
	}
	vm->vcpus_count = kept;
}
