/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Real-mode code, copied to GUEST_CODE. Offsets are from guest_code, which is
 * the base of the code segment; the data segments start at 0. Real mode is
 * what every KVM can run: where the hardware cannot, KVM interprets it (and
 * then does not count port I/O as io_exits).
 */
#define PIC_COMMAND	0x20
#define PIC_DATA	0x21
#define PIC2_DATA	0xa1
#define PIT_COUNTER0	0x40
#define PIT_MODE	0x43
#define PORT_IO		0x3f8
#define PORT_YIELD	0x3f9
#define TICK_VECTOR	0x20
#define SHORT_TICK	143	/* 120 us at 1.193182 MHz: within halt polling */
#define LONG_TICK	23864	/* 20 ms: beyond it */

	.section .rodata
	.code16
	.globl guest_code, guest_code_end
	.globl guest_halt, guest_tick, guest_io, guest_memory, guest_compute

guest_code:

/* Timer interrupts as a PC's firmware sets them up, each tick a single one. */
guest_halt:
	movb	$0x11, %al
	outb	%al, $PIC_COMMAND
	movb	$TICK_VECTOR, %al
	outb	%al, $PIC_DATA
	movb	$0x04, %al
	outb	%al, $PIC_DATA
	movb	$0x01, %al
	outb	%al, $PIC_DATA
	movb	$0xfe, %al
	outb	%al, $PIC_DATA
	movb	$0xff, %al
	outb	%al, $PIC2_DATA
	xorw	%bx, %bx
	movb	$0x30, %al
	outb	%al, $PIT_MODE
	movw	$SHORT_TICK, %ax
	outb	%al, $PIT_COUNTER0
	movb	%ah, %al
	outb	%al, $PIT_COUNTER0
1:	sti
	hlt
	jmp	1b

/* Seven short ticks, then a long one. */
guest_tick:
	incw	%bx
	movb	$PIC_COMMAND, %al
	outb	%al, $PIC_COMMAND
	movw	$SHORT_TICK, %ax
	testw	$7, %bx
	jnz	2f
	movw	$LONG_TICK, %ax
2:	outb	%al, $PIT_COUNTER0
	movb	%ah, %al
	outb	%al, $PIT_COUNTER0
	iretw

guest_io:
	movw	$PORT_IO, %dx
3:	outb	%al, %dx
	jmp	3b

/* All of 128 KiB to 640 KiB, then a pause. */
guest_memory:
	cld
	movw	$PORT_YIELD, %dx
4:	movw	$0x2000, %bx
5:	movw	%bx, %es
	xorw	%di, %di
	movw	$0x8000, %cx
	rep stosw
	addw	$0x1000, %bx
	cmpw	$0xa000, %bx
	jne	5b
	incw	%ax
	outb	%al, %dx
	jmp	4b

guest_compute:
	movw	$PORT_YIELD, %dx
6:	movl	$200000, %ecx
7:	addl	%ecx, %eax
	decl	%ecx
	jnz	7b
	outb	%al, %dx
	jmp	6b
guest_code_end:

	.section .note.GNU-stack, "", @progbits
