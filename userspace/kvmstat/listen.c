// SPDX-License-Identifier: GPL-2.0-only
/* listen: VMMs connect and hand over their descriptors; show what they count */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vm.h"

#define MAX_EXPECT 32
#define END_WAIT_NS 5000000000ull

struct expectation {
	const char *name;
	bool known, moved;
};

struct listener {
	const char *path;
	int listen_fd;
	bool paused;		/* no descriptor free for one more connection */
	struct kvmstats_cache *cache;
	struct vm **vms;
	size_t count;
	unsigned long interval_ms, tables_left, columns, mode;
	bool as_json, all, until_gone, is_terminal;
	struct expectation expect[MAX_EXPECT];
	size_t expect_count;
	FILE *out;		/* what is written at the end of a turn */
	char *text;
	size_t length;
};

static atomic_bool interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = true;
}

/* Signals come in only while ppoll waits: no window in which one is lost. */
static void catch_signals(sigset_t *while_waiting)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t block;

	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	sigaddset(&block, SIGTERM);
	sigprocmask(SIG_BLOCK, &block, while_waiting);
	sigdelset(while_waiting, SIGINT);
	sigdelset(while_waiting, SIGTERM);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static void event(struct listener *listener, const struct vm *vm,
		  const char *name, const char *reason)
{
	if (listener->as_json)
		report_event(listener->out, vm, name, reason);
	else
		text_event(listener->out, vm, name, reason);
}

static int append_vm(struct listener *listener, struct vm *vm)
{
	struct vm **vms = realloc(listener->vms, (listener->count + 1) *
				  sizeof(*vms));

	if (!vms)
		return -ENOMEM;
	listener->vms = vms;
	vms[listener->count++] = vm;
	return 0;
}

/*
 * Without a free descriptor number the connection stays in the queue, and
 * poll would return at once for ever: wait for the next table then.
 */
static void accept_vms(struct listener *listener)
{
	struct vm *vm;
	int ret;

	while (!(ret = vm_accept(listener->listen_fd, &vm))) {
		if (append_vm(listener, vm)) {
			vm_free(vm);
			ret = -ENOMEM;
			break;
		}
	}
	if (ret == -EAGAIN || ret == -ECONNABORTED || ret == -EINTR)
		return;
	if (!listener->paused)
		fprintf(stderr, "kvmstat: accept: %s; trying again later\n",
			strerror(-ret));
	listener->paused = true;
}

static const char *end_reason(int error)
{
	switch (error) {
	case -EPIPE:
		return "connection closed";
	case -EBADMSG:
		return "malformed message";
	case -E2BIG:
		return "too many descriptors";
	default:
		return strerror(-error);
	}
}

/*
 * A process that ends closes its socket a moment before its pidfd says so: its
 * VM is torn down in between. Wait a while to learn which of the two it was.
 */
static void end_vm(struct vm *vm, int error)
{
	if (error == -EPIPE && kvmstats_peer_pidfd(vm->peer) >= 0) {
		vm->ending = end_reason(error);
		vm->ending_until_ns = clock_ns() + END_WAIT_NS;
		vm_close_sources(vm);
	} else {
		vm->gone = end_reason(error);
	}
}

static void receive(struct listener *listener, struct vm *vm)
{
	size_t count = vm->count;
	unsigned int rejected = vm->rejected;
	char text[80];
	int ret = vm_receive(vm, listener->cache);

	if (vm->count != count || vm->rejected != rejected) {
		snprintf(text, sizeof(text),
			 "%zu descriptors accepted, %u rejected",
			 vm->count - count, vm->rejected - rejected);
		event(listener, vm, "sent", text);
	}
	if (ret < 0)
		end_vm(vm, ret);
}

static void remove_gone(struct listener *listener)
{
	size_t kept = 0;

	for (size_t i = 0; i < listener->count; i++) {
		struct vm *vm = listener->vms[i];

		if (!vm->gone) {
			listener->vms[kept++] = vm;
			continue;
		}
		event(listener, vm, "gone", vm->gone);
		vm_free(vm);
		listener->paused = false;
	}
	if (kept < listener->count && !kept && listener->until_gone)
		interrupted = true;
	listener->count = kept;
}

/* Slot 0 is the listening socket, then two for each VM: socket and pidfd. */
static struct pollfd *make_poll(const struct listener *listener)
{
	size_t slots = 1 + 2 * listener->count;
	struct pollfd *polls = calloc(slots, sizeof(*polls));

	if (!polls)
		return NULL;
	polls[0].fd = listener->paused ? -1 : listener->listen_fd;
	for (size_t i = 0; i < listener->count; i++) {
		struct kvmstats_peer *peer = listener->vms[i]->peer;

		polls[1 + 2 * i].fd = listener->vms[i]->ending ? -1 :
				      kvmstats_peer_fd(peer);
		polls[2 + 2 * i].fd = kvmstats_peer_pidfd(peer);
	}
	for (size_t i = 0; i < slots; i++)
		polls[i].events = POLLIN;
	return polls;
}

/* What a VM sent before its end is still received: the order matters. */
static void handle_polls(struct listener *listener, const struct pollfd *polls)
{
	size_t count = listener->count;

	for (size_t i = 0; i < count; i++) {
		struct vm *vm = listener->vms[i];

		if (polls[1 + 2 * i].revents)
			receive(listener, vm);
		if (polls[2 + 2 * i].revents)
			vm->gone = "process ended";
	}
	if (polls[0].revents)
		accept_vms(listener);
	remove_gone(listener);
}

static int wait_until(struct listener *listener, uint64_t deadline_ns,
		      const sigset_t *while_waiting)
{
	struct pollfd *polls = make_poll(listener);
	uint64_t now_ns = clock_ns();
	uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
	struct timespec left = {
		.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000
	};
	int ret = 0;

	if (!polls)
		return -ENOMEM;
	if (ppoll(polls, 1 + 2 * listener->count, &left, while_waiting) < 0)
		ret = errno == EINTR ? 0 : -errno;
	else
		handle_polls(listener, polls);
	free(polls);
	return ret;
}

static void check_expected(struct listener *listener, const struct watch *watch)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(watch->source);

	for (size_t i = 0; i < listener->expect_count; i++) {
		struct expectation *expect = &listener->expect[i];
		const struct kvmstats_desc *desc;

		desc = kvmstats_schema_find(schema, expect->name);
		if (!desc)
			continue;
		expect->known = true;
		for (unsigned int j = 0; j < kvmstats_desc_size(desc); j++)
			if (kvmstats_value(desc, watch->now, j) !=
			    kvmstats_value(desc, watch->before, j))
				expect->moved = true;
	}
}

static void sample_vm(struct listener *listener, struct vm *vm)
{
	vm_sample(vm);
	for (size_t i = 0; i < vm->count; i++) {
		const struct watch *watch = &vm->watches[i];

		if (watch->error)
			event(listener, vm, "lost a descriptor",
			      strerror(-watch->error));
		else
			check_expected(listener, watch);
	}
	vm_drop_failed(vm);
}

static void show_tables(struct listener *listener)
{
	size_t shown = 0;

	if (listener->is_terminal && !listener->as_json)
		fputs("\033[H\033[2J", listener->out);
	for (size_t i = 0; i < listener->count; i++) {
		struct vm *vm = listener->vms[i];

		if (vm->ending) {
			if (clock_ns() >= vm->ending_until_ns)
				vm->gone = vm->ending;
			continue;
		}
		shown++;
		sample_vm(listener, vm);
		if (listener->as_json)
			report_sample(listener->out, vm);
		else
			table_print(listener->out, vm, listener->all,
				    listener->columns);
	}
	remove_gone(listener);
	listener->paused = false;
	if (shown && listener->tables_left &&
	    !--listener->tables_left)
		interrupted = true;
}

/* All that a turn had to say, in one write. */
static int flush_out(struct listener *listener)
{
	int ret;

	if (fflush(listener->out) == EOF)
		return -ENOMEM;
	ret = write_out(listener->text, ftello(listener->out));
	rewind(listener->out);
	return ret;
}

static int loop(struct listener *listener, const sigset_t *while_waiting)
{
	uint64_t interval_ns = listener->interval_ms * 1000000ull;
	uint64_t deadline_ns = clock_ns() + interval_ns;
	int ret = 0;

	while (!interrupted && !ret) {
		ret = wait_until(listener, deadline_ns, while_waiting);
		if (!ret && clock_ns() >= deadline_ns) {
			show_tables(listener);
			/* late by more than one: do not hurry to catch up */
			while (deadline_ns <= clock_ns())
				deadline_ns += interval_ns;
		}
		if (!ret)
			ret = flush_out(listener);
	}
	return ret;
}

static int judge_expected(const struct listener *listener)
{
	int status = STATUS_OK;

	for (size_t i = 0; i < listener->expect_count; i++) {
		const struct expectation *expect = &listener->expect[i];

		if (!expect->known)
			status = fail(STATUS_UNMOVED, "no VM had a statistic \"%s\"",
				      expect->name);
		else if (!expect->moved)
			status = fail(STATUS_UNMOVED, "\"%s\" did not move",
				      expect->name);
	}
	return status;
}

static int listen_and_show(struct listener *listener)
{
	sigset_t while_waiting;
	int ret = kvmstats_cache_new(&listener->cache);

	listener->out = open_memstream(&listener->text, &listener->length);
	if (ret || !listener->out)
		return fail(STATUS_FAILED, "no memory");
	catch_signals(&while_waiting);
	listener->listen_fd = kvmstats_listen(listener->path, listener->mode);
	if (listener->listen_fd < 0)
		return fail(status_of(listener->listen_fd), "%s: %s",
			    listener->path, strerror(-listener->listen_fd));
	fprintf(stderr, "kvmstat: listening on %s\n", listener->path);
	ret = loop(listener, &while_waiting);
	unlink(listener->path);
	close(listener->listen_fd);
	if (ret && ret != -EPIPE)
		return fail(STATUS_FAILED, "listen: %s", strerror(-ret));
	return judge_expected(listener);
}

static void release(struct listener *listener)
{
	for (size_t i = 0; i < listener->count; i++)
		vm_free(listener->vms[i]);
	free(listener->vms);
	if (listener->out)
		fclose(listener->out);
	free(listener->text);
	kvmstats_cache_free(listener->cache);
}

static bool parse_interval(const char *text, unsigned long *interval_ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !(seconds >= 0.01 && seconds <= 86400))
		return false;
	*interval_ms = seconds * 1000 + 0.5;
	return true;
}

static bool parse_mode(const char *text, unsigned long *mode)
{
	char *end;

	*mode = strtoul(text, &end, 8);
	return end != text && !*end && *mode <= 0777;
}

static bool add_expected(struct listener *listener, const char *name)
{
	if (listener->expect_count == MAX_EXPECT)
		return false;
	listener->expect[listener->expect_count++].name = name;
	return true;
}

static bool take_opt(struct listener *listener, int letter)
{
	switch (letter) {
	case 'i':
		return parse_interval(optarg, &listener->interval_ms);
	case 'c':
		return parse_number(optarg, ULONG_MAX, &listener->tables_left);
	case 'C':
		return parse_number(optarg, ULONG_MAX, &listener->columns);
	case 'm':
		return parse_mode(optarg, &listener->mode);
	case 'e':
		return add_expected(listener, optarg);
	case 'j':
		listener->as_json = true;
		want_json();
		return true;
	case 'a':
		listener->all = true;
		return true;
	default:
		listener->until_gone = true;
		return true;
	}
}

static int run_listen(const struct command *command, int argc, char **argv)
{
	struct listener listener = {
		.interval_ms = 1000, .columns = 8, .mode = 0600
	};
	int letter, status;

	while ((letter = next_opt(command, argc, argv)) != -1)
		if (!take_opt(&listener, letter))
			return usage_error(command, "what is \"%s\"?", optarg);
	if (optind != argc - 1)
		return usage_error(command, "one socket, please");
	listener.path = argv[optind];
	listener.is_terminal = isatty(STDOUT_FILENO);
	status = listen_and_show(&listener);
	release(&listener);
	return status;
}

static const struct opt listen_opts[] = {
	{ 'i', "interval", "SECONDS", "time between tables (default: 1)" },
	{ 'c', "count", "N", "end after N tables that showed a VM" },
	{ 'u', "until-gone", NULL, "end when the last VM has gone" },
	{ 'a', "all", NULL, "show statistics that are 0, too" },
	{ 'C', "columns", "N", "show at most N vCPUs (default: 8)" },
	{ 'm', "mode", "OCTAL", "who may connect (default: 0600)" },
	{ 'e', "expect", "NAME", "status 5 unless this statistic changed" },
	{ 'j', "json", NULL, "for programs: one object a line" },
	{ 0 }
};

const struct command cmd_listen = {
	"listen", " [OPTIONS] SOCKET",
	"receive descriptors from VMMs and show rates, live",
	listen_opts, run_listen
};
