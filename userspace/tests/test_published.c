// SPDX-License-Identifier: GPL-2.0-only
/* What a reader makes of published files, right and hostile ones. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "line.h"
#include "../lib/published.h"

#define SEALS (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

static void fill(struct image *image)
{
	image_fill(image);
	strcpy((char *)image->bytes + IMAGE_ID_AT, "kvm-77/block:a");
}

static int make_file(const struct image *image, const char *name,
		     unsigned int flags, int seals)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, image->bytes, image->size_bytes),
			 image->size_bytes);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void assert_refused(int fd, int error)
{
	struct kvmstats_source *source = NULL;

	assert_int_equal(kvmstats_source_open(fd, NULL, &source), error);
	assert_null(source);
	close(fd);
}

static void refuse(const struct image *image, int error)
{
	assert_refused(make_file(image, "kvmstats:x", 0, SEALS), error);
}

/* Right in all but one thing, and right. */
static void files(void **state)
{
	struct kvmstats_source *source;
	struct image image;
	char path[64];
	int fd;

	(void)state;
	fill(&image);
	assert_refused(make_file(&image, "kvmstats", 0, SEALS), -ENODEV);
	assert_refused(make_file(&image, "kvm-vm-stats", 0, SEALS), -ENODEV);
	assert_refused(make_file(&image, "kvmstats:x", 0, SEALS & ~F_SEAL_GROW),
		       -ENODEV);
	assert_refused(make_file(&image, "kvmstats:x", 0,
				 SEALS & ~F_SEAL_SHRINK), -ENODEV);
	assert_refused(make_file(&image, "kvmstats:x", 0, SEALS & ~F_SEAL_SEAL),
		       -ENODEV);
	fd = make_file(&image, "kvmstats:x", 0, SEALS);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_refused(open(path, O_PATH | O_CLOEXEC), -ENODEV);
	assert_refused(open(path, O_WRONLY | O_CLOEXEC), -ENODEV);
	assert_int_equal(kvmstats_source_open(open(path, O_RDONLY | O_CLOEXEC),
					      NULL, &source), 0);
	assert_string_equal(kvmstats_source_device(source), "a");
	kvmstats_source_close(source);
	close(fd);
}

/* A read of those waits for what the machine may not have. */
static void huge_pages(void **state)
{
	int fd = memfd_create("kvmstats:x", MFD_CLOEXEC | MFD_ALLOW_SEALING |
			      MFD_HUGETLB);

	(void)state;
	if (fd < 0)
		skip();
	assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
	assert_refused(fd, -ENODEV);
}

static void ids(void **state)
{
	static const char *const bad[] = {
		"kvm-77", "kvm-77/vcpu-3", "kvm-77/vm:a", "kvm-77/vcpu:a",
		"kvm-77/block:", "kvm-77/:a", "kvm-77/Block:a", "kvm-77/block",
		"kvm-77x/block:a", "77/block:a", "kvm-77/abcdefghijklmnop:a",
		"kvm-77:block/a",
	};
	struct image image;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		fill(&image);
		strcpy((char *)image.bytes + IMAGE_ID_AT, bad[i]);
		refuse(&image, -EPROTO);
	}
}

static void contents(void **state)
{
	struct image image;

	(void)state;
	fill(&image);
	image.size_bytes -= 8;		/* sealed, but too short */
	refuse(&image, -EPROTO);
	fill(&image);
	image_header(&image)->num_desc = UINT32_MAX;
	refuse(&image, -E2BIG);
	fill(&image);
	image_header(&image)->num_desc = 257;
	refuse(&image, -E2BIG);
	fill(&image);
	image_header(&image)->name_size = 136;
	refuse(&image, -E2BIG);
	fill(&image);
	image_desc(&image, 3)->offset = 2048 * 8;
	refuse(&image, -E2BIG);
	fill(&image);
	strcpy(image_name(&image, 2), "events");
	refuse(&image, -EPROTO);
	fill(&image);
	strcpy(image_name(&image, 2), "Level");
	refuse(&image, -EPROTO);
	fill(&image);
	strcpy(image_name(&image, 2), "le\"vel");
	refuse(&image, -EPROTO);
	fill(&image);
	image_header(&image)->data_offset = IMAGE_DESCS_AT;
	refuse(&image, -EPROTO);
}

/* Schemas that nobody has any more are not kept, or there would be no end. */
static void cache_forgets(void **state)
{
	struct kvmstats_source *source, *kept;
	struct kvmstats_cache *cache;
	struct image image;
	int fd;

	(void)state;
	assert_int_equal(kvmstats_cache_new(&cache), 0);
	fill(&image);
	assert_int_equal(kvmstats_source_open(make_file(&image, "kvmstats:x", 0,
							SEALS), cache, &kept), 0);
	for (int i = 0; i < 1000; i++) {
		sprintf(image_name(&image, 2), "level%d", i);
		fd = make_file(&image, "kvmstats:x", 0, SEALS);
		assert_int_equal(kvmstats_source_open(fd, cache, &source), 0);
		kvmstats_source_close(source);
		assert_in_range(kvmstats_cache_count(cache), 2, 2);
	}
	kvmstats_source_close(kept);
	kvmstats_cache_free(cache);
}

/* Its memory stays as it is, so that it may be mapped. */
#define KEPT (SEALS | F_SEAL_FUTURE_WRITE)

static struct kvmstats_source *open_file(int fd)
{
	struct kvmstats_source *source;

	assert_int_equal(kvmstats_source_open(fd, NULL, &source), 0);
	return source;
}

/* While its descriptor is another file's, only a mapping has the values. */
static bool is_mapped(struct kvmstats_source *source)
{
	int fd = kvmstats_source_fd(source), kept = dup(fd);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uint64_t sample[KVMSTATS_MAX_PUBLISHED_WORDS];
	int ret;

	assert_int_equal(dup2(null, fd), fd);
	ret = kvmstats_source_sample(source, sample, KVMSTATS_MAX_PUBLISHED_WORDS);
	assert_int_equal(dup2(kept, fd), fd);
	close(kept);
	close(null);
	assert_true(!ret || ret == -EIO);
	return !ret;
}

/* And its values are current, and stay when the publisher has gone. */
static void mapped(void **state)
{
	uint64_t sample[KVMSTATS_MAX_PUBLISHED_WORDS];
	const struct kvmstats_desc *desc;
	struct kvmstats_source *source;
	struct kvmstats_block *block;
	int fd;

	(void)state;
	assert_int_equal(kvmstats_block_new("a", NULL, &block), 0);
	fd = dup(kvmstats_device_fd(kvmstats_block_device(block)));
	source = open_file(fd);
	assert_true(is_mapped(source));
	desc = kvmstats_schema_find(kvmstats_source_schema(source), "read_invalid");
	assert_non_null(desc);
	for (uint64_t i = 1; i <= 3; i++) {
		kvmstats_block_invalid(block, KVMSTATS_BLOCK_READ);
		if (i == 3)
			kvmstats_block_free(block);
		assert_int_equal(kvmstats_source_sample(source, sample,
							KVMSTATS_MAX_PUBLISHED_WORDS),
				 0);
		assert_int_equal(kvmstats_desc_value(desc, sample, 0), i);
	}
	kvmstats_source_close(source);
}

static void not_mapped(void **state)
{
	struct kvmstats_source *source;
	struct image image;
	int fd;

	(void)state;
	fill(&image);
	source = open_file(make_file(&image, "kvmstats:x", 0, KEPT));
	assert_true(is_mapped(source));
	kvmstats_source_close(source);

	/* could get holes */
	source = open_file(make_file(&image, "kvmstats:x", 0, SEALS));
	assert_false(is_mapped(source));
	kvmstats_source_close(source);

	/* has one, and as much memory beyond its end */
	fd = make_file(&image, "kvmstats:x", 0, 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 1 << 20, 1 << 20), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, KEPT), 0);
	source = open_file(fd);
	assert_false(is_mapped(source));
	kvmstats_source_close(source);
}

static void mappings_have_a_bound(void **state)
{
	static struct kvmstats_source *sources[PUBLISHED_MAX_MAPS + 1];
	const size_t last = PUBLISHED_MAX_MAPS;
	struct rlimit limit;
	struct image image;

	(void)state;
	/* which has so many descriptors and mappings of its own */
	if (getenv("IN_VALGRIND"))
		skip();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = last + 200;
	if (limit.rlim_max < limit.rlim_cur)
		limit.rlim_max = limit.rlim_cur;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	fill(&image);
	for (size_t i = 0; i <= last; i++)
		sources[i] = open_file(make_file(&image, "kvmstats:x", 0, KEPT));
	assert_true(is_mapped(sources[last - 1]));
	assert_false(is_mapped(sources[last]));
	kvmstats_source_close(sources[0]);
	kvmstats_source_close(sources[last]);
	sources[last] = open_file(make_file(&image, "kvmstats:x", 0, KEPT));
	assert_true(is_mapped(sources[last]));
	for (size_t i = 1; i <= last; i++)
		kvmstats_source_close(sources[i]);
}

struct scribbler {
	unsigned char *map;
	size_t size_bytes;
	struct image right;
	atomic_bool stop;
};

/* Right and wrong bytes take turns, anywhere, as fast as they can. */
static void *scribble(void *argument)
{
	struct scribbler *scribbler = argument;
	unsigned int seed = 1;

	while (!atomic_load(&scribbler->stop)) {
		size_t at = rand_r(&seed) % scribbler->size_bytes;

		__atomic_store_n(&scribbler->map[at], (unsigned char)rand_r(&seed),
				 __ATOMIC_RELAXED);
		__atomic_store_n(&scribbler->map[at], scribbler->right.bytes[at],
				 __ATOMIC_RELAXED);
	}
	return NULL;
}

static void changes_while_read(void **state)
{
	int opens = getenv("IN_VALGRIND") ? 200 : 20000, good = 0;
	struct scribbler scribbler = { .stop = false };
	struct kvmstats_cache *cache;
	pthread_t thread;
	int fd;

	(void)state;
	fill(&scribbler.right);
	scribbler.size_bytes = scribbler.right.size_bytes;
	fd = memfd_create("kvmstats:x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(write(fd, scribbler.right.bytes, scribbler.size_bytes),
			 scribbler.size_bytes);
	scribbler.map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			     0);
	assert_ptr_not_equal(scribbler.map, MAP_FAILED);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, KEPT), 0);
	assert_int_equal(kvmstats_cache_new(&cache), 0);
	assert_int_equal(pthread_create(&thread, NULL, scribble, &scribbler), 0);
	for (int i = 0; i < opens; i++) {
		struct kvmstats_source *source;
		uint64_t sample[KVMSTATS_MAX_PUBLISHED_WORDS];
		int copy = dup(fd);

		if (kvmstats_source_open(copy, cache, &source)) {
			close(copy);
			continue;
		}
		good++;
		/* it has passed: its schema does not change any more */
		for (int j = 0; j < 3; j++)
			assert_int_equal(kvmstats_source_sample(source, sample,
								KVMSTATS_MAX_PUBLISHED_WORDS),
					 0);
		kvmstats_source_close(source);
	}
	atomic_store(&scribbler.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(good > 0);
	assert_in_range(kvmstats_cache_count(cache), 0, 2);
	kvmstats_cache_free(cache);
	munmap(scribbler.map, 4096);
	close(fd);
}

/* One that has gone through the ring reads as any other. */

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(files),
		cmocka_unit_test(huge_pages),
		cmocka_unit_test(ids),
		cmocka_unit_test(contents),
		cmocka_unit_test(cache_forgets),
		cmocka_unit_test(mapped),
		cmocka_unit_test(not_mapped),
		cmocka_unit_test(mappings_have_a_bound),
		cmocka_unit_test(changes_while_read),
	};

	return RUN(tests);
}
