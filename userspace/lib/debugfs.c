// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A VM's directory in debugfs, as a source: a file for each statistic, with one
 * number, which for those of vCPUs is the sum over all of them. For VMs whose
 * statistics descriptors cannot be had.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

#define NAME_BYTES	48
#define STATS_MAX	1024
#define ID_OFFSET	sizeof(struct uapi_header)
#define DESCS_OFFSET	(ID_OFFSET + NAME_BYTES)
#define STRIDE		(sizeof(struct uapi_desc) + NAME_BYTES)

/* The number in the file, 0 or -errno; -EINVAL if it is none. */
static int read_number(int dir_fd, const char *name, uint64_t *number)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char text[32], *end;
	ssize_t length;

	if (fd < 0)
		return -errno;
	length = read(fd, text, sizeof(text) - 1);
	if (length < 0)
		length = -errno;
	close(fd);
	if (length < 0)
		return length;
	text[length] = 0;
	*number = strtoull(text, &end, 10);
	return end != text && (!*end || *end == '\n') ? 0 : -EINVAL;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/*
 * Those that the kernel lets be reset (they are writable) count; the others go
 * up and down.
 */
static int add_desc(int dir_fd, const char *name, unsigned char *image,
		    uint32_t index)
{
	struct uapi_desc desc = { .size = 1, .offset = 8 * index };
	unsigned char *place = image + DESCS_OFFSET + index * STRIDE;
	struct stat st;
	uint64_t number;
	int ret;

	if (strlen(name) >= NAME_BYTES || fstatat(dir_fd, name, &st, 0) < 0 ||
	    !S_ISREG(st.st_mode))
		return -EINVAL;
	ret = read_number(dir_fd, name, &number);
	if (ret)
		return ret;
	desc.flags = st.st_mode & 0200 ? KVMSTATS_CUMULATIVE : KVMSTATS_INSTANT;
	memcpy(place, &desc, sizeof(desc));
	strcpy((char *)place + sizeof(desc), name);
	return 0;
}

/* What a statistics descriptor would say of the same. */
static int make_image(int dir_fd, const char *id, char **names, size_t count,
		      unsigned char *image, size_t *size_bytes)
{
	struct uapi_header header = {
		.name_size = NAME_BYTES, .id_offset = ID_OFFSET,
		.desc_offset = DESCS_OFFSET,
	};
	int ret, refused = 0;

	for (size_t i = 0; i < count; i++) {
		ret = add_desc(dir_fd, names[i], image, header.num_desc);
		if (!ret)
			header.num_desc++;
		else if (ret == -EPERM || ret == -EACCES)
			refused = ret;
	}
	/* what lockdown leaves of them, one or two, is not the VM's statistics */
	if (refused || !header.num_desc)
		return refused ? refused : -ENODATA;
	header.data_offset = DESCS_OFFSET + header.num_desc * STRIDE;
	memcpy(image, &header, sizeof(header));
	snprintf((char *)image + ID_OFFSET, NAME_BYTES, "%s", id);
	*size_bytes = header.data_offset + 8 * header.num_desc;
	return 0;
}

static size_t list_names(DIR *dir, char **names)
{
	struct dirent *entry;
	size_t count = 0;

	while (count < STATS_MAX && (entry = readdir(dir)))
		if (*entry->d_name != '.') {
			names[count] = strdup(entry->d_name);
			count += !!names[count];
		}
	qsort(names, count, sizeof(*names), by_name);
	return count;
}

int kvmstats_source_open_debugfs(const char *path, struct kvmstats_cache *cache,
				 struct kvmstats_source **source)
{
	const char *slash = strrchr(path, '/');
	char id[NAME_BYTES], **names;
	unsigned char *image;
	size_t count = 0, size_bytes;
	DIR *dir = opendir(path);
	int ret = -ENOMEM;

	if (!dir)
		return -errno;
	snprintf(id, sizeof(id), DEBUGFS_ID "%.38s", slash ? slash + 1 : path);
	names = calloc(STATS_MAX, sizeof(*names));
	image = calloc(1, DESCS_OFFSET + STATS_MAX * (STRIDE + 8));
	if (names && image) {
		count = list_names(dir, names);
		ret = make_image(dirfd(dir), id, names, count, image,
				 &size_bytes);
	}
	if (!ret)
		ret = kvmstats_source_open_image(image, size_bytes, cache,
						 source);
	if (!ret)
		source_set_directory(*source, dir);
	else
		closedir(dir);
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	free(names);
	free(image);
	return ret;
}

int debugfs_sample(int dir_fd, const struct kvmstats_schema *schema,
		   uint64_t *sample)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < kvmstats_schema_count(schema); i++) {
		const struct kvmstats_desc *desc = kvmstats_schema_desc(schema,
									i);

		ret = read_number(dir_fd, kvmstats_desc_name(desc),
				  &sample[kvmstats_desc_word(desc)]);
	}
	return ret;
}
