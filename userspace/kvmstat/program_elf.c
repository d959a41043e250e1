// SPDX-License-Identifier: GPL-2.0-only
/* The head of a program, which may be anything. */
#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "program_elf.h"

/* What the head of a file holds at @offset; what is outside counts as 0. */
static uint64_t number_at(const unsigned char *head, size_t offset, size_t size)
{
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;

	if (offset > HEAD_BYTES - size)
		return 0;
	switch (size) {
	case 2:
		memcpy(&u16, head + offset, size);
		return u16;
	case 4:
		memcpy(&u32, head + offset, size);
		return u32;
	default:
		memcpy(&u64, head + offset, size);
		return u64;
	}
}

/* A program that names an interpreter is loaded by it, with what it preloads. */
static bool has_interpreter(const unsigned char *head, bool wide)
{
	size_t at = wide ? number_at(head, offsetof(Elf64_Ehdr, e_phoff), 8) :
			   number_at(head, offsetof(Elf32_Ehdr, e_phoff), 4);
	size_t count = number_at(head, wide ? offsetof(Elf64_Ehdr, e_phnum) :
				 offsetof(Elf32_Ehdr, e_phnum), 2);
	size_t size = wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

	for (size_t i = 0; i < count && at + i * size < HEAD_BYTES; i++)
		if (number_at(head, at + i * size, 4) == PT_INTERP)
			return true;
	return false;
}

int parse_program(const unsigned char head[HEAD_BYTES],
		  struct program *program)
{
	program->script = !memcmp(head, "#!", 2);
	if (program->script)
		return 0;
	if (memcmp(head, ELFMAG, SELFMAG))
		return -ENOEXEC;
	program->class = head[EI_CLASS];
	program->machine = number_at(head, offsetof(Elf64_Ehdr, e_machine), 2);
	program->dynamic = has_interpreter(head, program->class == ELFCLASS64);
	return 0;
}
