// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvmstatd's registration socket, and clients that do not behave. The same
 * program under the thread sanitizer has scrapes going on meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kvmstatd/registrations.h"
#include "agent.h"
#include "line.h"

#define TURNS 200

static struct settings settings;

struct agent {
	struct registry registry;
	struct receiver receiver;
	char dir[32], path[64];
	unsigned int fds_before;
	pthread_t scraper;
	atomic_bool stop;
};

static void *scrape_all_the_time(void *context)
{
	struct agent *agent = context;

	while (!atomic_load(&agent->stop)) {
		free(agent_text(&agent->registry, OPENMETRICS, &settings,
				1 << 20));
		usleep(1000);
	}
	return NULL;
}

static int start(void **state)
{
	static struct agent agent;
	int fd;

	settings = (struct settings){
		.max_vms = 100, .max_vms_per_uid = 100, .max_fds_per_vm = 100,
		.max_messages = 100, .max_devices_per_vm = 64,
	};
	agent.fds_before = count_open_fds();
	strcpy(agent.dir, "/tmp/kvmstats-test-XXXXXX");
	assert_non_null(mkdtemp(agent.dir));
	snprintf(agent.path, sizeof(agent.path), "%s/socket", agent.dir);
	fd = kvmstats_listen(agent.path, 0600);
	assert_true(fd >= 0);
	assert_int_equal(registry_open(&agent.registry, &settings.filters), 0);
	assert_int_equal(receiver_open(&agent.receiver, &agent.registry,
				       &settings, fd), 0);
	atomic_store(&agent.stop, false);
	assert_int_equal(pthread_create(&agent.scraper, NULL,
					scrape_all_the_time, &agent), 0);
	*state = &agent;
	return 0;
}

static int end(void **state)
{
	struct agent *agent = *state;

	atomic_store(&agent->stop, true);
	pthread_join(agent->scraper, NULL);
	close(agent->receiver.listen.fd);
	receiver_close(&agent->receiver);
	registry_close(&agent->registry);
	close_wait();
	unlink(agent->path);
	rmdir(agent->dir);
	/* what is no statistics descriptor is closed in a while */
	for (int i = 0; i < 3000 && count_open_fds() != agent->fds_before; i++)
		usleep(10000);
	assert_int_equal(count_open_fds(), agent->fds_before);
	return 0;
}

/* Until nothing has happened for a while. */
static void turn(struct agent *agent)
{
	for (int i = 0; i < TURNS; i++)
		receiver_turn(&agent->receiver, 0);
}

static uint64_t rejected(const struct agent *agent, enum reject reason)
{
	return agent->registry.counters.rejected[reason];
}

static bool hung_up(int socket_fd)
{
	char byte;

	/* a reset if there was something that nobody has read */
	return recv(socket_fd, &byte, 1, MSG_DONTWAIT) == 0 ||
	       errno == ECONNRESET;
}

static void say(int socket_fd, const char *name, uint32_t num_fds,
		const int *fds, size_t count)
{
	struct wire_message message = {
		.num_fds = num_fds, .pid = getpid(), .uuid = "u",
		.start_time_ticks = process_start_ticks("self"),
	};
	char bytes[WIRE_MESSAGE_BYTES];

	strcpy(message.name, name);
	send_fds(socket_fd, bytes, wire_encode(&message, bytes), fds, count);
}

/* Of a real VM: nothing else is taken for one. -1: there is no KVM here. */
static int stats_fd, vcpu_fds[3];

static int make_vm(void **unused)
{
	int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0ul);

	(void)unused;
	/* valgrind does not see what io_uring writes */
	stats_fd = getenv("IN_VALGRIND") ? -1 :
		   ioctl(vm_fd, UAPI_GET_STATS_FD, NULL);
	for (unsigned long i = 0; i < 3 && stats_fd >= 0; i++) {
		int vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, i);

		vcpu_fds[i] = ioctl(vcpu_fd, UAPI_GET_STATS_FD, NULL);
		assert_true(vcpu_fds[i] >= 0);
		close(vcpu_fd);
	}
	close(vm_fd);
	close(kvm_fd);
	return 0;
}

#define NEED_KVM() do { if (stats_fd < 0) skip(); } while (0)

static void register_vm(int fd, const char *name)
{
	say(fd, name, 1, &stats_fd, 1);
}

static void a_vm_comes_and_goes(void **state)
{
	struct agent *agent = *state;
	const struct identity *identity;
	int fd;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	fd = connect_raw(agent->path);
	/* a connection without descriptors has no name yet */
	say(fd, "guest", 0, NULL, 0);
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	register_vm(fd, "guest");
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_int_equal(agent->registry.fds, 1);
	identity = &agent->registry.vms[0]->identity;
	assert_string_equal(identity->name, "guest");
	assert_string_equal(identity->uuid, "u");
	assert_int_equal(identity->pid, getpid());
	assert_int_equal(identity->uid, getuid());
	assert_int_equal(identity->start_ticks, process_start_ticks("self"));
	close(fd);
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	assert_int_equal(agent->registry.counters.ended, 1);
}

static void junk(void **state)
{
	struct agent *agent = *state;
	int fd, other;

	NEED_KVM();
	fd = connect_raw(agent->path);
	other = connect_raw(agent->path);
	send_fds(fd, "junk", 4, &fd, 1);
	register_vm(other, "fine");
	turn(agent);
	assert_true(hung_up(fd));
	assert_false(hung_up(other));
	assert_int_equal(rejected(agent, REJECT_MALFORMED), 1);
	assert_int_equal(agent->registry.count, 1);
	close(fd);
	close(other);
}

/* Pipes that block, files, sockets: closed. They make no VM. */
static void foreign_descriptors(void **state)
{
	struct agent *agent = *state;
	int fd = connect_raw(agent->path);
	int fds[4];

	assert_int_equal(pipe(fds), 0);
	fds[2] = dup(fd);
	fds[3] = dup(0);
	say(fd, "guest", 4, fds, 4);
	turn(agent);
	assert_int_equal(agent->registry.counters.fds_rejected, 4);
	assert_int_equal(agent->registry.count, 0);
	assert_int_equal(agent->registry.fds, 0);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	close(fd);
}

static void another_name(void **state)
{
	struct agent *agent = *state;
	int fd = connect_raw(agent->path);

	say(fd, "one", 0, NULL, 0);
	say(fd, "two", 0, NULL, 0);
	turn(agent);
	assert_true(hung_up(fd));
	assert_int_equal(agent->registry.count, 0);
	assert_int_equal(rejected(agent, REJECT_MALFORMED), 1);
	close(fd);
}

/* As if it had connected long ago. */
static void is_given_up(struct agent *agent, int fd)
{
	agent->receiver.conns->since_ns -= 3600000000000ull;
	agent->receiver.swept_ns = 0;
	turn(agent);
	assert_true(hung_up(fd));
	assert_int_equal(rejected(agent, REJECT_SILENT), 1);
	close(fd);
}

static void silence(void **state)
{
	struct agent *agent = *state;
	int fd = connect_raw(agent->path);

	turn(agent);
	assert_false(hung_up(fd));
	is_given_up(agent, fd);
}

static void too_many_messages(void **state)
{
	struct agent *agent = *state;
	int fd = connect_raw(agent->path);

	settings.max_messages = 3;
	for (int i = 0; i < 4; i++)
		say(fd, "guest", 0, NULL, 0);
	turn(agent);
	assert_true(hung_up(fd));
	assert_int_equal(rejected(agent, REJECT_MESSAGES), 1);
	close(fd);
}

/*
 * Whoever has too much is refused once, and not shown in part again and again: until
 * the limits change.
 */
static void too_many_descriptors(void **state)
{
	struct agent *agent = *state;
	int fd;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	fd = connect_raw(agent->path);
	settings.max_fds_per_vm = 3;
	register_vm(fd, "guest");
	say(fd, "guest", 1, vcpu_fds, 1);
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	for (int i = 0; i < 10; i++)
		say(fd, "guest", 3, vcpu_fds, 3);
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	assert_int_equal(agent->registry.fds, 0);
	assert_int_equal(rejected(agent, REJECT_DESCRIPTORS), 1);
	assert_false(hung_up(fd));
	/* it is no silent one, either */
	agent->receiver.conns->since_ns -= 3600000000000ull;
	agent->receiver.swept_ns = 0;
	turn(agent);
	assert_false(hung_up(fd));
	settings.max_fds_per_vm = 4;
	receiver_reconsider(&agent->receiver);
	turn(agent);
	assert_true(hung_up(fd));
	close(fd);
	fd = connect_raw(agent->path);
	register_vm(fd, "guest");
	say(fd, "guest", 3, vcpu_fds, 3);
	turn(agent);
	assert_int_equal(agent->registry.fds, 4);
	assert_int_equal(rejected(agent, REJECT_DESCRIPTORS), 1);
	close(fd);
}

/* The same of messages; more than another may send are not even received. */
static void too_many_messages_of_a_vm(void **state)
{
	struct agent *agent = *state;
	int fd;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	fd = connect_raw(agent->path);
	settings.max_messages = 3;
	register_vm(fd, "guest");
	for (int i = 0; i < 20; i++)
		register_vm(fd, "guest");
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	assert_int_equal(rejected(agent, REJECT_MESSAGES), 1);
	assert_true(agent->receiver.conns->deaf);
	assert_false(hung_up(fd));
	close(fd);
	turn(agent);
	assert_int_equal(agent->receiver.count, 0);
}

static void too_many_vms(void **state)
{
	struct agent *agent = *state;
	int fds[4];

	NEED_KVM();
	settings.max_vms = 3;
	for (int i = 0; i < 4; i++) {
		fds[i] = connect_raw(agent->path);
		register_vm(fds[i], "guest");
		turn(agent);
	}
	assert_false(hung_up(fds[2]));
	assert_true(hung_up(fds[3]));
	assert_int_equal(agent->registry.count, 3);
	assert_int_equal(rejected(agent, REJECT_VMS), 1);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
}

/* No descriptor is free for one more: it waits, and gets its turn. */
static void no_descriptor_left(void **state)
{
	struct agent *agent = *state;
	int one, two;

	NEED_KVM();
	one = connect_raw(agent->path);
	agent->receiver.fd_budget = 5;
	register_vm(one, "one");
	turn(agent);
	two = connect_raw(agent->path);
	register_vm(two, "two");
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_true(agent->receiver.paused);
	close(one);
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_string_equal(agent->registry.vms[0]->key, "two");
	close(two);
}

/* The same when it is connected already: what it sent is not lost. */
static void no_descriptor_for_a_message(void **state)
{
	struct agent *agent = *state;
	int one, two, five[5];

	NEED_KVM();
	for (int i = 0; i < 5; i++)
		five[i] = stats_fd;
	one = connect_raw(agent->path);
	two = connect_raw(agent->path);
	agent->receiver.fd_budget = 8;
	register_vm(one, "one");
	turn(agent);
	say(two, "two", 5, five, 5);
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_int_equal(agent->registry.counters.parked, 1);
	/* however long: it has said something, and that waits here */
	agent->receiver.conns->since_ns = 0;
	agent->receiver.swept_ns = 0;
	turn(agent);
	assert_int_equal(agent->registry.counters.parked, 1);
	assert_false(hung_up(two));
	close(one);
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_string_equal(agent->registry.vms[0]->key, "two");
	assert_int_equal(agent->registry.counters.parked, 0);
	for (int i = 0; i < REJECTS; i++)
		assert_int_equal(rejected(agent, i), 0);
	close(two);
}

/* A connection that brings no descriptor takes a place from others. */
static void empty_handed(void **state)
{
	struct agent *agent = *state;
	int fd = connect_raw(agent->path);

	say(fd, "guest", 0, NULL, 0);
	turn(agent);
	is_given_up(agent, fd);
}

static void a_process_ends(void **state)
{
	struct agent *agent = *state;
	int status, keep;
	pid_t child;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	/* the connection lives on in this process */
	keep = connect_raw(agent->path);
	child = fork();
	if (!child) {
		int fd = connect_raw(agent->path);

		register_vm(fd, "child");
		dup2(fd, keep);
		pause();
		_exit(0);
	}
	for (int i = 0; i < 3000 && !agent->registry.count; i++)
		receiver_turn(&agent->receiver, 10);
	assert_int_equal(agent->registry.count, 1);
	assert_int_equal(agent->registry.vms[0]->identity.pid, child);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	close(keep);
}

static struct kvmstats_sender *helps(struct agent *agent)
{
	uint64_t start = process_start_ticks("self");
	struct kvmstats_sender *sender;

	assert_int_equal(kvmstats_sender_new("found", "", &sender), 0);
	assert_int_equal(kvmstats_sender_on_behalf(sender, getpid(), start), 0);
	assert_int_equal(kvmstats_sender_connect(sender, agent->path), 0);
	assert_true(kvmstats_sender_add_stats(sender, dup(stats_fd)) == 0);
	assert_int_equal(kvmstats_sender_flush(sender), 1);
	turn(agent);
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

#define EXITS	"\nkvm_vcpu_exits_total{vm=\"%s\",vcpu=\"0\"} "
#define DISK	"\nkvm_block_read_ios_total{vm=\"%s\",device=\"%s\"} "

/* The VM @key is there once, with vCPU 0 if @vcpu, and these disks. */
static void expect_vm(struct agent *agent, const char *key, bool vcpu, int a, int b)
{
	char series[128];

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
		if (order)
			own = restore(agent, "itself", false, 6);
		found = restore(agent, "found", true, 7);
		if (!order)
			own = restore(agent, "itself", false, 8);
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

/*
 * A VM that is made anew has its name, also if of the connection of the one before
 * not all was read that was sent before its end.
 */
static void made_again(void **state)
{
	struct agent *agent = *state;
	int one, two;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	one = connect_raw(agent->path);
	register_vm(one, "guest");
	turn(agent);
	for (int i = 0; i < 10; i++)
		say(one, "guest", 0, NULL, 0);
	close(one);
	two = connect_raw(agent->path);
	register_vm(two, "guest");
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_string_equal(agent->registry.vms[0]->key, "guest");
	assert_int_equal(agent->registry.counters.registrations, 2);
	close(two);
}

static void many(void **state)
{
	struct agent *agent = *state;
	int fds[100];

	NEED_KVM();
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 100; i++) {
			fds[i] = connect_raw(agent->path);
			register_vm(fds[i], "same");
			receiver_turn(&agent->receiver, 0);
		}
		turn(agent);
		assert_int_equal(agent->registry.count, 100);
		for (int i = 0; i < 100; i++)
			close(fds[i]);
		turn(agent);
		assert_int_equal(agent->registry.count, 0);
	}
	assert_int_equal(agent->registry.counters.registrations, 500);
}

#define ON_AGENT(test) cmocka_unit_test_setup_teardown(test, start, end)

int main(void)
{
	static TEST_LIST = {
		ON_AGENT(a_vm_comes_and_goes),
		ON_AGENT(junk),
		ON_AGENT(foreign_descriptors),
		ON_AGENT(another_name),
		ON_AGENT(silence),
		ON_AGENT(too_many_messages),
		ON_AGENT(too_many_descriptors),
		ON_AGENT(too_many_messages_of_a_vm),
		ON_AGENT(too_many_vms),
		ON_AGENT(no_descriptor_left),
		ON_AGENT(no_descriptor_for_a_message),
		ON_AGENT(empty_handed),
		ON_AGENT(a_process_ends),
		ON_AGENT(two_helpers),
		ON_AGENT(devices_join),
		ON_AGENT(restored),
		ON_AGENT(several_vms),
		ON_AGENT(helper_and_vmm),
		ON_AGENT(made_again),
		ON_AGENT(many),
	};

	return cmocka_run_group_tests(tests, make_vm, NULL);
}
