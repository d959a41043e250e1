/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTAT_RECORD_H
#define KVMSTAT_RECORD_H

#include "vm.h"

enum sync_policy { SYNC_NEVER, SYNC_CLOSE, SYNC_SAMPLE };

/* record_file.c: where records go */
struct recfile {
	const char *path;		/* NULL: standard output */
	const char *header;		/* first line of each file; NULL: none */
	const char *first;		/* what a file without begins with */
	const char *banner;		/* what an empty file gets before text that does not */
	bool began;			/* no file, and its header is written */
	unsigned long rotate_bytes;	/* 0: never */
	unsigned long keep;		/* files besides the one written to */
	enum sync_policy sync;
	int fd;
	const sigset_t *while_waiting;	/* for the reader of what is no file */
	bool is_file;
	uint64_t bytes;			/* in the file, by now */
};

/*
 * 0, or a status after a message. Waits for a reader, if it is a FIFO: 0 after a signal,
 * too, and then there is nothing to write to.
 */
int recfile_open(struct recfile *file);
int recfile_reopen(struct recfile *file);
/* All of @text or, in a file, nothing of it. Rotates before. */
int recfile_write(struct recfile *file, const char *text, size_t length);
int recfile_close(struct recfile *file);

/* format_csv.c, format_log.c: what a sample is written as */
const char *csv_header(void);
void csv_sample(FILE *out, const struct vm *vm, const struct request *request,
		uint64_t wall_ns);

struct columns;
struct columns *columns_new(void);
/* The names of the columns, as they were last printed; NULL: not yet. */
const char *columns_banner(const struct columns *columns);
void columns_free(struct columns *columns);
/* One line for all VMs, below a banner now and then. False: no memory for it. */
bool columns_sample(FILE *out, struct columns *columns,
		    const struct fleet *fleet, uint64_t wall_ns);
/* The same of one VM, which goes and is named. */
bool columns_last(FILE *out, struct columns *columns,
		  const struct fleet *fleet, const struct vm *vm,
		  uint64_t wall_ns);

#endif /* KVMSTAT_RECORD_H */
