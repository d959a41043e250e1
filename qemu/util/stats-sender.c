/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a process tells an agent that reads its statistics, by libkvmstats
 *
 * The agent may begin later, end and begin anew: libkvmstats says when to look
 * for it again.
 *
 * Copyright (c) 2026 kvmstats developers
 */

#include "qemu/osdep.h"
#include <sys/un.h>
#include <kvmstats.h>
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/stats-sender.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "trace.h"

#define AGAIN_MS 100

struct StatsSender {
    char *who, *name, *uuid;
    char *address;                  /* as the user says it */
    const char *path;               /* NULL: a connection was passed to us */
    struct kvmstats_sender *sender;
    int connection;                 /* the sender's, watched; -1: none */
    int error;                      /* the last one, negative; 0: none */
    QEMUTimer *timer;
    int64_t not_before_ms;
};

/* An agent that is not there is no error: it may come yet. */
static void sender_report(StatsSender *s, int ret)
{
    int error = MIN(ret, 0);

    if (error == s->error) {
        return;
    }
    s->error = error;
    trace_stats_sender(s->who, s->connection >= 0, error);
    switch (-error) {
    case 0:
    case ENOENT:
    case ECONNREFUSED:
    case EAGAIN:
        break;
    case EPIPE:
    case ECONNRESET:
        if (!s->path) {
            warn_report("%s: the agent has closed '%s', and only a new object "
                        "takes another connection", s->who, s->address);
        }
        break;
    case ENOTCONN:      /* as said when it was closed */
        break;
    default:
        warn_report("%s: cannot register at '%s', will try again: %s", s->who,
                    s->address, strerror(-error));
        break;
    }
}

/* Connect or send, whichever is due: when the timer or the socket says so. */
static void sender_maintain(void *opaque)
{
    StatsSender *s = opaque;
    int ret, wait_ms;

    if (s->connection >= 0) {
        qemu_set_fd_handler(s->connection, NULL, NULL, NULL);
    }
    ret = kvmstats_sender_maintain(s->sender, s->path, &wait_ms);
    s->connection = kvmstats_sender_fd(s->sender);
    if (s->connection >= 0) {
        /* The agent says nothing: if there is something to read, it is gone. */
        qemu_set_fd_handler(s->connection, sender_maintain, NULL, s);
    }
    sender_report(s, ret);
    if (s->path || s->connection >= 0) {
        timer_mod(s->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + wait_ms);
    } else {
        timer_del(s->timer);
    }
}

static void sender_maintain_soon(StatsSender *s)
{
    int64_t now_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);

    timer_mod(s->timer, MAX(now_ms, s->not_before_ms));
}

void stats_sender_add_fd(StatsSender *s, int fd, const char *whose)
{
    int ret = fd;

    if (fd >= 0) {
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        ret = fd < 0 ? -errno : kvmstats_sender_add_stats(s->sender, fd);
        if (ret < 0 && fd >= 0) {
            close(fd);
        }
    }
    if (ret < 0) {
        warn_report("%s: the statistics of %s are missing: %s", s->who, whose,
                    strerror(-ret));
        return;
    }
    sender_maintain_soon(s);
}

static void sender_disconnect(StatsSender *s)
{
    if (s->connection >= 0) {
        qemu_set_fd_handler(s->connection, NULL, NULL, NULL);
        s->connection = -1;
    }
    kvmstats_sender_free(s->sender);
    s->sender = NULL;
}

/*
 * A moment later, that the agent sees the end of the other connection first,
 * and may learn of several changes at once
 */
bool stats_sender_reset(StatsSender *s)
{
    if (!s->path) {
        return false;
    }
    sender_disconnect(s);
    if (kvmstats_sender_new(s->name, s->uuid, &s->sender) < 0) {
        abort();        /* only for want of memory: it was right before */
    }
    s->not_before_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + AGAIN_MS;
    sender_maintain_soon(s);
    return true;
}

bool stats_sender_set_path(StatsSender *s, const char *path,
                              Error **errp)
{
    if (!g_path_is_absolute(path)) {
        error_setg(errp, "Parameter 'socket' must be an absolute path, or "
                   "'fd:' and the name or number of a descriptor");
        return false;
    }
    if (strlen(path) >= sizeof_field(struct sockaddr_un, sun_path)) {
        error_setg(errp, "Parameter 'socket' must be shorter than %zu bytes",
                   sizeof_field(struct sockaddr_un, sun_path));
        return false;
    }
    s->address = g_strdup(path);
    s->path = s->address;
    return true;
}

int stats_sender_set_connection(StatsSender *s, int fd, const char *address)
{
    int ret = kvmstats_sender_take_connection(s->sender, fd);

    if (ret >= 0) {
        s->address = g_strdup(address);
    }
    return ret;
}

bool stats_sender_is_connected(const StatsSender *s)
{
    return s->connection >= 0;
}

StatsSender *stats_sender_new(const char *who, const char *name,
                                       const char *uuid, Error **errp)
{
    struct kvmstats_sender *sender;
    StatsSender *s;
    int ret = kvmstats_sender_new(name, uuid, &sender);

    if (ret == -EINVAL) {
        error_setg(errp, "The name of the VM must be UTF-8 without control "
                   "characters, and have at most %d bytes",
                   KVMSTATS_MAX_VM_NAME);
        return NULL;
    } else if (ret < 0) {
        error_setg_errno(errp, -ret, "%s", who);
        return NULL;
    }
    s = g_new0(StatsSender, 1);
    s->who = g_strdup(who);
    s->name = g_strdup(name);
    s->uuid = g_strdup(uuid);
    s->sender = sender;
    s->connection = -1;
    s->timer = timer_new_ms(QEMU_CLOCK_REALTIME, sender_maintain, s);
    return s;
}

void stats_sender_free(StatsSender *s)
{
    if (!s) {
        return;
    }
    sender_disconnect(s);
    timer_free(s->timer);
    g_free(s->who);
    g_free(s->name);
    g_free(s->uuid);
    g_free(s->address);
    g_free(s);
}
