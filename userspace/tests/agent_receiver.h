/* SPDX-License-Identifier: GPL-2.0-only */
/* kvmstatd's registration socket, with scrapes going on meanwhile. */
#ifndef TEST_AGENT_RECEIVER_H
#define TEST_AGENT_RECEIVER_H

#include "../kvmstatd/registrations.h"
#include "agent.h"
#include "line.h"

struct agent {
	struct registry registry;
	struct receiver receiver;
	char dir[32], path[64];
	unsigned int fds_before;
	pthread_t scraper;
	atomic_bool stop;
};

extern struct settings settings;
/* Of a real VM and its vCPUs: nothing else is taken for one. -1: there is no KVM here. */
extern int stats_fd, vcpu_fds[3];

#define NEED_KVM() do { if (stats_fd < 0) skip(); } while (0)
#define ON_AGENT(test) cmocka_unit_test_setup_teardown(test, start, end)

/* Of all tests, and of each. */
int make_vm(void **unused);
int start(void **state);
int end(void **state);
/* Until nothing has happened for a while. */
void turn(struct agent *agent);
uint64_t rejected(const struct agent *agent, enum reject reason);
bool hung_up(int socket_fd);
void say(int socket_fd, const char *name, uint32_t num_fds, const int *fds,
	 size_t count);
void register_vm(int fd, const char *name);

#endif /* TEST_AGENT_RECEIVER_H */
