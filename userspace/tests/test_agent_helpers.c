// SPDX-License-Identifier: GPL-2.0-only
/* What helpers say of VMs, beside what their VMMs say themselves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kvmstatd/http.h"
#include "agent_receiver.h"

/* A helper of what @fds are, as it would find them. */
static struct kvmstats_sender *helps_with(struct agent *agent, const int *fds,
					  size_t count)
{
	uint64_t start = process_start_ticks("self");
	struct kvmstats_sender *sender;

	assert_int_equal(kvmstats_sender_new("found", "", &sender), 0);
	assert_int_equal(kvmstats_sender_on_behalf(sender, getpid(), start), 0);
	assert_int_equal(kvmstats_sender_connect(sender, agent->path), 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(kvmstats_sender_add_stats(sender, dup(fds[i])), 0);
	assert_int_equal(kvmstats_sender_flush(sender), count);
	turn(agent);
	return sender;
}

static struct kvmstats_sender *helps(struct agent *agent)
{
	struct kvmstats_sender *sender = helps_with(agent, &stats_fd, 1);

	assert_int_equal(agent->registry.count, 1);
	return sender;
}

/* Of two helpers the first counts, and the second when that has gone. */
static void two_helpers(void **state)
{
	struct agent *agent = *state;
	struct kvmstats_sender *one, *two;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	one = helps(agent);
	two = helps(agent);
	assert_string_equal(agent->registry.vms[0]->key, "found");
	assert_false(hung_up(kvmstats_sender_fd(two)));
	kvmstats_sender_free(one);
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	/* it is to try again */
	assert_true(hung_up(kvmstats_sender_fd(two)));
	kvmstats_sender_free(two);
	kvmstats_sender_free(helps(agent));
}

static size_t count_lines(const char *text, const char *part)
{
	size_t count = 0;

	for (; (text = strstr(text, part)); text += strlen(part))
		count++;
	return count;
}

/* A series, and how often it is there. */
static void expect(struct agent *agent, const char *series, size_t count)
{
	char *text = agent_text(&agent->registry, PROMETHEUS, &settings, 1 << 20);
	size_t found = count_lines(text, series);

	if (found != count)
		print_error("%zu times \"%s\" in\n%s\n", found, series, text);
	free(text);
	assert_int_equal(found, count);
}

#define EXITS	"\nkvm_vcpu_exits_total{vm=\"%s\",vcpu=\"0\"} "
#define DISK	"\nkvm_block_read_ios_total{vm=\"%s\",device=\"%s\"} "

/* The VM @key is there once, with vCPU 0 if @vcpu, and these disks. */
static void expect_vm(struct agent *agent, const char *key, bool vcpu, int a, int b)
{
	char series[128], *page;
	size_t length;

	expect(agent, "\nkvm_vm_info{", 1);
	expect(agent, "\nkvm_vm_start_time_seconds{", 1);
	expect(agent, "\nkvmstatd_vms 1\n", 1);
	snprintf(series, sizeof(series), "\nkvm_vm_info{vm=\"%s\",", key);
	expect(agent, series, 1);
	snprintf(series, sizeof(series), EXITS, key);
	expect(agent, series, vcpu);
	snprintf(series, sizeof(series), DISK, key, "a");
	expect(agent, series, a);
	snprintf(series, sizeof(series), DISK, key, "b");
	expect(agent, series, b);
	expect(agent, "\nkvm_block_read_ios_total{", a + b);
	page = status_page(&agent->registry, &length);
	assert_non_null(page);
	assert_int_equal(count_lines(page, "<tr>"), 1);
	assert_non_null(strstr(page, "<dt>VMs</dt><dd>1</dd>"));
	free(page);
}

struct disks {
	struct kvmstats_block *a, *b;
	int fds[4];		/* VM, vCPU 0, disks */
};

static void make_disks(struct disks *disks)
{
	assert_int_equal(kvmstats_block_new("a", NULL, &disks->a), 0);
	assert_int_equal(kvmstats_block_new("b", NULL, &disks->b), 0);
	disks->fds[0] = stats_fd;
	disks->fds[1] = vcpu_fds[0];
	disks->fds[2] = kvmstats_device_fd(kvmstats_block_device(disks->a));
	disks->fds[3] = kvmstats_device_fd(kvmstats_block_device(disks->b));
}

static void free_disks(struct disks *disks)
{
	kvmstats_block_free(disks->a);
	kvmstats_block_free(disks->b);
}

/* Devices that a VMM registers join what a helper finds of it, whoever comes first. */
static void devices_join(void **state)
{
	struct agent *agent = *state;
	struct kvmstats_sender *sender;
	struct disks disks;
	int fd, other;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	make_disks(&disks);
	sender = helps_with(agent, disks.fds, 3);
	expect_vm(agent, "found", true, 1, 0);
	/* of a disk that both have, the VMM's own counts */
	fd = connect_raw(agent->path);
	say(fd, "itself", 2, disks.fds + 2, 2);
	turn(agent);
	assert_false(hung_up(kvmstats_sender_fd(sender)));
	expect_vm(agent, "found", true, 1, 1);
	expect(agent, "registered_by=\"helper\"", 1);
	/* another registration of its own is another VM */
	other = connect_raw(agent->path);
	say(other, "third", 1, disks.fds + 2, 1);
	turn(agent);
	expect(agent, "\nkvm_block_read_ios_total{vm=\"third\",device=\"a\"} ", 1);
	expect(agent, "\nkvmstatd_vms 2\n", 1);
	close(other);
	turn(agent);
	close(fd);
	turn(agent);
	expect_vm(agent, "found", true, 1, 0);
	fd = connect_raw(agent->path);
	say(fd, "itself", 1, disks.fds + 3, 1);
	turn(agent);
	expect_vm(agent, "found", true, 1, 1);
	/* the helper goes, and comes */
	kvmstats_sender_free(sender);
	turn(agent);
	expect_vm(agent, "found", false, 0, 1);
	expect(agent, "name=\"itself\"", 1);
	sender = helps_with(agent, disks.fds, 3);
	expect_vm(agent, "found", true, 1, 1);
	/* its own statistics count more than a helper's */
	say(fd, "itself", 1, disks.fds, 1);
	say(fd, "itself", 1, disks.fds + 1, 1);
	turn(agent);
	expect_vm(agent, "found", true, 0, 1);
	expect(agent, "registered_by=\"vmm\"", 1);
	assert_false(hung_up(kvmstats_sender_fd(sender)));
	close(fd);
	turn(agent);
	assert_true(hung_up(kvmstats_sender_fd(sender)));
	assert_int_equal(agent->registry.count, 0);
	kvmstats_sender_free(sender);
	/* devices first: the VM keeps the name that they have */
	fd = connect_raw(agent->path);
	say(fd, "itself", 1, disks.fds + 2, 1);
	turn(agent);
	expect_vm(agent, "itself", false, 1, 0);
	sender = helps_with(agent, disks.fds, 4);
	expect_vm(agent, "itself", true, 1, 1);
	kvmstats_sender_free(sender);
	close(fd);
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	assert_int_equal(agent->registry.num_pairs, 0);
	free_disks(&disks);
}

static struct vm *restore(struct agent *agent, const char *name, bool on_behalf,
			  uint64_t serial)
{
	struct identity identity = {
		.name = strdup(name), .uuid = strdup("u"), .pid = getpid(),
		.start_ticks = process_start_ticks("self"), .start_ms = 1,
		.uid = getuid(), .gid = getgid(), .on_behalf = on_behalf,
	};
	struct vm *vm = receiver_restore(&agent->receiver, &identity, "key", serial,
					 syscall(SYS_pidfd_open, getpid(), 0));

	assert_non_null(vm);
	assert_string_equal(vm->key, "key");
	return vm;
}

static void restore_source(struct agent *agent, struct vm *vm, int fd)
{
	struct kvmstats_source *source;

	assert_int_equal(kvmstats_source_open(dup(fd), agent->receiver.cache,
					      &source), 0);
	assert_int_equal(agent_add(&agent->registry, vm, source, &settings), 0);
}

static void restore_both(struct agent *agent, bool own_first, struct vm **found,
			 struct vm **own)
{
	if (own_first)
		*own = restore(agent, "itself", false, 6);
	*found = restore(agent, "found", true, 7);
	if (!own_first)
		*own = restore(agent, "itself", false, 8);
}

/* The same out of the store, in which both parts have the same key. */
static void restored(void **state)
{
	struct agent *agent = *state;
	struct kvmstats_sender *sender;
	struct disks disks;
	struct vm *found, *own;
	int fd;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	make_disks(&disks);
	for (int order = 0; order < 2; order++) {
		restore_both(agent, order, &found, &own);
		for (int i = 0; i < 3; i++)
			restore_source(agent, found, disks.fds[i]);
		restore_source(agent, own, disks.fds[2]);
		restore_source(agent, own, disks.fds[3]);
		expect_vm(agent, "key", true, 1, 1);
		/* the series change their name for neither */
		fd = connect_raw(agent->path);
		say(fd, "itself", 2, disks.fds + 2, 2);
		turn(agent);
		expect_vm(agent, "key", true, 1, 1);
		sender = helps_with(agent, disks.fds, 3);
		expect_vm(agent, "key", true, 1, 1);
		assert_int_equal(agent->registry.count, 2);
		close(fd);
		kvmstats_sender_free(sender);
		turn(agent);
		assert_int_equal(agent->registry.count, 0);
	}
	free_disks(&disks);
}

/* What has its own statistics by now, while the store still has what a helper found. */
static void restored_late(void **state)
{
	struct agent *agent = *state;
	struct disks disks;
	struct vm *own, *found;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	make_disks(&disks);
	for (int order = 0; order < 2; order++) {
		restore_both(agent, order, &found, &own);
		for (int i = 0; i < 3; i++) {
			restore_source(agent, found, disks.fds[i]);
			restore_source(agent, own, disks.fds[i]);
		}
		receiver_restored(&agent->receiver);
		expect_vm(agent, "key", true, 1, 0);
		expect(agent, "registered_by=\"vmm\"", 1);
		assert_int_equal(agent->registry.count, 1);
		turn(agent);
		conn_end(&agent->receiver, agent->receiver.conns, "");
		turn(agent);
	}
	assert_int_equal(agent->registry.count, 0);
	free_disks(&disks);
}

/* What a helper sends twice is of two VMs of one process. */
static void several_vms(void **state)
{
	struct agent *agent = *state;
	struct kvmstats_sender *sender;
	char *text;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	sender = helps(agent);
	text = agent_text(&agent->registry, PROMETHEUS, &settings, 1 << 20);
	assert_true(has(text, "\nkvmstatd_processes_with_several_vms 0\n"));
	free(text);
	assert_int_equal(kvmstats_sender_add_stats(sender, dup(stats_fd)), 0);
	assert_int_equal(kvmstats_sender_flush(sender), 1);
	turn(agent);
	text = agent_text(&agent->registry, PROMETHEUS, &settings, 1 << 20);
	assert_true(has(text, "\nkvmstatd_processes_with_several_vms 1\n"));
	free(text);
	kvmstats_sender_free(sender);
}

/* Of what a VMM says and what a helper says of it, the former counts. */
static void helper_and_vmm(void **state)
{
	struct agent *agent = *state;
	struct kvmstats_sender *sender;
	int fd;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	sender = helps(agent);
	assert_true(agent->registry.vms[0]->identity.on_behalf);
	fd = connect_raw(agent->path);
	register_vm(fd, "itself");
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_string_equal(agent->registry.vms[0]->key, "itself");
	assert_false(hung_up(kvmstats_sender_fd(sender)));
	/* gone from our sight, not from the helper's: it is to try again */
	close(fd);
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	assert_true(hung_up(kvmstats_sender_fd(sender)));
	kvmstats_sender_free(sender);
}

int main(void)
{
	static TEST_LIST = {
		ON_AGENT(two_helpers),
		ON_AGENT(devices_join),
		ON_AGENT(restored),
		ON_AGENT(restored_late),
		ON_AGENT(several_vms),
		ON_AGENT(helper_and_vmm),
	};

	return cmocka_run_group_tests(tests, make_vm, NULL);
}
