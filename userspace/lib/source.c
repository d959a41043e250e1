// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "finder.h"
#include "source.h"

/* What /proc/self/fd says of a statistics descriptor; -ENODEV for others. */
int scope_from_link(const char *link, int *vcpu)
{
	struct kvm_file file;

	*vcpu = -1;
	if (!kvm_file_from_link(link, &file) ||
	    (file.kind != KVMSTATS_FD_VM_STATS &&
	     file.kind != KVMSTATS_FD_VCPU_STATS))
		return -ENODEV;
	*vcpu = file.vcpu;
	return 0;
}

/* What a descriptor is, before it is read. */
struct kind {
	int vcpu;
	bool published, all_vcpus;
};

static int check_link(int fd, struct kind *kind)
{
	char path[sizeof("/proc/self/fd/-2147483648")];
	char link[64];		/* as much as is needed to tell */
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, link, sizeof(link) - 1);
	if (length < 0)
		return -errno;
	link[length] = 0;
	*kind = (struct kind){
		.vcpu = -1, .published = published_link(link),
		.all_vcpus = !strcmp(link, VCPUS_LINK),
	};
	return kind->published || kind->all_vcpus ? 0 :
	       scope_from_link(link, &kind->vcpu);
}

/*
 * All that can be known without reading, which could block. The order counts:
 * fstatfs asks the file system, and a file system in userspace may never
 * answer. The name is the kernel's own and no path can look like it, as a
 * path starts with a slash; but for that of a file in memory, which has seals.
 */
static int check_kind(int fd, struct kind *kind)
{
	int flags = fcntl(fd, F_GETFL);
	struct statfs fs;
	int ret;

	if (flags < 0)
		return -errno;
	if (flags & O_PATH)
		return -ENODEV;
	ret = check_link(fd, kind);
	if (ret)
		return ret;
	if (kind->published)
		return (flags & O_ACCMODE) == O_WRONLY ? -ENODEV :
		       published_check_file(fd);
	if ((flags & O_ACCMODE) != O_RDONLY)
		return -ENODEV;
	if (fstatfs(fd, &fs) < 0)
		return -errno;
	return fs.f_type == UAPI_ANON_INODE_MAGIC ? 0 : -ENODEV;
}

static ssize_t pread_image(const struct kvmstats_source *source, void *buffer,
			   size_t size_bytes, uint64_t offset)
{
	if (offset >= source->more->image_bytes)
		return 0;
	if (size_bytes > source->more->image_bytes - offset)
		size_bytes = source->more->image_bytes - offset;
	memcpy(buffer, source->more->image + offset, size_bytes);
	return size_bytes;
}

ssize_t source_pread(const struct kvmstats_source *source, void *buffer,
		     size_t size_bytes, uint64_t offset)
{
	const struct kvmstats_source *file = source->more->all ? source->more->all : source;
	ssize_t length;

	if (file->more->image)
		return pread_image(file, buffer, size_bytes, offset);
	do {
		length = pread(file->fd, buffer, size_bytes, offset);
	} while (length < 0 && errno == EINTR);
	return length < 0 ? -errno : length;
}

/* All of it or -EPROTO. */
static int pread_whole(const struct kvmstats_source *source, void *buffer,
		       size_t size_bytes, uint64_t offset)
{
	ssize_t length;

	if (!size_bytes)
		return 0;
	length = source_pread(source, buffer, size_bytes, offset);
	if (length < 0)
		return length;
	return (size_t)length == size_bytes ? 0 : -EPROTO;
}

static int read_id(struct kvmstats_source *source,
		   const struct uapi_header *header)
{
	char bytes[KVMSTATS_MAX_NAME_SIZE], id[KVMSTATS_MAX_NAME_SIZE];
	int ret = pread_whole(source, bytes, header->name_size,
			      header->id_offset);

	if (!ret)
		ret = id_from_uapi(bytes, header, id);
	if (ret)
		return ret;
	/* there is one for each vCPU, and the field is mostly empty */
	source->id = strdup(id);
	return source->id ? 0 : -ENOMEM;
}

static int read_schema(struct kvmstats_source *source,
		       const struct uapi_header *header,
		       struct kvmstats_cache *cache)
{
	size_t size_bytes = descs_size_bytes(header);
	void *descs = malloc(size_bytes + 1);
	int ret;

	if (!descs)
		return -ENOMEM;
	ret = pread_whole(source, descs, size_bytes, header->desc_offset);
	if (!ret)
		ret = cache_get(cache, header, descs, source->published,
				&source->schema);
	free(descs);
	return ret;
}

/* A schema that promises more than there is fails here, not at a sample. */
static int try_sample(const struct kvmstats_source *source)
{
	bool all = source_has_records(source);
	size_t words = all ? source->more->records.words : source->schema->words;
	uint64_t *sample = malloc(words * 8 + 1);
	int ret;

	if (!sample)
		return -ENOMEM;
	ret = all ? kvmstats_vcpus_sample(source, sample, words) :
	      kvmstats_source_sample(source, sample, words);
	free(sample);
	return ret == -EIO ? -EPROTO : ret < 0 ? ret : 0;
}

static int load_header(struct kvmstats_source *source, bool all_vcpus,
		       struct uapi_header *header)
{
	unsigned char bytes[sizeof(struct uapi_vcpus_header)];
	size_t size_bytes = all_vcpus ? sizeof(bytes) :
			    sizeof(struct uapi_header);
	int ret = pread_whole(source, bytes, size_bytes, 0);

	if (ret)
		return ret;
	return all_vcpus ? vcpus_header_from_uapi(bytes, header,
						  &source->more->records) :
	       header_from_uapi(bytes, header);
}

/* -EPROTO: the identification is no device's */
static int take_name(struct kvmstats_source *source)
{
	struct published_name name;
	int ret = published_name_from_id(source->id, &name);

	if (ret)
		return ret;
	source->more->name = malloc(sizeof(name));
	if (!source->more->name)
		return -ENOMEM;
	*source->more->name = name;
	return 0;
}

static int load(struct kvmstats_source *source, bool all_vcpus,
		struct kvmstats_cache *cache)
{
	struct uapi_header header;
	int ret = load_header(source, all_vcpus, &header);

	if (!ret && source->published)
		ret = published_check_header(&header);
	if (!ret)
		ret = read_id(source, &header);
	if (!ret && source->published)
		ret = take_name(source);
	if (!ret)
		ret = read_schema(source, &header, cache);
	if (!ret && all_vcpus)
		ret = check_records(source->schema, &source->more->records);
	return ret ? ret : try_sample(source);
}

static uint64_t image_size(const struct kvmstats_source *source)
{
	const struct kvmstats_schema *schema = source->schema;
	const struct uapi_header *header = &schema->header;
	uint64_t end = source_has_records(source) ? vcpus_end(source) :
		       header->data_offset + (uint64_t)schema->words * 8;
	uint64_t id_end = (uint64_t)header->id_offset + header->name_size;
	uint64_t desc_end = header->desc_offset + descs_size_bytes(header);

	if (end < id_end)
		end = id_end;
	return end < desc_end ? desc_end : end;
}

struct source_more source_nothing_more;

struct kvmstats_source *source_new(int fd, int vcpu, bool has_more)
{
	struct kvmstats_source *source = calloc(1, sizeof(*source));

	if (!source)
		return NULL;
	source->more = has_more ? calloc(1, sizeof(*source->more)) :
		       &source_nothing_more;
	if (!source->more) {
		free(source);
		return NULL;
	}
	atomic_init(&source->refs, 1);
	source->fd = fd;
	source->vcpu = vcpu;
	return source;
}

static void source_free(struct kvmstats_source *source)
{
	kvmstats_schema_unref(source->schema);
	free(source->id);
	free(source->more->name);
	if (source->mapped)
		published_unmap(source->more->image, source->more->image_bytes);
	else
		free((void *)source->more->image);
	if (source->more != &source_nothing_more)
		free(source->more);
	free(source);
}

/* All that there is to read has been read once, so that the file is as long. */
static void map_file(struct kvmstats_source *source)
{
	size_t size_bytes = image_size(source);

	source->more->image = published_map(source->fd, size_bytes);
	source->more->image_bytes = size_bytes;
	source->mapped = source->more->image;
}

static int load_fd(int fd, const struct kind *kind,
		   struct kvmstats_cache *cache, struct kvmstats_source **result)
{
	struct kvmstats_source *source =
		source_new(fd, kind->vcpu, kind->published || kind->all_vcpus);
	int ret;

	if (!source)
		return -ENOMEM;
	source->published = kind->published;
	ret = load(source, kind->all_vcpus, cache);
	if (ret) {
		source_free(source);
		return ret;
	}
	if (source->published)
		map_file(source);
	*result = source;
	return 0;
}

int source_load(int fd, int vcpu, struct kvmstats_cache *cache,
		struct kvmstats_source **source)
{
	const struct kind kind = { .vcpu = vcpu };

	return load_fd(fd, &kind, cache, source);
}

int source_load_vcpus(int fd, struct kvmstats_cache *cache,
		      struct kvmstats_source **source)
{
	const struct kind kind = { .vcpu = -1, .all_vcpus = true };

	return load_fd(fd, &kind, cache, source);
}

/*
 * No read of a statistics descriptor waits, but only this tells mainline's
 * io_uring, which would otherwise leave each read to a thread of its own, at
 * several times the price.
 */
void source_never_wait(const struct kvmstats_source *source)
{
	atomic_bool *done;
	int flags;

	if (source->more->all)
		source = source->more->all;
	done = (atomic_bool *)&source->never_waits;
	if (source->fd < 0 || atomic_exchange(done, true))
		return;
	flags = fcntl(source->fd, F_GETFL);
	if (flags >= 0)
		fcntl(source->fd, F_SETFL, flags | O_NONBLOCK);
}

int kvmstats_source_open(int fd, struct kvmstats_cache *cache,
			 struct kvmstats_source **result)
{
	struct kind kind;
	int ret = check_kind(fd, &kind);

	if (!ret && kind.all_vcpus)
		ret = -ENODEV;
	return ret ? ret : load_fd(fd, &kind, cache, result);
}

int kvmstats_vcpus_open(int fd, struct kvmstats_cache *cache,
			struct kvmstats_source **result)
{
	struct kind kind;
	int ret = check_kind(fd, &kind);

	if (!ret && !kind.all_vcpus)
		ret = -ENODEV;
	return ret ? ret : load_fd(fd, &kind, cache, result);
}

int source_open_any(int fd, struct kvmstats_cache *cache,
		    struct kvmstats_source **result)
{
	struct kind kind;
	int ret = check_kind(fd, &kind);

	return ret ? ret : load_fd(fd, &kind, cache, result);
}

/* "kvm-4711/vcpu-3": the number behind the slash. */
static int vcpu_from_id(const char *id)
{
	const char *slash = strstr(id, "/vcpu-");

	return slash ? parse_int(slash + strlen("/vcpu-")) : -1;
}

static int load_image(const void *image, size_t size_bytes, bool all_vcpus,
		      struct kvmstats_cache *cache,
		      struct kvmstats_source **result)
{
	struct kvmstats_source *source = source_new(-1, -1, true);
	void *copy;
	int ret;

	if (!source)
		return -ENOMEM;
	source->more->image_bytes = size_bytes;
	copy = malloc(size_bytes + 1);
	if (!copy) {
		source_free(source);
		return -ENOMEM;
	}
	if (size_bytes)
		memcpy(copy, image, size_bytes);
	source->more->image = copy;
	ret = load(source, all_vcpus, cache);
	if (ret) {
		source_free(source);
		return ret;
	}
	source->vcpu = vcpu_from_id(source->id);
	/* any other is the kernel's, or a directory's */
	ret = take_name(source);
	if (ret == -ENOMEM) {
		source_free(source);
		return ret;
	}
	*result = source;
	return 0;
}

int kvmstats_source_open_image(const void *image, size_t size_bytes,
			       struct kvmstats_cache *cache,
			       struct kvmstats_source **result)
{
	return load_image(image, size_bytes, false, cache, result);
}

int kvmstats_vcpus_open_image(const void *image, size_t size_bytes,
			      struct kvmstats_cache *cache,
			      struct kvmstats_source **result)
{
	return load_image(image, size_bytes, true, cache, result);
}

void kvmstats_source_close(struct kvmstats_source *source)
{
	struct kvmstats_source *all;

	if (!source)
		return;
	/* acq_rel: the last one closes what the others have finished reading */
	if (atomic_fetch_sub_explicit(&source->refs, 1,
				      memory_order_acq_rel) != 1)
		return;
	all = source->more->all;
	if (source->fd >= 0)
		close(source->fd);
	if (source->more->directory)
		closedir(source->more->directory);
	source_free(source);
	/* at most once: what a vCPU is read from is no vCPU */
	kvmstats_source_close(all);
}

void source_set_directory(struct kvmstats_source *source, DIR *directory)
{
	source->more->directory = directory;
}

int kvmstats_source_is_sum(const struct kvmstats_source *source)
{
	/* of an image, its name says it */
	return source->more->directory || !strncmp(source->id, DEBUGFS_ID,
					     strlen(DEBUGFS_ID)) ? 1 : 0;
}

int kvmstats_source_fd(const struct kvmstats_source *source)
{
	return source->fd;
}

enum kvmstats_scope kvmstats_source_scope(const struct kvmstats_source *source)
{
	if (source->more->name)
		return KVMSTATS_SCOPE_DEVICE;
	if (source_has_records(source))
		return KVMSTATS_SCOPE_VCPUS;
	return source->vcpu < 0 ? KVMSTATS_SCOPE_VM : KVMSTATS_SCOPE_VCPU;
}

int kvmstats_source_vcpu(const struct kvmstats_source *source)
{
	return source->vcpu;
}

const char *kvmstats_source_class(const struct kvmstats_source *source)
{
	return source->more->name ? source->more->name->class_name : "";
}

const char *kvmstats_source_device(const struct kvmstats_source *source)
{
	return source->more->name ? source->more->name->device : "";
}

int kvmstats_source_compare(const struct kvmstats_source *a,
			    const struct kvmstats_source *b)
{
	int x = kvmstats_source_scope(a), y = kvmstats_source_scope(b);

	if (x == y && x != KVMSTATS_SCOPE_DEVICE) {
		x = a->vcpu;
		y = b->vcpu;
	}
	if (x != y)
		return x < y ? -1 : 1;
	x = strcmp(kvmstats_source_class(a), kvmstats_source_class(b));
	return x ? x : strcmp(kvmstats_source_device(a), kvmstats_source_device(b));
}

const char *kvmstats_source_id(const struct kvmstats_source *source)
{
	return source->id;
}

struct kvmstats_schema *
kvmstats_source_schema(const struct kvmstats_source *source)
{
	return source->schema;
}

/* Of a sample in the file. */
static uint64_t sample_offset(const struct kvmstats_source *source)
{
	if (!source->more->all)
		return source->schema->header.data_offset;
	return record_offset(source->more->all, source->more->index) +
	       source->more->records.values_word * 8;
}

int kvmstats_source_sample(const struct kvmstats_source *source,
			   uint64_t *sample, size_t words)
{
	const struct kvmstats_schema *schema = source->schema;
	int ret;

	if (source_has_records(source))
		return -EINVAL;
	if (words < schema->words)
		return -ENOSPC;
	if (source->more->directory)
		return debugfs_sample(dirfd(source->more->directory), schema, sample);
	ret = pread_whole(source, sample, schema->words * 8,
			  sample_offset(source));
	return ret == -EPROTO ? -EIO : ret;
}

/* What a later version means by them is not for this one to guess. */
static bool asks_for_more(const struct kvmstats_read *read)
{
	size_t count = sizeof(read->reserved) / sizeof(*read->reserved);

	for (size_t i = 0; i < count; i++)
		if (read->reserved[i])
			return true;
	return false;
}

int source_sample_read(const struct kvmstats_read *read)
{
	return asks_for_more(read) ? -EINVAL :
	       kvmstats_source_sample(read->source, read->sample, read->words);
}

bool source_sample_pread(const struct kvmstats_read *read,
			 struct sample_pread *args)
{
	const struct kvmstats_schema *schema = read->source->schema;

	if (asks_for_more(read))
		return false;
	/* of files io_uring makes a worker's job */
	if (read->source->published || source_has_records(read->source))
		return false;
	args->fd = read->source->more->all ? read->source->more->all->fd : read->source->fd;
	args->size_bytes = schema->words * 8;
	args->offset = sample_offset(read->source);
	return args->fd >= 0 && args->size_bytes && read->words >= schema->words;
}

/* What was made when a source of debugfs was opened has no values in it. */
static int put_sample(const struct kvmstats_source *source,
		      unsigned char *image)
{
	const struct kvmstats_schema *schema = source->schema;
	uint64_t *sample = calloc(schema->words + 1, sizeof(*sample));
	int ret = sample ? kvmstats_source_sample(source, sample,
						  schema->words) : -ENOMEM;

	if (!ret)
		memcpy(image + schema->header.data_offset, sample,
		       schema->words * sizeof(*sample));
	free(sample);
	return ret;
}

int64_t kvmstats_source_image(const struct kvmstats_source *source,
			      void *image, size_t size_bytes)
{
	uint64_t needed = source->more->all ? 0 : image_size(source);
	int ret;

	if (source->more->all)
		return vcpu_image(source, image, size_bytes);
	if (!image || size_bytes < needed)
		return needed;
	ret = pread_whole(source, image, needed, 0);
	if (!ret && source->more->directory)
		ret = put_sample(source, image);
	return ret ? ret : (int64_t)needed;
}

unsigned int kvmstats_version(void)
{
	return KVMSTATS_VERSION_NUMBER;
}
