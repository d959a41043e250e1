// SPDX-License-Identifier: GPL-2.0-only
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "held_file.h"

static void reply(int fuse, uint64_t unique, const void *body, size_t size)
{
	struct {
		struct fuse_out_header header;
		char body[256];
	} out = { .header = { .len = sizeof(out.header) + size,
			      .unique = unique } };

	memcpy(out.body, body, size);
	if (write(fuse, &out, out.header.len) < 0)
		_exit(1);
}

/* Its root is a file, which can be opened. Says to @closing when it is closed. */
static void serve(int fuse, int closing)
{
	struct fuse_init_out init = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_write = 4096,
	};
	struct fuse_attr_out attr = {
		.attr = { .ino = 1, .mode = S_IFREG | 0644, .nlink = 1 },
	};
	struct fuse_open_out open_out = { .fh = 1 };
	static char request[1 << 17];
	struct fuse_in_header *in = (void *)request;

	while (read(fuse, request, sizeof(request)) > 0)
		switch (in->opcode) {
		case FUSE_INIT:
			reply(fuse, in->unique, &init, sizeof(init));
			break;
		case FUSE_GETATTR:
			reply(fuse, in->unique, &attr, sizeof(attr));
			break;
		case FUSE_OPEN:
			reply(fuse, in->unique, &open_out, sizeof(open_out));
			break;
		case FUSE_FLUSH:
			if (write(closing, "c", 1) < 0)
				_exit(1);
			break;
		}
}

/*
 * Two processes: one serves, one has the file open as descriptor 100, and
 * closes it in the middle of an exec if it is to.
 */
static void hold_file(const char *path, int ready, bool execs)
{
	char options[64];
	int fuse = open("/dev/fuse", O_RDWR), fd;

	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=100644,user_id=0,group_id=0", fuse);
	if (fuse < 0 || unshare(CLONE_NEWNS) ||
	    mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("fuse", path, "fuse", 0, options)) {
		fd = write(ready, "n", 1);
		_exit(1);
	}
	if (fork()) {
		serve(fuse, ready);
		_exit(0);
	}
	close(fuse);
	fd = open(path, O_RDONLY);
	if (fd < 0 || dup2(fd, 100) < 0 ||
	    write(ready, &(pid_t){ getpid() }, sizeof(pid_t)) < 0)
		_exit(1);
	if (execs && !fcntl(100, F_SETFD, FD_CLOEXEC))
		execl("/bin/sleep", "sleep", "600", NULL);
	pause();
	_exit(0);
}

bool held_file_start(struct held_file *file, bool execs)
{
	int ready[2];

	strcpy(file->path, "/tmp/kvmstats-fuse-XXXXXX");
	file->holder = 0;
	if (getuid() || access("/dev/fuse", F_OK))
		return false;
	assert_int_equal(close(mkstemp(file->path)), 0);
	assert_int_equal(pipe(ready), 0);
	file->server = fork();
	if (!file->server && !prctl(PR_SET_PDEATHSIG, SIGKILL))
		hold_file(file->path, ready[1], execs);
	close(ready[1]);
	file->closing = ready[0];
	if (read(ready[0], &file->holder, sizeof(pid_t)) == sizeof(pid_t))
		return true;
	waitpid(file->server, NULL, 0);
	close(file->closing);
	unlink(file->path);
	return false;
}

void held_file_stop(struct held_file *file)
{
	kill(file->holder, SIGKILL);
	kill(file->server, SIGKILL);
	waitpid(file->server, NULL, 0);
	close(file->closing);
	unlink(file->path);
}

void held_file_wait_exec(const struct held_file *file)
{
	char byte;

	assert_int_equal(read(file->closing, &byte, 1), 1);
}
