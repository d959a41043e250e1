// SPDX-License-Identifier: GPL-2.0-only
/* What the command lines of VMMs call their VMs. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/internal.h"
#include "image.h"

static void names_are(const char *cmdline, size_t length, const char *name,
		      const char *uuid)
{
	char said_name[KVMSTATS_MAX_VM_NAME + 1], said_uuid[KVMSTATS_MAX_VM_NAME + 1];
	char *copy = malloc(length + 1);

	/* as from /proc: a NUL behind it, and nothing more */
	assert_non_null(copy);
	memcpy(copy, cmdline, length);
	copy[length] = 0;
	kvmstats_cmdline_names(copy, length, said_name, said_uuid);
	free(copy);
	assert_string_equal(said_name, name);
	assert_string_equal(said_uuid, uuid);
}

#define NAMES_ARE(cmdline, name, uuid) \
	names_are(cmdline, sizeof(cmdline), name, uuid)

static void options_of_qemu(void **state)
{
	(void)state;
	NAMES_ARE("qemu\0-name\0guest=g1,debug-threads=on\0-uuid\0u-1", "g1",
		  "u-1");
	NAMES_ARE("qemu\0--name\0g2,process=x\0--uuid\0u-2", "g2", "u-2");
	NAMES_ARE("qemu\0-name\0debug-threads=on,guest=a,,b", "a,b", "");
	NAMES_ARE("qemu\0-name\0process=qemu:foo,guest=real", "real", "");
	NAMES_ARE("qemu\0-name\0process=a,,guest=b", "", "");
	NAMES_ARE("qemu\0-name\0debug-threads=on", "", "");
	NAMES_ARE("qemu\0-name\0debug-threads", "debug-threads", "");
	NAMES_ARE("qemu\0-name\0debug-threads=on,a", "", "");
	/* of a key, and of the option, the last counts */
	NAMES_ARE("qemu\0-name\0a,,b,guest=c", "c", "");
	NAMES_ARE("qemu\0-name\0guest=a,guest=b", "b", "");
	NAMES_ARE("qemu\0-name\0first\0-name\0second", "second", "");
	/* the option's lists are one list */
	NAMES_ARE("qemu\0-name\0a\0-name\0debug-threads=on", "a", "");
	NAMES_ARE("qemu\0-uuid\0a\0-uuid\0b,c", "", "b,c");
}

static void values_are_no_options(void **state)
{
	(void)state;
	NAMES_ARE("qemu\0-append\0-name\0-name\0real2", "real2", "");
	NAMES_ARE("qemu\0-append\0-name\0-uuid\0u", "", "u");
	NAMES_ARE("qemu\0-name\0-uuid\0-uuid\0u", "-uuid", "u");
	NAMES_ARE("qemu\0-kernel\0-name\0x", "", "");
	/* an option without a value before ours */
	NAMES_ARE("qemu\0-nographic\0-name\0a", "a", "");
	NAMES_ARE("qemu\0-S\0disk\0-enable-kvm\0-name\0a", "a", "");
	NAMES_ARE("qemu\0-names\0x\0name\0y\0---name\0z", "", "");
	NAMES_ARE("-name\0a", "", "");
	NAMES_ARE("vmm\0--\0--name\0a", "", "");
}

static void other_vmms(void **state)
{
	(void)state;
	NAMES_ARE("firecracker\0--id\0fc-7f3a\0--api-sock\0/x", "fc-7f3a", "");
	NAMES_ARE("firecracker\0--api-sock=/x\0--id=fc-1", "fc-1", "");
	NAMES_ARE("vmm\0--id\0i\0--name\0n", "n", "");
	NAMES_ARE("vmm\0--name=x,y", "x,y", "");
	NAMES_ARE("vmm\0-name=x", "", "");
	NAMES_ARE("crosvm\0run\0--disable-sandbox\0--name\0android", "android",
		  "");
	NAMES_ARE("/usr/bin/lkvm\0run\0-c\0002\0-n\0k,1", "k,1", "");
	NAMES_ARE("lkvm\0run\0--params\0--name\0--name\0k", "k", "");
	NAMES_ARE("qemu\0-n\0k", "", "");
	NAMES_ARE("cloud-hypervisor\0--cmdline\0--name\0--platform\0"
		  "num_pci_segments=2,uuid=c-1", "", "c-1");
	NAMES_ARE("cloud-hypervisor\0--platform=uuid=c-2,iommu=on", "", "c-2");
}

static void nothing_said(void **state)
{
	(void)state;
	names_are("", 0, "", "");
	NAMES_ARE("qemu\0-name", "", "");
	NAMES_ARE("qemu\0-name\0", "", "");
	NAMES_ARE("qemu\0-name\0guest=", "", "");
	/* cut off in the middle */
	names_are("qemu\0-name\0guest", 11, "", "");
	names_are("qemu\0-name\0guest=abc", 19, "ab", "");
}

/* Nothing of it can act on a terminal, or is no UTF-8. */
static void odd_texts(void **state)
{
	(void)state;
	NAMES_ARE("qemu\0-name\0new\nline\0-uuid\0\177", "new?line", "?");
	NAMES_ARE("qemu\0-name\0\033[2J\377\302\2335", "?[2J???5", "");
	NAMES_ARE("qemu\0-name\0\346\227\245\346\234\254 vm#4711",
		  "\346\227\245\346\234\254 vm#4711", "");
}

/* What is too long is cut, never within a character. */
static void long_names(void **state)
{
	char cmdline[300] = "q\0-name\0";
	char name[KVMSTATS_MAX_VM_NAME + 1];

	(void)state;
	memset(cmdline + 8, 'n', KVMSTATS_MAX_VM_NAME);
	memset(name, 'n', KVMSTATS_MAX_VM_NAME);
	name[KVMSTATS_MAX_VM_NAME] = 0;
	names_are(cmdline, sizeof(cmdline), name, "");
	cmdline[8 + KVMSTATS_MAX_VM_NAME] = 'x';
	names_are(cmdline, sizeof(cmdline), name, "");
	memcpy(cmdline + 8 + KVMSTATS_MAX_VM_NAME - 1, "\303\244z", 3);
	name[KVMSTATS_MAX_VM_NAME - 1] = 0;
	names_are(cmdline, sizeof(cmdline), name, "");
}

static void processes(void **state)
{
	char name[KVMSTATS_MAX_VM_NAME + 1], uuid[KVMSTATS_MAX_VM_NAME + 1];

	(void)state;
	assert_int_equal(kvmstats_process_names(getpid(), name, uuid), 0);
	assert_string_equal(name, "");
	assert_true(kvmstats_process_names(0, name, uuid) < 0);
	assert_string_equal(uuid, "");
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(options_of_qemu),
		cmocka_unit_test(values_are_no_options),
		cmocka_unit_test(other_vmms),
		cmocka_unit_test(nothing_said),
		cmocka_unit_test(odd_texts),
		cmocka_unit_test(long_names),
		cmocka_unit_test(processes),
	};

	return RUN(tests);
}
