// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm.h"

atomic_bool interrupted, hung_up;

static void on_signal(int number)
{
	(void)number;
	interrupted = true;
}

static void on_hangup(int number)
{
	(void)number;
	hung_up = true;
}

/*
 * Signals come in only while ppoll waits: no window in which one is lost. The
 * change of a window's size is among them, for who has a handler for it.
 */
void signals_catch(sigset_t *while_waiting, bool hangup_reopens)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP };
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t block;

	sigemptyset(&block);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		sigaddset(&block, numbers[i]);
	sigaddset(&block, SIGWINCH);
	sigprocmask(SIG_BLOCK, &block, while_waiting);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		sigdelset(while_waiting, numbers[i]);
		if (numbers[i] == SIGHUP && hangup_reopens)
			action.sa_handler = on_hangup;
		sigaction(numbers[i], &action, NULL);
	}
	sigdelset(while_waiting, SIGWINCH);
}

/* A file takes what it is given; who reads a pipe or a terminal may be slow. */
bool signals_may_wait(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 || !S_ISREG(st.st_mode);
}

/*
 * One write for all that a turn had to say, so that nothing is shown half. Who
 * does not read can hold us here: a signal gets us out, of those not blocked
 * in @while_waiting (NULL for a file). 0, -EINTR or -errno.
 */
int signals_write(const sigset_t *while_waiting, int fd, const char *text,
		  size_t length)
{
	sigset_t blocked;
	int ret = 0;

	if (while_waiting)
		sigprocmask(SIG_SETMASK, while_waiting, &blocked);
	while (length && !ret) {
		ssize_t written = write(fd, text, length);

		if (written < 0) {
			ret = errno == EINTR && !interrupted ? 0 : -errno;
			continue;
		}
		text += written;
		length -= written;
		/* a write that a signal ends may have done a part */
		if (length && interrupted && while_waiting)
			ret = -EINTR;
	}
	if (while_waiting)
		sigprocmask(SIG_SETMASK, &blocked, NULL);
	return ret;
}
