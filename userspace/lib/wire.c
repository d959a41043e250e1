// SPDX-License-Identifier: LGPL-2.1-or-later
/* The messages of the transport; the layout is described in kvmstats.h. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "internal.h"

#define WIRE_MAGIC	"KVMSTATS"
#define WIRE_VERSION	1
#define WIRE_ON_BEHALF	1u

struct wire_header {
	char magic[8];
	uint16_t version;
	uint16_t header_bytes;
	uint32_t num_fds;
	uint32_t pid;
	uint32_t flags;
	uint64_t start_time_ticks;
	uint16_t name_bytes;
	uint16_t uuid_bytes;
	uint32_t zero;
};

_Static_assert(sizeof(struct wire_header) == WIRE_HEADER_BYTES, "layout");

/* Bytes that follow the first of a UTF-8 sequence; -1: no such first byte. */
static int utf8_tail(unsigned char first)
{
	if (first < 0x80)
		return 0;
	if (first >= 0xc2 && first <= 0xdf)
		return 1;
	if (first >= 0xe0 && first <= 0xef)
		return 2;
	if (first >= 0xf0 && first <= 0xf4)
		return 3;
	return -1;
}

/* C0, DEL and C1: a terminal would obey them */
static bool is_control(uint32_t point)
{
	return point < 0x20 || (point >= 0x7f && point < 0xa0);
}

static bool point_ok(uint32_t point, int tail)
{
	static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };

	return point >= least[tail] && point <= 0x10ffff &&
	       (point < 0xd800 || point > 0xdfff) && !is_control(point);
}

/* Bytes of the character at @p that may be shown, 0 if it may not. */
static int printable(const unsigned char *p, size_t length)
{
	int tail = utf8_tail(*p);
	uint32_t point;

	if (tail < 0 || length <= (size_t)tail)
		return 0;
	point = tail ? *p & (0x3f >> tail) : *p;
	for (int i = 1; i <= tail; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (p[i] & 0x3f);
	}
	return point_ok(point, tail) ? tail + 1 : 0;
}

bool wire_text_ok(const char *text, size_t length)
{
	const unsigned char *p = (const unsigned char *)text;
	const unsigned char *end = p + length;

	while (p < end) {
		int bytes = printable(p, end - p);

		if (!bytes)
			return false;
		p += bytes;
	}
	return true;
}

void kvmstats_text_clean(char *text)
{
	unsigned char *p = (unsigned char *)text;
	unsigned char *end = p + strlen(text);

	while (p < end) {
		int bytes = printable(p, end - p);

		if (!bytes)
			*p = '?';
		p += bytes ? bytes : 1;
	}
}

/* @bytes has WIRE_MESSAGE_BYTES; returns the length of the message. */
size_t wire_encode(const struct wire_message *message, void *bytes)
{
	struct wire_header header = {
		.magic = WIRE_MAGIC,	/* no room for its NUL, on purpose */
		.version = WIRE_VERSION,
		.header_bytes = sizeof(header),
		.num_fds = message->num_fds,
		.pid = message->pid,
		.flags = message->on_behalf ? WIRE_ON_BEHALF : 0,
		.start_time_ticks = message->start_time_ticks,
		.name_bytes = strlen(message->name),
		.uuid_bytes = strlen(message->uuid),
	};
	char *out = bytes;

	memcpy(out, &header, sizeof(header));
	out += sizeof(header);
	memcpy(out, message->name, header.name_bytes);
	out += header.name_bytes;
	memcpy(out, message->uuid, header.uuid_bytes);
	return sizeof(header) + header.name_bytes + header.uuid_bytes;
}

static int text_from_wire(const char *bytes, size_t length, char *text)
{
	if (!wire_text_ok(bytes, length))
		return -EBADMSG;
	memcpy(text, bytes, length);
	text[length] = 0;
	return 0;
}

static int check_header(const struct wire_header *header, size_t size_bytes)
{
	if (memcmp(header->magic, WIRE_MAGIC, sizeof(header->magic)) ||
	    header->version != WIRE_VERSION)
		return -EBADMSG;
	if (header->flags & ~WIRE_ON_BEHALF || header->zero ||
	    header->header_bytes < sizeof(*header) ||
	    header->num_fds > KVMSTATS_MAX_MESSAGE_FDS)
		return -EBADMSG;
	if (header->name_bytes > KVMSTATS_MAX_VM_NAME ||
	    header->uuid_bytes > KVMSTATS_MAX_VM_NAME)
		return -EBADMSG;
	if (size_bytes != (size_t)header->header_bytes + header->name_bytes +
			  header->uuid_bytes)
		return -EBADMSG;
	return 0;
}

int message_from_wire(const void *bytes, size_t size_bytes,
		      struct wire_message *message)
{
	const char *texts = bytes;
	struct wire_header header;
	int ret;

	if (size_bytes < sizeof(header))
		return -EBADMSG;
	memcpy(&header, bytes, sizeof(header));
	ret = check_header(&header, size_bytes);
	if (ret)
		return ret;
	message->num_fds = header.num_fds;
	message->pid = header.pid;
	message->on_behalf = header.flags & WIRE_ON_BEHALF;
	message->start_time_ticks = header.start_time_ticks;
	texts += header.header_bytes;
	ret = text_from_wire(texts, header.name_bytes, message->name);
	if (ret)
		return ret;
	return text_from_wire(texts + header.name_bytes, header.uuid_bytes,
			      message->uuid);
}

int wire_address(const char *path, void *sockaddr_un)
{
	struct sockaddr_un *address = sockaddr_un;

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (!*path)
		return -EINVAL;
	if (strlen(path) >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	strcpy(address->sun_path, path);
	return 0;
}
