// SPDX-License-Identifier: GPL-2.0-only
/* The library on real descriptors; needs /dev/kvm with statistics. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image.h"

struct vm {
	int kvm_fd, vm_fd, vcpu_fd;
};

static int vm_open(void **state)
{
	static struct vm vm;

	vm.kvm_fd = open("/dev/kvm", O_RDWR);
	assert_true(vm.kvm_fd >= 0);
	vm.vm_fd = ioctl(vm.kvm_fd, KVM_CREATE_VM, 0);
	assert_true(vm.vm_fd >= 0);
	vm.vcpu_fd = ioctl(vm.vm_fd, KVM_CREATE_VCPU, 0ul);
	assert_true(vm.vcpu_fd >= 0);
	*state = &vm;
	return 0;
}

static int vm_close(void **state)
{
	struct vm *vm = *state;

	close(vm->vcpu_fd);
	close(vm->vm_fd);
	close(vm->kvm_fd);
	return 0;
}

static struct kvmstats_source *open_stats(int kvm_fd)
{
	struct kvmstats_source *source;
	int fd = ioctl(kvm_fd, UAPI_GET_STATS_FD, NULL);

	assert_true(fd >= 0);
	assert_int_equal(kvmstats_source_open(fd, NULL, &source), 0);
	assert_int_equal(kvmstats_source_fd(source), fd);
	return source;
}

static void opens_both(void **state)
{
	struct kvmstats_source *source;
	struct vm *vm = *state;
	char id[64];

	source = open_stats(vm->vm_fd);
	assert_int_equal(kvmstats_source_scope(source), KVMSTATS_SCOPE_VM);
	snprintf(id, sizeof(id), "kvm-%d", getpid());
	assert_string_equal(kvmstats_source_id(source), id);
	kvmstats_source_close(source);
	source = open_stats(vm->vcpu_fd);
	assert_int_equal(kvmstats_source_vcpu(source), 0);
	strcat(id, "/vcpu-0");
	assert_string_equal(kvmstats_source_id(source), id);
	kvmstats_source_close(source);
}

static void kvm_fds_are_no_source(void **state)
{
	struct kvmstats_source *source;
	struct vm *vm = *state;

	assert_int_equal(kvmstats_source_open(vm->kvm_fd, NULL, &source),
			 -ENODEV);
	assert_int_equal(kvmstats_source_open(vm->vm_fd, NULL, &source),
			 -ENODEV);
	assert_int_equal(kvmstats_source_open(vm->vcpu_fd, NULL, &source),
			 -ENODEV);
}

static void close_closes(void **state)
{
	unsigned int before = count_open_fds();
	struct vm *vm = *state;

	kvmstats_source_close(open_stats(vm->vm_fd));
	assert_int_equal(count_open_fds(), before);
}

static void image_samples_equal(void **state)
{
	struct kvmstats_source *live, *image;
	struct vm *vm = *state;
	uint64_t a[4096], b[4096];
	int64_t size_bytes;
	void *bytes;
	size_t words;

	/* a vCPU that never ran: its statistics do not move */
	live = open_stats(vm->vcpu_fd);
	words = kvmstats_schema_words(kvmstats_source_schema(live));
	size_bytes = kvmstats_source_image(live, NULL, 0);
	bytes = malloc(size_bytes);
	assert_int_equal(kvmstats_source_image(live, bytes, size_bytes),
			 size_bytes);
	assert_int_equal(kvmstats_source_open_image(bytes, size_bytes, NULL,
						    &image), 0);
	assert_int_equal(kvmstats_source_vcpu(image), 0);
	assert_int_equal(kvmstats_source_sample(live, a, 4096), 0);
	assert_int_equal(kvmstats_source_sample(image, b, 4096), 0);
	assert_memory_equal(a, b, words * 8);
	kvmstats_source_close(live);
	kvmstats_source_close(image);
	free(bytes);
}

static void outlives_the_vm(void **state)
{
	struct vm vm;
	struct vm *open_vm = *state;
	struct kvmstats_source *source;
	uint64_t sample[4096];

	vm.vm_fd = ioctl(open_vm->kvm_fd, KVM_CREATE_VM, 0);
	source = open_stats(vm.vm_fd);
	close(vm.vm_fd);
	assert_int_equal(kvmstats_source_sample(source, sample, 4096), 0);
	kvmstats_source_close(source);
}

/*
 * Three hundred, sent by another process that then ends. They are made before
 * the fork: mainline gives none to a process that did not create the VM.
 */
static struct kvmstats_sender *make_many(const struct vm *vm)
{
	struct kvmstats_sender *sender;

	assert_int_equal(kvmstats_sender_new("many", "", &sender), 0);
	for (int i = 0; i < 300; i++)
		assert_int_equal(kvmstats_sender_add(sender, vm->vm_fd), 0);
	return sender;
}

static void send_many(struct kvmstats_sender *sender, const char *path)
{
	if (kvmstats_sender_connect(sender, path))
		_exit(1);
	_exit(kvmstats_sender_flush(sender) == 300 ? 0 : 2);
}

static unsigned int receive_many(struct kvmstats_peer *peer,
				 struct kvmstats_cache *cache)
{
	struct kvmstats_source *sources[KVMSTATS_MAX_MESSAGE_FDS];
	unsigned int rejected, count = 0;
	uint64_t sample[4096];
	int ret;

	while ((ret = kvmstats_peer_receive(peer, cache, sources,
					    &rejected)) >= 0) {
		assert_int_equal(rejected, 0);
		for (int i = 0; i < ret; i++) {
			assert_int_equal(kvmstats_source_sample(sources[i],
								sample, 4096),
					 0);
			assert_int_equal(fcntl(kvmstats_source_fd(sources[i]),
					       F_GETFD), FD_CLOEXEC);
			kvmstats_source_close(sources[i]);
			count++;
		}
	}
	assert_int_equal(ret, -EPIPE);
	return count;
}

static void passed_to_another_process(void **state)
{
	char dir[] = "/tmp/kvmstats-test-XXXXXX", path[64];
	struct kvmstats_sender *sender;
	struct kvmstats_cache *cache;
	struct kvmstats_peer *peer;
	int listen_fd, status;
	pid_t child;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	listen_fd = kvmstats_listen(path, 0600);
	assert_true(listen_fd >= 0);
	sender = make_many(*state);
	child = fork();
	if (!child)
		send_many(sender, path);
	kvmstats_sender_free(sender);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(kvmstats_peer_accept(listen_fd, &peer), 0);
	assert_int_equal(kvmstats_cache_new(&cache), 0);
	assert_int_equal(receive_many(peer, cache), 300);
	assert_int_equal(kvmstats_cache_count(cache), 1);
	kvmstats_cache_free(cache);
	kvmstats_peer_free(peer);
	close(listen_fd);
	unlink(path);
	rmdir(dir);
}

static bool any_nonblocking(const struct kvmstats_read *reads, int count)
{
	for (int i = 0; i < count; i++)
		if (fcntl(kvmstats_source_fd(reads[i].source), F_GETFL) &
		    O_NONBLOCK)
			return true;
	return false;
}

/*
 * A VM's and a vCPU's, by turns. The vCPU does not run, so both ways read the
 * same. Without O_NONBLOCK mainline's io_uring would take a thread for each.
 */
static void batches_agree(void **state)
{
	static uint64_t samples[200][512], one[512];
	struct kvmstats_read reads[200] = { { 0 } };
	struct vm *vm = *state;

	for (int i = 0; i < 200; i++) {
		reads[i].source = open_stats(i % 2 ? vm->vm_fd : vm->vcpu_fd);
		reads[i].sample = samples[i];
		reads[i].words = 512;
		/* opening changes nothing for others that have the file */
		assert_false(fcntl(kvmstats_source_fd(reads[i].source),
				   F_GETFL) & O_NONBLOCK);
	}
	for (int i = 0; i < 3; i++) {
		static const enum kvmstats_batch_method methods[] = {
			KVMSTATS_BATCH_PREAD, KVMSTATS_BATCH_URING,
			KVMSTATS_BATCH_FASTER,
		};
		enum kvmstats_batch_method method = methods[i];
		struct kvmstats_batch *batch;

		memset(samples, 0, sizeof(samples));
		assert_int_equal(kvmstats_batch_new(method, &batch), 0);
		assert_int_equal(kvmstats_batch_sample(batch, reads, 200), 200);
		if (method == KVMSTATS_BATCH_PREAD)
			assert_false(any_nonblocking(reads, 200));
		else if (kvmstats_batch_uses_uring(batch))
			assert_true(any_nonblocking(reads, 200));
		kvmstats_batch_free(batch);
		for (int i = 0; i < 200; i++) {
			memset(one, 0, sizeof(one));
			assert_int_equal(kvmstats_source_sample(reads[i].source,
								one, 512), 0);
			assert_memory_equal(samples[i], one, sizeof(one));
		}
	}
	for (int i = 0; i < 200; i++)
		kvmstats_source_close((void *)reads[i].source);
}

#define ON_VM(test) cmocka_unit_test_setup_teardown(test, vm_open, vm_close)

int main(void)
{
	TEST_LIST = {
		ON_VM(opens_both),
		ON_VM(kvm_fds_are_no_source),
		ON_VM(close_closes),
		ON_VM(image_samples_equal),
		ON_VM(outlives_the_vm),
		ON_VM(passed_to_another_process),
		ON_VM(batches_agree),
	};

	return RUN(tests);
}
