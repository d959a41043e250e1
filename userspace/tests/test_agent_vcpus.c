// SPDX-License-Identifier: GPL-2.0-only
/* kvmstatd: VMs whose vCPUs are all in one descriptor. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../kvmstatd/sources.h"
#include "agent.h"

#define EVENTS "\nkvm_vcpu_events_total{vm=\"v\",vcpu=\"%d\"} %d\n"

static struct settings settings;

struct fixture {
	struct registry registry;
	struct vm *vm;
	struct image image;
	struct kvmstats_source *all;
	unsigned int fds_before;
};

static int open_registry(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	fixture.fds_before = count_open_fds();
	settings = (struct settings){ .max_fds_per_vm = 30, .no_cpu_time = true };
	*state = &fixture;
	if (registry_open(&fixture.registry, &settings.filters))
		return -1;
	fixture.vm = agent_add_vm(&fixture.registry, "v", 1);
	image_fill_vcpus(&fixture.image);
	fixture.all = image_open_vcpus_file(&fixture.image);
	return 0;
}

static int close_registry(void **state)
{
	struct fixture *fixture = *state;

	agent_remove(&fixture->registry, fixture->vm);
	close_wait();
	assert_int_equal(fixture->registry.fds, 0);
	registry_close(&fixture->registry);
	assert_int_equal(count_open_fds(), fixture->fds_before);
	return 0;
}

static int add_all(struct fixture *fixture)
{
	return agent_add(&fixture->registry, fixture->vm, fixture->all, &settings);
}

/* Of that number, with a descriptor of its own and its own values. */
static struct kvmstats_source *single(int vcpu, uint64_t events)
{
	struct image image;

	image_fill(&image);
	sprintf((char *)image.bytes + IMAGE_ID_AT, "kvm-77/vcpu-%d", vcpu);
	image_data(&image)[0] = events;
	return made(&image);
}

static struct kvmstats_source *of_vm(void)
{
	struct image image;

	image_fill(&image);
	strcpy((char *)image.bytes + IMAGE_ID_AT, "kvm-77");
	return made(&image);
}

static void create_vcpu(struct fixture *fixture, int vcpu)
{
	size_t before = fixture->image.size_bytes, bytes;

	image_add_vcpu(&fixture->image, vcpu);
	bytes = fixture->image.size_bytes - before;
	assert_int_equal(pwrite(kvmstats_source_fd(fixture->all),
				fixture->image.bytes + before, bytes, before), bytes);
}

static char *scrape(struct fixture *fixture)
{
	return agent_text(&fixture->registry, PROMETHEUS, &settings, 1 << 20);
}

static bool counts(const char *text, int vcpu, int events)
{
	char line[80];

	snprintf(line, sizeof(line), EVENTS, vcpu, events);
	return has(text, line);
}

static void one_descriptor(void **state)
{
	struct fixture *fixture = *state;
	char *text;

	assert_int_equal(add_all(fixture), 0);
	assert_int_equal(fixture->registry.fds, 1);
	text = scrape(fixture);
	assert_true(counts(text, 3, 101));
	assert_true(counts(text, 700, 1101));
	assert_true(has(text, "\nkvmstatd_descriptors 1\n"));
	free(text);
	assert_int_equal(fixture->registry.counters.reads, 1);
	image_data(&fixture->image)[12] = 5;
	assert_int_equal(pwrite(kvmstats_source_fd(fixture->all),
				&image_data(&fixture->image)[12], 8,
				IMAGE_DATA_AT + 12 * 8), 8);
	text = scrape(fixture);
	assert_true(counts(text, 3, 101));
	assert_true(counts(text, 700, 5));
	free(text);
}

/* In whatever order they come: the descriptor of all counts, the others are closed. */
static void singles(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct kvmstats_source *sources[3];
	bool changed;
	char *text;

	agent_add(registry, fixture->vm, single(700, 9), &settings);
	agent_add(registry, fixture->vm, single(4, 8), &settings);
	assert_int_equal(registry->fds, 2);
	assert_int_equal(registry_add_sources(registry, fixture->vm, &fixture->all,
					      1, &settings, &changed), 0);
	assert_true(changed);
	/* 4 is not among all: perhaps it is another VM's, and it stays */
	assert_int_equal(registry->fds, 2);
	assert_int_equal(registry->counters.fds_replaced, 1);
	text = scrape(fixture);
	assert_true(counts(text, 3, 101));
	assert_true(counts(text, 4, 8));
	assert_true(counts(text, 700, 1101));
	free(text);

	create_vcpu(fixture, 11);
	sources[0] = single(11, 3);
	sources[1] = single(3, 3);
	assert_int_equal(vcpus_drop_single(registry, fixture->vm, sources, 2,
					   &settings), 0);
	assert_int_equal(registry->fds, 2);
	text = scrape(fixture);
	assert_true(counts(text, 3, 101));
	assert_true(counts(text, 11, 2101));
	free(text);
}

/* All in one message, that of all among them. */
static void one_message(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct kvmstats_source *sources[] = {
		single(3, 1), fixture->all, single(700, 1),
	};
	bool changed;

	assert_int_equal(vcpus_drop_single(registry, fixture->vm, sources, 3,
					   &settings), 1);
	assert_ptr_equal(sources[0], fixture->all);
	assert_int_equal(registry_add_sources(registry, fixture->vm, sources, 1,
					      &settings, &changed), 0);
	assert_int_equal(registry->fds, 1);
	/* a VM that has none keeps what it has */
	sources[1] = vcpus_lose(registry, fixture->vm);
	close_sources(&sources[1], 1, false);
	sources[0] = single(1, 1);
	assert_int_equal(vcpus_drop_single(registry, fixture->vm, sources, 1,
					   &settings), 1);
	kvmstats_source_close(sources[0]);
}

/* Nobody told of it: the next scrape sees that it is there. */
static void new_vcpu(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	char *text;

	assert_int_equal(add_all(fixture), 0);
	create_vcpu(fixture, 2);
	create_vcpu(fixture, 900);
	vcpus_add_seen(registry, &settings);
	assert_int_equal(fixture->vm->count, 2);
	text = scrape(fixture);
	assert_null(strstr(text, "vcpu=\"2\""));
	free(text);
	vcpus_add_seen(registry, &settings);
	assert_int_equal(fixture->vm->count, 4);
	text = scrape(fixture);
	assert_true(counts(text, 2, 2101));
	assert_true(counts(text, 3, 101));
	assert_true(counts(text, 700, 1101));
	assert_true(counts(text, 900, 3101));
	free(text);
	assert_false(registry->more_vcpus);
}

/* No more vCPUs than descriptors are allowed, however they come. */
static void no_room(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct kvmstats_source *sources[2];
	char *text;

	settings.max_fds_per_vm = 1;
	assert_int_equal(add_all(fixture), -ENOSPC);
	assert_int_equal(registry->fds, 0);
	fixture->all = image_open_vcpus_file(&fixture->image);
	settings.max_fds_per_vm = 2;
	assert_int_equal(add_all(fixture), 0);
	create_vcpu(fixture, 5);
	text = scrape(fixture);
	free(text);
	vcpus_add_seen(registry, &settings);
	assert_int_equal(fixture->vm->count, 2);
	/* its message is refused whole, and nothing of it is the caller's any more */
	sources[0] = single(5, 4);
	sources[1] = of_vm();
	assert_int_equal(vcpus_drop_single(registry, fixture->vm, sources, 2,
					   &settings), -ENOSPC);
	text = scrape(fixture);
	assert_true(counts(text, 700, 1101));
	free(text);
}

/* It is no VM with devices alone, which would join what a helper has found. */
static void no_vcpu_yet(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(ftruncate(kvmstats_source_fd(fixture->all), IMAGE_DATA_AT), 0);
	assert_int_equal(add_all(fixture), 0);
	assert_int_equal(fixture->vm->count, 0);
	assert_true(fixture->vm->statistics);
}

static void lost(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	char *text;

	assert_int_equal(add_all(fixture), 0);
	assert_int_equal(ftruncate(kvmstats_source_fd(fixture->all),
				   IMAGE_DATA_AT + VCPUS_RECORD_WORDS * 8), 0);
	text = scrape(fixture);
	assert_null(strstr(text, "kvm_vcpu_events_total{"));
	assert_true(has(text, "\nkvmstatd_read_errors_total 1\n"));
	assert_true(has(text, "\nkvmstatd_descriptors 0\n"));
	free(text);
	/* one of their own is as good */
	assert_int_equal(agent_add(registry, fixture->vm, single(3, 6), &settings), 0);
	text = scrape(fixture);
	assert_true(counts(text, 3, 6));
	free(text);
	fixture->all = image_open_vcpus_file(&fixture->image);
	assert_int_equal(add_all(fixture), 0);
	text = scrape(fixture);
	assert_true(counts(text, 3, 101));
	assert_true(counts(text, 700, 1101));
	free(text);
	assert_int_equal(registry->fds, 1);
}

/* VMs of either way beside each other, and one that is hidden. */
static void mixed(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *other = agent_add_vm(registry, "w", 2);
	struct vm *third = agent_add_vm(registry, "x", 3);
	struct image image = fixture->image;
	char *text;

	agent_add(registry, other, single(0, 77), &settings);
	assert_int_equal(add_all(fixture), 0);
	image_add_vcpu(&image, 1);
	agent_add(registry, third, image_open_vcpus_file(&image), &settings);
	fixture->vm->hidden = true;
	text = scrape(fixture);
	assert_null(strstr(text, "{vm=\"v\""));
	assert_true(has(text, "events_total{vm=\"w\",vcpu=\"0\"} 77\n"));
	assert_true(has(text, "events_total{vm=\"x\",vcpu=\"1\"} 2101\n"));
	free(text);
	fixture->vm->hidden = false;
	text = scrape(fixture);
	assert_true(counts(text, 700, 1101));
	assert_true(has(text, "events_total{vm=\"w\",vcpu=\"0\"} 77\n"));
	assert_true(has(text, "events_total{vm=\"x\",vcpu=\"700\"} 1101\n"));
	free(text);
	agent_remove(registry, other);
	agent_remove(registry, third);
}

#define ON_REGISTRY(test) \
	cmocka_unit_test_setup_teardown(test, open_registry, close_registry)

int main(void)
{
	TEST_LIST = {
		ON_REGISTRY(one_descriptor),
		ON_REGISTRY(singles),
		ON_REGISTRY(one_message),
		ON_REGISTRY(new_vcpu),
		ON_REGISTRY(no_room),
		ON_REGISTRY(no_vcpu_yet),
		ON_REGISTRY(lost),
		ON_REGISTRY(mixed),
	};

	return RUN(tests);
}
