// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where reads go to, and what must come of them.
 *
 * A worker has zones of two pages each. The first four are for plain buffers;
 * each of the others ends at a page that cannot be written: no access at all,
 * read-only, or beyond the end of a file that is mapped.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define NR_PLAIN	4
#define STRIDE		(ZONE_BYTES + PAGE_BYTES)
#define FILLER		0xa5
#define MARGIN		64
/* Such a buffer may end where no program has memory, and is refused then. */
#define HUGE_BYTES	0x200000ull

/* arm64 copies 16 bytes at a time and does not count those that fault. */
#if defined(__aarch64__)
#define FAULT_SLACK	16
#else
#define FAULT_SLACK	0
#endif

static unsigned char *zone(const struct worker *w, unsigned int nr)
{
	return w->zones + nr * STRIDE;
}

static unsigned char *margin_before(const struct worker *w, unsigned int nr,
				    unsigned char *at)
{
	return at - zone(w, nr) > MARGIN ? at - MARGIN : zone(w, nr);
}

static void map_past_end(unsigned char *at)
{
	int fd = memfd_create("end", MFD_CLOEXEC);

	CHECK(fd >= 0 && mmap(at, PAGE_BYTES, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED, fd, 0) == at,
	      "a page of an empty file: %s", strerror(errno));
	close(fd);
}

void make_zones(struct worker *w)
{
	unsigned int nr;

	w->zones = map_pages(NR_ZONES * STRIDE);
	memset(w->zones, FILLER, NR_ZONES * STRIDE);
	for (nr = 0; nr < NR_ZONES; nr++)
		CHECK(!mprotect(zone(w, nr) + ZONE_BYTES, PAGE_BYTES,
				nr == NR_PLAIN + 1 ? PROT_READ : PROT_NONE),
		      "mprotect: %s", strerror(errno));
	map_past_end(zone(w, NR_PLAIN + 2) + ZONE_BYTES);
}

static uint64_t choose_length(struct worker *w, const struct handle *file)
{
	const struct stats_schema *schema = file->ref.schema;
	const uint64_t lengths[] = {
		0, 1, 2, 7, 8, 9, 16, sizeof(struct kvm_stats_header), ID_BYTES,
		64, PAGE_BYTES, ZONE_BYTES, schema->data_offset,
		schema->size - schema->data_offset, schema->size - 1,
		schema->size, schema->size + 1, 1 << 20, 0x7ffff000,
		0x7fffffff, 1ull << 32, SSIZE_MAX, SIZE_MAX,
	};

	if (one_in(&w->rng, 3))
		return lengths[rng_below(&w->rng, ARRAY_SIZE(lengths))];
	return rng_below(&w->rng, schema->size + 100);
}

int64_t choose_offset(struct worker *w, const struct handle *file)
{
	const struct stats_schema *schema = file->ref.schema;
	const int64_t offsets[] = {
		0, schema->header.id_offset, schema->header.desc_offset,
		schema->data_offset, schema->size, schema->size + 1,
		1 << 20, INT_MAX, UINT_MAX, 1ll << 40, LLONG_MAX, -1, -2,
		LLONG_MIN,
	};

	switch (rng_below(&w->rng, 8)) {
	case 0:
		return offsets[rng_below(&w->rng, ARRAY_SIZE(offsets))];
	case 1:
		return offsets[rng_below(&w->rng, 5)] +
		       rng_below(&w->rng, 33) - 16;
	case 2:
		/* where values are checked, too */
		return schema->data_offset +
		       rng_below(&w->rng, schema->nr_words) * 8;
	default:
		return rng_below(&w->rng, schema->size);
	}
}

static void choose_edge(struct worker *w, struct piece *piece,
			const unsigned char *edge, uint64_t most)
{
	piece->valid = one_in(&w->rng, 4) ? rng_below(&w->rng, 20) :
					    rng_below(&w->rng, most + 1);
	piece->at = (unsigned char *)edge - piece->valid;
}

/* Addresses at which nothing is, or nothing that can be written. */
static void choose_bad(struct worker *w, struct piece *piece)
{
	static const uint64_t addresses[] = {
		0, 1, 4095, 1ull << 63, 0xffff888000000000, 0xffffffff81000000,
		0xfffffffffffff000,
	};
	unsigned int nr = rng_below(&w->rng, ARRAY_SIZE(addresses) + 1);

	piece->valid = 0;
	if (nr == ARRAY_SIZE(addresses)) {
		piece->at = zone(w, NR_PLAIN + 1) + ZONE_BYTES;
		return;
	}
	piece->at = (unsigned char *)(uintptr_t)addresses[nr];
	piece->refused = addresses[nr] > LLONG_MAX;
}

/* What a read may change, and a margin before and behind that. */
static void fill(const struct worker *w, const struct handle *file,
		 const struct piece *piece)
{
	uint64_t size = file->ref.schema->size + MARGIN;
	unsigned int nr = (piece->at - w->zones) / STRIDE;
	unsigned char *from = margin_before(w, nr, piece->at);

	if (size > piece->valid)
		size = piece->valid;
	memset(from, FILLER, piece->at + size - from);
}

static void choose_piece(struct worker *w, const struct handle *file,
			 struct piece *piece, unsigned int nr)
{
	unsigned int kind = rng_below(&w->rng, 8);

	memset(piece, 0, sizeof(*piece));
	piece->len = choose_length(w, file);
	if (kind == 0) {
		choose_bad(w, piece);
		return;
	}
	if (kind <= 2 && nr < NR_ZONES - NR_PLAIN) {
		choose_edge(w, piece, zone(w, NR_PLAIN + nr) + ZONE_BYTES,
			    file->ref.schema->size);
	} else {
		piece->at = zone(w, nr) + rng_below(&w->rng, 64);
		piece->valid = zone(w, nr) + ZONE_BYTES - piece->at;
	}
	fill(w, file, piece);
}

void choose_pieces(struct worker *w, const struct handle *file,
		   struct reading *r, unsigned int max)
{
	r->nr = 1 + rng_below(&w->rng, max);
	r->is_vector = max > 1;
	for (unsigned int i = 0; i < r->nr; i++)
		choose_piece(w, file, &r->pieces[i], i);
}

void fill_iov(const struct reading *r, struct iovec *iov)
{
	for (unsigned int i = 0; i < r->nr; i++) {
		iov[i].iov_base = r->pieces[i].at;
		iov[i].iov_len = r->pieces[i].len;
	}
}

/* What may come of a reading: so many bytes, or one of some errors. */
struct verdict {
	int64_t least, most;		/* most < 0: it must fail */
	bool faulted;
	int errors[4];
	unsigned int nr_errors;
};

static void allow(struct verdict *v, int error)
{
	v->errors[v->nr_errors++] = error;
}

/* Addresses and numbers that are refused before KVM is asked. */
static void judge_arguments(const struct reading *r, struct verdict *v,
			    uint64_t *total)
{
	bool refused = false, negative = false, huge = false;

	*total = 0;
	for (unsigned int i = 0; i < r->nr; i++) {
		uint64_t len = r->pieces[i].len;

		refused |= r->pieces[i].refused;
		negative |= len > SSIZE_MAX || *total + len > SSIZE_MAX;
		huge |= len > HUGE_BYTES;
		*total += len;
	}
	negative |= r->offset < 0 && (*total || !r->is_vector);
	if (refused || huge)
		allow(v, EFAULT);
	/* or what follows the last offset that there is; never our file */
	if (negative || r->offset > LLONG_MAX - (int64_t)*total)
		allow(v, EINVAL);
	if (refused || negative)
		v->most = -1;
	if (refused && !*total)
		v->most = 0;	/* nothing is looked at but the address */
	if (r->offset < 0 && !negative)
		allow(v, EINVAL);
}

/* How far the copy gets: up to the end of file, or to a bad page. */
static void judge_copy(const struct reading *r, uint64_t size, uint64_t total,
		       struct verdict *v)
{
	uint64_t want = 0, got = 0;

	if (r->offset >= 0 && (uint64_t)r->offset < size)
		want = size - r->offset;
	if (want > total)
		want = total;
	for (unsigned int i = 0; i < r->nr && got < want; i++) {
		const struct piece *piece = &r->pieces[i];
		uint64_t take = piece->len < want - got ? piece->len :
							  want - got;

		v->faulted = take > piece->valid;
		got += v->faulted ? piece->valid : take;
		if (v->faulted)
			break;
	}
	if (v->faulted && wrong == WRONG_FAULT)
		got += FAULT_SLACK + 1;
	v->most = got;
	v->least = got;
	if (!v->faulted)
		return;
	v->least = got > FAULT_SLACK ? got - FAULT_SLACK : 0;
	if (v->least)
		return;
	allow(v, EFAULT);
	v->least = 1;
	if (!got)
		v->most = -1;
}

/* The kernel on which this is developed copies block by block or not at all. */
static void allow_mainline(struct verdict *v)
{
	if (own_kernel || !v->faulted)
		return;
	v->least = 1;
	allow(v, EFAULT);
}

static void expect(const struct handle *file, const struct reading *r,
		   struct verdict *v)
{
	uint64_t total;

	judge_arguments(r, v, &total);
	if (v->most < 0)
		return;
	judge_copy(r, file->ref.schema->size + (wrong == WRONG_SIZE), total, v);
	allow_mainline(v);
}

static void check_fillers(const unsigned char *from, const unsigned char *to)
{
	for (; from < to; from++)
		CHECK(*from == FILLER,
		      "a byte %td before the end of the margin was changed",
		      to - from);
}

/* Nothing was written before the piece, nor behind the @n bytes read. */
static void check_margins(const struct worker *w, const struct handle *file,
			  const struct piece *piece, uint64_t n, bool faulted)
{
	const uint64_t most = file->ref.schema->size + MARGIN;
	unsigned char *end = piece->at +
			     (most < piece->valid ? most : piece->valid);

	if (!piece->valid)
		return;
	check_fillers(margin_before(w, (piece->at - w->zones) / STRIDE,
				    piece->at), piece->at);
	/* what a copy has done that faulted later is not told */
	if (!faulted && end - piece->at > (ptrdiff_t)n)
		check_fillers(piece->at + n, piece->at + n + MARGIN < end ?
			      piece->at + n + MARGIN : end);
}

/*
 * What was read is right, and nothing else was written. A value that is copied
 * in parts, because buffer and file are aligned differently, may be caught in
 * between: such are not looked at.
 */
static void check_content(struct worker *w, struct handle *file,
			  const struct reading *r, uint64_t got, bool faulted)
{
	uint64_t offset = r->offset;

	for (unsigned int i = 0; i < r->nr; i++) {
		const struct piece *piece = &r->pieces[i];
		uint64_t n = piece->len < got ? piece->len : got;

		if (n)
			stats_check(&file->ref, offset, piece->at, n, !faulted &&
				    !(((uintptr_t)piece->at - offset) % 8));
		check_margins(w, file, piece, n, faulted);
		offset += n;
		got -= n;
	}
}

static bool is_allowed(const struct verdict *v, int64_t got, int error_also)
{
	if (got >= 0)
		return v->most >= 0 && got >= v->least && got <= v->most;
	for (unsigned int i = 0; i < v->nr_errors; i++)
		if (v->errors[i] == -got)
			return true;
	return error_also && -got == error_also;
}

void judge_reading(struct worker *w, struct handle *file,
		   const struct reading *r, int64_t got, int error_also)
{
	struct verdict v = { 0 };

	expect(file, r, &v);
	CHECK(is_allowed(&v, got, error_also),
	      "got %lld (%s) at %lld, %u pieces, first %p + %llu (%llu valid): the model says %lld to %lld%s%s",
	      (long long)got, got < 0 ? strerror(-got) : "bytes",
	      (long long)r->offset, r->nr, r->pieces[0].at,
	      (unsigned long long)r->pieces[0].len,
	      (unsigned long long)r->pieces[0].valid, (long long)v.least,
	      (long long)v.most, v.nr_errors ? " or " : "",
	      v.nr_errors ? strerror(v.errors[0]) : "");
	check_content(w, file, r, got < 0 ? 0 : got, v.faulted);
}
