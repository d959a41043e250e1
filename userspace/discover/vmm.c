// SPDX-License-Identifier: GPL-2.0-only
/* A process with a VM, and the connection that registers it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/log.h"
#include "discover.h"

#define RETRY_FIRST_NS	1000000000ull
#define RETRY_MAX_NS	60000000000ull

static int make_sender(struct vmm *vmm)
{
	const struct kvmstats_vmm *found = vmm->found;
	int ret = kvmstats_sender_new(vmm->name, kvmstats_vmm_uuid(found),
				      &vmm->sender);

	if (!ret)
		ret = kvmstats_sender_on_behalf(vmm->sender,
						kvmstats_vmm_pid(found),
						kvmstats_vmm_start_ticks(found));
	for (size_t i = 0; !ret && i < kvmstats_vmm_source_count(found); i++)
		ret = kvmstats_sender_add_source(vmm->sender,
						 kvmstats_vmm_source(found, i));
	return ret;
}

int vmm_new(struct kvmstats_vmm *found, struct vmm **result)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));
	int ret;

	if (!vmm)
		return -ENOMEM;
	vmm->found = found;
	snprintf(vmm->name, sizeof(vmm->name), "%s", kvmstats_vmm_name(found));
	if (!*vmm->name)
		snprintf(vmm->name, sizeof(vmm->name), "pid-%d",
			 kvmstats_vmm_pid(found));
	ret = make_sender(vmm);
	if (ret) {
		kvmstats_sender_free(vmm->sender);
		free(vmm);
		return ret;
	}
	*result = vmm;
	return 0;
}

/* The old registration ends first: there is never a moment with two. */
int vmm_renew(struct vmm *vmm)
{
	log_info("%s (pid %d): its descriptors have changed", vmm->name,
	    kvmstats_vmm_pid(vmm->found));
	kvmstats_sender_free(vmm->sender);
	vmm->sender = NULL;
	vmm->connected = false;
	vmm->sent = false;
	vmm->retry_ns = 0;
	return make_sender(vmm);
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
		log_warning("%s (pid %d): not registered at %s: %s", vmm->name,
		    kvmstats_vmm_pid(vmm->found), socket_path,
		    strerror(-error));
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
	log_info("%s (pid %d): registered, %zu descriptors", vmm->name,
	    kvmstats_vmm_pid(vmm->found),
	    kvmstats_vmm_source_count(vmm->found));
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
		log_info("%s (pid %d): connection closed by the reader", vmm->name,
		    kvmstats_vmm_pid(vmm->found));
	vmm->sent = false;
	try_later(vmm, now);
}

void vmm_end(struct vmm *vmm)
{
	if (vmm)
		log_info("%s (pid %d): has ended", vmm->name,
		    kvmstats_vmm_pid(vmm->found));
	vmm_free(vmm);
}

void vmm_free(struct vmm *vmm)
{
	if (!vmm)
		return;
	kvmstats_sender_free(vmm->sender);
	kvmstats_vmm_free(vmm->found);
	free(vmm);
}
