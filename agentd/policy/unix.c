/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Items of `unix.deny`: what is one, and its keys. A key is found by all addresses that begin like it, so a whole path
 * is a key that ends with its NUL.
 */
#include "agentd/policy/unix.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/util/macro.h"

const char *const unix_defaults[] = {
        /* names are looked up for whoever asks, and that leaves the host */
        "/run/systemd/resolve/io.systemd.Resolve",
        "/run/systemd/resolve/io.systemd.Resolve.Monitor",
        "/run/nscd/socket",
        "/var/run/nscd/socket",
        "/run/avahi-daemon/socket",
        "/var/run/avahi-daemon/socket",
        /* programs are started outside of the agent */
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/containerd/containerd.sock.ttrpc",
        "/var/run/containerd/containerd.sock",
        "/run/k3s/containerd/containerd.sock",
        "@/containerd-shim/*",
        "/run/crio/crio.sock",
        "/var/run/crio/crio.sock",
        "/run/podman/podman.sock",
        "/var/run/podman/podman.sock",
        "/run/buildkit/buildkitd.sock",
        "/run/cri-dockerd.sock",
        "/var/run/cri-dockerd.sock",
        "/var/lib/lxd/unix.socket",
        "/var/snap/lxd/common/lxd/unix.socket",
        "/var/lib/incus/unix.socket",
        "/run/libvirt/libvirt-sock",
        "/var/run/libvirt/libvirt-sock",
        "/run/snapd.socket",
        "/run/systemd/private",
        "/run/dbus/system_bus_socket",
        "/var/run/dbus/system_bus_socket",
        /* the policy itself */
        "/run/agentd/agentd.sock",
        "/var/run/agentd/agentd.sock",
};
const size_t unix_n_defaults = ARRAY_SIZE(unix_defaults);

enum { UNIX_RESOLVERS = 4 };

enum unix_answer unix_default_answer(size_t i)
{
        return i < UNIX_RESOLVERS ? UNIX_DENIED_QUIETLY : UNIX_DENIED;
}

/* The star at the end of a directory or of an abstract name's beginning. */
static bool is_prefix(const char *item, size_t length)
{
        return item[length - 1] == '*' && (item[length - 2] == '/' || (item[0] == '@' && length == 2));
}

static bool component_is_odd(const char *path)
{
        while (*path) {
                size_t length = strcspn(++path, "/");

                if (length == 0 && path[0] == '/')
                        return true;
                if ((length == 1 && path[0] == '.') || (length == 2 && memcmp(path, "..", 2) == 0))
                        return true;
                path += length;
        }
        return false;
}

const char *unix_item_problem(const char *item)
{
        size_t length = strlen(item);

        if (item[0] != '/' && item[0] != '@')
                return "not an absolute path; write '/run/NAME', '/run/DIRECTORY/*' or '@ABSTRACT'";
        if (length < 2)
                return "no socket has this name; write '/run/NAME', '/run/DIRECTORY/*' or '@ABSTRACT'";
        if (length > UNIX_PATH_MAX_BYTES)
                return "longer than a socket's address can be (108 bytes)";
        if (strchr(item, '*') && (strchr(item, '*') != item + length - 1 || !is_prefix(item, length)))
                return "a '*' can only stand alone behind the last '/', or alone behind '@'";
        if (item[0] == '@')
                return NULL;
        if (item[length - 1] == '/')
                return "a directory; write it with a '*' at its end for all that is below it";
        if (component_is_odd(item))
                return "not a plain path; write it without '//', '.' and '..'";
        if (strncmp(item, "/proc/", 6) == 0)
                return "paths below /proc lead elsewhere; write where the socket is";
        return NULL;
}

static struct unix_key key_make(enum unix_kind kind, __u32 version, const char *name, size_t bytes)
{
        struct unix_key key = {.prefix_length = (__u32)(UNIX_KEY_HEAD_BITS + 8 * bytes),
                               .version = htobe32(version),
                               .kind = (__u8)kind};

        memcpy(key.name, name, MIN(bytes, sizeof(key.name)));
        return key;
}

struct unix_key unix_mark_key(enum unix_kind kind, __u32 version)
{
        return key_make(kind, version, "", 0);
}

size_t unix_item_keys(const char *item, __u32 version, struct unix_key ret[UNIX_KEYS_OF_ITEM])
{
        size_t length = strlen(item);
        const char *last;

        if (item[0] == '@') {
                /* Of 108 bytes the first is the NUL that '@' stands for. A full one has no NUL behind it. */
                ret[0] = is_prefix(item, length) ? key_make(UNIX_ABSTRACT, version, item + 1, length - 2)
                                                 : key_make(UNIX_ABSTRACT, version, item + 1,
                                                            MIN(length, (size_t)UNIX_PATH_MAX_BYTES - 1));
                return 1;
        }
        if (is_prefix(item, length)) {
                ret[0] = key_make(UNIX_PATH, version, item, length - 1);
                /* What does not say where it is may be below this directory. */
                ret[1] = key_make(UNIX_NAME, version, "", 0);
                return 2;
        }
        last = strrchr(item, '/') + 1;
        ret[0] = key_make(UNIX_PATH, version, item, length + 1);
        ret[1] = key_make(UNIX_NAME, version, last, strlen(last) + 1);
        return 2;
}

bool unix_rules_equal(const struct unix_rules *a, const struct unix_rules *b)
{
        if (a->n_deny != b->n_deny || a->no_defaults != b->no_defaults || a->outside_deny != b->outside_deny)
                return false;
        for (size_t i = 0; i < a->n_deny; i++)
                if (strcmp(a->deny[i], b->deny[i]) != 0)
                        return false;
        return true;
}

void unix_rules_clear(struct unix_rules *rules)
{
        for (size_t i = 0; i < rules->n_deny; i++)
                free(rules->deny[i]);
        free(rules->deny);
        *rules = (struct unix_rules){0};
}
