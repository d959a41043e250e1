# SPDX-License-Identifier: GPL-2.0-only
# nbdkit-kvmstats-filter, built where there is nbdkit-filter.h. nbdkit loads
# filters of its own version only, so that it is built for the one that is here.
# Included behind discover.mk, which defines "links".

ifeq ($(if $(STATIC),,$(call links,nbdkit-filter.h,)),1)
nbdkit_filter := $(O)/nbdkit/nbdkit-kvmstats-filter.so
endif

$(if $(nbdkit_filter)$(STATIC),,$(info   NOTE	without nbdkit-filter.h (nbdkit-plugin-dev): no filter for nbdkit))

NBDKIT_FILTERDIR ?= $(LIBDIR)/nbdkit/filters

$(O)/nbdkit/nbdkit-kvmstats-filter.so: $(O)/nbdkit/kvmstats.o $(O)/lib/libkvmstats.a
	$(call say,LINK,$@)
	$(Q)$(CC) -shared -Wl,--exclude-libs,ALL $^ $(ALL_LDFLAGS) -o $@

all: $(nbdkit_filter)

.PHONY: install-nbdkit
install: $(if $(nbdkit_filter),install-nbdkit)
install-nbdkit: all
	install -d $(DESTDIR)$(NBDKIT_FILTERDIR)
	install -m 644 $(nbdkit_filter) $(DESTDIR)$(NBDKIT_FILTERDIR)/
