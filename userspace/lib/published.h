/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Statistics that a program publishes in KVM's format (docs/format.md): what
 * both sides have to agree upon. A reader trusts nothing of them.
 */
#ifndef KVMSTATS_LIB_PUBLISHED_H
#define KVMSTATS_LIB_PUBLISHED_H

#include <string.h>

#include "internal.h"

#define PUBLISHED_FILE		"kvmstats:"	/* begins the memory file's name */
#define PUBLISHED_NAME_SIZE	128u		/* bytes of a name, NUL included */

/* Of which device the values are; both "" for the kernel's own statistics. */
struct published_name {
	char class_name[KVMSTATS_MAX_CLASS + 1];
	char device[KVMSTATS_MAX_DEVICE + 1];
};

/* What /proc/self/fd says is the name of such a file. */
static inline bool published_link(const char *link)
{
	static const char start[] = "/memfd:" PUBLISHED_FILE;

	return !strncmp(link, start, sizeof(start) - 1);
}

/* 0, or -ENODEV: a read could block, or the size could change. */
int published_check_file(int fd);
/*
 * The first @size_bytes of such a file, to be read without a system call, or NULL:
 * it could get holes, which a read of the mapping would fill at our expense, it is
 * larger than any device needs, or the process has its share of mappings already.
 */
#define PUBLISHED_MAX_MAP	(256u << 10)
#define PUBLISHED_MAX_MAPS	4096u
const void *published_map(int fd, size_t size_bytes);
void published_unmap(const void *map, size_t size_bytes);
/* Before anything that the header asks for is allocated. */
int published_check_header(const struct uapi_header *header);
int published_check_schema(const struct kvmstats_schema *schema);
/* "kvm-4711/block:drive0"; -EPROTO for another text. */
int published_name_from_id(const char *id, struct published_name *name);
bool published_class_ok(const char *class_name);
bool published_device_ok(const char *device);

#endif /* KVMSTATS_LIB_PUBLISHED_H */
