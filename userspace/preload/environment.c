// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <kvmstats.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../lib/internal.h"
#include "preload.h"

#define LIBRARY		"libkvmstats-preload.so"
#define VARIABLE	"LD_PRELOAD="
#define SEPARATORS	" :"

/* Copies: a program may use the place of its environment for something else. */
static char socket_path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
static char name[KVMSTATS_MAX_VM_NAME + 1], uuid[KVMSTATS_MAX_VM_NAME + 1];
static char others[4096];	/* LD_PRELOAD=, without us */

const char *preload_socket, *preload_name, *preload_uuid;
int preload_handoff = -1;
static uint64_t handoff_inode;

/* A program may have closed it, and its next file has the number. */
bool preload_has_handoff(void)
{
	struct stat st;

	return preload_handoff >= 0 && !fstat(preload_handoff, &st) &&
	       S_ISSOCK(st.st_mode) && st.st_ino == handoff_inode;
}

/* "NUMBER:INODE". Whoever gave it learns that we are here. */
static void find_handoff(void)
{
	const char *text = getenv("KVMSTATS_HANDOFF");

	if (text && *text >= '0' && *text <= '9') {
		preload_handoff = parse_digits(&text);
		handoff_inode = *text == ':' ? (text++, parse_digits(&text)) : 0;
	}
	if (preload_has_handoff())
		send(preload_handoff, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* What the VMM's own command line says of its VM. */
static void names_of_command_line(void)
{
	static char cmdline_name[KVMSTATS_MAX_VM_NAME + 1];
	static char cmdline_uuid[KVMSTATS_MAX_VM_NAME + 1];

	kvmstats_process_names(getpid(), cmdline_name, cmdline_uuid);
	if (!preload_name && *cmdline_name)
		preload_name = cmdline_name;
	if (!preload_uuid)
		preload_uuid = cmdline_uuid;
}

/* What does not fit is as good as not said. */
static const char *copy(char *to, size_t size, const char *variable)
{
	const char *from = getenv(variable);

	if (!from || !*from || strlen(from) >= size)
		return NULL;
	return strcpy(to, from);
}

static bool is_us(const char *path, size_t length)
{
	size_t own = strlen(LIBRARY);

	return length >= own && !strncmp(path + length - own, LIBRARY, own) &&
	       (length == own || path[length - own - 1] == '/');
}

/* The list without this library; false if it is too long to be kept. */
static bool list_others(const char *list)
{
	size_t used = strlen(strcpy(others, VARIABLE));

	if (used + strlen(list) >= sizeof(others))
		return false;
	while (*list) {
		size_t length = strcspn(list, SEPARATORS);

		if (length && !is_us(list, length))
			used += sprintf(others + used, "%s%.*s",
					others[used - 1] == '=' ? "" : ":",
					(int)length, list);
		list += length;
		list += strspn(list, SEPARATORS);
	}
	return true;
}

void preload_environment(void)
{
	const char *list = getenv("LD_PRELOAD");

	if (!list || !list_others(list))
		others[0] = 0;
	preload_socket = copy(socket_path, sizeof(socket_path),
			      "KVMSTATS_SOCKET");
	preload_name = copy(name, sizeof(name), "KVMSTATS_NAME");
	preload_uuid = copy(uuid, sizeof(uuid), "KVMSTATS_UUID");
	find_handoff();
	if (preload_socket || preload_handoff >= 0)
		names_of_command_line();
}

/*
 * Programs that the VMM starts do not need this library. It stays until the
 * first VM is there, because what was started may be a script that runs the
 * VMM. Not by setenv, which moves what another thread may be reading: one
 * store, and a reader finds the old text or the new one.
 */
void preload_leave_environment(void)
{
	if (!others[0] || !environ)
		return;
	for (char **entry = environ; *entry; entry++)
		if (!strncmp(*entry, VARIABLE, strlen(VARIABLE)))
			__atomic_store_n(entry, others, __ATOMIC_RELEASE);
}
