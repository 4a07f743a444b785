/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The OCI runtime specification's state (runtime.md, "State") as C.
 */
#include "agentd/agent/oci.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agentd/util/macro.h"

enum { SHORT_ID = 12, FULL_ID = 64 };

static const char *text_of(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

static void annotations_add(struct oci_state *state, json_t *from)
{
        const char *key;
        json_t *value;

        json_object_foreach(from, key, value)
        {
                if (json_object_get(state->annotations, key))
                        continue;
                if (json_is_string(value))
                        (void)json_object_set(state->annotations, key, value);
                else if (strncmp(key, "agentd.", 7) == 0)
                        state->odd = true;
        }
}

static const char *state_read(const json_t *json, struct oci_state *state)
{
        static const char *const statuses[] = {
                [OCI_CREATING] = "creating",
                [OCI_CREATED] = "created",
                [OCI_RUNNING] = "running",
                [OCI_STOPPED] = "stopped",
        };
        const char *id = text_of(json, "id"), *bundle = text_of(json, "bundle");
        json_int_t pid = json_integer_value(json_object_get(json, "pid"));
        size_t status = 0;

        if (!container_id_is_sound(id))
                return "'id' is not a container's id";
        (void)snprintf(state->container.id, sizeof(state->container.id), "%s", id);
        while (status < ARRAY_SIZE(statuses) && strcmp(statuses[status], text_of(json, "status")) != 0)
                status++;
        if (status == ARRAY_SIZE(statuses))
                return "'status' is none of creating, created, running and stopped";
        state->status = (enum oci_status)status;
        if (state->status != OCI_STOPPED && (pid <= 0 || pid > INT_MAX))
                return "'pid' is not a process's";
        state->pid = state->status == OCI_STOPPED ? 0 : (pid_t)pid;
        state->restored = state->status == OCI_STOPPED && pid > 0;
        /* The specification wants one; some runtimes have none at the end. */
        if (bundle[0] != '/' && (bundle[0] || state->status != OCI_STOPPED))
                return "'bundle' is not an absolute path";
        if (snprintf(state->bundle, sizeof(state->bundle), "%s", bundle) >= (int)sizeof(state->bundle))
                return "'bundle' is too long";
        return NULL;
}

int oci_state_parse(const char *text, size_t size, struct oci_state *ret, const char **ret_wrong)
{
        struct oci_state state = {};
        json_error_t error;
        json_t *json;

        *ret_wrong = "not a JSON object";
        json = size <= OCI_STATE_MAX ? json_loadb(text, size, JSON_REJECT_DUPLICATES, &error) : NULL;
        if (json_is_object(json))
                *ret_wrong = state_read(json, &state);
        if (!*ret_wrong) {
                state.annotations = json_object();
                if (!state.annotations)
                        *ret_wrong = "out of memory";
                annotations_add(&state, json_object_get(json, "annotations"));
        }
        json_decref(json);
        if (*ret_wrong)
                return -EBADMSG;
        *ret = state;
        return 0;
}

void oci_state_release(struct oci_state *state)
{
        json_decref(state->annotations);
        state->annotations = NULL;
}

/*
 * Docker's state where `data-root` has moved it: beside the files that Docker mounts into the container. Without the
 * label that stands there the container would be left alone.
 */
static json_t *labels_beside(const char *root, const json_t *bundle, const char *id)
{
        static const char *const files[] = {"hostname", "hosts", "resolv.conf"};
        const json_t *mount;
        size_t i;

        json_array_foreach(json_object_get(bundle, "mounts"), i, mount)
        {
                const char *source = text_of(mount, "source"), *destination = text_of(mount, "destination");
                char end[CONTAINER_ID_MAX + 32], path[PATH_MAX];
                json_t *state, *labels;
                size_t length, cut;
                int n = 0;

                for (size_t f = 0; f < ARRAY_SIZE(files) && n == 0; f++)
                        if (strncmp(destination, "/etc/", 5) == 0 && strcmp(destination + 5, files[f]) == 0)
                                n = snprintf(end, sizeof(end), "/containers/%s/%s", id, files[f]);
                length = strlen(source);
                if (n <= 0 || source[0] != '/' || length <= (size_t)n || strcmp(source + length - n, end) != 0)
                        continue;
                cut = strlen(destination + 5);
                if (snprintf(path, sizeof(path), "%s%.*sconfig.v2.json", root, (int)(length - cut), source) >=
                    (int)sizeof(path))
                        continue;
                state = container_file(path);
                labels = strcmp(text_of(state, "ID"), id) == 0
                                 ? json_object_get(json_object_get(state, "Config"), "Labels")
                                 : NULL;
                labels = json_is_object(labels) ? json_incref(labels) : NULL;
                json_decref(state);
                if (labels)
                        return labels;
        }
        return NULL;
}

void oci_state_complete(struct oci_state *state, const char *root)
{
        char path[PATH_MAX + 32];
        json_t *bundle = NULL, *labels;

        if (state->bundle[0] &&
            snprintf(path, sizeof(path), "%s%s/config.json", root, state->bundle) < (int)sizeof(path)) {
                bundle = container_file(path);
                annotations_add(state, json_object_get(bundle, "annotations"));
        }
        labels = container_labels(root, state->container.id);
        if (!labels)
                labels = labels_beside(root, bundle, state->container.id);
        json_decref(bundle);
        annotations_add(state, labels);
        json_decref(labels);
        container_read_state(root, &state->container);
        container_read_annotations(&state->container, state->annotations);
}

const char *oci_annotation(const struct oci_state *state, const char *key)
{
        return json_string_value(json_object_get(state->annotations, key));
}

static bool name_is_sound(const char *name)
{
        size_t length = strlen(name);

        if (length == 0 || length >= AGENT_NAME_MAX)
                return false;
        for (const char *c = name; *c; c++)
                if (!isalnum((unsigned char)*c) && !strchr("._-@:+", *c))
                        return false;
        return true;
}

int oci_agent_name(const struct oci_state *state, char ret[static AGENT_NAME_MAX])
{
        const char *wanted = oci_annotation(state, "agentd.name"), *id = state->container.id;
        const struct container *container = &state->container;
        /* Pods repeat the names of their containers. */
        bool unique = !oci_annotation(state, "io.kubernetes.cri.sandbox-id") &&
                      !oci_annotation(state, "io.kubernetes.cri-o.SandboxID");

        if (wanted && !name_is_sound(wanted))
                return -EINVAL;
        if (!wanted && unique && name_is_sound(container->name))
                wanted = container->name;
        if (wanted)
                (void)snprintf(ret, AGENT_NAME_MAX, "%s", wanted);
        else if (strlen(id) == FULL_ID)
                (void)snprintf(ret, AGENT_NAME_MAX, "%.*s", SHORT_ID, id);
        else if (name_is_sound(id))
                (void)snprintf(ret, AGENT_NAME_MAX, "%.*s", AGENT_NAME_MAX - 1, id);
        else
                return -EINVAL;
        return 0;
}
