/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A destination as an operator types it: ADDRESS, CIDR or NAME, then :PORT, then /PROTOCOL; in:ADDRESS for one that
 * wants in.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agentd/policy/domain.h"
#include "agentd/policy/explain.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"
#include "agentd/util/parse.h"

enum { DESTINATION_TEXT_MAX = 1200 };

void destination_clear(struct destination *destination)
{
        free(destination->name);
        *destination = (struct destination){0};
}

static int PRINTF(2, 3) complain(char **ret_error, const char *format, ...)
{
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = vasprintf(ret_error, format, arguments);
        va_end(arguments);
        if (r < 0)
                *ret_error = NULL;
        return -EINVAL;
}

/* Cuts "/tcp" off the end of text; what is no word is left: "/8" is a length. */
static int cut_protocol(char *text, struct destination *destination, char **ret_error)
{
        static const struct {
                const char *name;
                __u8 bit;
        } protocols[] = {{"tcp", PROTOCOL_TCP}, {"udp", PROTOCOL_UDP}, {"icmp", PROTOCOL_ICMP}};
        char *slash = strrchr(text, '/');

        if (!slash || (slash[1] >= '0' && slash[1] <= '9'))
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
                if (strcasecmp(slash + 1, protocols[i].name) != 0)
                        continue;
                destination->protocol = protocols[i].bit;
                *slash = '\0';
                return 0;
        }
        if (strstr(text, "://"))
                return complain(ret_error, "'%s' is a URL; give the name alone, as in 'example.com:443'", text);
        return complain(ret_error, "'%s' is no protocol; write /tcp, /udp or /icmp", slash + 1);
}

static int cut_port(char *colon, struct destination *destination, char **ret_error)
{
        __u64 port;

        if (parse_number(colon + 1, 1, 65535, &port) < 0)
                return complain(ret_error, "'%s' is no port; write a number from 1 to 65535", colon + 1);
        destination->has_port = true;
        destination->port = (__u16)port;
        *colon = '\0';
        return 0;
}

/* Leaves the address, CIDR or name in *host. */
static int cut_host(char *text, struct destination *destination, char **ret_host, char **ret_error)
{
        char *colon = strchr(text, ':'), *close;

        if (text[0] == '[') {
                close = strchr(text, ']');
                if (!close || (close[1] != '\0' && close[1] != ':'))
                        return complain(ret_error, "'%s' is no destination; write '[ADDRESS]:PORT'", text);
                *ret_host = text + 1;
                *close = '\0';
                return close[1] == ':' ? cut_port(close + 1, destination, ret_error) : 0;
        }
        *ret_host = text;
        /* Two colons and no bracket: an IPv6 address, and no port. */
        if (!colon || strchr(colon + 1, ':'))
                return 0;
        return cut_port(colon, destination, ret_error);
}

static int parse_host(const char *host, struct destination *destination, char **ret_error)
{
        char buffer[PREFIX_TEXT_MAX], name[NAME_MAX_BYTES];
        const char *last;
        int r;

        r = prefix_parse(host, &destination->prefix);
        if (r == 0)
                return 0;
        if (r == -ERANGE)
                return complain(ret_error,
                                "the prefix length of '%s' is out of range; at most 32 for IPv4, 128 for IPv6", host);
        if (r == -EADDRNOTAVAIL)
                return complain(ret_error, "'%s' has host bits set; did you mean '%s'?", host,
                                prefix_format(&destination->prefix, buffer));

        if (domain_canonicalize(host, name) < 0)
                return complain(ret_error,
                                "'%s' is no address, CIDR or name; write '192.0.2.7', '10.0.0.0/8' or "
                                "'example.com', with ':PORT' and '/PROTOCOL' as needed",
                                host);
        last = strrchr(name, '.');
        last = last ? last + 1 : name;
        if (strspn(last, "0123456789") == strlen(last))
                return complain(ret_error, "'%s' is no address; four numbers from 0 to 255 without leading zeros are",
                                host);

        destination->name = strdup(name);
        return destination->name ? 0 : complain(ret_error, "no memory");
}

static const char inbound_prefix[] = "in:";

/* A name may be `in` as well: "in:443" is its port. */
static bool is_inbound(const char *text)
{
        return strncmp(text, inbound_prefix, strlen(inbound_prefix)) == 0 &&
               strspn(text + strlen(inbound_prefix), "0123456789") != strcspn(text + strlen(inbound_prefix), "/");
}

int destination_parse(const char *text, struct destination *ret, char **ret_error)
{
        _cleanup_(destination_clear) struct destination destination = {0};
        char copy[DESTINATION_TEXT_MAX], *host = copy;
        bool inbound = is_inbound(text);
        int r;

        if (strnlen(text, sizeof(copy)) == sizeof(copy))
                return complain(ret_error, "the destination is too long; a name has at most 253 characters");
        text += inbound ? strlen(inbound_prefix) : 0;
        memcpy(copy, text, strlen(text) + 1);

        r = cut_protocol(copy, &destination, ret_error);
        if (r < 0)
                return r;
        r = cut_host(copy, &destination, &host, ret_error);
        if (r < 0)
                return r;
        r = parse_host(host, &destination, ret_error);
        if (r < 0)
                return r;
        if (inbound && destination.name)
                return complain(ret_error, "'%s' is no address; who comes in is known by address or CIDR only", host);
        destination.inbound = inbound;
        if (destination.has_port && destination.protocol == PROTOCOL_ICMP)
                return complain(ret_error, "'%s': ICMP has no ports; leave ':%u' out", text, destination.port);

        *ret = destination;
        destination = (struct destination){0};
        return 0;
}
