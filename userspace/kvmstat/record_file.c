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
		    strerror(-error));
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

static int put(struct recfile *file, const sigset_t *while_waiting,
	       const char *text, size_t length)
{
	int ret = find_end(file);

	if (!ret)
		ret = signals_write(file->is_file ? NULL : while_waiting,
				    file->fd, text, length);
	if (!ret)
		file->bytes += length;
	else if (file->is_file && cut_back(file) < 0)
		fprintf(stderr, "kvmstat: %s: the last record is incomplete\n",
			file->path);
	return ret;
}

/* Each file begins with it, also one that was emptied meanwhile. */
static int put_header(struct recfile *file)
{
	int ret = find_end(file);

	if (!ret && file->header && !file->bytes && !file->began)
		ret = put(file, NULL, file->header, strlen(file->header));
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

	if (pread(file->fd, &last, 1, file->bytes - 1) != 1 || last == '\n')
		return STATUS_OK;
	fprintf(stderr, "kvmstat: %s: its last line was incomplete\n",
		file->path);
	return put(file, NULL, "\n", 1) ? fail_file(file, -errno) : STATUS_OK;
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

static int begin_file(struct recfile *file)
{
	struct stat st;
	int status = STATUS_OK, ret = 0;

	if (fstat(file->fd, &st) < 0)
		return fail_file(file, -errno);
	file->is_file = S_ISREG(st.st_mode);
	file->bytes = file->is_file ? st.st_size : 0;
	if (file->rotate_bytes && !file->is_file)
		return fail(STATUS_USAGE, "--rotate: %s is not a regular file",
			    file->path);
	if (file->path)
		status = check_content(file);
	file->began = false;
	if (!status)
		ret = put_header(file);
	return ret ? fail_file(file, ret) : status;
}

int recfile_open(struct recfile *file)
{
	int flags = O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY;

	if (!file->path) {
		file->fd = STDOUT_FILENO;
		return begin_file(file);
	}
	file->fd = open(file->path, flags, 0644);
	if (file->fd < 0)
		return fail_file(file, -errno);
	return begin_file(file);
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

/* FILE.1 is the youngest; the oldest beyond --keep is lost. */
static int rotate(struct recfile *file)
{
	char from[PATH_MAX], to[PATH_MAX];
	int status = recfile_close(file);

	for (unsigned long i = file->keep; i && !status; i--) {
		numbered(file, i - 1, from);
		numbered(file, i, to);
		if (rename(from, to) < 0 && errno != ENOENT)
			status = fail(status_of(-errno), "%s: %s", to,
				      strerror(errno));
	}
	if (!status && !file->keep && unlink(file->path) < 0)
		status = fail_file(file, -errno);
	return status ? status : recfile_open(file);
}

static bool is_full(const struct recfile *file, size_t length)
{
	uint64_t begin = file->header ? strlen(file->header) : 0;

	return file->rotate_bytes && file->bytes > begin &&
	       file->bytes + length > file->rotate_bytes;
}

int recfile_write(struct recfile *file, const sigset_t *while_waiting,
		  const char *text, size_t length)
{
	int status = STATUS_OK, ret;

	if (!length)
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
		ret = put(file, NULL, file->banner, strlen(file->banner));
	if (!ret)
		ret = put(file, while_waiting, text, length);
	if (!ret && file->sync == SYNC_SAMPLE && file->is_file)
		ret = fdatasync(file->fd) < 0 ? -errno : 0;
	/* a reader that has gone, or a signal, is an end, not a failure */
	if (!file->path && (ret == -EPIPE || ret == -EINTR)) {
		interrupted = true;
		return STATUS_OK;
	}
	return ret ? fail_file(file, ret) : STATUS_OK;
}
