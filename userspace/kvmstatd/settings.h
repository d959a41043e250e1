/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTATD_SETTINGS_H
#define KVMSTATD_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "plan.h"

struct id_list {
	size_t count;
	unsigned int *ids;
};

enum gzip_when { GZIP_REMOTE, GZIP_ALWAYS, GZIP_NEVER };

/* From the command line and the configuration file. */
struct settings {
	char *config;		/* NULL: none */
	char *socket;		/* NULL: only one that systemd opened */
	mode_t mode;
	char *listen;		/* address:port */
	struct id_list uids, gids, helpers;
	unsigned long max_vms, max_vms_per_uid, max_fds_per_vm, max_messages;
	unsigned long max_scrapes, scrape_seconds, max_connections;
	struct filter filter;
	bool vcpu_histograms;
	enum gzip_when gzip;
	bool help, version, print_doc;
	char **operands;	/* of print_doc, ends with NULL; not ours to free */
};

/* 0, or -1 after saying what is wrong. */
int settings_parse(struct settings *settings, int argc, char **argv);
void settings_free(struct settings *settings);
void settings_help(void);

/* names are looked up: "root", "libvirt-qemu", "64055" */
int id_list_add(struct id_list *list, const char *text, bool is_group);
bool id_list_has(const struct id_list *list, unsigned int id);

#endif /* KVMSTATD_SETTINGS_H */
