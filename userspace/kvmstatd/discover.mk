# SPDX-License-Identifier: GPL-2.0-only
# kvmstatd-discover, built where this compiler can link with libcap; it talks to
# systemd where there is libsystemd.

discover_src := $(wildcard kvmstatd/discover*.c)
discover_obj := $(call objs,$(discover_src))

# links HEADER LIBRARY
links = $(shell printf '%s\n' '$(hash)include <$(1)>' 'int main(void) { return 0; }' | \
	$(CC) $(if $(STATIC),-static) -x c - $(LDFLAGS) $(2) -o /dev/null 2>/dev/null && echo 1)

ifeq ($(call links,sys/capability.h,-lcap),1)
discover := $(O)/kvmstatd/kvmstatd-discover
DISCOVER_LIBS := -lcap
ifeq ($(call links,systemd/sd-daemon.h,-lsystemd),1)
DISCOVER_CFLAGS := -DHAVE_SYSTEMD
DISCOVER_LIBS += -lsystemd
endif
endif

$(call objs,$(discover_src)): ALL_CFLAGS += $(DISCOVER_CFLAGS)

$(O)/kvmstatd/kvmstatd-discover: $(discover_obj) $(O)/lib/libkvmstats.a
	$(call say,LINK,$@)
	$(Q)$(CC) $^ $(ALL_LDFLAGS) $(DISCOVER_LIBS) -o $@

all: $(discover)

UNITDIR ?= $(PREFIX)/lib/systemd/system
BINDIR ?= $(PREFIX)/bin
unit_dir := kvmstatd/units
example_dir := $(PREFIX)/share/kvmstatd

.PHONY: install-discover install-units
install: install-discover install-units

install-discover: all
	install -d $(DESTDIR)$(BINDIR)
	$(if $(discover),install -m 755 $(discover) $(DESTDIR)$(BINDIR)/)

install-units:			## systemd units, examples, dashboard only
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(PREFIX)/lib/sysusers.d \
		$(DESTDIR)$(example_dir)
	install -m 644 $(unit_dir)/*.socket $(DESTDIR)$(UNITDIR)/
	for name in kvmstatd.service kvmstatd-discover.service; do \
		sed 's|@BINDIR@|$(BINDIR)|' $(unit_dir)/$$name.in \
			>$(DESTDIR)$(UNITDIR)/$$name || exit 1; \
	done
	sed 's|@BINDIR@|$(BINDIR)|' $(unit_dir)/kvmstatd-libvirt.conf.in \
		>$(DESTDIR)$(example_dir)/kvmstatd-libvirt.conf
	install -m 644 $(unit_dir)/kvmstatd.sysusers \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d/kvmstatd.conf
	sed 's|@LIBDIR@|$(LIBDIR)|' $(unit_dir)/libvirt-domain.xml.in \
		>$(DESTDIR)$(example_dir)/libvirt-domain.xml
	install -m 644 $(unit_dir)/apparmor-libvirt-qemu $(wildcard kvmstatd/dashboard/*.json) \
		$(DESTDIR)$(example_dir)/
