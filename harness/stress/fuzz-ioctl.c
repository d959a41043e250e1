// SPDX-License-Identifier: GPL-2.0-only
/* VMs and vCPUs of a worker that never run, and the ioctls on them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../userspace/lib/uapi.h"
#include "fuzz.h"

static struct box *pick_box(struct worker *w)
{
	return &w->boxes[rng_below(&w->rng, NR_VMS)];
}

void close_box(struct box *box)
{
	const uint64_t nr_closed = box->nr_closed + 1;

	if (box->vm_fd < 0)
		return;
	for (unsigned int i = 0; i < box->nr_vcpus; i++)
		close(box->vcpu_fds[i]);
	if (box->all_fd)
		close(box->all_fd);
	close(box->vm_fd);
	memset(box, 0, sizeof(*box));
	box->vm_fd = -1;
	box->nr_closed = nr_closed;
}

/* Elsewhere the number may be of another namespace. */
static void learn_id(struct box *box)
{
	int fd;

	if (own_kernel) {
		snprintf(box->id, sizeof(box->id), "kvm-%ld",
			 syscall(__NR_gettid));
		return;
	}
	fd = get_stats_fd(box->vm_fd);
	pread(fd, box->id, ID_BYTES, vm_schema.header.id_offset);
	close(fd);
}

static void do_create_vm(struct worker *w)
{
	struct box *box = pick_box(w);

	close_box(box);
	box->vm_fd = create_vm();
	learn_id(box);
}

/* The VM's descriptors go, its statistics files stay. */
static void do_close_vm(struct worker *w)
{
	close_box(pick_box(w));
}

/* It has no quota, and takes one if and only if that was enabled in time. */
static void check_new_vcpu(int vcpu_fd, bool enabled)
{
	struct kvm_run *run = map_run(vcpu_fd);

	CHECK(*run_quota(run) == (wrong == WRONG_DEFAULT),
	      "a new vCPU's quota is %llu",
	      (unsigned long long)*run_quota(run));
	unmap_run(run);
	CHECK(is_limited(vcpu_fd) == enabled, "a new vCPU is %slimited",
	      enabled ? "not " : "");
}

static void do_create_vcpu(struct worker *w)
{
	struct box *box = pick_box(w);
	int id = rng_below(&w->rng, 8), fd;

	if (box->vm_fd < 0 || box->nr_vcpus == 2)
		return;
	fd = ioctl(box->vm_fd, KVM_CREATE_VCPU, id);
	if (box->nr_vcpus && box->vcpu_ids[0] == id) {
		CHECK(fd < 0 && errno == EEXIST, "a second vCPU %d: %s", id,
		      fd < 0 ? strerror(errno) : "created");
		return;
	}
	CHECK(fd >= 0, "KVM_CREATE_VCPU %d: %s", id, strerror(errno));
	if (own_kernel)
		check_new_vcpu(fd, box->quota_enabled);
	box->vcpu_fds[box->nr_vcpus] = fd;
	box->vcpu_ids[box->nr_vcpus++] = id;
}

/* KVM_ENABLE_CAP as the documentation has it; 0 or -errno. */
static int enabling_gives(const struct box *box, const struct kvm_enable_cap *c)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(c->args); i++)
		if (c->args[i])
			return -EINVAL;
	if (c->flags)
		return -EINVAL;
	if (box->quota_enabled && wrong == WRONG_ENABLED)
		return -EEXIST;
	return box->nr_vcpus ? -EBUSY : 0;
}

static void choose_cap(struct worker *w, struct kvm_enable_cap *cap)
{
	memset(cap, 0, sizeof(*cap));
	cap->cap = QUOTA_CAP;
	if (one_in(&w->rng, 4))
		cap->flags = 1u << rng_below(&w->rng, 32);
	for (unsigned int i = 0; i < ARRAY_SIZE(cap->args); i++)
		if (one_in(&w->rng, 10))
			cap->args[i] = rng_next(&w->rng) >>
				       rng_below(&w->rng, 64);
	/* not looked at, as with every other capability */
	memset(cap->pad, rng_next(&w->rng), sizeof(cap->pad));
}

static void enable(struct worker *w, struct box *box)
{
	struct kvm_enable_cap cap;
	int want, got;

	choose_cap(w, &cap);
	want = enabling_gives(box, &cap);
	got = ioctl(box->vm_fd, KVM_ENABLE_CAP, &cap) ? -errno : 0;
	CHECK(got == want,
	      "KVM_ENABLE_CAP, flags %#x, args[0] %llu, %u vCPUs: %d, not %d",
	      cap.flags, (unsigned long long)cap.args[0], box->nr_vcpus, got,
	      want);
	if (!got)
		box->quota_enabled = true;
}

static void do_enable(struct worker *w)
{
	struct box *box = pick_box(w);
	unsigned int times = 1 + rng_below(&w->rng, 4);

	while (times-- && box->vm_fd >= 0 && own_kernel)
		enable(w, box);
}

static void do_bad_enable(struct worker *w)
{
	struct box *box = pick_box(w);
	struct kvm_enable_cap cap;

	if (box->vm_fd < 0 || !own_kernel)
		return;
	CHECK(ioctl(box->vm_fd, KVM_ENABLE_CAP, rng_below(&w->rng, 4096)) &&
	      errno == EFAULT, "KVM_ENABLE_CAP of nothing: %d", errno);
	choose_cap(w, &cap);
	if (box->nr_vcpus)
		CHECK(ioctl(box->vcpu_fds[0], KVM_ENABLE_CAP, &cap) &&
		      errno == EINVAL, "KVM_ENABLE_CAP of a vCPU: %d", errno);
	CHECK(ioctl(kvm_fd, KVM_ENABLE_CAP, &cap) && errno == EINVAL,
	      "KVM_ENABLE_CAP of the system: %d", errno);
}

static void do_check_extension(struct worker *w)
{
	struct box *box = pick_box(w);
	int fd = box->vm_fd < 0 || one_in(&w->rng, 2) ? kvm_fd : box->vm_fd;
	int ret;

	ret = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_BINARY_STATS_FD);
	CHECK(ret == 1, "KVM_CAP_BINARY_STATS_FD is %d", ret);
	ret = ioctl(fd, KVM_CHECK_EXTENSION, (long)QUOTA_CAP);
	CHECK(ret == own_kernel, "KVM_CAP_DIRTY_QUOTA is %d", ret);
	ret = ioctl(fd, KVM_CHECK_EXTENSION, UAPI_CAP_VCPUS_STATS_FD);
	CHECK(ret == own_kernel, "KVM_CAP_VCPUS_STATS_FD is %d", ret);
	ret = ioctl(fd, KVM_CHECK_EXTENSION, rng_next(&w->rng) >> 20 | 1 << 20);
	CHECK(ret == 0, "a capability that nobody has is %d", ret);
}

/* The argument means nothing, and is not looked at. */
static void do_odd_argument(struct worker *w)
{
	struct box *box = pick_box(w);
	struct stats_ref ref;
	int fd;

	if (box->vm_fd < 0)
		return;
	fd = ioctl(box->vm_fd, KVM_GET_STATS_FD, rng_next(&w->rng));
	CHECK(fd >= 0, "KVM_GET_STATS_FD: %s", strerror(errno));
	stats_ref_init(&ref, fd, box->id, -1);
	close(fd);
}

/* A file of another kind, and what KVM_GET_STATS_FD says of it. */
static int open_other(unsigned int kind, int *error)
{
	static const int errors[] = {
		EBADF, EINVAL, ENOTTY, EBADF, ENOTTY, ENOTTY, ENOTTY, EBADF,
	};

	*error = errors[kind % ARRAY_SIZE(errors)];
	switch (kind % ARRAY_SIZE(errors)) {
	case 0:
		return -1;
	case 1:
		return dup(kvm_fd);
	case 2:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case 3:
		return open("/dev/kvm", O_PATH | O_CLOEXEC);
	case 4:
		return eventfd(0, EFD_CLOEXEC);
	case 5:
		return memfd_create("other", MFD_CLOEXEC);
	case 6:
		return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	default:
		return INT32_MAX;
	}
}

static void do_wrong_file(struct worker *w)
{
	unsigned int kind = rng_below(&w->rng, 8);
	int want, fd = open_other(kind, &want), got;
	unsigned long request = one_in(&w->rng, 2) ? KVM_GET_STATS_FD :
						     UAPI_GET_VCPUS_STATS_FD;

	got = ioctl(fd, request, rng_next(&w->rng));
	CHECK(got < 0 && errno == want,
	      "ioctl %#lx of another file (%u) gave %d (%s), not %s", request,
	      kind, got, strerror(errno), strerror(want));
	if (fd >= 0)
		close(fd);
}

/* --- enabling while another thread creates the first vCPU --- */

struct race {
	int vm_fd, vcpu_fd;
	unsigned int delay;
};

static void *create_in_race(void *arg)
{
	struct race *race = arg;

	for (unsigned int i = 0; i < race->delay; i++)
		asm volatile("" : : : "memory");
	race->vcpu_fd = ioctl(race->vm_fd, KVM_CREATE_VCPU, 0);
	return NULL;
}

/* Either it came in time and the vCPU can be limited, or it is refused. */
static void do_race(struct worker *w)
{
	struct race race = { .delay = rng_below(&w->rng, 1 << 14) };
	pthread_t thread;
	int error;

	if (!own_kernel)
		return;
	race.vm_fd = create_vm();
	CHECK(!pthread_create(&thread, NULL, create_in_race, &race),
	      "pthread_create");
	error = enable_quota(race.vm_fd);
	pthread_join(thread, NULL);
	CHECK(race.vcpu_fd >= 0, "KVM_CREATE_VCPU failed");
	CHECK(!error || error == EBUSY, "KVM_ENABLE_CAP: %s", strerror(error));
	check_new_vcpu(race.vcpu_fd, !error);
	close(race.vcpu_fd);
	close(race.vm_fd);
}

struct op ioctl_ops[] = {
	OP("create_vm",		6, do_create_vm),
	OP("close_vm",		4, do_close_vm),
	OP("create_vcpu",	10, do_create_vcpu),
	OP("enable",		20, do_enable),
	OP("bad_enable",		6, do_bad_enable),
	OP("check_extension",	4, do_check_extension),
	OP("odd_argument",	6, do_odd_argument),
	OP("wrong_file",		6, do_wrong_file),
	OP("race",		4, do_race),
	OP("vcpus",		20, do_vcpus),
};

const unsigned int nr_ioctl_ops = ARRAY_SIZE(ioctl_ops);
