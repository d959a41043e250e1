/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QTest of the object kvm-stats-export, with an agent of its own
 *
 * Copyright (c) 2026 kvmstats developers
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "libqtest.h"
#include "qapi/qmp/qdict.h"

#define TIMEOUT_MS 60000
#define MAX_FDS 253             /* of one message */
#define NUM_FDS_OFFSET 12       /* in a message of libkvmstats */

static char *tmp_dir, *socket_path;
static size_t num_stats_fds;    /* of a VM with two vCPUs */

/* VM and vCPUs, and all vCPUs together where KVM has a descriptor of those */
static size_t count_stats_fds(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    size_t count = 3;

    if (ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_VCPUS_STATS_FD) > 0) {
        count++;
    }
    close(fd);
    return count;
}

static void assert_readable(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    g_assert_cmpint(poll(&pfd, 1, TIMEOUT_MS), ==, 1);
}

static int agent_listen(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

    unlink(socket_path);
    g_strlcpy(address.sun_path, socket_path, sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)),
                    ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

static int agent_accept(int listen_fd)
{
    int fd;

    assert_readable(listen_fd);
    fd = accept(listen_fd, NULL, NULL);
    g_assert_cmpint(fd, >=, 0);
    return fd;
}

/* A message with the expected number of descriptors, which can be read. */
static void agent_receive(int fd, size_t num_fds, const char *name)
{
    char bytes[1024], control[CMSG_SPACE(MAX_FDS * sizeof(int))];
    struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = control, .msg_controllen = sizeof(control),
    };
    struct cmsghdr *cmsg;
    uint32_t said;
    ssize_t length;
    int *fds;

    assert_readable(fd);
    length = recvmsg(fd, &msg, 0);
    g_assert_cmpint(length, >, NUM_FDS_OFFSET + sizeof(said));
    g_assert(!memcmp(bytes, "KVMSTATS", 8));
    memcpy(&said, bytes + NUM_FDS_OFFSET, sizeof(said));
    g_assert_cmpint(said, ==, num_fds);
    g_assert_nonnull(memmem(bytes, length, name, strlen(name)));

    cmsg = CMSG_FIRSTHDR(&msg);
    g_assert_nonnull(cmsg);
    g_assert_cmpint(cmsg->cmsg_type, ==, SCM_RIGHTS);
    g_assert_cmpint(cmsg->cmsg_len, ==, CMSG_LEN(num_fds * sizeof(int)));
    fds = (int *)CMSG_DATA(cmsg);
    for (size_t i = 0; i < num_fds; i++) {
        g_assert_cmpint(pread(fds[i], bytes, 24, 0), ==, 24);
        close(fds[i]);
    }
}

static void assert_ended(int fd)
{
    char byte;

    assert_readable(fd);
    g_assert_cmpint(recv(fd, &byte, 1, 0), ==, 0);
}

static bool is_connected(QTestState *qts)
{
    QDict *rsp = qtest_qmp(qts, "{ 'execute': 'qom-get', 'arguments': {"
                           " 'path': '/objects/stats',"
                           " 'property': 'connected' } }");
    bool connected = qdict_get_bool(rsp, "return");

    qobject_unref(rsp);
    return connected;
}

static void wait_connected(QTestState *qts, bool connected)
{
    for (int ms = 0; is_connected(qts) != connected; ms += 10) {
        g_assert_cmpint(ms, <, TIMEOUT_MS);
        g_usleep(10000);
    }
}

static void add_object(QTestState *qts, const char *id, const char *address)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'object-add', 'arguments': {"
                             " 'qom-type': 'kvm-stats-export', 'id': %s,"
                             " 'socket': %s } }", id, address);
}

static void add_object_fails(QTestState *qts, const char *address,
                             const char *why)
{
    QDict *rsp = qtest_qmp(qts, "{ 'execute': 'object-add', 'arguments': {"
                           " 'qom-type': 'kvm-stats-export', 'id': 'failing',"
                           " 'socket': %s } }", address);
    const char *said;

    g_assert(qdict_haskey(rsp, "error"));
    said = qdict_get_str(qdict_get_qdict(rsp, "error"), "desc");
    g_assert_nonnull(strstr(said, why));
    qobject_unref(rsp);
}

static void delete_object(QTestState *qts, const char *id)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'object-del',"
                             " 'arguments': { 'id': %s } }", id);
}

static QTestState *start_kvm(void)
{
    return qtest_init("-accel kvm -nodefaults -S -smp 2 -name exported");
}

static void test_no_kvm(void)
{
    QTestState *qts = qtest_init("-machine none");

    add_object_fails(qts, "/nobody", "needs KVM");
    qtest_quit(qts);
}

static void test_addresses(void)
{
    g_autofree char *longest = g_strnfill(108, '/');
    QTestState *qts = start_kvm();

    add_object_fails(qts, "relative", "must be an absolute path");
    add_object_fails(qts, longest, "must be shorter than 108 bytes");
    add_object_fails(qts, "fd:nobody", "has not been found");
    longest[107] = '\0';
    add_object(qts, "stats", longest);
    add_object_fails(qts, longest, "another kvm-stats-export object");
    g_assert_false(is_connected(qts));
    qtest_quit(qts);
}

/* An agent that comes after QEMU, ends, and comes again. */
static void test_agent(void)
{
    QTestState *qts = start_kvm();
    int listen_fd, fd;

    unlink(socket_path);
    add_object(qts, "stats", socket_path);
    for (int i = 0; i < 2; i++) {
        g_assert_false(is_connected(qts));
        listen_fd = agent_listen();
        fd = agent_accept(listen_fd);
        agent_receive(fd, num_stats_fds, "exported");
        wait_connected(qts, true);
        close(listen_fd);
        close(fd);
        wait_connected(qts, false);
    }

    listen_fd = agent_listen();
    fd = agent_accept(listen_fd);
    agent_receive(fd, num_stats_fds, "exported");
    delete_object(qts, "stats");
    assert_ended(fd);
    close(listen_fd);
    close(fd);
    qtest_quit(qts);
}

static void test_connection(void)
{
    QTestState *qts = start_kvm();
    int fds[2];
    QDict *rsp;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), ==, 0);
    rsp = qtest_qmp_fds(qts, &fds[1], 1, "{ 'execute': 'getfd',"
                        " 'arguments': { 'fdname': 'agent' } }");
    g_assert(qdict_haskey(rsp, "return"));
    qobject_unref(rsp);
    close(fds[1]);
    add_object(qts, "stats", "fd:agent");
    agent_receive(fds[0], num_stats_fds, "exported");
    g_assert_true(is_connected(qts));
    close(fds[0]);
    wait_connected(qts, false);
    delete_object(qts, "stats");
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    tmp_dir = g_dir_make_tmp("kvm-stats-export-XXXXXX", NULL);
    socket_path = g_strdup_printf("%s/socket", tmp_dir);

    qtest_add_func("/kvm-stats-export/no-kvm", test_no_kvm);
    if (qtest_has_accel("kvm") && !access("/dev/kvm", R_OK | W_OK)) {
        num_stats_fds = count_stats_fds();
        qtest_add_func("/kvm-stats-export/addresses", test_addresses);
        qtest_add_func("/kvm-stats-export/agent", test_agent);
        qtest_add_func("/kvm-stats-export/connection", test_connection);
    }
    ret = g_test_run();

    unlink(socket_path);
    rmdir(tmp_dir);
    g_free(socket_path);
    g_free(tmp_dir);
    return ret;
}
