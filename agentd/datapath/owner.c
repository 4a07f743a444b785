/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A question to the program agentd_owner: the frame is the question, its device and its namespace are the socket's.
 */
#include "agentd/datapath/owner.h"

#include <linux/if_ether.h>
#include <string.h>

#include "agentd/datapath/internal.h"
#include "agentd/net/netns.h"

struct ask {
        int program_fd;
        __u32 interface;
        const struct owner_question *question;
};

static int ask(void *context)
{
        const struct ask *asked = context;
        char frame[ETH_HLEN + sizeof(*asked->question)] = {0};
        struct __sk_buff skb = {.ifindex = asked->interface};
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof(frame), .ctx_in = &skb,
                    .ctx_size_in = asked->interface ? sizeof(skb) : 0);
        int r;

        if (!asked->interface)
                options.ctx_in = NULL;
        memcpy(frame + ETH_HLEN, asked->question, sizeof(*asked->question));
        r = bpf_prog_test_run_opts(asked->program_fd, &options);
        return r < 0 ? r : (int)options.retval;
}

enum owner_answer datapath_owner(const struct datapath *datapath, int netns_fd, __u32 interface,
                                 const struct owner_question *question)
{
        struct ask asked = {bpf_program__fd(datapath->skeleton->progs.agentd_owner), interface, question};
        int r = netns_call(netns_fd, ask, &asked);

        return r == OWNER_SELF || r == OWNER_OTHER ? (enum owner_answer)r : OWNER_UNKNOWN;
}
