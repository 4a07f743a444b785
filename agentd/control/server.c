/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The listening socket, and the judgement of who comes in: before the first byte is read.
 */
#include "agentd/control/server.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "agentd/control/client.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum { BACKLOG = 64, REFUSAL_LOG_MS = 60000 };

static void log_refusal(struct control_server *server, const struct control_peer *peer, const char *why)
{
        __u64 now = uv_now(server->loop);

        server->refused++;
        server->refusals_unlogged++;
        /* One line a minute: whoever is refused must not fill the log. */
        if (server->refused > 1 && now - server->refusal_logged_ms < REFUSAL_LOG_MS)
                return;
        server->refusal_logged_ms = now;
        log_warning("control socket: refused process %d of user %d: %s (%lu since the last such line)", (int)peer->pid,
                    (int)peer->uid, why, server->refusals_unlogged);
        server->refusals_unlogged = 0;
}

/* NULL: it may ask. */
static const char *judge_peer(struct control_server *server, int fd, struct control_peer *ret)
{
        if (control_socket_peer(fd, ret) < 0)
                return "its credentials are not known";
        /* Before the user: root in a container is still an agent. Pid 0 is a process that we cannot see. */
        if (server->is_agent && (ret->pid <= 0 || server->is_agent(server->context, ret->pid)))
                return "agents may not control the daemon";
        if (!control_peer_may_ask(fd, ret, server->group))
                return "only root and the group 'agentd' may ask";
        if (server->n_clients > CONTROL_CLIENTS_MAX)
                return "too many clients";
        return NULL;
}

static void on_connection(uv_stream_t *stream, int status)
{
        struct control_server *server = stream->data;
        struct control_client *client;
        const char *refusal;
        int fd;

        if (status < 0)
                return;
        client = calloc(1, sizeof(*client));
        if (!client)
                return;
        client->server = server;
        uv_pipe_init(server->loop, &client->pipe, 0);
        uv_timer_init(server->loop, &client->idle);
        client->pipe.data = client->idle.data = client;
        client->open_handles = 2;
        DL_APPEND(server->clients, client);
        server->n_clients++;

        if (uv_accept(stream, (uv_stream_t *)&client->pipe) < 0 || uv_fileno((uv_handle_t *)&client->pipe, &fd) < 0) {
                client_close(client);
                return;
        }
        refusal = judge_peer(server, fd, &client->peer);
        if (refusal) {
                json_t *answer = error_answer(0, 1, refusal);
                _cleanup_free_ char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
                uv_buf_t parts[2];

                json_decref(answer);
                log_refusal(server, &client->peer, refusal);
                /* One attempt, no waiting: a refused peer holds nothing of ours. */
                if (text) {
                        parts[0] = uv_buf_init(text, (unsigned)strlen(text));
                        parts[1] = uv_buf_init((char *)"\n", 1);
                        uv_try_write((uv_stream_t *)&client->pipe, parts, 2);
                }
                client_close(client);
                return;
        }
        client_start(client);
}

static gid_t find_group(void)
{
        const struct group *entry;

        /* Only root can give the socket away; in a test the owner is enough. */
        if (geteuid() != 0)
                return (gid_t)-1;
        entry = getgrnam("agentd");
        return entry ? entry->gr_gid : (gid_t)-1;
}

static void free_closed(uv_handle_t *handle)
{
        free(handle);
}

int control_server_new(uv_loop_t *loop, const char *path, const struct control_verb *verbs,
                       bool (*is_agent)(void *context, pid_t pid), void *context, struct control_server **ret)
{
        struct control_server *server = calloc(1, sizeof(*server));
        struct stat status;
        int fd = -1, r = -ENOMEM;

        if (!server)
                return -ENOMEM;
        *server = (struct control_server){
                .loop = loop,
                .path = strdup(path),
                .group = find_group(),
                .verbs = verbs,
                .is_agent = is_agent,
                .context = context,
                .idle_ms = CONTROL_IDLE_MS,
                .pipe = malloc(sizeof(*server->pipe)),
        };
        if (!server->path || !server->pipe)
                goto fail;
        r = control_socket_bind(path, server->group, &fd);
        if (r < 0)
                goto fail;
        if (lstat(path, &status) < 0) {
                r = -errno;
                goto fail;
        }
        server->device = status.st_dev;
        server->inode = status.st_ino;

        uv_pipe_init(loop, server->pipe, 0);
        server->pipe->data = server;
        r = uv_pipe_open(server->pipe, fd);
        if (r == 0) {
                fd = -1;
                r = uv_listen((uv_stream_t *)server->pipe, BACKLOG, on_connection);
        }
        if (r < 0) {
                uv_close((uv_handle_t *)server->pipe, free_closed);
                server->pipe = NULL;
                control_socket_unlink(path, server->device, server->inode);
                goto fail;
        }
        *ret = server;
        return 0;

fail:
        close_fd(&fd);
        free(server->pipe);
        free(server->path);
        free(server);
        return r;
}

void control_server_free(struct control_server *server)
{
        struct control_request *request, *next;

        if (!server)
                return;
        while (server->clients)
                client_close(server->clients);
        DL_FOREACH_SAFE(server->orphans, request, next)
        {
                DL_DELETE(server->orphans, request);
                request_free(request);
        }
        control_socket_unlink(server->path, server->device, server->inode);
        uv_close((uv_handle_t *)server->pipe, free_closed);
        free(server->path);
        free(server);
}

void control_server_set_idle_ms(struct control_server *server, unsigned milliseconds)
{
        server->idle_ms = milliseconds;
}

unsigned long control_server_refused(const struct control_server *server)
{
        return server->refused;
}
