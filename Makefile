# Parley's build. Everything it makes stands in build/.  `make help` lists the targets.
CC ?= cc
CFLAGS ?= -O2 -g
CLAUDE_VERSION ?= 2.1.330 2.1.197
PREFIX ?= /usr/local
B ?= build

LUA ?= lua5.4
PACKAGES = lua5.4 lua5.4-luv libuv libcjson uuid vterm libsodium libutf8proc libedit
MISSING := $(shell for p in $(PACKAGES); do pkg-config --exists $$p 2>/dev/null || printf '%s ' $$p; done)
BUILDING := $(filter-out help clean bootstrap,$(or $(MAKECMDGOALS),all))
ifneq ($(BUILDING),)
ifneq ($(strip $(MISSING)),)
$(error Missing libraries: $(MISSING)(run: sh scripts/bootstrap))
endif
endif

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES))
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES)) -lutil
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE $(WARNINGS) -fPIC -MMD -MP $(PKG_CFLAGS) $(SANITIZE) $(CFLAGS)

VERSION := $(shell sed -n 's/^version = "\(.*\)-.*"/\1/p' *.rockspec)
CORE_SOURCES := $(filter-out src/main.c,$(wildcard src/*.c))
CORE_OBJECTS := $(CORE_SOURCES:src/%.c=$(B)/obj/%.o)
# Stubs for the language server describe the C modules; nobody loads them.
BUNDLED := $(sort $(shell find lua scripts -name '*.lua' -not -path 'lua/parley/core/*'))

.PHONY: all test check lint format smoke soak bench demo install uninstall clean asan valgrind help
all: $(B)/parley $(B)/lib/parley/core.so

$(B)/obj/%.o: src/%.c | $(B)/obj
	$(CC) $(ALL_CFLAGS) -c $< -o $@
$(B)/obj/main.o: ALL_CFLAGS += -DPARLEY_VERSION='"$(VERSION)"'

# Every Lua file goes into the host as it stands, under its path.
$(B)/bundle.S: $(BUNDLED) Makefile | $(B)/obj
	@sh src/bundle.sh $(BUNDLED) > $@
$(B)/obj/bundle.o: $(B)/bundle.S $(BUNDLED)
	$(CC) -I. -c $< -o $@

$(B)/parley: $(B)/obj/main.o $(B)/obj/bundle.o $(CORE_OBJECTS)
	$(CC) $(SANITIZE) $(LDFLAGS) -Wl,-E -o $@ $^ $(PKG_LIBS)
$(B)/lib/parley/core.so: $(CORE_OBJECTS) | $(B)/lib/parley
	$(CC) $(SANITIZE) $(LDFLAGS) -shared -o $@ $^ $(PKG_LIBS)
$(B)/obj $(B)/lib/parley:
	@mkdir -p $@
-include $(wildcard $(B)/obj/*.d)

# DEMO=claude takes the real program and your own account.
demo: all
	@if [ "$(DEMO)" = claude ]; then $(B)/parley demo --claude; else $(B)/parley demo; fi

BUSTED = PARLEY_TEST=1 $(B)/parley /usr/bin/busted
# What the specs are of; SPEC=spec/lua/task_spec.lua runs one.
SPEC ?= spec/src spec/lua spec/scripts

test check: all
	$(BUSTED) $(SPEC)

# The Lua files and the C files that are ours.
lint:
	luacheck --quiet lua scripts spec
	clang-format --dry-run -Werror src/*.c src/*.h
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --error-exitcode=1 --inline-suppr \
	  --suppress=missingIncludeSystem -Isrc src
	$(MAKE) B=$(B)/werror CFLAGS="-O1 -Werror" all

format:
	clang-format -i src/*.c src/*.h

# A leak at exit fails the run like any other fault.
asan:
	$(MAKE) B=$(B)/asan SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined" CFLAGS="-O1 -g" all
	ASAN_OPTIONS=detect_leaks=1 $(MAKE) B=$(B)/asan SANITIZE="-fsanitize=address,undefined" CFLAGS="-O1 -g" test

# The real program, offline; with your own account: RUN_CLAUDE_SMOKE=1.
smoke: all
	CLAUDE_VERSION="$(CLAUDE_VERSION)" BUILD=$(B) sh scripts/smoke.sh

# With the simulated claude, and with the real one where `make smoke` has fetched it.
bench: all
	$(B)/parley bench
	@if [ -x $(B)/claude/$(firstword $(CLAUDE_VERSION))/claude ]; then \
	  CLAUDE_VERSION=$(firstword $(CLAUDE_VERSION)) BUILD=$(B) sh scripts/smoke.sh --run $(B)/parley bench; fi

# Hours are not needed: 1,000 turns on the real program over 4 sessions, with interrupts and kills.
soak: all
	CLAUDE_VERSION=$(firstword $(CLAUDE_VERSION)) BUILD=$(B) sh scripts/smoke.sh --run $(B)/parley soak

clean:
	rm -rf $(B)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/lua/5.4/parley
	install $(B)/parley $(DESTDIR)$(PREFIX)/bin/parley
	install -m 644 $(B)/lib/parley/core.so $(DESTDIR)$(PREFIX)/lib/lua/5.4/parley/core.so
	cd lua && find parley -name '*.lua' -exec install -D -m 644 '{}' '$(DESTDIR)$(PREFIX)/share/lua/5.4/{}' ';'

uninstall:
	rm -rf $(DESTDIR)$(PREFIX)/bin/parley $(DESTDIR)$(PREFIX)/lib/lua/5.4/parley \
	  $(DESTDIR)$(PREFIX)/share/lua/5.4/parley

help:
	@echo 'make            build/parley, and build/lib/parley/core.so for plain lua5.4'
	@echo 'make demo       a conversation on a pseudo-terminal (DEMO=claude: with the real program)'
	@echo 'make test       the specs (SPEC=FILE for one)'
	@echo 'make asan       the specs under AddressSanitizer and UBSan'
	@echo 'make smoke      the real claude, offline (CLAUDE_VERSION=2.1.330; RUN_CLAUDE_SMOKE=1: yours)'
	@echo 'make lint       luacheck, clang-format, cppcheck, -Werror'
	@echo 'make bench      timings'
	@echo 'make soak       1,000 turns on the real claude, with interrupts and kills'
	@echo 'make install    PREFIX=/usr/local DESTDIR='
	@echo 'make format uninstall clean'
