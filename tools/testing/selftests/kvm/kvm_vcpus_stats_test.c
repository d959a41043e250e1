// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_vcpus_stats_test
 *
 * The statistics of all vCPUs in one file: its layout, that a record is what the
 * vCPU's own file has, and what a reader sees while vCPUs are created.  What is the
 * same for all statistics files is tested by kvm_binary_stats_test and
 * kvm_binary_stats_fd_test.
 *
 * Those named created_* run no guest.
 *
 * Usage: kvm_vcpus_stats_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "kvm_stats_guest.h"
#include "kvm_test_harness.h"

/* Bytes that no read of the file may leave where it claims to have written. */
#define UNTOUCHED	0xa5

/* No order, and none is an index or an index but for one. */
static const uint32_t vcpu_ids[] = { STATS_VCPU_ID, 3, 7, 2 };
static const int nr_exits[] = { 50, 7, 0, 20 };

#define NR_VCPUS	ARRAY_SIZE(vcpu_ids)

static int get_vcpus_fd(struct kvm_vm *vm)
{
	return stats_get_scope_fd(vm_get_fd(vm), STATS_VCPUS);
}

/* Its vCPUs have run, as often as nr_exits says, and will not run again. */
static struct kvm_vm *setup_vcpus(struct stats_file *s)
{
	struct stats_file first;
	struct kvm_vm *vm = guest_setup(&first, guest_exit_loop);
	int i, j;

	stats_close(&first);
	for (i = 1; i < NR_VCPUS; i++)
		vm_vcpu_add_default(vm, vcpu_ids[i], guest_exit_loop);
	for (i = 0; i < NR_VCPUS; i++)
		for (j = 0; j < nr_exits[i]; j++)
			TEST_ASSERT(!_vcpu_run(vm, vcpu_ids[i]), "KVM_RUN");
	stats_open(s, get_vcpus_fd(vm));
	return vm;
}

static off_t record_pos(const struct stats_file *s, int index)
{
	return s->header.data_offset + (off_t)index * s->vcpus.record_size;
}

static size_t values_size(const struct stats_file *s)
{
	return s->vcpus.record_size - s->vcpus.values_offset;
}

TEST(capability)
{
	struct kvm_vm *vm = stats_create_vm();

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_VCPUS_STATS_FD), 1);
	TEST_ASSERT_EQ(ioctl(vm_get_fd(vm), KVM_CHECK_EXTENSION,
			     KVM_CAP_VCPUS_STATS_FD), 1);
}

/* ---- the layout ---- */

/* What follows from the header by itself, and from a vCPU's own file. */
TEST(layout)
{
	const struct kvm_vcpus_stats_header *h;
	struct stats_file all, own;
	struct kvm_vm *vm = setup_vcpus(&all);
	size_t descs_size;

	stats_open(&own, stats_get_fd(stats_vcpu_fd(vm, STATS_VCPU_ID)));
	h = &all.vcpus;
	TEST_ASSERT_EQ(h->header.flags, KVM_STATS_FLAG_VCPUS);
	TEST_ASSERT_EQ(h->pad, 0);
	TEST_ASSERT_EQ(h->header.name_size, own.header.name_size);
	TEST_ASSERT_EQ(h->num_desc, own.header.num_desc);
	descs_size = own.header.num_desc * own.desc_size;
	TEST_ASSERT(!memcmp(stats_desc(&all, 0), stats_desc(&own, 0),
			    descs_size), "the descriptors differ");

	TEST_ASSERT(h->values_offset >= sizeof(uint64_t) &&
		    h->values_offset % sizeof(uint64_t) == 0,
		    "values at %u in the record", h->values_offset);
	TEST_ASSERT_EQ(h->record_size - h->values_offset,
		       own.size - own.header.data_offset);
	TEST_ASSERT_EQ(all.size, record_pos(&all, NR_VCPUS));
}

/* Whoever knows only the header of today sees an object that counts nothing. */
TEST(unknowing_reader)
{
	struct kvm_stats_header header;
	struct stats_file s;
	size_t descs_size;
	char none;

	setup_vcpus(&s);
	stats_pread(s.fd, &header, sizeof(header), 0);
	TEST_ASSERT_EQ(header.num_desc, 0);
	descs_size = header.num_desc * s.desc_size;
	/* None of the blocks that it knows overlap. */
	TEST_ASSERT(header.id_offset >= sizeof(header) &&
		    header.desc_offset >= header.id_offset + header.name_size &&
		    header.data_offset >= header.desc_offset + descs_size &&
		    header.data_offset <= s.size, "blocks at %u, %u, %u",
		    header.id_offset, header.desc_offset, header.data_offset);
	TEST_ASSERT(!pread(s.fd, &none, descs_size, header.desc_offset),
		    "a read of all its descriptors");
}

TEST(created_none)
{
	struct kvm_vm *vm = vm_create(VM_MODE_DEFAULT, DEFAULT_GUEST_PHY_PAGES,
				      O_RDWR);
	struct stats_file s;
	uint8_t buf[64];
	struct iovec iov = { buf, sizeof(buf) };

	stats_open(&s, get_vcpus_fd(vm));
	TEST_ASSERT(s.vcpus.num_desc, "there is no descriptor");
	TEST_ASSERT_EQ(s.size, s.header.data_offset);
	TEST_ASSERT(!pread(s.fd, buf, sizeof(buf), s.size), "pread at the end");
	TEST_ASSERT(!preadv(s.fd, &iov, 1, s.size), "preadv at the end");
	TEST_ASSERT_EQ(pread(s.fd, buf, sizeof(buf), s.size - 8), 8);
	TEST_ASSERT_EQ(lseek(s.fd, 0, SEEK_END), s.size);
	stats_check_id(&s, getpid(), -1);
}

/* ---- the records ---- */

static uint64_t record_id(const struct stats_file *s, const uint8_t *records,
			  int index)
{
	uint64_t id;

	memcpy(&id, records + index * s->vcpus.record_size, sizeof(id));
	return id;
}

/* Of each vCPU what its own file has, byte by byte. */
static void check_records(const struct stats_file *s, struct kvm_vm *vm,
			  const uint8_t *records)
{
	uint8_t *own_values = malloc(values_size(s));
	const struct kvm_stats_desc *desc = stats_need(s, EXIT_STAT);
	uint64_t exits;
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		const uint8_t *values = records + i * s->vcpus.record_size +
					s->vcpus.values_offset;
		struct stats_file own;

		TEST_ASSERT_EQ(record_id(s, records, i), vcpu_ids[i]);
		stats_open(&own, stats_get_fd(stats_vcpu_fd(vm, vcpu_ids[i])));
		stats_pread(own.fd, own_values, values_size(s),
			    own.header.data_offset);
		TEST_ASSERT(!memcmp(values, own_values, values_size(s)),
			    "record %d is not what vCPU %u has", i, vcpu_ids[i]);
		memcpy(&exits, values + desc->offset, sizeof(exits));
		TEST_ASSERT_EQ(exits, nr_exits[i]);
		stats_close(&own);
	}
	free(own_values);
}

/* By the way that is short for all records, and by the one that is not. */
TEST(values)
{
	struct stats_file s;
	struct kvm_vm *vm = setup_vcpus(&s);
	size_t size = NR_VCPUS * s.vcpus.record_size;
	uint8_t *records = malloc(size + 64);
	struct iovec iov[] = { { records, 5 }, { records + 5, size + 59 } };

	memset(records, UNTOUCHED, size + 64);
	stats_pread(s.fd, records, size, s.header.data_offset);
	check_records(&s, vm, records);
	TEST_ASSERT(records[size] == UNTOUCHED, "it wrote more than it said");

	memset(records, UNTOUCHED, size + 64);
	TEST_ASSERT_EQ(pread(s.fd, records, size + 64, s.header.data_offset),
		       size);
	check_records(&s, vm, records);
	TEST_ASSERT(records[size] == UNTOUCHED, "it wrote more than it said");

	memset(records, UNTOUCHED, size + 64);
	TEST_ASSERT_EQ(preadv(s.fd, iov, 2, s.header.data_offset), size);
	check_records(&s, vm, records);
	TEST_ASSERT(records[size] == UNTOUCHED, "it wrote more than it said");

	check_records(&s, vm, s.image + s.header.data_offset);
	free(records);
}

/* The values remain when the VMM has closed all that it had. */
TEST(values_after_vm)
{
	struct stats_file s;
	struct kvm_vm *vm = setup_vcpus(&s);
	uint8_t *now = malloc(s.size);

	kvm_vm_free(vm);
	stats_pread(s.fd, now, s.size, 0);
	TEST_ASSERT(!memcmp(now, s.image, s.size), "they have changed");
	free(now);
}

/*
 * Nothing changes while no vCPU runs, so that each read is a piece of the whole
 * file, wherever it begins and ends: in the header, the schema or any record.
 */
static void check_piece(const struct stats_file *s, uint8_t *buf, size_t pos,
			size_t len)
{
	size_t expected = len < s->size - pos ? len : s->size - pos;
	ssize_t got;

	buf[expected] = UNTOUCHED;
	got = pread(s->fd, buf, len, pos);
	TEST_ASSERT(got == (ssize_t)expected,
		    "pread of %zu bytes at %zu of %zu returned %zd", len, pos,
		    s->size, got);
	TEST_ASSERT(!memcmp(buf, s->image + pos, expected),
		    "pread of %zu bytes at %zu differs", len, pos);
	TEST_ASSERT(buf[expected] == UNTOUCHED,
		    "pread of %zu bytes at %zu wrote more", len, pos);
}

TEST(pieces)
{
	struct stats_file s;
	uint8_t *buf;
	size_t pos;

	setup_vcpus(&s);
	buf = malloc(s.size + 1);
	for (pos = 0; pos < s.size; pos++) {
		check_piece(&s, buf, pos, 1);
		check_piece(&s, buf, pos, 9);
		check_piece(&s, buf, pos, s.vcpus.record_size);
		check_piece(&s, buf, pos, s.size);
	}
	/* All lengths from the first record on. */
	pos = s.header.data_offset;
	for (; pos <= s.size; pos++)
		check_piece(&s, buf, s.header.data_offset,
			    pos - s.header.data_offset);
	free(buf);
}

/* What a copy that faults may leave undone of what would have fitted. */
#ifdef __x86_64__
#define COPY_GRANULE	1
#else
#define COPY_GRANULE	64
#endif

/* A read of all records ends where the buffer does, and says so. */
TEST(partly_bad_buffer)
{
	size_t page = sysconf(_SC_PAGESIZE), size, good;
	struct stats_file s;
	uint8_t *map, *edge;
	ssize_t got;

	setup_vcpus(&s);
	size = s.size - s.header.data_offset;
	map = mmap(NULL, 3 * page + size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(map != MAP_FAILED, "mmap");
	edge = map + (size + page - 1) / page * page;
	TEST_ASSERT(!mprotect(edge, page, PROT_NONE), "mprotect");
	TEST_ASSERT(pread(s.fd, edge, size, s.header.data_offset) == -1 &&
		    errno == EFAULT, "not a byte of the buffer is there");
	for (good = COPY_GRANULE; good < size; good += 7) {
		memset(edge - good, UNTOUCHED, good);
		got = pread(s.fd, edge - good, size, s.header.data_offset);
		TEST_ASSERT(got <= (ssize_t)good &&
			    (ssize_t)good - got < COPY_GRANULE,
			    "a read with %zu good bytes returned %zd", good,
			    got);
		TEST_ASSERT(!memcmp(edge - good,
				    s.image + s.header.data_offset, got),
			    "a read with %zu good bytes differs", good);
	}
}

/* ---- vCPUs that are created ---- */

/* The largest id, and the other order; no index would be in place of the id. */
TEST(created_sparse)
{
	struct kvm_vm *vm = vm_create(VM_MODE_DEFAULT, DEFAULT_GUEST_PHY_PAGES,
				      O_RDWR);
	uint32_t ids[] = { kvm_check_cap(KVM_CAP_MAX_VCPUS) - 1, 5, 0 };
	struct stats_file s;
	int i;

#if defined(__x86_64__) || defined(__i386__)
	/* Elsewhere what is allowed beyond depends on the machine. */
	ids[0] = kvm_check_cap(KVM_CAP_MAX_VCPU_ID) - 1;
#endif
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		TEST_ASSERT(ioctl(vm_get_fd(vm), KVM_CREATE_VCPU, ids[i]) >= 0,
			    "vCPU %u", ids[i]);
	stats_open(&s, get_vcpus_fd(vm));
	TEST_ASSERT_EQ(s.size, record_pos(&s, ARRAY_SIZE(ids)));
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		TEST_ASSERT_EQ(record_id(&s, s.image + s.header.data_offset, i),
			       ids[i]);
}

/* One that cannot be created leaves no record, and no hole. */
TEST(created_not)
{
	struct kvm_vm *vm = stats_create_vm();
	struct stats_file s;

	TEST_ASSERT(ioctl(vm_get_fd(vm), KVM_CREATE_VCPU, STATS_VCPU_ID) == -1,
		    "KVM_CREATE_VCPU of one that exists");
	vm_vcpu_add(vm, 3);
	stats_open(&s, get_vcpus_fd(vm));
	TEST_ASSERT_EQ(s.size, record_pos(&s, 2));
	TEST_ASSERT_EQ(record_id(&s, s.image + s.header.data_offset, 0),
		       STATS_VCPU_ID);
	TEST_ASSERT_EQ(record_id(&s, s.image + s.header.data_offset, 1), 3);
}

/* The file's end moves, and what was there before does not. */
TEST(created_later)
{
	struct kvm_vm *vm = stats_create_vm();
	struct stats_file s;
	uint64_t id;

	stats_open(&s, get_vcpus_fd(vm));
	TEST_ASSERT_EQ(lseek(s.fd, 0, SEEK_END), s.size);
	TEST_ASSERT(lseek(s.fd, s.size + 1, SEEK_SET) == -1 && errno == EINVAL,
		    "lseek past the end");
	TEST_ASSERT(!read(s.fd, &id, sizeof(id)), "read at the end");

	vm_vcpu_add(vm, 3);
	stats_check_unchanged(&s, s.fd);
	TEST_ASSERT_EQ(read(s.fd, &id, sizeof(id)), sizeof(id));
	TEST_ASSERT_EQ(id, 3);
	TEST_ASSERT_EQ(lseek(s.fd, 0, SEEK_END), record_pos(&s, 2));
	stats_pread(s.fd, &id, sizeof(id), record_pos(&s, 0));
	TEST_ASSERT_EQ(id, STATS_VCPU_ID);
}

/* What readers look at while vCPUs are created. */
struct hot {
	struct stats_file s;
	int max;		/* vCPUs; vCPU i of them has the id max - 1 - i */
	int nr;			/* have been created */
	bool vectored;
};

/* Read all that there is; returns the number of records, which must be whole. */
static int read_hot(const struct hot *hot, uint8_t *buf)
{
	size_t size = (size_t)hot->max * hot->s.vcpus.record_size;
	struct iovec iov = { buf, size };
	off_t pos = hot->s.header.data_offset;
	ssize_t got;
	int i, nr;

	memset(buf, UNTOUCHED, size);
	got = hot->vectored ? preadv(hot->s.fd, &iov, 1, pos) :
			      pread(hot->s.fd, buf, size, pos);
	TEST_ASSERT(got >= 0 && got % hot->s.vcpus.record_size == 0,
		    "a read of all records returned %zd", got);
	nr = got / hot->s.vcpus.record_size;
	for (i = 0; i < nr; i++) {
		const uint64_t *record = (uint64_t *)
			(buf + i * hot->s.vcpus.record_size);
		size_t word = 1;

		TEST_ASSERT_EQ(record[0], hot->max - 1 - i);
		/* It has not run, and counted next to nothing. */
		for (; word < hot->s.vcpus.record_size / sizeof(*record); word++)
			TEST_ASSERT(record[word] < 1000, "record %d has %llx",
				    i, (unsigned long long)record[word]);
	}
	return nr;
}

static void *read_while_created(void *arg)
{
	const struct hot *hot = arg;
	uint8_t *buf = malloc((size_t)hot->max * hot->s.vcpus.record_size);
	int before, nr = 0;

	TEST_ASSERT(buf, "out of memory");
	while (nr < hot->max) {
		int created = __atomic_load_n(&hot->nr, __ATOMIC_ACQUIRE);

		before = nr;
		nr = read_hot(hot, buf);
		TEST_ASSERT(nr >= before, "%d records after %d", nr, before);
		TEST_ASSERT(nr >= created, "%d records of %d vCPUs", nr,
			    created);
	}
	free(buf);
	return NULL;
}

/* In turns the way that is short for all records, and the one that is not. */
TEST(created_while_read)
{
	struct hot hot[2];
	pthread_t threads[2];
	struct kvm_vm *vm = vm_create(VM_MODE_DEFAULT, DEFAULT_GUEST_PHY_PAGES,
				      O_RDWR);
	int i, j, max = kvm_check_cap(KVM_CAP_MAX_VCPUS);

	if (max > 64)
		max = 64;
	for (i = 0; i < ARRAY_SIZE(hot); i++) {
		memset(&hot[i], 0, sizeof(hot[i]));
		stats_open(&hot[i].s, get_vcpus_fd(vm));
		hot[i].max = max;
		hot[i].vectored = i;
		TEST_ASSERT(!pthread_create(&threads[i], NULL,
					    read_while_created, &hot[i]),
			    "pthread_create");
	}
	for (i = 0; i < max; i++) {
		TEST_ASSERT(ioctl(vm_get_fd(vm), KVM_CREATE_VCPU,
				  max - 1 - i) >= 0, "vCPU %d of %d", i, max);
		for (j = 0; j < ARRAY_SIZE(hot); j++)
			__atomic_store_n(&hot[j].nr, i + 1, __ATOMIC_RELEASE);
		usleep(1000);
	}
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_VCPUS_STATS_FD)
