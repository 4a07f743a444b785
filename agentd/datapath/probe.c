/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See the header.
 */
#include "agentd/datapath/probe.h"

#include <errno.h>

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
        __u64 cookie;
        int r;

        while ((r = bpf_map_get_next_key(probes_fd(datapath), NULL, &cookie)) == 0) {
                r = bpf_map_delete_elem(probes_fd(datapath), &cookie);
                if (r < 0 && r != -ENOENT)
                        return r;
        }
        return r == -ENOENT ? 0 : r;
}
