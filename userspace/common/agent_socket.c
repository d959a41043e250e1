// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent_socket.h"

#define SYSTEM_SOCKET	"/run/kvmstatd/register.sock"

int agent_socket_own(char path[AGENT_SOCKET_BYTES])
{
	const char *directory = getenv("XDG_RUNTIME_DIR");

	if (!geteuid()) {
		strcpy(path, SYSTEM_SOCKET);
		return 0;
	}
	if (!directory || *directory != '/' || strlen(directory) > 200)
		return -ENOENT;
	snprintf(path, AGENT_SOCKET_BYTES, "%s/kvmstatd/register.sock", directory);
	return 0;
}

void agent_socket_find(char path[AGENT_SOCKET_BYTES])
{
	if (agent_socket_own(path) ||
	    (access(path, F_OK) && !access(SYSTEM_SOCKET, F_OK)))
		strcpy(path, SYSTEM_SOCKET);
}
