// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvmstatd: something ends, or begins, while the text of a scrape is on its way to a
 * client. The text says what was so when it began. The same program runs under the
 * thread sanitizer.
 */
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define VMS		3
#define TEXT_BYTES	1048576
#define THREADS		3
#define ROUNDS		300

static struct settings settings = { .max_fds_per_vm = 100 };

struct world {
	struct registry registry;
	struct vm *vms[VMS];
	int fds[VMS];		/* of the VMs, files that can shrink */
	struct kvmstats_cache *cache;
	regex_t regex;
	unsigned int fds_before;
	atomic_bool stop;
};

static void add(struct world *world, int i, struct kvmstats_source *source)
{
	assert_int_equal(agent_add(&world->registry, world->vms[i], source,
				   &settings), 0);
}

/* Of a vCPU, which cannot shrink. */
static void add_vcpu(struct world *world, int i, const struct image *image)
{
	struct kvmstats_source *source;

	assert_int_equal(kvmstats_source_open_image(image->bytes,
						    image->size_bytes,
						    world->cache, &source), 0);
	add(world, i, source);
}

static void add_file(struct world *world, int i, const struct image *image)
{
	struct kvmstats_source *source;

	world->fds[i] = image_file(image);
	assert_int_equal(source_load(world->fds[i], -1, world->cache, &source),
			 0);
	add(world, i, source);
}

static void add_vm(struct world *world, int i)
{
	struct image image;
	char name[16];

	image_fill(&image);
	snprintf(name, sizeof(name), "vm%d", i);
	world->vms[i] = agent_add_vm(&world->registry, name, 100 + i);
	add_vcpu(world, i, &image);
	strcpy((char *)image.bytes + IMAGE_ID_AT, "kvm-77");
	add_file(world, i, &image);
}

static int open_world(void **state)
{
	static struct world world;

	memset(&world, 0, sizeof(world));
	settings.filters = (struct filters){ { 0 }, { 0 } };
	world.fds_before = count_open_fds();
	if (registry_open(&world.registry, &settings.filters) ||
	    kvmstats_cache_new(&world.cache) ||
	    regcomp(&world.regex, "^(kvm_vcpu_.*|vm1)$", REG_EXTENDED | REG_NOSUB))
		return -1;
	for (int i = 0; i < VMS; i++)
		add_vm(&world, i);
	*state = &world;
	return 0;
}

static int close_world(void **state)
{
	struct world *world = *state;

	for (int i = 0; i < VMS; i++)
		agent_remove(&world->registry, world->vms[i]);
	close_wait();
	registry_close(&world->registry);
	kvmstats_cache_free(world->cache);
	regfree(&world->regex);
	assert_int_equal(count_open_fds(), world->fds_before);
	return 0;
}

/* ------------------------------------------------------ what ends or begins */

static void vm_ends(struct world *world)
{
	agent_remove(&world->registry, world->vms[0]);
	close_wait();
	add_vm(world, 0);
}

static void all_vms_end(struct world *world)
{
	for (int i = 0; i < VMS; i++)
		agent_remove(&world->registry, world->vms[i]);
	close_wait();
	for (int i = 0; i < VMS; i++)
		add_vm(world, i);
}

/* It is found when somebody reads it. */
static void descriptor_ends(struct world *world)
{
	assert_int_equal(ftruncate(world->fds[1], 8), 0);
	free(agent_text(&world->registry, OPENMETRICS, &settings, TEXT_BYTES));
	close_wait();
	agent_remove(&world->registry, world->vms[1]);
	add_vm(world, 1);
}

static void descriptor_is_replaced(struct world *world)
{
	struct image image;

	image_fill(&image);
	strcpy((char *)image.bytes + IMAGE_ID_AT, "kvm-77");
	image_data(&image)[0] = 7;
	add_file(world, 2, &image);
	close_wait();
}

/* One more than there was room for: the entries move. */
static void vcpus_come(struct world *world)
{
	struct image image;

	image_fill(&image);
	for (int i = 4; i < 8; i++) {
		sprintf((char *)image.bytes + IMAGE_ID_AT, "kvm-77/vcpu-%d", i);
		add_vcpu(world, 0, &image);
	}
	agent_remove(&world->registry, world->vms[0]);
	close_wait();
	add_vm(world, 0);
}

static void another_kernel_comes(struct world *world)
{
	struct image image;

	image_fill(&image);
	strcpy(image_name(&image, 0), "others");
	strcpy((char *)image.bytes + IMAGE_ID_AT, "kvm-77/vcpu-9");
	add_vcpu(world, 0, &image);
	agent_remove(&world->registry, world->vms[0]);
	close_wait();
	add_vm(world, 0);
}

static void filters_change(struct world *world)
{
	struct filters filters = {
		.metrics.exclude = &world->regex, .vms.exclude = &world->regex,
	};

	assert_int_equal(registry_set_filters(&world->registry, &filters), 0);
	free(agent_text(&world->registry, PROMETHEUS, &settings, TEXT_BYTES));
	assert_int_equal(registry_set_filters(&world->registry,
					      &settings.filters), 0);
}

typedef void change_fn(struct world *world);

static change_fn *const changes[] = {
	vm_ends, all_vms_end, descriptor_ends, descriptor_is_replaced, vcpus_come,
	another_kernel_comes, filters_change,
};

#define CHANGES	(sizeof(changes) / sizeof(*changes))

/* -------------------------------------------------------------- in between */

static size_t read_up_to(struct scrape *scrape, char *text, size_t length,
			 size_t end)
{
	size_t got = 1;

	while (length < end && got) {
		size_t room = end - length < 999 ? end - length : 999;

		got = scrape_read(scrape, text + length, room);
		length += got;
	}
	text[length] = 0;
	return length;
}

/* What kvmstatd says of itself differs. */
static void cut_tail(char *text)
{
	char *tail = strstr(text, "# HELP kvmstatd_vms");

	assert_non_null(tail);
	*tail = 0;
}

static void check_change(struct world *world, change_fn *change,
			 enum exposition format, size_t cut)
{
	static char text[TEXT_BYTES];
	char *before = agent_text(&world->registry, format, &settings, TEXT_BYTES);
	struct scrape *scrape = scrape_new(&world->registry, format, &settings);
	size_t length;

	assert_non_null(scrape);
	length = read_up_to(scrape, text, 0, cut);
	change(world);
	read_up_to(scrape, text, length, TEXT_BYTES - 1);
	scrape_free(scrape);
	cut_tail(text);
	cut_tail(before);
	assert_string_equal(text, before);
	free(before);
}

static void in_between(void **state)
{
	static const size_t cuts[] = { 0, 1, 300, 1500, 3000, 100000 };

	for (size_t i = 0; i < CHANGES; i++)
		for (size_t j = 0; j < sizeof(cuts) / sizeof(*cuts); j++)
			for (int format = 0; format < EXPOSITIONS; format++)
				check_change(*state, changes[i], format, cuts[j]);
}

/* ---------------------------------------------------------------- at once */

static void *scrape_all_the_time(void *context)
{
	struct world *world = context;
	size_t room = 1;

	while (!atomic_load(&world->stop)) {
		char *text = agent_text(&world->registry, room % 2, &settings,
					100 + room % 5000);

		assert_non_null(strstr(text, "kvmstatd_build_info"));
		free(text);
		room += 997;
	}
	return NULL;
}

static void at_once(void **state)
{
	struct world *world = *state;
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
						scrape_all_the_time, world), 0);
	for (int round = 0; round < ROUNDS; round++)
		changes[round % CHANGES](world);
	atomic_store(&world->stop, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

#define IN_WORLD(test) \
	cmocka_unit_test_setup_teardown(test, open_world, close_world)

int main(void)
{
	static TEST_LIST = {
		IN_WORLD(in_between),
		IN_WORLD(at_once),
	};

	return RUN(tests);
}
