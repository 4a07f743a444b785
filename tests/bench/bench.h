/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The benchmark's parts. Everything is compared inside one run: contenders take turns, the best of many short turns
 * counts, and the same contender measured twice says how much of a difference is noise.
 */
#pragma once

#include "agentd/util/macro.h"
#include "bench/bench.skel.h"
#include "tests/lib/bpf_world.h"

#define BENCH_FAR "198.51.100.1" /* carried by the loopback device: to the programs it is no loopback */

struct bench {
        struct bpf_world *world;
        struct bench_bpf *programs;
};

/* --- results: one table at the end */

enum bench_kind {
        BENCH_PLUS,  /* measured - compared, in the unit */
        BENCH_RATIO, /* measured / compared */
        BENCH_VALUE, /* measured alone */
};

struct bench_row {
        const char *section, *what, *against, *unit;
        double measured, compared;
        enum bench_kind kind;
        bool has_goal, at_least; /* the goal is a floor */
        double goal;
};

void bench_report(struct bench_row row);
/* A against A: how much two series of one thing differ. */
void bench_noise(const char *section, const char *what, double first, double second, const char *unit);
void bench_note(const char *format, ...) PRINTF(1, 2);
void bench_print(void);

/* --- the means */

__u64 bench_now_ns(void);
/* The measuring thread on the first CPU, its helpers on the last: wandering costs more than what is measured. */
void bench_pin(bool helper);

struct contender {
        const char *name;
        /* One turn of n operations; returns the nanoseconds that they took. */
        __u64 (*turn)(struct contender *contender, unsigned n);
        int fd;
        void *context;
        double best; /* nanoseconds an operation, filled in by bench_series() */
};

/* Turns of n operations, one contender after the other, for duration_ns altogether. */
void bench_series(struct contender *contenders, size_t n_contenders, unsigned n, __u64 duration_ns);

enum bench_mix { BENCH_MIXED, BENCH_HOSTS, BENCH_PREFIXES };

/*
 * n entries, half of them hosts and half /28, and the prefix of BENCH_FAR; with ports, each a rule of its own. The
 * policy is compiled and added.
 */
int bench_policy(struct bench *bench, unsigned n, struct bpf_policy **ret);
int bench_policy_timed(struct bench *bench, unsigned n, enum bench_mix mix, struct bpf_policy **ret,
                       __u64 *ret_compile_ns, __u64 *ret_publish_ns);
/* The same prefixes into the systemd shape's lists. */
int bench_list_fill(struct bench *bench, unsigned n);
struct bpf_rule *bench_rules(unsigned n, enum bench_mix mix);
void bench_rules_free(struct bpf_rule *rules, unsigned n);

/* --- the parts; 0 or -errno */

int bench_program(struct bench *bench);
int bench_device(struct bench *bench);
int bench_budget(struct bench *bench);
int bench_control(struct bench *bench);
int bench_live(struct bench *bench);
int bench_many(struct bench *bench);
