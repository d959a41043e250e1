/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Dirty quota: limits on what vCPUs dirty while a migration copies memory
 *
 * KVM charges a vCPU for each page whose bit it sets in the dirty log, that is,
 * for memory that has to be sent again because of it. Time is divided into
 * intervals, and a part of what the stream carries in one of them, less than
 * throttle-trigger-threshold, is the budget. Each vCPU may claim an equal share
 * of it. Shares that nobody has claimed when the interval is over go into a
 * pool, from which vCPUs that have used up their share take more, first come,
 * first served. A vCPU that gets nothing waits until the interval is over.
 *
 * The pool is emptied when a round begins. So a round has at most that part of
 * the pages that were sent in the round before, whatever the guest does, and
 * the migration converges. A vCPU that dirties less than its share does not
 * come to its limit and is never held.
 *
 * Nothing here runs by a timer or a thread of its own. A vCPU that comes to its
 * limit accounts for the intervals that have gone by since the last one did,
 * claims, and raises its limit. Whatever nobody claimed was not needed.
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "exec/target_page.h"
#include "hw/boards.h"
#include "hw/core/cpu.h"
#include "sysemu/kvm.h"
#include "migration/misc.h"
#include "dirty-quota.h"
#include "migration.h"
#include "trace.h"

/*
 * A vCPU that is held stands still for an interval at most. Within that,
 * longer is better: what a guest needs does not come evenly.
 */
#define DIRTY_QUOTA_INTERVAL_NS     (200 * SCALE_MS)

/*
 * The part of throttle-trigger-threshold that the guest may use up, in
 * percent: 30 % of what the stream carries by default. Each round is shorter
 * than the one before by this factor. With less the migration is shorter, and
 * the guest gets on slower meanwhile.
 */
#define DIRTY_QUOTA_PART            60

/* The least that is taken from the pool at once, if it has so much */
#define DIRTY_QUOTA_CHUNK           16

/* What a page takes in the stream besides its content, in bytes */
#define DIRTY_QUOTA_PAGE_HEADER     8

typedef struct DirtyQuotaCPU {
    bool counted;           /* it has said how many pages it has dirtied */
    uint64_t limit;         /* pages in its life */
    int64_t interval;       /* of its last claim */
    int64_t wait_start;     /* 0: it does not wait */
    int64_t wait_end;
} DirtyQuotaCPU;

/*
 * There is one outgoing migration at a time. The lock is taken by vCPUs that
 * come to their limit, and inside the BQL.
 */
static struct {
    QemuMutex lock;
    enum {
        DIRTY_QUOTA_OFF,
        DIRTY_QUOTA_READY,  /* memory is being copied, no vCPU has a limit */
        DIRTY_QUOTA_ACTIVE,
    } state;
    DirtyQuotaCPU *cpu;     /* by cpu_index */
    unsigned int cpus;      /* that have a share */

    int64_t start;          /* of interval 0, in nanoseconds */
    int64_t interval;       /* of which shares are claimed now */
    unsigned int claimed;   /* shares of it */
    uint64_t share;         /* pages */
    double rest;            /* of the budget: less than a page for each vCPU */
    uint64_t pool;          /* pages */

    uint64_t rate;          /* pages per second */
    uint64_t exits;
    uint64_t waited;        /* nanoseconds, all vCPUs together */
} quota;

/* Pages per second that the guest may dirty */
static uint64_t dirty_quota_rate(void)
{
    MigrationState *s = migrate_get_current();
    uint64_t bandwidth = qatomic_read_u64(&s->stream_bandwidth);

    return bandwidth / (qemu_target_page_size() + DIRTY_QUOTA_PAGE_HEADER) *
           s->parameters.throttle_trigger_threshold * DIRTY_QUOTA_PART / 10000;
}

/* Account for the intervals that have gone by. */
static void dirty_quota_advance(int64_t now)
{
    int64_t interval = (now - quota.start) / DIRTY_QUOTA_INTERVAL_NS;
    int64_t skipped = interval - quota.interval - 1;
    double budget;

    if (skipped < 0) {
        return;
    }
    quota.rate = dirty_quota_rate();
    budget = (double)quota.rate * DIRTY_QUOTA_INTERVAL_NS /
             NANOSECONDS_PER_SECOND;

    quota.pool += quota.share * (quota.cpus - quota.claimed);
    quota.pool += budget * skipped;

    budget += quota.rest;
    quota.share = budget / quota.cpus;
    quota.rest = budget - (double)quota.share * quota.cpus;
    quota.claimed = 0;
    quota.interval = interval;
}

static uint64_t dirty_quota_claim(DirtyQuotaCPU *cpu)
{
    uint64_t pages;

    if (cpu->interval != quota.interval) {
        cpu->interval = quota.interval;
        quota.claimed++;
        return quota.share;
    }
    pages = MIN(quota.pool, MAX(quota.share, DIRTY_QUOTA_CHUNK));
    quota.pool -= pages;
    return pages;
}

/* Does the vCPU come to its limit now, or has it waited, or run into a kick? */
static void dirty_quota_account(DirtyQuotaCPU *cpu, int64_t now)
{
    if (!cpu->wait_start) {
        quota.exits++;
        return;
    }
    quota.waited += MIN(now, cpu->wait_end) - cpu->wait_start;
    cpu->wait_start = 0;
}

/* A KVMDirtyQuotaFull */
static int64_t dirty_quota_full(CPUState *cs, uint64_t count)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    DirtyQuotaCPU *cpu;

    QEMU_LOCK_GUARD(&quota.lock);
    if (quota.state != DIRTY_QUOTA_ACTIVE) {
        kvm_set_dirty_quota(cs, 0);
        return 0;
    }

    cpu = &quota.cpu[cs->cpu_index];
    if (!cpu->counted) {
        cpu->counted = true;
        cpu->limit = count;
    }
    dirty_quota_account(cpu, now);
    dirty_quota_advance(now);

    /* By what it went beyond its limit it gets less. */
    cpu->limit += dirty_quota_claim(cpu);
    if (cpu->limit <= count) {
        cpu->limit += dirty_quota_claim(cpu);
    }
    if (cpu->limit > count) {
        kvm_set_dirty_quota(cs, cpu->limit);
        return 0;
    }
    cpu->wait_start = now;
    cpu->wait_end = quota.start +
                    (quota.interval + 1) * DIRTY_QUOTA_INTERVAL_NS;
    return cpu->wait_end - now;
}

static void dirty_quota_set_all(uint64_t pages)
{
    CPUState *cs;

    RCU_READ_LOCK_GUARD();
    CPU_FOREACH(cs) {
        kvm_set_dirty_quota(cs, pages);
    }
}

void dirty_quota_start(void)
{
    unsigned int max_cpus = current_machine->smp.max_cpus;
    CPUState *cs;

    QEMU_LOCK_GUARD(&quota.lock);
    if (quota.state != DIRTY_QUOTA_READY) {
        return;
    }
    /* vCPUs are neither plugged nor unplugged during a migration. */
    quota.cpu = g_renew(DirtyQuotaCPU, quota.cpu, max_cpus);
    memset(quota.cpu, 0, max_cpus * sizeof(*quota.cpu));
    quota.cpus = 0;
    CPU_FOREACH(cs) {
        quota.cpu[cs->cpu_index].interval = -1;
        quota.cpus++;
    }
    quota.start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    quota.interval = -1;
    quota.claimed = quota.cpus;
    quota.share = 0;
    quota.rest = 0;
    quota.pool = 0;
    quota.state = DIRTY_QUOTA_ACTIVE;
    dirty_quota_advance(quota.start);
    trace_dirty_quota_start(quota.cpus, quota.rate);

    /* Each vCPU exits at the next page that it dirties, and says its count. */
    kvm_set_dirty_quota_handler(dirty_quota_full);
    dirty_quota_set_all(1);
}

static void dirty_quota_setup(void)
{
    QEMU_LOCK_GUARD(&quota.lock);
    quota.state = DIRTY_QUOTA_READY;
    quota.rate = 0;
    quota.exits = 0;
    quota.waited = 0;
}

static void dirty_quota_new_round(void)
{
    QEMU_LOCK_GUARD(&quota.lock);
    if (quota.state == DIRTY_QUOTA_ACTIVE) {
        dirty_quota_advance(qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
        trace_dirty_quota_new_round(quota.rate, quota.share, quota.pool);
        quota.pool = 0;
    }
}

/* Let those go on that wait, at once. */
static void dirty_quota_end_waits(void)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    CPUState *cs;

    RCU_READ_LOCK_GUARD();
    CPU_FOREACH(cs) {
        DirtyQuotaCPU *cpu = &quota.cpu[cs->cpu_index];

        if (cpu->wait_start) {
            dirty_quota_account(cpu, now);
            qemu_cpu_kick(cs);
        }
    }
}

static void dirty_quota_stop(void)
{
    QEMU_LOCK_GUARD(&quota.lock);
    if (quota.state == DIRTY_QUOTA_ACTIVE) {
        dirty_quota_set_all(0);
        dirty_quota_end_waits();
        trace_dirty_quota_stop(quota.exits, quota.waited);
    }
    quota.state = DIRTY_QUOTA_OFF;
}

static int dirty_quota_notify(NotifierWithReturn *n, void *data)
{
    PrecopyNotifyData *event = data;

    switch (event->reason) {
    case PRECOPY_NOTIFY_SETUP:
        dirty_quota_setup();
        break;
    case PRECOPY_NOTIFY_AFTER_BITMAP_SYNC:
        dirty_quota_new_round();
        break;
    case PRECOPY_NOTIFY_COMPLETE: /* the guest has stopped, postcopy begins */
    case PRECOPY_NOTIFY_CLEANUP:  /* failed, or was cancelled */
        dirty_quota_stop();
        break;
    default:
        break;
    }
    return 0;
}

DirtyQuotaInfo *dirty_quota_info(void)
{
    DirtyQuotaInfo *info = g_new0(DirtyQuotaInfo, 1);

    QEMU_LOCK_GUARD(&quota.lock);
    info->pages_per_second = quota.rate;
    info->exits = quota.exits;
    info->throttle_time = quota.waited / SCALE_MS;
    return info;
}

void dirty_quota_init(void)
{
    static NotifierWithReturn notifier = { .notify = dirty_quota_notify };

    qemu_mutex_init(&quota.lock);
    precopy_add_notifier(&notifier);
}
