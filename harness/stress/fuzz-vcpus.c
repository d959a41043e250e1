// SPDX-License-Identifier: GPL-2.0-only
/*
 * The file that has all vCPUs of a VM, against the files that have one each. The vCPUs
 * never run, so that every byte is known.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../../userspace/lib/uapi.h"
#include "fuzz.h"

#define MAX_BYTES	65536
#define BEYOND		64	/* the end of the file, or of what is read */
#define FILLER		0xa5

static size_t append(unsigned char *image, size_t size, const void *from,
		     size_t count)
{
	CHECK(size + count + BEYOND <= MAX_BYTES, "the file is too large");
	memcpy(image + size, from, count);
	return size + count;
}

static size_t append_record(unsigned char *image, size_t size, int vcpu_fd,
			    uint64_t id)
{
	const size_t bytes = vcpu_schema.size - vcpu_schema.data_offset;
	uint64_t values[MAX_WORDS];
	int fd = get_stats_fd(vcpu_fd);

	CHECK(pread(fd, values, bytes, vcpu_schema.data_offset) ==
	      (ssize_t)bytes, "a vCPU's values");
	close(fd);
	size = append(image, size, &id, sizeof(id));
	return append(image, size, values, bytes);
}

/* All that must be in it; its size is returned. */
static size_t make_image(const struct box *box, unsigned char *image)
{
	const size_t desc_bytes = vcpu_schema.data_offset -
				  vcpu_schema.header.desc_offset;
	const struct uapi_vcpus_header header = {
		.header = {
			.flags = UAPI_FLAG_VCPUS,
			.name_size = vcpu_schema.header.name_size,
			.id_offset = sizeof(header),
			.desc_offset = sizeof(header) + ID_BYTES,
			.data_offset = stats_records_offset(),
		},
		.num_desc = vcpu_schema.header.num_desc,
		.record_size = sizeof(uint64_t) + vcpu_schema.size -
			       vcpu_schema.data_offset,
		.values_offset = sizeof(uint64_t),
	};
	size_t size = append(image, 0, &header, sizeof(header));
	unsigned int i;

	size = append(image, size, box->id, ID_BYTES);
	size = append(image, size, vcpu_schema.fixed +
		      vcpu_schema.header.desc_offset, desc_bytes);
	for (i = 0; i < box->nr_vcpus; i++) {
		unsigned int nr = wrong == WRONG_ORDER ?
				  box->nr_vcpus - 1 - i : i;

		size = append_record(image, size, box->vcpu_fds[nr],
				     box->vcpu_ids[nr]);
	}
	return size;
}

/* Whole, from where the records begin, or anything. */
static void choose_range(struct worker *w, size_t size, size_t *offset,
			 size_t *count)
{
	*offset = rng_below(&w->rng, size + BEYOND);
	*count = rng_below(&w->rng, size + BEYOND);
	if (one_in(&w->rng, 3))
		*offset = stats_records_offset();
	if (one_in(&w->rng, 3))
		*count = *offset < size ? size - *offset : BEYOND;
	if (one_in(&w->rng, 6))
		*offset = 0;
}

/* In one piece, or in two. */
static ssize_t read_range(struct worker *w, int fd, unsigned char *bytes,
			  size_t offset, size_t count)
{
	const size_t first = rng_below(&w->rng, count + 1);
	struct iovec iov[2] = {
		{ bytes, first }, { bytes + first, count - first },
	};

	if (one_in(&w->rng, 2))
		return pread(fd, bytes, count, offset);
	return preadv(fd, iov, 2, offset);
}

static void check_range(struct worker *w, int fd, const unsigned char *image,
			size_t size)
{
	static __thread unsigned char bytes[MAX_BYTES + BEYOND];
	size_t offset, count, want = 0, i;
	ssize_t got;

	choose_range(w, size, &offset, &count);
	memset(bytes, FILLER, sizeof(bytes));
	got = read_range(w, fd, bytes, offset, count);
	if (offset < size)
		want = count < size - offset ? count : size - offset;
	CHECK(got == (ssize_t)want, "%zu bytes at %zu of %zu gave %zd (%s)",
	      count, offset, size, got, got < 0 ? strerror(errno) : "bytes");
	for (i = 0; i < want; i++)
		CHECK(bytes[i] == image[offset + i],
		      "byte %zu of all vCPUs is %#x, not %#x", offset + i,
		      bytes[i], image[offset + i]);
	for (; i < count; i++)
		CHECK(bytes[i] == FILLER, "byte %zu behind the end was changed",
		      i - want);
}

/* It stays open while vCPUs are added, or only for once. */
void do_vcpus(struct worker *w)
{
	static __thread unsigned char image[MAX_BYTES];
	struct box *box = &w->boxes[rng_below(&w->rng, NR_VMS)];
	size_t size;
	int fd;

	if (box->vm_fd < 0 || !own_kernel)
		return;
	if (!box->all_fd) {
		box->all_fd = ioctl(box->vm_fd, UAPI_GET_VCPUS_STATS_FD,
				    rng_next(&w->rng));
		CHECK(box->all_fd > 0, "KVM_GET_VCPUS_STATS_FD: %s",
		      strerror(errno));
	}
	fd = box->all_fd;
	size = make_image(box, image);
	check_range(w, fd, image, size);
	CHECK(lseek(fd, 0, SEEK_END) == (off_t)size, "its end is not at %zu",
	      size);
	if (box->nr_vcpus)
		CHECK(ioctl(box->vcpu_fds[0], UAPI_GET_VCPUS_STATS_FD, 0) < 0 &&
		      errno == EINVAL, "KVM_GET_VCPUS_STATS_FD of a vCPU: %s",
		      strerror(errno));
	if (one_in(&w->rng, 4)) {
		close(fd);
		box->all_fd = 0;
	}
}
