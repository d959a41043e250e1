// SPDX-License-Identifier: GPL-2.0-only
/* Descriptors that are something else, and the cache. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"

#define THREADS 8

/* Refused, still open, still the caller's; closed here. */
static void assert_no_source(int fd, int error)
{
	struct kvmstats_source *source = NULL;

	assert_true(fd >= 0);
	assert_int_equal(kvmstats_source_open(fd, NULL, &source), error);
	assert_null(source);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
}

static void closed_fd(void **state)
{
	struct kvmstats_source *source;
	int fd = dup(0);

	(void)state;
	close(fd);
	assert_int_equal(kvmstats_source_open(fd, NULL, &source), -EBADF);
	assert_int_equal(kvmstats_source_open(-1, NULL, &source), -EBADF);
}

/*
 * For the library, in place of the C library's: a name that lies, if one is
 * set. So each check is on its own; the true name would refuse all the same.
 */
static const char *false_link;

ssize_t readlink(const char *path, char *link, size_t size_bytes)
{
	size_t length;

	if (!false_link)
		return syscall(SYS_readlinkat, AT_FDCWD, path, link, size_bytes);
	length = strlen(false_link);
	assert_true(length <= size_bytes);
	memcpy(link, false_link, length);
	return length;
}

static void assert_no_source_by_name(int fd, int error)
{
	false_link = "anon_inode:kvm-vm-stats";
	assert_no_source(fd, error);
	false_link = NULL;
}

static int open_again(int fd, int flags)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags);
	close(fd);
	return again;
}

/* Right in all but that it can be written to. */
static void access_mode(void **state)
{
	(void)state;
	assert_no_source_by_name(eventfd(0, 0), -ENODEV);
	assert_no_source_by_name(epoll_create1(0), -ENODEV);
}

/* Right in all but that it cannot be read. */
static void access_by_path(void **state)
{
	int fd = open_again(inotify_init(), O_PATH);

	(void)state;
	assert_int_equal(fcntl(fd, F_GETFL) & (O_PATH | O_ACCMODE), O_PATH);
	assert_no_source_by_name(fd, -ENODEV);
}

/* Right in all, content too, but that it is a file. */
static void file_system(void **state)
{
	struct kvmstats_source *source;
	struct image image;

	(void)state;
	image_fill(&image);
	assert_no_source_by_name(open_again(image_file(&image), O_RDONLY),
				 -ENODEV);
	/* the content is not what was wrong */
	source = image_open_file(&image);
	kvmstats_source_close(source);
}

/* Right in all but its name: the only thing that an inotify has wrong. */
static void link_name(void **state)
{
	(void)state;
	assert_no_source(inotify_init(), -ENODEV);
	/* and past all these checks, the first read cannot block */
	assert_no_source_by_name(inotify_init(), -ESPIPE);
}

/* Both ends; a read from the empty pipe would wait for ever. */
static void pipe_fds(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_no_source(fds[0], -ENODEV);
	assert_no_source(fds[1], -ENODEV);
}

static void socket_fds(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_no_source(fds[0], -ENODEV);
	assert_no_source(fds[1], -ENODEV);
}

/* A file with the right bytes, that could change under our eyes. */
static void regular_file(void **state)
{
	char path[] = "/tmp/kvmstats-test-XXXXXX";
	struct image image;
	int fd = mkstemp(path);

	(void)state;
	image_fill(&image);
	assert_int_equal(write(fd, image.bytes, image.size_bytes),
			 image.size_bytes);
	close(fd);
	fd = open(path, O_RDONLY);
	assert_int_equal(unlink(path), 0);
	assert_no_source(fd, -ENODEV);
}

/* The same, in memory and with the right name. */
static void memory_file(void **state)
{
	int fd = memfd_create("kvm-vm-stats", 0);
	struct image image;

	(void)state;
	image_fill(&image);
	assert_int_equal(write(fd, image.bytes, image.size_bytes),
			 image.size_bytes);
	assert_no_source(dup(fd), -ENODEV);
	assert_no_source(open_again(fd, O_RDONLY), -ENODEV);
}

/* A path that ends like the name of a statistics descriptor. */
static void named_file(void **state)
{
	char path[] = "/tmp/anon_inode:kvm-vm-stats";
	int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);

	(void)state;
	assert_int_equal(unlink(path), 0);
	assert_no_source(fd, -ENODEV);
}

/* Anonymous inodes, as the right one is; inotify's is even read-only. */
static void other_anonymous_inodes(void **state)
{
	(void)state;
	assert_no_source(eventfd(0, 0), -ENODEV);
	assert_no_source(epoll_create1(0), -ENODEV);
	assert_no_source(inotify_init(), -ENODEV);
}

static void path_only(void **state)
{
	(void)state;
	assert_no_source(open("/", O_PATH), -ENODEV);
	assert_no_source(open("/", O_RDONLY), -ENODEV);
	assert_no_source(open("/dev/null", O_RDONLY), -ENODEV);
	assert_no_source(open("/dev/null", O_RDWR), -ENODEV);
}

static void close_null(void **state)
{
	(void)state;
	kvmstats_source_close(NULL);
	kvmstats_schema_unref(NULL);
	kvmstats_cache_free(NULL);
	assert_null(kvmstats_schema_ref(NULL));
}

static void open_cached(struct kvmstats_cache *cache, const struct image *image,
			struct kvmstats_source **source)
{
	assert_int_equal(kvmstats_source_open_image(image->bytes,
						    image->size_bytes, cache,
						    source), 0);
}

static void cache_shares(void **state)
{
	struct kvmstats_source *a, *b, *other;
	struct kvmstats_cache *cache;
	struct image image;

	(void)state;
	assert_int_equal(kvmstats_cache_new(&cache), 0);
	image_fill(&image);
	open_cached(cache, &image, &a);
	/* another vCPU, other values: the same schema */
	strcpy((char *)image.bytes + IMAGE_ID_AT, "kvm-77/vcpu-4");
	image_data(&image)[0] = 4711;
	open_cached(cache, &image, &b);
	image_desc(&image, 2)->flags = KVMSTATS_PEAK;
	open_cached(cache, &image, &other);
	assert_ptr_equal(kvmstats_source_schema(a), kvmstats_source_schema(b));
	assert_ptr_not_equal(kvmstats_source_schema(a),
			     kvmstats_source_schema(other));
	assert_int_equal(kvmstats_cache_count(cache), 2);
	assert_int_equal(kvmstats_source_vcpu(b), 4);
	kvmstats_source_close(a);
	kvmstats_source_close(b);
	kvmstats_source_close(other);
	kvmstats_cache_free(cache);
}

/* 10,000 vCPUs of one kernel: parsed once, and each costs little more. */
static void cache_of_many(void **state)
{
	static struct kvmstats_source *sources[10000];
	struct kvmstats_cache *cache;
	struct image image;

	(void)state;
	assert_int_equal(kvmstats_cache_new(&cache), 0);
	image_fill(&image);
	for (int i = 0; i < 10000; i++) {
		snprintf((char *)image.bytes + IMAGE_ID_AT, IMAGE_NAME_SIZE,
			 "kvm-77/vcpu-%d", i);
		open_cached(cache, &image, &sources[i]);
		assert_ptr_equal(kvmstats_source_schema(sources[i]),
				 kvmstats_source_schema(sources[0]));
	}
	assert_int_equal(kvmstats_cache_count(cache), 1);
	assert_int_equal(kvmstats_source_vcpu(sources[9999]), 9999);
	for (int i = 0; i < 10000; i++)
		kvmstats_source_close(sources[i]);
	kvmstats_cache_free(cache);
}

/* What differs in one bit of flags, name or place is not taken for equal. */
static void cache_tells_apart(void **state)
{
	struct kvmstats_source *source;
	struct kvmstats_cache *cache;
	struct image image;

	(void)state;
	assert_int_equal(kvmstats_cache_new(&cache), 0);
	for (int i = 0; i < 5; i++) {
		image_fill(&image);
		if (i == 1)
			image_name(&image, 2)[0] ^= 1;
		else if (i == 2)
			image_desc(&image, 2)->flags ^= 1u << 31;
		else if (i == 3)
			image_desc(&image, 3)->bucket_size ^= 1;
		else if (i == 4)
			image_header(&image)->data_offset += 8;
		image.size_bytes += i == 4 ? 8 : 0;
		open_cached(cache, &image, &source);
		kvmstats_source_close(source);
		assert_int_equal(kvmstats_cache_count(cache), i + 1);
	}
	kvmstats_cache_free(cache);
}

static void schema_outlives_all(void **state)
{
	struct kvmstats_source *source;
	struct kvmstats_schema *schema;
	struct kvmstats_cache *cache;
	struct image image;

	(void)state;
	assert_int_equal(kvmstats_cache_new(&cache), 0);
	image_fill(&image);
	open_cached(cache, &image, &source);
	schema = kvmstats_schema_ref(kvmstats_source_schema(source));
	kvmstats_cache_free(cache);
	kvmstats_source_close(source);
	assert_non_null(kvmstats_schema_find(schema, "events"));
	kvmstats_schema_unref(schema);
}

static void bad_image_leaves_cache_empty(void **state)
{
	struct kvmstats_source *source;
	struct kvmstats_cache *cache;
	struct image image;

	(void)state;
	assert_int_equal(kvmstats_cache_new(&cache), 0);
	image_fill(&image);
	image_name(&image, 0)[0] = 0;
	assert_int_equal(kvmstats_source_open_image(image.bytes,
						    image.size_bytes, cache,
						    &source), -EPROTO);
	assert_int_equal(kvmstats_cache_count(cache), 0);
	kvmstats_cache_free(cache);
}

struct race {
	struct kvmstats_cache *cache;
	pthread_barrier_t start;
	struct image image;
};

static void *open_in_thread(void *argument)
{
	struct kvmstats_source *source = NULL;
	struct race *race = argument;

	pthread_barrier_wait(&race->start);
	kvmstats_source_open_image(race->image.bytes, race->image.size_bytes,
				   race->cache, &source);
	return source;
}

/* All at once into an empty cache: one schema. */
static void race_once(struct race *race)
{
	pthread_t threads[THREADS];
	void *source;

	assert_int_equal(kvmstats_cache_new(&race->cache), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
						open_in_thread, race), 0);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &source), 0);
		assert_non_null(source);
		kvmstats_source_close(source);
	}
	assert_int_equal(kvmstats_cache_count(race->cache), 1);
	kvmstats_cache_free(race->cache);
}

static void cache_in_threads(void **state)
{
	/* its threads take turns */
	int rounds = getenv("IN_VALGRIND") ? 2 : 100;
	struct race race;

	(void)state;
	image_fill(&race.image);
	assert_int_equal(pthread_barrier_init(&race.start, NULL, THREADS), 0);
	for (int i = 0; i < rounds; i++)
		race_once(&race);
	pthread_barrier_destroy(&race.start);
}

static void link_names(void **state)
{
	static const char *const bad[] = {
		"", "anon_inode:kvm-vm-stats2", "/anon_inode:kvm-vm-stats",
		"anon_inode:kvm-vcpu-stats:", "anon_inode:kvm-vcpu-stats:-1",
		"anon_inode:kvm-vcpu-stats:1x", "anon_inode:kvm-vcpu-stats: 1",
		"anon_inode:kvm-vcpu-stats:2147483648", "anon_inode:kvm-vm",
		"anon_inode:kvm-vcpu:0", "/anon_inode:kvm-vcpu-stats:0000000",
	};
	int vcpu = 5;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(scope_from_link(bad[i], &vcpu), -ENODEV);
	assert_int_equal(scope_from_link("anon_inode:kvm-vm-stats", &vcpu), 0);
	assert_int_equal(vcpu, -1);
	assert_int_equal(scope_from_link("anon_inode:kvm-vcpu-stats:287",
					 &vcpu), 0);
	assert_int_equal(vcpu, 287);
}

static void put_file(const char *dir, const char *name, const char *text,
		     mode_t mode)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	chmod(path, mode);
}

/* A directory like those of debugfs: numbers, a directory, other texts. */
/* A record of it has its values, and is known for what it is. */
static void assert_image_of_sums(const struct kvmstats_source *source)
{
	struct kvmstats_source *record;
	uint64_t sample[2], again[2];
	char image[4096];
	int64_t size = kvmstats_source_image(source, image, sizeof(image));

	assert_in_range(size, 1, sizeof(image));
	assert_int_equal(kvmstats_source_open_image(image, size, NULL, &record),
			 0);
	assert_int_equal(kvmstats_source_is_sum(record), 1);
	assert_int_equal(kvmstats_source_sample(source, sample, 2), 0);
	assert_int_equal(kvmstats_source_sample(record, again, 2), 0);
	assert_memory_equal(sample, again, sizeof(sample));
	kvmstats_source_close(record);
}

static void directory_of_debugfs(void **state)
{
	char dir[] = "/tmp/kvmstats-XXXXXX", path[128];
	const struct kvmstats_desc *desc;
	struct kvmstats_schema *schema;
	struct kvmstats_source *source;
	uint64_t sample[2];

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(kvmstats_source_open_debugfs(dir, NULL, &source),
			 -ENODATA);
	put_file(dir, "exits", "41\n", 0644);
	put_file(dir, "mmu_pages", "7\n", 0444);
	put_file(dir, "table", "a b\n", 0444);
	snprintf(path, sizeof(path), "%s/vcpu0", dir);
	mkdir(path, 0755);
	assert_int_equal(kvmstats_source_open_debugfs(dir, NULL, &source), 0);
	assert_int_equal(kvmstats_source_is_sum(source), 1);
	schema = kvmstats_source_schema(source);
	assert_int_equal(kvmstats_schema_count(schema), 2);
	desc = kvmstats_schema_find(schema, "mmu_pages");
	assert_int_equal(kvmstats_desc_type(desc), KVMSTATS_INSTANT);
	desc = kvmstats_schema_find(schema, "exits");
	assert_int_equal(kvmstats_desc_type(desc), KVMSTATS_CUMULATIVE);
	put_file(dir, "exits", "18446744073709551615\n", 0644);
	assert_int_equal(kvmstats_source_sample(source, sample, 2), 0);
	assert_int_equal(kvmstats_desc_value(desc, sample, 0), UINT64_MAX);
	assert_image_of_sums(source);
	/* the VM has gone */
	snprintf(path, sizeof(path), "rm -r %s", dir);
	assert_int_equal(system(path), 0);
	assert_int_equal(kvmstats_source_sample(source, sample, 2), -ENOENT);
	kvmstats_source_close(source);
	assert_int_equal(kvmstats_source_open_debugfs(dir, NULL, &source),
			 -ENOENT);
}

static void version_is_one(void **state)
{
	char text[32];

	(void)state;
	snprintf(text, sizeof(text), "%d.%d.%d", KVMSTATS_VERSION_MAJOR,
		 KVMSTATS_VERSION_MINOR, KVMSTATS_VERSION_PATCH);
	assert_string_equal(text, KVMSTATS_VERSION);
	assert_int_equal(kvmstats_version(), KVMSTATS_VERSION_NUMBER);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(version_is_one),
		cmocka_unit_test(directory_of_debugfs),
		cmocka_unit_test(closed_fd),
		cmocka_unit_test(access_mode),
		cmocka_unit_test(access_by_path),
		cmocka_unit_test(file_system),
		cmocka_unit_test(link_name),
		cmocka_unit_test(pipe_fds),
		cmocka_unit_test(socket_fds),
		cmocka_unit_test(regular_file),
		cmocka_unit_test(memory_file),
		cmocka_unit_test(named_file),
		cmocka_unit_test(other_anonymous_inodes),
		cmocka_unit_test(path_only),
		cmocka_unit_test(close_null),
		cmocka_unit_test(cache_shares),
		cmocka_unit_test(cache_of_many),
		cmocka_unit_test(cache_tells_apart),
		cmocka_unit_test(schema_outlives_all),
		cmocka_unit_test(bad_image_leaves_cache_empty),
		cmocka_unit_test(cache_in_threads),
		cmocka_unit_test(link_names),
	};

	return RUN(tests);
}
