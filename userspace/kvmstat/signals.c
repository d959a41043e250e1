// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm.h"

atomic_bool interrupted, hung_up;

static const int ends[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP };
static atomic_bool drawing;

/*
 * A terminal can be stopped in the middle of a picture (^S): no signal gets the
 * terminal's library out of there. The guard restores the terminal then.
 */
static void on_signal(int number)
{
	(void)number;
	if (drawing)
		_exit(0);
	interrupted = true;
}

static void on_hangup(int number)
{
	(void)number;
	hung_up = true;
}

/*
 * Signals come in only while ppoll waits: no window in which one is lost. The
 * change of a window's size is among them, for those with a handler for it.
 */
void signals_catch(sigset_t *while_waiting, bool hangup_reopens)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t block;

	sigemptyset(&block);
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		sigaddset(&block, ends[i]);
	sigaddset(&block, SIGWINCH);
	sigprocmask(SIG_BLOCK, &block, while_waiting);
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
		sigdelset(while_waiting, ends[i]);
		if (ends[i] == SIGHUP && hangup_reopens)
			action.sa_handler = on_hangup;
		sigaction(ends[i], &action, NULL);
	}
	sigdelset(while_waiting, SIGWINCH);
}

/* A file takes what it is given; the reader of a pipe or a terminal may be slow. */
bool signals_may_wait(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 || !S_ISREG(st.st_mode);
}

/* For PIPE_BUF bytes, at least. */
static bool has_room(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };

	return poll(&poll_fd, 1, 0) == 1;
}

/*
 * One write for all that a turn had to say, so that nothing is shown half. A
 * reader that does not read can hold us here: a signal that is not blocked in
 * @while_waiting gets us out (NULL for a file). 0, -EINTR or -errno.
 */
int signals_write(const sigset_t *while_waiting, int fd, const char *text,
		  size_t length)
{
	sigset_t blocked;
	int ret = 0;

	if (while_waiting)
		sigprocmask(SIG_SETMASK, while_waiting, &blocked);
	while (length && !ret) {
		size_t part = length;
		ssize_t written;

		/* no signal is to be waited for any more */
		if (interrupted && while_waiting) {
			if (!has_room(fd)) {
				ret = -EINTR;
				break;
			}
			part = length < PIPE_BUF ? length : PIPE_BUF;
		}
		written = write(fd, text, part);
		if (written < 0) {
			ret = errno == EINTR ? 0 : -errno;
			continue;
		}
		text += written;
		length -= written;
	}
	if (while_waiting)
		sigprocmask(SIG_SETMASK, &blocked, NULL);
	return ret;
}

void signals_release(const sigset_t *while_waiting)
{
	sigprocmask(SIG_SETMASK, while_waiting, NULL);
}

void signals_restore(const sigset_t *while_waiting)
{
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		signal(ends[i], SIG_DFL);
	signals_release(while_waiting);
}

static sigset_t before_drawing;

void signals_begin_drawing(const sigset_t *while_waiting)
{
	sigset_t mask = *while_waiting;

	/* the size is looked at between two pictures */
	sigaddset(&mask, SIGWINCH);
	drawing = true;
	sigprocmask(SIG_SETMASK, &mask, &before_drawing);
}

void signals_end_drawing(void)
{
	sigprocmask(SIG_SETMASK, &before_drawing, NULL);
	drawing = false;
}

int output_open(struct output *output, int fd)
{
	output->fd = fd;
	output->may_wait = signals_may_wait(fd);
	output->out = open_memstream(&output->text, &output->length);
	return output->out ? 0 : -ENOMEM;
}

int output_flush(struct output *output, const sigset_t *while_waiting)
{
	int ret;

	if (fflush(output->out) == EOF)
		return -ENOMEM;
	ret = signals_write(output->may_wait ? while_waiting : NULL, output->fd,
			    output->text, ftello(output->out));
	rewind(output->out);
	return ret;
}

void output_close(struct output *output)
{
	if (output->out)
		fclose(output->out);
	free(output->text);
	output->out = NULL;
	output->text = NULL;
}
