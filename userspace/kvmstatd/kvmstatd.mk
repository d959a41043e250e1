# SPDX-License-Identifier: GPL-2.0-only
# kvmstatd, the agent. It is built where this compiler can link with
# libmicrohttpd and zlib; libsystemd is used if it is there, too. Not among
# static programs: a static libmicrohttpd wants GnuTLS, and what that wants.
# Included behind discover.mk, which defines "links".

agent_src := $(wildcard kvmstatd/*.c) common/log.c
agent_obj := $(call objs,$(agent_src))

# never static: libmicrohttpd.a drags in what Debian has no archives of
ifeq ($(if $(STATIC),,$(call links,microhttpd.h,-lmicrohttpd)$(call links,zlib.h,-lz)),11)
agent := $(O)/kvmstatd/kvmstatd
AGENT_LIBS := -lmicrohttpd -lz
ifeq ($(call links,systemd/sd-daemon.h,-lsystemd),1)
AGENT_CFLAGS := -DHAVE_SYSTEMD
AGENT_LIBS += -lsystemd
endif
# TLS and passwords
ifeq ($(call links,yaml.h,-lyaml)$(call links,gnutls/gnutls.h,-lgnutls)$(call links,crypt.h,-lcrypt),111)
AGENT_CFLAGS += -DHAVE_WEB
AGENT_LIBS += -lyaml -lgnutls -lcrypt
endif
else
$(if $(STATIC),,$(info kvmstatd is not built: it needs the development files of libmicrohttpd and zlib))
endif

$(agent_obj): ALL_CFLAGS += $(AGENT_CFLAGS)

$(O)/kvmstatd/kvmstatd: $(agent_obj) $(O)/lib/libkvmstats.a
	$(call say,LINK,$@)
	$(Q)$(CC) $^ $(ALL_LDFLAGS) $(AGENT_LIBS) -o $@

all: $(agent)

.PHONY: install-agent
install: $(if $(agent),install-agent)
# a configuration that is there stays
install-agent: all
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(example_dir) \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d $(DESTDIR)$(SYSCONFDIR)/kvmstats
	install -m 755 $(agent) $(DESTDIR)$(BINDIR)/
	$(call install_unit,kvmstatd.service)
	install -m 644 $(unit_dir)/*.socket $(DESTDIR)$(UNITDIR)/
	install -m 644 $(unit_dir)/kvmstatd.sysusers \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d/kvmstatd.conf
	[ -e $(DESTDIR)$(SYSCONFDIR)/kvmstats/kvmstatd.conf ] || \
		install -m 644 $(unit_dir)/kvmstatd.conf $(DESTDIR)$(SYSCONFDIR)/kvmstats/
	sed 's|@LIBDIR@|$(LIBDIR)|' $(unit_dir)/libvirt-domain.xml.in \
		>$(DESTDIR)$(example_dir)/libvirt-domain.xml
	install -m 644 $(unit_dir)/apparmor-libvirt-qemu $(wildcard kvmstatd/dashboard/*) \
		$(DESTDIR)$(example_dir)/

# Tests of what needs none of these libraries, under sanitizers.
agent_core := $(filter-out kvmstatd/main.c kvmstatd/http%.c kvmstatd/listen.c kvmstatd/web.c,$(agent_src)) \
	      tests/agent.c tests/agent_receiver.c
agent_tests := $(patsubst tests/%.c,$(O)/tests/%,$(wildcard tests/test_agent*.c))

$(agent_tests): $(patsubst %.c,$(O)/asan/%.o,$(agent_core))

.PHONY: agent-vmms
agent-vmms: $(O)/tests/agent_vmms
$(O)/tests/agent_vmms: $(O)/tests/agent_vmms.o $(O)/lib/libkvmstats.a
	$(call say,LINK,$@)
	$(Q)$(CC) $^ $(ALL_LDFLAGS) -o $@

# Missing locks are seen for certain only by the thread sanitizer.
agent_threads := $(patsubst %,$(O)/tests/agent-%-threads,receive helpers ends devices cpu)

$(agent_threads): $(O)/tests/agent-%-threads: $(O)/tsan/tests/test_agent_%.o \
	$(patsubst %.c,$(O)/tsan/%.o,$(lib_src) $(agent_core) tests/image.c \
	tests/line.c tests/held_file.c)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) -fsanitize=thread $^ $(ALL_LDFLAGS) -lcmocka -o $@

.PHONY: metrics-doc bench-agent
metrics-doc: $(agent)		## docs/metrics.md from kvmstatd's own tables
	$(Q)tests/agent-doc.sh $(O) >../docs/metrics.md

agent_memcheck := $(patsubst $(O)/tests/%,$(O)/memcheck/%,\
		  $(filter-out %_cpu,$(agent_tests)))
# the archive once more, behind the objects that are added here
$(agent_memcheck): ALL_LDFLAGS += $(O)/lib/libkvmstats.a $(URING_LIBS) $(AGENT_LIBS)
$(agent_memcheck): $(call objs,$(agent_core))

# What "make check" needs besides.
check: $(if $(agent),$(agent_memcheck) $(O)/tests/agent_vmms $(agent_threads) \
	$(if $(shell command -v $(or $(strip $(FUZZ_CC)),clang)),$(O)/tests/fuzz-registration))

$(O)/tests/fuzz-registration: $(patsubst %.c,$(O)/fuzz/%.o,$(filter-out tests/%,$(agent_core)))

bench-agent: all $(O)/tests/agent_vmms	## userspace: what a scrape costs
	$(Q)python3 tests/agent-bench.py $(O)
