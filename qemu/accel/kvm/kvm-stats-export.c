/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Pass the statistics descriptors of the VM and of its vCPUs to an agent
 *
 *   -object kvm-stats-export,id=stats,socket=/run/kvmstatd/register.sock
 *
 * and, with block=on, of statistics that QEMU itself keeps of block devices.
 *
 * The agent reads them from then on, without QEMU's help.
 *
 * All of this runs in the main loop, or at least with the BQL held, and
 * nothing in it waits for the agent.
 *
 * Copyright (c) 2026 kvmstats developers
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/ctype.h"
#include "qemu/cutils.h"
#include "qemu/module.h"
#include "qemu/stats-sender.h"
#include "qemu/uuid.h"
#include "qom/object_interfaces.h"
#include "monitor/monitor.h"
#include "sysemu/kvm.h"
#include "sysemu/kvm_int.h"
#include "sysemu/sysemu.h"
#include "kvm-stats-block.h"

#define TYPE_KVM_STATS_EXPORT "kvm-stats-export"
OBJECT_DECLARE_SIMPLE_TYPE(KVMStatsExport, KVM_STATS_EXPORT)

struct KVMStatsExport {
    Object parent_obj;

    char *socket;
    StatsSender *sender;
    Notifier machine_done;
    Notifier stats_fd;
    bool block;
    KVMStatsBlock *disks;           /* NULL: block=off, or no machine yet */
};

static void export_add(Notifier *notifier, void *data)
{
    KVMStatsExport *e = container_of(notifier, KVMStatsExport, stats_fd);

    stats_sender_add_fd(e->sender, *(int *)data, "the VM or of a vCPU");
}

static void export_add_disk(void *opaque, int fd)
{
    KVMStatsExport *e = opaque;

    stats_sender_add_fd(e->sender, fd, "a block device");
}

static bool export_new_sender(KVMStatsExport *e, Error **errp)
{
    g_autofree char *uuid = qemu_uuid_set ? qemu_uuid_unparse_strdup(&qemu_uuid)
                                          : g_strdup("");
    g_autofree char *who = g_strdup_printf("%s '%s'", TYPE_KVM_STATS_EXPORT,
        object_get_canonical_path_component(OBJECT(e)));

    e->sender = stats_sender_new(who, qemu_get_vm_name() ?: "", uuid, errp);
    return e->sender;
}

/* The agent gets what is left over a new connection, if we can make one. */
static void export_lose_disk(void *opaque)
{
    KVMStatsExport *e = opaque;

    if (stats_sender_reset(e->sender)) {
        notifier_remove(&e->stats_fd);
        kvm_add_stats_fd_notifier(&e->stats_fd);
        kvm_stats_block_again(e->disks);
    }
}

static void export_start(Notifier *notifier, void *data)
{
    KVMStatsExport *e = container_of(notifier, KVMStatsExport, machine_done);

    e->stats_fd.notify = export_add;
    kvm_add_stats_fd_notifier(&e->stats_fd);
    if (e->block) {
        e->disks = kvm_stats_block_new(export_add_disk, export_lose_disk, e);
    }
}

static int export_is_same(Object *obj, void *opaque)
{
    KVMStatsExport *e = opaque, *other =
        (KVMStatsExport *)object_dynamic_cast(obj, TYPE_KVM_STATS_EXPORT);

    return other && other != e && !g_strcmp0(other->socket, e->socket);
}

static int export_has_block(Object *obj, void *opaque)
{
    KVMStatsExport *other =
        (KVMStatsExport *)object_dynamic_cast(obj, TYPE_KVM_STATS_EXPORT);

    return other && other != opaque && other->block;
}

/* The agent would take one VM for two. */
static bool export_is_alone(KVMStatsExport *e, Error **errp)
{
    if (object_child_foreach(object_get_objects_root(), export_is_same, e)) {
        error_setg(errp, "another kvm-stats-export object has the socket '%s'",
                   e->socket);
        return false;
    }
    if (e->block && object_child_foreach(object_get_objects_root(),
                                         export_has_block, e)) {
        error_setg(errp, "another kvm-stats-export object has 'block=on'");
        return false;
    }
    return true;
}

static bool export_take_connection(KVMStatsExport *e, const char *name,
                                   Error **errp)
{
    int fd = monitor_fd_param(monitor_cur(), name, errp);
    int ret;

    if (fd < 0) {
        return false;
    }
    ret = stats_sender_set_connection(e->sender, fd, e->socket);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "'%s' is no connected UNIX socket of type "
                         "SOCK_SEQPACKET", e->socket);
        /* A number can be that of something else in QEMU. */
        if (!qemu_isdigit(name[0])) {
            close(fd);
        }
        return false;
    }
    return true;
}

static bool export_set_address(KVMStatsExport *e, Error **errp)
{
    const char *name;

    if (strstart(e->socket, "fd:", &name)) {
        return export_take_connection(e, name, errp);
    }
    return stats_sender_set_path(e->sender, e->socket, errp);
}

static void export_complete(UserCreatable *uc, Error **errp)
{
    KVMStatsExport *e = KVM_STATS_EXPORT(uc);

    if (!e->socket) {
        error_setg(errp, "Parameter 'socket' is missing");
        return;
    }
    if (!kvm_enabled()) {
        error_setg(errp, "kvm-stats-export needs KVM (-accel kvm)");
        return;
    }
    if (kvm_state->stats_fd < 0) {
        error_setg_errno(errp, -kvm_state->stats_fd,
                         "kvm-stats-export: the VM has no statistics "
                         "descriptor (KVM_CAP_BINARY_STATS_FD)");
        return;
    }
    if (!export_is_alone(e, errp) || !export_new_sender(e, errp) ||
        !export_set_address(e, errp)) {
        return;
    }
    /* At once if the machine is there already. */
    e->machine_done.notify = export_start;
    qemu_add_machine_init_done_notifier(&e->machine_done);
}

static char *export_get_socket(Object *obj, Error **errp)
{
    return g_strdup(KVM_STATS_EXPORT(obj)->socket);
}

static void export_set_socket(Object *obj, const char *value, Error **errp)
{
    KVMStatsExport *e = KVM_STATS_EXPORT(obj);

    if (e->sender) {
        error_setg(errp, "Property 'socket' can no longer be set");
        return;
    }
    g_free(e->socket);
    e->socket = g_strdup(value);
}

static bool export_get_block(Object *obj, Error **errp)
{
    return KVM_STATS_EXPORT(obj)->block;
}

static void export_set_block(Object *obj, bool value, Error **errp)
{
    KVMStatsExport *e = KVM_STATS_EXPORT(obj);

    if (e->sender) {
        error_setg(errp, "Property 'block' can no longer be set");
        return;
    }
    e->block = value;
}

static bool export_get_connected(Object *obj, Error **errp)
{
    KVMStatsExport *e = KVM_STATS_EXPORT(obj);

    return e->sender && stats_sender_is_connected(e->sender);
}

static void export_finalize(Object *obj)
{
    KVMStatsExport *e = KVM_STATS_EXPORT(obj);

    if (e->machine_done.notify) {
        qemu_remove_machine_init_done_notifier(&e->machine_done);
    }
    if (e->stats_fd.notify) {
        notifier_remove(&e->stats_fd);
    }
    kvm_stats_block_free(e->disks);
    stats_sender_free(e->sender);
    g_free(e->socket);
}

static void export_class_init(ObjectClass *oc, void *data)
{
    USER_CREATABLE_CLASS(oc)->complete = export_complete;

    object_class_property_add_str(oc, "socket", export_get_socket,
                                  export_set_socket);
    object_class_property_set_description(oc, "socket",
        "UNIX socket of the agent, or fd:NAME for a connection to it");
    object_class_property_add_bool(oc, "block", export_get_block,
                                   export_set_block);
    object_class_property_set_description(oc, "block",
        "Whether statistics of block devices are passed, too (default: off)");
    object_class_property_add_bool(oc, "connected", export_get_connected, NULL);
    object_class_property_set_description(oc, "connected",
        "Whether there is a connection to the agent (read-only)");
}

static const TypeInfo kvm_stats_export_info = {
    .name = TYPE_KVM_STATS_EXPORT,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(KVMStatsExport),
    .instance_finalize = export_finalize,
    .class_init = export_class_init,
    .interfaces = (InterfaceInfo[]) {
        { TYPE_USER_CREATABLE },
        { }
    }
};

static void kvm_stats_export_register_types(void)
{
    type_register_static(&kvm_stats_export_info);
}

type_init(kvm_stats_export_register_types);
