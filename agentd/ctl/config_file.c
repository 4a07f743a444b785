/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Errors are printed as the contract says: FILE:LINE:COL: what is wrong; what would be right.
 */
#include "agentd/ctl/config_file.h"

#include <errno.h>
#include <string.h>

#include "agentd/ctl/ctl.h"
#include "agentd/ctl/print.h"
#include "agentd/util/cleanup.h"

static const char *kind_to_string(enum diagnostic_kind kind)
{
        switch (kind) {
        case DIAGNOSTIC_ERROR:
                return "error";
        case DIAGNOSTIC_UNSUPPORTED:
                return "unsupported";
        case DIAGNOSTIC_WARNING:
                return "warning";
        }
        return "error";
}

void config_file_tell(const struct diagnostics *diagnostics)
{
        for (size_t i = 0; i < diagnostics->n_items; i++) {
                const struct diagnostic *item = &diagnostics->items[i];

                print_error("%s:%u:%u: %s%s", item->file, item->line, item->column,
                            item->kind == DIAGNOSTIC_WARNING ? "warning: " : "", item->text);
        }
}

json_t *config_file_diagnostics(const struct diagnostics *diagnostics)
{
        json_t *list = json_array();

        for (size_t i = 0; i < diagnostics->n_items; i++) {
                const struct diagnostic *item = &diagnostics->items[i];

                /* s?: a text that is not UTF-8 (a file's name) is left out rather than the whole item. */
                json_array_append_new(list, json_pack("{s:s*,s:i,s:i,s:s,s:s*}", "file", item->file, "line",
                                                      (int)item->line, "column", (int)item->column, "kind",
                                                      kind_to_string(item->kind), "text", item->text));
        }
        return list;
}

int config_file_load(const char *path, bool tell, struct config **ret)
{
        struct diagnostics diagnostics = {0};
        int status = CTL_OK, r;

        r = config_load(path, &diagnostics, ret);
        if (tell)
                config_file_tell(&diagnostics);
        if (r < 0) {
                status = diagnostics_exit_status(&diagnostics);
                if (tell && diagnostics.n_items == 0)
                        print_error("%s: %s", path, strerror(-r));
                if (status == CTL_OK)
                        status = CTL_USAGE;
        }
        diagnostics_clear(&diagnostics);
        return status;
}

int config_file_socket(const char *path, bool tell, char **ret)
{
        struct config *config = NULL;
        int status = config_file_load(path, tell, &config);

        if (status != CTL_OK)
                return status;
        *ret = config->daemon.socket ? strdup(config->daemon.socket) : NULL;
        config_free(config);
        return CTL_OK;
}
