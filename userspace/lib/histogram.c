// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>

#include "internal.h"

#define PPM	1000000

static int linear_bounds(const struct kvmstats_desc *desc, unsigned int bucket,
			 uint64_t *low, uint64_t *high)
{
	if (!desc->bucket_size)
		return -EINVAL;
	/* 16 times 32 bits cannot overflow */
	*low = (uint64_t)bucket * desc->bucket_size;
	*high = *low + desc->bucket_size - 1;
	return 0;
}

/* Bucket i > 64 exists in no kernel: nothing can be counted there. */
static void log_bounds(unsigned int bucket, uint64_t *low, uint64_t *high)
{
	*low = bucket ? bucket > 64 ? UINT64_MAX : 1ull << (bucket - 1) : 0;
	*high = bucket ? bucket > 63 ? UINT64_MAX : (1ull << bucket) - 1 : 0;
}

int kvmstats_desc_bucket_bounds(const struct kvmstats_desc *desc,
				unsigned int bucket, uint64_t *low, uint64_t *high)
{
	int ret = 0;

	if (!kvmstats_desc_is_hist(desc) || bucket >= desc->size)
		return -EINVAL;
	if (kvmstats_desc_type(desc) == KVMSTATS_LINEAR_HIST)
		ret = linear_bounds(desc, bucket, low, high);
	else
		log_bounds(bucket, low, high);
	if (!ret && bucket == desc->size - 1u)
		*high = UINT64_MAX;
	return ret;
}

uint64_t kvmstats_desc_hist_count(const struct kvmstats_desc *desc,
				  const uint64_t *sample)
{
	uint64_t count = 0;

	if (!kvmstats_desc_is_hist(desc))
		return 0;
	for (unsigned int i = 0; i < desc->size; i++) {
		uint64_t more = sample[desc->word + i];

		if (count + more < count)
			return UINT64_MAX;
		count += more;
	}
	return count;
}

/* ceil(count * ppm / PPM), at least 1, without overflow */
static uint64_t rank_of(uint64_t count, uint32_t ppm)
{
	uint64_t rank = count / PPM * ppm;

	rank += (count % PPM * ppm + PPM - 1) / PPM;
	return rank ? rank : 1;
}

static unsigned int bucket_of(const struct kvmstats_desc *desc,
			      const uint64_t *sample, uint64_t rank)
{
	unsigned int last = desc->size - 1u;

	for (unsigned int i = 0; i < last; i++) {
		uint64_t here = sample[desc->word + i];

		if (rank <= here)
			return i;
		rank -= here;
	}
	return last;
}

int kvmstats_desc_quantile(const struct kvmstats_desc *desc,
			   const uint64_t *sample, uint32_t quantile_ppm,
			   uint64_t *low, uint64_t *high)
{
	uint64_t count = kvmstats_desc_hist_count(desc, sample);
	unsigned int bucket;
	int ret;

	if (quantile_ppm > PPM)
		return -EINVAL;
	ret = kvmstats_desc_bucket_bounds(desc, 0, low, high);
	if (ret)
		return ret;
	if (!count)
		return -ENODATA;
	bucket = bucket_of(desc, sample, rank_of(count, quantile_ppm));
	return kvmstats_desc_bucket_bounds(desc, bucket, low, high);
}
