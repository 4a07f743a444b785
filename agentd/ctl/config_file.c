/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Errors are printed as the contract says: FILE:LINE:COL: what is wrong; what would be right.
 */
#include "agentd/ctl/config_file.h"

#include <errno.h>
#include <string.h>

#include "agentd/ctl/ctl.h"
#include "agentd/ctl/print.h"
#include "agentd/policy/report.h"

int config_file_load(const char *path, bool tell, struct config **ret)
{
        struct diagnostics diagnostics = {0};
        int status = CTL_OK, r;

        r = config_load(path, &diagnostics, ret);
        if (tell)
                report_diagnostics("agentctl", &diagnostics, stderr);
        if (r < 0) {
                status = diagnostics_exit_status(&diagnostics);
                if (tell && diagnostics.n_items == 0)
                        ctl_error("%s: %s", path, strerror(-r));
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
