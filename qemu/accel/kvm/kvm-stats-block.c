/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Publish the statistics of block devices
 *
 * What QEMU accounts for goes to libkvmstats at the same time, which keeps it
 * in shared memory where an agent reads it. That has what QEMU does not count
 * (requests in flight, the depth of the queue by time, exact windows), and is
 * up to date whatever the main loop does.
 *
 * Which requests are in flight cannot be told from BlockAcctStats, as device
 * models forget some and begin others twice. Here each has a slot. A cookie
 * knows the number of its slot, and the slot its cookie; where both agree, the
 * request is in flight, however the cookie came by that number. What has been
 * forgotten is found when the BlockBackend has had no request at all for a
 * second.
 *
 * Copyright (c) 2026 kvmstats developers
 */

#include "qemu/osdep.h"
#include <kvmstats.h>
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "hw/qdev-core.h"
#include "block/accounting.h"
#include "sysemu/block-backend.h"
#include "kvm-stats-block.h"

#define TICK_MS 1000

typedef struct Slot {
    BlockAcctCookie *cookie;        /* NULL: free */
    struct kvmstats_block_request request;
    int next_free;                  /* -1: none */
} Slot;

typedef struct Disk {
    BlockAcctObserver observer;
    BlockBackend *blk;
    DeviceState *dev;               /* to compare with only */
    struct kvmstats_block *block;
    /* With the lock of blk's statistics */
    GPtrArray *slots;
    int free;                       /* -1: none */
    unsigned int in_flight;
    bool quiet;                     /* since the last tick: nothing began */
    QTAILQ_ENTRY(Disk) next;
} Disk;

struct KVMStatsBlock {
    DeviceListener listener;
    void (*plugged)(void *opaque, int fd);
    void (*unplugged)(void *opaque);
    void *opaque;
    QemuThread ticker;
    QemuSemaphore end;
    QemuMutex lock;                 /* of the list */
    QTAILQ_HEAD(, Disk) disks;      /* changes with the BQL, too */
};

/* -------------------------------------------------------- the requests */

QEMU_BUILD_BUG_ON(BLOCK_ACCT_READ != KVMSTATS_BLOCK_READ + 1 ||
                  BLOCK_ACCT_WRITE != KVMSTATS_BLOCK_WRITE + 1 ||
                  BLOCK_ACCT_FLUSH != KVMSTATS_BLOCK_FLUSH + 1 ||
                  BLOCK_ACCT_UNMAP != KVMSTATS_BLOCK_DISCARD + 1);

static enum kvmstats_block_op disk_op(enum BlockAcctType type)
{
    return type - 1;
}

static uint64_t disk_clock(void *opaque)
{
    return block_acct_clock_ns();
}

static Slot *disk_slot(Disk *disk, const BlockAcctCookie *cookie)
{
    Slot *slot;

    if (cookie->observed >= disk->slots->len) {
        return NULL;
    }
    slot = g_ptr_array_index(disk->slots, cookie->observed);
    return slot->cookie == cookie ? slot : NULL;
}

static Slot *disk_take_slot(Disk *disk, BlockAcctCookie *cookie)
{
    Slot *slot;

    if (disk->free < 0) {
        slot = g_new0(Slot, 1);
        slot->next_free = -1;
        disk->free = disk->slots->len;
        g_ptr_array_add(disk->slots, slot);
    }
    cookie->observed = disk->free;
    slot = g_ptr_array_index(disk->slots, disk->free);
    disk->free = slot->next_free;
    slot->cookie = cookie;
    disk->in_flight++;
    return slot;
}

static void disk_free_slot(Disk *disk, Slot *slot, unsigned int number)
{
    slot->cookie = NULL;
    slot->next_free = disk->free;
    disk->free = number;
    disk->in_flight--;
}

static void disk_start(BlockAcctObserver *observer, BlockAcctCookie *cookie)
{
    Disk *disk = container_of(observer, Disk, observer);
    Slot *slot = disk_slot(disk, cookie);

    disk->quiet = false;
    if (slot) {
        /* It begins again, or another one where it was */
        kvmstats_block_cancel(disk->block, &slot->request);
    } else {
        slot = disk_take_slot(disk, cookie);
    }
    kvmstats_block_submit(disk->block, &slot->request, disk_op(cookie->type),
                          cookie->bytes);
}

static void disk_end(BlockAcctObserver *observer, BlockAcctCookie *cookie,
                     bool failed)
{
    Disk *disk = container_of(observer, Disk, observer);
    Slot *slot = disk_slot(disk, cookie);

    if (!slot) {
        /* It began before we were there, or was taken for forgotten */
        slot = disk_take_slot(disk, cookie);
        kvmstats_block_submit(disk->block, &slot->request,
                              disk_op(cookie->type), cookie->bytes);
        slot->request.start_ns = cookie->start_time_ns;
    }
    /* Copying devices know only now */
    slot->request.bytes = cookie->bytes;
    kvmstats_block_complete(disk->block, &slot->request, failed);
    disk_free_slot(disk, slot, cookie->observed);
}

static void disk_invalid(BlockAcctObserver *observer, enum BlockAcctType type)
{
    Disk *disk = container_of(observer, Disk, observer);

    kvmstats_block_invalid(disk->block, disk_op(type));
}

static void disk_merged(BlockAcctObserver *observer, enum BlockAcctType type,
                        int num_requests)
{
    Disk *disk = container_of(observer, Disk, observer);

    kvmstats_block_merged(disk->block, disk_op(type), num_requests);
}

/* None of them is in flight: the device model has forgotten them. */
static void disk_cancel_all(Disk *disk)
{
    for (unsigned int i = 0; i < disk->slots->len; i++) {
        Slot *slot = g_ptr_array_index(disk->slots, i);

        if (slot->cookie) {
            kvmstats_block_cancel(disk->block, &slot->request);
            disk_free_slot(disk, slot, i);
        }
    }
}

static void disk_tick(Disk *disk)
{
    WITH_QEMU_LOCK_GUARD(&blk_get_stats(disk->blk)->lock) {
        if (!disk->in_flight || !blk_is_quiet(disk->blk)) {
            disk->quiet = false;
        } else if (disk->quiet) {
            disk_cancel_all(disk);
        } else {
            disk->quiet = true;
        }
    }
    kvmstats_block_tick(disk->block);
}

/* A thread, as the main loop may hang. */
static void *ticker_thread(void *opaque)
{
    KVMStatsBlock *b = opaque;
    Disk *disk;

    while (qemu_sem_timedwait(&b->end, TICK_MS) < 0) {
        QEMU_LOCK_GUARD(&b->lock);
        QTAILQ_FOREACH(disk, &b->disks, next) {
            disk_tick(disk);
        }
    }
    return NULL;
}

/* ------------------------------------------------------------- the disks */

/*
 * What it is attached to: the id of the device or, as virtio's disks are part
 * of a PCI device, of the one that it is part of; the path if there is none.
 */
static char *disk_name(DeviceState *dev)
{
    g_autofree char *path = NULL;
    Object *obj;
    size_t length;

    for (obj = OBJECT(dev); obj; obj = obj->parent) {
        DeviceState *part = (DeviceState *)object_dynamic_cast(obj,
                                                               TYPE_DEVICE);

        if (part && part->id) {
            return g_strndup(part->id, KVMSTATS_MAX_DEVICE);
        }
    }
    path = object_get_canonical_path(OBJECT(dev));
    length = strlen(path);
    return g_strdup(path + (length > KVMSTATS_MAX_DEVICE
                            ? length - KVMSTATS_MAX_DEVICE : 0));
}

static void disk_add(KVMStatsBlock *b, BlockBackend *blk, DeviceState *dev)
{
    const struct kvmstats_block_options options = {
        .size_bytes = sizeof(options), .clock = disk_clock,
    };
    g_autofree char *name = disk_name(dev);
    Disk *disk = g_new0(Disk, 1);
    int ret = kvmstats_block_new(name, &options, &disk->block);

    if (ret < 0) {
        warn_report("kvm-stats-export: the statistics of '%s' are missing: %s",
                    name, strerror(-ret));
        g_free(disk);
        return;
    }
    disk->observer = (BlockAcctObserver) {
        .start = disk_start, .end = disk_end,
        .invalid = disk_invalid, .merged = disk_merged,
    };
    disk->blk = blk;
    disk->dev = dev;
    disk->slots = g_ptr_array_new_with_free_func(g_free);
    disk->free = -1;
    blk_ref(blk);
    WITH_QEMU_LOCK_GUARD(&b->lock) {
        QTAILQ_INSERT_TAIL(&b->disks, disk, next);
    }
    block_acct_set_observer(blk_get_stats(blk), &disk->observer);
    b->plugged(b->opaque,
               kvmstats_device_fd(kvmstats_block_device(disk->block)));
}

static void disk_remove(KVMStatsBlock *b, Disk *disk)
{
    block_acct_set_observer(blk_get_stats(disk->blk), NULL);
    WITH_QEMU_LOCK_GUARD(&b->lock) {
        QTAILQ_REMOVE(&b->disks, disk, next);
    }
    blk_unref(disk->blk);
    kvmstats_block_free(disk->block);
    g_ptr_array_free(disk->slots, true);
    g_free(disk);
}

static void block_realize(DeviceListener *listener, DeviceState *dev)
{
    KVMStatsBlock *b = container_of(listener, KVMStatsBlock, listener);
    BlockBackend *blk = NULL;

    while ((blk = blk_all_next(blk))) {
        if (blk_get_attached_dev(blk) == dev) {
            disk_add(b, blk, dev);
        }
    }
}

static void block_unrealize(DeviceListener *listener, DeviceState *dev)
{
    KVMStatsBlock *b = container_of(listener, KVMStatsBlock, listener);
    Disk *disk, *next;
    bool any = false;

    QTAILQ_FOREACH_SAFE(disk, &b->disks, next, next) {
        if (disk->dev == dev) {
            disk_remove(b, disk);
            any = true;
        }
    }
    if (any) {
        b->unplugged(b->opaque);
    }
}

KVMStatsBlock *kvm_stats_block_new(void (*plugged)(void *opaque, int fd),
                                   void (*unplugged)(void *opaque),
                                   void *opaque)
{
    KVMStatsBlock *b = g_new0(KVMStatsBlock, 1);

    b->plugged = plugged;
    b->unplugged = unplugged;
    b->opaque = opaque;
    QTAILQ_INIT(&b->disks);
    qemu_mutex_init(&b->lock);
    qemu_sem_init(&b->end, 0);
    b->listener.realize = block_realize;
    b->listener.unrealize = block_unrealize;
    /* Calls it for the devices that there are */
    device_listener_register(&b->listener);
    qemu_thread_create(&b->ticker, "stats-block", ticker_thread, b,
                       QEMU_THREAD_JOINABLE);
    return b;
}

void kvm_stats_block_again(KVMStatsBlock *b)
{
    Disk *disk;

    QTAILQ_FOREACH(disk, &b->disks, next) {
        b->plugged(b->opaque,
                   kvmstats_device_fd(kvmstats_block_device(disk->block)));
    }
}

void kvm_stats_block_free(KVMStatsBlock *b)
{
    Disk *disk, *next;

    if (!b) {
        return;
    }
    device_listener_unregister(&b->listener);
    qemu_sem_post(&b->end);
    qemu_thread_join(&b->ticker);
    QTAILQ_FOREACH_SAFE(disk, &b->disks, next, next) {
        disk_remove(b, disk);
    }
    qemu_sem_destroy(&b->end);
    qemu_mutex_destroy(&b->lock);
    g_free(b);
}
