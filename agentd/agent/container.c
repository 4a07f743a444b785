/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The engines' cgroup paths and state files, as tables: a new engine is a line.
 */
#include "agentd/agent/container.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

enum { FULL_ID = 64, STATES_MAX = 64 };

bool container_id_is_sound(const char *id)
{
        size_t length = strlen(id);

        if (length == 0 || length >= CONTAINER_ID_MAX || id[0] == '.')
                return false;
        for (const char *c = id; *c; c++)
                if (!isalnum((unsigned char)*c) && !strchr("_.+-", *c))
                        return false;
        return true;
}

void container_text(char *field, size_t size, const char *text)
{
        size_t length = 0;

        while (text[length] && length < size - 1) {
                char c = text[length];

                field[length] = isalnum((unsigned char)c) || strchr("_.+-:/@", c) ? c : '_';
                length++;
        }
        field[length] = '\0';
}

static bool is_full_id(const char *text, size_t length)
{
        if (length != FULL_ID)
                return false;
        for (size_t i = 0; i < length; i++)
                if (!isdigit((unsigned char)text[i]) && (text[i] < 'a' || text[i] > 'f'))
                        return false;
        return true;
}

static bool part_is(const char *part, size_t length, const char *word)
{
        return length == strlen(word) && strncmp(part, word, length) == 0;
}

/*
 * systemd's driver: PREFIX-ID.scope; the plain one: a directory named by the id alone, whose parent tells the engine.
 * An id of these engines has 64 digits: what runs beside a container (libpod-conmon-ID.scope) is not taken for it.
 */
static bool part_names_container(const char *part, size_t length, const char *parent, size_t parent_length,
                                 bool in_kubepods, struct container *ret)
{
        static const struct {
                const char *prefix, *engine;
        } prefixes[] = {
                {"docker-", "docker"},
                {"libpod-payload-", "podman"},
                {"libpod-", "podman"},
                {"crio-", "cri-o"},
                {"cri-containerd-", "containerd"},
                {"nerdctl-", "containerd"},
                {"containerd-", "containerd"},
        };
        static const char scope[] = ".scope";
        const size_t scope_length = sizeof(scope) - 1;
        const char *engine = NULL;

        if (length > scope_length && strncmp(part + length - scope_length, scope, scope_length) == 0)
                length -= scope_length;
        for (size_t i = 0; i < ARRAY_SIZE(prefixes) && !engine; i++) {
                size_t prefix_length = strlen(prefixes[i].prefix);

                if (length == prefix_length + FULL_ID && strncmp(part, prefixes[i].prefix, prefix_length) == 0) {
                        engine = prefixes[i].engine;
                        part += prefix_length;
                        length = FULL_ID;
                }
        }
        if (!is_full_id(part, length))
                return false;
        if (!engine)
                engine = part_is(parent, parent_length, "docker") ? "docker" : in_kubepods ? "kubernetes" : NULL;

        *ret = (struct container){.engine = engine};
        memcpy(ret->id, part, length);
        return true;
}

bool container_of_path(const char *path, struct container *ret, size_t *ret_length)
{
        const char *parent = "";
        size_t parent_length = 0;
        bool in_kubepods = false, found = false;

        for (const char *part = path; *part;) {
                size_t length;

                part += strspn(part, "/");
                length = strcspn(part, "/");
                in_kubepods = in_kubepods || strncmp(part, "kubepods", 8) == 0;
                if (part_names_container(part, length, parent, parent_length, in_kubepods, ret)) {
                        found = true;
                        if (ret_length)
                                *ret_length = (size_t)(part + length - path);
                }
                parent = part;
                parent_length = length;
                part += length;
        }
        return found;
}

json_t *container_file(const char *path)
{
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *text = NULL;
        struct stat status;
        size_t used = 0, size;

        fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
        if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size > CONTAINER_FILE_MAX)
                return NULL;
        size = (size_t)status.st_size;
        text = malloc(size + 1);
        if (!text)
                return NULL;
        while (used < size) {
                ssize_t n = read(fd, text + used, size - used);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                used += (size_t)n;
        }
        return json_loadb(text, used, JSON_REJECT_DUPLICATES, NULL);
}

static const char *text_of(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

static void fill(char *field, size_t size, const char *text)
{
        if (field[0] == '\0')
                container_text(field, size, text);
}

static void fill_name(struct container *container, const char *text)
{
        fill(container->name, sizeof(container->name), text + (text[0] == '/')); /* Docker's begin with one */
}

static void fill_image(struct container *container, const char *text)
{
        fill(container->image, sizeof(container->image), text);
}

void container_read_annotations(struct container *container, const json_t *annotations)
{
        static const char *const names[] = {"nerdctl/name", "io.kubernetes.cri.container-name",
                                            "io.kubernetes.container.name", "org.opencontainers.container.name"};
        static const char *const images[] = {"io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName",
                                             "nerdctl/image", "org.opencontainers.image.ref.name"};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                fill_name(container, text_of(annotations, names[i]));
        for (size_t i = 0; i < ARRAY_SIZE(images); i++)
                fill_image(container, text_of(annotations, images[i]));
}

static void read_docker(struct container *container, const json_t *state)
{
        fill_name(container, text_of(state, "Name"));
        fill_image(container, text_of(json_object_get(state, "Config"), "Image"));
}

static void read_bundle(struct container *container, const json_t *state)
{
        container_read_annotations(container, json_object_get(state, "annotations"));
}

/* Podman's and CRI-O's list of containers; an image's name is in a text that is JSON itself. */
static void read_storage(struct container *container, const json_t *state)
{
        const json_t *item;
        size_t i;

        json_array_foreach(state, i, item)
        {
                const char *metadata_text = text_of(item, "metadata");
                json_t *metadata;

                if (strcmp(text_of(item, "id"), container->id) != 0)
                        continue;
                fill_name(container, json_string_value(json_array_get(json_object_get(item, "names"), 0))
                                             ? json_string_value(json_array_get(json_object_get(item, "names"), 0))
                                             : "");
                metadata = json_loads(metadata_text, JSON_REJECT_DUPLICATES, NULL);
                fill_image(container, text_of(metadata, "image-name"));
                json_decref(metadata);
                return;
        }
}

/* Where low-level runtimes keep what they run; %s: the id. The first that is there tells of the container. */
static const struct {
        const char *pattern, *engine;
        void (*read)(struct container *container, const json_t *state);
} states[] = {
        {"/var/lib/docker/containers/%s/config.v2.json", "docker", read_docker},
        {"/run/containerd/io.containerd.runtime.v2.task/*/%s/config.json", "containerd", read_bundle},
        {"/run/containers/storage/*-containers/%s/userdata/config.json", NULL, read_bundle},
        {"/run/containers/storage/*-containers/volatile-containers.json", NULL, read_storage},
        {"/var/lib/containers/storage/*-containers/%s/userdata/config.json", NULL, read_bundle},
        {"/var/lib/containers/storage/*-containers/containers.json", NULL, read_storage},
        {"/run/crun/%s/config.json", NULL, read_bundle},
};

/* Each file that the pattern finds; function returns true to end it. */
static bool each_file(const char *root, const char *pattern, const char *id,
                      bool (*function)(void *context, const json_t *state), void *context)
{
        char path[PATH_MAX];
        glob_t found = {};
        bool ended = false;
        int n = snprintf(path, sizeof(path), "%s", root);

        n += snprintf(path + n, sizeof(path) - (size_t)n, pattern, id);
        if (n >= (int)sizeof(path) || glob(path, GLOB_NOSORT, NULL, &found) != 0)
                return false;
        for (size_t i = 0; i < MIN(found.gl_pathc, (size_t)STATES_MAX) && !ended; i++) {
                json_t *state = container_file(found.gl_pathv[i]);

                ended = state && function(context, state);
                json_decref(state);
        }
        globfree(&found);
        return ended;
}

struct state_context {
        struct container *container;
        size_t index;
};

static bool on_state(void *context, const json_t *state)
{
        struct state_context *reading = context;
        struct container *container = reading->container;

        states[reading->index].read(container, state);
        if (!container->engine && strstr(states[reading->index].pattern, "%s"))
                container->engine = states[reading->index].engine;
        return container->name[0] != '\0' && container->image[0] != '\0';
}

void container_read_state(const char *root, struct container *container)
{
        struct state_context reading = {.container = container};

        if (!container_id_is_sound(container->id))
                return;
        for (reading.index = 0; reading.index < ARRAY_SIZE(states); reading.index++)
                if (each_file(root, states[reading.index].pattern, container->id, on_state, &reading))
                        return;
}

static bool on_labels(void *context, const json_t *state)
{
        json_t *labels = json_object_get(json_object_get(state, "Config"), "Labels");

        *(json_t **)context = json_is_object(labels) ? json_incref(labels) : NULL;
        return true;
}

json_t *container_labels(const char *root, const char *id)
{
        json_t *labels = NULL;

        if (container_id_is_sound(id))
                (void)each_file(root, states[0].pattern, id, on_labels, &labels);
        return labels;
}

static bool ends_with(const char *text, const char *end)
{
        size_t length = strlen(text), end_length = strlen(end);

        return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

struct find_context {
        const char *path;
        const json_t *labels;
        char bundle[PATH_MAX];
};

/* Of runc: all its cgroups by controller, the unified one under "". Others may have the same last part. */
static bool runc_has_cgroup(void *context, const json_t *state)
{
        static const char label[] = "bundle=";
        struct find_context *find = context;
        const json_t *item, *labels = json_object_get(json_object_get(state, "config"), "labels");
        const char *path = text_of(json_object_get(state, "cgroup_paths"), "");
        size_t i;

        if (!ends_with(path, find->path))
                return false;
        json_array_foreach(labels, i, item) if (json_is_string(item) &&
                                                strncmp(json_string_value(item), label, sizeof(label) - 1) == 0)(void)
                snprintf(find->bundle, sizeof(find->bundle), "%s", json_string_value(item) + sizeof(label) - 1);
        return true;
}

static bool crun_has_cgroup(void *context, const json_t *state)
{
        struct find_context *find = context;
        const char *path = text_of(state, "cgroup-path");

        (void)snprintf(find->bundle, sizeof(find->bundle), "%s", text_of(state, "bundle"));
        return path[0] != '\0' && ends_with(find->path, path + strspn(path, "/"));
}

/* A runtime used by hand: the last part of the path is the id, and the runtime's own state says so. */
static bool find_by_runtime(const char *root, const char *path, struct container *ret)
{
        static const struct {
                const char *pattern;
                bool (*has_cgroup)(void *context, const json_t *state);
        } runtimes[] = {
                {"/run/runc/%s/state.json", runc_has_cgroup},
                {"/run/containerd/runc/*/%s/state.json", runc_has_cgroup},
                {"/run/crun/%s/status", crun_has_cgroup},
        };
        static const char *const prefixes[] = {"", "runc-", "crun-"};
        const char *last = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
        struct find_context find = {.path = path};
        char bundle_file[PATH_MAX + 16];

        for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
                char id[CONTAINER_ID_MAX];

                if (strncmp(last, prefixes[i], strlen(prefixes[i])) != 0)
                        continue;
                if (snprintf(id, sizeof(id), "%s", last + strlen(prefixes[i])) >= (int)sizeof(id))
                        return false;
                if (i > 0 && ends_with(id, ".scope"))
                        id[strlen(id) - strlen(".scope")] = '\0';
                for (size_t j = 0; container_id_is_sound(id) && j < ARRAY_SIZE(runtimes); j++) {
                        json_t *bundle;

                        if (!each_file(root, runtimes[j].pattern, id, runtimes[j].has_cgroup, &find))
                                continue;
                        *ret = (struct container){};
                        (void)snprintf(ret->id, sizeof(ret->id), "%s", id);
                        if (find.bundle[0] == '/') {
                                (void)snprintf(bundle_file, sizeof(bundle_file), "%s%s/config.json", root, find.bundle);
                                bundle = container_file(bundle_file);
                                if (bundle)
                                        read_bundle(ret, bundle);
                                json_decref(bundle);
                        }
                        return true;
                }
        }
        return false;
}

int container_find(const char *root, const char *path, struct container *ret)
{
        struct container container = {};

        if (!container_of_path(path, &container, NULL) && !find_by_runtime(root, path, &container))
                return -ENOENT;
        container_read_state(root, &container);
        *ret = container;
        return 0;
}
