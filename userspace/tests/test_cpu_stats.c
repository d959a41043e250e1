// SPDX-License-Identifier: GPL-2.0-only
/* The CPU statistics call: every row of its documentation */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../lib/cpu_stats.h"
#include "image.h"

#define CPUS		3
#define KVM_PARAMS	3	/* of an image; its histogram is none */
#define PARAMS		(KVM_PARAMS + SCHED_PARAMS)
#define ROOM		(2 * PARAMS)

struct setup {
	struct kvmstats_cpu cpus[CPUS];
	struct kvmstats_param params[5 * ROOM];
};

static struct kvmstats_source *open_vcpu(int number, uint64_t first_value)
{
	struct kvmstats_source *source;
	struct image image;

	image_fill(&image);
	sprintf((char *)image.bytes + IMAGE_ID_AT, "kvm-77/vcpu-%d", number);
	image_desc(&image, 2)->flags = KVMSTATS_PEAK;
	for (int i = 0; i < KVM_PARAMS; i++)
		image_data(&image)[i] = first_value + i;
	assert_int_equal(image_open(&image, &source), 0);
	return source;
}

/* Three CPUs with 100, 101, 102; 200 ...; 300 ...; and no thread. */
static int set_up(void **state)
{
	struct setup *setup = calloc(1, sizeof(*setup));

	assert_non_null(setup);
	for (int i = 0; i < CPUS; i++)
		setup->cpus[i].source = open_vcpu(i, 100 * (i + 1));
	memset(setup->params, 0x55, sizeof(setup->params));
	*state = setup;
	return 0;
}

static int tear_down(void **state)
{
	struct setup *setup = *state;

	for (int i = 0; i < CPUS; i++)
		kvmstats_source_close((void *)setup->cpus[i].source);
	free(setup);
	return 0;
}

static int call(struct setup *setup, unsigned int nparams, int start_cpu,
		unsigned int ncpus)
{
	return kvmstats_cpu_stats(0, setup->cpus, CPUS, setup->params, nparams,
				  start_cpu, ncpus,
				  KVMSTATS_CPU_STATS_GUEST);
}

static int query(struct setup *setup, int start_cpu, unsigned int ncpus)
{
	return kvmstats_cpu_stats(0, setup->cpus, CPUS, NULL, 0, start_cpu,
				  ncpus, KVMSTATS_CPU_STATS_GUEST);
}

static void run_here(struct kvmstats_cpu *cpu)
{
	cpu->pid = getpid();
	cpu->tid = syscall(SYS_gettid);
}

static void assert_param(const struct kvmstats_param *param, const char *field,
			 uint64_t value)
{
	assert_string_equal(param->field, field);
	assert_int_equal(param->type, KVMSTATS_PARAM_ULLONG);
	assert_int_equal(param->value.ul, value);
}

static void assert_zero(const struct kvmstats_param *params, size_t count)
{
	static const struct kvmstats_param zero;

	for (size_t i = 0; i < count; i++)
		assert_memory_equal(&params[i], &zero, sizeof(zero));
}

static void assert_untouched(const struct kvmstats_param *params, size_t count)
{
	const unsigned char *bytes = (const void *)params;

	for (size_t i = 0; i < count * sizeof(*params); i++)
		assert_int_equal(bytes[i], 0x55);
}

static const struct kvmstats_param *
find(const struct kvmstats_param *params, size_t count, const char *field)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(params[i].field, field))
			return &params[i];
	return NULL;
}

static void null_0_0_0_is_the_number_of_cpus(void **state)
{
	assert_int_equal(query(*state, 0, 0), CPUS);
	assert_int_equal(kvmstats_cpu_stats(0, NULL, 0, NULL, 0, 0, 0,
					    KVMSTATS_CPU_STATS_GUEST), 0);
}

static void null_0_0_1_is_the_number_of_params(void **state)
{
	for (int cpu = 0; cpu < CPUS; cpu++)
		assert_int_equal(query(*state, cpu, 1), PARAMS);
}

static void null_0_minus1_1_is_that_of_the_total(void **state)
{
	assert_int_equal(query(*state, -1, 1), PARAMS);
}

/* Events are added, of a peak it is the largest. */
static void array_minus1_1_is_the_total(void **state)
{
	struct setup *setup = *state;

	assert_int_equal(call(setup, ROOM, -1, 1), KVM_PARAMS);
	assert_param(&setup->params[0], "kvm.wait_ns", 101 + 201 + 301);
	assert_param(&setup->params[1], "kvm.events", 100 + 200 + 300);
	assert_param(&setup->params[2], "kvm.level", 302);
	assert_zero(setup->params + KVM_PARAMS, ROOM - KVM_PARAMS);
	assert_untouched(setup->params + ROOM, ROOM);
}

static void array_is_filled_in_strides(void **state)
{
	struct setup *setup = *state;

	assert_int_equal(call(setup, ROOM, 0, CPUS), KVM_PARAMS);
	for (int i = 0; i < CPUS; i++) {
		const struct kvmstats_param *params = setup->params + i * ROOM;

		assert_param(&params[0], "kvm.wait_ns", 100 * (i + 1) + 1);
		assert_param(&params[1], "kvm.events", 100 * (i + 1));
		assert_param(&params[2], "kvm.level", 100 * (i + 1) + 2);
		assert_zero(params + KVM_PARAMS, ROOM - KVM_PARAMS);
	}
	assert_untouched(setup->params + CPUS * ROOM, ROOM);
}

static void array_starts_at_any_cpu(void **state)
{
	struct setup *setup = *state;

	assert_int_equal(call(setup, ROOM, 1, 1), KVM_PARAMS);
	assert_param(&setup->params[1], "kvm.events", 200);
	assert_untouched(setup->params + ROOM, ROOM);
	assert_int_equal(call(setup, ROOM, 2, 1), KVM_PARAMS);
	assert_param(&setup->params[1], "kvm.events", 300);
}

static void past_the_last_cpu_is_refused(void **state)
{
	struct setup *setup = *state;

	assert_int_equal(call(setup, ROOM, 2, 2), -EINVAL);
	assert_int_equal(call(setup, ROOM, 0, CPUS + 1), -EINVAL);
	assert_untouched(setup->params, ROOM);
}

static void absent_cpu_is_zero(void **state)
{
	struct setup *setup = *state;
	const struct kvmstats_source *source = setup->cpus[1].source;

	setup->cpus[1].source = NULL;
	assert_int_equal(query(setup, 0, 0), CPUS);
	assert_int_equal(call(setup, ROOM, 0, CPUS), KVM_PARAMS);
	assert_zero(setup->params + ROOM, ROOM);
	assert_param(&setup->params[2 * ROOM + 1], "kvm.events", 300);
	assert_int_equal(call(setup, ROOM, -1, 1), KVM_PARAMS);
	assert_param(&setup->params[1], "kvm.events", 400);
	assert_int_equal(call(setup, ROOM, 1, 1), 0);
	setup->cpus[1].source = source;
}

static void few_params_are_the_first(void **state)
{
	struct setup *setup = *state;

	assert_int_equal(call(setup, 2, 1, 2), 2);
	assert_param(&setup->params[1], "kvm.events", 200);
	assert_param(&setup->params[2], "kvm.wait_ns", 301);
	assert_untouched(setup->params + 4, ROOM);
	assert_int_equal(call(setup, 1, -1, 1), 1);
	assert_param(&setup->params[0], "kvm.wait_ns", 603);
}

static void other_combinations_are_refused(void **state)
{
	struct setup *setup = *state;

	assert_int_equal(query(setup, 0, 2), -EINVAL);
	assert_int_equal(query(setup, 1, 0), -EINVAL);
	assert_int_equal(query(setup, -1, 0), -EINVAL);
	assert_int_equal(query(setup, -2, 1), -EINVAL);
	assert_int_equal(call(setup, ROOM, -1, 0), -EINVAL);
	assert_int_equal(call(setup, ROOM, -1, 2), -EINVAL);
	assert_int_equal(call(setup, ROOM, -2, 1), -EINVAL);
	assert_int_equal(call(setup, ROOM, INT32_MIN, 1), -EINVAL);
	assert_int_equal(call(setup, ROOM, 0, 0), -EINVAL);
	assert_int_equal(call(setup, ROOM, CPUS, 1), -EINVAL);
	assert_int_equal(call(setup, ROOM, INT32_MAX, 1), -EINVAL);
	assert_int_equal(call(setup, 0, 0, 1), -EINVAL);
	assert_int_equal(kvmstats_cpu_stats(0, setup->cpus, CPUS, NULL, 1, 0, 1,
					    0), -EINVAL);
	assert_int_equal(kvmstats_cpu_stats(0, setup->cpus, CPUS, setup->params,
					    ROOM, 0, 1, 2), -EINVAL);
	assert_int_equal(kvmstats_cpu_stats(0, setup->cpus, CPUS, NULL, 0, 0, 0,
					    0), -EINVAL);
	/* what a later version means by it */
	setup->cpus[1].reserved[2] = 1;
	assert_int_equal(call(setup, ROOM, 0, 1), -EINVAL);
	assert_int_equal(query(setup, 0, 1), -EINVAL);
	assert_int_equal(kvmstats_cpu_threads(getpid(), setup->cpus, CPUS),
			 -EINVAL);
	assert_untouched(setup->params, ROOM);
}

static void counts_have_bounds(void **state)
{
	struct setup *setup = *state;

	assert_int_equal(call(setup, KVMSTATS_MAX_CPU_PARAMS + 1, 0, 1),
			 -E2BIG);
	assert_int_equal(call(setup, 1, 0, KVMSTATS_MAX_CPUS + 1),
			 -E2BIG);
	assert_int_equal(call(setup, UINT32_MAX, 0, UINT32_MAX), -E2BIG);
	assert_int_equal(query(setup, 0, UINT32_MAX), -E2BIG);
	assert_int_equal(kvmstats_cpu_stats(0, setup->cpus,
					    KVMSTATS_MAX_CPUS + 1, NULL,
					    0, 0, 0, 0), -E2BIG);
	assert_untouched(setup->params, ROOM);
}

static void sum_stays_at_the_largest_number(void **state)
{
	struct setup *setup = *state;

	kvmstats_source_close((void *)setup->cpus[1].source);
	setup->cpus[1].source = open_vcpu(1, UINT64_MAX - 200);
	assert_int_equal(call(setup, ROOM, -1, 1), KVM_PARAMS);
	assert_param(&setup->params[1], "kvm.events", UINT64_MAX);
	assert_param(&setup->params[2], "kvm.level", UINT64_MAX - 198);
}

/* A descriptor whose end comes too early. */
static void failure_of_a_source_is_said(void **state)
{
	struct setup *setup = *state;
	struct image image;

	image_fill(&image);
	kvmstats_source_close((void *)setup->cpus[1].source);
	setup->cpus[1].source = image_open_file(&image);
	assert_int_equal(ftruncate(kvmstats_source_fd(setup->cpus[1].source),
				   IMAGE_DATA_AT), 0);
	assert_int_equal(call(setup, ROOM, 0, 1), KVM_PARAMS);
	assert_int_equal(call(setup, ROOM, 0, CPUS), -EIO);
	assert_int_equal(call(setup, ROOM, -1, 1), -EIO);
}

static uint64_t thread_time_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void scheduler_figures_are_the_threads(void **state)
{
	struct setup *setup = *state;
	uint64_t before_ns, after_ns, run_ns;

	run_here(&setup->cpus[1]);
	while (thread_time_ns() < 30000000)
		;
	before_ns = thread_time_ns();
	assert_int_equal(call(setup, ROOM, 1, 1), PARAMS);
	after_ns = thread_time_ns();
	run_ns = find(setup->params, PARAMS, "cpu_time")->value.ul;
	/* the file has what was there at the last tick or switch */
	assert_in_range(run_ns, before_ns - 25000000, after_ns);
	assert_true(find(setup->params, PARAMS, "timeslices")->value.ul > 0);
	assert_non_null(find(setup->params, PARAMS, "wait_time"));
	assert_true(find(setup->params, PARAMS, "user_time")->value.ul +
		    find(setup->params, PARAMS, "system_time")->value.ul > 0);
	assert_param(&setup->params[SCHED_PARAMS - 1], "vcpu_time", 0);
	assert_param(&setup->params[SCHED_PARAMS + 1], "kvm.events", 200);
}

static void unmapped_cpu_has_no_scheduler_figures(void **state)
{
	struct setup *setup = *state;

	run_here(&setup->cpus[0]);
	run_here(&setup->cpus[2]);
	assert_int_equal(call(setup, ROOM, 0, CPUS), PARAMS);
	assert_non_null(find(setup->params, ROOM, "cpu_time"));
	assert_zero(setup->params + ROOM + KVM_PARAMS, ROOM - KVM_PARAMS);
	assert_non_null(find(setup->params + 2 * ROOM, ROOM, "cpu_time"));
	/* a sum over two of three would be none */
	assert_int_equal(call(setup, ROOM, -1, 1), KVM_PARAMS);
	assert_null(find(setup->params, ROOM, "cpu_time"));
	run_here(&setup->cpus[1]);
	assert_int_equal(call(setup, ROOM, -1, 1), PARAMS);
	assert_non_null(find(setup->params, ROOM, "cpu_time"));
}

/* As long as the thread is known, /proc is enough. */
static void cpu_without_a_source(void **state)
{
	struct setup *setup = *state;
	struct kvmstats_cpu cpu = { .vcpu = 3 };

	run_here(&cpu);
	assert_int_equal(kvmstats_cpu_stats(0, &cpu, 1, setup->params, ROOM, 0,
					    1, KVMSTATS_CPU_STATS_GUEST),
			 SCHED_PARAMS);
	assert_non_null(find(setup->params, ROOM, "wait_time"));
	assert_int_equal(kvmstats_cpu_stats(0, &cpu, 1, setup->params, ROOM, -1,
					    1, KVMSTATS_CPU_STATS_GUEST),
			 SCHED_PARAMS);
	assert_int_equal(kvmstats_cpu_stats(0, &cpu, 1, NULL, 0, 0, 1,
					    KVMSTATS_CPU_STATS_GUEST),
			 SCHED_PARAMS);
}

static void *tell_tid(void *tid)
{
	*(pid_t *)tid = syscall(SYS_gettid);
	return NULL;
}

static void ended_thread_has_no_scheduler_figures(void **state)
{
	struct setup *setup = *state;
	char path[64];
	pthread_t thread;

	setup->cpus[0].pid = getpid();
	assert_int_equal(pthread_create(&thread, NULL, tell_tid,
					&setup->cpus[0].tid), 0);
	pthread_join(thread, NULL);
	sprintf(path, "/proc/self/task/%d", setup->cpus[0].tid);
	while (!access(path, F_OK))
		usleep(1000);
	assert_int_equal(call(setup, ROOM, 0, 1), KVM_PARAMS);
}

static void stat_is_parsed_behind_the_name(void **state)
{
	char text[400] = "7 (a) 1 (b) S";
	int length = strlen(text);
	struct kvmstats_param params[SCHED_PARAMS];

	(void)state;
	for (int field = 4; field < 52; field++)
		length += sprintf(text + length, " %d", 10 * field);
	assert_int_equal(params_from_stat(text, 100, params), 3);
	assert_param(&params[0], "user_time", 1400000000);
	assert_param(&params[1], "system_time", 1500000000);
	assert_param(&params[2], "vcpu_time", 4300000000);
	assert_int_equal(params_from_stat(text, 1000, params), 3);
	assert_param(&params[0], "user_time", 140000000);
	assert_int_equal(params_from_stat(text, 0, params), 0);
	assert_int_equal(params_from_stat("7 (a) S 4 5", 100, params), 0);
	assert_int_equal(params_from_stat("junk", 100, params), 0);
	assert_int_equal(params_from_stat("", 100, params), 0);
}

static void schedstat_is_parsed(void **state)
{
	struct kvmstats_param params[SCHED_PARAMS];

	(void)state;
	assert_int_equal(params_from_schedstat("18446744073709551615 20 3\n",
					       params), 3);
	assert_param(&params[0], "cpu_time", UINT64_MAX);
	assert_param(&params[1], "wait_time", 20);
	assert_param(&params[2], "timeslices", 3);
	assert_int_equal(params_from_schedstat("1 2", params), 0);
	assert_int_equal(params_from_schedstat("", params), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	TEST_LIST = {
		TEST(null_0_0_0_is_the_number_of_cpus),
		TEST(null_0_0_1_is_the_number_of_params),
		TEST(null_0_minus1_1_is_that_of_the_total),
		TEST(array_minus1_1_is_the_total),
		TEST(array_is_filled_in_strides),
		TEST(array_starts_at_any_cpu),
		TEST(past_the_last_cpu_is_refused),
		TEST(absent_cpu_is_zero),
		TEST(few_params_are_the_first),
		TEST(other_combinations_are_refused),
		TEST(counts_have_bounds),
		TEST(sum_stays_at_the_largest_number),
		TEST(failure_of_a_source_is_said),
		TEST(scheduler_figures_are_the_threads),
		TEST(unmapped_cpu_has_no_scheduler_figures),
		TEST(cpu_without_a_source),
		TEST(ended_thread_has_no_scheduler_figures),
		TEST(stat_is_parsed_behind_the_name),
		TEST(schedstat_is_parsed),
	};

	return RUN(tests);
}
