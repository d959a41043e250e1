/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef KVMSTATS_PRELOAD_H
#define KVMSTATS_PRELOAD_H

#include <stdbool.h>

/* environment.c */
/* A socket that was inherited, over which connections are passed; or -1. */
extern int preload_handoff;
extern const char *preload_socket, *preload_name, *preload_uuid;

void preload_environment(void);
void preload_leave_environment(void);
/* Is @preload_handoff still what was inherited? */
bool preload_has_handoff(void);

/* register.c; errno is the caller's to keep */
void preload_vm_creating(void);
void preload_vm_created(int vm_fd);
void preload_vcpu_created(int vm_fd, int vcpu_fd);

#endif /* KVMSTATS_PRELOAD_H */
