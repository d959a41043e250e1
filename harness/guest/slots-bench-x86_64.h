/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * slots-bench's guest on x86, in protected mode without paging: it adds to a word
 * of each page of its memory, and looks at the TSC before each. In edi it has the
 * control block, in esi its memory, in ebp how many pages that is.
 */
asm(".pushsection .rodata\n.code32\n.globl guest, guest_end\n"
"guest:	mov %ebp, %ecx\n"
"	mov %esi, %ebx\n"
"2:	rdtsc\n"
"	mov %eax, %edx\n"
"	sub (%edi), %eax\n"
"	mov %edx, (%edi)\n"
"	cmp 4(%edi), %eax\n"
"	jbe 3f\n"
"	mov %eax, 4(%edi)\n"
"3:	incl (%ebx)\n"
"	add $4096, %ebx\n"
"	dec %ecx\n"
"	jnz 2b\n"
"	incl 8(%edi)\n"
"	jmp guest\n"
"guest_end:\n.code64\n.popsection\n");
extern const char guest[], guest_end[];
