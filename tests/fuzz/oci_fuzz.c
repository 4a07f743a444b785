/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A container's state as a hostile one would have it written, and a cgroup's path of anyone's choice: what is taken
 * from them is within bounds and of plain characters.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/agent/oci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_plain(const char *text, size_t size)
{
        if (strnlen(text, size) == size)
                abort();
        for (; *text; text++)
                if ((unsigned char)*text <= ' ' || (unsigned char)*text > '~' || *text == '"' || *text == '\\')
                        abort();
}

static void check_container(const struct container *container)
{
        check_plain(container->id, sizeof(container->id));
        check_plain(container->name, sizeof(container->name));
        check_plain(container->image, sizeof(container->image));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct oci_state state = {};
        struct container container = {};
        char name[AGENT_NAME_MAX];
        const char *wrong;
        size_t length = 0;
        char *path;

        if (oci_state_parse((const char *)data, size, &state, &wrong) == 0) {
                /* No bundle is opened: files would make runs differ. */
                container_read_annotations(&state.container, state.annotations);
                if (!container_id_is_sound(state.container.id) || state.pid < 0)
                        abort();
                check_container(&state.container);
                if (oci_agent_name(&state, name) == 0)
                        check_plain(name, sizeof(name));
                oci_state_release(&state);
        } else if (!wrong) {
                abort();
        }

        path = strndup((const char *)data, size);
        if (path && container_of_path(path, &container, &length)) {
                if (length > strlen(path) || !container_id_is_sound(container.id))
                        abort();
                check_container(&container);
        }
        free(path);
        return 0;
}
