// SPDX-License-Identifier: GPL-2.0-only
/* Operations on statistics files. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fuzz.h"

#define ANON_INODE_MAGIC	0x09041934
/* What 5.10 knows: HIPRI, DSYNC, SYNC, NOWAIT, APPEND */
#define RWF_KNOWN		0x1f

bool is_one_of(int error, const int *errors)
{
	for (; *errors; errors++)
		if (*errors == error)
			return true;
	return false;
}

void close_file(struct handle *file)
{
	if (file->fd >= 0)
		CHECK(!close(file->fd), "close: %s", strerror(errno));
	file->fd = -1;
}

/* With a file in it, if there is any to open. */
struct handle *pick_file(struct worker *w)
{
	return &w->files[rng_below(&w->rng, NR_FILES)];
}

/* There was no file; open one, of a VM of ours or of the shared one. */
static bool open_file(struct worker *w, struct handle *file)
{
	struct box *box = &w->boxes[rng_below(&w->rng, NR_VMS)];
	unsigned int nr = rng_below(&w->rng, 4);
	int vcpu = nr < box->nr_vcpus ? (int)nr : -1;

	file->position = 0;
	file->flags = O_RDONLY;
	file->box = nr == 3 ? NULL : box;
	file->nr_closed = box->nr_closed;
	if (nr == 3) {
		file->fd = chaos_open_file(&w->rng, &file->ref);
		return file->fd >= 0;
	}
	if (box->vm_fd < 0)
		return false;
	file->fd = get_stats_fd(vcpu < 0 ? box->vm_fd : box->vcpu_fds[vcpu]);
	stats_ref_init(&file->ref, file->fd, box->id,
		       vcpu < 0 ? -1 : box->vcpu_ids[vcpu]);
	return true;
}

static struct handle *some_file(struct worker *w)
{
	struct handle *file = pick_file(w);

	if (file->fd < 0 && !open_file(w, file))
		return NULL;
	return file;
}

static int64_t result(int64_t ret)
{
	return ret < 0 ? -errno : ret;
}

static void do_open(struct worker *w)
{
	struct handle *file = pick_file(w);

	close_file(file);
	open_file(w, file);
}

static void do_close(struct worker *w)
{
	close_file(pick_file(w));
}

static void do_pread(struct worker *w)
{
	struct handle *file = some_file(w);
	struct reading r;
	int64_t got;

	if (!file)
		return;
	choose_pieces(w, file, &r, 1);
	r.offset = choose_offset(w, file);
	got = result(syscall(__NR_pread64, file->fd, r.pieces[0].at,
			     r.pieces[0].len, r.offset));
	judge_reading(w, file, &r, got, 0);
}

/* read() and readv() move the position by what they have read. */
static void move(struct handle *file, int64_t got)
{
	if (got > 0)
		file->position += got;
}

static void do_read(struct worker *w)
{
	struct handle *file = some_file(w);
	struct reading r;
	int64_t got;

	if (!file || !own_kernel)
		return;
	choose_pieces(w, file, &r, 1);
	r.offset = file->position;
	got = result(syscall(__NR_read, file->fd, r.pieces[0].at,
			     r.pieces[0].len));
	judge_reading(w, file, &r, got, 0);
	move(file, got);
}

static void do_readv(struct worker *w)
{
	struct handle *file = some_file(w);
	struct iovec iov[MAX_PIECES];
	struct reading r;
	int64_t got;

	if (!file || !own_kernel)
		return;
	choose_pieces(w, file, &r, MAX_PIECES);
	r.offset = file->position;
	fill_iov(&r, iov);
	got = result(syscall(__NR_readv, file->fd, iov, r.nr));
	judge_reading(w, file, &r, got, 0);
	move(file, got);
}

/* An offset of -1 stands for the file's position. */
static void do_preadv2(struct worker *w)
{
	struct handle *file = some_file(w);
	struct iovec iov[MAX_PIECES];
	struct reading r;
	int64_t got, offset;
	int flags;

	if (!file || !own_kernel)
		return;
	choose_pieces(w, file, &r, MAX_PIECES);
	offset = choose_offset(w, file);
	r.offset = offset == -1 ? file->position : offset;
	flags = rng_below(&w->rng, RWF_KNOWN + 1);
	if (one_in(&w->rng, 4))
		flags = 1 << rng_below(&w->rng, 31);
	fill_iov(&r, iov);
	got = result(syscall(__NR_preadv2, file->fd, iov, r.nr, offset,
			     offset >> 32 >> 32, flags));
	if (flags & ~RWF_KNOWN)
		CHECK(got <= 0, "flags %#x are unknown, got %lld", flags,
		      (long long)got);
	judge_reading(w, file, &r, flags & ~RWF_KNOWN && !got ? -EOPNOTSUPP :
		      got, flags & ~RWF_KNOWN ? EOPNOTSUPP : 0);
	if (offset == -1)
		move(file, got);
}

/* As a vector with a bad number of pieces, or at a bad address. */
static void do_bad_vector(struct worker *w)
{
	struct handle *file = some_file(w);
	long numbers[] = { -1, 1025, LONG_MAX, 0 };
	long nr = numbers[rng_below(&w->rng, ARRAY_SIZE(numbers))];
	int64_t got;

	if (!file)
		return;
	got = result(syscall(__NR_preadv, file->fd, NULL, nr, 0, 0));
	CHECK(got == (nr ? -EINVAL : 0), "%ld pieces gave %lld", nr,
	      (long long)got);
	got = result(syscall(__NR_preadv, file->fd, 8, 2, 0, 0));
	CHECK(got == -EFAULT, "a vector at 8 gave %lld", (long long)got);
}

/* What lseek() must return, by the model. */
static int64_t seek_to(const struct handle *file, int64_t offset, int whence)
{
	const uint64_t size = file->ref.schema->size;
	uint64_t to = offset;

	if (whence == SEEK_CUR)
		to += file->position;
	else if (whence == SEEK_END)
		to += size;
	else if (whence != SEEK_SET)
		return -EINVAL;
	return to > size + (wrong == WRONG_SEEK) ? -EINVAL : (int64_t)to;
}

static void do_lseek(struct worker *w)
{
	struct handle *file = some_file(w);
	int whence = one_in(&w->rng, 8) ? (int)rng_next(&w->rng) :
					  (int)rng_below(&w->rng, 5);
	int64_t offset, want, got;

	if (!file || !own_kernel)
		return;
	offset = choose_offset(w, file);
	if (one_in(&w->rng, 3))
		offset = -offset;
	if (one_in(&w->rng, 4)) {
		whence = SEEK_END;
		offset = rng_below(&w->rng, 3) - 1;
	}
	want = seek_to(file, offset, whence);
	got = result(syscall(__NR_lseek, file->fd, offset, whence));
	CHECK(got == want, "lseek(%lld, %d) at %lld gave %lld, not %lld",
	      (long long)offset, whence, (long long)file->position,
	      (long long)got, (long long)want);
	if (got >= 0)
		file->position = got;
}

static void fill_sqe(struct worker *w, struct io_uring_sqe *sqe,
		     const struct handle *file, struct reading *r,
		     struct iovec *iov)
{
	sqe->fd = file->fd;
	sqe->off = r->offset;
	sqe->flags = one_in(&w->rng, 4) ? IOSQE_ASYNC : 0;
	if (r->is_vector) {
		fill_iov(r, iov);
		sqe->opcode = IORING_OP_READV;
		sqe->addr = (uintptr_t)iov;
		sqe->len = r->nr;
		return;
	}
	/* its lengths have 32 bits */
	r->pieces[0].len = (uint32_t)r->pieces[0].len;
	sqe->opcode = IORING_OP_READ;
	sqe->addr = (uintptr_t)r->pieces[0].at;
	sqe->len = r->pieces[0].len;
}

static void do_uring(struct worker *w)
{
	struct handle *file = some_file(w);
	struct iovec iov[MAX_PIECES];
	struct reading r;
	int64_t got;

	if (!file || !own_kernel || !w->has_ring)
		return;
	choose_pieces(w, file, &r, one_in(&w->rng, 2) ? 1 : MAX_PIECES);
	do
		r.offset = choose_offset(w, file);
	while (r.offset == -1);
	fill_sqe(w, uring_sqe(&w->ring), file, &r, iov);
	got = uring_submit(&w->ring);
	judge_reading(w, file, &r, got, 0);
}

/* --- what these files cannot do --- */

static void check_refused(const char *what, int64_t ret, const int *errors)
{
	CHECK(ret < 0 && is_one_of(errno, errors), "%s gave %lld (%s)", what,
	      (long long)ret, ret < 0 ? strerror(errno) : "");
}

#define REFUSED(what, call_, ...) \
	check_refused(what, call_, (const int[]){ __VA_ARGS__, 0 })

static void do_copy_away(struct worker *w)
{
	struct handle *file = some_file(w);
	int64_t offset = rng_below(&w->rng, 1000);
	int64_t *offset_or_none = one_in(&w->rng, 2) ? &offset : NULL;
	size_t len = 1 + rng_below(&w->rng, 1 << 20);
	int pipes[2];

	if (!file)
		return;
	CHECK(!pipe(pipes), "pipe: %s", strerror(errno));
	REFUSED("splice",
		splice(file->fd, offset_or_none, pipes[1], NULL, len, 0),
		EINVAL);
	REFUSED("splice into",
		splice(pipes[0], NULL, file->fd, NULL, len, SPLICE_F_NONBLOCK),
		EBADF, EINVAL, EAGAIN);
	REFUSED("tee", tee(file->fd, pipes[1], len, 0), EINVAL);
	REFUSED("sendfile", sendfile(pipes[1], file->fd, &offset, len), EINVAL);
	REFUSED("copy_file_range",
		copy_file_range(file->fd, &offset, pipes[1], NULL, len, 0),
		EINVAL, EBADF, EXDEV);
	close(pipes[0]);
	close(pipes[1]);
}

static void do_write(struct worker *w)
{
	struct handle *file = some_file(w);

	if (!file)
		return;
	REFUSED("write", write(file->fd, w->zones, 8), EBADF);
	REFUSED("pwrite", pwrite(file->fd, w->zones, 8, 24), EBADF, ESPIPE);
	REFUSED("ftruncate", ftruncate(file->fd, 0), EINVAL, EBADF);
	REFUSED("fallocate", fallocate(file->fd, 0, 0, 100), EBADF, ENODEV);
	REFUSED("fsync", fsync(file->fd), EINVAL);
	REFUSED("getdents", syscall(__NR_getdents64, file->fd, w->zones, 100),
		ENOTDIR);
}

static void do_mmap(struct worker *w)
{
	struct handle *file = some_file(w);
	int prot = rng_below(&w->rng, 8);
	int flags = one_in(&w->rng, 2) ? MAP_SHARED : MAP_PRIVATE;
	size_t len = rng_below(&w->rng, 1 << 14);
	void *memory;

	if (!file)
		return;
	memory = mmap(NULL, len, prot, flags, file->fd,
		      rng_below(&w->rng, 4) * PAGE_BYTES);
	CHECK(memory == MAP_FAILED && (errno == ENODEV || errno == EACCES ||
				       errno == EPERM || errno == EINVAL),
	      "mmap gave %p (%s)", memory, strerror(errno));
}

static void do_ioctl(struct worker *w)
{
	static const unsigned long requests[] = {
		KVM_GET_STATS_FD, KVM_RUN, KVM_CREATE_VCPU, KVM_CREATE_VM,
		KVM_CHECK_EXTENSION, KVM_ENABLE_CAP, KVM_GET_DIRTY_LOG,
		KVM_SET_USER_MEMORY_REGION,
	};
	struct handle *file = some_file(w);
	unsigned long request;

	if (!file)
		return;
	request = one_in(&w->rng, 2) ? _IO(KVMIO, rng_below(&w->rng, 256)) :
		  requests[rng_below(&w->rng, ARRAY_SIZE(requests))];
	REFUSED("ioctl", ioctl(file->fd, request, rng_next(&w->rng)), ENOTTY);
}

/* Nobody but its worker closes a VM, except for the one that all share. */
static bool has_ended(const struct handle *file)
{
	return file->box && file->box->nr_closed != file->nr_closed &&
	       wrong != WRONG_HANGUP;
}

static void judge_events(const struct handle *file, const char *what,
			 uint32_t events, uint32_t always)
{
	if (!file->box)
		events &= ~POLLHUP;
	if (has_ended(file))
		always |= POLLHUP;
	CHECK(events == always, "%s gave %#x, not %#x", what, events, always);
}

static void do_poll(struct worker *w)
{
	const short always = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
	struct handle *file = some_file(w);
	struct epoll_event event = { .events = EPOLLIN };
	struct pollfd entry;
	int epoll_fd;

	if (!file)
		return;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!own_kernel) {
		REFUSED("epoll_ctl", epoll_ctl(epoll_fd, EPOLL_CTL_ADD,
					       file->fd, &event), EPERM);
		close(epoll_fd);
		return;
	}
	entry = (struct pollfd){ .fd = file->fd, .events = always };
	CHECK(poll(&entry, 1, 0) == 1, "poll: nothing");
	judge_events(file, "poll", entry.revents, always);
	CHECK(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, file->fd, &event),
	      "EPOLL_CTL_ADD: %s", strerror(errno));
	CHECK(epoll_wait(epoll_fd, &event, 1, 0) == 1, "epoll_wait: nothing");
	judge_events(file, "epoll_wait", event.events, EPOLLIN);
	/* out of the set with the file, now and then */
	if (one_in(&w->rng, 4)) {
		close_file(file);
		CHECK(!epoll_wait(epoll_fd, &event, 1, 0), "it is still there");
	}
	close(epoll_fd);
}

static void check_link(const struct handle *file)
{
	char path[64], link[64] = "", want[64];
	const char *slash = strchr(file->ref.id, '/');

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	CHECK(readlink(path, link, sizeof(link) - 1) > 0, "%s: %s", path,
	      strerror(errno));
	if (slash)
		snprintf(want, sizeof(want), "anon_inode:kvm-vcpu-stats:%s",
			 slash + strlen("/vcpu-"));
	else
		snprintf(want, sizeof(want), "anon_inode:kvm-vm-stats");
	CHECK(!strcmp(link, want), "%s is %s, not %s", path, link, want);
}

static void do_look(struct worker *w)
{
	struct handle *file = some_file(w);
	struct statfs fs;
	int got;

	if (!file)
		return;
	check_link(file);
	CHECK(!fstatfs(file->fd, &fs) && fs.f_type == ANON_INODE_MAGIC,
	      "fstatfs: magic %#lx", (long)fs.f_type);
	got = fcntl(file->fd, F_GETFD);
	CHECK(got == FD_CLOEXEC, "F_GETFD gave %#x", got);
	got = fcntl(file->fd, F_GETFL) & ~O_LARGEFILE & ~0100000;
	CHECK(got == file->flags, "F_GETFL gave %#x, not %#x", got,
	      file->flags);
}

/* Changes nothing for readers; O_DIRECT is refused. */
static void do_setfl(struct worker *w)
{
	struct handle *file = some_file(w);
	int flags = 0;

	if (!file)
		return;
	if (one_in(&w->rng, 2))
		flags |= O_NONBLOCK;
	if (one_in(&w->rng, 2))
		flags |= O_APPEND;
	CHECK(!fcntl(file->fd, F_SETFL, flags), "F_SETFL %#x: %s", flags,
	      strerror(errno));
	file->flags = flags;
	REFUSED("F_SETFL O_DIRECT", fcntl(file->fd, F_SETFL, O_DIRECT), EINVAL);
}

/* One file, one position; the other descriptor dies first or last. */
static void do_dup(struct worker *w)
{
	struct handle *file = some_file(w);
	int fd;

	if (!file)
		return;
	fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 3);
	CHECK(fd >= 0, "dup: %s", strerror(errno));
	stats_read_all(&file->ref, fd);
	if (own_kernel)
		CHECK(lseek(fd, 0, SEEK_CUR) == file->position,
		      "the position of a duplicate");
	if (one_in(&w->rng, 2)) {
		close(file->fd);
		file->fd = fd;
	} else {
		close(fd);
	}
}

struct op file_ops[] = {
	OP("open",	20, do_open),
	OP("close",	10, do_close),
	OP("pread",	60, do_pread),
	OP("read",	20, do_read),
	OP("readv",	20, do_readv),
	OP("preadv2",	40, do_preadv2),
	OP("bad_vector",	4, do_bad_vector),
	OP("lseek",	30, do_lseek),
	OP("io_uring",	40, do_uring),
	OP("copy_away",	5, do_copy_away),
	OP("write",	4, do_write),
	OP("mmap",	6, do_mmap),
	OP("ioctl",	6, do_ioctl),
	OP("poll",	8, do_poll),
	OP("look",	5, do_look),
	OP("setfl",	4, do_setfl),
	OP("dup",	6, do_dup),
};

const unsigned int nr_file_ops = ARRAY_SIZE(file_ops);
