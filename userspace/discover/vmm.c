// SPDX-License-Identifier: GPL-2.0-only
/* A process with a VM, and the connection that registers it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/log.h"
#include "discover.h"

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
	vmm->sent = false;
	return make_sender(vmm);
}

/* Connects, sends what is due, and notices the reader's end. */
void vmm_maintain(struct vmm *vmm, const char *socket_path, int *wait_ms)
{
	bool was_sent = vmm->sent;
	int ret = kvmstats_sender_maintain(vmm->sender, socket_path, wait_ms);

	vmm->sent = ret == 1;
	if (vmm->sent && !was_sent)
		log_info("%s (pid %d): registered, %zu descriptors", vmm->name,
			 kvmstats_vmm_pid(vmm->found),
			 kvmstats_vmm_source_count(vmm->found));
	else if (was_sent && ret == -EPIPE)
		log_info("%s (pid %d): kvmstatd has closed the connection",
			 vmm->name, kvmstats_vmm_pid(vmm->found));
	else if (ret < 0 && ret != vmm->error)
		log_warning("%s (pid %d): not registered at %s: %s", vmm->name,
			    kvmstats_vmm_pid(vmm->found), socket_path,
			    strerror(-ret));
	vmm->error = ret < 0 ? ret : 0;
}

void vmm_end(struct vmm *vmm)
{
	if (!vmm)
		return;
	log_info("%s (pid %d): has ended", vmm->name,
		 kvmstats_vmm_pid(vmm->found));
	kvmstats_sender_free(vmm->sender);
	vmm->sender = NULL;
}

void vmm_free(struct vmm *vmm)
{
	if (!vmm)
		return;
	kvmstats_sender_free(vmm->sender);
	kvmstats_vmm_free(vmm->found);
	free(vmm);
}
