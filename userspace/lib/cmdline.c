// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The command lines of VMMs: what do they call their VM?
 *
 *   QEMU              -name [guest=]NAME[,KEY=VALUE...], -uuid UUID
 *   Firecracker       --id NAME
 *   crosvm            run --name NAME
 *   kvmtool           run --name NAME or -n NAME
 *   cloud-hypervisor  --platform uuid=UUID[,KEY=VALUE...]; it has no names
 *
 * Other VMMs mostly borrow from these, so all of it is understood in any
 * program's command line, with "--option=value" for long options.
 */
#include <stdio.h>
#include <string.h>

#include "internal.h"

/* More than this is not looked at: a VMM names its VM early. */
#define CMDLINE_BYTES 65536

struct words {
	const char *next, *end;
};

/* The next word, or NULL. @end points to a NUL. */
static const char *next_word(struct words *words)
{
	const char *word = words->next;

	if (word >= words->end)
		return NULL;
	words->next = word + strlen(word) + 1;
	return word;
}

/*
 * Does the word after @option belong to it? Which options take a value only
 * the VMM knows. A word without a dash is no option in any case; one with a
 * dash belongs only to options whose value can be any text.
 */
static bool takes(const char *option, size_t length, const char *next)
{
	static const char *const free_text[] = {
		"append", "bios", "cdrom", "cmdline", "cpu", "D", "drive",
		"dtb", "fda", "fdb", "hda", "hdb", "hdc", "hdd", "id",
		"incoming", "initrd", "initramfs", "kernel", "L", "loadvm",
		"mem-path", "mtdblock", "name", "params", "pflash", "pidfile",
		"p", "readconfig", "sd", "uuid",
	};

	if (*next != '-')
		return true;
	for (size_t i = 0; i < sizeof(free_text) / sizeof(*free_text); i++)
		if (strlen(free_text[i]) == length &&
		    !strncmp(option, free_text[i], length))
			return true;
	return false;
}

/*
 * Copy a value: up to a single comma in a list, whole otherwise. What is too
 * long ends at a whole character. Returns where the value ended.
 */
static const char *copy_value(const char *from, bool list,
			      char to[KVMSTATS_MAX_VM_NAME + 1])
{
	size_t length = 0;

	for (; *from; from++) {
		if (list && *from == ',' && *++from != ',')
			break;
		if (length <= KVMSTATS_MAX_VM_NAME)
			to[length++] = *from;
	}
	if (length > KVMSTATS_MAX_VM_NAME)
		do {
			length--;
		} while (length && ((unsigned char)to[length] & 0xc0) == 0x80);
	to[length] = 0;
	kvmstats_text_clean(to);
	return from;
}

/*
 * One of QEMU's lists: KEY=VALUE,... where a doubled comma is a comma of the
 * value, and the last value of a key counts. @implied: the first value may
 * stand without its key.
 */
static void read_list(const char *list, const char *key, bool implied,
		      char to[KVMSTATS_MAX_VM_NAME + 1])
{
	size_t length = strlen(key);
	char ignored[KVMSTATS_MAX_VM_NAME + 1];
	bool first = true;

	for (const char *p = list; *p; first = false) {
		size_t word = strcspn(p, "=,");

		if (p[word] == '=') {
			bool wanted = word == length && !strncmp(p, key, word);

			p = copy_value(p + word + 1, true,
				       wanted ? to : ignored);
		} else {
			p = copy_value(p, true, first && implied ? to :
				       ignored);
		}
	}
}

static bool is(const char *option, size_t length, const char *name)
{
	return strlen(name) == length && !strncmp(option, name, length);
}

static bool is_kvmtool(const char *program)
{
	const char *slash = strrchr(program, '/');

	program = slash ? slash + 1 : program;
	return !strcmp(program, "lkvm") || !strcmp(program, "kvmtool");
}

void kvmstats_cmdline_names(const char *cmdline, size_t size_bytes,
			    char name[KVMSTATS_MAX_VM_NAME + 1],
			    char uuid[KVMSTATS_MAX_VM_NAME + 1])
{
	struct words words = { cmdline, cmdline + size_bytes };
	char id[KVMSTATS_MAX_VM_NAME + 1] = "";
	const char *word = next_word(&words);
	bool kvmtool = word && is_kvmtool(word);

	name[0] = 0;
	uuid[0] = 0;
	while ((word = next_word(&words)) && strcmp(word, "--")) {
		bool is_long = !strncmp(word, "--", 2);
		const char *option = word + 1 + is_long;
		size_t length = strlen(option);
		const char *value = NULL;
		bool attached;

		if (*word != '-')
			continue;
		attached = is_long && strchr(option, '=');
		if (attached) {
			length = strcspn(option, "=");
			value = option + length + 1;
		} else if (words.next < words.end &&
			   takes(option, length, words.next)) {
			value = next_word(&words);
		}
		if (!value)
			continue;
		if (is(option, length, "name") && (kvmtool || attached))
			copy_value(value, false, name);
		else if (is(option, length, "name"))
			read_list(value, "guest", true, name);
		else if (is(option, length, "uuid"))
			copy_value(value, false, uuid);
		else if (is_long && is(option, length, "platform"))
			read_list(value, "uuid", false, uuid);
		else if (is_long && is(option, length, "id"))
			copy_value(value, false, id);
		else if (kvmtool && is(option, length, "n"))
			copy_value(value, false, name);
	}
	if (!*name)
		strcpy(name, id);
}

int kvmstats_process_names(pid_t pid, char name[KVMSTATS_MAX_VM_NAME + 1],
			   char uuid[KVMSTATS_MAX_VM_NAME + 1])
{
	char path[32], cmdline[CMDLINE_BYTES];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	length = read_proc(path, cmdline, sizeof(cmdline));
	kvmstats_cmdline_names(cmdline, length < 0 ? 0 : length, name, uuid);
	return length < 0 ? (int)length : 0;
}
