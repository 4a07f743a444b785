/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What doctor says about hosts that are made of files in a directory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <sys/stat.h>

#include "agentd/agent/doctor.h"

/* The programs' own folder is not in the library that tests are linked with. */
#include "agentd/agent/doctor.c"

static char root[64];

static void host_file(const char *path, const char *text)
{
        char whole[512];
        FILE *file;

        for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                snprintf(whole, sizeof(whole), "%s%.*s", root, (int)(slash - path), path);
                (void)mkdir(whole, 0755);
        }
        snprintf(whole, sizeof(whole), "%s%s", root, path);
        file = fopen(whole, "we");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
}

static int set_up(void **state)
{
        snprintf(root, sizeof(root), "/tmp/agreg-doctor-XXXXXX");
        assert_non_null(mkdtemp(root));
        return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
        return remove(path);
}

static int tear_down(void **state)
{
        return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct doctor_check look(const char *name, const struct doctor_probe *probes, size_t n_probes)
{
        struct doctor_check checks[DOCTOR_CHECKS_MAX];
        size_t n = doctor_run(root, probes, n_probes, checks, DOCTOR_CHECKS_MAX);

        for (size_t i = 0; i < n; i++)
                if (strcmp(checks[i].name, name) == 0)
                        return checks[i];
        fail_msg("no check '%s'", name);
        return (struct doctor_check){0};
}

static void what_a_host_shows_decides(void **state)
{
        static const struct {
                const char *check, *path, *text;
                bool ok, required;
                const char *detail;
        } cases[] = {
                {"kernel", "/proc/sys/kernel/osrelease", "6.1.0-44-amd64\n", true, true, "6.1.0-44-amd64"},
                {"kernel", "/proc/sys/kernel/osrelease", "6.0.19\n", false, true, "6.0.19"},
                {"kernel", "/proc/sys/kernel/osrelease", "5.10.0-3\n", false, true, "5.10"},
                {"kernel", "/proc/sys/kernel/osrelease", "7.0.0\n", true, true, "7.0.0"},
                {"kernel", "/proc/sys/kernel/osrelease", "nonsense\n", false, true, "nonsense"},
                {"tcx", "/proc/sys/kernel/osrelease", "6.6.1\n", true, false, "not tried"},
                {"tcx", "/proc/sys/kernel/osrelease", "6.5.1\n", false, false, "not tried"},
                {"connect_unix", "/proc/sys/kernel/osrelease", "6.6.1\n", false, false, "6.7"},
                {"bpf_sock_destroy", "/proc/sys/kernel/osrelease", "6.5.0\n", true, false, "6.5"},
                {"capabilities", "/proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n", true, true, "CAP_BPF"},
                {"capabilities", "/proc/self/status", "CapEff:\t0000000000201000\n", true, true, "CAP_NET_ADMIN"},
                {"capabilities", "/proc/self/status", "CapEff:\t0000000000200000\n", false, true,
                 "missing: CAP_NET_ADMIN"},
                {"capabilities", "/proc/self/status", "CapEff:\t0000000000000000\n", false, true,
                 "missing: CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN"},
                {"capabilities", "/proc/self/status", "nothing of the kind\n", false, true, "missing"},
                {"process_access", "/proc/self/status", "CapEff:\t0000000000080000\n", false, false, "CAP_KILL"},
                {"user_namespace", "/proc/self/uid_map", "         0          0 4294967295\n", true, true, "own"},
                {"user_namespace", "/proc/self/uid_map", "         0     100000      65536\n", false, true, "not"},
                {"bpffs", "/proc/self/mountinfo", "5 1 0:3 / /sys/fs/bpf rw - bpf bpf rw\n", true, false,
                 "/sys/fs/bpf"},
                {"bpffs", "/proc/self/mountinfo", "5 1 0:3 / /sys rw - sysfs bpf rw\n", false, false, "none"},
                {"cgroup2", "/proc/self/mountinfo", "5 1 0:3 / /sys rw - sysfs sysfs rw\n", false, true,
                 "no cgroup v2"},
                {"lsm_cgroup", "/sys/kernel/security/lsm", "capability,landlock,bpf", true, false, "not tried"},
                {"lsm_cgroup", "/sys/kernel/security/lsm", "capability,bpfilter", false, false, "not among"},
                {"trust_anchor", "/usr/share/dns/root.key", "x", true, false, "/usr/share/dns/root.key"},
                {"user", "/etc/passwd", "root:x:0:0::/:/bin/sh\nagentd:x:99:99::/:/bin/false\n", true, false, "agentd"},
                {"user", "/etc/passwd", "agentdx:x:99:99::/:/bin/false\n", false, false, "no user"},
                {"worker_user", "/etc/passwd", "nobody:x:65534:65534::/:/bin/false\n", true, true, "nobody"},
                {"worker_user", "/etc/passwd", "", false, true, "neither"},
                {"bpf_jit", "/proc/sys/net/core/bpf_jit_enable", "0\n", false, false, "off"},
                {"bpf_jit", "/proc/sys/net/core/bpf_jit_enable", "1\n", true, false, "on"},
                {"inotify", "/proc/sys/fs/inotify/max_user_watches", "128\n", false, false, "128"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct doctor_check check;

                host_file(cases[i].path, cases[i].text);
                check = look(cases[i].check, NULL, 0);
                if (check.ok != cases[i].ok || check.required != cases[i].required ||
                    !strstr(check.detail, cases[i].detail) || (check.advice[0] == '\0') != check.ok)
                        fail_msg("%s of '%s': ok %d, '%s', '%s'", cases[i].check, cases[i].text, check.ok, check.detail,
                                 check.advice);
        }
}

static void a_real_try_decides_over_a_release(void **state)
{
        static const struct doctor_probe probes[] = {
                {"tcx", -EINVAL, NULL},
                {"lsm_cgroup", 0, NULL},
                {"bpf", -EPERM, "bpf(2) is refused"},
                {"gadget", -ENOSYS, NULL},
        };
        struct doctor_check check;

        host_file("/proc/sys/kernel/osrelease", "6.18.0\n");
        host_file("/sys/kernel/security/lsm", "capability");
        check = look("tcx", probes, ARRAY_SIZE(probes));
        assert_false(check.ok);
        assert_string_equal(check.detail, "tried: Invalid argument");
        assert_true(look("lsm_cgroup", probes, ARRAY_SIZE(probes)).ok);
        check = look("bpf", probes, ARRAY_SIZE(probes));
        assert_false(check.ok);
        assert_true(check.required);
        assert_string_equal(check.detail, "bpf(2) is refused: Operation not permitted");
        check = look("gadget", probes, ARRAY_SIZE(probes));
        assert_false(check.ok);
        assert_false(check.required);
}

static void only_what_is_required_stops_enforcement(void **state)
{
        struct doctor_check checks[] = {
                {.name = "a", .ok = true, .required = true},
                {.name = "b", .ok = false, .required = false},
        };

        assert_true(doctor_ok(checks, 2));
        checks[0].ok = false;
        assert_false(doctor_ok(checks, 2));
        assert_true(doctor_ok(checks, 0));
}

static void checks_are_written_as_json_and_as_lines(void **state)
{
        struct doctor_check checks[] = {
                {.name = "a", .ok = true, .required = true, .detail = "fine", .advice = ""},
                {.name = "b", .detail = "\xff\xfe", .advice = "mend it"},
        };
        json_t *array = doctor_to_json(checks, 2);
        char *text = json_dumps(array, JSON_COMPACT | JSON_SORT_KEYS);
        char lines[512] = "";
        FILE *stream = fmemopen(lines, sizeof(lines), "w");

        assert_string_equal(text, "[{\"advice\":\"\",\"detail\":\"fine\",\"name\":\"a\",\"ok\":true,\"required\":true},"
                                  "{\"advice\":\"mend it\",\"detail\":\"(not printable)\",\"name\":\"b\",\"ok\":false,"
                                  "\"required\":false}]");
        free(text);
        json_decref(array);
        doctor_print(stream, checks, 2);
        fclose(stream);
        assert_non_null(strstr(lines, "-> mend it"));
}

static void a_small_table_is_not_overrun(void **state)
{
        struct doctor_check checks[3] = {0};

        assert_int_equal(doctor_run(root, NULL, 0, checks, 2), 2);
        assert_null(checks[2].name);
}

static void this_host_is_looked_at_without_harm(void **state)
{
        struct doctor_check checks[DOCTOR_CHECKS_MAX];
        size_t n = doctor_run("", NULL, 0, checks, DOCTOR_CHECKS_MAX);

        assert_true(n >= 15 && n < DOCTOR_CHECKS_MAX);
        for (size_t i = 0; i < n; i++)
                assert_true(checks[i].detail[0] != '\0');
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(what_a_host_shows_decides, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_real_try_decides_over_a_release, set_up, tear_down),
                cmocka_unit_test(only_what_is_required_stops_enforcement),
                cmocka_unit_test(checks_are_written_as_json_and_as_lines),
                cmocka_unit_test_setup_teardown(a_small_table_is_not_overrun, set_up, tear_down),
                cmocka_unit_test(this_host_is_looked_at_without_harm),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
