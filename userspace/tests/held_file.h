/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A file system in userspace that does not answer to close, and a process that
 * has a file of it open as descriptor 100.
 */
#ifndef TEST_HELD_FILE_H
#define TEST_HELD_FILE_H

#include "image.h"

struct held_file {
	char path[32];
	pid_t server, holder;
	int closing;
};

/*
 * With @execs the holder closes the file in the middle of an exec, which does
 * not come to its end. False if there is no file system in userspace to be had.
 */
bool held_file_start(struct held_file *file, bool execs);
/* Until the holder is in its exec. */
void held_file_wait_exec(const struct held_file *file);
void held_file_stop(struct held_file *file);

#endif /* TEST_HELD_FILE_H */
