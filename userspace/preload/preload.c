// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * libkvmstats-preload - the statistics descriptors of a VMM that knows nothing
 * of them
 *
 * Loaded by LD_PRELOAD into the VMM (kvmstat run does that). It stands in for
 * ioctl(2); when that has created a VM or a vCPU, it takes the statistics
 * descriptor there and then, before the first KVM_RUN, and sends it to the
 * socket that the environment names:
 *
 *   KVMSTATS_SOCKET  where a reader listens
 *   KVMSTATS_HANDOFF a socket that was inherited, for connections to a reader
 *                    that cannot be reached by a path any more; its number and
 *                    inode. Without either nothing is done.
 *   KVMSTATS_NAME    the name of the VM (default: what the VMM's
 *                    command line calls it, or else the program's name)
 *   KVMSTATS_UUID    its uuid (default: that of the command line, or none)
 *   KVMSTATS_DIRTY_QUOTA  bytes that the VM may dirty in a second while it is
 *                    migrated; see quota.c
 *
 * It must never harm the VMM: errno stays, nothing is printed, no signal is
 * raised, and waiting has an end. Of the descriptors that it opens one for each VM
 * stays, the connection. With KVMSTATS_SOCKET alone, for an agent that may begin
 * later or anew, the statistics descriptors stay, too, with numbers from 1024 on
 * where there are such, and a thread waits for the agent; see keep.c.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload.h"

#define EXPORT __attribute__((__visibility__("default")))

struct next {
	_Atomic(ioctl_fn *) found;
};

static struct next next_ioctl;

static int raw_ioctl(int fd, unsigned long request, ...)
{
	void *argument;
	va_list args;

	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);
	return syscall(SYS_ioctl, fd, request, argument);
}

/*
 * Other libraries' constructors may come before ours and call ioctl. There may
 * be another library between us and the C library: it has its turn.
 */
static ioctl_fn *resolve(struct next *next, const char *name)
{
	ioctl_fn *found = atomic_load_explicit(&next->found, memory_order_relaxed);
	void *symbol;

	if (found)
		return found;
	symbol = dlsym(RTLD_NEXT, name);
	if (symbol)
		/* C has no cast from an object's pointer to a function's */
		memcpy(&found, &symbol, sizeof(found));
	else
		found = raw_ioctl;
	atomic_store_explicit(&next->found, found, memory_order_relaxed);
	return found;
}

/* A cancelled thread would leave the lock behind. */
static void created(int fd, unsigned int request, int result)
{
	int error = errno, cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	if (request == KVM_CREATE_VM)
		preload_vm_created(result);
	else
		preload_vcpu_created(fd, result);
	pthread_setcancelstate(cancel, NULL);
	errno = error;
}

static void creating(void)
{
	int error = errno, cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	preload_vm_creating();
	pthread_setcancelstate(cancel, NULL);
	errno = error;
}

static void limited(ioctl_fn *next, unsigned int request, int result,
		    const void *argument)
{
	int error = errno, cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	switch (request) {
	case KVM_CREATE_VM:
		preload_quota_vm_created(next, result);
		break;
	case KVM_CREATE_VCPU:
		preload_quota_vcpu_created(result);
		break;
	case KVM_SET_USER_MEMORY_REGION:
		preload_quota_slot_set(argument);
		break;
	case KVM_GET_DIRTY_LOG:
		preload_quota_log_taken(argument);
	}
	pthread_setcancelstate(cancel, NULL);
	errno = error;
}

static int watched_ioctl(ioctl_fn *next, int fd, unsigned long request,
			 void *argument)
{
	int result;

	if (preload_quota && (unsigned int)request == KVM_RUN)
		return preload_quota_run(next, fd, argument);
	if ((unsigned int)request == KVM_CREATE_VM)
		creating();
	result = next(fd, request, argument);
	if (preload_quota && result >= 0)
		limited(next, request, result, argument);

	/* of its 32 bits some C libraries make a negative number */
	switch ((unsigned int)request) {
	case KVM_CREATE_VM:
	case KVM_CREATE_VCPU:
		if (result >= 0)
			created(fd, request, result);
	}
	return result;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	void *argument;
	va_list args;

	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);
	return watched_ioctl(resolve(&next_ioctl, "ioctl"), fd, request,
			     argument);
}

#if __SIZEOF_LONG__ == 4
/* What ioctl is called in 32-bit programs with 64-bit time. */
EXPORT int __ioctl_time64(int fd, unsigned long request, ...);

EXPORT int __ioctl_time64(int fd, unsigned long request, ...)
{
	static struct next next;
	void *argument;
	va_list args;

	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);
	return watched_ioctl(resolve(&next, "__ioctl_time64"), fd, request,
			     argument);
}
#endif

__attribute__((__constructor__))
static void on_load(void)
{
	resolve(&next_ioctl, "ioctl");
	preload_environment();
	preload_quota_environment();
}
