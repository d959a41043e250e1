// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel counts for a vCPU, read as any program would read it. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../common/stats_uapi.h"
#include "sim.h"

#define MAX_WORDS	2048

void vcpu_stats_open(struct vcpu *vcpu)
{
	struct vcpu_stats *stats = &vcpu->stats;
	int fd = ioctl(vcpu->fd, UAPI_GET_STATS_FD, NULL), ret;
	struct kvmstats_schema *schema;

	if (fd < 0)
		return; /* a kernel without statistics has no quota either */
	ret = kvmstats_source_open(fd, NULL, &stats->source);
	if (ret)
		die("vCPU %u: statistics: %s", vcpu->index, strerror(-ret));
	schema = kvmstats_source_schema(stats->source);
	if (kvmstats_schema_words(schema) > MAX_WORDS)
		die("vCPU %u: %zu words of statistics", vcpu->index,
		    kvmstats_schema_words(schema));
	stats->dirtied = kvmstats_schema_find(schema, "pages_dirtied");
	stats->exits = kvmstats_schema_find(schema, "dirty_quota_exits");
}

/* Any thread may ask at any time: the sample is its own. */
static uint64_t value_of(struct vcpu *vcpu, const struct kvmstats_desc *desc)
{
	uint64_t sample[MAX_WORDS];
	int ret;

	if (!desc)
		return 0;
	ret = kvmstats_source_sample(vcpu->stats.source, sample, MAX_WORDS);
	if (ret)
		die("vCPU %u: statistics: %s", vcpu->index, strerror(-ret));
	return kvmstats_desc_value(desc, sample, 0);
}

uint64_t vcpu_dirtied(struct vcpu *vcpu)
{
	return value_of(vcpu, vcpu->stats.dirtied);
}

uint64_t vcpu_quota_exits(struct vcpu *vcpu)
{
	return value_of(vcpu, vcpu->stats.exits);
}
