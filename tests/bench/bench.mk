# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The benchmark: `make bench`. Flags, rules and objects are the main Makefile's; what is added here is built below
# $(BUILD) and leaves nothing else behind.

.PHONY: bench bench-built bench-run

ifndef INNER

# The main Makefile has a target of this name, too.
bench:
	@$(MAKE) --no-print-directory -f tests/bench/bench.mk INNER=1 BUILD=$(or $(BUILD),build) bench-run

else

include Makefile

BENCH_SOURCES := $(filter-out tests/bench/dns_load.c tests/bench/%.bpf.c,$(wildcard tests/bench/*.c))
BENCH_OBJECTS := $(BENCH_SOURCES:%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/tests/lib/bpf_world.o
BENCH_SKELETON := $(BUILD)/bench/bench.skel.h

$(BUILD)/bench/%.bpf.o: tests/bench/%.bpf.c Makefile
	@mkdir -p $(@D)
	$(CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -MF $(@:.o=.d) -c $< -o $@.unstripped
	$(BPFTOOL) gen object $@ $@.unstripped

$(BENCH_SKELETON): $(BUILD)/bench/bench.bpf.o
	$(BPFTOOL) gen skeleton $< name bench_bpf > $@

$(BENCH_OBJECTS): | $(BENCH_SKELETON)

$(BUILD)/bench/agentd-bench: $(BENCH_OBJECTS) $(BUILD)/libagentd.a
	$(CC) $(CFLAGS) $(LDFLAGS_HARD) -o $@ $^ $(LDLIBS)

$(BUILD)/bench/dns_load: $(BUILD)/obj/tests/bench/dns_load.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS_HARD) -o $@ $^

bench-built: $(BUILD)/bench/agentd-bench $(BUILD)/bench/dns_load

bench-run: all bench-built
	@BUILD=$(BUILD) tests/bench/run.sh

endif
