/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * stats-bench's io_uring, on the bare system calls: all files in one submission
 * and one call, as little as can be asked of it.
 */
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

struct ring {
	int fd;
	uint32_t *sq_tail, *sq_array, sq_mask;
	uint32_t *cq_head, *cq_tail, cq_mask;
	struct io_uring_sqe *sqes;
	const struct io_uring_cqe *cqes;
};

static int ring_call(long number, int fd, unsigned long a, const void *b,
		     unsigned long c)
{
	int ret = syscall(number, fd, a, b, c, NULL, 0);

	if (ret < 0)
		die("io_uring");
	return ret;
}

static void *ring_map(const struct ring *ring, size_t size_bytes, off_t offset)
{
	void *bytes = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_POPULATE, ring->fd, offset);

	if (bytes == MAP_FAILED)
		die("rings of io_uring");
	return bytes;
}

/* Since 5.4 both rings are in the first mapping. */
static void ring_create(struct ring *ring, unsigned int entries)
{
	struct io_uring_params params = { 0 };
	char *rings;

	ring->fd = syscall(SYS_io_uring_setup, entries, &params);
	if (ring->fd < 0)
		die("io_uring_setup");
	rings = ring_map(ring, params.cq_off.cqes + params.cq_entries *
			 sizeof(struct io_uring_cqe), IORING_OFF_SQ_RING);
	ring->sqes = ring_map(ring, params.sq_entries *
			      sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	ring->sq_tail = (uint32_t *)(rings + params.sq_off.tail);
	ring->sq_array = (uint32_t *)(rings + params.sq_off.array);
	ring->sq_mask = params.sq_entries - 1;
	ring->cq_head = (uint32_t *)(rings + params.cq_off.head);
	ring->cq_tail = (uint32_t *)(rings + params.cq_off.tail);
	ring->cq_mask = params.cq_entries - 1;
	ring->cqes = (void *)(rings + params.cq_off.cqes);
}

/* The requests are the same for each scrape: they are written once. */
static void ring_set_up(struct ring *ring, const struct vm *vm)
{
	const struct iovec buffer = { vm->buffer, vm->buffer_bytes };
	int fds[MAX_FDS];

	ring_create(ring, vm->fds);
	for (unsigned int i = 0; i < vm->fds; i++) {
		fds[i] = vm->stats[i].fd;
		ring->sqes[i] = (struct io_uring_sqe) {
			.opcode = IORING_OP_READ_FIXED,
			.flags = IOSQE_FIXED_FILE,
			.fd = i,
			.off = vm->stats[i].data_offset,
			.addr = (uintptr_t)vm->stats[i].block,
			.len = vm->stats[i].data_bytes,
			.user_data = vm->stats[i].data_bytes,
		};
	}
	ring_call(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES, fds,
		  vm->fds);
	ring_call(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS,
		  &buffer, 1);
}

static size_t ring_scrape(struct ring *ring, unsigned int count)
{
	uint32_t tail = *ring->sq_tail, head = *ring->cq_head;
	const struct io_uring_cqe *cqe;
	size_t bytes = 0;

	for (unsigned int i = 0; i < count; i++)
		ring->sq_array[(tail + i) & ring->sq_mask] = i;
	__atomic_store_n(ring->sq_tail, tail + count, __ATOMIC_RELEASE);
	if (ring_call(SYS_io_uring_enter, ring->fd, count,
		      (void *)(uintptr_t)count, IORING_ENTER_GETEVENTS) !=
	    (int)count)
		die("io_uring_enter takes part of the submission");
	if (__atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE) - head != count)
		die("completions of io_uring");
	for (unsigned int i = 0; i < count; i++) {
		cqe = &ring->cqes[(head + i) & ring->cq_mask];
		if (cqe->res != (int)cqe->user_data)
			die("a read by io_uring");
		bytes += cqe->res;
	}
	__atomic_store_n(ring->cq_head, head + count, __ATOMIC_RELEASE);
	return bytes;
}
