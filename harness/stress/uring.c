// SPDX-License-Identifier: GPL-2.0-only
/* io_uring without its library, one request at a time. */
#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stress.h"

#define ENTRIES	4

static bool map_rings(struct uring *ring, const struct io_uring_params *params)
{
	const struct io_sqring_offsets *sq = &params->sq_off;
	const struct io_cqring_offsets *cq = &params->cq_off;
	unsigned char *rings;

	/* IORING_FEAT_SINGLE_MMAP: one mapping for both */
	ring->rings_bytes = sq->array + params->sq_entries * sizeof(uint32_t);
	if (ring->rings_bytes < cq->cqes + params->cq_entries *
	    sizeof(struct io_uring_cqe))
		ring->rings_bytes = cq->cqes + params->cq_entries *
				    sizeof(struct io_uring_cqe);
	ring->sqes_bytes = params->sq_entries * sizeof(struct io_uring_sqe);
	rings = mmap(NULL, ring->rings_bytes, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQ_RING);
	ring->sqes = mmap(NULL, ring->sqes_bytes, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
	if (rings == MAP_FAILED || ring->sqes == MAP_FAILED)
		return false;
	ring->rings = rings;
	ring->sq_tail = (uint32_t *)(rings + sq->tail);
	ring->sq_mask = (uint32_t *)(rings + sq->ring_mask);
	ring->sq_array = (uint32_t *)(rings + sq->array);
	ring->cq_head = (uint32_t *)(rings + cq->head);
	ring->cq_tail = (uint32_t *)(rings + cq->tail);
	ring->cq_mask = (uint32_t *)(rings + cq->ring_mask);
	ring->cqes = rings + cq->cqes;
	return true;
}

bool uring_open(struct uring *ring)
{
	struct io_uring_params params = { 0 };

	memset(ring, 0, sizeof(*ring));
	ring->fd = syscall(__NR_io_uring_setup, ENTRIES, &params);
	if (ring->fd < 0)
		return false;
	CHECK(params.features & IORING_FEAT_SINGLE_MMAP, "an old io_uring");
	CHECK(map_rings(ring, &params), "mmap of io_uring: %s",
	      strerror(errno));
	return true;
}

void uring_close(struct uring *ring)
{
	munmap(ring->rings, ring->rings_bytes);
	munmap(ring->sqes, ring->sqes_bytes);
	close(ring->fd);
}

int uring_register(const struct uring *ring, unsigned int opcode,
		   const void *arg, unsigned int nr)
{
	return syscall(__NR_io_uring_register, ring->fd, opcode, arg, nr);
}

struct io_uring_sqe *uring_sqe(struct uring *ring)
{
	struct io_uring_sqe *sqes = (struct io_uring_sqe *)ring->sqes;
	struct io_uring_sqe *sqe = &sqes[*ring->sq_tail & *ring->sq_mask];

	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

static int completed(struct uring *ring)
{
	const struct io_uring_cqe *cqes = (struct io_uring_cqe *)ring->cqes;
	uint32_t head = *ring->cq_head;
	int result;

	CHECK(__atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE) == head + 1,
	      "io_uring: %u completions of one request",
	      *ring->cq_tail - head);
	result = cqes[head & *ring->cq_mask].res;
	__atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
	return result;
}

int uring_submit(struct uring *ring)
{
	uint32_t tail = *ring->sq_tail;
	int ret;

	ring->sq_array[tail & *ring->sq_mask] = tail & *ring->sq_mask;
	__atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
	do {
		ret = syscall(__NR_io_uring_enter, ring->fd, 1, 1,
			      IORING_ENTER_GETEVENTS, NULL, 0);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0) {
		/* not taken: take it back */
		ret = -errno;
		__atomic_store_n(ring->sq_tail, tail, __ATOMIC_RELEASE);
		return ret;
	}
	return completed(ring);
}
