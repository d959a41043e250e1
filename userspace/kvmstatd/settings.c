// SPDX-License-Identifier: GPL-2.0-only
/* The command line and the configuration file: one table for both. */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent.h"

#define DEFAULT_SOCKET "/run/kvmstatd/register.sock"
#define DEFAULT_LISTEN "127.0.0.1:9976"

struct setting {
	const char *name;
	const char *argument;	/* NULL: takes none */
	const char *help;
	int (*set)(struct settings *settings, const char *value,
		   const struct setting *setting);
	size_t offset;		/* of what set_text and the like change */
};

static void *member(struct settings *settings, const struct setting *setting)
{
	return (char *)settings + setting->offset;
}

static int set_text(struct settings *settings, const char *value,
		    const struct setting *setting)
{
	char **text = member(settings, setting);

	free(*text);
	*text = strdup(value);
	return *text ? 0 : -ENOMEM;
}

static int set_flag(struct settings *settings, const char *value,
		    const struct setting *setting)
{
	bool *flag = member(settings, setting);

	*flag = !value || !strcasecmp(value, "yes");
	return value && !*flag && strcasecmp(value, "no") ? -EINVAL : 0;
}

static int set_number(struct settings *settings, const char *value,
		      const struct setting *setting)
{
	unsigned long *number = member(settings, setting);
	char *end;

	if (*value < '0' || *value > '9')
		return -EINVAL;
	errno = 0;
	*number = strtoul(value, &end, 10);
	return errno || *end || *number > 1000000 || !*number ? -EINVAL : 0;
}

static int set_mode(struct settings *settings, const char *value,
		    const struct setting *setting)
{
	char *end;

	(void)setting;
	settings->mode = strtoul(value, &end, 8);
	return end == value || *end || settings->mode > 0777 ? -EINVAL : 0;
}

static int set_gzip(struct settings *settings, const char *value,
		    const struct setting *setting)
{
	static const char *const names[] = {
		[GZIP_REMOTE] = "remote", [GZIP_ALWAYS] = "always",
		[GZIP_NEVER] = "never",
	};

	(void)setting;
	for (int i = GZIP_REMOTE; i <= GZIP_NEVER; i++) {
		settings->gzip = i;
		if (!strcmp(value, names[i]))
			return 0;
	}
	return -EINVAL;
}

static int add_user(struct settings *settings, const char *value,
		    const struct setting *setting)
{
	return id_list_add(member(settings, setting), value, false);
}

static int add_group(struct settings *settings, const char *value,
		     const struct setting *setting)
{
	return id_list_add(member(settings, setting), value, true);
}

/* Whole names, so that "exits" does not mean "io_exits" too. */
static int compile(regex_t **regex, const char *value)
{
	char *whole;
	int ret;

	if (asprintf(&whole, "^(%s)$", value) < 0)
		return -ENOMEM;
	*regex = calloc(1, sizeof(**regex));
	ret = *regex ? regcomp(*regex, whole, REG_EXTENDED | REG_NOSUB) : -1;
	free(whole);
	if (!ret)
		return 0;
	free(*regex);
	*regex = NULL;
	return -EINVAL;
}

static void regex_free(regex_t *regex)
{
	if (!regex)
		return;
	regfree(regex);
	free(regex);
}

static int set_regex(struct settings *settings, const char *value,
		     const struct setting *setting)
{
	regex_t **regex = member(settings, setting);

	regex_free(*regex);
	return compile(regex, value);
}

#define AT(field) offsetof(struct settings, field)

static const struct setting table[] = {
	{ "config", "FILE", "read options from a file first", set_text,
	  AT(config) },
	{ "socket", "PATH", "where VMMs register (default: " DEFAULT_SOCKET ")",
	  set_text, AT(socket) },
	{ "mode", "OCTAL", "permissions of that socket (default: 0660)",
	  set_mode, 0 },
	{ "listen", "ADDRESS:PORT", "where HTTP is served (default: "
	  DEFAULT_LISTEN ")", set_text, AT(listen) },
	{ "allow-uid", "USER", "who may register; may be repeated", add_user,
	  AT(uids) },
	{ "allow-gid", "GROUP", "the same, by primary group", add_group,
	  AT(gids) },
	{ "helper-uid", "USER", "who may register VMs of others", add_user,
	  AT(helpers) },
	{ "max-vms", "N", "VMs in all (default: 16384)", set_number,
	  AT(max_vms) },
	{ "max-vms-per-uid", "N", "VMs of one user (default: 4096)",
	  set_number, AT(max_vms_per_uid) },
	{ "max-fds-per-vm", "N", "descriptors of one VM (default: 4097)",
	  set_number, AT(max_fds_per_vm) },
	{ "max-messages", "N", "messages of one VM (default: 16384)",
	  set_number, AT(max_messages) },
	{ "max-scrapes", "N", "scrapes under way at once (default: 4)",
	  set_number, AT(max_scrapes) },
	{ "max-connections", "N", "HTTP connections at once (default: 64)",
	  set_number, AT(max_connections) },
	{ "scrape-timeout", "SECONDS", "longest scrape (default: 30)",
	  set_number, AT(scrape_seconds) },
	{ "include", "REGEX", "show only metrics with such a name", set_regex,
	  AT(filter.include) },
	{ "exclude", "REGEX", "do not show metrics with such a name", set_regex,
	  AT(filter.exclude) },
	{ "vcpu-histograms", NULL, "histograms of each vCPU, not of their sum",
	  set_flag, AT(vcpu_histograms) },
	{ "gzip", "WHEN", "compress for clients that ask: always, never, or\n"
	  "                          remote (default): not on this machine",
	  set_gzip, 0 },
	{ "print-metrics-doc", NULL, "print the tables of docs/metrics.md; operands are\n"
	  "                          recorded descriptors to list the metrics of", set_flag,
	  AT(print_doc) },
	{ "help", NULL, "print this", set_flag, AT(help) },
	{ "version", NULL, "print the version", set_flag, AT(version) },
};

#define SETTING_COUNT (sizeof(table) / sizeof(*table))

void settings_help(void)
{
	char left[40];

	puts("usage: kvmstatd [OPTIONS]\n\n"
	     "Serve the statistics of KVM virtual machines to Prometheus.\n");
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		snprintf(left, sizeof(left), "--%s %s", table[i].name,
			 table[i].argument ? table[i].argument : "");
		printf("  %-23s %s\n", left, table[i].help);
	}
	puts("\nWithout --allow-uid and --allow-gid, root and kvmstatd's own user may register;\n"
	     "they always may. In a file, a line is \"OPTION = VALUE\", and # begins a comment.\n"
	     "SIGHUP reads it again. See kvmstatd(8).");
}

/* Where a value came from, for messages: "--mode", "FILE:3: mode". */
static int apply(struct settings *settings, const struct setting *setting,
		 const char *value, const char *where)
{
	int ret = setting->set(settings, value, setting);

	if (!ret)
		return 0;
	if (ret == -EINVAL)
		complain("%s%s: what is \"%s\"?", where, setting->name, value);
	else if (ret == -ENOENT)
		complain("%s%s: there is no \"%s\"", where, setting->name,
			 value);
	else
		complain("%s%s: %s", where, setting->name, strerror(-ret));
	return -1;
}

static const struct setting *find(const char *name)
{
	for (size_t i = 0; i < SETTING_COUNT; i++)
		if (!strcmp(table[i].name, name))
			return &table[i];
	return NULL;
}

static char *trim(char *text)
{
	size_t length;

	text += strspn(text, " \t");
	length = strlen(text);
	while (length && strchr(" \t\r\n", text[length - 1]))
		text[--length] = 0;
	return text;
}

static int take_line(struct settings *settings, char *line, const char *where)
{
	const struct setting *setting;
	char *value, *name = trim(line);

	if (!*name || *name == '#')
		return 0;
	value = strchr(name, '=');
	if (value)
		*value++ = 0;
	setting = find(trim(name));
	if (!setting || !strcmp(setting->name, "config")) {
		complain("%sno option \"%s\"", where, trim(name));
		return -1;
	}
	if (!value) {
		complain("%s%s needs \"= VALUE\"", where, setting->name);
		return -1;
	}
	return apply(settings, setting, trim(value), where);
}

static int read_file(struct settings *settings, const char *path)
{
	FILE *file = fopen(path, "re");
	char *line = NULL, where[512];
	unsigned int number = 0;
	size_t room = 0;
	int ret = 0;

	if (!file) {
		complain("%s: %s", path, strerror(errno));
		return -1;
	}
	while (!ret && getline(&line, &room, file) >= 0) {
		snprintf(where, sizeof(where), "%.400s:%u: ", path, ++number);
		ret = take_line(settings, line, where);
	}
	free(line);
	fclose(file);
	return ret;
}

static int read_options(struct settings *settings, int argc, char **argv)
{
	struct option options[SETTING_COUNT + 1] = { { 0 } };
	int index;

	for (size_t i = 0; i < SETTING_COUNT; i++)
		options[i] = (struct option){
			table[i].name, table[i].argument ? required_argument :
			no_argument, NULL, 0
		};
	optind = 0;
	for (;;) {
		int letter = getopt_long(argc, argv, "", options, &index);

		if (letter == -1)
			break;
		if (letter == '?' ||
		    apply(settings, &table[index], optarg, "--"))
			return -1;
	}
	settings->operands = argv + optind;
	if (optind == argc || settings->print_doc)
		return 0;
	complain("what is \"%s\"?", argv[optind]);
	return -1;
}

static const char *find_config(int argc, char **argv)
{
	static const char equals[] = "--config=";
	const char *path = NULL;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--config") && i + 1 < argc)
			path = argv[++i];
		else if (!strncmp(argv[i], equals, sizeof(equals) - 1))
			path = argv[i] + sizeof(equals) - 1;
	}
	return path;
}

/* The command line has the last word, so the file comes first. */
int settings_parse(struct settings *settings, int argc, char **argv)
{
	const char *config = find_config(argc, argv);

	*settings = (struct settings){
		.socket = strdup(DEFAULT_SOCKET), .mode = 0660,
		.listen = strdup(DEFAULT_LISTEN), .max_vms = 16384,
		.max_vms_per_uid = 4096, .max_fds_per_vm = 4097,
		.max_messages = 16384, .max_scrapes = 4,
		.max_connections = 64, .scrape_seconds = 30,
	};
	if (config && read_file(settings, config))
		return -1;
	return read_options(settings, argc, argv);
}

void settings_free(struct settings *settings)
{
	free(settings->config);
	free(settings->socket);
	free(settings->listen);
	free(settings->uids.ids);
	free(settings->gids.ids);
	free(settings->helpers.ids);
	regex_free(settings->filter.include);
	regex_free(settings->filter.exclude);
}

static int look_up(const char *text, bool is_group, unsigned int *id)
{
	const struct passwd *user;
	const struct group *group;

	if (is_group) {
		group = getgrnam(text);
		*id = group ? group->gr_gid : 0;
		return group ? 0 : -ENOENT;
	}
	user = getpwnam(text);
	*id = user ? user->pw_uid : 0;
	return user ? 0 : -ENOENT;
}

int id_list_add(struct id_list *list, const char *text, bool is_group)
{
	unsigned int *ids = realloc(list->ids, (list->count + 1) *
				    sizeof(*ids));
	unsigned long number;
	char *end;
	int ret = 0;

	if (!ids)
		return -ENOMEM;
	list->ids = ids;
	errno = 0;
	number = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9')
		ret = look_up(text, is_group, &ids[list->count]);
	else if (errno || *end || number >= UINT_MAX)
		ret = -EINVAL;
	else
		ids[list->count] = number;
	list->count += !ret;
	return ret;
}

bool id_list_has(const struct id_list *list, unsigned int id)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->ids[i] == id)
			return true;
	return false;
}
