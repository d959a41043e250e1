// SPDX-License-Identifier: GPL-2.0-only
/* The guest on x86: 32-bit protected mode, no paging. */
#include <string.h>

#include "stress.h"

#define BURST_PORT	0x10
#define CR0_PE		1ull

/*
 * ebx random number, esi where the pages are, edi their mask, ebp the burst,
 * ecx what is left of it.
 */
asm(".pushsection .rodata\n"
	".code32\n"
	".globl guest_code, guest_code_end\n"
	"guest_code:\n"
	"1:	mov	%ebx, %eax\n"
	"	shl	$13, %eax\n"
	"	xor	%eax, %ebx\n"
	"	mov	%ebx, %eax\n"
	"	shr	$17, %eax\n"
	"	xor	%eax, %ebx\n"
	"	mov	%ebx, %eax\n"
	"	shl	$5, %eax\n"
	"	xor	%eax, %ebx\n"
	"	mov	%ebx, %eax\n"
	"	and	%edi, %eax\n"
	"	mov	%ebx, (%esi,%eax)\n"
	"	dec	%ecx\n"
	"	jnz	1b\n"
	"	mov	%ebp, %ecx\n"
	"	out	%al, $0x10\n"
	"	jmp	1b\n"
	"guest_code_end:\n"
	".code64\n"
	".popsection\n");

static void set_protected_mode(int vcpu_fd)
{
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1,
		.s = 1, .db = 1, .g = 1,
	};
	struct kvm_segment code = data;
	struct kvm_sregs sregs = { 0 };

	code.selector = 8;
	code.type = 11;
	CALL(vcpu_fd, KVM_GET_SREGS, &sregs);
	sregs.cs = code;
	sregs.ds = data;
	sregs.es = data;
	sregs.fs = data;
	sregs.gs = data;
	sregs.ss = data;
	sregs.cr0 |= CR0_PE;
	CALL(vcpu_fd, KVM_SET_SREGS, &sregs);
}

void guest_set_up(int vm_fd, int vcpu_fd, const struct guest_start *start)
{
	struct kvm_regs regs = {
		.rip = CODE_GPA,
		.rflags = 0x202,
		.rbx = start->random,
		.rcx = start->burst,
		.rbp = start->burst,
		.rsi = DATA_GPA,
		.rdi = start->page_mask * PAGE_BYTES,
	};

	(void)vm_fd;
	set_protected_mode(vcpu_fd);
	CALL(vcpu_fd, KVM_SET_REGS, &regs);
}

bool is_burst_end(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_IO && run->io.port == BURST_PORT;
}
