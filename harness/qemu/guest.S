/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A guest for migrations that is its own firmware: qemu -machine pc -bios IMAGE
 *
 * Up to 8 vCPUs. Each does some work whenever its APIC timer ticks, counts it in
 * memory, and halts until the next tick. What it does is in the table at the
 * beginning of the image, which vm.py fills in:
 *
 *   writes    adds STEP to one word of each of RATE pages a tick, going round and
 *             round PAGES pages at START, and counts pages; with STEP 0 pages are
 *             written that stay all zeros. With HOT it goes to pages at random,
 *             seven times of eight to one of the first HOT
 *   computes  (RATE 0) counts down from LOOPS, and counts ticks
 *   halts     (RATE -1) for ever, with interrupts off
 *   resizes   (RATE -2) moves the border of the RAM that begins at 1 MiB 64 KiB
 *             down and up again, by the chipset's register for 0xf0000, and counts
 *             moves
 *   stays     (RATE -3) runs a copy of its code at START, where it counts, compares
 *             with a register, and counts in the second word of its progress how
 *             often they differed
 *
 * The last two do not wait for a tick. Others have one every MEET ticks in which each
 * waits until all that have MEET have come to it.
 */
	.set	APIC, 0xfee00000
	.set	APIC_EOI, 0xb0
	.set	APIC_SPURIOUS, 0xf0
	.set	APIC_COMMAND, 0x300
	.set	APIC_TIMER, 0x320
	.set	APIC_TIMER_COUNT, 0x380
	.set	APIC_TIMER_DIVIDE, 0x3e0

	.set	PCI_ADDRESS, 0xcf8
	.set	PAM0, 0x80000059	/* of bus 0, device 0 */
	.set	PAM0_DATA, 0xcfd

	.set	STACKS, 0x7000		/* downwards, 256 bytes for each vCPU */
	.set	AP_START, 0x8000
	.set	STARTED, 0x9000		/* vCPUs that have a number */
	.set	PROGRESS, 0xa000	/* 64 bytes for each vCPU: */
	.set	TICKS, 8		/* since it met others */
	.set	MET, 12			/* how often it has come to that */

	/* of a vCPU's line of the table */
	.set	RATE, 0
	.set	PAGES, 4
	.set	START, 8
	.set	STEP, 12
	.set	HOT, 16
	.set	MEET, 20
	.set	LINE, 32

	.text
image:
	.ascii	"MIGRATE1"
tick_ns: .long	0
loops:	.long	0
table:	.fill	8 * LINE / 4, 4, 0

/*
 * From real mode to flat 32-bit segments. The bootstrap vCPU runs this in the
 * image, others run a copy at AP_START; both find what they need by %cs.
 */
	.code16
	.macro	protected_mode from, to, base
	cli
	lgdtl	%cs:(gdt_pointer_of_\from - \base)
	movl	%cr0, %eax
	andl	$~0x60000000, %eax	/* caches on */
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$8, $\to
	.balign	4
gdt_pointer_of_\from:
	.word	gdt_end - gdt - 1
	.long	gdt
	.endm

	.balign	16
first16:
	protected_mode first16, first32, image
	.balign	16
other16:
	protected_mode other16, other32, other16
other16_end:

	.code32
	.macro	flat_segments
	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %fs
	movw	%ax, %gs
	movw	%ax, %ss
	.endm

first32:
	flat_segments
	movl	$STACKS, %esp
	movl	$other16, %esi
	movl	$AP_START, %edi
	movl	$(other16_end - other16), %ecx
	cld
	rep movsb

	/* INIT, then twice "start at AP_START", to all but this one */
	movl	$APIC, %ebx
	movl	$0x1ff, APIC_SPURIOUS(%ebx)
	movl	$0x000c4500, APIC_COMMAND(%ebx)
	call	pause_a_while
	movl	$(0x000c4600 | AP_START >> 12), APIC_COMMAND(%ebx)
	call	pause_a_while
	movl	$(0x000c4600 | AP_START >> 12), APIC_COMMAND(%ebx)
	xorl	%edi, %edi
	jmp	vcpu

other32:
	flat_segments
	movl	$1, %edi
	lock xaddl %edi, STARTED
	incl	%edi

vcpu:	/* %edi is its number */
	movl	%edi, %eax
	shll	$8, %eax
	movl	$STACKS, %esp
	subl	%eax, %esp
	movl	%edi, %ebp
	shll	$6, %ebp
	addl	$PROGRESS, %ebp
	movl	%edi, %esi
	shll	$5, %esi
	addl	$table, %esi

	cmpl	$-1, RATE(%esi)
	je	halt
	cmpl	$-2, RATE(%esi)
	je	resize
	cmpl	$-3, RATE(%esi)
	je	stay
	lidt	idt_pointer
	movl	$APIC, %ebx
	movl	$0x1ff, APIC_SPURIOUS(%ebx)
	movl	$0xb, APIC_TIMER_DIVIDE(%ebx)
	movl	$0x20020, APIC_TIMER(%ebx)	/* again and again, vector 0x20 */
	movl	tick_ns, %eax			/* KVM's has 1 GHz */
	movl	%eax, APIC_TIMER_COUNT(%ebx)
	cmpl	$0, RATE(%esi)
	je	compute

	movl	PAGES(%esi), %edi
	shll	$12, %edi
	addl	START(%esi), %edi		/* the end */
	movl	START(%esi), %edx
	movl	%ebp, %ebx			/* the state of random numbers */
write:
	movl	RATE(%esi), %ecx
1:	cmpl	$0, HOT(%esi)
	je	2f
	call	random_page
2:	movl	STEP(%esi), %eax
	addl	%eax, (%edx)
	incl	(%ebp)
	addl	$4096, %edx
	cmpl	%edi, %edx
	jb	3f
	movl	START(%esi), %edx
3:	decl	%ecx
	jnz	1b
	call	tick_is_over
	jmp	write

compute:
	movl	loops, %ecx
1:	decl	%ecx
	jnz	1b
	incl	(%ebp)
	call	tick_is_over
	jmp	compute

	/* one in %edx */
random_page:
	movl	%ebx, %eax
	shll	$13, %eax
	xorl	%eax, %ebx
	movl	%ebx, %eax
	shrl	$17, %eax
	xorl	%eax, %ebx
	movl	%ebx, %eax
	shll	$5, %eax
	xorl	%eax, %ebx
	movl	HOT(%esi), %edx
	testl	$7, %ebx
	jnz	1f
	movl	PAGES(%esi), %edx
1:	movl	%ebx, %eax
	mull	%edx
	shll	$12, %edx
	addl	START(%esi), %edx
	ret

	/* Who waits for others looks again at each tick. */
tick_is_over:
	sti
	hlt
	cli
	cmpl	$0, MEET(%esi)
	je	3f
	incl	TICKS(%ebp)
	movl	TICKS(%ebp), %eax
	cmpl	MEET(%esi), %eax
	jb	3f
	movl	$0, TICKS(%ebp)
	incl	MET(%ebp)
	pushal
1:	movl	$table, %esi
	movl	$PROGRESS, %edi
2:	cmpl	$0, MEET(%esi)
	je	4f
	movl	MET(%edi), %eax
	subl	MET(%ebp), %eax
	jns	4f
	sti
	hlt
	cli
	jmp	1b
4:	addl	$64, %edi
	addl	$LINE, %esi
	cmpl	$table + 8 * LINE, %esi
	jb	2b
	popal
3:	ret

resize:	movl	$(PAM0 & ~3), %eax
	movw	$PCI_ADDRESS, %dx
	outl	%eax, %dx
	movw	$PAM0_DATA, %dx
	movb	$0x30, %al
1:	outb	%al, %dx
	incl	(%ebp)
	xorb	$0x30, %al		/* RAM, or the firmware */
	jmp	1b

stay:	movl	START(%esi), %edx
	movl	$copied, %esi
	movl	%edx, %edi
	movl	$(copied_end - copied), %ecx
	cld
	rep movsb
	xorl	%edi, %edi
	jmp	*%edx
copied:	incl	%edi
	incl	0x800(%edx)
	cmpl	%edi, 0x800(%edx)
	je	1f
	incl	4(%ebp)
	movl	%edi, 0x800(%edx)
1:	incl	(%ebp)
	jmp	copied
copied_end:

halt:	cli
	hlt
	jmp	halt

	/*
	 * Comes at a hlt. A migration may forget that sti holds it back until there:
	 * then the hlt is for the next one.
	 */
tick:	movl	$0, APIC + APIC_EOI
	iretl

pause_a_while:
	movl	$20000, %ecx
1:	pause
	decl	%ecx
	jnz	1b
	ret

	.balign	8
gdt:	.quad	0
	.quad	0x00cf9b000000ffff	/* code */
	.quad	0x00cf93000000ffff	/* data */
gdt_end:
idt_pointer:
	.word	256 * 8 - 1
	.long	idt
	.balign	8
idt:	.rept	256			/* image is linked to 0xffff0000 */
	.word	tick - image, 8, 0x8e00, 0xffff
	.endr

	.org	0xfff0
	.code16
	jmp	first16
	.org	0x10000
