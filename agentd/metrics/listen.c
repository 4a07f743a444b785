/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include "agentd/metrics/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/metrics/link.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

enum { BACKLOG = 64, SECRET_MAX = 64 * 1024 };

/* The path's owner is root, and its directory is root's: what is there is a socket that a former daemon left. */
static int listen_at_path(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        const struct group *group = getgrnam("agentd");
        _cleanup_close_ int fd = -1;
        struct stat status;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
                return -EADDRINUSE;
        if (lstat(path, &status) == 0) {
                if (!S_ISSOCK(status.st_mode))
                        return -EEXIST;
                if (unlink(path) < 0)
                        return -errno;
        }
        /* No moment in which others could connect. */
        if (fchmod(fd, 0660) < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
            chmod(path, 0660) < 0)
                return -errno;
        if (group && lchown(path, 0, group->gr_gid) < 0)
                return -errno;
        return listen(fd, BACKLOG) < 0 ? -errno : TAKE_FD(fd);
}

static int listen_at_port(const char *text)
{
        const char *colon = strrchr(text, ':');
        struct sockaddr_in v4 = {.sin_family = AF_INET};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
        const struct sockaddr *address = (const struct sockaddr *)&v4;
        socklen_t size = sizeof(v4);
        _cleanup_close_ int fd = -1;
        const int one = 1;
        char host[64];
        bool bracket;

        if (!colon || (size_t)(colon - text) >= sizeof(host))
                return -EINVAL;
        bracket = text[0] == '[';
        snprintf(host, sizeof(host), "%.*s", (int)(colon - text) - 2 * bracket, text + bracket);
        v4.sin_port = v6.sin6_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
        if (inet_pton(AF_INET, host, &v4.sin_addr) != 1) {
                if (inet_pton(AF_INET6, host, &v6.sin6_addr) != 1)
                        return -EINVAL;
                address = (const struct sockaddr *)&v6;
                size = sizeof(v6);
        }
        fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 || bind(fd, address, size) < 0 ||
            listen(fd, BACKLOG) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int metrics_listen(const char *address)
{
        return address[0] == '/' ? listen_at_path(address) : listen_at_port(address);
}

static int read_secret(const char *path, bool is_private, json_t *object, const char *name)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        _cleanup_free_ char *text = malloc(SECRET_MAX + 1);
        struct stat status;
        ssize_t n;

        if (fd < 0)
                return -errno;
        if (!text)
                return -ENOMEM;
        if (fstat(fd, &status) < 0)
                return -errno;
        if (!S_ISREG(status.st_mode))
                return -EINVAL;
        if (is_private && (status.st_mode & 07))
                return -EPERM;
        n = read(fd, text, SECRET_MAX + 1);
        if (n < 0)
                return -errno;
        if (n > SECRET_MAX)
                return -EFBIG;
        text[n] = '\0';
        if (!strcmp(name, "token"))
                text[strcspn(text, "\r\n")] = '\0';
        n = (ssize_t)strlen(text);
        if (n == 0)
                return -ENODATA;
        return json_object_set_new(object, name, json_stringn(text, (size_t)n)) < 0 ? -EILSEQ : 0;
}

int metrics_secrets(const struct metrics_settings *settings, char **ret, const char **ret_file)
{
        const struct {
                const char *name, *path;
                bool is_private;
        } files[] = {
                {"certificate", settings->certificate, false},
                {"key", settings->key, true},
                {"client_ca", settings->client_ca, false},
                {"token", settings->token, true},
        };
        json_t *object = json_object();
        int r = object ? 0 : -ENOMEM;

        *ret = NULL;
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(files); i++) {
                *ret_file = files[i].path;
                if (files[i].path)
                        r = read_secret(files[i].path, files[i].is_private, object, files[i].name);
        }
        if (r == 0 && json_object_size(object) > 0) {
                *ret = json_dumps(object, JSON_COMPACT);
                r = *ret ? 0 : -ENOMEM;
        }
        json_decref(object);
        return r;
}
