/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See bpf_world.h. Namespaces clean up after a crash by themselves; the cgroups are what a crash leaves behind, under
 * the prefix and the pid.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/net/netns.h"
#include "tests/lib/bpf_world.h"

bool bpf_world_possible(void)
{
        return geteuid() == 0;
}

static int say(int error, const char *what)
{
        fprintf(stderr, "bpf_world: %s: %s\n", what, strerror(-error));
        return error;
}

static int namespaces_new(struct bpf_world *world)
{
        char template[] = "/tmp/agentd-bpf.XXXXXX";

        if (unshare(CLONE_NEWNS | CLONE_NEWNET) < 0)
                return say(-errno, "cannot make namespaces");
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return say(-errno, "cannot make mounts private");
        if (!mkdtemp(template))
                return say(-errno, "cannot make a directory");
        world->mount_point = strdup(template);
        if (!world->mount_point || asprintf(&world->directory, "%s/agentd", template) < 0)
                return -ENOMEM;
        if (mount("bpf", template, "bpf", 0, "mode=0700") < 0)
                return say(-errno, "cannot mount a BPF file system");
        return netns_loopback_up(-1);
}

static int own_cgroup(const struct bpf_world *world, int *ret_fd)
{
        _cleanup_free_ char *path = NULL;
        int r = cgroup_of_pid(&world->mount, getpid(), &path);

        if (r == 0)
                return cgroup_open(&world->mount, path, ret_fd);
        if (r != -EISDIR)
                return r;
        *ret_fd = fcntl(world->mount.fd, F_DUPFD_CLOEXEC, 3);
        return *ret_fd < 0 ? -errno : 0;
}

static int cgroups_new(struct bpf_world *world, const char *prefix)
{
        _cleanup_free_ char *home = NULL;
        int r = cgroup_mount_find(NULL, &world->mount);

        if (r < 0)
                return say(r, "no cgroup v2");
        r = own_cgroup(world, &world->origin_fd);
        if (r < 0)
                return say(r, "cannot tell the own cgroup");
        if (asprintf(&world->cgroup, "/%s-%d", prefix, getpid()) < 0 || asprintf(&home, "%s/home", world->cgroup) < 0)
                return -ENOMEM;
        r = cgroup_create(&world->mount, home);
        if (r < 0 && r != -EEXIST)
                return say(r, "cannot make a cgroup");
        r = cgroup_open(&world->mount, home, &world->home_fd);
        if (r == 0)
                r = cgroup_move(world->home_fd, 0);
        return r < 0 ? say(r, "cannot enter a cgroup") : 0;
}

int bpf_world_reopen(struct bpf_world *world)
{
        datapath_free(world->datapath);
        world->datapath = NULL;
        return datapath_new(world->directory, &world->error, &world->datapath);
}

int bpf_world_new(const char *prefix, struct bpf_world **ret)
{
        struct bpf_world *world = calloc(1, sizeof(*world));
        int r;

        if (!world)
                return -ENOMEM;
        world->home_fd = world->origin_fd = world->mount.fd = -1;
        r = namespaces_new(world);
        if (r == 0)
                r = cgroups_new(world, prefix);
        if (r == 0) {
                r = bpf_world_reopen(world);
                if (r < 0)
                        (void)say(r, world->error.text[0] ? world->error.text : "cannot open the datapath");
        }
        if (r < 0) {
                bpf_world_free(world);
                return r;
        }
        *ret = world;
        return 0;
}

void bpf_world_free(struct bpf_world *world)
{
        if (!world)
                return;
        datapath_free(world->datapath);
        if (world->directory)
                (void)datapath_uninstall(world->directory);
        if (world->origin_fd >= 0)
                (void)cgroup_move(world->origin_fd, 0);
        if (world->cgroup && cgroup_remove(&world->mount, world->cgroup, 2000) < 0)
                fprintf(stderr, "bpf_world: cgroup %s is left behind\n", world->cgroup);
        close_fd(&world->home_fd);
        close_fd(&world->origin_fd);
        cgroup_mount_release(&world->mount);
        if (world->mount_point) {
                (void)umount2(world->mount_point, MNT_DETACH);
                (void)rmdir(world->mount_point);
        }
        free(world->mount_point);
        free(world->directory);
        free(world->cgroup);
        free(world);
}

int bpf_world_cgroup(struct bpf_world *world, const char *name, int *ret_fd, __u64 *ret_id)
{
        _cleanup_free_ char *path = NULL;
        int r;

        if (asprintf(&path, "%s/%s", world->cgroup, name) < 0)
                return -ENOMEM;
        r = cgroup_create(&world->mount, path);
        if (r < 0 && r != -EEXIST)
                return r;
        r = cgroup_open(&world->mount, path, ret_fd);
        return r < 0 ? r : cgroup_id(*ret_fd, ret_id);
}

int bpf_world_cgroup_remove(struct bpf_world *world, const char *name)
{
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/%s", world->cgroup, name) < 0)
                return -ENOMEM;
        return cgroup_remove(&world->mount, path, 2000);
}

int bpf_world_socket(struct bpf_world *world, int cgroup_fd, int family, int type, int protocol, int *ret_fd)
{
        int fd, error, r = cgroup_move(cgroup_fd, 0);

        if (r < 0)
                return r;
        fd = socket(family, type | SOCK_CLOEXEC, protocol);
        error = errno;
        r = cgroup_move(world->home_fd, 0);
        if (fd < 0)
                return -error;
        if (r < 0) {
                close(fd);
                return r;
        }
        *ret_fd = fd;
        return 0;
}

void bpf_policy_free(struct bpf_policy *policy)
{
        if (!policy)
                return;
        compiled_policy_free(policy->compiled);
        for (size_t i = 0; i < policy->model.n_rules + policy->model.n_ingress; i++) {
                free(policy->model.rules[i].ports);
                free(policy->model.rules[i].domain);
        }
        free(policy->model.rules); /* the ingress rules stand behind them */
        free(policy);
}

static int rule_fill(struct rule *rule, const struct bpf_rule *from)
{
        rule->deny = from->deny;
        rule->ports = calloc(1, sizeof(*rule->ports));
        if (!rule->ports)
                return -ENOMEM;
        rule->n_ports = 1;
        rule->ports[0] = (struct port_range){from->low, from->high, from->protocols};
        if (from->prefix)
                return prefix_parse(from->prefix, &rule->cidr);
        rule->domain = strdup("a.example");
        return rule->domain ? 0 : -ENOMEM;
}

int bpf_policy_new(struct bpf_world *world, const struct bpf_rule *rules, size_t n_rules, struct bpf_policy **ret)
{
        struct bpf_policy *policy = calloc(1, sizeof(*policy));
        int r = 0;

        if (!policy)
                return -ENOMEM;
        policy->model.loopback_allow = true;
        policy->model.rules = calloc(n_rules + 1, sizeof(*policy->model.rules));
        if (!policy->model.rules)
                r = -ENOMEM;
        for (size_t i = 0; r == 0 && i < n_rules; i++) {
                r = rule_fill(&policy->model.rules[i], &rules[i]);
                policy->model.n_rules += !rules[i].ingress;
                policy->model.n_ingress += rules[i].ingress;
        }
        policy->model.ingress = policy->model.rules ? policy->model.rules + policy->model.n_rules : NULL;
        if (r == 0)
                r = policy_compile(&policy->model, NULL, &policy->compiled);
        if (r == 0)
                r = datapath_policy_add(world->datapath, policy->compiled, &policy->version);
        if (r < 0) {
                bpf_policy_free(policy);
                return r;
        }
        *ret = policy;
        return 0;
}

int bpf_policy_learn(struct bpf_world *world, const struct bpf_policy *policy, __u32 agent_id, const char *address,
                     __u64 expires_ns)
{
        const char *const names[] = {"a.example"};
        struct match_list *list = NULL;
        struct address parsed;
        int r = address_parse(address, &parsed);

        if (r == 0)
                r = compiled_policy_learned_list(policy->compiled, &parsed, names, 1, &list);
        if (r == 0)
                r = datapath_learned_set(world->datapath, agent_id, &parsed, expires_ns, policy->version, list);
        free(list);
        return r;
}
