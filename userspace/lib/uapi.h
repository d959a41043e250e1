/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's binary interface, as far as the library needs it. Own
 * definitions, because the headers of the build machine may be older.
 */
#ifndef KVMSTATS_LIB_UAPI_H
#define KVMSTATS_LIB_UAPI_H

#include <stdint.h>

#include "../common/stats_uapi.h"

#define UAPI_GET_VCPUS_STATS_FD	_IO(0xAE, 0xf9)
#define UAPI_CHECK_EXTENSION	_IO(0xAE, 0x03)
#define UAPI_CAP_STATS_FD	203	/* KVM_CAP_BINARY_STATS_FD */
#define UAPI_CAP_VCPUS_STATS_FD	51005	/* KVM_CAP_VCPUS_STATS_FD */
#define UAPI_ANON_INODE_MAGIC	0x09041934

struct uapi_header {
	uint32_t flags;
	uint32_t name_size;
	uint32_t num_desc;
	uint32_t id_offset;
	uint32_t desc_offset;
	uint32_t data_offset;
};

#define UAPI_FLAG_VCPUS		0x80000000u	/* of the header */

/* Of all vCPUs in one file: the num_desc that others read is 0. */
struct uapi_vcpus_header {
	struct uapi_header header;
	uint32_t num_desc;
	uint32_t record_size;
	uint32_t values_offset;
	uint32_t pad;
};

/* name_size bytes of name follow */
struct uapi_desc {
	uint32_t flags;
	int16_t exponent;
	uint16_t size;
	uint32_t offset;
	uint32_t bucket_size;
};

#define UAPI_TYPE(flags)	((flags) & 0xf)
#define UAPI_UNIT(flags)	((flags) >> 4 & 0xf)
#define UAPI_BASE(flags)	((flags) >> 8 & 0xf)
#define UAPI_BASE_POW10		0
#define UAPI_BASE_POW2		1

_Static_assert(sizeof(struct uapi_header) == 24, "header layout");
_Static_assert(sizeof(struct uapi_vcpus_header) == 40, "header layout");
_Static_assert(sizeof(struct uapi_desc) == 16, "descriptor layout");

#endif /* KVMSTATS_LIB_UAPI_H */
