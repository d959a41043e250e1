// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent_receiver.h"

#define TURNS 200

struct settings settings;

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

int start(void **state)
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

int end(void **state)
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

void turn(struct agent *agent)
{
	for (int i = 0; i < TURNS; i++)
		receiver_turn(&agent->receiver, 0);
}

uint64_t rejected(const struct agent *agent, enum reject reason)
{
	return agent->registry.counters.rejected[reason];
}

bool hung_up(int socket_fd)
{
	char byte;

	/* a reset if there was something that nobody has read */
	return recv(socket_fd, &byte, 1, MSG_DONTWAIT) == 0 ||
	       errno == ECONNRESET;
}

void say(int socket_fd, const char *name, uint32_t num_fds,
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

int stats_fd, vcpu_fds[3];

int make_vm(void **unused)
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

void register_vm(int fd, const char *name)
{
	say(fd, name, 1, &stats_fd, 1);
}
