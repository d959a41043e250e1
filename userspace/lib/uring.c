// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Samples by io_uring. Files are not registered: a ring would then hold them,
 * and with them the memory of VMs that have died.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "internal.h"

#ifdef KVMSTATS_URING

#include <liburing.h>

struct ring {
	struct io_uring uring;
};

int ring_open(struct ring **result)
{
	struct ring *ring = calloc(1, sizeof(*ring));
	int ret;

	if (!ring)
		return -ENOMEM;
	ret = io_uring_queue_init(RING_READS, &ring->uring, 0);
	if (ret) {
		free(ring);
		return ret;
	}
	*result = ring;
	return 0;
}

void ring_close(struct ring *ring)
{
	if (!ring)
		return;
	io_uring_queue_exit(&ring->uring);
	free(ring);
}

/* Returns the number of requests. A request that is not made has failed. */
static unsigned int prepare(struct ring *ring, struct kvmstats_read *reads,
			    size_t count)
{
	unsigned int requests = 0;

	for (size_t i = 0; i < count; i++) {
		struct sample_pread args;
		struct io_uring_sqe *sqe;

		reads[i].result = -EIO;
		if (!source_sample_pread(&reads[i], &args))
			continue;
		sqe = io_uring_get_sqe(&ring->uring);
		if (!sqe)
			break;
		source_never_wait(reads[i].source);
		io_uring_prep_read(sqe, args.fd, reads[i].sample,
				   args.size_bytes, args.offset);
		sqe->user_data = i;
		requests++;
	}
	return requests;
}

static unsigned int reap(struct ring *ring, struct kvmstats_read *reads)
{
	unsigned int head, done = 0;
	struct io_uring_cqe *cqe;

	io_uring_for_each_cqe(&ring->uring, head, cqe) {
		struct kvmstats_read *read = &reads[cqe->user_data];
		struct sample_pread args;

		source_sample_pread(read, &args);
		if (cqe->res >= 0 && (size_t)cqe->res == args.size_bytes)
			read->result = 0;
		done++;
	}
	io_uring_cq_advance(&ring->uring, done);
	return done;
}

/*
 * Until the last request is done the kernel may write to the caller's arrays:
 * there is no way out of here before.
 */
static void drain(struct ring *ring, struct kvmstats_read *reads,
		  unsigned int requests)
{
	while (requests) {
		struct io_uring_cqe *cqe;

		if (io_uring_wait_cqe(&ring->uring, &cqe))
			sched_yield();
		requests -= reap(ring, reads);
	}
}

static int run(struct ring *ring, struct kvmstats_read *reads,
	       unsigned int requests)
{
	unsigned int submitted = 0, done = 0;

	while (done < requests) {
		int ret = io_uring_submit_and_wait(&ring->uring,
						   requests - done);

		if (ret < 0 && ret != -EINTR) {
			drain(ring, reads, submitted - done);
			return ret;
		}
		submitted += ret > 0 ? ret : 0;
		done += reap(ring, reads);
	}
	return 0;
}

/*
 * What failed is read again in the plain way, which knows the true error. On
 * an error of its own a ring holds requests that must never be made: it is
 * to be closed. All results are good in any case.
 */
int ring_sample(struct ring *ring, struct kvmstats_read *reads, size_t count)
{
	int ret = run(ring, reads, prepare(ring, reads, count));

	for (size_t i = 0; i < count; i++)
		if (reads[i].result)
			reads[i].result = source_sample_read(&reads[i]);
	return ret;
}

#else

int ring_open(struct ring **ring)
{
	(void)ring;
	return -EOPNOTSUPP;
}

int ring_sample(struct ring *ring, struct kvmstats_read *reads, size_t count)
{
	(void)ring;
	(void)reads;
	(void)count;
	return -EOPNOTSUPP;
}

void ring_close(struct ring *ring)
{
	(void)ring;
}

#endif
