/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The watch on agents' cgroups; see the header.
 *
 * One inotify descriptor holds two kinds of watches: directories in which a part of a pattern is searched for, and the
 * cgroup.events of each agent. libuv's own uv_fs_event is not used because it drops IN_Q_OVERFLOW. A scan compares what
 * the patterns match now with what is known, in three steps: end, rename, begin. An agent ends only on proof: its path
 * no longer leads to its id, or no entry matches its path; an error on the way (no descriptors, no memory) ends none.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "agentd/agent/pattern.h"
#include "agentd/agent/watch_state.h"
#include "agentd/util/macro.h"

enum {
        EVENTS_BUFFER = 16384,
        READS_MAX = 64, /* of the inotify queue at a time: others on the loop have a turn */
        SPACING = 4,    /* a scan that took t is followed by a pause of SPACING * t */
        HANDLES = 3,
};

static void entries_free(struct watch_entry *entries, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                free(entries[i].name);
                free(entries[i].pattern);
        }
        free(entries);
}

static void population_tell(struct agent_watch *watch, struct watch_agent *agent, bool only_populated)
{
        _cleanup_close_ int fd = -1;
        bool populated = false;

        if (agent->released || !watch->callbacks->population ||
            watch_agent_open(watch, agent->path, agent->cgroup_id, &fd) < 0 || cgroup_populated(fd, &populated) < 0 ||
            (only_populated && !populated))
                return;
        watch->callbacks->population(watch->context, agent->name, agent->cgroup_id, populated);
}

/* --- scans -------------------------------------------------------------------------------------------------------- */

static int match_add(void *context, const char *path, __u64 id)
{
        const struct watch_scan *scan = context;
        struct agent_watch *watch = scan->watch;
        struct watch_match *match = NULL;

        HASH_FIND(hh, watch->matches, &id, sizeof(id), match);
        if (match)
                return 0;
        if (HASH_COUNT(watch->matches) >= AGENT_MAX - 1) {
                watch->statistics.beyond++;
                return 0;
        }
        match = calloc(1, sizeof(*match));
        if (!match)
                return -ENOMEM;
        match->path = strdup(path);
        match->entry = scan->entry;
        match->id = id;
        if (match->path)
                HASH_ADD(hh, watch->matches, id, sizeof(match->id), match);
        if (!match->path || match->unhashed) {
                free(match->path);
                free(match);
                return -ENOMEM;
        }
        return 0;
}

static void matches_free(struct agent_watch *watch)
{
        struct watch_match *match, *next;

        HASH_ITER (hh, watch->matches, match, next) {
                HASH_DEL(watch->matches, match);
                free(match->path);
                free(match);
        }
}

/* Entries with a path before globs: theirs is the better name. */
static int matches_find(struct agent_watch *watch)
{
        static const struct pattern_visitor visitor = {.directory = watch_directory_visit, .match = match_add};
        int result = 0;

        for (int glob = 0; glob <= 1; glob++) {
                for (size_t i = 0; i < watch->n_entries; i++) {
                        struct watch_scan scan = {.watch = watch, .entry = &watch->entries[i]};
                        int r;

                        if (cgroup_path_is_glob(watch->entries[i].pattern) != (bool)glob)
                                continue;
                        r = pattern_walk(watch->mount, watch->entries[i].pattern, &visitor, &scan);
                        if (r < 0)
                                result = r;
                }
        }
        return result;
}

static bool entries_match(const struct agent_watch *watch, const char *path)
{
        for (size_t i = 0; i < watch->n_entries; i++)
                if (pattern_matches(watch->entries[i].pattern, path))
                        return true;
        return false;
}

/* Has the agent ended? Only what is known for sure counts. */
static bool agent_ended(const struct agent_watch *watch, const struct watch_agent *agent, enum agent_watch_end *ret)
{
        __u64 id = 0;
        int r = cgroup_id_of(watch->mount, agent->path, &id);

        if (r == -ENOENT || r == -ENODEV || r == -ENOTDIR || r == -EOPNOTSUPP || (r == 0 && id != agent->cgroup_id)) {
                *ret = AGENT_WATCH_REMOVED;
                return true;
        }
        if (r == 0 && agent->entry && !entries_match(watch, agent->path)) {
                *ret = AGENT_WATCH_UNWATCHED;
                return true;
        }
        return false;
}

/* All that have ended leave the tables first, so that a callback meets the new picture. */
static void agents_end(struct agent_watch *watch)
{
        struct watch_agent *agent, *next, *gone = NULL, **tail = &gone;

        HASH_ITER (hh, watch->agents, agent, next) {
                struct watch_match *match = NULL;

                HASH_FIND(hh, watch->matches, &agent->cgroup_id, sizeof(agent->cgroup_id), match);
                if (match || !agent_ended(watch, agent, &agent->end))
                        continue;
                watch_agent_unlink(watch, agent);
                *tail = agent;
                tail = &agent->next_gone;
        }
        while (gone) {
                agent = gone;
                gone = agent->next_gone;
                if (!agent->released)
                        watch->callbacks->vanished(watch->context, agent->name, agent->cgroup_id, agent->end);
                watch_agent_free(agent);
        }
}

/* The first name that no other agent has. */
static void name_choose(const struct agent_watch *watch, const struct watch_match *match, char ret[AGENT_NAME_MAX])
{
        for (unsigned salt = 0;; salt++) {
                const struct watch_agent *taken;

                pattern_agent_name(match->entry->name, match->entry->pattern, match->path, salt, ret);
                taken = watch_agent_by_name(watch, ret);
                if (!taken || taken->cgroup_id == match->id)
                        return;
        }
}

static void agent_begin(struct agent_watch *watch, const struct watch_match *match)
{
        _cleanup_close_ int fd = -1;
        struct agent_watch_match view = {.path = match->path, .entry = match->entry->name, .cgroup_id = match->id};
        struct watch_agent *agent = NULL;
        char name[AGENT_NAME_MAX];

        if (HASH_COUNT(watch->agents) >= AGENT_MAX - 1) {
                watch->statistics.beyond++;
                return;
        }
        if (watch_agent_open(watch, match->path, match->id, &fd) < 0 || cgroup_populated(fd, &view.populated) < 0)
                return;
        name_choose(watch, match, name);
        if (watch_agent_new(name, match->path, match->entry->name, match->id, &agent) < 0) {
                watch->statistics.waiting++;
                return;
        }
        view.name = agent->name;
        if (watch->callbacks->appeared(watch->context, &view) < 0) {
                watch->statistics.waiting++;
                watch_agent_free(agent);
                return;
        }
        /* Taken, but not to be remembered: it is offered again, and the caller knows the id. */
        if (watch_agent_link(watch, agent) < 0) {
                watch_agent_free(agent);
                return;
        }
        watch_agent_listen(watch, agent, fd);
        population_tell(watch, agent, true);
}

static void agent_rename(struct agent_watch *watch, struct watch_agent *agent, const struct watch_match *match)
{
        struct agent_watch_match view = {.path = match->path, .entry = match->entry->name, .cgroup_id = match->id};
        _cleanup_free_ char *entry = NULL;
        char old[AGENT_NAME_MAX];

        if (!watch->callbacks->renamed) {
                watch_agent_unlink(watch, agent);
                watch->callbacks->vanished(watch->context, agent->name, agent->cgroup_id, AGENT_WATCH_UNWATCHED);
                watch_agent_free(agent);
                agent_begin(watch, match);
                return;
        }

        entry = strdup(match->entry->name);
        if (!entry)
                return;
        memcpy(old, agent->name, sizeof(old));
        HASH_DELETE(hh_name, watch->agents_by_name, agent);
        name_choose(watch, match, agent->name);
        view.name = agent->name;
        if (watch->callbacks->renamed(watch->context, old, &view) < 0) {
                watch->statistics.waiting++;
                memcpy(agent->name, old, sizeof(old));
        } else {
                free(agent->entry);
                agent->entry = TAKE_PTR(entry);
        }
        HASH_ADD_KEYPTR(hh_name, watch->agents_by_name, agent->name, strlen(agent->name), agent);
        if (agent->unhashed) {
                /* Without memory for its name: forgotten here, offered again by the next scan. */
                agent->unhashed = false;
                watch_agent_unwatch(watch, agent);
                HASH_DEL(watch->agents, agent);
                watch_agent_free(agent);
        }
}

static int scan_now(struct agent_watch *watch)
{
        struct watch_match *match, *next;
        uint64_t begun = uv_hrtime(), ended;
        int r;

        if (watch->scanning)
                return -EBUSY;
        watch->scanning = true;
        watch->statistics.rescans++;
        watch->statistics.beyond = 0;
        watch->statistics.waiting = 0;

        r = matches_find(watch);
        if (r == 0)
                watch_directories_trim(watch);
        ended = uv_hrtime();
        watch->next_scan_ns = ended + SPACING * (ended - begun);

        agents_end(watch);
        HASH_ITER (hh, watch->matches, match, next) {
                struct watch_agent *agent = watch_agent_by_id(watch, match->id);

                if (agent && agent->entry && strcmp(agent->entry, match->entry->name) != 0)
                        agent_rename(watch, agent, match);
                else if (!agent)
                        agent_begin(watch, match);
        }
        matches_free(watch);
        watch->scanning = false;
        return r;
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
        (void)scan_now(timer->data);
}

/* After a notification: at once, or when the last scan's price is paid. */
static void scan_soon(struct agent_watch *watch)
{
        uint64_t now = uv_hrtime();

        if (now >= watch->next_scan_ns)
                (void)scan_now(watch);
        else if (!uv_is_active((uv_handle_t *)&watch->soon))
                (void)uv_timer_start(&watch->soon, on_timer, (watch->next_scan_ns - now) / NSEC_PER_MSEC + 1, 0);
}

/* True: the picture may have changed. *ret_changed: an agent's population may have. */
static bool event_take(struct agent_watch *watch, const struct inotify_event *event, bool *ret_changed)
{
        struct watch_directory *directory = NULL;
        struct watch_agent *agent = NULL;

        if (event->mask & IN_Q_OVERFLOW) {
                watch->statistics.overflows++;
                for (agent = watch->agents; agent; agent = agent->hh.next)
                        agent->changed = true;
                *ret_changed = true;
                return true;
        }
        HASH_FIND(hh_wd, watch->agents_by_wd, &event->wd, sizeof(event->wd), agent);
        if (agent) {
                if (event->mask & IN_IGNORED) {
                        HASH_DELETE(hh_wd, watch->agents_by_wd, agent);
                        agent->wd = -1;
                        return true;
                }
                agent->changed = *ret_changed = true;
                return false;
        }
        HASH_FIND(hh_wd, watch->directories_by_wd, &event->wd, sizeof(event->wd), directory);
        if (!directory)
                return false;
        if (event->mask & IN_IGNORED)
                watch_directory_forget(watch, directory);
        return true;
}

static bool queue_read(struct agent_watch *watch, bool *ret_changed)
{
        char buffer[EVENTS_BUFFER] __attribute__((aligned(__alignof__(struct inotify_event))));
        bool dirty = false;

        for (int i = 0; i < READS_MAX; i++) {
                ssize_t n = read(watch->inotify_fd, buffer, sizeof(buffer));

                if (n <= 0)
                        break;
                for (const char *at = buffer; at < buffer + n;) {
                        const struct inotify_event *event = (const struct inotify_event *)at;

                        dirty |= event_take(watch, event, ret_changed);
                        at += sizeof(*event) + event->len;
                }
        }
        return dirty;
}

static void on_inotify(uv_poll_t *poll, int status, int events)
{
        struct agent_watch *watch = poll->data;
        bool changed = false;

        if (queue_read(watch, &changed))
                scan_soon(watch);
        /* One at a time, from the start again: the callback may unfollow any of them. */
        while (changed) {
                struct watch_agent *agent = watch->agents;

                while (agent && !agent->changed)
                        agent = agent->hh.next;
                if (!agent)
                        break;
                agent->changed = false;
                population_tell(watch, agent, false);
        }
}

static void on_close(uv_handle_t *handle)
{
        struct agent_watch *watch = handle->data;

        if (--watch->closing > 0)
                return;
        close_fd(&watch->inotify_fd);
        free(watch);
}

int agent_watch_new(uv_loop_t *loop, const struct cgroup_mount *mount, const struct agent_watch_callbacks *callbacks,
                    void *context, struct agent_watch **ret)
{
        struct agent_watch *watch = calloc(1, sizeof(*watch));
        int r;

        if (!watch)
                return -ENOMEM;
        watch->mount = mount;
        watch->callbacks = callbacks;
        watch->context = context;
        watch->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (watch->inotify_fd < 0) {
                r = -errno;
                free(watch);
                return r;
        }
        r = uv_poll_init(loop, &watch->poll, watch->inotify_fd);
        if (r < 0) {
                close(watch->inotify_fd);
                free(watch);
                return r;
        }
        (void)uv_timer_init(loop, &watch->rescan);
        (void)uv_timer_init(loop, &watch->soon);
        watch->poll.data = watch->rescan.data = watch->soon.data = watch;
        r = uv_poll_start(&watch->poll, UV_READABLE, on_inotify);
        if (r == 0)
                r = uv_timer_start(&watch->rescan, on_timer, WATCH_RESCAN_MS, WATCH_RESCAN_MS);
        if (r < 0) {
                agent_watch_free(watch);
                return r;
        }
        *ret = watch;
        return 0;
}

void agent_watch_free(struct agent_watch *watch)
{
        struct watch_directory *directory, *next_directory;
        struct watch_agent *agent, *next_agent;

        if (!watch)
                return;
        HASH_ITER (hh, watch->agents, agent, next_agent) {
                watch_agent_unlink(watch, agent);
                watch_agent_free(agent);
        }
        HASH_ITER (hh, watch->directories, directory, next_directory)
                watch_directory_forget(watch, directory);
        entries_free(watch->entries, watch->n_entries);
        watch->closing = HANDLES;
        uv_close((uv_handle_t *)&watch->poll, on_close);
        uv_close((uv_handle_t *)&watch->rescan, on_close);
        uv_close((uv_handle_t *)&watch->soon, on_close);
}

int agent_watch_check(const struct cgroup_mount *mount, const struct agent_spec *spec)
{
        _cleanup_free_ char *pattern = NULL;

        return cgroup_path_canonical(mount, spec->cgroup, &pattern);
}

static void released_forget(struct agent_watch *watch, struct watch_agent *agent)
{
        if (!agent || !agent->released)
                return;
        watch_agent_unlink(watch, agent);
        watch_agent_free(agent);
}

int agent_watch_set(struct agent_watch *watch, const struct agent_spec *specs, size_t n_specs, size_t *ret_bad)
{
        struct watch_entry *entries = calloc(MAX(n_specs, 1u), sizeof(*entries));
        struct watch_agent *agent, *next;
        int r = 0;

        if (!entries)
                return -ENOMEM;
        if (watch->scanning)
                r = -EBUSY;
        for (size_t i = 0; i < n_specs && r == 0; i++) {
                entries[i].name = strdup(specs[i].name);
                if (!entries[i].name)
                        r = -ENOMEM;
                else
                        r = cgroup_path_canonical(watch->mount, specs[i].cgroup, &entries[i].pattern);
                if (r < 0 && ret_bad)
                        *ret_bad = i;
        }
        if (r < 0) {
                entries_free(entries, n_specs);
                return r;
        }

        entries_free(watch->entries, watch->n_entries);
        watch->entries = entries;
        watch->n_entries = n_specs;
        /* Whom the caller had let go is offered again. */
        HASH_ITER (hh, watch->agents, agent, next)
                released_forget(watch, agent);
        return scan_now(watch);
}

int agent_watch_follow(struct agent_watch *watch, const char *name, const char *path, __u64 cgroup_id)
{
        _cleanup_close_ int fd = -1;
        struct watch_agent *agent = NULL;
        int r;

        if (strlen(name) >= AGENT_NAME_MAX)
                return -EINVAL;
        released_forget(watch, watch_agent_by_name(watch, name));
        released_forget(watch, watch_agent_by_id(watch, cgroup_id));
        if (watch_agent_by_name(watch, name) || watch_agent_by_id(watch, cgroup_id))
                return -EEXIST;
        r = watch_agent_open(watch, path, cgroup_id, &fd);
        if (r < 0)
                return r;
        r = watch_agent_new(name, path, NULL, cgroup_id, &agent);
        if (r < 0)
                return r;
        r = watch_agent_link(watch, agent);
        if (r < 0) {
                watch_agent_free(agent);
                return r;
        }
        watch_agent_listen(watch, agent, fd);
        return 0;
}

void agent_watch_unfollow(struct agent_watch *watch, const char *name)
{
        struct watch_agent *agent = watch_agent_by_name(watch, name);

        if (!agent)
                return;
        if (agent->entry) {
                watch_agent_unwatch(watch, agent);
                agent->released = true;
                return;
        }
        watch_agent_unlink(watch, agent);
        watch_agent_free(agent);
}

int agent_watch_rescan(struct agent_watch *watch)
{
        return scan_now(watch);
}

void agent_watch_statistics(const struct agent_watch *watch, struct agent_watch_statistics *ret)
{
        *ret = watch->statistics;
        ret->agents = HASH_COUNT(watch->agents);
        ret->directories = HASH_COUNT(watch->directories);
}
