/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The monitor's gate: is a message from the worker well formed? A worker that was taken over can send anything; what
 * passes here has fields in range and text that is text. Whether it is allowed is decided after.
 */
#pragma once

#include "agentd/dns/channel.h"

/* size and kind have been checked by channel_receive(). 0 or -EBADMSG. */
int message_check_from_worker(const union message *message);
