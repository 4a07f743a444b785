/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What agents have learned, in the kernel: addresses that the programs read, names that the next daemon reads; and the
 * listeners that the redirect needs.
 */
#include <errno.h>
#include <string.h>

#include "agentd/datapath/internal.h"
#include "agentd/util/cleanup.h"

static int learned_fd(const struct datapath *datapath)
{
        return bpf_map__fd(datapath->skeleton->maps.learned);
}

int datapath_learned_set(struct datapath *datapath, __u32 agent_id, const struct address *address, __u64 expires_ns,
                         __u32 version, const struct match_list *list)
{
        struct learned_key key = {.agent_id = agent_id, .address = *address};
        struct policy_slot *policy = datapath_policy_find(datapath, version);
        struct learned_entry entry = {};
        bool renewed;
        __u32 index, current;
        size_t slot;
        int r;

        if (agent_id == 0 || agent_id >= AGENT_MAX)
                return -EINVAL;
        if (!policy)
                return -ENOENT;
        r = datapath_list_intern(datapath, policy, list->matches, list->n_matches, &index);
        if (r < 0)
                return r;

        renewed = bpf_map_lookup_elem(learned_fd(datapath), &key, &entry) == 0;
        current = WORD_VERSION(datapath->entries[agent_id].word);
        if (entry.slots[0].version == version)
                slot = 0;
        else if (entry.slots[1].version == version)
                slot = 1;
        else
                slot = entry.slots[0].version == current && current != 0; /* the one that is not in use */
        entry.slots[slot].version = version;
        entry.slots[slot].list = index;
        entry.expires_ns = expires_ns;

        r = bpf_map_update_elem(learned_fd(datapath), &key, &entry, BPF_ANY);
        if (r < 0)
                return r == -E2BIG ? -ENOSPC : r;
        datapath->n_learned += !renewed;
        return 0;
}

int datapath_learned_get(struct datapath *datapath, __u32 agent_id, const struct address *address,
                         struct learned_entry *ret)
{
        struct learned_key key = {.agent_id = agent_id, .address = *address};

        return bpf_map_lookup_elem(learned_fd(datapath), &key, ret);
}

int datapath_learned_remove(struct datapath *datapath, __u32 agent_id, const struct address *address)
{
        struct learned_key key = {.agent_id = agent_id, .address = *address};
        int r = bpf_map_delete_elem(learned_fd(datapath), &key);

        if (r == 0 && datapath->n_learned > 0)
                datapath->n_learned--;
        return r;
}

/* FNV-1a, 32 bits. */
static __u32 name_hash(const char *name)
{
        __u32 hash = 2166136261u;

        for (; *name; name++)
                hash = (hash ^ (__u8)*name) * 16777619u;
        return hash;
}

static struct learned_name_key name_key(__u32 agent_id, const struct address *address, const char *name)
{
        return (struct learned_name_key){.agent_id = agent_id, .name_hash = name_hash(name), .address = *address};
}

int datapath_learned_name_set(struct datapath *datapath, __u32 agent_id, const struct address *address,
                              const char *name, __u64 expires_ns)
{
        struct learned_name_key key = name_key(agent_id, address, name);
        struct learned_name value = {.expires_ns = expires_ns};
        int r;

        if (strlen(name) >= sizeof(value.name))
                return -EINVAL;
        memcpy(value.name, name, strlen(name));
        r = bpf_map_update_elem(bpf_map__fd(datapath->skeleton->maps.learned_names), &key, &value, BPF_ANY);
        return r == -E2BIG ? -ENOSPC : r;
}

int datapath_learned_name_remove(struct datapath *datapath, __u32 agent_id, const struct address *address,
                                 const char *name)
{
        struct learned_name_key key = name_key(agent_id, address, name);

        return bpf_map_delete_elem(bpf_map__fd(datapath->skeleton->maps.learned_names), &key);
}

struct name_visitor {
        void (*function)(void *context, const struct learned_name_key *, const struct learned_name *);
        void *context;
};

static int visit_name(void *context, const void *key, const void *value)
{
        const struct name_visitor *visitor = context;

        visitor->function(visitor->context, key, value);
        return 0;
}

int datapath_learned_names(struct datapath *datapath,
                           void (*function)(void *context, const struct learned_name_key *,
                                            const struct learned_name *),
                           void *context)
{
        struct name_visitor visitor = {function, context};

        return datapath_map_each(bpf_map__fd(datapath->skeleton->maps.learned_names), sizeof(struct learned_name_key),
                                 sizeof(struct learned_name), visit_name, &visitor);
}

static int listeners_fd(const struct datapath *datapath)
{
        return bpf_map__fd(datapath->skeleton->maps.listeners);
}

int datapath_listener_set(struct datapath *datapath, __u64 netns_cookie, __u32 agent_id, __u16 port)
{
        struct listener_key by_port = {.netns_cookie = netns_cookie, .id = port, .kind = LISTENER_PORT};
        struct listener_key by_agent = {.netns_cookie = netns_cookie, .id = agent_id, .kind = LISTENER_AGENT};
        __u32 value = agent_id;
        int r;

        /* Whose the port is comes first: the redirect leads there only once others are refused. */
        r = bpf_map_update_elem(listeners_fd(datapath), &by_port, &value, BPF_ANY);
        if (r < 0)
                return r == -E2BIG ? -ENOSPC : r;
        value = port;
        r = bpf_map_update_elem(listeners_fd(datapath), &by_agent, &value, BPF_ANY);
        return r == -E2BIG ? -ENOSPC : r;
}

int datapath_listener_remove(struct datapath *datapath, __u64 netns_cookie, __u32 agent_id, __u16 port)
{
        struct listener_key by_port = {.netns_cookie = netns_cookie, .id = port, .kind = LISTENER_PORT};
        struct listener_key by_agent = {.netns_cookie = netns_cookie, .id = agent_id, .kind = LISTENER_AGENT};
        __u32 owner = 0;

        (void)bpf_map_delete_elem(listeners_fd(datapath), &by_agent);
        if (bpf_map_lookup_elem(listeners_fd(datapath), &by_port, &owner) < 0 || owner != agent_id)
                return -ENOENT;
        return bpf_map_delete_elem(listeners_fd(datapath), &by_port);
}

static int gather_listener(void *context, const void *key, const void *value)
{
        struct {
                struct listener_key *keys;
                size_t n, capacity;
        } *gathered = context;

        if (gathered->n == gathered->capacity)
                return -ENOSPC;
        gathered->keys[gathered->n++] = *(const struct listener_key *)key;
        return 0;
}

int datapath_listeners_clear(struct datapath *datapath)
{
        struct {
                struct listener_key *keys;
                size_t n, capacity;
        } gathered = {.capacity = 1 << 15};
        int r;

        gathered.keys = calloc(gathered.capacity, sizeof(*gathered.keys));
        if (!gathered.keys)
                return -ENOMEM;
        r = datapath_map_each(listeners_fd(datapath), sizeof(struct listener_key), sizeof(__u32), gather_listener,
                              &gathered);
        for (size_t i = 0; i < gathered.n; i++)
                (void)bpf_map_delete_elem(listeners_fd(datapath), &gathered.keys[i]);
        free(gathered.keys);
        return r;
}

int datapath_asked(struct datapath *datapath, __u32 agent_id, __u8 ip_protocol, __u16 source_port,
                   struct address *ret_server)
{
        struct {
                __u32 agent_id;
                __u16 source_port;
                __u8 ip_protocol;
                __u8 reserved;
        } key = {agent_id, source_port, ip_protocol, 0};

        return bpf_map_lookup_elem(bpf_map__fd(datapath->skeleton->maps.asked), &key, ret_server);
}

size_t datapath_usage(struct datapath *datapath, struct datapath_usage *ret, size_t capacity)
{
        const struct datapath_usage usage[] = {
                {"hosts", (__u32)datapath->n_hosts, bpf_map__max_entries(datapath->skeleton->maps.hosts)},
                {"cidrs", (__u32)datapath->n_cidrs, bpf_map__max_entries(datapath->skeleton->maps.cidrs)},
                {"matches", datapath->matches_used, MATCHES_CAPACITY},
                {"learned", (__u32)datapath->n_learned, bpf_map__max_entries(datapath->skeleton->maps.learned)},
        };
        size_t n = MIN(capacity, sizeof(usage) / sizeof(usage[0]));

        memcpy(ret, usage, n * sizeof(*ret));
        return n;
}
