// SPDX-License-Identifier: GPL-2.0-only
/* Which thread runs which vCPU: by name, and what is not believed */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../lib/cpu_stats.h"
#include "image.h"

#define CPUS		3

struct setup {
	struct kvmstats_cpu cpus[CPUS];
};

static void change_number(struct setup *setup, int cpu, int number)
{
	struct kvmstats_source *source;
	struct image image;

	kvmstats_source_close((void *)setup->cpus[cpu].source);
	image_fill(&image);
	sprintf((char *)image.bytes + IMAGE_ID_AT, "kvm-77/vcpu-%d", number);
	assert_int_equal(image_open(&image, &source), 0);
	setup->cpus[cpu].source = source;
}

static int set_up(void **state)
{
	struct setup *setup = calloc(1, sizeof(*setup));

	assert_non_null(setup);
	for (int i = 0; i < CPUS; i++)
		change_number(setup, i, i);
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

static void *tell_tid(void *tid)
{
	*(pid_t *)tid = syscall(SYS_gettid);
	return NULL;
}

static void names_of_threads(void **state)
{
	(void)state;
	assert_int_equal(vcpu_of_name("CPU 0/KVM"), 0);
	assert_int_equal(vcpu_of_name("CPU 287/KVM"), 287);
	assert_int_equal(vcpu_of_name("vcpu4"), 4);
	assert_int_equal(vcpu_of_name("fc_vcpu 1"), 1);
	assert_int_equal(vcpu_of_name("crosvm_vcpu2"), 2);
	assert_int_equal(vcpu_of_name("kvm-vcpu-3"), 3);
	assert_int_equal(vcpu_of_name("CPU 0/TCG"), -1);
	assert_int_equal(vcpu_of_name("CPU -1/KVM"), -1);
	assert_int_equal(vcpu_of_name("CPU 1/KVMx"), -1);
	assert_int_equal(vcpu_of_name("vcpu"), -1);
	assert_int_equal(vcpu_of_name(""), -1);
}

static void system_calls_of_threads(void **state)
{
	int fd = 0;

	(void)state;
	assert_true(run_from_syscall("16 0xd 0xae80 0x0 0x1 0x2 0x3 0x4 0x5\n",
				     &fd));
	assert_int_equal(fd, 13);
	/* a 32-bit program's */
	assert_true(run_from_syscall("54 0x9 0xae80 0x0 0x0 0x0 0x0 0xfff0 0x80",
				     &fd));
	assert_int_equal(fd, 9);
	/* a worker of the kernel, which has the registers of its maker */
	assert_false(run_from_syscall("16 0x5 0xae80 0x0 0x8 0x0 0x7 0x0 0x0",
				      &fd));
	assert_false(run_from_syscall("16 0x5 0xae80 0x0 0x8", &fd));
	assert_false(run_from_syscall("running\n", &fd));
	assert_false(run_from_syscall("-1 0x7ffd 0x7f00\n", &fd));
	assert_false(run_from_syscall("202 0x7f 0x80 0x2 0x1 0x1 0x1 0x4 0x5\n",
				      &fd));
	assert_false(run_from_syscall("", &fd));
}

/* Threads with the names of QEMU's; they wait until they are told to end. */
struct named {
	pthread_t threads[CPUS];
	pid_t tids[CPUS];
	pthread_barrier_t started, end;
};

static struct named named;

static void *wait_for_end(void *tid)
{
	tell_tid(tid);
	pthread_barrier_wait(&named.started);
	pthread_barrier_wait(&named.end);
	return NULL;
}

static void start_named(const char *const names[CPUS])
{
	pthread_barrier_init(&named.started, NULL, CPUS + 1);
	pthread_barrier_init(&named.end, NULL, CPUS + 1);
	for (int i = 0; i < CPUS; i++) {
		assert_int_equal(pthread_create(&named.threads[i], NULL,
						wait_for_end, &named.tids[i]),
				 0);
		pthread_setname_np(named.threads[i], names[i]);
	}
	pthread_barrier_wait(&named.started);
}

static void end_named(void)
{
	pthread_barrier_wait(&named.end);
	for (int i = 0; i < CPUS; i++)
		pthread_join(named.threads[i], NULL);
}

static void forget_threads(struct setup *setup)
{
	for (int i = 0; i < CPUS; i++)
		setup->cpus[i].tid = 0;
}

/* QEMU's numbers 0, 1, 2 are KVM's 0, 1, 4 where a socket has three cores. */
static void threads_are_found_by_name(void **state)
{
	static const char *const names[] = {
		"CPU 2/KVM", "CPU 0/KVM", "CPU 1/KVM",
	};
	struct setup *setup = *state;

	change_number(setup, 2, 4);
	start_named(names);
	assert_int_equal(kvmstats_cpu_threads(getpid(), setup->cpus, CPUS),
			 CPUS);
	assert_int_equal(setup->cpus[0].tid, named.tids[1]);
	assert_int_equal(setup->cpus[1].tid, named.tids[2]);
	assert_int_equal(setup->cpus[2].tid, named.tids[0]);
	assert_int_equal(setup->cpus[2].pid, getpid());
	/* one that is known and says otherwise: the names are not believed */
	forget_threads(setup);
	setup->cpus[0].tid = named.tids[0];
	assert_int_equal(kvmstats_cpu_threads(getpid(), setup->cpus, CPUS), 1);
	assert_int_equal(setup->cpus[1].tid, 0);
	/* a thread more than vCPUs: which one is none? */
	forget_threads(setup);
	assert_int_equal(kvmstats_cpu_threads(getpid(), setup->cpus, CPUS - 1),
			 0);
	end_named();
}

static void equal_names_are_not_believed(void **state)
{
	static const char *const names[] = {
		"CPU 0/KVM", "CPU 1/KVM", "CPU 1/KVM",
	};
	struct setup *setup = *state;

	start_named(names);
	assert_int_equal(kvmstats_cpu_threads(getpid(), setup->cpus, CPUS), 0);
	assert_int_equal(setup->cpus[0].tid, 0);
	end_named();
}

static void equal_vcpus_are_refused(void **state)
{
	struct setup *setup = *state;

	change_number(setup, 2, 1);
	assert_int_equal(kvmstats_cpu_threads(getpid(), setup->cpus, CPUS),
			 -ENOTUNIQ);
	assert_int_equal(kvmstats_cpu_threads(getpid(), setup->cpus,
					      KVMSTATS_MAX_CPUS + 1),
			 -E2BIG);
}

static void no_such_process(void **state)
{
	struct setup *setup = *state;

	assert_int_equal(kvmstats_cpu_threads(INT32_MAX, setup->cpus, CPUS),
			 -ESRCH);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(names_of_threads),
		cmocka_unit_test(system_calls_of_threads),
		TEST(threads_are_found_by_name),
		TEST(equal_names_are_not_believed),
		TEST(equal_vcpus_are_refused),
		TEST(no_such_process),
	};

	return RUN(tests);
}
