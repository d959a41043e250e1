/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * dirty-bench's guest on x86: long mode, 2 MiB pages in page tables that are
 * not logged and whose accessed and dirty bits are set. So there is something
 * to shadow where nested paging is off, and nothing to write in it.
 */
#define PLAIN_START	0ull
#define LOGGED_START	0x10000000ull
#define COUNT_OFFSET	0x9000
#define DONE_EXIT	KVM_EXIT_IO

#define PML4		0x1000
#define PDPT		0x2000
#define PD		0x3000
#define CODE		0x8000
#define TABLE_BITS	0x23ull		/* present, writable, accessed */
#define LARGE_BITS	0xe3ull		/* these, dirty, large */
#define CR0_BITS	0x80010031	/* PG WP NE ET PE */
#define CR4_BITS	0x20		/* PAE */
#define EFER_BITS	0x500		/* LME LMA */
#define MAX_CPUID	256

extern const unsigned char guest_code[], guest_code_end[];

asm(".pushsection .rodata\n"
	".globl guest_code, guest_code_end\n"
	"guest_code:\n"
	"	mov	0x9000, %rcx\n"
	"	mov	$0x10000000, %rdi\n"
	"1:	mov	%rcx, (%rdi)\n"
	"	add	$4096, %rdi\n"
	"	dec	%rcx\n"
	"	jnz	1b\n"
	"	out	%al, $0x10\n"
	"	jmp	guest_code\n"
	"guest_code_end:\n"
	".popsection\n");

static void set_cpuid(const struct bench *bench)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[MAX_CPUID];
	} cpuid = { .head.nent = MAX_CPUID };

	CALL(bench->kvm_fd, KVM_GET_SUPPORTED_CPUID, &cpuid);
	CALL(bench->vcpu_fd, KVM_SET_CPUID2, &cpuid);
}

static void make_page_tables(unsigned char *plain)
{
	uint64_t *pml4 = (uint64_t *)(plain + PML4);
	uint64_t *pdpt = (uint64_t *)(plain + PDPT);
	uint64_t *pd = (uint64_t *)(plain + PD);

	pml4[0] = PDPT | TABLE_BITS;
	pdpt[0] = PD | TABLE_BITS;
	for (uint64_t i = 0; i < 512; i++)
		pd[i] = i << 21 | LARGE_BITS;
}

static void set_long_mode(const struct bench *bench)
{
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1,
		.s = 1, .db = 1, .g = 1,
	};
	struct kvm_segment code = data;
	struct kvm_sregs sregs;

	code.selector = 8;
	code.type = 11;
	code.db = 0;
	code.l = 1;
	CALL(bench->vcpu_fd, KVM_GET_SREGS, &sregs);
	sregs.cs = code;
	sregs.ds = data;
	sregs.es = data;
	sregs.ss = data;
	sregs.cr0 = CR0_BITS;
	sregs.cr3 = PML4;
	sregs.cr4 = CR4_BITS;
	sregs.efer = EFER_BITS;
	CALL(bench->vcpu_fd, KVM_SET_SREGS, &sregs);
}

static void guest_set_up(const struct bench *bench)
{
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };

	memcpy(bench->plain + CODE, guest_code, guest_code_end - guest_code);
	make_page_tables(bench->plain);
	set_cpuid(bench);
	set_long_mode(bench);
	CALL(bench->vcpu_fd, KVM_SET_REGS, &regs);
}
