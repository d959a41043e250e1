// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "text.h"

void identity_free(struct identity *identity)
{
	free(identity->name);
	free(identity->uuid);
}

static int make_labels(struct vm *vm)
{
	FILE *out = open_memstream(&vm->labels.bytes, &vm->labels.length);

	if (!out)
		return -ENOMEM;
	fputs("{vm=\"", out);
	escape_label(out, vm->key);
	fputs("\"} ", out);
	return fclose(out) ? -ENOMEM : 0;
}

static void put_label(FILE *out, const char *name, const char *value)
{
	fprintf(out, ",%s=\"", name);
	escape_label(out, value);
	fputc('"', out);
}

/* Seconds since 1970 at which the process began, "" if it is not known. */
static void start_text(char text[24], uint64_t start_ticks)
{
	double since_boot_s = (double)start_ticks / sysconf(_SC_CLK_TCK);
	struct timespec wall, boot;

	*text = 0;
	if (!start_ticks)
		return;
	clock_gettime(CLOCK_REALTIME, &wall);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	snprintf(text, 24, "%.0f", since_boot_s + (wall.tv_sec - boot.tv_sec) +
		 (wall.tv_nsec - boot.tv_nsec) / 1e9);
}

static int make_info(struct vm *vm)
{
	const struct identity *identity = &vm->identity;
	char start[24];
	FILE *out;

	out = open_memstream(&vm->info.bytes, &vm->info.length);
	if (!out)
		return -ENOMEM;
	start_text(start, identity->start_ticks);
	fprintf(out, "kvm_vm_info%.*s", (int)vm->labels.length - 2,
		vm->labels.bytes);
	put_label(out, "name", identity->name);
	put_label(out, "uuid", identity->uuid);
	fprintf(out, ",pid=\"%d\",start_time=\"%s\",uid=\"%u\",registered_by=\"%s\"",
		identity->pid, start, identity->uid,
		identity->on_behalf ? "helper" : "vmm");
	put_label(out, "id", vm->id);
	fputs("} 1\n", out);
	return fclose(out) ? -ENOMEM : 0;
}

/*
 * "kvm-4711/vcpu-0" names the process that made the VM. Once, before a scrape
 * can meet the VM: the line does not change under its eyes.
 */
int vm_set_id(struct vm *vm, const struct kvmstats_source *source)
{
	const char *id = kvmstats_source_id(source);

	if (vm->info.bytes)
		return 0;
	snprintf(vm->id, sizeof(vm->id), "%.*s", (int)strcspn(id, "/"), id);
	return make_info(vm);
}

/* Takes over @identity's texts and @key. */
struct vm *vm_new(struct identity *identity, char *key)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm || !key) {
		free(vm);
		free(key);
		identity_free(identity);
		return NULL;
	}
	vm->refs = 1;
	vm->identity = *identity;
	vm->key = key;
	vm->since_ns = clock_ns();
	if (!make_labels(vm))
		return vm;
	vm_unref(vm);
	return NULL;
}

/* The labels of all series of a descriptor, in one piece of memory. */
struct text *vm_labels(const struct vm *vm, int vcpu)
{
	/* the bracket and the blank are written anew behind the number */
	size_t length = vm->labels.length, room = length + 32;
	struct text *labels = malloc(sizeof(*labels) + room);

	if (!labels)
		return NULL;
	labels->bytes = (char *)(labels + 1);
	memcpy(labels->bytes, vm->labels.bytes, length);
	if (vcpu >= 0)
		length += -2 + snprintf(labels->bytes + length - 2, room - length,
					",vcpu=\"%d\"} ", vcpu);
	labels->length = length;
	return labels;
}

struct vm *vm_ref(struct vm *vm)
{
	vm->refs++;
	return vm;
}

void vm_unref(struct vm *vm)
{
	if (!vm || --vm->refs)
		return;
	for (size_t i = 0; i < vm->count; i++) {
		kvmstats_source_close(vm->entries[i].source);
		free(vm->entries[i].labels);
	}
	free(vm->entries);
	identity_free(&vm->identity);
	free(vm->key);
	free(vm->labels.bytes);
	free(vm->info.bytes);
	free(vm);
}
