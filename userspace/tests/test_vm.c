// SPDX-License-Identifier: GPL-2.0-only
/* kvmstat's VMs: whose directories of debugfs are theirs; CPU time */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kvmstat/vm.h"
#include "held_file.h"
#include "image.h"

static char place[64];

/* A VM's directory, with one statistic in it. */
static void make_directory(long tid, int fd)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%ld-%d", place, tid, fd);
	assert_int_equal(mkdir(path, 0755), 0);
	strcat(path, "/exits");
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "%ld\n", tid);
	fclose(file);
}

static pthread_barrier_t ends;
static long other_tid;

static void *make_in_thread(void *unused)
{
	(void)unused;
	other_tid = syscall(SYS_gettid);
	make_directory(other_tid, 9);
	pthread_barrier_wait(&ends);
	pthread_barrier_wait(&ends);
	return NULL;
}

static int set_up(void **state)
{
	(void)state;
	strcpy(place, "/tmp/kvmstats-debugfs-XXXXXX");
	return mkdtemp(place) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", place);
	return system(command);
}

/* Of this process, with what debugfs has of it. */
static struct vm *look(int *ret)
{
	struct vm *vm = vm_new("vm", NULL);

	assert_non_null(vm);
	vm->pid = getpid();
	*ret = vm_add_debugfs(vm, place, NULL);
	return vm;
}

static bool is_first_namespace(void)
{
	struct stat st;

	return !stat("/proc/self/ns/pid", &st) && st.st_ino == 0xeffffffc;
}

/* It is named for the thread that made the VM. */
static void of_its_threads(void **state)
{
	pthread_t thread;
	struct vm *vm;
	int ret;

	(void)state;
	if (!is_first_namespace())
		skip();
	make_directory(getpid(), 7);
	make_directory(getppid(), 8);
	pthread_barrier_init(&ends, NULL, 2);
	pthread_create(&thread, NULL, make_in_thread, NULL);
	pthread_barrier_wait(&ends);
	vm = look(&ret);
	assert_int_equal(ret, 0);
	assert_int_equal(vm->count, 2);
	assert_int_equal(vm->watches[0].fd, 7);
	assert_int_equal(vm->watches[1].fd, 9);
	assert_int_equal(vm->watches[0].now[0], getpid());
	assert_int_equal(vm->watches[1].now[0], other_tid);
	vm_free(vm);
	pthread_barrier_wait(&ends);
	pthread_join(thread, NULL);
}

/* In a container the kernel's numbers are those of other processes. */
static void in_another_namespace(void **state)
{
	int status;
	pid_t child;

	(void)state;
	if (geteuid())
		skip();
	child = fork();
	if (!child) {
		struct vm *vm;
		int ret;

		if (unshare(CLONE_NEWPID | CLONE_NEWNS))
			_exit(1);
		if (fork()) {
			wait(&status);
			_exit(WEXITSTATUS(status));
		}
		/* it is process 1 here, and a directory has that number */
		if (system("mount --make-rprivate / && mount -t proc none /proc"))
			_exit(2);
		make_directory(1, 5);
		vm = look(&ret);
		_exit(vm->count ? 3 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* top shows others as well, whatever one process does. */
static void cpu_time_in_an_exec(void **state)
{
	struct vm *vm = vm_new("vm", NULL);
	struct held_file file;
	uint64_t begin_ns;

	(void)state;
	assert_non_null(vm);
	if (!held_file_start(&file, true))
		skip();
	held_file_wait_exec(&file);
	vm->pid = file.holder;
	vm->vmm = (void *)1;	/* the process is known; no more is asked for */
	begin_ns = clock_ns();
	vm_sample_cpu(vm);
	vm_sample_cpu(vm);
	assert_true(clock_ns() - begin_ns < 1000000000);
	assert_false(isnan(vm->cpu.run));
	assert_false(isnan(vm->cpu.wait));
	vm->vmm = NULL;
	vm_free(vm);
	held_file_stop(&file);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test_setup_teardown(of_its_threads, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(in_another_namespace, set_up,
						tear_down),
		cmocka_unit_test(cpu_time_in_an_exec),
	};

	return RUN(tests);
}
