/* SPDX-License-Identifier: GPL-2.0-only */
/* Text of numbers and labels, as the exposition formats want it. */
#ifndef KVMSTATD_EXPOSITION_H
#define KVMSTATD_EXPOSITION_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define U64_TEXT_SIZE	20	/* digits, no NUL */
#define NANO_TEXT_SIZE	21	/* and a point */
#define LE_TEXT_SIZE	32

/* Decimal digits of @value at @out, no NUL; returns the end. */
char *put_u64(char *out, uint64_t value);
/* @value thousand-millionths, exactly, without zeros at the end. */
char *put_nano(char *out, uint64_t value);
/* A bucket's bound as Go prints a float64: what Prometheus stores. */
void le_text(char text[LE_TEXT_SIZE], double bound);

/* Backslash, quote and line feed are what a label value cannot hold. */
void escape_label(FILE *out, const char *text);
/* In HELP a quote is plain. */
void escape_help(FILE *out, const char *text);
/* status.c */
void escape_html(FILE *out, const char *text);

#endif /* KVMSTATD_EXPOSITION_H */
