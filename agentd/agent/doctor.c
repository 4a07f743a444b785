/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The checks of `doctor`, one function each: it looks, fills in what it found, and says whether that is enough.
 *
 * Only what a real try has shown is called possible; what follows from a release number or a file says so.
 */
#include "agentd/agent/doctor.h"

#include <errno.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include "agentd/agent/cgroup.h"
#include "agentd/net/sock_diag.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

struct doctor {
        const char *root;
        const struct doctor_probe *probes;
        size_t n_probes;
};

struct doctor_rule {
        const char *name;
        bool required;
        const char *advice;
        bool (*look)(const struct doctor *doctor, struct doctor_check *check);
};

static void detail(struct doctor_check *check, const char *format, ...) PRINTF(2, 3);
static void detail(struct doctor_check *check, const char *format, ...)
{
        size_t used = strlen(check->detail);
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(check->detail + used, sizeof(check->detail) - used, format, arguments);
        va_end(arguments);
}

static FILE *file_open(const struct doctor *doctor, const char *path)
{
        char whole[512];

        snprintf(whole, sizeof(whole), "%s%s", doctor->root, path);
        return fopen(whole, "re");
}

static bool file_exists(const struct doctor *doctor, const char *path)
{
        _cleanup_file_ FILE *file = file_open(doctor, path);

        return file != NULL;
}

/* The first line, without its end. False: no such file, or it is empty. */
static bool file_line(const struct doctor *doctor, const char *path, char *ret, size_t size)
{
        _cleanup_file_ FILE *file = file_open(doctor, path);

        if (!file || !fgets(ret, (int)size, file))
                return false;
        ret[strcspn(ret, "\n")] = '\0';
        return true;
}

static void kernel_release(const struct doctor *doctor, char *ret, size_t size)
{
        struct utsname name;

        if (file_line(doctor, "/proc/sys/kernel/osrelease", ret, size))
                return;
        snprintf(ret, size, "%s", uname(&name) == 0 ? name.release : "0");
}

static bool kernel_is(const struct doctor *doctor, unsigned major, unsigned minor)
{
        unsigned have_major = 0, have_minor = 0;
        char release[128];

        kernel_release(doctor, release, sizeof(release));
        if (sscanf(release, "%u.%u", &have_major, &have_minor) != 2)
                return false;
        return have_major > major || (have_major == major && have_minor >= minor);
}

static const struct doctor_probe *probe_find(const struct doctor *doctor, const char *name)
{
        for (size_t i = 0; i < doctor->n_probes; i++)
                if (strcmp(doctor->probes[i].name, name) == 0)
                        return &doctor->probes[i];
        return NULL;
}

/* False: nobody has tried. */
static bool probe_decides(const struct doctor *doctor, const char *name, struct doctor_check *check, bool *ret_ok)
{
        const struct doctor_probe *probe = probe_find(doctor, name);

        if (!probe)
                return false;
        *ret_ok = probe->result >= 0;
        detail(check, "%s", probe->detail ? probe->detail : *ret_ok ? "tried, works" : "tried: ");
        if (!*ret_ok && !(probe->detail && strstr(probe->detail, strerror(-probe->result))))
                detail(check, "%s%s", probe->detail ? ": " : "", strerror(-probe->result));
        return true;
}

static bool by_release(const struct doctor *doctor, const char *name, unsigned major, unsigned minor,
                       struct doctor_check *check)
{
        bool ok;

        if (probe_decides(doctor, name, check, &ok))
                return ok;
        ok = kernel_is(doctor, major, minor);
        detail(check, "%s by its release (not tried); comes with %u.%u", ok ? "there" : "absent", major, minor);
        return ok;
}

static bool look_kernel(const struct doctor *doctor, struct doctor_check *check)
{
        char release[128];

        kernel_release(doctor, release, sizeof(release));
        detail(check, "%s", release);
        return kernel_is(doctor, 6, 1);
}

static bool look_bpf(const struct doctor *doctor, struct doctor_check *check)
{
        bool ok;

        if (probe_decides(doctor, "bpf", check, &ok))
                return ok;
        detail(check, "not tried");
        return true;
}

static bool look_cgroup(const struct doctor *doctor, struct doctor_check *check)
{
        struct cgroup_mount mount = {.fd = -1};
        bool ok = true;
        char path[512];
        int r;

        snprintf(path, sizeof(path), "%s/proc/self/mountinfo", doctor->root);
        r = cgroup_mount_find(path, &mount);
        if (r < 0) {
                detail(check, "%s", r == -ENOENT ? "no cgroup v2 is mounted" : strerror(-r));
                return false;
        }
        detail(check, "%s", mount.path);
        if (strcmp(mount.root, "/") != 0)
                detail(check, ", only the part below %.128s", mount.root);
        cgroup_mount_release(&mount);
        return ok;
}

static bool look_user_namespace(const struct doctor *doctor, struct doctor_check *check)
{
        unsigned long inside = 1, outside = 1, count = 0;
        char line[128];
        bool ok;

        if (!file_line(doctor, "/proc/self/uid_map", line, sizeof(line))) {
                detail(check, "the kernel has none");
                return true;
        }
        ok = sscanf(line, "%lu %lu %lu", &inside, &outside, &count) == 3 && inside == 0 && outside == 0 &&
             count == UINT32_MAX;
        detail(check, ok ? "the host's own" : "not the host's own: capabilities do not reach the kernel's tables");
        return ok;
}

struct capability {
        const char *name;
        unsigned number;
        unsigned implied_by; /* another number, or the same */
};

static bool look_capabilities_of(const struct doctor *doctor, struct doctor_check *check,
                                 const struct capability *wanted, size_t n_wanted)
{
        _cleanup_file_ FILE *file = file_open(doctor, "/proc/self/status");
        unsigned long long held = 0;
        const char *separator = "missing: ";
        bool ok = true;
        char line[256];

        while (file && fgets(line, sizeof(line), file))
                if (sscanf(line, "CapEff: %llx", &held) == 1)
                        break;
        for (size_t i = 0; i < n_wanted; i++) {
                if (held >> wanted[i].number & 1 || held >> wanted[i].implied_by & 1)
                        continue;
                detail(check, "%s%s", separator, wanted[i].name);
                separator = ", ";
                ok = false;
        }
        for (size_t i = 0; ok && i < n_wanted; i++)
                detail(check, "%s%s", i ? ", " : "", wanted[i].name);
        return ok;
}

static bool look_capabilities(const struct doctor *doctor, struct doctor_check *check)
{
        static const struct capability wanted[] = {
                {"CAP_BPF", 39, 21},
                {"CAP_PERFMON", 38, 21},
                {"CAP_NET_ADMIN", 12, 12},
                {"CAP_SYS_ADMIN", 21, 21},
        };

        return look_capabilities_of(doctor, check, wanted, ARRAY_SIZE(wanted));
}

static bool look_process_access(const struct doctor *doctor, struct doctor_check *check)
{
        static const struct capability wanted[] = {
                {"CAP_SYS_PTRACE", 19, 19}, {"CAP_DAC_READ_SEARCH", 2, 2}, {"CAP_KILL", 5, 5},
                {"CAP_SETUID", 7, 7},       {"CAP_SETGID", 6, 6},
        };

        return look_capabilities_of(doctor, check, wanted, ARRAY_SIZE(wanted));
}

static bool look_bpffs(const struct doctor *doctor, struct doctor_check *check)
{
        _cleanup_file_ FILE *file = file_open(doctor, "/proc/self/mountinfo");
        _cleanup_free_ char *line = NULL;
        size_t room = 0;

        while (file && getline(&line, &room, file) > 0) {
                char path[256];

                if (!strstr(line, " - bpf ") || sscanf(line, "%*s %*s %*s %*s %255s", path) != 1)
                        continue;
                detail(check, "%s", path);
                return true;
        }
        detail(check, "none is mounted");
        return false;
}

static bool look_btf(const struct doctor *doctor, struct doctor_check *check)
{
        bool ok = file_exists(doctor, "/sys/kernel/btf/vmlinux");

        detail(check, ok ? "/sys/kernel/btf/vmlinux" : "the kernel carries no type information");
        return ok;
}

static bool look_jit(const struct doctor *doctor, struct doctor_check *check)
{
        char line[32];

        /* A kernel that knows nothing but the JIT may have no such file. */
        if (!file_line(doctor, "/proc/sys/net/core/bpf_jit_enable", line, sizeof(line))) {
                detail(check, "not known");
                return true;
        }
        detail(check, strcmp(line, "0") == 0 ? "off" : "on");
        return strcmp(line, "0") != 0;
}

static bool look_tcx(const struct doctor *doctor, struct doctor_check *check)
{
        return by_release(doctor, "tcx", 6, 6, check);
}

static bool look_connect_unix(const struct doctor *doctor, struct doctor_check *check)
{
        return by_release(doctor, "connect_unix", 6, 7, check);
}

static bool look_bpf_sock_destroy(const struct doctor *doctor, struct doctor_check *check)
{
        return by_release(doctor, "bpf_sock_destroy", 6, 5, check);
}

static bool look_lsm(const struct doctor *doctor, struct doctor_check *check)
{
        char line[256], *save = NULL;
        bool ok;

        if (probe_decides(doctor, "lsm_cgroup", check, &ok))
                return ok;
        if (!file_line(doctor, "/sys/kernel/security/lsm", line, sizeof(line))) {
                detail(check, "/sys/kernel/security/lsm cannot be read");
                return false;
        }
        ok = false;
        for (const char *name = strtok_r(line, ",", &save); name; name = strtok_r(NULL, ",", &save))
                ok |= strcmp(name, "bpf") == 0;
        detail(check, ok ? "bpf is among the active security modules (not tried)"
                         : "bpf is not among the active security modules");
        return ok;
}

/* Asks the kernel to destroy a socket that cannot exist: how it refuses tells whether it can. */
static bool look_sock_destroy(const struct doctor *doctor, struct doctor_check *check)
{
        static const struct sock_diag_socket nobody = {
                .family = AF_INET, .ip_protocol = IPPROTO_TCP, .local_port = 0, .cookie = UINT64_MAX - 1};
        _cleanup_(sock_diag_closep) struct sock_diag *diag = NULL;
        bool ok;
        int r;

        if (probe_decides(doctor, "sock_destroy", check, &ok))
                return ok;
        if (doctor->root[0] != '\0') {
                detail(check, "not tried");
                return true;
        }
        r = sock_diag_open(-1, &diag);
        if (r == 0)
                r = sock_diag_destroy(diag, &nobody);
        ok = r == 0 || r == -ENOENT;
        detail(check, "tried: %s", ok ? "works" : strerror(-r));
        return ok;
}

static bool look_trust_anchor(const struct doctor *doctor, struct doctor_check *check)
{
        static const char *const paths[] = {"/usr/share/dns/root.key", "/var/lib/unbound/root.key"};

        for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
                if (file_exists(doctor, paths[i])) {
                        detail(check, "%s", paths[i]);
                        return true;
                }
        }
        detail(check, "none of %s, %s", paths[0], paths[1]);
        return false;
}

static bool user_exists(const struct doctor *doctor, const char *name)
{
        _cleanup_file_ FILE *file = NULL;
        char line[512];

        if (doctor->root[0] == '\0')
                return getpwnam(name) != NULL;
        file = file_open(doctor, "/etc/passwd");
        while (file && fgets(line, sizeof(line), file))
                if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
                        return true;
        return false;
}

static bool look_user(const struct doctor *doctor, struct doctor_check *check)
{
        bool ok = user_exists(doctor, "agentd");

        detail(check, ok ? "agentd" : "there is no user agentd; the DNS worker runs as nobody");
        return ok;
}

static bool look_worker(const struct doctor *doctor, struct doctor_check *check)
{
        static const char *const names[] = {"agentd", "nobody"};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                if (user_exists(doctor, names[i])) {
                        detail(check, "runs as %s", names[i]);
                        return true;
                }
        }
        detail(check, "neither agentd nor nobody exists");
        return false;
}

static bool look_inotify(const struct doctor *doctor, struct doctor_check *check)
{
        unsigned long watches;
        char line[64];

        if (!file_line(doctor, "/proc/sys/fs/inotify/max_user_watches", line, sizeof(line))) {
                detail(check, "not known");
                return true;
        }
        watches = strtoul(line, NULL, 10);
        detail(check, "%lu watches for a user", watches);
        return watches >= 8192;
}

static const struct doctor_rule rules[] = {
        {"kernel", true, "boot a kernel 6.1 or newer", look_kernel},
        {"cgroup2", true, "mount it: mount -t cgroup2 cgroup2 /sys/fs/cgroup", look_cgroup},
        {"user_namespace", true, "run agentd on the host, not inside a user namespace", look_user_namespace},
        {"capabilities", true, "run agentd as root with these capabilities (see agentd.service)", look_capabilities},
        {"bpf", true, "see the detail; a container needs CAP_BPF and a seccomp profile that allows bpf(2)", look_bpf},
        {"worker_user", true, "make the user agentd: systemd-sysusers agentd.conf", look_worker},
        {"process_access", false,
         "without these, namespaces of agents' processes, adopted cgroups or the worker's user cannot be reached",
         look_process_access},
        {"bpffs", false, "nothing: agentd mounts one at /sys/fs/bpf; or mount -t bpf bpf /sys/fs/bpf", look_bpffs},
        {"btf", true, "boot a kernel with CONFIG_DEBUG_INFO_BTF: what a fragmented packet weighs is read by type",
         look_btf},
        {"bpf_jit", false, "sysctl net.core.bpf_jit_enable=1: from 6.2 on the programs need it", look_jit},
        {"sock_destroy", false,
         "without CONFIG_INET_DIAG_DESTROY, connections that a policy ends hang until they time out",
         look_sock_destroy},
        {"bpf_sock_destroy", false, "nothing: SOCK_DIAG is used instead; comes with kernel 6.5", look_bpf_sock_destroy},
        {"tcx", false, "tier 3 uses clsact instead; comes with kernel 6.6", look_tcx},
        {"connect_unix", false, "Unix sockets of the host cannot be judged; comes with kernel 6.7", look_connect_unix},
        {"lsm_cgroup", false, "boot with lsm=...,bpf: packet sockets are then denied at their creation", look_lsm},
        {"trust_anchor", false, "install dns-root-data: needed for `dnssec: on`", look_trust_anchor},
        {"user", false, "systemd-sysusers agentd.conf: the worker shares its user with nobody then", look_user},
        {"inotify", false, "sysctl fs.inotify.max_user_watches=65536: until then new agents are found within a second",
         look_inotify},
};

static bool rule_exists(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
                if (strcmp(rules[i].name, name) == 0)
                        return true;
        return false;
}

size_t doctor_run(const char *root, const struct doctor_probe *probes, size_t n_probes, struct doctor_check *ret,
                  size_t capacity)
{
        const struct doctor doctor = {.root = root, .probes = probes, .n_probes = n_probes};
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(rules) && n < capacity; i++) {
                struct doctor_check *check = &ret[n++];

                *check = (struct doctor_check){.name = rules[i].name, .required = rules[i].required};
                check->ok = rules[i].look(&doctor, check);
                check->advice = check->ok ? "" : rules[i].advice;
        }
        for (size_t i = 0; i < n_probes && n < capacity; i++) {
                struct doctor_check *check = &ret[n];

                if (rule_exists(probes[i].name))
                        continue;
                *check = (struct doctor_check){.name = probes[i].name, .advice = ""};
                (void)probe_decides(&doctor, probes[i].name, check, &check->ok);
                n++;
        }
        return n;
}

bool doctor_ok(const struct doctor_check *checks, size_t n_checks)
{
        for (size_t i = 0; i < n_checks; i++)
                if (checks[i].required && !checks[i].ok)
                        return false;
        return true;
}

json_t *doctor_to_json(const struct doctor_check *checks, size_t n_checks)
{
        json_t *array = json_array();

        for (size_t i = 0; i < n_checks && array; i++) {
                /* What the host says may be no UTF-8, which jansson refuses. */
                json_t *check =
                        json_pack("{s:s,s:b,s:b,s:s,s:s}", "name", checks[i].name, "ok", (int)checks[i].ok, "required",
                                  (int)checks[i].required, "detail", checks[i].detail, "advice", checks[i].advice);

                if (!check)
                        check = json_pack("{s:s,s:b,s:b,s:s,s:s}", "name", checks[i].name, "ok", (int)checks[i].ok,
                                          "required", (int)checks[i].required, "detail", "(not printable)", "advice",
                                          checks[i].advice);
                if (!check || json_array_append_new(array, check) < 0) {
                        json_decref(array);
                        return NULL;
                }
        }
        return array;
}

void doctor_print(FILE *stream, const struct doctor_check *checks, size_t n_checks)
{
        for (size_t i = 0; i < n_checks; i++) {
                fprintf(stream, "%-8s %-18s %s\n",
                        checks[i].ok         ? "ok"
                        : checks[i].required ? "MISSING"
                                             : "absent",
                        checks[i].name, checks[i].detail);
                if (!checks[i].ok && checks[i].advice[0])
                        fprintf(stream, "%-8s %-18s -> %s\n", "", "", checks[i].advice);
        }
}
