/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Publish the statistics of block devices, as they come and go
 *
 * Copyright (c) 2026 kvmstats developers
 */

#include "qemu/osdep.h"
#include "hw/qdev-core.h"
#include "block/acct-publish.h"
#include "sysemu/block-backend.h"
#include "kvm-stats-block.h"

struct KVMStatsBlock {
    DeviceListener listener;
    BlockAcctPublisher *publisher;
    void (*unplugged)(void *opaque);
    void *opaque;
};

/*
 * What it is attached to: the id of the device or, as virtio's disks are part
 * of a PCI device, of the one that it is part of; the path if there is none.
 */
static char *disk_name(DeviceState *dev)
{
    Object *obj;

    for (obj = OBJECT(dev); obj; obj = obj->parent) {
        DeviceState *part = (DeviceState *)object_dynamic_cast(obj,
                                                               TYPE_DEVICE);

        if (part && part->id) {
            return g_strdup(part->id);
        }
    }
    return object_get_canonical_path(OBJECT(dev));
}

static void block_realize(DeviceListener *listener, DeviceState *dev)
{
    KVMStatsBlock *b = container_of(listener, KVMStatsBlock, listener);
    BlockBackend *blk = NULL;

    while ((blk = blk_all_next(blk))) {
        if (blk_get_attached_dev(blk) == dev) {
            g_autofree char *name = disk_name(dev);

            block_acct_publish(b->publisher, blk, name, dev);
        }
    }
}

static void block_unrealize(DeviceListener *listener, DeviceState *dev)
{
    KVMStatsBlock *b = container_of(listener, KVMStatsBlock, listener);

    if (block_acct_unpublish(b->publisher, dev)) {
        b->unplugged(b->opaque);
    }
}

KVMStatsBlock *kvm_stats_block_new(void (*plugged)(void *opaque, int fd),
                                   void (*unplugged)(void *opaque),
                                   void *opaque)
{
    KVMStatsBlock *b = g_new0(KVMStatsBlock, 1);

    b->unplugged = unplugged;
    b->opaque = opaque;
    b->publisher = block_acct_publisher_new(plugged, opaque);
    b->listener.realize = block_realize;
    b->listener.unrealize = block_unrealize;
    /* Calls it for the devices that there are */
    device_listener_register(&b->listener);
    return b;
}

void kvm_stats_block_again(KVMStatsBlock *b)
{
    block_acct_publish_again(b->publisher);
}

void kvm_stats_block_free(KVMStatsBlock *b)
{
    if (!b) {
        return;
    }
    device_listener_unregister(&b->listener);
    block_acct_publisher_free(b->publisher);
    g_free(b);
}
