// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Which files of processes are one. VMs that a process was passed or has
 * inherited are those of another.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "finder.h"

int pairs_add(struct pairs *pairs, const struct pair *pair)
{
	if (pairs->count == pairs->room) {
		size_t room = pairs->room ? 2 * pairs->room : 64;
		struct pair *list = realloc(pairs->list, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		pairs->list = list;
		pairs->room = room;
	}
	pairs->list[pairs->count++] = *pair;
	return 0;
}

/* Pairs that are asked about in one question. */
struct asked {
	struct pair *pairs[ASK_FILES];
};

static int keep_same(void *context, const struct answer *answer, int *fds,
		     size_t count)
{
	const struct asked *asked = context;

	(void)fds;
	(void)count;
	for (size_t i = 0; i < answer->count; i++)
		asked->pairs[i]->same = answer->errors[i];
	return 0;
}

int worker_compare(struct worker *worker, struct pairs *pairs)
{
	struct ask ask = { .about = ASK_SAME };
	struct asked asked;
	int ret = 0;

	for (size_t i = 0; i < pairs->count && !ret; i++) {
		struct pair *pair = &pairs->list[i];

		if (pair->same < 0) {
			asked.pairs[ask.count] = pair;
			memcpy(ask.pairs[ask.count++], pair->places,
			       sizeof(pair->places));
		}
		if (ask.count == ASK_FILES ||
		    (ask.count && i + 1 == pairs->count)) {
			ret = worker_ask(worker, &ask, -1, keep_same, &asked);
			ask.count = 0;
		}
	}
	return ret;
}

struct holder {
	pid_t pid, tid;
	const struct kvm_files *files;
};

struct others {
	struct holder *list;
	size_t count;
	struct kvm_files parent;	/* files of the parent process */
	pid_t parent_pid;
};

/* One that does not answer is a stranger. */
static void add_parent(const struct kvmstats_vmm *vmm, struct others *others)
{
	pid_t tid = others->parent_pid;
	int ret = finder_list(vmm->finder, others->parent_pid, -1,
			      &others->parent, &tid);

	if (ret == -ETIME)
		finder_remember_slow(vmm->finder, others->parent_pid);
	if (!ret && has_machine(&others->parent))
		others->list[others->count++] = (struct holder){
			others->parent_pid, tid, &others->parent
		};
}

/* Those that were found before it, and the process that it is a child of. */
static int find_others(const struct kvmstats_vmm *vmm, struct others *others)
{
	size_t count = 0;
	bool known = false;

	for (const struct kvmstats_vmm *other = vmm->next; other;
	     other = other->next)
		count++;
	others->list = calloc(count + 1, sizeof(*others->list));
	if (!others->list)
		return -ENOMEM;
	others->parent_pid = process_parent(vmm->pid);
	for (const struct kvmstats_vmm *other = vmm->next; other;
	     other = other->next) {
		if (!finder_is_slow(vmm->finder, other->pid))
			others->list[others->count++] = (struct holder){
				other->pid, other->tid, &other->files
			};
		known = known || other->pid == others->parent_pid;
	}
	/* what we have are copies; what a reader has is no machine */
	if (others->parent_pid > 0 && others->parent_pid != getpid() && !known &&
	    !finder_is_slow(vmm->finder, others->parent_pid))
		add_parent(vmm, others);
	return 0;
}

static bool was_there(const struct kvmstats_vmm *vmm,
		      const struct kvm_file *file)
{
	for (size_t i = 0; i < vmm->files.count; i++) {
		const struct kvm_file *before = &vmm->files.list[i];

		if (before->kind == file->kind && before->vcpu == file->vcpu &&
		    before->number == file->number &&
		    before->serial == file->serial)
			return true;
	}
	return false;
}

static void keep_sharing(struct others *others, const struct pairs *pairs)
{
	size_t kept = 0;

	for (size_t i = 0; i < others->count; i++) {
		bool shares = false;

		for (size_t j = 0; j < pairs->count; j++)
			shares = shares || (pairs->list[j].other == i &&
					    pairs->list[j].same == 1);
		if (shares)
			others->list[kept++] = others->list[i];
	}
	others->count = kept;
}

/*
 * Mark the new files of this kind, or of all others, that a holder has, too.
 * Holders who have none of them are left out from then on.
 */
static int mark_shared(const struct kvmstats_vmm *vmm, struct kvm_files *files,
		       pid_t tid, struct others *others,
		       enum kvmstats_fd_kind kind, bool of_kind)
{
	struct pairs pairs = { 0 };
	int ret = 0;

	for (size_t i = 0; i < files->count; i++) {
		const struct kvm_file *file = &files->list[i];
		bool is_kind = file->kind == kind;

		if (is_kind != of_kind || was_there(vmm, file))
			continue;
		for (size_t j = 0; j < others->count; j++)
			for (size_t k = 0; k < others->list[j].files->count &&
			     !ret; k++) {
				const struct kvm_file *theirs =
					&others->list[j].files->list[k];
				struct pair pair = {
					.places = { { tid, file->number },
						    { others->list[j].tid,
						      theirs->number } },
					.same = same_serial(file->serial,
							    theirs->serial),
					.own = i, .other = j,
				};

				if (theirs->kind == file->kind &&
				    theirs->vcpu == file->vcpu)
					ret = pairs_add(&pairs, &pair);
			}
	}
	if (!ret)
		ret = worker_compare(&vmm->finder->worker, &pairs);
	for (size_t i = 0; i < pairs.count && !ret; i++)
		if (pairs.list[i].same == 1)
			files->list[pairs.list[i].own].matched = true;
	if (of_kind && !ret)
		keep_sharing(others, &pairs);
	free(pairs.list);
	return ret;
}

static int ask_itself(const struct kvmstats_vmm *vmm, pid_t tid,
		      const struct kvm_files *files)
{
	struct pair pair = { .places = { { tid, files->list[0].number },
					 { tid, files->list[0].number } },
			     .same = -1 };
	struct pairs pairs = { .list = &pair, .count = 1 };

	return worker_compare(&vmm->finder->worker, &pairs);
}

/* Not even about themselves: those are left out, and asked rarely from now on. */
static int drop_silent(const struct kvmstats_vmm *vmm,
		       const struct kvm_files *files, pid_t tid,
		       struct others *others)
{
	int ret = ask_itself(vmm, tid, files);
	size_t kept = 0;

	for (size_t i = 0; i < others->count && !ret; i++) {
		const struct holder *holder = &others->list[i];

		if (holder->files->count)
			ret = ask_itself(vmm, holder->tid, holder->files);
		if (!ret) {
			others->list[kept++] = *holder;
		} else if (ret == -ETIME) {
			finder_remember_slow(vmm->finder, holder->pid);
			ret = 0;
		}
	}
	others->count = kept;
	return ret;
}

/* Only of files that are new: what was there before is its own. */
int vmm_drop_shared(const struct kvmstats_vmm *vmm, struct kvm_files *files,
		    pid_t tid)
{
	enum kvmstats_fd_kind kind = kvm_files_count(files, KVMSTATS_FD_VM) ?
				     KVMSTATS_FD_VM : KVMSTATS_FD_VCPU;
	struct others others = { 0 };
	size_t kept = 0;
	int ret = 0;

	for (size_t i = 0; i < files->count && ret >= 0; i++)
		ret |= !was_there(vmm, &files->list[i]);
	if (!ret)
		return 0;
	ret = find_others(vmm, &others);
	if (!ret)
		ret = mark_shared(vmm, files, tid, &others, kind, true);
	if (ret == -ETIME) {
		ret = drop_silent(vmm, files, tid, &others);
		if (!ret)
			ret = mark_shared(vmm, files, tid, &others, kind, true);
	}
	if (!ret && others.count)
		ret = mark_shared(vmm, files, tid, &others, kind, false);
	for (size_t i = 0; i < files->count && !ret; i++)
		if (!files->list[i].matched)
			files->list[kept++] = files->list[i];
	if (!ret)
		files->count = kept;
	free(others.list);
	free(others.parent.list);
	return ret;
}
