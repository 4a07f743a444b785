/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Files: includes, what cannot be read, what is too large; and the contract's own example.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/policy/config.h"
#include "agentd/util/macro.h"

static char directory[] = "/tmp/agentd-config-test.XXXXXX";

static int directory_make(void **state)
{
        return mkdtemp(directory) ? 0 : -1;
}

static int directory_remove(void **state)
{
        char command[128];

        snprintf(command, sizeof(command), "rm -rf %s", directory);
        return system(command) == 0 ? 0 : -1;
}

static const char *path_of(const char *name)
{
        static char paths[4][256];
        static unsigned next;
        char *path = paths[next++ % ARRAY_SIZE(paths)];

        snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
        return path;
}

static const char *write_file(const char *name, const char *text)
{
        const char *path = path_of(name);
        FILE *file = fopen(path, "w");

        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        fclose(file);
        return path;
}

/* "NAME:LINE:COLUMN: TEXT\n" for each, NAME without the directory. */
static char *load(const char *path, int expected, struct config **ret)
{
        struct diagnostics diagnostics = {0};
        char *errors = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&errors, &size);
        int r = config_load(path, &diagnostics, ret);

        for (size_t i = 0; i < diagnostics.n_items; i++) {
                const char *file = diagnostics.items[i].file;
                size_t skip = strncmp(file, directory, strlen(directory)) == 0 ? strlen(directory) + 1 : 0;

                fprintf(stream, "%s:%u:%u: %s\n", file + skip, diagnostics.items[i].line, diagnostics.items[i].column,
                        diagnostics.items[i].text);
        }
        fclose(stream);
        diagnostics_clear(&diagnostics);
        if (r != expected)
                fail_msg("got %d: %s", r, errors);
        return errors;
}

static void check_errors(const char *path, int expected, const char *text)
{
        struct config *config = NULL;
        char *errors = load(path, expected, &config);

        assert_string_equal(errors, text);
        assert_null(config);
        free(errors);
}

static void includes_add_policies_and_agents(void **state)
{
        struct config *config = NULL;
        const struct policy *policy;
        char *errors;

        mkdir(path_of("conf.d"), 0700);
        mkdir(path_of("empty.d"), 0700);
        write_file("conf.d/b.yaml", "version: 1\nagents: {b: {cgroup: /b, policy: base}}\n");
        write_file("conf.d/a.yaml", "version: 1\npolicies:\n  more: {extends: [base], egress: [{cidr: 10.0.0.2}]}\n");
        write_file("conf.d/.hidden.yaml", "nonsense");
        write_file("main.yaml", "version: 1\n"
                                "daemon: {include: [conf.d/*.yaml, conf.d/a.yaml, '*.yaml', empty.d/*.yaml]}\n"
                                "policies: {base: {egress: [{cidr: 10.0.0.1}]}}\n"
                                "agents: {a: {cgroup: /a, policy: more}}\n");

        errors = load(path_of("main.yaml"), 0, &config);
        assert_string_equal(errors, "");
        free(errors);
        assert_int_equal(config->n_files, 3); /* each once, the main one not again */
        assert_int_equal(config->n_agents, 2);
        policy = config_find_policy(config, "more");
        assert_int_equal(policy->n_rules, 2);
        assert_non_null(strstr(policy->rules[0].place.file, "/main.yaml"));
        assert_non_null(strstr(policy->rules[1].place.file, "/conf.d/a.yaml"));
        assert_int_equal(policy->rules[1].place.line, 3);
        config_free(config);
        unlink(path_of("main.yaml"));
}

static void errors_name_the_file_they_stand_in(void **state)
{
        mkdir(path_of("bad.d"), 0700);
        write_file("bad.d/1.yaml", "version: 1\ndns: {}\npolicies: {base: {}}\n");
        write_file("bad.d/2.yaml", "policies: {q: {egress: [{cidr: 10.0.0.1/8}]}}\n");
        write_file("bad.yaml", "version: 1\ndaemon: {include: [bad.d/*.yaml, missing.yaml, bad.d]}\n"
                               "policies: {base: {extends: [p]}}\n");
        struct config *config = NULL;
        char *errors = load(path_of("bad.yaml"), -EINVAL, &config);
        static const char *const expected[] = {
                "bad.d/1.yaml:2:1: key 'dns' in an included file; it belongs in the main one\n",
                "duplicate policy 'base', first in ",
                "bad.d/2.yaml:1:1: 'version' is missing",
                "bad.d/2.yaml:1:32: 'cidr' has host bits set in '10.0.0.1/8'; did you mean '10.0.0.0/8'?\n",
                "bad.yaml:2:34: cannot read '",
                "missing.yaml': No such file or directory\n",
                "bad.yaml:2:48: cannot read '",
                "bad.yaml:3:29: there is no policy 'p'",
        };

        for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
                if (!strstr(errors, expected[i]))
                        fail_msg("no '%s' in\n%s", expected[i], errors);
        free(errors);
}

static void a_file_that_cannot_be_read_says_why(void **state)
{
        check_errors(path_of("nowhere.yaml"), -ENOENT,
                     "nowhere.yaml:1:1: cannot read the configuration: No such file or directory; see --config\n");
        mkdir(path_of("dir.yaml"), 0700);
        check_errors(path_of("dir.yaml"), -EISDIR,
                     "dir.yaml:1:1: cannot read the configuration: Is a directory; see --config\n");
}

static void a_large_file_is_refused_before_it_is_read(void **state)
{
        const char *path = write_file("large.yaml", "version: 1\n");
        struct rusage before, after;

        assert_int_equal(truncate(path, 100 * 1024 * 1024), 0);
        getrusage(RUSAGE_SELF, &before);
        check_errors(path, -EINVAL, "large.yaml:1:1: the file is too large; at most 8 MiB a file and 64 MiB in all\n");
        getrusage(RUSAGE_SELF, &after);
        assert_true(after.ru_maxrss - before.ru_maxrss < 4096); /* KiB */
        unlink(path);
}

static void a_stream_without_end_is_refused_as_well(void **state)
{
        struct config *config = NULL;
        char *errors = load("/dev/zero", -EINVAL, &config);

        assert_string_equal(errors, "/dev/zero:1:1: the file is too large; at most 8 MiB a file and 64 MiB in all\n");
        free(errors);
}

static void an_included_fifo_does_not_stop_the_reader(void **state)
{
        struct config *config = NULL;
        char *errors;

        assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
        write_file("fifo.yaml", "version: 1\ndaemon: {include: [fifo]}\n");
        errors = load(path_of("fifo.yaml"), -EINVAL, &config);
        assert_non_null(strstr(errors, "not a regular file"));
        free(errors);
}

static const char example[] = "version: 1\n"
                              "daemon:\n"
                              "  socket: /run/agentd/agentd.sock       # mode 0660, root:agentd\n"
                              "  state_dir: /var/lib/agentd\n"
                              "  metrics: 127.0.0.1:9469               # /metrics /healthz /readyz; off: \"off\"\n"
                              "  events: /var/log/agentd/events.jsonl\n"
                              "  include: [conf.d/none-*.yaml]\n"
                              "dns:\n"
                              "  upstream: [system]\n"
                              "  dnssec: off\n"
                              "  min_ttl: 30s\n"
                              "  max_ttl: 1h\n"
                              "  grace: 60s\n"
                              "  blocked: nxdomain\n"
                              "%s"
                              "policies:\n"
                              "  base:\n"
                              "    egress:\n"
                              "      - domain: github.com\n"
                              "        ports: [22, 443]\n"
                              "  coding-agent:\n"
                              "    extends: [base]\n"
                              "    mode: enforce\n"
                              "    egress:\n"
                              "      - name: claude\n"
                              "        domain: api.anthropic.com\n"
                              "        ports: [443/tcp]\n"
                              "%s"
                              "      - domain: \"*.s3.example.com\"\n"
                              "        ports: [443]\n"
                              "      - cidr: 10.20.0.0/16\n"
                              "        except: [10.20.0.5/32]\n"
                              "        ports: [5432, 8000-8099/udp]\n"
                              "      - cidr: 2001:db8:1::/48\n"
                              "      - cidr: 192.0.2.7\n"
                              "        protocol: icmp\n"
                              "    deny:\n"
                              "      - cidr: 10.20.1.0/24\n"
                              "      - domain: gist.githubusercontent.com\n"
                              "%s"
                              "    loopback: allow\n"
                              "    allow_private: false\n"
                              "    metadata: deny\n"
                              "agents:\n"
                              "  claude-1:\n"
                              "    cgroup: /agents/claude-1\n"
                              "    policy: coding-agent\n";

static void the_example_of_the_contract_is_taken(void **state)
{
        char text[4096];
        struct config *config = NULL;
        char *errors;

        snprintf(text, sizeof(text), example, "", "", "");
        errors = load(write_file("example.yaml", text), 0, &config);
        assert_string_equal(errors, "");
        free(errors);
        assert_int_equal(config_find_policy(config, "coding-agent")->n_rules, 8);
        config_free(config);
}

static void the_whole_example_of_the_contract_is_taken(void **state)
{
        char text[4096];
        struct config *config = NULL;
        char *errors;

        snprintf(text, sizeof(text), example, "guard:\n  - /agents\n",
                 "        budget: {bytes: 50MiB, per: day}\n"
                 "        rate: {connections: 60, per: minute, burst: 10}\n",
                 "    ingress:\n"
                 "      - cidr: 172.16.0.0/12\n"
                 "        ports: [22]\n"
                 "    budget:\n"
                 "      - {bytes: 2GiB, per: day}\n"
                 "      - {bytes: 20GiB, per: month, direction: both}\n");
        errors = load(write_file("example.yaml", text), 0, &config);
        assert_string_equal(errors, "");
        free(errors);
        assert_int_equal(config->n_guards, 1);
        assert_string_equal(config->guards[0].cgroup, "/agents");
        config_free(config);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(includes_add_policies_and_agents),
                cmocka_unit_test(errors_name_the_file_they_stand_in),
                cmocka_unit_test(a_file_that_cannot_be_read_says_why),
                cmocka_unit_test(a_large_file_is_refused_before_it_is_read),
                cmocka_unit_test(a_stream_without_end_is_refused_as_well),
                cmocka_unit_test(an_included_fifo_does_not_stop_the_reader),
                cmocka_unit_test(the_example_of_the_contract_is_taken),
                cmocka_unit_test(the_whole_example_of_the_contract_is_taken),
        };

        return cmocka_run_group_tests(tests, directory_make, directory_remove);
}
