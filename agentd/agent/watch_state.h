/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The inside of the watch: its tables, shared by watch.c and watch_table.c and by nobody else.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) ((element)->unhashed = true)
#include <uthash.h>

#include "agentd/agent/watch.h"

struct watch_entry {
        char *name;
        char *pattern; /* canonical */
};

struct watch_directory {
        __u64 id;
        int wd;
        __u64 seen; /* number of the scan that needed it last */
        bool unhashed;
        UT_hash_handle hh, hh_wd;
};

struct watch_agent {
        char name[AGENT_NAME_MAX];
        char *path;
        char *entry; /* NULL: followed */
        __u64 cgroup_id;
        int wd; /* of cgroup.events; -1: none */
        bool changed;
        bool released; /* by the caller: nothing is told about it */
        bool unhashed;
        enum agent_watch_end end;
        struct watch_agent *next_gone;
        UT_hash_handle hh, hh_name, hh_wd;
};

/* What one scan found. */
struct watch_match {
        char *path;
        const struct watch_entry *entry;
        __u64 id;
        UT_hash_handle hh;
        bool unhashed;
};

struct agent_watch {
        const struct cgroup_mount *mount;
        const struct agent_watch_callbacks *callbacks;
        void *context;
        struct watch_entry *entries;
        size_t n_entries;
        int inotify_fd;
        struct watch_directory *directories, *directories_by_wd;
        struct watch_agent *agents, *agents_by_name, *agents_by_wd;
        struct watch_match *matches;
        bool scanning;
        uint64_t next_scan_ns;
        struct agent_watch_statistics statistics;
        uv_poll_t poll;
        uv_timer_t rescan, soon;
        unsigned closing;
};

struct watch_scan {
        struct agent_watch *watch;
        const struct watch_entry *entry;
};

void watch_directory_forget(struct agent_watch *watch, struct watch_directory *directory);
void watch_directory_visit(void *context, int fd, __u64 id);
void watch_directories_trim(struct agent_watch *watch);
struct watch_agent *watch_agent_by_name(const struct agent_watch *watch, const char *name);
struct watch_agent *watch_agent_by_id(const struct agent_watch *watch, __u64 id);
void watch_agent_unwatch(struct agent_watch *watch, struct watch_agent *agent);
void watch_agent_listen(struct agent_watch *watch, struct watch_agent *agent, int cgroup_fd);
void watch_agent_free(struct watch_agent *agent);
void watch_agent_unlink(struct agent_watch *watch, struct watch_agent *agent);
int watch_agent_new(const char *name, const char *path, const char *entry, __u64 id, struct watch_agent **ret);
int watch_agent_link(struct agent_watch *watch, struct watch_agent *agent);
int watch_agent_open(const struct agent_watch *watch, const char *path, __u64 id, int *ret_fd);
