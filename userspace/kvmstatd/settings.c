// SPDX-License-Identifier: GPL-2.0-only
/* The command line and the configuration file: one table for both. */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "settings.h"

#define MAX_NUMBER	1000000ul

struct setting {
	const char *name;
	const char *argument;	/* NULL: takes none */
	const char *help;
	int (*set)(struct settings *settings, const char *value,
		   const struct setting *setting);
	size_t offset;		/* of what set_text and the like change */
	const char *allowed;	/* what a value must be, for messages */
};

static void *member(struct settings *settings, const struct setting *setting)
{
	return (char *)settings + setting->offset;
}

static int set_text(struct settings *settings, const char *value,
		    const struct setting *setting)
{
	char **text = member(settings, setting);

	if (!*value)
		return -EINVAL;
	free(*text);
	*text = strdup(value);
	return *text ? 0 : -ENOMEM;
}

static int add_text(struct settings *settings, const char *value,
		    const struct setting *setting)
{
	struct text_list *list = member(settings, setting);
	char **texts = realloc(list->texts, (list->count + 1) * sizeof(*texts));

	if (!texts)
		return -ENOMEM;
	list->texts = texts;
	texts[list->count] = strdup(value);
	return texts[list->count++] ? 0 : -ENOMEM;
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
	return errno || *end || *number > MAX_NUMBER || !*number ? -EINVAL : 0;
}

static int set_mode(struct settings *settings, const char *value,
		    const struct setting *setting)
{
	char *end;
	unsigned long mode = strtoul(value, &end, 8);

	(void)setting;
	settings->mode = mode;
	return *value < '0' || *value > '7' || *end || mode > 0777 ? -EINVAL : 0;
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

static int set_log_level(struct settings *settings, const char *value,
			 const struct setting *setting)
{
	(void)setting;
	settings->log_level = log_level_of(value);
	return settings->log_level == LOG_LEVEL_NONE ? -EINVAL : 0;
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
#define NUMBER_TEXT "a number from 1 to 1000000"
#define REGEX_TEXT "an extended regular expression (see regex(7))"

static const struct setting table[] = {
	{ "config", "FILE", "read options from FILE first; those of the\n"
	  "command line take precedence", set_text,
	  AT(config), "the name of a file" },
	{ "socket", "PATH", "where VMMs register (default:\n"
	  "/run/kvmstatd/register.sock, or below\n"
	  "$XDG_RUNTIME_DIR for other users than root)",
	  set_text, AT(socket), "a path of at most 107 bytes" },
	{ "mode", "OCTAL", "permissions of that socket (default: 0660)",
	  set_mode, 0, "an octal number up to 0777" },
	{ "listen", "ADDRESS", "where HTTP is served: HOST:PORT, [IPV6]:PORT,\n"
	  ":PORT or PORT (all addresses), unix:PATH; may be\n"
	  "repeated (default: " DEFAULT_LISTEN ")", add_text, AT(listen), "" },
	{ "web-config", "FILE", "TLS and passwords, in the format that\n"
	  "Prometheus' exporters share", set_text, AT(web_config),
	  "the name of a file" },
	{ "allow-uid", "USER", "a user who may register VMs; may be repeated", add_user,
	  AT(uids), "the number or the name of a user" },
	{ "allow-gid", "GROUP", "a primary group whose users may register VMs;\n"
	  "may be repeated", add_group,
	  AT(gids), "the number or the name of a group" },
	{ "helper-uid", "USER", "a user who may register VMs of other processes:\n"
	  "that of kvmstatd-discover; may be repeated", add_user,
	  AT(helpers), "the number or the name of a user" },
	{ "max-vms", "N", "VMs in all (default: 16384)", set_number,
	  AT(max_vms), NUMBER_TEXT },
	{ "max-vms-per-uid", "N", "VMs of one user (default: 4096)",
	  set_number, AT(max_vms_per_uid), NUMBER_TEXT },
	{ "max-fds-per-vm", "N", "descriptors of one VM (default: 4097)",
	  set_number, AT(max_fds_per_vm), NUMBER_TEXT },
	{ "max-devices-per-vm", "N", "of these, for devices of the VM (default: 64)",
	  set_number, AT(max_devices_per_vm), NUMBER_TEXT },
	{ "max-messages", "N", "registration messages of one VM (default: 16384)",
	  set_number, AT(max_messages), NUMBER_TEXT },
	{ "max-scrapes", "N", "scrapes under way at once (default: 4)",
	  set_number, AT(max_scrapes), NUMBER_TEXT },
	{ "max-connections", "N", "HTTP connections at once (default: 64)",
	  set_number, AT(max_connections), NUMBER_TEXT },
	{ "scrape-timeout", "SECONDS", "how long a client may take for a scrape (default: 30)",
	  set_number, AT(scrape_seconds), NUMBER_TEXT },
	{ "include", "REGEX", "show only metrics whose whole name matches", set_regex,
	  AT(filters.metrics.include), REGEX_TEXT },
	{ "exclude", "REGEX", "do not show metrics whose whole name matches", set_regex,
	  AT(filters.metrics.exclude), REGEX_TEXT },
	{ "include-vm", "REGEX", "show only VMs whose label vm matches as a whole", set_regex,
	  AT(filters.vms.include), REGEX_TEXT },
	{ "exclude-vm", "REGEX", "do not show VMs whose label vm matches as a whole", set_regex,
	  AT(filters.vms.exclude), REGEX_TEXT },
	{ "vcpu-histograms", NULL, "histograms of each vCPU instead of their sum",
	  set_flag, AT(vcpu_histograms), "yes or no" },
	{ "no-cpu-time", NULL, "do not show CPU time of VMMs and vCPU threads",
	  set_flag, AT(no_cpu_time), "yes or no" },
	{ "gzip", "WHEN", "compress for clients that accept it: always, never,\n"
	  "or remote (default): only for other machines", set_gzip, 0,
	  "always, never or remote" },
	{ "log-level", "LEVEL", "error, warning, info (default) or debug",
	  set_log_level, 0, "error, warning, info or debug" },
	{ "print-metrics-doc", NULL, "print the tables of docs/metrics.md; operands are\n"
	  "recorded descriptors to list the metrics of", set_flag,
	  AT(print_doc), "yes or no" },
	{ "help", NULL, "print this", set_flag, AT(help), "yes or no" },
	{ "version", NULL, "print the version", set_flag, AT(version),
	  "yes or no" },
};

#define SETTING_COUNT (sizeof(table) / sizeof(*table))

static void print_help_of(const struct setting *setting)
{
	const char *line = setting->help, *end;
	char left[40];

	snprintf(left, sizeof(left), "--%s %s", setting->name,
		 setting->argument ? setting->argument : "");
	while ((end = strchr(line, '\n'))) {
		printf("  %-25s %.*s\n", left, (int)(end - line), line);
		left[0] = 0;
		line = end + 1;
	}
	printf("  %-25s %s\n", left, line);
}

void settings_help(void)
{
	puts("usage: kvmstatd [OPTIONS]\n\n"
	     "Serve the statistics of KVM virtual machines to Prometheus.\n");
	for (size_t i = 0; i < SETTING_COUNT; i++)
		print_help_of(&table[i]);
	puts("\nRoot and kvmstatd's own user may always register VMs. Users and groups are\n"
	     "numbers or names. In a file, a line is \"OPTION = VALUE\"; # begins a comment at\n"
	     "the start of a line or after a blank. SIGHUP reads it again. See kvmstatd(8).");
}

/* Where a value came from, for messages: "--", "FILE:3: ". */
static int apply(struct settings *settings, const struct setting *setting,
		 const char *value, const char *where)
{
	int ret = setting->set(settings, value, setting);

	if (!ret)
		return 0;
	if (ret == -EINVAL)
		log_error("%s%s: must be %s, not \"%s\"", where, setting->name,
			  setting->allowed, value);
	else if (ret == -ENOENT)
		log_error("%s%s: must be %s; this machine has no \"%s\"", where,
			  setting->name, setting->allowed, value);
	else
		log_error("%s%s: %s", where, setting->name, strerror(-ret));
	return -1;
}

static const struct setting *find(const char *name, size_t length)
{
	for (size_t i = 0; i < SETTING_COUNT; i++)
		if (strlen(table[i].name) == length &&
		    !strncmp(table[i].name, name, length))
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

/* A # begins a comment at the start of a line or behind a blank. */
static void cut_comment(char *line)
{
	bool quoted = false;

	for (char *p = line; *p; p++) {
		quoted ^= *p == '"';
		if (*p == '#' && !quoted &&
		    (p == line || p[-1] == ' ' || p[-1] == '\t')) {
			*p = 0;
			return;
		}
	}
}

/* A value may stand in quotation marks, for blanks at its ends and for a #. */
static char *unquote(char *value)
{
	size_t length = strlen(value);

	if (length < 2 || *value != '"' || value[length - 1] != '"')
		return value;
	value[length - 1] = 0;
	return value + 1;
}

static int take_line(struct settings *settings, char *line, const char *where)
{
	const struct setting *setting;
	char *value, *name;

	cut_comment(line);
	name = trim(line);
	if (!*name)
		return 0;
	value = strchr(name, '=');
	if (value)
		*value++ = 0;
	name = trim(name);
	setting = find(name, strlen(name));
	if (!setting || !strcmp(name, "config") || !strcmp(name, "help") ||
	    !strcmp(name, "version")) {
		log_error("%sunknown option \"%s\" (kvmstatd --help lists the options)",
			  where, name);
		return -1;
	}
	if (!value) {
		log_error("%s%s needs \"= VALUE\"", where, setting->name);
		return -1;
	}
	return apply(settings, setting, unquote(trim(value)), where);
}

#define MAX_FILE_BYTES	1048576

static int read_file(struct settings *settings, const char *path)
{
	FILE *file = fopen(path, "re");
	char *line = NULL, where[512];
	unsigned int number = 0;
	struct stat st;
	size_t room = 0;
	int ret = 0;

	if (!file) {
		log_error("--config %s: %s", path, strerror(errno));
		return -1;
	}
	/* a pipe may be given, a device such as /dev/zero has no end */
	if (fstat(fileno(file), &st) < 0 || S_ISCHR(st.st_mode) ||
	    st.st_size > MAX_FILE_BYTES) {
		log_error("--config %s: it must be a file of at most %d KiB, or a pipe",
			  path, MAX_FILE_BYTES / 1024);
		fclose(file);
		return -1;
	}
	errno = 0;
	while (!ret && getline(&line, &room, file) >= 0) {
		/* what some editors write in front of UTF-8 */
		bool marked = !number && !strncmp(line, "\xef\xbb\xbf", 3);

		snprintf(where, sizeof(where), "%.400s:%u: ", path, ++number);
		ret = take_line(settings, line + (marked ? 3 : 0), where);
	}
	if (!ret && ferror(file)) {
		log_error("--config %s: %s", path, strerror(errno));
		ret = -1;
	}
	free(line);
	fclose(file);
	return ret;
}

/*
 * Options are "--name", "--name value" or "--name=value", and are not
 * abbreviated. With @only, all others are passed over.
 */
static int read_options(struct settings *settings, int argc, char **argv,
			bool (*only)(const char *name))
{
	int i = 1;

	while (i < argc) {
		const struct setting *setting;
		const char *name, *value;
		size_t length;

		if (!strcmp(argv[i], "-h"))
			argv[i] = (char *)"--help";
		if (argv[i][0] != '-' || !strcmp(argv[i], "--"))
			break;
		name = argv[i] + (argv[i][1] == '-' ? 2 : 1);
		length = strcspn(name, "=");
		setting = argv[i][1] == '-' ? find(name, length) : NULL;
		if (!setting) {
			log_error("unknown option \"%.*s\" (kvmstatd --help lists the options)",
				  (int)(name - argv[i] + length), argv[i]);
			return -1;
		}
		value = name[length] ? name + length + 1 : NULL;
		i++;
		if (value && !setting->argument) {
			log_error("--%s takes no value", setting->name);
			return -1;
		}
		if (!value && setting->argument) {
			if (i == argc) {
				log_error("--%s needs %s", setting->name,
					  setting->argument);
				return -1;
			}
			value = argv[i++];
		}
		if ((!only || only(setting->name)) &&
		    apply(settings, setting, value, "--"))
			return -1;
	}
	if (i < argc && !strcmp(argv[i], "--"))
		i++;
	settings->operands = argv + i;
	if (i == argc || settings->print_doc || only)
		return 0;
	log_error("unexpected argument \"%s\": kvmstatd takes only options",
		  argv[i]);
	return -1;
}

static bool comes_first(const char *name)
{
	return !strcmp(name, "config") || !strcmp(name, "help") ||
	       !strcmp(name, "version");
}

static void set_defaults(struct settings *settings)
{
	*settings = (struct settings){
		.mode = 0660, .max_vms = 16384, .max_vms_per_uid = 4096,
		.max_fds_per_vm = 4097, .max_devices_per_vm = 64,
		.max_messages = 16384,
		.max_scrapes = 4, .max_connections = 64, .scrape_seconds = 30,
		.log_level = LOG_LEVEL_INFO,
	};
}

static void text_list_free(struct text_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->texts[i]);
	free(list->texts);
}

/* The command line has the last word, so the file comes first. */
int settings_parse(struct settings *settings, int argc, char **argv)
{
	struct text_list from_file;

	set_defaults(settings);
	if (read_options(settings, argc, argv, comes_first))
		return -1;
	if (settings->help || settings->version)
		return 0;
	if (settings->config && read_file(settings, settings->config))
		return -1;
	/* addresses of the command line take the place of the file's */
	from_file = settings->listen;
	settings->listen = (struct text_list){ 0 };
	if (read_options(settings, argc, argv, NULL)) {
		text_list_free(&from_file);
		return -1;
	}
	if (settings->listen.count)
		text_list_free(&from_file);
	else
		settings->listen = from_file;
	return 0;
}

void settings_free(struct settings *settings)
{
	free(settings->config);
	free(settings->socket);
	text_list_free(&settings->listen);
	free(settings->web_config);
	free(settings->uids.ids);
	free(settings->gids.ids);
	free(settings->helpers.ids);
	regex_free(settings->filters.metrics.include);
	regex_free(settings->filters.metrics.exclude);
	regex_free(settings->filters.vms.include);
	regex_free(settings->filters.vms.exclude);
}

static bool same_text(const char *one, const char *other)
{
	return one == other || (one && other && !strcmp(one, other));
}

static bool same_list(const struct text_list *one,
		      const struct text_list *other)
{
	if (one->count != other->count)
		return false;
	for (size_t i = 0; i < one->count; i++)
		if (strcmp(one->texts[i], other->texts[i]))
			return false;
	return true;
}

void settings_log_fixed(const struct settings *settings,
			const struct settings *old)
{
	static const char text[] = "%s: the change takes effect only when kvmstatd is restarted";

	if (!same_text(settings->socket, old->socket))
		log_warning(text, "socket");
	if (settings->mode != old->mode)
		log_warning(text, "mode");
	if (!same_list(&settings->listen, &old->listen))
		log_warning(text, "listen");
	if (settings->max_connections != old->max_connections)
		log_warning(text, "max-connections");
	if (!same_text(settings->web_config, old->web_config))
		log_warning(text, "web-config");
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
