/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Unix sockets: the table of what is denied, and the programs of Linux 6.7 that ask it.
 *
 * The table is made here and not by one of the objects: either may be refused by the kernel, and the other is to find
 * it. It is pinned like the others, so what an earlier daemon wrote holds until this one has published.
 */
#include "agentd/datapath/unix.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agentd/datapath/extra_internal.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"
#include "bpf/unix.skel.h"

/* Not known to the headers of Debian 12: include/uapi/linux/bpf.h of Linux 6.7. */
enum { ATTACH_UNIX_CONNECT = 49, ATTACH_UNIX_SENDMSG = 50, UNIX_CAPACITY = 1 << 16 };

static int key_add(int fd, const struct unix_key *key, __u32 value)
{
        return bpf_map_update_elem(fd, key, &value, BPF_ANY);
}

static int item_add(int fd, const char *item, __u32 version, enum unix_answer answer)
{
        struct unix_key keys[UNIX_KEYS_OF_ITEM];
        size_t n = unix_item_keys(item, version, keys);

        for (size_t i = 0; i < n; i++) {
                int r = key_add(fd, &keys[i], answer);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int rules_add(int fd, __u32 version, const struct unix_rules *rules)
{
        struct unix_key mark;
        int r = 0;

        for (size_t i = 0; r == 0 && i < rules->n_deny; i++)
                r = item_add(fd, rules->deny[i], version, UNIX_DENIED);
        if (r == 0 && rules->no_defaults) {
                mark = unix_mark_key(UNIX_NO_DEFAULTS, version);
                r = key_add(fd, &mark, UNIX_DENIED);
        }
        if (r == 0 && rules->outside_deny) {
                mark = unix_mark_key(UNIX_OUTSIDE, version);
                r = key_add(fd, &mark, UNIX_DENIED);
        }
        return r;
}

int datapath_unix_add(struct datapath *datapath, __u32 version, const struct unix_rules *rules)
{
        int r = rules_add(datapath->unix_denied_fd, version, rules);

        if (r < 0)
                datapath_unix_remove(datapath, version, rules);
        return r;
}

void datapath_unix_remove(struct datapath *datapath, __u32 version, const struct unix_rules *rules)
{
        struct unix_key keys[UNIX_KEYS_OF_ITEM], mark;
        int fd = datapath->unix_denied_fd;

        for (size_t i = 0; i < rules->n_deny; i++) {
                size_t n = unix_item_keys(rules->deny[i], version, keys);

                for (size_t k = 0; k < n; k++)
                        (void)bpf_map_delete_elem(fd, &keys[k]); /* two items may share one */
        }
        mark = unix_mark_key(UNIX_NO_DEFAULTS, version);
        (void)bpf_map_delete_elem(fd, &mark);
        mark = unix_mark_key(UNIX_OUTSIDE, version);
        (void)bpf_map_delete_elem(fd, &mark);
}

static bool is_default(const struct unix_key *key)
{
        struct unix_key keys[UNIX_KEYS_OF_ITEM];

        for (size_t i = 0; i < unix_n_defaults; i++) {
                size_t n = unix_item_keys(unix_defaults[i], UNIX_SHARED, keys);

                for (size_t k = 0; k < n; k++)
                        if (memcmp(key, &keys[k], sizeof(*key)) == 0)
                                return true;
        }
        return false;
}

static bool is_ours(struct datapath *datapath, const struct unix_key *key)
{
        __u32 version = be32toh(key->version);

        return version == UNIX_SHARED ? is_default(key) : datapath_policy_find(datapath, version) != NULL;
}

int datapath_unix_sweep(struct datapath *datapath)
{
        _cleanup_free_ struct unix_key *foreign = NULL;
        struct unix_key key, *previous = NULL;
        size_t n = 0;

        foreign = calloc(UNIX_CAPACITY, sizeof(*foreign));
        if (!foreign)
                return -ENOMEM;
        while (n < UNIX_CAPACITY && bpf_map_get_next_key(datapath->unix_denied_fd, previous, &key) == 0) {
                previous = &key;
                if (!is_ours(datapath, &key))
                        foreign[n++] = key;
        }
        for (size_t i = 0; i < n; i++)
                (void)bpf_map_delete_elem(datapath->unix_denied_fd, &foreign[i]);
        return 0;
}

/* Versions that an earlier daemon used are not used again before the sweep. */
static void versions_note(struct datapath *datapath)
{
        struct unix_key key, *previous = NULL;

        for (size_t i = 0; i < UNIX_CAPACITY && bpf_map_get_next_key(datapath->unix_denied_fd, previous, &key) == 0;
             i++) {
                previous = &key;
                datapath->next_version = MAX(datapath->next_version, be32toh(key.version) % (POLICY_INGRESS - 1) + 1);
        }
}

static int table_check(int fd)
{
        struct bpf_map_info info = {};
        __u32 size = sizeof(info);

        if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
                return -errno;
        return info.type == BPF_MAP_TYPE_LPM_TRIE && info.key_size == sizeof(struct unix_key) &&
                               info.value_size == sizeof(__u32)
                       ? 0
                       : -EPROTO;
}

int datapath_unix_open(struct datapath *datapath)
{
        LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_NO_PREALLOC);
        _cleanup_free_ char *path = NULL;
        int r;

        if (asprintf(&path, "%s/unix_denied", datapath->directory) < 0)
                return -ENOMEM;
        datapath->unix_denied_fd = bpf_obj_get(path);
        if (datapath->unix_denied_fd == -ENOENT) {
                datapath->unix_denied_fd = bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "unix_denied", sizeof(struct unix_key),
                                                          sizeof(__u32), UNIX_CAPACITY, &options);
                if (datapath->unix_denied_fd < 0)
                        return datapath->unix_denied_fd;
                r = bpf_obj_pin(datapath->unix_denied_fd, path);
                if (r < 0)
                        return r;
        }
        if (datapath->unix_denied_fd < 0)
                return datapath->unix_denied_fd;
        r = table_check(datapath->unix_denied_fd);
        if (r < 0)
                return r;
        versions_note(datapath);
        for (size_t i = 0; i < unix_n_defaults; i++) {
                r = item_add(datapath->unix_denied_fd, unix_defaults[i], UNIX_SHARED, unix_default_answer(i));
                if (r < 0)
                        return r;
        }
        return 0;
}

static int load(struct datapath *datapath)
{
        struct unix_bpf *skeleton = unix_bpf__open();
        int r;

        if (!skeleton)
                return -errno;
        (void)bpf_program__set_expected_attach_type(skeleton->progs.agentd_connect_unix,
                                                    (enum bpf_attach_type)ATTACH_UNIX_CONNECT);
        (void)bpf_program__set_expected_attach_type(skeleton->progs.agentd_sendmsg_unix,
                                                    (enum bpf_attach_type)ATTACH_UNIX_SENDMSG);
        r = datapath_extra_share(datapath, skeleton->obj);
        if (r == 0)
                r = unix_bpf__load(skeleton);
        if (r < 0) {
                unix_bpf__destroy(skeleton);
                return r;
        }
        datapath->connect_unix = skeleton;
        return 0;
}

void datapath_unix_load(struct datapath *datapath)
{
        char detail[160];
        int r = load(datapath);

        if (r == 0)
                r = datapath_extra_describe(datapath, EXTRA_CONNECT_UNIX,
                                            datapath->connect_unix->progs.agentd_connect_unix, ATTACH_UNIX_CONNECT);
        if (r == 0)
                r = datapath_extra_describe(datapath, EXTRA_SENDMSG_UNIX,
                                            datapath->connect_unix->progs.agentd_sendmsg_unix, ATTACH_UNIX_SENDMSG);
        if (r == 0)
                return;
        (void)snprintf(detail, sizeof(detail), "the kernel refuses the programs: %s; it comes with Linux 6.7",
                       strerror(-r));
        datapath_extra_absent(datapath, EXTRA_CONNECT_UNIX, detail);
        datapath_extra_absent(datapath, EXTRA_SENDMSG_UNIX, detail);
}

void datapath_unix_close(struct datapath *datapath)
{
        unix_bpf__destroy(datapath->connect_unix);
        datapath->connect_unix = NULL;
        close_fd(&datapath->unix_denied_fd);
}
