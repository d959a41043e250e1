/* SPDX-License-Identifier: GPL-2.0-only */
/* libsystemd, or nothing. */
#ifndef KVMSTATD_SUPERVISOR_H
#define KVMSTATD_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>

/* There is somebody who keeps descriptors for us. */
bool supervised(void);
void supervisor_keep(const char *name, const int *fds, size_t count);
void supervisor_drop(const char *name);
/* Until all that was said before has been done. */
void supervisor_wait(void);

#endif /* KVMSTATD_SUPERVISOR_H */
