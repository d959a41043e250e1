// SPDX-License-Identifier: GPL-2.0-only
/* kvmstat's VMs: directories of debugfs, CPU time, vCPUs of one descriptor */
#include <errno.h>
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
		_exit(vm->count ? 3 : ret != -EXDEV);
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

/* ---- all vCPUs in one descriptor */

struct all {
	struct image image;
	struct kvmstats_source *source;
	struct vm *vm;
};

static int open_all(void **state)
{
	struct all *all = calloc(1, sizeof(*all));

	image_fill_vcpus(&all->image);
	all->source = image_open_vcpus_file(&all->image);
	all->vm = vm_new("vm", NULL);
	assert_non_null(all->vm);
	assert_int_equal(vm_add(all->vm, all->source, 12, true), 0);
	*state = all;
	return 0;
}

static int close_all(void **state)
{
	struct all *all = *state;

	vm_free(all->vm);
	free(all);
	return 0;
}

static void store(struct all *all, size_t from)
{
	size_t bytes = all->image.size_bytes - from;

	assert_int_equal(pwrite(kvmstats_source_fd(all->source),
				all->image.bytes + from, bytes, from), bytes);
}

static void count_up(struct all *all, size_t index, uint64_t by)
{
	uint64_t *values = image_data(&all->image) + index * VCPUS_RECORD_WORDS + 1;

	values[0] += by;
	store(all, IMAGE_DATA_AT);
}

static const struct watch *watch_of(const struct all *all, int vcpu)
{
	for (size_t i = 0; i < all->vm->count; i++)
		if (kvmstats_source_vcpu(all->vm->watches[i].source) == vcpu)
			return &all->vm->watches[i];
	return NULL;
}

/* By number, whatever the order of the records; each by its own values. */
static void all_vcpus(void **state)
{
	struct all *all = *state;
	struct vm *vm = all->vm;

	assert_int_equal(vm->count, 2);
	assert_int_equal(kvmstats_source_vcpu(vm->watches[0].source), 3);
	assert_int_equal(kvmstats_source_vcpu(vm->watches[1].source), 700);
	assert_int_equal(vm->watches[1].fd, 12);
	assert_int_equal(vm->watches[1].now[0], 1101);
	assert_int_equal(vm->watches[1].delta[0], 0);
	count_up(all, 1, 5);
	vm_sample(vm);
	assert_int_equal(vm->watches[0].delta[0], 0);
	assert_int_equal(vm->watches[1].delta[0], 5);
	assert_int_equal(vm->watches[1].base[0], 1101);
	count_up(all, 0, 7);
	vm_sample(vm);
	assert_int_equal(vm->watches[0].delta[0], 7);
	assert_int_equal(vm->watches[1].delta[0], 0);
	assert_true(vm->watches[0].before_ns && vm->watches[0].now_ns >
		    vm->watches[0].before_ns);
	/* one and the same moment */
	assert_int_equal(vm->watches[0].now_ns, vm->watches[1].now_ns);
}

/* More than there is room for at first, and in another order than by number. */
static void many_new_vcpus(void **state)
{
	struct all *all = *state;
	const struct watch *watch;

	vm_sample(all->vm);
	for (int i = 2; i < 21; i++) {
		size_t before = all->image.size_bytes;

		image_add_vcpu(&all->image, 100 - i);
		store(all, before);
	}
	vm_sample(all->vm);
	assert_int_equal(all->vm->count, 21);
	for (size_t i = 1; i < 21; i++)
		assert_true(kvmstats_source_compare(all->vm->watches[i - 1].source,
						    all->vm->watches[i].source) < 0);
	watch = watch_of(all, 80);
	assert_non_null(watch);
	/* it was not there before: all that it has is of this interval */
	assert_int_equal(watch->delta[0], 20101);
	assert_int_equal(watch->base[0], 0);
	assert_int_equal(watch->before_ns, watch_of(all, 3)->before_ns);
	assert_int_equal(watch->now_ns, watch_of(all, 3)->now_ns);
	count_up(all, 20, 9);
	vm_sample(all->vm);
	assert_int_equal(watch_of(all, 80)->delta[0], 9);
	assert_int_equal(watch_of(all, 3)->delta[0], 0);
}

/* The VM is looked at again, and again, and keeps its vCPUs. */
static void dropped_together(void **state)
{
	struct all *all = *state;
	unsigned int before = count_open_fds();

	vm_drop_failed(all->vm);
	assert_int_equal(all->vm->count, 2);
	assert_true(vm_has_vcpus(all->vm, all->source));
	assert_int_equal(ftruncate(kvmstats_source_fd(all->source),
				   IMAGE_DATA_AT + 8 * VCPUS_RECORD_WORDS), 0);
	vm_sample(all->vm);
	assert_int_equal(all->vm->watches[0].error, -EIO);
	vm_drop_failed(all->vm);
	assert_int_equal(all->vm->count, 0);
	assert_int_equal(all->vm->vcpus_count, 0);
	assert_int_equal(count_open_fds(), before - 1);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test_setup_teardown(of_its_threads, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(in_another_namespace, set_up,
						tear_down),
		cmocka_unit_test(cpu_time_in_an_exec),
		cmocka_unit_test_setup_teardown(all_vcpus, open_all, close_all),
		cmocka_unit_test_setup_teardown(many_new_vcpus, open_all, close_all),
		cmocka_unit_test_setup_teardown(dropped_together, open_all,
						close_all),
	};

	return RUN(tests);
}
