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
"	mov %eax, 24(%edi)\n"
"	mov %edx, 28(%edi)\n"
"	sub (%edi), %eax\n"
"	sbb 4(%edi), %edx\n"
"	cmp 12(%edi), %edx\n"
"	jb 4f\n"
"	ja 3f\n"
"	cmp 8(%edi), %eax\n"
"	jbe 4f\n"
"3:	mov %eax, 8(%edi)\n"
"	mov %edx, 12(%edi)\n"
"4:	mov 24(%edi), %eax\n"
"	mov %eax, (%edi)\n"
"	mov 28(%edi), %eax\n"
"	mov %eax, 4(%edi)\n"
"	incl (%ebx)\n"
"	add $4096, %ebx\n"
"	dec %ecx\n"
"	jnz 2b\n"
"	incl 16(%edi)\n"
"	jmp guest\n"
"guest_end:\n.code64\n.popsection\n");
extern const char guest[], guest_end[];
