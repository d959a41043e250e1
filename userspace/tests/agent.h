/* SPDX-License-Identifier: GPL-2.0-only */
/* What tests of kvmstatd share. */
#ifndef TEST_AGENT_H
#define TEST_AGENT_H

#include "image.h"

#include "../kvmstatd/exposition.h"
#include "../kvmstatd/scrape.h"

/* A VM of that name, of process @pid. */
struct vm *agent_add_vm(struct registry *registry, const char *name, int pid);
/* Hands @source over to it; the result of registry_add_sources. */
int agent_add(struct registry *registry, struct vm *vm,
	      struct kvmstats_source *source, const struct settings *settings);
void agent_remove(struct registry *registry, struct vm *vm);
/* The whole text, to be freed. @room: bytes that a client takes at once. */
char *agent_text(struct registry *registry, enum exposition format,
		 const struct settings *settings, size_t room);
/* A source of what is in @image, which it copies. */
struct kvmstats_source *made(const struct image *image);
/* Whether @line is in @text; prints both if not. */
bool has(const char *text, const char *line);

#endif /* TEST_AGENT_H */
