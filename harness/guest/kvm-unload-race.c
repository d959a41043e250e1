// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm-unload-race SECONDS kvm FILE kvm_amd FILE: threads create VMs, take, pass,
 * read and close statistics fds, while another unloads KVM's modules whenever it
 * can and loads them again. TAP; the kernel's log says the rest.
 */
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdatomic.h>

#include "kvm-modules.h"

#define WORKERS		3
#define SLOTS		4
#define BUSY_ROUNDS	8
#define ROUNDS_MIN	5
#define PAUSE_US	(20 * 1000)

/* Where threads leave descriptors for each other; 0 is none */
static atomic_int slots[SLOTS];
/* No new VM is made while pausing: else one would nearly always be there */
static atomic_bool stopping, pausing;
static atomic_uint opened, finished, refused, unloaded, core_refused;

static bool one_in(unsigned int *seed, unsigned int n)
{
	return rand_r(seed) % n == 0;
}

/* The module may be going: then there is no device, or no new VM */
static int create_vm(void)
{
	int vm, error, kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0) {
		CHECK(errno == ENOENT || errno == ENODEV || errno == ENXIO,
		      "/dev/kvm");
		return -1;
	}
	do { /* what another thread's io_uring leaves to do interrupts this */
		vm = ioctl(kvm, KVM_CREATE_VM, 0);
	} while (vm < 0 && errno == EINTR);
	error = errno;
	close(kvm);
	errno = error;
	CHECK(vm >= 0 || errno == ENODEV, "KVM_CREATE_VM");
	return vm;
}

/* Whoever takes a descriptor out of a slot owns it */
static void leave_in_slot(int fd, unsigned int *seed)
{
	int old = atomic_exchange(&slots[rand_r(seed) % SLOTS], fd);

	if (old)
		close(old);
}

static void drop_in_flight(int fd)
{
	int ends[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends),
	      "socketpair");
	send_fds(ends[0], &fd, 1);
	close(fd);
	close(ends[0]);
	close(ends[1]);
}

static void drop_in_ring(int fd)
{
	struct io_uring_params params = {};
	int ring = syscall(SYS_io_uring_setup, 1, &params);

	CHECK(ring >= 0 && !syscall(SYS_io_uring_register, ring,
				    IORING_REGISTER_FILES, &fd, 1),
	      "io_uring_register");
	close(fd);
	close(ring);
}

static void drop(int fd, unsigned int *seed)
{
	switch (rand_r(seed) % 4) {
	case 0:
		close(fd);
		break;
	case 1:
		leave_in_slot(fd, seed);
		break;
	case 2:
		drop_in_flight(fd);
		break;
	case 3:
		drop_in_ring(fd);
		break;
	}
}

static void read_slots(unsigned int *seed)
{
	int fd = atomic_exchange(&slots[rand_r(seed) % SLOTS], 0);

	if (!fd)
		return;
	check_readable(fd, "kvm-");
	close(fd);
}

static void one_vm(unsigned int *seed)
{
	int vm = create_vm(), vcpu, fds[2], i;

	if (vm < 0)
		return;
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	CHECK(vcpu >= 0, "KVM_CREATE_VCPU");
	fds[0] = ioctl(vm, KVM_GET_STATS_FD, NULL);
	fds[1] = ioctl(vcpu, KVM_GET_STATS_FD, NULL);
	CHECK(fds[0] >= 0 && fds[1] >= 0, "KVM_GET_STATS_FD");
	opened += 2;
	if (one_in(seed, 2)) {
		close(vm);
		close(vcpu);
		vm = -1;
	}
	for (i = 0; i < 2; i++) {
		check_readable(fds[i], "kvm-");
		drop(fds[i], seed);
	}
	if (vm >= 0) {
		close(vm);
		close(vcpu);
	}
}

static void *work(void *argument)
{
	unsigned int seed = (uintptr_t)argument;

	while (!stopping) {
		if (!pausing)
			one_vm(&seed);
		usleep(rand_r(&seed) % PAUSE_US);
		read_slots(&seed);
	}
	finished++;
	return NULL;
}

/* The core may be in use for a little longer, by a file being released */
static bool try_unload(void)
{
	int error = module_unload(&vendor);

	CHECK(!error || error == EWOULDBLOCK, "unload %s: %s", vendor.name,
	      strerror(error));
	if (error) {
		refused++;
		return false;
	}
	error = module_unload(&core);
	CHECK(!error || error == EWOULDBLOCK, "unload %s: %s", core.name,
	      strerror(error));
	if (error)
		core_refused++;
	unloaded++;
	modules_restore();
	return true;
}

static void empty_slots(void)
{
	int i, fd;

	for (i = 0; i < SLOTS; i++) {
		fd = atomic_exchange(&slots[i], 0);
		if (fd)
			close(fd);
	}
}

static void race(const void *argument)
{
	const long seconds = *(const long *)argument;
	const time_t end = time(NULL) + seconds;
	pthread_t threads[WORKERS];
	uintptr_t i;

	for (i = 0; i < WORKERS; i++)
		CHECK(!pthread_create(&threads[i], NULL, work, (void *)(i + 1)),
		      "pthread_create");
	for (i = 0; time(NULL) < end; i++) {
		pausing = i / BUSY_ROUNDS % 2;
		if (pausing)
			empty_slots();
		if (try_unload())
			i += BUSY_ROUNDS - i % BUSY_ROUNDS;
		usleep(1000);
	}
	stopping = true;
	for (i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	empty_slots();
	module_must_go(&vendor);
	module_must_go(&core);
	printf("# %u descriptors, %u unloads refused, %u done, %u without %s\n",
	       opened, refused, unloaded, core_refused, core.name);
	CHECK(finished == WORKERS, "a thread is lost");
	CHECK(opened >= ROUNDS_MIN && refused >= ROUNDS_MIN &&
	      unloaded >= ROUNDS_MIN, "too little has happened");
}

int main(int argc, char **argv)
{
	long seconds;
	bool passed;

	if (argc != 6 || modules_from_arguments(argv + 2)) {
		fprintf(stderr,
			"usage: kvm-unload-race SECONDS CORE FILE VENDOR FILE\n");
		return 2;
	}
	seconds = atol(argv[1]);
	printf("1..1\n");
	modules_restore();
	passed = run_isolated(race, &seconds);
	modules_restore();
	report(1, "unloading while descriptors come and go", passed);
	return passed ? 0 : 1;
}
