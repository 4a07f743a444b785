/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * libevent's semantics, as far as libunbound uses them, on uv_poll_t and uv_timer_t: an event fires for a descriptor or
 * a timeout; without UB_EV_PERSIST it is then off; with it, the timeout starts again at each event.
 *
 * libuv closes handles later, libunbound frees events at once, so the handles live in their own allocation.
 */
#include "agentd/dns/unbound_loop.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/time.h>

#include "agentd/util/macro.h"

struct unbound_loop {
        struct ub_event_base base; /* first: libunbound hands it back */
        uv_loop_t *loop;
        struct event *events;
};

struct handles {
        uv_poll_t poll;
        uv_timer_t timer;
        struct event *event; /* NULL: freed */
        unsigned n_open;
        bool has_poll;
};

struct event {
        struct ub_event event; /* first */
        struct unbound_loop *base;
        struct event *previous, *next; /* in base->events */
        struct handles *handles;       /* NULL: no timer, no poll yet */
        int fd;
        short bits;
        bool active;
        bool has_timeout;
        __u64 timeout_ms;
        void (*callback)(int, short, void *);
        void *argument;
};

static void event_disarm(struct event *event);

static void handle_closed(uv_handle_t *handle)
{
        struct handles *handles = handle->data;

        if (--handles->n_open == 0)
                free(handles);
}

static void event_fire(struct event *event, short bits)
{
        /* The callback may free the event: nothing is touched after it. */
        if (!(event->bits & UB_EV_PERSIST))
                event_disarm(event);
        else if (event->has_timeout)
                uv_timer_start(&event->handles->timer, event->handles->timer.timer_cb, event->timeout_ms, 0);
        event->callback(event->fd, bits, event->argument);
}

static void poll_ready(uv_poll_t *poll, int status, int events)
{
        struct event *event = ((struct handles *)poll->data)->event;
        short bits = 0;

        if (!event || !event->active)
                return;
        if (events & UV_READABLE)
                bits |= UB_EV_READ;
        if (events & UV_WRITABLE)
                bits |= UB_EV_WRITE;
        /* An error shows itself in the read or write that follows. */
        if (status < 0)
                bits = event->bits & (UB_EV_READ | UB_EV_WRITE);
        if (bits)
                event_fire(event, bits);
}

static void timer_ready(uv_timer_t *timer)
{
        struct event *event = ((struct handles *)timer->data)->event;

        if (event && event->active)
                event_fire(event, UB_EV_TIMEOUT);
}

static int event_prepare(struct event *event)
{
        struct handles *handles = event->handles;
        int r;

        if (!handles) {
                handles = calloc(1, sizeof(*handles));
                if (!handles)
                        return -ENOMEM;
                uv_timer_init(event->base->loop, &handles->timer);
                handles->timer.data = handles;
                handles->poll.data = handles;
                handles->n_open = 1;
                handles->event = event;
                event->handles = handles;
        }
        if (!handles->has_poll && event->fd >= 0 && event->bits & (UB_EV_READ | UB_EV_WRITE)) {
                r = uv_poll_init(event->base->loop, &handles->poll, event->fd);
                if (r < 0)
                        return r;
                handles->poll.data = handles;
                handles->has_poll = true;
                handles->n_open++;
        }
        return 0;
}

static void event_release_handles(struct event *event)
{
        struct handles *handles = event->handles;

        if (!handles)
                return;
        event->handles = NULL;
        handles->event = NULL;
        if (handles->has_poll)
                uv_close((uv_handle_t *)&handles->poll, handle_closed);
        uv_close((uv_handle_t *)&handles->timer, handle_closed);
}

static void event_disarm(struct event *event)
{
        event->active = false;
        if (!event->handles)
                return;
        uv_timer_stop(&event->handles->timer);
        /* libunbound closes the descriptor after this: the number may come back as another socket's. */
        if (event->handles->has_poll)
                event_release_handles(event);
}

static int event_arm(struct event *event, struct timeval *timeout)
{
        int wanted = 0, r;

        r = event_prepare(event);
        if (r < 0)
                return -1;
        event->active = true;
        event->has_timeout = timeout != NULL;
        if (timeout) {
                event->timeout_ms = (__u64)timeout->tv_sec * 1000 + (__u64)(timeout->tv_usec + 999) / 1000;
                /* 0 is "as soon as the loop turns": libunbound sends each query that way. */
                uv_update_time(event->base->loop);
                uv_timer_start(&event->handles->timer, timer_ready, event->timeout_ms, 0);
        } else {
                uv_timer_stop(&event->handles->timer);
        }
        if (event->bits & UB_EV_READ)
                wanted |= UV_READABLE;
        if (event->bits & UB_EV_WRITE)
                wanted |= UV_WRITABLE;
        if (event->handles->has_poll && uv_poll_start(&event->handles->poll, wanted, poll_ready) < 0)
                return -1;
        return 0;
}

static void event_add_bits(struct ub_event *self, short bits)
{
        ((struct event *)self)->bits |= bits;
}

static void event_del_bits(struct ub_event *self, short bits)
{
        ((struct event *)self)->bits &= (short)~bits;
}

static void event_set_fd(struct ub_event *self, int fd)
{
        struct event *event = (struct event *)self;

        if (event->fd != fd)
                event_release_handles(event);
        event->fd = fd;
}

static void event_free(struct ub_event *self)
{
        struct event *event = (struct event *)self;

        event_release_handles(event);
        if (event->previous)
                event->previous->next = event->next;
        else
                event->base->events = event->next;
        if (event->next)
                event->next->previous = event->previous;
        free(event);
}

static int event_add(struct ub_event *self, struct timeval *timeout)
{
        return event_arm((struct event *)self, timeout);
}

static int event_del(struct ub_event *self)
{
        event_disarm((struct event *)self);
        return 0;
}

static int event_add_timer(struct ub_event *self, struct ub_event_base *base, void (*callback)(int, short, void *),
                           void *argument, struct timeval *timeout)
{
        struct event *event = (struct event *)self;

        event->callback = callback;
        event->argument = argument;
        return event_arm(event, timeout);
}

static int event_refuse_signal(struct ub_event *self, struct timeval *timeout)
{
        return -1;
}

static int event_ignore(struct ub_event *self)
{
        return 0;
}

static void event_no_winsock(struct ub_event *self)
{
}

static void event_no_wouldblock(struct ub_event *self, int bits)
{
}

static struct ub_event_vmt event_methods = {
        .add_bits = event_add_bits,
        .del_bits = event_del_bits,
        .set_fd = event_set_fd,
        .free = event_free,
        .add = event_add,
        .del = event_del,
        .add_timer = event_add_timer,
        .del_timer = event_del,
        .add_signal = event_refuse_signal,
        .del_signal = event_ignore,
        .winsock_unregister_wsaevent = event_no_winsock,
        .winsock_tcp_wouldblock = event_no_wouldblock,
};

static struct ub_event *base_new_event(struct ub_event_base *self, int fd, short bits,
                                       void (*callback)(int, short, void *), void *argument)
{
        struct event *event = calloc(1, sizeof(*event));

        if (!event)
                return NULL;
        event->event.magic = UB_EVENT_MAGIC;
        event->event.vmt = &event_methods;
        event->base = (struct unbound_loop *)self;
        event->fd = fd;
        event->bits = bits;
        event->callback = callback;
        event->argument = argument;
        event->next = event->base->events;
        if (event->next)
                event->next->previous = event;
        event->base->events = event;
        return &event->event;
}

static struct ub_event *base_no_signal(struct ub_event_base *self, int fd, void (*callback)(int, short, void *),
                                       void *argument)
{
        return NULL;
}

static struct ub_event *base_no_winsock(struct ub_event_base *self, void *event, void (*callback)(int, short, void *),
                                        void *argument)
{
        return NULL;
}

static void base_no_free(struct ub_event_base *self)
{
}

static int base_no_dispatch(struct ub_event_base *self)
{
        return -1;
}

static int base_no_exit(struct ub_event_base *self, struct timeval *timeout)
{
        return 0;
}

static struct ub_event_base_vmt base_methods = {
        .free = base_no_free,
        .dispatch = base_no_dispatch,
        .loopexit = base_no_exit,
        .new_event = base_new_event,
        .new_signal = base_no_signal,
        .winsock_register_wsaevent = base_no_winsock,
};

int unbound_loop_new(uv_loop_t *loop, struct unbound_loop **ret)
{
        struct unbound_loop *base = calloc(1, sizeof(*base));

        if (!base)
                return -ENOMEM;
        base->base.magic = UB_EVENT_MAGIC;
        base->base.vmt = &base_methods;
        base->loop = loop;
        *ret = base;
        return 0;
}

void unbound_loop_free(struct unbound_loop *base)
{
        free(base);
}

bool unbound_loop_owns_port(const struct unbound_loop *base, unsigned port)
{
        for (const struct event *event = base->events; event; event = event->next) {
                struct sockaddr_in address;
                socklen_t length = sizeof(address);

                if (event->fd >= 0 && getsockname(event->fd, (struct sockaddr *)&address, &length) == 0 &&
                    address.sin_family == AF_INET && ntohs(address.sin_port) == port)
                        return true;
        }
        return false;
}

struct ub_event_base *unbound_loop_base(struct unbound_loop *base)
{
        return &base->base;
}
