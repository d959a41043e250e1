// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "entry.h"

/*
 * The labels of all series of a descriptor, in one piece of memory; behind them
 * class and name of a device.
 */
int entry_make_labels(const struct vm *vm, struct entry *entry)
{
	/* the bracket and the blank are written anew behind the number or name */
	size_t length = vm->labels.length;
	size_t room = length + 32 + 2 * strlen(entry->device);
	size_t class_bytes = strlen(entry->class_name) + 1;
	struct text *labels = malloc(sizeof(*labels) + room + class_bytes +
				     strlen(entry->device) + 1);
	char *out, *names;

	if (!labels)
		return -ENOMEM;
	labels->bytes = (char *)(labels + 1);
	names = labels->bytes + room;
	memcpy(labels->bytes, vm->labels.bytes, length);
	out = labels->bytes + length - 2;
	if (entry->vcpu >= 0) {
		out += sprintf(out, ",vcpu=\"%d\"} ", entry->vcpu);
	} else if (*entry->device) {
		out += sprintf(out, ",device=\"");
		/* as escape_label does: it has no line ends */
		for (const char *p = entry->device; *p; p++) {
			if (*p == '"' || *p == '\\')
				*out++ = '\\';
			*out++ = *p;
		}
		out += sprintf(out, "\"} ");
	} else {
		out += 2;
	}
	labels->length = out - labels->bytes;
	entry->class_name = strcpy(names, entry->class_name);
	entry->device = strcpy(names + class_bytes, entry->device);
	entry->labels = labels;
	return 0;
}

static int entry_scope(const struct entry *entry)
{
	if (*entry->device)
		return KVMSTATS_SCOPE_DEVICE;
	return entry->vcpu < 0 ? KVMSTATS_SCOPE_VM : KVMSTATS_SCOPE_VCPU;
}

/* As kvmstats_source_compare: an entry may have lost its source. */
static int compare_entries(const struct entry *a, const struct entry *b)
{
	int x = entry_scope(a), y = entry_scope(b);

	if (x == y) {
		x = a->vcpu;
		y = b->vcpu;
	}
	if (x != y)
		return x < y ? -1 : 1;
	x = strcmp(a->class_name, b->class_name);
	return x ? x : strcmp(a->device, b->device);
}

size_t entry_position(const struct vm *vm, const struct entry *entry,
		      bool *present)
{
	size_t low = 0, high = vm->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_entries(&vm->entries[middle], entry) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*present = low < vm->count &&
		   !compare_entries(&vm->entries[low], entry);
	return low;
}

int entry_insert(struct vm *vm, size_t position,
		 const struct entry *entry)
{
	struct entry *entries = realloc(vm->entries, (vm->count + 1) *
					sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	vm->entries = entries;
	memmove(entries + position + 1, entries + position,
		(vm->count - position) * sizeof(*entries));
	entries[position] = *entry;
	vm->count++;
	return 0;
}
