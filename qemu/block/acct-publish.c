/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Publish what BlockBackends account for
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
#include "block/accounting.h"
#include "block/acct-publish.h"
#include "sysemu/block-backend.h"

#define TICK_MS 1000

typedef struct Slot {
    BlockAcctCookie *cookie;        /* NULL: free */
    struct kvmstats_block_request request;
    int next_free;                  /* -1: none */
} Slot;

typedef struct Disk {
    BlockAcctObserver observer;
    BlockBackend *blk;
    void *owner;                    /* to compare with only */
    struct kvmstats_block *block;
    /* With the lock of blk's statistics */
    GPtrArray *slots;
    int free;                       /* -1: none */
    unsigned int in_flight;
    bool quiet;                     /* since the last tick: nothing began */
    QTAILQ_ENTRY(Disk) next;
} Disk;

struct BlockAcctPublisher {
    void (*added)(void *opaque, int fd);
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
    BlockAcctPublisher *p = opaque;
    Disk *disk;

    while (qemu_sem_timedwait(&p->end, TICK_MS) < 0) {
        QEMU_LOCK_GUARD(&p->lock);
        QTAILQ_FOREACH(disk, &p->disks, next) {
            disk_tick(disk);
        }
    }
    return NULL;
}

/* ------------------------------------------------------------- the disks */

static int disk_fd(const Disk *disk)
{
    return kvmstats_device_fd(kvmstats_block_device(disk->block));
}

void block_acct_publish(BlockAcctPublisher *p, BlockBackend *blk,
                        const char *name, void *owner)
{
    const struct kvmstats_block_options options = {
        .size_bytes = sizeof(options), .clock = disk_clock,
    };
    /* Of a name that is too long, the end says more than the beginning */
    size_t length = strlen(name);
    Disk *disk = g_new0(Disk, 1);
    int ret;

    if (length > KVMSTATS_MAX_DEVICE) {
        name += length - KVMSTATS_MAX_DEVICE;
    }
    ret = kvmstats_block_new(name, &options, &disk->block);
    if (ret < 0) {
        warn_report("the statistics of block device '%s' are not published: %s",
                    name, strerror(-ret));
        g_free(disk);
        return;
    }
    disk->observer = (BlockAcctObserver) {
        .start = disk_start, .end = disk_end,
        .invalid = disk_invalid, .merged = disk_merged,
    };
    disk->blk = blk;
    disk->owner = owner;
    disk->slots = g_ptr_array_new_with_free_func(g_free);
    disk->free = -1;
    blk_ref(blk);
    WITH_QEMU_LOCK_GUARD(&p->lock) {
        QTAILQ_INSERT_TAIL(&p->disks, disk, next);
    }
    block_acct_set_observer(blk_get_stats(blk), &disk->observer);
    p->added(p->opaque, disk_fd(disk));
}

static void disk_remove(BlockAcctPublisher *p, Disk *disk)
{
    block_acct_set_observer(blk_get_stats(disk->blk), NULL);
    WITH_QEMU_LOCK_GUARD(&p->lock) {
        QTAILQ_REMOVE(&p->disks, disk, next);
    }
    blk_unref(disk->blk);
    kvmstats_block_free(disk->block);
    g_ptr_array_free(disk->slots, true);
    g_free(disk);
}

bool block_acct_unpublish(BlockAcctPublisher *p, void *owner)
{
    Disk *disk, *next;
    bool any = false;

    QTAILQ_FOREACH_SAFE(disk, &p->disks, next, next) {
        if (disk->owner == owner) {
            disk_remove(p, disk);
            any = true;
        }
    }
    return any;
}

BlockAcctPublisher *block_acct_publisher_new(void (*added)(void *opaque,
                                                           int fd),
                                             void *opaque)
{
    BlockAcctPublisher *p = g_new0(BlockAcctPublisher, 1);

    p->added = added;
    p->opaque = opaque;
    QTAILQ_INIT(&p->disks);
    qemu_mutex_init(&p->lock);
    qemu_sem_init(&p->end, 0);
    qemu_thread_create(&p->ticker, "stats-block", ticker_thread, p,
                       QEMU_THREAD_JOINABLE);
    return p;
}

void block_acct_publish_again(BlockAcctPublisher *p)
{
    Disk *disk;

    QTAILQ_FOREACH(disk, &p->disks, next) {
        p->added(p->opaque, disk_fd(disk));
    }
}

void block_acct_publisher_free(BlockAcctPublisher *p)
{
    Disk *disk, *next;

    if (!p) {
        return;
    }
    qemu_sem_post(&p->end);
    qemu_thread_join(&p->ticker);
    QTAILQ_FOREACH_SAFE(disk, &p->disks, next, next) {
        disk_remove(p, disk);
    }
    qemu_sem_destroy(&p->end);
    qemu_mutex_destroy(&p->lock);
    g_free(p);
}
