/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What this host can enforce, what is missing, and what to do about it. Reads only; changes nothing.
 *
 * What only bpf(2) can tell comes from the caller as probes (the datapath folder alone speaks to it); without a probe
 * the kernel's release decides, and the detail says so.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { DOCTOR_CHECKS_MAX = 32 };

struct doctor_check {
        const char *name; /* static */
        bool ok;
        bool required;      /* not ok: nothing can be enforced, exit 4 */
        char detail[256];   /* what was found */
        const char *advice; /* static; what to do when it is not ok; "" otherwise */
};

/* A result of a real try. name: of the check that it decides: "tcx", "connect_unix", "sock_destroy",
 * "bpf_sock_destroy", "lsm_cgroup", or
 * "bpf" (programs load at all). Unknown names become optional checks of their own. */
struct doctor_probe {
        const char *name;
        int result;         /* 0 or -errno */
        const char *detail; /* may be NULL */
};

/* Returns how many checks were written. root: "" on a host; a directory that stands for / in tests. */
size_t doctor_run(const char *root, const struct doctor_probe *probes, size_t n_probes, struct doctor_check *ret,
                  size_t capacity);
bool doctor_ok(const struct doctor_check *checks, size_t n_checks); /* every required one is ok */
/* [{"name","ok","required","detail","advice"}]; NULL: out of memory. */
json_t *doctor_to_json(const struct doctor_check *checks, size_t n_checks);
/* One line a check on a stream, and what to do. */
void doctor_print(FILE *stream, const struct doctor_check *checks, size_t n_checks);
