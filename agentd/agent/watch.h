/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Agents as their cgroups come and go: a path or a glob for each `agents:` entry, watched by inotify, with a rescan
 * each second as a net under it.
 *
 * inotify only says "look again": every look is a whole scan of the patterns, so a lost or reordered notification
 * cannot leave a wrong picture. Scans are spaced by what they cost; memory is bounded by AGENT_MAX agents and
 * WATCH_DIRECTORIES_MAX directories (beyond that the timer alone finds what is new). All calls and callbacks are on the
 * loop's thread. Callbacks may call agent_watch_follow/_unfollow, nothing else of this module.
 *
 * The agent's name is the entry's for a path; NAME-<last path part> for a glob. Where that is taken by another cgroup,
 * too long, or has characters that are not letters, digits or one of "._-@:+", the odd characters become '_', the
 * text is cut, and -XXXXXXXX (a hash of the path) makes it unique: no match stays without an agent. An entry with a
 * path wins over a glob, an earlier glob over a later one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "agentd/abi.h"
#include "agentd/agent/cgroup.h"
#include "agentd/policy/policy.h"

enum { WATCH_DIRECTORIES_MAX = 16384, WATCH_RESCAN_MS = 1000 };

struct agent_watch;

/* Valid during the callback. */
struct agent_watch_match {
        const char *name;  /* of the agent */
        const char *path;  /* canonical */
        const char *entry; /* the `agents:` entry's name: find its policy in the current config */
        __u64 cgroup_id;
        bool populated;
};

enum agent_watch_end {
        AGENT_WATCH_REMOVED,   /* the cgroup is gone (or was replaced: appeared follows) */
        AGENT_WATCH_UNWATCHED, /* the cgroup is there, but no entry matches it any more */
};

struct agent_watch_callbacks {
        /* 0: taken. -errno: tried again at the next rescan. */
        int (*appeared)(void *context, const struct agent_watch_match *match);
        void (*vanished)(void *context, const char *name, __u64 cgroup_id, enum agent_watch_end end);
        /* The same cgroup under another entry after agent_watch_set(). NULL: vanished, then appeared. */
        int (*renamed)(void *context, const char *old_name, const struct agent_watch_match *match);
        /* cgroup.events changed: look at its processes. Also once after appeared when it is populated. May be NULL. */
        void (*population)(void *context, const char *name, __u64 cgroup_id, bool populated);
};

/* mount and callbacks are borrowed and must outlive the watch. Finds nothing before agent_watch_set(). */
int agent_watch_new(uv_loop_t *loop, const struct cgroup_mount *mount, const struct agent_watch_callbacks *callbacks,
                    void *context, struct agent_watch **ret);
/* No callback is made; the loop must run once more (or be closed by uv_run) before it can be closed. */
void agent_watch_free(struct agent_watch *watch);

/*
 * Replaces the entries (copied) and scans: what matches no more is reported UNWATCHED, what stayed is not mentioned.
 * -EINVAL/-EISDIR: the cgroup of specs[*ret_bad] is no good; nothing has changed then. ret_bad may be NULL.
 */
int agent_watch_set(struct agent_watch *watch, const struct agent_spec *specs, size_t n_specs, size_t *ret_bad);

/* Checks an entry's cgroup without using it: as agent_watch_set() would. */
int agent_watch_check(const struct cgroup_mount *mount, const struct agent_spec *spec);

/* An agent that the caller attached by itself (agentctl attach, adopted pins): reported when it vanishes or changes its
 * population, then forgotten. While followed, its cgroup is not offered by an entry. -EEXIST: name or cgroup is known
 * already. */
int agent_watch_follow(struct agent_watch *watch, const char *name, const char *path, __u64 cgroup_id);
/* The caller has let the agent go (agentctl detach): nothing more is told about it. A followed one is forgotten, so an
 * entry that matches its cgroup takes it at the next scan; an entry's own stays away until agent_watch_set() or until
 * its cgroup is replaced. */
void agent_watch_unfollow(struct agent_watch *watch, const char *name);

/* Scans now; callbacks are made before it returns. For `wait` and reload. 0 or -errno (-ENOMEM). */
int agent_watch_rescan(struct agent_watch *watch);

struct agent_watch_statistics {
        size_t agents;      /* known */
        size_t directories; /* watched by inotify */
        size_t waiting;     /* matches that appeared() refused at the last scan */
        size_t beyond;      /* matches beyond AGENT_MAX, or directories beyond the limits: not followed by inotify */
        __u64 rescans;
        __u64 overflows; /* of the inotify queue */
};
void agent_watch_statistics(const struct agent_watch *watch, struct agent_watch_statistics *ret);
