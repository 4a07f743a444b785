/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which container a cgroup belongs to, without asking any engine: from the cgroup's path, and from the files in which
 * the runtimes keep their state. What is not found stays empty; nothing here decides about a packet.
 *
 * Threat: ids, names and images were chosen by whoever started the container. They are cut to their size, and what is
 * not a plain character of such names becomes '_', before anything else sees them. An id becomes a part of a path only
 * when it is one plain file name.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum {
        CONTAINER_ID_MAX = 128,
        CONTAINER_NAME_MAX = 64,
        CONTAINER_IMAGE_MAX = 128,
        CONTAINER_FILE_MAX = 4 * 1024 * 1024, /* of a file that is read */
};

struct container {
        char id[CONTAINER_ID_MAX]; /* "": no container */
        char name[CONTAINER_NAME_MAX];
        char image[CONTAINER_IMAGE_MAX];
        const char *engine; /* "docker", "podman", ...: static; NULL: not known */
};

/* One plain file name of the characters that runtimes allow in an id. */
bool container_id_is_sound(const char *id);
/* Into a field of the struct: cut, odd characters as '_'. */
void container_text(char *field, size_t size, const char *text);

/*
 * A canonical cgroup path (agent/cgroup.h) of a shape that an engine makes: the deepest part that names a container,
 * with id and engine. *ret_length: bytes of the path up to the end of that part; may be NULL.
 */
bool container_of_path(const char *path, struct container *ret, size_t *ret_length);

/* The file as JSON, when it is a plain one of at most CONTAINER_FILE_MAX bytes. NULL: not so. */
json_t *container_file(const char *path);

/* Fills what is still empty from annotations that engines set: an object of strings, or NULL. */
void container_read_annotations(struct container *container, const json_t *annotations);
/* Fills what is still empty from the state files of the engines. root: "" on a host; a directory in tests. */
void container_read_state(const char *root, struct container *container);
/* Labels of a container of Docker's; NULL: none. A new reference. */
json_t *container_labels(const char *root, const char *id);

/*
 * The container of a cgroup: by its path, or because a low-level runtime's state names this cgroup. 0; -ENOENT: it is
 * none that is known.
 */
int container_find(const char *root, const char *path, struct container *ret);
