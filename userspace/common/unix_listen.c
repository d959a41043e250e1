// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "unix_listen.h"

#define LOCK_TRIES	100
#define LOCK_US		10000
#define LOCK_BYTES	(sizeof(((struct sockaddr_un *)NULL)->sun_path) + sizeof(LOCK_SUFFIX))

static void name_lock(char name[LOCK_BYTES], const char *path)
{
	snprintf(name, LOCK_BYTES, "%s" LOCK_SUFFIX, path);
}

/* The lock's file, made if it is not there: one that nobody but its owner can open. */
static int open_lock(const char *name, struct stat *st)
{
	int fd = open(name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
		      0600);
	int error = errno;

	if (fd < 0 && (error == EMFILE || error == ENFILE || error == ENOMEM))
		return -error;
	if (fd < 0)	/* what is there cannot be opened, or nothing can be made */
		return lstat(name, st) ? -error : -ENOLCK;
	if (!fstat(fd, st) && S_ISREG(st->st_mode) && st->st_uid == geteuid() &&
	    (!(st->st_mode & 077) || !fchmod(fd, 0600)))
		return fd;
	close(fd);
	return -ENOLCK;
}

/*
 * Whoever looks whether a name is stale, and binds or removes it, holds a lock: else
 * the second of two could remove the socket of the first. Not on the directory, which
 * everybody who can read it can lock. The file goes before its lock, so whoever gets
 * the lock looks whether its file still has the name.
 */
static int lock_path(const char *path)
{
	char name[LOCK_BYTES];

	name_lock(name, path);
	for (int i = 0; i < LOCK_TRIES; i++) {
		struct stat st, named;
		int fd = open_lock(name, &st);

		if (fd < 0)
			return fd;
		if (flock(fd, LOCK_EX | LOCK_NB))
			usleep(LOCK_US);
		else if (!lstat(name, &named) && named.st_dev == st.st_dev &&
			 named.st_ino == st.st_ino)
			return fd;
		close(fd);
	}
	return -EBUSY;
}

static void unlock_path(const char *path, int lock_fd)
{
	char name[LOCK_BYTES];

	name_lock(name, path);
	unlink(name);
	close(lock_fd);
}

pid_t unix_lock_holder(const char *path)
{
	FILE *file = fopen("/proc/locks", "re");
	char name[LOCK_BYTES], line[256];
	unsigned long inode;
	unsigned int major_nr, minor_nr;
	pid_t holder = 0;
	struct stat st;
	int pid;

	name_lock(name, path);
	if (file && lstat(name, &st))
		st.st_ino = 0;
	while (file && !holder && fgets(line, sizeof(line), file))
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &pid,
			   &major_nr, &minor_nr, &inode) == 4 &&
		    inode == st.st_ino && major_nr == major(st.st_dev) &&
		    minor_nr == minor(st.st_dev) && pid > 0)
			holder = pid;
	if (file)
		fclose(file);
	return holder;
}

/* Nobody listens there any more. */
static int remove_stale(const struct sockaddr_un *address, int type)
{
	struct stat st;
	int fd, ret = -EADDRINUSE;

	if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return ret;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
	    errno == ECONNREFUSED)
		ret = unlink(address->sun_path) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* The umask may have taken bits away. A link that took its place is not followed. */
static int add_mode_bits(const char *path, mode_t mode)
{
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC), ret = 0;
	char by_number[40];
	struct stat st;

	if (fd < 0)
		return -errno;
	snprintf(by_number, sizeof(by_number), "/proc/self/fd/%d", fd);
	if (fstat(fd, &st) < 0)
		ret = -errno;
	else if (!S_ISSOCK(st.st_mode))
		ret = -EADDRINUSE;
	else if ((st.st_mode & 0777) != mode && chmod(by_number, mode) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static int bind_listen(int fd, const struct sockaddr_un *address, int type,
		       mode_t mode)
{
	const struct sockaddr *any = (const struct sockaddr *)address;
	int ret = 0;

	/* before it has a name, so that it never is open to more than @mode */
	if (fchmod(fd, mode) < 0)
		return -errno;
	if (bind(fd, any, sizeof(*address)) < 0) {
		ret = -errno;
		if (ret == -EADDRINUSE)
			ret = remove_stale(address, type);
		if (!ret && bind(fd, any, sizeof(*address)) < 0)
			ret = -errno;
	}
	if (!ret)
		ret = add_mode_bits(address->sun_path, mode);
	if (!ret && listen(fd, 128) < 0)
		ret = -errno;
	return ret;
}

int unix_listen(const char *path, int type, mode_t mode)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, lock_fd, ret;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	if (!*path)
		return -EINVAL;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	lock_fd = lock_path(path);
	ret = lock_fd < 0 ? lock_fd : bind_listen(fd, &address, type, mode);
	if (lock_fd >= 0)
		unlock_path(path, lock_fd);
	if (!ret)
		return fd;
	close(fd);
	return ret;
}

void unix_remove(const char *path, const struct stat *bound)
{
	int lock_fd = lock_path(path);
	struct stat st;

	if (!lstat(path, &st) && S_ISSOCK(st.st_mode) &&
	    st.st_dev == bound->st_dev && st.st_ino == bound->st_ino)
		unlink(path);
	if (lock_fd >= 0)
		unlock_path(path, lock_fd);
}
