/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a process tells an agent that reads its statistics, by libkvmstats
 *
 * Copyright (c) 2026 kvmstats developers
 */

#ifndef QEMU_STATS_SENDER_H
#define QEMU_STATS_SENDER_H

/*
 * To be called in the main loop, or at least with the BQL held. Nothing waits
 * for the agent.
 */
typedef struct StatsSender StatsSender;

/*
 * @who: type and id of the object, for messages; @name and @uuid are the VM's,
 * empty if there is none
 */
StatsSender *stats_sender_new(const char *who, const char *name,
                                       const char *uuid, Error **errp);
/*
 * Connect there, as soon as there is something to send, and again when the
 * agent has gone.
 */
bool stats_sender_set_path(StatsSender *s, const char *path,
                              Error **errp);
/*
 * Use a connection that somebody else has made; @address is its name in
 * messages. 0, or a negative errno, and @fd stays the caller's.
 */
int stats_sender_set_connection(StatsSender *s, int fd, const char *address);
/* Send @fd, which stays the caller's; if it is a negative errno, warn. */
void stats_sender_add_fd(StatsSender *s, int fd, const char *whose);
/*
 * What has been sent cannot be taken back: begin anew, with nothing, over
 * another connection. False, and all stays as it is, if that was not made here.
 */
bool stats_sender_reset(StatsSender *s);
bool stats_sender_is_connected(const StatsSender *s);
/* Takes NULL. */
void stats_sender_free(StatsSender *s);

#endif
