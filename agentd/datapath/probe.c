/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See the header.
 */
#include "agentd/datapath/probe.h"

#include <errno.h>
#include <sys/random.h>

#include "agentd/datapath/internal.h"

static int probes_fd(const struct datapath *datapath)
{
        return bpf_map__fd(datapath->skeleton->maps.probes);
}

int datapath_probe_add(struct datapath *datapath, __u64 cookie, __u32 agent_id)
{
        if (cookie == 0 || agent_id == 0 || agent_id >= AGENT_MAX)
                return -EINVAL;
        return bpf_map_update_elem(probes_fd(datapath), &cookie, &agent_id, BPF_ANY);
}

void datapath_probe_remove(struct datapath *datapath, __u64 cookie)
{
        if (cookie != 0)
                (void)bpf_map_delete_elem(probes_fd(datapath), &cookie);
}

int datapath_probes_clear(struct datapath *datapath)
{
        const __u32 nobody = 0;
        __u64 cookie;
        int r;

        while ((r = bpf_map_get_next_key(probes_fd(datapath), NULL, &cookie)) == 0) {
                r = bpf_map_delete_elem(probes_fd(datapath), &cookie);
                if (r < 0 && r != -ENOENT)
                        return r;
        }
        if (r != -ENOENT)
                return r;
        cookie = DEVICE_PROBE_COOKIE;
        return bpf_map_update_elem(probes_fd(datapath), &cookie, &nobody, BPF_ANY);
}

int datapath_probe_mark_choose(volatile __u32 *ret)
{
        __u32 mark = 0;

        while (mark == 0)
                if (getrandom(&mark, sizeof(mark), 0) < 0 && errno != EINTR)
                        return -errno;
        *ret = mark;
        return 0;
}

int datapath_probe_device(struct datapath *datapath, __u32 ifindex, const void *frame, size_t size)
{
        struct __sk_buff context = {.cb = {ifindex}};
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = (__u32)size, .ctx_in = &context,
                    .ctx_size_in = sizeof(context));
        int r = bpf_prog_test_run_opts(bpf_program__fd(datapath->skeleton->progs.agentd_inject), &options);

        if (r < 0)
                return r;
        if ((int)options.retval > 0) /* NET_RX_DROP */
                return -ENETDOWN;
        return (int)options.retval;
}

int datapath_probe_protocol(const struct datapath *datapath)
{
        return (int)datapath->lsm_probe_protocol;
}
