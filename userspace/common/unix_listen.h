/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets with a name in the file system, and nobody else's touched. */
#ifndef COMMON_UNIX_LISTEN_H
#define COMMON_UNIX_LISTEN_H

#include <sys/stat.h>
#include <sys/types.h>

#define LOCK_SUFFIX	".lock"

/*
 * Listen at @path with permissions @mode, never more, not even shortly. @type:
 * SOCK_STREAM or SOCK_SEQPACKET. A socket on which nobody listens any more is
 * replaced; of several processes that try at once, one succeeds. Close-on-exec,
 * non-blocking. The descriptor, or -errno: -EADDRINUSE if anything else has that
 * name, -ENAMETOOLONG if it has more than 107 bytes, -EBUSY if a process keeps the
 * lock (@path with LOCK_SUFFIX, as long as this function runs) for a second, -ENOLCK
 * if what has the lock's name is no file of this user.
 */
int unix_listen(const char *path, int type, mode_t mode);

/* The process that has the lock of @path; 0 if that cannot be seen. */
pid_t unix_lock_holder(const char *path);

/* Removes @path if it still is that socket, as stat told right after unix_listen. */
void unix_remove(const char *path, const struct stat *bound);

#endif /* COMMON_UNIX_LISTEN_H */
