/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the tests of the whole worker begin and end with: a rig each (worker_rig.h), or a skip where there is no root.
 */
#pragma once

#include "agentd/dns/limit.h"
#include "agentd/dns/worker.h"
#include "tests/unit/dns/worker_rig.h"

static UNUSED int set_up(void **state)
{
        static struct rig rig;

        if (geteuid() != 0) {
                print_message("needs root: the worker changes its root and its user\n");
                *state = NULL;
                return 0;
        }
        rig_open(&rig);
        *state = &rig;
        return 0;
}

static UNUSED int tear_down(void **state)
{
        if (*state)
                rig_stop(*state);
        return 0;
}

static UNUSED struct rig *started(void **state, const char *policy)
{
        struct message_settings settings;
        struct rig *rig = *state;

        if (!rig)
                skip();
        settings = rig_settings(rig);
        rig_start(rig, &settings, policy);
        return rig;
}

static UNUSED bool has_ede(const ldns_pkt *reply, __u16 code)
{
        const ldns_rdf *options = ldns_pkt_edns_data(reply);
        const __u8 *bytes;

        if (!options || ldns_rdf_size(options) < 6)
                return false;
        bytes = ldns_rdf_data(options);
        return dns_get16(bytes) == 15 && dns_get16(bytes + 4) == code;
}

#define WORKER_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
