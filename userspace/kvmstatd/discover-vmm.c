// SPDX-License-Identifier: GPL-2.0-only
/* A process with a VM, and the connection that registers it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "discover.h"

#define RETRY_FIRST_NS	1000000000ull
#define RETRY_MAX_NS	60000000000ull

/* A name that the sender does not take has been replaced before. */
static int fill_sender(struct kvmstats_sender *sender, struct look *look,
		       pid_t pid)
{
	int ret = kvmstats_sender_on_behalf(sender, pid,
					    look->answer.start_ticks);

	while (!ret && look->count) {
		ret = kvmstats_sender_add_stats(sender,
						look->stats[look->count - 1]);
		if (!ret)
			look->count--;
	}
	return ret;
}

int vmm_new(pid_t pid, struct look *look, struct vmm **result)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));
	int ret;

	if (!vmm)
		return -ENOMEM;
	vmm->pidfd = -1;
	vmm->count = look->count;
	ret = kvmstats_sender_new(look->answer.name, look->answer.uuid,
				  &vmm->sender);
	if (!ret)
		ret = fill_sender(vmm->sender, look, pid);
	if (ret) {
		vmm_free(vmm);
		return ret;
	}
	vmm->pid = pid;
	vmm->pidfd = look->pidfd;
	look->pidfd = -1;
	vmm->mark = look->answer.mark;
	strcpy(vmm->name, look->answer.name);
	*result = vmm;
	return 0;
}

static void try_later(struct vmm *vmm, uint64_t now)
{
	vmm->retry_wait_ns = vmm->retry_wait_ns ? 2 * vmm->retry_wait_ns :
						  RETRY_FIRST_NS;
	if (vmm->retry_wait_ns > RETRY_MAX_NS)
		vmm->retry_wait_ns = RETRY_MAX_NS;
	vmm->retry_ns = now + vmm->retry_wait_ns;
	vmm->connected = false;
}

static void failed(struct vmm *vmm, const char *socket_path, int error,
		   uint64_t now)
{
	if (vmm->error != error)
		say("%s (pid %d): not registered at %s: %s", vmm->name,
		    vmm->pid, socket_path, strerror(-error));
	vmm->error = error;
	try_later(vmm, now);
}

void vmm_register(struct vmm *vmm, const char *socket_path, uint64_t now)
{
	int ret = 0;

	if (vmm->sent || (!vmm->connected && now < vmm->retry_ns))
		return;
	if (!vmm->connected)
		ret = kvmstats_sender_connect(vmm->sender, socket_path);
	if (!ret) {
		vmm->connected = true;
		ret = kvmstats_sender_flush(vmm->sender);
	}
	if (ret == -EAGAIN && vmm->connected)
		return;		/* the socket is full: when it is writable */
	if (ret < 0) {
		failed(vmm, socket_path, ret, now);
		return;
	}
	say("%s (pid %d): registered, %zu descriptors", vmm->name, vmm->pid,
	    vmm->count);
	vmm->sent = true;
	vmm->error = 0;
}

/*
 * The reader restarts, or does not want this registration: it does not say
 * which, so wait longer each time, until one connection has held for a while.
 */
void vmm_lost(struct vmm *vmm, uint64_t now)
{
	if (vmm->retry_ns + RETRY_MAX_NS < now)
		vmm->retry_wait_ns = 0;
	if (vmm->sent)
		say("%s (pid %d): connection closed by the reader", vmm->name,
		    vmm->pid);
	vmm->sent = false;
	try_later(vmm, now);
}

void vmm_end(struct vmm *vmm)
{
	if (vmm)
		say("%s (pid %d): has ended", vmm->name, vmm->pid);
	vmm_free(vmm);
}

void vmm_free(struct vmm *vmm)
{
	if (!vmm)
		return;
	kvmstats_sender_free(vmm->sender);
	if (vmm->pidfd >= 0)
		close(vmm->pidfd);
	free(vmm);
}
