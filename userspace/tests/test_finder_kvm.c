// SPDX-License-Identifier: GPL-2.0-only
/* The finder with real VMs of other processes; needs /dev/kvm with statistics. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/finder.h"
#include "image.h"

#define VCPUS	2

/* A process that does one thing, says so, and waits; its next on a line. */
struct vmm {
	pid_t pid;
	int said[2], told[2];
};

static struct {
	int kvm, vm, vm_stats, vcpus[VCPUS], stats[VCPUS];
} own;

static void make_vm(void)
{
	own.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	own.vm = ioctl(own.kvm, KVM_CREATE_VM, 0);
	for (int i = 0; i < VCPUS; i++)
		own.vcpus[i] = ioctl(own.vm, KVM_CREATE_VCPU, (long)i);
}

static void make_stats(void)
{
	own.vm_stats = ioctl(own.vm, UAPI_GET_STATS_FD, NULL);
	for (int i = 0; i < VCPUS; i++)
		own.stats[i] = ioctl(own.vcpus[i], UAPI_GET_STATS_FD, NULL);
}

static void close_vm(void)
{
	for (int i = 0; i < VCPUS; i++) {
		close(own.stats[i]);
		close(own.vcpus[i]);
	}
	close(own.vm_stats);
	close(own.vm);
	close(own.kvm);
}

static void plain(void)
{
	make_vm();
	make_stats();
}

static void duplicated(void)
{
	plain();
	for (int i = 0; i < VCPUS; i++) {
		if (dup(own.vcpus[i]) < 0 || dup(own.stats[i]) < 0)
			_exit(1);
		/* another file of the same vCPU */
		ioctl(own.vcpus[i], UAPI_GET_STATS_FD, NULL);
	}
	if (dup(own.vm) < 0)
		_exit(1);
}

static pthread_barrier_t made;

static void *make_in_own_table(void *unused)
{
	(void)unused;
	if (unshare(CLONE_FILES))
		_exit(1);
	plain();
	pthread_barrier_wait(&made);
	pause();
	return NULL;
}

static struct vmm current;

static void in_own_table(void)
{
	pthread_t thread;

	pthread_barrier_init(&made, NULL, 2);
	pthread_create(&thread, NULL, make_in_own_table, NULL);
	pthread_barrier_wait(&made);
}

static void *make_say_and_stay(void *unused)
{
	(void)unused;
	plain();
	/* by now the main thread has ended, or will in a moment */
	usleep(100000);
	if (write(current.said[1], "", 1) != 1)
		_exit(1);
	pause();
	return NULL;
}

static void without_main_thread(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, make_say_and_stay, NULL);
	pthread_exit(NULL);
}

static void without_stats(void)
{
	make_vm();
}

/* Then another VM with the same numbers, as often as it is told. */
static void remade(void)
{
	close_vm();
	plain();
}

static void other_child(void)
{
	if (!fork()) {
		pause();
		_exit(0);
	}
}

/* It keeps what it has inherited. */
static void child_with_a_vm_of_its_own(void)
{
	int ready[2];
	char byte;

	if (pipe(ready))
		_exit(1);
	if (!fork()) {
		plain();
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(0);
	}
	if (read(ready[0], &byte, 1) != 1)
		_exit(1);
	close(ready[0]);
	close(ready[1]);
}

static struct vmm *start(void (*first)(void), void (*next)(void))
{
	struct vmm *vmm = &current;
	char byte;

	assert_int_equal(pipe(vmm->said), 0);
	assert_int_equal(pipe(vmm->told), 0);
	vmm->pid = fork();
	if (!vmm->pid) {
		setpgid(0, 0);
		first();
		while (write(vmm->said[1], "", 1) == 1 &&
		       read(vmm->told[0], &byte, 1) == 1)
			next();
		_exit(0);
	}
	/* if it ends, that is an answer, too */
	close(vmm->said[1]);
	close(vmm->told[0]);
	assert_int_equal(read(vmm->said[0], &byte, 1), 1);
	return vmm;
}

static void tell(struct vmm *vmm)
{
	char byte;

	assert_int_equal(write(vmm->told[1], "", 1), 1);
	assert_int_equal(read(vmm->said[0], &byte, 1), 1);
}

static void stop(struct vmm *vmm)
{
	kill(-vmm->pid, SIGKILL);
	waitpid(vmm->pid, NULL, 0);
	close(vmm->said[0]);
	close(vmm->told[1]);
}

static struct kvmstats_finder *finder;

static int set_up(void **state)
{
	(void)state;
	return kvmstats_finder_new(0, NULL, &finder);
}

/* The next test's VMM is forked from here: it must not have this one's VM. */
static int tear_down(void **state)
{
	(void)state;
	kvmstats_finder_free(finder);
	kvmstats_close_wait(KVMSTATS_CLOSE_FOREIGN);
	kvmstats_close_wait(KVMSTATS_CLOSE_VM);
	return 0;
}

static struct kvmstats_vmm *look(struct vmm *vmm)
{
	struct kvmstats_vmm *found;

	assert_int_equal(kvmstats_finder_look(finder, vmm->pid, &found), 1);
	assert_int_equal(kvmstats_vmm_pid(found), vmm->pid);
	return found;
}

static int vcpu_at(const struct kvmstats_vmm *found, size_t index)
{
	return kvmstats_source_vcpu(kvmstats_vmm_source(found, index));
}

static void assert_sources(const struct kvmstats_vmm *found)
{
	assert_int_equal(kvmstats_vmm_error(found), 0);
	assert_int_equal(kvmstats_vmm_missing(found), 0);
	assert_int_equal(kvmstats_vmm_source_count(found), 1 + VCPUS);
	for (int i = 0; i < 1 + VCPUS; i++)
		assert_int_equal(vcpu_at(found, i), i - 1);
}

static void found_with_all_it_has(void **state)
{
	struct vmm *vmm = start(plain, remade);
	struct kvmstats_vmm *found = look(vmm);

	(void)state;
	assert_sources(found);
	assert_int_equal(kvmstats_vmm_held(found, KVMSTATS_FD_VM), 1);
	assert_int_equal(kvmstats_vmm_held(found, KVMSTATS_FD_VCPU), VCPUS);
	assert_int_equal(kvmstats_vmm_look(found), 0);
	assert_true(kvmstats_vmm_start_ticks(found) > 0);
	assert_true(kvmstats_vmm_pidfd(found) >= 0);
	stop(vmm);
	assert_int_equal(kvmstats_vmm_look(found), -ESRCH);
	assert_int_equal(kvmstats_vmm_source_count(found), 1 + VCPUS);
	kvmstats_vmm_free(found);
}

static void each_object_once(void **state)
{
	struct vmm *vmm = start(duplicated, remade);
	struct kvmstats_vmm *found = look(vmm);

	(void)state;
	assert_sources(found);
	assert_int_equal(kvmstats_vmm_held(found, KVMSTATS_FD_VM), 1);
	assert_int_equal(kvmstats_vmm_held(found, KVMSTATS_FD_VCPU), VCPUS);
	kvmstats_vmm_free(found);
	stop(vmm);
}

/* The number of the other process is in the kernel's list of children. */
static pid_t child_of(pid_t pid)
{
	char path[64], text[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	assert_true(read_proc(path, text, sizeof(text)) > 0);
	return atoi(text);
}

static void heir_is_no_vmm(void **state)
{
	struct vmm *vmm = start(plain, other_child);
	struct kvmstats_vmm *found = look(vmm), *other;
	pid_t child;

	(void)state;
	tell(vmm);
	child = child_of(vmm->pid);
	assert_int_equal(kvmstats_finder_look(finder, child, &other), 0);
	/* when the VMM has ended, the child has what is left of it */
	kill(vmm->pid, SIGKILL);
	waitpid(vmm->pid, NULL, 0);
	kvmstats_vmm_free(found);
	assert_int_equal(kvmstats_finder_look(finder, child, &other), 1);
	assert_sources(other);
	kvmstats_vmm_free(other);
	stop(vmm);
}

/* It is looked at before its parent is: a VMM has been there for longer. */
static void heir_that_is_seen_first(void **state)
{
	struct vmm *vmm = start(plain, other_child);
	struct kvmstats_vmm *found, *other;

	(void)state;
	tell(vmm);
	assert_int_equal(kvmstats_finder_look(finder, child_of(vmm->pid),
					      &other), 0);
	found = look(vmm);
	assert_sources(found);
	kvmstats_vmm_free(found);
	stop(vmm);
}

static void heir_with_a_vm_of_its_own(void **state)
{
	struct vmm *vmm = start(plain, child_with_a_vm_of_its_own);
	struct kvmstats_vmm *found, *other;
	pid_t child;

	(void)state;
	tell(vmm);
	child = child_of(vmm->pid);
	for (int first = 0; first < 2; first++) {
		found = first ? NULL : look(vmm);
		assert_int_equal(kvmstats_finder_look(finder, child, &other),
				 1);
		assert_sources(other);
		assert_int_equal(kvmstats_vmm_held(other, KVMSTATS_FD_VM), 1);
		assert_int_equal(kvmstats_vmm_look(other), 0);
		assert_int_equal(kvmstats_vmm_held(other, KVMSTATS_FD_VM), 1);
		kvmstats_vmm_free(other);
		kvmstats_vmm_free(found);
	}
	stop(vmm);
}

static unsigned int kvm_files_here(void)
{
	struct kvm_files files = { 0 };

	assert_int_equal(kvm_files_list(&files, "/proc/self/fd"), 0);
	free(files.list);
	return files.count;
}

static void made_again_is_another(void **state)
{
	struct vmm *vmm = start(plain, remade);
	struct kvmstats_vmm *found = look(vmm);
	unsigned int held = kvm_files_here();

	(void)state;
	for (int i = 0; i < 3; i++) {
		tell(vmm);
		assert_int_equal(kvmstats_vmm_look(found), KVMSTATS_VMM_GREW |
				 KVMSTATS_VMM_SHRANK | KVMSTATS_VMM_NEW_VM);
		assert_int_equal(kvmstats_vmm_gone_count(found), 1 + VCPUS);
		assert_sources(found);
		kvmstats_vmm_settle(found);
		kvmstats_close_wait(KVMSTATS_CLOSE_VM);
		assert_int_equal(kvm_files_here(), held);
	}
	kvmstats_vmm_free(found);
	stop(vmm);
}

static void closed_vm(void **state)
{
	struct vmm *vmm = start(plain, close_vm);
	struct kvmstats_vmm *found = look(vmm);

	(void)state;
	tell(vmm);
	assert_int_equal(kvmstats_vmm_look(found), -ENODATA);
	kvmstats_vmm_free(found);
	kvmstats_close_wait(KVMSTATS_CLOSE_VM);
	assert_int_equal(kvm_files_here(), 0);
	stop(vmm);
}

static void assert_sampled(const struct kvmstats_source *source)
{
	uint64_t sample[4096];

	assert_int_equal(kvmstats_source_sample(source, sample, 4096), 0);
}

/* What has gone is told, although what has come cannot be had. */
static void look_that_fails_half_way(void **state)
{
	struct vmm *vmm = start(plain, remade);
	struct kvmstats_vmm *found = look(vmm);
	int table_fd = found->table_fd;

	(void)state;
	tell(vmm);
	found->table_fd = 1000;	/* open nowhere: nothing can be asked for */
	assert_int_equal(kvmstats_vmm_look(found), KVMSTATS_VMM_SHRANK |
			 KVMSTATS_VMM_NEW_VM);
	found->table_fd = table_fd;
	assert_int_equal(kvmstats_vmm_gone_count(found), 1 + VCPUS);
	for (int i = 0; i < 1 + VCPUS; i++)
		assert_sampled(kvmstats_vmm_gone(found, i));
	assert_int_equal(kvmstats_vmm_source_count(found), 0);
	assert_int_equal(kvmstats_vmm_error(found), -EBADF);
	assert_int_equal(kvmstats_vmm_look(found), KVMSTATS_VMM_GREW);
	assert_sources(found);
	kvmstats_vmm_free(found);
	stop(vmm);
}

/* Without an answer nothing has changed, at this look and at the next. */
static void look_without_an_answer(void **state)
{
	struct vmm *vmm = start(plain, remade);
	struct kvmstats_vmm *found = look(vmm);

	(void)state;
	tell(vmm);
	assert_int_equal(kill(finder->worker.pid, SIGSTOP), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(kvmstats_vmm_look(found), -ETIME);
		assert_int_equal(kvmstats_vmm_gone_count(found), 0);
		assert_sources(found);
		for (int j = 0; j < 1 + VCPUS; j++)
			assert_sampled(kvmstats_vmm_source(found, j));
	}
	kvmstats_vmm_free(found);
	stop(vmm);
}

/* Closed between listing and copying: no word of the kernel's. */
static void closed_before_the_copy(void **state)
{
	struct vmm *vmm = start(without_stats, close_vm);
	struct kvmstats_vmm *found = look(vmm);

	(void)state;
	found->refused = 0;
	for (size_t i = 0; i < found->count; i++)
		kvmstats_source_close(found->held[i].source);
	found->count = 0;
	tell(vmm);
	assert_int_equal(vmm_take(found), 0);
	assert_int_equal(found->refused, 0);
	assert_int_equal(found->error, 0);
	kvmstats_vmm_free(found);
	stop(vmm);
}

/* What the kernel said of one VM is not what it says of the next. */
static void refused_for_one_vm(void **state)
{
	struct vmm *vmm = start(plain, remade);
	struct kvmstats_vmm *found = look(vmm);

	(void)state;
	found->refused = -EIO;
	tell(vmm);
	assert_true(kvmstats_vmm_look(found) & KVMSTATS_VMM_NEW_VM);
	assert_int_equal(found->refused, 0);
	assert_sources(found);
	kvmstats_vmm_free(found);
	stop(vmm);
}

/* What the VMM keeps none of: the kernel makes it, or does not. */
static void made_or_missing(void **state)
{
	struct vmm *vmm = start(without_stats, make_stats);
	struct kvmstats_vmm *found = look(vmm);
	bool makes = !kvmstats_vmm_error(found);

	(void)state;
	if (makes) {
		assert_sources(found);
		assert_int_equal(kvmstats_vmm_look(found), 0);
	} else {
		assert_int_equal(kvmstats_vmm_error(found), -EIO);
		assert_int_equal(kvmstats_vmm_missing(found), 1 + VCPUS);
		assert_int_equal(kvmstats_vmm_source_count(found), 0);
		/* then it takes them, and they are found */
		tell(vmm);
		assert_int_equal(kvmstats_vmm_look(found), KVMSTATS_VMM_GREW);
		assert_sources(found);
	}
	kvmstats_vmm_free(found);
	stop(vmm);
}

/* Linux 6.9 has pidfds of threads. */
static void assert_found_or_said(struct vmm *vmm)
{
	struct kvmstats_vmm *found = look(vmm);

	assert_int_equal(kvmstats_vmm_held(found, KVMSTATS_FD_VM), 1);
	if (kvmstats_vmm_error(found))
		assert_int_equal(kvmstats_vmm_error(found), -EOPNOTSUPP);
	else
		assert_sources(found);
	assert_int_equal(kvmstats_vmm_look(found), 0);
	kvmstats_vmm_free(found);
}

static void thread_with_its_own_table(void **state)
{
	struct vmm *vmm = start(in_own_table, remade);
	struct kvmstats_vmm *found;

	(void)state;
	/* that it is another table, only kcmp can tell */
	if (syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILES, 0, 0) < 0)
		assert_int_equal(kvmstats_finder_look(finder, vmm->pid, &found),
				 0);
	else
		assert_found_or_said(vmm);
	stop(vmm);
}

static void main_thread_has_ended(void **state)
{
	struct vmm *vmm = start(without_main_thread, remade);

	(void)state;
	assert_found_or_said(vmm);
	stop(vmm);
}

/* Too few descriptor numbers here: counted and said, and made up for later. */
static void no_room(void **state)
{
	struct vmm *vmm = start(plain, remade);
	struct rlimit before, limit;
	struct kvmstats_vmm *found;
	int fds[2];

	(void)state;
	/* the worker has its own limit */
	found = look(vmm);
	kvmstats_vmm_free(found);
	kvmstats_close_wait(KVMSTATS_CLOSE_VM);
	getrlimit(RLIMIT_NOFILE, &before);
	limit = before;
	/* room for the pidfd, and one source */
	for (int i = 0; i < 2; i++)
		fds[i] = dup(0);
	limit.rlim_cur = fds[1] + 1;
	close(fds[0]);
	close(fds[1]);
	setrlimit(RLIMIT_NOFILE, &limit);
	found = look(vmm);
	assert_int_equal(kvmstats_vmm_error(found), -EMFILE);
	assert_in_range(kvmstats_vmm_missing(found), 1, VCPUS + 1);
	assert_int_equal(kvmstats_raise_fd_limit(), before.rlim_max);
	assert_true(kvmstats_vmm_look(found) & KVMSTATS_VMM_GREW);
	assert_sources(found);
	setrlimit(RLIMIT_NOFILE, &before);
	kvmstats_vmm_free(found);
	stop(vmm);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	TEST_LIST = {
		TEST(found_with_all_it_has),
		TEST(each_object_once),
		TEST(heir_is_no_vmm),
		TEST(heir_that_is_seen_first),
		TEST(heir_with_a_vm_of_its_own),
		TEST(made_again_is_another),
		TEST(look_that_fails_half_way),
		TEST(look_without_an_answer),
		TEST(closed_before_the_copy),
		TEST(refused_for_one_vm),
		TEST(closed_vm),
		TEST(made_or_missing),
		TEST(thread_with_its_own_table),
		TEST(main_thread_has_ended),
		TEST(no_room),
	};

	return RUN(tests);
}
