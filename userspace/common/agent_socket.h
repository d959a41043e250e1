/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where kvmstatd listens if nobody says another place: root's and users' own. */
#ifndef COMMON_AGENT_SOCKET_H
#define COMMON_AGENT_SOCKET_H

#define AGENT_SOCKET_BYTES	256

/*
 * Where this user's agent listens: below /run for root, below $XDG_RUNTIME_DIR for
 * others. 0, or -ENOENT without such a directory.
 */
int agent_socket_own(char path[AGENT_SOCKET_BYTES]);
/*
 * Where a VMM finds an agent: this user's own one, or the system's, whichever is
 * there in this order; if neither is, where the first will be. It need not be there.
 */
void agent_socket_find(char path[AGENT_SOCKET_BYTES]);

#endif /* COMMON_AGENT_SOCKET_H */
