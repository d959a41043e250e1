/* SPDX-License-Identifier: GPL-2.0-only */
/* exit-bench's reader of a statistics fd: each statistic is one number. */
#define MAX_STATS	256
#define MAX_WORDS	1024

struct stats {
	int fd;
	struct kvm_stats_header header;
	struct {
		char name[64];
		unsigned int word, words;
	} stat[MAX_STATS];
	uint64_t words[MAX_WORDS];
	size_t bytes;
};

static void stats_pread(const struct stats *stats, void *to, size_t bytes,
			off_t offset)
{
	if (pread(stats->fd, to, bytes, offset) != (ssize_t)bytes)
		die("pread of the statistics");
}

static void stats_open(struct stats *stats, int kvm_fd)
{
	struct kvm_stats_header *header = &stats->header;
	struct kvm_stats_desc desc;
	size_t end;
	off_t offset;

	stats->fd = CALL(kvm_fd, KVM_GET_STATS_FD, 0);
	stats_pread(stats, header, sizeof(*header), 0);
	stats->bytes = 0;
	if (header->num_desc > MAX_STATS || header->name_size > 64)
		die("number of statistics");
	for (unsigned int i = 0; i < header->num_desc; i++) {
		offset = header->desc_offset +
			 i * (sizeof(desc) + header->name_size);
		stats_pread(stats, &desc, sizeof(desc), offset);
		stats_pread(stats, stats->stat[i].name, header->name_size,
			    offset + sizeof(desc));
		stats->stat[i].word = desc.offset / sizeof(uint64_t);
		stats->stat[i].words = desc.size;
		end = desc.offset + desc.size * sizeof(uint64_t);
		if (end > stats->bytes)
			stats->bytes = end;
	}
	if (stats->bytes > sizeof(stats->words))
		die("size of the statistics");
}

static void stats_read(struct stats *stats)
{
	stats_pread(stats, stats->words, stats->bytes,
		    stats->header.data_offset);
}

/* The sum of a histogram is how often it counted. */
static uint64_t stats_sum(const struct stats *stats, unsigned int i)
{
	uint64_t sum = 0;

	for (unsigned int word = 0; word < stats->stat[i].words; word++)
		sum += stats->words[stats->stat[i].word + word];
	return sum;
}

static void stats_print_moved(struct stats *stats, const char *kind)
{
	const struct stats before = *stats;
	uint64_t moved;

	stats_read(stats);
	for (unsigned int i = 0; i < stats->header.num_desc; i++) {
		moved = stats_sum(stats, i) - stats_sum(&before, i);
		if (moved)
			printf("stat %s %s %llu\n", kind, stats->stat[i].name,
			       (unsigned long long)moved);
	}
}

static uint64_t stats_value(struct stats *stats, const char *name)
{
	stats_read(stats);
	for (unsigned int i = 0; i < stats->header.num_desc; i++)
		if (!strcmp(stats->stat[i].name, name))
			return stats_sum(stats, i);
	die(name);
	return 0;
}
