// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <string.h>

#include "internal.h"

uint64_t kvmstats_desc_value(const struct kvmstats_desc *desc,
			     const uint64_t *sample, unsigned int element)
{
	return element < desc->size ? sample[desc->word + element] : 0;
}

int kvmstats_counter_delta(uint64_t before, uint64_t after, uint64_t *delta)
{
	uint64_t growth = after - before;

	if (after < before && growth >> 63) {
		*delta = after;
		return 1;
	}
	*delta = growth;
	return 0;
}

static bool counts_up(const struct kvmstats_desc *desc)
{
	return kvmstats_desc_type(desc) == KVMSTATS_CUMULATIVE ||
	       kvmstats_desc_is_hist(desc);
}

static bool restarted(const struct kvmstats_desc *desc, const uint64_t *before,
		      const uint64_t *after)
{
	uint64_t ignored;

	for (uint32_t i = desc->word; i < desc->word + desc->size; i++)
		if (kvmstats_counter_delta(before[i], after[i], &ignored))
			return true;
	return false;
}

static int delta_desc(const struct kvmstats_desc *desc, const uint64_t *before,
		      const uint64_t *after, uint64_t *delta)
{
	bool counter = counts_up(desc);
	bool restart = counter && restarted(desc, before, after);

	for (uint32_t i = desc->word; i < desc->word + desc->size; i++)
		delta[i] = after[i] - (counter && !restart ? before[i] : 0);
	return restart;
}

int kvmstats_schema_delta(const struct kvmstats_schema *schema,
			  const uint64_t *before, const uint64_t *after,
			  uint64_t *delta)
{
	int restarts = 0;

	/* what no statistic covers */
	memset(delta, 0, schema->words * sizeof(*delta));
	for (uint32_t i = 0; i < schema->header.num_desc; i++)
		restarts += delta_desc(&schema->descs[i], before, after, delta);
	return restarts;
}

double kvmstats_rate(uint64_t delta, uint64_t interval_ns)
{
	return interval_ns ? delta * 1e9 / interval_ns : 0;
}

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

int kvmstats_schema_fold(const struct kvmstats_schema *schema,
			 enum kvmstats_fold fold, uint64_t *into,
			 const uint64_t *sample)
{
	for (size_t i = 0; i < schema->words; i++) {
		switch (fold) {
		case KVMSTATS_SUM:
			into[i] = add_saturating(into[i], sample[i]);
			break;
		case KVMSTATS_MIN:
			into[i] = sample[i] < into[i] ? sample[i] : into[i];
			break;
		case KVMSTATS_MAX:
			into[i] = sample[i] > into[i] ? sample[i] : into[i];
			break;
		default:
			return -EINVAL;
		}
	}
	return 0;
}
