/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An event as a JSON line: the fields of interface.md section 4 in its order, null where something is not known.
 *
 * Written by hand and not by jansson: a flood of denies to ever new destinations is formatted here, one line each. A
 * test holds that every line parses to what was meant.
 */
#include "agentd/event/event.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "agentd/event/text.h"
#include "agentd/policy/policy.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

static const char *const type_names[EVENT_TYPE_MAX] = {
        [EVENT_DENY] = "deny",           [EVENT_WOULD_DENY] = "would_deny", [EVENT_DNS] = "dns",
        [EVENT_BUDGET] = "budget",       [EVENT_LEARN] = "learn",           [EVENT_DRIFT] = "drift",
        [EVENT_LIFECYCLE] = "lifecycle", [EVENT_AUDIT] = "audit",
};

const char *event_type_to_string(enum event_type type)
{
        return (unsigned)type < EVENT_TYPE_MAX ? type_names[type] : "unknown";
}

int event_type_from_string(const char *text)
{
        for (int i = 0; i < EVENT_TYPE_MAX; i++)
                if (!strcmp(text, type_names[i]))
                        return i;
        return -EINVAL;
}

static const char *protocol_name(__u8 protocol)
{
        switch (protocol) {
        case IPPROTO_TCP:
                return "tcp";
        case IPPROTO_UDP:
                return "udp";
        case IPPROTO_ICMP:
                return "icmp";
        case IPPROTO_ICMPV6:
                return "icmpv6";
        case IPPROTO_IGMP:
                return "igmp";
        case IPPROTO_SCTP:
                return "sctp";
        case IPPROTO_DCCP:
                return "dccp";
        case IPPROTO_UDPLITE:
                return "udplite";
        case IPPROTO_GRE:
                return "gre";
        case IPPROTO_ESP:
                return "esp";
        case IPPROTO_AH:
                return "ah";
        case IPPROTO_IPIP:
                return "ipip";
        case IPPROTO_IPV6:
                return "ipv6";
        default:
                return NULL;
        }
}

static bool protocol_has_ports(__u8 protocol)
{
        return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

static void add_seconds(struct text_writer *writer, __u64 utc_s)
{
        time_t seconds = (time_t)utc_s;
        struct tm parts = {0};
        char text[32];
        size_t length;

        gmtime_r(&seconds, &parts);
        length = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
        text_add_bytes(writer, text, length);
}

static void add_time(struct text_writer *writer, __u64 time_ns)
{
        add_seconds(writer, time_ns / NSEC_PER_SEC);
        text_add_bytes(writer, ".", 1);

        for (__u64 digit = NSEC_PER_SEC / 10, rest = time_ns % NSEC_PER_SEC; digit > 0; digit /= 10) {
                text_add_bytes(writer, (char[]){(char)('0' + rest / digit)}, 1);
                rest %= digit;
        }
        text_add_bytes(writer, "Z", 1);
}

static void add_number(struct text_writer *writer, const char *key, __u64 value)
{
        text_add(writer, key);
        text_add_unsigned(writer, value);
}

/* "" is null. The field may lack its NUL: it was filled from elsewhere. */
static void add_string(struct text_writer *writer, const char *key, const char *text, size_t size)
{
        size_t length = strnlen(text, size);

        text_add(writer, key);
        if (length == 0)
                text_add(writer, "null");
        else
                text_add_json(writer, text, length);
}

static void add_word(struct text_writer *writer, const char *key, const char *word)
{
        text_add(writer, key);
        if (!word) {
                text_add(writer, "null");
                return;
        }
        text_add_bytes(writer, "\"", 1);
        text_add(writer, word);
        text_add_bytes(writer, "\"", 1);
}

static void add_protocol(struct text_writer *writer, const struct event *event)
{
        const char *name = protocol_name(event->ip_protocol);
        bool packet = event->hook == HOOK_EGRESS || event->hook == HOOK_INGRESS;
        char number[4];
        struct text_writer digits;

        if (!name && event->ip_protocol != 255 && (event->ip_protocol != 0 || packet)) {
                text_begin(&digits, number, sizeof(number));
                text_add_unsigned(&digits, event->ip_protocol);
                name = number;
        }
        add_word(writer, ",\"proto\":", name);
}

static void add_end(struct text_writer *writer, const char *key, bool known, const struct address *address,
                    bool port_known, __u16 port, const char *name, size_t name_size)
{
        char text[ADDRESS_TEXT_MAX];

        text_add(writer, key);
        if (!known && name[0] == '\0') {
                text_add(writer, "null");
                return;
        }
        add_word(writer, "{\"ip\":", known ? address_format(address, text) : NULL);
        if (port_known)
                add_number(writer, ",\"port\":", port);
        else
                text_add(writer, ",\"port\":null");
        if (name[0] != '\0')
                add_string(writer, ",\"name\":", name, name_size);
        text_add_bytes(writer, "}", 1);
}

static void add_process(struct text_writer *writer, const struct event *event)
{
        if (event->pid == 0) {
                text_add(writer, ",\"process\":null");
                return;
        }
        add_number(writer, ",\"process\":{\"pid\":", event->pid);
        add_number(writer, ",\"tid\":", event->tid);
        add_number(writer, ",\"uid\":", event->uid);
        add_string(writer, ",\"comm\":", event->comm, sizeof(event->comm));
        add_string(writer, ",\"exe\":", event->exe, sizeof(event->exe));
        text_add_bytes(writer, "}", 1);
}

/* Names in it were cleaned when the container was found (agent/container.h). */
static void add_container(struct text_writer *writer, const struct container *container)
{
        if (container->id[0] == '\0')
                return;
        add_string(writer, ",\"container\":{\"id\":", container->id, sizeof(container->id));
        add_string(writer, ",\"name\":", container->name, sizeof(container->name));
        add_string(writer, ",\"image\":", container->image, sizeof(container->image));
        text_add_bytes(writer, "}", 1);
}

static void add_flow(struct text_writer *writer, __u64 flow)
{
        static const char digits[] = "0123456789abcdef";
        char text[17] = "";

        for (int i = 0; i < 16; i++)
                text[i] = digits[flow >> (60 - 4 * i) & 15];
        add_word(writer, ",\"flow\":", flow ? text : NULL);
}

/* Of sockets without addresses of ours: what was asked for. */
static void add_socket(struct text_writer *writer, const struct event *event)
{
        static const char *const families[] = {
                [AF_UNIX] = "unix",     [AF_INET] = "inet",
                [AF_INET6] = "inet6",   [AF_NETLINK] = "netlink",
                [AF_PACKET] = "packet", [AF_KEY] = "key",
                [AF_RDS] = "rds",       [AF_CAN] = "can",
                [AF_TIPC] = "tipc",     [AF_BLUETOOTH] = "bluetooth",
                [AF_ALG] = "alg",       [AF_VSOCK] = "vsock",
                [AF_KCM] = "kcm",       [AF_QIPCRTR] = "qipcrtr",
                [AF_SMC] = "smc",       [AF_XDP] = "xdp",
        };
        char path[sizeof(event->path)], number[4];
        size_t length = MIN(event->path_length, sizeof(path));
        struct text_writer digits;

        if (event->family == 0)
                return;
        if (event->family < ARRAY_SIZE(families) && families[event->family]) {
                add_word(writer, ",\"family\":", families[event->family]);
        } else {
                text_begin(&digits, number, sizeof(number));
                text_add_unsigned(&digits, event->family);
                add_word(writer, ",\"family\":", number);
        }
        if (length == 0)
                return;
        memcpy(path, event->path, length);
        /* As in /proc/net/unix: a NUL is no character of JSON's readers. */
        for (size_t i = 0; i < length; i++)
                if (path[i] == '\0')
                        path[i] = '@';
        text_add(writer, ",\"path\":");
        text_add_json(writer, path, length);
}

static void add_budget(struct text_writer *writer, const struct event *event)
{
        if (event->type != EVENT_BUDGET && (event->type != EVENT_AUDIT || event->scope[0] == '\0'))
                return;
        add_string(writer, ",\"scope\":", event->scope, sizeof(event->scope));
        if (event->type == EVENT_AUDIT) {
                add_number(writer, ",\"before\":", event->before);
                add_number(writer, ",\"after\":", event->after);
                return;
        }
        add_number(writer, ",\"used\":", event->used);
        add_number(writer, ",\"limit\":", event->limit);
        add_number(writer, ",\"percent\":", event->percent);
        if (event->window_end_s > UINT32_MAX * 16ull) {
                text_add(writer, ",\"window_end\":null");
                return;
        }
        text_add(writer, ",\"window_end\":\"");
        add_seconds(writer, event->window_end_s);
        text_add(writer, "Z\"");
}

size_t event_format_line(const struct event *event, char *buffer)
{
        bool ports = protocol_has_ports(event->ip_protocol) && event->reason != REASON_FRAGMENT;
        bool flow = event->hook != HOOK_NONE || event->has_source || event->has_destination;
        const char *direction = event->direction == DIRECTION_INGRESS ? "ingress" : "egress";
        struct text_writer writer;

        text_begin(&writer, buffer, EVENT_LINE_MAX);
        text_add(&writer, "{\"v\":1,\"time\":\"");
        add_time(&writer, event->time_ns);
        add_number(&writer, "\",\"seq\":", event->sequence);
        add_word(&writer, ",\"type\":", event_type_to_string(event->type));
        add_string(&writer, ",\"agent\":", event->agent, sizeof(event->agent));
        add_string(&writer, ",\"policy\":", event->policy, sizeof(event->policy));
        add_number(&writer, ",\"generation\":", event->generation);
        add_word(&writer, ",\"mode\":", event->agent[0] == '\0' ? NULL : event->audit ? "audit" : "enforce");
        add_word(&writer,
                 ",\"reason\":", event->reason == REASON_NONE ? NULL : verdict_reason_to_string(event->reason));
        add_word(&writer, ",\"hook\":", event->hook == HOOK_NONE ? NULL : hook_to_string(event->hook));
        add_string(&writer, ",\"rule\":", event->rule, sizeof(event->rule));
        add_word(&writer, ",\"direction\":", flow ? direction : NULL);
        add_protocol(&writer, event);
        /* The system call hooks come before the kernel has chosen a source port. */
        add_end(&writer, ",\"src\":", event->has_source, &event->source, ports && event->source_port != 0,
                event->source_port, "", 1);
        add_end(&writer, ",\"dst\":", event->has_destination, &event->destination, ports && event->has_destination,
                event->destination_port, event->name, sizeof(event->name));
        add_process(&writer, event);
        add_number(&writer, ",\"cgroup_id\":", event->cgroup_id);
        add_flow(&writer, event->flow);
        add_number(&writer, ",\"bytes\":", event->bytes);
        add_number(&writer, ",\"count\":", MAX(event->count, 1u));
        add_number(&writer, ",\"lost_before\":", event->lost_before);
        add_budget(&writer, event);
        add_socket(&writer, event);
        add_container(&writer, &event->container);
        if (event->detail[0] != '\0')
                add_string(&writer, ",\"detail\":", event->detail, sizeof(event->detail));
        text_add_bytes(&writer, "}", 1);
        return writer.used;
}

char *event_to_line(const struct event *event)
{
        char buffer[EVENT_LINE_MAX];

        event_format_line(event, buffer);
        return strdup(buffer);
}

json_t *event_to_json(const struct event *event)
{
        char buffer[EVENT_LINE_MAX];
        size_t length = event_format_line(event, buffer);

        return json_loadb(buffer, length, 0, NULL);
}
