/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The socket is made under a umask that lets nobody in, and opened to its group only once it belongs to it.
 */
#include "agentd/control/socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/util/cleanup.h"

static int make_parent(const char *path)
{
        _cleanup_free_ char *parent = strdup(path);
        char *slash;

        if (!parent)
                return -ENOMEM;
        slash = strrchr(parent, '/');
        if (!slash || slash == parent)
                return 0;
        *slash = '\0';
        return mkdir(parent, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* 0: the way is free. */
static int remove_stale(const char *path, const struct sockaddr_un *address)
{
        _cleanup_close_ int fd = -1;
        struct stat status;

        if (lstat(path, &status) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISSOCK(status.st_mode))
                return -EEXIST;

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        /* Only a refusal proves that nobody listens: a full backlog (EAGAIN) is somebody who is busy. */
        if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
                return -EADDRINUSE;
        if (errno == ENOENT)
                return 0;
        if (errno != ECONNREFUSED)
                return -EADDRINUSE;
        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int control_socket_bind(const char *path, gid_t group, int *ret_fd)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int fd = -1;
        mode_t mask;
        int r;

        if (path[0] == '\0')
                return -EINVAL;
        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);

        r = make_parent(path);
        if (r < 0)
                return r;
        r = remove_stale(path, &address);
        if (r < 0)
                return r;

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        mask = umask(0177);
        r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
        umask(mask);
        if (r < 0)
                return r;

        if (group != (gid_t)-1 && lchown(path, (uid_t)-1, group) < 0)
                r = -errno;
        else if (chmod(path, 0660) < 0)
                r = -errno;
        if (r < 0) {
                unlink(path);
                return r;
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

void control_socket_unlink(const char *path, dev_t device, ino_t inode)
{
        struct stat status;

        if (lstat(path, &status) == 0 && status.st_dev == device && status.st_ino == inode)
                unlink(path);
}

int control_socket_peer(int fd, struct control_peer *ret)
{
        struct ucred credentials;
        socklen_t size = sizeof(credentials);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
                return -errno;
        *ret = (struct control_peer){.pid = credentials.pid, .uid = credentials.uid, .gid = credentials.gid};
        return 0;
}

bool control_peer_may_ask(int fd, const struct control_peer *peer, gid_t group)
{
        _cleanup_free_ gid_t *groups = NULL;
        socklen_t size = 0;

        if (peer->uid == 0 || peer->uid == geteuid())
                return true;
        if (group == (gid_t)-1)
                return false;
        if (peer->gid == group)
                return true;

        /* The first call tells the size: ERANGE, or none. */
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0 || errno != ERANGE || size == 0)
                return false;
        groups = malloc(size);
        if (!groups || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
                return false;
        for (size_t i = 0; i < size / sizeof(*groups); i++)
                if (groups[i] == group)
                        return true;
        return false;
}
