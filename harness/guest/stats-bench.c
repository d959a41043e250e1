// SPDX-License-Identifier: GPL-2.0-only
/*
 * stats-bench VCPUS
 *
 * What it costs to read all statistics of a VM of so many vCPUs that do not run,
 * in each way that the kernel offers. Without statistics fds:
 *
 *   kvm_stat every file of the VM's directory, by the system calls of kvm_stat,
 *            which are Python's: open by path, fstat, ioctl, lseek, lseek,
 *            fstat, read, read, close
 *   debugfs  with as few as will do: open by path, read, close
 *   openat   the same, from a directory that is kept open. The files cannot be:
 *            they have no offsets, and a second read finds their end
 *
 * With them:
 *
 *   pread    the data block of each statistics fd: the VM's and each vCPU's
 *   preadv   the same, by preadv
 *   uring    the same in one submission to io_uring, files and buffer registered
 *   vcpus    the VM's by pread, and all vCPUs by another one, where the kernel has
 *            a file of all vCPUs; vcpus-preadv: these by preadv
 *
 * and single calls: syscall (getppid), vm and vcpu (pread of the data block),
 * vm-word and vcpu-word (of 8 bytes of it).
 *
 * One line each, "vcpus way objects bytes nanoseconds", the median of many
 * rounds; under QEMU's -icount shift=0 a nanosecond is an instruction. What
 * a way reads is compared with what pread reads.
 */
#include <asm/termbits.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define DEBUGFS		"/sys/kernel/debug/kvm"
#define MAX_FILES	256
#define MAX_FDS		289		/* KVM_MAX_VCPUS, and the VM */
#define MAX_BLOCK	8192
#define ROUNDS		31

/* Of the file of all vCPUs; the headers here are older. */
#define GET_VCPUS_STATS_FD	_IO(KVMIO, 0xf9)

struct vcpus_header {
	struct kvm_stats_header header;
	uint32_t num_desc, record_size, values_offset, pad;
};

struct stats_file {
	int fd;
	unsigned int data_offset, data_bytes;
	unsigned char *block;		/* data_bytes of buffer */
};

struct vm {
	int kvm_fd, vm_fd, directory_fd;
	unsigned int vcpus, files, fds;
	int vcpu_fds[MAX_FDS];
	char path[64], name[MAX_FILES][64];
	struct stats_file stats[MAX_FDS];
	unsigned char *buffer;
	size_t buffer_bytes;
	int all_fd;			/* of all vCPUs; -1: none */
	struct vcpus_header all;
	unsigned char *records;
	size_t records_bytes;
};

static void die(const char *what)
{
	fprintf(stderr, "stats-bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int call(int fd, unsigned long request, unsigned long arg,
		const char *name)
{
	int ret = ioctl(fd, request, arg);

	if (ret < 0)
		die(name);
	return ret;
}

#define CALL(fd, request, arg)	call(fd, request, arg, #request)

#include "stats-bench-uring.h"

/* --- the VM ---------------------------------------------------------------- */

static void list_directory(struct vm *vm)
{
	struct dirent *entry;
	DIR *directory;

	snprintf(vm->path, sizeof(vm->path), DEBUGFS "/%d-%d", getpid(),
		 vm->vm_fd);
	directory = opendir(vm->path);
	if (!directory)
		die(vm->path);
	vm->files = 0;
	while ((entry = readdir(directory))) {
		if (entry->d_type != DT_REG)
			continue;
		if (vm->files == MAX_FILES)
			die("files in the VM's directory");
		snprintf(vm->name[vm->files++], sizeof(vm->name[0]), "%.63s",
			 entry->d_name);
	}
	closedir(directory);
	vm->directory_fd = open(vm->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (vm->directory_fd < 0)
		die(vm->path);
}

/* The size of the data is that of the last statistic's end. */
static void open_stats(struct stats_file *stats, int kvm_fd)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc desc;
	unsigned int end;
	off_t offset;

	stats->fd = CALL(kvm_fd, KVM_GET_STATS_FD, 0);
	if (pread(stats->fd, &header, sizeof(header), 0) != sizeof(header))
		die("header of the statistics");
	stats->data_offset = header.data_offset;
	stats->data_bytes = 0;
	for (unsigned int i = 0; i < header.num_desc; i++) {
		offset = header.desc_offset +
			 i * (sizeof(desc) + header.name_size);
		if (pread(stats->fd, &desc, sizeof(desc), offset) !=
		    sizeof(desc))
			die("descriptor of the statistics");
		end = desc.offset + desc.size * sizeof(uint64_t);
		if (end > stats->data_bytes)
			stats->data_bytes = end;
	}
	if (!stats->data_bytes || stats->data_bytes > MAX_BLOCK)
		die("size of the statistics");
}

static void open_all_stats(struct vm *vm)
{
	unsigned char *block;

	vm->fds = vm->vcpus + 1;
	vm->buffer_bytes = 0;
	for (unsigned int i = 0; i < vm->fds; i++) {
		open_stats(&vm->stats[i], i ? vm->vcpu_fds[i - 1] : vm->vm_fd);
		vm->buffer_bytes += vm->stats[i].data_bytes;
	}
	if (posix_memalign((void **)&vm->buffer, 4096, vm->buffer_bytes))
		die("buffer");
	memset(vm->buffer, 0, vm->buffer_bytes);
	block = vm->buffer;
	for (unsigned int i = 0; i < vm->fds; i++) {
		vm->stats[i].block = block;
		block += vm->stats[i].data_bytes;
	}
}

static void open_all_vcpus(struct vm *vm)
{
	vm->all_fd = ioctl(vm->vm_fd, GET_VCPUS_STATS_FD, 0);
	if (vm->all_fd < 0)
		return;
	if (pread(vm->all_fd, &vm->all, sizeof(vm->all), 0) != sizeof(vm->all))
		die("header of all vCPUs");
	vm->records_bytes = (size_t)vm->vcpus * vm->all.record_size;
	if (posix_memalign((void **)&vm->records, 4096, vm->records_bytes))
		die("records");
	memset(vm->records, 0xee, vm->records_bytes);
}

static void make_vm(struct vm *vm, unsigned int vcpus)
{
	vm->vcpus = vcpus;
	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0)
		die("/dev/kvm");
	vm->vm_fd = CALL(vm->kvm_fd, KVM_CREATE_VM, 0);
	for (unsigned int i = 0; i < vcpus; i++)
		vm->vcpu_fds[i] = CALL(vm->vm_fd, KVM_CREATE_VCPU, i);
	if (ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION,
		  KVM_CAP_BINARY_STATS_FD) > 0) {
		open_all_stats(vm);
		open_all_vcpus(vm);
	} else {
		list_directory(vm);
	}
}

/* --- the ways; each returns the bytes it read ------------------------------ */

static size_t read_file(int fd, const char *name)
{
	char text[32];
	ssize_t bytes;

	if (fd < 0)
		die(name);
	bytes = read(fd, text, sizeof(text));
	if (bytes <= 0)
		die(name);
	close(fd);
	return bytes;
}

/* Whatever Python's open(path).read() asks of the kernel. */
static size_t read_like_python(int fd, const char *name)
{
	char text[8192], terminal[64];
	struct stat stat;
	size_t bytes = 0;
	ssize_t got;

	if (fd < 0 || fstat(fd, &stat))
		die(name);
	ioctl(fd, TCGETS, terminal);
	lseek(fd, 0, SEEK_CUR);
	lseek(fd, 0, SEEK_CUR);
	fstat(fd, &stat);
	while ((got = read(fd, text, sizeof(text))) > 0)
		bytes += got;
	if (got < 0)
		die(name);
	close(fd);
	return bytes;
}

static size_t scrape_paths(struct vm *vm, size_t (*read_one)(int, const char *))
{
	size_t bytes = 0, start = strlen(vm->path);
	char path[128];

	memcpy(path, vm->path, start);
	path[start] = '/';
	for (unsigned int i = 0; i < vm->files; i++) {
		strcpy(path + start + 1, vm->name[i]);
		bytes += read_one(open(path, O_RDONLY | O_CLOEXEC), path);
	}
	return bytes;
}

static size_t scrape_kvm_stat(struct vm *vm)
{
	return scrape_paths(vm, read_like_python);
}

static size_t scrape_debugfs(struct vm *vm)
{
	return scrape_paths(vm, read_file);
}

static size_t scrape_openat(struct vm *vm)
{
	size_t bytes = 0;
	int fd;

	for (unsigned int i = 0; i < vm->files; i++) {
		fd = openat(vm->directory_fd, vm->name[i],
			    O_RDONLY | O_CLOEXEC);
		bytes += read_file(fd, vm->name[i]);
	}
	return bytes;
}

static size_t read_stats(const struct stats_file *stats, size_t bytes)
{
	if (pread(stats->fd, stats->block, bytes, stats->data_offset) !=
	    (ssize_t)bytes)
		die("pread of the statistics");
	return bytes;
}

static size_t scrape_pread(struct vm *vm)
{
	size_t bytes = 0;

	for (unsigned int i = 0; i < vm->fds; i++)
		bytes += read_stats(&vm->stats[i], vm->stats[i].data_bytes);
	return bytes;
}

static size_t scrape_preadv(struct vm *vm)
{
	const struct stats_file *stats = vm->stats;
	size_t bytes = 0;

	for (; stats < vm->stats + vm->fds; stats++) {
		struct iovec part = { stats->block, stats->data_bytes };

		if (preadv(stats->fd, &part, 1, stats->data_offset) !=
		    (ssize_t)stats->data_bytes)
			die("preadv of the statistics");
		bytes += stats->data_bytes;
	}
	return bytes;
}

static struct ring ring;

static size_t scrape_uring(struct vm *vm)
{
	return ring_scrape(&ring, vm->fds);
}

static size_t scrape_vcpus(struct vm *vm)
{
	if (pread(vm->all_fd, vm->records, vm->records_bytes,
		  vm->all.header.data_offset) != (ssize_t)vm->records_bytes)
		die("pread of all vCPUs");
	return read_stats(&vm->stats[0], vm->stats[0].data_bytes) +
	       vm->records_bytes;
}

static size_t scrape_vcpus_preadv(struct vm *vm)
{
	struct iovec part = { vm->records, vm->records_bytes };

	if (preadv(vm->all_fd, &part, 1, vm->all.header.data_offset) !=
	    (ssize_t)vm->records_bytes)
		die("preadv of all vCPUs");
	return read_stats(&vm->stats[0], vm->stats[0].data_bytes) +
	       vm->records_bytes;
}

static size_t scrape_nothing(struct vm *vm)
{
	(void)vm;
	return 0;
}

static size_t call_nothing(struct vm *vm)
{
	(void)vm;
	getppid();
	return 0;
}

static size_t read_vm(struct vm *vm)
{
	return read_stats(&vm->stats[0], vm->stats[0].data_bytes);
}

static size_t read_vcpu(struct vm *vm)
{
	return read_stats(&vm->stats[1], vm->stats[1].data_bytes);
}

static size_t read_vm_word(struct vm *vm)
{
	return read_stats(&vm->stats[0], sizeof(uint64_t));
}

static size_t read_vcpu_word(struct vm *vm)
{
	return read_stats(&vm->stats[1], sizeof(uint64_t));
}

/* --- measuring ------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static int compare(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;

	return (*a > *b) - (*a < *b);
}

/* The median, so that a timer's interrupt in some of the rounds is nothing. */
static uint64_t median_ns(struct vm *vm, size_t (*scrape)(struct vm *),
			  size_t *bytes)
{
	uint64_t ns[ROUNDS], start_ns;

	*bytes = scrape(vm);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		start_ns = now_ns();
		*bytes = scrape(vm);
		ns[i] = now_ns() - start_ns;
	}
	qsort(ns, ROUNDS, sizeof(ns[0]), compare);
	return ns[ROUNDS / 2];
}

static void measure(struct vm *vm, const char *way,
		    size_t (*scrape)(struct vm *), unsigned int objects)
{
	static uint64_t clock_ns;
	uint64_t ns;
	size_t bytes;

	if (!clock_ns)
		clock_ns = median_ns(vm, scrape_nothing, &bytes);
	ns = median_ns(vm, scrape, &bytes);
	printf("%u %s %u %zu %llu\n", vm->vcpus, way, objects, bytes,
	       (unsigned long long)(ns - clock_ns));
	fflush(stdout);
}

/* Every way must bring what pread brings; these VMs do not run. */
static void measure_stats(struct vm *vm, const char *way,
			  size_t (*scrape)(struct vm *))
{
	static unsigned char *wanted;

	wanted = realloc(wanted, vm->buffer_bytes);
	if (!wanted)
		die("buffer");
	scrape_pread(vm);
	memcpy(wanted, vm->buffer, vm->buffer_bytes);
	memset(vm->buffer, 0xee, vm->buffer_bytes);
	measure(vm, way, scrape, vm->fds);
	if (!memcmp(wanted, vm->buffer, vm->buffer_bytes))
		return;
	fprintf(stderr, "stats-bench: %s reads other values than pread\n", way);
	exit(1);
}

static void measure_vcpus(struct vm *vm, const char *way,
			  size_t (*scrape)(struct vm *))
{
	memset(vm->records, 0xee, vm->records_bytes);
	measure(vm, way, scrape, 2);
	scrape_pread(vm);
	for (unsigned int i = 0; i < vm->vcpus; i++) {
		const unsigned char *record = vm->records +
					      i * vm->all.record_size;

		if (!memcmp(record + vm->all.values_offset,
			    vm->stats[i + 1].block, vm->stats[i + 1].data_bytes))
			continue;
		fprintf(stderr, "stats-bench: vCPU %u has other values\n", i);
		exit(1);
	}
}

static void measure_fds(struct vm *vm)
{
	measure_stats(vm, "pread", scrape_pread);
	if (vm->all_fd >= 0) {
		measure_vcpus(vm, "vcpus", scrape_vcpus);
		measure_vcpus(vm, "vcpus-preadv", scrape_vcpus_preadv);
	}
	measure_stats(vm, "preadv", scrape_preadv);
	ring_set_up(&ring, vm);
	measure_stats(vm, "uring", scrape_uring);
	measure(vm, "syscall", call_nothing, 1);
	measure(vm, "vm", read_vm, 1);
	measure(vm, "vcpu", read_vcpu, 1);
	measure(vm, "vm-word", read_vm_word, 1);
	measure(vm, "vcpu-word", read_vcpu_word, 1);
}

/* Why the files of debugfs are opened each time. */
static void check_debugfs_files(const struct vm *vm)
{
	char path[128], text[32];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", vm->path, vm->name[0]);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	if (pread(fd, text, sizeof(text), 0) >= 0 || errno != ESPIPE ||
	    read(fd, text, sizeof(text)) <= 0 || read(fd, text, sizeof(text))) {
		fprintf(stderr, "stats-bench: %s can be read twice\n", path);
		exit(1);
	}
	close(fd);
}

static void measure_debugfs(struct vm *vm)
{
	check_debugfs_files(vm);
	measure(vm, "kvm_stat", scrape_kvm_stat, vm->files);
	measure(vm, "debugfs", scrape_debugfs, vm->files);
	measure(vm, "openat", scrape_openat, vm->files);
}

int main(int argc, char **argv)
{
	const struct rlimit files = { 4096, 4096 };
	unsigned long vcpus = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
	static struct vm vm;

	if (vcpus < 1 || vcpus >= MAX_FDS) {
		fprintf(stderr, "usage: stats-bench VCPUS (1 to %d)\n",
			MAX_FDS - 1);
		return 2;
	}
	if (setrlimit(RLIMIT_NOFILE, &files))
		die("RLIMIT_NOFILE");
	make_vm(&vm, vcpus);
	if (vm.fds)
		measure_fds(&vm);
	else
		measure_debugfs(&vm);
	return 0;
}
