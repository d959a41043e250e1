# SPDX-License-Identifier: GPL-2.0-only
# All verbs of the project; "make help" lists them. Each one does by itself
# what it depends on, and can be repeated.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
SHELL := /bin/bash

# Where the scripts look: they have the same defaults.
KERNEL_SOURCE ?= ## kernel tree or tarball to use; empty: cache, Debian, kernel.org
KVMSTATS_CACHE ?= $(HOME)/.cache/kvmstats ## downloads, compiler cache, kernels
JOBS ?= $(shell nproc) ## parallel jobs of a kernel build
SERIES ?= linux-5.10 ## or qemu-7.2: the series of tree, refresh, series
TREE ?= ## tree that refresh reads; empty: build/SERIES
REV ?= HEAD ## last commit of the series in TREE
FORCE ?= 0 ## 1: tree and refresh may overwrite unsaved work
EVERY ?= 0 ## 1: check-builds builds at every patch, not only the last
FROM ?= 1 ## EVERY=1: first patch that check-builds builds
TO ?= ## EVERY=1: last one; empty: the series' last
VARIANTS ?= 0 ## 1: check-builds builds harness/config/variants, too
BOOT ?= 0 ## EVERY=1: 1 boots x86_64 and arm64 at every patch, too
ALL ?= 0 ## 1: "make test" is "make test-all"
ARCHES ?= ## architectures of check-builds; empty means all seven
SERIES_VERSION ?= ## number in the subjects of "make series"
DRAFT ?= 0 ## 1: "make series" leaves the placeholder's name; not for sending

# The compilers of Debian's ccache, if it is there, for all that is not a kernel, too.
# The same file compiles to the same object in every clone.
export PATH := /usr/lib/ccache:$(PATH)
export CCACHE_DIR ?= $(strip $(KVMSTATS_CACHE))/ccache
export CCACHE_BASEDIR ?= $(CURDIR)
export CCACHE_NOHASHDIR ?= 1

all: userspace ## build our programs

# --- the series --------------------------------------------------------------

tree: ## compose build/linux-5.10: base and one commit per patch
	scripts/compose

refresh: ## write the commits of TREE back to patches/ and the new files
	scripts/refresh

series: ## write the mailable series, signed off by you, into build/series/
	scripts/series

CHECK_SERIES := 'check-series=scripts/check-series' \
	'check-series-qemu=SERIES=qemu-7.2 scripts/check-series'

check-series: ## prove that both series are sound (see CONTRIBUTING.md)
	scripts/run-parts $(CHECK_SERIES)

check-builds: ## KVM's objects on all architectures, with gcc and sparse
	scripts/run-parts 'check-builds=scripts/check-builds' \
		'stats-objects=scripts/check-stats-objects' \
		'debugfs-tables=scripts/check-debugfs-tables'

check-debian: ## the series on Debian's own source, its modules in Debian's own kernel
	scripts/run-parts 'check-debian=scripts/check-debian'

deb: ## Debian packages of userspace, into build/deb
	scripts/build-deb

check-deb: ## the packages in a fresh Debian under systemd: installed, upgraded, purged
	scripts/run-parts 'check-deb=packaging/tests/check-deb'

source: ## fetch and verify the kernel source
	scripts/fetch-source "$$(awk '$$1 == "version" { print $$2 }' \
		patches/linux-5.10/BASE)"

# --- building ----------------------------------------------------------------

kernel: ## build the kernel ARCH, CONFIG
	scripts/build-kernel "$(ARCH)" "$(CONFIG)"

qemu: ## build QEMU with the patches of patches/qemu-7.2, into build/qemu
	scripts/build-qemu

check-qemu: qemu ## its kvm-stats-export with kvmstatd and libvirt, on this machine's /dev/kvm
	scripts/packages need build check
	$(MAKE) -C userspace O="$(CURDIR)/build/userspace/host"
	$(MAKE) -C harness ARCH=x86_64 O="$(CURDIR)/build/harness/x86_64" \
		"$(CURDIR)/build/harness/x86_64/qemu-guest.bin"
	scripts/run-parts 'qemu-suites=userspace/tests/run-tests $(CURDIR)/build/userspace/host qemu \
		$(CURDIR)/build/qemu/qemu-system-x86_64 $(CURDIR)/build/harness/x86_64/qemu-guest.bin'

kernels: ## build all kernels that "make test" boots
	scripts/build-all

userspace: ## build our programs for this machine
	scripts/packages need build
	$(MAKE) -C userspace O="$(CURDIR)/build/userspace/host"

bench-agent: ## cost of a scrape by kvmstatd, beside debugfs and QMP, on this machine's /dev/kvm
	scripts/packages need build check
	$(MAKE) -C userspace O="$(CURDIR)/build/userspace/host" bench-agent

bench-read: ## cost of a sample and of a batch, on this machine's /dev/kvm
	scripts/packages need build check
	$(MAKE) -C userspace O="$(CURDIR)/build/userspace/host" bench-read

# --- checking ----------------------------------------------------------------

CHECK_PARTS := \
	'userspace=make -C userspace O=$(CURDIR)/build/userspace/host check' \
	'shell=scripts/check-shell' \
	'tooling=scripts/selftest' \
	'series=scripts/check-series --quick' \
	'series-qemu=SERIES=qemu-7.2 scripts/check-series --quick' \
	'style=scripts/check-style' \
	'docs=scripts/check-docs' \
	'abi=scripts/result run "docs: abi.md agrees with the patches" scripts/check-abi'

check: ## everything that needs no kernel, in twelve minutes
	scripts/packages need build check
	scripts/run-parts $(CHECK_PARTS)

# What "make test-all" does besides.
EVERY_PATCH := $(if $(filter 1,$(ALL)),EVERY=1 BOOT=1 VARIANTS=1)
LONG_PARTS := $(if $(filter 1,$(ALL)),\
	'check-debian=scripts/check-debian' \
	'check-deb=packaging/tests/check-deb' \
	'qemu-every=scripts/build-qemu --every' \
	'qemu-without-library=scripts/build-qemu --without-library' \
	'debug-selftest=harness/selftest-debug' \
	'agent-tsan=make -C userspace O=$(CURDIR)/build/userspace/host check-tsan' \
	'coverage=harness/coverage')

test: ## check, the series, all builds, all architectures' boots
	scripts/packages need tree fetch build kernel kernel-x86_64 \
		kernel-arm64 kernel-i386 cross check series docs boot boot-mips \
		boot-ppc64le boot-s390x intel
	scripts/run-parts 'tree=scripts/compose' \
		'&checks=make checks' \
		'boot-tests=AFTER_KERNELS="$(EVERY_PATCH) make check-builds" make boot-tests' \
		$(LONG_PARTS)

# What "make test" does beside the kernels.
checks:
	scripts/run-parts 'check=make check' \
		$(CHECK_SERIES) \
		'htmldocs=scripts/check-htmldocs' \
		'examples=scripts/check-examples'

test-all: ## test, and what takes hours: every patch, stress, debug kernels
	$(MAKE) test ALL=1

run: ## the demonstration: from nothing to a live table out of a booted kernel
	scripts/packages need tree fetch build kernel kernel-x86_64 boot
	$(MAKE) run-demo

packages: ## install (as root) or name all packages that are missing
	scripts/packages need $$(scripts/packages sets | cut -d' ' -f1)

clean: ## remove objects and logs; trees and the cache stay
	rm -rf build/kernel build/base/kernel build/stable/kernel \
		build/every/kernel build/mainline/kernel build/userspace build/boot build/log \
		build/series build/check build/boot-tests build/results.tsv*

distclean: ## remove build/, unless the tree there holds unsaved work
	scripts/compose --is-saved
	rm -rf build

help: ## this list
	@awk -f scripts/help.awk $(MAKEFILE_LIST)

.PHONY: all checks tree refresh series check-series check-builds check-debian check-deb deb source kernel qemu check-qemu \
	kernels userspace bench-agent bench-read check test test-all run packages clean distclean help

-include harness/harness.mk

boot boot-tests harness-selftest run-demo run-migration bench-quota bench-slots bench-qemu-slots bench-qemu-block bench-agent-vcpus bench-stats lab: | boot-packages
boot-packages:
	@scripts/packages need build boot \
		$(if $(filter host,$(ROOT))$(filter boot-tests,$(MAKECMDGOALS)),check) \
		$(if $(filter bochs,$(MACHINE))$(filter boot-tests,$(MAKECMDGOALS)),intel) \
		$(if $(filter mips-te%,$(ARCH))$(filter boot-tests,$(MAKECMDGOALS)),boot-mips) \
		$(if $(filter ppc64le,$(ARCH))$(filter boot-tests,$(MAKECMDGOALS)),boot-ppc64le) \
		$(if $(filter s390x,$(ARCH))$(filter boot-tests,$(MAKECMDGOALS)),boot-s390x) \
		$(if $(filter lab,$(MAKECMDGOALS)),lab)

.PHONY: boot-packages

# The text behind "##" leaves a blank at the end of a default.
DOCUMENTED := $(shell sed -n 's/^\([A-Z_]*\) ?= .*\#\#.*/\1/p' $(MAKEFILE_LIST))
$(foreach name,$(DOCUMENTED),$(if $(filter file,$(origin $(name))),\
	$(eval $(name) := $(strip $($(name))))))
