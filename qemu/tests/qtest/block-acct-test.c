/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QTest of what query-blockstats says of the requests of a virtio-blk device
 *
 * Copyright (c) 2026 kvmstats developers
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <linux/kvm.h>
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
static void disk_start_with(Disk *disk, const char *args, const char *options,
                            const char *node)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(4, 0) };
    QVirtioDevice *vdev;
    uint64_t features;

    disk->qts = qtest_initf("-machine pc -nodefaults %s -blockdev '%s' -device "
                            "'{\"driver\": \"virtio-blk-pci\", \"id\": \"d0\","
                            " \"addr\": \"4\", \"drive\": \"disk\" %s}'",
                            args, node, options);
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

static void disk_start(Disk *disk, const char *options, const char *node)
{
    disk_start_with(disk, "", options, node);
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

typedef struct {
    uint64_t addr, status_addr;
    uint32_t head;
} Request;

/* A request with one buffer, which the device reads or writes */
static Request submit(Disk *disk, uint32_t type, uint64_t sector,
                      const void *data, size_t bytes)
{
    struct virtio_blk_outhdr header = {
        .type = cpu_to_le32(type), .sector = cpu_to_le64(sector),
    };
    uint64_t addr = guest_alloc(&disk->alloc, sizeof(header) + bytes + 1);
    uint64_t status_addr = addr + sizeof(header) + bytes;
    QTestState *qts = disk->qts;
    uint32_t head;

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
    return (Request) { addr, status_addr, head };
}

/* Its status */
static uint8_t finish(Disk *disk, Request request)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_US;
    uint32_t head;
    uint8_t status;

    /* Under KVM there is no clock to step. */
    while (!qvirtqueue_get_buf(disk->qts, disk->vq, &head, NULL)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
    g_assert_cmpint(head, ==, request.head);
    status = qtest_readb(disk->qts, request.status_addr);
    guest_free(&disk->alloc, request.addr);
    return status;
}

static uint8_t request(Disk *disk, uint32_t type, uint64_t sector,
                       const void *data, size_t bytes)
{
    return finish(disk, submit(disk, type, sector, data, bytes));
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

#ifdef CONFIG_LIBKVMSTATS
/* ------------------------------- what kvm-stats-export,block=on publishes */

#define MAX_FDS 16
#define TICKS_US (3 * 1000 * 1000)  /* in which what is published is right */

/* What an agent gets: the VM's descriptor and those of its vCPU and disks */
typedef struct {
    int listen_fd, fd;
    int fds[MAX_FDS], num_fds;
} Agent;

static char *agent_path;

static void agent_listen(Agent *agent)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    agent->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    g_strlcpy(address.sun_path, agent_path, sizeof(address.sun_path));
    unlink(agent_path);
    g_assert_cmpint(bind(agent->listen_fd, (struct sockaddr *)&address,
                         sizeof(address)), ==, 0);
    g_assert_cmpint(listen(agent->listen_fd, 1), ==, 0);
}

static void assert_readable(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    g_assert_cmpint(poll(&pfd, 1, TIMEOUT_US / 1000), ==, 1);
}

static void agent_accept(Agent *agent)
{
    assert_readable(agent->listen_fd);
    agent->fd = accept(agent->listen_fd, NULL, NULL);
    g_assert_cmpint(agent->fd, >=, 0);
    agent->num_fds = 0;
}

static void agent_close(Agent *agent)
{
    for (int i = 0; i < agent->num_fds; i++) {
        close(agent->fds[i]);
    }
    close(agent->fd);
}

/* One message more, with its descriptors */
static void agent_receive(Agent *agent)
{
    char bytes[1024], control[CMSG_SPACE(MAX_FDS * sizeof(int))];
    struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = control, .msg_controllen = sizeof(control),
    };
    struct cmsghdr *cmsg;
    int num;

    assert_readable(agent->fd);
    g_assert_cmpint(recvmsg(agent->fd, &msg, 0), >, 0);
    cmsg = CMSG_FIRSTHDR(&msg);
    g_assert_nonnull(cmsg);
    num = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    g_assert_cmpint(agent->num_fds + num, <=, MAX_FDS);
    memcpy(&agent->fds[agent->num_fds], CMSG_DATA(cmsg), num * sizeof(int));
    agent->num_fds += num;
}

/* The descriptor of the statistics of block device @name, or -1 */
static int agent_find(Agent *agent, const char *name)
{
    g_autofree char *end = g_strdup_printf("/block:%s", name);
    struct kvm_stats_header header;
    char id[256] = "";

    for (int i = 0; i < agent->num_fds; i++) {
        g_assert_cmpint(pread(agent->fds[i], &header, sizeof(header), 0),
                        ==, sizeof(header));
        g_assert_cmpint(header.name_size, <, sizeof(id));
        g_assert_cmpint(pread(agent->fds[i], id, header.name_size,
                              header.id_offset), ==, header.name_size);
        if (g_str_has_suffix(id, end)) {
            return agent->fds[i];
        }
    }
    return -1;
}

static int64_t published(int fd, const char *name)
{
    struct kvm_stats_header header;
    size_t stride;

    g_assert_cmpint(pread(fd, &header, sizeof(header), 0), ==, sizeof(header));
    stride = sizeof(struct kvm_stats_desc) + header.name_size;
    for (uint32_t i = 0; i < header.num_desc; i++) {
        g_autofree struct kvm_stats_desc *desc = g_malloc0(stride + 1);
        int64_t value;

        g_assert_cmpint(pread(fd, desc, stride, header.desc_offset +
                              i * stride), ==, stride);
        if (!strcmp(desc->name, name)) {
            g_assert_cmpint(pread(fd, &value, sizeof(value),
                                  header.data_offset + desc->offset),
                            ==, sizeof(value));
            return value;
        }
    }
    g_assert_not_reached();
}

static void assert_published(int fd, const char *name, int64_t expected)
{
    gint64 end = g_get_monotonic_time() + TICKS_US;

    while (published(fd, name) != expected && g_get_monotonic_time() < end) {
        g_usleep(10000);
    }
    if (published(fd, name) != expected) {
        g_test_message("%s", name);
    }
    g_assert_cmpint(published(fd, name), ==, expected);
}

/* All that both count, of all operations; and nothing is in flight */
static void assert_published_alike(Disk *disk, int fd)
{
    static const char *const ours[] = { "read", "write", "flush", "discard" };
    static const char *const qemus[] = { "rd", "wr", "flush", "unmap" };
    static const char *const names[][2] = {
        { "%s_ios", "%s_operations" }, { "%s_bytes", "%s_bytes" },
        { "%s_failed", "failed_%s_operations" },
        { "%s_invalid", "invalid_%s_operations" }, { "%s_merged", "%s_merged" },
    };
    QDict *stats = disk_stats(disk);

    for (int op = 0; op < ARRAY_SIZE(ours); op++) {
        g_autofree char *in_flight = g_strdup_printf("%s_in_flight", ours[op]);

        for (int i = 0; i < ARRAY_SIZE(names); i++) {
            g_autofree char *name = g_strdup_printf(names[i][0], ours[op]);
            g_autofree char *key = g_strdup_printf(names[i][1], qemus[op]);

            /* flushes have no bytes and are not merged */
            if (qdict_haskey(stats, key)) {
                assert_published(fd, name, qdict_get_int(stats, key));
            }
        }
        assert_published(fd, in_flight, 0);
    }
    qobject_unref(stats);
}

#define BLKDEBUG_NODE(rules) "{\"driver\": \"blkdebug\", \"node-name\":" \
    " \"disk\", \"discard\": \"unmap\", \"image\": {\"driver\":" \
    " \"null-co\", \"size\": 1048576, \"read-zeroes\": true," \
    " \"discard\": \"unmap\"}, \"inject-error\": [" rules "]}"

static int published_start(Disk *disk, Agent *agent, const char *options,
                           const char *node)
{
    g_autofree char *args = g_strdup_printf("-accel kvm -S -object "
        "kvm-stats-export,id=stats,socket=%s,block=on", agent_path);

    agent_listen(agent);
    disk_start_with(disk, args, options, node);
    agent_accept(agent);
    agent_receive(agent);
    return agent_find(agent, "d0");
}

static void published_end(Disk *disk, Agent *agent)
{
    disk_end(disk);
    agent_close(agent);
    close(agent->listen_fd);
}

static void test_published(void)
{
    char sectors[8 * 512] = "";
    Agent agent;
    Disk disk;
    int fd = published_start(&disk, &agent, "",
        BLKDEBUG_NODE("{\"event\": \"none\", \"iotype\": \"write\","
                      " \"sector\": 100}"));

    g_assert_cmpint(fd, >=, 0);
    for (int i = 1; i <= 8; i++) {
        request(&disk, VIRTIO_BLK_T_OUT, i, sectors, i * 512);
        request(&disk, VIRTIO_BLK_T_IN, i, NULL, 512);
    }
    request(&disk, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
    discard_or_zero(&disk, VIRTIO_BLK_T_DISCARD, 8, 16, 0);
    discard_or_zero(&disk, VIRTIO_BLK_T_WRITE_ZEROES, 8, 16, 0);
    /* failed, then invalid */
    g_assert_cmpint(request(&disk, VIRTIO_BLK_T_OUT, 100, sectors, 512),
                    ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpint(request(&disk, VIRTIO_BLK_T_IN, SECTORS, NULL, 512),
                    ==, VIRTIO_BLK_S_IOERR);
    discard_or_zero(&disk, VIRTIO_BLK_T_DISCARD, SECTORS, 1, 0);
    assert_published_alike(&disk, fd);
    assert_published(fd, "read_ios", 8);
    assert_published(fd, "write_bytes", (36 + 16) * 512);
    assert_published(fd, "write_failed", 1);
    assert_published(fd, "read_invalid", 1);
    published_end(&disk, &agent);
}

/* It is seen while it hangs. */
static void test_hanging(void)
{
    char sector[512] = "";
    Agent agent;
    Disk disk;
    Request hanging;
    int fd = published_start(&disk, &agent, "",
        BLKDEBUG_NODE("{\"event\": \"none\", \"iotype\": \"discard\"}"));

    g_free(qtest_hmp(disk.qts, "qemu-io disk \"break pwritev A\""));
    hanging = submit(&disk, VIRTIO_BLK_T_OUT, 0, sector, sizeof(sector));
    assert_published(fd, "write_in_flight", 1);
    assert_published(fd, "write_ios", 0);
    g_free(qtest_hmp(disk.qts, "qemu-io disk \"resume A\""));
    g_assert_cmpint(finish(&disk, hanging), ==, VIRTIO_BLK_S_OK);
    assert_published_alike(&disk, fd);
    published_end(&disk, &agent);
}

/* What waits for the VM to be continued is not in flight for ever. */
static void test_stopped(void)
{
    char sector[512] = "";
    Agent agent;
    Disk disk;
    int fd = published_start(&disk, &agent, ", \"werror\": \"stop\"",
        BLKDEBUG_NODE("{\"event\": \"none\", \"iotype\": \"write\","
                      " \"once\": true}"));

    submit(&disk, VIRTIO_BLK_T_OUT, 0, sector, sizeof(sector));
    assert_published(fd, "write_in_flight", 1);
    assert_published(fd, "write_in_flight", 0);
    assert_published(fd, "write_ios", 0);
    published_end(&disk, &agent);
}

/* Plugged: one descriptor more; unplugged: those that are left, anew */
static void test_plugged(void)
{
    Agent agent, after;
    Disk disk;
    int fd = published_start(&disk, &agent, "", NULL_NODE);

    request(&disk, VIRTIO_BLK_T_IN, 0, NULL, 512);
    qtest_qmp_assert_success(disk.qts, "{ 'execute': 'blockdev-add',"
        " 'arguments': { 'driver': 'null-co', 'node-name': 'second' } }");
    qtest_qmp_assert_success(disk.qts, "{ 'execute': 'device_add',"
        " 'arguments': { 'driver': 'virtio-blk-pci', 'drive': 'second',"
        " 'id': 'd1', 'addr': '6' } }");
    agent_receive(&agent);
    g_assert_cmpint(agent_find(&agent, "d1"), >=, 0);
    g_assert_cmpint(agent_find(&agent, "d0"), ==, fd);

    after.listen_fd = agent.listen_fd;
    qtest_qmp_assert_success(disk.qts, "{ 'execute': 'device_del',"
                             " 'arguments': { 'id': 'd1' } }");
    /* The guest lets go of slot 6. */
    qtest_outl(disk.qts, 0xae08, 1 << 6);
    agent_accept(&after);
    agent_receive(&after);
    g_assert_cmpint(agent_find(&after, "d1"), ==, -1);
    fd = agent_find(&after, "d0");
    g_assert_cmpint(fd, >=, 0);
    assert_published(fd, "read_ios", 1);
    agent_close(&after);
    published_end(&disk, &agent);
}
#endif

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/block-acct/discard", test_discard);
    qtest_add_func("/block-acct/write-zeroes", test_write_zeroes);
    qtest_add_func("/block-acct/failed", test_failed);
    qtest_add_func("/block-acct/intervals", test_intervals);
    qtest_add_func("/block-acct/queue-depth", test_queue_depth);
#ifdef CONFIG_LIBKVMSTATS
    agent_path = g_strdup_printf("%s/block-acct-%d", g_get_tmp_dir(),
                                 getpid());
    if (qtest_has_accel("kvm") && !access("/dev/kvm", R_OK | W_OK)) {
        qtest_add_func("/block-acct/published", test_published);
        qtest_add_func("/block-acct/published/hanging", test_hanging);
        qtest_add_func("/block-acct/published/stopped", test_stopped);
        qtest_add_func("/block-acct/published/plugged", test_plugged);
    }
#endif
    ret = g_test_run();
#ifdef CONFIG_LIBKVMSTATS
    unlink(agent_path);
    g_free(agent_path);
#endif
    return ret;
}
