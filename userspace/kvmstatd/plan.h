/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The plan: which metric families there are, and where in a sample of each
 * schema their values stand. Made anew when a schema is seen for the first
 * time, immutable from then on, so that a scrape needs no lock for it.
 */
#ifndef KVMSTATD_PLAN_H
#define KVMSTATD_PLAN_H

#include <kvmstats.h>
#include <regex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* An index into registry.schemas is kept in 16 bits; kernels have two. */
#define MAX_SCHEMAS	256
/*
 * Of those that programs publish, of which any number can be thought of: besides what
 * this library publishes itself. Of one user there are fewer, so that no one can take
 * them all.
 */
#define MAX_PUBLISHED	128

enum exposition { PROMETHEUS, OPENMETRICS, EXPOSITIONS };

enum family_kind {
	FAMILY_SCALAR,
	FAMILY_VECTOR,
	FAMILY_HISTOGRAM,
	FAMILY_REASONS,		/* a histogram whose buckets have names */
};

enum value_kind {
	VALUE_PLAIN,		/* as it is, or not convertible */
	VALUE_NANO,		/* 10^-9: nanoseconds */
	VALUE_SCALED,		/* any other power: the long way */
};

struct text {
	size_t length;
	char *bytes;
};

/* A statistic of one schema. */
struct column {
	const struct kvmstats_desc *desc;
	enum value_kind value;
	size_t word;
	unsigned int size;
	struct text *ends;	/* of a bucket's labels: ,le="0.5"} or ,reason="HLT"} */
};

/* All of a schema, in its order; one plan leaves them to the next. */
struct columns {
	atomic_uint refs;
	struct kvmstats_schema *schema;
	struct column *column[];
};

/* Sources that have the same metrics. */
struct source_kind {
	struct kvmstats_schema *schema;
	enum kvmstats_scope scope;
	char class_name[KVMSTATS_MAX_CLASS + 1];	/* "" but of devices */
};

struct family {
	char *name;		/* as OpenMetrics has it, without _total */
	struct text sample;	/* what a line begins with */
	struct text count;	/* a histogram's other line */
	struct text head[EXPOSITIONS];	/* HELP, TYPE, UNIT */
	enum kvmstats_scope scope;
	enum family_kind kind;
	bool hidden;		/* filtered out; its name stays taken */
	unsigned int type, unit;
	const char *stat;	/* the kernel's name, or the publisher's */
	char class_name[KVMSTATS_MAX_CLASS + 1];
	const struct column **columns;	/* by schema; NULL: it has none */
};

/*
 * What does not come from statistics descriptors: CPU time, as the scheduler has
 * it. Counters in seconds.
 */
enum host_family { HOST_VCPU_RUN, HOST_VCPU_WAIT, HOST_PROCESS, HOST_FAMILIES };

struct host_metric {
	const char *name, *help;	/* without _total */
};

extern const struct host_metric host_metrics[HOST_FAMILIES];

struct filter {
	regex_t *include, *exclude;	/* NULL: all, none */
};

struct plan {
	atomic_uint refs;
	struct columns **columns;
	size_t num_schemas;
	struct family *families;
	size_t count;
	uint32_t *by_name;	/* places of families by hash, and one; 0: none */
	size_t by_name_size;	/* a power of two */
	unsigned int largest_histogram;	/* in buckets */
	bool host_hidden[HOST_FAMILIES];
	bool no_cpu;			/* all of them */
	bool start_hidden;		/* kvm_vm_start_time_seconds */
};

/*
 * NULL without memory. Takes references on the schemas. @before: the plan that
 * it is to replace, or NULL; what it has of the same schemas is not made again.
 */
struct plan *plan_new(const struct source_kind *kinds, size_t count,
		      const struct filter *filter, const struct plan *before);
struct plan *plan_ref(struct plan *plan);
void plan_unref(struct plan *plan);

/* A statistic's name, type and unit become those of a metric. */
#define METRIC_NAME_SIZE	(KVMSTATS_MAX_NAME_SIZE + 64)

enum family_kind family_kind(const struct kvmstats_desc *desc);
enum value_kind value_kind(const struct kvmstats_desc *desc);
/* "counter", "gauge", "histogram", "unknown" */
const char *metric_type(enum family_kind kind, unsigned int type);
/* "seconds", "bytes", "cycles" or NULL */
const char *metric_unit(const struct kvmstats_desc *desc);
void metric_name(char name[METRIC_NAME_SIZE], const struct source_kind *kind,
		 const struct kvmstats_desc *desc, unsigned int attempt);
bool metric_names_clash(const char *one, const char *other);
bool filter_passes(const struct filter *filter, const char *name);

#endif /* KVMSTATD_PLAN_H */
