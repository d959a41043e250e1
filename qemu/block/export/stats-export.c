/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Pass the statistics of block exports to an agent
 *
 *   --object block-stats-export,id=stats,socket=/run/kvmstatd/register.sock
 *
 * For qemu-storage-daemon, whose exports are the disks of VMs that other
 * processes run. All of this runs in the main loop.
 *
 * Copyright (c) 2026 kvmstats developers
 */

#include "qemu/osdep.h"
#include "block/acct-publish.h"
#include "block/export.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "qemu/notify.h"
#include "qemu/stats-sender.h"
#include "qom/object_interfaces.h"

#define TYPE_BLOCK_STATS_EXPORT "block-stats-export"
OBJECT_DECLARE_SIMPLE_TYPE(BlockStatsExport, BLOCK_STATS_EXPORT)

struct BlockStatsExport {
    Object parent_obj;

    char *socket, *vm_name, *vm_uuid;
    StatsSender *sender;
    BlockAcctPublisher *publisher;
    Notifier changed;               /* of the exports */
};

static void stats_added(void *opaque, int fd)
{
    BlockStatsExport *e = opaque;

    stats_sender_add_fd(e->sender, fd, "a block export");
}

static void stats_changed(Notifier *notifier, void *data)
{
    BlockStatsExport *e = container_of(notifier, BlockStatsExport, changed);
    BlockExportChange *change = data;
    BlockExport *exp = change->exp;

    if (!exp->drv->has_acct) {
        return;
    }
    if (change->added) {
        block_acct_publish(e->publisher, exp->blk, exp->id, exp);
    } else if (block_acct_unpublish(e->publisher, exp) &&
               stats_sender_reset(e->sender)) {
        block_acct_publish_again(e->publisher);
    }
}

static int stats_is_other(Object *obj, void *opaque)
{
    return obj != opaque &&
           object_dynamic_cast(obj, TYPE_BLOCK_STATS_EXPORT);
}

static void stats_complete(UserCreatable *uc, Error **errp)
{
    BlockStatsExport *e = BLOCK_STATS_EXPORT(uc);
    g_autofree char *who = g_strdup_printf("%s '%s'", TYPE_BLOCK_STATS_EXPORT,
        object_get_canonical_path_component(OBJECT(e)));

    if (!e->socket) {
        error_setg(errp, "Parameter 'socket' is missing");
        return;
    }
    /* Statistics have one publisher at a time. */
    if (object_child_foreach(object_get_objects_root(), stats_is_other, e)) {
        error_setg(errp, "there is another block-stats-export object");
        return;
    }
    e->sender = stats_sender_new(who, e->vm_name ?: "", e->vm_uuid ?: "", errp);
    if (!e->sender || !stats_sender_set_path(e->sender, e->socket, errp)) {
        return;
    }
    e->publisher = block_acct_publisher_new(stats_added, e);
    e->changed.notify = stats_changed;
    blk_exp_add_change_notifier(&e->changed);
}

/* Of @value once it is too late to set it */
static void stats_set(BlockStatsExport *e, char **field, const char *name,
                      const char *value, Error **errp)
{
    if (e->sender) {
        error_setg(errp, "Property '%s' can no longer be set", name);
        return;
    }
    g_free(*field);
    *field = g_strdup(value);
}

static char *stats_get_socket(Object *obj, Error **errp)
{
    return g_strdup(BLOCK_STATS_EXPORT(obj)->socket);
}

static void stats_set_socket(Object *obj, const char *value, Error **errp)
{
    BlockStatsExport *e = BLOCK_STATS_EXPORT(obj);

    stats_set(e, &e->socket, "socket", value, errp);
}

static char *stats_get_vm_name(Object *obj, Error **errp)
{
    return g_strdup(BLOCK_STATS_EXPORT(obj)->vm_name);
}

static void stats_set_vm_name(Object *obj, const char *value, Error **errp)
{
    BlockStatsExport *e = BLOCK_STATS_EXPORT(obj);

    stats_set(e, &e->vm_name, "vm-name", value, errp);
}

static char *stats_get_vm_uuid(Object *obj, Error **errp)
{
    return g_strdup(BLOCK_STATS_EXPORT(obj)->vm_uuid);
}

static void stats_set_vm_uuid(Object *obj, const char *value, Error **errp)
{
    BlockStatsExport *e = BLOCK_STATS_EXPORT(obj);

    stats_set(e, &e->vm_uuid, "vm-uuid", value, errp);
}

static bool stats_get_connected(Object *obj, Error **errp)
{
    BlockStatsExport *e = BLOCK_STATS_EXPORT(obj);

    return e->sender && stats_sender_is_connected(e->sender);
}

static void stats_finalize(Object *obj)
{
    BlockStatsExport *e = BLOCK_STATS_EXPORT(obj);

    if (e->changed.notify) {
        notifier_remove(&e->changed);
    }
    block_acct_publisher_free(e->publisher);
    stats_sender_free(e->sender);
    g_free(e->socket);
    g_free(e->vm_name);
    g_free(e->vm_uuid);
}

static void stats_class_init(ObjectClass *oc, void *data)
{
    USER_CREATABLE_CLASS(oc)->complete = stats_complete;

    object_class_property_add_str(oc, "socket", stats_get_socket,
                                  stats_set_socket);
    object_class_property_set_description(oc, "socket",
        "UNIX socket of the agent");
    object_class_property_add_str(oc, "vm-name", stats_get_vm_name,
                                  stats_set_vm_name);
    object_class_property_set_description(oc, "vm-name",
        "Name of the VM whose disks are exported (default: empty)");
    object_class_property_add_str(oc, "vm-uuid", stats_get_vm_uuid,
                                  stats_set_vm_uuid);
    object_class_property_set_description(oc, "vm-uuid",
        "UUID of that VM (default: empty)");
    object_class_property_add_bool(oc, "connected", stats_get_connected, NULL);
    object_class_property_set_description(oc, "connected",
        "Whether there is a connection to the agent (read-only)");
}

static const TypeInfo stats_info = {
    .name = TYPE_BLOCK_STATS_EXPORT,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(BlockStatsExport),
    .instance_finalize = stats_finalize,
    .class_init = stats_class_init,
    .interfaces = (InterfaceInfo[]) {
        { TYPE_USER_CREATABLE },
        { }
    }
};

static void stats_register_types(void)
{
    type_register_static(&stats_info);
}

type_init(stats_register_types);
