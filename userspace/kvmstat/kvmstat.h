/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTAT_H
#define KVMSTAT_H

#include <getopt.h>
#include <kvmstats.h>
#include <stdbool.h>
#include <stdio.h>

#define __printf(format, first) \
	__attribute__((__format__(__printf__, format, first)))

/* Documented in kvmstat help; scripts rely on them. */
enum status {
	STATUS_OK	= 0,
	STATUS_FAILED	= 1,
	STATUS_USAGE	= 2,
	STATUS_NOTHING	= 3,	/* no VM, descriptor or statistic like that */
	STATUS_DENIED	= 4,
	STATUS_UNMOVED	= 5,	/* an --expect was not met */
};

/* One line of usage and one option of getopt_long. */
struct opt {
	int letter;
	const char *name;
	const char *argument;	/* NULL: takes none */
	const char *help;
};

struct command {
	const char *name;
	const char *operands;
	const char *summary;
	const struct opt *opts;		/* ends with letter 0 */
	int (*run)(const struct command *command, int argc, char **argv);
};

extern const struct command cmd_list, cmd_schema, cmd_show, cmd_dump,
			    cmd_listen;

/* main.c */
int next_opt(const struct command *command, int argc, char **argv);
int usage_error(const struct command *command, const char *format, ...)
	__printf(2, 3);
int fail(enum status status, const char *format, ...)
	__printf(2, 3);
enum status status_of(int error);
bool parse_number(const char *text, unsigned long max, unsigned long *number);
void want_json(void);
int write_out(const char *text, size_t length);

/* json.c: writes nothing but valid JSON */
struct json {
	FILE *out;
	bool comma;
};

void json_open(struct json *json, char bracket);
void json_close(struct json *json, char bracket);
void json_key(struct json *json, const char *key);
void json_string(struct json *json, const char *text);
void json_u64(struct json *json, uint64_t number);
void json_i64(struct json *json, int64_t number);
void json_null(struct json *json);
void json_bool(struct json *json, bool value);
void json_member_string(struct json *json, const char *key, const char *text);
void json_member_u64(struct json *json, const char *key, uint64_t number);
void json_member_i64(struct json *json, const char *key, int64_t number);
void json_desc(struct json *json, const struct kvmstats_desc *desc);
void json_elements(struct json *json, const char *key,
		   const struct kvmstats_desc *desc, const uint64_t *sample);
void json_scope(struct json *json, const struct kvmstats_source *source);

/* text.c: numbers for people */
#define SI_TEXT_SIZE 24
const char *si_text(char text[SI_TEXT_SIZE], double value, const char *unit);
const char *type_text(char text[SI_TEXT_SIZE], unsigned int type);
const char *unit_text(char text[SI_TEXT_SIZE], unsigned int unit);
const char *unit_letter(const struct kvmstats_desc *desc);
void source_label(char text[SI_TEXT_SIZE],
		  const struct kvmstats_source *source);

/* collect.c: sources that the command line asks for */
struct origin {
	struct kvmstats_source *source;
	long pid;		/* 0: not taken from another process */
	long fd;		/* number there, or of --fd; -1: image */
};

struct collection {
	struct kvmstats_cache *cache;
	struct origin *origins;
	size_t count;
};

int collect_fd(struct collection *collection, const char *number);
int collect_pid(struct collection *collection, const char *number);
int collect_image(struct collection *collection, const char *path);
void collection_free(struct collection *collection);

/* proc.c: descriptors of other processes, by the names that /proc shows */
enum kvm_fd_kind {
	KVM_FD_VM, KVM_FD_VCPU, KVM_FD_VM_STATS, KVM_FD_VCPU_STATS,
	KVM_FD_KINDS,
};

/* Calls @found for each; stops at the first that does not return 0. */
int proc_kvm_fds(long pid, int (*found)(void *context, enum kvm_fd_kind kind,
					long fd), void *context);

#endif /* KVMSTAT_H */
