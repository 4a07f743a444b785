/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * agentd-bench: `make bench` runs it. Root; namespaces and cgroups of its own, gone afterwards.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "agentd/util/log.h"
#include "tests/bench/bench.h"

__u64 bench_now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (__u64)now.tv_sec * NSEC_PER_SEC + (__u64)now.tv_nsec;
}

void bench_pin(bool helper)
{
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        cpu_set_t cpus;

        CPU_ZERO(&cpus);
        CPU_SET(helper && n > 1 ? (size_t)n - 1 : 0, &cpus);
        (void)sched_setaffinity(0, sizeof(cpus), &cpus);
}

void bench_series(struct contender *contenders, size_t n_contenders, unsigned n, __u64 duration_ns)
{
        __u64 end = bench_now_ns() + duration_ns;

        for (size_t i = 0; i < n_contenders; i++) {
                contenders[i].best = 1e18;
                (void)contenders[i].turn(&contenders[i], n); /* warm */
        }
        do {
                for (size_t i = 0; i < n_contenders; i++) {
                        double ns = (double)contenders[i].turn(&contenders[i], n) / n;

                        if (ns < contenders[i].best)
                                contenders[i].best = ns;
                }
        } while (bench_now_ns() < end);
}

struct bpf_rule *bench_rules(unsigned n, enum bench_mix mix)
{
        struct bpf_rule *rules = calloc(n + 2, sizeof(*rules));

        if (!rules)
                return NULL;
        for (unsigned i = 0; i < n; i++) {
                char text[PREFIX_TEXT_MAX];

                /* hosts in 20/8 every fourth address, /28 in 21/8 */
                if (mix == BENCH_MIXED ? i % 2 == 0 : mix == BENCH_HOSTS)
                        (void)snprintf(text, sizeof(text), "20.%u.%u.%u", i * 2 >> 16 & 255, i * 2 >> 8 & 255,
                                       i * 2 & 255);
                else
                        (void)snprintf(text, sizeof(text), "%u.%u.%u.%u/28", 21 + (i / 2 >> 20), i / 2 >> 12 & 255,
                                       i / 2 >> 4 & 255, (i / 2 & 15) << 4);
                rules[i] = (struct bpf_rule){strdup(text), false, PROTOCOL_TCP, 443, 443};
        }
        rules[n] = (struct bpf_rule){strdup("198.51.100.0/24"), false, PROTOCOL_TCP | PROTOCOL_UDP, 0, 65535};
        rules[n + 1] = (struct bpf_rule){strdup("2001:db8::/32"), false, PROTOCOL_TCP | PROTOCOL_UDP, 0, 65535};
        return rules;
}

void bench_rules_free(struct bpf_rule *rules, unsigned n)
{
        for (unsigned i = 0; rules && i < n + 2; i++)
                free((char *)rules[i].prefix);
        free(rules);
}

int bench_policy_timed(struct bench *bench, unsigned n, enum bench_mix mix, struct bpf_policy **ret,
                       __u64 *ret_compile_ns, __u64 *ret_publish_ns)
{
        struct bpf_rule *rules = bench_rules(n, mix);
        struct bpf_policy *policy = NULL;
        struct compiled_policy *compiled;
        __u64 start;
        int r;

        if (!rules)
                return -ENOMEM;
        r = bpf_policy_new(bench->world, rules, n + 2, &policy);
        bench_rules_free(rules, n);
        if (r < 0)
                return r;

        /* Once more, each step by itself. */
        r = datapath_policy_remove(bench->world->datapath, policy->version);
        if (r == 0) {
                start = bench_now_ns();
                r = policy_compile(&policy->model, NULL, &compiled);
                *ret_compile_ns = bench_now_ns() - start;
        }
        if (r == 0) {
                compiled_policy_free(policy->compiled);
                policy->compiled = compiled;
                start = bench_now_ns();
                r = datapath_policy_add(bench->world->datapath, policy->compiled, &policy->version);
                *ret_publish_ns = bench_now_ns() - start;
        }
        if (r < 0) {
                bpf_policy_free(policy);
                return r;
        }
        *ret = policy;
        return 0;
}

int bench_policy(struct bench *bench, unsigned n, struct bpf_policy **ret)
{
        struct bpf_rule *rules = bench_rules(n, BENCH_MIXED);
        int r = rules ? bpf_policy_new(bench->world, rules, n + 2, ret) : -ENOMEM;

        bench_rules_free(rules, n);
        return r;
}

static int part(struct bench *bench, const char *name, int (*run)(struct bench *bench))
{
        __u64 start = bench_now_ns();
        int r = run(bench);

        if (r < 0)
                bench_note("%s ended early: %s", name, strerror(-r));
        fprintf(stderr, "bench: %s: %.1f s%s\n", name, (double)(bench_now_ns() - start) / 1e9, r < 0 ? ", failed" : "");
        return r;
}

int main(int argc, char **argv)
{
        static const struct {
                const char *name;
                int (*run)(struct bench *bench);
        } parts[] = {
                {"program", bench_program}, {"device", bench_device}, {"budget", bench_budget},
                {"live", bench_live},       {"many", bench_many},     {"control", bench_control},
        };
        struct rlimit files = {1 << 16, 1 << 16};
        struct bench bench = {};
        int r, failed = 0;

        log_setup("agentd-bench", LOG_LEVEL_WARNING);
        if (!bpf_world_possible()) {
                fprintf(stderr, "bench: root is needed\n");
                return 1;
        }
        (void)setrlimit(RLIMIT_NOFILE, &files);
        r = bpf_world_new("agbench", &bench.world);
        if (r < 0)
                return 1;
        bench.programs = bench_bpf__open_and_load();
        if (!bench.programs) {
                fprintf(stderr, "bench: cannot load the programs to compare with\n");
                bpf_world_free(bench.world);
                return 1;
        }
        if (system("ip address add 198.51.100.1/24 dev lo && ip -6 address add 2001:db8::1/64 dev lo nodad") != 0)
                fprintf(stderr, "bench: no addresses\n");

        bench_pin(false);
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
                if (argc < 2 || strcmp(argv[1], parts[i].name) == 0)
                        failed |= part(&bench, parts[i].name, parts[i].run) < 0;
        bench_print();
        bench_bpf__destroy(bench.programs);
        bpf_world_free(bench.world);
        return failed;
}
