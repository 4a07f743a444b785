/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Direct-mapped; that a program is not known is remembered as well.
 */
#include "agentd/event/process_cache.h"

#include <string.h>

#include "agentd/event/decode.h"

void process_cache_complete(struct process_cache *cache, struct event *event, __u64 now_ms)
{
        __typeof__(cache->slots[0]) *slot;

        if (event->pid == 0 || event->exe[0] != '\0')
                return;

        slot = &cache->slots[(event->pid ^ event->tid * 31u) % PROCESS_CACHE_MAX];
        if (slot->pid == event->pid && slot->tid == event->tid && now_ms < slot->until_ms &&
            !strncmp(slot->comm, event->comm, sizeof(slot->comm))) {
                memcpy(event->exe, slot->exe, sizeof(event->exe));
                return;
        }
        event_complete_process(event);
        slot->pid = event->pid;
        slot->tid = event->tid;
        slot->until_ms = now_ms + PROCESS_CACHE_MS;
        memcpy(slot->comm, event->comm, sizeof(slot->comm));
        memcpy(slot->exe, event->exe, sizeof(slot->exe));
}
