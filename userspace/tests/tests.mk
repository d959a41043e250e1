# SPDX-License-Identifier: GPL-2.0-only
# make check: units under address and undefined-behaviour sanitizers, fuzzers,
# the command as a black box, and a real VM where there is a /dev/kvm.

FUZZ_CC ?= clang		## userspace: compiler with -fsanitize=fuzzer
FUZZ_SECONDS ?= 5		## userspace: time for each fuzzer

# The sanitizers look at what _FORTIFY_SOURCE would hide from them.
SANITIZE := -U_FORTIFY_SOURCE -fsanitize=address,undefined -fno-sanitize-recover=all
migsim_tests := $(wildcard tests/test_migsim*.c)
unit_src := $(if $(migsim_arch),$(wildcard tests/test_*.c),\
	    $(filter-out $(migsim_tests),$(wildcard tests/test_*.c)))
unit_tests := $(patsubst tests/%.c,$(O)/tests/%,$(unit_src))
override FUZZ_CC := $(strip $(FUZZ_CC))
fuzz_tests := $(if $(shell command -v $(FUZZ_CC)),\
	      $(addprefix $(O)/tests/fuzz-,image published message text elf cmdline))
asan_obj := $(patsubst %.c,$(O)/asan/%.o,$(lib_src) \
	    $(addprefix tests/,image.c line.c held_file.c block_trace.c))
fuzz_obj := $(patsubst %.c,$(O)/fuzz/%.o,$(lib_src))
tsan_obj := $(patsubst %.c,$(O)/tsan/%.o,$(lib_src) tests/image.c \
	    tests/test_source.c)
migsim_asan := $(patsubst %.c,$(O)/asan/%.o,common/json.c \
	       $(filter-out migsim/main.c %.S,$(migsim_src))) \
	       $(if $(migsim_arch),$(O)/migsim/guest-s.o)
# without sanitizers, for valgrind
memcheck_tests := $(patsubst %,$(O)/memcheck/test_%,uapi value source names \
		  transport sender batch cpu_stats cpu_threads publisher published \
		  block block_load)
test_headers := $(wildcard tests/*.h lib/*.h include/*.h migsim/*.h)

check: all $(unit_tests) $(memcheck_tests) $(O)/bench/bench-read $(O)/bench/bench-acct $(O)/tests/threads $(O)/tests/block-threads $(fuzz_tests) $(O)/tests/make_seeds	## run the tests
	$(Q)FUZZ_SECONDS=$(strip $(FUZZ_SECONDS)) CC='$(CC)' tests/run-tests $(O)

# Reports end the agent with a status that the suite does not expect.
check-tsan:	## kvmstatd as a whole under the thread sanitizer
	$(Q)$(MAKE) O=$(O)/tsan-all CFLAGS='-O1 -g -fsanitize=thread' \
		LDFLAGS=-fsanitize=thread all agent-vmms
	$(Q)tests/run-tests $(O)/tsan-all agent-tsan

$(O)/asan/%.o: %.c $(test_headers)
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -O1 $(SANITIZE) -c $< -o $@

# Missing locks are seen for certain only by the thread sanitizer.
$(O)/tsan/%.o: %.c $(test_headers)
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -U_FORTIFY_SOURCE -O1 -fsanitize=thread -c $< -o $@

$(O)/tests/threads: $(tsan_obj)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) -fsanitize=thread $^ $(ALL_LDFLAGS) -lcmocka -o $@

$(O)/tests/block-threads: $(patsubst %.c,$(O)/tsan/%.o,$(lib_src) tests/image.c \
	tests/test_block_load.c)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) -fsanitize=thread $^ $(ALL_LDFLAGS) -lcmocka -o $@

$(patsubst tests/%.c,$(O)/tests/%,$(migsim_tests)): $(migsim_asan)
$(O)/tests/test_vm: $(addprefix $(O)/asan/kvmstat/,vm.o vm_vcpus.o)

$(O)/tests/%: $(O)/asan/tests/%.o $(asan_obj)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(SANITIZE) $^ $(ALL_LDFLAGS) -lcmocka -o $@

$(O)/memcheck/%: $(O)/tests/%.o \
	$(patsubst %,$(O)/tests/%.o,image line held_file block_trace) \
	$(O)/lib/libkvmstats.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $^ $(ALL_LDFLAGS) -lcmocka -o $@

$(O)/fuzz/%.o: %.c $(test_headers)
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(FUZZ_CC) $(ALL_CFLAGS) -O1 $(SANITIZE) -fsanitize=fuzzer-no-link \
		-c $< -o $@

$(O)/tests/fuzz-%: $(O)/fuzz/tests/fuzz_%.o $(fuzz_obj)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(FUZZ_CC) $(SANITIZE) -fsanitize=fuzzer $^ $(ALL_LDFLAGS) -o $@

# what the scripts use, and what runs in the booted kernel
check preload-vmm: $(O)/tests/refuse
preload-vmm: $(if $(STATIC),,$(addprefix $(O)/tests/test_,finder finder_kvm finder_vcpus \
	     cpu_host))
$(O)/tests/refuse: $(O)/tests/refuse.o
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@

.SECONDARY:
