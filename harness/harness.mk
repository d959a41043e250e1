# SPDX-License-Identifier: GPL-2.0-only
# The boot harness's verbs; see docs/testing.md.
ARCH ?= x86_64 ## architecture to boot: those of harness/arch
CONFIG ?= plain ## kernel to boot: plain, debug, kcsan, gcov, modules, base-plain
TESTS ?= ## names or globs of tests; empty means every test of the list
MACHINE ?= ## x86: bochs, an emulated Intel; ppc64le: pr, hv-nested, powernv; empty: AMD, pr
NPT ?= ## x86: 0 or 1 sets kvm_amd.npt; empty leaves the default
ACCEL ?= tcg ## tcg (full emulation), tcg-single (CPUs take turns) or kvm (needs a working /dev/kvm)
ROOT ?= ## host boots with the machine's own root, read-only over 9p
VARIANT ?= ## name added to the log directory build/boot/ARCH-CONFIG
APPEND ?= ## more kernel arguments, a+b for two

boot: ## boot one kernel and run tests in it
	harness/prepare "$(ARCH)" "$(CONFIG)"
	MACHINE="$(MACHINE)" NPT="$(NPT)" ACCEL="$(ACCEL)" ROOT="$(ROOT)" \
		VARIANT="$(VARIANT)" APPEND="$(APPEND)" \
		harness/boot "$(ARCH)" "$(CONFIG)" $(TESTS)

boot-tests: ## every boot of "make test", results through scripts/result
	harness/boot-tests

harness-selftest: ## does the harness call bad boots bad?
	harness/prepare x86_64 base-plain
	harness/selftest

coverage: ## lines of the series that no test reaches, by gcov; half an hour
	harness/coverage

run-demo: ## ten seconds of live statistics from inside the booted kernel
	NO_COMPAT=1 harness/prepare x86_64 plain
	harness/run-demo

run-migration: ## a migration between two QEMUs in the booted kernel, under four policies
	harness/prepare x86_64 plain
	scripts/build-qemu
	harness/run-migration

bench-quota: ## what dirty quota costs a write fault, in instructions
	for arch in x86_64 arm64; do for config in base-plain plain; do \
		harness/prepare $$arch $$config || exit 1; done; done
	harness/bench-quota

bench-stats: ## what statistics cost to read and to count, in instructions
	for config in base-plain plain; do \
		harness/prepare x86_64 $$config || exit 1; done
	scripts/build-kernel x86_64 mainline-plain
	harness/bench-stats

bench-slots: ## what a change of memory slots costs, by a list and without
	harness/prepare x86_64 plain
	harness/bench-slots

bench-qemu-slots: ## time that QEMU spends on memory slots while a VM boots, three ways
	harness/prepare x86_64 plain
	scripts/build-qemu --bench
	harness/bench-qemu-slots

bench-qemu-block: qemu ## what block=on costs a request, and a look at a disk, in instructions
	harness/prepare x86_64 plain
	harness/bench-qemu-block

bench-agent-vcpus: ## kvmstatd at 10,000 vCPUs, by one descriptor a vCPU and one a VM; 8 GiB
	harness/prepare x86_64 plain
	harness/bench-agent-vcpus

lab: qemu ## migration policies compared, into docs/dirty-quota.md; an hour
	harness/prepare x86_64 plain
	harness/run-lab

.PHONY: lab boot boot-tests harness-selftest run-demo run-migration bench-quota bench-slots \
	bench-qemu-slots bench-qemu-block bench-agent-vcpus bench-stats
