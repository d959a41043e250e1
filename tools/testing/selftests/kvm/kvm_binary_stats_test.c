// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_binary_stats_test
 *
 * What a statistics file says about itself: header, id, descriptors, names.
 * The values are only looked at where a descriptor restricts them.
 *
 * Usage: kvm_binary_stats_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

#include "kvm_stats_util.h"

#define MANY_VCPUS	288

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

	blocks[0] = (struct block){ "header", 0, sizeof(*h) };
	blocks[1] = (struct block){ "id", h->id_offset,
				    (uint64_t)h->id_offset + h->name_size };
	blocks[2] = (struct block){ "descriptors", h->desc_offset,
				    h->desc_offset +
				    (uint64_t)h->num_desc * s->desc_size };
	blocks[3] = (struct block){ "data", h->data_offset,
				    h->data_offset + data_size(s) };
}

static void test_capability(enum stats_scope scope)
{
	struct kvm_vm *vm = stats_create_vm();
	int ret;

	ret = ioctl(vm_get_fd(vm), KVM_CHECK_EXTENSION,
		    KVM_CAP_BINARY_STATS_FD);
	STATS_CHECK(ret == 1, "KVM_CHECK_EXTENSION on the VM returned %d", ret);
}

static void test_header(enum stats_scope scope)
{
	struct kvm_stats_header *h;
	struct stats_file s;

	stats_setup(&s, scope);
	h = &s.header;
	STATS_CHECK(!h->flags, "flags are %#x, none is defined", h->flags);
	STATS_CHECK(h->num_desc, "there is no descriptor");
	/* Else every other descriptor of the array would be misaligned. */
	STATS_CHECK(h->name_size && h->name_size % sizeof(uint64_t) == 0,
		    "name_size is %u", h->name_size);
}

static void test_blocks_aligned(enum stats_scope scope)
{
	struct block blocks[4];
	struct stats_file s;
	int i;

	stats_setup(&s, scope);
	get_blocks(&s, blocks);
	for (i = 0; i < 4; i++)
		STATS_CHECK(blocks[i].start % sizeof(uint64_t) == 0,
			    "%s starts at %llu", blocks[i].name,
			    (unsigned long long)blocks[i].start);
}

static void check_disjoint(const struct block *a, const struct block *b)
{
	STATS_CHECK(a->end <= b->start || b->end <= a->start,
		    "%s %llu-%llu and %s %llu-%llu overlap",
		    a->name, (unsigned long long)a->start,
		    (unsigned long long)a->end,
		    b->name, (unsigned long long)b->start,
		    (unsigned long long)b->end);
}

static void test_blocks_disjoint(enum stats_scope scope)
{
	struct block blocks[4];
	struct stats_file s;
	int i, j;

	stats_setup(&s, scope);
	get_blocks(&s, blocks);
	for (i = 0; i < 4; i++)
		for (j = 0; j < i; j++)
			check_disjoint(&blocks[i], &blocks[j]);
}

static void test_blocks_inside_file(enum stats_scope scope)
{
	struct block blocks[4];
	uint64_t end = 0;
	struct stats_file s;
	int i;

	stats_setup(&s, scope);
	get_blocks(&s, blocks);
	for (i = 0; i < 4; i++)
		if (blocks[i].end > end)
			end = blocks[i].end;
	STATS_CHECK(end == s.size, "the blocks end at %llu, the file at %zu",
		    (unsigned long long)end, s.size);
}

static void test_id(enum stats_scope scope)
{
	struct stats_file s;
	uint32_t i;

	stats_setup(&s, scope);
	stats_check_id(&s, getpid(), scope == STATS_VM ? -1 : STATS_VCPU_ID);
	for (i = strlen(stats_id(&s)); i < s.header.name_size; i++)
		STATS_CHECK(!stats_id(&s)[i],
			    "byte %u, after the end of the id, is %#x",
			    i, stats_id(&s)[i]);
}

static void *add_vcpu(void *vm)
{
	vm_vcpu_add(vm, STATS_VCPU_ID);
	return NULL;
}

/* A VMM may create each vCPU in its own thread; they are all of this VM. */
static void test_id_of_thread(enum stats_scope scope)
{
	struct kvm_vm *vm;
	struct stats_file s;
	pthread_t thread;

	vm = vm_create(VM_MODE_DEFAULT, DEFAULT_GUEST_PHY_PAGES, O_RDWR);
	STATS_CHECK(!pthread_create(&thread, NULL, add_vcpu, vm) &&
		    !pthread_join(thread, NULL), "pthread_create");
	stats_open(&s, stats_get_fd(stats_vcpu_fd(vm, STATS_VCPU_ID)));
	stats_check_id(&s, getpid(), STATS_VCPU_ID);
}

static void check_name(const struct stats_file *s, uint32_t index)
{
	const char *name = stats_desc(s, index)->name;
	size_t len = strnlen(name, s->header.name_size);
	size_t i;

	STATS_CHECK(len && len < s->header.name_size,
		    "the name of descriptor %u has %zu bytes", index, len);
	for (i = 0; i < len; i++)
		STATS_CHECK(isgraph((unsigned char)name[i]),
			    "'%s' has a byte %#x", name, name[i]);
	/* What follows the name must not be memory of something else. */
	for (; i < s->header.name_size; i++)
		STATS_CHECK(!name[i], "'%s' is followed by %#x", name, name[i]);
}

static void test_names(enum stats_scope scope)
{
	struct stats_file s;
	uint32_t i;

	stats_setup(&s, scope);
	for (i = 0; i < s.header.num_desc; i++)
		check_name(&s, i);
}

static void test_names_unique(enum stats_scope scope)
{
	struct stats_file s;
	const char *name;
	uint32_t i;

	stats_setup(&s, scope);
	for (i = 0; i < s.header.num_desc; i++) {
		name = stats_desc(&s, i)->name;
		STATS_CHECK(stats_find(&s, name) == stats_desc(&s, i),
			    "'%s' is there twice", name);
	}
}

static void check_flags(const struct stats_file *s,
			const struct kvm_stats_desc *d)
{
	const uint32_t known = KVM_STATS_TYPE_MASK | KVM_STATS_UNIT_MASK |
			       KVM_STATS_BASE_MASK;

	STATS_CHECK(!(d->flags & ~known), "%s: unknown flags in %#x",
		    d->name, d->flags);
	STATS_CHECK((d->flags & KVM_STATS_TYPE_MASK) <= KVM_STATS_TYPE_MAX,
		    "%s: unknown type in flags %#x", d->name, d->flags);
	STATS_CHECK((d->flags & KVM_STATS_UNIT_MASK) <= KVM_STATS_UNIT_MAX,
		    "%s: unknown unit in flags %#x", d->name, d->flags);
	STATS_CHECK((d->flags & KVM_STATS_BASE_MASK) <= KVM_STATS_BASE_MAX,
		    "%s: unknown base in flags %#x", d->name, d->flags);
}

static void check_every_desc(enum stats_scope scope,
			     typeof(check_flags) *check)
{
	struct stats_file s;
	uint32_t i;

	stats_setup(&s, scope);
	for (i = 0; i < s.header.num_desc; i++)
		check(&s, stats_desc(&s, i));
}

static void test_flags(enum stats_scope scope)
{
	check_every_desc(scope, check_flags);
}

/* Seconds come in fractions, everything else in whole units. */
static void check_exponent(const struct stats_file *s,
			   const struct kvm_stats_desc *d)
{
	bool pow2 = (d->flags & KVM_STATS_BASE_MASK) == KVM_STATS_BASE_POW2;
	uint32_t unit = d->flags & KVM_STATS_UNIT_MASK;
	int limit = pow2 ? 63 : 18;

	if (unit == KVM_STATS_UNIT_SECONDS)
		STATS_CHECK(d->exponent <= 0 && d->exponent >= -limit,
			    "%s: seconds with exponent %d",
			    d->name, d->exponent);
	else
		STATS_CHECK(d->exponent >= 0 && d->exponent <= limit,
			    "%s: exponent %d in flags %#x",
			    d->name, d->exponent, d->flags);
}

static void test_exponents(enum stats_scope scope)
{
	check_every_desc(scope, check_exponent);
}

static void check_sizes(const struct stats_file *s,
			const struct kvm_stats_desc *d)
{
	switch (d->flags & KVM_STATS_TYPE_MASK) {
	case KVM_STATS_TYPE_LINEAR_HIST:
		STATS_CHECK(d->size >= 2 && d->bucket_size,
			    "%s: linear histogram, %u buckets of size %u",
			    d->name, d->size, d->bucket_size);
		break;
	case KVM_STATS_TYPE_LOG_HIST:
		/* One for 0, one for each bit of a value; no bucket size. */
		STATS_CHECK(d->size >= 2 && d->size <= 65 && !d->bucket_size,
			    "%s: log histogram, %u buckets, bucket size %u",
			    d->name, d->size, d->bucket_size);
		break;
	default:
		STATS_CHECK(d->size >= 1 && !d->bucket_size,
			    "%s: size %u, bucket size %u",
			    d->name, d->size, d->bucket_size);
	}
}

static void test_sizes(enum stats_scope scope)
{
	check_every_desc(scope, check_sizes);
}

static void check_boolean(const struct stats_file *s,
			  const struct kvm_stats_desc *d)
{
	uint32_t type = d->flags & KVM_STATS_TYPE_MASK;
	uint64_t value;

	if ((d->flags & KVM_STATS_UNIT_MASK) != KVM_STATS_UNIT_BOOLEAN)
		return;
	STATS_CHECK(!d->exponent, "%s: exponent %d", d->name, d->exponent);
	STATS_CHECK(type != KVM_STATS_TYPE_LOG_HIST, "%s: log histogram",
		    d->name);
	if (type == KVM_STATS_TYPE_LINEAR_HIST) {
		STATS_CHECK(d->size == 2, "%s: %u buckets", d->name, d->size);
		return;
	}
	value = stats_value(s, d->name);
	STATS_CHECK(value <= 1, "%s is %llu", d->name,
		    (unsigned long long)value);
}

static void test_booleans(enum stats_scope scope)
{
	check_every_desc(scope, check_boolean);
}

static void check_desc_disjoint(const struct kvm_stats_desc *a,
				const struct kvm_stats_desc *b)
{
	uint64_t a_end = a->offset + a->size * sizeof(uint64_t);
	uint64_t b_end = b->offset + b->size * sizeof(uint64_t);

	STATS_CHECK(a_end <= b->offset || b_end <= a->offset,
		    "%s at %u and %s at %u share data",
		    a->name, a->offset, b->name, b->offset);
}

static void test_offsets(enum stats_scope scope)
{
	const struct kvm_stats_desc *d;
	struct stats_file s;
	uint32_t i, j;

	stats_setup(&s, scope);
	for (i = 0; i < s.header.num_desc; i++) {
		d = stats_desc(&s, i);
		STATS_CHECK(d->offset % sizeof(uint64_t) == 0,
			    "%s: data at offset %u", d->name, d->offset);
		for (j = 0; j < i; j++)
			check_desc_disjoint(d, stats_desc(&s, j));
	}
}

static void check_readable(const struct stats_file *s,
			   const struct kvm_stats_desc *d)
{
	static uint64_t values[UINT16_MAX];

	stats_read(s, d, values);
}

static void test_values_readable(enum stats_scope scope)
{
	check_every_desc(scope, check_readable);
}

/* Readers keep one table of descriptors for all VMs and all vCPUs. */
static void test_same_table(enum stats_scope scope)
{
	struct stats_file a, b;

	stats_setup(&a, scope);
	stats_setup(&b, scope);
	STATS_CHECK(!memcmp(&a.header, &b.header, sizeof(a.header)),
		    "two VMs differ in their header");
	STATS_CHECK(!memcmp(stats_desc(&a, 0), stats_desc(&b, 0),
			    a.header.num_desc * a.desc_size),
		    "two VMs differ in their descriptors");
}

/* The statistics that common code counts on every architecture. */
struct known_stat {
	const char *name;
	uint32_t flags;
	int exponent;
	bool histogram;
};

#define COUNTER	(KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE)
#define TIME	(KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_SECONDS)
#define HIST	(KVM_STATS_TYPE_LOG_HIST | KVM_STATS_UNIT_SECONDS)
#define BOOLEAN	(KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BOOLEAN)

static const struct known_stat vm_known[] = {
	{ "remote_tlb_flush",		COUNTER },
};

static const struct known_stat vcpu_known[] = {
	{ "halt_successful_poll",	COUNTER },
	{ "halt_attempted_poll",	COUNTER },
	{ "halt_poll_invalid",		COUNTER },
	{ "halt_wakeup",		COUNTER },
	{ "halt_poll_success_ns",	TIME,		-9 },
	{ "halt_poll_fail_ns",		TIME,		-9 },
	{ "halt_wait_ns",		TIME,		-9 },
	{ "halt_poll_success_hist",	HIST,		-9,	true },
	{ "halt_poll_fail_hist",	HIST,		-9,	true },
	{ "halt_wait_hist",		HIST,		-9,	true },
	{ "blocking",			BOOLEAN },
};

static void check_known(const struct stats_file *s, const struct known_stat *k)
{
	const struct kvm_stats_desc *d = stats_need(s, k->name);

	STATS_CHECK(d->flags == (k->flags | KVM_STATS_BASE_POW10),
		    "%s: flags %#x, expected %#x", k->name, d->flags, k->flags);
	STATS_CHECK(d->exponent == k->exponent, "%s: exponent %d, expected %d",
		    k->name, d->exponent, k->exponent);
	STATS_CHECK(k->histogram ? d->size > 1 : d->size == 1,
		    "%s: %u values", k->name, d->size);
}

static void test_known(enum stats_scope scope)
{
	const struct known_stat *k = scope == STATS_VM ? vm_known : vcpu_known;
	size_t nr = scope == STATS_VM ? ARRAY_SIZE(vm_known) :
					ARRAY_SIZE(vcpu_known);
	struct stats_file s;
	size_t i;

	stats_setup(&s, scope);
	for (i = 0; i < nr; i++)
		check_known(&s, &k[i]);
}

static void want_fds(rlim_t nr)
{
	struct rlimit limit;

	STATS_CHECK(!getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
	if (limit.rlim_cur >= nr)
		return;
	limit.rlim_cur = nr;
	if (limit.rlim_max < nr)
		limit.rlim_max = nr;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		stats_skip("RLIMIT_NOFILE cannot be %llu: %s",
			   (unsigned long long)nr, strerror(errno));
}

/* Each vCPU's file carries the id of that vCPU, whichever is created when. */
static void test_many_vcpus(enum stats_scope scope)
{
	int max = kvm_check_cap(KVM_CAP_MAX_VCPUS);
	int i, nr = max < MANY_VCPUS ? max : MANY_VCPUS;
	struct stats_file *files = calloc(nr, sizeof(*files));
	struct kvm_vm *vm;

	STATS_CHECK(files, "out of memory");
	want_fds(2 * nr + 64);
	vm = vm_create(VM_MODE_DEFAULT, DEFAULT_GUEST_PHY_PAGES, O_RDWR);
	for (i = 0; i < nr; i++) {
		vm_vcpu_add(vm, i);
		stats_open(&files[i], stats_get_fd(stats_vcpu_fd(vm, i)));
	}
	for (i = 0; i < nr; i++) {
		stats_check_id(&files[i], getpid(), i);
		stats_check_unchanged(&files[i], files[i].fd);
	}
}

static const struct stats_case cases[] = {
	{ "capability",		test_capability },
	{ "header",		test_header,		STATS_BOTH },
	{ "blocks_aligned",	test_blocks_aligned,	STATS_BOTH },
	{ "blocks_disjoint",	test_blocks_disjoint,	STATS_BOTH },
	{ "blocks_inside_file",	test_blocks_inside_file, STATS_BOTH },
	{ "id",			test_id,		STATS_BOTH },
	{ "id_of_thread",	test_id_of_thread },
	{ "names",		test_names,		STATS_BOTH },
	{ "names_unique",	test_names_unique,	STATS_BOTH },
	{ "flags",		test_flags,		STATS_BOTH },
	{ "exponents",		test_exponents,		STATS_BOTH },
	{ "sizes",		test_sizes,		STATS_BOTH },
	{ "booleans",		test_booleans,		STATS_BOTH },
	{ "offsets",		test_offsets,		STATS_BOTH },
	{ "values_readable",	test_values_readable,	STATS_BOTH },
	{ "same_table",		test_same_table,	STATS_BOTH },
	{ "known",		test_known,		STATS_BOTH },
	{ "many_vcpus",		test_many_vcpus,	STATS_NO_SCOPE, 300 },
};

int main(int argc, char *argv[])
{
	return stats_run_cases(cases, ARRAY_SIZE(cases), argv[1]);
}
