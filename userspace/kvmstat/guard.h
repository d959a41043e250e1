/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTAT_GUARD_H
#define KVMSTAT_GUARD_H

/* Learn what the terminal can do: NULL, or why that is not enough. */
const char *guard_check_terminal(void);
/*
 * A process that sets the terminal right when this one dies without doing so,
 * of SIGKILL or SIGSEGV for example. Start it after guard_check_terminal and before the
 * terminal is changed. Returns a descriptor for guard_stop, or -1: without a
 * guard everything else works.
 */
int guard_start(void);
/* The terminal is right again: nothing is left to be done. */
void guard_stop(int guard_fd);

#endif /* KVMSTAT_GUARD_H */
