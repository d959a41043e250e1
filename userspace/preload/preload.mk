# SPDX-License-Identifier: GPL-2.0-only
# What kvmstat run loads into a VMM. A static build has nothing to load.

preload_so := $(if $(STATIC),,$(O)/preload/libkvmstats-preload.so)
# It goes into programs of any C library: no function that only one has, as
# those that _FORTIFY_SOURCE puts in place of others.
preload_obj := $(patsubst %.c,$(O)/preload/obj/%.o,$(wildcard preload/*.c) \
	       $(addprefix lib/,wire.c process.c cmdline.c kvm_file.c) common/socket_send.c)

# nor the names that glibc has for files of 64 bits, where long has them
PRELOAD_CFLAGS := $(if $(shell $(CC) -dM -E -x c /dev/null | grep __LP64__),-U_FILE_OFFSET_BITS)

$(O)/preload/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0 \
		$(PRELOAD_CFLAGS) -c $< -o $@

all: $(preload_so)

$(O)/preload/libkvmstats-preload.so: $(preload_obj)
	$(call say,LINK,$@)
	$(Q)$(CC) -shared -Wl,-soname,$(@F) -Wl,--no-undefined -Wl,-z,now \
		-pthread $(LDFLAGS) $^ -ldl -o $@

# where it is found, if not beside the command
$(O)/kvmstat/run_vmm.o $(O)/asan/kvmstat/run_vmm.o: override ALL_CFLAGS += -DKVMSTATS_LIBDIR='"$(LIBDIR)"'

.PHONY: install-preload
install: install-preload
install-preload: all
	$(if $(STATIC),,install -d $(DESTDIR)$(LIBDIR))
	$(if $(STATIC),,install -m 755 $(preload_so) $(DESTDIR)$(LIBDIR)/)

# a VMM that puts the library to the test
.PHONY: preload-vmm
check: preload-vmm
preload-vmm: $(if $(STATIC),,$(O)/tests/preload_vmm)
$(O)/tests/preload_vmm: $(O)/tests/preload_vmm.o
	$(call say,LINK,$@)
	$(Q)$(CC) -pthread $(LDFLAGS) $^ -o $@
