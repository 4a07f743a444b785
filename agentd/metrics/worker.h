/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The metrics process: HTTP, and nothing else. It holds no privilege, no file and no secret but its own certificate and
 * token; everything it shows is a page that the monitor made.
 */
#pragma once

/* fd: the socketpair. Returns when the monitor closes it, with the process' exit status: 0, or an errno. */
int metrics_worker_main(int fd);
