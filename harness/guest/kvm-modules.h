/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM's modules and the statistics fds of a VM, for programs that load and
 * unload the one while they hold the other. They run as root, each test in a
 * process of its own, which ends at the first thing that is wrong.
 */
#ifndef KVMSTATS_KVM_MODULES_H
#define KVMSTATS_KVM_MODULES_H

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef KVM_GET_STATS_FD
#define KVM_GET_STATS_FD	_IO(KVMIO, 0xce)
#endif

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

#define CHECK(condition, ...)						\
	do {								\
		if (!(condition)) {					\
			printf("# line %d: ", __LINE__);		\
			printf(__VA_ARGS__);				\
			printf(" (%s)\n", strerror(errno));		\
			fflush(stdout);					\
			_exit(1);					\
		}							\
	} while (0)

/* A released file is put by a task or a worker that needs time to get there */
#define RELEASE_TRIES	2000
#define RELEASE_PAUSE_US	1000

struct module {
	const char *name, *file;
};

/* From the command line: the core, which the other one uses, and that one */
static struct module core, vendor;

static inline int modules_from_arguments(char **arg)
{
	int i;

	for (i = 0; i < 4; i++)
		if (!arg[i])
			return -1;
	core = (struct module){ arg[0], arg[1] };
	vendor = (struct module){ arg[2], arg[3] };
	return 0;
}

static inline bool module_is_loaded(const struct module *module)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", module->name);
	return !access(path, F_OK);
}

static inline int module_refs(const struct module *module)
{
	char path[128];
	int refs = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", module->name);
	file = fopen(path, "re");
	CHECK(file && fscanf(file, "%d", &refs) == 1, "%s", path);
	fclose(file);
	return refs;
}

static inline void module_load(const struct module *module)
{
	int fd = open(module->file, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0, "%s", module->file);
	CHECK(!syscall(SYS_finit_module, fd, "", 0), "load %s", module->file);
	close(fd);
}

/* Returns 0, or the error of one attempt, which waits for nothing */
static inline int module_unload(const struct module *module)
{
	if (!syscall(SYS_delete_module, module->name, O_NONBLOCK))
		return 0;
	return errno;
}

static inline void module_must_stay(const struct module *module)
{
	int error = module_unload(module);

	CHECK(error == EWOULDBLOCK, "%s: unloading gave %s", module->name,
	      error ? strerror(error) : "success");
}

static inline void module_must_go(const struct module *module)
{
	int error, i;

	for (i = 0; i < RELEASE_TRIES; i++) {
		error = module_unload(module);
		if (!error)
			return;
		CHECK(error == EWOULDBLOCK, "unload %s: %s", module->name,
		      strerror(error));
		usleep(RELEASE_PAUSE_US);
	}
	CHECK(false, "%s is still in use: %d references", module->name,
	      module_refs(module));
}

static inline void modules_restore(void)
{
	if (!module_is_loaded(&core))
		module_load(&core);
	if (!module_is_loaded(&vendor))
		module_load(&vendor);
}

/* Runs test(argument) in a process of its own; returns whether it passed */
static inline bool run_isolated(void (*test)(const void *), const void *argument)
{
	pid_t pid;
	int status = -1;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		test(argument);
		exit(0);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

static inline void report(unsigned int number, const char *name, bool passed)
{
	printf("%sok %u %s\n", passed ? "" : "not ", number, name);
	fflush(stdout);
}

static inline void send_fds(int sock, const int *fds, int count)
{
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control = {};
	struct iovec byte = { .iov_base = "", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = CMSG_SPACE(count * sizeof(int)),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, count * sizeof(int));
	CHECK(sendmsg(sock, &msg, 0) == 1, "sendmsg");
}

static inline void check_readable(int fd, const char *id)
{
	char text[24 + 48] = "";

	CHECK(pread(fd, text, sizeof(text), 0) == sizeof(text), "pread");
	CHECK(!strncmp(text + 24, id, strlen(id)), "id %.48s, not %s",
	      text + 24, id);
}

#endif
