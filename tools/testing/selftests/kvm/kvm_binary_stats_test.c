// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_binary_stats_test
 *
 * What a statistics file says about itself (header, id, descriptors), every way
 * to read it, and what must be refused.  Runs no guest.
 *
 * Usage: kvm_binary_stats_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "kvm_stats_util.h"
#include "kvm_test_harness.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT	0x00000008
#endif

#define MANY_VCPUS	288

/* Bytes that no read of the file may leave where it claims to have written. */
#define UNTOUCHED	0xa5

TEST(capability)
{
	struct kvm_vm *vm = stats_create_vm();

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_BINARY_STATS_FD), 1);
	TEST_ASSERT_EQ(ioctl(vm_get_fd(vm), KVM_CHECK_EXTENSION,
			     KVM_CAP_BINARY_STATS_FD), 1);
}

static void *add_vcpu(void *vm)
{
	vm_vcpu_add(vm, STATS_VCPU_ID);
	return NULL;
}

/* A VMM may create each vCPU in its own thread; they are all of this VM. */
TEST(id_of_thread)
{
	struct kvm_vm *vm;
	struct stats_file s;
	pthread_t thread;

	vm = vm_create(VM_MODE_DEFAULT, DEFAULT_GUEST_PHY_PAGES, O_RDWR);
	TEST_ASSERT(!pthread_create(&thread, NULL, add_vcpu, vm) &&
		    !pthread_join(thread, NULL), "pthread_create");
	stats_open(&s, stats_get_fd(stats_vcpu_fd(vm, STATS_VCPU_ID)));
	stats_check_id(&s, getpid(), STATS_VCPU_ID);
}

FIXTURE(file)
{
	struct stats_file s;
};

FIXTURE_VARIANT(file)
{
	enum stats_scope scope;
};

FIXTURE_VARIANT_ADD(file, vm)
{
	.scope = STATS_VM,
};

FIXTURE_VARIANT_ADD(file, vcpu)
{
	.scope = STATS_VCPU,
};

FIXTURE_VARIANT_ADD(file, vcpus)
{
	.scope = STATS_VCPUS,
};

FIXTURE_SETUP(file)
{
	stats_setup(&self->s, variant->scope);
}

FIXTURE_TEARDOWN(file)
{
	stats_close(&self->s);
}

/* ---- header and blocks ---- */

/* A block of the file: where it starts and ends. */
struct block {
	const char *name;
	uint64_t start, end;
};

static uint64_t data_size(const struct stats_file *s)
{
	const struct kvm_stats_desc *d;
	uint64_t end, size = 0;
	uint32_t i;

	for (i = 0; i < s->header.num_desc; i++) {
		d = stats_desc(s, i);
		end = d->offset + d->size * sizeof(uint64_t);
		if (end > size)
			size = end;
	}
	return size;
}

static void get_blocks(const struct stats_file *s, struct block blocks[4])
{
	const struct kvm_stats_header *h = &s->header;

	blocks[0] = (struct block){ "header", 0, s->header_size };
	blocks[1] = (struct block){ "id", h->id_offset,
				    (uint64_t)h->id_offset + h->name_size };
	blocks[2] = (struct block){ "descriptors", h->desc_offset,
				    h->desc_offset +
				    (uint64_t)h->num_desc * s->desc_size };
	blocks[3] = (struct block){ "data", h->data_offset,
				    h->data_offset + s->vcpus.values_offset +
				    data_size(s) };
}

TEST_F(file, header)
{
	struct kvm_stats_header *h = &self->s.header;

	TEST_ASSERT_EQ(h->flags, variant->scope == STATS_VCPUS ?
		       KVM_STATS_FLAG_VCPUS : 0);
	TEST_ASSERT(h->num_desc, "there is no descriptor");
	/* Else every other descriptor of the array would be misaligned. */
	TEST_ASSERT(h->name_size && h->name_size % sizeof(uint64_t) == 0,
		    "name_size is %u", h->name_size);
}

static void check_disjoint(const struct block *a, const struct block *b)
{
	TEST_ASSERT(a->end <= b->start || b->end <= a->start,
		    "%s %llu-%llu and %s %llu-%llu overlap",
		    a->name, (unsigned long long)a->start,
		    (unsigned long long)a->end,
		    b->name, (unsigned long long)b->start,
		    (unsigned long long)b->end);
}

/* Aligned, disjoint, and the end of the last one is the end of the file. */
TEST_F(file, blocks)
{
	struct block blocks[4];
	uint64_t end = 0;
	int i, j;

	get_blocks(&self->s, blocks);
	for (i = 0; i < 4; i++) {
		TEST_ASSERT(blocks[i].start % sizeof(uint64_t) == 0,
			    "%s starts at %llu", blocks[i].name,
			    (unsigned long long)blocks[i].start);
		for (j = 0; j < i; j++)
			check_disjoint(&blocks[i], &blocks[j]);
		if (blocks[i].end > end)
			end = blocks[i].end;
	}
	TEST_ASSERT_EQ(end, self->s.size);
}

TEST_F(file, id)
{
	const char *id = stats_id(&self->s);
	uint32_t i;

	stats_check_id(&self->s, getpid(),
		       variant->scope == STATS_VCPU ? STATS_VCPU_ID : -1);
	for (i = strlen(id); i < self->s.header.name_size; i++)
		TEST_ASSERT(!id[i], "byte %u, after the end of the id, is %#x",
			    i, id[i]);
}

/* ---- descriptors ---- */

static void check_name(const struct stats_file *s, uint32_t index)
{
	const char *name = stats_desc(s, index)->name;
	size_t len = strnlen(name, s->header.name_size);
	size_t i;

	TEST_ASSERT(len && len < s->header.name_size,
		    "the name of descriptor %u has %zu bytes", index, len);
	for (i = 0; i < len; i++)
		TEST_ASSERT(isgraph((unsigned char)name[i]),
			    "'%s' has a byte %#x", name, name[i]);
	/* What follows the name must not be memory of something else. */
	for (; i < s->header.name_size; i++)
		TEST_ASSERT(!name[i], "'%s' is followed by %#x", name, name[i]);
	TEST_ASSERT(stats_find(s, name) == stats_desc(s, index),
		    "'%s' is there twice", name);
}

TEST_F(file, names)
{
	uint32_t i;

	for (i = 0; i < self->s.header.num_desc; i++)
		check_name(&self->s, i);
}

static void check_flags(const struct kvm_stats_desc *d)
{
	const uint32_t known = KVM_STATS_TYPE_MASK | KVM_STATS_UNIT_MASK |
			       KVM_STATS_BASE_MASK;

	TEST_ASSERT(!(d->flags & ~known), "%s: unknown flags in %#x",
		    d->name, d->flags);
	TEST_ASSERT((d->flags & KVM_STATS_TYPE_MASK) <= KVM_STATS_TYPE_MAX,
		    "%s: unknown type in flags %#x", d->name, d->flags);
	TEST_ASSERT((d->flags & KVM_STATS_UNIT_MASK) <= KVM_STATS_UNIT_MAX,
		    "%s: unknown unit in flags %#x", d->name, d->flags);
	TEST_ASSERT((d->flags & KVM_STATS_BASE_MASK) <= KVM_STATS_BASE_MAX,
		    "%s: unknown base in flags %#x", d->name, d->flags);
}

/* Seconds come in fractions, everything else in whole units. */
static void check_exponent(const struct kvm_stats_desc *d)
{
	bool pow2 = (d->flags & KVM_STATS_BASE_MASK) == KVM_STATS_BASE_POW2;
	uint32_t unit = d->flags & KVM_STATS_UNIT_MASK;
	int limit = pow2 ? 63 : 18;

	if (unit == KVM_STATS_UNIT_SECONDS)
		TEST_ASSERT(d->exponent <= 0 && d->exponent >= -limit,
			    "%s: seconds with exponent %d",
			    d->name, d->exponent);
	else
		TEST_ASSERT(d->exponent >= 0 && d->exponent <= limit,
			    "%s: exponent %d in flags %#x",
			    d->name, d->exponent, d->flags);
}

static void check_size(const struct kvm_stats_desc *d)
{
	switch (d->flags & KVM_STATS_TYPE_MASK) {
	case KVM_STATS_TYPE_LINEAR_HIST:
		TEST_ASSERT(d->size >= 2 && d->bucket_size,
			    "%s: linear histogram, %u buckets of size %u",
			    d->name, d->size, d->bucket_size);
		break;
	case KVM_STATS_TYPE_LOG_HIST:
		/* One for 0, one for each bit of a value; no bucket size. */
		TEST_ASSERT(d->size >= 2 && d->size <= 65 && !d->bucket_size,
			    "%s: log histogram, %u buckets, bucket size %u",
			    d->name, d->size, d->bucket_size);
		break;
	default:
		TEST_ASSERT(d->size >= 1 && !d->bucket_size,
			    "%s: size %u, bucket size %u",
			    d->name, d->size, d->bucket_size);
	}
}

static void check_boolean(const struct stats_file *s,
			  const struct kvm_stats_desc *d)
{
	uint32_t type = d->flags & KVM_STATS_TYPE_MASK;
	uint64_t value;

	if ((d->flags & KVM_STATS_UNIT_MASK) != KVM_STATS_UNIT_BOOLEAN)
		return;
	TEST_ASSERT(!d->exponent, "%s: exponent %d", d->name, d->exponent);
	TEST_ASSERT(type != KVM_STATS_TYPE_LOG_HIST, "%s: log histogram",
		    d->name);
	if (type == KVM_STATS_TYPE_LINEAR_HIST) {
		TEST_ASSERT(d->size == 2, "%s: %u buckets", d->name, d->size);
		return;
	}
	value = stats_value(s, d->name);
	TEST_ASSERT(value <= 1, "%s is %llu", d->name,
		    (unsigned long long)value);
}

TEST_F(file, descriptors)
{
	static uint64_t values[UINT16_MAX];
	const struct kvm_stats_desc *d;
	uint32_t i;

	for (i = 0; i < self->s.header.num_desc; i++) {
		d = stats_desc(&self->s, i);
		check_flags(d);
		check_exponent(d);
		check_size(d);
		check_boolean(&self->s, d);
		stats_read(&self->s, d, values);
	}
}

static void check_desc_disjoint(const struct kvm_stats_desc *a,
				const struct kvm_stats_desc *b)
{
	uint64_t a_end = a->offset + a->size * sizeof(uint64_t);
	uint64_t b_end = b->offset + b->size * sizeof(uint64_t);

	TEST_ASSERT(a_end <= b->offset || b_end <= a->offset,
		    "%s at %u and %s at %u share data",
		    a->name, a->offset, b->name, b->offset);
}

TEST_F(file, offsets)
{
	const struct kvm_stats_desc *d;
	uint32_t i, j;

	for (i = 0; i < self->s.header.num_desc; i++) {
		d = stats_desc(&self->s, i);
		TEST_ASSERT(d->offset % sizeof(uint64_t) == 0,
			    "%s: data at offset %u", d->name, d->offset);
		for (j = 0; j < i; j++)
			check_desc_disjoint(d, stats_desc(&self->s, j));
	}
}

/* Readers keep one table of descriptors for all VMs and all vCPUs. */
TEST_F(file, same_table)
{
	struct stats_file *a = &self->s, b;

	stats_setup(&b, variant->scope);
	TEST_ASSERT(!memcmp(&a->header, &b.header, sizeof(b.header)),
		    "two VMs differ in their header");
	TEST_ASSERT(!memcmp(stats_desc(a, 0), stats_desc(&b, 0),
			    b.header.num_desc * b.desc_size),
		    "two VMs differ in their descriptors");
}

/* The statistics that common code counts on every architecture. */
static const struct stats_known vm_known[] = {
	{ "remote_tlb_flush",		STATS_COUNTER },
	{ "remote_tlb_flush_requests",	STATS_COUNTER },
};

static const struct stats_known vcpu_known[] = {
	{ "halt_successful_poll",	STATS_COUNTER },
	{ "halt_attempted_poll",	STATS_COUNTER },
	{ "halt_poll_invalid",		STATS_COUNTER },
	{ "halt_wakeup",		STATS_COUNTER },
	{ "halt_poll_success_ns",	STATS_TIME,		-9 },
	{ "halt_poll_fail_ns",		STATS_TIME,		-9 },
	{ "halt_wait_ns",		STATS_TIME,		-9 },
	{ "halt_poll_success_hist",	STATS_TIME_HIST,	-9,	true },
	{ "halt_poll_fail_hist",	STATS_TIME_HIST,	-9,	true },
	{ "halt_wait_hist",		STATS_TIME_HIST,	-9,	true },
	{ "blocking",			STATS_BOOLEAN },
};

TEST_F(file, known)
{
	if (variant->scope == STATS_VM)
		stats_check_known(&self->s, vm_known, ARRAY_SIZE(vm_known));
	else
		stats_check_known(&self->s, vcpu_known, ARRAY_SIZE(vcpu_known));
}

/* ---- reading at every kind of offset ---- */

/* @buf, read from @pos, must hold the file's immutable bytes. */
static void check_bytes(const struct stats_file *s, const uint8_t *buf,
			size_t pos, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		TEST_ASSERT(!stats_is_immutable(s, pos + i) ||
			    buf[i] == s->image[pos + i],
			    "byte %zu is %#x in a read of %zu bytes at %zu, %#x in the whole file",
			    pos + i, buf[i], len, pos, s->image[pos + i]);
}

/*
 * Read @len bytes at @pos and check that exactly those that the file has are
 * there and nothing was written behind them.
 */
static void check_pread(const struct stats_file *s, size_t pos, size_t len)
{
	size_t expected = 0, i;
	uint8_t *buf = malloc(len + 8);
	ssize_t got;

	TEST_ASSERT(buf, "out of memory");
	if (pos < s->size)
		expected = len < s->size - pos ? len : s->size - pos;
	memset(buf, UNTOUCHED, len + 8);
	got = pread(s->fd, buf, len, pos);
	TEST_ASSERT(got == (ssize_t)expected,
		    "pread of %zu bytes at %zu of %zu returned %zd, expected %zu",
		    len, pos, s->size, got, expected);
	check_bytes(s, buf, pos, expected);
	for (i = expected; i < len + 8; i++)
		TEST_ASSERT(buf[i] == UNTOUCHED,
			    "pread of %zu bytes at %zu wrote byte %zu",
			    len, pos, i);
	free(buf);
}

TEST_F(file, whole)
{
	check_pread(&self->s, 0, self->s.size);
	check_pread(&self->s, 0, self->s.size + 1);
	check_pread(&self->s, 0, self->s.size + 65536);
}

/* Lengths that divide nothing: each block's edge falls at each place. */
TEST_F(file, odd_pieces)
{
	static const size_t lengths[] = { 1, 2, 3, 5, 7, 13, 29, 61, 127, 509 };
	size_t i, pos;

	for (i = 0; i < ARRAY_SIZE(lengths); i++)
		for (pos = 0; pos < self->s.size; pos += lengths[i])
			check_pread(&self->s, pos, lengths[i]);
}

static void check_around(const struct stats_file *s, size_t edge)
{
	static const size_t lengths[] = { 1, 2, 8, 9, 64, 4096 };
	size_t i, pos, start = edge < 9 ? 0 : edge - 9;

	for (pos = start; pos <= edge + 9; pos++)
		for (i = 0; i < ARRAY_SIZE(lengths); i++)
			check_pread(s, pos, lengths[i]);
}

TEST_F(file, straddle_blocks)
{
	const struct kvm_stats_header *h = &self->s.header;

	check_around(&self->s, self->s.header_size);
	check_around(&self->s, h->id_offset);
	check_around(&self->s, h->id_offset + h->name_size);
	check_around(&self->s, h->desc_offset);
	check_around(&self->s, h->desc_offset +
			       h->num_desc * self->s.desc_size);
	check_around(&self->s, h->data_offset);
	check_around(&self->s, self->s.size);
}

TEST_F(file, from_any_offset_to_end)
{
	size_t pos;

	for (pos = 0; pos <= self->s.size; pos += 3)
		check_pread(&self->s, pos, self->s.size);
}

static void check_nothing_at(int fd, off_t pos)
{
	uint8_t buf[64];
	ssize_t got;

	memset(buf, UNTOUCHED, sizeof(buf));
	got = pread(fd, buf, sizeof(buf), pos);
	TEST_ASSERT(!got, "pread at %lld returned %zd", (long long)pos, got);
	TEST_ASSERT(buf[0] == UNTOUCHED, "pread at %lld wrote", (long long)pos);
}

/* Some are inside the file once they are cut to 32 bits. */
TEST_F(file, past_end)
{
	const off_t four_gib = 1LL << 32;

	check_nothing_at(self->s.fd, self->s.size);
	check_nothing_at(self->s.fd, self->s.size + 1);
	check_nothing_at(self->s.fd, self->s.size + 4096);
	check_nothing_at(self->s.fd, INT_MAX);
	check_nothing_at(self->s.fd, UINT_MAX);
	check_nothing_at(self->s.fd, four_gib);
	check_nothing_at(self->s.fd, four_gib + self->s.header.id_offset);
	check_nothing_at(self->s.fd, four_gib + self->s.header.data_offset);
	check_nothing_at(self->s.fd, LLONG_MAX - 64);
}

static void check_pread_error(int fd, void *buf, size_t len, off_t pos,
			      int error)
{
	ssize_t got = pread(fd, buf, len, pos);

	TEST_ASSERT(got == -1 && errno == error,
		    "pread of %zu bytes at %lld returned %zd, expected error %d",
		    len, (long long)pos, got, error);
}

TEST_F(file, offsets_refused)
{
	uint8_t buf[64];

	check_pread_error(self->s.fd, buf, sizeof(buf), -1, EINVAL);
	check_pread_error(self->s.fd, buf, sizeof(buf), LLONG_MIN, EINVAL);
	/* The end of the read would be past the greatest offset. */
	check_pread_error(self->s.fd, buf, sizeof(buf), LLONG_MAX, EINVAL);
}

TEST_F(file, zero_length)
{
	check_pread(&self->s, 0, 0);
	check_pread(&self->s, self->s.header.data_offset, 0);
	TEST_ASSERT(!read(self->s.fd, NULL, 0), "read of 0 bytes to NULL");
	TEST_ASSERT(lseek(self->s.fd, 0, SEEK_CUR) <= 0,
		    "it moved the position");
}

/* ---- buffers that are not there ---- */

TEST_F(file, bad_buffer)
{
	const struct kvm_stats_header *h = &self->s.header;
	int fd = self->s.fd;
	void *unmapped;

	unmapped = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			0);
	TEST_ASSERT(unmapped != MAP_FAILED, "mmap");
	check_pread_error(fd, unmapped, 8, 0, EFAULT);
	check_pread_error(fd, unmapped, 8, h->id_offset, EFAULT);
	check_pread_error(fd, unmapped, 8, h->desc_offset, EFAULT);
	check_pread_error(fd, unmapped, 8, h->data_offset, EFAULT);
	check_pread_error(fd, NULL, self->s.size, 0, EFAULT);
	/* A bad buffer does not matter if there is nothing to write to it. */
	TEST_ASSERT(!pread(fd, unmapped, 8, self->s.size), "at the end");
}

/* What a copy that faults may leave undone of what would have fitted. */
#ifdef __x86_64__
#define COPY_GRANULE	1
#else
#define COPY_GRANULE	64
#endif

/*
 * A read into a buffer of which only the first @good bytes are there ends where
 * they end, and says so; it is an error only if not a single byte fits.
 */
static void check_short(const struct stats_file *s, uint8_t *edge, size_t good,
			size_t len, off_t pos)
{
	ssize_t got;

	memset(edge - good, UNTOUCHED, good);
	got = pread(s->fd, edge - good, len, pos);
	if (good < COPY_GRANULE && got == -1 && errno == EFAULT)
		return;
	TEST_ASSERT(got > 0 && got <= good && good - got < COPY_GRANULE,
		    "a read with %zu good bytes returned %zd", good, got);
	check_bytes(s, edge - good, pos, got);
}

TEST_F(file, partly_bad_buffer)
{
	long page = sysconf(_SC_PAGESIZE);
	struct stats_file *s = &self->s;
	size_t good, limit;
	uint8_t *map;

	map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(map != MAP_FAILED && !mprotect(map + page, page, PROT_NONE),
		    "mmap");
	limit = s->size < page ? s->size : page;
	for (good = 1; good < limit; good += 7)
		check_short(s, map + page, good, s->size, 0);
	/* The values alone, of which all but the last byte fit. */
	good = s->size - s->header.data_offset - 1;
	TEST_ASSERT(good < page, "%zu bytes of values", good);
	check_short(s, map + page, good, good + 1, s->header.data_offset);
}

TEST_F(file, vectored)
{
	struct stats_file *s = &self->s;
	uint8_t a[1], b[31], c[3];
	uint8_t *d = malloc(65536);
	struct iovec iov[] = {
		{ a, sizeof(a) }, { b, sizeof(b) }, { NULL, 0 },
		{ c, sizeof(c) }, { d, 65536 },
	};

	TEST_ASSERT_EQ(preadv(s->fd, iov, ARRAY_SIZE(iov), 0), s->size);
	check_bytes(s, a, 0, sizeof(a));
	check_bytes(s, b, 1, sizeof(b));
	check_bytes(s, c, 32, sizeof(c));
	check_bytes(s, d, 35, s->size - 35);
}

TEST_F(file, vectored_second_bad)
{
	uint8_t a[16];
	struct iovec iov[] = { { a, sizeof(a) }, { (void *)8, 64 } };

	TEST_ASSERT_EQ(preadv(self->s.fd, iov, ARRAY_SIZE(iov), 0), sizeof(a));
	check_bytes(&self->s, a, 0, sizeof(a));
}

/* ---- the position ---- */

/* read() goes on where the last one ended, and ends with 0. */
TEST_F(file, sequential)
{
	uint8_t buf[17];
	size_t pos = 0;
	ssize_t got;

	while ((got = read(self->s.fd, buf, sizeof(buf))) > 0) {
		check_bytes(&self->s, buf, pos, got);
		pos += got;
		TEST_ASSERT(pos <= self->s.size, "read past the end, to %zu",
			    pos);
	}
	TEST_ASSERT(!got, "read at %zu", pos);
	TEST_ASSERT_EQ(pos, self->s.size);
}

static void check_lseek(int fd, off_t offset, int whence, off_t expected)
{
	off_t pos = lseek(fd, offset, whence);

	TEST_ASSERT(pos == expected,
		    "lseek(%lld, %d) returned %lld, expected %lld",
		    (long long)offset, whence, (long long)pos,
		    (long long)expected);
}

TEST_F(file, lseek)
{
	size_t size = self->s.size;
	int fd = self->s.fd;

	check_lseek(fd, 0, SEEK_END, size);
	check_lseek(fd, -8, SEEK_END, size - 8);
	check_lseek(fd, -8, SEEK_CUR, size - 16);
	check_lseek(fd, self->s.header.desc_offset, SEEK_SET,
		    self->s.header.desc_offset);
	check_lseek(fd, size, SEEK_SET, size);
	check_lseek(fd, 0, SEEK_SET, 0);
}

static void check_lseek_refused(int fd, off_t offset, int whence)
{
	off_t pos = lseek(fd, offset, whence);

	TEST_ASSERT(pos == -1 && errno == EINVAL,
		    "lseek(%lld, %d) returned %lld, expected EINVAL",
		    (long long)offset, whence, (long long)pos);
}

TEST_F(file, lseek_refused)
{
	int fd = self->s.fd;

	check_lseek(fd, 16, SEEK_SET, 16);
	check_lseek_refused(fd, -1, SEEK_SET);
	check_lseek_refused(fd, self->s.size + 1, SEEK_SET);
	check_lseek_refused(fd, 1, SEEK_END);
	check_lseek_refused(fd, -17, SEEK_CUR);
	check_lseek_refused(fd, LLONG_MAX, SEEK_CUR);
	check_lseek_refused(fd, 0, 99);
	/* What was refused has not moved the position. */
	check_lseek(fd, 0, SEEK_CUR, 16);
}

TEST_F(file, lseek_and_read)
{
	off_t pos = self->s.header.desc_offset;
	int fd = self->s.fd;
	uint8_t buf[64];

	check_lseek(fd, pos, SEEK_SET, pos);
	TEST_ASSERT_EQ(read(fd, buf, sizeof(buf)), sizeof(buf));
	check_bytes(&self->s, buf, pos, sizeof(buf));
	check_lseek(fd, 0, SEEK_CUR, pos + sizeof(buf));
	/* Neither does pread() move it. */
	stats_pread(fd, buf, sizeof(buf), 0);
	check_lseek(fd, 0, SEEK_CUR, pos + sizeof(buf));
}

/* ---- what else a file can be asked ---- */

/* Nothing in the file has to be waited for, and it says so. */
TEST_F(file, nowait)
{
	uint8_t *buf = malloc(self->s.size);
	struct iovec iov = { buf, self->s.size };

	TEST_ASSERT_EQ(preadv2(self->s.fd, &iov, 1, 0, RWF_NOWAIT),
		       self->s.size);
	check_bytes(&self->s, buf, 0, self->s.size);
}

/* Positional writes fail as on any file that has no positions to write to. */
static void check_write_refused(const char *how, ssize_t got)
{
	TEST_ASSERT(got == -1 && (errno == EBADF || errno == ESPIPE),
		    "%s returned %zd", how, got);
}

TEST_F(file, write_refused)
{
	off_t pos = self->s.header.data_offset;
	int fd = self->s.fd;
	char zero[8] = {};
	struct iovec iov = { zero, sizeof(zero) };

	TEST_ASSERT(write(fd, zero, sizeof(zero)) == -1 && errno == EBADF,
		    "write");
	check_write_refused("pwrite", pwrite(fd, zero, sizeof(zero), pos));
	check_write_refused("pwritev", pwritev(fd, &iov, 1, pos));
	TEST_ASSERT(ftruncate(fd, 0) == -1, "ftruncate succeeded");
	stats_check_unchanged(&self->s, fd);
}

TEST_F(file, mmap_refused)
{
	void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, self->s.fd, 0);

	TEST_ASSERT(map == MAP_FAILED && errno == ENODEV, "mmap");
}

TEST_F(file, poll_readable)
{
	struct pollfd pfd = {
		.fd = self->s.fd,
		.events = POLLIN | POLLPRI,
	};
	int nr = poll(&pfd, 1, 0);

	TEST_ASSERT(nr == 1 && (pfd.revents & POLLIN),
		    "poll returned %d, revents %#x", nr, pfd.revents);
}

/* ---- as many vCPUs as there can be ---- */

FIXTURE(vcpus)
{
	int nr;
	struct stats_file *files;
};

FIXTURE_SETUP(vcpus)
{
	int max = kvm_check_cap(KVM_CAP_MAX_VCPUS);

	self->nr = max < MANY_VCPUS ? max : MANY_VCPUS;
	self->files = calloc(self->nr, sizeof(*self->files));
	TEST_ASSERT(self->files, "out of memory");
}

FIXTURE_TEARDOWN(vcpus)
{
	free(self->files);
}

static bool have_fds(rlim_t nr)
{
	struct rlimit limit;

	TEST_ASSERT(!getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
	if (limit.rlim_cur >= nr)
		return true;
	limit.rlim_cur = nr;
	if (limit.rlim_max < nr)
		limit.rlim_max = nr;
	return !setrlimit(RLIMIT_NOFILE, &limit);
}

/* Each vCPU's file carries the id of that vCPU, whichever is created when. */
TEST_F_TIMEOUT(vcpus, many, 300)
{
	struct kvm_vm *vm;
	int i;

	if (!have_fds(2 * self->nr + 64))
		SKIP(return, "RLIMIT_NOFILE cannot be raised: %s",
		     strerror(errno));
	vm = vm_create(VM_MODE_DEFAULT, DEFAULT_GUEST_PHY_PAGES, O_RDWR);
	for (i = 0; i < self->nr; i++) {
		vm_vcpu_add(vm, i);
		stats_open(&self->files[i], stats_get_fd(stats_vcpu_fd(vm, i)));
	}
	for (i = 0; i < self->nr; i++) {
		stats_check_id(&self->files[i], getpid(), i);
		stats_check_unchanged(&self->files[i], self->files[i].fd);
	}
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_BINARY_STATS_FD)
