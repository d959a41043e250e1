// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guests of 64-bit PowerPC: their registers, vectors and interrupt.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <linux/bits.h>

#include "bare.h"
#include "kvm_util_internal.h"
#include "processor.h"

#define MSR_START	(BIT_ULL(63) | 0x1000 | 0x1)	/* SF, ME, LE */
#define LPCR_ILE	0x2000000

#define VECTOR_FIRST	0x100
#define VECTOR_LAST	0xf80
#define VECTOR_STEP	0x20
#define VECTOR_EXTERNAL	0x500
#define VECTOR_DECREMENTER 0x900

#define INSN_LI_R3	0x38600000
#define INSN_SC1	0x44000022
#define INSN_LOOP	0x48000000
#define INSN_LIS_R0	0x3c007fff		/* nearly the greatest */
#define INSN_MTDEC_R0	0x7c1603a6
#define INSN_MTCTR_R30	0x7fc903a6
#define INSN_MTCTR_R31	0x7fe903a6
#define INSN_BCTR	0x4e800420

/* The hash page table, of 4 KiB pages in the segment that real mode has. */
#define HPT_ORDER	20
#define HPT_GROUP_MASK	(BIT_ULL(HPT_ORDER - 7) - 1)
#define HPT_PAGE_SIZE	4096
#define VRMA_VSID	0x1ffffffULL
#define HPTE_V_1TB	BIT_ULL(62)
#define HPTE_V_BOLTED_VALID 0x11
#define HPTE_R_FLAGS	0x190		/* referenced, changed, coherent */

uint64_t bare_is_pr;

static char stack[0x4000] __aligned(16);

/* A hypercall of the vector's number: no test takes that exit for its own. */
static void set_vectors(void)
{
	uint32_t *insn, vector;

	for (vector = VECTOR_FIRST; vector <= VECTOR_LAST;
	     vector += VECTOR_STEP) {
		insn = (void *)(BARE_LOW() + vector);
		*insn++ = INSN_LI_R3 | vector | H_OF_USER;
		*insn++ = bare_is_pr ? FAKE_SC1 : INSN_SC1;
		*insn++ = INSN_LOOP;
	}
	insn = (void *)(BARE_LOW() + VECTOR_EXTERNAL);
	*insn++ = INSN_MTCTR_R31;
	*insn++ = INSN_BCTR;
	insn = (void *)(BARE_LOW() + VECTOR_DECREMENTER);
	*insn++ = INSN_LIS_R0;
	*insn++ = INSN_MTDEC_R0;
	*insn++ = INSN_MTCTR_R30;
	*insn++ = INSN_BCTR;
	__builtin___clear_cache(BARE_LOW(), BARE_LOW() + BARE_LOW_SIZE);
}

static struct kvm_one_reg one_reg(uint64_t id, uint64_t *value)
{
	return (struct kvm_one_reg){ .id = id, .addr = (uintptr_t)value };
}

/* Interrupts are taken at 0, in little endian. */
static void set_interrupts(struct kvm_vm *vm, uint32_t vcpuid)
{
	uint64_t hior = 0, lpcr = 0;
	struct kvm_one_reg reg = one_reg(KVM_REG_PPC_HIOR, &hior);

	vcpu_ioctl(vm, vcpuid, KVM_SET_ONE_REG, &reg);
	reg = one_reg(KVM_REG_PPC_LPCR_64, &lpcr);
	vcpu_ioctl(vm, vcpuid, KVM_GET_ONE_REG, &reg);
	lpcr |= LPCR_ILE;
	vcpu_ioctl(vm, vcpuid, KVM_SET_ONE_REG, &reg);
}

/* A KVM-PR vCPU becomes one of 64-bit Book3S by being told its version. */
static void set_version(struct kvm_vm *vm, uint32_t vcpuid)
{
	struct kvm_enable_cap papr = { .cap = KVM_CAP_PPC_PAPR };
	struct kvm_sregs sregs;

	vcpu_ioctl(vm, vcpuid, KVM_GET_SREGS, &sregs);
	vcpu_ioctl(vm, vcpuid, KVM_SET_SREGS, &sregs);
	vcpu_ioctl(vm, vcpuid, KVM_ENABLE_CAP, &papr);
}

static void map_page(int htab, uint64_t gpa, unsigned int slot)
{
	uint64_t page = gpa / HPT_PAGE_SIZE;
	uint64_t group = (page ^ VRMA_VSID ^ (VRMA_VSID << 25)) & HPT_GROUP_MASK;
	struct {
		struct kvm_get_htab_header header;
		uint64_t v, r;
	} entry = {
		.header = { .index = group * 8 + slot, .n_valid = 1 },
		.v = htobe64(HPTE_V_1TB | VRMA_VSID << 24 |
			     ((gpa >> 16) & ~0x7fULL) | HPTE_V_BOLTED_VALID),
		.r = htobe64(page * HPT_PAGE_SIZE | HPTE_R_FLAGS),
	};

	TEST_ASSERT(write(htab, &entry, sizeof(entry)) == sizeof(entry),
		    "the hash page table's entry for %#llx",
		    (unsigned long long)gpa);
}

/*
 * With hash page tables what real mode reaches is mapped like anything else.
 * KVM-HV does that by itself, but for memory only: a store to anywhere else is
 * the guest's fault and no exit.
 */
static void map_real_mode(struct kvm_vm *vm)
{
	struct kvm_get_htab_fd get = { .flags = KVM_GET_HTAB_WRITE };
	uint32_t order = HPT_ORDER;
	size_t gpa;
	int htab;

	TEST_ASSERT(!ioctl(vm_get_fd(vm), KVM_PPC_ALLOCATE_HTAB, &order) &&
		    order == HPT_ORDER, "KVM_PPC_ALLOCATE_HTAB");
	htab = ioctl(vm_get_fd(vm), KVM_PPC_GET_HTAB_FD, &get);
	TEST_ASSERT(htab >= 0, "KVM_PPC_GET_HTAB_FD");
	for (gpa = 0; gpa < bare_memory_size(); gpa += HPT_PAGE_SIZE)
		map_page(htab, gpa, 0);
	map_page(htab, MMIO_GPA, 1);
	close(htab);
}

/* Only KVM-PR has paravirtual pages to tell of. */
bool bare_have_pr(void)
{
	return kvm_check_cap(KVM_CAP_PPC_GET_PVINFO) > 0;
}

char *bare_exit_stat(void)
{
	return bare_have_pr() ? "mmio_exits" : "ld";
}

static bool vm_offers(struct kvm_vm *vm, unsigned long cap)
{
	return ioctl(vm_get_fd(vm), KVM_CHECK_EXTENSION, (void *)cap) > 0;
}

void bare_vcpu_setup(struct kvm_vm *vm, uint32_t vcpuid, void *guest)
{
	struct kvm_regs regs = { .msr = MSR_START };

	bare_is_pr = bare_have_pr();
	if (!bare_is_pr && !vm_offers(vm, KVM_CAP_PPC_MMU_RADIX))
		map_real_mode(vm);
	set_vectors();
	set_version(vm, vcpuid);
	set_interrupts(vm, vcpuid);
	regs.pc = BARE_GPA(guest);
	regs.gpr[1] = BARE_GPA(stack + sizeof(stack) - 256);
	/* From this a function finds the TOC. */
	regs.gpr[12] = regs.pc;
	vcpu_ioctl(vm, vcpuid, KVM_SET_REGS, &regs);
}

/* One interrupt, which is pending until the vCPU takes it. */
void raise_event(struct kvm_vm *vm)
{
	struct kvm_interrupt irq = { .irq = KVM_INTERRUPT_SET };

	vcpu_ioctl(vm, STATS_VCPU_ID, KVM_INTERRUPT, &irq);
}

void lower_event(struct kvm_vm *vm)
{
}
