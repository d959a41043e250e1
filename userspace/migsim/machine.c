// SPDX-License-Identifier: GPL-2.0-only
/* The VM: memory, vCPUs, dirty log. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"

#define SLOT_CONTROL	0
#define SLOT_RAM	1
#define TICK_NS		(2 * NS_PER_MS)	/* of the guests' timers, about */

/* Only there so that the signal ends KVM_RUN. */
static void on_kick(int number)
{
	(void)number;
}

/*
 * Reading the log clears nothing then: a page that waits to be sent is free to
 * be written again. All bits are set when logging begins, if the kernel can.
 */
static void clear_by_hand(const struct machine *machine, unsigned int clear_pages)
{
	struct kvm_enable_cap enable = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
	};
	int flags = ioctl(machine->vm_fd, KVM_CHECK_EXTENSION, enable.cap);

	enable.args[0] = flags & (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
				  KVM_DIRTY_LOG_INITIALLY_SET);
	if (flags <= 0 || ioctl(machine->vm_fd, KVM_ENABLE_CAP, &enable) < 0)
		die_unavailable("--clear-pages %u: this kernel can do 0 only",
				clear_pages);
}

static void open_vm(struct sim *sim)
{
	struct machine *machine = &sim->machine;
	int ret;

	machine->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (machine->kvm_fd < 0)
		die_unavailable("/dev/kvm: %s", strerror(errno));
	machine->vm_fd = ioctl(machine->kvm_fd, KVM_CREATE_VM, 0);
	if (machine->vm_fd < 0)
		die_unavailable("KVM_CREATE_VM: %s", strerror(errno));
	if (sim->options.clear_pages)
		clear_by_hand(machine, sim->options.clear_pages);
	machine->run_bytes = ioctl(machine->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	ret = sim->options.policy->prepare ?
	      sim->options.policy->prepare(sim) : 0;
	if (ret)
		die_unavailable("--policy %s: %s", sim->options.policy->name,
				ret == -EOPNOTSUPP ?
				"this kernel has no KVM_CAP_DIRTY_QUOTA" :
				strerror(-ret));
}

static void set_slot(const struct machine *machine, unsigned int slot,
		     uint64_t address, void *memory, uint64_t bytes, bool log)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = log ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = address,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)memory,
	};

	if (ioctl(machine->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		die("KVM_SET_USER_MEMORY_REGION, slot %u: %s", slot,
		    strerror(errno));
}

static void *map_memory(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("guest memory: %zu bytes: %s", bytes, strerror(errno));
	/* each page is written by itself from the beginning */
	madvise(memory, bytes, MADV_NOHUGEPAGE);
	return memory;
}

/* A page that never arrives must not look like one that did. */
static void fill(uint8_t *memory, uint64_t bytes)
{
	uint64_t *words = (uint64_t *)memory, state = 88172645463325252ull;

	for (uint64_t i = 0; i < bytes / sizeof(*words); i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		words[i] = state;
	}
}

static void set_memory(struct sim *sim)
{
	struct machine *machine = &sim->machine;
	uint64_t bytes = sim->options.memory_pages * PAGE_BYTES;

	machine->control_bytes = GUEST_BLOCKS + machine->vcpus * PAGE_BYTES;
	machine->control = map_memory(machine->control_bytes);
	machine->ram_pages = sim->options.memory_pages;
	machine->ram = map_memory(bytes);
	fill(machine->ram, bytes);
	guest_load(machine);
	set_slot(machine, SLOT_CONTROL, 0, machine->control,
		 machine->control_bytes, false);
	set_slot(machine, SLOT_RAM, GUEST_RAM, machine->ram, bytes, false);
}

/* How much between two ticks of the timer, so that the rate is exact. */
static void set_timer(struct vcpu *vcpu)
{
	const struct workload *workload = vcpu->workload;
	uint32_t batch = workload->rate * TICK_NS / NS_PER_S;

	if (!workload->rate)
		return;
	vcpu->block->batch = batch ? batch : 1;
	vcpu->tick_ns = vcpu->block->batch * NS_PER_S / workload->rate;
}

static void set_meetings(struct vcpu *vcpu)
{
	uint64_t ms = vcpu->workload->meet_ms;

	vcpu->block->blocks = vcpu->sim->machine.vcpus;
	vcpu->block->met = ms ? 0 : NEVER_MEETS;
	if (!ms)
		return;
	vcpu->block->meet = (ms * NS_PER_MS + vcpu->tick_ns - 1) / vcpu->tick_ns;
	vcpu->block->left = vcpu->block->meet;
}

static void set_block(struct vcpu *vcpu, uint64_t first_page)
{
	const struct workload *workload = vcpu->workload;

	vcpu->block = (struct guest_block *)(vcpu->sim->machine.control +
		      GUEST_BLOCKS + vcpu->index * PAGE_BYTES);
	vcpu->block->base = GUEST_RAM + first_page * PAGE_BYTES;
	vcpu->block->pages = workload->set_pages;
	vcpu->block->hot = workload->set_pages / 8 ? workload->set_pages / 8 : 1;
	vcpu->block->seed = vcpu->index + 1;
	set_timer(vcpu);
	set_meetings(vcpu);
}

static void open_vcpu(struct sim *sim, unsigned int index, uint64_t first_page)
{
	struct machine *machine = &sim->machine;
	struct vcpu *vcpu = &machine->vcpu[index];
	const char *step;

	vcpu->sim = sim;
	vcpu->index = index;
	vcpu->workload = &sim->options.vcpus[index];
	pthread_mutex_init(&vcpu->lock, NULL);
	cond_init(&vcpu->wake);
	vcpu->fd = ioctl(machine->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (vcpu->fd < 0)
		die("KVM_CREATE_VCPU %u: %s", index, strerror(errno));
	vcpu->run = mmap(NULL, machine->run_bytes, PROT_READ | PROT_WRITE,
			 MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED)
		die("vCPU %u: mmap: %s", index, strerror(errno));
	set_block(vcpu, first_page);
	if (guest_vcpu_init(vcpu, &step) < 0)
		die("vCPU %u: %s: %s", index, step, strerror(errno));
	vcpu_stats_open(vcpu);
}

void machine_open(struct sim *sim)
{
	struct machine *machine = &sim->machine;
	uint64_t first_page = 0;
	const char *step;

	machine->vcpus = sim->options.vcpu_count;
	open_vm(sim);
	if (guest_vm_init(machine, &step) < 0)
		die("%s: %s", step, strerror(errno));
	set_memory(sim);
	for (unsigned int i = 0; i < machine->vcpus; i++) {
		open_vcpu(sim, i, first_page);
		first_page += sim->options.vcpus[i].set_pages;
	}
}

void machine_start(struct sim *sim)
{
	struct machine *machine = &sim->machine;
	struct sigaction action = { .sa_handler = on_kick };

	sigaction(SIGUSR1, &action, NULL);
	for (unsigned int i = 0; i < machine->vcpus; i++)
		if (pthread_create(&machine->vcpu[i].thread, NULL, vcpu_thread,
				   &machine->vcpu[i]))
			die("vCPU %u: no thread", i);
}

void machine_stop(struct sim *sim)
{
	struct machine *machine = &sim->machine;

	for (unsigned int i = 0; i < machine->vcpus; i++)
		vcpu_stop(&machine->vcpu[i]);
	for (unsigned int i = 0; i < machine->vcpus; i++)
		pthread_join(machine->vcpu[i].thread, NULL);
}

void machine_log(struct machine *machine, bool on)
{
	set_slot(machine, SLOT_RAM, GUEST_RAM, machine->ram,
		 machine->ram_pages * PAGE_BYTES, on);
}

size_t bitmap_bytes(uint64_t pages)
{
	return (pages + 63) / 64 * sizeof(uint64_t);
}

uint64_t machine_harvest(const struct machine *machine, uint64_t *bitmap)
{
	struct kvm_dirty_log log = {
		.slot = SLOT_RAM, .dirty_bitmap = bitmap
	};
	uint64_t pages = 0;

	if (ioctl(machine->vm_fd, KVM_GET_DIRTY_LOG, &log) < 0)
		die("KVM_GET_DIRTY_LOG: %s", strerror(errno));
	for (size_t i = 0; i < bitmap_bytes(machine->ram_pages) / 8; i++)
		pages += __builtin_popcountll(bitmap[i]);
	return pages;
}

void machine_clear(const struct machine *machine, uint64_t first_page,
		   uint64_t pages, uint64_t *bitmap)
{
	struct kvm_clear_dirty_log log = {
		.slot = SLOT_RAM, .first_page = first_page, .num_pages = pages,
		.dirty_bitmap = bitmap + first_page / 64,
	};

	if (ioctl(machine->vm_fd, KVM_CLEAR_DIRTY_LOG, &log) < 0)
		die("KVM_CLEAR_DIRTY_LOG: %s", strerror(errno));
}
