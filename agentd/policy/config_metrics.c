/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where metrics are served, and that strangers cannot read them: what an agent does, tries and has left is nobody's
 * business but the operator's.
 */
#include <stdio.h>
#include <string.h>

#include "agentd/policy/config_draft.h"
#include "agentd/util/parse.h"

void config_read_metrics(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target)
{
        const char *text = config_scalar(loader, key, node, "ADDRESS:PORT or off"), *colon;
        char host[ADDRESS_TEXT_MAX + 2];
        struct address address;
        size_t size;
        __u64 port;

        if (!text)
                return;
        colon = strrchr(text, ':');
        size = colon ? (size_t)(colon - text) : 0;
        if (size > 0 && size < sizeof(host) && parse_number(colon + 1, 1, 65535, &port) == 0) {
                bool bracket = text[0] == '[' && text[size - 1] == ']';

                memcpy(host, text + bracket, size - 2 * (size_t)bracket);
                host[size - 2 * (size_t)bracket] = '\0';
                if (address_parse(host, &address) == 0 && bracket == (strchr(host, ':') != NULL)) {
                        config_replace_text(loader, key, text, target);
                        return;
                }
        }
        if (strcmp(text, "off") == 0 || (text[0] == '/' && strlen(text) < 108 && !config_has_control(text)))
                config_replace_text(loader, key, text, target);
        else
                loader_error(loader, node,
                             "'%s' is '%.128s'; expected ADDRESS:PORT such as 127.0.0.1:9469, a socket's path, or off",
                             key->name, text);
}

/* "ADDRESS:PORT" was checked by its reader. */
static bool is_loopback(const char *text)
{
        return strncmp(text, "127.", 4) == 0 || strncmp(text, "[::1]:", 6) == 0 ||
               strncmp(text, "[::ffff:127.", 12) == 0;
}

void config_check_metrics(struct loader *loader, const struct yaml_node *node, const struct daemon_settings *settings)
{
        const struct yaml_node *place = node;
        bool secret = settings->metrics_token || settings->metrics_tls.client_ca;

        for (const struct yaml_node *value = node->first; value; value = value->next)
                if (value->key && value->key->kind == YAML_KIND_SCALAR && strcmp(value->key->text, "metrics") == 0)
                        place = value;
        if (!settings->metrics || strcmp(settings->metrics, "off") == 0 || settings->metrics[0] == '/' ||
            is_loopback(settings->metrics))
                return;
        if (!settings->metrics_tls.certificate)
                loader_error(
                        loader, place,
                        "'metrics: %.64s' can be reached from elsewhere; add metrics_tls: {certificate: FILE, key: "
                        "FILE}, or serve on 127.0.0.1:9469 or a socket's path",
                        settings->metrics);
        else if (!secret)
                loader_error(loader, place,
                             "'metrics: %.64s' can be read by everybody who reaches it; add metrics_token: FILE or "
                             "'client_ca' to metrics_tls",
                             settings->metrics);
}
