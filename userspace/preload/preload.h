/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef KVMSTATS_PRELOAD_H
#define KVMSTATS_PRELOAD_H

#include <stdbool.h>
#include <stdint.h>

typedef int ioctl_fn(int fd, unsigned long request, ...);

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

/* quota.c: pages that the VM may dirty in a second; 0: none of what follows is called */
extern uint64_t preload_quota;

void preload_quota_environment(void);
/* What the VMM's ioctl has done, or shall do: errno is kept by the caller. */
void preload_quota_vm_created(ioctl_fn *next, int vm_fd);
void preload_quota_vcpu_created(int vcpu_fd);
void preload_quota_slot_set(const void *argument);
void preload_quota_log_taken(const void *argument);
int preload_quota_run(ioctl_fn *next, int vcpu_fd, void *argument);

#endif /* KVMSTATS_PRELOAD_H */
