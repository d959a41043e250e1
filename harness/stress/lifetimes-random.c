// SPDX-License-Identifier: GPL-2.0-only
/* VMs, files and their holders, at random; see lifetimes.c. */
#include <errno.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lifetimes.h"

#define NR_ACTORS	3
#define NR_THREADS	2
#define NR_VMMS		3
#define NR_FILES	16

struct actor_thread {
	struct rng rng;
	pthread_t thread;
	struct vmm vmms[NR_VMMS];
	struct file files[NR_FILES];
	struct uring ring;
	struct file registered;		/* fd: the ring has it; -1: not */
	uint64_t nr_ops;
};

static struct actor {
	pid_t pid;
	int rx, tx;
} actors[NR_ACTORS];

static unsigned int me;

/* --- a VMM and its files --- */

/* Elsewhere the number may be of another namespace. */
static void learn_id(struct vmm *vmm)
{
	int fd = get_stats_fd(vmm->vm_fd);
	char want[ID_BYTES];

	CHECK(pread(fd, vmm->id, ID_BYTES, vm_schema.header.id_offset) ==
	      ID_BYTES, "the id: %s", strerror(errno));
	close(fd);
	snprintf(want, sizeof(want), "kvm-%ld", syscall(__NR_gettid));
	CHECK(!own_kernel || !strcmp(vmm->id, want), "the id is %.48s, not %s",
	      vmm->id, want);
}

void vmm_create(struct vmm *vmm, unsigned int nr_vcpus)
{
	memset(vmm, 0, sizeof(*vmm));
	vmm->vm_fd = create_vm();
	learn_id(vmm);
	for (; vmm->nr_vcpus < nr_vcpus; vmm->nr_vcpus++)
		vmm->vcpu_fds[vmm->nr_vcpus] = create_vcpu(vmm->vm_fd,
							   vmm->nr_vcpus);
}

void vmm_close(struct vmm *vmm)
{
	for (unsigned int i = 0; i < vmm->nr_vcpus; i++)
		close(vmm->vcpu_fds[i]);
	close(vmm->vm_fd);
	vmm->vm_fd = -1;
}

int vmm_open(const struct vmm *vmm, int vcpu, struct stats_ref *ref)
{
	int fd = get_stats_fd(vcpu < 0 ? vmm->vm_fd : vmm->vcpu_fds[vcpu]);

	stats_ref_init(ref, fd, vmm->id, vcpu);
	return fd;
}

void write_letter(const struct file *file, struct letter *letter)
{
	letter->is_vcpu = file->ref.schema == &vcpu_schema;
	memcpy(letter->id, file->ref.id, ID_BYTES);
	memcpy(letter->last, file->ref.last, sizeof(letter->last));
}

void take_letter(struct file *file, const struct letter *letter)
{
	file->ref.schema = letter->is_vcpu ? &vcpu_schema : &vm_schema;
	memcpy(file->ref.id, letter->id, ID_BYTES);
	memcpy(file->ref.last, letter->last, sizeof(letter->last));
	stats_read_all(&file->ref, file->fd);
}

void run_for_ever(int sock)
{
	const struct guest_start start = {
		.random = 1, .page_mask = 63, .burst = 500,
	};
	struct vmm vmm = { .vm_fd = create_guest_vm(own_kernel) };
	struct letter letter;
	struct kvm_run *run;
	struct file file;

	CHECK(!set_slot(vmm.vm_fd, 1, KVM_MEM_LOG_DIRTY_PAGES, DATA_GPA,
			map_pages(64 * PAGE_BYTES), 64 * PAGE_BYTES),
	      "the memory slot: %s", strerror(errno));
	vmm.vcpu_fds[0] = create_guest_vcpu(vmm.vm_fd, 0, &start);
	learn_id(&vmm);
	for (int vcpu = -1; vcpu < 1; vcpu++) {
		file.fd = vmm_open(&vmm, vcpu, &file.ref);
		write_letter(&file, &letter);
		send_fd(sock, file.fd, &letter, sizeof(letter));
		close(file.fd);
	}
	for (run = map_run(vmm.vcpu_fds[0]); ; )
		run_vcpu(vmm.vcpu_fds[0], run);
}

/* --- operations --- */

static struct file *pick(struct actor_thread *t)
{
	return &t->files[rng_below(&t->rng, NR_FILES)];
}

static struct file *free_file(struct actor_thread *t)
{
	for (unsigned int i = 0; i < NR_FILES; i++)
		if (t->files[i].fd < 0)
			return &t->files[i];
	return NULL;
}

static void drop(struct file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

static void do_vmm(struct actor_thread *t)
{
	struct vmm *vmm = &t->vmms[rng_below(&t->rng, NR_VMMS)];

	if (vmm->vm_fd >= 0)
		vmm_close(vmm);
	else
		vmm_create(vmm, rng_below(&t->rng, VCPUS_MAX + 1));
}

static void do_open(struct actor_thread *t)
{
	struct vmm *vmm = &t->vmms[rng_below(&t->rng, NR_VMMS)];
	struct file *file = free_file(t);
	int vcpu = (int)rng_below(&t->rng, vmm->nr_vcpus + 1) - 1;

	if (file && vmm->vm_fd >= 0)
		file->fd = vmm_open(vmm, vcpu, &file->ref);
}

static void do_read(struct actor_thread *t)
{
	struct file *file = pick(t);

	if (file->fd >= 0)
		stats_read_all(&file->ref, file->fd);
}

static void do_close(struct actor_thread *t)
{
	drop(pick(t));
}

static void do_dup(struct actor_thread *t)
{
	struct file *from = pick(t), *to = free_file(t);

	if (from->fd < 0 || !to)
		return;
	*to = *from;
	to->fd = dup(from->fd);
	CHECK(to->fd >= 0, "dup: %s", strerror(errno));
}

static void do_send(struct actor_thread *t)
{
	struct file *file = pick(t);
	struct letter letter;

	if (file->fd < 0)
		return;
	write_letter(file, &letter);
	send_fd(actors[rng_below(&t->rng, NR_ACTORS)].tx, file->fd, &letter,
		sizeof(letter));
	if (one_in(&t->rng, 2))
		drop(file);
}

static void do_receive(struct actor_thread *t)
{
	struct file *file = free_file(t);
	struct letter letter;

	if (!file)
		return;
	file->fd = receive_fd(actors[me].rx, &letter, sizeof(letter));
	if (file->fd >= 0)
		take_letter(file, &letter);
}

static void read_files(struct actor_thread *t)
{
	for (unsigned int i = 0; i < NR_FILES; i++)
		if (t->files[i].fd >= 0)
			stats_read_all(&t->files[i].ref, t->files[i].fd);
}

/* A child has all that its parent has, and reads it, until it is killed. */
static void do_fork(struct actor_thread *t)
{
	bool killed = one_in(&t->rng, 2);
	pid_t pid = start_process();

	if (!pid) {
		do {
			read_files(t);
		} while (killed);
		_exit(0);
	}
	if (one_in(&t->rng, 2))
		drop(pick(t));
	if (killed) {
		usleep(rng_below(&t->rng, 3000));
		end_process(pid);
	} else {
		join_process(pid);
	}
}

/* Only the collector of sockets can end these. */
static void do_cycle(struct actor_thread *t)
{
	struct file *file = pick(t);
	int socks[2];

	if (file->fd < 0)
		return;
	CHECK(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, socks),
	      "socketpair: %s", strerror(errno));
	send_fd(socks[0], file->fd, "x", 1);
	send_fd(socks[0], socks[one_in(&t->rng, 2)], "x", 1);
	send_fd(socks[1], socks[one_in(&t->rng, 2)], "x", 1);
	close(socks[0]);
	close(socks[1]);
	if (one_in(&t->rng, 2))
		drop(file);
}

static void forget_registered(struct actor_thread *t)
{
	if (t->registered.fd < 0)
		return;
	if (one_in(&t->rng, 2)) {
		CHECK(!uring_register(&t->ring, IORING_UNREGISTER_FILES, NULL, 0),
		      "IORING_UNREGISTER_FILES: %s", strerror(errno));
	} else {
		uring_close(&t->ring);
		CHECK(uring_open(&t->ring), "io_uring_setup: %s",
		      strerror(errno));
	}
	t->registered.fd = -1;
}

/* From now on the ring has it, whatever happens to the descriptor. */
static void do_register(struct actor_thread *t)
{
	struct file *file = pick(t);

	if (file->fd < 0 || t->ring.fd < 0)
		return;
	forget_registered(t);
	CHECK(!uring_register(&t->ring, IORING_REGISTER_FILES, &file->fd, 1),
	      "IORING_REGISTER_FILES: %s", strerror(errno));
	t->registered = *file;
	if (one_in(&t->rng, 2))
		drop(file);
}

static void do_read_registered(struct actor_thread *t)
{
	_Alignas(8) unsigned char bytes[16384];
	struct io_uring_sqe *sqe;
	int got;

	if (t->registered.fd < 0)
		return;
	sqe = uring_sqe(&t->ring);
	sqe->opcode = IORING_OP_READ;
	sqe->flags = IOSQE_FIXED_FILE | (one_in(&t->rng, 3) ? IOSQE_ASYNC : 0);
	sqe->addr = (uintptr_t)bytes;
	sqe->len = sizeof(bytes);
	got = uring_submit(&t->ring);
	CHECK(got == (int)t->registered.ref.schema->size,
	      "a registered file: %d", got);
	stats_check(&t->registered.ref, 0, bytes, got, true);
}

/* --- who does them --- */

static void do_one(struct actor_thread *t)
{
	static void (* const ops[])(struct actor_thread *t) = {
		do_vmm, do_vmm, do_open, do_open, do_open, do_open, do_read,
		do_read, do_read, do_read, do_close, do_close, do_dup, do_send,
		do_send, do_send, do_receive, do_receive, do_receive, do_fork,
		do_cycle, do_register, do_read_registered, do_read_registered,
	};

	DOING("random, operation %llu", (unsigned long long)t->nr_ops++);
	ops[rng_below(&t->rng, ARRAY_SIZE(ops))](t);
}

static void *act(void *arg)
{
	struct actor_thread *t = arg;
	unsigned int i;

	for (i = 0; i < NR_VMMS; i++)
		t->vmms[i].vm_fd = -1;
	for (i = 0; i < NR_FILES; i++)
		t->files[i].fd = -1;
	t->registered.fd = -1;
	uring_open(&t->ring);
	for (;;)
		do_one(t);
	return NULL;
}

static _Noreturn void be_actor(unsigned int nr, uint64_t seed, uint64_t life)
{
	static struct actor_thread threads[NR_THREADS];
	unsigned int i;

	me = nr;
	alarm(0);
	for (i = 0; i < NR_ACTORS; i++)
		if (i != me)
			close(actors[i].rx);
	for (i = 0; i < NR_THREADS; i++) {
		rng_start(&threads[i].rng, seed, life * NR_THREADS + i);
		CHECK(!pthread_create(&threads[i].thread, NULL, act,
				      &threads[i]), "pthread_create");
	}
	for (;;)
		pause();
}

static void make_queue(unsigned int nr)
{
	int socks[2];

	CHECK(!socketpair(AF_UNIX, SOCK_DGRAM, 0, socks), "socketpair: %s",
	      strerror(errno));
	actors[nr].rx = socks[0];
	actors[nr].tx = socks[1];
}

static void start_actor(unsigned int nr, uint64_t seed, uint64_t life)
{
	actors[nr].pid = start_process();
	if (!actors[nr].pid)
		be_actor(nr, seed, life);
}

/* Together with its queue: files that were sent to it are dropped. */
static void end_actor(unsigned int nr)
{
	end_process(actors[nr].pid);
	close(actors[nr].rx);
	close(actors[nr].tx);
}

void random_life(uint64_t seed, uint64_t seconds)
{
	uint64_t end_ms = now_ms() + seconds * 1000, life = 0;
	struct rng rng;
	unsigned int nr;

	rng_start(&rng, seed, 0);
	for (nr = 0; nr < NR_ACTORS; nr++)
		make_queue(nr);
	for (nr = 0; nr < NR_ACTORS; nr++)
		start_actor(nr, seed, ++life);
	while (now_ms() < end_ms) {
		sleep_ms(20 + rng_below(&rng, 500));
		nr = rng_below(&rng, NR_ACTORS);
		end_actor(nr);
		make_queue(nr);
		start_actor(nr, seed, ++life);
	}
	for (nr = 0; nr < NR_ACTORS; nr++)
		end_actor(nr);
	printf("# %llu lives of processes with %u threads\n",
	       (unsigned long long)life, NR_THREADS);
}
