/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Code for EL1 with the MMU off, copied to GUEST_CODE and not bound to a
 * place. Interrupts stay masked: a pending one ends WFI all the same.
 */
#define GICD_BASE	0x08000000
#define GICR_SGI_BASE	0x080b0000	/* of the first vCPU */
#define GICD_CTLR	0x0
#define GICR_IGROUPR0	0x80
#define GICR_ISENABLER0	0x100
#define VTIMER_BIT	(1 << 27)
#define MMIO_IO		0x09000000
#define MMIO_YIELD	0x09001000
#define WRITE_START	0x40020000
#define WRITE_BYTES	0x80000
#define ICC_IAR1	S3_0_C12_C12_0
#define ICC_EOIR1	S3_0_C12_C12_1
#define ICC_IGRPEN1	S3_0_C12_C12_7
#define ICC_PMR		S3_0_C4_C6_0

	.section .rodata
	.globl guest_code, guest_code_end
	.globl guest_halt, guest_io, guest_memory, guest_compute
	.balign 8

guest_code:

/* Seven short timer ticks (1/8192 s), then a long one (1/64 s). */
guest_halt:
	mov	x0, #GICR_SGI_BASE
	mov	w1, #VTIMER_BIT
	str	w1, [x0, #GICR_IGROUPR0]
	str	w1, [x0, #GICR_ISENABLER0]
	mov	x0, #GICD_BASE
	mov	w1, #2
	str	w1, [x0, #GICD_CTLR]
	mov	x1, #0xff
	msr	ICC_PMR, x1
	mov	x1, #1
	msr	ICC_IGRPEN1, x1
	isb
	mrs	x2, cntfrq_el0
	mov	x3, #0
1:	add	x3, x3, #1
	lsr	x4, x2, #13
	tst	x3, #7
	b.ne	2f
	lsr	x4, x2, #6
2:	msr	cntv_tval_el0, x4
	mov	x1, #1
	msr	cntv_ctl_el0, x1
	isb
	wfi
	mrs	x5, ICC_IAR1
	msr	cntv_ctl_el0, xzr
	isb
	msr	ICC_EOIR1, x5
	isb
	b	1b

guest_io:
	mov	x0, #MMIO_IO
3:	str	w1, [x0]
	b	3b

/* A round of writing, then a pause. */
guest_memory:
	ldr	x0, =MMIO_YIELD
4:	ldr	x1, =WRITE_START
	ldr	x2, =WRITE_BYTES
	add	x3, x3, #1
5:	str	x3, [x1], #8
	subs	x2, x2, #8
	b.ne	5b
	str	w3, [x0]
	b	4b

guest_compute:
	ldr	x0, =MMIO_YIELD
6:	ldr	x1, =200000
7:	add	x2, x2, x1
	subs	x1, x1, #1
	b.ne	7b
	str	w2, [x0]
	b	6b

	.ltorg
guest_code_end:

	.section .note.GNU-stack, "", @progbits
