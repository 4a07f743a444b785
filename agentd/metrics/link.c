/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The process gets pages because it asked; it cannot make us gather more than ten times a second, nor hold us: a
 * message that its socket does not take is dropped, and it asks again.
 */
#include "agentd/metrics/link.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/metrics/exchange.h"
#include "agentd/metrics/listen.h"
#include "agentd/process/spawn.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"
#include "agentd/util/macro.h"

enum {
        GATHER_MS = 100,
        RETRY_MS = 10000,
        READY_MS = 5000,
        BACKOFF_FIRST_MS = 100,
        BACKOFF_MAX_MS = 10000,
        STABLE_MS = 30000
};

struct metrics_link {
        uv_loop_t *loop;
        char *program;
        char *address, *certificate, *key, *client_ca, *token;
        metrics_gather_fn gather;
        void *context;
        int listener;
        pid_t pid;
        int fd;
        bool ready;
        bool told; /* the problem is in the log */
        unsigned int restarts;
        __u64 started_ms;
        unsigned int backoff_ms;
        uv_poll_t *poll; /* NULL: no process */
        uv_timer_t timer;
        int pages_fd; /* the last pages; -1: none */
        struct metrics_message pages;
        __u64 pages_ms;
        char problem[256];
};

static void try_start(struct metrics_link *link);

static __u64 loop_ms(void)
{
        return uv_hrtime() / NSEC_PER_MSEC;
}

const char *metrics_link_problem(const struct metrics_link *link)
{
        return link->problem[0] ? link->problem : NULL;
}

pid_t metrics_link_pid(const struct metrics_link *link)
{
        return link->pid;
}

unsigned int metrics_link_restarts(const struct metrics_link *link)
{
        return link->restarts;
}

static void on_timer(uv_timer_t *timer)
{
        try_start(timer->data);
}

static void problem_set(struct metrics_link *link, unsigned int retry_ms, const char *format, ...) PRINTF(3, 4);
static void problem_set(struct metrics_link *link, unsigned int retry_ms, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(link->problem, sizeof(link->problem), format, arguments);
        va_end(arguments);
        if (!link->told)
                log_warning("%s; trying again", link->problem);
        link->told = true;
        (void)uv_timer_start(&link->timer, on_timer, retry_ms, 0);
}

static void poll_closed(uv_handle_t *handle)
{
        free(handle);
}

/* waitpid()'s status. */
static int process_stop(struct metrics_link *link)
{
        int status = 0;

        if (link->poll)
                uv_close((uv_handle_t *)link->poll, poll_closed);
        link->poll = NULL;
        if (link->pid > 0)
                status = process_end(link->pid);
        link->pid = 0;
        link->ready = false;
        close_fd(&link->fd);
        return status;
}

static void process_lost(struct metrics_link *link, const char *why)
{
        bool stable = link->ready && loop_ms() - link->started_ms >= STABLE_MS;
        int status = process_stop(link);

        link->restarts++;
        link->backoff_ms = stable || !link->backoff_ms ? BACKOFF_FIRST_MS : MIN(link->backoff_ms * 2, BACKOFF_MAX_MS);
        if (WIFEXITED(status) && WEXITSTATUS(status) > 0)
                problem_set(link, link->backoff_ms, "the metrics process ended: %s", strerror(WEXITSTATUS(status)));
        else
                problem_set(link, link->backoff_ms, "the metrics process %s", why);
}

static void answer(struct metrics_link *link)
{
        struct metrics_answer pages = {};
        __u64 now = loop_ms();

        if (link->pages_fd < 0 || now - link->pages_ms >= GATHER_MS) {
                int fd = -ENOMEM;

                link->gather(link->context, &pages);
                if (!pages.metrics.failed && !pages.health.failed)
                        fd = exchange_memory("agentd-metrics", pages.metrics.text, pages.metrics.used,
                                             pages.health.text, pages.health.used);
                if (fd >= 0) {
                        close_fd(&link->pages_fd);
                        link->pages_fd = fd;
                        link->pages_ms = now;
                        link->pages = (struct metrics_message){
                                .kind = METRICS_PAGES,
                                .ready = pages.ready,
                                .metrics_size = (__u32)pages.metrics.used,
                                .health_size = (__u32)pages.health.used,
                        };
                        (void)snprintf(link->pages.reason, sizeof(link->pages.reason), "%s", pages.reason);
                }
                page_clear(&pages.metrics);
                page_clear(&pages.health);
                if (fd < 0) {
                        log_error_errno(fd, "cannot make the metrics' pages, ignoring");
                        return;
                }
        }
        (void)exchange_send(link->fd, &link->pages, &link->pages_fd, 1); /* it asks again after a time-out */
}

static void on_message(uv_poll_t *poll, int status, int events)
{
        struct metrics_link *link = poll->data;
        struct metrics_message message;
        int fds[EXCHANGE_FDS_MAX];
        bool asked = false;
        int r;

        /* A bounded turn; questions that have piled up are one. */
        for (unsigned int i = 0; i < 16; i++) {
                r = exchange_receive(link->fd, &message, fds);
                if (r == -EAGAIN)
                        break;
                for (size_t j = 0; r == 0 && j < EXCHANGE_FDS_MAX; j++) {
                        if (fds[j] >= 0)
                                r = -EBADMSG; /* it has none to give */
                        close_fd(&fds[j]);
                }
                if (r < 0) {
                        process_lost(link, r == -EBADMSG ? "sends what makes no sense" : "has ended");
                        return;
                }
                if (message.kind == METRICS_READY && !link->ready) {
                        link->ready = true;
                        (void)uv_timer_stop(&link->timer);
                        link->problem[0] = '\0';
                        if (link->told)
                                log_info("metrics are served on %s", link->address);
                        link->told = false;
                } else if (message.kind == METRICS_ASK && link->ready) {
                        asked = true;
                } else {
                        process_lost(link, "sends what makes no sense");
                        return;
                }
        }
        if (asked)
                answer(link);
}

static void on_late(uv_timer_t *timer)
{
        process_lost(timer->data, "does not become ready");
}

static int send_settings(struct metrics_link *link, const char *secrets)
{
        struct metrics_message message = {.kind = METRICS_SETTINGS,
                                          .secrets_size = secrets ? (__u32)strlen(secrets) : 0};
        _cleanup_close_ int memory = -1;
        int fds[2] = {link->listener, -1};

        if (secrets) {
                memory = exchange_memory("agentd-metrics", secrets, strlen(secrets), "", 0);
                if (memory < 0)
                        return memory;
                fds[1] = memory;
        }
        return exchange_send(link->fd, &message, fds, secrets ? 2 : 1);
}

static int process_begin(struct metrics_link *link, const char *secrets)
{
        int r = process_start(link->program, "metrics-worker", &link->pid, &link->fd);

        if (r < 0)
                return r;
        link->started_ms = loop_ms();
        link->poll = calloc(1, sizeof(*link->poll));
        if (!link->poll)
                return -ENOMEM;
        r = uv_poll_init(link->loop, link->poll, link->fd);
        if (r < 0) {
                free(link->poll);
                link->poll = NULL;
                return r;
        }
        link->poll->data = link;
        r = send_settings(link, secrets);
        if (r == 0)
                r = uv_timer_start(&link->timer, on_late, READY_MS, 0);
        return r < 0 ? r : uv_poll_start(link->poll, UV_READABLE, on_message);
}

static void try_start(struct metrics_link *link)
{
        const struct metrics_settings settings = {link->address, link->certificate, link->key, link->client_ca,
                                                  link->token};
        _cleanup_free_ char *secrets = NULL;
        const char *file = NULL;
        int r;

        if (link->listener < 0) {
                r = metrics_listen(link->address);
                if (r < 0) {
                        problem_set(link, RETRY_MS, "metrics cannot be served on %s: %s%s", link->address, strerror(-r),
                                    r == -EADDRINUSE ? "; set 'daemon: metrics' to another address or 'off'" : "");
                        return;
                }
                link->listener = r;
        }
        r = metrics_secrets(&settings, &secrets, &file);
        if (r < 0) {
                problem_set(link, RETRY_MS, "metrics cannot be served: %s: %s", file ? file : "",
                            r == -EPERM ? "others may read it; chmod 0600" : strerror(-r));
                return;
        }
        r = process_begin(link, secrets);
        if (secrets)
                explicit_bzero(secrets, strlen(secrets));
        if (r < 0) {
                (void)process_stop(link);
                problem_set(link, RETRY_MS, "the metrics process does not start: %s", strerror(-r));
        }
}

static void link_release(struct metrics_link *link)
{
        free(link->program);
        free(link->address);
        free(link->certificate);
        free(link->key);
        free(link->client_ca);
        free(link->token);
        free(link);
}

static bool copy(const char *text, char **ret)
{
        *ret = text ? strdup(text) : NULL;
        return !text || *ret;
}

int metrics_link_new(uv_loop_t *loop, const char *program, const struct metrics_settings *settings,
                     metrics_gather_fn gather, void *context, struct metrics_link **ret)
{
        struct metrics_link *link = calloc(1, sizeof(*link));
        int r;

        if (!link)
                return -ENOMEM;
        *link = (struct metrics_link){
                .loop = loop, .gather = gather, .context = context, .listener = -1, .fd = -1, .pages_fd = -1};
        if (!copy(program, &link->program) || !copy(settings->address, &link->address) ||
            !copy(settings->certificate, &link->certificate) || !copy(settings->key, &link->key) ||
            !copy(settings->client_ca, &link->client_ca) || !copy(settings->token, &link->token)) {
                link_release(link);
                return -ENOMEM;
        }
        r = uv_timer_init(loop, &link->timer);
        if (r < 0) {
                link_release(link);
                return r;
        }
        link->timer.data = link;
        try_start(link);
        *ret = link;
        return 0;
}

static void timer_closed(uv_handle_t *handle)
{
        link_release(handle->data);
}

void metrics_link_free(struct metrics_link *link)
{
        if (!link)
                return;
        (void)process_stop(link);
        close_fd(&link->pages_fd);
        if (link->listener >= 0 && link->address[0] == '/')
                (void)unlink(link->address);
        close_fd(&link->listener);
        uv_close((uv_handle_t *)&link->timer, timer_closed);
}
