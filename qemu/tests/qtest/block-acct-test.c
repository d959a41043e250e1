/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QTest of what query-blockstats says of the requests of a virtio-blk device
 *
 * Copyright (c) 2026 kvmstats developers
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "libqos/malloc-pc.h"
#include "libqos/pci-pc.h"
#include "libqos/virtio-pci.h"
#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qlist.h"
#include "qapi/qmp/qnum.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_blk.h"

#define TIMEOUT_US (30 * 1000 * 1000)
#define SECTORS 2048            /* of the disk */

typedef struct {
    QTestState *qts;
    QGuestAllocator alloc;
    QPCIBus *bus;
    QVirtioPCIDevice *pci;
    QVirtQueue *vq;
} Disk;

/* @options: of the device, in JSON; @node: of the node "disk", the same */
static void disk_start(Disk *disk, const char *options, const char *node)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(4, 0) };
    QVirtioDevice *vdev;
    uint64_t features;

    disk->qts = qtest_initf("-machine pc -nodefaults -blockdev '%s' -device "
                            "'{\"driver\": \"virtio-blk-pci\", \"id\": \"d0\","
                            " \"addr\": \"4\", \"drive\": \"disk\" %s}'",
                            node, options);
    pc_alloc_init(&disk->alloc, disk->qts, ALLOC_NO_FLAGS);
    disk->bus = qpci_new_pc(disk->qts, &disk->alloc);
    disk->pci = virtio_pci_new(disk->bus, &addr);
    vdev = &disk->pci->vdev;
    qvirtio_pci_device_enable(disk->pci);
    qvirtio_start_device(vdev);
    features = qvirtio_get_features(vdev);
    qvirtio_set_features(vdev, features & ~(QVIRTIO_F_BAD_FEATURE |
                                            1u << VIRTIO_RING_F_INDIRECT_DESC |
                                            1u << VIRTIO_RING_F_EVENT_IDX));
    disk->vq = qvirtqueue_setup(vdev, &disk->alloc, 0);
    qvirtio_set_driver_ok(vdev);
}

static void disk_end(Disk *disk)
{
    qvirtqueue_cleanup(disk->pci->vdev.bus, disk->vq, &disk->alloc);
    qvirtio_pci_destructor(&disk->pci->obj);
    g_free(disk->pci);
    qpci_free_pc(disk->bus);
    alloc_destroy(&disk->alloc);
    qtest_quit(disk->qts);
}

#define NULL_NODE "{\"driver\": \"null-co\", \"node-name\": \"disk\"," \
                  " \"size\": 1048576, \"read-zeroes\": true}"

/* A request with one buffer, which the device reads or writes: its status */
static uint8_t request(Disk *disk, uint32_t type, uint64_t sector,
                       const void *data, size_t bytes)
{
    struct virtio_blk_outhdr header = {
        .type = cpu_to_le32(type), .sector = cpu_to_le64(sector),
    };
    uint64_t addr = guest_alloc(&disk->alloc, sizeof(header) + bytes + 1);
    uint64_t status_addr = addr + sizeof(header) + bytes;
    QTestState *qts = disk->qts;
    uint32_t head;
    uint8_t status;

    qtest_memwrite(qts, addr, &header, sizeof(header));
    qtest_writeb(qts, status_addr, 0xff);
    head = qvirtqueue_add(qts, disk->vq, addr, sizeof(header), false, true);
    if (bytes) {
        if (data) {
            qtest_memwrite(qts, addr + sizeof(header), data, bytes);
        }
        qvirtqueue_add(qts, disk->vq, addr + sizeof(header), bytes,
                       type == VIRTIO_BLK_T_IN, true);
    }
    qvirtqueue_add(qts, disk->vq, status_addr, 1, true, false);
    qvirtqueue_kick(qts, &disk->pci->vdev, disk->vq, head);
    qvirtio_wait_used_elem(qts, &disk->pci->vdev, disk->vq, head, NULL,
                           TIMEOUT_US);
    status = qtest_readb(qts, status_addr);
    guest_free(&disk->alloc, addr);
    return status;
}

static uint8_t discard_or_zero(Disk *disk, uint32_t type, uint64_t sector,
                               uint32_t sectors, uint32_t flags)
{
    struct virtio_blk_discard_write_zeroes range = {
        .sector = cpu_to_le64(sector), .num_sectors = cpu_to_le32(sectors),
        .flags = cpu_to_le32(flags),
    };

    return request(disk, type, 0, &range, sizeof(range));
}

/* To be freed by the caller */
static QDict *disk_stats(Disk *disk)
{
    QDict *rsp = qtest_qmp(disk->qts, "{ 'execute': 'query-blockstats' }");
    const QListEntry *entry = qlist_first(qdict_get_qlist(rsp, "return"));
    QDict *info = qobject_to(QDict, qlist_entry_obj(entry));
    QDict *stats = qdict_get_qdict(info, "stats");

    g_assert_null(qlist_next(entry));
    qobject_ref(stats);
    qobject_unref(rsp);
    return stats;
}

/* Of @operation: how many, bytes of those, and the two that went wrong */
static void assert_counted(Disk *disk, const char *operation, int64_t done,
                           int64_t bytes, int64_t failed, int64_t invalid)
{
    static const char *const formats[] = {
        "%s_operations", "%s_bytes", "failed_%s_operations",
        "invalid_%s_operations",
    };
    int64_t expected[] = { done, bytes, failed, invalid };
    QDict *stats = disk_stats(disk);

    for (int i = 0; i < ARRAY_SIZE(formats); i++) {
        g_autofree char *name = g_strdup_printf(formats[i], operation);

        g_assert_cmpint(qdict_get_int(stats, name), ==, expected[i]);
    }
    qobject_unref(stats);
}

static void test_discard(void)
{
    Disk disk;

    disk_start(&disk, "", NULL_NODE);
    g_assert_cmpint(discard_or_zero(&disk, VIRTIO_BLK_T_DISCARD, 8, 16, 0),
                    ==, VIRTIO_BLK_S_OK);
    g_assert_cmpint(discard_or_zero(&disk, VIRTIO_BLK_T_DISCARD, 0, SECTORS,
                                    0), ==, VIRTIO_BLK_S_OK);
    assert_counted(&disk, "unmap", 2, (16 + SECTORS) * 512, 0, 0);
    /* beyond the end, more than the device takes at once, a flag of others */
    g_assert_cmpint(discard_or_zero(&disk, VIRTIO_BLK_T_DISCARD, SECTORS - 1,
                                    2, 0), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpint(discard_or_zero(&disk, VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX,
                                    0), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpint(discard_or_zero(&disk, VIRTIO_BLK_T_DISCARD, 0, 1,
                                    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
                    ==, VIRTIO_BLK_S_UNSUPP);
    assert_counted(&disk, "unmap", 2, (16 + SECTORS) * 512, 0, 3);
    assert_counted(&disk, "wr", 0, 0, 0, 0);
    disk_end(&disk);
}

static void test_write_zeroes(void)
{
    Disk disk;

    disk_start(&disk, "", NULL_NODE);
    g_assert_cmpint(discard_or_zero(&disk, VIRTIO_BLK_T_WRITE_ZEROES, 8, 16,
                                    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
                    ==, VIRTIO_BLK_S_OK);
    g_assert_cmpint(discard_or_zero(&disk, VIRTIO_BLK_T_WRITE_ZEROES, SECTORS,
                                    1, 0), ==, VIRTIO_BLK_S_IOERR);
    assert_counted(&disk, "wr", 1, 16 * 512, 0, 1);
    assert_counted(&disk, "unmap", 0, 0, 0, 0);
    disk_end(&disk);
}

static void test_failed(void)
{
    Disk disk;

    disk_start(&disk, ", \"discard\": true",
               "{\"driver\": \"blkdebug\", \"node-name\": \"disk\","
               " \"discard\": \"unmap\", \"image\": {\"driver\": \"null-co\","
               " \"size\": 1048576, \"discard\": \"unmap\"},"
               " \"inject-error\": [{\"event\": \"none\", \"iotype\":"
               " \"discard\"}, {\"event\": \"none\", \"iotype\":"
               " \"write-zeroes\"}]}");
    g_assert_cmpint(discard_or_zero(&disk, VIRTIO_BLK_T_DISCARD, 8, 16, 0),
                    ==, VIRTIO_BLK_S_IOERR);
    assert_counted(&disk, "unmap", 0, 0, 1, 0);
    g_assert_cmpint(discard_or_zero(&disk, VIRTIO_BLK_T_WRITE_ZEROES, 8, 16,
                                    0), ==, VIRTIO_BLK_S_IOERR);
    assert_counted(&disk, "wr", 0, 0, 1, 0);
    assert_counted(&disk, "unmap", 0, 0, 1, 0);
    disk_end(&disk);
}

/* The lengths, in the order in which query-blockstats has them */
static void assert_intervals(Disk *disk, const char *expected)
{
    QDict *stats = disk_stats(disk);
    g_autoptr(GString) lengths = g_string_new("");
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(stats, "timed_stats"), entry) {
        QDict *timed = qobject_to(QDict, qlist_entry_obj(entry));

        g_string_append_printf(lengths, "%" PRId64 " ",
                               qdict_get_int(timed, "interval_length"));
    }
    g_assert_cmpstr(lengths->str, ==, expected);
    qobject_unref(stats);
}

static void assert_refused(Disk *disk, const char *intervals, const char *wrong)
{
    g_autofree char *why = g_strdup_printf("Invalid interval '%s' in "
        "stats-intervals: must be seconds, 1 to 4294967295, with ':' between "
        "them", wrong);
    QDict *rsp = qtest_qmp(disk->qts, "{ 'execute': 'device_add', 'arguments':"
                           " { 'driver': 'virtio-blk-pci', 'drive': 'second',"
                           " 'stats-intervals': %s } }", intervals);

    g_assert(qdict_haskey(rsp, "error"));
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "error"), "desc"),
                    ==, why);
    qobject_unref(rsp);
}

static void test_intervals(void)
{
    Disk disk;

    disk_start(&disk, ", \"stats-intervals\": \"60:1:60\"", NULL_NODE);
    assert_intervals(&disk, "60 1 ");
    qtest_qmp_assert_success(disk.qts, "{ 'execute': 'blockdev-add',"
        " 'arguments': { 'driver': 'null-co', 'node-name': 'second' } }");
    assert_refused(&disk, "60:0", "0");
    assert_refused(&disk, "60,1", "60,1");
    assert_refused(&disk, "60:", "");
    assert_refused(&disk, "-1", "-1");
    assert_refused(&disk, "4294967296", "4294967296");
    disk_end(&disk);

    disk_start(&disk, "", NULL_NODE);
    assert_intervals(&disk, "");
    disk_end(&disk);
}

/* As long as a request of the same length is in the queue, whatever it is */
static void test_queue_depth(void)
{
    static const char *const names[] = {
        "avg_wr_queue_depth", "avg_flush_queue_depth", "avg_rd_queue_depth",
    };
    double depth[ARRAY_SIZE(names)];
    char sector[512] = "";
    Disk disk;
    QDict *stats, *timed;

    disk_start(&disk, ", \"stats-intervals\": \"1\"", NULL_NODE);
    qtest_clock_step(disk.qts, 500 * 1000 * 1000);
    g_assert_cmpint(request(&disk, VIRTIO_BLK_T_OUT, 0, sector,
                            sizeof(sector)), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpint(request(&disk, VIRTIO_BLK_T_FLUSH, 0, NULL, 0),
                    ==, VIRTIO_BLK_S_OK);
    stats = disk_stats(&disk);
    timed = qobject_to(QDict, qlist_peek(qdict_get_qlist(stats,
                                                         "timed_stats")));
    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        depth[i] = qnum_get_double(qobject_to(QNum, qdict_get(timed,
                                                              names[i])));
    }
    g_assert_cmpfloat(depth[0], >, 0);
    g_assert_cmpfloat(depth[0], ==, depth[1]);
    g_assert_cmpfloat(depth[2], ==, 0);
    qobject_unref(stats);
    disk_end(&disk);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/block-acct/discard", test_discard);
    qtest_add_func("/block-acct/write-zeroes", test_write_zeroes);
    qtest_add_func("/block-acct/failed", test_failed);
    qtest_add_func("/block-acct/intervals", test_intervals);
    qtest_add_func("/block-acct/queue-depth", test_queue_depth);
    return g_test_run();
}
