/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef KVMSTATS_LIB_INTERNAL_H
#define KVMSTATS_LIB_INTERNAL_H

/* What the public header names is exported; all else is hidden. */
#pragma GCC visibility push(default)
#include <kvmstats.h>
#pragma GCC visibility pop
#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "uapi.h"

struct kvmstats_desc {
	const char *name;	/* in the schema's copy of the descriptors */
	uint32_t flags;
	uint32_t bucket_size;
	uint32_t word;		/* first element, in elements of the sample */
	int16_t exponent;
	uint16_t size;		/* elements, never 0 */
};

/* Immutable once made, but for the count of references. */
struct kvmstats_schema {
	atomic_uint refs;
	struct kvmstats_schema *next;	/* in a cache, under its lock */
	bool published;			/* the same */
	struct uapi_header header;
	size_t words;
	unsigned char *raw;		/* descriptors, as read */
	struct kvmstats_desc *descs;
	uint32_t *by_name;		/* indices into descs, sorted */
};

/* Where one vCPU after the other has its values, in elements. */
struct records {
	uint32_t words;		/* of each; 0: there is one list of values */
	uint32_t values_word;	/* in it; at 0 is the vCPU's number */
};

/* uapi.c: every byte that comes from a descriptor goes through these */
int header_from_uapi(const void *bytes, struct uapi_header *header);
/*
 * The longer header of all vCPUs in one. *@header is then as if there were one
 * list of values at data_offset, that of a vCPU, but for its flags.
 */
int vcpus_header_from_uapi(const void *bytes, struct uapi_header *header,
			   struct records *records);
/* Have the values that the schema describes room in a record? */
int check_records(const struct kvmstats_schema *schema,
		  const struct records *records);
int vcpu_from_uapi(uint64_t number);
int desc_from_uapi(const void *bytes, const struct uapi_header *header,
		   struct kvmstats_desc *desc);
int id_from_uapi(const void *bytes, const struct uapi_header *header,
		 char *id);
int schema_from_uapi(const struct uapi_header *header, const void *descs,
		     struct kvmstats_schema **schema);
size_t descs_size_bytes(const struct uapi_header *header);

/* publisher.c: all values of it, in the order of its schema */
_Atomic uint64_t *device_values(const struct kvmstats_device *device);

/* Of a logarithmic histogram, before the last bucket takes what is beyond. */
static inline unsigned int log_bucket(uint64_t value)
{
	return value ? 64 - __builtin_clzll(value) : 0;
}

/* source.c */
int scope_from_link(const char *link, int *vcpu);
/* Open what has passed the checks that need no read. */
int source_load(int fd, int vcpu, struct kvmstats_cache *cache,
		struct kvmstats_source **source);
/* The same of all vCPUs of a VM. */
int source_load_vcpus(int fd, struct kvmstats_cache *cache,
		      struct kvmstats_source **source);
/* As kvmstats_source_open, and as kvmstats_vcpus_open for what that refuses. */
int source_open_any(int fd, struct kvmstats_cache *cache,
		    struct kvmstats_source **source);

/* The pread that takes a sample. */
struct sample_pread {
	int fd;
	size_t size_bytes;
	uint64_t offset;
};

/* Only what never waits does io_uring read at once; changes the open file. */
void source_never_wait(const struct kvmstats_source *source);
/* The result of a read, taken at once. */
int source_sample_read(const struct kvmstats_read *read);
/* false: there is none to make, source_sample_read knows the result */
bool source_sample_pread(const struct kvmstats_read *read,
			 struct sample_pread *args);

/* The source reads the files of this directory, and closes it. */
void source_set_directory(struct kvmstats_source *source, DIR *directory);

/* debugfs.c */
#define DEBUGFS_ID "debugfs-"	/* begins the id of such a source */
int debugfs_sample(int dir_fd, const struct kvmstats_schema *schema,
		   uint64_t *sample);

/* schema.c */
void schema_index_names(struct kvmstats_schema *schema);

/*
 * cache.c: takes over the caller's reference, returns one. What a program has
 * @published is checked more strictly, and not kept when nobody has it any more.
 */
int cache_get(struct kvmstats_cache *cache, const struct uapi_header *header,
	      const void *descs, bool published, struct kvmstats_schema **schema);

/* uring.c: batches of at most RING_READS */
#define RING_READS	128

struct ring;

/* 0, or why there is no io_uring */
int ring_open(struct ring **ring);
int ring_sample(struct ring *ring, struct kvmstats_read *reads, size_t count);
void ring_close(struct ring *ring);

/* wire.c: messages of the transport */
#define WIRE_HEADER_BYTES	40
#define WIRE_MESSAGE_BYTES	(WIRE_HEADER_BYTES + 2 * KVMSTATS_MAX_VM_NAME)
/* A later version's longer header is read up to here. */
#define WIRE_RECEIVE_BYTES	4096

struct wire_message {
	uint32_t num_fds;
	uint32_t pid;
	bool on_behalf;		/* pid and start time are another process's */
	uint64_t start_time_ticks;
	char name[KVMSTATS_MAX_VM_NAME + 1];
	char uuid[KVMSTATS_MAX_VM_NAME + 1];
};

bool wire_text_ok(const char *text, size_t length);
size_t wire_encode(const struct wire_message *message, void *bytes);
int message_from_wire(const void *bytes, size_t size_bytes,
		      struct wire_message *message);
int wire_address(const char *path, void *sockaddr_un);

/* process.c */
uint64_t monotonic_ns(void);
int parse_int(const char *text);
uint64_t parse_digits(const char **text);
ssize_t read_proc(const char *path, char *text, size_t text_bytes);
/* Start time of a process in clock ticks since boot, 0 unknown. */
uint64_t process_start_ticks(const char *proc_name);
/*
 * closer.c: @file of a stranger's directory, by a thread of the pool. Its length, or
 * -errno: -ETIME after KVMSTATS_FINDER_PATIENCE_MS, -EBUSY if that process, or so
 * many others, have not let it be read yet.
 */
ssize_t read_proc_in_time(pid_t pid, const char *file, char *text,
			  size_t text_bytes);
/* Of a stranger; 0 if it is not known in time. */
uint64_t process_start_ticks_in_time(pid_t pid);
uint64_t start_ticks_from_stat(const char *stat);
pid_t process_parent(pid_t pid);

#endif /* KVMSTATS_LIB_INTERNAL_H */
