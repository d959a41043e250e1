// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "../common/agent_socket.h"
#include "../common/log.h"
#include "discover.h"

struct discover {
	const char *socket_path;
	struct table table;
	struct pollfd *polls;
	sigset_t while_waiting;
};

static atomic_bool stopping;

static void on_signal(int number)
{
	(void)number;
	stopping = true;
}

/* While it works it says so; a hang is for systemd to end. */
static void tell_systemd(const char *state)
{
#ifdef HAVE_SYSTEMD
	sd_notify(0, state);
#else
	(void)state;
#endif
}

/* The VMM that is ours to handle at this moment, or NULL. */
static struct vmm *vmm_at(const struct discover *discover, size_t i)
{
	const struct process *process = &discover->table.processes[i];

	return process->busy || process->ended ? NULL : process->vmm;
}

/* Slots in order of the table: two for each VMM, pidfd and connection. */
static size_t fill_polls(struct discover *discover)
{
	const struct table *table = &discover->table;
	struct pollfd *polls;
	size_t slots = 0;

	polls = realloc(discover->polls,
			(2 * table->count + 1) * sizeof(*polls));
	if (!polls)
		return 0;
	discover->polls = polls;
	for (size_t i = 0; i < table->count; i++) {
		const struct vmm *vmm = vmm_at(discover, i);

		if (!vmm)
			continue;
		polls[slots++] = (struct pollfd){
			kvmstats_vmm_pidfd(vmm->found), POLLIN, 0
		};
		polls[slots++] = (struct pollfd){
			kvmstats_sender_fd(vmm->sender), POLLIN, 0
		};
	}
	return slots;
}

/* An open descriptor keeps the memory of a VM that has ended: at once. */
static void handle_ends(struct discover *discover)
{
	const struct pollfd *polls = discover->polls;

	for (size_t i = 0; i < discover->table.count; i++) {
		if (!vmm_at(discover, i))
			continue;
		if (polls[0].revents)
			table_end(&discover->table,
				  &discover->table.processes[i]);
		polls += 2;
	}
}

/* Returns when to do it again, at the latest. */
static uint64_t maintain_all(struct discover *discover)
{
	uint64_t next_ms = UINT32_MAX;

	for (size_t i = 0; i < discover->table.count; i++) {
		struct vmm *vmm = vmm_at(discover, i);
		int wait_ms;

		if (!vmm)
			continue;
		vmm_maintain(vmm, discover->socket_path, &wait_ms);
		if ((uint64_t)wait_ms < next_ms)
			next_ms = wait_ms;
	}
	return now_ns() + next_ms * 1000000;
}

/* Up to @until_ns, or the first event before it. */
static void wait_for_events(struct discover *discover, uint64_t until_ns)
{
	size_t slots = fill_polls(discover);
	uint64_t now = now_ns();
	uint64_t left_ns = until_ns > now ? until_ns - now : 0;
	struct timespec left = {
		.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000
	};

	if (ppoll(discover->polls, slots, &left, &discover->while_waiting) > 0)
		handle_ends(discover);
}

/* While the thread looks at processes, some of which do not answer. */
static void meanwhile(void *context)
{
	struct discover *discover = context;

	wait_for_events(discover, 0);
	maintain_all(discover);
	discover->table.stopping = stopping;
	tell_systemd("WATCHDOG=1");
}

static void scan(struct discover *discover)
{
	int ret = table_scan(&discover->table, now_ns(), meanwhile, discover);

	if (ret)
		log_error("/proc could not be read: %s", strerror(-ret));
	tell_systemd("WATCHDOG=1");
}

static void loop(struct discover *discover)
{
	while (!stopping) {
		uint64_t scan_ns, maintain_ns;

		scan(discover);
		scan_ns = now_ns() + discover->table.interval_ns;
		while (!stopping && now_ns() < scan_ns) {
			maintain_ns = maintain_all(discover);
			wait_for_events(discover, maintain_ns < scan_ns ?
					maintain_ns : scan_ns);
		}
	}
}

/* Signals come in only while ppoll waits: no window in which one is lost. */
static void catch_signals(sigset_t *while_waiting)
{
	static const int ends[] = { SIGINT, SIGTERM };
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t block;

	signal(SIGCHLD, SIG_IGN);
	sigemptyset(&block);
	for (size_t i = 0; i < 2; i++) {
		sigaddset(&block, ends[i]);
		sigaction(ends[i], &action, NULL);
	}
	sigprocmask(SIG_BLOCK, &block, while_waiting);
	for (size_t i = 0; i < 2; i++)
		sigdelset(while_waiting, ends[i]);
}

static int run(struct discover *discover)
{
	int ret = keep_only_ptrace();

	if (ret < 0) {
		log_error("capabilities could not be dropped: %s", strerror(-ret));
		return 1;
	}
	if (!ret)
		log_warning("without CAP_SYS_PTRACE: only the VMs of this user are found");
	kvmstats_raise_fd_limit();
	catch_signals(&discover->while_waiting);
	ret = table_open(&discover->table);
	if (ret) {
		log_error("initialisation failed: %s", strerror(-ret));
		return 1;
	}
	tell_systemd("READY=1");
	loop(discover);
	tell_systemd("STOPPING=1");
	table_free(&discover->table);
	free(discover->polls);
	return 0;
}

static const struct option long_options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "interval", required_argument, NULL, 'i' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'v' },
	{ 0 }
};

static void print_help(FILE *out)
{
	fputs("usage: kvmstatd-discover [OPTIONS]\n"
	      "Find VMs that do not register themselves, and register them.\n"
	      "  --socket PATH       where kvmstatd listens for registrations (default:\n"
	      "                      /run/kvmstatd/register.sock, or for users other than\n"
	      "                      root kvmstatd/register.sock below $XDG_RUNTIME_DIR,\n"
	      "                      unless only the first exists)\n"
	      "  --interval SECONDS  time between two scans for new processes, from 0.01 to\n"
	      "                      3600 (default: 2)\n"
	      "  --help              print this\n"
	      "  --version           print the version\n", out);
}

static int parse_interval(const char *text, uint64_t *interval_ns)
{
	char *end;
	double seconds = strtod(text, &end);

	/* no "0x10", "inf" or " 1" */
	if (strspn(text, "0123456789.") != strlen(text) || end == text || *end ||
	    !(seconds >= 0.01 && seconds <= 3600)) {
		log_error("--interval must be a number of seconds from 0.01 to 3600, not \"%s\"",
			  text);
		return -EINVAL;
	}
	*interval_ns = seconds * 1e9;
	return 0;
}

static int take_option(struct discover *discover, int letter)
{
	switch (letter) {
	case 's':
		discover->socket_path = optarg;
		return 0;
	case 'i':
		return parse_interval(optarg, &discover->table.interval_ns);
	case 'h':
		print_help(stdout);
		exit(0);
	case 'v':
		puts("kvmstatd-discover " KVMSTATS_VERSION);
		exit(0);
	default:
		return -EINVAL;
	}
}

int main(int argc, char **argv)
{
	char socket[AGENT_SOCKET_BYTES];
	struct discover discover = {
		.socket_path = socket,
		.table.interval_ns = 2000000000,
	};
	int letter;

	agent_socket_find(socket);
	log_open("kvmstatd-discover", LOG_LEVEL_INFO);
	while ((letter = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		if (take_option(&discover, letter)) {
			fputs("Try: kvmstatd-discover --help\n", stderr);
			return 2;
		}
	if (optind < argc) {
		log_error("unexpected argument \"%s\": kvmstatd-discover takes only options",
			  argv[optind]);
		return 2;
	}
	return run(&discover);
}
