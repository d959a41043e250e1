// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "published.h"

struct kvmstats_cache {
	pthread_mutex_t lock;
	struct kvmstats_schema *first;	/* holds a reference on each */
};

int kvmstats_cache_new(struct kvmstats_cache **result)
{
	struct kvmstats_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return -ENOMEM;
	pthread_mutex_init(&cache->lock, NULL);
	*result = cache;
	return 0;
}

void kvmstats_cache_free(struct kvmstats_cache *cache)
{
	if (!cache)
		return;
	while (cache->first) {
		struct kvmstats_schema *schema = cache->first;

		cache->first = schema->next;
		kvmstats_schema_unref(schema);
	}
	pthread_mutex_destroy(&cache->lock);
	free(cache);
}

size_t kvmstats_cache_count(const struct kvmstats_cache *cache)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)&cache->lock;
	size_t count = 0;

	pthread_mutex_lock(lock);
	for (struct kvmstats_schema *s = cache->first; s; s = s->next)
		count++;
	pthread_mutex_unlock(lock);
	return count;
}

static bool same_content(const struct kvmstats_schema *schema,
			 const struct uapi_header *header, const void *descs)
{
	return !memcmp(&schema->header, header, sizeof(*header)) &&
	       !memcmp(schema->raw, descs, descs_size_bytes(header));
}

static int make_schema(const struct uapi_header *header, const void *descs,
		       bool published, struct kvmstats_schema **result)
{
	struct kvmstats_schema *schema;
	int ret = schema_from_uapi(header, descs, &schema);

	if (!ret && published) {
		schema->published = true;
		ret = published_check_schema(schema);
		if (ret)
			kvmstats_schema_unref(schema);
	}
	if (!ret)
		*result = schema;
	return ret;
}

/* There is no end of schemas that programs can think of. */
static void drop_unused(struct kvmstats_cache *cache)
{
	struct kvmstats_schema **link = &cache->first, *schema;

	while ((schema = *link)) {
		/* nobody but the cache has it, and nobody gets it now */
		if (!schema->published || atomic_load(&schema->refs) != 1) {
			link = &schema->next;
			continue;
		}
		*link = schema->next;
		kvmstats_schema_unref(schema);
	}
}

/* What was checked less strictly is not taken for what is published. */
static int get_locked(struct kvmstats_cache *cache,
		      const struct uapi_header *header, const void *descs,
		      bool published, struct kvmstats_schema **result)
{
	struct kvmstats_schema *schema;
	int ret;

	for (schema = cache->first; schema; schema = schema->next) {
		if (schema->published != published ||
		    !same_content(schema, header, descs))
			continue;
		*result = kvmstats_schema_ref(schema);
		return 0;
	}
	if (published)
		drop_unused(cache);
	ret = make_schema(header, descs, published, &schema);
	if (ret)
		return ret;
	schema->next = cache->first;
	cache->first = schema;
	*result = kvmstats_schema_ref(schema);
	return 0;
}

int cache_get(struct kvmstats_cache *cache, const struct uapi_header *header,
	      const void *descs, bool published, struct kvmstats_schema **schema)
{
	int ret;

	if (!cache)
		return make_schema(header, descs, published, schema);
	pthread_mutex_lock(&cache->lock);
	ret = get_locked(cache, header, descs, published, schema);
	pthread_mutex_unlock(&cache->lock);
	return ret;
}
