/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Files: the main one and what it includes, read within bounds, one after the other, into one configuration.
 */
#include "agentd/policy/config.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agentd/policy/config_draft.h"
#include "agentd/util/cleanup.h"

DEFINE_CLEANUP(struct yaml_document *, yaml_document_free);

static const char default_socket[] = "/run/agentd/agentd.sock";
static const char default_state_dir[] = "/var/lib/agentd";
static const char default_metrics[] = "127.0.0.1:9469";
static const char default_events[] = "/var/log/agentd/events.jsonl";

static int config_new(struct config **ret)
{
        struct config *config = calloc(1, sizeof(*config));

        if (!config)
                return -ENOMEM;
        config->daemon.socket = strdup(default_socket);
        config->daemon.state_dir = strdup(default_state_dir);
        config->daemon.metrics = strdup(default_metrics);
        config->daemon.events = strdup(default_events);
        config->dns = (struct dns_settings){
                .upstreams = calloc(1, sizeof(char *)),
                .min_ttl_s = 30,
                .max_ttl_s = 3600,
                .grace_s = 60,
                .blocked = DNS_BLOCKED_NXDOMAIN,
        };
        if (config->dns.upstreams) {
                config->dns.upstreams[0] = strdup("system");
                config->dns.n_upstreams = config->dns.upstreams[0] != NULL;
        }
        if (!config->daemon.socket || !config->daemon.state_dir || !config->daemon.metrics || !config->daemon.events ||
            config->dns.n_upstreams == 0) {
                config_free(config);
                return -ENOMEM;
        }
        *ret = config;
        return 0;
}

int config_deny_all(struct config **ret)
{
        struct config *config = NULL;
        struct policy *policy;
        int r;

        r = config_new(&config);
        if (r < 0)
                return r;
        policy = calloc(1, sizeof(*policy));
        config->policies = calloc(1, sizeof(*config->policies));
        if (policy && config->policies) {
                config->policies[config->n_policies++] = policy;
                policy->name = strdup("deny-all");
                policy->loopback_allow = true;
        }
        if (config->n_policies == 0 || !policy->name) {
                if (config->n_policies == 0)
                        free(policy);
                config_free(config);
                return -ENOMEM;
        }
        *ret = config;
        return 0;
}

/* The name of a file that places point to. NULL: no memory. */
static const char *loader_add_file(struct loader *loader, const char *path)
{
        struct config *config = loader->config;
        char **files = reallocarray(config->files, config->n_files + 1, sizeof(*files));

        if (!files) {
                loader->no_memory = true;
                return NULL;
        }
        config->files = files;
        files[config->n_files] = loader_strdup(loader, path);
        return files[config->n_files] ? files[config->n_files++] : NULL;
}

static void loader_read_text(struct loader *loader, const char *text, size_t size)
{
        _cleanup_(yaml_document_freep) struct yaml_document *document = NULL;
        struct place start = {.file = loader->file, .line = 1, .column = 1};
        struct yaml_problem problem = {0};
        const struct yaml_node *root;
        int r;

        r = yaml_document_parse(text, size, &problem, &document);
        if (r == -ENOMEM) {
                loader->no_memory = true;
                return;
        }
        if (r < 0) {
                struct place place = {.file = loader->file, .line = problem.line, .column = problem.column};

                loader_report(loader, DIAGNOSTIC_ERROR, &place, "%s", problem.text);
                return;
        }
        root = yaml_document_root(document);
        if (!root || yaml_node_is_null(root))
                loader_report(loader, DIAGNOSTIC_ERROR, &start, "the file is empty; begin it with 'version: 1'");
        else
                config_read_map(loader, &config_schema_top, root, loader->config);
}

/* Reads at most CONFIG_FILE_SIZE_MAX bytes. 0, -EFBIG, or what the system says. */
static int read_file(const char *path, bool regular_only, struct stat *ret_status, char **ret_text, size_t *ret_size)
{
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *text = NULL;
        size_t size = 0, capacity;
        struct stat status;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (regular_only ? O_NONBLOCK : 0));
        if (fd < 0 || fstat(fd, &status) < 0)
                return -errno;
        if (S_ISDIR(status.st_mode))
                return -EISDIR;
        if (regular_only && !S_ISREG(status.st_mode))
                return -EINVAL;
        if (S_ISREG(status.st_mode) && status.st_size > CONFIG_FILE_SIZE_MAX)
                return -EFBIG;

        capacity = S_ISREG(status.st_mode) ? (size_t)status.st_size + 1 : 64 * 1024;
        for (;;) {
                ssize_t n;

                if (!text || size == capacity) {
                        char *grown;

                        if (text)
                                capacity *= 2;
                        grown = realloc(text, capacity);
                        if (!grown)
                                return -ENOMEM;
                        text = grown;
                }
                n = read(fd, text + size, capacity - size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += (size_t)n;
                if (size > CONFIG_FILE_SIZE_MAX)
                        return -EFBIG;
        }

        *ret_status = status;
        *ret_text = TAKE_PTR(text);
        *ret_size = size;
        return 0;
}

struct file_id {
        dev_t device;
        ino_t inode;
};

/* place: who asked for the file; NULL: the command line. Returns 0 also when the file's content is wrong. */
static int loader_read_file(struct loader *loader, const char *path, const struct place *asked, struct file_id *ids,
                            size_t *n_ids)
{
        struct place place = {.file = path, .line = 1, .column = 1}; /* of the file as a whole */
        _cleanup_free_ char *text = NULL;
        struct stat status = {0};
        size_t size = 0;
        int r;

        r = read_file(path, asked != NULL, &status, &text, &size);
        if (r == -ENOMEM) {
                loader->no_memory = true;
                return r;
        }
        if (r == -EFBIG || (r == 0 && size > loader->size_left)) {
                loader_report(loader, DIAGNOSTIC_ERROR, &place,
                              "the file is too large; at most %d MiB a file and %d MiB in all",
                              CONFIG_FILE_SIZE_MAX / 1024 / 1024, CONFIG_TOTAL_SIZE_MAX / 1024 / 1024);
                return -EFBIG;
        }
        if (r < 0) {
                if (asked)
                        loader_report(loader, DIAGNOSTIC_ERROR, asked, "cannot read '%s': %s", path,
                                      r == -EINVAL ? "not a regular file" : strerror(-r));
                else
                        loader_report(loader, DIAGNOSTIC_ERROR, &place,
                                      "cannot read the configuration: %s; see --config", strerror(-r));
                return r;
        }

        /* Two globs may name one file, and a glob the main file itself. */
        for (size_t i = 0; i < *n_ids; i++)
                if (ids[i].device == status.st_dev && ids[i].inode == status.st_ino)
                        return 0;
        ids[(*n_ids)++] = (struct file_id){status.st_dev, status.st_ino};
        loader->size_left -= size;

        loader->file = loader_add_file(loader, path);
        if (!loader->file)
                return -ENOMEM;
        loader_read_text(loader, text, size);
        return 0;
}

static void loader_read_include(struct loader *loader, const struct draft_reference *include, const char *main_path,
                                struct file_id *ids, size_t *n_ids)
{
        _cleanup_free_ char *pattern = NULL;
        const char *slash = strrchr(main_path, '/');
        glob_t found = {0};
        int r;

        if (include->name[0] == '/' || !slash)
                pattern = loader_strdup(loader, include->name);
        else if (asprintf(&pattern, "%.*s/%s", (int)(slash - main_path), main_path, include->name) < 0)
                pattern = NULL;
        if (!pattern) {
                loader->no_memory = true;
                return;
        }

        /* Without a match: nothing for a glob (an empty conf.d), the name itself for a name, which then is missing. */
        r = glob(pattern, strpbrk(pattern, "*?[") ? 0 : GLOB_NOCHECK, NULL, &found);
        if (r == GLOB_NOSPACE)
                loader->no_memory = true;
        else if (r == GLOB_ABORTED)
                loader_report(loader, DIAGNOSTIC_ERROR, &include->place,
                              "cannot read the directory of '%s'; check its permissions", include->name);
        for (size_t i = 0; r == 0 && i < found.gl_pathc && !loader->no_memory; i++) {
                if (*n_ids >= CONFIG_FILES_MAX) {
                        loader_report(loader, DIAGNOSTIC_ERROR, &include->place,
                                      "more than %d files in all; include fewer", CONFIG_FILES_MAX);
                        break;
                }
                loader_read_file(loader, found.gl_pathv[i], &include->place, ids, n_ids);
        }
        globfree(&found);
}

static int diagnostic_compare(const void *a, const void *b)
{
        const struct diagnostic *x = a, *y = b;
        int order = strcmp(x->file, y->file);

        if (order != 0)
                return order;
        if (x->line != y->line)
                return x->line < y->line ? -1 : 1;
        return x->column < y->column ? -1 : x->column > y->column;
}

static int loader_finish(struct loader *loader, struct config **ret)
{
        struct diagnostics *diagnostics = loader->diagnostics;

        if (!loader->no_memory)
                config_resolve(loader);
        if (diagnostics->n_items > 1)
                qsort(diagnostics->items, diagnostics->n_items, sizeof(*diagnostics->items), diagnostic_compare);
        if (loader->n_omitted > 0) {
                struct place place = {.file = loader->config->files[0], .line = 1, .column = 1};
                size_t n = loader->n_omitted;

                diagnostics->n_items--; /* room for the line below: reports are refused at the limit */
                free(diagnostics->items[diagnostics->n_items].text);
                free(diagnostics->items[diagnostics->n_items].file);
                loader_report(loader, DIAGNOSTIC_ERROR, &place, "%zu more errors; mend these first", n + 1);
        }
        if (loader->no_memory)
                return -ENOMEM;
        if (loader->n_errors > 0)
                return -EINVAL;
        *ret = TAKE_PTR(loader->config);
        return 0;
}

int config_load(const char *path, struct diagnostics *diagnostics, struct config **ret)
{
        _cleanup_(loader_clear) struct loader loader = {
                .diagnostics = diagnostics, .main_file = true, .size_left = CONFIG_TOTAL_SIZE_MAX};
        _cleanup_free_ struct file_id *ids = NULL;
        size_t n_ids = 0;
        int r;

        ids = calloc(CONFIG_FILES_MAX, sizeof(*ids));
        if (!ids)
                return -ENOMEM;
        r = config_new(&loader.config);
        if (r < 0)
                return r;
        loader.config->path = strdup(path);
        if (!loader.config->path)
                return -ENOMEM;

        r = loader_read_file(&loader, path, NULL, ids, &n_ids);
        if (r == -EFBIG)
                return -EINVAL;
        if (r < 0)
                return r;
        loader.main_file = false;
        for (size_t i = 0; i < loader.includes.n_items && !loader.no_memory; i++)
                loader_read_include(&loader, &loader.includes.items[i], path, ids, &n_ids);
        return loader_finish(&loader, ret);
}

int config_load_buffer(const char *name, const char *text, size_t size, struct diagnostics *diagnostics,
                       struct config **ret)
{
        _cleanup_(loader_clear) struct loader loader = {.diagnostics = diagnostics, .main_file = true};
        struct place place = {.file = name, .line = 1, .column = 1};
        int r;

        r = config_new(&loader.config);
        if (r < 0)
                return r;
        if (size > CONFIG_FILE_SIZE_MAX) {
                loader_report(&loader, DIAGNOSTIC_ERROR, &place, "the file is too large; at most %d MiB",
                              CONFIG_FILE_SIZE_MAX / 1024 / 1024);
                return loader.no_memory ? -ENOMEM : -EINVAL;
        }
        loader.file = loader_add_file(&loader, name);
        loader.config->path = strdup(name);
        if (!loader.file || !loader.config->path)
                return -ENOMEM;
        loader_read_text(&loader, text, size);
        for (size_t i = 0; i < loader.includes.n_items; i++)
                loader_report(&loader, DIAGNOSTIC_WARNING, &loader.includes.items[i].place,
                              "'%.128s' is not looked at: this text is no file", loader.includes.items[i].name);
        return loader_finish(&loader, ret);
}
