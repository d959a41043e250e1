/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTATD_SETTINGS_H
#define KVMSTATD_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "../common/log.h"
#include "plan.h"

struct id_list {
	size_t count;
	unsigned int *ids;
};

struct text_list {
	size_t count;
	char **texts;
};

struct filters {
	struct filter metrics, vms;
};

enum gzip_when { GZIP_REMOTE, GZIP_ALWAYS, GZIP_NEVER };

/* From the command line and the configuration file. */
struct settings {
	char *config;		/* NULL: none */
	char *socket;		/* NULL: the default, see settings_socket */
	unsigned int mode;
	struct text_list listen;	/* none: the default */
	char *web_config;	/* NULL: neither TLS nor passwords */
	struct id_list uids, gids, helpers;
	unsigned long max_vms, max_vms_per_uid, max_fds_per_vm, max_messages;
	unsigned long max_devices_per_vm;
	unsigned long max_scrapes, scrape_seconds, max_connections;
	struct filters filters;
	bool vcpu_histograms, no_cpu_time;
	enum gzip_when gzip;
	enum log_level log_level;
	bool help, version, print_doc;
	char **operands;	/* of print_doc, ends with NULL; not ours to free */
};

#define DEFAULT_LISTEN "127.0.0.1:9976"

/* 0, or -1 after saying what is wrong and what is allowed. */
int settings_parse(struct settings *settings, int argc, char **argv);
void settings_free(struct settings *settings);
void settings_help(void);
/*
 * Say which of the differences between @old and @settings only a restart takes
 * over.
 */
void settings_log_fixed(const struct settings *settings,
			const struct settings *old);

/* names are looked up: "root", "libvirt-qemu", "64055" */
int id_list_add(struct id_list *list, const char *text, bool is_group);
bool id_list_has(const struct id_list *list, unsigned int id);

#endif /* KVMSTATD_SETTINGS_H */
