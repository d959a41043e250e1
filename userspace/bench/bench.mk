# SPDX-License-Identifier: GPL-2.0-only

bench_obj := $(patsubst %.c,$(O)/%.o,$(filter-out bench/%acct.c,$(wildcard bench/*.c)))

# Its own malloc cannot be linked with a static C library.
ifeq ($(STATIC),)
all: $(O)/bench/bench-read
endif

$(O)/bench/bench-read: $(bench_obj) $(O)/lib/libkvmstats.a
	$(call say,LINK,$@)
	$(Q)$(CC) $^ $(ALL_LDFLAGS) -o $@

# With the shared library, as VMMs have it; QEMU_ACCT is what scripts/qemu-acct
# has built.
$(O)/bench/bench-acct: $(O)/bench/acct.o $(QEMU_ACCT) $(O)/lib/$(SONAME)
	$(call say,LINK,$@)
	$(Q)$(CC) $^ -Wl,-rpath,$(O)/lib $(ALL_LDFLAGS) \
		$(if $(QEMU_ACCT),$$(pkg-config --libs glib-2.0) -lm) -o $@

.PHONY: bench-read bench-acct
bench-read: $(O)/bench/bench-read	## cost of samples and batches on this machine's /dev/kvm
	$(Q)$<
bench-acct: $(O)/bench/bench-acct	## userspace: cost of accounting for a request
	$(Q)$<
