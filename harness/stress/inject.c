// SPDX-License-Identifier: GPL-2.0-only
/*
 * inject [PART-OF-A-CASE-NAME]
 *
 * Each operation of the new interface with its first allocation (or copy from
 * or to user memory, where the kernel can) failing, then its second, and so on
 * until it meets no failure any more. Each time it must fail with an errno that
 * is documented, or do without; leave nothing behind; and then succeed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../userspace/lib/uapi.h"
#include "stress.h"

#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define DEBUGFS		"/sys/kernel/debug/"
#define NTH_MAX		5000

/*
 * x86 has struct kvm from vmalloc(), which logs a trace of each failure, as if
 * something were wrong: those are left out.
 */
#if defined(__x86_64__)
#define SKIP_IN_VM	40
#else
#define SKIP_IN_VM	0
#endif

/* What the operations work with. */
static struct {
	_Alignas(8) unsigned char bytes[16384];
	int vm_fd, vcpu_fd, stats_fd, all_fd;
	struct stats_ref ref;
	struct uring ring;
	struct iovec iov[4];
} env;

/*
 * An operation returns what the system call did, or -errno; what it makes is
 * closed by undo. Points: failures that it must at least meet, with and without
 * failing copies; 0: it needs no memory. Skip: so
 * many are left out.
 */
struct operation {
	const char *name;
	int64_t (*run)(void);
	void (*undo)(int64_t result);
	unsigned int points, points_with_usercopy;
	int errors[4];
	unsigned int skip;
};

static int64_t result(int64_t ret)
{
	return ret < 0 ? -errno : ret;
}

static void undo_fd(int64_t fd)
{
	close(fd);
}

static void undo_nothing(int64_t ret)
{
	(void)ret;
}

/* --- the operations --- */

static int64_t vm_stats_fd(void)
{
	return result(ioctl(env.vm_fd, KVM_GET_STATS_FD, 0));
}

static int64_t vcpu_stats_fd(void)
{
	return result(ioctl(env.vcpu_fd, KVM_GET_STATS_FD, 0));
}

static int64_t all_vcpus_stats_fd(void)
{
	return result(ioctl(env.vm_fd, UAPI_GET_VCPUS_STATS_FD, 0));
}

static int64_t new_vm(void)
{
	return result(ioctl(kvm_fd, KVM_CREATE_VM, 0));
}

/* The VM is a new one each time: nothing else takes a vCPU away again. */
static int empty_vm;

static int64_t new_vcpu(void)
{
	return result(ioctl(empty_vm, KVM_CREATE_VCPU, 0));
}

/* The quota that was enabled is in force, whatever failed before. */
static void undo_vcpu(int64_t fd)
{
	CHECK(!own_kernel || is_limited(fd), "the new vCPU is not limited");
	close(fd);
	close(empty_vm);
	empty_vm = -1;
}

static void make_empty_vm(void)
{
	if (empty_vm >= 0)
		return;
	empty_vm = create_vm();
	if (own_kernel)
		CHECK(!enable_quota(empty_vm), "KVM_CAP_DIRTY_QUOTA");
}

static int64_t enable(void)
{
	struct kvm_enable_cap cap = { .cap = QUOTA_CAP };

	return result(ioctl(empty_vm, KVM_ENABLE_CAP, &cap));
}

/* A failure has enabled nothing. */
static void undo_enable(int64_t ret)
{
	int vcpu_fd = create_vcpu(empty_vm, 0);

	CHECK(is_limited(vcpu_fd) == !ret, "enabling has returned %lld",
	      (long long)ret);
	close(vcpu_fd);
	close(empty_vm);
	empty_vm = -1;
}

static void make_plain_vm(void)
{
	if (empty_vm < 0)
		empty_vm = create_vm();
}

/*
 * Two slots in place of one, with other numbers, both with a log; and back. What
 * is allocated last fails after everything else was.
 */
#define SLOT_PAGES	32
static struct {
	unsigned char *memory;
	uint64_t updates;
	bool split;
} slots;

static uint64_t count_updates(void)
{
	struct stats_ref ref;
	int fd = get_stats_fd(env.vm_fd);
	uint64_t updates;

	stats_ref_init(&ref, fd, NULL, -1);
	stats_read_all(&ref, fd);
	updates = stats_value(&ref, "memslot_updates");
	close(fd);
	return updates;
}

static bool has_log(unsigned int slot)
{
	unsigned long bits[1];
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bits };

	return !ioctl(env.vm_fd, KVM_GET_DIRTY_LOG, &log);
}

/* Exactly the slots of the layout that is in force, whatever has failed. */
static void check_slots(void)
{
	CHECK(has_log(1) == !slots.split, "slot 1 is %d", has_log(1));
	CHECK(has_log(2) == slots.split, "slot 2 is %d", has_log(2));
	CHECK(has_log(3) == slots.split, "slot 3 is %d", has_log(3));
	CHECK(count_updates() == slots.updates, "memslot_updates is %llu",
	      (unsigned long long)count_updates());
}

static void add_entry(struct region_list *l, unsigned int slot,
		      unsigned int first, unsigned int nr)
{
	l->entries[l->nent++] = (struct kvm_userspace_memory_region) {
		.slot = slot,
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
		.guest_phys_addr = DATA_GPA + first * PAGE_BYTES,
		.memory_size = nr * PAGE_BYTES,
		.userspace_addr = (uintptr_t)slots.memory + first * PAGE_BYTES,
	};
}

static int64_t set_slots(void)
{
	struct region_list l = {};

	if (slots.split) {
		add_entry(&l, 1, 0, SLOT_PAGES);
		add_entry(&l, 2, 0, 0);
		add_entry(&l, 3, 0, 0);
	} else {
		add_entry(&l, 1, 0, 0);
		add_entry(&l, 2, 0, 3);
		add_entry(&l, 3, 3, SLOT_PAGES - 3);
	}
	for (unsigned int i = 0; i < l.nent; i++)
		if (!l.entries[i].memory_size)
			l.entries[i].flags = 0;
	return result(ioctl(env.vm_fd, SET_REGION_LIST, &l));
}

static void undo_set_slots(int64_t ret)
{
	(void)ret;
	slots.split = !slots.split;
	slots.updates++;
}

static void make_slots(void)
{
	if (slots.memory) {
		check_slots();
		return;
	}
	slots.memory = map_pages(SLOT_PAGES * PAGE_BYTES);
	CHECK(!set_slot(env.vm_fd, 1, KVM_MEM_LOG_DIRTY_PAGES, DATA_GPA,
			slots.memory, SLOT_PAGES * PAGE_BYTES), "slot 1");
	slots.updates = count_updates();
}

static int64_t read_all(void)
{
	return result(pread(env.stats_fd, env.bytes, sizeof(env.bytes), 0));
}

static int64_t read_block(uint64_t offset, uint64_t end)
{
	return result(pread(env.stats_fd, env.bytes, end - offset, offset));
}

static int64_t read_header(void)
{
	return read_block(0, sizeof(struct kvm_stats_header));
}

static int64_t read_id(void)
{
	const uint32_t offset = vcpu_schema.header.id_offset;

	return read_block(offset, offset + ID_BYTES);
}

static int64_t read_descriptors(void)
{
	return read_block(vcpu_schema.header.desc_offset,
			  vcpu_schema.data_offset);
}

static int64_t read_data(void)
{
	return read_block(vcpu_schema.data_offset, vcpu_schema.size);
}

static int64_t read_all_vcpus(void)
{
	return result(pread(env.all_fd, env.bytes, sizeof(env.bytes), 0));
}

/* Has the short way, as read_data(). */
static int64_t read_records(void)
{
	return result(pread(env.all_fd, env.bytes, sizeof(env.bytes),
			    stats_records_offset()));
}

static int64_t read_vector(void)
{
	return result(preadv(env.stats_fd, env.iov, ARRAY_SIZE(env.iov), 0));
}

static int64_t read_uring(unsigned int flags)
{
	struct io_uring_sqe *sqe = uring_sqe(&env.ring);

	sqe->opcode = IORING_OP_READ;
	sqe->flags = flags;
	sqe->fd = env.stats_fd;
	sqe->addr = (uintptr_t)env.bytes;
	sqe->len = sizeof(env.bytes);
	return uring_submit(&env.ring);
}

static int64_t read_uring_inline(void)
{
	return read_uring(0);
}

static int64_t read_uring_async(void)
{
	return read_uring(IOSQE_ASYNC);
}

/* What was read is right as far as it goes: a failed copy ends a read. */
static void undo_read(int64_t size)
{
	CHECK(size <= (int64_t)vcpu_schema.size, "%lld bytes read",
	      (long long)size);
	stats_check(&env.ref, 0, env.bytes, size, false);
}

static const struct operation operations[] = {
	{ "stats_fd.vm", vm_stats_fd, undo_fd, 2, 2, { ENOMEM }, 0 },
	{ "stats_fd.vcpu", vcpu_stats_fd, undo_fd, 2, 2, { ENOMEM }, 0 },
	{ "stats_fd.vcpus", all_vcpus_stats_fd, undo_fd, 2, 2, { ENOMEM }, 0 },
	{ "create_vm", new_vm, undo_fd, 10, 10, { ENOMEM }, SKIP_IN_VM },
	{ "create_vcpu", new_vcpu, undo_vcpu, 3, 3, { ENOMEM }, 0 },
	{ "enable_cap", enable, undo_enable, 0, 1, { EFAULT }, 0 },
	{ "slot_list", set_slots, undo_set_slots, 4, 6, { ENOMEM, EFAULT }, 0 },
	{ "read", read_all, undo_read, 0, 4, { EFAULT }, 0 },
	{ "read_header", read_header, undo_nothing, 0, 1, { EFAULT }, 0 },
	{ "read_id", read_id, undo_nothing, 0, 1, { EFAULT }, 0 },
	{ "read_descriptors", read_descriptors, undo_nothing, 0, 1, { EFAULT }, 0 },
	{ "read_data", read_data, undo_nothing, 0, 1, { EFAULT }, 0 },
	{ "read_vcpus", read_all_vcpus, undo_nothing, 0, 4, { EFAULT }, 0 },
	{ "read_records", read_records, undo_nothing, 0, 1, { EFAULT }, 0 },
	{ "preadv", read_vector, undo_nothing, 0, 4, { EFAULT }, 0 },
	{ "io_uring", read_uring_inline, undo_read, 0, 4,
	  { EFAULT, ENOMEM, EAGAIN }, 0 },
	{ "io_uring_async", read_uring_async, undo_read, 0, 0,
	  { EFAULT, ENOMEM, EAGAIN }, 0 },
};

/* --- making them fail --- */

static int fail_nth_fd;

static void arm(unsigned int nth)
{
	char text[16];
	int size = snprintf(text, sizeof(text), "%u", nth);

	CHECK(pwrite(fail_nth_fd, text, size, 0) == size, "%s: %s", FAIL_NTH,
	      strerror(errno));
}

/*
 * How many points before the failure are left; 0: it was met. Reading this
 * number, and writing it, is a point itself where copies fail, too.
 */
static unsigned int disarm(void)
{
	unsigned int left = 1;
	char text[16] = "";

	if (pread(fail_nth_fd, text, sizeof(text) - 1, 0) > 0)
		left = atoi(text);
	else
		CHECK(errno == EFAULT, "%s: %s", FAIL_NTH, strerror(errno));
	if (pwrite(fail_nth_fd, "0", 1, 0) != 1)
		arm(0);
	return left;
}

static void set_up_kind(const char *kind, const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "%s/%s", kind, file);
	if (!access(path, W_OK))
		CHECK(write_text(path, text), "%s: %s", path, strerror(errno));
}

/* Allocations that may sleep, single pages; without a trace in the log. */
static void set_up_injection(void)
{
	static const char * const kinds[] = {
		"failslab", "fail_page_alloc", "fail_usercopy",
	};

	CHECK(!access(DEBUGFS "failslab", F_OK), "needs CONFIG_FAILSLAB");
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		set_up_kind(kinds[i], "ignore-gfp-wait", "N");
		set_up_kind(kinds[i], "ignore-gfp-highmem", "N");
		set_up_kind(kinds[i], "min-order", "0");
		set_up_kind(kinds[i], "verbose", "0");
	}
	fail_nth_fd = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	CHECK(fail_nth_fd >= 0, "%s: %s", FAIL_NTH, strerror(errno));
}

/* --- one operation --- */

struct state {
	unsigned int nr_fds;
	int lowest_fd;
};

static void take_state(struct state *state)
{
	state->nr_fds = count_fds();
	state->lowest_fd = lowest_free_fd();
}

/* Nothing is left of what has failed: no fd, no reserved number, no VM. */
static void check_state(const struct state *before)
{
	struct state now;

	take_state(&now);
	CHECK(now.nr_fds == before->nr_fds, "%u files are open, before %u",
	      now.nr_fds, before->nr_fds);
	CHECK(now.lowest_fd == before->lowest_fd,
	      "file descriptor %d is still taken", before->lowest_fd);
	stats_read_all(&env.ref, env.stats_fd);
}

static bool is_documented(const struct operation *op, int64_t got)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(op->errors); i++)
		if (op->errors[i] && got == -op->errors[i])
			return true;
	return false;
}

static void renew(const struct operation *op)
{
	if (op->run == new_vcpu)
		make_empty_vm();
	if (op->run == enable)
		make_plain_vm();
	if (op->run == set_slots)
		make_slots();
}

/* False if there are no @nth points. */
static bool fail_at_point(const struct operation *op, unsigned int nth,
			  unsigned int *failed)
{
	struct state before;
	unsigned int left;
	int64_t got;

	DOING("%s, failure %u", op->name, nth);
	renew(op);
	take_state(&before);
	arm(nth);
	got = op->run();
	left = disarm();
	if (got >= 0) {
		op->undo(got);
		renew(op);
	} else {
		(*failed)++;
		CHECK(!left, "failed without an injected failure: %s",
		      strerror(-got));
		CHECK(is_documented(op, got), "failed with %s", strerror(-got));
	}
	check_state(&before);
	return !left;
}

static void check_works(const struct operation *op)
{
	int64_t got;

	renew(op);
	got = op->run();
	CHECK(got >= 0, "fails for ever: %s", strerror(-got));
	op->undo(got);
}

static void make_env(void)
{
	set_up_injection();
	empty_vm = -1;
	env.vm_fd = create_vm();
	env.vcpu_fd = create_vcpu(env.vm_fd, 0);
	env.stats_fd = get_stats_fd(env.vcpu_fd);
	stats_ref_init(&env.ref, env.stats_fd, NULL, 0);
	env.all_fd = all_vcpus_stats_fd();
	CHECK(env.all_fd >= 0, "KVM_GET_VCPUS_STATS_FD: %s",
	      strerror(-env.all_fd));
	CHECK(uring_open(&env.ring), "io_uring_setup: %s", strerror(errno));
	for (unsigned int i = 0; i < ARRAY_SIZE(env.iov); i++)
		env.iov[i] = (struct iovec){ env.bytes + i * 2048, 1500 };
	/* else a page of ours may be what cannot be had */
	mlockall(MCL_CURRENT | MCL_FUTURE);
}

/* A reference that a failure has left shows when nobody else has one. */
static void close_env(long vms)
{
	if (empty_vm >= 0)
		close(empty_vm);
	close(env.all_fd);
	close(env.stats_fd);
	close(env.vcpu_fd);
	close(env.vm_fd);
	uring_close(&env.ring);
	wait_for_vms(vms);
}

static void test_operation(long nr)
{
	const struct operation *op = &operations[nr];
	bool usercopy = !access(DEBUGFS "fail_usercopy", F_OK);
	unsigned int want = usercopy ? op->points_with_usercopy : op->points;
	unsigned int nth = op->skip, failed = 0;
	long vms = count_vms();

	make_env();
	check_works(op);
	while (fail_at_point(op, nth + 1, &failed))
		CHECK(++nth < NTH_MAX, "no end of failures");
	DOING("%s, after all", op->name);
	printf("# %s: %u points, %u failures%s\n", op->name, nth, failed,
	       usercopy ? ", copies too" : "");
	CHECK(nth >= want, "only %u points of failure, %u wanted", nth, want);
	CHECK(failed || !want, "%u points, and no failure", nth);
	check_works(op);
	renew(op);
	close_env(vms);
}

int main(int argc, char **argv)
{
	struct test_case cases[ARRAY_SIZE(operations)];

	for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
		cases[i] = (struct test_case){
			.name = operations[i].name, .run = test_operation,
			.arg = i,
		};
	snprintf(rerun, sizeof(rerun), "inject");
	kvm_open();
	learn_schemas();
	(void)argc;
	return run_cases(cases, ARRAY_SIZE(cases), argv[1], 200);
}
