// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: change several memory slots in one step.
 *
 * The list says how each slot that it names shall be afterwards.  All of the
 * new layout is built beside the old one, and then the pointer is switched once.
 * Both layouts are complete: whoever looks up a page that has memory in both
 * finds memory, whichever it meets, and no slot is ever invalid in between.
 *
 * To the MMU the switch is what an MMU notifier is.  Page faults that have
 * looked up the old layout find mmu_notifier_count raised or mmu_notifier_seq
 * advanced, and are repeated.  All under mmu_lock: mappings that the new layout
 * does not have are dropped, what remains is handed over, the pointer is switched
 * and mmu_notifier_seq advanced.  So whoever holds mmu_lock finds exactly the
 * mappings that belong to the layout which it can look up.
 *
 * Everything is under slots_lock.
 */
#include <linux/kvm_host.h>
#include <linux/kvm_memslot_list.h>
#include <linux/mm.h>
#include <linux/sort.h>
#include <linux/string.h>

/* One call, from the check of its entries to the end. */
struct memslot_list {
	struct kvm *kvm;
	const struct kvm_userspace_memory_region *entries;
	u32 nent;
	u32 failed;		/* entry that is at fault, or ~0 */
	int as_id;
	struct kvm_memslots *old;
	struct kvm_memslots *new;
	bool lost;		/* pages that do not stay what they are */
	/* By the slot's id: named by an entry; to be told of its log. */
	DECLARE_BITMAP(named, KVM_USER_MEM_SLOTS);
	DECLARE_BITMAP(log_changed, KVM_USER_MEM_SLOTS);
};

static u16 entry_id(const struct memslot_list *l, u32 i)
{
	return l->entries[i].slot;
}

/* The slot of entry i, NULL if there is none; before and after. */
static struct kvm_memory_slot *old_slot(const struct memslot_list *l, u32 i)
{
	return id_to_memslot(l->old, entry_id(l, i));
}

static struct kvm_memory_slot *new_slot(const struct memslot_list *l, u32 i)
{
	return id_to_memslot(l->new, entry_id(l, i));
}

/* ---- statistics ---- */

static u64 memslot_bytes(struct kvm_memory_slot *slot)
{
	u64 bytes = sizeof(*slot) + kvm_arch_memslot_bytes(slot);

	/* Both halves are one area of vmalloc(). */
	if (slot->dirty_bitmap)
		bytes += PAGE_ALIGN(2 * kvm_dirty_bitmap_bytes(slot));
	return bytes;
}

/*
 * What the slots take is added up anew, so that it cannot go wrong for good.  The
 * layout was copied a moment ago, which takes longer.
 */
void kvm_count_memslot_update(struct kvm *kvm)
{
	u64 bytes = KVM_ADDRESS_SPACE_NUM * sizeof(struct kvm_memslots);
	struct kvm_memory_slot *slot;
	int i;

	for (i = 0; i < KVM_ADDRESS_SPACE_NUM; i++)
		kvm_for_each_memslot(slot, __kvm_memslots(kvm, i))
			bytes += memslot_bytes(slot);

	++kvm->stat.memslot_updates;
	kvm->stat.memslot_bytes = bytes;
}

/* ---- ranges ---- */

static gfn_t slot_end(const struct kvm_memory_slot *slot)
{
	return slot->base_gfn + slot->npages;
}

void kvm_memslot_range_first(struct kvm_memslot_range *r,
			     struct kvm_memslots *old,
			     struct kvm_memslots *new)
{
	memset(r, 0, sizeof(*r));
	r->old = old;
	r->new = new;
	/* Slots are sorted from high to low pages. */
	r->i = old->used_slots - 1;
	r->j = new->used_slots - 1;
}

bool kvm_memslot_range_next(struct kvm_memslot_range *r)
{
	struct kvm_memory_slot *to;

	if (r->i >= 0 && r->end >= slot_end(&r->old->memslots[r->i]))
		r->i--;
	if (r->i < 0)
		return false;

	r->from = &r->old->memslots[r->i];
	r->start = max(r->end, r->from->base_gfn);
	r->end = slot_end(r->from);
	r->to = NULL;

	while (r->j >= 0 && slot_end(&r->new->memslots[r->j]) <= r->start)
		r->j--;
	if (r->j < 0)
		return true;

	to = &r->new->memslots[r->j];
	if (to->base_gfn > r->start) {
		r->end = min(r->end, to->base_gfn);
	} else {
		r->to = to;
		r->end = min(r->end, slot_end(to));
	}
	return true;
}

/* ---- the dirty log ---- */

static bool carries_log(const struct kvm_memslot_range *r)
{
	return kvm_memslot_range_stays(r) &&
	       r->from->dirty_bitmap && r->to->dirty_bitmap &&
	       r->from->dirty_bitmap != r->to->dirty_bitmap;
}

/*
 * Clear nr bits of the new log, which nobody else has yet.  Whatever the
 * endianness of longs, bit n of a log is in its byte n / 8.
 */
static void clear_log(void *log, unsigned long bit, unsigned long nr)
{
	unsigned long end = bit + nr;

	for (; bit < end && bit % 8; bit++)
		__clear_bit_le(bit, log);
	if (bit + 8 <= end) {
		memset(log + bit / 8, 0, (end - bit) / 8);
		bit = round_down(end, 8);
	}
	for (; bit < end; bit++)
		__clear_bit_le(bit, log);
}

/* The bits of the range that are set in the old log are set in the new one. */
static void or_log(const struct kvm_memslot_range *r)
{
	unsigned long *src = r->from->dirty_bitmap, *dst = r->to->dirty_bitmap;
	unsigned long s = r->start - r->from->base_gfn;
	unsigned long d = r->start - r->to->base_gfn;
	unsigned long end = r->end - r->from->base_gfn, val;

	while (s < end) {
		if (s % BITS_PER_LONG || d % BITS_PER_LONG ||
		    s + BITS_PER_LONG > end) {
			if (test_bit_le(s, src) && !test_bit_le(d, dst))
				set_bit_le(d, dst);
			s++;
			d++;
			continue;
		}
		val = READ_ONCE(src[s / BITS_PER_LONG]);
		if (val & ~READ_ONCE(dst[d / BITS_PER_LONG]))
			atomic_long_or(val, (atomic_long_t *)
					    &dst[d / BITS_PER_LONG]);
		s += BITS_PER_LONG;
		d += BITS_PER_LONG;
	}
}

/*
 * Take the log of pages that stay along: first into the new one, so that a vCPU
 * finds the bits of pages that it was charged for.  Bits that are set in the
 * old log after that follow when the last vCPU has let it go (last).
 */
static void carry_logs(struct memslot_list *l, bool last)
{
	struct kvm_memslot_range r;

	kvm_for_each_memslot_range(&r, l->old, l->new) {
		if (!carries_log(&r))
			continue;
		if (!last)
			clear_log(r.to->dirty_bitmap, r.start - r.to->base_gfn,
				  r.end - r.start);
		or_log(&r);
	}
}

/*
 * Pages that do not stay, and those that stay in a slot which logs them from now
 * on, or no longer.
 */
static void find_changes(struct memslot_list *l)
{
	struct kvm_memslot_range r;

	kvm_for_each_memslot_range(&r, l->old, l->new) {
		if (!kvm_memslot_range_stays(&r))
			l->lost = true;
		else if (!r.from->dirty_bitmap != !r.to->dirty_bitmap)
			__set_bit(r.to->id, l->log_changed);
	}
}

/* ---- the checks ---- */

static int check_entry(struct memslot_list *l, u32 i)
{
	const struct kvm_userspace_memory_region *mem = &l->entries[i];
	int r;

	r = kvm_check_memory_region(mem);
	if (r)
		return r;
	if (mem->slot >> 16 != l->as_id || entry_id(l, i) >= KVM_USER_MEM_SLOTS)
		return -EINVAL;
	if (test_and_set_bit(entry_id(l, i), l->named))
		return -EINVAL;
	if (!mem->memory_size && !old_slot(l, i))
		return -EINVAL;
	return 0;
}

static int check_entries(struct memslot_list *l)
{
	int r;

	l->as_id = l->entries[0].slot >> 16;
	if (l->as_id >= KVM_ADDRESS_SPACE_NUM) {
		l->failed = 0;
		return -EINVAL;
	}
	l->old = __kvm_memslots(l->kvm, l->as_id);

	for (l->failed = 0; l->failed < l->nent; l->failed++) {
		r = check_entry(l, l->failed);
		if (r)
			return r;
	}
	l->failed = ~0;
	return 0;
}

/* ---- the new layout ---- */

static int compare_slots(const void *a, const void *b)
{
	const struct kvm_memory_slot *x = a, *y = b;

	if (x->base_gfn == y->base_gfn)
		return 0;
	return x->base_gfn > y->base_gfn ? -1 : 1;
}

/* Of two slots that overlap the list names at least one: the last such entry. */
static u32 entry_at_fault(const struct memslot_list *l,
			  const struct kvm_memory_slot *a,
			  const struct kvm_memory_slot *b)
{
	u32 i;

	for (i = l->nent - 1; i; i--)
		if (l->entries[i].memory_size &&
		    (entry_id(l, i) == a->id || entry_id(l, i) == b->id))
			break;
	return i;
}

static void fill_slot(struct memslot_list *l, struct kvm_memory_slot *slot,
		      const struct kvm_userspace_memory_region *mem)
{
	slot->id = (u16)mem->slot;
	slot->as_id = l->as_id;
	slot->base_gfn = mem->guest_phys_addr >> PAGE_SHIFT;
	slot->npages = mem->memory_size >> PAGE_SHIFT;
	slot->userspace_addr = mem->userspace_addr;
	slot->flags = mem->flags;
}

static int build_layout(struct memslot_list *l)
{
	struct kvm_memory_slot *slot, *slots;
	int used = 0, i;
	u32 k;

	l->new = kvzalloc(struct_size(l->new, memslots,
				      l->old->used_slots + l->nent),
			  GFP_KERNEL_ACCOUNT);
	if (!l->new)
		return -ENOMEM;
	slots = l->new->memslots;

	kvm_for_each_memslot(slot, l->old)
		if (slot->id >= KVM_USER_MEM_SLOTS ||
		    !test_bit(slot->id, l->named))
			slots[used++] = *slot;
	for (k = 0; k < l->nent; k++)
		if (l->entries[k].memory_size)
			fill_slot(l, &slots[used++], &l->entries[k]);

	sort(slots, used, sizeof(*slots), compare_slots, NULL);
	for (i = 1; i < used; i++) {
		if (slot_end(&slots[i]) > slots[i - 1].base_gfn) {
			l->failed = entry_at_fault(l, &slots[i], &slots[i - 1]);
			return -EEXIST;
		}
	}

	l->new->used_slots = used;
	memset(l->new->id_to_index, -1, sizeof(l->new->id_to_index));
	for (i = 0; i < used; i++)
		l->new->id_to_index[slots[i].id] = i;
	return 0;
}

/* Nothing but flags changes, if anything: what the slot has allocated stays. */
static bool keeps_arrays(const struct memslot_list *l, u32 i)
{
	const struct kvm_memory_slot *old = old_slot(l, i);
	const struct kvm_memory_slot *new = new_slot(l, i);

	return old && new && old->base_gfn == new->base_gfn &&
	       old->npages == new->npages &&
	       old->userspace_addr == new->userspace_addr &&
	       !((old->flags ^ new->flags) & KVM_MEM_READONLY);
}

static bool changes_nothing(const struct memslot_list *l)
{
	u32 i;

	for (i = 0; i < l->nent; i++)
		if (!keeps_arrays(l, i) ||
		    old_slot(l, i)->flags != new_slot(l, i)->flags)
			return false;
	return true;
}

static int prepare_entry(struct memslot_list *l, u32 i)
{
	struct kvm_memory_slot *old = old_slot(l, i), *new = new_slot(l, i);
	enum kvm_mr_change change = KVM_MR_CREATE;
	int r;

	if (!new)
		return 0;

	if (keeps_arrays(l, i)) {
		change = KVM_MR_FLAGS_ONLY;
		new->arch = old->arch;
		if (new->flags & KVM_MEM_LOG_DIRTY_PAGES)
			new->dirty_bitmap = old->dirty_bitmap;
	}
	if ((new->flags & KVM_MEM_LOG_DIRTY_PAGES) && !new->dirty_bitmap) {
		r = kvm_alloc_dirty_bitmap(l->kvm, new);
		if (r)
			return r;
	}

	r = kvm_arch_prepare_memory_region(l->kvm, new, &l->entries[i], change);
	if (r && (!old || new->dirty_bitmap != old->dirty_bitmap))
		kvm_destroy_dirty_bitmap(new);
	return r;
}

static void unprepare_entry(struct memslot_list *l, u32 i)
{
	struct kvm_memory_slot *old = old_slot(l, i), *new = new_slot(l, i);

	if (!new)
		return;
	if (!old || new->dirty_bitmap != old->dirty_bitmap)
		kvm_destroy_dirty_bitmap(new);
	if (!keeps_arrays(l, i))
		kvm_arch_free_memslot(l->kvm, new);
}

/* Everything that can fail, or else nothing. */
static int prepare_entries(struct memslot_list *l)
{
	u32 i;
	int r;

	for (i = 0; i < l->nent; i++) {
		r = prepare_entry(l, i);
		if (!r)
			continue;
		if (r != -ENOMEM)
			l->failed = i;
		while (i--)
			unprepare_entry(l, i);
		return r;
	}
	return 0;
}

/* ---- the switch ---- */

static void switch_layouts(struct memslot_list *l)
{
	struct kvm *kvm = l->kvm;

	kvm_arch_pre_switch_memslots(kvm, l->old, l->new, l->lost);

	spin_lock(&kvm->mmu_lock);
	kvm->mmu_notifier_count++;
	kvm_arch_switch_memslots(kvm, l->old, l->new, l->lost);
	kvm_publish_memslots(kvm, l->as_id, l->new);
	/*
	 * A page fault reads the sequence number before it looks up a slot: one
	 * that reads the new number must find the new slots.  Pairs with the
	 * smp_rmb() between the two.
	 */
	smp_wmb();
	kvm->mmu_notifier_seq++;
	/* As in kvm_mmu_notifier_invalidate_range_end(). */
	smp_wmb();
	kvm->mmu_notifier_count--;
	spin_unlock(&kvm->mmu_lock);

	kvm_memslots_published(kvm, l->new);
}

/* Nobody has the old layout any more. */
static void finish_entry(struct memslot_list *l, u32 i)
{
	struct kvm_memory_slot *old = old_slot(l, i), *new = new_slot(l, i);
	enum kvm_mr_change change = KVM_MR_CREATE;
	struct kvm_memory_slot was = {};

	if (!new) {
		change = KVM_MR_DELETE;
	} else if (test_bit(new->id, l->log_changed)) {
		change = KVM_MR_FLAGS_ONLY;
		was = *new;
		was.flags ^= KVM_MEM_LOG_DIRTY_PAGES;
	}
	kvm_arch_commit_memory_region(l->kvm, &l->entries[i], &was, new ?: &was,
				      change);

	if (!old)
		return;
	if (!keeps_arrays(l, i))
		kvm_free_memslot(l->kvm, old);
	else if (!new->dirty_bitmap)
		kvm_destroy_dirty_bitmap(old);
}

static int set_memory_region_list(struct memslot_list *l)
{
	u32 i;
	int r;

	lockdep_assert_held(&l->kvm->slots_lock);

	r = check_entries(l);
	if (!r)
		r = build_layout(l);
	if (r || changes_nothing(l))
		goto out;
	r = prepare_entries(l);
	if (r)
		goto out;

	/* From here on nothing fails. */
	find_changes(l);
	carry_logs(l, false);
	switch_layouts(l);
	carry_logs(l, true);

	if (l->lost)
		kvm_arch_guest_memory_reclaimed(l->kvm);
	for (i = 0; i < l->nent; i++)
		finish_entry(l, i);
	kvm_count_memslot_update(l->kvm);
	kvfree(l->old);
	return 0;
out:
	kvfree(l->new);
	return r;
}

static int copy_and_set(struct memslot_list *l,
			struct kvm_userspace_memory_region_list __user *ulist)
{
	struct kvm_userspace_memory_region_list list;
	struct kvm_userspace_memory_region *entries;
	int r;

	if (copy_from_user(&list, ulist, sizeof(list)))
		return -EFAULT;
	if (list.flags || memchr_inv(list.pad, 0, sizeof(list.pad)) ||
	    !list.nent)
		return -EINVAL;
	if (list.nent > KVM_USER_MEM_SLOTS)
		return -E2BIG;
	entries = vmemdup_user(ulist->entries, list.nent * sizeof(*entries));
	if (IS_ERR(entries))
		return PTR_ERR(entries);

	l->entries = entries;
	l->nent = list.nent;
	mutex_lock(&l->kvm->slots_lock);
	r = set_memory_region_list(l);
	mutex_unlock(&l->kvm->slots_lock);
	kvfree(entries);
	return r;
}

long kvm_vm_ioctl_set_memory_region_list(struct kvm *kvm, void __user *argp)
{
	struct kvm_userspace_memory_region_list __user *list = argp;
	struct memslot_list l = { .kvm = kvm, .failed = ~0 };
	int r;

	r = copy_and_set(&l, list);
	if (r && put_user(l.failed, &list->failed))
		r = -EFAULT;
	return r;
}
