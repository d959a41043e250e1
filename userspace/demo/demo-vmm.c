// SPDX-License-Identifier: GPL-2.0-only
/*
 * demo-vmm - a small VMM with a real guest, that hands the statistics
 * descriptors of its VM and vCPUs to a reader, and then says nothing more.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <kvmstats.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define MEMORY_BYTES	0x100000
#define MAX_VCPUS	64
#define IO_PAUSE_US	500	/* keeps two CPUs responsive, emulated even */
#define YIELD_PAUSE_US	5000
#define CONNECT_TRIES	300
#define CONNECT_WAIT_MS	100

struct options {
	const char *socket;	/* NULL: hold the descriptors, tell nobody */
	const char *name, *uuid;
	unsigned int vcpus;
	double seconds;
	int no_stats;		/* as a VMM that knows nothing of statistics */
};

static atomic_bool stopping;

static void die(const char *format, ...)
	__attribute__((__format__(__printf__, 1, 2), noreturn));

static void die(const char *format, ...)
{
	va_list args;

	fputs("demo-vmm: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void sleep_us(uint64_t us)
{
	struct timespec time = {
		.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000
	};

	nanosleep(&time, NULL);
}

/* Only there so that the signal ends KVM_RUN. */
static void on_kick(int number)
{
	(void)number;
}

static void machine_open(struct machine *machine)
{
	const char *step;

	machine->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (machine->kvm_fd < 0)
		die("/dev/kvm: %s", strerror(errno));
	machine->vm_fd = ioctl(machine->kvm_fd, KVM_CREATE_VM, 0);
	if (machine->vm_fd < 0)
		die("KVM_CREATE_VM: %s", strerror(errno));
	machine->run_bytes = ioctl(machine->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	machine->memory_bytes = MEMORY_BYTES;
	machine->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (machine->memory == MAP_FAILED)
		die("guest memory: %s", strerror(errno));
	if (guest_vm_init(machine, &step) < 0)
		die("%s: %s", step, strerror(errno));
}

static void machine_set_memory(const struct machine *machine)
{
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = guest_memory_start(),
		.memory_size = machine->memory_bytes,
		.userspace_addr = (uintptr_t)machine->memory,
	};

	if (ioctl(machine->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		die("KVM_SET_USER_MEMORY_REGION: %s", strerror(errno));
}

/* The timer of x86 interrupts the first vCPU only: that one halts. */
static enum work work_of(unsigned int index)
{
	return index ? (enum work)(1 + (index - 1) % (WORKS - 1)) : WORK_HALT;
}

static void vcpu_open(const struct machine *machine, struct vcpu *vcpu,
		      unsigned int index)
{
	vcpu->machine = machine;
	vcpu->index = index;
	vcpu->work = work_of(index);
	vcpu->fd = ioctl(machine->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (vcpu->fd < 0)
		die("KVM_CREATE_VCPU %u: %s", index, strerror(errno));
	vcpu->run = mmap(NULL, machine->run_bytes, PROT_READ | PROT_WRITE,
			 MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED)
		die("vCPU %u: mmap: %s", index, strerror(errno));
}

static void vcpu_set_up(struct vcpu *vcpu)
{
	const char *step;

	if (guest_vcpu_init(vcpu, &step) < 0)
		die("vCPU %u: %s: %s", vcpu->index, step, strerror(errno));
}

/* Statistics descriptors are taken here, before any vCPU first runs. */
static struct kvmstats_sender *collect(const struct options *options,
				       const struct machine *machine,
				       const struct vcpu *vcpus)
{
	struct kvmstats_sender *sender;
	int ret = kvmstats_sender_new(options->name, options->uuid, &sender);

	if (ret)
		die("name or uuid: %s", strerror(-ret));
	ret = kvmstats_sender_add(sender, machine->vm_fd);
	for (unsigned int i = 0; i < options->vcpus && !ret; i++)
		ret = kvmstats_sender_add(sender, vcpus[i].fd);
	if (ret)
		die("KVM_GET_STATS_FD: %s", strerror(-ret));
	return sender;
}

/* The reader may be starting in this very moment, or much later. */
static void hand_over(struct kvmstats_sender *sender, const char *path)
{
	int ret = -ENOENT;

	for (int i = 0; i < CONNECT_TRIES; i++) {
		ret = kvmstats_sender_connect(sender, path);
		if (ret != -ENOENT && ret != -ECONNREFUSED && ret != -EAGAIN)
			break;
		sleep_us(CONNECT_WAIT_MS * 1000);
	}
	if (!ret)
		ret = kvmstats_sender_flush(sender);
	if (ret < 0)
		fprintf(stderr, "demo-vmm: %s: %s; it is tried again\n", path,
			strerror(-ret));
	else
		fprintf(stderr, "demo-vmm: %d statistics descriptors sent to %s\n",
			ret, path);
}

/* For that long, and again whenever the reader begins anew. */
static void stay_registered(struct kvmstats_sender *sender, const char *path,
			    double seconds)
{
	struct timespec now;
	double end, left;

	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec + now.tv_nsec / 1e9 + seconds;
	for (;;) {
		struct pollfd poll_fd = { .events = POLLIN };
		int wait_ms;

		kvmstats_sender_maintain(sender, path, &wait_ms);
		clock_gettime(CLOCK_MONOTONIC, &now);
		left = end - now.tv_sec - now.tv_nsec / 1e9;
		if (left <= 0)
			return;
		poll_fd.fd = kvmstats_sender_fd(sender);
		poll(&poll_fd, 1, left * 1e3 < wait_ms ? left * 1e3 + 1 : wait_ms);
	}
}

static void run_once(struct vcpu *vcpu)
{
	if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
		if (errno != EINTR && errno != EAGAIN)
			die("vCPU %u: KVM_RUN: %s", vcpu->index,
			    strerror(errno));
		return;
	}
	switch (guest_exit(vcpu)) {
	case GUEST_IO:
		sleep_us(IO_PAUSE_US);
		break;
	case GUEST_YIELD:
		sleep_us(YIELD_PAUSE_US);
		break;
	default:
		die("vCPU %u: unexpected exit, reason %u", vcpu->index,
		    vcpu->run->exit_reason);
	}
}

static void *vcpu_thread(void *argument)
{
	struct vcpu *vcpu = argument;
	char name[16];

	/* by this observers know which thread is which */
	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	pthread_setname_np(pthread_self(), name);
	while (!stopping)
		run_once(vcpu);
	return NULL;
}

static void start(pthread_t *threads, struct vcpu *vcpus, unsigned int count)
{
	struct sigaction action = { .sa_handler = on_kick };

	sigaction(SIGUSR1, &action, NULL);
	for (unsigned int i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, vcpu_thread, &vcpus[i]))
			die("vCPU %u: no thread", i);
}

/* immediate_exit covers a signal that comes just before KVM_RUN. */
static void stop(pthread_t *threads, struct vcpu *vcpus, unsigned int count)
{
	stopping = 1;
	for (unsigned int i = 0; i < count; i++) {
		__atomic_store_n(&vcpus[i].run->immediate_exit, 1,
				 __ATOMIC_RELAXED);
		pthread_kill(threads[i], SIGUSR1);
		pthread_join(threads[i], NULL);
	}
}

static void run_guest(const struct options *options)
{
	static struct vcpu vcpus[MAX_VCPUS];
	struct machine machine = { 0 };
	struct kvmstats_sender *sender = NULL;
	pthread_t threads[MAX_VCPUS];
	const char *step;

	machine_open(&machine);
	machine_set_memory(&machine);
	for (unsigned int i = 0; i < options->vcpus; i++) {
		vcpu_open(&machine, &vcpus[i], i);
		vcpu_set_up(&vcpus[i]);
	}
	if (guest_vm_start(&machine, &step) < 0)
		die("%s: %s", step, strerror(errno));
	if (!options->no_stats)
		sender = collect(options, &machine, vcpus);
	if (sender && options->socket)
		hand_over(sender, options->socket);
	start(threads, vcpus, options->vcpus);
	if (sender && options->socket)
		stay_registered(sender, options->socket, options->seconds);
	else
		sleep_us(options->seconds * 1e6);
	stop(threads, vcpus, options->vcpus);
	kvmstats_sender_free(sender);
}

static const struct option long_options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "name", required_argument, NULL, 'n' },
	{ "uuid", required_argument, NULL, 'u' },
	{ "vcpus", required_argument, NULL, 'c' },
	{ "seconds", required_argument, NULL, 't' },
	{ "no-stats", no_argument, NULL, 'N' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 }
};

static void print_help(FILE *out)
{
	fputs("usage: demo-vmm [OPTIONS]\n"
	      "  --socket PATH   hand the statistics descriptors over there\n"
	      "                  (default: hold them, for kvmstat show --pid)\n"
	      "  --name TEXT     what to call the VM (default: demo)\n"
	      "  --uuid TEXT     (default: none)\n"
	      "  --vcpus N       halting, port I/O, memory, computing, and from\n"
	      "                  the fifth on the last three again (default: 4)\n"
	      "  --no-stats      take no statistics descriptors\n"
	      "  --seconds N     how long to run (default: 10)\n", out);
}

static unsigned int parse_vcpus(const char *text)
{
	char *end;
	unsigned long vcpus = strtoul(text, &end, 10);

	if (end == text || *end || !vcpus || vcpus > MAX_VCPUS)
		die("--vcpus %s: 1 to %u are possible", text, MAX_VCPUS);
	return vcpus;
}

static double parse_seconds(const char *text)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !(seconds > 0 && seconds < 1e6))
		die("--seconds %s: not a time", text);
	return seconds;
}

static void take_option(struct options *options, int letter)
{
	switch (letter) {
	case 's':
		options->socket = optarg;
		break;
	case 'n':
		options->name = optarg;
		break;
	case 'u':
		options->uuid = optarg;
		break;
	case 'c':
		options->vcpus = parse_vcpus(optarg);
		break;
	case 't':
		options->seconds = parse_seconds(optarg);
		break;
	case 'N':
		options->no_stats = 1;
		break;
	case 'h':
		print_help(stdout);
		exit(0);
	default:
		print_help(stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct options options = {
		.name = "demo", .uuid = "", .vcpus = 4, .seconds = 10
	};
	int letter;

	while ((letter = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take_option(&options, letter);
	if (optind < argc) {
		print_help(stderr);
		return 2;
	}
	run_guest(&options);
	return 0;
}
