// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Block accounting. Each thread counts in a shard of its own: no instruction
 * that locks the bus, no cache line that two threads write. Once in a millisecond
 * one thread, whichever comes first, adds the shards up and stores the sums where
 * readers see them; it also closes the windows that are due.
 *
 * The depth of the queue needs no samples. With the sum of the times at which
 * requests ended, less the sum of those at which they began, modulo 2^64, called
 * the balance, the integral of the depth up to a time t is
 *
 *	balance + t * requests in flight
 *
 * so that a window's average is the difference of two of those by its length.
 * For that the counters of a shard have to be of one moment: there are two sets of
 * them, of which one is right while the thread writes the other. So nobody waits
 * for a thread that was interrupted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block.h"

#define STATE_SUBMITTED	0x5b10c4edu

static uint64_t read_clock(void *context)
{
	(void)context;
	return monotonic_ns();
}

/* ------------------------------------------------------------- the shards */

/*
 * release: who sees a count that is being written anew sees that its turn is
 * over; who sees a turn sees its counts.
 */
static inline void tally_change(struct tally *tally,
				const uint64_t change[COUNTS])
{
	uint64_t turn = get(&tally->turn);
	atomic_uint_least64_t *from = tally->count[turn % 2];
	atomic_uint_least64_t *to = tally->count[(turn + 1) % 2];

	for (int i = 0; i < COUNTS; i++)
		atomic_store_explicit(&to[i], get(&from[i]) + change[i],
				      memory_order_release);
	atomic_store_explicit(&tally->turn, turn + 1, memory_order_release);
}

static struct shard *shard_new(struct kvmstats_block *block, int slot)
{
	size_t bytes = (sizeof(struct shard) + 63) / 64 * 64;
	struct shard *shard = aligned_alloc(64, bytes);

	if (!shard)
		return NULL;
	memset((void *)shard, 0, bytes);
	atomic_store_explicit(&block->shards[slot], shard, memory_order_release);
	return shard;
}

void kvmstats_block_tick(struct kvmstats_block *block)
{
	pthread_mutex_lock(&block->lock);
	block_advance(block, block->clock(block->clock_context));
	block_publish(block);
	pthread_mutex_unlock(&block->lock);
}

/* ----------------------------------------------------------- the requests */

/* It is there from the beginning. */
static struct shard *get_shared(struct kvmstats_block *block)
{
	return atomic_load_explicit(&block->shards[THREAD_SLOT_SHARED],
				    memory_order_acquire);
}

/* An event on its way into the shard of its thread. */
struct event {
	struct shard *shard;
	uint64_t now_ns;
	bool due;		/* we have the lock */
	bool shared;		/* we have the other lock */
};

/*
 * Never waits for who sums up: the sums can do without this event for once. A thread
 * for which there is no slot or no memory takes the shard that is shared.
 */
static void event_begin(struct kvmstats_block *block, struct event *event)
{
	int slot = thread_slot();
	uint64_t next_ns;

	event->shard = atomic_load_explicit(&block->shards[slot],
					    memory_order_acquire);
	if (!event->shard)
		event->shard = shard_new(block, slot);
	event->shared = !event->shard || slot == THREAD_SLOT_SHARED;
	if (event->shared) {
		pthread_mutex_lock(&block->shared_lock);
		event->shard = get_shared(block);
	}
	event->now_ns = block->clock(block->clock_context);
	next_ns = get(&block->next_ns);
	/* a clock that goes back stands still; so does a thread that is late */
	if (event->now_ns < get(&block->floor_ns))
		event->now_ns = get(&block->floor_ns);
	event->due = event->now_ns >= next_ns &&
		     !pthread_mutex_trylock(&block->lock);
	if (event->due)
		block_advance(block, event->now_ns);
}

static void event_end(struct kvmstats_block *block, const struct event *event)
{
	if (event->shared)
		pthread_mutex_unlock(&block->shared_lock);
	if (!event->due)
		return;
	block_add_up(block);
	block_publish(block);
	pthread_mutex_unlock(&block->lock);
}

int kvmstats_block_submit(struct kvmstats_block *block,
			  struct kvmstats_block_request *request,
			  enum kvmstats_block_op op, uint64_t bytes)
{
	uint64_t change[COUNTS] = { 0 };
	struct event event;

	request->state = 0;
	if ((unsigned int)op >= KVMSTATS_BLOCK_OPS)
		return -EINVAL;
	event_begin(block, &event);
	change[COUNT_BEGUN] = 1;
	change[COUNT_BALANCE] = -event.now_ns;
	tally_change(&event.shard->tally[op], change);
	event_end(block, &event);
	request->start_ns = event.now_ns;
	request->bytes = bytes;
	request->op = op;
	request->state = STATE_SUBMITTED;
	return 0;
}

static unsigned int bucket_of(uint64_t value, unsigned int buckets)
{
	unsigned int bucket = log_bucket(value);

	return bucket < buckets ? bucket : buckets - 1;
}

/* What is not of one moment with the counts. */
static void count_done(const struct kvmstats_block *block, struct tally *tally,
		       const struct kvmstats_block_request *request,
		       uint64_t time_ns)
{
	uint64_t window = get(&block->window);
	bool first = get(&tally->window) != window;

	add(&tally->latency[bucket_of(time_ns, BLOCK_LATENCY_BUCKETS)], 1);
	if (request->op != KVMSTATS_BLOCK_FLUSH)
		add(&tally->size[bucket_of(request->bytes, BLOCK_SIZE_BUCKETS)],
		    1);
	if (first || time_ns < get(&tally->shortest_ns))
		set(&tally->shortest_ns, time_ns);
	if (first || time_ns > get(&tally->longest_ns))
		set(&tally->longest_ns, time_ns);
	/* release: who sees it sees these two */
	if (first)
		atomic_store_explicit(&tally->window, window,
				      memory_order_release);
}

enum end { SUCCEEDED, FAILED, CANCELLED };

static int end_request(struct kvmstats_block *block,
		       struct kvmstats_block_request *request, enum end end)
{
	uint64_t change[COUNTS] = { 0 }, end_ns, time_ns;
	struct event event;
	struct tally *tally;

	if (request->state != STATE_SUBMITTED)
		return -EINVAL;
	event_begin(block, &event);
	end_ns = event.now_ns > request->start_ns ? event.now_ns :
		 request->start_ns;
	time_ns = end_ns - request->start_ns;
	tally = &event.shard->tally[request->op];
	if (end == SUCCEEDED) {
		count_done(block, tally, request, time_ns);
		change[COUNT_BYTES] = request->bytes;
		change[COUNT_IOS] = 1;
		change[COUNT_TIME] = time_ns;
	} else if (end == FAILED) {
		change[COUNT_FAILED] = 1;
		change[COUNT_FAILED_TIME] = time_ns;
	}
	change[COUNT_ENDED] = 1;
	change[COUNT_BALANCE] = end_ns;
	tally_change(tally, change);
	if (end == CANCELLED)
		atomic_store_explicit(&tally->cancelled_ns,
				      get(&tally->cancelled_ns) + time_ns,
				      memory_order_release);
	set(&event.shard->last_ns, end_ns);
	event_end(block, &event);
	request->state = 0;
	return 0;
}

int kvmstats_block_complete(struct kvmstats_block *block,
			    struct kvmstats_block_request *request, int error)
{
	return end_request(block, request, error ? FAILED : SUCCEEDED);
}

int kvmstats_block_cancel(struct kvmstats_block *block,
			  struct kvmstats_block_request *request)
{
	return end_request(block, request, CANCELLED);
}

static int count_apart(struct kvmstats_block *block, enum kvmstats_block_op op,
		       bool invalid, uint64_t amount)
{
	struct event event;
	struct tally *tally;

	if ((unsigned int)op >= KVMSTATS_BLOCK_OPS)
		return -EINVAL;
	event_begin(block, &event);
	tally = &event.shard->tally[op];
	add(invalid ? &tally->invalid : &tally->merged, amount);
	event_end(block, &event);
	return 0;
}

int kvmstats_block_invalid(struct kvmstats_block *block,
			   enum kvmstats_block_op op)
{
	return count_apart(block, op, true, 1);
}

int kvmstats_block_merged(struct kvmstats_block *block,
			  enum kvmstats_block_op op, uint64_t count)
{
	return op == KVMSTATS_BLOCK_FLUSH ? -EINVAL :
	       count_apart(block, op, false, count);
}

/* --------------------------------------------------------- making of a block */

static int open_device(struct kvmstats_block *block, const char *name)
{
	struct kvmstats_publisher *publisher;
	int ret = block_publisher(&publisher);

	if (ret)
		return ret;
	ret = kvmstats_device_new(publisher, name, &block->device);
	kvmstats_publisher_free(publisher);
	return ret;
}

int kvmstats_block_new(const char *name,
		       const struct kvmstats_block_options *options,
		       struct kvmstats_block **result)
{
	struct kvmstats_block *block;
	int ret;

	if (options && options->size_bytes != sizeof(*options))
		return -EINVAL;
	block = aligned_alloc(64, (sizeof(*block) + 63) / 64 * 64);
	if (!block)
		return -ENOMEM;
	memset((void *)block, 0, sizeof(*block));
	ret = open_device(block, name);
	if (!ret && !shard_new(block, THREAD_SLOT_SHARED))
		ret = -ENOMEM;
	if (ret) {
		kvmstats_device_free(block->device);
		free(block);
		return ret;
	}
	block->pid = getpid();
	pthread_mutex_init(&block->lock, NULL);
	pthread_mutex_init(&block->shared_lock, NULL);
	block->clock = options && options->clock ? options->clock : read_clock;
	block->clock_context = options ? options->clock_context : NULL;
	block->now_ns = block->clock(block->clock_context);
	block->created_ns = block->now_ns;
	block->windows.second = block->now_ns / BLOCK_SECOND_NS;
	block->window = block->windows.second + 1;
	block_advance(block, block->now_ns);
	block_publish(block);
	*result = block;
	return 0;
}

void kvmstats_block_free(struct kvmstats_block *block)
{
	if (!block)
		return;
	/* the numbers are the parent's; a thread of it may have the locks */
	if (getpid() == block->pid)
		kvmstats_block_tick(block);
	for (int slot = 0; slot <= THREAD_SLOTS; slot++)
		free(block->shards[slot]);
	kvmstats_device_free(block->device);
	pthread_mutex_destroy(&block->lock);
	pthread_mutex_destroy(&block->shared_lock);
	free(block);
}

struct kvmstats_device *kvmstats_block_device(const struct kvmstats_block *block)
{
	return block->device;
}
