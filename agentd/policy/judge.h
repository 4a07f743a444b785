/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict for a destination as people ask for it: a whole CIDR, a name, any port.
 *
 * The engine judges one address, protocol and port at a time. Here it is asked at every address and port where its
 * answer could change, so "all of 10.0.0.0/8" and "any port" are exact, and still its own answers.
 */
#pragma once

#include "agentd/policy/explain.h"
#include "agentd/policy/port_set.h"

struct judgement {
        struct verdict verdict; /* of the first address that is denied; else of the first */
        struct address address; /* where verdict was found; of no meaning for a name */
        struct port_set ports;  /* allowed at all addresses, where the destination says no port */
        bool udp_too;           /* a TCP port that is denied would be allowed with UDP */
};

/* 0, -ENOMEM or -E2BIG. */
int destination_judge(const struct explain_input *input, const struct destination *destination, struct judgement *ret);
void judgement_clear(struct judgement *judgement);
