// SPDX-License-Identifier: GPL-2.0-only
/*
 * debugfs-list
 *
 * Create a VM with two vCPUs that never run, and print every file under KVM's
 * debugfs directory: mode, name, what reading gives, what writing 0 and 1
 * gives. The VM's directory, named after pid and fd, is printed as "VM".
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOT		"/sys/kernel/debug/kvm"
#define VCPUS		2

static char vm_name[32];

static int create_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	int i;

	if (vm < 0) {
		perror("KVM_CREATE_VM");
		return -1;
	}
	for (i = 0; i < VCPUS; i++) {
		if (ioctl(vm, KVM_CREATE_VCPU, i) < 0) {
			perror("KVM_CREATE_VCPU");
			return -1;
		}
	}
	snprintf(vm_name, sizeof(vm_name), "%d-%d", getpid(), vm);
	return 0;
}

/* These hold the time at which the vCPU was made */
static int is_volatile(const char *name)
{
	return !strcmp(name, "tsc-offset");
}

static void print_content(const char *path, const char *name)
{
	char text[256];
	int fd = open(path, O_RDONLY);
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (len < 0) {
		printf(" read:%s", strerrorname_np(errno));
	} else {
		text[len] = '\0';
		text[strcspn(text, "\n")] = '\0';
		printf(" read:\"%s\"", is_volatile(name) ? "*" : text);
	}
	if (fd >= 0)
		close(fd);
}

static void print_write(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	int done = fd < 0 ? -1 : (int)write(fd, value, strlen(value));

	printf(" write%s:%s", value, done < 0 ? strerrorname_np(errno) : "ok");
	if (fd >= 0)
		close(fd);
}

static void print_file(const char *path, const char *shown, const char *name)
{
	struct stat st;

	if (lstat(path, &st)) {
		printf("%s: %s\n", path, strerror(errno));
		return;
	}
	printf("%06o %s", st.st_mode, shown);
	if (S_ISREG(st.st_mode)) {
		print_content(path, name);
		if (st.st_mode & 0222) {
			print_write(path, "1");
			print_write(path, "0");
		}
	}
	printf("\n");
}

static int visible(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
}

static int walk(const char *path, const char *shown)
{
	struct dirent **entries;
	int i, count = scandir(path, &entries, visible, alphasort);

	if (count < 0) {
		perror(path);
		return -1;
	}
	for (i = 0; i < count; i++) {
		const char *name = entries[i]->d_name;
		char next[512], next_shown[512];

		snprintf(next, sizeof(next), "%s/%s", path, name);
		snprintf(next_shown, sizeof(next_shown), "%s/%s", shown,
			 strcmp(name, vm_name) ? name : "VM");
		print_file(next, next_shown, name);
		if (entries[i]->d_type == DT_DIR && walk(next, next_shown))
			return -1;
		free(entries[i]);
	}
	free(entries);
	return 0;
}

int main(void)
{
	if (create_vm())
		return 1;
	print_file(ROOT, "kvm", "kvm");
	return walk(ROOT, "kvm") ? 1 : 0;
}
