// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VM that several threads work on at once: two vCPUs that write for ever, an
 * owner that changes and harvests memory slots and lets the VM die, a writer
 * that changes quotas and sends signals, and readers. What each of owner and
 * writer does is a function of the seed; when, is not.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuzz-runner.h"

#define NR_VCPUS	2
#define SLOT		1	/* and the next one, while it is split */
#define OPS_OF_A_LIFE	200

static struct {
	pthread_rwlock_t lock;	/* for writing: create, destroy, look at rest */
	int vm_fd;		/* -1: none */
	char id[ID_BYTES];
	struct runner runners[NR_VCPUS];
	unsigned char *memory;
	/* the owner's */
	uint64_t first_page, harvested, charged_before;
	uint64_t border;	/* where a list has split the slot, 0: nowhere */
	unsigned int lists;	/* since the sums were compared */
	uint32_t flags;
	bool present, lossy;
	unsigned int age;
} vm = { .lock = PTHREAD_RWLOCK_INITIALIZER, .vm_fd = -1 };

static bool over;
static struct worker owner, writer;

/* --- the owner --- */

static void add_part(struct region_list *l, unsigned int slot, uint64_t first,
		     uint64_t nr)
{
	l->entries[l->nent++] = (struct kvm_userspace_memory_region) {
		.slot = slot,
		.flags = nr ? vm.flags : 0,
		.guest_phys_addr = DATA_GPA +
				   (vm.first_page + first) * PAGE_BYTES,
		.memory_size = nr * PAGE_BYTES,
		.userspace_addr = (uintptr_t)vm.memory + first * PAGE_BYTES,
	};
}

/* Split the slot there, or make it one again (0): the pages keep their bits. */
static void set_border(uint64_t border)
{
	struct region_list l = { 0 };

	add_part(&l, SLOT, 0, border ? border : NR_PAGES);
	if (border || vm.border)
		add_part(&l, SLOT + 1, border, border ? NR_PAGES - border : 0);
	CHECK(!ioctl(vm.vm_fd, SET_REGION_LIST, &l), "a list: %s",
	      strerror(errno));
	vm.border = border;
	vm.lists++;
}

static void split_slot(struct worker *w)
{
	if (vm.present)
		set_border(rng_below(&w->rng, NR_PAGES));
}

static void change_slot(uint32_t flags, uint64_t first_page, bool present)
{
	int error;

	if (vm.border)
		set_border(0);
	error = set_slot(vm.vm_fd, SLOT, flags,
			 DATA_GPA + first_page * PAGE_BYTES, vm.memory,
			 present * NR_PAGES * PAGE_BYTES);
	CHECK(!error, "a slot at %llu: %s", (unsigned long long)first_page,
	      strerror(error));
	/* what was not harvested by then is gone */
	if (vm.flags & KVM_MEM_LOG_DIRTY_PAGES &&
	    !(present && flags & KVM_MEM_LOG_DIRTY_PAGES))
		vm.lossy = true;
	vm.present = present;
	vm.flags = present ? flags : 0;
	vm.first_page = first_page;
}

static void create_shared(struct worker *w)
{
	unsigned int nr;

	vm.vm_fd = create_guest_vm(true);
	snprintf(vm.id, sizeof(vm.id), "kvm-%ld", syscall(__NR_gettid));
	wishes.pause = false;
	wishes.stop = false;
	vm.lossy = false;
	vm.age = 0;
	vm.lists = 0;
	vm.border = 0;
	vm.flags = 0;
	vm.harvested = 0;
	vm.charged_before = 0;
	change_slot(KVM_MEM_LOG_DIRTY_PAGES, 0, true);
	for (nr = 0; nr < NR_VCPUS; nr++)
		make_runner(w, &vm.runners[nr], vm.vm_fd, vm.id, nr);
	for (nr = 0; nr < NR_VCPUS; nr++)
		start_runner(&vm.runners[nr]);
}

/* Under the lock. Readers may keep the VM with files that they have opened. */
static void destroy_shared(void)
{
	if (vm.vm_fd < 0)
		return;
	__atomic_store_n(&wishes.stop, true, __ATOMIC_SEQ_CST);
	for (unsigned int nr = 0; nr < NR_VCPUS; nr++)
		end_runner(&vm.runners[nr]);
	close(vm.vm_fd);
	vm.vm_fd = -1;
}

static uint64_t count_bits(const uint64_t *bitmap)
{
	uint64_t nr = 0;

	for (unsigned int i = 0; i < NR_PAGES / 64; i++)
		nr += __builtin_popcountll(bitmap[i]);
	return nr;
}

static void harvest_slot(unsigned int slot)
{
	uint64_t bitmap[NR_PAGES / 64] = { 0 };
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };
	int error = ioctl(vm.vm_fd, KVM_GET_DIRTY_LOG, &log) ? errno : 0;

	CHECK(error == (vm.flags & KVM_MEM_LOG_DIRTY_PAGES ? 0 : ENOENT),
	      "KVM_GET_DIRTY_LOG: %s", strerror(error));
	vm.harvested += count_bits(bitmap);
}

static void harvest(struct worker *w)
{
	(void)w;
	harvest_slot(SLOT);
	if (vm.border)
		harvest_slot(SLOT + 1);
}

/* Clears what it does not see: what is charged is not harvested then. */
static void clear_some(struct worker *w)
{
	uint64_t bitmap[NR_PAGES / 64];
	struct kvm_clear_dirty_log log = {
		.slot = SLOT, .num_pages = NR_PAGES, .dirty_bitmap = bitmap
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bitmap); i++)
		bitmap[i] = rng_next(&w->rng);
	if (!ioctl(vm.vm_fd, KVM_CLEAR_DIRTY_LOG, &log))
		vm.lossy = true;
}

static void renew_slot(struct worker *w)
{
	change_slot(0, vm.first_page, false);
	if (one_in(&w->rng, 2))
		sleep_ms(1);
	change_slot(KVM_MEM_LOG_DIRTY_PAGES, 0, true);
}

static void toggle_log(struct worker *w)
{
	(void)w;
	change_slot(vm.flags ^ KVM_MEM_LOG_DIRTY_PAGES, vm.first_page, true);
}

static void move_slot(struct worker *w)
{
	change_slot(vm.flags, rng_below(&w->rng, 64), true);
}

/* While all vCPUs rest: what was charged is what was in the log. */
static void compare_sums(struct worker *w)
{
	uint64_t charged = 0;

	harvest(w);
	for (unsigned int nr = 0; nr < NR_VCPUS; nr++)
		charged += vm.runners[nr].count;
	charged -= vm.charged_before;
	vm.charged_before += charged;
	charged -= wrong == WRONG_SUM;
	/* Of each vCPU, a list may have one page charged twice. */
	CHECK(charged >= vm.harvested &&
	      (vm.lossy || charged <= vm.harvested + vm.lists * NR_VCPUS),
	      "%llu pages charged, %llu harvested%s, %u lists",
	      (unsigned long long)charged, (unsigned long long)vm.harvested,
	      vm.lossy ? " and some lost" : "", vm.lists);
	vm.lists = 0;
	vm.harvested = 0;
	vm.lossy = false;
}

static void look_at_rest(struct worker *w)
{
	uint64_t bursts[NR_VCPUS];
	unsigned int nr;

	pthread_rwlock_wrlock(&vm.lock);
	__atomic_store_n(&wishes.pause, true, __ATOMIC_SEQ_CST);
	for (nr = 0; nr < NR_VCPUS; nr++)
		wait_until_parked(&vm.runners[nr]);
	compare_sums(w);
	for (nr = 0; nr < NR_VCPUS; nr++) {
		bursts[nr] = vm.runners[nr].bursts;
		write_quota(&vm.runners[nr], 0);
	}
	__atomic_store_n(&wishes.pause, false, __ATOMIC_SEQ_CST);
	for (nr = 0; nr < NR_VCPUS; nr++)
		wait_until_gone_on(&vm.runners[nr], bursts[nr]);
	pthread_rwlock_unlock(&vm.lock);
}

static struct op owner_ops[] = {
	OP("shared_harvest",	30, harvest),
	OP("shared_clear",	5, clear_some),
	OP("shared_renew_slot",	5, renew_slot),
	OP("shared_toggle_log",	5, toggle_log),
	OP("shared_move_slot",	4, move_slot),
	OP("shared_split_slot",	10, split_slot),
	OP("shared_at_rest",	10, look_at_rest),
};

static void renew_shared(struct worker *w)
{
	if (vm.vm_fd >= 0 && vm.age++ < OPS_OF_A_LIFE)
		return;
	pthread_rwlock_wrlock(&vm.lock);
	destroy_shared();
	create_shared(w);
	pthread_rwlock_unlock(&vm.lock);
}

static void *own(void *arg)
{
	struct worker *w = arg;

	for (; !__atomic_load_n(&over, __ATOMIC_RELAXED); w->nr_ops++) {
		DOING("owner, operation %llu", (unsigned long long)w->nr_ops);
		renew_shared(w);
		fuzz_op(w, owner_ops, ARRAY_SIZE(owner_ops));
		usleep(rng_below(&w->rng, 2000));
	}
	pthread_rwlock_wrlock(&vm.lock);
	destroy_shared();
	pthread_rwlock_unlock(&vm.lock);
	return NULL;
}

/* --- the writer --- */

static struct runner *pick_runner(struct worker *w)
{
	return &vm.runners[rng_below(&w->rng, NR_VCPUS)];
}

static uint64_t tagged(uint64_t quota)
{
	return quota - quota % TAG_DIVISOR + TAG;
}

static void change_quota(struct worker *w)
{
	struct runner *r = pick_runner(w);
	uint64_t count = r->count, random = rng_next(&w->rng);

	switch (rng_below(&w->rng, 8)) {
	case 0:
		write_quota(r, 0);
		break;
	case 1:
		write_quota(r, tagged(random >> random % 32 >> 1));
		break;
	case 2:
		write_quota(r, tagged(count < TAG_DIVISOR ? 0 : random % count));
		break;
	default:
		write_quota(r, tagged(count + random % 500));
		break;
	}
}

static void send_signal(struct worker *w)
{
	pthread_kill(pick_runner(w)->thread, SIGUSR1);
}

static void kick_one(struct worker *w)
{
	kick(pick_runner(w));
}

static void enable_late(struct worker *w)
{
	int error = enable_quota(vm.vm_fd);

	(void)w;
	CHECK(error == EBUSY, "KVM_ENABLE_CAP: %s", strerror(error));
}

static struct op writer_ops[] = {
	OP("shared_quota",	40, change_quota),
	OP("shared_signal",	10, send_signal),
	OP("shared_kick",	10, kick_one),
	OP("shared_enable",	2, enable_late),
};

static void *write_at_random(void *arg)
{
	struct worker *w = arg;

	for (; !__atomic_load_n(&over, __ATOMIC_RELAXED); w->nr_ops++) {
		DOING("writer, operation %llu", (unsigned long long)w->nr_ops);
		pthread_rwlock_rdlock(&vm.lock);
		if (vm.vm_fd >= 0)
			fuzz_op(w, writer_ops, ARRAY_SIZE(writer_ops));
		pthread_rwlock_unlock(&vm.lock);
		usleep(rng_below(&w->rng, 1000));
	}
	return NULL;
}

/* --- for the others --- */

int chaos_open_file(struct rng *rng, struct stats_ref *ref)
{
	unsigned int nr = rng_below(rng, NR_VCPUS + 1);
	int fd = -1;

	pthread_rwlock_rdlock(&vm.lock);
	if (vm.vm_fd >= 0) {
		fd = get_stats_fd(nr ? vm.runners[nr - 1].fd : vm.vm_fd);
		stats_ref_init(ref, fd, vm.id, (int)nr - 1);
	}
	pthread_rwlock_unlock(&vm.lock);
	return fd;
}

void chaos_start(uint64_t seed)
{
	vm.memory = map_pages(NR_PAGES * PAGE_BYTES);
	rng_start(&owner.rng, seed, 1000);
	rng_start(&writer.rng, seed, 1001);
	CHECK(!pthread_create(&owner.thread, NULL, own, &owner) &&
	      !pthread_create(&writer.thread, NULL, write_at_random, &writer),
	      "pthread_create");
}

void chaos_stop(void)
{
	__atomic_store_n(&over, true, __ATOMIC_RELAXED);
	pthread_join(writer.thread, NULL);
	pthread_join(owner.thread, NULL);
}

void chaos_report(void)
{
	fuzz_report(owner_ops, ARRAY_SIZE(owner_ops));
	fuzz_report(writer_ops, ARRAY_SIZE(writer_ops));
}
