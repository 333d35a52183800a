# Parley's build. Everything it makes stands in build/.  `make help` lists the targets.
CC ?= cc
CFLAGS ?= -O2 -g
CLAUDE_VERSION ?= 2.1.332 2.1.330 2.1.197
PREFIX ?= /usr/local
LUADIR = $(PREFIX)/share/lua/5.4
LIBDIR = $(PREFIX)/lib/lua/5.4
TURNS ?= 20000
SEED ?= 20261122
FUZZ_SECONDS ?= 600
B ?= build
LLHTTP ?= /usr/share/llhttp
LUA ?= lua5.4
LUAC ?= luac5.4

PACKAGES = lua5.4 lua5.4-luv libuv libcjson uuid vterm libsodium libutf8proc libedit sqlite3
ifneq ($(filter-out help clean format uninstall,$(or $(MAKECMDGOALS),all)),)
MISSING := $(shell for p in $(PACKAGES); do pkg-config --exists $$p 2>/dev/null || printf '%s ' $$p; done)
MISSING += $(shell command -v $(LUAC) >/dev/null || printf '%s ' $(LUAC))
ARGPARSE := $(shell $(LUA) -e 'io.write(package.searchpath("argparse", package.path) or "")' 2>/dev/null)
MISSING += $(if $(ARGPARSE),,argparse)
ifneq ($(strip $(MISSING)),)
$(error Missing: $(MISSING)(run: sh scripts/bootstrap))
endif
# llhttp is a library of newer distributions; else Debian 12's node-llhttp, or LLHTTP=, has its C sources.
ifeq ($(shell pkg-config --exists libllhttp && echo yes),yes)
PACKAGES += libllhttp
else
LLHTTP_OBJECTS = $(patsubst $(LLHTTP)/%.c,$(B)/obj/llhttp-%.o,$(wildcard $(LLHTTP)/*.c))
ifeq ($(strip $(LLHTTP_OBJECTS)),)
$(error Missing library: libllhttp, or its sources in $(LLHTTP) (run: sh scripts/bootstrap))
endif
LLHTTP_CFLAGS = -isystem $(LLHTTP)/../include/llhttp -isystem $(LLHTTP)/../include
endif
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES)) $(LLHTTP_CFLAGS)
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES))
endif

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE $(WARNINGS) -fPIC -MMD -MP $(PKG_CFLAGS) $(SANITIZE) $(CFLAGS)

VERSION := $(shell sed -n 's/^version = "\(.*\)-.*"/\1/p' *.rockspec)
CORE_SOURCES := $(filter-out src/main.c,$(wildcard src/*.c))
CORE_OBJECTS := $(CORE_SOURCES:src/%.c=$(B)/obj/%.o) $(LLHTTP_OBJECTS)
# Stubs for the language server; nobody loads them.
STUBS = lua/parley/types.lua $(wildcard lua/parley/core/*.lua)
MODULES := $(sort $(filter-out $(STUBS),$(shell find lua -name '*.lua')))
COMPILED := $(MODULES:%.lua=$(B)/%.luac)
TEXTS := $(sort $(shell find scripts -name '*.lua') $(wildcard lua/parley/gateway/page/*))
# What the window's page needs from npm; without it the program is built all the same.
PAGE ?= build/page

.PHONY: all test browser check lint format smoke clients conformance soak simulate mutations fuzz bench demo picture slurm install uninstall clean asan valgrind help
all: $(B)/parley $(B)/lib/parley/core.so

$(B)/obj/%.o: src/%.c | $(B)/obj
	$(CC) $(ALL_CFLAGS) -c $< -o $@
$(B)/obj/llhttp-%.o: $(LLHTTP)/%.c | $(B)/obj
	$(CC) -std=c11 -w -fPIC $(LLHTTP_CFLAGS) $(SANITIZE) $(CFLAGS) -c $< -o $@
$(B)/obj/main.o: ALL_CFLAGS += -DPARLEY_VERSION='"$(VERSION)"'
$(B)/obj/main.o: $(wildcard *.rockspec)

# To parse the library would be most of a start. Releases of one version of Lua have the same virtual machine, says
# lua.org/versions.html: a liblua5.4 that is newer than this luac5.4 loads what it has made.
$(COMPILED): $(B)/%.luac: %.lua
	@mkdir -p $(@D)
	@$(LUAC) -o $@ $<
# With argparse goes the head of its source, where its licence stands.
$(B)/argparse.luac: $(ARGPARSE) | $(B)/obj
	@$(LUAC) -o $@ $<
$(B)/argparse.LICENSE: $(ARGPARSE) | $(B)/obj
	@sed -n '/^[^-]/q; s/^--* *//p' $< > $@

# Every Lua file goes into the host under its path: the library's compiled, and so argparse, for to parse that would be a
# quarter of a start; the commands as they stand, for they say in a comment what they do. The list is written each time,
# for a deleted file is newer than nothing; an unchanged one is thrown away.
$(B)/bundle.S: FORCE | $(B)/obj
	@sh src/bundle.sh $(TEXTS) $(foreach path,$(MODULES),$(path)=$(B)/$(path:.lua=.luac)) \
	  lua/argparse.lua=$(B)/argparse.luac lua/argparse.LICENSE=$(B)/argparse.LICENSE \
	  $$(sh src/page.sh $(PAGE)) > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
FORCE:
$(B)/obj/bundle.o: $(B)/bundle.S $(TEXTS) $(COMPILED) $(B)/argparse.luac $(B)/argparse.LICENSE
	$(CC) $(CFLAGS) -I. -c $< -o $@

$(B)/parley: $(B)/obj/main.o $(B)/obj/bundle.o $(CORE_OBJECTS)
	$(CC) $(CFLAGS) $(SANITIZE) $(LDFLAGS) -Wl,-E -o $@ $^ $(PKG_LIBS)
# Lua itself comes with the program that loads it.
$(B)/lib/parley/core.so: $(CORE_OBJECTS) | $(B)/lib/parley
	$(CC) $(CFLAGS) $(SANITIZE) $(LDFLAGS) -shared -o $@ $^ $(filter-out -llua%,$(PKG_LIBS))
$(B)/obj $(B)/lib/parley:
	@mkdir -p $@
-include $(wildcard $(B)/obj/*.d)

# DEMO=claude takes the real program and your own account.
demo: all
	@if [ "$(DEMO)" = claude ]; then $(B)/parley demo --claude; else $(B)/parley demo; fi

# What the specs are of. SPEC=spec/lua/base/task_spec.lua runs one file in busted itself, with its options in ARGS.
JOBS ?=
SPEC ?= spec/src spec/lua spec/scripts spec/conformance spec/readme_spec.lua spec/install_spec.lua

test: all
	@$(B)/parley $(if $(and $(filter 1,$(words $(SPEC))),$(filter %.lua,$(SPEC))),/usr/bin/busted $(ARGS),spec/run.lua $(JOBS)) $(SPEC)

# The window's page in headless Chromium; `sh scripts/bootstrap --browser` installs what that takes.
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
browser: all
	@test -x "$(CHROMIUM)" && test -d build/browser/node_modules/puppeteer-core || \
	  { echo 'make browser needs Chromium and puppeteer-core (run: sh scripts/bootstrap --browser)' >&2; exit 1; }
	@node spec/browser/window.mjs $(B)/parley build/browser $(CHROMIUM)

# The specs that try something in many rounds have a long form, too.
check: export PARLEY_LONG = 1
check: SPEC = $(shell grep -rlw 'helper[.]long' spec --include='*_spec.lua')
check: test

# The Lua files and the C files that are ours.
lint:
	luacheck --quiet lua scripts spec
	clang-format --dry-run -Werror src/*.[ch] spec/fuzz/*.[ch]
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --error-exitcode=1 --inline-suppr \
	  --suppress=missingIncludeSystem -Isrc src
	$(MAKE) B=$(B)/werror CFLAGS="-O1 -Werror" all

format:
	clang-format -i src/*.[ch] spec/fuzz/*.[ch]

# A leak at exit fails the run like any other fault. Here the processors have work: one file for each of them.
asan:
	ASAN_OPTIONS=detect_leaks=1 $(MAKE) B=$(B)/asan CFLAGS="-O1 -g" JOBS="-j $(shell nproc)" \
	  SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined" test

# libFuzzer under AddressSanitizer and UBSan, FUZZ_SECONDS for each harness; -j2 runs two at a time.
HARNESSES ?= $(basename $(notdir $(wildcard spec/fuzz/*.c)))
FUZZERS := $(HARNESSES:%=fuzz-%)
.PHONY: $(FUZZERS)
fuzz:
	+$(MAKE) B=$(B)/fuzz CC=clang CFLAGS="-O1 -g" \
	  SANITIZE="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined" $(FUZZERS)
$(FUZZERS): fuzz-%: $(B)/%
	@sh spec/fuzz/run.sh $< $(FUZZ_SECONDS) $(SEED)
$(HARNESSES:%=$(B)/%): $(B)/%: spec/fuzz/%.c $(CORE_OBJECTS)
	$(CC) $(ALL_CFLAGS) -Isrc -fsanitize=fuzzer $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(PKG_LIBS)
-include $(wildcard $(HARNESSES:%=$(B)/%.d))

# 200 starts and ends of the simulated claude. A child between fork and exec has nothing to free, and is not asked.
VALGRIND = valgrind --quiet --error-exitcode=1 --leak-check=full --child-silent-after-fork=yes --sim-hints=lax-ioctls
define SESSIONS
local parley, testing = require "parley", require "parley.testing"
local kit <close> = testing.kit {}
for _ = 1, 200 do
  local process <close> = parley.process(kit.options)
  process:start()
  testing.eventually(function() return process.screen:text() ~= "" end)
end
endef
export SESSIONS
valgrind: all
	$(VALGRIND) $(B)/parley -e "$$SESSIONS"

# The front page's picture, of a real run on the simulated claude.
picture: all
	$(B)/parley spec/picture.lua scripts/chat.svg

# The real program, offline; with your own account: RUN_CLAUDE_SMOKE=1. `make -j3 -Otarget smoke`: versions side by side.
smoke: $(if $(RUN_CLAUDE_SMOKE),smoke-account,$(CLAUDE_VERSION:%=smoke-%))
smoke-%: all
	CLAUDE_VERSION=$* BUILD=$(B) sh scripts/smoke.sh $(SMOKE)

# The official clients of the APIs that the gateway speaks, for its specs; without them those say that they are skipped.
clients: $(B)/clients/node_modules
$(B)/clients/node_modules: spec/clients/package.json
	@command -v npm >/dev/null || { echo 'clients: npm is missing (run: sh scripts/bootstrap)' >&2; exit 1; }
	@mkdir -p $(B)/clients && cp $< $(B)/clients/
	npm install --prefix $(B)/clients --no-audit --no-fund --loglevel=error
	@touch $@

# The same programs, any of those that npm has: VERSIONS="2.1.2* newest", SAMPLE=20; default all, one after the other.
conformance: all
	BUILD=$(B) $(B)/parley spec/conformance/run.lua

# With the simulated claude, and with the real one where `make smoke` has fetched it.
bench: all
	$(B)/parley bench
	@if [ -x $(B)/claude/$(firstword $(CLAUDE_VERSION))/claude ]; then \
	  CLAUDE_VERSION=$(firstword $(CLAUDE_VERSION)) BUILD=$(B) sh scripts/smoke.sh --run $(B)/parley bench; fi

# Random turns with faults of every kind in simulated worlds, TURNS of them or for SECONDS_; SEED is the first run's.
# PARLEY_SEED=… plays one run again. EXHAUSTIVE=1: everything that can go wrong, at every point of short conversations,
# and pairs of it; EXHAUSTIVE=short: only some. A process for each processor, or WORKERS of them. ASLEEP=…: so many
# conversations over few processes instead, and deaths of their host.
simulate: all
ifdef ASLEEP
	@$(B)/parley spec/asleep.lua $(B)/asleep --conversations $(ASLEEP) --seed $(SEED) \
	  $(if $(SECONDS_),--seconds $(SECONDS_)) $(if $(KILLS),--kills $(KILLS))
else
	@$(B)/parley spec/simulate.lua $(if $(PARLEY_SEED),--replay $(PARLEY_SEED),--seed $(SEED) \
	  $(if $(SECONDS_),--seconds $(SECONDS_),--turns $(TURNS)) \
	  $(if $(EXHAUSTIVE),--exhaustive $(filter short,$(EXHAUSTIVE))) $(if $(WORKERS),--workers $(WORKERS)))
endif

# Takes the library's mechanisms out, one at a time, and has the simulation look for each, a minute of the processor's
# time at most. What is known is kept in $(B)/mutations.
mutations: all
	@$(B)/parley spec/mutations.lua

# 1,000 turns on the real program over 4 sessions, with interrupts and kills.
soak: all
	CLAUDE_VERSION=$(firstword $(CLAUDE_VERSION)) BUILD=$(B) sh scripts/smoke.sh --run $(B)/parley soak

# The recipe for a Slurm array, on a cluster of one node that ends with it.
slurm: all
	@$(B)/parley spec/slurm.lua

clean:
	rm -rf $(B)

# The man page and the completions are the commands' own help.
$(B)/parley.1: $(B)/parley
	$(B)/parley help --man > $@.new && mv $@.new $@
$(B)/parley.bash $(B)/parley.zsh $(B)/parley.fish: $(B)/parley.%: $(B)/parley
	$(B)/parley help --$* > $@.new && mv $@.new $@

BASH_COMPLETION = share/bash-completion/completions/parley
ZSH_COMPLETION = share/zsh/site-functions/_parley
FISH_COMPLETION = share/fish/vendor_completions.d/parley.fish

install: all $(B)/parley.1 $(B)/parley.bash $(B)/parley.zsh $(B)/parley.fish
	install -D $(B)/parley $(DESTDIR)$(PREFIX)/bin/parley
	install -D -m 644 $(B)/lib/parley/core.so $(DESTDIR)$(LIBDIR)/parley/core.so
	find lua/parley -name '*.lua' -printf '%h\n' | sort -u | while read -r folder; do \
	  install -D -m 644 -t "$(DESTDIR)$(LUADIR)/$${folder#lua/}" "$$folder"/*.lua || exit 1; done
	install -D -m 644 $(B)/parley.1 $(DESTDIR)$(PREFIX)/share/man/man1/parley.1
	install -D -m 644 $(B)/parley.bash $(DESTDIR)$(PREFIX)/$(BASH_COMPLETION)
	install -D -m 644 $(B)/parley.zsh $(DESTDIR)$(PREFIX)/$(ZSH_COMPLETION)
	install -D -m 644 $(B)/parley.fish $(DESTDIR)$(PREFIX)/$(FISH_COMPLETION)

uninstall:
	rm -rf $(DESTDIR)$(PREFIX)/bin/parley $(DESTDIR)$(LIBDIR)/parley $(DESTDIR)$(LUADIR)/parley \
	  $(DESTDIR)$(PREFIX)/share/man/man1/parley.1 $(DESTDIR)$(PREFIX)/$(BASH_COMPLETION) \
	  $(DESTDIR)$(PREFIX)/$(ZSH_COMPLETION) $(DESTDIR)$(PREFIX)/$(FISH_COMPLETION)

help:
	@echo 'make            build/parley, and build/lib/parley/core.so for plain lua5.4'
	@echo 'make demo       a conversation on a pseudo-terminal (DEMO=claude: with the real program)'
	@echo 'make test       the specs, three files for each processor at a time (SPEC=FILE ARGS=… for one)'
	@echo 'make browser    the window in a browser (sh scripts/bootstrap --browser first)'
	@echo 'make check      the specs that try something in many rounds, in their long form'
	@echo 'make asan       the specs under AddressSanitizer and UBSan'
	@echo 'make valgrind   200 sessions started and ended: no leak, no error'
	@echo 'make smoke      the real claude, offline (CLAUDE_VERSION=2.1.332, SMOKE=spec/smoke/X_spec.lua; RUN_CLAUDE_SMOKE=1: yours)'
	@echo 'make clients    the official API clients, from npm, for the specs of the gateway'
	@echo 'make lint       luacheck, clang-format, cppcheck, -Werror'
	@echo 'make conformance  every published claude, offline (VERSIONS="2.1.2*", SAMPLE=20)'
	@echo 'make bench      timings'
	@echo 'make simulate   20,000 turns with faults in simulated worlds (TURNS=, SECONDS_=, SEED=, PARLEY_SEED=, ASLEEP=)'
	@echo 'make mutations  the mechanisms of the library taken out: which of them the simulation finds'
	@echo 'make fuzz       libFuzzer under the same, 10 minutes a harness (FUZZ_SECONDS=, SEED=, HARNESSES=)'
	@echo 'make soak       1,000 turns on the real claude, with interrupts and kills'
	@echo 'make slurm      the recipe for a Slurm array, on a cluster of one node (needs slurm-wlm)'
	@echo 'make picture    the picture of README.md'
	@echo 'make install    PREFIX=/usr/local DESTDIR='
	@echo 'make format uninstall clean'
