// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VMM that knows nothing of statistics and does what a preloaded library
 * must bear. It never runs its vCPUs. The verdict is the exit status.
 *
 * usage: preload_vmm WHAT
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what) check(!!(what), #what, __LINE__)
#define THREADS	8

static int kvm_fd;

static void check(long true, const char *what, int line)
{
	if (true)
		return;
	fprintf(stderr, "preload_vmm: line %d: %s (errno %d)\n", line, what,
		errno);
	exit(1);
}

static int make_vm(void)
{
	int fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);

	CHECK(fd >= 0);
	return fd;
}

static int make_vcpu(int vm_fd, unsigned long number)
{
	int fd = ioctl(vm_fd, KVM_CREATE_VCPU, number);

	CHECK(fd >= 0);
	return fd;
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	CHECK(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* Other ioctls, and what fails, are as if nobody stood in between. */
static void do_errno(void)
{
	int vm_fd, pipe_fds[2], bytes = -1;

	errno = 4711;
	vm_fd = make_vm();
	make_vcpu(vm_fd, 0);
	CHECK(errno == 4711);
	CHECK(ioctl(vm_fd, KVM_CREATE_VCPU, 0ul) == -1 && errno == EEXIST);
	CHECK(ioctl(-1, KVM_CREATE_VM, 0) == -1 && errno == EBADF);
	CHECK(ioctl(kvm_fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
	CHECK(!pipe(pipe_fds) && write(pipe_fds[1], "abc", 3) == 3);
	CHECK(!ioctl(pipe_fds[0], FIONREAD, &bytes) && bytes == 3);
	CHECK(ioctl(pipe_fds[0], KVM_CREATE_VM, 0) == -1 && errno == ENOTTY);
}

/* VM, vCPUs and the connection; exec closes all of them. */
static void do_fds(void)
{
	int before = count_fds(), kept = 0, vm_fd;

	for (int fd = 0; fd < 100; fd++)
		kept += fcntl(fd, F_GETFD) == 0;
	vm_fd = make_vm();
	for (int i = 0; i < 4; i++)
		make_vcpu(vm_fd, i);
	CHECK(count_fds() == before + 6);
	for (int fd = 0; fd < 100; fd++)
		kept -= fcntl(fd, F_GETFD) == 0;
	CHECK(!kept);
}

/*
 * All descriptors that the VMM does not know are closed, and the number of the
 * connection is given to a socket of its own: that must not get a message.
 */
static void do_closeall(void)
{
	int vm_fd = make_vm(), pair[2];
	char byte;

	make_vcpu(vm_fd, 0);
	CHECK(vm_fd == kvm_fd + 1);
	for (int fd = vm_fd + 1; fd < 100; fd++)
		close(fd);
	for (int i = 0; i < 8; i++) {
		CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
		make_vcpu(vm_fd, 1 + i);
		CHECK(recv(pair[0], &byte, 1, MSG_DONTWAIT) < 0);
		CHECK(recv(pair[1], &byte, 1, MSG_DONTWAIT) < 0);
	}
}

/* Destroyed VMs leave nothing behind. */
static void do_loop(void)
{
	int before = count_fds();

	for (int i = 0; i < 100; i++) {
		int vm_fd = make_vm(), vcpu_fd = make_vcpu(vm_fd, 0);

		close(vcpu_fd);
		close(vm_fd);
	}
	CHECK(count_fds() <= before + 1);
}

static void do_many(void)
{
	int vm_fd = make_vm();
	int most = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);

	if (most > 300)
		most = 300;
	for (int i = 0; i < most; i++)
		make_vcpu(vm_fd, i);
	printf("%d\n", most);
	/* until it is read */
	fflush(stdout);
	CHECK(getchar() == EOF);
}

static void do_two(void)
{
	int a = make_vm(), b = make_vm();

	make_vcpu(a, 0);
	make_vcpu(b, 0);
	make_vcpu(a, 1);
	CHECK(getchar() == EOF);
}

/* vCPUs are added by another number of the VM; in the end it is the only one. */
static void do_dup(void)
{
	int vm_fd = make_vm(), other = fcntl(vm_fd, F_DUPFD_CLOEXEC, 50);

	CHECK(other >= 50);
	make_vcpu(other, 0);
	CHECK(!close(vm_fd));
	make_vcpu(other, 1);
	CHECK(getchar() == EOF);
}

/* Can the kernel say that two numbers are one file? */
static void do_kcmp(void)
{
	pid_t pid = getpid();

	CHECK(!syscall(SYS_kcmp, pid, pid, KCMP_FILE, kvm_fd, dup(kvm_fd)));
}

static void do_fork(void)
{
	int status, vm_fd = make_vm();
	pid_t child;

	make_vcpu(vm_fd, 0);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
		CHECK(kvm_fd >= 0);
		vm_fd = make_vm();
		make_vcpu(vm_fd, 0);
		make_vcpu(vm_fd, 1);
		CHECK(getchar() == EOF);
		_exit(0);
	}
	make_vcpu(vm_fd, 1);
	CHECK(waitpid(child, &status, 0) == child && !status);
}

/* What the VMM starts does not get the library; others that were asked for do. */
static void do_environment(void)
{
	CHECK(!system("echo \"before $LD_PRELOAD\""));
	make_vm();
	CHECK(!system("echo \"after $LD_PRELOAD\""));
}

static int shared_vm_fd;
static pthread_barrier_t start;

static void *add_vcpus(void *first)
{
	pthread_barrier_wait(&start);
	for (int i = 0; i < 4; i++)
		make_vcpu(shared_vm_fd, (long)first + i);
	return NULL;
}

static void *add_vm(void *unused)
{
	int vm_fd;

	(void)unused;
	pthread_barrier_wait(&start);
	vm_fd = make_vm();
	make_vcpu(vm_fd, 0);
	make_vcpu(vm_fd, 1);
	return NULL;
}

static void in_threads(void *(*run)(void *))
{
	pthread_t threads[THREADS];

	pthread_barrier_init(&start, NULL, THREADS);
	for (long i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&threads[i], NULL, run, (void *)(4 * i)));
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK(getchar() == EOF);
}

static void do_threads(void)
{
	shared_vm_fd = make_vm();
	in_threads(add_vcpus);
}

static void do_vms(void)
{
	in_threads(add_vm);
}

/* No number left for anything of the library's. */
static void do_limit(void)
{
	struct rlimit limit = { 64, 64 };
	int vm_fd;

	CHECK(!setrlimit(RLIMIT_NOFILE, &limit));
	while (dup(kvm_fd) < 63)
		;
	vm_fd = dup(kvm_fd);
	CHECK(vm_fd == -1 && errno == EMFILE);
	close(62);
	vm_fd = make_vm();
	close(61);
	make_vcpu(vm_fd, 0);
}

/* Another root, in which there is nothing, not even /proc. */
static void do_chroot(void)
{
	int vm_fd;

	CHECK(!chroot("/proc/self/fdinfo") && !chdir("/"));
	vm_fd = make_vm();
	make_vcpu(vm_fd, 0);
}

/* One vCPU at the start, one for each line of input. */
static void do_hotadd(void)
{
	int vm_fd = make_vm(), vcpus = 0, c;

	make_vcpu(vm_fd, vcpus++);
	while ((c = getchar()) != EOF)
		make_vcpu(vm_fd, vcpus++);
}

static const struct {
	const char *name;
	void (*run)(void);
} modes[] = {
	{ "errno", do_errno }, { "fds", do_fds }, { "closeall", do_closeall },
	{ "loop", do_loop }, { "many", do_many }, { "two", do_two },
	{ "dup", do_dup }, { "fork", do_fork }, { "limit", do_limit },
	{ "environment", do_environment }, { "threads", do_threads },
	{ "hotadd", do_hotadd }, { "vms", do_vms }, { "kcmp", do_kcmp },
	{ "chroot", do_chroot },
};

int main(int argc, char **argv)
{
	kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	CHECK(kvm_fd >= 0);
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		if (argc == 2 && !strcmp(argv[1], modes[i].name)) {
			modes[i].run();
			return 0;
		}
	}
	fputs("usage: preload_vmm WHAT\n", stderr);
	return 2;
}
