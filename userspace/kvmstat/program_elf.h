/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTAT_PROGRAM_ELF_H
#define KVMSTAT_PROGRAM_ELF_H

#include <stdbool.h>
#include <stdint.h>

#define HEAD_BYTES	4096

struct program {
	unsigned char class;
	uint16_t machine;
	bool script, dynamic;
};

/*
 * @head: a file's first bytes, and zeros if it has less. 0, or -ENOEXEC for what
 * is neither ELF nor a script.
 */
int parse_program(const unsigned char head[HEAD_BYTES],
		  struct program *program);

#endif /* KVMSTAT_PROGRAM_ELF_H */
