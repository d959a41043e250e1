// SPDX-License-Identifier: GPL-2.0-only
/* The file of record: appended to, rotated, never left with half a record. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record.h"

#define READER_MS	50	/* nothing tells of a FIFO's first reader: look this often */
#define REPLACED_TRIES	100	/* others may replace the file while it is opened */
#define LOCK_TRIES	10	/* its holder may have gone before it is asked for */

/* Of a record that did not fit; never beyond what is there now. */
static int cut_back(const struct recfile *file)
{
	struct stat st;

	if (fstat(file->fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size <= file->bytes)
		return 0;
	return ftruncate(file->fd, file->bytes) < 0 ? -errno : 0;
}

static int fail_file(const struct recfile *file, int error)
{
	return fail(file->path ? status_of(error) : STATUS_FAILED, "%s: %s",
		    file->path ? file->path : "standard output",
		    write_error_text(error));
}

/* A signal is an end, not a failure; so is the reader of a pipe that has gone. */
static int finish_write(const struct recfile *file, int ret)
{
	if (ret == -EINTR || (!file->path && ret == -EPIPE)) {
		interrupted = true;
		return STATUS_OK;
	}
	return ret ? fail_file(file, ret) : STATUS_OK;
}

/* Others may have made it shorter (copytruncate of logrotate), or longer. */
static int find_end(struct recfile *file)
{
	struct stat st;

	if (!file->is_file)
		return 0;
	if (fstat(file->fd, &st) < 0)
		return -errno;
	file->bytes = st.st_size;
	return 0;
}

static int put(struct recfile *file, const char *text, size_t length)
{
	int ret = find_end(file);

	if (!ret)
		ret = signals_write(file->is_file ? NULL : file->while_waiting,
				    file->fd, text, length);
	if (!ret)
		file->bytes += length;
	else if (file->is_file && cut_back(file) < 0)
		say("%s: the last record is incomplete", file->path);
	return ret;
}

/* Each file begins with it, also one that was emptied meanwhile. */
static int put_header(struct recfile *file)
{
	int ret = find_end(file);

	if (!ret && file->header && !file->bytes && !file->began)
		ret = put(file, file->header, strlen(file->header));
	/* where nothing can be looked at again, once is all there is to do */
	file->began = !file->is_file;
	return ret;
}

static bool starts_with(const char *text, size_t length, const char *begin)
{
	return length >= strlen(begin) && !memcmp(text, begin, strlen(begin));
}

/* Records of another layout are not mixed with ours. */
static int check_header(const struct recfile *file, const char *text,
			size_t length)
{
	if (starts_with(text, length, file->header ? file->header : file->first))
		return STATUS_OK;
	return fail(STATUS_FAILED, "%s: its first line is not that of %s",
		    file->path, "these records; it is left as it is");
}

/* A record that was cut by a crash gets an end, so that the next has a line. */
static int check_end(struct recfile *file)
{
	char last = '\n';
	int ret;

	if (pread(file->fd, &last, 1, file->bytes - 1) != 1 || last == '\n')
		return STATUS_OK;
	say("%s: its last line was incomplete", file->path);
	ret = put(file, "\n", 1);
	return ret ? fail_file(file, ret) : STATUS_OK;
}

static int check_content(struct recfile *file)
{
	char text[1024];
	ssize_t length;
	int status;

	if (!file->bytes)
		return STATUS_OK;
	length = pread(file->fd, text, sizeof(text), 0);
	if (length < 0)
		return fail_file(file, -errno);
	status = check_header(file, text, length);
	return status ? status : check_end(file);
}

static int fail_rotate(const struct recfile *file)
{
	return fail(STATUS_USAGE, "--rotate: %s is not a regular file", file->path);
}

/* 0, or a status after a message. */
static int begin_file(struct recfile *file)
{
	int status = STATUS_OK, ret = 0;
	struct stat st;

	if (fstat(file->fd, &st) < 0)
		return fail_file(file, -errno);
	file->is_file = S_ISREG(st.st_mode);
	file->bytes = file->is_file ? st.st_size : 0;
	if (file->rotate_bytes && !file->is_file)
		return fail_rotate(file);
	if (file->path && file->is_file)
		status = check_content(file);
	file->began = false;
	if (!status)
		ret = put_header(file);
	return status ? status : finish_write(file, ret);
}

/*
 * Who writes to a FIFO must not be a reader of it, or there would always be one. What
 * else can be read stays open for that: a file's first line and its last. The
 * descriptor, -EAGAIN if it is another file by now, -ENXIO without a reader, or -errno.
 */
static int open_path(const char *path)
{
	struct stat named, opened;
	bool is_file = stat(path, &named) < 0 || S_ISREG(named.st_mode);
	int fd = open(path, (is_file ? O_RDWR | O_CREAT : O_WRONLY) | O_APPEND |
		      O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
	int ret = fd < 0 ? -errno : 0;

	if (!ret && (fstat(fd, &opened) < 0 || S_ISREG(opened.st_mode) != is_file))
		ret = -EAGAIN;
	/* a socket, or a device that is not there: no reader will come */
	if (ret == -ENXIO && !is_file && !S_ISFIFO(named.st_mode))
		ret = -ENODEV;
	/* writes wait, so that nothing is lost */
	if (!ret && !is_file && fcntl(fd, F_SETFL, O_APPEND) < 0)
		ret = -errno;
	if (ret && fd >= 0)
		close(fd);
	return ret ? ret : fd;
}

/*
 * Two records in one file would be mixed. A lock of the process, which no child of it
 * has; it is asked for and never waited for. Whoever can read the file can have a read lock
 * on it, and keeps us from having ours, but not from writing: no record has the lock then.
 * STATUS_OK, or a status after a message.
 */
static int lock_file(const struct recfile *file)
{
	static const char unnoticed[] =
		"another record that writes to it will not be noticed";
	struct flock other = { .l_type = F_UNLCK };
	int error = 0;

	for (int i = 0; i < LOCK_TRIES && other.l_type == F_UNLCK; i++) {
		struct flock own = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

		if (!fcntl(file->fd, F_SETLK, &own))
			return STATUS_OK;
		error = errno;
		other = own;
		if ((error != EAGAIN && error != EACCES) ||
		    fcntl(file->fd, F_GETLK, &other) < 0)
			break;
	}
	if (other.l_type == F_WRLCK && (error == EAGAIN || error == EACCES)) {
		if (other.l_pid > 0)
			return fail(STATUS_FAILED, "%s: another record writes to it: process %d",
				    file->path, other.l_pid);
		return fail(STATUS_FAILED, "%s: another record writes to it", file->path);
	}
	if (other.l_type == F_RDLCK)
		say("%s: process %d, which reads it, has a lock on it; %s", file->path,
		    other.l_pid, unnoticed);
	else
		say("%s: cannot be locked (%s); %s", file->path, strerror(error), unnoticed);
	return STATUS_OK;
}

/* Or a record that rotates has moved it away since it was opened. */
static bool is_at_path(const struct recfile *file)
{
	struct stat named, opened;

	return !stat(file->path, &named) && !fstat(file->fd, &opened) &&
	       named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

int recfile_open(struct recfile *file)
{
	int over = 0, replaced = 0;
	bool said = false;

	if (!file->path) {
		file->fd = STDOUT_FILENO;
		return begin_file(file);
	}
	while (true) {
		struct stat st;
		int status;

		file->fd = open_path(file->path);
		if (file->fd < 0 && file->fd != -ENXIO && file->fd != -EAGAIN)
			return fail_file(file, file->fd);
		/* whoever reads it later could not change that */
		if (file->fd == -ENXIO && file->rotate_bytes)
			return fail_rotate(file);
		if (file->fd >= 0) {
			status = !fstat(file->fd, &st) && S_ISREG(st.st_mode) ?
				 lock_file(file) : STATUS_OK;
			if (status)
				return status;
			if (is_at_path(file)) {
				/* what came while it was waited for has been done */
				hung_up = false;
				return begin_file(file);
			}
			close(file->fd);
			file->fd = -EAGAIN;
		}
		if (over == -EINTR)
			return STATUS_OK;
		if (file->fd == -EAGAIN && ++replaced == REPLACED_TRIES)
			return fail(STATUS_FAILED, "%s: it is another file each time it is opened",
				    file->path);
		if (over)
			return fail(STATUS_FAILED, "%s: no reader has opened it within --duration",
				    file->path);
		if (file->fd == -ENXIO && !said) {
			say("%s: waiting for a reader", file->path);
			said = true;
		}
		over = signals_pause(file->while_waiting, READER_MS);
	}
}

/* A new name is lasting only when its directory is. */
static int sync_directory(const char *path)
{
	char directory[PATH_MAX];
	char *slash;
	int fd, ret;

	snprintf(directory, sizeof(directory), "%s", path);
	slash = strrchr(directory, '/');
	if (slash)
		slash[1] = 0;
	fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

int recfile_close(struct recfile *file)
{
	int ret = 0;

	if (!file->path || file->fd < 0)
		return STATUS_OK;
	if (file->sync != SYNC_NEVER && file->is_file) {
		ret = fsync(file->fd) < 0 ? -errno : 0;
		ret = ret ? ret : sync_directory(file->path);
	}
	if (close(file->fd) < 0 && !ret)
		ret = -errno;
	file->fd = -1;
	return ret ? fail_file(file, ret) : STATUS_OK;
}

int recfile_reopen(struct recfile *file)
{
	int status;

	if (!file->path)
		return STATUS_OK;
	status = recfile_close(file);
	return status ? status : recfile_open(file);
}

static void numbered(const struct recfile *file, unsigned long number,
		     char path[PATH_MAX])
{
	int length = snprintf(path, PATH_MAX, number ? "%s.%lu" : "%s",
			      file->path, number);

	if (length >= PATH_MAX)
		path[0] = 0;
}

/*
 * FILE.1 is the youngest; the oldest beyond --keep is lost. Closed, and so unlocked, when
 * it has its new name.
 */
static int rotate(struct recfile *file)
{
	char from[PATH_MAX], to[PATH_MAX];
	int status = STATUS_OK, closed;

	for (unsigned long i = file->keep; i && !status; i--) {
		numbered(file, i - 1, from);
		numbered(file, i, to);
		if (rename(from, to) < 0 && errno != ENOENT)
			status = fail(status_of(-errno), "%s: %s", to,
				      strerror(errno));
	}
	if (!status && !file->keep && unlink(file->path) < 0)
		status = fail_file(file, -errno);
	closed = recfile_close(file);
	status = status ? status : closed;
	return status ? status : recfile_open(file);
}

static bool is_full(const struct recfile *file, size_t length)
{
	uint64_t begin = file->header ? strlen(file->header) : 0;

	return file->rotate_bytes && file->bytes > begin &&
	       file->bytes + length > file->rotate_bytes;
}

int recfile_write(struct recfile *file, const char *text, size_t length)
{
	int status = STATUS_OK, ret;

	/* without a descriptor, it was not opened again because of a signal */
	if (!length || file->fd < 0)
		return STATUS_OK;
	ret = find_end(file);
	if (!ret && is_full(file, length))
		status = rotate(file);
	if (status)
		return status;
	if (!ret)
		ret = put_header(file);
	/* after a rotation, say; the text may begin with it anyway */
	if (!ret && file->is_file && !file->bytes && file->banner &&
	    !starts_with(text, length, file->first))
		ret = put(file, file->banner, strlen(file->banner));
	if (!ret)
		ret = put(file, text, length);
	if (!ret && file->sync == SYNC_SAMPLE && file->is_file)
		ret = fdatasync(file->fd) < 0 ? -errno : 0;
	return finish_write(file, ret);
}
