/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A frame as the agent's own stack would send it, to where its policy does not let it: an echo request whose hop limit
 * is 1, so that a router that should get it all the same sends it no further.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi_device.h"

enum { PROBE_FRAME_MAX = 14 + 40 + 8 };

/* Which family the frame would be of: that of the device's first address. */
bool probe_frame_is_ipv4(const struct device *device);
/* Returns its length. frame: PROBE_FRAME_MAX bytes. */
size_t probe_frame_make(const struct device *device, const struct address *destination, __u8 *frame);
