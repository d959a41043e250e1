/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The reference for block accounting: all requests of a trace in a list, and
 * every statistic computed from the list by its definition in docs/accounting.md,
 * without a thought of what it costs.
 */
#ifndef TEST_BLOCK_TRACE_H
#define TEST_BLOCK_TRACE_H

#include "image.h"

#define TRACE_REQUESTS	20000
#define NEVER		UINT64_MAX

struct trace_request {
	struct kvmstats_block_request request;
	enum kvmstats_block_op op;
	uint64_t start_ns, end_ns, bytes;	/* end_ns NEVER: in flight */
	bool failed;
};

/* A device on a clock that the test sets, and what has happened to it. */
struct trace {
	uint64_t now_ns, created_ns;
	struct kvmstats_block *block;
	struct kvmstats_source *source;
	struct trace_request request[TRACE_REQUESTS];
	size_t count;
	uint64_t invalid[KVMSTATS_BLOCK_OPS], merged[KVMSTATS_BLOCK_OPS];
	uint64_t sample[KVMSTATS_MAX_PUBLISHED_WORDS];
};

struct trace *trace_open(uint64_t now_ns);
void trace_close(struct trace *trace);
/* The number of the request, which ends by trace_end. */
size_t trace_begin(struct trace *trace, enum kvmstats_block_op op, uint64_t bytes);
void trace_end(struct trace *trace, size_t number, int error);
/* Reads what is published, as any reader would. */
void trace_sample(struct trace *trace);
uint64_t trace_value(struct trace *trace, const char *operation,
		     const char *name, unsigned int element);
/* A tick, and then everything that is published is what the reference says. */
void trace_check(struct trace *trace);

#endif /* TEST_BLOCK_TRACE_H */
