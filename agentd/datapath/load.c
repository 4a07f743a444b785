/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Loading the programs and opening (or adopting) the pinned maps.
 *
 * libbpf reuses a pinned map whose fields were swapped at equal size without a word, so the map `abi` is read before
 * any other is believed. Programs are loaded anew at each start; adopted links are then updated in place.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>

#include "agentd/datapath/internal.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

struct abi_stamp_value {
        __u32 version;
        __u32 reserved[15];
};

/* libbpf's last complaint: it names what the kernel refused. */
static char last_complaint[200];

static int print_keep(enum libbpf_print_level level, const char *format, va_list arguments)
{
        char line[512];
        char *end;

        if (level != LIBBPF_WARN)
                return 0;
        (void)vsnprintf(line, sizeof(line), format, arguments);
        end = strchr(line, '\n');
        if (end)
                *end = '\0';
        if (!last_complaint[0] && !strstr(line, "BEGIN PROG LOAD LOG"))
                (void)snprintf(last_complaint, sizeof(last_complaint), "%.190s", line);
        log_debug("%s", line);
        return 0;
}

static int on_bpffs(const char *path)
{
        struct statfs status;

        if (statfs(path, &status) < 0)
                return -errno;
        return (__u32)status.f_type == (__u32)BPF_FS_MAGIC;
}

static int make_directories(const char *path)
{
        _cleanup_free_ char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;
        for (char *p = copy + 1; *p; p++) {
                if (*p != '/')
                        continue;
                *p = '\0';
                if (mkdir(copy, 0700) < 0 && errno != EEXIST)
                        return -errno;
                *p = '/';
        }
        if (mkdir(copy, 0700) < 0 && errno != EEXIST)
                return -errno;
        return 0;
}

static int mount_bpffs(const char *path, struct datapath_error *error)
{
        if (mount("bpf", path, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME, "mode=0700") < 0) {
                int r = -errno;

                (void)snprintf(error->text, sizeof(error->text), "cannot mount a BPF file system at '%s'", path);
                return r;
        }
        return 0;
}

int datapath_directory(const char *root, struct datapath_error *error, char **ret)
{
        static const char standard[] = "/sys/fs/bpf";
        int r;

        if (!root)
                root = standard;
        if (root[0] != '/') {
                (void)snprintf(error->text, sizeof(error->text), "'%s' is not an absolute path", root);
                return -EINVAL;
        }

        if (strncmp(root, standard, strlen(standard)) == 0 && on_bpffs(standard) == 0) {
                r = mount_bpffs(standard, error);
                if (r < 0)
                        return r;
        }
        r = make_directories(root);
        if (r < 0) {
                (void)snprintf(error->text, sizeof(error->text), "cannot make the directory '%s'", root);
                return r;
        }
        r = on_bpffs(root);
        if (r == 0)
                r = mount_bpffs(root, error);
        if (r < 0)
                return r;

        if (asprintf(ret, "%s/agentd/v%d", root, AGENTD_ABI_VERSION) < 0)
                return -ENOMEM;
        return 0;
}

static int error_other_abi(const char *directory, struct datapath_error *error)
{
        (void)snprintf(error->text, sizeof(error->text),
                       "the maps in '%s' are of another version of agentd; it goes on enforcing. "
                       "Run the agentd that made them, or `agentd uninstall`",
                       directory);
        return -EPROTO;
}

/* 0: fine or nothing there. -EPROTO: another ABI's maps. */
static int check_abi(const char *directory, struct datapath_error *error)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;
        struct abi_stamp_value stamp;
        struct bpf_map_info info = {};
        __u32 key = 0, size = sizeof(info);

        if (asprintf(&path, "%s/abi", directory) < 0)
                return -ENOMEM;
        fd = bpf_obj_get(path);
        if (fd == -ENOENT)
                return 0;
        if (fd < 0)
                return fd;
        if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0 || info.value_size != sizeof(stamp) ||
            bpf_map_lookup_elem(fd, &key, &stamp) < 0 || (stamp.version != AGENTD_ABI_VERSION && stamp.version != 0))
                return error_other_abi(directory, error);
        return 0;
}

static int check_kernel(struct datapath_error *error)
{
        struct utsname name;
        unsigned major = 0, minor = 0;

        if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
                return -EOPNOTSUPP;
        if (major > 6 || (major == 6 && minor >= 1))
                return 0;
        (void)snprintf(error->text, sizeof(error->text), "Linux %.32s cannot enforce: 6.1 or newer is needed",
                       name.release);
        return -EOPNOTSUPP;
}

static int pin_maps(struct datapath *datapath)
{
        struct bpf_map *map;

        bpf_object__for_each_map(map, datapath->skeleton->obj)
        {
                _cleanup_free_ char *path = NULL;
                int r;

                /* Constants of the object itself have no state to keep. */
                if (bpf_map__is_internal(map))
                        continue;
                if (asprintf(&path, "%s/%s", datapath->directory, bpf_map__name(map)) < 0)
                        return -ENOMEM;
                r = bpf_map__set_pin_path(map, path);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int describe_hook(const struct datapath_hook *hook, struct datapath_hook *ret)
{
        struct bpf_prog_info info = {};
        __u32 size = sizeof(info);

        *ret = *hook;
        ret->program_fd = bpf_program__fd(hook->program);
        if (bpf_obj_get_info_by_fd(ret->program_fd, &info, &size) < 0)
                return -errno;
        ret->program_id = info.id;
        return 0;
}

static int describe_hooks(struct datapath *datapath)
{
        struct agentd_bpf *skeleton = datapath->skeleton;
        const struct datapath_hook hooks[DATAPATH_HOOKS] = {
                {HOOK_EGRESS, "egress", BPF_CGROUP_INET_EGRESS, skeleton->progs.agentd_egress},
                {HOOK_INGRESS, "ingress", BPF_CGROUP_INET_INGRESS, skeleton->progs.agentd_ingress},
                {HOOK_SOCK_CREATE, "sock_create", BPF_CGROUP_INET_SOCK_CREATE, skeleton->progs.agentd_sock_create},
                {HOOK_SETSOCKOPT, "setsockopt", BPF_CGROUP_SETSOCKOPT, skeleton->progs.agentd_setsockopt},
                {HOOK_CONNECT4, "connect4", BPF_CGROUP_INET4_CONNECT, skeleton->progs.agentd_connect4},
                {HOOK_CONNECT6, "connect6", BPF_CGROUP_INET6_CONNECT, skeleton->progs.agentd_connect6},
                {HOOK_SENDMSG4, "sendmsg4", BPF_CGROUP_UDP4_SENDMSG, skeleton->progs.agentd_sendmsg4},
                {HOOK_SENDMSG6, "sendmsg6", BPF_CGROUP_UDP6_SENDMSG, skeleton->progs.agentd_sendmsg6},
                {HOOK_RECVMSG4, "recvmsg4", BPF_CGROUP_UDP4_RECVMSG, skeleton->progs.agentd_recvmsg4},
                {HOOK_RECVMSG6, "recvmsg6", BPF_CGROUP_UDP6_RECVMSG, skeleton->progs.agentd_recvmsg6},
                {HOOK_GETPEERNAME4, "getpeername4", BPF_CGROUP_INET4_GETPEERNAME, skeleton->progs.agentd_getpeername4},
                {HOOK_GETPEERNAME6, "getpeername6", BPF_CGROUP_INET6_GETPEERNAME, skeleton->progs.agentd_getpeername6},
        };

        const struct datapath_hook guard_hooks[DATAPATH_GUARD_LSM] = {
                {HOOK_GUARD, "egress", BPF_CGROUP_INET_EGRESS, skeleton->progs.agentd_guard_egress},
                {HOOK_GUARD, "ingress", BPF_CGROUP_INET_INGRESS, skeleton->progs.agentd_guard_ingress},
                {HOOK_GUARD, "setsockopt", BPF_CGROUP_SETSOCKOPT, skeleton->progs.agentd_guard_setsockopt},
        };
        int r = 0;

        for (size_t i = 0; i < DATAPATH_HOOKS && r == 0; i++)
                r = describe_hook(&hooks[i], &datapath->hooks[i]);
        for (size_t i = 0; i < DATAPATH_GUARD_LSM && r == 0; i++)
                r = describe_hook(&guard_hooks[i], &datapath->guard_hooks[i]);
        datapath->guard_hooks[DATAPATH_GUARD_LSM].name = "socket_create"; /* the rest: lsm.c */
        return r;
}

static int map_memory(struct datapath *datapath)
{
        void *memory;

        memory = mmap(NULL, sizeof(struct agent_entry) * AGENT_MAX, PROT_READ | PROT_WRITE, MAP_SHARED,
                      bpf_map__fd(datapath->skeleton->maps.agents), 0);
        if (memory == MAP_FAILED)
                return -errno;
        datapath->entries = memory;

        memory = mmap(NULL, sizeof(struct agent_counters) * AGENT_MAX, PROT_READ, MAP_SHARED,
                      bpf_map__fd(datapath->skeleton->maps.counters), 0);
        if (memory == MAP_FAILED)
                return -errno;
        datapath->counters = memory;

        memory = mmap(NULL, sizeof(struct guard_bucket) * GUARD_BUCKETS, PROT_READ | PROT_WRITE, MAP_SHARED,
                      bpf_map__fd(datapath->skeleton->maps.guarded), 0);
        if (memory == MAP_FAILED)
                return -errno;
        datapath->guard_buckets = memory;
        return 0;
}

static int on_verdict_record(void *context, void *record, size_t size)
{
        struct datapath *datapath = context;

        if (datapath->on_verdict)
                datapath->on_verdict(datapath->record_context, record, size);
        /* A flood must not keep the loop from its other work: the rest is taken in the next turn. */
        return --datapath->records_left == 0 ? -EAGAIN : 0;
}

static int on_capture_record(void *context, void *record, size_t size)
{
        struct datapath *datapath = context;

        if (datapath->on_capture)
                datapath->on_capture(datapath->record_context, record, size);
        return --datapath->records_left == 0 ? -EAGAIN : 0;
}

static int open_rings(struct datapath *datapath)
{
        datapath->rings =
                ring_buffer__new(bpf_map__fd(datapath->skeleton->maps.captures), on_capture_record, datapath, NULL);
        if (!datapath->rings)
                return -errno;
        return ring_buffer__add(datapath->rings, bpf_map__fd(datapath->skeleton->maps.events), on_verdict_record,
                                datapath);
}

static int stamp_abi(struct datapath *datapath)
{
        struct abi_stamp_value stamp = {.version = AGENTD_ABI_VERSION};
        __u32 key = 0;

        return bpf_map_update_elem(bpf_map__fd(datapath->skeleton->maps.abi), &key, &stamp, BPF_ANY);
}

/* A run of leases for each CPU that may ever come up. */
static int size_leases(struct datapath *datapath, struct datapath_error *error)
{
        if (datapath->n_cpus > BUDGET_CPUS_MAX) {
                (void)snprintf(error->text, sizeof(error->text),
                               "this machine may have %d CPUs; budgets are counted on at most %d", datapath->n_cpus,
                               BUDGET_CPUS_MAX);
                return -EOPNOTSUPP;
        }
        datapath->skeleton->rodata->budget_cpus = (__u32)datapath->n_cpus;
        return bpf_map__set_max_entries(datapath->skeleton->maps.leases,
                                        (__u32)datapath->n_cpus * (__u32)LIMIT_SETS_MAX);
}

static int load(struct datapath *datapath, struct datapath_error *error)
{
        int r;

        datapath->skeleton = agentd_bpf__open();
        if (!datapath->skeleton)
                return -errno;
        r = size_leases(datapath, error);
        if (r < 0)
                return r;
        r = datapath_probe_mark_choose(&datapath->skeleton->rodata->device_probe_mark);
        if (r < 0)
                return r;
        r = pin_maps(datapath);
        if (r < 0)
                return r;

        last_complaint[0] = '\0';
        r = agentd_bpf__load(datapath->skeleton);
        if (r == -EPERM) {
                (void)snprintf(error->text, sizeof(error->text),
                               "the kernel refuses to load BPF programs (%.150s); root with CAP_BPF and CAP_NET_ADMIN "
                               "is needed",
                               last_complaint);
                return -EPERM;
        }
        if (r < 0 && strstr(last_complaint, "couldn't reuse pinned map"))
                return error_other_abi(datapath->directory, error);
        if (r < 0) {
                (void)snprintf(error->text, sizeof(error->text), "this kernel cannot load the programs (%.190s)",
                               last_complaint);
                return -EOPNOTSUPP;
        }
        return 0;
}

int datapath_lock(const char *directory, int *ret_fd)
{
        const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
        _cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        for (int i = 0; i < 100; i++) {
                if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
                        *ret_fd = TAKE_FD(fd);
                        return 0;
                }
                if (errno != EWOULDBLOCK && errno != EINTR)
                        return -errno;
                (void)nanosleep(&pause, NULL);
        }
        return -EBUSY;
}

DEFINE_CLEANUP(struct datapath *, datapath_free);

int datapath_new(const char *directory, struct datapath_error *error, struct datapath **ret)
{
        _cleanup_(datapath_freep) struct datapath *datapath = NULL;
        int r;

        libbpf_set_print(print_keep);
        libbpf_set_strict_mode(LIBBPF_STRICT_ALL);

        r = check_kernel(error);
        if (r < 0)
                return r;

        datapath = calloc(1, sizeof(*datapath));
        if (!datapath)
                return -ENOMEM;
        for (size_t i = 0; i < AGENT_MAX; i++)
                for (size_t h = 0; h < DATAPATH_HOOKS; h++)
                        datapath->agents[i].links[h] = -1;
        for (size_t i = 0; i < AGENT_MAX; i++)
                for (size_t kind = 0; kind < EXTRA_MAX; kind++)
                        datapath->extra_links[i][kind] = -1;
        datapath->lock_fd = datapath->unix_denied_fd = -1;
        datapath->directory = strdup(directory);
        if (!datapath->directory)
                return -ENOMEM;
        datapath->n_cpus = libbpf_num_possible_cpus();
        if (datapath->n_cpus < 1)
                return datapath->n_cpus < 0 ? datapath->n_cpus : -EINVAL;
        datapath->line_buffer = calloc((size_t)datapath->n_cpus, sizeof(struct agent_line));
        if (!datapath->line_buffer)
                return -ENOMEM;

        r = make_directories(directory);
        if (r < 0) {
                (void)snprintf(error->text, sizeof(error->text), "cannot make the directory '%.200s'", directory);
                return r;
        }
        r = datapath_lock(directory, &datapath->lock_fd);
        if (r == -EBUSY)
                (void)snprintf(error->text, sizeof(error->text),
                               "another agentd works in '%.120s'; stop it, or name another BPF file system with "
                               "AGENTD_BPFFS",
                               directory);
        if (r < 0)
                return r;
        r = check_abi(directory, error);
        if (r < 0)
                return r;
        r = load(datapath, error);
        if (r < 0)
                return r;
        r = describe_hooks(datapath);
        if (r < 0)
                return r;
        r = map_memory(datapath);
        if (r < 0)
                return r;
        r = stamp_abi(datapath);
        if (r < 0)
                return r;
        r = open_rings(datapath);
        if (r < 0)
                return r;
        r = datapath_policies_adopt(datapath);
        if (r < 0)
                return r;
        r = datapath_limits_adopt(datapath, error);
        if (r < 0)
                return r;
        r = datapath_extras_load(datapath);
        if (r < 0)
                return r;
        r = datapath_devices_adopt(datapath);
        if (r < 0)
                return r;
        r = datapath_links_adopt(datapath);
        if (r < 0)
                return r;
        r = datapath_guards_adopt(datapath);
        if (r < 0)
                return r;
        datapath_devices_sweep(datapath);

        *ret = TAKE_PTR(datapath);
        return 0;
}

void datapath_free(struct datapath *datapath)
{
        if (!datapath)
                return;
        datapath_guards_close(datapath);
        datapath_links_close(datapath);
        datapath_extras_close(datapath);
        datapath_devices_close(datapath);
        datapath_limits_close(datapath);
        datapath_policies_free(datapath);
        ring_buffer__free(datapath->rings);
        if (datapath->counters)
                munmap(datapath->counters, sizeof(struct agent_counters) * AGENT_MAX);
        if (datapath->entries)
                munmap(datapath->entries, sizeof(struct agent_entry) * AGENT_MAX);
        agentd_bpf__destroy(datapath->skeleton);
        close_fd(&datapath->lock_fd);
        free(datapath->line_buffer);
        free(datapath->directory);
        free(datapath);
}

int datapath_verdict(struct datapath *datapath, struct verdict_question *question)
{
        char frame[VERDICT_QUESTION_OFFSET + sizeof(*question)] = {0}, answer[sizeof(frame)];
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof(frame), .data_out = answer,
                    .data_size_out = sizeof(answer));
        int r;

        memcpy(frame + VERDICT_QUESTION_OFFSET, question, sizeof(*question));
        r = bpf_prog_test_run_opts(bpf_program__fd(datapath->skeleton->progs.agentd_verdict), &options);
        if (r < 0)
                return r;
        if ((int)options.retval < 0 || options.data_size_out != sizeof(answer))
                return -EIO;
        memcpy(question, answer + VERDICT_QUESTION_OFFSET, sizeof(*question));
        return 0;
}

int datapath_inbound_fd(const struct datapath *datapath)
{
        return bpf_map__fd(datapath->skeleton->maps.inbound_sockets);
}

int datapath_events_fd(struct datapath *datapath)
{
        return ring_buffer__epoll_fd(datapath->rings);
}

int datapath_events_consume(struct datapath *datapath, datapath_record_fn verdicts, datapath_record_fn captures,
                            void *context)
{
        int r;

        datapath->on_verdict = verdicts;
        datapath->on_capture = captures;
        datapath->record_context = context;
        datapath->records_left = 1 << 16;
        r = ring_buffer__consume(datapath->rings);
        return r == -EAGAIN ? 1 << 16 : r;
}
