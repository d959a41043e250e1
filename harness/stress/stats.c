// SPDX-License-Identifier: GPL-2.0-only
/* The model of a statistics file: what every reader of it must see. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../../userspace/lib/uapi.h"
#include "stress.h"

struct stats_schema vm_schema, vcpu_schema;

/*
 * More than one thread counts these, without a lock, as KVM always did: an
 * update can be lost, and a value then go back by what was lost.
 */
static const char * const counted_by_many[] = {
	"remote_tlb_flush", "remote_tlb_flush_requests", "halt_wakeup",
};

static enum stats_kind kind_of(const struct kvm_stats_desc *desc)
{
	for (size_t i = 0; i < ARRAY_SIZE(counted_by_many); i++)
		if (!strcmp(desc->name, counted_by_many[i]))
			return STATS_ANY;
	if ((desc->flags & KVM_STATS_UNIT_MASK) == KVM_STATS_UNIT_BOOLEAN)
		return STATS_BOOLEAN;
	if ((desc->flags & KVM_STATS_TYPE_MASK) == KVM_STATS_TYPE_INSTANT)
		return STATS_ANY;
	return STATS_GROWS;
}

static void learn_values(struct stats_schema *schema)
{
	const struct kvm_stats_header *header = &schema->header;
	const size_t desc_bytes = sizeof(struct kvm_stats_desc) +
				  header->name_size;

	for (uint32_t i = 0; i < header->num_desc; i++) {
		const struct kvm_stats_desc *desc = (const void *)
			(schema->fixed + header->desc_offset + i * desc_bytes);

		for (unsigned int j = 0; j < desc->size; j++) {
			unsigned int word = desc->offset / 8 + j;

			CHECK(word < schema->nr_words && desc->offset % 8 == 0,
			      "%s is outside of the data", desc->name);
			schema->kinds[word] = kind_of(desc);
			schema->names[word] = desc->name;
		}
	}
}

/* The file's size is known by reading to its end. */
static void learn_schema(struct stats_schema *schema, int fd)
{
	static unsigned char bytes[65536];
	struct kvm_stats_header *header = &schema->header;
	ssize_t got = pread(fd, bytes, sizeof(bytes), 0);

	CHECK(got > (ssize_t)sizeof(*header), "pread: %zd", got);
	memcpy(header, bytes, sizeof(*header));
	schema->size = got;
	schema->data_offset = header->data_offset;
	schema->nr_words = (got - header->data_offset) / 8;
	CHECK(schema->data_offset < schema->size && schema->size % 8 == 0 &&
	      schema->nr_words <= MAX_WORDS && header->name_size == ID_BYTES,
	      "the header is odd");
	schema->fixed = malloc(schema->data_offset);
	CHECK(schema->fixed, "out of memory");
	memcpy(schema->fixed, bytes, schema->data_offset);
	memset(schema->fixed + header->id_offset, 0, ID_BYTES);
	learn_values(schema);
}

void learn_schemas(void)
{
	int vm_fd = create_vm(), vcpu_fd = create_vcpu(vm_fd, 0);
	int vm_stats_fd = get_stats_fd(vm_fd);
	int vcpu_stats_fd = get_stats_fd(vcpu_fd);

	learn_schema(&vm_schema, vm_stats_fd);
	learn_schema(&vcpu_schema, vcpu_stats_fd);
	close(vm_stats_fd);
	close(vcpu_stats_fd);
	close(vcpu_fd);
	close(vm_fd);
}

static void check_id(const char *id, const char *vm_id, int vcpu_id)
{
	char want[ID_BYTES + 16];

	if (!vm_id)
		return;
	if (vcpu_id < 0)
		snprintf(want, sizeof(want), "%s", vm_id);
	else
		snprintf(want, sizeof(want), "%s/vcpu-%d", vm_id, vcpu_id);
	CHECK(!strcmp(id, want), "the id is %.48s, not %s", id, want);
}

void stats_ref_init(struct stats_ref *ref, int fd, const char *vm_id,
		    int vcpu_id)
{
	ref->schema = vcpu_id < 0 ? &vm_schema : &vcpu_schema;
	memset(ref->last, 0, sizeof(ref->last));
	memset(ref->id, 0, ID_BYTES);
	CHECK(pread(fd, ref->id, ID_BYTES, ref->schema->header.id_offset) ==
	      ID_BYTES, "the id: %s", strerror(errno));
	CHECK(memchr(ref->id, 0, ID_BYTES), "the id has no end");
	check_id(ref->id, vm_id, vcpu_id);
	stats_read_all(ref, fd);
}

static void check_word(struct stats_ref *ref, unsigned int word, uint64_t value)
{
	const struct stats_schema *schema = ref->schema;

	if (schema->kinds[word] == STATS_BOOLEAN)
		CHECK(value < 2, "%s is %llu", schema->names[word],
		      (unsigned long long)value);
	if (schema->kinds[word] == STATS_GROWS)
		CHECK(value >= ref->last[word], "%s went from %llu to %llu",
		      schema->names[word], (unsigned long long)ref->last[word],
		      (unsigned long long)value);
	ref->last[word] = value;
}

/* The words that are there as a whole. */
static void check_words(struct stats_ref *ref, uint64_t offset,
			const unsigned char *bytes, size_t size_bytes)
{
	uint64_t at = (offset + 7) / 8 * 8, end = offset + size_bytes, value;

	if (at < ref->schema->data_offset)
		at = ref->schema->data_offset;
	for (; at + 8 <= end; at += 8) {
		memcpy(&value, bytes + (at - offset), 8);
		check_word(ref, (at - ref->schema->data_offset) / 8, value);
	}
}

/* What comes before the data, from @offset on. */
static void expected_bytes(const struct stats_ref *ref, uint64_t offset,
			   unsigned char *bytes, size_t size_bytes)
{
	const uint64_t id_offset = ref->schema->header.id_offset;

	memcpy(bytes, ref->schema->fixed + offset, size_bytes);
	for (size_t i = 0; i < size_bytes; i++)
		if (offset + i >= id_offset && offset + i < id_offset + ID_BYTES)
			bytes[i] = ref->id[offset + i - id_offset];
		else if (offset + i >= id_offset + ID_BYTES)
			break;
}

void stats_check(struct stats_ref *ref, uint64_t offset,
		 const unsigned char *bytes, size_t size_bytes, bool values)
{
	const uint64_t data_offset = ref->schema->data_offset;
	unsigned char want[8192];
	size_t size = 0, i;

	if (offset < data_offset)
		size = data_offset - offset;
	if (size > size_bytes)
		size = size_bytes;
	CHECK(size <= sizeof(want), "%zu bytes before the data", size);
	expected_bytes(ref, offset, want, size);
	if (memcmp(bytes, want, size)) {
		for (i = 0; bytes[i] == want[i]; i++)
			;
		FAIL("byte %llu of %.48s is %#x, not %#x",
		     (unsigned long long)(offset + i), ref->id, bytes[i],
		     want[i]);
	}
	if (values)
		check_words(ref, offset, bytes, size_bytes);
}

void stats_read_all(struct stats_ref *ref, int fd)
{
	_Alignas(8) unsigned char bytes[MAX_WORDS * 8 + 8192];
	ssize_t got = pread(fd, bytes, sizeof(bytes), 0);

	CHECK(got == (ssize_t)ref->schema->size, "%s: read %zd bytes of %llu",
	      ref->id, got, (unsigned long long)ref->schema->size);
	stats_check(ref, 0, bytes, got, true);
}

/* Its header is larger than a vCPU's, all else is the same. */
uint64_t stats_records_offset(void)
{
	return vcpu_schema.data_offset + sizeof(struct uapi_vcpus_header) -
	       sizeof(struct kvm_stats_header);
}

/* As last read. */
uint64_t stats_value(const struct stats_ref *ref, const char *name)
{
	for (unsigned int i = 0; i < ref->schema->nr_words; i++)
		if (!strcmp(ref->schema->names[i], name))
			return ref->last[i];
	FAIL("no statistic is named %s", name);
}
