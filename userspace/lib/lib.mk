# SPDX-License-Identifier: GPL-2.0-only
# liburing: used if this compiler can link with it, static if need be. A cross
# compiler mostly cannot; batches then read with pread.

hash := \#
find_uring = printf '%s\n' '$(hash)include <liburing.h>' \
	'int main(void) { return io_uring_queue_init(1, 0, 0); }' | \
	$(CC) $(if $(STATIC),-static) $(CFLAGS) -x c - $(LDFLAGS) -luring \
		-o /dev/null 2>/dev/null && echo 1 || echo 0
URING ?= $(shell $(find_uring))		## userspace: 0 builds without liburing
override URING := $(strip $(URING))

ifeq ($(URING),1)
URING_CFLAGS := -DKVMSTATS_URING
# as needed: the other programs have no use for it
URING_LIBS := -Wl,--push-state,--as-needed -luring -Wl,--pop-state
endif

# Machines without 64-bit atomics (32-bit MIPS and PowerPC) have them from a library.
find_atomic = printf '%s\n' 'unsigned long long v;' \
	'int main(void) { return __atomic_fetch_add(&v, 1, __ATOMIC_RELAXED); }' | \
	$(CC) $(CFLAGS) -x c - $(LDFLAGS) -o /dev/null 2>/dev/null || echo -latomic
ATOMIC_LIBS := $(shell $(find_atomic))

# An object is not kept from before the package came or went.
URING_STAMP := $(O)/.uring-$(URING)
$(URING_STAMP):
	@mkdir -p $(@D)
	@rm -f $(O)/.uring-*
	$(if $(filter 0,$(URING)),@echo "  NOTE	without liburing (liburing-dev): each sample is a read of its own")
	@touch $@

$(addsuffix lib/uring.o,$(O)/ $(O)/asan/ $(O)/fuzz/ $(O)/tsan/): $(URING_STAMP)

# Pages go by their section: kvmstat.1 into man1.
man_pages := $(wildcard man/*.[1-8])
man_dir = $(DESTDIR)$(PREFIX)/share/man/man$(patsubst .%,%,$(suffix $(1)))
lib_dirs = $(addprefix $(DESTDIR),$(PREFIX)/include $(LIBDIR)/pkgconfig) \
	   $(sort $(foreach page,$(man_pages),$(call man_dir,$(page))))

.PHONY: install-library
install-library: $(O)/lib/libkvmstats.a $(if $(STATIC),,$(O)/lib/$(SONAME))
	install -d $(lib_dirs)
	install -m 644 include/kvmstats.h $(DESTDIR)$(PREFIX)/include/
	install -m 644 $(O)/lib/libkvmstats.a $(DESTDIR)$(LIBDIR)/
	$(if $(STATIC),,install -m 755 $(O)/lib/$(SONAME) $(DESTDIR)$(LIBDIR)/)
	$(if $(STATIC),,ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libkvmstats.so)
	$(if $(DESTDIR)$(STATIC),,-ldconfig)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
		-e 's|@VERSION@|$(VERSION)|' \
		-e 's|@LIBS_PRIVATE@|-pthread$(if $(URING_LIBS), -luring)$(if $(ATOMIC_LIBS), $(ATOMIC_LIBS))|' \
		lib/libkvmstats.pc.in \
		>$(DESTDIR)$(LIBDIR)/pkgconfig/libkvmstats.pc
	$(foreach page,$(man_pages),install -m 644 $(page) $(call man_dir,$(page)) &&) :
