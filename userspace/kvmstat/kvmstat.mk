# SPDX-License-Identifier: GPL-2.0-only
# ncurses for kvmstat top: used when this compiler can link it. Asked once for
# a build directory; make clean forgets the answer.

ncurses_answer := $(O)/kvmstat/ncurses.mk

$(ncurses_answer): kvmstat/kvmstat.mk
	@mkdir -p $(@D)
	$(Q)flags="$$(pkg-config --cflags ncursesw 2>/dev/null)"; \
	libs="$$(pkg-config $(if $(STATIC),--static) --libs ncursesw 2>/dev/null)"; \
	if echo 'int main(void) { return !newterm(0, stdout, stdin) + !cur_term; }' | \
		$(CC) -include curses.h -include term.h $$flags -xc - -o $@.test \
		$(if $(STATIC),-static) $(LDFLAGS) $${libs:=-lncursesw -ltinfo} 2>/dev/null; \
	then echo "NCURSES_FLAGS := -DHAVE_NCURSESW $$flags"; echo "NCURSES_LIBS := $$libs"; \
	else echo "# not here"; \
		echo "  NOTE	without ncurses (libncurses-dev): kvmstat top needs --batch or --once" >&2; \
	fi >$@; rm -f $@.test

ifneq ($(MAKECMDGOALS),clean)
include $(ncurses_answer)
endif

$(O)/kvmstat/%.o $(O)/asan/kvmstat/%.o: override ALL_CFLAGS += $(NCURSES_FLAGS)
$(O)/kvmstat/kvmstat $(O)/asan/kvmstat/kvmstat: override ALL_LDFLAGS += $(NCURSES_LIBS)

# The same program for the black-box tests, with sanitizers.
kvmstat_asan := $(patsubst %.c,$(O)/asan/%.o,$(kvmstat_src) $(lib_src))
$(O)/asan/kvmstat/kvmstat: $(kvmstat_asan)
	$(call say,LINK,$@)
	$(Q)$(CC) $(SANITIZE) $^ $(ALL_LDFLAGS) -o $@

check: $(O)/asan/kvmstat/kvmstat

install: install-completion install-plot
.PHONY: install-completion install-plot
# read by gnuplot, and no example to be copied: so it is not among the documents
install-plot:
	install -d $(DESTDIR)$(PREFIX)/share/kvmstat
	install -m 644 demo/plot-record.gp $(DESTDIR)$(PREFIX)/share/kvmstat/
install-completion:
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 644 completion/kvmstat \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/
