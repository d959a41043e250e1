// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"

/* Below, entering the kernel once instead of a few times is worth nothing. */
#define MIN_READS	16
/* Reads of each way before the faster one is chosen; noise only adds time. */
#define TRIALS		8

enum way { WAY_PREAD, WAY_URING, WAYS };

struct kvmstats_batch {
	enum kvmstats_batch_method method;
	pid_t pid;		/* whose ring it is */
	struct ring *ring;	/* NULL: pread */
	unsigned int trials;
	double best_ns[WAYS];	/* of a read */
};

int kvmstats_batch_new(enum kvmstats_batch_method method,
		       struct kvmstats_batch **result)
{
	struct kvmstats_batch *batch;

	if (method > KVMSTATS_BATCH_URING)
		return -EINVAL;
	batch = calloc(1, sizeof(*batch));
	if (!batch)
		return -ENOMEM;
	batch->method = method;
	batch->pid = getpid();
	if (method != KVMSTATS_BATCH_PREAD && ring_open(&batch->ring))
		batch->ring = NULL;
	*result = batch;
	return 0;
}

static void drop_ring(struct kvmstats_batch *batch)
{
	ring_close(batch->ring);
	batch->ring = NULL;
}

void kvmstats_batch_free(struct kvmstats_batch *batch)
{
	if (!batch)
		return;
	drop_ring(batch);
	free(batch);
}

int kvmstats_batch_uses_uring(const struct kvmstats_batch *batch)
{
	return batch->ring ? 1 : 0;
}

/* A ring's memory is shared with the parent, which may be using it. */
static void follow_fork(struct kvmstats_batch *batch)
{
	pid_t pid = getpid();

	if (!batch->ring || batch->pid == pid)
		return;
	drop_ring(batch);
	batch->pid = pid;
	if (ring_open(&batch->ring))
		batch->ring = NULL;
}

static void sample_by_pread(struct kvmstats_read *reads, size_t count)
{
	for (size_t i = 0; i < count; i++)
		reads[i].result = source_sample_read(&reads[i]);
}

static void sample_by(enum way way, struct kvmstats_batch *batch,
		      struct kvmstats_read *reads, size_t count)
{
	if (way == WAY_PREAD)
		sample_by_pread(reads, count);
	else if (ring_sample(batch->ring, reads, count))
		drop_ring(batch);
}

static void try_way(struct kvmstats_batch *batch, struct kvmstats_read *reads,
		    size_t count)
{
	enum way way = batch->trials++ % WAYS;
	double *best = &batch->best_ns[way];
	uint64_t start_ns = monotonic_ns();
	double each_ns;

	sample_by(way, batch, reads, count);
	each_ns = (double)(monotonic_ns() - start_ns) / count;
	if (batch->trials <= WAYS || each_ns < *best)
		*best = each_ns;
	if (batch->trials == WAYS * TRIALS &&
	    batch->best_ns[WAY_PREAD] <= batch->best_ns[WAY_URING])
		drop_ring(batch);
}

static void sample_some(struct kvmstats_batch *batch,
			struct kvmstats_read *reads, size_t count)
{
	if (!batch->ring)
		sample_by(WAY_PREAD, batch, reads, count);
	else if (batch->method == KVMSTATS_BATCH_URING)
		sample_by(WAY_URING, batch, reads, count);
	else if (count < MIN_READS)
		sample_by(WAY_PREAD, batch, reads, count);
	else if (batch->trials < WAYS * TRIALS)
		try_way(batch, reads, count);
	else
		sample_by(WAY_URING, batch, reads, count);
}

int kvmstats_batch_sample(struct kvmstats_batch *batch,
			  struct kvmstats_read *reads, size_t count)
{
	int good = 0;

	if (count > INT_MAX)
		return -EINVAL;
	follow_fork(batch);
	for (size_t done = 0; done < count; done += RING_READS) {
		size_t left = count - done;

		sample_some(batch, reads + done,
			    left < RING_READS ? left : RING_READS);
	}
	for (size_t i = 0; i < count; i++)
		good += !reads[i].result;
	return good;
}
