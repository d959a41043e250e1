/* SPDX-License-Identifier: GPL-2.0-only */
/* The guest's code, of guest-*.S; what each does says enum work. */
#ifndef DEMO_GUEST_CODE_H
#define DEMO_GUEST_CODE_H

extern const unsigned char guest_code[], guest_code_end[];
extern const unsigned char guest_halt[], guest_tick[], guest_io[],
			   guest_memory[], guest_compute[];

#endif /* DEMO_GUEST_CODE_H */
