# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# agentd's build. `make help` lists the targets. Sources are found by folder: a new .c file needs no line here.

VERSION      := 0.1.0
PREFIX       ?= /usr
SYSCONFDIR   ?= /etc
BUILD        := build
CC           ?= gcc
CLANG        ?= clang
BPFTOOL      ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
ARCH         := $(shell uname -m | sed 's/x86_64/x86/; s/aarch64/arm64/')
MULTIARCH    := $(shell $(CC) -print-multiarch 2>/dev/null)

PACKAGES     := libbpf libelf zlib yaml-0.1 libuv jansson libmnl libidn2 libpsl libseccomp libcap-ng sqlite3 libunbound libldns

WARNINGS     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter \
                -Wno-missing-field-initializers -Wno-sign-compare -Wvla -Wformat=2 -Wno-format-nonliteral
DEFINES      := -D_GNU_SOURCE -DAGENTD_VERSION='"$(VERSION)"' -Iinclude -I. -I$(BUILD)
HARDENING    := -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fstack-clash-protection
CFLAGS       ?= -O2 -g
ALL_CFLAGS    = -std=gnu11 $(CFLAGS) $(WARNINGS) $(DEFINES)
LDFLAGS_HARD := -pie -Wl,-z,relro,-z,now,-z,noexecstack
LDLIBS       := -lbpf -lelf -lz -lyaml -luv -ljansson -lmnl -lidn2 -lpsl -lseccomp -lcap-ng -lsqlite3 -lunbound -lldns -lssl \
                -lmicrohttpd -lgnutls \
                -lcrypto -lpthread -lm -Wl,--as-needed -lncursesw -ltinfo
SANITIZE     := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

BPF_CFLAGS   := -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -D__TARGET_ARCH_$(ARCH) \
                -Iinclude -I. $(if $(MULTIARCH),-I/usr/include/$(MULTIARCH))

LIB_SOURCES  := $(filter-out agentd/ctl/%,$(wildcard agentd/*/*.c))
CTL_SOURCES  := $(wildcard agentd/ctl/*.c)
MAIN_SOURCES := $(wildcard agentd/*.c)
UNIT_SOURCES := $(wildcard tests/unit/*_test.c tests/unit/*/*_test.c)
BPFT_SOURCES := $(wildcard tests/bpf/*_test.c)
FUZZ_SOURCES := $(wildcard tests/fuzz/*_fuzz.c)
LIB_HELP     := $(wildcard tests/lib/*.c)

LIB_OBJECTS  := $(LIB_SOURCES:%.c=$(BUILD)/obj/%.o)
CTL_OBJECTS  := $(CTL_SOURCES:%.c=$(BUILD)/obj/%.o)
MAIN_OBJECTS := $(MAIN_SOURCES:%.c=$(BUILD)/obj/%.o)
SAN_LIB      := $(LIB_SOURCES:%.c=$(BUILD)/sanobj/%.o)
SAN_MAIN     := $(MAIN_SOURCES:%.c=$(BUILD)/sanobj/%.o)
SAN_CTL      := $(CTL_SOURCES:%.c=$(BUILD)/sanobj/%.o)
UNIT_TESTS   := $(UNIT_SOURCES:tests/%.c=$(BUILD)/tests/%)
BPF_TESTS    := $(BPFT_SOURCES:tests/%.c=$(BUILD)/tests/%)
PLAIN_UNIT   := $(UNIT_SOURCES:tests/%.c=$(BUILD)/plain/tests/%)
PLAIN_BPF    := $(BPFT_SOURCES:tests/%.c=$(BUILD)/plain/tests/%)
FUZZERS      := $(FUZZ_SOURCES:tests/fuzz/%.c=$(BUILD)/fuzz/%)
# An object each: what one kernel refuses does not take the rest with it.
SKELETON     := $(patsubst bpf/%.bpf.c,$(BUILD)/bpf/%.skel.h,$(wildcard bpf/*.bpf.c))

Q            := $(if $(V),,@)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

.PHONY: vmtest-systemd all help deps demo test test-unit test-bpf test-e2e test-attacks test-check test-fuzz test-vmtest vmtest-tables bench fuzz soak vmtest format check-format install \
        uninstall clean sanitized tests-built

all: $(BUILD)/agentd $(BUILD)/agentctl ## build build/agentd and build/agentctl

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

deps: ## install what is missing on a Debian 12
	@tests/lib/deps.sh

# --- kernel programs -------------------------------------------------------------------------------------------------

$(BUILD)/bpf/%.bpf.o: bpf/%.bpf.c Makefile
	@mkdir -p $(@D)
	@printf '  %-6s %s\n' CLANG $@
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -MF $(@:.o=.d) -c $< -o $@.unstripped
	@printf '  %-6s %s\n' GEN $@
	$(Q)$(BPFTOOL) gen object $@ $@.unstripped

$(BUILD)/bpf/%.skel.h: $(BUILD)/bpf/%.bpf.o
	@printf '  %-6s %s\n' GEN $@
	$(Q)$(BPFTOOL) gen skeleton $< name $(subst -,_,$*)_bpf > $@

# --- programs --------------------------------------------------------------------------------------------------------

$(BUILD)/obj/%.o: %.c Makefile | $(SKELETON)
	@mkdir -p $(@D)
	@printf '  %-6s %s\n' CC $@
	$(Q)$(CC) $(ALL_CFLAGS) $(HARDENING) -MMD -MP -c $< -o $@

$(BUILD)/sanobj/%.o: %.c Makefile | $(SKELETON)
	@mkdir -p $(@D)
	@printf '  %-6s %s\n' CC $@
	$(Q)$(CC) -std=gnu11 -O1 -g $(SANITIZE) $(WARNINGS) $(DEFINES) -MMD -MP -c $< -o $@

$(BUILD)/libagentd.a: $(LIB_OBJECTS)
	@rm -f $@
	@printf '  %-6s %s\n' AR $@
	$(Q)$(AR) rcs $@ $^

$(BUILD)/sanobj/libagentd.a: $(SAN_LIB)
	@rm -f $@
	@printf '  %-6s %s\n' AR $@
	$(Q)$(AR) rcs $@ $^

$(BUILD)/agentd: $(MAIN_OBJECTS) $(BUILD)/libagentd.a
	@printf '  %-6s %s\n' CC $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS_HARD) -o $@ $^ $(LDLIBS)

$(BUILD)/agentctl: $(CTL_OBJECTS) $(BUILD)/libagentd.a
	@printf '  %-6s %s\n' CC $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS_HARD) -o $@ $^ $(LDLIBS)

$(BUILD)/san/agentd: $(SAN_MAIN) $(BUILD)/sanobj/libagentd.a
	@mkdir -p $(@D)
	@printf '  %-6s %s\n' CC $@
	$(Q)$(CC) $(SANITIZE) -o $@ $^ $(LDLIBS)

$(BUILD)/san/agentctl: $(SAN_CTL) $(BUILD)/sanobj/libagentd.a
	@mkdir -p $(@D)
	@printf '  %-6s %s\n' CC $@
	$(Q)$(CC) $(SANITIZE) -o $@ $^ $(LDLIBS)

sanitized: $(BUILD)/san/agentd $(BUILD)/san/agentctl ## the same programs under ASan and UBSan, in build/san

# --- tests -----------------------------------------------------------------------------------------------------------

$(BUILD)/tests/%: $(BUILD)/sanobj/tests/%.o $(LIB_HELP:%.c=$(BUILD)/sanobj/%.o) $(BUILD)/sanobj/libagentd.a
	@mkdir -p $(@D)
	@printf '  %-6s %s\n' CC $@
	$(Q)$(CC) $(SANITIZE) -o $@ $^ -lcmocka $(LDLIBS)

# The same without the sanitizers, for guests: emulation makes them ten times slower than they are.
# Fixed fields are filled to the brim on purpose there.
$(BUILD)/obj/tests/%.o: WARNINGS += -Wno-stringop-truncation -Wno-format-truncation
$(BUILD)/plain/tests/%: $(BUILD)/obj/tests/%.o $(LIB_HELP:%.c=$(BUILD)/obj/%.o) $(BUILD)/libagentd.a
	@mkdir -p $(@D)
	@printf '  %-6s %s\n' CC $@
	$(Q)$(CC) $(CFLAGS) -pie -o $@ $^ -lcmocka $(LDLIBS)

# Fuzzers are built by clang with everything they reach, so that coverage guides them.
FUZZ_CFLAGS := -std=gnu11 -O1 -g -fsanitize=fuzzer-no-link,address,undefined $(DEFINES) -w
$(BUILD)/fuzz/obj/%.o: %.c Makefile | $(SKELETON)
	@mkdir -p $(@D)
	@printf '  %-6s %s\n' CLANG $@
	$(Q)$(CLANG) $(FUZZ_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/fuzz/libagentd.a: $(LIB_SOURCES:%.c=$(BUILD)/fuzz/obj/%.o)
	@rm -f $@
	@printf '  %-6s %s\n' AR $@
	$(Q)$(AR) rcs $@ $^

$(BUILD)/fuzz/%: $(BUILD)/fuzz/obj/tests/fuzz/%.o $(BUILD)/fuzz/libagentd.a
	@printf '  %-6s %s\n' CLANG $@
	$(Q)$(CLANG) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LDLIBS)

tests-built: $(UNIT_TESTS) $(BPF_TESTS)

demo: deps ## install what is missing, build, show the main job on real traffic
	@$(MAKE) --no-print-directory all
	@tests/e2e/demo.sh

test: deps ## install what is missing, build, pass all tests
	@$(MAKE) --no-print-directory -j2 all sanitized tests-built $(FUZZERS)
	@tests/lib/run-all.sh

test-unit: $(UNIT_TESTS) ## unit tests under the sanitizers (no root)
	@LANES=$${LANES:-2} tests/lib/run-suite.sh unit $(UNIT_TESTS)

test-bpf: all $(BPF_TESTS) ## the kernel programs by BPF_PROG_TEST_RUN (root)
	@tests/lib/run-suite.sh bpf $(BPF_TESTS)

test-e2e: all sanitized ## real programs in namespaces, judged at the far end (root)
	@LANES=$${LANES:-2} tests/lib/run-suite.sh e2e $(sort $(wildcard tests/e2e/*.bats))

test-attacks: all ## techniques that must not get out (root)
	@LANES=$${LANES:-2} tests/lib/run-suite.sh attacks tests/attacks/techniques.bats \
		$(filter-out %/techniques.bats,$(sort $(wildcard tests/attacks/*.bats)))

attacks-table: ## docs/attacks.md from what the last test-attacks saw; KERNELS_SEEN="DIR..." adds results of other kernels
	@sed '/^<!-- table -->/q' docs/attacks.md > $(BUILD)/attacks.md
	@tests/attacks/rounds.py table $(BUILD)/attacks/*.tsv $(foreach d,$(KERNELS_SEEN),$(d)/*.tsv) >> $(BUILD)/attacks.md
	@mv $(BUILD)/attacks.md docs/attacks.md

soak: all ## a minute of random edits under traffic; every ledger equals the far end's count (root; SOAK_SECONDS, SOAK_SEED)
	@BUILD=$(BUILD) SOAK_SECONDS=$${SOAK_SECONDS:-60} bats --tap tests/e2e/soak.bats

test-check: ## house rules: includes go down the floors, no padding, docs' examples parse
	@tests/lib/run-suite.sh check $(sort $(wildcard tests/check/*.bats))

test-fuzz: $(FUZZERS) ## a short run of each fuzzer over its corpus
	@LANES=$${LANES:-2} tests/lib/run-suite.sh fuzz $(FUZZERS)

fuzz: $(FUZZERS) ## fuzz each target for TIME seconds (default 60)
	@TIME=$${TIME:-60} tests/fuzz/run.sh $(FUZZERS)

bench: all ## measure: a table of ratios taken in one run (root)
	@$(MAKE) --no-print-directory -f tests/bench/bench.mk BUILD=$(BUILD) bench

# A fault for the guests' tests to find: nothing of it is in the programs.
$(BUILD)/vmtest/faulty.so: vmtest/faulty.c Makefile
	@mkdir -p $(@D)
	@printf '  %-6s %s\n' CC $@
	$(Q)$(CC) $(CFLAGS) $(WARNINGS) -Wno-missing-prototypes -D_GNU_SOURCE -fPIC -shared -o $@ $< -ldl

KERNELS ?= 6.1 6.12 7
LEVEL   ?= full
vmtest: all $(PLAIN_BPF) $(PLAIN_UNIT) $(BUILD)/vmtest/faulty.so ## the suites on other kernels under QEMU: KERNELS="6.1 6.12 7" LEVEL=quick|core|full (root)
	@vmtest/all $(LEVEL) $(KERNELS) floor

vmtest-tables: ## docs/kernels.md from what `make vmtest` has found
	@vmtest/tables store $(wildcard $(BUILD)/vmtest/*.json)
	@vmtest/tables write

# A boot a test, emulated: slower than others by nature.
test-vmtest: all ## three kernels booted, and the one that is refused; vmtest/run itself (root, QEMU)
	@SUITE_SECONDS=1800 tests/lib/run-suite.sh vmtest $(sort $(wildcard tests/vmtest/*.bats))

vmtest-systemd: all ## agentd as a service where systemd is process 1, in a guest that reboots: KERNEL=6.1 (root, minutes)
	@BUILD=$(BUILD) tests/vm/systemd.sh "$(or $(KERNEL),6.1)"

FORMATTED := $(shell find agentd bpf include tests -name '*.[ch]' 2>/dev/null)
format: ## clang-format in place
	clang-format -i $(FORMATTED)

check-format: ## fails when clang-format would change a file
	clang-format --dry-run -Werror $(FORMATTED)

# --- installation ----------------------------------------------------------------------------------------------------

install: all ## DESTDIR=D PREFIX=/usr
	install -D -m 0755 $(BUILD)/agentd $(DESTDIR)$(PREFIX)/sbin/agentd
	install -D -m 0755 $(BUILD)/agentctl $(DESTDIR)$(PREFIX)/bin/agentctl
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	for unit in agentd.service agentd-gate.service agents.slice; do \
		sed 's|/usr/sbin/agentd|$(PREFIX)/sbin/agentd|; s|/usr/bin/agentctl|$(PREFIX)/bin/agentctl|' configs/$$unit \
			> $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit && \
		chmod 0644 $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit || exit 1; \
	done
	install -D -m 0644 configs/agentd.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/agentd.conf
	install -d -m 0750 $(DESTDIR)$(SYSCONFDIR)/agentd
	test -e $(DESTDIR)$(SYSCONFDIR)/agentd/agentd.yaml || \
		install -D -m 0640 configs/agentd.yaml $(DESTDIR)$(SYSCONFDIR)/agentd/agentd.yaml
	install -d -m 0750 $(DESTDIR)$(SYSCONFDIR)/agentd/conf.d
	install -D -m 0644 docs/man/agentd.8 $(DESTDIR)$(PREFIX)/share/man/man8/agentd.8
	install -D -m 0644 docs/man/agentctl.1 $(DESTDIR)$(PREFIX)/share/man/man1/agentctl.1
	install -D -m 0644 docs/man/agentd.yaml.5 $(DESTDIR)$(PREFIX)/share/man/man5/agentd.yaml.5
	install -d $(DESTDIR)$(PREFIX)/share/agentd/oci
	sed 's|/usr/sbin/agentd|$(PREFIX)/sbin/agentd|' configs/oci/agentd-hook.json > $(DESTDIR)$(PREFIX)/share/agentd/oci/agentd-hook.json
	chmod 0644 $(DESTDIR)$(PREFIX)/share/agentd/oci/agentd-hook.json
	install -m 0755 configs/oci/agentd-runtime $(DESTDIR)$(PREFIX)/share/agentd/oci/agentd-runtime
	install -D -m 0644 configs/prometheus/agentd.rules.yml $(DESTDIR)$(PREFIX)/share/agentd/prometheus/agentd.rules.yml
	install -D -m 0644 configs/grafana/agentd.json $(DESTDIR)$(PREFIX)/share/agentd/grafana/agentd.json

uninstall: ## the same DESTDIR and PREFIX; leaves /etc/agentd
	rm -f $(DESTDIR)$(PREFIX)/sbin/agentd $(DESTDIR)$(PREFIX)/bin/agentctl \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/agentd.service $(DESTDIR)$(PREFIX)/lib/systemd/system/agentd-gate.service \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/agents.slice $(DESTDIR)$(PREFIX)/lib/sysusers.d/agentd.conf \
		$(DESTDIR)$(PREFIX)/share/man/man8/agentd.8 $(DESTDIR)$(PREFIX)/share/man/man1/agentctl.1 \
		$(DESTDIR)$(PREFIX)/share/man/man5/agentd.yaml.5
	rm -rf $(DESTDIR)$(PREFIX)/share/agentd

clean: ## remove build/
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -type f -name '*.d' 2>/dev/null)
