// SPDX-License-Identifier: LGPL-2.1-or-later
/* Copies of the statistics descriptors of one process. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "finder.h"

void vmm_drop_token(struct kvmstats_vmm *vmm, size_t index)
{
	kvmstats_close_later(KVMSTATS_CLOSE_VM, &vmm->tokens[index].fd, 1);
	vmm->tokens[index] = vmm->tokens[--vmm->token_count];
}

/* What we hold, and which of the process's files it is, or was made from. */
struct own {
	int fd;			/* -1: made, and not known by a file */
	int number, vcpu;
	uint64_t serial;
	enum kvmstats_fd_kind kind;
	struct kvm_file *file;
};

/* One source for all vCPUs of a VM, made from that. */
static bool is_of_all(const struct held *held)
{
	return kvmstats_source_scope(held->source) == KVMSTATS_SCOPE_VCPUS;
}

/* As the files are numbered. */
static int vcpu_of(const struct held *held)
{
	return kvmstats_source_scope(held->source) == KVMSTATS_SCOPE_DEVICE ?
	       DEVICE_VCPU : kvmstats_source_vcpu(held->source);
}

/* Of the file that it is, or was made from. */
static enum kvmstats_fd_kind kind_of(const struct held *held)
{
	int vcpu = vcpu_of(held);

	if (vcpu == DEVICE_VCPU)
		return KVMSTATS_FD_DEVICE;
	if (held->made)
		return vcpu < 0 ? KVMSTATS_FD_VM : KVMSTATS_FD_VCPU;
	return vcpu < 0 ? KVMSTATS_FD_VM_STATS : KVMSTATS_FD_VCPU_STATS;
}

static void list_own(const struct kvmstats_vmm *vmm, struct own *own)
{
	for (size_t i = 0; i < vmm->token_count; i++)
		*own++ = (struct own){
			.fd = vmm->tokens[i].fd,
			.number = vmm->tokens[i].number, .vcpu = -1,
			.kind = KVMSTATS_FD_VM,
		};
	for (size_t i = 0; i < vmm->count; i++) {
		const struct held *held = &vmm->held[i];
		int vcpu = vcpu_of(held);

		*own++ = (struct own){
			.fd = held->made ? -1 :
			      kvmstats_source_fd(held->source),
			.number = held->number, .vcpu = vcpu,
			/* its file is that of the VM's own source */
			.serial = is_of_all(held) ? 0 : held->serial,
			.kind = kind_of(held),
		};
	}
}

/* Where kcmp is refused, a number stands for its file. */
static bool is_file(const struct own *own, const struct kvm_file *file,
		    int same)
{
	if (same < 0 && same != -EBADF)
		return own->number == file->number;
	return same == 1;
}

/* What is looked for is mostly where it was: elsewhere in a second round. */
static int find_files(struct kvmstats_vmm *vmm, struct own *own, size_t count,
		      bool elsewhere)
{
	struct kvm_file *files = vmm->files.list;
	struct pairs pairs = { 0 };
	int ret = 0;

	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < vmm->files.count && !ret; j++) {
			struct pair pair = {
				.places = { { 0, own[i].fd },
					    { vmm->tid, files[j].number } },
				.same = same_serial(own[i].serial,
						    files[j].serial),
				.own = i, .other = j,
			};
			bool moved = files[j].number != own[i].number;

			if ((own[i].fd >= 0 || pair.same == 1) && !own[i].file &&
			    files[j].kind == own[i].kind &&
			    files[j].vcpu == own[i].vcpu &&
			    !files[j].matched &&
			    moved == elsewhere)
				ret = pairs_add(&pairs, &pair);
		}
	if (!ret)
		ret = worker_compare(&vmm->finder->worker, &pairs);
	for (size_t i = 0; i < pairs.count && !ret; i++) {
		struct own *mine = &own[pairs.list[i].own];
		struct kvm_file *file = &files[pairs.list[i].other];

		if (mine->file || file->matched ||
		    !is_file(mine, file, pairs.list[i].same))
			continue;
		mine->file = file;
		file->matched = true;
	}
	free(pairs.list);
	return ret;
}

static struct kvm_file *find_number(struct kvmstats_vmm *vmm, int number,
				    enum kvmstats_fd_kind kind, int vcpu)
{
	for (size_t i = 0; i < vmm->files.count; i++) {
		struct kvm_file *file = &vmm->files.list[i];

		if (file->number == number && file->kind == kind &&
		    file->vcpu == vcpu)
			return file;
	}
	return NULL;
}

static struct kvm_file *find_vm(struct kvmstats_vmm *vmm, uint64_t serial)
{
	for (size_t i = 0; i < vmm->files.count; i++) {
		struct kvm_file *file = &vmm->files.list[i];

		if (file->kind == KVMSTATS_FD_VM && file->serial == serial)
			return file;
	}
	return NULL;
}

/* True if the VMs are those of the last look. */
static bool keep_tokens(struct kvmstats_vmm *vmm, const struct own *own)
{
	size_t before = vmm->token_count;

	/* backwards: the last takes the place of one that is dropped */
	for (size_t i = before; i-- > 0; ) {
		if (own[i].file)
			vmm->tokens[i].number = own[i].file->number;
		else
			vmm_drop_token(vmm, i);
	}
	return vmm->token_count == before &&
	       before == kvm_files_count(&vmm->files, KVMSTATS_FD_VM);
}

/* What has no file any more goes to @gone, which has room for all. */
static void keep_held(struct kvmstats_vmm *vmm, const struct own *own,
		      bool same_vms)
{
	size_t kept = 0;

	for (size_t i = 0; i < vmm->count; i++) {
		struct held *held = &vmm->held[i];
		int vcpu = kvmstats_source_vcpu(held->source);
		struct kvm_file *file = own[i].file;

		if (is_of_all(held)) {
			file = find_vm(vmm, held->serial);
			if (file)
				vmm->held[kept++] = *held;
			else
				vmm->gone[vmm->gone_count++] = *held;
			continue;
		}
		/* as long as the VMs are the same, so are their vCPUs' numbers */
		if (held->made && !held->serial && same_vms)
			file = find_number(vmm, held->number, kind_of(held),
					   vcpu);
		if (!file) {
			vmm->gone[vmm->gone_count++] = *held;
			continue;
		}
		file->matched = true;
		held->number = file->number;
		vmm->held[kept++] = *held;
	}
	vmm->count = kept;
}

int vmm_match(struct kvmstats_vmm *vmm)
{
	size_t tokens = vmm->token_count, before = vmm->count;
	size_t count = tokens + before;
	struct own *own = calloc(count + 1, sizeof(*own));
	struct held *gone = calloc(before + 1, sizeof(*gone));
	bool same_vms;
	int ret = own && gone ? 0 : -ENOMEM;

	if (!ret) {
		list_own(vmm, own);
		ret = find_files(vmm, own, count, false);
	}
	if (!ret)
		ret = find_files(vmm, own, count, true);
	if (ret) {
		free(own);
		free(gone);
		return ret;
	}
	kvmstats_vmm_settle(vmm);
	vmm->gone = gone;
	same_vms = keep_tokens(vmm, own);
	keep_held(vmm, own + tokens, same_vms);
	free(own);
	if (vmm->gone_count)
		ret |= KVMSTATS_VMM_SHRANK;
	if (tokens ? !vmm->token_count : before && !vmm->count)
		ret |= KVMSTATS_VMM_NEW_VM;
	/* another VM is another question to the kernel */
	if (ret & KVMSTATS_VMM_NEW_VM)
		vmm->refused = 0;
	return ret;
}

/* ---- copying */

/* What is to be asked for, in as many questions as that takes. */
struct taking {
	struct kvmstats_vmm *vmm;
	struct ask ask;
	bool tokens;		/* the copies are VMs, to be kept as tokens */
	bool vcpus;		/* descriptors of all vCPUs */
	bool grew;
};

static int add_held(struct kvmstats_vmm *vmm, int fd,
		    const struct kvm_file *file, bool made)
{
	struct held *list = realloc(vmm->held, (vmm->count + 1) *
				    sizeof(*list));
	struct kvmstats_source *source;
	int ret;

	if (!list)
		return -ENOMEM;
	vmm->held = list;
	ret = source_open_any(fd, vmm->finder->cache, &source);
	if (!ret)
		list[vmm->count++] = (struct held){
			.source = source, .number = file->number,
			.serial = file->serial, .made = made,
		};
	return ret;
}

static int add_token(struct kvmstats_vmm *vmm, int fd, int number)
{
	struct token *tokens = realloc(vmm->tokens, (vmm->token_count + 1) *
				       sizeof(*tokens));

	if (!tokens)
		return -ENOMEM;
	vmm->tokens = tokens;
	tokens[vmm->token_count++] = (struct token){ fd, number };
	return 0;
}

/* Descriptors in the order of the files; too few of them: no room here. */
static int keep_taken(void *context, const struct answer *answer, int *fds,
		      size_t count)
{
	struct taking *taking = context;
	struct kvmstats_vmm *vmm = taking->vmm;
	size_t next = 0;

	for (size_t i = 0; i < answer->count; i++) {
		const struct kvm_file *file = &answer->files[i];
		int error = answer->errors[i], ret = 0;

		/* the kernel's own answer, and no accident on the way there */
		if (taking->vcpus && (error == -EIO || error == -ENOTTY))
			vmm->finder->takes_vcpus = false;
		else if (error == -EIO || error == -ENOTTY)
			vmm->refused = error;
		else if (error && error != -EBADF)
			vmm->error = error;
		for (unsigned int what = ASK_COPY; what <= ASK_VCPUS;
		     what <<= 1) {
			if (!(answer->given[i] & what))
				continue;
			if (next == count) {
				vmm->error = -EMFILE;
				return 0;
			}
			ret = taking->tokens ?
			      add_token(vmm, fds[next], file->number) :
			      add_held(vmm, fds[next], file,
				       what != ASK_COPY);
			if (!ret) {
				fds[next] = -1;
				taking->grew = true;
			} else if (ret != -ENODEV) {
				vmm->error = ret;
			}
			next++;
		}
	}
	return 0;
}

static int flush(struct taking *taking)
{
	struct kvmstats_vmm *vmm = taking->vmm;
	int ret = 0;

	if (taking->ask.count)
		ret = worker_ask(&vmm->finder->worker, &taking->ask,
				 vmm->table_fd, keep_taken, taking);
	taking->ask.count = 0;
	return ret;
}

static int want(struct taking *taking, const struct kvm_file *file,
		unsigned int what)
{
	struct ask *ask = &taking->ask;

	ask->files[ask->count] = *file;
	ask->wanted[ask->count++] = what;
	return ask->count == ASK_FILES ? flush(taking) : 0;
}

static bool has_vcpu(const struct held *held, int vcpu)
{
	for (size_t i = 0; i < held->num_vcpus; i++)
		if (held->vcpus[i] == vcpu)
			return true;
	return false;
}

/* What was created since: vCPUs do not go, and have their records in order. */
static int update_vcpus(struct held *held)
{
	int vcpu;

	while ((vcpu = kvmstats_vcpus_number_at(held->source, held->num_vcpus)) >= 0) {
		int *vcpus = realloc(held->vcpus, (held->num_vcpus + 1) *
				     sizeof(*vcpus));

		if (!vcpus)
			return -ENOMEM;
		held->vcpus = vcpus;
		vcpus[held->num_vcpus++] = vcpu;
	}
	return vcpu == -ENODATA ? 0 : vcpu;
}

static int update_all_vcpus(struct kvmstats_vmm *vmm)
{
	int ret = 0;

	for (size_t i = 0; i < vmm->count && !ret; i++)
		if (is_of_all(&vmm->held[i]))
			ret = update_vcpus(&vmm->held[i]);
	return ret;
}

/* VMs and vCPUs, or statistics, of the files from @begin on of one vCPU. */
struct group {
	size_t begin, end;
	int vcpu;
	size_t machines, stats;
	size_t have;		/* sources */
};

static bool next_group(const struct kvmstats_vmm *vmm, struct group *group)
{
	const struct kvm_files *files = &vmm->files;
	size_t i = group->end;

	*group = (struct group){ .begin = i, .end = i };
	if (i == files->count)
		return false;
	group->vcpu = files->list[i].vcpu;
	for (; i < files->count && files->list[i].vcpu == group->vcpu; i++) {
		if (files->list[i].kind < KVMSTATS_FD_VM_STATS)
			group->machines++;
		else
			group->stats++;
	}
	group->end = i;
	for (i = 0; i < vmm->count; i++)
		group->have += is_of_all(&vmm->held[i]) ?
			       vmm->finder->instead &&
			       has_vcpu(&vmm->held[i], group->vcpu) :
			       vcpu_of(&vmm->held[i]) == group->vcpu;
	return true;
}

/*
 * The VMM's own descriptors first, one for each vCPU. Of what it keeps none
 * of, they are made, where the kernel does that for others than the VMM.
 */
static int take_group(struct taking *taking, const struct group *group)
{
	struct kvmstats_vmm *vmm = taking->vmm;
	size_t wanted = group->machines ? group->machines : 1;
	size_t have = group->have;
	int ret = 0;

	if (group->vcpu == DEVICE_VCPU)
		wanted = KVMSTATS_MAX_VMM_DEVICES;

	for (size_t i = group->begin; i < group->end && have < wanted && !ret;
	     i++) {
		const struct kvm_file *file = &vmm->files.list[i];

		if (file->kind < KVMSTATS_FD_VM_STATS || file->matched)
			continue;
		ret = want(taking, file, ASK_COPY);
		have++;
	}
	for (size_t i = group->begin; i < group->end && !have && !ret &&
	     !vmm->refused; i++)
		if (vmm->files.list[i].kind < KVMSTATS_FD_VM_STATS)
			ret = want(taking, &vmm->files.list[i], ASK_STATS);
	return ret;
}

/* The VMM's own statistics are files to know the VM by; ours are not. */
static bool has_made(const struct kvmstats_vmm *vmm)
{
	for (size_t i = 0; i < vmm->count; i++)
		if (vmm->held[i].made)
			return true;
	return false;
}

static int take_tokens(struct kvmstats_vmm *vmm)
{
	struct taking taking = {
		.vmm = vmm, .tokens = true,
		.ask = { .about = ASK_TAKE, .pid = vmm->pid },
	};
	int ret = 0;

	for (size_t i = 0; i < vmm->files.count && !ret; i++) {
		const struct kvm_file *file = &vmm->files.list[i];

		/* a VM that we had open would not come to its end */
		if (file->kind == KVMSTATS_FD_VM && !file->matched &&
		    !file->serial)
			ret = want(&taking, file, ASK_COPY);
	}
	return ret ? ret : flush(&taking);
}

static bool has_all_vcpus(const struct kvmstats_vmm *vmm, uint64_t serial)
{
	for (size_t i = 0; i < vmm->count; i++)
		if (is_of_all(&vmm->held[i]) && vmm->held[i].serial == serial)
			return true;
	return false;
}

/* Kernels that make them have serial numbers, so that the VM is known later. */
static int take_vcpus(struct kvmstats_vmm *vmm, bool *grew)
{
	struct taking taking = {
		.vmm = vmm, .vcpus = true,
		.ask = { .about = ASK_TAKE, .pid = vmm->pid },
	};
	int ret = 0;

	for (size_t i = 0; i < vmm->files.count && !ret &&
	     vmm->finder->takes_vcpus; i++) {
		const struct kvm_file *file = &vmm->files.list[i];

		if (file->kind == KVMSTATS_FD_VM && file->serial &&
		    !has_all_vcpus(vmm, file->serial))
			ret = want(&taking, file, ASK_VCPUS);
	}
	if (!ret)
		ret = flush(&taking);
	*grew = taking.grew;
	return ret ? ret : update_all_vcpus(vmm);
}

static int compare_held(const void *a, const void *b)
{
	const struct held *x = a, *y = b;
	int order = kvmstats_source_compare(x->source, y->source);

	return order ? order :
	       (x->number > y->number) - (x->number < y->number);
}

static void count_missing(struct kvmstats_vmm *vmm)
{
	struct group group = { 0 };

	vmm->missing = 0;
	while (next_group(vmm, &group))
		if (group.machines > group.have)
			vmm->missing += group.machines - group.have;
}

int vmm_take(struct kvmstats_vmm *vmm)
{
	struct taking taking = {
		.vmm = vmm, .ask = { .about = ASK_TAKE, .pid = vmm->pid },
	};
	struct group group = { 0 };
	int ret = 0;

	vmm->error = 0;
	if (vmm->table_fd < 0) {
		vmm->error = -EOPNOTSUPP;
	} else {
		ret = take_vcpus(vmm, &taking.grew);
		while (!ret && next_group(vmm, &group))
			ret = take_group(&taking, &group);
		if (!ret)
			ret = flush(&taking);
		if (!ret && has_made(vmm))
			ret = take_tokens(vmm);
	}
	if (vmm->count)
		qsort(vmm->held, vmm->count, sizeof(*vmm->held), compare_held);
	count_missing(vmm);
	if (!taking.grew)
		return ret;
	if (ret)
		vmm->error = ret;
	return KVMSTATS_VMM_GREW;
}
