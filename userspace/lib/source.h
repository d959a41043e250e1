/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a source is: for source.c, and for vcpus.c, which has some of its own. */
#ifndef KVMSTATS_LIB_SOURCE_H
#define KVMSTATS_LIB_SOURCE_H

#include "published.h"

/* What only some have: those of devices, of all vCPUs, of images and directories. */
struct source_more {
	/*
	 * All vCPUs of a VM have records, one for each, in one file. One of them
	 * has the record @index of the file of @all, which lives as long as it.
	 */
	uint32_t index;
	struct records records;
	struct kvmstats_source *all;
	struct published_name *name;	/* NULL: no device's */
	const unsigned char *image;	/* NULL: read the descriptor */
	size_t image_bytes;
	DIR *directory;			/* in debugfs; NULL: none */
};

/* Of all others: nothing. Nobody writes to it. */
extern struct source_more source_nothing_more;

struct kvmstats_source {
	/* A fleet has tens of thousands of sources: mind the holes. */
	int fd;				/* -1: an image, or one vCPU of all */
	int vcpu;			/* -1: none */
	atomic_uint refs;		/* the caller's, and one of each vCPU */
	bool published;			/* by a program, not by the kernel */
	bool mapped;			/* the image is the file's memory */
	atomic_bool never_waits;
	struct source_more *more;	/* never NULL */
	char *id;
	struct kvmstats_schema *schema;
};

/* With one reference; without memory NULL. */
struct kvmstats_source *source_new(int fd, int vcpu, bool has_more);

static inline bool source_has_records(const struct kvmstats_source *source)
{
	return source->more->records.words && !source->more->all;
}

/* In the file of @all, from its beginning. */
static inline uint64_t record_offset(const struct kvmstats_source *all,
				     size_t index)
{
	return all->schema->header.data_offset +
	       (uint64_t)index * all->more->records.words * 8;
}

/* What is read of the file, or is in the image: bytes, or -errno. */
ssize_t source_pread(const struct kvmstats_source *source, void *buffer,
		     size_t size_bytes, uint64_t offset);
/*
 * vcpus.c: the end of the last record that there is now, in bytes; and, as
 * kvmstats_source_image, that of the file that a vCPU would have of its own.
 */
uint64_t vcpus_end(const struct kvmstats_source *all);
int64_t vcpu_image(const struct kvmstats_source *source, void *image,
		   size_t size_bytes);

#endif /* KVMSTATS_LIB_SOURCE_H */
