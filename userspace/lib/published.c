// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "published.h"

#define TMPFS_MAGIC_NUMBER	0x01021994
#define NEEDED_SEALS		(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)

/*
 * Only files in memory have seals, and asking for them waits for nobody. The
 * file system is asked then: huge pages are another one.
 */
int published_check_file(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct statfs fs;

	if (seals < 0 || (seals & NEEDED_SEALS) != NEEDED_SEALS)
		return -ENODEV;
	if (fstatfs(fd, &fs) < 0)
		return -errno;
	return fs.f_type == TMPFS_MAGIC_NUMBER ? 0 : -ENODEV;
}

/* A process has 65530 mappings unless vm.max_map_count says otherwise. */
static atomic_uint maps;

/*
 * Its memory is there, and can neither be cut off nor given back. Its blocks do not
 * say so, as there can be some beyond its end. Holes are looked for in an open file
 * of our own: the position of this one is shared with the publisher.
 */
static bool has_all_its_memory(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS), own_fd;
	char path[sizeof("/proc/self/fd/-2147483648")];
	struct stat st;
	bool good;

	/* the others have been checked, and none can be added or taken away */
	if (seals < 0 || !(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (own_fd < 0)
		return false;
	good = !fstat(own_fd, &st) && lseek(own_fd, 0, SEEK_HOLE) >= st.st_size;
	close(own_fd);
	return good;
}

const void *published_map(int fd, size_t size_bytes)
{
	void *map;

	if (size_bytes > PUBLISHED_MAX_MAP || !has_all_its_memory(fd))
		return NULL;
	if (atomic_fetch_add(&maps, 1) < PUBLISHED_MAX_MAPS) {
		map = mmap(NULL, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
		if (map != MAP_FAILED)
			return map;
	}
	atomic_fetch_sub(&maps, 1);
	return NULL;
}

void published_unmap(const void *map, size_t size_bytes)
{
	munmap((void *)map, size_bytes);
	atomic_fetch_sub(&maps, 1);
}

int published_check_header(const struct uapi_header *header)
{
	if (header->name_size > PUBLISHED_NAME_SIZE ||
	    header->num_desc > KVMSTATS_MAX_PUBLISHED_STATS)
		return -E2BIG;
	return 0;
}

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* A word of small letters, digits and maybe underscores. */
static bool word_ok(const char *word, size_t max, bool underscores)
{
	size_t length = strnlen(word, max + 1);

	if (!length || length > max || !is_lower(*word))
		return false;
	for (size_t i = 0; i < length; i++)
		if (!is_lower(word[i]) && !is_digit(word[i]) &&
		    !(underscores && word[i] == '_'))
			return false;
	return true;
}

/* vm and vcpu are the kernel's to count. */
bool published_class_ok(const char *class_name)
{
	return word_ok(class_name, KVMSTATS_MAX_CLASS, false) &&
	       strcmp(class_name, "vm") && strcmp(class_name, "vcpu");
}

bool published_device_ok(const char *device)
{
	size_t length = strnlen(device, KVMSTATS_MAX_DEVICE + 1);

	if (!length || length > KVMSTATS_MAX_DEVICE)
		return false;
	for (size_t i = 0; i < length; i++)
		if (device[i] < 0x20 || device[i] > 0x7e)
			return false;
	return true;
}

#define LOG_BUCKETS	65	/* all that a u64 has */

/*
 * Names of metrics are made of these: all of another shape would need care. Buckets
 * that no value has would have equal bounds.
 */
int published_check_schema(const struct kvmstats_schema *schema)
{
	size_t count = schema->header.num_desc;

	if (schema->words > KVMSTATS_MAX_PUBLISHED_WORDS)
		return -E2BIG;
	for (size_t i = 0; i < count; i++) {
		const char *name = schema->descs[schema->by_name[i]].name;
		const struct kvmstats_desc *desc = &schema->descs[i];

		if (!word_ok(name, KVMSTATS_MAX_STAT_NAME, true))
			return -EPROTO;
		if (kvmstats_desc_type(desc) == KVMSTATS_LOG_HIST &&
		    desc->size > LOG_BUCKETS)
			return -EPROTO;
		if (i && !strcmp(name,
				 schema->descs[schema->by_name[i - 1]].name))
			return -EPROTO;
	}
	return 0;
}

int published_name_from_id(const char *id, struct published_name *name)
{
	const char *slash = strchr(id, '/');
	const char *colon = slash ? strchr(slash, ':') : NULL;
	size_t length = colon ? colon - slash - 1 : 0;

	if (strncmp(id, "kvm-", 4) || !length || length > KVMSTATS_MAX_CLASS ||
	    strspn(id + 4, "0123456789") != (size_t)(slash - id) - 4)
		return -EPROTO;
	memcpy(name->class_name, slash + 1, length);
	name->class_name[length] = 0;
	if (!published_class_ok(name->class_name) ||
	    !published_device_ok(colon + 1))
		return -EPROTO;
	strcpy(name->device, colon + 1);
	return 0;
}
