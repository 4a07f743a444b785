/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * libunbound, set up as a forwarder that believes its upstreams about names and nothing else.
 *
 * Two contexts at most: TLS upstreams share one that forwards to tls_upstream.c, plain ones have another. The kind that
 * is listed first is asked first, the other when the first fails.
 */
#include "agentd/dns/resolver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unbound-event.h>
#include <unbound.h>
#include <unistd.h>

#include "agentd/dns/tls_upstream.h"
#include "agentd/dns/unbound_loop.h"
#include "agentd/net/dns_message.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum { GROUPS_MAX = 2, BOGUS = 1, SECURE = 2 };

static const char *const trust_anchors[] = {"/usr/share/dns/root.key", "/var/lib/unbound/root.key"};

struct resolver {
        uv_loop_t *loop;
        struct unbound_loop *base;
        struct ub_ctx *groups[GROUPS_MAX];
        struct tls_upstream *tls; /* NULL: no upstream is asked over TLS */
        size_t n_groups;
};

struct lookup {
        struct resolver *resolver;
        resolver_done done;
        void *context;
        size_t group;
        __u16 type;
        char name[NAME_MAX_BYTES];
};

DEFINE_CLEANUP(struct resolver *, resolver_free);

static int set_option(struct ub_ctx *context, const char *name, const char *value)
{
        int r = ub_ctx_set_option(context, name, value);

        if (r != 0)
                return log_error_errno(-EINVAL, "libunbound refuses %s %s (%s)", name, value, ub_strerror(r));
        return 0;
}

static int set_options(struct ub_ctx *context, const struct message_settings *settings)
{
        static const char *const options[][2] = {
                {"do-not-query-localhost:", "no"}, /* systemd-resolved, dnsmasq, tests */
                {"module-config:", "iterator"},      {"qname-minimisation:", "no"}, /* a forwarder is told the whole
                                                                                       name anyway */
                {"harden-below-nxdomain:", "no"},    {"harden-referral-path:", "no"},   {"aggressive-nsec:", "no"},
                {"use-caps-for-id:", "no"},          {"edns-buffer-size:", "1232"},     {"outgoing-range:", "1024"},
                {"num-queries-per-thread:", "2048"}, {"outgoing-num-tcp:", "64"},       {"msg-cache-size:", "32m"},
                {"rrset-cache-size:", "64m"},        {"infra-host-ttl:", "60"}, /* an upstream that was away is asked
                                                                                   again soon */
                {"infra-keep-probing:", "yes"},      {"cache-max-negative-ttl:", "60"}, {"unblock-lan-zones:", "yes"},
                {"insecure-lan-zones:", "yes"}, /* private reverse and home zones have no chain of trust */
        };
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
                const char *value = options[i][1];

                if (settings->dnssec && strcmp(options[i][0], "module-config:") == 0)
                        value = "validator iterator";
                r = set_option(context, options[i][0], value);
                if (r < 0)
                        return r;
        }
        return 0;
}

/*
 * Zones that libunbound answers by itself unless told not to (services/localzone.c; the private reverse zones are off
 * by unblock-lan-zones). Whether a name may be asked for is the policy's to say; what it is, the upstream's. Finalizes
 * the context.
 */
static int remove_local_zones(struct ub_ctx *context)
{
        static const char *const zones[] = {
                "localhost.",
                "test.",
                "invalid.",
                "onion.",
                "home.arpa.",
                "127.in-addr.arpa.",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.",
        };

        for (size_t i = 0; i < ARRAY_SIZE(zones); i++) {
                int r = ub_ctx_zone_remove(context, zones[i]);

                if (r != 0)
                        return log_error_errno(-EINVAL, "libunbound keeps zone %s (%s)", zones[i], ub_strerror(r));
        }
        return 0;
}

static int add_trust_anchors(struct ub_ctx *context)
{
        _cleanup_file_ FILE *file = NULL;
        char line[4096];
        size_t n_added = 0, tried = 0;

        for (; !file && tried < ARRAY_SIZE(trust_anchors); tried++)
                file = fopen(trust_anchors[tried], "re");
        if (!file)
                return log_error_errno(-ENOKEY,
                                       "dnssec is on, but there is no trust anchor: install dns-root-data (%s)",
                                       trust_anchors[0]);
        while (fgets(line, sizeof(line), file)) {
                line[strcspn(line, ";\n")] = 0;
                if (line[strspn(line, " \t")] == 0)
                        continue;
                if (ub_ctx_add_ta(context, line) != 0)
                        return log_error_errno(-ENOKEY, "%s: not a trust anchor: '%s'", trust_anchors[tried - 1], line);
                n_added++;
        }
        if (n_added == 0)
                return log_error_errno(-ENOKEY, "%s holds no trust anchor", trust_anchors[tried - 1]);
        return 0;
}

static bool upstream_is_tls(const char *upstream)
{
        return strncmp(upstream, "tls://", 6) == 0;
}

static bool is_own_port(void *context, __u16 port)
{
        return unbound_loop_owns_port(((struct resolver *)context)->base, port);
}

static int add_upstream(struct ub_ctx *context, const char *upstream)
{
        int r = ub_ctx_set_fwd(context, upstream);

        if (r != 0)
                return log_error_errno(-EINVAL, "upstream '%s' cannot be understood (%s)", upstream, ub_strerror(r));
        return 0;
}

static int add_upstreams(struct resolver *resolver, struct ub_ctx *context, const struct message_settings *settings,
                         bool tls)
{
        char text[UPSTREAM_TEXT_MAX];
        __u16 port;
        int r;

        if (tls) {
                r = tls_upstream_new(resolver->loop, settings, is_own_port, resolver, &resolver->tls, &port);
                if (r < 0)
                        return r;
                snprintf(text, sizeof(text), "127.0.0.1@%u", port);
                return add_upstream(context, text);
        }
        for (__u32 i = 0; i < settings->n_upstreams; i++) {
                if (upstream_is_tls(settings->upstreams[i]))
                        continue;
                r = add_upstream(context, settings->upstreams[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void warmed_up(void *context, int rcode, void *packet, int size, int security, char *why, int limited)
{
        *(bool *)context = true;
}

static int group_new(struct resolver *resolver, const struct message_settings *settings, bool tls)
{
        struct ub_ctx *context = ub_ctx_create_ub_event(unbound_loop_base(resolver->base));
        bool warm = false;
        int r;

        if (!context)
                return log_error_errno(-ENOMEM, "cannot create libunbound's context");
        resolver->groups[resolver->n_groups++] = context;
        r = set_options(context, settings);
        if (r < 0)
                return r;
        if (settings->dnssec) {
                r = add_trust_anchors(context);
                if (r < 0)
                        return r;
        }
        r = add_upstreams(resolver, context, settings, tls);
        if (r < 0)
                return r;
        r = remove_local_zones(context);
        if (r < 0)
                return r;

        /* The first look-up makes libunbound open what it needs (CA bundle, randomness); it is answered locally. */
        if (ub_ctx_zone_add(context, "warm-up.agentd.", "static") != 0 ||
            ub_resolve_event(context, "warm-up.agentd", DNS_TYPE_A, DNS_CLASS_IN, &warm, warmed_up, NULL) != 0 || !warm)
                return log_error_errno(-EIO, "libunbound does not start");
        return 0;
}

int resolver_new(uv_loop_t *loop, const struct message_settings *settings, struct resolver **ret)
{
        _cleanup_(resolver_freep) struct resolver *resolver = NULL;
        bool wanted[2] = {false, false}, first;
        int r;

        if (settings->n_upstreams > UPSTREAM_MAX)
                return -EINVAL;
        for (__u32 i = 0; i < settings->n_upstreams; i++) {
                if (strnlen(settings->upstreams[i], UPSTREAM_TEXT_MAX) == UPSTREAM_TEXT_MAX)
                        return -EINVAL;
                wanted[upstream_is_tls(settings->upstreams[i])] = true;
        }
        if (settings->n_upstreams == 0) {
                *ret = NULL;
                return 0;
        }
        resolver = calloc(1, sizeof(*resolver));
        if (!resolver)
                return -ENOMEM;
        resolver->loop = loop;
        r = unbound_loop_new(loop, &resolver->base);
        if (r < 0)
                return r;
        first = upstream_is_tls(settings->upstreams[0]);
        r = group_new(resolver, settings, first);
        if (r < 0)
                return r;
        if (wanted[!first]) {
                r = group_new(resolver, settings, !first);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(resolver);
        return 0;
}

void resolver_free(struct resolver *resolver)
{
        if (!resolver)
                return;
        for (size_t i = 0; i < resolver->n_groups; i++)
                ub_ctx_delete(resolver->groups[i]);
        tls_upstream_free(resolver->tls);
        unbound_loop_free(resolver->base);
        free(resolver);
}

static void lookup_done(void *context, int rcode, void *packet, int size, int security, char *why, int limited)
{
        struct lookup *lookup = context;
        struct resolver_result result = {.status = RESOLVER_FAILED};

        if (security == BOGUS) {
                result.status = RESOLVER_BOGUS;
        } else if (rcode == 0 && packet && size >= DNS_HEADER_SIZE) {
                result.status = RESOLVER_ANSWER;
                result.packet = packet;
                result.size = (size_t)size;
                result.secure = security == SECURE;
        } else if (lookup->group + 1 < lookup->resolver->n_groups) {
                lookup->group++;
                if (ub_resolve_event(lookup->resolver->groups[lookup->group], lookup->name, lookup->type, DNS_CLASS_IN,
                                     lookup, lookup_done, NULL) == 0)
                        return;
        }
        lookup->done(lookup->context, &result);
        free(lookup);
}

int resolver_ask(struct resolver *resolver, const char *name, __u16 type, resolver_done done, void *context)
{
        struct lookup *lookup = calloc(1, sizeof(*lookup));
        int r;

        if (!lookup)
                return -ENOMEM;
        lookup->resolver = resolver;
        lookup->done = done;
        lookup->context = context;
        lookup->type = type;
        snprintf(lookup->name, sizeof(lookup->name), "%s", name);
        r = ub_resolve_event(resolver->groups[0], lookup->name, type, DNS_CLASS_IN, lookup, lookup_done, NULL);
        if (r != 0) {
                free(lookup);
                return -EIO;
        }
        return 0;
}
