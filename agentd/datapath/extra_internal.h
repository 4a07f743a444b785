/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Between extra.c, which keeps the links, and the files that load one object each.
 */
#pragma once

#include "agentd/datapath/extra.h"
#include "agentd/datapath/internal.h"

/* Every map of the object is one of ours. 0 or -errno. */
int datapath_extra_share(struct datapath *datapath, struct bpf_object *object);
/* Loaded: how it is attached. 0 or -errno. */
int datapath_extra_describe(struct datapath *datapath, enum datapath_extra_kind kind, struct bpf_program *program,
                            __u32 type);
void datapath_extra_absent(struct datapath *datapath, enum datapath_extra_kind kind, const char *detail);

/* load: what cannot be had is absent, with the reason, and no failure. */
void datapath_lsm_load(struct datapath *datapath);
void datapath_lsm_close(struct datapath *datapath);
int datapath_unix_open(struct datapath *datapath); /* the table */
void datapath_unix_load(struct datapath *datapath);
void datapath_unix_close(struct datapath *datapath);
