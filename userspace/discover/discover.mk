# SPDX-License-Identifier: GPL-2.0-only
# kvmstatd-discover, built where this compiler can link with libcap; it talks to
# systemd where there is libsystemd.

discover_src := $(wildcard discover/*.c) common/log.c
discover_obj := $(call objs,$(discover_src))

# links HEADER LIBRARY
links = $(shell printf '%s\n' '$(hash)include <$(1)>' 'int main(void) { return 0; }' | \
	$(CC) $(if $(STATIC),-static) -x c - $(LDFLAGS) $(2) -o /dev/null 2>/dev/null && echo 1)

ifeq ($(call links,sys/capability.h,-lcap),1)
discover := $(O)/discover/kvmstatd-discover
DISCOVER_LIBS := -lcap
ifeq ($(call links,systemd/sd-daemon.h,-lsystemd),1)
DISCOVER_CFLAGS := -DHAVE_SYSTEMD
DISCOVER_LIBS += -lsystemd
endif
endif

$(call objs,$(discover_src)): ALL_CFLAGS += $(DISCOVER_CFLAGS)

$(O)/discover/kvmstatd-discover: $(discover_obj) $(O)/lib/libkvmstats.a
	$(call say,LINK,$@)
	$(Q)$(CC) $^ $(ALL_LDFLAGS) $(DISCOVER_LIBS) -o $@

all: $(discover)

UNITDIR ?= $(PREFIX)/lib/systemd/system
BINDIR ?= $(PREFIX)/bin
SYSCONFDIR ?= /etc
unit_dir := kvmstatd/units
example_dir := $(PREFIX)/share/kvmstatd

# $(call install_unit,NAME)
install_unit = sed -e 's|@BINDIR@|$(BINDIR)|' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|' \
	$(unit_dir)/$(1).in >$(DESTDIR)$(UNITDIR)/$(1)

.PHONY: install-discover
install: $(if $(discover),install-discover)
ifeq ($(discover),)
$(if $(STATIC),,$(info kvmstatd-discover is not built: it needs the development files of libcap))
endif

install-discover: all
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(PREFIX)/lib/sysusers.d
	install -m 755 $(discover) $(DESTDIR)$(BINDIR)/
	$(call install_unit,kvmstatd-discover.service)
	install -m 644 $(unit_dir)/kvmstatd.sysusers \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d/kvmstatd.conf
