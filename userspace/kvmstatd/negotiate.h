/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTATD_NEGOTIATE_H
#define KVMSTATD_NEGOTIATE_H

#include <stdbool.h>

#include "plan.h"

/* What a client wants; both take NULL for a header that is not there. */
enum exposition negotiate_format(const char *accept);
bool negotiate_gzip(const char *accept_encoding);

#endif /* KVMSTATD_NEGOTIATE_H */
