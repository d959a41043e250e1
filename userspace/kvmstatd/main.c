// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvmstatd - serve the statistics of KVM virtual machines to Prometheus
 *
 * The main thread receives registrations and watches VMs (registrations.c),
 * threads of libmicrohttpd answer HTTP (http.c). They meet in the registry.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "http.h"
#include "listen.h"
#include "registrations.h"
#include "scrape.h"
#include "store.h"

#define TURN_MS 1000

enum status { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

struct agent {
	int argc;
	char **argv;
	struct settings settings;
	struct inherited inherited;
	struct registry registry;
	struct receiver receiver;
	struct listeners listeners;
	struct watch signals;
	struct http *http;
	bool done;
};

/* Handled in turns, as all else. A broken connection is no reason to die. */
static int catch_signals(struct agent *agent)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	/* before the first thread, so that all have it */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	agent->signals.kind = WATCH_SIGNAL;
	agent->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return agent->signals.fd < 0 ? -errno : 0;
}

/* 0, or -1 after saying why not */
static int start(struct agent *agent)
{
	int ret = catch_signals(agent);

	if (!ret)
		ret = inherited_take(&agent->inherited);
	if (ret) {
		log_error("initialisation failed: %s", strerror(-ret));
		return -1;
	}
	if (listeners_open(&agent->listeners, &agent->settings,
			   &agent->inherited))
		return -1;
	ret = registry_open(&agent->registry, &agent->settings.filters);
	if (!ret)
		ret = receiver_open(&agent->receiver, &agent->registry,
				    &agent->settings,
				    agent->listeners.register_fd);
	if (!ret)
		ret = registry_reserve_names(&agent->registry,
					     agent->receiver.cache,
					     &agent->settings.filters);
	if (!ret)
		ret = receiver_watch(&agent->receiver, &agent->signals);
	if (ret) {
		log_error("initialisation failed: %s", strerror(-ret));
		return -1;
	}
	store_open(&agent->receiver, &agent->inherited);
	inherited_free(&agent->inherited);
	agent->http = http_start(&agent->registry, &agent->settings,
				 agent->listeners.http_fds,
				 agent->listeners.num_http);
	if (!agent->http)
		return -1;
	listeners_announce(&agent->listeners, http_has_tls(agent->http));
	return 0;
}

static void notify_status(const struct registry *registry)
{
	char text[96];

	snprintf(text, sizeof(text), "STATUS=%zu VMs, %zu descriptors",
		 registry_num_vms(registry), registry->fds);
	notify(text);
}

/* A file with a mistake changes nothing. */
static void reload(struct agent *agent)
{
	struct settings settings, old = agent->settings;

	notify("RELOADING=1");
	if (settings_parse(&settings, agent->argc, agent->argv) ||
	    http_configure(agent->http, &settings) ||
	    registry_set_filters(&agent->registry, &settings.filters)) {
		http_configure(agent->http, &old);
		log_error("the configuration was not changed");
		settings_free(&settings);
	} else {
		settings_log_fixed(&settings, &old);
		log_set_level(settings.log_level);
		log_info("the configuration was read again");
		agent->settings = settings;
		settings_free(&old);
		receiver_reconsider(&agent->receiver);
	}
	notify("READY=1");
}

static void take_signals(struct agent *agent)
{
	struct signalfd_siginfo info;

	while (read(agent->signals.fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			reload(agent);
		else
			agent->done = true;
	}
}

static void run(struct agent *agent)
{
	uint64_t pause_ns = watchdog_ns(), alive_ns = 0, status_ns = 0;

	notify("READY=1");
	while (!agent->done) {
		int turn_ms = store_renew(&agent->registry, TURN_MS);
		uint64_t now_ns;

		if (receiver_turn(&agent->receiver, turn_ms))
			take_signals(agent);
		now_ns = clock_ns();
		if (pause_ns && now_ns - alive_ns >= pause_ns / 2) {
			notify("WATCHDOG=1");
			alive_ns = now_ns;
		}
		if (now_ns - status_ns < 1000000000)
			continue;
		http_tick(agent->http);
		notify_status(&agent->registry);
		status_ns = now_ns;
	}
}

static void stop(struct agent *agent)
{
	notify("STOPPING=1");
	if (agent->http)
		http_stop(agent->http);
	listeners_close(&agent->listeners);
	store_flush(&agent->registry);
	close_wait();
	store_close();
	if (agent->receiver.cache)
		receiver_close(&agent->receiver);
	if (agent->registry.batch)
		registry_close(&agent->registry);
}

int main(int argc, char **argv)
{
	static struct agent agent;
	int status = STATUS_OK;

	log_open("kvmstatd", LOG_LEVEL_INFO);
	agent.argc = argc;
	agent.argv = argv;
	if (settings_parse(&agent.settings, argc, argv)) {
		settings_free(&agent.settings);
		return STATUS_USAGE;
	}
	log_set_level(agent.settings.log_level);
	if (agent.settings.help) {
		settings_help();
	} else if (agent.settings.version) {
		puts("kvmstatd " KVMSTATS_VERSION);
	} else if (agent.settings.print_doc) {
		if (self_print_document(agent.settings.operands))
			status = STATUS_FAILED;
	} else {
		if (start(&agent))
			status = STATUS_FAILED;
		else
			run(&agent);
		stop(&agent);
	}
	settings_free(&agent.settings);
	return status;
}
