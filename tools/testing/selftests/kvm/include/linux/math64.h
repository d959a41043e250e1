/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a kernel header that is compiled into a test needs of this one.
 */
#ifndef SELFTEST_KVM_LINUX_MATH64_H
#define SELFTEST_KVM_LINUX_MATH64_H

#include <linux/types.h>

static inline u64 div64_u64(u64 dividend, u64 divisor)
{
	return dividend / divisor;
}

#endif /* SELFTEST_KVM_LINUX_MATH64_H */
