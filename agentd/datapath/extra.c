/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Links of the hooks that not every kernel has. The same rules as in attach.c: pinned before an older one is let go,
 * updated in place, compared with what was attached.
 *
 * A hook that this daemon could not load may still hold from one that could: what is pinned stays, nothing is detached
 * for not being understood.
 */
#include "agentd/datapath/extra_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agentd/util/cleanup.h"

static int extra_path(const struct datapath *datapath, __u32 agent_id, size_t kind, char **ret)
{
        return asprintf(ret, "%s/links/%u/%s", datapath->directory, agent_id, datapath->extras[kind].hook.name) < 0
                       ? -ENOMEM
                       : 0;
}

bool datapath_extra_present(const struct datapath *datapath, enum datapath_extra_kind kind, const char **ret_detail)
{
        const struct datapath_extra *extra = &datapath->extras[kind];

        if (ret_detail)
                *ret_detail = extra->present ? "" : extra->detail;
        return extra->present;
}

void datapath_extra_absent(struct datapath *datapath, enum datapath_extra_kind kind, const char *detail)
{
        struct datapath_extra *extra = &datapath->extras[kind];

        extra->present = false;
        (void)snprintf(extra->detail, sizeof(extra->detail), "%s", detail);
}

void datapath_lsm_refuse(struct datapath *datapath, const char *detail)
{
        for (enum datapath_extra_kind kind = EXTRA_SOCKET_CREATE; kind < EXTRA_MAX; kind++)
                datapath_extra_absent(datapath, kind, detail);
}

int datapath_lsm_try(const struct datapath *datapath, int cgroup_fd)
{
        const struct datapath_extra *extra = &datapath->extras[EXTRA_SOCKET_CREATE];

        if (!extra->present)
                return -EOPNOTSUPP;
        return bpf_link_create(extra->hook.program_fd, cgroup_fd, extra->hook.type, NULL);
}

void datapath_extras_drop(struct datapath *datapath, __u32 agent_id)
{
        for (size_t kind = 0; kind < EXTRA_MAX; kind++) {
                _cleanup_free_ char *path = NULL;

                if (extra_path(datapath, agent_id, kind, &path) == 0)
                        datapath_link_drop(path, &datapath->extra_links[agent_id][kind]);
                close_fd(&datapath->extra_links[agent_id][kind]);
        }
}

static int extra_make(struct datapath *datapath, __u32 agent_id, size_t kind, int cgroup_fd)
{
        _cleanup_free_ char *path = NULL;
        int r = extra_path(datapath, agent_id, kind, &path);

        return r < 0 ? r
                     : datapath_link_make(&datapath->extras[kind].hook, cgroup_fd, path,
                                          &datapath->extra_links[agent_id][kind]);
}

int datapath_extras_attach(struct datapath *datapath, __u32 agent_id, int cgroup_fd)
{
        for (size_t kind = 0; kind < EXTRA_MAX; kind++) {
                int r = datapath->extras[kind].present ? extra_make(datapath, agent_id, kind, cgroup_fd) : 0;

                if (r < 0)
                        return r;
        }
        return 0;
}

static bool extra_holds(const struct datapath *datapath, __u32 agent_id, size_t kind)
{
        return datapath_link_holds(&datapath->extras[kind].hook, datapath->extra_links[agent_id][kind],
                                   datapath->entries[agent_id].cgroup_id);
}

static bool extra_is_pinned(const struct datapath *datapath, __u32 agent_id, size_t kind)
{
        _cleanup_free_ char *path = NULL;

        return extra_path(datapath, agent_id, kind, &path) == 0 && access(path, F_OK) == 0;
}

int datapath_extras_verify(const struct datapath *datapath, __u32 agent_id, enum hook *ret_hook)
{
        for (size_t kind = 0; kind < EXTRA_MAX; kind++) {
                if (!datapath->extras[kind].present)
                        continue;
                if (!extra_holds(datapath, agent_id, kind) || !extra_is_pinned(datapath, agent_id, kind)) {
                        *ret_hook = datapath->extras[kind].hook.hook;
                        return -ENOENT;
                }
        }
        return 0;
}

int datapath_extras_repair(struct datapath *datapath, __u32 agent_id, int cgroup_fd)
{
        for (size_t kind = 0; kind < EXTRA_MAX; kind++) {
                _cleanup_free_ char *path = NULL;
                int r = 0;

                if (!datapath->extras[kind].present)
                        continue;
                if (!extra_holds(datapath, agent_id, kind)) {
                        r = extra_make(datapath, agent_id, kind, cgroup_fd);
                } else if (!extra_is_pinned(datapath, agent_id, kind)) {
                        r = extra_path(datapath, agent_id, kind, &path);
                        if (r == 0)
                                r = bpf_obj_pin(datapath->extra_links[agent_id][kind], path);
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The cgroup that a link is on; 0: it is gone. */
static __u64 link_cgroup(int fd)
{
        struct bpf_link_info info = {};
        __u32 size = sizeof(info);

        return bpf_obj_get_info_by_fd(fd, &info, &size) < 0 ? 0 : info.cgroup.cgroup_id;
}

/* How many hold. A link that takes no update is made anew by the repair, which lets go of it afterwards. */
size_t datapath_extras_adopt(struct datapath *datapath, __u32 agent_id)
{
        size_t found = 0;

        for (size_t kind = 0; kind < EXTRA_MAX; kind++) {
                int *link = &datapath->extra_links[agent_id][kind];
                _cleanup_free_ char *path = NULL;

                if (extra_path(datapath, agent_id, kind, &path) < 0)
                        continue;
                *link = bpf_obj_get(path);
                if (*link < 0)
                        continue;
                if (link_cgroup(*link) == 0) {
                        close_fd(link);
                        continue;
                }
                if (datapath->extras[kind].present)
                        (void)bpf_link_update(*link, datapath->extras[kind].hook.program_fd, NULL);
                found++;
        }
        return found;
}

void datapath_extras_close(struct datapath *datapath)
{
        for (size_t i = 0; i < AGENT_MAX; i++)
                for (size_t kind = 0; kind < EXTRA_MAX; kind++)
                        close_fd(&datapath->extra_links[i][kind]);
        datapath_lsm_close(datapath);
        datapath_unix_close(datapath);
}

/* Whatever is wrong with one of them, the rest goes on without. */
int datapath_extras_load(struct datapath *datapath)
{
        static const struct {
                enum hook hook;
                const char *name;
        } names[EXTRA_MAX] = {
                [EXTRA_CONNECT_UNIX] = {HOOK_CONNECT_UNIX, "connect_unix"},
                [EXTRA_SENDMSG_UNIX] = {HOOK_CONNECT_UNIX, "sendmsg_unix"},
                [EXTRA_SOCKET_CREATE] = {HOOK_SOCKET_CREATE, "socket_create"},
                [EXTRA_LSM_CONNECT] = {HOOK_CONNECT_UNIX, "lsm_unix_connect"},
                [EXTRA_LSM_SEND] = {HOOK_CONNECT_UNIX, "lsm_unix_send"},
        };
        int r;

        for (size_t kind = 0; kind < EXTRA_MAX; kind++) {
                datapath->extras[kind].hook.hook = names[kind].hook;
                datapath->extras[kind].hook.name = names[kind].name;
        }
        r = datapath_unix_open(datapath);
        if (r < 0)
                return r;
        datapath_unix_load(datapath);
        datapath_lsm_load(datapath);
        return 0;
}

/* The second object's maps are the first one's. */
int datapath_extra_share(struct datapath *datapath, struct bpf_object *object)
{
        struct bpf_map *map;

        bpf_object__for_each_map(map, object)
        {
                const struct bpf_map *shared;
                int fd;

                if (bpf_map__is_internal(map))
                        continue;
                shared = bpf_object__find_map_by_name(datapath->skeleton->obj, bpf_map__name(map));
                fd = shared                                           ? bpf_map__fd(shared)
                     : strcmp(bpf_map__name(map), "unix_denied") == 0 ? datapath->unix_denied_fd
                                                                      : -EINVAL;
                if (fd < 0)
                        return fd;
                fd = bpf_map__reuse_fd(map, fd);
                if (fd < 0)
                        return fd;
        }
        return 0;
}

int datapath_extra_describe(struct datapath *datapath, enum datapath_extra_kind kind, struct bpf_program *program,
                            __u32 type)
{
        struct datapath_extra *extra = &datapath->extras[kind];
        struct bpf_prog_info info = {};
        __u32 size = sizeof(info);

        extra->hook.type = (enum bpf_attach_type)type;
        extra->hook.program = program;
        extra->hook.program_fd = bpf_program__fd(program);
        if (bpf_obj_get_info_by_fd(extra->hook.program_fd, &info, &size) < 0)
                return -errno;
        extra->hook.program_id = info.id;
        extra->present = true;
        return 0;
}
