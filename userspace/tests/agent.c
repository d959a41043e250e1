// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../kvmstatd/sources.h"
#include "agent.h"

struct vm *agent_add_vm(struct registry *registry, const char *name, int pid)
{
	const struct filters all = { 0 };
	struct identity identity = {
		.name = strdup(name), .uuid = strdup("00-11"), .pid = pid,
		.uid = 107, .gid = 108, .start_ms = 1795649254120,
	};
	struct vm *vm;

	assert_int_equal(registry_add(registry, &identity, NULL, &all, &vm), 0);
	return vm;
}

int agent_add(struct registry *registry, struct vm *vm,
	      struct kvmstats_source *source, const struct settings *settings)
{
	bool changed;

	uint64_t rejected = registry->counters.fds_rejected;
	int ret = registry_add_sources(registry, vm, &source, 1, settings, &changed);

	/* a device that is left out is no error of the VM's */
	return !ret && registry->counters.fds_rejected > rejected ? -ENOSPC : ret;
}

void agent_remove(struct registry *registry, struct vm *vm)
{
	registry_remove(registry, vm);
	vm_unref(vm);
}

char *agent_text(struct registry *registry, enum exposition format,
		 const struct settings *settings, size_t room)
{
	struct scrape *scrape = scrape_new(registry, format, settings);
	size_t size_bytes = 0, length;
	char *text = NULL;

	assert_non_null(scrape);
	do {
		text = realloc(text, size_bytes + room + 1);
		assert_non_null(text);
		length = scrape_read(scrape, text + size_bytes, room);
		assert_true(length <= room);
		size_bytes += length;
	} while (length);
	text[size_bytes] = 0;
	scrape_free(scrape);
	return text;
}

struct kvmstats_source *made(const struct image *image)
{
	struct kvmstats_source *source;

	assert_int_equal(image_open(image, &source), 0);
	return source;
}

bool has(const char *text, const char *line)
{
	if (strstr(text, line))
		return true;
	print_error("no \"%s\" in\n%s\n", line, text);
	return false;
}
