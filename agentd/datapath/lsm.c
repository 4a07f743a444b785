/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Loading tier 4. That `bpf` is listed among the security modules proves nothing, nor does loading: the monitor tries
 * it on a cgroup of its own (agentd/monitor_lsm.c) before it is called present.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "agentd/datapath/extra_internal.h"
#include "agentd/util/log.h"
#include "bpf/lsm.skel.h"

static int load(struct datapath *datapath, bool whole)
{
        struct lsm_bpf *skeleton = lsm_bpf__open();
        int r;

        if (!skeleton)
                return -errno;
        (void)bpf_program__set_autoload(skeleton->progs.agentd_unix_connect, whole);
        (void)bpf_program__set_autoload(skeleton->progs.agentd_unix_send, whole);
        r = datapath_extra_share(datapath, skeleton->obj);
        if (r == 0)
                r = datapath_probe_mark_choose(&datapath->lsm_probe_protocol);
        datapath->lsm_probe_protocol = (datapath->lsm_probe_protocol & INT32_MAX) | 1;
        skeleton->rodata->lsm_probe_protocol = (__s32)datapath->lsm_probe_protocol;
        if (r == 0)
                r = lsm_bpf__load(skeleton);
        if (r < 0) {
                lsm_bpf__destroy(skeleton);
                return r;
        }
        datapath->lsm = skeleton;
        return 0;
}

/* The guard's own: there when tier 4 is. */
static int guard_describe(struct datapath *datapath)
{
        struct bpf_program *program = datapath->lsm->progs.agentd_guard_socket_create;
        struct datapath_hook *hook = &datapath->guard_hooks[DATAPATH_GUARD_LSM];
        struct bpf_prog_info info = {};
        __u32 size = sizeof(info);

        *hook = (struct datapath_hook){HOOK_GUARD, "socket_create", BPF_LSM_CGROUP, program, bpf_program__fd(program)};
        if (bpf_obj_get_info_by_fd(hook->program_fd, &info, &size) < 0)
                return -errno;
        hook->program_id = info.id;
        return 0;
}

void datapath_lsm_load(struct datapath *datapath)
{
        char detail[160];
        int r = load(datapath, true), whole = r;

        if (r < 0)
                r = load(datapath, false);
        if (r == 0)
                r = datapath_extra_describe(datapath, EXTRA_SOCKET_CREATE, datapath->lsm->progs.agentd_socket_create,
                                            BPF_LSM_CGROUP);
        if (r == 0)
                r = guard_describe(datapath);
        if (r < 0) {
                (void)snprintf(detail, sizeof(detail), "the kernel refuses LSM programs: %s", strerror(-r));
                datapath_lsm_refuse(datapath, detail);
                return;
        }
        if (whole == 0)
                whole = datapath_extra_describe(datapath, EXTRA_LSM_CONNECT, datapath->lsm->progs.agentd_unix_connect,
                                                BPF_LSM_CGROUP);
        if (whole == 0)
                whole = datapath_extra_describe(datapath, EXTRA_LSM_SEND, datapath->lsm->progs.agentd_unix_send,
                                                BPF_LSM_CGROUP);
        if (whole < 0) {
                (void)snprintf(detail, sizeof(detail), "the kernel refuses LSM programs for Unix sockets: %s",
                               strerror(-whole));
                datapath_extra_absent(datapath, EXTRA_LSM_CONNECT, detail);
                datapath_extra_absent(datapath, EXTRA_LSM_SEND, detail);
        }
}

void datapath_lsm_close(struct datapath *datapath)
{
        lsm_bpf__destroy(datapath->lsm);
        datapath->lsm = NULL;
}
