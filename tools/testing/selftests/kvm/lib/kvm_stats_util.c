// SPDX-License-Identifier: GPL-2.0-only
/*
 * Open and read KVM's binary statistics files.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <time.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "kvm_stats_util.h"
#include "kvm_util_internal.h"

/* Far more than any kernel offers; a file that fills it is a fault. */
#define MAX_FILE_SIZE	0x100000

uint64_t stats_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

pid_t stats_fork(void)
{
	pid_t parent = getpid();
	pid_t pid;

	/* Else the child would print what the parent has not written yet. */
	fflush(stdout);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(KSFT_FAIL);
	}
	return pid;
}

void stats_join(pid_t pid)
{
	int status;

	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
	TEST_ASSERT(!status, "child %d ended with wait status %#x", pid,
		    status);
}

union fd_message {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

void stats_send_fd(int sock, int fd)
{
	union fd_message control = {};
	struct iovec iov = { "", 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	TEST_ASSERT(sendmsg(sock, &msg, 0) == 1, "sendmsg");
}

int stats_receive_fd(int sock)
{
	union fd_message control = {};
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	int fd;

	TEST_ASSERT(recvmsg(sock, &msg, 0) == 1, "recvmsg");
	TEST_ASSERT(msg.msg_controllen >= CMSG_LEN(sizeof(fd)),
		    "no fd came with the message");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

struct kvm_vm *stats_create_vm(void)
{
	struct kvm_vm *vm;

	vm = vm_create(VM_MODE_DEFAULT, DEFAULT_GUEST_PHY_PAGES, O_RDWR);
	vm_vcpu_add(vm, STATS_VCPU_ID);
	return vm;
}

int stats_vcpu_fd(struct kvm_vm *vm, uint32_t vcpu_id)
{
	return vcpu_find(vm, vcpu_id)->fd;
}

int stats_owner_fd(struct kvm_vm *vm, enum stats_scope scope)
{
	if (scope != STATS_VCPU)
		return vm_get_fd(vm);
	return stats_vcpu_fd(vm, STATS_VCPU_ID);
}

unsigned long stats_request(enum stats_scope scope)
{
	return scope == STATS_VCPUS ? KVM_GET_VCPUS_STATS_FD : KVM_GET_STATS_FD;
}

int stats_get_scope_fd(int owner_fd, enum stats_scope scope)
{
	int fd = ioctl(owner_fd, stats_request(scope), NULL);

	TEST_ASSERT(fd >= 0, "%s", scope == STATS_VCPUS ?
		    "KVM_GET_VCPUS_STATS_FD" : "KVM_GET_STATS_FD");
	return fd;
}

int stats_get_fd(int owner_fd)
{
	return stats_get_scope_fd(owner_fd, STATS_VM);
}

void stats_pread(int fd, void *buf, size_t len, off_t pos)
{
	ssize_t got = pread(fd, buf, len, pos);

	TEST_ASSERT(got == (ssize_t)len,
		    "pread of %zu bytes at %lld returned %zd",
		    len, (long long)pos, got);
}

static void load_image(struct stats_file *s)
{
	ssize_t got;

	s->image = malloc(MAX_FILE_SIZE);
	TEST_ASSERT(s->image, "out of memory");
	got = pread(s->fd, s->image, MAX_FILE_SIZE, 0);
	TEST_ASSERT(got >= 0, "pread of the whole file");
	TEST_ASSERT(got < MAX_FILE_SIZE, "no end of file after %zd bytes", got);
	s->size = got;
}

/* Nothing is trusted before it has been looked at: helpers index by it. */
static void check_table_inside(const struct stats_file *s)
{
	const struct kvm_stats_header *h = &s->header;
	uint64_t end;

	TEST_ASSERT(h->name_size && h->name_size < 4096 && h->num_desc,
		    "header: name_size %u, num_desc %u",
		    h->name_size, h->num_desc);
	end = h->desc_offset + (uint64_t)h->num_desc * s->desc_size;
	TEST_ASSERT(end <= s->size,
		    "descriptors end at %llu, the file at %zu",
		    (unsigned long long)end, s->size);
	TEST_ASSERT((uint64_t)h->id_offset + h->name_size <= s->size,
		    "id at %u is outside the file of %zu bytes",
		    h->id_offset, s->size);
}

static void load_header(struct stats_file *s)
{
	TEST_ASSERT(s->size >= sizeof(s->header),
		    "the file has %zu bytes, less than a header", s->size);
	memcpy(&s->header, s->image, sizeof(s->header));
	s->header_size = sizeof(s->header);
	if (!(s->header.flags & KVM_STATS_FLAG_VCPUS))
		return;

	TEST_ASSERT(s->size >= sizeof(s->vcpus),
		    "the file has %zu bytes, less than its header", s->size);
	memcpy(&s->vcpus, s->image, sizeof(s->vcpus));
	s->header_size = sizeof(s->vcpus);
	s->header.num_desc = s->vcpus.num_desc;
}

void stats_open(struct stats_file *s, int fd)
{
	memset(s, 0, sizeof(*s));
	s->fd = fd;
	load_image(s);
	load_header(s);
	s->desc_size = sizeof(struct kvm_stats_desc) + s->header.name_size;
	check_table_inside(s);
}

struct kvm_vm *stats_setup(struct stats_file *s, enum stats_scope scope)
{
	struct kvm_vm *vm = stats_create_vm();

	stats_open(s, stats_get_scope_fd(stats_owner_fd(vm, scope), scope));
	return vm;
}

void stats_close(struct stats_file *s)
{
	free(s->image);
	s->image = NULL;
	TEST_ASSERT(!close(s->fd), "close");
	s->fd = -1;
}

static bool in_block(size_t pos, size_t start, size_t len)
{
	return pos >= start && pos - start < len;
}

bool stats_is_immutable(const struct stats_file *s, size_t pos)
{
	const struct kvm_stats_header *h = &s->header;

	return in_block(pos, 0, s->header_size) ||
	       in_block(pos, h->id_offset, h->name_size) ||
	       in_block(pos, h->desc_offset, h->num_desc * s->desc_size);
}

void stats_check_unchanged(const struct stats_file *s, int fd)
{
	uint8_t *now = malloc(s->size);
	size_t pos;

	TEST_ASSERT(now, "out of memory");
	stats_pread(fd, now, s->size, 0);
	for (pos = 0; pos < s->size; pos++)
		TEST_ASSERT(!stats_is_immutable(s, pos) ||
			    now[pos] == s->image[pos],
			    "byte %zu was %#x and is %#x",
			    pos, s->image[pos], now[pos]);
	free(now);
}

uint64_t stats_fdinfo(int fd, const char *key)
{
	unsigned long long number, found = 0;
	char path[64], line[128], name[64];
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "r");
	TEST_ASSERT(info, "%s", path);
	while (fgets(line, sizeof(line), info))
		if (sscanf(line, "%63[^:]:\t%llu", name, &number) == 2 &&
		    !strcmp(name, key)) {
			TEST_ASSERT(!found, "fdinfo has %s twice", key);
			found = number;
		}
	fclose(info);
	return found;
}

const char *stats_id(const struct stats_file *s)
{
	return (const char *)s->image + s->header.id_offset;
}

/* Ids carry the global pid; a process inside a PID namespace has another. */
static bool in_initial_pid_ns(void)
{
	char link[32] = "";

	if (readlink("/proc/self/ns/pid", link, sizeof(link) - 1) < 0)
		return true;
	return !strcmp(link, "pid:[4026531836]");
}

void stats_check_id(const struct stats_file *s, pid_t pid, int vcpu_id)
{
	const char *id = stats_id(s);
	char expected[64], rest[32] = "";

	TEST_ASSERT(strnlen(id, s->header.name_size) < s->header.name_size,
		    "the id does not end within %u bytes",
		    s->header.name_size);
	if (!in_initial_pid_ns()) {
		TEST_ASSERT(sscanf(id, "kvm-%d%31s", &pid, rest) >= 1,
			    "the id is '%s'", id);
	}
	snprintf(expected, sizeof(expected), "kvm-%d", pid);
	if (vcpu_id >= 0)
		snprintf(expected, sizeof(expected), "kvm-%d/vcpu-%d",
			 pid, vcpu_id);
	TEST_ASSERT(!strcmp(id, expected), "the id is '%s', not '%s'",
		    id, expected);
}

void stats_check_file(int fd, pid_t pid, enum stats_scope scope)
{
	struct stats_file s;

	stats_open(&s, fd);
	stats_check_id(&s, pid, scope == STATS_VCPU ? STATS_VCPU_ID : -1);
	stats_check_unchanged(&s, fd);
	stats_close(&s);
}

const struct kvm_stats_desc *stats_desc(const struct stats_file *s,
					uint32_t index)
{
	return (const void *)(s->image + s->header.desc_offset +
			      index * s->desc_size);
}

const struct kvm_stats_desc *stats_find(const struct stats_file *s,
					const char *name)
{
	uint32_t i;

	for (i = 0; i < s->header.num_desc; i++)
		if (!strncmp(stats_desc(s, i)->name, name,
			     s->header.name_size))
			return stats_desc(s, i);
	return NULL;
}

const struct kvm_stats_desc *stats_need(const struct stats_file *s,
					const char *name)
{
	const struct kvm_stats_desc *desc = stats_find(s, name);

	TEST_ASSERT(desc, "%s has no statistic '%s'", stats_id(s), name);
	return desc;
}

static void check_known(const struct stats_file *s, const struct stats_known *k)
{
	const struct kvm_stats_desc *d = stats_need(s, k->name);

	TEST_ASSERT(d->flags == (k->flags | KVM_STATS_BASE_POW10),
		    "%s: flags %#x, expected %#x", k->name, d->flags, k->flags);
	TEST_ASSERT(d->exponent == k->exponent, "%s: exponent %d, expected %d",
		    k->name, d->exponent, k->exponent);
	TEST_ASSERT(k->histogram ? d->size > 1 : d->size == 1,
		    "%s: %u values", k->name, d->size);
}

void stats_check_known(const struct stats_file *s,
		       const struct stats_known *known, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++)
		check_known(s, &known[i]);
}

void stats_read(const struct stats_file *s, const struct kvm_stats_desc *desc,
		uint64_t *values)
{
	size_t len = desc->size * sizeof(*values);
	off_t pos = (off_t)s->header.data_offset + s->vcpus.values_offset +
		    desc->offset;
	ssize_t got = pread(s->fd, values, len, pos);

	TEST_ASSERT(got == (ssize_t)len,
		    "%s: pread of %zu bytes at %lld returned %zd",
		    desc->name, len, (long long)pos, got);
}

uint64_t stats_value(const struct stats_file *s, const char *name)
{
	const struct kvm_stats_desc *desc = stats_need(s, name);
	uint64_t value;

	TEST_ASSERT(desc->size == 1, "%s has %u values", name, desc->size);
	stats_read(s, desc, &value);
	return value;
}

uint64_t stats_sum(const struct stats_file *s, const char *name)
{
	const struct kvm_stats_desc *desc = stats_need(s, name);
	uint64_t *values = calloc(desc->size, sizeof(*values));
	uint64_t sum = 0;
	int i;

	TEST_ASSERT(values, "out of memory");
	stats_read(s, desc, values);
	for (i = 0; i < desc->size; i++)
		sum += values[i];
	free(values);
	return sum;
}

bool stats_parameter(const char *module, const char *name)
{
	char path[128];
	FILE *f;
	int c;

	snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module,
		 name);
	f = fopen(path, "r");
	if (!f)
		return false;
	c = fgetc(f);
	fclose(f);
	/* Some that are on or off are numbers all the same. */
	return c == 'Y' || c == '1';
}

bool stats_find_debugfs(void)
{
	if (!access("/sys/kernel/debug/kvm", F_OK))
		return true;
	/* In a mount namespace of its own, which ends with the test. */
	return !unshare(CLONE_NEWNS) &&
	       !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL) &&
	       !access("/sys/kernel/debug/kvm", F_OK);
}

unsigned int stats_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int nr = 0;

	TEST_ASSERT(dir, "/proc/self/fd");
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}
