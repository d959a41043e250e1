// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Exact decimal text of value * base^exponent. A double would lose the low
 * bits of every counter above 2^53.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "internal.h"

#define MAX_EXPONENT	64
/* 20 digits of a u64, and 64 decimal places on either side */
#define DIGITS		(20 + 2 * MAX_EXPONENT)

/* digit[0] is the lowest; the value is digits * 10^-places */
struct decimal {
	unsigned char digit[DIGITS];
	unsigned int count;
	unsigned int places;
};

static void decimal_set(struct decimal *number, uint64_t value)
{
	memset(number, 0, sizeof(*number));
	do {
		number->digit[number->count++] = value % 10;
		value /= 10;
	} while (value);
}

static void decimal_multiply(struct decimal *number, unsigned int factor)
{
	unsigned int carry = 0;

	for (unsigned int i = 0; i < number->count; i++) {
		carry += number->digit[i] * factor;
		number->digit[i] = carry % 10;
		carry /= 10;
	}
	/* factors are at most 10: one more digit holds the carry */
	if (carry)
		number->digit[number->count++] = carry;
}

/* 2^-n is 5^n * 10^-n: negative powers of two end in decimal, too. */
static void decimal_scale(struct decimal *number, unsigned int base,
			  int exponent)
{
	for (int i = 0; i < exponent; i++)
		decimal_multiply(number, base);
	for (int i = 0; i < -exponent; i++) {
		if (base == 2)
			decimal_multiply(number, 5);
		number->places++;
	}
	while (number->count <= number->places)
		number->digit[number->count++] = 0;
}

static void trim_zeros(struct decimal *number)
{
	while (number->count > number->places + 1 &&
	       !number->digit[number->count - 1])
		number->count--;
}

static int decimal_print(const struct decimal *number, char *text,
			 size_t size_bytes)
{
	size_t length = number->count + (number->places ? 1 : 0);
	char *out = text;

	if (length >= size_bytes)
		return -ENOSPC;
	for (unsigned int i = number->count; i-- > 0;) {
		*out++ = '0' + number->digit[i];
		if (i && i == number->places)
			*out++ = '.';
	}
	*out = 0;
	return length;
}

int kvmstats_desc_format(const struct kvmstats_desc *desc, uint64_t raw,
			 char *text, size_t size_bytes)
{
	unsigned int base = kvmstats_desc_base(desc);
	struct decimal number;

	if (!base || desc->exponent > MAX_EXPONENT ||
	    desc->exponent < -MAX_EXPONENT)
		return -ERANGE;
	decimal_set(&number, raw);
	decimal_scale(&number, base, desc->exponent);
	trim_zeros(&number);
	return decimal_print(&number, text, size_bytes);
}

double kvmstats_desc_to_unit(const struct kvmstats_desc *desc, double raw)
{
	unsigned int base = kvmstats_desc_base(desc);
	int exponent = desc->exponent;
	double scale = 1;

	if (!base)
		return NAN;
	/* one division by an exact power rounds once; see -9 */
	for (int i = 0; i < exponent || i < -exponent; i++)
		scale *= base;
	return exponent < 0 ? raw / scale : raw * scale;
}
