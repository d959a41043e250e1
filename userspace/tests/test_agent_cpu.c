// SPDX-License-Identifier: GPL-2.0-only
/* kvmstatd: the threads of vCPUs are searched for, and no scrape waits for that. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "held_file.h"
#include "line.h"

#define VCPU_TIME "kvm_vcpu_cpu_seconds_total{vm=\"guest\",vcpu=\"3\"} "

static const struct settings settings = { .max_fds_per_vm = 100 };

static int open_registry(void **state)
{
	static struct registry registry;

	*state = &registry;
	return registry_open(&registry, &settings.filters);
}

static int close_registry(void **state)
{
	close_wait();
	registry_close(*state);
	return 0;
}

/* A child whose thread has that name, and waits, or works. */
static pid_t start_thread(const char *name, bool works)
{
	int ready[2];
	pid_t child;
	char byte;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (!child) {
		prctl(PR_SET_NAME, name);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (write(ready[1], "y", 1) != 1)
			_exit(1);
		while (works)
			;
		pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return child;
}

static pid_t thread_named(const char *name)
{
	return start_thread(name, false);
}

static void end(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static struct vm *add_vm_of(struct registry *registry, pid_t pid)
{
	struct vm *vm = agent_add_vm(registry, "guest", pid);
	struct kvmstats_source *source;
	struct image image;

	vm->pidfd = syscall(SYS_pidfd_open, pid, 0);
	assert_true(vm->pidfd >= 0);
	image_fill(&image);
	assert_int_equal(image_open(&image, &source), 0);
	agent_add(registry, vm, source, &settings);
	return vm;
}

static void remove_vm(struct registry *registry, struct vm *vm)
{
	int pidfd = vm->pidfd;

	agent_remove(registry, vm);
	close(pidfd);
}

static char *scrape(struct registry *registry)
{
	return agent_text(registry, PROMETHEUS, &settings, 1 << 20);
}

static bool is_searching(struct registry *registry, const struct vm *vm)
{
	bool searching;

	pthread_mutex_lock(&registry->cpu_lock);
	searching = vm->searching;
	pthread_mutex_unlock(&registry->cpu_lock);
	return searching;
}

static void wait_for_search(struct registry *registry, const struct vm *vm)
{
	for (int tries = 0; is_searching(registry, vm); tries++) {
		assert_int_not_equal(tries, 60000);
		usleep(1000);
	}
}

/*
 * What the next scrape says. On a machine that is busy enough the search's worker
 * runs out of patience, and is asked again.
 */
static char *scrape_when_found(struct registry *registry, struct vm *vm)
{
	char *text;

	for (int tries = 0;; tries++) {
		wait_for_search(registry, vm);
		text = scrape(registry);
		if (strstr(text, VCPU_TIME) || tries == 3)
			return text;
		free(text);
		vm->search_ns = 0;
		free(scrape(registry));
	}
}

static void found_for_the_next_scrape(void **state)
{
	struct registry *registry = *state;
	pid_t child = thread_named("CPU 3/KVM");
	struct vm *vm = add_vm_of(registry, child);
	char *text = scrape(registry);

	assert_null(strstr(text, VCPU_TIME));
	assert_non_null(strstr(text, "kvm_vm_process_cpu_seconds_total{vm=\"guest\""));
	free(text);
	text = scrape_when_found(registry, vm);
	assert_non_null(strstr(text, VCPU_TIME));
	free(text);
	end(child);
	remove_vm(registry, vm);
}

static double seconds_of(const char *text)
{
	const char *line = strstr(text, VCPU_TIME);

	return line ? strtod(line + strlen(VCPU_TIME), NULL) : -1;
}

/* What it says is of now; it is closed with the thread, and with the VM. */
static void file_stays_open(void **state)
{
	struct registry *registry = *state;
	unsigned int fds;
	double before, after = 0;
	struct vm *vms[2];
	pid_t child;
	char *text;

	assert_int_equal(cpu_reserve_fds(4095), 0);
	assert_int_equal(cpu_reserve_fds(1000000), 8192);
	assert_int_equal(cpu_reserve_fds(16000), 1000);
	child = start_thread("CPU 3/KVM", true);
	for (int i = 0; i < 2; i++)
		vms[i] = add_vm_of(registry, child);
	fds = count_open_fds();
	free(scrape(registry));
	for (int i = 0; i < 2; i++)
		free(scrape_when_found(registry, vms[i]));
	text = scrape(registry);
	before = seconds_of(text);
	free(text);
	assert_true(before >= 0);
	assert_int_equal(count_open_fds(), fds + 2);
	for (int i = 0; after <= before && i < 6000; i++) {
		usleep(10000);
		text = scrape(registry);
		after = seconds_of(text);
		free(text);
	}
	assert_true(after > before);
	assert_int_equal(count_open_fds(), fds + 2);
	remove_vm(registry, vms[1]);
	close_wait();
	/* and its pidfd */
	assert_int_equal(count_open_fds(), fds);
	end(child);
	text = scrape(registry);
	assert_true(seconds_of(text) < 0);
	free(text);
	remove_vm(registry, vms[0]);
	cpu_reserve_fds(0);
}

/* One that is in no thread yet is searched for again, but not in each scrape. */
static void not_found_is_searched_for_again(void **state)
{
	struct registry *registry = *state;
	pid_t child = thread_named("no such vCPU");
	struct vm *vm = add_vm_of(registry, child);
	uint64_t pause_ns;

	free(scrape(registry));
	wait_for_search(registry, vm);
	pause_ns = vm->pause_ns;
	assert_true(vm->search_ns <= clock_ns() + pause_ns);
	vm->search_ns = clock_ns() + 3600000000000ull;
	free(scrape(registry));
	assert_false(is_searching(registry, vm));
	vm->search_ns = 0;
	free(scrape(registry));
	wait_for_search(registry, vm);
	assert_int_equal(vm->pause_ns, 2 * pause_ns);
	end(child);
	remove_vm(registry, vm);
}

/* Whoever looks at what this one's threads wait in waits for ever. */
static void stuck_process_delays_no_scrape(void **state)
{
	struct registry *registry = *state;
	struct held_file file;
	struct vm *vm;
	char *text;

	if (!held_file_start(&file, true))
		skip();
	held_file_wait_exec(&file);
	vm = add_vm_of(registry, file.holder);
	for (int i = 0; i < 2; i++) {
		text = scrape(registry);
		assert_true(is_searching(registry, vm));
		assert_non_null(strstr(text, "kvm_vcpu_events_total{vm=\"guest\""));
		free(text);
	}
	remove_vm(registry, vm);	/* the search holds it */
	held_file_stop(&file);
}

static void ended_while_searching(void **state)
{
	struct registry *registry = *state;
	struct vm *vms[50];
	pid_t child = thread_named("CPU 3/KVM");

	for (int i = 0; i < 50; i++)
		vms[i] = add_vm_of(registry, child);
	free(scrape(registry));
	for (int i = 0; i < 50; i++)
		remove_vm(registry, vms[i]);
	end(child);
}

int main(void)
{
#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, open_registry, close_registry)
	TEST_LIST = {
		TEST(found_for_the_next_scrape),
		TEST(file_stays_open),
		TEST(not_found_is_searched_for_again),
		TEST(ended_while_searching),
		TEST(stuck_process_delays_no_scrape),
	};

	return RUN(tests);
}
