// SPDX-License-Identifier: GPL-2.0-only
/* CPU time by the host's CPUs: every row of libvirt's specification */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../lib/internal.h"
#include "image.h"

#define ROOM	8

static struct kvmstats_param params[KVMSTATS_MAX_CPUS * ROOM];

static int call(pid_t pid, unsigned int nparams, int start_cpu,
		unsigned int ncpus)
{
	memset(params, 0x55, sizeof(params));
	return kvmstats_cpu_stats(pid, NULL, 0, params, nparams, start_cpu,
				  ncpus, 0);
}

static int query(int start_cpu, unsigned int ncpus)
{
	return kvmstats_cpu_stats(getpid(), NULL, 0, NULL, 0, start_cpu, ncpus,
				  0);
}

static int cpus(void)
{
	return sysconf(_SC_NPROCESSORS_CONF);
}

static void assert_zero(const struct kvmstats_param *from, size_t count)
{
	static const struct kvmstats_param zero;

	for (size_t i = 0; i < count; i++)
		assert_memory_equal(&from[i], &zero, sizeof(zero));
}

static void burn(double seconds)
{
	clock_t end = clock() + seconds * CLOCKS_PER_SEC;

	while (clock() < end)
		;
}

static void queries(void **state)
{
	(void)state;
	assert_int_equal(query(0, 0), cpus());
	assert_int_equal(query(-1, 1), 2);
	for (int cpu = 0; cpu < cpus(); cpu++)
		assert_int_equal(query(cpu, 1), 1);
	assert_int_equal(query(0, 2), -EINVAL);
	assert_int_equal(query(1, 0), -EINVAL);
	assert_int_equal(query(-2, 1), -EINVAL);
}

/* Of the whole process, in ticks: between two looks at the clock of it. */
static void total_is_the_process_s(void **state)
{
	double before, after, said;

	(void)state;
	burn(0.1);
	before = clock() / (double)CLOCKS_PER_SEC;
	assert_int_equal(call(getpid(), ROOM, -1, 1), 2);
	after = clock() / (double)CLOCKS_PER_SEC;
	assert_string_equal(params[0].field, "user");
	assert_string_equal(params[1].field, "system");
	assert_int_equal(params[0].type, KVMSTATS_PARAM_ULLONG);
	assert_zero(params + 2, ROOM - 2);
	said = (params[0].value.ul + params[1].value.ul) / 1e9;
	assert_true(said > before - 0.05 && said < after + 0.05);
	assert_int_equal(call(getpid(), 1, -1, 1), 1);
	assert_string_equal(params[0].field, "user");
	assert_int_equal(call(INT32_MAX, ROOM, -1, 1), -ESRCH);
}

static void bad_ranges(void **state)
{
	(void)state;
	assert_int_equal(call(getpid(), 1, cpus(), 1), -EINVAL);
	assert_int_equal(call(getpid(), 1, 0, cpus() + 1), -EINVAL);
	assert_int_equal(call(getpid(), 1, cpus() - 1, 2), -EINVAL);
	assert_int_equal(call(getpid(), 1, -1, 2), -EINVAL);
	assert_int_equal(call(getpid(), 0, 0, 1), -EINVAL);
	assert_int_equal(call(getpid(), KVMSTATS_MAX_CPU_PARAMS + 1, 0, 1),
			 -E2BIG);
	assert_int_equal(call(getpid(), 1, 0, KVMSTATS_MAX_CPUS + 1),
			 -E2BIG);
	assert_int_equal(params[0].type, 0x55555555);
}

#define GROUP	"/sys/fs/cgroup/cpuacct/kvmstats-test"

/* A process in a cgroup of its own, that has worked for 0.2 s. */
static pid_t start_worker(void)
{
	int ready[2];
	char byte;
	pid_t pid;
	int fd;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		fd = open(GROUP "/emulator/tasks", O_WRONLY);
		if (fd < 0 || write(fd, "0", 1) != 1)
			_exit(1);
		burn(0.2);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static uint64_t group_usage(void)
{
	char text[64];

	assert_true(read_proc(GROUP "/emulator/cpuacct.usage", text,
			      sizeof(text)) > 0);
	return strtoull(text, NULL, 10);
}

static void usage_of_v1(void **state)
{
	uint64_t sum = 0;
	int status;
	pid_t pid;

	(void)state;
	if (getuid() || access("/sys/fs/cgroup/cpuacct/tasks", W_OK))
		skip();
	mkdir(GROUP, 0755);
	mkdir(GROUP "/emulator", 0755);
	pid = start_worker();
	assert_int_equal(call(pid, ROOM, 0, cpus()), 1);
	for (int cpu = 0; cpu < cpus(); cpu++) {
		assert_string_equal(params[cpu * ROOM].field, "usage");
		assert_zero(params + cpu * ROOM + 1, ROOM - 1);
		sum += params[cpu * ROOM].value.ul;
	}
	assert_true(sum >= 200000000 && sum <= group_usage());
	assert_int_equal(call(pid, 1, cpus() - 1, 1), 1);
	assert_string_equal(params[0].field, "usage");
	assert_int_equal(params[1].type, 0x55555555);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	rmdir(GROUP "/emulator");
	rmdir(GROUP);
	/* in no group but that of all, nothing is the VM's */
	pid = fork();
	if (!pid) {
		int fd = open("/sys/fs/cgroup/cpuacct/tasks", O_WRONLY);

		if (write(fd, "0", 1) == 1)
			_exit(call(getpid(), ROOM, 0, 1) == -ENODATA ? 0 : 2);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* As on a host with cgroup v2 only. */
static void usage_of_v2(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (getuid())
		skip();
	pid = fork();
	if (!pid) {
		if (unshare(CLONE_NEWNS) ||
		    mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL))
			_exit(1);
		umount2("/sys/fs/cgroup/cpuacct", MNT_DETACH);
		umount2("/sys/fs/cgroup/cpu,cpuacct", MNT_DETACH);
		_exit(call(getpid(), ROOM, 0, 1) == -EOPNOTSUPP &&
		      query(0, 1) == 1 &&
		      call(getpid(), ROOM, -1, 1) == 2 ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(queries),
		cmocka_unit_test(total_is_the_process_s),
		cmocka_unit_test(bad_ranges),
		cmocka_unit_test(usage_of_v1),
		cmocka_unit_test(usage_of_v2),
	};

	return RUN(tests);
}
