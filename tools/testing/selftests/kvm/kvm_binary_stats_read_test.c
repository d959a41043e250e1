// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_binary_stats_read_test
 *
 * Every way to read a statistics file, at every kind of offset, and what must
 * be refused.
 *
 * Usage: kvm_binary_stats_read_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "kvm_stats_util.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT	0x00000008
#endif

/* Bytes that no read of the file may leave where it claims to have written. */
#define UNTOUCHED	0xa5

/* @buf, read from @pos, must hold the file's immutable bytes. */
static void check_bytes(const struct stats_file *s, const uint8_t *buf,
			size_t pos, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		STATS_CHECK(!stats_is_immutable(s, pos + i) ||
			    buf[i] == s->image[pos + i],
			    "byte %zu is %#x in a read of %zu bytes at %zu, %#x in the whole file",
			    pos + i, buf[i], len, pos, s->image[pos + i]);
}

/*
 * Read @len bytes at @pos and check that exactly those that the file has are
 * there and nothing was written behind them.
 */
static void check_pread(const struct stats_file *s, size_t pos, size_t len)
{
	size_t expected = 0, i;
	uint8_t *buf = malloc(len + 8);
	ssize_t got;

	STATS_CHECK(buf, "out of memory");
	if (pos < s->size)
		expected = len < s->size - pos ? len : s->size - pos;
	memset(buf, UNTOUCHED, len + 8);
	got = pread(s->fd, buf, len, pos);
	STATS_CHECK(got == (ssize_t)expected,
		    "pread of %zu bytes at %zu of %zu returned %zd (%s), expected %zu",
		    len, pos, s->size, got, got < 0 ? strerror(errno) : "",
		    expected);
	check_bytes(s, buf, pos, expected);
	for (i = expected; i < len + 8; i++)
		STATS_CHECK(buf[i] == UNTOUCHED,
			    "pread of %zu bytes at %zu wrote byte %zu",
			    len, pos, i);
	free(buf);
}

static void test_whole(enum stats_scope scope)
{
	struct stats_file s;

	stats_setup(&s, scope);
	check_pread(&s, 0, s.size);
	check_pread(&s, 0, s.size + 1);
	check_pread(&s, 0, s.size + 65536);
}

static void test_byte_by_byte(enum stats_scope scope)
{
	struct stats_file s;
	size_t pos;

	stats_setup(&s, scope);
	for (pos = 0; pos < s.size; pos++)
		check_pread(&s, pos, 1);
}

/* Lengths that divide nothing: each block's edge falls at each place. */
static void test_odd_pieces(enum stats_scope scope)
{
	static const size_t lengths[] = { 2, 3, 5, 7, 13, 29, 61, 127, 509 };
	struct stats_file s;
	size_t i, pos;

	stats_setup(&s, scope);
	for (i = 0; i < ARRAY_SIZE(lengths); i++)
		for (pos = 0; pos < s.size; pos += lengths[i])
			check_pread(&s, pos, lengths[i]);
}

static void check_around(const struct stats_file *s, size_t edge)
{
	static const size_t lengths[] = { 1, 2, 8, 9, 64, 4096 };
	size_t i, pos, start = edge < 9 ? 0 : edge - 9;

	for (pos = start; pos <= edge + 9; pos++)
		for (i = 0; i < ARRAY_SIZE(lengths); i++)
			check_pread(s, pos, lengths[i]);
}

static void test_straddle_blocks(enum stats_scope scope)
{
	struct stats_file s;

	stats_setup(&s, scope);
	check_around(&s, sizeof(s.header));
	check_around(&s, s.header.id_offset);
	check_around(&s, s.header.id_offset + s.header.name_size);
	check_around(&s, s.header.desc_offset);
	check_around(&s, s.header.desc_offset +
			 s.header.num_desc * s.desc_size);
	check_around(&s, s.header.data_offset);
	check_around(&s, s.size);
}

static void test_from_any_offset_to_end(enum stats_scope scope)
{
	struct stats_file s;
	size_t pos;

	stats_setup(&s, scope);
	for (pos = 0; pos <= s.size; pos += 3)
		check_pread(&s, pos, s.size);
}

static void check_nothing_at(int fd, off_t pos)
{
	uint8_t buf[64];
	ssize_t got;

	memset(buf, UNTOUCHED, sizeof(buf));
	got = pread(fd, buf, sizeof(buf), pos);
	STATS_CHECK(!got, "pread at %lld returned %zd (%s)", (long long)pos,
		    got, got < 0 ? strerror(errno) : "");
	STATS_CHECK(buf[0] == UNTOUCHED, "pread at %lld wrote", (long long)pos);
}

static void test_at_and_past_end(enum stats_scope scope)
{
	struct stats_file s;

	stats_setup(&s, scope);
	check_nothing_at(s.fd, s.size);
	check_nothing_at(s.fd, s.size + 1);
	check_nothing_at(s.fd, s.size + 4096);
}

/* Offsets which are inside the file once they are cut to 32 bits. */
static void test_huge_offsets(enum stats_scope scope)
{
	const off_t four_gib = 1LL << 32;
	struct stats_file s;

	stats_setup(&s, scope);
	check_nothing_at(s.fd, INT_MAX);
	check_nothing_at(s.fd, UINT_MAX);
	check_nothing_at(s.fd, four_gib);
	check_nothing_at(s.fd, four_gib + s.header.id_offset);
	check_nothing_at(s.fd, four_gib + s.header.data_offset);
	check_nothing_at(s.fd, LLONG_MAX - 64);
}

static void check_pread_error(int fd, void *buf, size_t len, off_t pos,
			      int error)
{
	ssize_t got = pread(fd, buf, len, pos);

	STATS_CHECK(got == -1 && errno == error,
		    "pread of %zu bytes at %lld returned %zd, %s; expected %s",
		    len, (long long)pos, got,
		    got < 0 ? strerror(errno) : "no error", strerror(error));
}

static void test_offsets_refused(enum stats_scope scope)
{
	struct stats_file s;
	uint8_t buf[64];

	stats_setup(&s, scope);
	check_pread_error(s.fd, buf, sizeof(buf), -1, EINVAL);
	check_pread_error(s.fd, buf, sizeof(buf), LLONG_MIN, EINVAL);
	/* The end of the read would be past the greatest offset. */
	check_pread_error(s.fd, buf, sizeof(buf), LLONG_MAX, EINVAL);
}

static void test_zero_length(enum stats_scope scope)
{
	struct stats_file s;

	stats_setup(&s, scope);
	check_pread(&s, 0, 0);
	check_pread(&s, s.header.data_offset, 0);
	STATS_CHECK(!read(s.fd, NULL, 0), "read of 0 bytes to NULL: %s",
		    strerror(errno));
	STATS_CHECK(lseek(s.fd, 0, SEEK_CUR) <= 0, "it moved the position");
}

static void test_bad_buffer(enum stats_scope scope)
{
	void *unmapped = mmap(NULL, 4096, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct stats_file s;

	STATS_CHECK(unmapped != MAP_FAILED, "mmap: %s", strerror(errno));
	stats_setup(&s, scope);
	check_pread_error(s.fd, unmapped, 8, 0, EFAULT);
	check_pread_error(s.fd, unmapped, 8, s.header.id_offset, EFAULT);
	check_pread_error(s.fd, unmapped, 8, s.header.desc_offset, EFAULT);
	check_pread_error(s.fd, unmapped, 8, s.header.data_offset, EFAULT);
	check_pread_error(s.fd, NULL, s.size, 0, EFAULT);
	/* A bad buffer does not matter if there is nothing to write to it. */
	STATS_CHECK(!pread(s.fd, unmapped, 8, s.size), "at the end: %s",
		    strerror(errno));
}

/*
 * A buffer of which only the first @good bytes are there: either what fits, or
 * an error; never a claim of more.
 */
static void check_partial(const struct stats_file *s, uint8_t *edge,
			  size_t good)
{
	uint8_t *buf = edge - good;
	ssize_t got;

	memset(buf, UNTOUCHED, good);
	got = pread(s->fd, buf, s->size, 0);
	STATS_CHECK(got == -1 ? errno == EFAULT : got > 0 && got <= good,
		    "pread with %zu good bytes returned %zd (%s)", good, got,
		    got < 0 ? strerror(errno) : "");
	if (got > 0)
		check_bytes(s, buf, 0, got);
}

static void test_partly_bad_buffer(enum stats_scope scope)
{
	long page = sysconf(_SC_PAGESIZE);
	struct stats_file s;
	size_t good, limit;
	uint8_t *map;

	map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	STATS_CHECK(map != MAP_FAILED && !mprotect(map + page, page, PROT_NONE),
		    "mmap: %s", strerror(errno));
	stats_setup(&s, scope);
	limit = s.size < page ? s.size : page;
	for (good = 1; good < limit; good += 7)
		check_partial(&s, map + page, good);
}

static void test_vectored(enum stats_scope scope)
{
	uint8_t a[1], b[31], c[3];
	uint8_t *d = malloc(65536);
	struct iovec iov[] = {
		{ a, sizeof(a) }, { b, sizeof(b) }, { NULL, 0 },
		{ c, sizeof(c) }, { d, 65536 },
	};
	struct stats_file s;
	ssize_t got;

	stats_setup(&s, scope);
	got = preadv(s.fd, iov, ARRAY_SIZE(iov), 0);
	STATS_CHECK(got == (ssize_t)s.size, "preadv returned %zd (%s) of %zu",
		    got, got < 0 ? strerror(errno) : "", s.size);
	check_bytes(&s, a, 0, sizeof(a));
	check_bytes(&s, b, 1, sizeof(b));
	check_bytes(&s, c, 32, sizeof(c));
	check_bytes(&s, d, 35, s.size - 35);
}

static void test_vectored_second_bad(enum stats_scope scope)
{
	uint8_t a[16];
	struct iovec iov[] = { { a, sizeof(a) }, { (void *)8, 64 } };
	struct stats_file s;
	ssize_t got;

	stats_setup(&s, scope);
	got = preadv(s.fd, iov, ARRAY_SIZE(iov), 0);
	STATS_CHECK(got == sizeof(a) || (got == -1 && errno == EFAULT),
		    "preadv returned %zd (%s)", got,
		    got < 0 ? strerror(errno) : "");
	if (got > 0)
		check_bytes(&s, a, 0, sizeof(a));
}

/* read() goes on where the last one ended, and ends with 0. */
static void test_sequential(enum stats_scope scope)
{
	struct stats_file s;
	uint8_t buf[17];
	size_t pos = 0;
	ssize_t got;

	stats_setup(&s, scope);
	while ((got = read(s.fd, buf, sizeof(buf))) > 0) {
		check_bytes(&s, buf, pos, got);
		pos += got;
		STATS_CHECK(pos <= s.size, "read past the end, to %zu", pos);
	}
	STATS_CHECK(!got, "read at %zu: %s", pos, strerror(errno));
	STATS_CHECK(pos == s.size, "read ended at %zu of %zu", pos, s.size);
}

static void check_lseek(int fd, off_t offset, int whence, off_t expected)
{
	off_t pos = lseek(fd, offset, whence);

	STATS_CHECK(pos == expected,
		    "lseek(%lld, %d) returned %lld (%s), expected %lld",
		    (long long)offset, whence, (long long)pos,
		    pos < 0 ? strerror(errno) : "", (long long)expected);
}

static void test_lseek(enum stats_scope scope)
{
	struct stats_file s;

	stats_setup(&s, scope);
	check_lseek(s.fd, 0, SEEK_END, s.size);
	check_lseek(s.fd, -8, SEEK_END, s.size - 8);
	check_lseek(s.fd, -8, SEEK_CUR, s.size - 16);
	check_lseek(s.fd, s.header.desc_offset, SEEK_SET, s.header.desc_offset);
	check_lseek(s.fd, s.size, SEEK_SET, s.size);
	check_lseek(s.fd, 0, SEEK_SET, 0);
}

static void check_lseek_refused(int fd, off_t offset, int whence)
{
	off_t pos = lseek(fd, offset, whence);

	STATS_CHECK(pos == -1 && errno == EINVAL,
		    "lseek(%lld, %d) returned %lld (%s), expected EINVAL",
		    (long long)offset, whence, (long long)pos,
		    pos < 0 ? strerror(errno) : "");
}

static void test_lseek_refused(enum stats_scope scope)
{
	struct stats_file s;

	stats_setup(&s, scope);
	check_lseek(s.fd, 16, SEEK_SET, 16);
	check_lseek_refused(s.fd, -1, SEEK_SET);
	check_lseek_refused(s.fd, s.size + 1, SEEK_SET);
	check_lseek_refused(s.fd, 1, SEEK_END);
	check_lseek_refused(s.fd, -17, SEEK_CUR);
	check_lseek_refused(s.fd, LLONG_MAX, SEEK_CUR);
	check_lseek_refused(s.fd, 0, 99);
	/* What was refused has not moved the position. */
	check_lseek(s.fd, 0, SEEK_CUR, 16);
}

static void test_lseek_and_read(enum stats_scope scope)
{
	struct stats_file s;
	uint8_t buf[64];
	ssize_t got;

	stats_setup(&s, scope);
	check_lseek(s.fd, s.header.desc_offset, SEEK_SET, s.header.desc_offset);
	got = read(s.fd, buf, sizeof(buf));
	STATS_CHECK(got == sizeof(buf), "read returned %zd (%s)", got,
		    got < 0 ? strerror(errno) : "");
	check_bytes(&s, buf, s.header.desc_offset, sizeof(buf));
	check_lseek(s.fd, 0, SEEK_CUR, s.header.desc_offset + sizeof(buf));
	/* Neither does pread() move it. */
	stats_pread(s.fd, buf, sizeof(buf), 0);
	check_lseek(s.fd, 0, SEEK_CUR, s.header.desc_offset + sizeof(buf));
}

/* Nothing in the file has to be waited for, and it says so. */
static void test_nowait(enum stats_scope scope)
{
	struct stats_file s;
	struct iovec iov;
	uint8_t *buf;
	ssize_t got;

	stats_setup(&s, scope);
	buf = malloc(s.size);
	iov = (struct iovec){ buf, s.size };
	got = preadv2(s.fd, &iov, 1, 0, RWF_NOWAIT);
	STATS_CHECK(got == (ssize_t)s.size,
		    "preadv2(RWF_NOWAIT) returned %zd (%s)", got,
		    got < 0 ? strerror(errno) : "");
	check_bytes(&s, buf, 0, got);
}

/* Positional writes fail as on any file that has no positions to write to. */
static void check_write_refused(const char *how, ssize_t got)
{
	STATS_CHECK(got == -1 && (errno == EBADF || errno == ESPIPE),
		    "%s returned %zd (%s)", how, got,
		    got < 0 ? strerror(errno) : "");
}

static void test_write_refused(enum stats_scope scope)
{
	struct iovec iov;
	struct stats_file s;
	char zero[8] = {};
	off_t pos;

	stats_setup(&s, scope);
	pos = s.header.data_offset;
	iov = (struct iovec){ zero, sizeof(zero) };
	STATS_CHECK(write(s.fd, zero, sizeof(zero)) == -1 && errno == EBADF,
		    "write: %s", strerror(errno));
	check_write_refused("pwrite", pwrite(s.fd, zero, sizeof(zero), pos));
	check_write_refused("pwritev", pwritev(s.fd, &iov, 1, pos));
	STATS_CHECK(ftruncate(s.fd, 0) == -1, "ftruncate succeeded");
	stats_check_unchanged(&s, s.fd);
}

static void test_mmap_refused(enum stats_scope scope)
{
	struct stats_file s;
	void *map;

	stats_setup(&s, scope);
	map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, s.fd, 0);
	STATS_CHECK(map == MAP_FAILED, "mmap of the file succeeded");
	STATS_CHECK(errno == ENODEV, "mmap: %s", strerror(errno));
}

static void test_poll_readable(enum stats_scope scope)
{
	struct pollfd pfd = { .events = POLLIN | POLLPRI };
	struct stats_file s;
	int nr;

	stats_setup(&s, scope);
	pfd.fd = s.fd;
	nr = poll(&pfd, 1, 0);
	STATS_CHECK(nr == 1 && (pfd.revents & POLLIN),
		    "poll returned %d, revents %#x", nr, pfd.revents);
}

static const struct stats_case cases[] = {
	{ "whole",		test_whole,		STATS_BOTH },
	{ "byte_by_byte",	test_byte_by_byte,	STATS_BOTH },
	{ "odd_pieces",		test_odd_pieces,	STATS_BOTH },
	{ "straddle_blocks",	test_straddle_blocks,	STATS_BOTH },
	{ "from_any_offset_to_end", test_from_any_offset_to_end, STATS_BOTH },
	{ "at_and_past_end",	test_at_and_past_end,	STATS_BOTH },
	{ "huge_offsets",	test_huge_offsets,	STATS_BOTH },
	{ "offsets_refused",	test_offsets_refused,	STATS_BOTH },
	{ "zero_length",	test_zero_length,	STATS_BOTH },
	{ "bad_buffer",		test_bad_buffer,	STATS_BOTH },
	{ "partly_bad_buffer",	test_partly_bad_buffer,	STATS_BOTH },
	{ "vectored",		test_vectored,		STATS_BOTH },
	{ "vectored_second_bad", test_vectored_second_bad, STATS_BOTH },
	{ "sequential",		test_sequential,	STATS_BOTH },
	{ "lseek",		test_lseek,		STATS_BOTH },
	{ "lseek_refused",	test_lseek_refused,	STATS_BOTH },
	{ "lseek_and_read",	test_lseek_and_read,	STATS_BOTH },
	{ "nowait",		test_nowait,		STATS_BOTH },
	{ "write_refused",	test_write_refused,	STATS_BOTH },
	{ "mmap_refused",	test_mmap_refused,	STATS_BOTH },
	{ "poll_readable",	test_poll_readable,	STATS_BOTH },
};

int main(int argc, char *argv[])
{
	return stats_run_cases(cases, ARRAY_SIZE(cases), argv[1]);
}
