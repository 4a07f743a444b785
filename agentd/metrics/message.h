/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the monitor and its metrics process say to each other, over a socketpair of SOCK_SEQPACKET: one message each
 * datagram. The process can ask for one thing only: the pages of this moment.
 */
#pragma once

#include "agentd/abi.h"

enum { METRICS_REASON_MAX = 256, METRICS_PAGES_MAX = 64 * 1024 * 1024, METRICS_SECRETS_MAX = 256 * 1024 };

enum metrics_kind {
        METRICS_SETTINGS = 1, /* to the process, first: with the listening socket, and the secrets if there are any */
        METRICS_PAGES = 2,    /* to the process: with a memfd, metrics_size bytes of metrics and then the health */
        METRICS_READY = 3,    /* from the process: it is confined and listens */
        METRICS_ASK = 4,      /* from the process: PAGES, please */
};

struct metrics_message {
        __u32 kind;
        __u32 ready;        /* PAGES: what /readyz says */
        __u32 metrics_size; /* PAGES */
        __u32 health_size;  /* PAGES */
        __u32 secrets_size; /* SETTINGS: a JSON object {certificate, key, client_ca, token}; 0: plain and open */
        char reason[METRICS_REASON_MAX]; /* PAGES: why it is not ready */
};
