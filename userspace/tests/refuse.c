// SPDX-License-Identifier: GPL-2.0-only
/*
 * usage: refuse ERRNO NUMBER... -- PROGRAM ARGUMENTS... - run a program in which
 * these system calls fail, as the filter of a container makes them
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define MOST 32

int main(int argc, char **argv)
{
	struct sock_filter filter[2 * MOST + 2];
	struct sock_fprog program = { .filter = filter };
	int arg = 2;

	filter[program.len++] = (struct sock_filter)
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr));
	for (; arg < argc && strcmp(argv[arg], "--") && arg < MOST; arg++) {
		filter[program.len++] = (struct sock_filter)
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, atoi(argv[arg]),
				 0, 1);
		filter[program.len++] = (struct sock_filter)
			BPF_STMT(BPF_RET | BPF_K,
				 SECCOMP_RET_ERRNO | atoi(argv[1]));
	}
	filter[program.len++] = (struct sock_filter)
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	if (arg + 1 >= argc) {
		fprintf(stderr, "usage: refuse ERRNO NUMBER... -- PROGRAM\n");
		return 2;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("seccomp");
		return 1;
	}
	execvp(argv[arg + 1], argv + arg + 1);
	perror(argv[arg + 1]);
	return 127;
}
