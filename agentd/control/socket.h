/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The control socket's file, and who its peers are.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct control_peer {
        pid_t pid;
        uid_t uid;
        gid_t gid;
};

/*
 * Binds a stream socket at path: mode 0660, group if it is not (gid_t)-1. The directory is made if only it is missing.
 * A socket file that nobody answers at is replaced. 0 with *ret_fd (not listening yet); -EADDRINUSE: somebody answers;
 * -EEXIST: something that is no socket stands there; -ENAMETOOLONG; -errno.
 */
int control_socket_bind(const char *path, gid_t group, int *ret_fd);
/* Removes path if it still is the socket that was bound. */
void control_socket_unlink(const char *path, dev_t device, ino_t inode);

int control_socket_peer(int fd, struct control_peer *ret);
/* Root, our own user, or a member of group (also a supplementary one at the time of connect()). */
bool control_peer_may_ask(int fd, const struct control_peer *peer, gid_t group);
