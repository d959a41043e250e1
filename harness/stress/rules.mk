# SPDX-License-Identifier: GPL-2.0-only
# The stress programs; included by harness/Makefile.
STRESS_GUEST_x86_64 := guest-x86_64.c
STRESS_GUEST_arm64 := guest-aarch64.c
STRESS_SHARED := common.c kvm.c sock.c stats.c uring.c $(STRESS_GUEST_$(ARCH))
STRESS_fuzz := $(notdir $(wildcard stress/fuzz*.c))
STRESS_lifetimes := $(notdir $(wildcard stress/lifetimes*.c))
STRESS_inject := inject.c
STRESS_PROGRAMS := $(if $(STRESS_GUEST_$(ARCH)),\
	$(addprefix $(O)/stress-,fuzz inject lifetimes))

$(STRESS_PROGRAMS): $(O)/stress-%: $(wildcard stress/*) Makefile | $(O)
	$(GUEST_CC) $(GUEST_CFLAGS) -pthread -o $@ \
		$(addprefix stress/,$(STRESS_SHARED) $(STRESS_$*))
