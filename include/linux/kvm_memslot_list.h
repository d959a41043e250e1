/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_MEMSLOT_LIST_H
#define __KVM_MEMSLOT_LIST_H

/*
 * KVM_SET_USER_MEMORY_REGION_LIST: a layout of memory slots takes the place of
 * another in one step.  See "Who may hold a memory slot" in
 * Documentation/virt/kvm/locking.rst.
 */
#include <linux/kvm_host.h>

#ifdef CONFIG_HAVE_KVM_MEMORY_REGION_LIST

long kvm_vm_ioctl_set_memory_region_list(struct kvm *kvm, void __user *argp);

/*
 * What an architecture does for it.  Both are called with slots_lock held, when
 * everything that can fail has been done.
 *
 * kvm_arch_pre_switch_memslots() may sleep.  "lost" is whether pages go away, get
 * another address, or may (not) be written.
 *
 * kvm_arch_switch_memslots() is called with mmu_lock held and mmu_notifier_count
 * raised, so that no page fault maps anything.  It may give mmu_lock up in
 * between, but not after the last look at what is mapped: when it returns, no
 * page may be mapped that the new slots do not have at the same address and
 * with the same access, and what is kept in the slots about the other pages
 * has to be in the new ones.  The old slots are looked up until then, and by
 * whoever comes with mmu_lock after that, the new ones.
 */
void kvm_arch_pre_switch_memslots(struct kvm *kvm, struct kvm_memslots *old,
				  struct kvm_memslots *new, bool lost);
void kvm_arch_switch_memslots(struct kvm *kvm, struct kvm_memslots *old,
			      struct kvm_memslots *new, bool lost);

/*
 * A range of pages, as long as possible, that the old layout has in one slot
 * and the new layout in one slot or in none.
 */
struct kvm_memslot_range {
	struct kvm_memory_slot *from;
	struct kvm_memory_slot *to;	/* NULL: no memory any more */
	gfn_t start;
	gfn_t end;			/* first page behind it */
	/* private: */
	struct kvm_memslots *old, *new;
	int i, j;
};

void kvm_memslot_range_first(struct kvm_memslot_range *r,
			     struct kvm_memslots *old,
			     struct kvm_memslots *new);
bool kvm_memslot_range_next(struct kvm_memslot_range *r);

/* From low to high pages. */
#define kvm_for_each_memslot_range(r, old, new)				\
	for (kvm_memslot_range_first(r, old, new);			\
	     kvm_memslot_range_next(r);)

/* Whether what is mapped may stay: same address, same right to write. */
static inline bool kvm_memslot_range_stays(const struct kvm_memslot_range *r)
{
	return r->to &&
	       __gfn_to_hva_memslot(r->from, r->start) ==
			__gfn_to_hva_memslot(r->to, r->start) &&
	       !((r->from->flags ^ r->to->flags) & KVM_MEM_READONLY);
}

/*
 * The memory that the architecture has allocated for a slot, in bytes.  Called
 * with slots_lock held.
 */
u64 kvm_arch_memslot_bytes(const struct kvm_memory_slot *slot);

/* Called when a VM gets its first, empty layout, before anybody else knows it. */
static inline void kvm_init_memslot_stats(struct kvm *kvm)
{
	kvm->stat.memslot_bytes =
		KVM_ADDRESS_SPACE_NUM * sizeof(struct kvm_memslots);
}

/* Called with slots_lock held, after each change of the layout. */
void kvm_count_memslot_update(struct kvm *kvm);

#else /* !CONFIG_HAVE_KVM_MEMORY_REGION_LIST */

static inline void kvm_init_memslot_stats(struct kvm *kvm) { }
static inline void kvm_count_memslot_update(struct kvm *kvm) { }

#endif /* CONFIG_HAVE_KVM_MEMORY_REGION_LIST */

#endif /* __KVM_MEMSLOT_LIST_H */
