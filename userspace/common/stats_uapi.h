/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/* KVM_GET_STATS_FD for the library and programs, whatever headers are installed. */
#ifndef KVMSTATS_STATS_UAPI_H
#define KVMSTATS_STATS_UAPI_H

#include <linux/ioctl.h>

#define UAPI_GET_STATS_FD	_IO(0xAE, 0xce)

#endif /* KVMSTATS_STATS_UAPI_H */
