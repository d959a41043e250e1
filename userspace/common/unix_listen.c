// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "unix_listen.h"

#define LOCK_TRIES	100
#define LOCK_US		10000

/*
 * Whoever looks whether a name is stale, and binds it, holds a lock on the
 * directory: else the second of two could remove the socket of the first. -1 if
 * the directory cannot be read, or somebody keeps the lock for a second.
 */
static int lock_directory(const char *path)
{
	char directory[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 2];
	char *slash;
	int fd;

	snprintf(directory, sizeof(directory), "%s%s",
		 strchr(path, '/') ? "" : "./", path);
	slash = strrchr(directory, '/');
	slash[slash == directory] = 0;
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (!flock(fd, LOCK_EX | LOCK_NB))
			return fd;
		usleep(LOCK_US);
	}
	close(fd);
	return -1;
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
		       mode_t mode, bool may_remove)
{
	const struct sockaddr *any = (const struct sockaddr *)address;
	int ret = 0;

	/* before it has a name, so that it never is open to more than @mode */
	if (fchmod(fd, mode) < 0)
		return -errno;
	if (bind(fd, any, sizeof(*address)) < 0) {
		ret = -errno;
		if (ret == -EADDRINUSE && may_remove)
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
	lock_fd = lock_directory(path);
	ret = bind_listen(fd, &address, type, mode, lock_fd >= 0);
	if (lock_fd >= 0)
		close(lock_fd);
	if (!ret)
		return fd;
	close(fd);
	return ret;
}

void unix_remove(const char *path, const struct stat *bound)
{
	int lock_fd = lock_directory(path);
	struct stat st;

	if (!lstat(path, &st) && S_ISSOCK(st.st_mode) &&
	    st.st_dev == bound->st_dev && st.st_ino == bound->st_ino)
		unlink(path);
	if (lock_fd >= 0)
		close(lock_fd);
}
