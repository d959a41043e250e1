/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libkvmstats - read the statistics file descriptors of KVM virtual machines
 *
 * This header is the manual.
 *
 * A statistics descriptor is what the ioctl KVM_GET_STATS_FD returns for a VM
 * or for one vCPU. It carries its own schema, so no name of a statistic is
 * compiled into this library: whatever the running kernel counts can be read.
 *
 * The objects, in the order in which a reader meets them:
 *
 *   source   one validated descriptor (or a recorded image of one)
 *   schema   the list of statistics of a source; immutable, shared by every
 *            source of equal content when they are opened with one cache
 *   desc     one statistic of a schema
 *   sample   an array of uint64_t that belongs to the caller; the data block
 *            of a source at one time. Also what a delta or a sum is kept in.
 *   batch    takes samples of thousands of sources in one call
 *
 * for carrying descriptors from a VMM to a reader over a UNIX socket:
 *
 *   sender   the VMM's side
 *   peer     the reader's side, one for each connection
 *
 * and for a VMM's own statistics, in the same format and over the same channel:
 *
 *   publisher  a list of statistics, described once
 *   device     their values for one device, in memory that readers see
 *   block      a device whose requests are accounted for
 *
 * Errors. A function that returns int (or int64_t) returns a negative errno
 * value on failure; errno itself is left undefined. No function prints or sets a
 * signal handler. Process-wide state is limited to the pool of threads that close
 * descriptors, and to the numbers of the threads that account for requests.
 * A pointer may be NULL only where this header says so.
 *
 * Threads. Different objects can be used by different threads at the same time.
 * For one object, each function says what holds:
 *   [const]   any number of threads at once
 *   [single]  one thread at a time: the caller serialises
 *
 * Consistency. The kernel does not take a snapshot: the values of a sample may
 * be some nanoseconds apart. Each single value is read whole.
 */
#ifndef KVMSTATS_H
#define KVMSTATS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The version of this header. kvmstats_version() returns that of the library in
 * use, encoded as KVMSTATS_VERSION_NUMBER is. Until 1.0.0 the interface may change
 * with the second number; from then on only with the first. [const]
 */
#define KVMSTATS_VERSION_MAJOR	0
#define KVMSTATS_VERSION_MINOR	1
#define KVMSTATS_VERSION_PATCH	0
#define KVMSTATS_VERSION_NUMBER	(KVMSTATS_VERSION_MAJOR << 16 | \
				 KVMSTATS_VERSION_MINOR << 8 | \
				 KVMSTATS_VERSION_PATCH)

unsigned int kvmstats_version(void);

struct kvmstats_batch;
struct kvmstats_block;
struct kvmstats_cache;
struct kvmstats_desc;
struct kvmstats_device;
struct kvmstats_peer;
struct kvmstats_publisher;
struct kvmstats_schema;
struct kvmstats_sender;
struct kvmstats_source;

/*
 * Bounds that this library puts on a descriptor. Today's kernels need 48 bytes
 * for a name, fewer than 100 statistics and less than 4 KiB of data.
 */
#define KVMSTATS_MAX_NAME_SIZE	1024		/* bytes, final NUL included */
#define KVMSTATS_MAX_STATS	8192		/* statistics in one schema */
#define KVMSTATS_MAX_OFFSET	(16u << 20)	/* no block ends past this */

/* Bounds on what a program may publish, and on what a reader accepts of that. */
#define KVMSTATS_MAX_CLASS	15	/* characters */
#define KVMSTATS_MAX_DEVICE	79	/* characters */
#define KVMSTATS_MAX_STAT_NAME	47	/* characters */
#define KVMSTATS_MAX_PUBLISHED_STATS	256	/* statistics in one schema */
#define KVMSTATS_MAX_PUBLISHED_WORDS	2048	/* elements in one sample */

/* How a value is to be read. Values unknown to this header can occur. */
enum kvmstats_type {
	KVMSTATS_CUMULATIVE	= 0,	/* grows for the life of the VM */
	KVMSTATS_INSTANT	= 1,	/* goes up and down */
	KVMSTATS_PEAK		= 2,	/* the largest value ever seen */
	KVMSTATS_LINEAR_HIST	= 3,	/* buckets of equal width */
	KVMSTATS_LOG_HIST	= 4	/* buckets double in width */
};

/* What a value counts. Values unknown to this header can occur. */
enum kvmstats_unit {
	KVMSTATS_UNIT_NONE	= 0,	/* events, pages, objects */
	KVMSTATS_UNIT_BYTES	= 1,
	KVMSTATS_UNIT_SECONDS	= 2,
	KVMSTATS_UNIT_CYCLES	= 3,
	KVMSTATS_UNIT_BOOLEAN	= 4	/* 0 or 1 */
};

enum kvmstats_scope {
	KVMSTATS_SCOPE_VM	= 0,
	KVMSTATS_SCOPE_VCPU	= 1,
	KVMSTATS_SCOPE_DEVICE	= 2,	/* published by the VMM, see below */
	/* no list of values, but one for each vCPU: see "all vCPUs in one" */
	KVMSTATS_SCOPE_VCPUS	= 3
};

#define KVMSTATS_SCOPES	3	/* those before: of one list of values */

/* ------------------------------------------------------------- the cache */

/*
 * A cache lets sources of equal content share one schema: 10,000 descriptors of
 * one kernel then share two, one for VMs and one for vCPUs. Schemas live as long
 * as a source or a caller holds them, whether the cache still exists or not. The
 * cache itself drops its schemas when it is freed, not before (their number is the
 * number of different kernels seen, times two).
 *
 * kvmstats_cache_new: 0 and *cache, or -ENOMEM.
 * kvmstats_cache_free: takes NULL. [single]
 * Opening sources with one cache from several threads is safe: [const].
 */
int kvmstats_cache_new(struct kvmstats_cache **cache);
void kvmstats_cache_free(struct kvmstats_cache *cache);

/* Number of different schemas in the cache. [const] */
size_t kvmstats_cache_count(const struct kvmstats_cache *cache);

/* ------------------------------------------------------------ the source */

/*
 * Open @fd, which may have come from anybody. It is examined before a byte of
 * it is read, and a descriptor that is not a KVM statistics descriptor cannot
 * block this call, crash it or make it return 0: access mode (read-only),
 * file system (anonymous inodes), name ("kvm-vm-stats" or
 * "kvm-vcpu-stats:N", as /proc/self/fd shows it). Then header, identification
 * and descriptors are read with pread and checked (offsets, alignment, order,
 * overlaps, name termination). Needs /proc.
 *
 * @fd may also be what a publisher has made: a file in memory that is sealed
 * against growing and shrinking, so that a read of it can neither block nor fail.
 * Whoever published it can change its bytes at any time: each is read once, and
 * checked as read. The bounds are narrower (KVMSTATS_MAX_PUBLISHED_...).
 *
 * @cache may be NULL: then the source has a schema of its own.
 *
 * On success the source owns @fd and closes it in kvmstats_source_close. On
 * failure @fd stays the caller's. The open file, which can be shared with the
 * VMM, is not changed (but see the batch).
 *
 * 0 and *source, or
 *   -EBADF   @fd is not open
 *   -ENODEV  @fd is open but is neither a KVM statistics descriptor nor a device's
 *   -EPROTO  it is one, but its content breaks the documented format
 *   -E2BIG   content beyond the KVMSTATS_MAX_ bounds
 *   -ENOMEM, or what readlink on /proc/self/fd or pread failed with
 *
 * The kernel keeps the VM's memory alive for as long as the descriptor is
 * open: watch the VMM's life (kvmstats_peer_pidfd), or wait for POLLHUP on the
 * descriptor (KVM_CAP_STATS_FD_HANGUP), and close.
 */
int kvmstats_source_open(int fd, struct kvmstats_cache *cache,
			 struct kvmstats_source **source);
/*
 * Open a recorded image: the bytes of a descriptor from 0 to its end. The
 * bytes are copied. Same checks of the content, same errors; -EPROTO also for
 * an image that ends before its data block does. The scope is taken from the
 * identification string. Sampling returns the recorded values.
 */
int kvmstats_source_open_image(const void *image, size_t size_bytes,
			       struct kvmstats_cache *cache,
			       struct kvmstats_source **source);
/*
 * Open a VM's directory in debugfs, for example /sys/kernel/debug/kvm/4711-12,
 * for a VM whose descriptors are not available. Its statistics have no units and
 * no histograms, and those of vCPUs are sums over all of them. Needs root. A sample
 * opens and reads each file. 0 and *source, -EPERM under lockdown, -ENODATA if the
 * directory has no statistics, or another errno.
 */
int kvmstats_source_open_debugfs(const char *path, struct kvmstats_cache *cache,
				 struct kvmstats_source **source);
/* 1 for a source of debugfs, else 0. [const] */
int kvmstats_source_is_sum(const struct kvmstats_source *source);
/* Closes the descriptor, drops the schema. Takes NULL. [single] */
void kvmstats_source_close(struct kvmstats_source *source);
/*
 * The descriptor, still owned by the source; -1 for an image, and for one vCPU of a
 * descriptor of all of them. [const]
 */
int kvmstats_source_fd(const struct kvmstats_source *source);
/* [const] */
enum kvmstats_scope kvmstats_source_scope(const struct kvmstats_source *source);
/* KVM's number of the vCPU, or -1 for a VM or a device. [const] */
int kvmstats_source_vcpu(const struct kvmstats_source *source);
/*
 * The class ("block") and the name ("drive0") of a device, as its publisher gave
 * them; "" for all else. A class has small letters and digits and is neither "vm" nor
 * "vcpu"; a name is printable ASCII. Both live as long as the source. [const]
 */
const char *kvmstats_source_class(const struct kvmstats_source *source);
const char *kvmstats_source_device(const struct kvmstats_source *source);
/*
 * The order in which readers show the sources of a VM: below 0 if @a comes
 * before @b, 0 if both are of the same thing, else above 0. The VM, its vCPUs by
 * number, its devices by class and name. [const]
 */
int kvmstats_source_compare(const struct kvmstats_source *a,
			    const struct kvmstats_source *b);
/*
 * The kernel's identification, for example "kvm-4711/vcpu-0": 4711 is the
 * process that created the VM, in the kernel's own numbering. It is not
 * unique: one process can create two VMs. Lives as long as the source. [const]
 */
const char *kvmstats_source_id(const struct kvmstats_source *source);
/*
 * The schema of the source; lives at least as long as the source. Take a
 * reference to keep it longer. [const]
 */
struct kvmstats_schema *
kvmstats_source_schema(const struct kvmstats_source *source);
/*
 * Take a sample: exactly one pread of exactly the data block, no allocation. A
 * device's is copied from a mapping, without a system call, where the file can
 * neither shrink nor get holes (F_SEAL_FUTURE_WRITE), has none (SEEK_HOLE), and
 * the process has fewer than 4096 such mappings. @words is the capacity of @sample
 * in elements; kvmstats_schema_words() are needed and written. Async-signal-safe.
 * [const]
 *
 * 0, or
 *   -ENOSPC  @words is too small; nothing was read
 *   -EIO     the kernel returned fewer bytes than the schema promises
 *   or what pread failed with; @sample is then undefined
 */
int kvmstats_source_sample(const struct kvmstats_source *source,
			   uint64_t *sample, size_t words);
/*
 * Record: the bytes of the whole descriptor, to be opened later by
 * kvmstats_source_open_image. With @image NULL or @size_bytes too small
 * nothing is written. Returns the size in bytes, or a negative errno. [const]
 */
int64_t kvmstats_source_image(const struct kvmstats_source *source,
			      void *image, size_t size_bytes);

/* ------------------------------------------------------ all vCPUs in one */

/*
 * Kernels with KVM_CAP_VCPUS_STATS_FD have a descriptor of all vCPUs of a VM: one to
 * hold, and one read for a sample, however many there are. It has a record for each
 * vCPU that has been created, in that order, and a record never moves. A source of it
 * has scope KVMSTATS_SCOPE_VCPUS and the identification of the VM. Its schema is that
 * of each vCPU. kvmstats_source_sample does not take it (-EINVAL).
 *
 * There are two ways to use it: as one array of records, or through a source for
 * each vCPU, which every function that takes a source accepts.
 *
 * Programs that know nothing of it never get one: kvmstats_source_open fails with
 * -ENODEV, peers and finders pass one on only after kvmstats_peer_allow_vcpus and
 * with KVMSTATS_FINDER_VCPUS.
 *
 * kvmstats_vcpus_open, kvmstats_vcpus_open_image: as kvmstats_source_open and
 * kvmstats_source_open_image, for this kind and no other (-ENODEV, and -EPROTO).
 */
int kvmstats_vcpus_open(int fd, struct kvmstats_cache *cache,
			struct kvmstats_source **all);
int kvmstats_vcpus_open_image(const void *image, size_t size_bytes,
			      struct kvmstats_cache *cache,
			      struct kvmstats_source **all);
/* Elements of a record; 0 if @all is of another kind. [const] */
size_t kvmstats_vcpus_record_words(const struct kvmstats_source *all);
/*
 * Take a sample of all vCPUs: one pread, no allocation. @words is the capacity of
 * @records in elements. Returns the number of records read; if they fill @records,
 * there may be more. Async-signal-safe. [const] Or
 *
 *   -EINVAL  @all is of another kind
 *   -ENOSPC  there is not even room for one record
 *   -EIO     the kernel returned a part of a record
 *   or what pread failed with
 */
int kvmstats_vcpus_sample(const struct kvmstats_source *all, uint64_t *records,
			  size_t words);
/*
 * KVM's number of the vCPU whose record is number @index, -ENODATA if there is none
 * yet, -EPROTO for a number that no vCPU can have, or what pread failed with.
 * kvmstats_vcpus_number: the same of a record that has been read. [const]
 */
int kvmstats_vcpus_number_at(const struct kvmstats_source *all, size_t index);
int kvmstats_vcpus_number(const struct kvmstats_source *all,
			  const uint64_t *record);
/* The values in @record, a sample as the schema describes it. [const] */
const uint64_t *kvmstats_vcpus_values(const struct kvmstats_source *all,
				      const uint64_t *record);
/*
 * A source of the vCPU whose record is number @index, of scope
 * KVMSTATS_SCOPE_VCPU, to be closed by the caller. It has no descriptor of its own
 * (kvmstats_source_fd is -1): that of @all is closed with the last of these sources
 * and @all itself. Returns 0, -ENODATA if there is no such vCPU yet, -EPROTO for a
 * number that no vCPU can have, -ENOMEM, or what pread failed with. Each sample of it is
 * a read of its own. [const]
 */
int kvmstats_vcpus_source(struct kvmstats_source *all, size_t index,
			  struct kvmstats_source **vcpu);

/* ------------------------------------------------------------- the batch */

/*
 * Samples of many sources in one call: a scrape of thousands of vCPUs. Two
 * ways lead to the same results: a pread for each source, or a request for
 * each to io_uring, 128 of them in one system call. Which one is faster
 * depends on the machine (a request costs more instructions than a pread, but
 * no entry into the kernel), so a batch times both on its first reads and
 * stays with the faster one; fewer than 16 are always left to pread. Without
 * io_uring (not built in, absent or forbidden here, no locked memory left) it
 * uses pread. A batch keeps nothing of a source between two calls: sources are
 * opened and closed as the caller likes, and none is held.
 *
 * kvmstats_batch_new: 0 and *batch, -ENOMEM, or -EINVAL for an unknown method.
 * A lack of io_uring is no error. Before it reads a source by io_uring, a batch
 * sets O_NONBLOCK on that open file, which no reader notices, as no read of it
 * waits; without, io_uring is slow on mainline. With io_uring a batch has one
 * close-on-exec descriptor and 16 KiB of memory, whatever the number of
 * sources, and calls allocate nothing. A forked child can go on using it. On
 * 5.10 closing the ring, which also happens when pread is chosen, can make a
 * later system call of the thread fail with EINTR though no signal came.
 * kvmstats_batch_free: takes NULL. [single]
 */
enum kvmstats_batch_method {
	KVMSTATS_BATCH_FASTER	= 0,	/* the one found to be faster */
	KVMSTATS_BATCH_PREAD	= 1,	/* never io_uring */
	KVMSTATS_BATCH_URING	= 2	/* io_uring wherever it is available */
};

int kvmstats_batch_new(enum kvmstats_batch_method method,
		       struct kvmstats_batch **batch);
void kvmstats_batch_free(struct kvmstats_batch *batch);

/* One sample to take; source, sample and words as for a single sample. */
struct kvmstats_read {
	const struct kvmstats_source *source;
	uint64_t *sample;
	size_t words;		/* capacity of sample, in elements */
	int result;		/* out: what kvmstats_source_sample returns */
	int reserved[5];	/* 0, or the result is -EINVAL */
};

/*
 * Take @count samples, in any order, and return when all are there. Each
 * result is set, and is what kvmstats_source_sample would have returned: one
 * descriptor that fails does no harm to the others. One source may occur more
 * than once, one array may not. Returns the number of samples that succeeded,
 * or -EINVAL for a count beyond INT_MAX. [single]
 */
int kvmstats_batch_sample(struct kvmstats_batch *batch,
			  struct kvmstats_read *reads, size_t count);
/*
 * 1 if the batch may use io_uring: it was found to be faster, or the two are not
 * compared yet. 0 if it does not, which then stays so. [single]
 */
int kvmstats_batch_uses_uring(const struct kvmstats_batch *batch);

/* ------------------------------------------------------------ the schema */

/* Reference counting; both take NULL. ref returns its argument. [const] */
struct kvmstats_schema *kvmstats_schema_ref(struct kvmstats_schema *schema);
void kvmstats_schema_unref(struct kvmstats_schema *schema);
/* Number of statistics; 0 is possible. [const] */
size_t kvmstats_schema_count(const struct kvmstats_schema *schema);
/* Elements (of 8 bytes) in a sample; 0 is possible. [const] */
size_t kvmstats_schema_words(const struct kvmstats_schema *schema);
/*
 * Statistic number @index in the kernel's order, or NULL past the end. Lives
 * as long as the schema. [const]
 */
const struct kvmstats_desc *
kvmstats_schema_desc(const struct kvmstats_schema *schema, size_t index);
/*
 * Look up by name; NULL if there is none. Takes logarithmic time. Of two equal
 * names (in no known kernel) the first is found. [const]
 */
const struct kvmstats_desc *
kvmstats_schema_find(const struct kvmstats_schema *schema, const char *name);

/* --------------------------------------------------------- the statistic */

/* Printable ASCII, never empty, unescaped. Lives like the desc. [const] */
const char *kvmstats_desc_name(const struct kvmstats_desc *desc);
/* enum kvmstats_type, or another number of 0..15 that is not known. [const] */
unsigned int kvmstats_desc_type(const struct kvmstats_desc *desc);
/* enum kvmstats_unit, or another number of 0..15 that is not known. [const] */
unsigned int kvmstats_desc_unit(const struct kvmstats_desc *desc);
/*
 * A value times base to the power of exponent is in the unit: nanoseconds
 * have unit seconds, base 10, exponent -9. The base is 10 or 2, or 0 for a
 * base that is not known: then no conversion is possible. [const]
 */
unsigned int kvmstats_desc_base(const struct kvmstats_desc *desc);
int kvmstats_desc_exponent(const struct kvmstats_desc *desc);
/* Number of elements: 1, or the number of buckets. 1..65535. [const] */
unsigned int kvmstats_desc_size(const struct kvmstats_desc *desc);
/* Width of a linear histogram's bucket, in raw values; else mostly 0. [const] */
uint32_t kvmstats_desc_bucket_size(const struct kvmstats_desc *desc);
/* The flags as the kernel gave them, for what this header has no name for. [const] */
uint32_t kvmstats_desc_flags(const struct kvmstats_desc *desc);
/* Place of the first element in a sample, in elements. [const] */
size_t kvmstats_desc_word(const struct kvmstats_desc *desc);
/* 1 for a linear or logarithmic histogram, else 0. [const] */
int kvmstats_desc_is_hist(const struct kvmstats_desc *desc);
/*
 * Names for people and machines: "cumulative", "instant", "peak",
 * "linear_hist", "log_hist"; "none", "bytes", "seconds", "cycles", "boolean".
 * NULL for a number that is not known. Static strings. [const]
 */
const char *kvmstats_type_name(unsigned int type);
const char *kvmstats_unit_name(unsigned int unit);

/* -------------------------------------------------------------- the values */

/*
 * One element of a statistic in a sample, raw. @element counts from 0. An
 * @element past the end gives 0; the first element always exists. [const]
 */
uint64_t kvmstats_desc_value(const struct kvmstats_desc *desc,
			     const uint64_t *sample, unsigned int element);

/*
 * @raw in the unscaled unit as decimal text, exact to the last bit: 1500 of a
 * statistic in nanoseconds is "0.000001500". No exponent notation, no unit.
 * Returns the length without the final NUL, or
 *   -ERANGE  exponent beyond -64..64, or the base is not known
 *   -ENOSPC  @size_bytes too small (KVMSTATS_MAX_TEXT_SIZE always suffices) [const]
 */
#define KVMSTATS_MAX_TEXT_SIZE 160
int kvmstats_desc_format(const struct kvmstats_desc *desc, uint64_t raw,
			 char *text, size_t size_bytes);

/*
 * @raw in the unscaled unit, rounded to a double: for rates and plots. Not a
 * number if the base is not known. [const]
 */
double kvmstats_desc_to_unit(const struct kvmstats_desc *desc, double raw);

/*
 * What a counter grew by from @before to @after.
 *
 * A counter can pass 2^64 and start again at 0 (wrap), or be set to 0 by
 * somebody (restart). If @after is the smaller one, the growth modulo 2^64 is
 * taken for a wrap when that growth is under 2^63; otherwise the counter is
 * taken to have restarted from 0, and its growth is @after. Returns 1 for a
 * restart, else 0. [const]
 */
int kvmstats_counter_delta(uint64_t before, uint64_t after, uint64_t *delta);

/*
 * The difference of two samples, in the layout of a sample, so that all
 * functions for samples take it. Cumulative statistics and histograms hold
 * what they grew by; a histogram of which one bucket restarted counts as
 * restarted as a whole. All other statistics, those of unknown type too, hold
 * their value of @after. Elements between statistics hold 0. The three arrays
 * have kvmstats_schema_words() elements; @delta is an array of its own.
 * Returns the number of statistics that restarted (mostly 0). [const]
 */
int kvmstats_schema_delta(const struct kvmstats_schema *schema,
			  const uint64_t *before, const uint64_t *after,
			  uint64_t *delta);
/*
 * Growth per second, in raw values (kvmstats_desc_to_unit converts them); 0 if
 * @interval_ns is 0. [const]
 */
double kvmstats_rate(uint64_t delta, uint64_t interval_ns);

/*
 * Fold @sample into @into, element by element: the sum, the smaller or the
 * larger. For statistics over several vCPUs: start with a copy of the first
 * sample. All samples are of the same schema. A sum that would pass 2^64-1
 * stays there. Sum deltas rather than build the delta of sums: a vCPU that
 * comes or goes then does no harm. 0, or -EINVAL for another @fold. [const]
 */
enum kvmstats_fold {
	KVMSTATS_SUM		= 0,
	KVMSTATS_MIN		= 1,
	KVMSTATS_MAX		= 2
};

int kvmstats_schema_fold(const struct kvmstats_schema *schema,
			 enum kvmstats_fold fold, uint64_t *into,
			 const uint64_t *sample);

/* ---------------------------------------------------------- the histograms */

/*
 * The raw values that are counted in @bucket: from *low to *high, both
 * included. *high is UINT64_MAX for the last bucket, which has no upper end.
 *   linear       bucket i has [i * width, (i + 1) * width - 1]
 *   logarithmic  bucket 0 has the value 0, bucket i [2^(i-1), 2^i - 1]
 * 0, or -EINVAL if @desc is no histogram, has a bucket width of 0, or has
 * no such bucket. [const]
 */
int kvmstats_desc_bucket_bounds(const struct kvmstats_desc *desc,
				unsigned int bucket, uint64_t *low, uint64_t *high);

/*
 * Number of values counted in a histogram (the sum of its buckets, at most
 * 2^64-1); 0 if @desc is none. [const]
 */
uint64_t kvmstats_desc_hist_count(const struct kvmstats_desc *desc,
				  const uint64_t *sample);

/*
 * A quantile of a histogram in a sample or a delta. @quantile_ppm counts
 * millionths: 500000 is the median, 990000 the 99th percentile. The quantile
 * is the smallest value that at least this part of all values do not exceed.
 *
 * A histogram does not hold the value, only the bucket; so the result is the
 * bucket's range, and the true value is in it for certain: *low <= value <=
 * *high. In a logarithmic histogram *high is less than twice *low, so either
 * end is wrong by less than a factor of 2; in a linear one by less than the
 * bucket's width. In the last bucket *high is UINT64_MAX and nothing is known
 * about how much larger than *low the value is.
 *
 * 0, or
 *   -EINVAL   @desc is no histogram (or of width 0), or ppm over 1000000
 *   -ENODATA  the histogram is empty [const]
 */
int kvmstats_desc_quantile(const struct kvmstats_desc *desc,
			   const uint64_t *sample, uint32_t quantile_ppm,
			   uint64_t *low, uint64_t *high);

/*
 * Exits by reason (KVM_CAP_EXIT_REASONS: exit_reasons_vmx, exit_reasons_svm,
 * exit_reasons_arm64): 1 if @desc is such a histogram, else 0; and what the
 * processor's manual calls the exits in a bucket. Those that it has no name for go by
 * their number ("reason 35"); the last bucket, of all others, is "other". NULL if
 * @desc is no such histogram or has no such bucket. A static string. [const]
 */
int kvmstats_desc_has_reasons(const struct kvmstats_desc *desc);
const char *kvmstats_desc_reason(const struct kvmstats_desc *desc,
				 unsigned int bucket);

/* ------------------------------------------------------ the CPU statistics */

/*
 * CPU time of a VM in one call, as libvirt's virDomainGetCPUStats was
 * specified: an array of typed parameters, the same number for each CPU. The CPUs
 * are the host's, or with a flag the guest's.
 */
#define KVMSTATS_MAX_FIELD_SIZE	80	/* bytes, final NUL included */
#define KVMSTATS_MAX_CPU_PARAMS	1024	/* most for one CPU in a call */
#define KVMSTATS_MAX_CPUS		4096	/* most in a call */

/*
 * One of the guest's CPUs. Its source or its thread may be unknown; without a
 * source, pid and vcpu say which CPU it is. All members are 0 for a CPU that is
 * not there now.
 */
struct kvmstats_cpu {
	const struct kvmstats_source *source;	/* of its statistics; or NULL */
	pid_t pid;
	pid_t tid;		/* of its thread; 0: not known */
	int vcpu;		/* KVM's number, if source is NULL */
	int reserved[3];	/* 0, or a call fails with -EINVAL */
};

enum kvmstats_cpu_stats_flags {
	KVMSTATS_CPU_STATS_GUEST = 1
};

/*
 * Numbers and layout are those of libvirt, so the structure does not grow; a new
 * type of value would have a number of its own.
 */
enum kvmstats_param_type {
	KVMSTATS_PARAM_NONE	= 0,	/* an entry that was not filled */
	KVMSTATS_PARAM_ULLONG	= 4
};

struct kvmstats_param {
	char field[KVMSTATS_MAX_FIELD_SIZE];
	int type;
	union {
		uint64_t ul;
		double d;
	} value;
};

/*
 * For the host's CPUs, @pid is the VMM's process, @cpus NULL and @cpu_count 0:
 *
 *   usage	   nanoseconds that this CPU worked for the VM's cgroup (cgroup
 *		   v1, controller cpuacct), for each CPU of the host
 *   user, system  nanoseconds of the whole VMM, emulator threads included, in
 *		   the total, which has nothing else. Their sum is exact; how it is
 *		   divided, the kernel estimates by clock ticks, so that one of
 *		   them can be a little less than in the call before.
 *		   Kernel threads that work for the VM (vhost on Linux 5.10)
 *		   are no threads of the VMM: they are in usage only
 *
 * For the guest's CPUs, CPU number n is cpus[n], and @pid is ignored:
 *
 *   cpu_time	   nanoseconds on a CPU
 *   wait_time	   nanoseconds ready to run, waiting for a CPU
 *   timeslices	   how often it was given a CPU
 *   user_time	   nanoseconds in user mode, in steps of a clock tick; on most
 *		   kernels the guest's are among them
 *   system_time   the same in the kernel
 *   vcpu_time	   the same in the guest
 *   kvm.NAME	   every statistic that is a single number, by the kernel's
 *		   name and raw (kvmstats_schema_find has its unit)
 *
 * What is not known is absent, never 0: the first six if tid is 0 or the
 * thread has ended, the first three if the kernel was built without
 * CONFIG_SCHED_INFO, the next three if the process is in an exec that does not
 * end, the last without a source. The total has a field if every CPU has it: the
 * sum, or the largest of a statistic of type peak; a sum that would pass 2^64-1
 * stays there.
 *
 * Some kernels let nobody read user_time, system_time and vcpu_time while the
 * process is in an exec: the call then waits KVMSTATS_FINDER_PATIENCE_MS for them,
 * and does not wait for that process again until they could be read. With
 * nparams <= 3 they are not read.
 */
#define KVMSTATS_CPU_USAGE	 "usage"
#define KVMSTATS_CPU_USER	 "user"
#define KVMSTATS_CPU_SYSTEM	 "system"
#define KVMSTATS_CPU_TIME	 "cpu_time"
#define KVMSTATS_CPU_WAIT_TIME	 "wait_time"
#define KVMSTATS_CPU_TIMESLICES	 "timeslices"
#define KVMSTATS_CPU_USER_TIME	 "user_time"
#define KVMSTATS_CPU_SYSTEM_TIME "system_time"
#define KVMSTATS_CPU_VCPU_TIME	 "vcpu_time"

/*
 *   params nparams start_cpu ncpus  result
 *   NULL   0       0         0      number of CPUs
 *   NULL   0       s >= 0    1      number of parameters of a CPU
 *   NULL   0       -1        1      number of parameters of the total
 *   array  n       -1        1      the total, in params[0..n-1]
 *   array  n       s >= 0    c >= 1 parameter j of CPU s+i in params[i*n + j]
 *
 * With KVMSTATS_CPU_STATS_GUEST the numbers of parameters are upper bounds.
 * With an array the result is the number of parameters that were filled in,
 * for the CPU that has most. All of its nparams * ncpus entries are written:
 * those beyond a CPU's parameters are zero (KVMSTATS_PARAM_NONE). A CPU that
 * has more than nparams gets the first nparams.
 *
 *   -EINVAL	 every other combination, CPUs past the last one, unknown flags,
 *		 a reserved field that is not 0
 *   -E2BIG	 nparams over KVMSTATS_MAX_CPU_PARAMS, ncpus or cpu_count over
 *		 KVMSTATS_MAX_CPUS
 *   -EOPNOTSUPP usage where cpuacct of cgroup v1 is not mounted: no file of
 *		 cgroup v2 has the time by CPU
 *   -ENODATA	 usage of a process that is in no cgroup of its own
 *   -ESRCH	 no such process; -ENOMEM, or what kvmstats_source_sample failed
 *		 with; @params is then undefined
 * [const]
 */
int kvmstats_cpu_stats(pid_t pid, const struct kvmstats_cpu *cpus,
		       size_t cpu_count, struct kvmstats_param *params,
		       unsigned int nparams, int start_cpu, unsigned int ncpus,
		       unsigned int flags);

/*
 * Find the threads of process @pid that run these vCPUs of its one VM, and
 * fill in pid and tid where tid is 0. A VMM knows its threads and needs none
 * of this. From outside there are two ways:
 *
 *   - A thread that waits inside KVM_RUN says so in /proc, with the descriptor
 *     of the vCPU: certain, but only to be seen in that moment, and with the
 *     rights of a debugger. Call again for those that are missing.
 *   - The thread's name is "CPU n/KVM" (QEMU with debug-threads=on, as under
 *     libvirt), "vcpun", "fc_vcpu n", "crosvm_vcpun" or "kvm-vcpu-n". Names are taken only
 *     if there are as many as vCPUs, none twice and none that contradicts what
 *     was seen; the smallest number goes to the vCPU with the smallest.
 *
 * What waits for a foreign process is done by a fork of the caller, once for
 * each call, which ends with it, or when it has not answered within
 * KVMSTATS_FINDER_PATIENCE_MS. The mapping is that of one moment: a thread that
 * has ended since may have given its number to another. Set tid to 0 and call
 * again where that matters.
 *
 * Returns the number of CPUs whose tid is not 0, or
 *   -ENOTUNIQ  two of @cpus have the same number, or the process has several
 *	        VMs: their vCPUs have the same numbers
 *   -ESRCH     no such process
 *   -ETIME     the process could not be inspected in that time
 *   -EINVAL    a reserved field is not 0
 *   -E2BIG     cpu_count over KVMSTATS_MAX_CPUS; -ENOMEM, or what opendir failed with
 * [single]
 */
int kvmstats_cpu_threads(pid_t pid, struct kvmstats_cpu *cpus,
			 size_t cpu_count);

/* -------------------------------------------------- the pool for closing */

/*
 * close(2) can wait: for a file system in userspace, for a socket that
 * lingers, for a VM that is torn down with its last descriptor. A pool of
 * threads, one for the process, does that waiting. Its threads come with the
 * work and go with it, block all signals, and number at most
 * KVMSTATS_MAX_CLOSE_THREADS for each kind: descriptors that came from strangers,
 * which may never be closed, do not delay those of VMs.
 */
enum kvmstats_close_kind {
	KVMSTATS_CLOSE_FOREIGN	= 0,	/* whatever a stranger sent */
	KVMSTATS_CLOSE_VM	= 1	/* known to be KVM's */
};

#define KVMSTATS_CLOSE_KINDS		2
#define KVMSTATS_MAX_CLOSE_THREADS	8	/* of each kind */
#define KVMSTATS_MAX_CLOSE_WAITING	1024	/* descriptors: the pool is full */

/*
 * Have the pool close @fds, soon. Never waits, never closes anything in the
 * calling thread. 0, or -ENOMEM: then they stay open. [const]
 */
int kvmstats_close_later(enum kvmstats_close_kind kind, const int *fds,
			 size_t count);
/*
 * Have the pool call @call(@argument), for what takes more than a close. 0, or
 * -ENOMEM: then it is not called. [const]
 */
int kvmstats_close_call(enum kvmstats_close_kind kind,
			void (*call)(void *argument), void *argument);
/* Number of descriptors and calls that are not done yet. [const] */
size_t kvmstats_close_pending(enum kvmstats_close_kind kind);
/*
 * 1 if KVMSTATS_MAX_CLOSE_WAITING or more wait for a thread: nothing more should
 * be accepted from strangers then. Else 0. [const]
 */
int kvmstats_close_full(enum kvmstats_close_kind kind);
/* Wait until all of @kind is done; with KVMSTATS_CLOSE_FOREIGN maybe for ever. [const] */
void kvmstats_close_wait(enum kvmstats_close_kind kind);

/* ------------------------------------------------------ the names of VMs */

#define KVMSTATS_MAX_VM_NAME	255	/* bytes of a name and of a uuid */

/*
 * What a VMM's command line calls its VM: @size_bytes of words that each end
 * with a NUL, as in /proc/PID/cmdline, and one NUL more at @size_bytes. It is
 * read as QEMU (-name with all its keys, -uuid), Firecracker (--id), crosvm
 * and kvmtool (--name) and cloud-hypervisor (--platform uuid=) read theirs.
 * Both texts can be empty, are cut after KVMSTATS_MAX_VM_NAME bytes, and have
 * passed kvmstats_text_clean. Allocates nothing. [const]
 */
void kvmstats_cmdline_names(const char *cmdline, size_t size_bytes,
			    char name[KVMSTATS_MAX_VM_NAME + 1],
			    char uuid[KVMSTATS_MAX_VM_NAME + 1]);
/*
 * The same of a running process, from its /proc/PID/cmdline. Can block for as
 * long as that process likes: its command line may lie in memory that a file
 * system in userspace provides. 0, or -errno and two empty texts. [const]
 */
int kvmstats_process_names(pid_t pid, char name[KVMSTATS_MAX_VM_NAME + 1],
			   char uuid[KVMSTATS_MAX_VM_NAME + 1]);
/*
 * Replace by a question mark, in place, each byte that is not part of a UTF-8
 * character, or that is part of a control character: nothing is left that a
 * terminal would obey.
 */
void kvmstats_text_clean(char *text);

/* ------------------------------------------------------------ the finder */

/*
 * VMs of processes that do not register them. A finder looks at a process at
 * the caller's request; what has VMs becomes a
 *
 *   vmm    a process with one or more VMs, under observation: copies of its
 *	    statistics descriptors, as sources
 *
 * A VM is known by the kernel's object (by the serial numbers in fdinfo, else by
 * kcmp), not by a descriptor's number or by who holds it: one that was
 * duplicated, inherited by fork or passed to another process is one VM, that of
 * the process that was looked at first, or of the one whose child has inherited
 * it. One that is closed and made again with the same numbers is another. Where
 * the kernel has no serial numbers and kcmp is refused, numbers of descriptors
 * have to do: VMs of one process are taken for one, what another process holds
 * for another, and the same numbers for the same.
 *
 * All that can wait for a foreign process (reading its command line, listing and
 * comparing its files, copying and closing descriptors that may be anything by
 * then) is done by a process of the finder's own, a fork of the caller, which is
 * replaced when it does not answer within KVMSTATS_FINDER_PATIENCE_MS. The caller
 * must not reap it with wait for any child. A finder and its vmms are used by one thread at a
 * time. [single]
 *
 * Needs the rights of a debugger over the process: the same user, or
 * CAP_SYS_PTRACE, and /proc.
 */
#define KVMSTATS_FINDER_PATIENCE_MS	5000

struct kvmstats_finder;
struct kvmstats_vmm;

/*
 * A source of all vCPUs of a VM wherever it can be had (KVMSTATS_SCOPE_VCPUS):
 * instead of one for each vCPU, or besides these, for a program that passes them on
 * to readers that may not know it. It has vCPUs that are created later, without a look.
 */
#define KVMSTATS_FINDER_VCPUS		1u
#define KVMSTATS_FINDER_VCPUS_TOO	2u

/* 0 and *finder, -ENOMEM, or -EINVAL for unknown @flags. @cache may be NULL. */
int kvmstats_finder_new(unsigned int flags, struct kvmstats_cache *cache,
			struct kvmstats_finder **finder);
/* To be called after its vmms have been freed. Takes NULL. */
void kvmstats_finder_free(struct kvmstats_finder *finder);
/*
 * Look at process @pid, of which there is no vmm yet. 1 and *vmm if it has a
 * VM, whether its statistics are available or not (kvmstats_vmm_error). 0 if it
 * has no VM, only such as belong to another vmm or to its parent, or none any
 * more. Or
 *   -EACCES, -EPERM  this process may not inspect it
 *   -ESRCH	no such process
 *   -ETIME	it did not answer in time; for a while (10 s, then longer) it is
 *		not asked again, and this is returned at once
 *   -EBUSY	too many looks have not returned; no other begins until one has
 *   -EMFILE, -ENOMEM or another errno
 */
int kvmstats_finder_look(struct kvmstats_finder *finder, pid_t pid,
			 struct kvmstats_vmm **vmm);

/*
 * What a look can find out about a known vmm, as bits. NEW_VM: none of the VMs
 * that it had is left, and it has others.
 */
enum kvmstats_vmm_change {
	KVMSTATS_VMM_GREW	= 1,	/* there are new sources */
	KVMSTATS_VMM_SHRANK	= 2,	/* there are sources that have gone */
	KVMSTATS_VMM_NEW_VM	= 4
};

/*
 * Look again. Returns the sum of its changes (enum kvmstats_vmm_change), 0 for
 * none, -ENODATA if it has no VM any more, -ESRCH if it has ended, or as
 * kvmstats_finder_look: then nothing has changed. If only a part failed, the rest is
 * returned as changes, and kvmstats_vmm_error is why.
 * Sources that have gone can still be sampled, until the next look that does
 * not fail, or kvmstats_vmm_settle.
 */
int kvmstats_vmm_look(struct kvmstats_vmm *vmm);
/* Close the sources that have gone, by the pool. */
void kvmstats_vmm_settle(struct kvmstats_vmm *vmm);
/* Closes all it has, by the pool. Takes NULL. */
void kvmstats_vmm_free(struct kvmstats_vmm *vmm);

/*
 * The sources, as kvmstats_source_compare orders them, at most
 * KVMSTATS_MAX_VMM_DEVICES devices among them. Owned by @vmm; when a look finds that
 * one has gone, it lives on as kvmstats_vmm_look says. @index must be less than the
 * count.
 */
#define KVMSTATS_MAX_VMM_DEVICES	256

size_t kvmstats_vmm_source_count(const struct kvmstats_vmm *vmm);
struct kvmstats_source *
kvmstats_vmm_source(const struct kvmstats_vmm *vmm, size_t index);
/* The number in that process of its descriptor, or of what it was made from. */
int kvmstats_vmm_source_number(const struct kvmstats_vmm *vmm, size_t index);
/* Those that the last look found to have gone. */
size_t kvmstats_vmm_gone_count(const struct kvmstats_vmm *vmm);
struct kvmstats_source *
kvmstats_vmm_gone(const struct kvmstats_vmm *vmm, size_t index);

/*
 * KVM's number of vCPU @index of those that it holds, in ascending order; -1 past
 * the end.
 */
int kvmstats_vmm_vcpu(const struct kvmstats_vmm *vmm, size_t index);

/* The process; a pidfd, readable when it has ended, owned by @vmm. */
pid_t kvmstats_vmm_pid(const struct kvmstats_vmm *vmm);
int kvmstats_vmm_pidfd(const struct kvmstats_vmm *vmm);
/* Field 22 of its /proc/PID/stat, in clock ticks; 0 if not known. */
uint64_t kvmstats_vmm_start_ticks(const struct kvmstats_vmm *vmm);
/* As kvmstats_process_names. */
const char *kvmstats_vmm_name(const struct kvmstats_vmm *vmm);
const char *kvmstats_vmm_uuid(const struct kvmstats_vmm *vmm);

/* What it holds. kvmstats_vmm_held counts each object once. */
enum kvmstats_fd_kind {
	KVMSTATS_FD_VM		= 0,
	KVMSTATS_FD_VCPU	= 1,
	KVMSTATS_FD_VM_STATS	= 2,
	KVMSTATS_FD_VCPU_STATS	= 3,
	KVMSTATS_FD_DEVICE	= 4	/* published by the process */
};

#define KVMSTATS_FD_KINDS	5

size_t kvmstats_vmm_held(const struct kvmstats_vmm *vmm,
			 enum kvmstats_fd_kind kind);
/*
 * Why statistics are missing: 0 if none are, -EIO if the VMM holds too few
 * descriptors and the kernel makes them for nobody else (mainline), -ENOTTY
 * for a kernel without them, -EOPNOTSUPP for a thread with a table of
 * descriptors of its own on kernels before 6.9, or what the copying failed
 * with (-EPERM, -ENOSYS, -EMFILE).
 */
int kvmstats_vmm_error(const struct kvmstats_vmm *vmm);
/* VMs and vCPUs without a source. */
size_t kvmstats_vmm_missing(const struct kvmstats_vmm *vmm);

/*
 * Raise the soft limit on open files (RLIMIT_NOFILE) to the hard one, for programs
 * that hold a descriptor for each vCPU. Returns the limit, or -errno. [const]
 */
int64_t kvmstats_raise_fd_limit(void);

/* ----------------------------------------------------------- the publisher */

/*
 * A VMM's own statistics in KVM's format, so that whatever reads the one reads
 * the other. docs/format.md describes what the file holds.
 *
 * A publisher describes the statistics of a class of devices once; a device is
 * one of them, a file in memory with their values. Its descriptor is sent to
 * the reader like those of KVM. For a class "net" that counts two things:
 *
 *	static const struct kvmstats_stat stats[] = {
 *		{ "rx_packets", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_NONE },
 *		{ "rx_bytes", KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_BYTES },
 *	};
 *
 *	kvmstats_publisher_new("net", stats, 2, &publisher);
 *	kvmstats_device_new(publisher, "net0", &device);
 *	kvmstats_sender_add_device(sender, device);
 *	for each packet:
 *		kvmstats_device_add(device, 0, 0, 1);
 *		kvmstats_device_add(device, 1, 0, length);
 */

/* Members that are not needed must be 0. */
struct kvmstats_stat {
	const char *name;	/* small letters, digits, _; begins with a letter */
	unsigned int type;	/* enum kvmstats_type */
	unsigned int unit;	/* enum kvmstats_unit */
	int exponent;		/* -64..64; -9: the values are billionths of a unit */
	unsigned int size;	/* elements, or buckets (65 at most if log); 0 is 1 */
	uint32_t bucket_size;	/* width of a linear histogram's bucket; else 0 */
	unsigned int reserved[4];	/* 0 */
};

/*
 * @stats is copied. 0 and *publisher, -ENOMEM, -E2BIG beyond the bounds of what
 * is published, or -EINVAL for a class, a name or a description that is not as
 * above, for a name that comes twice, and for no statistic at all.
 */
int kvmstats_publisher_new(const char *class_name,
			   const struct kvmstats_stat *stats, size_t count,
			   struct kvmstats_publisher **publisher);
/* Devices live on. Takes NULL. [single] */
void kvmstats_publisher_free(struct kvmstats_publisher *publisher);
/*
 * All values are 0. Within a VM, no two devices of a class may have the same name at
 * the same time: a reader takes the later one for the same device made again. 0 and
 * *device,
 * -EINVAL for a name that is empty, longer than KVMSTATS_MAX_DEVICE or not printable
 * ASCII, -ENOMEM, or what memfd_create, fallocate, mmap or fcntl(F_ADD_SEALS)
 * failed with (-EINVAL before Linux 5.1). If RLIMIT_FSIZE is less than the size of
 * the file, the kernel sends SIGXFSZ, as for any file. [const]
 */
int kvmstats_device_new(const struct kvmstats_publisher *publisher,
			const char *name, struct kvmstats_device **device);
/* Readers keep what they have, with its last values. Takes NULL. [single] */
void kvmstats_device_free(struct kvmstats_device *device);
/* The descriptor, owned by the device. [const] */
int kvmstats_device_fd(const struct kvmstats_device *device);
/*
 * Change a value: statistic number @stat as described, its element @element (0
 * unless it has several). A single relaxed atomic access: a value is read whole
 * (but on machines without 64-bit atomics, as 32-bit MIPS, whose readers may see
 * its halves of different moments), two values may be of different moments.
 * 0, or -EINVAL if there is no such statistic or element. [const]
 *   add    add @amount, modulo 2^64
 *   set    set to @value
 *   raise  set to @value if that is larger than what is there: peaks
 *   count  add 1 to the bucket of a histogram in which @value belongs
 */
int kvmstats_device_add(struct kvmstats_device *device, size_t stat,
			unsigned int element, uint64_t amount);
int kvmstats_device_set(struct kvmstats_device *device, size_t stat,
			unsigned int element, uint64_t value);
int kvmstats_device_raise(struct kvmstats_device *device, size_t stat,
			  unsigned int element, uint64_t value);
int kvmstats_device_count(struct kvmstats_device *device, size_t stat,
			  uint64_t value);

/* ------------------------------------------------------- block accounting */

/*
 * The requests of a disk, accounted for: a device of class "block".
 *
 *	kvmstats_block_new("drive0", NULL, &block);
 *	kvmstats_sender_add_device(sender, kvmstats_block_device(block));
 *	for each request:
 *		kvmstats_block_submit(block, &request, KVMSTATS_BLOCK_READ, bytes);
 *		...
 *		kvmstats_block_complete(block, &request, error);
 *	once a second:
 *		kvmstats_block_tick(block);
 *
 * docs/accounting.md explains each statistic.
 *
 * Threads. Any thread submits, the same or another one completes, in any order of
 * requests; submit has returned before complete is called with its request, which
 * whatever hands the request to the other thread sees to. A thread counts in memory
 * of its own: submit and complete take no lock in the first 64 threads of a
 * process that account for requests, of all its blocks together. Further threads
 * share one mutex for each block, and so does a thread for which there is no memory.
 * A tick takes a mutex that requests only try.
 *
 * What readers see is brought up to date by the first submit or complete of each
 * millisecond and by each tick. So it is at most a millisecond behind the last
 * request that began or ended, and right at the next tick.
 *
 * A child of fork must not call any function on a block that its parent made, but
 * kvmstats_block_free, which then publishes nothing. No function may be called in a
 * signal handler.
 */
enum kvmstats_block_op {
	KVMSTATS_BLOCK_READ	= 0,
	KVMSTATS_BLOCK_WRITE	= 1,	/* with FUA or without; zeroes written */
	KVMSTATS_BLOCK_FLUSH	= 2,	/* its bytes are ignored */
	KVMSTATS_BLOCK_DISCARD	= 3	/* TRIM, UNMAP */
};

#define KVMSTATS_BLOCK_OPS	4

/*
 * The caller's memory. It needs no initialisation before submit, and stays where it
 * is, unchanged, until complete has returned. Its content is the library's, but
 * @bytes and @start_ns may be set between the two by a caller that knows them only
 * then.
 */
struct kvmstats_block_request {
	uint64_t start_ns, bytes;
	uint32_t op, state;
};

struct kvmstats_block_options {
	size_t size_bytes;	/* sizeof(struct kvmstats_block_options) */
	/*
	 * The time in nanoseconds: may stand still, must not go back (if it
	 * does, time stands still until it is there again). Called by any thread,
	 * maybe under a lock of the block. NULL: CLOCK_MONOTONIC.
	 */
	uint64_t (*clock)(void *context);
	void *clock_context;
};

/*
 * @options may be NULL. 0 and *block, -EINVAL for options of another size, -ENOMEM,
 * or as kvmstats_device_new. It takes about 45 KiB, a file in memory of 20 KiB, a
 * descriptor, and 3 KiB for each thread that has had requests of it.
 */
int kvmstats_block_new(const char *name,
		       const struct kvmstats_block_options *options,
		       struct kvmstats_block **block);
/*
 * To be called when no thread uses it any more, and after every sender that it was
 * added to has been freed. Publishes a last time; readers keep the last values. Takes
 * NULL. [single]
 */
void kvmstats_block_free(struct kvmstats_block *block);
/* What is to be sent, owned by the block. [const] */
struct kvmstats_device *kvmstats_block_device(const struct kvmstats_block *block);
/*
 * A request of @bytes begins, which are counted when it has completed successfully.
 * 0, or -EINVAL for an operation that does not exist: it is not counted. A
 * request that is submitted again before it has ended stays in flight for ever.
 */
int kvmstats_block_submit(struct kvmstats_block *block,
			  struct kvmstats_block_request *request,
			  enum kvmstats_block_op op, uint64_t bytes);
/*
 * The request has ended: successfully if @error is 0, else it counts as failed.
 * @block is the one that it was submitted to. 0, or -EINVAL if @request was not
 * submitted, or has ended.
 */
int kvmstats_block_complete(struct kvmstats_block *block,
			    struct kvmstats_block_request *request, int error);
/*
 * The request is withdrawn, and counts as neither successful nor failed: it will be
 * submitted again, or the backend cannot do it in this way and another one is taken.
 * Only the time in the queue is counted. Returns as kvmstats_block_complete does.
 */
int kvmstats_block_cancel(struct kvmstats_block *block,
			  struct kvmstats_block_request *request);
/*
 * A request is refused because the guest's request was invalid; it is neither
 * submitted nor completed. Returns as kvmstats_block_submit does.
 */
int kvmstats_block_invalid(struct kvmstats_block *block,
			   enum kvmstats_block_op op);
/*
 * @count requests of the guest were merged into others, which alone are submitted.
 * Returns as kvmstats_block_submit does, and -EINVAL for flushes, too.
 */
int kvmstats_block_merged(struct kvmstats_block *block,
			  enum kvmstats_block_op op, uint64_t count);
/*
 * To be called about once a second, by any thread: closes the windows that are due
 * and brings up to date what readers see. Nothing else does that while there are no
 * requests.
 */
void kvmstats_block_tick(struct kvmstats_block *block);

/* --------------------------------------------- from the VMM to the reader */

/*
 * The transport: a UNIX socket of type SOCK_SEQPACKET on which the reader
 * listens. The VMM connects and sends messages, the reader never answers.
 * Each message is, in the byte order of the machine,
 *
 *   offset size
 *        0    8  "KVMSTATS"
 *        8    2  version, 1
 *       10    2  length of this header in bytes, 40 or more; the texts follow
 *       12    4  number of descriptors in this message, 0..253
 *       16    4  sender's process id, as it sees itself
 *       20    4  flags: 1 if the VM is another process's (on behalf), else 0
 *       24    8  sender's start time, field 22 of /proc/self/stat
 *       32    2  length of the name in bytes
 *       34    2  length of the uuid in bytes
 *       36    4  0
 *       40       name, then uuid: UTF-8 without control characters, no NUL
 *
 * with its descriptors in one SCM_RIGHTS control message. A VM with more than
 * 253 takes several messages; more may follow at any time (hot-added vCPUs).
 * A reader refuses another version, and ignores header bytes past the 40.
 *
 * The process with the VM is the one that sends the first message, by the kernel's
 * word (SCM_CREDENTIALS): mostly that which has connected, but a connection can be
 * passed to a VMM that may not connect itself. Its user is the one that connected.
 *
 * On behalf: a program that has found a VM which does not register itself registers
 * it, with the id and start time of the process that has the VM, as the reader
 * numbers and sees that process (both are in one pid namespace). One connection is for
 * one process, and ends when that process or its VM has ended. A reader takes
 * such messages only from users of its choice, and only from the process that
 * has connected.
 */
#define KVMSTATS_MAX_MESSAGE_FDS	253	/* what SCM_RIGHTS carries at most */
#define KVMSTATS_MAX_PEER_FDS	16384	/* from one connection, in all */

/*
 * The VMM's side. For a VM with a name (shown to people) and a uuid (free
 * text, may be ""):
 *
 *	kvmstats_sender_new("guest1", uuid, &sender);
 *	kvmstats_sender_add(sender, vm_fd);
 *	for each vCPU, before its first KVM_RUN:
 *		kvmstats_sender_add(sender, vcpu_fd);
 *	kvmstats_sender_connect(sender, "/run/kvmstats.sock");
 *	kvmstats_sender_flush(sender);
 *
 * No call waits for the reader. [single]
 *
 * kvmstats_sender_new: 0 and *sender, -ENOMEM, or -EINVAL for a text that has more
 * than KVMSTATS_MAX_VM_NAME bytes, is not UTF-8 or has control characters.
 */
int kvmstats_sender_new(const char *name, const char *uuid,
			struct kvmstats_sender **sender);
/*
 * Get the statistics descriptor of the VM or vCPU descriptor @kvm_fd (which
 * stays the caller's) and keep it to be sent; of a VM also that of all its vCPUs,
 * where the kernel has it. The vCPUs are to be added all the same, for readers that
 * do not know it. On mainline kernels this waits while the vCPU is inside
 * KVM_RUN: call it before. 0, -ENOMEM, or what the ioctl failed with: -ENOTTY if
 * the kernel has no statistics descriptors. [single]
 */
int kvmstats_sender_add(struct kvmstats_sender *sender, int kvm_fd);
/*
 * Keep a statistics descriptor that the caller already has. The sender owns
 * @stats_fd on success. 0 or -ENOMEM. [single]
 */
int kvmstats_sender_add_stats(struct kvmstats_sender *sender, int stats_fd);
/*
 * Send the descriptor of @source, which stays the caller's and is open for as
 * long as the sender. 0, -ENOMEM, or -EBADF for an image. [single]
 */
int kvmstats_sender_add_source(struct kvmstats_sender *sender,
			       const struct kvmstats_source *source);
/*
 * Send the descriptor of @device, which stays the caller's and is not freed
 * before the sender. 0 or -ENOMEM. [single]
 */
int kvmstats_sender_add_device(struct kvmstats_sender *sender,
			       const struct kvmstats_device *device);
/*
 * The VM is that of process @pid, which started at @start_time_ticks (field 22
 * of /proc/PID/stat): for a sender that found it there. Call before the first flush. 0,
 * or -EINVAL if either is 0 or less. [single]
 */
int kvmstats_sender_on_behalf(struct kvmstats_sender *sender, pid_t pid,
			      uint64_t start_time_ticks);
/*
 * Connect to the reader listening at @path. May be called again at any time,
 * for example after the reader restarted: then all descriptors count as not
 * yet sent. 0, -ENAMETOOLONG, or what connect failed with (-ENOENT,
 * -ECONNREFUSED: no reader there; -EAGAIN: its queue is full, try later).
 * [single]
 */
int kvmstats_sender_connect(struct kvmstats_sender *sender, const char *path);
/*
 * Use a connection that somebody else has made, for a VMM that may not connect.
 * The sender owns @socket_fd on success, which becomes close-on-exec. All
 * descriptors count as not yet sent. 0, or
 *   -EBADF, -ENOTSOCK  it is no socket
 *   -EPROTOTYPE  it is no UNIX socket of type SOCK_SEQPACKET
 *   -ENOTCONN    it has no peer
 * [single]
 */
int kvmstats_sender_take_connection(struct kvmstats_sender *sender,
				    int socket_fd);
/*
 * Send what has not been sent. Returns the number of descriptors sent by this
 * call, or, when not everything could be sent,
 *   -ENOTCONN  not connected
 *   -EAGAIN    the socket is full: call again when it is writable
 *   -EPIPE, -ECONNRESET  the reader has gone: connect again when it is back
 *   or another errno of sendmsg
 * [single]
 */
int kvmstats_sender_flush(struct kvmstats_sender *sender);
/*
 * All of that for a VMM that lives longer than its reader, or begins earlier:
 * connects to @path if there is no connection, sends what has not been sent, and
 * notices that the reader has gone. To be called when kvmstats_sender_fd is readable,
 * and after *@wait_ms milliseconds (100 to 60000), which grow while there is no
 * reader. Returns 1 when all has been sent, 0 while the socket is full, or what the
 * last try failed with (-EPIPE: the reader has closed the connection); it will be
 * tried again. With NULL for @path nothing is connected: when the reader has closed a
 * connection that was taken, -EPIPE and from then on -ENOTCONN. [single]
 */
int kvmstats_sender_maintain(struct kvmstats_sender *sender, const char *path,
			     int *wait_ms);
/*
 * The socket, for poll: POLLHUP says that the reader has gone; -1 if not
 * connected. Owned by the sender. [single]
 */
int kvmstats_sender_fd(const struct kvmstats_sender *sender);
/* Close all that the sender owns. Takes NULL. [single] */
void kvmstats_sender_free(struct kvmstats_sender *sender);

/* --------------------------------------------------------- the reader's side */

/*
 * Create a listening socket at @path with permissions @mode (whoever may write
 * to it may connect). A socket left behind by a reader that has gone is replaced; one
 * that is in use, or a file that is no socket, is not. Non-blocking,
 * close-on-exec. Returns the descriptor, -EADDRINUSE, -ENAMETOOLONG, or what
 * socket, bind or listen failed with; -EBUSY if another process keeps the lock that
 * this function takes, a file whose name is @path and ".lock", and -ENOLCK if that
 * name is taken by what is no file of the caller's. The caller closes it and unlinks
 * @path.
 */
int kvmstats_listen(const char *path, mode_t mode);
/*
 * Accept a connection on the descriptor that kvmstats_listen returned. The
 * peer's identity is the kernel's (SO_PEERCRED), not what it says. 0 and
 * *peer, -EAGAIN if none is waiting, or another errno. [single]
 *
 * @fd can also be one end of a socketpair of type SOCK_SEQPACKET, whose other
 * end VMMs have inherited: one that cannot reach a path any more makes a pair
 * itself and sends an end of it. The result is then -ENOMSG for a message without a
 * descriptor, -EBADMSG for a descriptor that is no such end, and -EPIPE when
 * the last holder of the other end has closed it.
 */
int kvmstats_peer_accept(int fd, struct kvmstats_peer **peer);
/*
 * Let this peer register VMs of other processes. For a reader that has looked
 * at kvmstats_peer_uid and trusts this user with all VMs: between accept and
 * the first receive. [single]
 */
void kvmstats_peer_allow_on_behalf(struct kvmstats_peer *peer);
/*
 * Take descriptors of all vCPUs, too, of which there is at most one for a VM. A VMM
 * that sends one also sends one of each vCPU, for readers that do not take it: close
 * those. [single]
 */
void kvmstats_peer_allow_vcpus(struct kvmstats_peer *peer);
/*
 * How many descriptors the next message says that it brings, for a reader that
 * has to see to its own limit first. 0 also for a malformed message and for the end
 * of the connection: kvmstats_peer_receive tells which. -EAGAIN if there is none
 * yet. [single]
 */
int kvmstats_peer_pending(const struct kvmstats_peer *peer);
/*
 * Receive one message. Never blocks. Each descriptor is opened as by
 * kvmstats_source_open; *@rejected (may be NULL) is set to the number of
 * those that were closed because they are none. @sources has room for
 * KVMSTATS_MAX_MESSAGE_FDS; the caller owns what is put there. What is rejected is
 * closed by the pool (see above).
 *
 * Returns the number of sources, 0 included, or
 *   -EAGAIN   nothing there yet
 *   -EPIPE    the peer has closed the connection
 *   -EBADMSG  the message is malformed
 *   -EMFILE   this process has no descriptor numbers left for it, and what it
 *             brought is lost (see kvmstats_peer_pending)
 *   -E2BIG    more than KVMSTATS_MAX_PEER_FDS descriptors
 *   -EBUSY    so much waits in the pool that nothing more is received now
 *   -EPERM    it is on behalf, and was not allowed
 *   -ESRCH    on behalf of a process that has ended
 *   or another errno. After any error but -EAGAIN everything that came is closed,
 *   and the peer should be freed. [single]
 */
int kvmstats_peer_receive(struct kvmstats_peer *peer,
			  struct kvmstats_cache *cache,
			  struct kvmstats_source **sources,
			  unsigned int *rejected);
/* The socket, for poll. Owned by the peer. [const] */
int kvmstats_peer_fd(const struct kvmstats_peer *peer);
/*
 * A pidfd of the sender, or of the process on whose behalf it sends; readable
 * (POLLIN) once that process has ended. Or -1: before the first message; and
 * of a sender that cannot be seen from here, or whose number may have been given
 * to another process meanwhile (since 6.5 the kernel gives a pidfd of the sender).
 * Owned by the peer. [const]
 */
int kvmstats_peer_pidfd(const struct kvmstats_peer *peer);
/* 1 if the first message was on behalf of another process, else 0. [const] */
int kvmstats_peer_is_on_behalf(const struct kvmstats_peer *peer);
/*
 * The process that has the VM: the one that sent the first message, or on whose behalf
 * it was sent; and when it started, as /proc shows it to this process. Together they
 * are a VMM's identity. Both are 0 before the first message; the start time is 0
 * also if there is no pidfd, and if the process was in an exec that did not end
 * within KVMSTATS_FINDER_PATIENCE_MS: newer kernels show it to nobody meanwhile,
 * and the first kvmstats_peer_receive waits for so long. In clock ticks, as field
 * 22 of /proc/PID/stat. [const]
 */
pid_t kvmstats_peer_vm_pid(const struct kvmstats_peer *peer);
uint64_t kvmstats_peer_start_ticks(const struct kvmstats_peer *peer);
/* Credentials at the time of connect; the pid is 0 if it is not visible. [const] */
pid_t kvmstats_peer_pid(const struct kvmstats_peer *peer);
uid_t kvmstats_peer_uid(const struct kvmstats_peer *peer);
gid_t kvmstats_peer_gid(const struct kvmstats_peer *peer);
/*
 * What the sender says of itself: "" before the first message. UTF-8 without
 * control characters. Lives as long as the peer; later messages that say
 * something else are malformed. [const]
 */
const char *kvmstats_peer_name(const struct kvmstats_peer *peer);
const char *kvmstats_peer_uuid(const struct kvmstats_peer *peer);
/* Close the connection. Sources received from it stay. Takes NULL. [single] */
void kvmstats_peer_free(struct kvmstats_peer *peer);

#ifdef __cplusplus
}
#endif

#endif /* KVMSTATS_H */
