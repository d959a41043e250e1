/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Code for EL1, copied to GUEST_CODE and not bound to a place. X0 points to
 * the vCPU's block, X1 to its pages, W2 is their number, W3 the position or the
 * state of the random numbers, W4 counts what is left to do before the next
 * timer tick, X5 is where that is asked for.
 */
#include "guest.h"

	.section .rodata
	.globl migsim_code, migsim_code_end
	.globl migsim_write_seq, migsim_write_random, migsim_write_skewed
	.globl migsim_read_seq, migsim_read_random, migsim_read_skewed
	.globl migsim_compute
	.balign 8

	.macro begin
	ldr	w1, [x0, #BLOCK_BASE]
	ldr	w2, [x0, #BLOCK_PAGES]
	ldr	w3, [x0, #BLOCK_SEED]
	ldr	w4, [x0, #BLOCK_BATCH]
	ldr	w5, =GUEST_MMIO
	ldr	w6, [x0, #BLOCK_HOT]
	.endm

	/* the next page in X7 */
	.macro next_seq
	add	w3, w3, #1
	cmp	w3, w2
	csel	w3, wzr, w3, hs
	mov	w7, w3
	.endm

	.macro next_number
	eor	w3, w3, w3, lsl #13
	eor	w3, w3, w3, lsr #17
	eor	w3, w3, w3, lsl #5
	.endm

	.macro next_random
	next_number
	umull	x7, w3, w2
	lsr	x7, x7, #32
	.endm

	.macro next_skewed
	next_number
	tst	w3, #7
	csel	w8, w2, w6, eq
	umull	x7, w3, w8
	lsr	x7, x7, #32
	.endm

	/* something new */
	.macro touch_write
	add	x7, x1, x7, lsl #12
	ldr	w8, [x0, #BLOCK_PROGRESS]
	mvn	w8, w8
	str	w8, [x7]
	.endm

	.macro touch_read
	add	x7, x1, x7, lsl #12
	ldr	w8, [x7]
	.endm

	/*
	 * Each vCPU that meets others waits until all of them have been here as
	 * often. W7 to W10 are free.
	 */
	.macro meet
	ldr	w7, [x0, #BLOCK_MEET]
	cbz	w7, 6f
	ldr	w8, [x0, #BLOCK_LEFT]
	subs	w8, w8, #1
	str	w8, [x0, #BLOCK_LEFT]
	b.ne	6f
	str	w7, [x0, #BLOCK_LEFT]
	ldr	w7, [x0, #BLOCK_MET]
	add	w7, w7, #1
	str	w7, [x0, #BLOCK_MET]
	ldr	w8, [x0, #BLOCK_BLOCKS]
	mov	x9, #GUEST_BLOCKS
4:	ldr	w10, [x9, #BLOCK_MET]
	subs	w10, w10, w7
	b.pl	5f
	str	wzr, [x5, #GUEST_MMIO_YIELD]
	b	4b
5:	add	x9, x9, #4096
	subs	w8, w8, #1
	b.ne	4b
6:
	.endm

	.macro count again
	ldr	w8, [x0, #BLOCK_PROGRESS]
	add	w8, w8, #1
	str	w8, [x0, #BLOCK_PROGRESS]
	subs	w4, w4, #1
	b.ne	\again
	meet
	str	wzr, [x5]
	ldr	w4, [x0, #BLOCK_BATCH]
	b	\again
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
7:	mov	w7, #GUEST_STEPS
8:	add	w8, w8, w7
	subs	w7, w7, #1
	b.ne	8b
	count	7b

	.ltorg
migsim_code_end:

	.section .note.GNU-stack, "", @progbits
