// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM statistics file descriptors
 *
 * KVM_GET_STATS_FD on a VM or a vCPU returns a file that describes itself and
 * holds the statistics: a header, the id string of the VM or vCPU, a descriptor
 * for each statistic, and the values, in this order and with no gaps.  See
 * Documentation/virt/kvm/stats-fd.rst.  The file that KVM_GET_VCPUS_STATS_FD
 * returns has the values of one vCPU after the other.
 *
 * There is nothing to lock.  All but the values is constant.  The values live in
 * struct kvm and struct kvm_vcpu, which the file keeps alive by a reference on
 * the VM, and are copied while they are being counted: each is up to date, but
 * together they are no snapshot.
 *
 * On a 32-bit host the halves of a value are counted one after the other, and a
 * copy made in between is 2^32 off.  Readers are told so.  To mend it, every place
 * that counts would have to be in a u64_stats_sync section: a reader cannot see by
 * itself that the upper half is still to come.
 */

#include <linux/anon_inodes.h>
#include <linux/atomic.h>
#include <linux/build_bug.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/kvm.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/stddef.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/wait.h>

/*
 * struct kvm_stats_desc with a name of fixed size, as it is in the file.  Spelt
 * out because an array cannot have elements with a flexible member.
 */
struct kvm_stats_entry {
	u32 flags;
	s16 exponent;
	u16 size;
	u32 offset;
	u32 bucket_size;
	char name[KVM_STATS_NAME_SIZE];
};

/* What the files of a scope have in common. */
struct kvm_stats_schema {
	struct kvm_stats_header header;
	const struct kvm_stats_entry *entries;
	size_t entries_size;
	size_t data_size;
};

#define KVM_STATS_ENTRY(scope, field, _type, _unit, _exponent, _bucket_size) \
	{								\
		.flags = (_type) | (_unit) | KVM_STATS_BASE_POW10,	\
		.exponent = _exponent,					\
		.size = sizeof_field(struct scope, field) / sizeof(u64), \
		.offset = offsetof(struct scope, field),		\
		.bucket_size = _bucket_size,				\
		.name = #field,						\
	},

#define KVM_VM_STAT(field, _type, _unit, _exponent, _file, _mode)	\
	KVM_STATS_ENTRY(kvm_vm_stat, field, _type, _unit, _exponent, 0)
#define KVM_VM_HIST(field, _type, _unit, _exponent, _buckets, _size)	\
	KVM_STATS_ENTRY(kvm_vm_stat, field, _type, _unit, _exponent, _size)
#define KVM_VCPU_STAT(field, _type, _unit, _exponent, _file, _mode)	\
	KVM_STATS_ENTRY(kvm_vcpu_stat, field, _type, _unit, _exponent, 0)
#define KVM_VCPU_HIST(field, _type, _unit, _exponent, _buckets, _size)	\
	KVM_STATS_ENTRY(kvm_vcpu_stat, field, _type, _unit, _exponent, _size)

static const struct kvm_stats_entry kvm_vm_stats_entries[] = {
	KVM_VM_STATS(KVM_VM_STAT, KVM_VM_HIST)
};

/* Names are given by kvm_stats_name_vcpu(), then it is constant. */
static struct kvm_stats_entry kvm_vcpu_stats_entries[] = {
	KVM_VCPU_STATS(KVM_VCPU_STAT, KVM_VCPU_HIST)
};

#define KVM_STATS_SCHEMA(_entries, _data_size)				\
	{								\
		.header = {						\
			.name_size = KVM_STATS_NAME_SIZE,		\
			.num_desc = ARRAY_SIZE(_entries),		\
			.id_offset = sizeof(struct kvm_stats_header),	\
			.desc_offset = sizeof(struct kvm_stats_header) + \
				       KVM_STATS_NAME_SIZE,		\
			.data_offset = sizeof(struct kvm_stats_header) + \
				       KVM_STATS_NAME_SIZE +		\
				       sizeof(_entries),		\
		},							\
		.entries = _entries,					\
		.entries_size = sizeof(_entries),			\
		.data_size = _data_size,				\
	}

/* The values that have descriptors; behind them are those only in debugfs. */
#define KVM_VM_STATS_ADD_SIZE(field, ...)				\
	+ sizeof_field(struct kvm_vm_stat, field)
#define KVM_VCPU_STATS_ADD_SIZE(field, ...)				\
	+ sizeof_field(struct kvm_vcpu_stat, field)
#define KVM_VM_STATS_DATA_SIZE						\
	(0 KVM_VM_STATS(KVM_VM_STATS_ADD_SIZE, KVM_VM_STATS_ADD_SIZE))
#define KVM_VCPU_STATS_DATA_SIZE					\
	(0 KVM_VCPU_STATS(KVM_VCPU_STATS_ADD_SIZE, KVM_VCPU_STATS_ADD_SIZE))

static const struct kvm_stats_schema kvm_vm_stats_schema =
	KVM_STATS_SCHEMA(kvm_vm_stats_entries, KVM_VM_STATS_DATA_SIZE);

static const struct kvm_stats_schema kvm_vcpu_stats_schema =
	KVM_STATS_SCHEMA(kvm_vcpu_stats_entries, KVM_VCPU_STATS_DATA_SIZE);

/* All vCPUs of a VM: a record is what is in struct kvm_vcpu, number and values. */
#define KVM_VCPU_STATS_RECORD_SIZE (sizeof(u64) + KVM_VCPU_STATS_DATA_SIZE)

static const struct kvm_vcpus_stats_header kvm_vcpus_stats_header = {
	.header = {
		.flags = KVM_STATS_FLAG_VCPUS,
		.name_size = KVM_STATS_NAME_SIZE,
		.id_offset = sizeof(struct kvm_vcpus_stats_header),
		.desc_offset = sizeof(struct kvm_vcpus_stats_header) +
			       KVM_STATS_NAME_SIZE,
		.data_offset = sizeof(struct kvm_vcpus_stats_header) +
			       KVM_STATS_NAME_SIZE +
			       sizeof(kvm_vcpu_stats_entries),
	},
	.num_desc = ARRAY_SIZE(kvm_vcpu_stats_entries),
	.record_size = KVM_VCPU_STATS_RECORD_SIZE,
	.values_offset = sizeof(u64),
};

/*
 * The layout is ABI.  Names must fit with their NUL, and every byte of the
 * structs must belong to a statistic, or a reader would see what no descriptor
 * accounts for.  A name that is used twice does not compile as a field.
 */
static_assert(sizeof(struct kvm_stats_header) == 24);
static_assert(sizeof(struct kvm_stats_entry) == 64);
static_assert(sizeof(struct kvm_stats_desc) ==
	      offsetof(struct kvm_stats_entry, name));
#define KVM_STATS_CHECK_MEMBER(member)					\
	static_assert(offsetof(struct kvm_stats_desc, member) ==	\
		      offsetof(struct kvm_stats_entry, member))
KVM_STATS_CHECK_MEMBER(flags);
KVM_STATS_CHECK_MEMBER(exponent);
KVM_STATS_CHECK_MEMBER(size);
KVM_STATS_CHECK_MEMBER(offset);
KVM_STATS_CHECK_MEMBER(bucket_size);
static_assert(KVM_STATS_NAME_SIZE % sizeof(u64) == 0);
static_assert(sizeof(struct kvm_vcpus_stats_header) == 40);
static_assert(offsetof(struct kvm_vcpu, stat) ==
	      offsetofend(struct kvm_vcpu, stats_vcpu_id));

#define KVM_STATS_CHECK_NAME(field, ...)				\
	static_assert(sizeof(#field) <= KVM_STATS_NAME_SIZE);

KVM_VM_STATS(KVM_STATS_CHECK_NAME, KVM_STATS_CHECK_NAME)
KVM_VCPU_STATS(KVM_STATS_CHECK_NAME, KVM_STATS_CHECK_NAME)

static_assert(sizeof(struct kvm_vm_stat) == KVM_VM_STATS_DATA_SIZE
	      KVM_VM_STATS_DEBUGFS(KVM_VM_STATS_ADD_SIZE));
static_assert(sizeof(struct kvm_vcpu_stat) == KVM_VCPU_STATS_DATA_SIZE
	      KVM_VCPU_STATS_DEBUGFS(KVM_VCPU_STATS_ADD_SIZE));

/*
 * Copy what the reader asked for of one block of the file, and move the file
 * position past it.  Does nothing unless the position is in the block.  After a
 * fault it is still in the block, so that the blocks behind do nothing either.
 */
static void kvm_stats_copy_block(struct kiocb *iocb, struct iov_iter *to,
				 loff_t start, const void *block, size_t size)
{
	loff_t skip = iocb->ki_pos - start;

	if (skip < 0 || skip >= size)
		return;

	/* Values are counted while they are copied: see the head of this file. */
	iocb->ki_pos += data_race(copy_to_iter(block + skip, size - skip, to));
}

static loff_t kvm_stats_file_size(const struct kvm_stats_schema *schema)
{
	return schema->header.data_offset + schema->data_size;
}

/*
 * What readers do again and again is to read all values, and nothing else.  This
 * has a short way, in which the size is a constant: hardened usercopy, which
 * costs as much as the copy, is for those that are not.
 */
static bool kvm_stats_wants_data(const struct kvm_stats_schema *schema,
				 loff_t pos, size_t count)
{
	return pos == schema->header.data_offset && count >= schema->data_size;
}

static size_t kvm_stats_data_to_user(const struct kvm_stats_source *source,
				     void __user *to)
{
	const struct kvm_stats_schema *schema = source->schema;
	const void *data = source->data;
	unsigned long left;

	/* Values are counted while they are copied: see the head of this file. */
	left = data_race(schema == &kvm_vcpu_stats_schema ?
			 copy_to_user(to, data, KVM_VCPU_STATS_DATA_SIZE) :
			 copy_to_user(to, data, KVM_VM_STATS_DATA_SIZE));
	return schema->data_size - left;
}

static size_t kvm_stats_data_to_iter(const struct kvm_stats_source *source,
				     struct iov_iter *to)
{
	const void *data = source->data;

	/* Values are counted while they are copied: see the head of this file. */
	return data_race(source->schema == &kvm_vcpu_stats_schema ?
			 copy_to_iter(data, KVM_VCPU_STATS_DATA_SIZE, to) :
			 copy_to_iter(data, KVM_VM_STATS_DATA_SIZE, to));
}

static ssize_t kvm_stats_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	const struct kvm_stats_source *source = iocb->ki_filp->private_data;
	const struct kvm_stats_schema *schema = source->schema;
	const struct kvm_stats_header *header = &schema->header;
	loff_t pos = iocb->ki_pos;

	if (kvm_stats_wants_data(schema, pos, iov_iter_count(to))) {
		iocb->ki_pos += kvm_stats_data_to_iter(source, to);
		return iocb->ki_pos - pos ?: -EFAULT;
	}

	if (pos >= kvm_stats_file_size(schema) || !iov_iter_count(to))
		return 0;

	kvm_stats_copy_block(iocb, to, 0, header, sizeof(*header));
	kvm_stats_copy_block(iocb, to, header->id_offset, source->id,
			     sizeof(source->id));
	kvm_stats_copy_block(iocb, to, header->desc_offset, schema->entries,
			     schema->entries_size);
	kvm_stats_copy_block(iocb, to, header->data_offset, source->data,
			     schema->data_size);

	return iocb->ki_pos - pos ?: -EFAULT;
}

/* What vfs_read() does if there is no ->read. */
static noinline ssize_t kvm_stats_read_any(struct file *file, char __user *buf,
					   size_t count, loff_t *pos)
{
	struct iovec iov = { .iov_base = buf, .iov_len = count };
	struct kiocb iocb;
	struct iov_iter to;
	ssize_t ret;

	init_sync_kiocb(&iocb, file);
	iocb.ki_pos = *pos;
	iov_iter_init(&to, READ, &iov, 1, count);
	ret = file->f_op->read_iter(&iocb, &to);
	*pos = iocb.ki_pos;
	return ret;
}

/* Without the iterator, a read of all values takes a third less. */
static ssize_t kvm_stats_read(struct file *file, char __user *buf, size_t count,
			      loff_t *pos)
{
	const struct kvm_stats_source *source = file->private_data;
	ssize_t copied;

	if (!kvm_stats_wants_data(source->schema, *pos, count))
		return kvm_stats_read_any(file, buf, count, pos);

	copied = kvm_stats_data_to_user(source, buf);
	*pos += copied;
	return copied ?: -EFAULT;
}

static loff_t kvm_stats_llseek(struct file *file, loff_t offset, int whence)
{
	const struct kvm_stats_source *source = file->private_data;

	return fixed_size_llseek(file, offset, whence,
				 kvm_stats_file_size(source->schema));
}

/*
 * The vCPUs that have a record.  Their number only grows while the VM lives, they
 * live as long as it does, and each has its place for good.  Pairs with the smp_wmb()
 * in kvm_vm_ioctl_create_vcpu(): what is counted is in kvm->vcpus, and complete.
 */
static unsigned int kvm_stats_nr_records(struct kvm *kvm)
{
	return atomic_read_acquire(&kvm->online_vcpus);
}

static loff_t kvm_vcpus_stats_file_size(unsigned int nr)
{
	return kvm_vcpus_stats_header.header.data_offset +
	       (loff_t)nr * KVM_VCPU_STATS_RECORD_SIZE;
}

/* One that is wanted as a whole has the short way: its size is a constant. */
static void kvm_stats_copy_record(struct kiocb *iocb, struct iov_iter *to,
				  loff_t start, const void *record)
{
	if (iocb->ki_pos != start ||
	    iov_iter_count(to) < KVM_VCPU_STATS_RECORD_SIZE) {
		kvm_stats_copy_block(iocb, to, start, record,
				     KVM_VCPU_STATS_RECORD_SIZE);
		return;
	}

	/* Values are counted while they are copied: see the head of this file. */
	iocb->ki_pos += data_race(copy_to_iter(record,
					       KVM_VCPU_STATS_RECORD_SIZE, to));
}

/* As kvm_stats_copy_block(), from the record on that the position is in. */
static void kvm_stats_copy_records(struct kiocb *iocb, struct iov_iter *to,
				   struct kvm *kvm, unsigned int nr)
{
	loff_t start = kvm_vcpus_stats_header.header.data_offset;
	unsigned int i;

	if (iocb->ki_pos < start)
		return;

	i = (u32)(iocb->ki_pos - start) / KVM_VCPU_STATS_RECORD_SIZE;
	for (start = kvm_vcpus_stats_file_size(i);
	     i < nr && iov_iter_count(to);
	     i++, start += KVM_VCPU_STATS_RECORD_SIZE) {
		struct kvm_vcpu *vcpu = kvm->vcpus[array_index_nospec(i, nr)];

		kvm_stats_copy_record(iocb, to, start, &vcpu->stats_vcpu_id);
	}
}

static ssize_t kvm_vcpus_stats_read_iter(struct kiocb *iocb,
					 struct iov_iter *to)
{
	const struct kvm_stats_source *source = iocb->ki_filp->private_data;
	const struct kvm_stats_header *header = &kvm_vcpus_stats_header.header;
	unsigned int nr = kvm_stats_nr_records(source->kvm);
	loff_t pos = iocb->ki_pos;

	if (pos >= kvm_vcpus_stats_file_size(nr) || !iov_iter_count(to))
		return 0;

	kvm_stats_copy_block(iocb, to, 0, &kvm_vcpus_stats_header,
			     sizeof(kvm_vcpus_stats_header));
	kvm_stats_copy_block(iocb, to, header->id_offset, source->id,
			     sizeof(source->id));
	kvm_stats_copy_block(iocb, to, header->desc_offset,
			     kvm_vcpu_stats_entries,
			     sizeof(kvm_vcpu_stats_entries));
	kvm_stats_copy_records(iocb, to, source->kvm, nr);

	return iocb->ki_pos - pos ?: -EFAULT;
}

/* All records have a short way, as all values of a VM or vCPU have. */
static ssize_t kvm_vcpus_stats_read(struct file *file, char __user *buf,
				    size_t count, loff_t *pos)
{
	const struct kvm_stats_source *source = file->private_data;
	struct kvm_vcpu **vcpu = source->kvm->vcpus;
	unsigned int nr = kvm_stats_nr_records(source->kvm);
	struct kvm_vcpu **end = vcpu + nr;
	ssize_t copied = 0;

	if (*pos != kvm_vcpus_stats_header.header.data_offset ||
	    count < nr * KVM_VCPU_STATS_RECORD_SIZE)
		return kvm_stats_read_any(file, buf, count, pos);

	if (!access_ok(buf, count))
		return -EFAULT;

	for (; vcpu < end; vcpu++) {
		unsigned long left;

		/* Values are counted meanwhile: see the head of this file. */
		left = data_race(__copy_to_user(buf + copied,
						&(*vcpu)->stats_vcpu_id,
						KVM_VCPU_STATS_RECORD_SIZE));
		copied += KVM_VCPU_STATS_RECORD_SIZE - left;
		if (left)
			break;
	}
	*pos += copied;
	return copied || !nr ? copied : -EFAULT;
}

static loff_t kvm_vcpus_stats_llseek(struct file *file, loff_t offset,
				     int whence)
{
	const struct kvm_stats_source *source = file->private_data;
	unsigned int nr = kvm_stats_nr_records(source->kvm);

	return fixed_size_llseek(file, offset, whence,
				 kvm_vcpus_stats_file_size(nr));
}

/*
 * What a file without ->poll says, and EPOLLHUP when the VM can never run again.
 *
 * The queue is in the VM, of which the file has a reference until release().  By
 * then nobody is in the queue: poll, io_uring and aio hold the file for as long as
 * they are in it, and epoll leaves it before release() (eventpoll_release()).  So
 * nobody has to be told of the queue's end (POLLFREE).
 */
static __poll_t kvm_stats_poll(struct file *file, poll_table *wait)
{
	const struct kvm_stats_source *source = file->private_data;
	struct kvm *kvm = source->kvm;

	/*
	 * Takes the queue's lock to add to it, as kvm_stats_hang_up() does after
	 * it has set stats_ended: either this sees that, or is woken up.
	 */
	poll_wait(file, &kvm->stats_wait, wait);
	return DEFAULT_POLLMASK |
	       (READ_ONCE(kvm->stats_ended) ? EPOLLHUP : 0);
}

/*
 * The VM can never run again: its mm is gone, or its last VM or vCPU file.  Both
 * happen, in any order or at once.  What keeps the VM meanwhile is the reference
 * of the file that is closed, or that unregistering the mmu notifier waits.
 *
 * All are woken up, those too that are in the queue exclusively (EPOLLEXCLUSIVE):
 * there is something to do for each.
 */
void kvm_stats_hang_up(struct kvm *kvm)
{
	WRITE_ONCE(kvm->stats_ended, true);
	wake_up_all(&kvm->stats_wait);
}

static int kvm_stats_release(struct inode *inode, struct file *file)
{
	const struct kvm_stats_source *source = file->private_data;

	/* May be the last reference; frees the source. */
	kvm_put_kvm(source->kvm);
	return 0;
}

/* For fdinfo of each file of a VM or vCPU; the file keeps the VM alive. */
void kvm_show_serial(struct seq_file *m, const struct kvm_stats_source *source)
{
	const struct kvm_stats_source *vm = &source->kvm->stats_source;

	seq_printf(m, "kvm-vm-serial:\t%llu\n", vm->serial);
	if (source != vm)
		seq_printf(m, "kvm-vcpu-serial:\t%llu\n", source->serial);
}

#ifdef CONFIG_PROC_FS
static void kvm_stats_show_fdinfo(struct seq_file *m, struct file *file)
{
	const struct kvm_stats_source *source = file->private_data;

	seq_printf(m, "kvm-stats-id:\t%s\n", source->id);
	kvm_show_serial(m, source);
}
#endif

static const struct file_operations kvm_stats_fops = {
	/* A VM pins the module, but only until release() has destroyed it. */
	.owner = THIS_MODULE,
	.read = kvm_stats_read,
	.read_iter = kvm_stats_read_iter,
	.llseek = kvm_stats_llseek,
	.poll = kvm_stats_poll,
	.release = kvm_stats_release,
#ifdef CONFIG_PROC_FS
	.show_fdinfo = kvm_stats_show_fdinfo,
#endif
};

/* Its source is the VM's. */
static const struct file_operations kvm_vcpus_stats_fops = {
	.owner = THIS_MODULE,
	.read = kvm_vcpus_stats_read,
	.read_iter = kvm_vcpus_stats_read_iter,
	.llseek = kvm_vcpus_stats_llseek,
	.poll = kvm_stats_poll,
	.release = kvm_stats_release,
#ifdef CONFIG_PROC_FS
	.show_fdinfo = kvm_stats_show_fdinfo,
#endif
};

/*
 * Give the vCPU statistic at @offset another name, for a meaning that depends on
 * the machine.  Called by kvm_init(), while there can be no VM and so no reader: a
 * VM pins the module that has called it.
 */
void kvm_stats_name_vcpu(size_t offset, const char *name)
{
	struct kvm_stats_entry *entry = kvm_vcpu_stats_entries;

	while (entry->offset != offset)
		entry++;
	strscpy_pad(entry->name, name, sizeof(entry->name));
}

/*
 * VMs and vCPUs are numbered together, from 1.  Nothing but the number itself is
 * shared, so its order to other memory does not matter; 64 bits do not wrap.
 */
static u64 kvm_next_serial(void)
{
	static atomic64_t last = ATOMIC64_INIT(0);

	return atomic64_inc_return_relaxed(&last);
}

/* Called before userspace can reach the VM. */
void kvm_init_vm_stats_source(struct kvm *kvm)
{
	struct kvm_stats_source *source = &kvm->stats_source;

	snprintf(source->id, sizeof(source->id), "kvm-%d",
		 task_pid_nr(current));
	source->schema = &kvm_vm_stats_schema;
	source->data = &kvm->stat;
	source->kvm = kvm;
	source->serial = kvm_next_serial();
	init_waitqueue_head(&kvm->stats_wait);
}

/* Called before userspace can reach the vCPU; vcpu->kvm and the id are set. */
void kvm_init_vcpu_stats_source(struct kvm_vcpu *vcpu)
{
	struct kvm_stats_source *source = &vcpu->stats_source;

	/* The VM's id and not this task's, so that a reader can match them. */
	snprintf(source->id, sizeof(source->id), "%s/vcpu-%d",
		 vcpu->kvm->stats_source.id, vcpu->vcpu_id);
	source->schema = &kvm_vcpu_stats_schema;
	source->data = &vcpu->stat;
	source->kvm = vcpu->kvm;
	source->serial = kvm_next_serial();
	vcpu->stats_vcpu_id = vcpu->vcpu_id;
}

/*
 * The caller's ioctl keeps the VM alive meanwhile.  The file's own reference is
 * taken before fd_install(): from there on another thread may close it.
 */
static int kvm_stats_open(struct kvm_stats_source *source,
			  const struct file_operations *fops, const char *name)
{
	struct file *file;
	int fd;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;

	file = anon_inode_getfile(name, fops, source, O_RDONLY);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}

	/*
	 * Unlike most anonymous files these have a position and offsets, and a
	 * read does not wait for anything.
	 */
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_ATOMIC_POS |
			FMODE_NOWAIT;
	kvm_get_kvm(source->kvm);
	fd_install(fd, file);
	return fd;
}

int kvm_get_vm_stats_fd(struct kvm *kvm)
{
	return kvm_stats_open(&kvm->stats_source, &kvm_stats_fops,
			      "kvm-vm-stats");
}

int kvm_get_vcpus_stats_fd(struct kvm *kvm)
{
	return kvm_stats_open(&kvm->stats_source, &kvm_vcpus_stats_fops,
			      "kvm-vcpus-stats");
}

int kvm_get_vcpu_stats_fd(struct kvm_vcpu *vcpu)
{
	char name[sizeof("kvm-vcpu-stats:") + 10];

	snprintf(name, sizeof(name), "kvm-vcpu-stats:%d", vcpu->vcpu_id);
	return kvm_stats_open(&vcpu->stats_source, &kvm_stats_fops, name);
}
