/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A network namespace from which nothing leaves: every address of both families is local there, on its own loopback
 * device. What is sent in it by mistake has arrived already. Everybody may make ping sockets in it.
 */
#pragma once

/* 0 or -errno. The namespace lives as long as its descriptor and the sockets that were made inside. */
int netns_sink_new(int *ret_fd);
