/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * resolv.conf(5): `nameserver` lines; none at all means the local machine.
 */
#include "agentd/dns/upstreams.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agentd/net/addr.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

static int add(struct message_settings *settings, const char *upstream, size_t length)
{
        for (__u32 i = 0; i < settings->n_upstreams; i++)
                if (strncmp(settings->upstreams[i], upstream, length) == 0 && settings->upstreams[i][length] == 0)
                        return 0;
        if (settings->n_upstreams >= UPSTREAM_MAX)
                return -E2BIG;
        if (length >= UPSTREAM_TEXT_MAX)
                return -EINVAL;
        memcpy(settings->upstreams[settings->n_upstreams++], upstream, length);
        return 0;
}

static int add_system(struct message_settings *settings, const char *resolv_conf)
{
        _cleanup_file_ FILE *file = fopen(resolv_conf, "re");
        size_t n_found = 0;
        char line[1024];
        int r;

        if (!file && errno != ENOENT)
                return log_error_errno(-errno, "cannot read '%s'", resolv_conf);
        while (file && fgets(line, sizeof(line), file)) {
                static const char keyword[] = "nameserver";
                struct address address;
                char *text = line + strspn(line, " \t");

                if (strncmp(text, keyword, sizeof(keyword) - 1) != 0)
                        continue;
                text += sizeof(keyword) - 1;
                if (*text != ' ' && *text != '\t')
                        continue;
                text += strspn(text, " \t");
                text[strcspn(text, " \t\r\n#;")] = 0;
                /* A link-local server with a zone belongs to one interface: libunbound cannot be told which. */
                if (address_parse(text, &address) < 0) {
                        log_warning("%s: nameserver '%s' is left out: not a plain address", resolv_conf, text);
                        continue;
                }
                r = add(settings, text, strlen(text));
                if (r == -E2BIG)
                        break;
                if (r < 0)
                        return r;
                n_found++;
        }
        return n_found > 0 ? 0 : add(settings, "127.0.0.1", strlen("127.0.0.1"));
}

/* "ADDRESS", "ADDRESS@PORT", "tls://ADDRESS[@PORT][#NAME]". */
static bool is_upstream(const char *text)
{
        bool tls = strncmp(text, "tls://", 6) == 0;
        char address_text[ADDRESS_TEXT_MAX];
        struct address address;
        unsigned port = 1;
        size_t length;
        char after;

        text += tls ? 6 : 0;
        length = strcspn(text, "@#");
        if (length >= sizeof(address_text))
                return false;
        memcpy(address_text, text, length);
        address_text[length] = 0;
        text += length;
        if (address_parse(address_text, &address) < 0)
                return false;
        if (*text == '@') {
                int n = sscanf(text, "@%5u%c", &port, &after);

                if (n < 1 || (n == 2 && (after != '#' || !tls)) || text[1] < '0' || text[1] > '9')
                        return false;
                text += strcspn(text, "#");
        }
        if (port == 0 || port > 65535)
                return false;
        return *text == 0 || (tls && *text == '#' && text[1]);
}

int upstreams_settings(const struct dns_settings *settings, const char *resolv_conf, struct message_settings *ret,
                       bool *ret_system)
{
        struct message_settings message = {
                .header = {MESSAGE_SETTINGS, sizeof(message), 0},
                .min_ttl_s = settings->min_ttl_s,
                .max_ttl_s = settings->max_ttl_s,
                .grace_s = settings->grace_s,
                .dnssec = settings->dnssec,
                .blocked = (__u8)settings->blocked,
                .rate_burst = MAX(settings->rate.burst, 1u),
        };
        bool system = settings->n_upstreams == 0;
        int r = 0;

        if (settings->rate.connections > 0)
                message.rate_interval_ns = MAX(settings->rate.period_ns / settings->rate.connections, 1ull);

        if (system)
                r = add_system(&message, resolv_conf);
        for (size_t i = 0; r == 0 && i < settings->n_upstreams; i++) {
                const char *upstream = settings->upstreams[i];

                if (strcmp(upstream, "system") == 0) {
                        system = true;
                        r = add_system(&message, resolv_conf);
                } else if (strcmp(upstream, "as-asked") == 0) {
                        message.as_asked = true;
                } else if (!is_upstream(upstream)) {
                        return log_error_errno(-EINVAL, "upstream '%s' is no address, 'system' or 'as-asked'",
                                               upstream);
                } else {
                        r = add(&message, upstream, strlen(upstream));
                }
        }
        if (r < 0)
                return log_error_errno(r, "cannot take the list of upstreams (at most %d)", UPSTREAM_MAX);
        *ret = message;
        *ret_system = system;
        return 0;
}
