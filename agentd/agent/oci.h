/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an OCI runtime tells its hooks: the container's state on standard input, and the bundle that it names.
 *
 * The runtime is root and trusted, what stands in annotations and labels is not: whoever starts a container writes
 * them, and an image may bring labels of its own.
 */
#pragma once

#include <jansson.h>
#include <limits.h>
#include <stddef.h>
#include <sys/types.h>

#include "agentd/abi.h"
#include "agentd/agent/container.h"

enum { OCI_STATE_MAX = 1024 * 1024 };

enum oci_status { OCI_CREATING, OCI_CREATED, OCI_RUNNING, OCI_STOPPED };

struct oci_state {
        struct container container;
        enum oci_status status;
        pid_t pid; /* 0: there is none any more */
        /* Stopped, and with a process: what runc says while it restores a checkpoint. */
        bool restored;
        /* One of agentd's own annotations is there and no text: it is not understood, which is not the same as absent.
         */
        bool odd;
        char bundle[PATH_MAX];
        json_t *annotations; /* an object of strings: the state's, then the bundle's, then labels */
};

/*
 * text: hostile. -EBADMSG, and *ret_wrong (static) says what is: no JSON object, no id, no status, no pid of a
 * container that lives, a bundle that is no absolute path. Of what is optional, what is odd is left out.
 */
int oci_state_parse(const char *text, size_t size, struct oci_state *ret, const char **ret_wrong);
void oci_state_release(struct oci_state *state);
/* Adds the bundle's annotations, the labels and name of an engine that keeps them elsewhere. What stands already
 * stays. */
void oci_state_complete(struct oci_state *state, const char *root);

/* The annotation; NULL: it is not there. Borrowed. */
const char *oci_annotation(const struct oci_state *state, const char *key);
/*
 * The agent's name: the annotation agentd.name, else the name that the container has with an engine whose names are
 * unique, else its id, of which engines' 64 digits are cut to 12. Of characters that an agent's name may have. -EINVAL:
 * the annotation is empty, too long, or has others.
 */
int oci_agent_name(const struct oci_state *state, char ret[static AGENT_NAME_MAX]);
