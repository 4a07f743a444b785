/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gVisor's processes, as /proc shows them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/agent/sandbox.h"
#include "agentd/util/macro.h"

static char root[64];

static void process(pid_t pid, const char *exe, const char *arguments, size_t size)
{
        char path[128];
        FILE *file;

        snprintf(path, sizeof(path), "%s/proc", root);
        (void)mkdir(path, 0755);
        snprintf(path, sizeof(path), "%s/proc/%d", root, (int)pid);
        assert_int_equal(mkdir(path, 0755), 0);
        snprintf(path, sizeof(path), "%s/proc/%d/exe", root, (int)pid);
        assert_int_equal(symlink(exe, path), 0);
        snprintf(path, sizeof(path), "%s/proc/%d/cmdline", root, (int)pid);
        file = fopen(path, "we");
        assert_non_null(file);
        assert_int_equal(fwrite(arguments, 1, size, file), size);
        fclose(file);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
        return remove(path);
}

#define ARGUMENTS(text) text, sizeof(text)

static void gvisor_is_told_by_its_processes_and_its_network_by_their_arguments(void **state)
{
        static const struct {
                const char *exe, *arguments;
                size_t size;
                enum sandbox_kind kind;
        } cases[] = {
                {"/usr/bin/runsc", ARGUMENTS("runsc-sandbox\0--root=/run\0--network=host\0boot\0x"),
                 SANDBOX_GVISOR_HOST},
                {"/usr/bin/runsc", ARGUMENTS("runsc-sandbox\0--network=sandbox\0boot"), SANDBOX_GVISOR_OWN},
                {"/usr/bin/runsc", ARGUMENTS("runsc-sandbox\0--network=none\0boot"), SANDBOX_GVISOR_LOOP},
                {"/usr/bin/runsc", ARGUMENTS("runsc-sandbox\0boot"), SANDBOX_GVISOR_OWN},
                {"/usr/bin/runsc (deleted)", ARGUMENTS("runsc-gofer\0-network=host\0gofer"), SANDBOX_GVISOR_HOST},
                /* runsc itself, who has not started the sandbox yet; and those who only say that they are it. */
                {"/usr/bin/runsc", ARGUMENTS("runsc\0--network=host\0run"), SANDBOX_NONE},
                {"/usr/bin/python3", ARGUMENTS("runsc-sandbox\0--network=host"), SANDBOX_NONE},
                {"/usr/bin/runscan", ARGUMENTS("runsc-sandbox\0boot"), SANDBOX_NONE},
                {"/usr/bin/runsc", ARGUMENTS("sh\0-c\0runsc-sandbox"), SANDBOX_NONE},
                {"/usr/bin/runsc", "runsc-sandbox", 13, SANDBOX_GVISOR_OWN}, /* no NUL at the end */
                {"/usr/bin/runsc", "\0--network=host", 15, SANDBOX_NONE},
                {"/usr/bin/kthread", "", 0, SANDBOX_UNKNOWN},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const pid_t pids[] = {41, 42};
                enum sandbox_kind kind;

                snprintf(root, sizeof(root), "/tmp/agreg-sandbox-XXXXXX");
                assert_non_null(mkdtemp(root));
                process(42, cases[i].exe, cases[i].arguments, cases[i].size);
                kind = sandbox_recognise(root, pids, ARRAY_SIZE(pids));
                if (kind != cases[i].kind)
                        fail_msg("case %zu: %d", i, (int)kind);
                assert_int_equal(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
        }
}

static void arguments_of_any_length_are_read_within_bounds(void **state)
{
        static char arguments[64 * 1024];
        const pid_t pid = 7;

        snprintf(root, sizeof(root), "/tmp/agreg-sandbox-XXXXXX");
        assert_non_null(mkdtemp(root));
        memset(arguments, 'x', sizeof(arguments));
        memcpy(arguments, "runsc-sandbox", 14);
        memcpy(arguments + sizeof(arguments) - 16, "\0--network=host", 16);
        process(pid, "/usr/bin/runsc", arguments, sizeof(arguments));
        /* What stands beyond the bound is not known: the strict reading. */
        assert_int_equal(sandbox_recognise(root, &pid, 1), SANDBOX_GVISOR_OWN);
        assert_int_equal(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void each_kind_says_what_the_tiers_see(void **state)
{
        assert_null(sandbox_runtime(SANDBOX_UNKNOWN));
        assert_string_equal(sandbox_runtime(SANDBOX_NONE), "linux");
        assert_string_equal(sandbox_detail(SANDBOX_NONE), "");
        for (enum sandbox_kind kind = SANDBOX_GVISOR_OWN; kind <= SANDBOX_GVISOR_LOOP; kind++) {
                assert_string_equal(sandbox_runtime(kind), "gvisor");
                assert_true(strlen(sandbox_detail(kind)) > 0);
        }
        assert_non_null(strstr(sandbox_detail(SANDBOX_GVISOR_OWN), "tier 3 must"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(gvisor_is_told_by_its_processes_and_its_network_by_their_arguments),
                cmocka_unit_test(arguments_of_any_length_are_read_within_bounds),
                cmocka_unit_test(each_kind_says_what_the_tiers_see),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
