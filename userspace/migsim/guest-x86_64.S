/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Flat 32-bit code without paging, copied to GUEST_CODE; it has no addresses
 * of its own. EBX points to the vCPU's block, ESI to its pages, EDI is their
 * number, EBP the position or the state of the random numbers, ECX counts what
 * is left to do before the next timer tick.
 */
#include "guest.h"

	.section .rodata
	.code32
	.globl migsim_code, migsim_code_end
	.globl migsim_write_seq, migsim_write_random, migsim_write_skewed
	.globl migsim_read_seq, migsim_read_random, migsim_read_skewed
	.globl migsim_compute

	.macro begin
	movl	BLOCK_BASE(%ebx), %esi
	movl	BLOCK_PAGES(%ebx), %edi
	movl	BLOCK_SEED(%ebx), %ebp
	movl	BLOCK_BATCH(%ebx), %ecx
	.endm

	/* the next page in EAX */
	.macro next_seq
	incl	%ebp
	cmpl	%edi, %ebp
	jb	8f
	xorl	%ebp, %ebp
8:	movl	%ebp, %eax
	.endm

	.macro next_number
	movl	%ebp, %eax
	shll	$13, %eax
	xorl	%eax, %ebp
	movl	%ebp, %eax
	shrl	$17, %eax
	xorl	%eax, %ebp
	movl	%ebp, %eax
	shll	$5, %eax
	xorl	%eax, %ebp
	movl	%ebp, %eax
	.endm

	.macro next_random
	next_number
	mull	%edi
	movl	%edx, %eax
	.endm

	.macro next_skewed
	next_number
	testl	$7, %ebp
	jz	8f
	mull	BLOCK_HOT(%ebx)
	jmp	9f
8:	mull	%edi
9:	movl	%edx, %eax
	.endm

	/*
	 * Something new, at the page's begin: Bochs 2.7 logs other addresses as
	 * they are, and not their page's, when it logs modified pages.
	 */
	.macro touch_write
	shll	$12, %eax
	movl	BLOCK_PROGRESS(%ebx), %edx
	notl	%edx
	movl	%edx, (%esi,%eax)
	.endm

	.macro touch_read
	shll	$12, %eax
	movl	(%esi,%eax), %edx
	.endm

	/*
	 * Each vCPU that meets others waits until all of them have been here as
	 * often. What EAX, ECX and EDX hold is not needed any more.
	 */
	.macro meet
	cmpl	$0, BLOCK_MEET(%ebx)
	je	6f
	decl	BLOCK_LEFT(%ebx)
	jnz	6f
	movl	BLOCK_MEET(%ebx), %eax
	movl	%eax, BLOCK_LEFT(%ebx)
	incl	BLOCK_MET(%ebx)
	movl	BLOCK_BLOCKS(%ebx), %ecx
	movl	$GUEST_BLOCKS, %eax
4:	movl	BLOCK_MET(%eax), %edx
	subl	BLOCK_MET(%ebx), %edx
	jns	5f
	movw	$GUEST_PORT_YIELD, %dx
	outb	%al, %dx
	jmp	4b
5:	addl	$4096, %eax
	decl	%ecx
	jnz	4b
6:
	.endm

	.macro count again
	incl	BLOCK_PROGRESS(%ebx)
	decl	%ecx
	jnz	\again
	meet
	movw	$GUEST_PORT, %dx
	outb	%al, %dx
	movl	BLOCK_BATCH(%ebx), %ecx
	jmp	\again
	.endm

	.macro work touch, pattern
migsim_\touch\()_\pattern:
	begin
7:	next_\pattern
	touch_\touch
	count	7b
	.endm

migsim_code:
	work	write, seq
	work	write, random
	work	write, skewed
	work	read, seq
	work	read, random
	work	read, skewed

migsim_compute:
	begin
7:	movl	$GUEST_STEPS, %eax
8:	addl	%eax, %edx
	decl	%eax
	jnz	8b
	count	7b
migsim_code_end:

	.section .note.GNU-stack, "", @progbits
